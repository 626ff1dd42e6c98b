//! Values that are no number.

use tracehouse_model::{AnyValue, SpanBatch, SpanFields, SpanId, TenantId};
use tracehouse_query::{MetricsRequest, SearchRequest};

use crate::shop::{NOON, Shop, put, trace_id};

const SECOND: i64 = 1_000_000_000;

/// In the first second one that is no number alone, in the second among numbers.
fn spans() -> SpanBatch {
    let mut batch = SpanBatch::new();
    let resource = batch.finish_resource(0, 0);
    let scope = batch.finish_scope(0, 0, 0, 0);
    for (number, (second, value)) in (1..).zip([(0, f64::NAN), (1, f64::NAN), (1, 1.0), (1, 2.0)]) {
        put(&mut batch.strings, &mut batch.attributes, "value", &AnyValue::Double(value));
        let start_unix_nanos = NOON + second * SECOND;
        let ids =
            SpanFields { trace_id: trace_id(number), span_id: SpanId(number.to_be_bytes()), ..SpanFields::default() };
        batch.finish_span(SpanFields { start_unix_nanos, resource, scope, ..ids });
    }
    batch
}

async fn series_of(shop: &Shop, function: &str) -> Vec<Vec<Option<f64>>> {
    let request = MetricsRequest {
        start_unix_nanos: NOON,
        end_unix_nanos: NOON + 2 * SECOND,
        step_nanos: Some(SECOND),
        traceql: format!("{{ }} | {function}"),
        ..MetricsRequest::default()
    };
    let answer = shop.engine.metrics(&TenantId::default(), request).await.expect("an answer");
    answer.series.into_iter().map(|series| series.values).collect()
}

/// Before, quantiles of them ended with a panic while they were in memory, and sums were others than from files.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_number_is_not_measured() {
    let shop = Shop::open().await;
    shop.append(spans()).await;
    let functions = [
        ("sum_over_time(span.value)", Some(3.0)),
        ("avg_over_time(span.value)", Some(1.5)),
        ("min_over_time(span.value)", Some(1.0)),
        ("max_over_time(span.value)", Some(2.0)),
        ("quantile_over_time(span.value, 0.5)", None),
        ("histogram_over_time(span.value)", None),
    ];
    let mut in_memory = Vec::new();
    for (function, expected) in functions {
        let series = series_of(&shop, function).await;
        if expected.is_some() {
            assert_eq!(series, [[None, expected]], "{function}");
        }
        in_memory.push(series);
    }
    shop.store.flush().await.expect("the flush succeeds");
    for ((function, _), in_memory) in functions.into_iter().zip(in_memory) {
        assert_eq!(series_of(&shop, function).await, in_memory, "{function}");
    }
}

/// Before, NaN was unequal to nothing while its maximum was unequal to zero, an infinite number divided by zero was infinite, and
/// `by` told `-0` from `0`.
#[tokio::test(flavor = "multi_thread")]
async fn what_searches_make_of_nan_of_divisions_by_zero_and_of_two_zeros() {
    let mut batch = SpanBatch::new();
    let resource = batch.finish_resource(0, 0);
    let scope = batch.finish_scope(0, 0, 0, 0);
    for (number, value) in (1_u64..).zip([f64::NAN, f64::INFINITY, -0.0, 0.0, 4.0]) {
        put(&mut batch.strings, &mut batch.attributes, "value", &AnyValue::Double(value));
        let ids = SpanFields { trace_id: trace_id(1), span_id: SpanId(number.to_be_bytes()), ..SpanFields::default() };
        batch.finish_span(SpanFields { start_unix_nanos: NOON, resource, scope, ..ids });
    }
    let shop = Shop::open().await;
    shop.append(batch).await;
    for is_stored in [false, true] {
        if is_stored {
            shop.store.flush().await.expect("the flush succeeds");
        }
        for (traceql, spans) in [
            ("{ span.value != 4 }", 4),
            ("{ span.value != -1 }", 5),
            ("{ span.value = 0 }", 2),
            ("{ span.value > 0 || span.value <= 0 }", 4),
            ("{ span.value / 0 > 1 }", 0),
            ("{ span.value % 0 != 1 }", 0),
            ("{ span.value * 2 > 1 }", 2),
            ("{ } | max(span.value) > 1e300", 5),
            ("{ span.value != 4 && !(span.value >= 0) } | max(span.value) != 0", 0),
            ("{ span.value < 5 } | by(span.value) | count() = 2", 2),
        ] {
            let request = SearchRequest {
                traceql: Some(traceql.to_owned()),
                limit: 9,
                spans_per_spanset: 9,
                ..SearchRequest::default()
            };
            let answer = shop.engine.search(&TenantId::default(), request).await.expect("an answer");
            let found: usize = answer.traces.iter().flat_map(|trace| &trace.spansets).map(|set| set.spans.len()).sum();
            assert_eq!(found, spans, "{traceql}, stored: {is_stored}");
        }
    }
}
