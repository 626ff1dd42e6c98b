//! What Tempo's endpoints return holds every field that was sent, in both forms.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::StatusCode;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, TracesData};
use prost::Message;
use serde_json::{Value, json};

use crate::fake::{Fake, START, TRACE};
use crate::{get, get_with};

/// `tempopb.TraceByIDResponse`, its `Trace` being like `TracesData` on the wire.
#[derive(Clone, PartialEq, Message)]
struct TraceById {
    #[prost(message, optional, tag = "1")]
    trace: Option<TracesData>,
    #[prost(message, optional, tag = "2")]
    metrics: Option<Metrics>,
    #[prost(int32, tag = "3")]
    status: i32,
    #[prost(string, tag = "4")]
    message: String,
}

#[derive(Clone, PartialEq, Message)]
struct Metrics {}

const PROTOBUF: [(&str, &str); 1] = [("accept", "application/protobuf")];

fn any(value: Any) -> AnyValue {
    AnyValue { value: Some(value) }
}

fn attribute(key: &str, value: Option<Any>) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value }), key_strindex: 0 }
}

fn all_attributes() -> Vec<KeyValue> {
    let text = |text: &str| Any::StringValue(text.to_owned());
    vec![
        attribute("string", Some(text("/cart \"quoted\"\n"))),
        attribute("text.empty", Some(text(""))),
        attribute("int", Some(Any::IntValue(9_007_199_254_740_993))),
        attribute("double", Some(Any::DoubleValue(5.0))),
        attribute("nan", Some(Any::DoubleValue(f64::NEG_INFINITY))),
        attribute("bool", Some(Any::BoolValue(false))),
        attribute("bytes", Some(Any::BytesValue(vec![0, 255]))),
        attribute("empty", None),
        attribute(
            "array",
            Some(Any::ArrayValue(ArrayValue {
                values: vec![any(text("a")), any(Any::DoubleValue(0.5)), AnyValue { value: None }],
            })),
        ),
        attribute(
            "kvlist",
            Some(Any::KvlistValue(KeyValueList {
                values: vec![
                    attribute("deep", Some(Any::IntValue(i64::MAX))),
                    attribute("bytes", Some(Any::BytesValue(vec![1, 2, 3]))),
                ],
            })),
        ),
    ]
}

fn check(batches: &[ResourceSpans]) {
    // The two equal resources are one.
    assert_eq!(batches.len(), 2);
    let cart = &batches[1];
    let resource = cart.resource.as_ref().expect("a resource");
    assert_eq!(resource.attributes, [attribute("service.name", Some(Any::StringValue("cart".to_owned())))]);
    assert_eq!((resource.dropped_attributes_count, cart.schema_url.as_str()), (7, "https://example.org/resource"));
    assert_eq!(cart.scope_spans.len(), 1);
    let scope_spans = &cart.scope_spans[0];
    let scope = scope_spans.scope.as_ref().expect("a scope");
    assert_eq!((scope.name.as_str(), scope.version.as_str(), scope.dropped_attributes_count), ("shop", "1.2", 4));
    assert_eq!(scope.attributes, [attribute("scope.key", Some(Any::BoolValue(true)))]);
    assert_eq!(scope_spans.schema_url, "https://example.org/schema");
    assert_eq!(scope_spans.spans.len(), 2);
    let span = &scope_spans.spans[0];
    assert_eq!((span.span_id.as_slice(), span.parent_span_id.as_slice()), (&[2; 8][..], &[1; 8][..]));
    assert_eq!((span.name.as_str(), span.kind, span.flags), ("GET /cart", 3, 769));
    assert_eq!(span.trace_state, "ot=th:8");
    assert_eq!(span.start_time_unix_nano, START as u64 + 1000);
    assert_eq!(span.end_time_unix_nano, START as u64 + 2_001_000);
    assert_eq!(span.attributes, all_attributes());
    let dropped = (span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count);
    assert_eq!(dropped, (1, 2, 3));
    let status = span.status.as_ref().expect("a status");
    assert_eq!((status.code, status.message.as_str()), (2, "out of stock"));
    let event = &span.events[0];
    assert_eq!((event.time_unix_nano, event.name.as_str()), (START as u64 + 1500, "exception"));
    assert_eq!((&event.attributes, event.dropped_attributes_count), (&all_attributes(), 11));
    let link = &span.links[0];
    assert_eq!((link.trace_id.as_slice(), link.span_id.as_slice()), (&[7; 16][..], &[8; 8][..]));
    assert_eq!((link.trace_state.as_str(), link.flags, link.dropped_attributes_count), ("ot=th:8", 257, 12));
    assert_eq!(link.attributes, all_attributes());
    let root = &batches[0].scope_spans[0].spans[0];
    assert_eq!((root.parent_span_id.len(), root.kind), (0, 2));
}

#[tokio::test]
async fn protobuf_holds_every_field() {
    let fake = Arc::new(Fake::default());
    let v1 = get_with(&fake, &format!("/api/traces/{TRACE}"), &PROTOBUF).await;
    assert_eq!(v1.header("content-type"), "application/protobuf");
    check(&TracesData::decode(v1.body.as_slice()).expect("protobuf").resource_spans);
    let v2 = get_with(&fake, &format!("/api/v2/traces/{TRACE}?start=1&end=2"), &PROTOBUF).await;
    let v2 = TraceById::decode(v2.body.as_slice()).expect("protobuf");
    assert_eq!((v2.status, v2.message.as_str(), v2.metrics), (0, "", Some(Metrics {})));
    check(&v2.trace.expect("a trace").resource_spans);
}

/// Protobuf's JSON with hex ids and numbered enums, as OTLP has it, so that `opentelemetry-proto` can read it.
fn as_otlp(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(as_otlp),
        Value::Object(fields) => {
            for (name, value) in fields {
                match (name.as_str(), &*value) {
                    ("traceId" | "spanId" | "parentSpanId", Value::String(id)) => {
                        *value = Value::from(hex::encode(STANDARD.decode(id).expect("base64")));
                    }
                    ("kind", Value::String(name)) => {
                        let kinds = ["UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"];
                        let number = kinds.iter().position(|kind| name == &format!("SPAN_KIND_{kind}"));
                        *value = Value::from(number.expect("a kind"));
                    }
                    ("code", Value::String(name)) => {
                        assert_eq!(name, "STATUS_CODE_ERROR");
                        *value = Value::from(2);
                    }
                    // What the library can't read: a double by its name.
                    ("doubleValue", Value::String(name)) => {
                        assert_eq!(name, "-Infinity");
                        *value = Value::from(f64::MIN);
                    }
                    // What the library must have.
                    ("arrayValue" | "kvlistValue", _) => as_otlp(value),
                    _ => as_otlp(value),
                }
            }
        }
        _ => {}
    }
}

fn read(mut batches: Value) -> Vec<ResourceSpans> {
    as_otlp(&mut batches);
    let mut batches: Vec<ResourceSpans> = serde_json::from_value(batches).expect("OTLP's JSON");
    let restore = |attributes: &mut Vec<KeyValue>| {
        for attribute in attributes {
            if attribute.key == "nan" {
                attribute.value = Some(any(Any::DoubleValue(f64::NEG_INFINITY)));
            }
        }
    };
    for span in batches.iter_mut().flat_map(|batch| &mut batch.scope_spans).flat_map(|scope| &mut scope.spans) {
        restore(&mut span.attributes);
        span.events.iter_mut().for_each(|event| restore(&mut event.attributes));
        span.links.iter_mut().for_each(|link| restore(&mut link.attributes));
    }
    batches
}

#[tokio::test]
async fn json_holds_every_field() {
    let fake = Arc::new(Fake::default());
    let v1 = get(&fake, &format!("/api/traces/{TRACE}")).await;
    assert_eq!(v1.header("content-type"), "application/json");
    check(&read(v1.json()["batches"].clone()));
    let v2 = get_with(&fake, &format!("/api/v2/traces/{TRACE}"), &[("accept", "*/*")]).await.json();
    check(&read(v2["trace"]["resourceSpans"].clone()));
    assert_eq!(v2.as_object().expect("an object").keys().collect::<Vec<_>>(), ["metrics", "trace"]);
    let span = &v2["trace"]["resourceSpans"][1]["scopeSpans"][0]["spans"][0];
    assert_eq!((&span["spanId"], &span["kind"]), (&json!("AgICAgICAgI="), &json!("SPAN_KIND_CLIENT")));
}

#[tokio::test]
async fn a_giant_resource_comes_in_pieces() {
    let fake = Arc::new(Fake { more_spans: 10_000, ..Fake::default() });
    let v1 = get_with(&fake, &format!("/api/traces/{TRACE}"), &PROTOBUF).await;
    let batches = TracesData::decode(v1.body.as_slice()).expect("protobuf").resource_spans;
    let sizes: Vec<usize> =
        batches.iter().map(|batch| batch.scope_spans.iter().map(|scope| scope.spans.len()).sum()).collect();
    assert_eq!(sizes, [4096, 4096, 1809, 2]);
}

#[tokio::test]
async fn an_unknown_trace_is_not_found() {
    let fake = Arc::new(Fake::default());
    for path in ["/api/traces/1", "/jaeger/api/traces/1"] {
        assert_eq!(get_with(&fake, path, &PROTOBUF).await.status, StatusCode::NOT_FOUND);
    }
    for path in
        ["/api/traces/zz", "/api/v2/traces/0", "/api/v2/traces/1?start=x", "/api/v2/traces/1?q=%7Bname%3D%22a%22%7D"]
    {
        assert_eq!(get(&fake, path).await.status, StatusCode::BAD_REQUEST, "{path}");
    }
}
