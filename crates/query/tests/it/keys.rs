//! Many keys in one expression that have no column of their own: the answer is the reference's, and each file's attributes are
//! read once.

use std::fmt::Write;

use tracehouse_model::{AnyValue, Span, SpanBatch, SpanFields, SpanId, TenantId};
use tracehouse_query::{MetricsRequest, SearchRequest};

use crate::corpus::{Layout, check, shop};
use crate::shop::{Shop, put, trace_id};
use crate::wild::RANGE;

const SPANS: u64 = 1200;
/// So many that no key stands in as many spans as would give it a column.
const KEYS: u64 = 400;

/// A value of each type, and such as compare in a way of their own.
fn value(number: u64) -> AnyValue {
    let text = |text: &str| AnyValue::String(text.to_owned());
    match number % 11 {
        0 => AnyValue::Int(3),
        1 => AnyValue::Int(4),
        2 => AnyValue::Double(3.0),
        3 => AnyValue::Double(f64::INFINITY),
        4 => text("3"),
        5 => text("Infinity"),
        6 => AnyValue::Array(vec![AnyValue::Int(3), AnyValue::Int(5)]),
        7 => AnyValue::Array(vec![text("3"), text("x")]),
        8 => AnyValue::Bool(true),
        9 => AnyValue::Empty,
        _ => AnyValue::Bytes(vec![3]),
    }
}

/// Spans with a few of many keys each, of which some differ in case alone, and stand among the attributes of resources, events
/// and links too.
fn spans() -> (Vec<SpanBatch>, Vec<Span>) {
    let mut batch = SpanBatch::new();
    let owners: Vec<(u32, u32)> = (0..20)
        .map(|number| {
            for key in 0..8 {
                let key = format!("k{}", (number * 7 + key) % KEYS);
                put(&mut batch.strings, &mut batch.resources.attributes, &key, &value(number + 3));
            }
            (batch.finish_resource(0, 0), batch.finish_scope(0, 0, 0, 0))
        })
        .collect();
    for number in 0..SPANS {
        for nth in 0..3 {
            let letter = ["k", "K"][((number + nth) / KEYS % 2) as usize];
            let key = format!("{letter}{}", (number + nth) % KEYS);
            put(&mut batch.strings, &mut batch.attributes, &key, &value(number / 3 + nth));
        }
        if number % 4 == 0 {
            put(&mut batch.strings, &mut batch.events.attributes, &format!("k{}", number % 40), &value(number / 5));
            let name = batch.strings.intern_str("event");
            batch.finish_event(RANGE.start + number as i64, name, 0);
        }
        if number % 6 == 0 {
            put(&mut batch.strings, &mut batch.links.attributes, &format!("k{}", number % 42), &value(number / 7));
            batch.finish_link(trace_id(1), SpanId([7; 8]), 0, 0, 0);
        }
        let name = batch.strings.intern_str(["GET /", "SELECT"][number as usize % 2]);
        let (resource, scope) = owners[number as usize / 3 % owners.len()];
        batch.finish_span(SpanFields {
            trace_id: trace_id(number / 4 + 1),
            span_id: SpanId((number + 1).to_be_bytes()),
            parent_span_id: if number % 4 == 0 { SpanId::NONE } else { SpanId(number.to_be_bytes()) },
            start_unix_nanos: RANGE.start + number as i64,
            duration_nanos: number as i64 % 8,
            name,
            resource,
            scope,
            ..SpanFields::default()
        });
    }
    let spans = (0..batch.len()).map(|row| batch.span(row)).collect();
    (vec![batch], spans)
}

/// Conditions on so many keys, one after the other.
fn each(keys: std::ops::Range<u64>, operator: &str, condition: impl Fn(u64) -> String) -> String {
    keys.map(condition).collect::<Vec<_>>().join(operator)
}

fn queries() -> Vec<String> {
    let numbers = each(0..KEYS, " || ", |key| format!(".k{key} = 3"));
    let scopes = each(0..60, " || ", |key| format!("span.k{key} = 3 || resource.k{key} > 3"));
    let case = each(0..60, " || ", |key| format!(".k{key} = 4 || .K{key} = \"3\""));
    let lists = each(0..60, " || ", |key| format!(".k{key} = [3, 5]"));
    let patterns = each(0..16, " || ", |key| format!(".k{key} =~ \"x\""));
    let not_equal = each(0..30, " && ", |key| format!("!(.k{key} != 3)"));
    let absent = each(0..30, " && ", |key| format!(".k{key} = nil"));
    let negated = each(0..30, " && ", |key| format!("!(.k{key} = 3 || span.K{key} != nil)"));
    let nested = each(0..30, " || ", |key| format!("(name = \"GET /\" && .k{key} >= 3 && !(resource.k{key} = 3))"));
    let both = each(0..30, " || ", |key| format!("(duration > 3ns && (.k{key} = true || span.k{} = 3))", key + 1));
    let of_events = each(0..20, " || ", |key| format!("event.k{key} = 3 || link.k{key} = \"3\" || .k{key} = 4"));
    let one_key = each(0..40, " || ", |number| format!(".k7 = {number} || .k7 = \"{number}\""));
    let mut queries: Vec<String> =
        [numbers, scopes, case, lists, patterns, not_equal, absent, negated, nested, both, of_events, one_key]
            .iter()
            .map(|condition| format!("{{ {condition} }}"))
            .collect();
    let counted = each(0..50, " || ", |key| format!(".k{key} = 3 || resource.K{key} != nil"));
    queries.push(format!("{{ {counted} }} | count_over_time() by (.k3)"));
    queries
}

#[tokio::test]
async fn many_keys_are_answered_as_one_by_one() {
    let (batches, spans) = spans();
    let mut differences = String::new();
    for layout in [Layout::Memory, Layout::Files] {
        let shop = shop(&batches, layout).await;
        for query in queries() {
            match check(&shop, &spans, &query).await {
                Ok(found) => assert!(found, "{layout:?}: something is found by {query}"),
                Err(difference) => {
                    writeln!(differences, "{layout:?}: {query}\n    {difference}").expect("a text takes everything");
                }
            }
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

/// Bytes of files that a search reads.
async fn bytes_of_search(shop: &Shop, condition: &str) -> u64 {
    let traceql = Some(format!("{{ {condition} }}"));
    let request = SearchRequest { traceql, limit: 10, ..SearchRequest::default() };
    let answer = shop.engine.search(&TenantId::default(), request).await.expect("a valid search");
    assert_eq!((answer.traces.len(), answer.partial_reason), (0, None), "no trace is put together");
    answer.inspected.bytes
}

async fn bytes_of_series(shop: &Shop, condition: &str) -> u64 {
    let request = MetricsRequest {
        traceql: format!("{{ {condition} }} | count_over_time()"),
        start_unix_nanos: RANGE.start,
        end_unix_nanos: RANGE.end,
        ..MetricsRequest::default()
    };
    shop.engine.metrics(&TenantId::default(), request).await.expect("a valid query").inspected.bytes
}

#[tokio::test]
async fn attributes_of_a_file_are_read_once_for_any_number_of_keys() {
    let shop = shop(&spans().0, Layout::Files).await;
    let nothing = |keys, operator| each(0..keys, operator, |key| format!("span.k{key} = \"that nobody has\""));
    let one = bytes_of_search(&shop, &nothing(1, "")).await;
    assert!(one > 0);
    for many in [nothing(KEYS, " || "), nothing(KEYS, " && "), format!("!(!({}))", nothing(KEYS, " || "))] {
        assert_eq!(bytes_of_search(&shop, &many).await, one);
    }
    assert_eq!(bytes_of_series(&shop, &nothing(KEYS, " || ")).await, bytes_of_series(&shop, &nothing(1, "")).await);
    // Those of the span, and once those of its resource.
    let unscoped = |keys| each(0..keys, " || ", |key| format!(".k{key} = \"that nobody has\""));
    assert_eq!(bytes_of_search(&shop, &unscoped(KEYS)).await, bytes_of_search(&shop, &unscoped(1)).await);
}
