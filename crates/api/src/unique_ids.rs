//! Ids of spans for interfaces whose clients take two spans with one id for one.
//!
//! Spans of a trace share an id where a client and a server record one call under it (Zipkin's model), or where a sender uses an
//! id twice. All are kept; here each but one gets an id of its own. Which one depends on nothing but what the spans say.

use tracehouse_model::{SeededMap, SeededSet, SpanBatch, SpanId, kind};
use tracehouse_query::{ParentRow, Trace};

/// What becomes of a client and a server that share an id.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Halves {
    /// The server gets an id of its own, and the client as its parent, as in Jaeger.
    Apart,
    /// They keep it: the server is marked as the half of a shared span, as in Zipkin.
    Shared,
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
    let mut shared: Vec<(u64, Vec<usize>)> = rows_of.into_iter().filter(|(_, rows)| rows.len() > 1).collect();
    shared.sort_unstable();
    let mut halves_of_clients: Vec<(usize, usize)> = Vec::new();
    for (id, mut rows) in shared {
        rows.sort_by(|&one, &other| rank(&trace.spans, one).cmp(&rank(&trace.spans, other)));
        let client = rows[0];
        let half = rows.iter().copied().find(|&row| trace.spans.kind[row] == kind::SERVER);
        let half = half.filter(|_| trace.spans.kind[client] == kind::CLIENT);
        halves_of_clients.extend(half.map(|half| (half, client)));
        for row in rows.into_iter().skip(1) {
            if halves == Halves::Apart || Some(row) != half {
                trace.spans.span_id[row] = free_id(id, &mut used);
            }
        }
    }
    for row in 0..trace.spans.len() {
        if let ParentRow::Row(parent) = trace.parent[row] {
            trace.spans.parent_span_id[row] = trace.spans.span_id[parent as usize];
        }
    }
    if halves == Halves::Apart {
        for (half, client) in halves_of_clients {
            trace.spans.parent_span_id[half] = trace.spans.span_id[client];
        }
    }
}

/// The first of those that share an id keeps it: a client before others, then the earliest.
fn rank(spans: &SpanBatch, row: usize) -> (bool, i64, i64, u8, &str, &str, u64) {
    let text = |code: u32| spans.strings.get(code);
    (
        spans.kind[row] != kind::CLIENT,
        spans.start_unix_nanos[row],
        spans.duration_nanos[row],
        spans.kind[row],
        text(spans.name[row]),
        text(spans.service_name(row)),
        spans.parent_span_id[row].as_u64(),
    )
}

/// An id that no span of the trace has.
fn free_id(shared: u64, used: &mut SeededSet<u64>) -> SpanId {
    // Odd, so that the steps come by every number before one comes again; and far from the ids of senders that count.
    const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut id = shared;
    loop {
        id = id.wrapping_add(STEP);
        if id != 0 && used.insert(id) {
            return SpanId(id.to_be_bytes());
        }
    }
}
