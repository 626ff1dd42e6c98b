//! Whatever an answer shows of a span finds it: over spans with every kind of value, in memory and in files.

use std::collections::{BTreeMap, BTreeSet};

use axum::serve::ListenerExt;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tonic::transport::{Channel, Endpoint};
use tracehouse_api::proto::jaeger::query_service_client::QueryServiceClient;
use tracehouse_api::proto::jaeger::{FindTracesRequest, TraceQueryParameters};
use tracehouse_model::{AnyValue, SpanBatch, SpanFields, SpanId, kind};

use crate::grpc::all;
use crate::shop::{Layout, NOON, Shop, put, random_spans, trace_id};

const TRACES: u64 = 60;
/// All of the spans, as version 3 asks.
const RANGE: &str =
    "query.startTimeMin=2026-01-31T11:00:00Z&query.startTimeMax=2026-01-31T13:00:00Z&query.searchDepth=1000";
const LAYOUTS: [Layout; 3] = [Layout::Memory, Layout::Files, Layout::Halves];

/// Key and text of a tag, and the ids of the traces that show it.
type Shown = BTreeMap<(String, String), BTreeSet<String>>;

fn add(shown: &mut Shown, key: &str, text: String, trace: &str) {
    shown.entry((key.to_owned(), text)).or_default().insert(trace.to_owned());
}

/// A value as a person reads it.
fn text_of(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

pub(crate) fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

pub(crate) fn items<'a>(value: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    value[name].as_array().into_iter().flatten()
}

fn ids<'a>(traces: impl Iterator<Item = &'a Value>, name: &str) -> BTreeSet<String> {
    traces.map(|trace| trace[name].as_str().expect("an id").to_owned()).collect()
}

fn assert_found(shown: &BTreeSet<String>, found: &BTreeSet<String>, what: &str) {
    let lacking: Vec<&String> = shown.difference(found).collect();
    assert!(lacking.is_empty(), "{what} is shown of {} traces and not found in {lacking:?}", shown.len());
}

/// What is found is the same wherever spans are.
#[derive(Default)]
struct SameEverywhere(BTreeMap<(String, String), BTreeSet<String>>);

impl SameEverywhere {
    fn check(&mut self, key: &str, text: &str, found: BTreeSet<String>, layout: Layout) {
        let known = self.0.entry((key.to_owned(), text.to_owned())).or_insert_with(|| found.clone());
        assert_eq!(*known, found, "{key}={text} in {layout:?}");
    }
}

fn shown_by_jaeger(answer: &Value) -> Shown {
    let mut shown = Shown::new();
    for trace in items(answer, "data") {
        let id = trace["traceID"].as_str().expect("an id");
        let mut tags: Vec<&Value> = Vec::new();
        for span in items(trace, "spans") {
            tags.extend(items(span, "tags"));
            items(span, "logs").for_each(|log| tags.extend(items(log, "fields")));
        }
        for process in trace["processes"].as_object().expect("processes").values() {
            tags.extend(items(process, "tags"));
        }
        for tag in tags {
            add(&mut shown, tag["key"].as_str().expect("a key"), text_of(&tag["value"]), id);
        }
    }
    shown
}

#[tokio::test]
async fn jaeger_finds_what_it_shows() {
    let batches = random_spans(TRACES, 1);
    let mut same = SameEverywhere::default();
    for layout in LAYOUTS {
        let shop = Shop::with(&batches, layout).await;
        let everything = shop.json("/jaeger/api/traces?limit=1000").await;
        let shown = shown_by_jaeger(&everything);
        assert!(shown.len() > 300, "{}", shown.len());
        for ((key, text), traces) in &shown {
            let tags = json!({key: text}).to_string();
            let answer = shop.json(&format!("/jaeger/api/traces?limit=1000&tags={}", encoded(&tags))).await;
            assert_eq!(answer["errors"], Value::Null);
            let found = ids(items(&answer, "data"), "traceID");
            assert_found(traces, &found, &format!("{layout:?}: {key}={text}"));
            same.check(key, text, found, layout);
        }
        let nothing = json!({"k": "text that no span has"}).to_string();
        let answer = shop.json(&format!("/jaeger/api/traces?tags={}", encoded(&nothing))).await;
        assert_eq!(answer["total"], 0);
    }
}

/// A value of an attribute in OTLP's JSON.
fn otlp_value(value: &Value) -> AnyValue {
    let Some((name, value)) = value.as_object().and_then(|value| value.iter().next()) else { return AnyValue::Empty };
    match name.as_str() {
        "arrayValue" => AnyValue::Array(items(value, "values").map(otlp_value).collect()),
        "kvlistValue" => {
            let entry = |entry: &Value| (text_of(&entry["key"]), otlp_value(&entry["value"]));
            AnyValue::KeyValueList(items(value, "values").map(entry).collect())
        }
        "intValue" => AnyValue::Int(text_of(value).parse().expect("an integer")),
        "boolValue" => AnyValue::Bool(value == &json!(true)),
        "doubleValue" => AnyValue::Double(text_of(value).parse().expect("a number")),
        "bytesValue" => AnyValue::from_canonical_json(&json!({"$bytes": value}).to_string()).expect("base64"),
        _ => AnyValue::String(text_of(value)),
    }
}

fn add_attributes(shown: &mut Shown, owner: &Value, trace: &str) {
    for attribute in items(owner, "attributes") {
        let value = &attribute["value"];
        let is_nested = value.get("arrayValue").or(value.get("kvlistValue")).is_some();
        let plain = || value.as_object().and_then(|value| value.values().next()).map_or_else(String::new, text_of);
        let text = if is_nested { otlp_value(value).to_canonical_json() } else { plain() };
        add(shown, attribute["key"].as_str().unwrap_or_default(), text, trace);
    }
}

fn shown_by_v3(answer: &Value) -> Shown {
    let mut shown = Shown::new();
    for resource in items(&answer["result"], "resourceSpans") {
        for scope in items(resource, "scopeSpans") {
            for span in items(scope, "spans") {
                let id = span["traceId"].as_str().expect("an id");
                for owner in [&resource["resource"], &scope["scope"], span] {
                    add_attributes(&mut shown, owner, id);
                }
                for list in ["events", "links"] {
                    items(span, list).for_each(|item| add_attributes(&mut shown, item, id));
                }
                let texts = items(span, "events").map(|event| ("event", &event["name"])).chain([
                    ("otel.scope.name", &scope["scope"]["name"]),
                    ("otel.scope.version", &scope["scope"]["version"]),
                    ("otel.status_description", &span["status"]["message"]),
                    ("w3c.tracestate", &span["traceState"]),
                ]);
                for (key, text) in texts.filter(|(_, text)| text.is_string()) {
                    add(&mut shown, key, text_of(text), id);
                }
                if span["status"]["code"] == 2 {
                    add(&mut shown, "error", "true".to_owned(), id);
                }
                if span["kind"] == 3 {
                    add(&mut shown, "span.kind", "client".to_owned(), id);
                }
            }
        }
    }
    shown
}

fn ids_in_v3(answer: &Value) -> BTreeSet<String> {
    let scopes = items(&answer["result"], "resourceSpans").flat_map(|resource| items(resource, "scopeSpans"));
    scopes.flat_map(|scope| ids(items(scope, "spans"), "traceId")).collect()
}

async fn grpc_client(shop: &Shop) -> QueryServiceClient<Channel> {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let app = shop.app.clone();
    // Or each of many questions waits for the other side's acknowledgement.
    let listener = listener.tap_io(|stream| stream.set_nodelay(true).expect("an open connection"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    QueryServiceClient::new(endpoint.connect().await.expect("the server listens"))
}

async fn found_by_grpc(client: &mut QueryServiceClient<Channel>, key: &str, text: &str) -> BTreeSet<String> {
    let moment = |nanos: i64| prost_types::Timestamp { seconds: nanos / 1_000_000_000, nanos: 0 };
    let query = TraceQueryParameters {
        attributes: [(key.to_owned(), text.to_owned())].into(),
        start_time_min: Some(moment(NOON - 3600 * 1_000_000_000)),
        start_time_max: Some(moment(NOON + 3600 * 1_000_000_000)),
        search_depth: 1000,
        ..TraceQueryParameters::default()
    };
    let request = FindTracesRequest { query: Some(query) };
    let messages = all(client.find_traces(request).await).await.expect("an answer");
    let resources = messages.into_iter().flat_map(|message| message.resource_spans);
    let spans = resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans);
    spans.map(|span| span.trace_id.iter().map(|byte| format!("{byte:02x}")).collect()).collect()
}

#[tokio::test]
async fn version_3_finds_what_it_shows() {
    const RANGE: &str =
        "query.startTimeMin=2026-01-31T11:00:00Z&query.startTimeMax=2026-01-31T13:00:00Z&query.searchDepth=1000";
    let batches = random_spans(TRACES, 2);
    let mut same = SameEverywhere::default();
    for layout in LAYOUTS {
        let shop = Shop::with(&batches, layout).await;
        let mut client = grpc_client(&shop).await;
        let shown = shown_by_v3(&shop.json(&format!("/api/v3/traces?{RANGE}")).await);
        assert!(shown.len() > 300, "{}", shown.len());
        for ((key, text), traces) in &shown {
            let tags = json!({key: text}).to_string();
            let answer = shop.json(&format!("/api/v3/traces?{RANGE}&query.attributes={}", encoded(&tags))).await;
            let found = ids_in_v3(&answer);
            assert_found(traces, &found, &format!("{layout:?}: {key}={text}"));
            assert_eq!(found_by_grpc(&mut client, key, text).await, found, "{layout:?}: {key}={text}");
            same.check(key, text, found, layout);
        }
    }
}

/// What can stand in a term: terms are separated by the word, and one of spaces alone says nothing.
fn is_a_term(text: &str) -> bool {
    !text.contains(" and ") && !text.trim().is_empty()
}

fn shown_by_zipkin(answer: &Value) -> Shown {
    let mut shown = Shown::new();
    for span in answer.as_array().expect("traces").iter().flat_map(|trace| trace.as_array().expect("spans")) {
        let id = span["traceId"].as_str().expect("an id");
        for (key, text) in span["tags"].as_object().into_iter().flatten() {
            add(&mut shown, "annotationQuery", format!("{key}={}", text_of(text)), id);
            add(&mut shown, "annotationQuery", key.clone(), id);
        }
        for annotation in items(span, "annotations") {
            add(&mut shown, "annotationQuery", text_of(&annotation["value"]), id);
        }
        if let Some(name) = span["remoteEndpoint"]["serviceName"].as_str() {
            add(&mut shown, "remoteServiceName", name.to_owned(), id);
        }
    }
    shown.into_iter().filter(|((_, text), _)| !text.is_empty() && is_a_term(text)).collect()
}

#[tokio::test]
async fn zipkin_finds_what_it_shows() {
    let batches = random_spans(TRACES, 3);
    let mut same = SameEverywhere::default();
    for layout in LAYOUTS {
        let shop = Shop::with(&batches, layout).await;
        let shown = shown_by_zipkin(&shop.json("/zipkin/api/v2/traces?limit=1000").await);
        assert!(shown.len() > 300, "{}", shown.len());
        for ((parameter, text), traces) in &shown {
            let answer = shop.json(&format!("/zipkin/api/v2/traces?limit=1000&{parameter}={}", encoded(text))).await;
            let first_spans = answer.as_array().expect("traces").iter().map(|trace| &trace[0]);
            let found = ids(first_spans, "traceId");
            assert_found(traces, &found, &format!("{layout:?}: {parameter}={text}"));
            same.check(parameter, text, found, layout);
        }
    }
}

/// The names of remote services are those that spans of the service show.
#[tokio::test]
async fn zipkin_lists_the_remote_services_that_it_shows() {
    let batches = random_spans(TRACES, 4);
    for layout in LAYOUTS {
        let shop = Shop::with(&batches, layout).await;
        let traces = shop.json("/zipkin/api/v2/traces?limit=1000").await;
        let spans: Vec<&Value> =
            traces.as_array().expect("traces").iter().flat_map(|trace| trace.as_array().expect("spans")).collect();
        for service in ["gateway", "cart", "checkout", "nobody"] {
            let of_service = spans.iter().filter(|span| span["localEndpoint"]["serviceName"] == service);
            let shown: BTreeSet<&str> =
                of_service.filter_map(|span| span["remoteEndpoint"]["serviceName"].as_str()).collect();
            let listed = shop.json(&format!("/zipkin/api/v2/remoteServices?serviceName={service}")).await;
            let listed: BTreeSet<&str> = listed.as_array().expect("names").iter().filter_map(Value::as_str).collect();
            assert!(listed.is_superset(&shown), "{layout:?} {service}: {shown:?} {listed:?}");
            assert_eq!(listed.is_empty(), service == "nobody", "{layout:?} {service}");
        }
    }
}

/// Each with the kinds that its spans have, and of one kind those only.
#[tokio::test]
async fn operations_have_the_kinds_of_their_spans() {
    let batches = random_spans(TRACES, 5);
    for layout in LAYOUTS {
        let shop = Shop::with(&batches, layout).await;
        let kinds = ["", "internal", "server", "client", "producer", "consumer"];
        let everything = shop.json(&format!("/api/v3/traces?{RANGE}")).await;
        let mut expected = BTreeSet::new();
        for resource in items(&everything["result"], "resourceSpans") {
            let is_cart =
                |attribute: &Value| attribute["key"] == "service.name" && attribute["value"]["stringValue"] == "cart";
            if items(&resource["resource"], "attributes").any(is_cart) {
                for span in items(resource, "scopeSpans").flat_map(|scope| items(scope, "spans")) {
                    let kind = span["kind"].as_u64().unwrap_or_default() as usize;
                    expected.insert((text_of(&span["name"]), kinds[kind].to_owned()));
                }
            }
        }
        let listed = |answer: Value| -> BTreeSet<(String, String)> {
            items(&answer, "data").map(|item| (text_of(&item["name"]), text_of(&item["spanKind"]))).collect()
        };
        let all = listed(shop.json("/jaeger/api/operations?service=cart").await);
        assert_eq!(all, expected, "{layout:?}");
        for kind in &kinds[1..] {
            let of_kind = listed(shop.json(&format!("/jaeger/api/operations?service=cart&spanKind={kind}")).await);
            let expected = all.iter().filter(|(_, known)| known == kind).cloned().collect();
            assert_eq!(of_kind, expected, "{layout:?} {kind}");
            assert!(!of_kind.is_empty(), "{layout:?} {kind}");
        }
    }
}

/// Spans that share an id: a client and its server, and others that only happen to.
fn shared_ids() -> SpanBatch {
    let mut batch = SpanBatch::new();
    let spans = [
        // Kind, service, id, parent, start.
        (kind::CLIENT, "gateway", 7, 1, 10),
        (kind::SERVER, "cart", 7, 1, 20),
        (kind::INTERNAL, "cart", 8, 7, 30),
        (kind::INTERNAL, "cart", 8, 7, 40),
        (kind::SERVER, "gateway", 1, 0, 0),
    ];
    for (kind, service, id, parent, start) in spans {
        put(&mut batch.strings, &mut batch.resources.attributes, "service.name", &AnyValue::String(service.to_owned()));
        let resource = batch.finish_resource(0, 0);
        let scope = batch.finish_scope(0, 0, 0, 0);
        let name = batch.strings.intern_str(&format!("span {start}"));
        batch.finish_span(SpanFields {
            trace_id: trace_id(1),
            span_id: SpanId(u64::to_be_bytes(id)),
            parent_span_id: SpanId(u64::to_be_bytes(parent)),
            start_unix_nanos: NOON + start * 1000,
            duration_nanos: 1_000_000 - start,
            name,
            kind,
            resource,
            scope,
            ..SpanFields::default()
        });
    }
    batch
}

/// Each span is shown, with an id of its own that is the same each time; the server's half lies beneath the client's.
#[tokio::test]
async fn spans_that_share_an_id_are_all_shown() {
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for layout in LAYOUTS {
        let shop = Shop::with(&[shared_ids()], layout).await;
        let trace = shop.json(&format!("/jaeger/api/traces/{}", trace_id(1))).await["data"][0].clone();
        let spans: BTreeMap<String, &Value> =
            items(&trace, "spans").map(|span| (text_of(&span["operationName"]), span)).collect();
        let of = |start: u64| spans[&format!("span {start}")];
        let id = |start: u64| text_of(&of(start)["spanID"]);
        let parent = |start: u64| text_of(&of(start)["references"][0]["spanID"]);
        let ids: BTreeSet<String> = [0, 10, 20, 30, 40].map(id).into();
        assert_eq!((spans.len(), ids.len()), (5, 5), "{layout:?}");
        // The client, and the first of the others, keep theirs.
        assert_eq!((id(10), id(30)), ("0000000000000007".to_owned(), "0000000000000008".to_owned()));
        assert_eq!((parent(10), parent(20)), (id(0), id(10)), "{layout:?}");
        assert_eq!((parent(30), parent(40)), (id(20), id(20)), "{layout:?}");
        seen.insert(format!("{ids:?}"));
        let of_v3 = shop.json(&format!("/api/v3/traces/{}", trace_id(1))).await;
        let resources = items(&of_v3["result"], "resourceSpans").flat_map(|resource| items(resource, "scopeSpans"));
        let ids_of_v3: BTreeSet<String> =
            resources.flat_map(|scope| items(scope, "spans")).map(|span| text_of(&span["spanId"])).collect();
        assert_eq!(ids_of_v3, ids, "{layout:?}");
        let of_zipkin = shop.json(&format!("/zipkin/api/v2/trace/{}", trace_id(1))).await;
        let key = |span: &Value| (text_of(&span["id"]), span["shared"] == json!(true));
        let keys: BTreeSet<(String, bool)> = of_zipkin.as_array().expect("spans").iter().map(key).collect();
        assert_eq!(keys.len(), 5, "{layout:?}");
        assert!(keys.contains(&("0000000000000007".to_owned(), true)), "{layout:?}");
    }
    assert_eq!(seen.len(), 1);
}

/// A span for each `service.name`, apart from texts.
fn unnamed_services() -> SpanBatch {
    let mut batch = SpanBatch::new();
    let values = [
        None,
        Some(AnyValue::String(String::new())),
        Some(AnyValue::Int(42)),
        Some(AnyValue::Bool(true)),
        Some(AnyValue::Double(1e300)),
        Some(AnyValue::Double(f64::INFINITY)),
        Some(AnyValue::Double(f64::NAN)),
        Some(AnyValue::Array(vec![AnyValue::String("l".to_owned()), AnyValue::String("m".to_owned())])),
        Some(AnyValue::Bytes(vec![1])),
        Some(AnyValue::Array(vec![AnyValue::Array(vec![AnyValue::String("w".to_owned())])])),
    ];
    for (number, value) in (1..).zip(values) {
        if let Some(value) = &value {
            put(&mut batch.strings, &mut batch.resources.attributes, "service.name", value);
        }
        let resource = batch.finish_resource(0, 0);
        let scope = batch.finish_scope(0, 0, 0, 0);
        let name = batch.strings.intern_str(&format!("span {number}"));
        put(&mut batch.strings, &mut batch.attributes, "peer.service", &AnyValue::String(format!("bank {number}")));
        batch.finish_span(SpanFields {
            trace_id: trace_id(number),
            span_id: SpanId(number.to_be_bytes()),
            start_unix_nanos: NOON,
            name,
            resource,
            scope,
            ..SpanFields::default()
        });
    }
    batch
}

/// Spans without a proper `service.name` are listed, found and shown under one and the same name, by every interface.
#[tokio::test]
async fn every_service_has_a_name() {
    let expected = [
        ("1e+300", vec![5]),
        ("42", vec![3]),
        ("Infinity", vec![6]),
        ("l", vec![8]),
        ("true", vec![4]),
        ("unknown_service", vec![1, 2, 7, 9]),
        ("w", vec![10]),
    ];
    for layout in LAYOUTS {
        let shop = Shop::with(&[unnamed_services()], layout).await;
        let lists = [
            shop.json("/jaeger/api/services").await["data"].clone(),
            shop.json("/api/v3/services").await["services"].clone(),
            shop.json("/zipkin/api/v2/services").await,
        ];
        for list in lists {
            assert_eq!(list, json!(expected.clone().map(|(service, _)| service)), "{layout:?}");
        }
        for (service, numbers) in &expected {
            let wanted: BTreeSet<String> = numbers.iter().map(|number| trace_id(*number).to_string()).collect();
            let operations: Vec<String> = numbers.iter().map(|number| format!("span {number}")).collect();
            let encoded = encoded(service);
            let answer = shop.json(&format!("/jaeger/api/traces?service={encoded}")).await;
            assert_eq!(ids(items(&answer, "data"), "traceID"), wanted, "{layout:?} {service}");
            for trace in items(&answer, "data") {
                assert_eq!(trace["processes"]["p1"]["serviceName"], *service, "{layout:?}");
            }
            let listed = shop.json(&format!("/jaeger/api/services/{encoded}/operations")).await;
            assert_eq!(listed["data"], json!(operations), "{layout:?} {service}");
            let remote = shop.json(&format!("/zipkin/api/v2/remoteServices?serviceName={encoded}")).await;
            let banks: Vec<String> = numbers.iter().map(|number| format!("bank {number}")).collect();
            assert_eq!(remote, json!(banks), "{layout:?} {service}");
            let answer = shop.json(&format!("/zipkin/api/v2/traces?serviceName={encoded}")).await;
            for trace in answer.as_array().expect("traces") {
                assert_eq!(trace[0]["localEndpoint"]["serviceName"], *service, "{layout:?}");
            }
            let answer = shop.json(&format!("/api/v1/search?service={encoded}")).await;
            assert_eq!(ids(items(&answer, "traces"), "traceId"), wanted, "{layout:?} {service}");
            for trace in items(&answer, "traces") {
                assert_eq!(trace["rootServiceName"], *service, "{layout:?}");
            }
        }
        // TraceQL goes by the attribute itself.
        for (query, number) in [("= nil", 1), ("= \"\"", 2), ("= 42", 3), ("= true", 4)] {
            let query = encoded(&format!("{{ resource.service.name {query} }}"));
            let answer = shop.json(&format!("/api/v1/search?q={query}")).await;
            let found = ids(items(&answer, "traces"), "traceId");
            assert_eq!(found, [trace_id(number).to_string()].into(), "{layout:?}");
        }
    }
}
