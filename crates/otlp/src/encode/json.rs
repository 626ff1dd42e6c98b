//! OTLP messages as JSON: names in camelCase, bytes in base64, 64-bit integers as texts, fields with default values left
//! out. Ids and enums have two forms ([`Form`]).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link, SpanKind};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use serde_json::value::RawValue;
use tracehouse_model::double_text;

use crate::json_writer::{array, field, key, write};

/// How ids and enums are written.
#[derive(Clone, Copy, PartialEq)]
pub enum Form {
    /// As OpenTelemetry's specification has it: ids in hexadecimal, enums as integers.
    Otlp,
    /// Protobuf's JSON mapping without exceptions: ids in base64, enums by name.
    Protobuf,
}

pub fn resource_spans(out: &mut Vec<u8>, form: Form, message: &ResourceSpans) {
    out.push(b'{');
    if let Some(resource) = &message.resource {
        key(out, "resource");
        out.push(b'{');
        attributes(out, &resource.attributes);
        count(out, "droppedAttributesCount", resource.dropped_attributes_count);
        out.push(b'}');
    }
    key(out, "scopeSpans");
    array(out, &message.scope_spans, |out, message| scope_spans(out, form, message));
    text(out, "schemaUrl", &message.schema_url);
    out.push(b'}');
}

fn scope_spans(out: &mut Vec<u8>, form: Form, message: &ScopeSpans) {
    out.push(b'{');
    if let Some(scope) = &message.scope {
        key(out, "scope");
        out.push(b'{');
        text(out, "name", &scope.name);
        text(out, "version", &scope.version);
        attributes(out, &scope.attributes);
        count(out, "droppedAttributesCount", scope.dropped_attributes_count);
        out.push(b'}');
    }
    key(out, "spans");
    array(out, &message.spans, |out, message| span(out, form, message));
    text(out, "schemaUrl", &message.schema_url);
    out.push(b'}');
}

fn span(out: &mut Vec<u8>, form: Form, span: &Span) {
    out.push(b'{');
    id(out, form, "traceId", &span.trace_id);
    id(out, form, "spanId", &span.span_id);
    text(out, "traceState", &span.trace_state);
    id(out, form, "parentSpanId", &span.parent_span_id);
    count(out, "flags", span.flags);
    text(out, "name", &span.name);
    let kind_name = || SpanKind::try_from(span.kind).unwrap_or_default().as_str_name();
    enumeration(out, form, "kind", span.kind, kind_name);
    nanos(out, "startTimeUnixNano", span.start_time_unix_nano);
    nanos(out, "endTimeUnixNano", span.end_time_unix_nano);
    attributes(out, &span.attributes);
    count(out, "droppedAttributesCount", span.dropped_attributes_count);
    list(out, "events", &span.events, event);
    count(out, "droppedEventsCount", span.dropped_events_count);
    list(out, "links", &span.links, |out, message| link(out, form, message));
    count(out, "droppedLinksCount", span.dropped_links_count);
    if let Some(message) = &span.status {
        key(out, "status");
        status(out, form, message);
    }
    out.push(b'}');
}

fn status(out: &mut Vec<u8>, form: Form, status: &Status) {
    out.push(b'{');
    text(out, "message", &status.message);
    let code_name = || StatusCode::try_from(status.code).unwrap_or_default().as_str_name();
    enumeration(out, form, "code", status.code, code_name);
    out.push(b'}');
}

fn event(out: &mut Vec<u8>, event: &Event) {
    out.push(b'{');
    nanos(out, "timeUnixNano", event.time_unix_nano);
    text(out, "name", &event.name);
    attributes(out, &event.attributes);
    count(out, "droppedAttributesCount", event.dropped_attributes_count);
    out.push(b'}');
}

fn link(out: &mut Vec<u8>, form: Form, link: &Link) {
    out.push(b'{');
    id(out, form, "traceId", &link.trace_id);
    id(out, form, "spanId", &link.span_id);
    text(out, "traceState", &link.trace_state);
    attributes(out, &link.attributes);
    count(out, "droppedAttributesCount", link.dropped_attributes_count);
    count(out, "flags", link.flags);
    out.push(b'}');
}

fn attributes(out: &mut Vec<u8>, attributes: &[KeyValue]) {
    list(out, "attributes", attributes, key_value);
}

fn key_value(out: &mut Vec<u8>, entry: &KeyValue) {
    out.push(b'{');
    text(out, "key", &entry.key);
    if let Some(value) = &entry.value {
        key(out, "value");
        any_value(out, value);
    }
    out.push(b'}');
}

/// One value as it stands beside a key.
pub fn value_json(value: &AnyValue) -> Box<RawValue> {
    let mut out = Vec::new();
    any_value(&mut out, value);
    let text = String::from_utf8(out).expect("JSON is written as UTF-8");
    RawValue::from_string(text).expect("values are written as JSON")
}

/// The one field of a value is written even if it is a default: an empty text is not no value.
fn any_value(out: &mut Vec<u8>, value: &AnyValue) {
    out.push(b'{');
    match &value.value {
        None | Some(Value::StringValueStrindex(_)) => {}
        Some(Value::StringValue(value)) => field(out, "stringValue", value),
        Some(Value::BoolValue(value)) => field(out, "boolValue", value),
        Some(Value::IntValue(value)) => field(out, "intValue", &value.to_string()),
        Some(Value::DoubleValue(value)) if value.is_finite() => field(out, "doubleValue", value),
        Some(Value::DoubleValue(value)) => field(out, "doubleValue", &double_text(*value)),
        Some(Value::BytesValue(bytes)) => field(out, "bytesValue", &STANDARD.encode(bytes)),
        Some(Value::ArrayValue(values)) => {
            key(out, "arrayValue");
            out.push(b'{');
            list(out, "values", &values.values, any_value);
            out.push(b'}');
        }
        Some(Value::KvlistValue(entries)) => {
            key(out, "kvlistValue");
            out.push(b'{');
            list(out, "values", &entries.values, key_value);
            out.push(b'}');
        }
    }
    out.push(b'}');
}

fn list<'a, T>(out: &mut Vec<u8>, name: &str, items: &'a [T], write_item: impl FnMut(&mut Vec<u8>, &'a T)) {
    if !items.is_empty() {
        key(out, name);
        array(out, items, write_item);
    }
}

fn text(out: &mut Vec<u8>, name: &str, value: &str) {
    if !value.is_empty() {
        field(out, name, value);
    }
}

fn count(out: &mut Vec<u8>, name: &str, value: u32) {
    if value != 0 {
        field(out, name, &value);
    }
}

fn nanos(out: &mut Vec<u8>, name: &str, value: u64) {
    if value != 0 {
        key(out, name);
        out.push(b'"');
        write(out, &value);
        out.push(b'"');
    }
}

fn enumeration(out: &mut Vec<u8>, form: Form, name: &str, value: i32, value_name: impl Fn() -> &'static str) {
    match form {
        _ if value == 0 => {}
        Form::Otlp => field(out, name, &value),
        Form::Protobuf => field(out, name, value_name()),
    }
}

fn id(out: &mut Vec<u8>, form: Form, name: &str, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    key(out, name);
    out.push(b'"');
    // An id has at most 16 bytes: 32 hexadecimal digits, 24 characters of base64.
    let mut digits = [0; 32];
    let written = match form {
        Form::Otlp => {
            let length = 2 * bytes.len();
            hex::encode_to_slice(bytes, &mut digits[..length]).expect("ids are at most 16 bytes");
            length
        }
        Form::Protobuf => STANDARD.encode_slice(bytes, &mut digits).expect("ids are at most 16 bytes"),
    };
    out.extend_from_slice(&digits[..written]);
    out.push(b'"');
}
