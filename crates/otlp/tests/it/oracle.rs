//! The generated decoders of `opentelemetry-proto` as the oracle: for arbitrary requests, both of ours must give the
//! spans that the generated structs say.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;
use tracehouse_model::{Limits, Marks, SpanId, Threshold, TraceId};
use tracehouse_otlp::{Decoded, json, protobuf};

fn value() -> impl Strategy<Value = Option<AnyValue>> {
    let leaf = prop_oneof![
        any::<String>().prop_map(|text| Some(Value::StringValue(text))),
        any::<i64>().prop_map(|value| Some(Value::IntValue(value))),
        // What isn't finite has no number in JSON; `wire.rs` has it.
        any::<f64>().prop_filter("finite", |value| value.is_finite()).prop_map(|value| Some(Value::DoubleValue(value))),
        any::<bool>().prop_map(|value| Some(Value::BoolValue(value))),
        vec(any::<u8>(), 0..20).prop_map(|bytes| Some(Value::BytesValue(bytes))),
        Just(None),
    ];
    let value = leaf.prop_map(|value| AnyValue { value }).prop_recursive(4, 20, 4, |inner| {
        let entry = (key(), option::weighted(0.9, inner.clone()));
        let entry = entry.prop_map(|(key, value)| KeyValue { key, value, ..KeyValue::default() });
        prop_oneof![
            vec(inner, 0..4).prop_map(|values| Value::ArrayValue(ArrayValue { values })),
            vec(entry, 0..4).prop_map(|values| Value::KvlistValue(KeyValueList { values })),
        ]
        .prop_map(|value| AnyValue { value: Some(value) })
    });
    option::weighted(0.95, value)
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof!["[a-c]", "\\$bytes|\\$double|\\$x", "http\\.[a-z]{1,5}", any::<String>()]
}

fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    vec((key(), value()).prop_map(|(key, value)| KeyValue { key, value, ..KeyValue::default() }), 0..6)
}

fn mostly_empty() -> impl Strategy<Value = String> {
    prop_oneof![3 => Just(String::new()), 1 => any::<String>(), 1 => "ot=th:[0-9a-f]{1,14}"]
}

fn mostly_zero() -> impl Strategy<Value = u32> {
    prop_oneof![3 => Just(0), 1 => any::<u32>()]
}

/// An id, mostly right, perhaps too short, too long or zero.
fn id(length: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![12 => vec(any::<u8>(), length), 1 => vec(any::<u8>(), 0..20), 1 => Just(vec![0; length])]
}

fn time() -> impl Strategy<Value = u64> {
    prop_oneof![10 => 1_000u64..1_100, 1 => any::<u64>(), 1 => Just(0)]
}

fn event() -> impl Strategy<Value = Event> {
    (time(), mostly_empty(), attributes(), mostly_zero()).prop_map(
        |(time_unix_nano, name, attributes, dropped_attributes_count)| Event {
            time_unix_nano,
            name,
            attributes,
            dropped_attributes_count,
        },
    )
}

fn link() -> impl Strategy<Value = Link> {
    (id(16), id(8), mostly_empty(), attributes(), mostly_zero(), mostly_zero()).prop_map(
        |(trace_id, span_id, trace_state, attributes, dropped_attributes_count, flags)| Link {
            trace_id,
            span_id,
            trace_state,
            attributes,
            dropped_attributes_count,
            flags,
        },
    )
}

fn status() -> impl Strategy<Value = Option<Status>> {
    option::of((any::<String>(), -1..5).prop_map(|(message, code)| Status { message, code }))
}

fn span() -> impl Strategy<Value = Span> {
    let ids = (id(16), id(8), prop_oneof![Just(Vec::new()), id(8)]);
    let texts = (mostly_empty(), any::<String>());
    let numbers = (-1..8, time(), time(), mostly_zero());
    let dropped = (mostly_zero(), mostly_zero(), mostly_zero());
    (ids, texts, numbers, dropped, attributes(), vec(event(), 0..3), vec(link(), 0..3), status()).prop_map(
        |(ids, texts, numbers, dropped, attributes, events, links, status)| Span {
            trace_id: ids.0,
            span_id: ids.1,
            parent_span_id: ids.2,
            trace_state: texts.0,
            name: texts.1,
            kind: numbers.0,
            start_time_unix_nano: numbers.1,
            end_time_unix_nano: numbers.2,
            flags: numbers.3,
            attributes,
            dropped_attributes_count: dropped.0,
            events,
            dropped_events_count: dropped.1,
            links,
            dropped_links_count: dropped.2,
            status,
        },
    )
}

pub(crate) fn request() -> impl Strategy<Value = ExportTraceServiceRequest> {
    let scope = (mostly_empty(), mostly_empty(), attributes(), mostly_zero()).prop_map(
        |(name, version, attributes, dropped)| InstrumentationScope {
            name,
            version,
            attributes,
            dropped_attributes_count: dropped,
        },
    );
    let scope_spans = (option::of(scope), vec(span(), 0..4), mostly_empty())
        .prop_map(|(scope, spans, schema_url)| ScopeSpans { scope, spans, schema_url });
    let service = any::<String>().prop_map(|name| KeyValue {
        key: "service.name".into(),
        value: Some(AnyValue { value: Some(Value::StringValue(name)) }),
        ..KeyValue::default()
    });
    let resource = (option::of(service), attributes(), mostly_zero()).prop_map(|(service, mut attributes, dropped)| {
        attributes.extend(service);
        Resource { attributes, dropped_attributes_count: dropped, ..Resource::default() }
    });
    let resource_spans = (option::of(resource), vec(scope_spans, 0..3), mostly_empty())
        .prop_map(|(resource, scope_spans, schema_url)| ResourceSpans { resource, scope_spans, schema_url });
    vec(resource_spans, 0..3).prop_map(|resource_spans| ExportTraceServiceRequest { resource_spans })
}

fn expected_value(value: Option<&AnyValue>) -> tracehouse_model::AnyValue {
    use tracehouse_model::AnyValue as Expected;
    match value.and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => Expected::String(text.clone()),
        Some(Value::BoolValue(value)) => Expected::Bool(*value),
        Some(Value::IntValue(value)) => Expected::Int(*value),
        Some(Value::DoubleValue(value)) => Expected::Double(*value),
        Some(Value::BytesValue(bytes)) => Expected::Bytes(bytes.clone()),
        Some(Value::ArrayValue(array)) => {
            Expected::Array(array.values.iter().map(|value| expected_value(Some(value))).collect())
        }
        Some(Value::KvlistValue(list)) => Expected::KeyValueList(
            list.values.iter().map(|entry| (entry.key.clone(), expected_value(entry.value.as_ref()))).collect(),
        ),
        None | Some(Value::StringValueStrindex(_)) => Expected::Empty,
    }
}

/// Attributes are a map: of a key that comes twice, the last value stands where the first was.
fn expected_attributes(attributes: &[KeyValue]) -> Vec<(String, tracehouse_model::AnyValue)> {
    let mut expected: Vec<(String, tracehouse_model::AnyValue)> = Vec::new();
    for KeyValue { key, value, .. } in attributes {
        let value = expected_value(value.as_ref());
        match expected.iter_mut().find(|(known, _)| known == key) {
            Some(entry) => entry.1 = value,
            None => expected.push((key.clone(), value)),
        }
    }
    expected
}

fn expected_id<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok().filter(|id| *id != [0; N])
}

fn expected_event(event: &Event) -> Option<tracehouse_model::Event> {
    (*event != Event::default()).then(|| tracehouse_model::Event {
        time_unix_nanos: i64::try_from(event.time_unix_nano).unwrap_or(i64::MAX),
        name: event.name.clone(),
        attributes: expected_attributes(&event.attributes),
        dropped_attributes: event.dropped_attributes_count,
    })
}

fn expected_link(link: &Link) -> Option<tracehouse_model::Link> {
    let (trace_id, span_id) = (expected_id(&link.trace_id), expected_id(&link.span_id));
    let without_ids = Link { trace_id: Vec::new(), span_id: Vec::new(), ..link.clone() };
    (trace_id.is_some() || span_id.is_some() || without_ids != Link::default()).then(|| tracehouse_model::Link {
        trace_id: TraceId(trace_id.unwrap_or_default()),
        span_id: SpanId(span_id.unwrap_or_default()),
        trace_state: link.trace_state.clone(),
        flags: link.flags,
        attributes: expected_attributes(&link.attributes),
        dropped_attributes: link.dropped_attributes_count,
    })
}

/// The span as it must be kept; `None` if it must be refused.
fn expected_span(resource: &ResourceSpans, scope: &ScopeSpans, span: &Span) -> Option<tracehouse_model::Span> {
    let mut marks = Marks::default();
    let span_id = expected_id(&span.span_id)?;
    let parent_span_id = match span.parent_span_id.len() {
        0 => [0; 8],
        _ => span.parent_span_id[..].try_into().ok()?,
    };
    if parent_span_id == span_id {
        marks.insert(Marks::OWN_PARENT);
    }
    let start = i64::try_from(span.start_time_unix_nano).ok().filter(|&start| start != 0)?;
    let end = i64::try_from(span.end_time_unix_nano).ok()?;
    if end < start {
        marks.insert(if end == 0 { Marks::NO_END } else { Marks::END_BEFORE_START });
    }
    let status = span.status.clone().unwrap_or_default();
    let (kind, status_code) = (u8::try_from(span.kind).unwrap_or(99), u8::try_from(status.code).unwrap_or(99));
    if kind > 5 || status_code > 2 {
        marks.insert(Marks::UNKNOWN_ENUM);
    }
    let events: Vec<_> = span.events.iter().filter_map(expected_event).collect();
    let links: Vec<_> = span.links.iter().filter_map(expected_link).collect();
    let (schema_url, scope_schema_url) = (resource.schema_url.clone(), scope.schema_url.clone());
    let (resource, scope) = (resource.resource.clone().unwrap_or_default(), scope.scope.clone().unwrap_or_default());
    let resource_attributes = expected_attributes(&resource.attributes);
    let service_name = match resource_attributes.iter().find(|(key, _)| key == "service.name") {
        Some((_, tracehouse_model::AnyValue::String(name))) => name.clone(),
        _ => String::new(),
    };
    Some(tracehouse_model::Span {
        trace_id: TraceId(expected_id(&span.trace_id)?),
        span_id: SpanId(span_id),
        parent_span_id: SpanId(if parent_span_id == span_id { [0; 8] } else { parent_span_id }),
        name: span.name.clone(),
        service_name,
        kind: if kind > 5 { 0 } else { kind },
        status_code: if status_code > 2 { 0 } else { status_code },
        status_message: status.message,
        start_unix_nanos: start,
        duration_nanos: (end - start).max(0),
        trace_state: span.trace_state.clone(),
        flags: span.flags,
        sampling_threshold: Threshold::from_trace_state(&span.trace_state),
        marks,
        attributes: expected_attributes(&span.attributes),
        dropped_attributes: span.dropped_attributes_count,
        dropped_events: span.dropped_events_count.saturating_add((span.events.len() - events.len()) as u32),
        dropped_links: span.dropped_links_count.saturating_add((span.links.len() - links.len()) as u32),
        events,
        links,
        resource_attributes,
        resource_dropped_attributes: resource.dropped_attributes_count,
        resource_schema_url: schema_url,
        scope_name: scope.name,
        scope_version: scope.version,
        scope_attributes: expected_attributes(&scope.attributes),
        scope_dropped_attributes: scope.dropped_attributes_count,
        scope_schema_url,
    })
}

fn agrees(decoded: &Decoded, request: &ExportTraceServiceRequest) -> Result<(), TestCaseError> {
    let mut expected = Vec::new();
    let mut refused = 0;
    for resource in &request.resource_spans {
        for scope in &resource.scope_spans {
            for span in &scope.spans {
                match expected_span(resource, scope, span) {
                    Some(span) => expected.push(span),
                    None => refused += 1,
                }
            }
        }
    }
    let spans: Vec<_> = (0..decoded.batch.len()).map(|row| decoded.batch.span(row)).collect();
    prop_assert_eq!(spans, expected);
    prop_assert_eq!(decoded.rejected.count(), refused);
    prop_assert_eq!(decoded.values_cut, 0);
    // The invariants of a batch are those that reading it back checks.
    let mut encoded = Vec::new();
    decoded.batch.clone().into_exact().encode(&mut encoded);
    prop_assert!(tracehouse_model::SpanBatch::decode(&encoded).is_ok());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_decoders_agree_with_the_oracle(request in request()) {
        let limits = Limits::default();
        let decoded = protobuf::decode_export_request(&request.encode_to_vec(), &limits).expect("protobuf");
        agrees(&decoded, &request)?;
        let text = serde_json::to_string(&request).expect("serialisable");
        let decoded = json::decode_export_request(text.as_bytes(), &limits).expect("JSON");
        agrees(&decoded, &request)?;
    }

    #[test]
    fn damaged_requests_never_panic(request in request(), damage in vec((any::<usize>(), any::<u8>()), 0..8), end in any::<usize>()) {
        let limits = Limits { attributes_per_span_max: 3, events_per_span_max: 1, ..Limits::default() };
        for mut bytes in [request.encode_to_vec(), serde_json::to_vec(&request).expect("serialisable")] {
            for (at, byte) in &damage {
                let length = bytes.len().max(1);
                if let Some(target) = bytes.get_mut(at % length) {
                    *target = *byte;
                }
            }
            bytes.truncate(end % (bytes.len() + 1));
            let decoded = [protobuf::decode_export_request(&bytes, &limits), json::decode_export_request(&bytes, &limits)];
            for decoded in decoded.into_iter().flatten() {
                (0..decoded.batch.len()).for_each(|row| drop(decoded.batch.span(row)));
            }
        }
    }

    #[test]
    fn garbage_never_panics(bytes in vec(any::<u8>(), 0..200)) {
        protobuf::decode_export_request(&bytes, &Limits::default()).ok();
        json::decode_export_request(&bytes, &Limits::default()).ok();
    }
}
