//! Spans with everything that makes queries hard, the same ones each time.

use std::ops::Range;

use tracehouse_model::{
    AnyValue, Randomness, Span, SpanBatch, SpanFields, SpanId, SystemRandomness, Threshold, TraceId, kind, status,
};

use crate::shop::{NOON, put, trace_id};

const SECOND: i64 = 1_000_000_000;

/// The range of time that is asked about; some spans begin before it and some after.
pub(crate) const RANGE: Range<i64> = NOON..NOON + 60 * SECOND;

const TRACES: u64 = 160;
const SERVICES: [&str; 5] = ["gateway", "cart", "checkout", "payment", "ünïcode \"quoted\""];
const NAMES: [&str; 6] = ["GET /", "POST /cart", "SELECT", "publish", "größe 1\\2", "render"];

/// Batches as they come in, and the spans one by one. A trace lies in one or two batches.
pub(crate) fn wild_spans() -> (Vec<SpanBatch>, Vec<Span>) {
    wild_spans_of(2026)
}

/// The same for another seed.
pub(crate) fn wild_spans_of(seed: u64) -> (Vec<SpanBatch>, Vec<Span>) {
    let random = SystemRandomness::from_seed(seed);
    let mut batches: Vec<SpanBatch> = (0..8).map(|_| SpanBatch::new()).collect();
    for trace in 0..TRACES {
        push_trace(&mut batches, trace, &random);
    }
    let spans = batches.iter().flat_map(|batch| (0..batch.len()).map(|row| batch.span(row))).collect();
    (batches, spans)
}

fn push_trace(batches: &mut [SpanBatch], trace: u64, random: &SystemRandomness) {
    let below = |limit: u64| random.next_u64() % limit;
    let of = |values: &[&'static str]| values[below(values.len() as u64) as usize];
    let id = trace_id(trace + 1000);
    let start = NOON - 5 * SECOND + trace as i64 * 70 * SECOND / TRACES as i64;
    let span_id = |number: u64| SpanId((trace * 1000 + number + 1).to_be_bytes());
    let threshold = [None, Threshold::parse("8"), Threshold::parse("c"), None][below(4) as usize];
    let spans = 1 + below(16);
    let homes = [below(8) as usize, below(8) as usize];
    for number in 0..spans {
        let batch = &mut batches[homes[usize::from(number > spans / 2)]];
        let (resource, scope) = push_owner(batch, of(&SERVICES), random);
        let parent = match number {
            0 if below(8) == 0 => SpanId([7; 8]),
            0 => SpanId::NONE,
            _ if below(20) == 0 => SpanId::NONE,
            _ if below(20) == 0 => SpanId([9; 8]),
            _ => span_id(below(number)),
        };
        let begins = start + number as i64 / 2 * 40_000_000;
        push_attributes(batch, random);
        for event in 0..below(3) as i64 {
            put(
                &mut batch.strings,
                &mut batch.events.attributes,
                "exception.type",
                &text(of(&["IOException", "Timeout"])),
            );
            let attempt = if below(3) == 0 { AnyValue::Double(1.5) } else { AnyValue::Int(below(5) as i64 - 1) };
            put(&mut batch.strings, &mut batch.events.attributes, "attempt", &attempt);
            if below(4) == 0 {
                let delays = AnyValue::Array((0..below(3)).map(|delay| AnyValue::Int(delay as i64 * 3)).collect());
                put(&mut batch.strings, &mut batch.events.attributes, "delays", &delays);
            }
            let name = batch.strings.intern_str(of(&["exception", "retry"]));
            batch.finish_event(begins + event * 1_000_000, name, 0);
        }
        if below(5) == 0 {
            put(&mut batch.strings, &mut batch.links.attributes, "link.kind", &text(of(&["follows", "batch"])));
            put(&mut batch.strings, &mut batch.links.attributes, "weight", &AnyValue::Int(below(4) as i64));
            let linked = [TraceId([3; 16]), trace_id(1000 + below(TRACES)), TraceId(5u128.to_be_bytes())];
            batch.finish_link(linked[below(3) as usize], [SpanId([4; 8]), span_id(0)][below(2) as usize], 0, 0, 0);
        }
        let name = batch.strings.intern_str(of(&NAMES));
        let status_message = batch.strings.intern_str(of(&["", "", "deadline exceeded", "no route"]));
        let trace_state = batch.strings.intern_str("");
        let fields = SpanFields {
            trace_id: id,
            span_id: span_id(number),
            parent_span_id: parent,
            start_unix_nanos: begins,
            duration_nanos: [0, 1, 999, 1_000_000][below(4) as usize] + below(900_000_000) as i64 * below(2) as i64,
            name,
            kind: 1 + below(5) as u8,
            status_code: [status::UNSET, status::UNSET, status::OK, status::ERROR][below(4) as usize],
            status_message,
            trace_state,
            sampling_threshold: threshold,
            resource,
            scope,
            ..SpanFields::default()
        };
        batch.finish_span(fields);
        if below(40) == 0 {
            // A copy, as a sender makes that did not hear the answer.
            let row = batch.len() - 1;
            let original = batch.clone();
            batch.append_rows(&original, [row]);
        }
    }
    if below(3) == 0 {
        push_shared(batches, trace, start, threshold, homes, random);
    }
}

/// Two spans that share an id, mostly the halves of a call, and one that names it as its parent. They may lie in different batches.
fn push_shared(
    batches: &mut [SpanBatch],
    trace: u64,
    start: i64,
    threshold: Option<Threshold>,
    homes: [usize; 2],
    random: &SystemRandomness,
) {
    const KINDS: [[u8; 2]; 4] = [
        [kind::CLIENT, kind::SERVER],
        [kind::CLIENT, kind::SERVER],
        [kind::PRODUCER, kind::CONSUMER],
        [kind::INTERNAL, kind::SERVER],
    ];
    let below = |limit: u64| random.next_u64() % limit;
    let span_id = |number: u64| SpanId((trace * 1000 + number + 1).to_be_bytes());
    let mut push = |name: &str, id: u64, parent_span_id, begins: u64, kind| {
        let batch = &mut batches[homes[below(2) as usize]];
        let (resource, scope) = push_owner(batch, SERVICES[below(5) as usize], random);
        let name = batch.strings.intern_str(name);
        batch.finish_span(SpanFields {
            trace_id: trace_id(trace + 1000),
            span_id: span_id(id),
            parent_span_id,
            start_unix_nanos: start + begins as i64,
            duration_nanos: 5_000_000 + below(9) as i64,
            name,
            kind,
            resource,
            scope,
            sampling_threshold: threshold,
            ..SpanFields::default()
        });
    };
    let parents = [span_id(0), SpanId::NONE, span_id(902)];
    for kind in KINDS[below(4) as usize] {
        push("shared", 900, parents[below(3) as usize], below(9), kind);
    }
    push("below shared", 901, span_id(900), 9, kind::INTERNAL);
}

fn text(text: &str) -> AnyValue {
    AnyValue::String(text.to_owned())
}

fn push_owner(batch: &mut SpanBatch, service: &str, random: &SystemRandomness) -> (u32, u32) {
    let below = |limit: u64| random.next_u64() % limit;
    let mut attribute =
        |key: &str, value: AnyValue| put(&mut batch.strings, &mut batch.resources.attributes, key, &value);
    attribute("service.name", text(service));
    attribute("k8s.pod.name", text(&format!("pod-{}", below(4))));
    attribute("both", text("from resource"));
    if below(3) == 0 {
        attribute("replicas", AnyValue::Int(below(3) as i64));
    }
    if below(10) == 0 {
        attribute("zone", AnyValue::Bool(true));
    }
    let resource = batch.finish_resource(0, 0);
    put(&mut batch.strings, &mut batch.scopes.attributes, "scope.level", &AnyValue::Int(below(3) as i64));
    // Some scopes have no name, or no version.
    let name = ["http", "grpc"][below(2) as usize];
    let name = batch.strings.intern_str(if batch.len().is_multiple_of(5) { "" } else { name });
    let version = batch.strings.intern_str(if batch.len().is_multiple_of(3) { "" } else { "1.2" });
    (resource, batch.finish_scope(name, version, 0, 0))
}

fn push_attributes(batch: &mut SpanBatch, random: &SystemRandomness) {
    let below = |limit: u64| random.next_u64() % limit;
    let spans = batch.len();
    let mut attribute = |key: &str, value: AnyValue| put(&mut batch.strings, &mut batch.attributes, key, &value);
    attribute("http.route", text(&format!("/route/{}", below(12))));
    if below(2) == 0 {
        attribute("http.status", AnyValue::Int([200, 404, 500][below(3) as usize]));
    }
    match below(8) {
        0 => attribute("code", AnyValue::Int(7)),
        1 => attribute("code", AnyValue::Double(7.5)),
        2 => attribute("code", AnyValue::Bool(true)),
        3 => {}
        _ => attribute("code", text(["7", "x", "true"][below(3) as usize])),
    }
    if below(2) == 0 {
        attribute("ratio", AnyValue::Double(below(100) as f64 / 8.0 - 3.0));
    }
    if below(3) == 0 {
        attribute("cache.hit", AnyValue::Bool(below(2) == 0));
    }
    if below(5) == 0 {
        attribute("both", text("from span"));
    }
    if below(6) == 0 {
        let tags = ["a", "b", "c"].iter().take(1 + below(3) as usize);
        attribute("tags", AnyValue::Array(tags.map(|tag| text(tag)).collect()));
    }
    if spans.is_multiple_of(6) {
        attribute("checks", AnyValue::Array(vec![AnyValue::Bool(true), AnyValue::Bool(spans.is_multiple_of(12))]));
    }
    if below(7) == 0 {
        attribute("big", AnyValue::Int([i64::MAX, i64::MIN, -1, 1 << 53][below(4) as usize]));
    }
    if below(9) == 0 {
        attribute("with space", text("it's \"here\""));
    }
    if below(4) == 0 {
        attribute("levels", AnyValue::Array((0..below(4)).map(|level| AnyValue::Int(level as i64 * 2)).collect()));
    }
    if below(5) == 0 {
        attribute("parent.id", text(&format!("{:X}", below(40_000))));
    }
    let edges = [f64::INFINITY, f64::NEG_INFINITY, -2.5, 1.5];
    attribute("edge", AnyValue::Double(edges[(spans / 3) % 4]));
    // Keys that differ only in case are two keys.
    attribute(["userId", "userid"][spans % 2], AnyValue::Int(spans as i64 % 5));
    attribute("user.id", text(&format!("user-{}", below(1 << 40))));
}
