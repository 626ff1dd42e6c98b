//! Under which names services are listed, whatever their `service.name` is and wherever their spans are.

use std::collections::BTreeSet;

use tracehouse_model::{AnyValue, SpanBatch, SpanFields, SpanId, TenantId, UNKNOWN_SERVICE, kind};
use tracehouse_query::{Among, Operation, Scope};
use tracehouse_traceql::Intrinsic;

use crate::corpus::{Layout, shop};
use crate::shop::{NOON, Shop, put, trace_id};

const LAYOUTS: [Layout; 3] = [Layout::Memory, Layout::Files, Layout::Mixed];
const HOUR: i64 = 3_600_000_000_000;

fn text(text: &str) -> AnyValue {
    AnyValue::String(text.to_owned())
}

fn list<const N: usize>(values: [AnyValue; N]) -> AnyValue {
    AnyValue::Array(values.to_vec())
}

/// A span of a service, called `span NUMBER`.
fn batch(number: u64, service: Option<&AnyValue>, start_unix_nanos: i64) -> SpanBatch {
    let mut batch = SpanBatch::new();
    if let Some(service) = service {
        put(&mut batch.strings, &mut batch.resources.attributes, "service.name", service);
    }
    let (resource, scope) = (batch.finish_resource(0, 0), batch.finish_scope(0, 0, 0, 0));
    put(&mut batch.strings, &mut batch.attributes, "some", &AnyValue::Bool(true));
    let name = batch.strings.intern_str(&format!("span {number}"));
    batch.finish_span(SpanFields {
        trace_id: trace_id(number),
        span_id: SpanId(number.to_be_bytes()),
        start_unix_nanos,
        name,
        kind: kind::SERVER,
        resource,
        scope,
        ..SpanFields::default()
    });
    batch
}

fn batches(services: &[Option<AnyValue>]) -> Vec<SpanBatch> {
    (1..).zip(services).map(|(number, service)| batch(number, service.as_ref(), NOON)).collect()
}

async fn listed(shop: &Shop, traceql: Option<&str>) -> Vec<String> {
    let among = Among { traceql: traceql.map(str::to_owned), ..Among::default() };
    let found = shop.engine.services(&TenantId::default(), &among).await.expect("services");
    assert!(found.complete, "{traceql:?}");
    found.items
}

/// Values of `service.name`, and the name under which their spans are listed.
fn table() -> Vec<(Option<AnyValue>, &'static str)> {
    vec![
        (Some(text("cart")), "cart"),
        (Some(list([text("b"), text("a")])), "b"),
        (Some(list([text("a"), text("b")])), "a"),
        (Some(list([list([text("w"), text("v")])])), "w"),
        (Some(list([text(""), list([AnyValue::Empty]), AnyValue::Double(f64::NAN), AnyValue::Int(5)])), "5"),
        (Some(list([AnyValue::Bytes(vec![1]), text("after bytes")])), "after bytes"),
        (Some(list([text("")])), UNKNOWN_SERVICE),
        (Some(list([])), UNKNOWN_SERVICE),
        (Some(AnyValue::Int(42)), "42"),
        (Some(AnyValue::Double(1e300)), "1e+300"),
        (Some(AnyValue::Double(f64::NAN)), UNKNOWN_SERVICE),
        (Some(AnyValue::Bool(false)), "false"),
        (Some(AnyValue::Empty), UNKNOWN_SERVICE),
        (Some(text("")), UNKNOWN_SERVICE),
        (Some(text(UNKNOWN_SERVICE)), UNKNOWN_SERVICE),
        (None, UNKNOWN_SERVICE),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn services_have_the_same_names_in_memory_and_in_files() {
    let table = table();
    let expected: BTreeSet<&str> = table.iter().map(|(_, name)| *name).collect();
    let services: Vec<Option<AnyValue>> = table.iter().map(|(value, _)| value.clone()).collect();
    let tenant = TenantId::default();
    for layout in LAYOUTS {
        let shop = shop(&batches(&services), layout).await;
        // Twice: the second time what files hold is known.
        for traceql in [None, None, Some("{ span.some = true && "), Some("{ kind = server }")] {
            assert_eq!(listed(&shop, traceql).await, Vec::from_iter(expected.clone()), "{layout:?} {traceql:?}");
        }
        assert_eq!(listed(&shop, Some("{ span.some = false && ")).await, [""; 0], "{layout:?}");
        for service in expected.iter().chain(&["v", "", "nobody"]) {
            let of_service = |(_, (_, name)): &(u64, &(Option<AnyValue>, &str))| name == service;
            let names: BTreeSet<String> =
                (1..).zip(&table).filter(of_service).map(|(number, _)| format!("span {number}")).collect();
            let found = shop.engine.operations(&tenant, Some(service), &Among::default()).await.expect("names");
            assert!(found.complete, "{layout:?} {service}");
            assert_eq!(found.items, Vec::from_iter(names.clone()), "{layout:?} {service}");
            let with_kinds: Vec<Operation> =
                names.into_iter().map(|name| Operation { name, kind: kind::SERVER }).collect();
            let found = shop.engine.operations_by_kind(&tenant, Some(service), &Among::default()).await.expect("names");
            assert_eq!(found.items, with_kinds, "{layout:?} {service}");
        }
    }
}

/// Each service by itself, so that nothing else explains a name.
#[tokio::test(flavor = "multi_thread")]
async fn spans_without_a_name_are_listed_only_where_there_are_some() {
    for (value, name) in table() {
        for layout in [Layout::Memory, Layout::Files] {
            let alone = shop(&batches(std::slice::from_ref(&value)), layout).await;
            assert_eq!(listed(&alone, None).await, [name], "{value:?} {layout:?}");
            let beside = shop(&batches(&[value.clone(), Some(text("cart"))]), layout).await;
            let expected: BTreeSet<&str> = [name, "cart"].into();
            assert_eq!(listed(&beside, None).await, Vec::from_iter(expected), "{value:?} {layout:?}");
        }
    }
}

/// The name that the root of a trace has for TraceQL is a text.
#[tokio::test(flavor = "multi_thread")]
async fn names_of_roots_are_those_that_queries_compare() {
    // Most are numbers: the text has no column of its own.
    let (number, lists) = (Some(AnyValue::Int(42)), Some(list([text("a"), text("b")])));
    let services = [number.clone(), number, lists, Some(text("cart")), None];
    for layout in LAYOUTS {
        let shop = shop(&batches(&services), layout).await;
        for traceql in [None, Some("{ span.some = true && ")] {
            let among = Among { traceql: traceql.map(str::to_owned), ..Among::default() };
            let tenant = TenantId::default();
            let found = shop.engine.field_values(&tenant, &Intrinsic::TraceRootService.into(), 10, &among).await;
            let found = found.expect("values").items;
            let seen: Vec<(&str, &str)> = found.iter().map(|seen| (seen.value_type, &*seen.value)).collect();
            assert_eq!(seen, [("string", "cart")], "{layout:?} {traceql:?}");
        }
    }
}

/// Values of the attribute are each of a list, with their types, and nothing for spans without it.
#[tokio::test(flavor = "multi_thread")]
async fn the_attribute_has_the_values_that_were_sent() {
    let services = [Some(AnyValue::Int(42)), Some(list([text("a"), text("b")])), Some(text("cart")), None];
    for layout in LAYOUTS {
        for (services, expected) in [
            (&services[..], &[("int", "42"), ("string", "a"), ("string", "b"), ("string", "cart")][..]),
            (&services[2..3], &[("string", "cart")]),
            (&services[2..], &[("string", "cart")]),
            (&[None, Some(text(""))], &[("string", "")]),
        ] {
            let shop = shop(&batches(services), layout).await;
            for scope in [Scope::Resource, Scope::Either] {
                let (tenant, all) = (TenantId::default(), Among::default());
                let found = shop.engine.attribute_values(&tenant, scope, "service.name", 10, &all).await;
                let found = found.expect("values");
                let seen: Vec<(&str, &str)> = found.items.iter().map(|seen| (seen.value_type, &*seen.value)).collect();
                assert_eq!((&*seen, found.complete), (expected, true), "{layout:?} {scope:?}");
            }
        }
    }
}

/// Names of spans of services without a text as a name are counted, within the range that is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn operations_are_those_of_the_range() {
    let services =
        [None, Some(AnyValue::Int(42)), Some(AnyValue::Bool(true)), Some(list([text("w")])), Some(text("cart"))];
    let starts = [NOON - 2 * HOUR, NOON];
    let mut numbers = 1..;
    let mut spans = Vec::new();
    for start in starts {
        spans.extend(services.iter().zip(&mut numbers).map(|(service, number)| batch(number, service.as_ref(), start)));
    }
    let tenant = TenantId::default();
    for layout in LAYOUTS {
        let shop = shop(&spans, layout).await;
        for (at, service) in [UNKNOWN_SERVICE, "42", "true", "w", "cart"].into_iter().enumerate() {
            for (half, start) in starts.into_iter().enumerate() {
                let (start, end) = (Some(start), Some(start + HOUR));
                let among = Among { start_unix_nanos: start, end_unix_nanos: end, ..Among::default() };
                let found = shop.engine.operations(&tenant, Some(service), &among).await.expect("names");
                let expected = [format!("span {}", half * services.len() + at + 1)];
                assert_eq!(found.items, expected, "{layout:?} {service} {half}");
                let found = shop.engine.operations_by_kind(&tenant, Some(service), &among).await.expect("names");
                let names: Vec<String> = found.items.into_iter().map(|operation| operation.name).collect();
                assert_eq!(names, expected, "{layout:?} {service} {half}");
            }
        }
        let wrong = Among { start_unix_nanos: Some(NOON), end_unix_nanos: Some(NOON), ..Among::default() };
        for service in [UNKNOWN_SERVICE, "cart"] {
            assert!(shop.engine.operations(&tenant, Some(service), &wrong).await.is_err(), "{service}");
        }
    }
}
