//! Names and values for completion, among all spans and among those that an unfinished query selects.

use std::collections::BTreeSet;
use std::sync::Arc;

use tracehouse_model::{AnyValue, AttributeValue, ManualClock, Span, SpanBatch, SpanFields, SpanId, TenantId, status};
use tracehouse_query::{Among, AttributeValueSeen, Listing, QueryEngine, QueryLimits, Scope, SearchRequest};
use tracehouse_traceql::Intrinsic;

use crate::corpus::{Layout, shop};
use crate::shop::{NOON, Shop, many_spans, trace_id};

const TRACES: u64 = 300;
const LAYOUTS: [Layout; 3] = [Layout::Memory, Layout::Files, Layout::Mixed];
const SCOPES: [Scope; 5] = [Scope::Span, Scope::Resource, Scope::Instrumentation, Scope::Event, Scope::Link];

type Selects = fn(&Span) -> bool;

/// Unfinished queries, and which spans they are about.
const QUERIES: [(&str, Selects); 6] = [
    ("", |_| true),
    ("{ ", |_| true),
    (r#"{ resource.service.name = "cart" && span.http."#, |span| span.service_name == "cart"),
    (r#"{ status = error && name = "SELECT" && span.code = }"#, |span| {
        span.status_code == status::ERROR && span.name == "SELECT"
    }),
    ("{ duration > 500ms } | rate() by (", |span| span.duration_nanos > 500_000_000),
    (r#"{ resource.service.name = "nobody" && "#, |_| false),
];

fn among(traceql: &str) -> Among {
    Among { traceql: Some(traceql.to_owned()), ..Among::default() }
}

fn attributes(span: &Span, scope: Scope) -> Vec<(String, AnyValue)> {
    match scope {
        Scope::Either => [attributes(span, Scope::Span), attributes(span, Scope::Resource)].concat(),
        Scope::Span => span.attributes.clone(),
        Scope::Resource => span.resource_attributes.clone(),
        Scope::Instrumentation => span.scope_attributes.clone(),
        Scope::Event => span.events.iter().flat_map(|event| event.attributes.clone()).collect(),
        Scope::Link => span.links.iter().flat_map(|link| link.attributes.clone()).collect(),
    }
}

/// Of a list each of its values.
fn shown(value: &AnyValue) -> Vec<(&'static str, String)> {
    let text = match value {
        AnyValue::String(text) => text.clone(),
        AnyValue::Int(value) => value.to_string(),
        AnyValue::Double(value) => value.to_string(),
        AnyValue::Bool(value) => value.to_string(),
        AnyValue::Array(values) => return values.iter().flat_map(shown).collect(),
        _ => return Vec::new(),
    };
    vec![(value.type_name(), text)]
}

/// The texts of a field that spans have by themselves.
fn texts(spans: &[Span], selected: &[&Span], intrinsic: Intrinsic) -> BTreeSet<(&'static str, String)> {
    let root = |span: &Span| spans.iter().find(|root| root.trace_id == span.trace_id && root.parent_span_id.is_none());
    let of_span = |span: &&Span| match intrinsic {
        Intrinsic::StatusMessage => vec![span.status_message.clone()],
        Intrinsic::EventName => span.events.iter().map(|event| event.name.clone()).collect(),
        Intrinsic::InstrumentationName => vec![span.scope_name.clone()],
        Intrinsic::InstrumentationVersion => vec![span.scope_version.clone()],
        Intrinsic::TraceRootName => root(span).map(|root| root.name.clone()).into_iter().collect(),
        Intrinsic::TraceRootService => root(span).map(|root| root.service_name.clone()).into_iter().collect(),
        other => panic!("{other} is not asked for"),
    };
    let texts = selected.iter().flat_map(of_span).filter(|text: &String| !text.is_empty());
    texts.map(|text| ("string", text)).collect()
}

fn seen(found: Listing<AttributeValueSeen>) -> BTreeSet<(&'static str, String)> {
    assert!(found.complete);
    found.items.into_iter().map(|seen| (seen.value_type, seen.value)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn as_the_spans_say() {
    let (batches, spans) = many_spans(TRACES, 5);
    let tenant = TenantId::default();
    for layout in LAYOUTS {
        let shop = shop(&batches, layout).await;
        for (query, selects) in QUERIES {
            let (among, context) = (among(query), format!("{layout:?} {query}"));
            let selected: Vec<&Span> = spans.iter().filter(|span| selects(span)).collect();

            let services = shop.engine.services(&tenant, &among).await.expect("services");
            let expected: BTreeSet<&String> = selected.iter().map(|span| &span.service_name).collect();
            assert_eq!((services.items.iter().collect(), services.complete), (expected, true), "{context}");
            let names = shop.engine.operations(&tenant, None, &among).await.expect("operations");
            let expected: BTreeSet<&String> = selected.iter().map(|span| &span.name).collect();
            assert_eq!(names.items.iter().collect::<BTreeSet<_>>(), expected, "{context}");

            for scope in SCOPES {
                let keys = shop.engine.attribute_keys(&tenant, Some(scope), &among).await.expect("keys");
                assert!(keys.complete, "{context}");
                let of_span =
                    |span: &&Span| attributes(span, scope).into_iter().map(|(key, _)| key).collect::<Vec<_>>();
                let expected: BTreeSet<String> = selected.iter().flat_map(of_span).collect();
                let keys: BTreeSet<String> = keys.items.into_iter().map(|seen| seen.key).collect();
                assert_eq!(keys, expected, "{context} {scope:?}");
            }
            let asked = [
                (Scope::Span, "http.route"),
                (Scope::Span, "code"),
                (Scope::Span, "http.status"),
                (Scope::Resource, "k8s.pod.name"),
                (Scope::Resource, "service.name"),
                (Scope::Instrumentation, "scope.level"),
                (Scope::Event, "exception.type"),
                (Scope::Span, "tags"),
                (Scope::Span, "nothing"),
            ];
            for (scope, key) in asked {
                // Twice: the second time what files hold is known.
                for _ in 0..2 {
                    let values = shop.engine.attribute_values(&tenant, scope, key, 1000, &among).await.expect("values");
                    let of_span = |span: &&Span| {
                        let with_key = attributes(span, scope).into_iter().filter(|(known, _)| known == key);
                        with_key.flat_map(|(_, value)| shown(&value)).collect::<Vec<_>>()
                    };
                    let expected: BTreeSet<_> = selected.iter().flat_map(of_span).collect();
                    assert_eq!(seen(values), expected, "{context} {scope:?} {key}");
                }
            }
            for intrinsic in [
                Intrinsic::StatusMessage,
                Intrinsic::EventName,
                Intrinsic::InstrumentationName,
                Intrinsic::InstrumentationVersion,
                Intrinsic::TraceRootName,
                Intrinsic::TraceRootService,
            ] {
                let values = shop.engine.field_values(&tenant, &intrinsic.into(), 1000, &among).await.expect("values");
                assert_eq!(seen(values), texts(&spans, &selected, intrinsic), "{context} {intrinsic}");
            }
        }
    }
}

#[tokio::test]
async fn by_time() {
    let (batches, spans) = many_spans(TRACES, 5);
    let shop = Shop::open().await;
    let tenant = TenantId::default();
    // Each batch is a file: 40 traces, a millisecond apart.
    for batch in batches {
        shop.append(batch).await;
        shop.store.flush().await.expect("flushes");
    }
    let (start, end) = (NOON + 90_000_000, NOON + 100_000_000);
    let among = Among { start_unix_nanos: Some(start), end_unix_nanos: Some(end), ..Among::default() };
    let values = shop.engine.attribute_values(&tenant, Scope::Span, "http.route", 1000, &among).await.expect("values");
    let file = |span: &&Span| (NOON + 80_000_000..NOON + 120_000_000).contains(&span.start_unix_nanos);
    let routes = |span: &Span| {
        span.attributes.iter().find(|(key, _)| key == "http.route").map_or_else(Vec::new, |(_, v)| shown(v))
    };
    // Without a query a file counts as a whole, with one its spans do.
    assert_eq!(seen(values), spans.iter().filter(file).flat_map(routes).collect());
    let among = Among { traceql: Some("{ status = error && ".into()), ..among };
    let values = shop.engine.attribute_values(&tenant, Scope::Span, "http.route", 1000, &among).await.expect("values");
    let inside = |span: &&Span| (start..end).contains(&span.start_unix_nanos) && span.status_code == status::ERROR;
    assert_eq!(seen(values), spans.iter().filter(inside).flat_map(routes).collect());
    let before = Among { end_unix_nanos: Some(NOON - 1), ..Among::default() };
    assert!(shop.engine.services(&tenant, &before).await.expect("services").items.is_empty());
    assert!(shop.engine.attribute_keys(&tenant, None, &before).await.expect("keys").items.is_empty());
    let wrong = Among { start_unix_nanos: Some(5), end_unix_nanos: Some(5), ..Among::default() };
    assert!(shop.engine.services(&tenant, &wrong).await.is_err());
}

#[tokio::test]
async fn what_is_cut_says_so() {
    let (batches, _) = many_spans(TRACES, 5);
    let shop = shop(&batches, Layout::Mixed).await;
    let tenant = TenantId::default();
    for query in ["", "{ duration > 1ms && "] {
        let values = shop.engine.attribute_values(&tenant, Scope::Span, "http.route", 3, &among(query)).await;
        let values = values.expect("values");
        assert_eq!((values.items.len(), values.complete), (3, false), "{query}");
    }
    // Too little may be read to know all.
    let limits = QueryLimits { scanned_bytes_max: 10, ..QueryLimits::default() };
    let engine = QueryEngine::new(shop.store.clone(), limits, Arc::new(ManualClock::at_unix_nanos(NOON)));
    let none = among("");
    for (scope, query) in [(Scope::Span, ""), (Scope::Span, "{ duration > 1ms && "), (Scope::Event, "")] {
        let found = engine.attribute_values(&tenant, scope, "http.route", 1000, &among(query)).await.expect("values");
        assert!(!found.complete, "{scope:?} {query}");
    }
    let keys = engine.attribute_keys(&tenant, None, &among("{ duration > 1ms && ")).await.expect("keys");
    assert!(!keys.complete);
    assert!(engine.services(&tenant, &none).await.expect("services").complete);
}

/// Spans with names, services and keys that come once, and ordinary ones.
fn hostile_batch() -> SpanBatch {
    let mut batch = SpanBatch::new();
    for number in 0..20_000u64 {
        let hostile = batch.strings.intern_str(&format!("zz-hostile-{number:0200}"));
        let name = if number % 2 == 0 { hostile } else { batch.strings.intern_str("GET /") };
        let service_key = batch.strings.intern_str("service.name");
        let service = if number % 4 == 0 { hostile } else { batch.strings.intern_str("cart") };
        batch.resources.attributes.push(service_key, AttributeValue::String(service));
        let resource = batch.finish_resource(0, 0);
        let scope = batch.finish_scope(0, 0, 0, 0);
        let usual = batch.strings.intern_str("http.route");
        batch.attributes.push(usual, AttributeValue::Int(1));
        batch.attributes.push(hostile, AttributeValue::Int(1));
        batch.finish_span(SpanFields {
            trace_id: trace_id(number + 1),
            span_id: SpanId((number + 1).to_be_bytes()),
            start_unix_nanos: NOON,
            name,
            resource,
            scope,
            ..SpanFields::default()
        });
    }
    batch
}

/// Names that are more than an answer lists, and more than a file says of itself: what is listed stays small, with the usual
/// ones among it, and the answer says that it is not all, and why. What is not listed is found all the same.
#[tokio::test]
async fn hostile_names_are_left_out_and_the_answer_says_so() {
    let shop = Shop::open().await;
    shop.append(hostile_batch()).await;
    let (tenant, all) = (TenantId::default(), Among::default());
    for stored in [false, true] {
        if stored {
            shop.store.flush().await.expect("flushes");
        }
        let services = shop.engine.services(&tenant, &all).await.expect("services");
        let operations = shop.engine.operations(&tenant, None, &all).await.expect("operations");
        let keys = shop.engine.attribute_keys(&tenant, None, &all).await.expect("keys");
        let keys = Listing {
            items: keys.items.into_iter().map(|key| key.key).collect(),
            complete: keys.complete,
            partial_reason: keys.partial_reason,
        };
        for (listing, usual) in [(services, "cart"), (operations, "GET /"), (keys, "http.route")] {
            assert!(listing.items.iter().map(String::len).sum::<usize>() <= 1 << 20, "{usual}");
            assert!(!listing.complete, "{usual}");
            assert!(listing.items.iter().any(|name| name == usual), "{usual}");
            let reason = listing.partial_reason.unwrap_or_default();
            assert_eq!(reason.starts_with("1 of 1 files list only a part of their names"), stored, "{reason}");
        }
        let hostile = format!("zz-hostile-{:0200}", 19_996);
        for traceql in [
            format!("{{ name = \"{hostile}\" }}"),
            format!("{{ resource.service.name = \"{hostile}\" }}"),
            format!("{{ span.{hostile} = 1 }}"),
        ] {
            let request = SearchRequest { traceql: Some(traceql.clone()), limit: 10, ..SearchRequest::default() };
            let found = shop.engine.search(&tenant, request).await.expect("an answer");
            assert_eq!(found.traces.len(), 1, "{traceql}");
        }
    }
}
