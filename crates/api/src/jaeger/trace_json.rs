//! A trace as Jaeger's user interface reads it.

use std::collections::{BTreeMap, HashMap};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Value, json};
use tracehouse_model::{AnyValue, AttributeLists, SpanBatch, double_text};
use tracehouse_query::Trace;

use super::tags::{EVENT_NAME, FIELD_TAGS};
use crate::whole::{attributes, cut_reason};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct JaegerTrace<'a> {
    #[serde(rename = "traceID")]
    trace_id: String,
    spans: Vec<JaegerSpan<'a>>,
    processes: BTreeMap<String, Process<'a>>,
    warnings: Option<Vec<String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Process<'a> {
    service_name: &'a str,
    tags: Vec<Tag<'a>>,
}

/// Times in microseconds; what is less than one is cut off.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct JaegerSpan<'a> {
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(rename = "spanID")]
    span_id: String,
    flags: u32,
    operation_name: &'a str,
    references: Vec<Reference>,
    start_time: i64,
    duration: i64,
    tags: Vec<Tag<'a>>,
    logs: Vec<Log<'a>>,
    #[serde(rename = "processID")]
    process_id: String,
    warnings: Option<Vec<String>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reference {
    ref_type: &'static str,
    #[serde(rename = "traceID")]
    trace_id: String,
    #[serde(rename = "spanID")]
    span_id: String,
}

#[derive(Serialize)]
struct Log<'a> {
    timestamp: i64,
    fields: Vec<Tag<'a>>,
}

#[derive(Serialize)]
struct Tag<'a> {
    key: &'a str,
    #[serde(rename = "type")]
    tag_type: &'static str,
    value: Value,
}

const NANOS_PER_MICRO: i64 = 1000;
/// The largest integer up to which JavaScript has every one.
const INTEGER_MAX: u64 = (1 << 53) - 1;

impl<'a> JaegerTrace<'a> {
    pub(super) fn new(trace: &'a Trace) -> Self {
        let spans = &trace.spans;
        let mut processes = BTreeMap::new();
        let mut known = HashMap::new();
        let process_of: Vec<String> = (0..spans.resources.attributes.owners())
            .map(|resource| {
                let process = process(spans, resource);
                let same = serde_json::to_string(&process).expect("writing plain data to memory can't fail");
                // A trace that was put together from many requests has its resources many times.
                let id: &String = known.entry(same).or_insert_with(|| {
                    let id = format!("p{}", processes.len() + 1);
                    processes.insert(id.clone(), process);
                    id
                });
                id.clone()
            })
            .collect();
        let span_of = |row: usize| span(spans, row, process_of[spans.resource[row] as usize].clone());
        Self {
            trace_id: trace.trace_id.to_string(),
            spans: (0..spans.len()).map(span_of).collect(),
            processes,
            warnings: cut_reason(trace).map(|reason| vec![format!("this trace is not whole: {reason}")]),
        }
    }
}

fn process(spans: &SpanBatch, resource: usize) -> Process<'_> {
    let tags = tags_of(spans, &spans.resources.attributes, resource);
    Process {
        service_name: spans.strings.get(spans.resources.service_name[resource]),
        tags: tags.into_iter().filter(|tag| tag.key != "service.name").collect(),
    }
}

fn span(spans: &SpanBatch, row: usize, process_id: String) -> JaegerSpan<'_> {
    JaegerSpan {
        trace_id: spans.trace_id[row].to_string(),
        span_id: spans.span_id[row].to_string(),
        flags: spans.flags[row] & 0xff,
        operation_name: spans.strings.get(spans.name[row]),
        references: references(spans, row),
        start_time: spans.start_unix_nanos[row] / NANOS_PER_MICRO,
        duration: spans.duration_nanos[row] / NANOS_PER_MICRO,
        tags: span_tags(spans, row),
        logs: spans.event_range(row).map(|event| log(spans, event)).collect(),
        process_id,
        warnings: None,
    }
}

/// The parent and the links.
fn references(spans: &SpanBatch, row: usize) -> Vec<Reference> {
    let parent = spans.parent_span_id[row];
    let child_of = (!parent.is_none()).then(|| Reference {
        ref_type: "CHILD_OF",
        trace_id: spans.trace_id[row].to_string(),
        span_id: parent.to_string(),
    });
    let follows_from = spans.link_range(row).map(|link| Reference {
        ref_type: "FOLLOWS_FROM",
        trace_id: spans.links.trace_id[link].to_string(),
        span_id: spans.links.span_id[link].to_string(),
    });
    child_of.into_iter().chain(follows_from).collect()
}

/// The attributes, then the fields that are tags.
fn span_tags(spans: &SpanBatch, row: usize) -> Vec<Tag<'_>> {
    let mut tags = tags_of(spans, &spans.attributes, row);
    for field in &FIELD_TAGS {
        if let Some(value) = (field.value)(spans, row) {
            tags.retain(|tag| tag.key != field.key);
            tags.push(tag(field.key, value));
        }
    }
    tags
}

/// An event's name is its field `event`, unless an attribute has that name.
fn log(spans: &SpanBatch, event: usize) -> Log<'_> {
    let mut fields = tags_of(spans, &spans.events.attributes, event);
    let name = spans.strings.get(spans.events.name[event]);
    if !name.is_empty() && fields.iter().all(|field| field.key != EVENT_NAME) {
        fields.insert(0, tag(EVENT_NAME, AnyValue::String(name.to_owned())));
    }
    Log { timestamp: spans.events.time_unix_nanos[event] / NANOS_PER_MICRO, fields }
}

fn tags_of<'a>(spans: &'a SpanBatch, lists: &'a AttributeLists, owner: usize) -> Vec<Tag<'a>> {
    attributes(spans, lists, owner).map(|(key, value)| tag(key, value)).collect()
}

/// Jaeger has no lists and maps, and JSON no infinity: they become texts. So do integers that a browser would round, with
/// the type that they have.
fn tag(key: &str, value: AnyValue) -> Tag<'_> {
    let (tag_type, value) = match value {
        AnyValue::Empty => ("string", json!("")),
        AnyValue::String(text) => ("string", json!(text)),
        AnyValue::Int(value) if value.unsigned_abs() > INTEGER_MAX => ("int64", json!(value.to_string())),
        AnyValue::Int(value) => ("int64", json!(value)),
        AnyValue::Double(value) if value.is_finite() => ("float64", json!(value)),
        AnyValue::Double(value) => ("string", json!(double_text(value))),
        AnyValue::Bool(value) => ("bool", json!(value)),
        AnyValue::Bytes(bytes) => ("binary", json!(STANDARD.encode(bytes))),
        nested => ("string", json!(nested.to_canonical_json())),
    };
    Tag { key, tag_type, value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_that_browsers_round_are_texts() {
        let table = [
            (0, json!(0)),
            (-7, json!(-7)),
            (9_007_199_254_740_991, json!(9_007_199_254_740_991_i64)),
            (9_007_199_254_740_992, json!("9007199254740992")),
            (-9_007_199_254_740_991, json!(-9_007_199_254_740_991_i64)),
            (-9_007_199_254_740_992, json!("-9007199254740992")),
            (i64::MIN, json!("-9223372036854775808")),
        ];
        for (value, expected) in table {
            let tag = tag("number", AnyValue::Int(value));
            assert_eq!((tag.tag_type, tag.value), ("int64", expected));
        }
    }
}
