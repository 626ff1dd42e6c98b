//! The order of spans in a file: by trace id, then start; copies left out; parents as row offsets.

use std::borrow::Borrow;
use std::ops::Range;

use tracehouse_model::{ContentHasher, CopyKey, ParentRow, Placer, Placing, SeededEntry, SeededMap, SpanBatch, SpanId};

/// A span among several batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RowRef {
    pub batch: u32,
    pub row: u32,
}

/// Spans in file order.
#[derive(Default)]
pub struct OrderedSpans {
    pub rows: Vec<RowRef>,
    /// When each begins: where they stand in the batches is far from here.
    pub starts_unix_nanos: Vec<i64>,
    /// Rows at which a new trace begins, ending with the number of rows.
    pub trace_starts: Vec<usize>,
    /// Copies of spans that were left out.
    pub duplicates: u64,
}

impl OrderedSpans {
    fn push(&mut self, at: RowRef, start_unix_nanos: i64) {
        self.rows.push(at);
        self.starts_unix_nanos.push(start_unix_nanos);
    }

    /// Leaves out further copies.
    pub fn leave_out(&mut self, is_copy: impl Fn(&RowRef) -> bool) {
        let mut kept = 0;
        for trace in 1..self.trace_starts.len() {
            let (begin, end) = (self.trace_starts[trace - 1], self.trace_starts[trace]);
            self.trace_starts[trace - 1] = kept;
            for at in begin..end {
                if !is_copy(&self.rows[at]) {
                    self.rows[kept] = self.rows[at];
                    self.starts_unix_nanos[kept] = self.starts_unix_nanos[at];
                    kept += 1;
                }
            }
        }
        if let Some(end) = self.trace_starts.last_mut() {
            *end = kept;
        }
        self.duplicates += (self.rows.len() - kept) as u64;
        self.rows.truncate(kept);
        self.starts_unix_nanos.truncate(kept);
    }
}

/// Sorts the given rows of the batches and drops copies ([`SpanBatch::is_copy`]). The first in the order of batches and rows stays.
pub fn order_spans(batches: &[&SpanBatch], rows: impl Iterator<Item = RowRef>) -> OrderedSpans {
    let mut keys: Vec<(u128, i64, RowRef)> = rows
        .map(|at| {
            let batch = batches[at.batch as usize];
            (batch.trace_id[at.row as usize].as_u128(), batch.start_unix_nanos[at.row as usize], at)
        })
        .collect();
    keys.sort_unstable_by_key(|&(trace, start, at)| (trace, start, at.batch, at.row));
    let mut ordered = OrderedSpans {
        rows: Vec::with_capacity(keys.len()),
        starts_unix_nanos: Vec::with_capacity(keys.len()),
        ..OrderedSpans::default()
    };
    let mut seen = SeenSpans::default();
    for trace in keys.chunk_by(|left, right| left.0 == right.0) {
        ordered.trace_starts.push(ordered.rows.len());
        // Copies begin at the same moment.
        for together in trace.chunk_by(|left, right| left.1 == right.1) {
            if let [(_, start, only)] = together {
                ordered.push(*only, *start);
                continue;
            }
            seen.begin();
            for &(_, start, at) in together {
                if seen.insert(&batches[at.batch as usize], at.row as usize) {
                    ordered.push(at, start);
                } else {
                    ordered.duplicates += 1;
                }
            }
        }
    }
    ordered.trace_starts.push(ordered.rows.len());
    ordered
}

/// The spans of one trace and start that were seen so far: a list for the usual few, tables for many. `B` holds a batch.
pub struct SeenSpans<B> {
    list: Vec<(CopyKey, B, usize)>,
    /// Of each key the first span.
    first: SeededMap<CopyKey, (B, usize)>,
    /// Further spans under a key that was met, by their content.
    others: SeededMap<u64, (B, usize)>,
    hasher: ContentHasher,
}

impl<B> Default for SeenSpans<B> {
    fn default() -> Self {
        Self {
            list: Vec::new(),
            first: SeededMap::default(),
            others: SeededMap::default(),
            hasher: ContentHasher::default(),
        }
    }
}

impl<B: Borrow<SpanBatch> + Clone> SeenSpans<B> {
    const LIST_MAX: usize = 48;

    pub fn begin(&mut self) {
        self.list.clear();
        self.first.clear();
        self.others.clear();
    }

    /// Whether the span is new: no copy of one that was seen.
    #[inline]
    pub fn insert(&mut self, batch: &B, row: usize) -> bool {
        let spans: &SpanBatch = batch.borrow();
        let key = spans.copy_key(row);
        if self.first.is_empty() && self.list.len() < Self::LIST_MAX {
            let mut known = self.list.iter().filter(|(known, ..)| *known == key);
            if known.any(|(_, known, at)| spans.is_copy(row, known.borrow(), *at)) {
                return false;
            }
            self.list.push((key, batch.clone(), row));
            return true;
        }
        for (_, batch, row) in std::mem::take(&mut self.list) {
            self.insert_in_table(&batch, row);
        }
        self.insert_in_table(batch, row)
    }

    fn insert_in_table(&mut self, batch: &B, row: usize) -> bool {
        let spans: &SpanBatch = batch.borrow();
        let met = |(known, at): &(B, usize)| spans.is_copy(row, known.borrow(), *at);
        match self.first.entry(spans.copy_key(row)) {
            SeededEntry::Vacant(entry) => {
                entry.insert((batch.clone(), row));
                return true;
            }
            SeededEntry::Occupied(entry) if met(entry.get()) => return false,
            SeededEntry::Occupied(_) => {}
        }
        match self.others.entry(self.hasher.hash(spans, row)) {
            SeededEntry::Vacant(entry) => {
                entry.insert((batch.clone(), row));
                true
            }
            SeededEntry::Occupied(entry) => !met(entry.get()),
        }
    }
}

/// A parent further away than this is stored by its id, so that a reader needs only a bounded window of rows.
pub const PARENT_OFFSET_MAX: usize = 1 << 16;

/// For each row of a row group how many rows before it its parent stands ([`Placer`]); `None` if the span has no parent, or one that is
/// not among the rows of its trace or far from it. `ids`, `parents`: of each row. `traces`: the rows of each trace, one after the other.
pub(crate) fn parent_offsets(
    traces: impl Iterator<Item = Range<usize>>,
    ids: &[SpanId],
    parents: &[SpanId],
    placing: impl Fn(usize) -> Placing,
) -> Vec<Option<i32>> {
    let mut offsets = Vec::with_capacity(ids.len());
    let mut placer = Placer::default();
    for trace in traces {
        let begin = trace.start;
        placer.place(
            &ids[trace.clone()],
            &parents[trace],
            |row| placing(begin + row),
            |parent| {
                let row = offsets.len() - begin;
                let found = if let ParentRow::Row(found) = parent { Some(found as usize) } else { None };
                let near = found.filter(|found| found.abs_diff(row) <= PARENT_OFFSET_MAX);
                offsets.push(near.map(|found| row as i32 - found as i32));
            },
        );
    }
    offsets
}

#[cfg(test)]
mod tests {
    use tracehouse_model::{SpanFields, TraceId};

    use super::*;

    #[test]
    fn starts_are_those_of_the_rows() {
        let mut batch = SpanBatch::new();
        let (resource, scope) = (batch.finish_resource(0, 0), batch.finish_scope(0, 0, 0, 0));
        for row in 0..40u8 {
            let trace_id = TraceId([1 + row % 5; 16]);
            let (span_id, start_unix_nanos) = (SpanId([1 + row; 8]), i64::from(row * 7 % 40));
            let fields = SpanFields { trace_id, span_id, start_unix_nanos, resource, scope, ..SpanFields::default() };
            batch.finish_span(fields);
        }
        let start_of = |at: &RowRef| batch.start_unix_nanos[at.row as usize];
        let mut ordered = order_spans(&[&batch], (0..40).map(|row| RowRef { batch: 0, row }));
        assert!(ordered.rows.iter().map(start_of).eq(ordered.starts_unix_nanos.iter().copied()));
        ordered.leave_out(|at| at.row % 3 == 0);
        assert_eq!((ordered.rows.len(), ordered.duplicates, ordered.trace_starts.len()), (26, 14, 6));
        assert!(ordered.rows.iter().map(start_of).eq(ordered.starts_unix_nanos.iter().copied()));
        for trace in ordered.trace_starts.windows(2) {
            let of_trace = &ordered.rows[trace[0]..trace[1]];
            assert!(
                of_trace
                    .windows(2)
                    .all(|two| batch.trace_id[two[0].row as usize] == batch.trace_id[two[1].row as usize])
            );
            assert!(of_trace.windows(2).all(|two| start_of(&two[0]) <= start_of(&two[1])));
        }
    }
}
