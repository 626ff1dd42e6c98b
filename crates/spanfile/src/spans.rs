//! Reads rows of a file as spans.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use parquet::errors::Result;
use tracehouse_model::{SpanBatch, SpanId};

use super::batches::{Batches, contained, missing_rows, wrong_column};
use super::damage::Damaged;
use super::layout::column;
use super::read::{OpenFile, Projection, StringForm};
use super::rows::{TreeIds, named_ids, parent_ids, parent_ids_in, parent_reach, to_spans, tree_ids};

/// What tells the parent of each row.
const PARENT_COLUMNS: [&str; 3] = [column::SPAN_ID, column::PARENT_SPAN_ID, column::PARENT_OFFSET];

impl OpenFile {
    /// Contiguous rows of a row group as spans. Parents outside the rows are looked up.
    pub fn read_rows(&self, row_group: usize, rows: Range<usize>, columns: Projection<'_>) -> Result<SpanBatch> {
        if rows.is_empty() {
            return Ok(SpanBatch::new());
        }
        let batch = match columns {
            Projection::All => self.read_all_columns(row_group, &rows)?,
            Projection::Only(_) => {
                let mut reader = self.read(row_group, columns, Some(select(&rows)), StringForm::View, rows.len())?;
                reader.next().transpose()?.ok_or_else(missing_rows)?
            }
        };
        contained(|| {
            let parents = self.parents_of(&batch, row_group, rows)?;
            to_spans(&batch, self.layout(), &parents)
        })
    }

    /// Some ranges of rows of a row group, ascending and apart, as spans. Each page is decoded once.
    pub fn read_ranges(&self, row_group: usize, ranges: &[Range<usize>], columns: Projection<'_>) -> Result<SpanBatch> {
        if ranges.len() > 1 {
            let selection = RowSelection::from_consecutive_ranges(ranges.iter().cloned(), self.rows_of(row_group));
            let selected = selection.row_count();
            let mut reader = self.read(row_group, columns, Some(selection), StringForm::View, selected)?;
            let batch = reader.next().transpose()?.ok_or_else(missing_rows)?;
            let parents = contained(|| parent_ids_in(&batch, ranges))?;
            if let Some(parents) = parents {
                return contained(|| to_spans(&batch, self.layout(), &parents));
            }
        }
        let mut spans = SpanBatch::new();
        for range in ranges {
            let part = self.read_rows(row_group, range.clone(), columns)?;
            if spans.is_empty() { spans = part } else { spans.append(&part) }
        }
        Ok(spans)
    }

    /// All columns of some rows, read by two threads: there are about a hundred, and somebody waits for the trace.
    fn read_all_columns(&self, row_group: usize, rows: &Range<usize>) -> Result<RecordBatch> {
        let read = |odd: bool| {
            let places = self.file.shape.all_places().filter(move |place| (place % 2 == 1) == odd);
            let mut reader = self.read_places(row_group, places, Some(select(rows)), StringForm::View, rows.len())?;
            reader.next().transpose()?.ok_or_else(missing_rows)
        };
        let (even, odd) = std::thread::scope(|scope| {
            // A machine without a thread to spare says nothing about the file.
            let Ok(odd) = std::thread::Builder::new().spawn_scoped(scope, || read(true)) else {
                return (read(false), read(true));
            };
            let even = read(false);
            (even, odd.join().unwrap_or_else(|_| Err(Damaged::error("what the file holds makes its decoder panic"))))
        });
        let (even, odd) = (even?, odd?);
        let fields = even.schema().fields().iter().chain(odd.schema().fields()).cloned().collect::<Vec<_>>();
        let columns = even.columns().iter().chain(odd.columns()).cloned().collect();
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }

    /// The parent of each row of a batch that was read from these rows.
    fn parents_of(&self, batch: &RecordBatch, row_group: usize, rows: Range<usize>) -> Result<Vec<SpanId>> {
        let reach = parent_reach(batch)?;
        if reach == (0..batch.num_rows() as i64) {
            return parent_ids(batch, 0..batch.num_rows());
        }
        let inside = 0..self.rows_of(row_group) as i64;
        let begin = (rows.start as i64 + reach.start).max(inside.start) as usize;
        let end = (rows.start as i64 + reach.end).min(inside.end) as usize;
        let window = select(&(begin..end));
        let mut ids = self.scan(row_group, &PARENT_COLUMNS, Some(window), StringForm::View, end - begin)?;
        let window = ids.next().transpose()?.ok_or_else(wrong_column)?;
        let first = rows.start - begin;
        parent_ids(&window, first..first + batch.num_rows())
    }

    /// The ids of the rows of a row group and of their parents, each different.
    pub fn tree_ids(&self, row_group: usize) -> Result<TreeIds> {
        let mut ids = TreeIds::default();
        for batch in self.scan(row_group, &PARENT_COLUMNS, None, StringForm::View, self.rows_of(row_group).max(1))? {
            let batch = batch?;
            ids = contained(|| tree_ids(&batch))?;
        }
        Ok(ids)
    }

    /// The ids of the rows of a row group and of the parents that they name, as they are; [`SpanId::NONE`] where one names none.
    pub fn named_ids(&self, row_group: usize) -> Result<TreeIds> {
        let mut ids = TreeIds::default();
        for batch in self.scan(row_group, &PARENT_COLUMNS, None, StringForm::View, self.rows_of(row_group).max(1))? {
            let batch = batch?;
            ids = contained(|| named_ids(&batch))?;
        }
        Ok(ids)
    }

    /// The parent that each row of a row group names; [`SpanId::NONE`] where it names none.
    pub fn parents(&self, row_group: usize) -> Result<Vec<SpanId>> {
        let rows = self.rows_of(row_group);
        let mut parents = Vec::with_capacity(rows);
        for batch in self.scan(row_group, &PARENT_COLUMNS, None, StringForm::View, rows.max(1))? {
            let batch = batch?;
            parents = contained(|| parent_ids(&batch, 0..batch.num_rows()))?;
        }
        Ok(parents)
    }

    /// Reads the whole file in order, a bounded number of rows at a time.
    pub fn stream(self: &Arc<Self>, batch_rows: usize) -> SpanStream {
        SpanStream { file: self.clone(), next_row_group: 0, current: None, batch_rows }
    }
}

/// The spans of a file from first to last.
pub struct SpanStream {
    file: Arc<OpenFile>,
    next_row_group: usize,
    current: Option<StreamedRowGroup>,
    batch_rows: usize,
}

struct StreamedRowGroup {
    reader: Batches,
    parents: Vec<SpanId>,
    next_row: usize,
}

impl Iterator for SpanStream {
    type Item = Result<SpanBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(current) = &mut self.current {
                match current.reader.next() {
                    Some(Ok(batch)) => {
                        let rows = current.next_row..current.next_row + batch.num_rows();
                        current.next_row = rows.end;
                        let parents = &current.parents;
                        return Some(contained(|| to_spans(&batch, self.file.layout(), &parents[rows])));
                    }
                    Some(Err(error)) => return Some(Err(error.into())),
                    None => self.current = None,
                }
            }
            if self.next_row_group == self.file.row_groups() {
                return None;
            }
            match contained(|| self.open_row_group(self.next_row_group)) {
                Ok(opened) => self.current = Some(opened),
                Err(error) => return Some(Err(error)),
            }
            self.next_row_group += 1;
        }
    }
}

impl SpanStream {
    fn open_row_group(&self, row_group: usize) -> Result<StreamedRowGroup> {
        let parents = self.file.parents(row_group)?;
        let reader = self.file.read(row_group, Projection::All, None, StringForm::Dictionary, self.batch_rows)?;
        Ok(StreamedRowGroup { reader, parents, next_row: 0 })
    }
}

pub(super) fn select(rows: &Range<usize>) -> RowSelection {
    RowSelection::from(vec![RowSelector::skip(rows.start), RowSelector::select(rows.len())])
}
