//! Which traces have a span that satisfies a condition, from columns alone where they decide.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanBufferBuilder};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::TimestampNanosecondType;
use parquet::arrow::arrow_reader::RowSelection;
use parquet::errors::Result;
use rustc_hash::{FxHashMap, FxHashSet};
use tracehouse_model::{SpanBatch, TraceId};
use tracehouse_store::{OpenFile, Projection, Snapshot, SpanFile, StringForm};

use crate::bounds::Bounds;
use crate::column_eval::{ColumnFilter, columns_of};
use crate::compile::Expression;
use crate::row_eval::RowExpression;

/// Matching rows are looked at one by one, if they must be, in blocks of so many.
const ROWS_PER_CHECK: usize = 4096;

/// Traces with a matching span, each with the start of its newest one.
#[derive(Default)]
pub(crate) struct Candidates {
    by_trace: FxHashMap<TraceId, i64>,
    /// They don't come again, even if older spans of theirs are met.
    taken: FxHashSet<TraceId>,
}

impl Candidates {
    pub(crate) fn add(&mut self, trace: TraceId, start: i64) {
        if self.taken.contains(&trace) {
            return;
        }
        let newest = self.by_trace.entry(trace).or_insert(start);
        *newest = (*newest).max(start);
    }

    /// Takes out those whose newest span is newer than a moment: newest first, ties by trace id.
    pub(crate) fn take_newer_than(&mut self, moment: i64) -> Vec<TraceId> {
        let mut newer: Vec<(TraceId, i64)> = self.by_trace.extract_if(|_, start| *start > moment).collect();
        newer.sort_unstable_by(|left, right| (right.1, left.0).cmp(&(left.1, right.0)));
        self.taken.extend(newer.iter().map(|(trace, _)| *trace));
        newer.into_iter().map(|(trace, _)| trace).collect()
    }

    /// About what this takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.by_trace.capacity() * (size_of::<(TraceId, i64)>() + 1)
            + self.taken.capacity() * (size_of::<TraceId>() + 1)
    }
}

/// Looks for the spans that satisfy a condition on spans.
pub(crate) struct Scan<'a> {
    pub(crate) filter: &'a Expression,
    /// Only spans that begin in this range, in nanoseconds.
    pub(crate) start: Range<i64>,
    pub(crate) bounds: &'a Bounds<'a>,
}

impl Scan<'_> {
    /// Files with spans in the range, newest first.
    pub(crate) fn files<'s>(&self, snapshot: &'s Snapshot) -> Vec<&'s Arc<SpanFile>> {
        let in_range =
            |file: &&Arc<SpanFile>| file.record.start_max >= self.start.start && file.record.start_min < self.start.end;
        snapshot.files.iter().filter(in_range).collect()
    }

    pub(crate) fn look_at_memory(&self, spans: &SpanBatch, candidates: &mut Candidates) {
        let filter = RowExpression::new(self.filter, spans, None);
        for row in 0..spans.len() {
            let start = spans.start_unix_nanos[row];
            if self.start.contains(&start) && filter.holds(row) {
                candidates.add(spans.trace_id[row], start);
            }
        }
    }

    /// The traces with matching spans in a row group, each with the start of its newest match.
    pub(crate) fn look_at_row_group(
        &self,
        file: &SpanFile,
        open: &OpenFile,
        row_group: usize,
    ) -> Result<Vec<(TraceId, i64)>> {
        let rows = self.matching_rows(file, open, row_group)?;
        if rows.count_set_bits() == 0 {
            return Ok(Vec::new());
        }
        let selection = RowSelection::from_filters(&[rows.clone().into()]);
        let columns = ["trace_id", "start_time"];
        let reader = self.bounds.scan(open, row_group, &columns, Some(selection), StringForm::View)?;
        let mut found: Vec<(TraceId, i64)> = Vec::new();
        for batch in reader {
            let batch = batch?;
            let ids = batch.column(0).as_fixed_size_binary();
            let starts = batch.column(1).as_primitive::<TimestampNanosecondType>();
            for row in 0..ids.len() {
                let trace = trace_id(ids.value(row));
                let start = starts.value(row);
                match found.last_mut() {
                    Some(last) if last.0 == trace => last.1 = last.1.max(start),
                    _ => found.push((trace, start)),
                }
            }
        }
        Ok(found)
    }

    /// The rows of a row group that satisfy the condition.
    pub(crate) fn matching_rows(&self, file: &SpanFile, open: &OpenFile, row_group: usize) -> Result<BooleanBuffer> {
        if let Some((min, max)) = open.int_range(row_group, "start_time")
            && (max < self.start.start || min >= self.start.end)
        {
            return Ok(BooleanBuffer::new_unset(open.rows_of(row_group)));
        }
        let columns = ColumnFilter {
            filter: self.filter,
            file: open,
            contents: &file.contents,
            row_group,
            start: self.start.clone(),
            bounds: self.bounds,
        };
        let mask = columns.run()?;
        if mask.exact { Ok(mask.rows) } else { self.check_rows(open, row_group, &mask.rows) }
    }

    /// Looks at rows one by one, for conditions that columns can't decide.
    fn check_rows(&self, open: &OpenFile, row_group: usize, rows: &BooleanBuffer) -> Result<BooleanBuffer> {
        let mut held = BooleanBufferBuilder::new(rows.len());
        held.append_n(rows.len(), false);
        let columns = columns_of(self.filter, open.layout());
        let names: Vec<&str> = columns.iter().map(String::as_str).collect();
        let bytes = open.bytes_of(row_group, Some(&names));
        let mut begin = 0;
        while begin < rows.len() {
            let end = (begin + ROWS_PER_CHECK).min(rows.len());
            let block = rows.slice(begin, end - begin);
            if block.count_set_bits() > 0 && !self.bounds.exceeded() {
                self.bounds.count_scanned(bytes, block.len(), rows.len());
                let spans = open.read_rows(row_group, begin..end, Projection::Only(&columns))?;
                let filter = RowExpression::new(self.filter, &spans, None);
                for row in block.set_indices().filter(|&row| filter.holds(row)) {
                    held.set_bit(begin + row, true);
                }
            }
            begin = end;
        }
        Ok(held.finish())
    }
}

fn trace_id(bytes: &[u8]) -> TraceId {
    let mut id = [0; 16];
    id.copy_from_slice(bytes);
    TraceId(id)
}
