//! A trace as a list of Zipkin's spans.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;
use tracehouse_model::{AnyValue, SpanBatch, kind};
use tracehouse_query::{TENANT_KEY, Trace};

use super::remote::{Endpoint, local_endpoint, remote_endpoint};
use super::tags::{FIELD_TAGS, shown_text};
use crate::whole::attributes;

/// Times in microseconds; what is less than one is cut off, but a duration is at least one.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ZipkinSpan<'a> {
    trace_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_id: Option<String>,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    name: &'a str,
    timestamp: i64,
    duration: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    local_endpoint: Option<Endpoint>,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote_endpoint: Option<Endpoint>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    annotations: Vec<Annotation>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    tags: BTreeMap<&'a str, String>,
    /// The server's half of a span that the client began under the same id.
    #[serde(skip_serializing_if = "is_false")]
    shared: bool,
}

#[derive(Serialize)]
struct Annotation {
    timestamp: i64,
    value: String,
}

fn is_false(value: &bool) -> bool {
    !value
}

const NANOS_PER_MICRO: i64 = 1000;

pub(super) fn trace_spans(trace: &Trace) -> Vec<ZipkinSpan<'_>> {
    let spans = &trace.spans;
    let of_kind = |row: &usize, kind: u8| spans.kind[*row] == kind;
    let clients: HashSet<_> =
        (0..spans.len()).filter(|row| of_kind(row, kind::CLIENT)).map(|row| spans.span_id[row]).collect();
    let shared = |row: usize| of_kind(&row, kind::SERVER) && clients.contains(&spans.span_id[row]);
    let mut all: Vec<ZipkinSpan<'_>> = (0..spans.len()).map(|row| span(spans, row, shared(row))).collect();
    if !trace.tenants.is_empty() {
        all.iter_mut().enumerate().for_each(|(row, span)| name_tenant(span, spans, row));
    }
    all
}

/// Says whose a span is, whatever it says itself under that key.
fn name_tenant(shown: &mut ZipkinSpan<'_>, spans: &SpanBatch, row: usize) {
    let of_resource = attributes(spans, &spans.resources.attributes, spans.resource[row] as usize);
    shown
        .tags
        .extend(of_resource.filter(|(key, _)| *key == TENANT_KEY).map(|(_, tenant)| (TENANT_KEY, shown_text(&tenant))));
}

fn span(spans: &SpanBatch, row: usize, shared: bool) -> ZipkinSpan<'_> {
    let parent = spans.parent_span_id[row];
    ZipkinSpan {
        trace_id: spans.trace_id[row].to_string(),
        parent_id: (!parent.is_none()).then(|| parent.to_string()),
        id: spans.span_id[row].to_string(),
        kind: zipkin_kind(spans.kind[row]),
        name: spans.strings.get(spans.name[row]),
        timestamp: timestamp(spans.start_unix_nanos[row]),
        duration: (spans.duration_nanos[row] / NANOS_PER_MICRO).max(1),
        local_endpoint: local_endpoint(spans, row),
        remote_endpoint: remote_endpoint(spans, row),
        annotations: spans.event_range(row).map(|event| annotation(spans, row, event)).collect(),
        tags: tags(spans, row),
        shared,
    }
}

fn zipkin_kind(kind: u8) -> Option<&'static str> {
    match kind {
        kind::SERVER => Some("SERVER"),
        kind::CLIENT => Some("CLIENT"),
        kind::PRODUCER => Some("PRODUCER"),
        kind::CONSUMER => Some("CONSUMER"),
        _ => None,
    }
}

/// Zipkin's libraries refuse a whole trace for one time below 1.
fn timestamp(unix_nanos: i64) -> i64 {
    (unix_nanos / NANOS_PER_MICRO).max(1)
}

/// The name of the event, and its attributes as JSON if it has any. An event that was sent without a time is shown where
/// its span begins.
fn annotation(spans: &SpanBatch, row: usize, event: usize) -> Annotation {
    let name = spans.strings.get(spans.events.name[event]);
    let fields: Vec<_> =
        attributes(spans, &spans.events.attributes, event).map(|(key, value)| (key.to_owned(), value)).collect();
    let value = if fields.is_empty() {
        name.to_owned()
    } else {
        AnyValue::KeyValueList(vec![(name.to_owned(), AnyValue::KeyValueList(fields))]).to_canonical_json()
    };
    let sent = spans.events.time_unix_nanos[event];
    let shown = if sent > 0 { sent } else { spans.start_unix_nanos[row] };
    Annotation { timestamp: timestamp(shown), value }
}

/// Attributes of the resource, then of the span, then the fields that Zipkin has as tags; the later ones win.
fn tags(spans: &SpanBatch, row: usize) -> BTreeMap<&str, String> {
    let of_resource = attributes(spans, &spans.resources.attributes, spans.resource[row] as usize)
        .filter(|(key, _)| *key != "service.name");
    let of_span = attributes(spans, &spans.attributes, row);
    let mut tags: BTreeMap<&str, String> =
        of_resource.chain(of_span).map(|(key, value)| (key, shown_text(&value))).collect();
    for field in &FIELD_TAGS {
        if let Some(text) = (field.text)(spans, row) {
            tags.insert(field.key, text);
        }
    }
    tags
}

#[cfg(test)]
mod tests {
    use tracehouse_model::SpanFields;

    use super::*;

    #[test]
    fn no_time_is_below_one() {
        let table = [
            // Begin of the span and time of the event in nanoseconds, and both in microseconds.
            (5_000_000, 6_000_000, 5000, 6000),
            (5_000_000, 0, 5000, 5000),
            (5_000_000, 1, 5000, 1),
            (0, 0, 1, 1),
        ];
        for (begin, event, timestamp, annotation) in table {
            let mut spans = SpanBatch::new();
            let empty = spans.strings.intern_str("");
            let resource = spans.finish_resource(0, empty);
            let scope = spans.finish_scope(empty, empty, 0, empty);
            spans.finish_event(event, empty, 0);
            spans.finish_span(SpanFields { start_unix_nanos: begin, resource, scope, ..SpanFields::default() });
            let written = span(&spans, 0, false);
            let times = (written.timestamp, written.annotations[0].timestamp);
            assert_eq!(times, (timestamp, annotation), "{begin} {event}");
        }
    }
}
