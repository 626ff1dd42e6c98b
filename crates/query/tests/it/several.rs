//! What a span has several times is measured value by value.

use std::collections::BTreeMap;

use tracehouse_model::{AnyValue, SpanBatch, SpanFields, SpanId, TenantId};
use tracehouse_query::{MetricsRequest, SearchRequest};

use crate::shop::{NOON, Shop, put, trace_id};

const SECOND: i64 = 1_000_000_000;

/// Values of the list of each span, and of its events. The last has a number where the others have lists.
const SPANS: [(&[i64], &[i64]); 4] = [(&[1, 2, 3], &[10]), (&[], &[20, 30]), (&[4, 4], &[]), (&[7], &[40, 50, 60])];

fn batch() -> SpanBatch {
    let mut batch = SpanBatch::new();
    let resource = batch.finish_resource(0, 0);
    let scope = batch.finish_scope(0, 0, 0, 0);
    for (number, (list, events)) in (1u64..).zip(SPANS) {
        let value = match (number, list) {
            (4, [only]) => AnyValue::Int(*only),
            _ => AnyValue::Array(list.iter().map(|value| AnyValue::Int(*value)).collect()),
        };
        put(&mut batch.strings, &mut batch.attributes, "list", &value);
        put(&mut batch.strings, &mut batch.attributes, "is_even", &AnyValue::Bool(number % 2 == 0));
        // As floating point numbers, the first is equal to others.
        let big = if number == 1 { (1 << 53) + 1 } else { i64::MAX - (4 - number as i64) };
        put(&mut batch.strings, &mut batch.attributes, "big", &AnyValue::Int(big));
        for (at, event) in events.iter().enumerate() {
            put(&mut batch.strings, &mut batch.events.attributes, "x", &AnyValue::Int(*event));
            let name = batch.strings.intern_str("event");
            batch.finish_event(NOON + at as i64, name, 0);
        }
        let name = batch.strings.intern_str(&format!("span {number}"));
        let ids = SpanFields {
            trace_id: trace_id(number),
            span_id: SpanId(number.to_be_bytes()),
            name,
            ..SpanFields::default()
        };
        batch.finish_span(SpanFields { start_unix_nanos: NOON, resource, scope, ..ids });
    }
    batch
}

async fn series_of(shop: &Shop, query: &str) -> BTreeMap<String, Option<f64>> {
    let request = MetricsRequest {
        start_unix_nanos: NOON,
        end_unix_nanos: NOON + SECOND,
        traceql: query.to_owned(),
        ..MetricsRequest::default()
    };
    let answer = shop.engine.metrics(&TenantId::default(), request).await.expect("an answer");
    assert_eq!(answer.partial_reason, None, "{query}");
    let labels = |labels: &[(String, Option<AnyValue>)]| {
        labels
            .iter()
            .map(|(_, value)| value.as_ref().map_or("nil".into(), AnyValue::to_canonical_json))
            .collect::<Vec<_>>()
            .join(",")
    };
    answer.series.into_iter().map(|series| (labels(&series.labels), series.values[0])).collect()
}

async fn found_by(shop: &Shop, query: &str) -> usize {
    let request = SearchRequest { traceql: Some(query.to_owned()), limit: 10, ..SearchRequest::default() };
    shop.engine.search(&TenantId::default(), request).await.expect("a valid search").traces.len()
}

async fn check(shop: &Shop, layout: &str) {
    // By spans alone, and by whole traces.
    for spans in ["{ }", "{ } >> { } || { }"] {
        for (function, expected) in [
            ("sum_over_time(.list)", 21.0),
            ("max_over_time(.list)", 7.0),
            ("min_over_time(.list)", 1.0),
            ("avg_over_time(.list)", 3.5),
            ("sum_over_time(event.x)", 210.0),
            ("avg_over_time(event.x)", 35.0),
        ] {
            let series = series_of(shop, &format!("{spans} | {function}")).await;
            assert_eq!(Vec::from_iter(series.into_values()), [Some(expected)], "{layout}: {spans} {function}");
        }
        let histogram = series_of(shop, &format!("{spans} | histogram_over_time(event.x)")).await;
        assert_eq!(histogram.values().flatten().sum::<f64>(), 6.0, "{layout}: {histogram:?}");
        let quantile = series_of(shop, &format!("{spans} | quantile_over_time(event.x, .5) by (.is_even)")).await;
        assert_eq!(quantile.len(), 2, "{layout}: {quantile:?}");
        let by = series_of(shop, &format!("{spans} | sum_over_time(event.x) by (.is_even)")).await;
        assert_eq!(by, BTreeMap::from([("false".into(), Some(10.0)), ("true".into(), Some(200.0))]), "{layout}");
        let nothing = series_of(shop, &format!("{spans} | sum_over_time(event.y) by (.is_even)")).await;
        assert!(nothing.values().all(Option::is_none), "{layout}: {nothing:?}");
    }
    for (query, traces) in [
        ("{ } | max(event.x) > 30", 1),
        ("{ } | sum(event.x) >= 50", 2),
        ("{ } | avg(.list) = 2", 1),
        ("{ } | min(.list) >= 4", 2),
    ] {
        assert_eq!(found_by(shop, query).await, traces, "{layout}: {query}");
    }
    check_shown(shop, layout).await;
}

fn ints(values: &[i64]) -> Vec<AnyValue> {
    values.iter().copied().map(AnyValue::Int).collect()
}

/// Beside all values of a field stand those that satisfy the condition; and of integers there is an integer.
async fn check_shown(shop: &Shop, layout: &str) {
    type Shown<'a> = (&'a str, &'a [i64], Option<&'a [i64]>);
    let table: [Shown<'_>; 12] = [
        ("{ .list = 2 }", &[1, 2, 3], Some(&[2])),
        ("{ 2 < .list && name = `span 1` }", &[1, 2, 3], Some(&[3])),
        ("{ .list != 2 && .list = 4 }", &[4, 4], None),
        ("{ .list = 1 || .list = 3 }", &[1, 2, 3], Some(&[1, 3])),
        ("{ .list = 1 } | { .list = 3 }", &[1, 2, 3], Some(&[1, 3])),
        ("{ .list > 0 && name = `span 1` }", &[1, 2, 3], None),
        ("{ .list + 1 = 3 }", &[1, 2, 3], None),
        ("{ .list = 2 } | select(.list)", &[1, 2, 3], None),
        ("{ .list = 2 } | max(.list) = 3", &[1, 2, 3], None),
        ("{ !(.list = 4) && name = `span 1` }", &[1, 2, 3], None),
        ("{ event.x = 30 }", &[20, 30], Some(&[30])),
        ("{ event.x >= 50 }", &[40, 50, 60], Some(&[50, 60])),
    ];
    for (query, all, matched) in table {
        let request =
            SearchRequest { traceql: Some(query.to_owned()), limit: 10, spans_per_spanset: 1, ..Default::default() };
        let found = shop.engine.search(&TenantId::default(), request).await.expect("a valid search").traces;
        let [trace] = &found[..] else { panic!("{layout}: {query}: {found:?}") };
        let shown =
            trace.spansets[0].spans[0].fields.iter().find(|shown| [".list", "event.x"].contains(&&*shown.field));
        let shown = shown.expect("the field is shown");
        assert_eq!(shown.value, AnyValue::Array(ints(all)), "{layout}: {query}");
        assert_eq!(shown.matched, matched.map(ints), "{layout}: {query}");
    }
    for (query, name, expected) in [
        ("{ } | sum(.list) = 6", "sum(.list)", AnyValue::Int(6)),
        ("{ } | max(event.x) = 60", "max(event.x)", AnyValue::Int(60)),
        ("{ } | min(.list) = 4", "min(.list)", AnyValue::Int(4)),
        ("{ } | avg(.list) = 2", "avg(.list)", AnyValue::Double(2.0)),
        ("{ } | max(event.x) / 9 < 1.2", "max(event.x)", AnyValue::Int(10)),
        ("{ } | sum(.big) = 9007199254740993", "sum(.big)", AnyValue::Int(9_007_199_254_740_993)),
        ("{ } | max(.big) > 9223372036854775806", "max(.big)", AnyValue::Int(i64::MAX)),
    ] {
        let request = SearchRequest { traceql: Some(query.to_owned()), limit: 10, ..Default::default() };
        let found = shop.engine.search(&TenantId::default(), request).await.expect("a valid search").traces;
        let [trace] = &found[..] else { panic!("{layout}: {query}: {found:?}") };
        assert_eq!(trace.spansets[0].aggregates, [(name.to_owned(), expected)], "{layout}: {query}");
    }
}

/// Before, such spans were not measured at all, and nothing said so.
#[tokio::test(flavor = "multi_thread")]
async fn each_of_several_values_is_measured() {
    let shop = Shop::open().await;
    shop.append(batch()).await;
    check(&shop, "in memory").await;
    shop.store.flush().await.expect("the flush succeeds");
    check(&shop, "stored").await;
    shop.store.compact().await.expect("the merge succeeds");
    check(&shop, "merged").await;
}
