//! The order of spans in a file: by trace id, then start; redelivered spans left out; parents as row offsets.

use tracehouse_model::{SeededMap, SpanBatch, SpanId, kind};

/// A span among several batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RowRef {
    pub(crate) batch: u32,
    pub(crate) row: u32,
}

/// Spans in file order.
#[derive(Default)]
pub(crate) struct OrderedSpans {
    pub(crate) rows: Vec<RowRef>,
    /// Rows at which a new trace begins, ending with the number of rows.
    pub(crate) trace_starts: Vec<usize>,
    /// Copies of spans that were left out.
    pub(crate) duplicates: u64,
}

/// Sorts the given rows of the batches and drops redelivered spans: those with the trace id, span id and kind of a
/// span already seen. The first in the order of batches and rows stays.
pub(crate) fn order_spans(batches: &[&SpanBatch], rows: impl Iterator<Item = RowRef>) -> OrderedSpans {
    let mut keys: Vec<(u128, i64, RowRef)> = rows
        .map(|at| {
            let batch = batches[at.batch as usize];
            (batch.trace_id[at.row as usize].as_u128(), batch.start_unix_nanos[at.row as usize], at)
        })
        .collect();
    keys.sort_unstable_by_key(|&(trace, start, at)| (trace, start, at.batch, at.row));
    let mut ordered = OrderedSpans { rows: Vec::with_capacity(keys.len()), ..OrderedSpans::default() };
    let mut seen = SeenSpans::default();
    for trace in keys.chunk_by(|left, right| left.0 == right.0) {
        ordered.trace_starts.push(ordered.rows.len());
        seen.begin_trace(trace.len());
        for &(_, _, at) in trace {
            let batch = batches[at.batch as usize];
            if seen.insert(batch.span_id[at.row as usize], batch.kind[at.row as usize]) {
                ordered.rows.push(at);
            } else {
                ordered.duplicates += 1;
            }
        }
    }
    ordered.trace_starts.push(ordered.rows.len());
    ordered
}

/// The spans of one trace seen so far: a list for the many small traces, a table for the few large ones.
#[derive(Default)]
pub(crate) struct SeenSpans {
    list: Vec<(u64, u8)>,
    table: SeededMap<(u64, u8), ()>,
    large: bool,
}

impl SeenSpans {
    const LIST_MAX: usize = 48;

    pub(crate) fn begin_trace(&mut self, spans: usize) {
        self.list.clear();
        self.table.clear();
        self.large = spans > Self::LIST_MAX;
    }

    /// Gives the spans of a small trace away, when it turns out to be large.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (u64, u8)> + '_ {
        self.list.drain(..)
    }

    /// Whether the span is new.
    #[inline]
    pub(crate) fn insert(&mut self, span: SpanId, kind: u8) -> bool {
        let key = (span.as_u64(), kind);
        if self.large {
            return self.table.insert(key, ()).is_none();
        }
        if self.list.contains(&key) {
            return false;
        }
        self.list.push(key);
        true
    }
}

/// A parent further away than this is stored by its id, so that a reader needs only a bounded window of rows.
pub(crate) const PARENT_OFFSET_MAX: usize = 1 << 16;

/// For each of the rows `begin..end` of one trace, how many rows before it its parent stands; `None` if the span has
/// no parent or the parent is not among these rows.
pub(crate) fn parent_offsets(
    batches: &[&SpanBatch],
    rows: &[RowRef],
    by_id: &mut SeededMap<u64, u32>,
    out: &mut Vec<Option<i32>>,
) {
    const SCAN_MAX: usize = 24;
    let span_id = |at: RowRef| batches[at.batch as usize].span_id[at.row as usize];
    let large = rows.len() > SCAN_MAX;
    if large {
        by_id.clear();
        for (row, &at) in rows.iter().enumerate() {
            let server = batches[at.batch as usize].kind[at.row as usize] == kind::SERVER;
            let entry = by_id.entry(span_id(at).as_u64()).or_insert(row as u32);
            // Zipkin's client and server span of one call may share an id: children belong to the server.
            if server {
                *entry = row as u32;
            }
        }
    }
    for (row, &at) in rows.iter().enumerate() {
        let parent = batches[at.batch as usize].parent_span_id[at.row as usize];
        if parent.is_none() {
            out.push(None);
            continue;
        }
        let found = if large {
            by_id.get(&parent.as_u64()).map(|&found| found as usize)
        } else {
            let is_parent = |(candidate, at): &(usize, &RowRef)| *candidate != row && span_id(**at) == parent;
            let mut candidates = rows.iter().enumerate().filter(is_parent);
            let first = candidates.next();
            let is_server = |at: &RowRef| batches[at.batch as usize].kind[at.row as usize] == kind::SERVER;
            let server = first.filter(|(_, at)| is_server(at)).or_else(|| candidates.find(|(_, at)| is_server(at)));
            server.or(first).map(|(candidate, _)| candidate)
        };
        let offset = found.filter(|&found| found != row && found.abs_diff(row) <= PARENT_OFFSET_MAX);
        out.push(offset.map(|found| row as i32 - found as i32));
    }
}
