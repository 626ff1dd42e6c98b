//! Stored spans as OTLP messages, with every field that was sent.

use std::collections::HashMap;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue as ProtoValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use tracehouse_model::{AnyValue, AttributeLists, SpanBatch, SpanId, StringCode};

/// A resource with more spans than this comes in several messages, so that a giant trace is never whole in memory as
/// messages.
const SPANS_PER_MESSAGE_MAX: usize = 4096;

/// The spans grouped by resource and, inside, by scope; made one message at a time.
pub fn resource_spans(spans: &SpanBatch) -> impl Iterator<Item = ResourceSpans> + '_ {
    let resources = first_equals(&spans.resources.attributes, |at| {
        (spans.resources.schema_url[at], 0, 0, spans.resources.dropped_attributes[at])
    });
    let scopes = first_equals(&spans.scopes.attributes, |at| {
        let scopes = &spans.scopes;
        (scopes.schema_url[at], scopes.name[at], scopes.version[at], scopes.dropped_attributes[at])
    });
    let group = move |row: &u32| {
        let row = *row as usize;
        (resources[spans.resource[row] as usize], scopes[spans.scope[row] as usize])
    };
    let mut rows: Vec<u32> = (0..spans.len() as u32).collect();
    rows.sort_by_key(&group);
    let mut at = 0;
    std::iter::from_fn(move || {
        let resource = group(rows.get(at)?).0;
        let same = rows[at..].iter().take(SPANS_PER_MESSAGE_MAX).take_while(|row| group(row).0 == resource).count();
        let scope_spans = rows[at..at + same]
            .chunk_by(|one, other| group(one) == group(other))
            .map(|rows| scope_spans_of(spans, rows));
        let message = ResourceSpans {
            resource: Some(resource_of(spans, resource as usize)),
            scope_spans: scope_spans.collect(),
            schema_url: text(spans, spans.resources.schema_url[resource as usize]),
        };
        at += same;
        Some(message)
    })
}

/// For each owner the first one that is equal in attributes and fixed fields: a trace that was put together from many
/// requests has its resources many times.
fn first_equals(
    lists: &AttributeLists,
    fixed: impl Fn(usize) -> (StringCode, StringCode, StringCode, u32),
) -> Vec<u32> {
    let mut known = HashMap::new();
    let first = |owner: usize| {
        let attributes: Vec<_> = lists.of(owner).map(|(key, value)| (key, value.tag(), value.payload())).collect();
        *known.entry((fixed(owner), attributes)).or_insert(owner as u32)
    };
    (0..lists.owners()).map(first).collect()
}

fn text(spans: &SpanBatch, code: StringCode) -> String {
    spans.strings.get(code).to_owned()
}

fn resource_of(spans: &SpanBatch, resource: usize) -> Resource {
    Resource {
        attributes: attributes_of(spans, &spans.resources.attributes, resource),
        dropped_attributes_count: spans.resources.dropped_attributes[resource],
        entity_refs: Vec::new(),
    }
}

/// `rows` are of one scope, and not empty.
fn scope_spans_of(spans: &SpanBatch, rows: &[u32]) -> ScopeSpans {
    let scope = spans.scope[rows[0] as usize] as usize;
    ScopeSpans {
        scope: Some(InstrumentationScope {
            name: text(spans, spans.scopes.name[scope]),
            version: text(spans, spans.scopes.version[scope]),
            attributes: attributes_of(spans, &spans.scopes.attributes, scope),
            dropped_attributes_count: spans.scopes.dropped_attributes[scope],
        }),
        spans: rows.iter().map(|row| span_of(spans, *row as usize)).collect(),
        schema_url: text(spans, spans.scopes.schema_url[scope]),
    }
}

fn span_of(spans: &SpanBatch, row: usize) -> Span {
    let start = spans.start_unix_nanos[row];
    Span {
        trace_id: spans.trace_id[row].0.to_vec(),
        span_id: spans.span_id[row].0.to_vec(),
        trace_state: text(spans, spans.trace_state[row]),
        parent_span_id: id_or_empty(spans.parent_span_id[row]),
        flags: spans.flags[row],
        name: text(spans, spans.name[row]),
        kind: i32::from(spans.kind[row]),
        start_time_unix_nano: unsigned(start),
        end_time_unix_nano: unsigned(start.saturating_add(spans.duration_nanos[row])),
        attributes: attributes_of(spans, &spans.attributes, row),
        dropped_attributes_count: spans.dropped_attributes[row],
        events: spans.event_range(row).map(|event| event_of(spans, event)).collect(),
        dropped_events_count: spans.dropped_events[row],
        links: spans.link_range(row).map(|link| link_of(spans, link)).collect(),
        dropped_links_count: spans.dropped_links[row],
        status: Some(Status {
            message: text(spans, spans.status_message[row]),
            code: i32::from(spans.status_code[row]),
        }),
    }
}

/// A root's parent is no bytes at all.
fn id_or_empty(id: SpanId) -> Vec<u8> {
    if id.is_none() { Vec::new() } else { id.0.to_vec() }
}

fn unsigned(nanos: i64) -> u64 {
    u64::try_from(nanos).unwrap_or(0)
}

fn event_of(spans: &SpanBatch, event: usize) -> Event {
    Event {
        time_unix_nano: unsigned(spans.events.time_unix_nanos[event]),
        name: text(spans, spans.events.name[event]),
        attributes: attributes_of(spans, &spans.events.attributes, event),
        dropped_attributes_count: spans.events.dropped_attributes[event],
    }
}

fn link_of(spans: &SpanBatch, link: usize) -> Link {
    Link {
        trace_id: spans.links.trace_id[link].0.to_vec(),
        span_id: spans.links.span_id[link].0.to_vec(),
        trace_state: text(spans, spans.links.trace_state[link]),
        attributes: attributes_of(spans, &spans.links.attributes, link),
        dropped_attributes_count: spans.links.dropped_attributes[link],
        flags: spans.links.flags[link],
    }
}

fn attributes_of(spans: &SpanBatch, lists: &AttributeLists, owner: usize) -> Vec<KeyValue> {
    lists.of(owner).map(|(key, value)| key_value(text(spans, key), value.resolve(&spans.strings))).collect()
}

pub fn key_value(key: String, value: AnyValue) -> KeyValue {
    KeyValue { key, value: Some(proto_value(value)), key_strindex: 0 }
}

pub fn proto_value(value: AnyValue) -> ProtoValue {
    let value = match value {
        AnyValue::Empty => None,
        AnyValue::String(text) => Some(Value::StringValue(text)),
        AnyValue::Int(value) => Some(Value::IntValue(value)),
        AnyValue::Double(value) => Some(Value::DoubleValue(value)),
        AnyValue::Bool(value) => Some(Value::BoolValue(value)),
        AnyValue::Bytes(bytes) => Some(Value::BytesValue(bytes)),
        AnyValue::Array(values) => {
            Some(Value::ArrayValue(ArrayValue { values: values.into_iter().map(proto_value).collect() }))
        }
        AnyValue::KeyValueList(entries) => {
            let values = entries.into_iter().map(|(key, value)| key_value(key, value)).collect();
            Some(Value::KvlistValue(KeyValueList { values }))
        }
    };
    ProtoValue { value }
}
