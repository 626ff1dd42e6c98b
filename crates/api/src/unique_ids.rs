//! Ids of spans for interfaces whose clients take two spans with one id for one.
//!
//! Spans of a trace share an id where the two sides of a call record it under one (Zipkin's model), or where a sender uses an id twice. All are kept, and
//! stand where the tree of the trace has them (`tracehouse_model`, `tree`); here each but the first gets an id of its own. Which one depends on nothing but
//! what the spans say.

use tracehouse_model::{SeededMap, SeededSet, SpanBatch, SpanId, derived_span_id, kind};
use tracehouse_query::{ParentRow, Trace};

/// What becomes of spans that share an id.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Halves {
    /// Each but the first gets an id of its own, as in Jaeger.
    Apart,
    /// The same, but the halves of a call that are a client and a server keep theirs: the server is marked as the half of a shared span, as in Zipkin.
    Shared,
    /// Only halves of a call get an id of their own; what else shares an id keeps it, as in Tempo.
    OnlyCalls,
}

/// Gives the spans of a trace ids of their own; parents follow.
pub(crate) fn make_unique(trace: &mut Trace, halves: Halves) {
    let mut used: SeededSet<u64> = trace.spans.span_id.iter().map(|id| id.as_u64()).collect();
    if used.len() == trace.spans.len() {
        return;
    }
    let mut rows_of: SeededMap<u64, Vec<usize>> = SeededMap::default();
    for (row, id) in trace.spans.span_id.iter().enumerate() {
        rows_of.entry(id.as_u64()).or_default().push(row);
    }
    let mut sharing: Vec<(u64, Vec<usize>)> = rows_of.into_iter().filter(|(_, rows)| rows.len() > 1).collect();
    sharing.sort_unstable();
    let is_half: Vec<bool> = (0..trace.spans.len()).map(|row| is_half(trace, row)).collect();
    let mut zipkin_halves: Vec<(usize, usize)> = Vec::new();
    for (id, mut rows) in sharing {
        rows.sort_by(|&one, &other| rank(&trace.spans, one).cmp(&rank(&trace.spans, other)));
        let first = rows.remove(0);
        // Those of calls are numbered first, so that they have the same ids wherever they have one.
        rows.sort_by_key(|&row| !is_half[row]);
        let kept = rows.iter().copied().find(|&row| is_half[row] && trace.spans.kind[row] == kind::SERVER);
        let kept = kept.filter(|_| halves == Halves::Shared && trace.spans.kind[first] == kind::CLIENT);
        zipkin_halves.extend(kept.map(|half| (half, first)));
        let renamed =
            rows.into_iter().filter(|&row| Some(row) != kept && (is_half[row] || halves != Halves::OnlyCalls));
        for row in renamed {
            trace.spans.span_id[row] = free_id(id, &mut used);
        }
    }
    for row in 0..trace.spans.len() {
        if let ParentRow::Row(parent) = trace.parent[row] {
            trace.spans.parent_span_id[row] = trace.spans.span_id[parent as usize];
        }
    }
    // In Zipkin's model both halves name the parent of the client.
    for (half, client) in zipkin_halves {
        trace.spans.parent_span_id[half] = trace.spans.parent_span_id[client];
    }
}

/// Whether a span stands beneath the other half of its call, with which it shares its id.
fn is_half(trace: &Trace, row: usize) -> bool {
    let ids = &trace.spans.span_id;
    matches!(trace.parent[row], ParentRow::Row(parent) if ids[parent as usize] == ids[row])
}

/// The first of those that share an id keeps it: a caller before others, then the earliest.
fn rank(spans: &SpanBatch, row: usize) -> impl Ord + '_ {
    let text = |code: u32| spans.strings.get(code);
    (spans.placing(row).rank(), text(spans.name[row]), text(spans.service_name(row)))
}

/// An id that no span of the trace has.
fn free_id(shared: u64, used: &mut SeededSet<u64>) -> SpanId {
    let mut id = SpanId(shared.to_be_bytes());
    loop {
        id = derived_span_id(id);
        if used.insert(id.as_u64()) {
            return id;
        }
    }
}

#[cfg(test)]
mod tests {
    use tracehouse_model::{Placer, SpanFields, TraceId};
    use tracehouse_query::Reservation;

    use super::*;

    const PAGE: u64 = 1;
    const SHARED: u64 = 2;

    /// A span as (name, id, parent, kind, start).
    type Given = (&'static str, u64, u64, u8, i64);

    /// Callers stand before what they called.
    const SPANS: [Given; 7] = [
        ("page", PAGE, 0, kind::SERVER, 0),
        ("call", SHARED, PAGE, kind::CLIENT, 10),
        ("answer", SHARED, PAGE, kind::SERVER, 20),
        ("work", 3, SHARED, kind::INTERNAL, 30),
        ("second answer", SHARED, 0, kind::SERVER, 25),
        ("other call", SHARED, PAGE, kind::CLIENT, 40),
        ("no call", SHARED, PAGE, kind::INTERNAL, 5),
    ];

    fn trace(given: &[Given]) -> Trace {
        let id = |number: u64| SpanId(number.to_be_bytes());
        let mut spans = SpanBatch::new();
        let resource = spans.finish_resource(0, 0);
        let scope = spans.finish_scope(0, 0, 0, 0);
        for &(name, span_id, parent, kind, start_unix_nanos) in given {
            let name = spans.strings.intern_str(name);
            let (span_id, parent_span_id) = (id(span_id), id(parent));
            let trace_id = TraceId([1; 16]);
            let ids = SpanFields { trace_id, span_id, parent_span_id, ..SpanFields::default() };
            spans.finish_span(SpanFields { name, kind, start_unix_nanos, resource, scope, ..ids });
        }
        let mut parent = Vec::new();
        let placing = |row: usize| spans.placing(row);
        Placer::default().place(&spans.span_id, &spans.parent_span_id, placing, |placed| parent.push(placed));
        Trace {
            tenants: Vec::new(),
            trace_id: TraceId([1; 16]),
            spans,
            parent,
            start_unix_nanos: 0,
            duration_nanos: 0,
            root: None,
            error_count: 0,
            duplicates: 0,
            span_count: given.len() as u64,
            partial_reason: None,
            memory: Reservation::default(),
        }
    }

    /// The id and the parent of each span, by its name.
    fn ids(given: &[Given], halves: Halves) -> Vec<(String, u64, u64)> {
        let mut trace = trace(given);
        make_unique(&mut trace, halves);
        let spans = &trace.spans;
        let of_row = |row: usize| {
            let name = spans.strings.get(spans.name[row]).to_owned();
            (name, spans.span_id[row].as_u64(), spans.parent_span_id[row].as_u64())
        };
        let mut ids: Vec<_> = (0..spans.len()).map(of_row).collect();
        ids.sort();
        ids
    }

    #[test]
    fn each_interface_has_the_ids_that_it_needs() {
        let next = |id: u64| derived_span_id(SpanId(id.to_be_bytes())).as_u64();
        let first = next(SHARED);
        let (second, third) = (next(first), next(next(first)));
        let fourth = next(third);
        let cases = [
            (Halves::Apart, [first, second, fourth, third], SHARED),
            (Halves::OnlyCalls, [first, second, SHARED, SHARED], SHARED),
            // The server keeps the id, and names the parent of the client.
            (Halves::Shared, [SHARED, first, third, second], PAGE),
        ];
        for (halves, [answer, second_answer, no_call, other_call], named_by_answer) in cases {
            let mut expected = [
                ("page", PAGE, 0),
                ("call", SHARED, PAGE),
                ("answer", answer, named_by_answer),
                ("second answer", second_answer, SHARED),
                ("work", 3, answer),
                ("other call", other_call, PAGE),
                ("no call", no_call, PAGE),
            ]
            .map(|(name, id, parent)| (name.to_owned(), id, parent));
            expected.sort();
            assert_eq!(ids(&SPANS, halves), expected);
            // Whichever way they came.
            let mut reversed = SPANS;
            reversed.reverse();
            assert_eq!(ids(&reversed, halves), expected, "reversed");
        }
    }
}
