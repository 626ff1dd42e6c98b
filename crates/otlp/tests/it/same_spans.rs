//! What holds for whatever the JSON decoder reads. The fuzz target `otlp_json` includes this file.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use tracehouse_model::{Limits, Marks};
use tracehouse_otlp::{Decoded, json, protobuf};

type Attributes = [(String, tracehouse_model::AnyValue)];

fn value(value: &tracehouse_model::AnyValue) -> AnyValue {
    use tracehouse_model::AnyValue as Kept;
    let value = match value {
        Kept::Empty => None,
        Kept::String(text) => Some(Value::StringValue(text.clone())),
        Kept::Int(value) => Some(Value::IntValue(*value)),
        Kept::Double(value) => Some(Value::DoubleValue(*value)),
        Kept::Bool(value) => Some(Value::BoolValue(*value)),
        Kept::Bytes(bytes) => Some(Value::BytesValue(bytes.clone())),
        Kept::Array(values) => Some(Value::ArrayValue(ArrayValue { values: values.iter().map(self::value).collect() })),
        Kept::KeyValueList(entries) => Some(Value::KvlistValue(KeyValueList { values: attributes(entries) })),
    };
    AnyValue { value }
}

fn attributes(attributes: &Attributes) -> Vec<KeyValue> {
    let attribute =
        |(key, kept): &(String, _)| KeyValue { key: key.clone(), value: Some(value(kept)), ..KeyValue::default() };
    attributes.iter().map(attribute).collect()
}

/// An id, or nothing for one that is none.
fn id<const N: usize>(bytes: [u8; N]) -> Vec<u8> {
    if bytes == [0; N] { Vec::new() } else { bytes.to_vec() }
}

/// A kept span as a resource of its own.
fn encodable(span: &tracehouse_model::Span) -> ResourceSpans {
    let event = |event: &tracehouse_model::Event| Event {
        time_unix_nano: event.time_unix_nanos as u64,
        name: event.name.clone(),
        attributes: attributes(&event.attributes),
        dropped_attributes_count: event.dropped_attributes,
    };
    let link = |link: &tracehouse_model::Link| Link {
        trace_id: id(link.trace_id.0),
        span_id: id(link.span_id.0),
        trace_state: link.trace_state.clone(),
        attributes: attributes(&link.attributes),
        dropped_attributes_count: link.dropped_attributes,
        flags: link.flags,
    };
    let sent = Span {
        trace_id: id(span.trace_id.0),
        span_id: id(span.span_id.0),
        parent_span_id: id(span.parent_span_id.0),
        trace_state: span.trace_state.clone(),
        name: span.name.clone(),
        kind: span.kind.into(),
        start_time_unix_nano: span.start_unix_nanos as u64,
        end_time_unix_nano: (span.start_unix_nanos + span.duration_nanos) as u64,
        attributes: attributes(&span.attributes),
        dropped_attributes_count: span.dropped_attributes,
        events: span.events.iter().map(event).collect(),
        dropped_events_count: span.dropped_events,
        links: span.links.iter().map(link).collect(),
        dropped_links_count: span.dropped_links,
        status: Some(Status { message: span.status_message.clone(), code: span.status_code.into() }),
        flags: span.flags,
    };
    let scope = InstrumentationScope {
        name: span.scope_name.clone(),
        version: span.scope_version.clone(),
        attributes: attributes(&span.scope_attributes),
        dropped_attributes_count: span.scope_dropped_attributes,
    };
    let resource = Resource {
        attributes: attributes(&span.resource_attributes),
        dropped_attributes_count: span.resource_dropped_attributes,
        ..Resource::default()
    };
    ResourceSpans {
        resource: Some(resource),
        scope_spans: vec![ScopeSpans {
            scope: Some(scope),
            spans: vec![sent],
            schema_url: span.scope_schema_url.clone(),
        }],
        schema_url: span.resource_schema_url.clone(),
    }
}

fn spans(decoded: &Decoded) -> Vec<tracehouse_model::Span> {
    (0..decoded.batch.len()).map(|row| decoded.batch.span(row)).collect()
}

/// The spans in words, in which a value that is not a number equals itself. What marks say of how they came is not theirs.
fn in_words(spans: Vec<tracehouse_model::Span>) -> Vec<String> {
    spans.into_iter().map(|span| format!("{:?}", tracehouse_model::Span { marks: Marks::default(), ..span })).collect()
}

/// What was read, sent once more in protobuf, is read as the same spans.
pub(crate) fn assert_same_in_protobuf(decoded: &Decoded) {
    let spans = spans(decoded);
    let request = ExportTraceServiceRequest { resource_spans: spans.iter().map(encodable).collect() };
    let again = protobuf::decode_export_request(&request.encode_to_vec(), &Limits::default()).expect("protobuf");
    assert_eq!(again.rejected.message(), "");
    assert_eq!(in_words(self::spans(&again)), in_words(spans));
}

const GOOD_ATTRIBUTE: &[u8] = br#"{"key":"good","value":{"intValue":"7"}}"#;
/// A span that nothing is wrong with, before its attributes.
const GOOD_SPAN: &[u8] = br#"{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","name":"good","kind":2,"startTimeUnixNano":"1000","endTimeUnixNano":"1500","attributes":"#;

fn request(spans: &[&[u8]]) -> Vec<u8> {
    let before = br#"{"resourceSpans":[{"resource":{},"scopeSpans":[{"scope":{},"spans":["#;
    [&before[..], &spans.join(&b','), b"]}]}]}"].concat()
}

fn good_span(attributes: &[&[u8]]) -> Vec<u8> {
    [GOOD_SPAN, b"[", &attributes.join(&b','), b"]}"].concat()
}

/// Whatever value stands beside a good span or a good attribute, those are kept. `value` has to be JSON, but for texts that
/// are not UTF-8.
pub(crate) fn assert_good_ones_are_kept_beside(value: &[u8]) {
    let limits = Limits::default();
    let good = good_span(&[GOOD_ATTRIBUTE]);
    let decoded = json::decode_export_request(&request(&[value, &good, value]), &limits).expect("it is JSON");
    let alone = json::decode_export_request(&request(&[&good]), &limits).expect("it is JSON");
    let good = in_words(spans(&alone)).remove(0);
    assert!(in_words(spans(&decoded)).contains(&good), "{}", decoded.rejected.message());
    assert_eq!(decoded.batch.len() as u64 + decoded.rejected.count(), 3);
    assert_same_in_protobuf(&decoded);

    let mixed = good_span(&[value, GOOD_ATTRIBUTE, value]);
    let decoded = json::decode_export_request(&request(&[&mixed]), &limits).expect("it is JSON");
    let span = decoded.batch.span(0);
    assert!(span.attributes.iter().any(|(key, _)| key == "good"), "{:?}", span.attributes);
    if !span.marks.contains(Marks::OVER_LIMIT) {
        assert_eq!(decoded.rejected.wrong_attributes(), u64::from(span.dropped_attributes), "all else is kept");
        assert_eq!(decoded.rejected.message().is_empty(), decoded.rejected.wrong_attributes() == 0);
    }
    assert_same_in_protobuf(&decoded);
}
