//! Spans of every shape, batches made of them, and how two spans are compared.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tracehouse_model::{
    AnyValue, AttributeLists, AttributeValue, Event, Link, Marks, Span, SpanBatch, SpanFields, SpanId, StringTable,
    Threshold, TraceId,
};

/// 2025-06-01T12:00:00Z
pub(crate) const NOON: i64 = 1_748_779_200_000_000_000;
pub(crate) const SECOND: i64 = 1_000_000_000;
pub(crate) const HOUR: i64 = 3600 * SECOND;

pub(crate) type Attributes = Vec<(String, AnyValue)>;

/// What tells spans apart: a redelivered span has the same.
pub(crate) type Key = (TraceId, SpanId, u8);

pub(crate) fn key_of(span: &Span) -> Key {
    (span.trace_id, span.span_id, span.kind)
}

/// A plain span, for tests that need many or only care for ids and times.
pub(crate) fn plain_span(trace: u128, span: u64, parent: u64, start: i64) -> Span {
    let service = format!("service-{}", trace % 5);
    Span {
        trace_id: TraceId(trace.to_be_bytes()),
        span_id: SpanId(span.to_be_bytes()),
        parent_span_id: SpanId(parent.to_be_bytes()),
        name: format!("operation {}", span % 7),
        service_name: service.clone(),
        kind: (span % 6) as u8,
        status_code: (span % 3) as u8,
        status_message: if span % 3 == 2 { "broken".into() } else { String::new() },
        start_unix_nanos: start,
        duration_nanos: 1000 + span as i64 % 100_000,
        trace_state: String::new(),
        flags: 1,
        sampling_threshold: None,
        marks: Marks::default(),
        attributes: vec![
            ("http.route".into(), AnyValue::String(format!("/items/{}", span % 11))),
            ("http.response.status_code".into(), AnyValue::Int(200 + (span % 4) as i64)),
        ],
        dropped_attributes: 0,
        events: Vec::new(),
        dropped_events: 0,
        links: Vec::new(),
        dropped_links: 0,
        resource_attributes: vec![("service.name".into(), AnyValue::String(service))],
        resource_dropped_attributes: 0,
        resource_schema_url: String::new(),
        scope_name: "test".into(),
        scope_version: "1".into(),
        scope_attributes: Vec::new(),
        scope_dropped_attributes: 0,
        scope_schema_url: String::new(),
    }
}

/// A batch of these spans, its resources and scopes each once, as a receiver would build it.
pub(crate) fn batch_of<'a>(spans: impl IntoIterator<Item = &'a Span>) -> SpanBatch {
    let mut batch = SpanBatch::new();
    let (mut resources, mut scopes) = (BTreeMap::new(), BTreeMap::new());
    for span in spans {
        let resource = *resources.entry(resource_key(span)).or_insert_with(|| {
            push_attributes(&mut batch.strings, &mut batch.resources.attributes, &span.resource_attributes);
            let url = batch.strings.intern_str(&span.resource_schema_url);
            batch.finish_resource(span.resource_dropped_attributes, url)
        });
        let scope = *scopes.entry(scope_key(span)).or_insert_with(|| {
            push_attributes(&mut batch.strings, &mut batch.scopes.attributes, &span.scope_attributes);
            let name = batch.strings.intern_str(&span.scope_name);
            let version = batch.strings.intern_str(&span.scope_version);
            let url = batch.strings.intern_str(&span.scope_schema_url);
            batch.finish_scope(name, version, span.scope_dropped_attributes, url)
        });
        push_span(&mut batch, span, resource, scope);
    }
    batch
}

fn resource_key(span: &Span) -> String {
    format!("{:?}", (&span.resource_attributes, span.resource_dropped_attributes, &span.resource_schema_url))
}

fn scope_key(span: &Span) -> String {
    let dropped = span.scope_dropped_attributes;
    format!("{:?}", (&span.scope_attributes, &span.scope_name, &span.scope_version, &span.scope_schema_url, dropped))
}

fn push_span(batch: &mut SpanBatch, span: &Span, resource: u32, scope: u32) {
    push_attributes(&mut batch.strings, &mut batch.attributes, &span.attributes);
    for event in &span.events {
        push_attributes(&mut batch.strings, &mut batch.events.attributes, &event.attributes);
        let name = batch.strings.intern_str(&event.name);
        batch.finish_event(event.time_unix_nanos, name, event.dropped_attributes);
    }
    for link in &span.links {
        push_attributes(&mut batch.strings, &mut batch.links.attributes, &link.attributes);
        let state = batch.strings.intern_str(&link.trace_state);
        batch.finish_link(link.trace_id, link.span_id, state, link.flags, link.dropped_attributes);
    }
    let fields = SpanFields {
        trace_id: span.trace_id,
        span_id: span.span_id,
        parent_span_id: span.parent_span_id,
        start_unix_nanos: span.start_unix_nanos,
        duration_nanos: span.duration_nanos,
        name: batch.strings.intern_str(&span.name),
        kind: span.kind,
        status_code: span.status_code,
        status_message: batch.strings.intern_str(&span.status_message),
        trace_state: batch.strings.intern_str(&span.trace_state),
        flags: span.flags,
        sampling_threshold: span.sampling_threshold,
        marks: span.marks,
        dropped_attributes: span.dropped_attributes,
        dropped_events: span.dropped_events,
        dropped_links: span.dropped_links,
        resource,
        scope,
    };
    batch.finish_span(fields);
}

fn push_attributes(strings: &mut StringTable, lists: &mut AttributeLists, attributes: &Attributes) {
    for (key, value) in attributes {
        let key = strings.intern_str(key);
        let value = match value {
            AnyValue::Empty => AttributeValue::Empty,
            AnyValue::String(text) => AttributeValue::String(strings.intern_str(text)),
            AnyValue::Int(value) => AttributeValue::Int(*value),
            AnyValue::Double(value) => AttributeValue::Double(*value),
            AnyValue::Bool(value) => AttributeValue::Bool(*value),
            AnyValue::Bytes(bytes) => AttributeValue::Bytes(strings.intern(bytes)),
            nested => AttributeValue::Json(strings.intern_str(&nested.to_canonical_json())),
        };
        lists.push(key, value);
    }
}

/// Whether two spans say the same: the order of attributes does not matter, and every NaN is the same.
pub(crate) fn assert_same_span(what: &str, found: &Span, wanted: &Span) {
    if found == wanted {
        return;
    }
    let (found, wanted) = (sorted(found), sorted(wanted));
    if found != wanted {
        // NaN is unlike itself but prints alike.
        assert_eq!(format!("{found:#?}"), format!("{wanted:#?}"), "{what}: not as it was sent");
    }
}

/// The span with its attributes in an order that follows from their keys.
pub(crate) fn sorted(span: &Span) -> Span {
    let mut span = span.clone();
    let sort = |attributes: &mut Attributes| attributes.sort_by(|left, right| left.0.cmp(&right.0));
    sort(&mut span.attributes);
    sort(&mut span.resource_attributes);
    sort(&mut span.scope_attributes);
    span.events.iter_mut().for_each(|event| sort(&mut event.attributes));
    span.links.iter_mut().for_each(|link| sort(&mut link.attributes));
    span
}

/// Fails with the first spans that are missing, too many or different. Each expected span must be among the found ones
/// at least once and at most `copies_max` times.
pub(crate) fn assert_same_spans(what: &str, found: &[Span], expected: &BTreeMap<Key, Span>, copies_max: usize) {
    let mut counts: BTreeMap<Key, usize> = BTreeMap::new();
    for span in found {
        let key = key_of(span);
        *counts.entry(key).or_default() += 1;
        let Some(wanted) = expected.get(&key) else { panic!("{what}: a span that nobody sent: {span:#?}") };
        assert_same_span(what, span, wanted);
    }
    let missing: Vec<_> = expected.keys().filter(|key| !counts.contains_key(key)).take(5).collect();
    assert!(missing.is_empty(), "{what}: {} of {} spans, missing e.g. {missing:?}", counts.len(), expected.len());
    let repeated = counts.iter().find(|(_, count)| **count > copies_max);
    assert_eq!(repeated, None, "{what}: a span more than {copies_max} times");
}

pub(crate) fn by_key<'a>(spans: impl IntoIterator<Item = &'a Span>) -> BTreeMap<Key, Span> {
    spans.into_iter().map(|span| (key_of(span), span.clone())).collect()
}

/// Few resources and scopes for many spans, as senders have them.
pub(crate) fn give_owners(spans: &mut [Span], resources: &[Attributes], scopes: &[Attributes]) {
    for span in spans {
        let pick = span.flags as usize;
        span.resource_attributes = resources[pick % resources.len()].clone();
        span.scope_attributes = scopes[pick / 7 % scopes.len()].clone();
        span.service_name = service_of(&span.resource_attributes);
    }
}

fn service_of(resource: &Attributes) -> String {
    match resource.iter().find(|(key, _)| key == "service.name") {
        Some((_, AnyValue::String(name))) => name.clone(),
        _ => String::new(),
    }
}

/// A span without attributes of a resource or scope: see [`give_owners`].
pub(crate) fn spans() -> impl Strategy<Value = Span> {
    let ids = (trace_ids(), span_ids(), parent_ids(), 0u8..6, 0u8..3);
    let times = (starts(), durations());
    let texts = [texts(), texts(), texts(), texts(), texts(), texts(), texts()];
    let numbers = (any::<u32>(), any::<u16>(), [counts(), counts(), counts(), counts(), counts()]);
    let threshold = prop_oneof![3 => Just(None), 1 => (0u64..1 << 56).prop_map(Threshold::new)];
    let nested = (attributes(), vec(events(), 0..3), vec(links(), 0..3));
    (ids, times, texts, numbers, threshold, nested).prop_map(|(ids, times, texts, numbers, threshold, nested)| {
        let [name, status_message, trace_state, resource_url, scope_name, scope_version, scope_url] = texts;
        let [dropped_attributes, dropped_events, dropped_links, resource_dropped, scope_dropped] = numbers.2;
        Span {
            trace_id: ids.0,
            span_id: ids.1,
            parent_span_id: ids.2,
            kind: ids.3,
            status_code: ids.4,
            start_unix_nanos: times.0,
            duration_nanos: times.1,
            name,
            service_name: String::new(),
            status_message,
            trace_state,
            flags: numbers.0,
            sampling_threshold: threshold,
            marks: Marks(numbers.1),
            attributes: nested.0,
            dropped_attributes,
            events: nested.1,
            dropped_events,
            links: nested.2,
            dropped_links,
            resource_attributes: Vec::new(),
            resource_dropped_attributes: resource_dropped % 2,
            resource_schema_url: resource_url,
            scope_name,
            scope_version,
            scope_attributes: Vec::new(),
            scope_dropped_attributes: scope_dropped % 2,
            scope_schema_url: scope_url,
        }
    })
}

fn trace_ids() -> impl Strategy<Value = TraceId> {
    // Smallest and largest; alike in one half; many spans of few traces.
    select(vec![1, 2, 255, 256, 1 << 64, (1 << 64) + 1, u128::MAX / 3, u128::MAX / 3 + 1, u128::MAX - 1, u128::MAX])
        .prop_map(|id| TraceId(id.to_be_bytes()))
}

fn span_ids() -> impl Strategy<Value = SpanId> {
    prop_oneof![4 => 1u64..40, 1 => Just(u64::MAX)].prop_map(|id| SpanId(id.to_be_bytes()))
}

/// None, another span of the trace (or the span itself), or one that never comes.
fn parent_ids() -> impl Strategy<Value = SpanId> {
    prop_oneof![1 => Just(0), 4 => 1u64..40, 1 => any::<u64>()].prop_map(|id| SpanId(id.to_be_bytes()))
}

fn starts() -> impl Strategy<Value = i64> {
    prop_oneof![
        6 => (0..120 * SECOND).prop_map(|offset| NOON + offset),
        2 => (select(vec![-30, -1, 1]), 0..HOUR).prop_map(|(hours, offset)| NOON + hours * HOUR + offset),
        1 => select(vec![NOON, NOON - 1, 0, -1, i64::MAX, i64::MIN / 2]),
    ]
}

fn durations() -> impl Strategy<Value = i64> {
    prop_oneof![1 => Just(0), 4 => 1..10 * SECOND, 1 => Just(i64::MAX)]
}

fn counts() -> impl Strategy<Value = u32> {
    prop_oneof![4 => Just(0u32), 1 => 1u32..9, 1 => Just(u32::MAX)]
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => Just(String::new()),
        4 => select(vec!["GET /cart", "1.2.3", "ot=th:8;rv:1", "https://opentelemetry.io/schemas/1.2"])
            .prop_map(str::to_owned),
        2 => any_text(),
    ]
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => vec(any::<char>(), 0..12).prop_map(|text| text.into_iter().collect()),
        1 => "[ -~]{0,200}",
        1 => select(vec!["\0", "\"", "\\", "\n\r\t", "null", "é", "日本", "\u{10ffff}", "{\"$bytes\":\"\"}", " "])
            .prop_map(str::to_owned),
        1 => (60usize..300).prop_map(|length| "long ".repeat(length)),
    ]
}

fn keys() -> impl Strategy<Value = String> {
    let known = vec![
        "service.name",
        "http.route",
        "http.response.status_code",
        "a",
        "a.b",
        "span.a",
        "resource.a",
        "$bytes",
        "$double",
        "$",
        "",
        "with \"quotes\" and 'others'",
        "line\nbreak",
        "name",
        "trace_id",
        "Name",
        "ключ",
        "nul\0",
    ];
    prop_oneof![8 => select(known).prop_map(str::to_owned), 1 => any_text()]
}

fn doubles() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<f64>(),
        -1e6..1e6f64,
        select(vec![0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, f64::MAX, 5e-324, 0.1]),
    ]
}

fn scalars() -> impl Strategy<Value = AnyValue> {
    prop_oneof![
        1 => Just(AnyValue::Empty),
        4 => texts().prop_map(AnyValue::String),
        2 => any_text().prop_map(AnyValue::String),
        2 => (0i64..9).prop_map(AnyValue::Int),
        1 => any::<i64>().prop_map(AnyValue::Int),
        2 => doubles().prop_map(AnyValue::Double),
        2 => any::<bool>().prop_map(AnyValue::Bool),
        1 => vec(any::<u8>(), 0..12).prop_map(AnyValue::Bytes),
    ]
}

pub(crate) fn values() -> impl Strategy<Value = AnyValue> {
    let nested = scalars().prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(AnyValue::Array),
            vec((keys(), inner), 0..4).prop_map(AnyValue::KeyValueList),
        ]
    });
    prop_oneof![6 => scalars(), 1 => nested]
}

pub(crate) fn attributes() -> impl Strategy<Value = Attributes> {
    vec((keys(), values()), 0..7).prop_map(|mut attributes| {
        let mut known = BTreeSet::new();
        attributes.retain(|(key, _)| known.insert(key.clone()));
        attributes
    })
}

fn events() -> impl Strategy<Value = Event> {
    (starts(), texts(), attributes(), counts()).prop_map(|(time_unix_nanos, name, attributes, dropped_attributes)| {
        Event { time_unix_nanos, name, attributes, dropped_attributes }
    })
}

fn links() -> impl Strategy<Value = Link> {
    (trace_ids(), span_ids(), texts(), any::<u32>(), attributes(), counts()).prop_map(
        |(trace_id, span_id, trace_state, flags, attributes, dropped_attributes)| Link {
            trace_id,
            span_id,
            trace_state,
            flags,
            attributes,
            dropped_attributes,
        },
    )
}
