//! Finds traces in a file, and reads their spans.

use std::ops::Range;

use arrow::array::FixedSizeBinaryArray;
use parquet::arrow::arrow_reader::RowSelection;
use parquet::errors::Result;
use tracehouse_model::{SpanBatch, TraceId};

use super::batches::{contained, wrong_column};
use super::layout::column;
use super::read::{OpenFile, Projection, StringForm};
use super::spans::select;
use super::trace_rows::TraceRows;

impl OpenFile {
    /// Where the spans of a trace stand: row groups, and rows in each.
    pub fn find_trace(&self, trace: TraceId) -> Result<Vec<(usize, Range<usize>)>> {
        contained(|| self.find_trace_in_pages(trace))
    }

    fn find_trace_in_pages(&self, trace: TraceId) -> Result<Vec<(usize, Range<usize>)>> {
        let mut found = Vec::new();
        for row_group in 0..self.row_groups() {
            found.extend(self.rows_in_pages(row_group, trace)?.into_iter().map(|rows| (row_group, rows)));
        }
        Ok(found)
    }

    /// Where the spans of a trace stand in a row group.
    pub fn rows_of_trace(&self, row_group: usize, trace: TraceId) -> Result<Vec<Range<usize>>> {
        contained(|| self.rows_in_pages(row_group, trace))
    }

    fn rows_in_pages(&self, row_group: usize, trace: TraceId) -> Result<Vec<Range<usize>>> {
        let Some(pages) = self.pages_that_may_hold(row_group, trace)? else { return Ok(Vec::new()) };
        let reader = self.scan(row_group, &[column::TRACE_ID], Some(select(&pages)), StringForm::View, pages.len())?;
        // Rows of a trace stand together. The id of one that can't be read is unknown.
        let (mut rows, mut row) = (0..0, pages.start);
        for batch in reader {
            let batch = batch?;
            let ids = batch.column(0).as_any().downcast_ref::<FixedSizeBinaryArray>().ok_or_else(wrong_column)?;
            for id in ids {
                if id == Some(trace.0.as_slice()) {
                    rows = if rows.is_empty() { row..row + 1 } else { rows.start..row + 1 };
                }
                row += 1;
            }
        }
        Ok(self.readable_of(row_group, rows).collect())
    }

    /// The parts of some rows that can be read.
    fn readable_of(&self, row_group: usize, rows: Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let parts: Vec<Range<usize>> = match self.readable(row_group) {
            _ if rows.is_empty() => Vec::new(),
            None => vec![rows],
            Some(readable) => {
                let inside = readable.slice(rows.start, rows.len());
                inside.set_slices().map(|(begin, end)| rows.start + begin..rows.start + end).collect()
            }
        };
        parts.into_iter()
    }

    /// Where all traces of each row group stand.
    pub fn trace_rows(&self) -> Result<Vec<TraceRows>> {
        let of_row_group = |row_group: usize| {
            let mut found = TraceRows::default();
            let rows = self.rows_of(row_group).max(1);
            for batch in self.scan(row_group, &[column::TRACE_ID], None, StringForm::View, rows)? {
                let batch = batch?;
                let ids = batch.column(0).as_any().downcast_ref().ok_or_else(wrong_column)?;
                found.push(ids, self.readable(row_group))?;
            }
            Ok(found)
        };
        (0..self.row_groups()).map(of_row_group).collect()
    }

    /// The spans of some traces, which are given sorted, in the order of the file: at most so many, and how many were left
    /// out for that. Where the traces stand is looked up unless it is known.
    pub fn read_traces(
        &self,
        traces: &[TraceId],
        known: Option<&[TraceRows]>,
        columns: Projection<'_>,
        spans_max: usize,
    ) -> Result<(SpanBatch, u64)> {
        let mut spans = SpanBatch::new();
        let (mut left, mut left_out) = (spans_max, 0);
        for row_group in 0..self.row_groups() {
            let found = match known.and_then(|known| known.get(row_group)) {
                Some(known) => traces.iter().filter_map(|&trace| known.of(trace)).collect(),
                None => contained(|| self.rows_of_traces(row_group, traces))?,
            };
            let kept = found.into_iter().map(|rows| {
                let taken = rows.len().min(left);
                left -= taken;
                left_out += (rows.len() - taken) as u64;
                rows.start..rows.start + taken
            });
            let kept: Vec<_> = kept.flat_map(|rows| self.readable_of(row_group, rows)).collect();
            let part = self.read_ranges(row_group, &joined(&kept), columns)?;
            if spans.is_empty() { spans = part } else { spans.append(&part) }
        }
        Ok((spans, left_out))
    }

    /// Where the spans of some traces stand in a row group.
    fn rows_of_traces(&self, row_group: usize, traces: &[TraceId]) -> Result<Vec<Range<usize>>> {
        let mut found: Vec<Range<usize>> = Vec::new();
        let mut last = None;
        let pages = self.pages_that_may_hold_any(row_group, traces)?;
        if pages.is_empty() {
            return Ok(found);
        }
        let rows: usize = pages.iter().map(Range::len).sum();
        let selection = RowSelection::from_consecutive_ranges(pages.iter().cloned(), self.rows_of(row_group));
        let reader = self.scan(row_group, &[column::TRACE_ID], Some(selection), StringForm::View, rows)?;
        let mut row_numbers = pages.into_iter().flatten();
        let mut wanted = traces;
        for batch in reader {
            let batch = batch?;
            let ids = batch.column(0).as_any().downcast_ref::<FixedSizeBinaryArray>().ok_or_else(wrong_column)?;
            for (id, row) in ids.iter().zip(&mut row_numbers) {
                // Not to be read, but a row.
                let Some(id) = id else { continue };
                while wanted.first().is_some_and(|first| first.0.as_slice() < id) {
                    wanted = &wanted[1..];
                }
                let Some(&trace) = wanted.first().filter(|first| first.0.as_slice() == id) else { continue };
                match found.last_mut() {
                    Some(rows) if last == Some(trace) && rows.end == row => rows.end += 1,
                    _ => found.push(row..row + 1),
                }
                last = Some(trace);
            }
        }
        Ok(found)
    }

    /// The rows of the pages of a row group whose range of trace ids includes one of the traces, which are sorted.
    fn pages_that_may_hold_any(&self, row_group: usize, traces: &[TraceId]) -> Result<Vec<Range<usize>>> {
        let holds = |min: &[u8], max: &[u8]| {
            let first = traces.partition_point(|trace| trace.0.as_slice() < min);
            traces.get(first).is_some_and(|trace| trace.0.as_slice() <= max)
        };
        let pages = self.file.index.trace_pages(row_group)?;
        Ok(pages.filter(|(_, min, max)| holds(min, max)).map(|(rows, _, _)| rows).collect())
    }

    /// The rows of the pages of a row group whose range of trace ids includes the trace.
    fn pages_that_may_hold(&self, row_group: usize, trace: TraceId) -> Result<Option<Range<usize>>> {
        let pages = self.pages_that_may_hold_any(row_group, &[trace])?;
        Ok(pages.first().zip(pages.last()).map(|(first, last)| first.start..last.end))
    }

    /// All spans of a trace in this file, with all that belongs to them; at most `spans_max`.
    pub fn read_trace(&self, trace: TraceId, spans_max: usize) -> Result<Option<SpanBatch>> {
        let mut spans = SpanBatch::new();
        for (row_group, rows) in self.find_trace(trace)? {
            let left = spans_max.saturating_sub(spans.len());
            let rows = rows.start..rows.end.min(rows.start.saturating_add(left));
            if rows.is_empty() {
                break;
            }
            let part = self.read_rows(row_group, rows, Projection::All)?;
            if spans.is_empty() { spans = part } else { spans.append(&part) }
        }
        Ok((!spans.is_empty()).then_some(spans))
    }
}

/// Ascending ranges, with those as one that touch each other.
fn joined(ranges: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut joined: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => joined.push(range.clone()),
        }
    }
    joined
}
