//! Whole answers as Tempo gives them to the same questions over the same spans, so that a difference shows. The spans are our
//! own; where an answer differs on purpose, `docs/coming-from.md` says so.

use axum::body::Body;
use http::{Request, StatusCode};
use prost::Message;
use serde::Serialize;
use serde_json::{Value, json};
use tracehouse_api::proto::tempopb::{
    SearchResponse, SearchTagValuesResponse, SearchTagValuesV2Response, SearchTagsResponse, SearchTagsV2Response,
};
use tracehouse_model::{AnyValue, SpanBatch, SpanFields, SpanId, kind, status};

use crate::shop::{Layout, NOON, Shop, put, trace_id};
use crate::{Answer, send_to};

const LAYOUTS: [Layout; 2] = [Layout::Memory, Layout::Files];
const START: i64 = NOON - 60_000_000_000;
/// The whole minute in which the spans are.
const RANGE: &str = "start=1769860740&end=1769860800";

/// A request that reads from a database in another service, and fails there.
fn spans() -> SpanBatch {
    let mut batch = SpanBatch::new();
    let texts = [("gateway", "GET /", kind::SERVER, status::UNSET), ("cart", "SELECT", kind::CLIENT, status::ERROR)];
    for (at, (service, name, kind, status_code)) in (1_u8..).zip(texts) {
        let service = AnyValue::String(service.to_owned());
        put(&mut batch.strings, &mut batch.resources.attributes, "service.name", &service);
        let resource = batch.finish_resource(0, 0);
        let scope = batch.finish_scope(0, 0, 0, 0);
        let ratio = AnyValue::Double(f64::from(at) * 1.5 - 0.5);
        put(&mut batch.strings, &mut batch.attributes, "ratio", &ratio);
        if at == 2 {
            put(&mut batch.strings, &mut batch.attributes, "retries", &AnyValue::Int(3));
        }
        let name = batch.strings.intern_str(name);
        batch.finish_span(SpanFields {
            trace_id: trace_id(1),
            span_id: SpanId([at; 8]),
            parent_span_id: if at == 1 { SpanId::NONE } else { SpanId([1; 8]) },
            start_unix_nanos: START + i64::from(at),
            duration_nanos: 5_000_000,
            name,
            kind,
            status_code,
            resource,
            scope,
            ..SpanFields::default()
        });
    }
    batch
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

fn int(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"intValue": value}})
}

/// A search that finds some of the spans, each with its attributes.
fn found(spans: &[(u8, Value)], of_set: Value) -> Value {
    let names = ["GET /", "SELECT"];
    let span = |(at, attributes): &(u8, Value)| {
        json!({"spanID": format!("{at:02x}").repeat(8), "name": names[usize::from(*at) - 1],
            "startTimeUnixNano": (START + i64::from(*at)).to_string(), "durationNanos": "5000000",
            "attributes": attributes})
    };
    let mut set = json!({"spans": spans.iter().map(span).collect::<Vec<_>>(), "matched": spans.len()});
    if of_set != json!([]) {
        set["attributes"] = of_set;
    }
    json!({"traces": [{"traceID": trace_id(1).to_string(), "rootServiceName": "gateway", "rootTraceName": "GET /",
        "startTimeUnixNano": (START + 1).to_string(), "durationMs": 5, "spanSet": set, "spanSets": [set],
        "serviceStats": {"cart": {"spanCount": 1, "errorCount": 1}, "gateway": {"spanCount": 1}}}]})
}

/// An answer without how much was looked at.
async fn answer(shop: &Shop, uri: &str) -> Value {
    let mut answer = shop.json(uri).await;
    answer.as_object_mut().expect("an object").remove("metrics");
    answer
}

#[tokio::test]
async fn searches() {
    let root = |attribute: Value| (1, json!([text("service.name", "gateway"), attribute]));
    let child = |attributes: [Value; 3]| {
        let of_all = [text("service.name", "cart"), text("status", "error")];
        (2, Value::from([&of_all[..], &attributes[..]].concat()))
    };
    let table = [
        ("{ status = unset }", found(&[root(text("status", "unset"))], json!([]))),
        ("{ span:childCount = 1 }", found(&[root(int("span:childCount", "1"))], json!([]))),
        (
            "{ childCount = 1 } | by(parent.service.name)",
            found(&[root(int("span:childCount", "1"))], json!([text("by(parent.service.name)", "nil")])),
        ),
        (
            "{ span.retries = 3 } | by(parent.service.name) | max(span:childCount) < 1",
            found(
                &[child([int("retries", "3"), text("parent.service.name", "gateway"), int("span:childCount", "0")])],
                json!([
                    text("by(parent.service.name)", "gateway"),
                    {"key": "max(span:childCount)", "value": {"intValue": "0"}}
                ]),
            ),
        ),
        ("{ span.ratio = 1 }", found(&[root(json!({"key": "ratio", "value": {"doubleValue": 1.0}}))], json!([]))),
    ];
    for layout in LAYOUTS {
        let shop = Shop::with(&[spans()], layout).await;
        for (query, expected) in &table {
            let uri = format!("/api/search?{RANGE}&q={}", encoded(query));
            assert_eq!(answer(&shop, &uri).await, *expected, "{query} {layout:?}");
        }
    }
}

#[tokio::test]
async fn labels_of_series() {
    let series = |labels: Value| json!({"labels": labels, "value": 1.0});
    let table = [
        (
            "{ } | count_over_time() by (span:childCount, parent.service.name)",
            json!([
                series(json!([int("span:childCount", "0"), text("parent.service.name", "gateway")])),
                series(json!([int("span:childCount", "1")])),
            ]),
        ),
        (
            "{ } | count_over_time() by (span.retries)",
            json!([series(json!([int("span.retries", "3")])), series(json!([text("span.retries", "nil")]))]),
        ),
        (
            "{ } | count_over_time() by (status)",
            json!([series(json!([text("status", "error")])), series(json!([text("status", "unset")]))]),
        ),
    ];
    for layout in LAYOUTS {
        let shop = Shop::with(&[spans()], layout).await;
        for (query, expected) in &table {
            let uri = format!("/api/metrics/query?{RANGE}&q={}", encoded(query));
            let mut found = answer(&shop, &uri).await["series"].take();
            found.as_array_mut().expect("series").sort_by_key(Value::to_string);
            assert_eq!(found, *expected, "{query} {layout:?}");
        }
    }
}

#[tokio::test]
async fn names_and_values() {
    let typed = |kind: &str, values: &[&str]| {
        let value = |value: &&str| json!({"type": kind, "value": value});
        json!({"tagValues": values.iter().map(value).collect::<Vec<_>>()})
    };
    let table = [
        ("/api/v2/search/tag/span.ratio/values", typed("float", &["1.0", "2.5"])),
        ("/api/v2/search/tag/span.ratio/values?q=%7B%7D", typed("float", &["1.0", "2.5"])),
        ("/api/search/tag/ratio/values", json!({"tagValues": ["1.0", "2.5"]})),
        ("/api/v2/search/tag/rootServiceName/values", typed("string", &["gateway"])),
        ("/api/v2/search/tag/trace:rootService/values?q=%7B%7D", typed("string", &["gateway"])),
        ("/api/v2/search/tag/rootName/values", typed("string", &["GET /"])),
        ("/api/search/tag/rootName/values", json!({"tagValues": ["GET /"]})),
        ("/api/v2/search/tag/rootName/values?q=%7Bstatus%3Derror%7D", typed("string", &["GET /"])),
        ("/api/v2/search/tag/status/values", typed("keyword", &["error", "ok", "unset"])),
        ("/api/search/tags?scope=span", json!({"tagNames": ["ratio", "retries"]})),
        ("/api/v2/search/tags?scope=resource", json!({"scopes": [{"name": "resource", "tags": ["service.name"]}]})),
    ];
    for layout in LAYOUTS {
        let shop = Shop::with(&[spans()], layout).await;
        for (uri, expected) in &table {
            assert_eq!(shop.json(uri).await, *expected, "{uri} {layout:?}");
        }
    }
}

async fn get_as(shop: &Shop, uri: &str, accept: &str) -> Answer {
    let request = Request::get(uri).header("accept", accept).body(Body::empty()).expect("a request");
    send_to(shop.app.clone(), request).await
}

/// The message of an answer, as JSON.
fn decoded<T: Message + Default + Serialize>(body: &[u8]) -> Value {
    serde_json::to_value(T::decode(body).expect("the message")).expect("JSON")
}

#[tokio::test]
async fn answers_as_protobuf() {
    type Decode = fn(&[u8]) -> Value;
    let table: [(&str, Decode); 6] = [
        ("/api/search?limit=5", decoded::<SearchResponse>),
        ("/api/search/tags", decoded::<SearchTagsResponse>),
        ("/api/v2/search/tags", decoded::<SearchTagsV2Response>),
        ("/api/search/tag/service.name/values", decoded::<SearchTagValuesResponse>),
        ("/api/v2/search/tag/resource.service.name/values", decoded::<SearchTagValuesV2Response>),
        ("/api/v2/search/tag/status/values", decoded::<SearchTagValuesV2Response>),
    ];
    let shop = Shop::with(&[spans()], Layout::Files).await;
    for (uri, decode) in table {
        let json = get_as(&shop, uri, "*/*").await;
        let protobuf = get_as(&shop, uri, "application/protobuf, application/json").await;
        assert_eq!(
            (protobuf.header("content-type"), json.header("content-type")),
            ("application/protobuf", "application/json"),
            "{uri}"
        );
        assert!(protobuf.header("vary").contains("accept") && json.header("vary").contains("accept"), "{uri}");
        assert_eq!(decode(&protobuf.body), json.json(), "{uri}");
    }
    // Tempo has these as JSON alone.
    let series = get_as(&shop, &format!("/api/metrics/query?{RANGE}&q=%7B%7D%7Crate()"), "application/protobuf").await;
    assert_eq!((series.status, series.header("content-type")), (StatusCode::OK, "application/json"));
}

#[tokio::test]
async fn an_unknown_trace_is_an_empty_one_in_the_second_version() {
    let shop = Shop::with(&[spans()], Layout::Files).await;
    let json = get_as(&shop, "/api/v2/traces/abc", "application/json").await;
    assert_eq!((json.status, json.json()), (StatusCode::OK, json!({"trace": {}, "metrics": {}})));
    let protobuf = get_as(&shop, "/api/v2/traces/abc", "application/protobuf").await;
    // `trace` and `metrics`, both there and empty.
    assert_eq!((protobuf.status, protobuf.body.as_slice()), (StatusCode::OK, &[0x0a, 0, 0x12, 0][..]));
    for accept in ["application/json", "application/protobuf"] {
        assert_eq!(get_as(&shop, "/api/traces/abc", accept).await.status, StatusCode::NOT_FOUND, "{accept}");
    }
}
