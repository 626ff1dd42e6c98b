use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::value::RawValue;
use tracehouse_model::{AnyValue, Event, Link, Span, SpanId, double_text};

use super::answers::{AttributeAnswer, EventAnswer, LinkAnswer, ResourceAnswer, ScopeAnswer, SpanAnswer, StatusOfSpan};
use super::terms::{Mark, SpanKind, StatusCode, ValueType};

pub(crate) fn span_answer(span: Span) -> SpanAnswer {
    let service_name = span.shown_service().into_owned();
    SpanAnswer {
        trace_id: span.trace_id.to_string(),
        span_id: span.span_id.to_string(),
        parent_span_id: parent_text(span.parent_span_id),
        name: span.name,
        service_name,
        kind: SpanKind::of(span.kind),
        status: StatusOfSpan { code: StatusCode::of(span.status_code), message: span.status_message },
        start_time_unix_nano: span.start_unix_nanos.to_string(),
        duration_nanos: span.duration_nanos,
        attributes: attributes(span.attributes),
        resource: ResourceAnswer {
            attributes: attributes(span.resource_attributes),
            schema_url: span.resource_schema_url,
            dropped_attributes_count: span.resource_dropped_attributes,
        },
        scope: ScopeAnswer {
            name: span.scope_name,
            version: span.scope_version,
            attributes: attributes(span.scope_attributes),
            schema_url: span.scope_schema_url,
            dropped_attributes_count: span.scope_dropped_attributes,
        },
        events: span.events.into_iter().map(event).collect(),
        links: span.links.into_iter().map(link).collect(),
        trace_state: span.trace_state,
        flags: span.flags,
        dropped_attributes_count: span.dropped_attributes,
        dropped_events_count: span.dropped_events,
        dropped_links_count: span.dropped_links,
        adjusted_count: span.sampling_threshold.map(|threshold| threshold.adjusted_count()),
        marks: Mark::all_of(span.marks),
    }
}

fn parent_text(parent: SpanId) -> String {
    if parent.is_none() { String::new() } else { parent.to_string() }
}

fn event(event: Event) -> EventAnswer {
    EventAnswer {
        time_unix_nano: event.time_unix_nanos.to_string(),
        name: event.name,
        attributes: attributes(event.attributes),
        dropped_attributes_count: event.dropped_attributes,
    }
}

fn link(link: Link) -> LinkAnswer {
    LinkAnswer {
        trace_id: link.trace_id.to_string(),
        span_id: link.span_id.to_string(),
        trace_state: link.trace_state,
        flags: link.flags,
        attributes: attributes(link.attributes),
        dropped_attributes_count: link.dropped_attributes,
    }
}

pub(super) fn attributes(attributes: Vec<(String, AnyValue)>) -> Vec<AttributeAnswer> {
    let answer = |(key, value): (String, AnyValue)| AttributeAnswer {
        key,
        value_type: ValueType::of(&value),
        value: RawValue::from_string(value_json(&value)).expect("values are written as JSON"),
    };
    attributes.into_iter().map(answer).collect()
}

/// As a browser reads it without loss: an int is a text, as JavaScript's numbers hold 53 bits; bytes are base64.
fn value_json(value: &AnyValue) -> String {
    match value {
        AnyValue::Int(value) => format!("\"{value}\""),
        AnyValue::Bytes(bytes) => format!("\"{}\"", STANDARD.encode(bytes)),
        AnyValue::Double(value) if !value.is_finite() => {
            format!("\"{}\"", double_text(*value))
        }
        other => other.to_canonical_json(),
    }
}
