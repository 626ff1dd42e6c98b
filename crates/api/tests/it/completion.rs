//! What Tempo's interface offers for completion, put into a query as Grafana does, finds the spans that have it: over spans with every
//! kind of value in every place, in memory and in files.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tracehouse_model::{AnyValue, Span, SpanBatch, SpanFields, SpanId};

use crate::shop::{Layout, NOON, Shop, put, random_spans, trace_id};
use crate::shown::{encoded, items};

const TRACES: u64 = 60;
const LAYOUTS: [Layout; 3] = [Layout::Memory, Layout::Files, Layout::Halves];
const SCOPES: [&str; 5] = ["span", "resource", "instrumentation", "event", "link"];
/// With a query values are found in another way. This one holds for every span.
const QUERIES: [&str; 2] = ["", "{ span:duration >= 0ns }"];

/// Type and text of a value. Equal floats have one text here, however they are written.
type Offered = BTreeSet<(String, String)>;

fn float(value: f64) -> (String, String) {
    ("float".to_owned(), format!("{value:?}"))
}

/// What should be offered for a value: of a list each of its values, but nothing that no literal says.
fn offered_for(value: &AnyValue) -> Vec<(String, String)> {
    match value {
        AnyValue::String(text) => vec![("string".to_owned(), text.clone())],
        AnyValue::Int(value) => vec![("int".to_owned(), value.to_string())],
        AnyValue::Bool(value) => vec![("bool".to_owned(), value.to_string())],
        // There is one zero.
        AnyValue::Double(value) if value.is_finite() => vec![float(*value + 0.0)],
        AnyValue::Array(items) => items.iter().flat_map(offered_for).collect(),
        _ => Vec::new(),
    }
}

fn attributes<'a>(span: &'a Span, scope: &str) -> Vec<&'a (String, AnyValue)> {
    match scope {
        "span" => span.attributes.iter().collect(),
        "resource" => span.resource_attributes.iter().collect(),
        "instrumentation" => span.scope_attributes.iter().collect(),
        "event" => span.events.iter().flat_map(|event| &event.attributes).collect(),
        _ => span.links.iter().flat_map(|link| &link.attributes).collect(),
    }
}

/// The values of a tag, and whether that is all.
async fn offered(shop: &Shop, tag: &str, query: &str) -> (Offered, Vec<(String, String)>) {
    let uri = format!("/api/v2/search/tag/{}/values?limit=10000&q={}", encoded(tag), encoded(query));
    let answer = shop.get(&uri).await;
    assert_eq!((answer.status.as_u16(), answer.header("x-tracehouse-partial")), (200, ""), "{tag} {query}");
    let text = |value: &Value, name: &str| value[name].as_str().expect("a text").to_owned();
    let answer = answer.json();
    let literals: Vec<(String, String)> =
        items(&answer, "tagValues").map(|seen| (text(seen, "type"), text(seen, "value"))).collect();
    let plain = |(value_type, text): &(String, String)| match &**value_type {
        "float" => float(text.parse().expect("a number")),
        _ => (value_type.clone(), text.clone()),
    };
    (literals.iter().map(plain).collect(), literals)
}

/// How many traces a query with one of the values finds.
async fn found(shop: &Shop, tag: &str, (value_type, text): &(String, String)) -> usize {
    let literal = if value_type == "string" { json!(text).to_string() } else { text.clone() };
    let query = format!("{{ {tag} = {literal} }}");
    let answer = shop.json(&format!("/api/search?limit=1000&q={}", encoded(&query))).await;
    items(&answer, "traces").count()
}

#[tokio::test]
async fn what_is_offered_is_all_there_is_and_finds_it() {
    let batches = random_spans(TRACES, 7);
    let spans: Vec<Span> = batches.iter().flat_map(|batch| (0..batch.len()).map(|row| batch.span(row))).collect();
    let mut values = 0;
    for layout in LAYOUTS {
        let shop = Shop::with(&batches, layout).await;
        for scope in SCOPES {
            let of_scope = || spans.iter().flat_map(|span| attributes(span, scope));
            for key in of_scope().map(|(key, _)| key).collect::<BTreeSet<_>>() {
                let tag = format!("{scope}.\"{key}\"");
                let expected: Offered =
                    of_scope().filter(|(of, _)| of == key).flat_map(|(_, value)| offered_for(value)).collect();
                for query in QUERIES {
                    let (offered, literals) = offered(&shop, &tag, query).await;
                    assert_eq!(offered, expected, "{layout:?} {tag} {query}");
                    let first_time = query.is_empty() && layout == Layout::Files;
                    for value in literals.iter().filter(|_| first_time) {
                        assert!(found(&shop, &tag, value).await > 0, "{layout:?} {tag} {value:?}");
                        values += 1;
                    }
                }
            }
        }
    }
    assert!(values > 200, "{values}");
}

/// Spans whose service has this name.
fn services(names: &[Option<AnyValue>]) -> SpanBatch {
    let mut batch = SpanBatch::new();
    for (number, name) in (1..).zip(names) {
        if let Some(name) = name {
            put(&mut batch.strings, &mut batch.resources.attributes, "service.name", name);
        }
        let (resource, scope) = (batch.finish_resource(0, 0), batch.finish_scope(0, 0, 0, 0));
        let name = batch.strings.intern_str("work");
        batch.finish_span(SpanFields {
            trace_id: trace_id(number),
            span_id: SpanId(number.to_be_bytes()),
            start_unix_nanos: NOON - 1_000_000_000,
            name,
            resource,
            scope,
            ..SpanFields::default()
        });
    }
    batch
}

/// Names of services are values of an attribute like others: with their types, and none for spans without one.
#[tokio::test]
async fn services_are_offered_as_they_were_sent() {
    let text = |text: &str| AnyValue::String(text.to_owned());
    let names = [
        Some(text("cart")),
        Some(AnyValue::Int(42)),
        Some(AnyValue::Double(0.5)),
        Some(AnyValue::Double(f64::INFINITY)),
        Some(AnyValue::Double(f64::NAN)),
        Some(AnyValue::Bool(true)),
        Some(AnyValue::Array(vec![text("a"), text("b")])),
        None,
    ];
    let expected =
        [("bool", "true"), ("float", "0.5"), ("int", "42"), ("string", "a"), ("string", "b"), ("string", "cart")];
    let expected: Offered = expected.map(|(value_type, text)| (value_type.to_owned(), text.to_owned())).into();
    for layout in LAYOUTS {
        let shop = Shop::with(&[services(&names)], layout).await;
        for (tag, expected) in [
            ("resource.service.name", expected.clone()),
            (".service.name", expected.clone()),
            ("rootServiceName", [("string".to_owned(), "cart".to_owned())].into()),
            ("trace:rootService", [("string".to_owned(), "cart".to_owned())].into()),
        ] {
            for query in QUERIES {
                let (offered, literals) = offered(&shop, tag, query).await;
                assert_eq!(offered, expected, "{layout:?} {tag} {query}");
                for value in &literals {
                    assert_eq!(found(&shop, tag, value).await, 1, "{layout:?} {tag} {value:?}");
                }
            }
        }
    }
}

/// Names of spans of a service whose name is no text, in a range of times.
#[tokio::test]
async fn operations_are_those_of_the_range() {
    for layout in LAYOUTS {
        let shop = Shop::with(&[services(&[None, Some(AnyValue::Int(42))])], layout).await;
        for service in ["unknown_service", "42"] {
            let second = NOON / 1_000_000_000;
            for (start, expected) in [(second - 10, json!(["work"])), (second, json!([]))] {
                let range = format!("start={start}&end={}", start + 10);
                let answer = shop.json(&format!("/api/v1/operations?service={service}&{range}")).await;
                assert_eq!(answer["operations"], expected, "{layout:?} {service} {range}");
            }
        }
    }
}
