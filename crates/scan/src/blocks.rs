//! Rows of a row group as spans, block by block.

use std::ops::Range;

use arrow::buffer::BooleanBuffer;
use parquet::errors::Result;
use tracehouse_model::SpanBatch;
use tracehouse_spanfile::Projection;

use crate::fault::{no_room, row_bytes};
use crate::held::Held;
use crate::rows::RowGroup;

/// Bytes of a block in memory.
const BLOCK_BYTES: usize = 8 << 20;

impl RowGroup<'_> {
    /// Shows the wanted rows as spans, in blocks of at most `rows_max` rows, and fewer where they are large. Given are the spans,
    /// which rows of the row group they are, and which of them are wanted, counted from the first. Stops early, without an error,
    /// when a bound is met or `look` says false.
    pub fn each_block(
        &self,
        wanted: &BooleanBuffer,
        columns: Option<&[String]>,
        rows_max: usize,
        mut look: impl FnMut(&SpanBatch, Range<usize>, &[usize]) -> Result<bool>,
    ) -> Result<()> {
        let rows_at_once = (BLOCK_BYTES / self.bytes_of_span(columns)).clamp(1, rows_max.max(1));
        let mut begin = 0;
        while begin < wanted.len() && !self.bounds.exceeded() {
            let end = (begin + rows_at_once).min(wanted.len());
            let inside: Vec<usize> = wanted.slice(begin, end - begin).set_indices().collect();
            if let (Some(&first), Some(&last)) = (inside.first(), inside.last()) {
                let rows = begin + first..begin + last + 1;
                let (spans, _held) = self.spans(rows.clone(), columns)?;
                let inside: Vec<usize> = inside.into_iter().map(|row| row - first).collect();
                if !look(&spans, rows, &inside)? {
                    return Ok(());
                }
            }
            begin = end;
        }
        Ok(())
    }

    /// Rows that follow each other as spans, and the memory for them.
    pub fn spans(&self, rows: Range<usize>, columns: Option<&[String]>) -> Result<(SpanBatch, Held)> {
        let names: Option<Vec<&str>> = columns.map(|columns| columns.iter().map(String::as_str).collect());
        self.bounds.count_scanned(self.open.bytes_of(self.number, names.as_deref()), rows.len(), self.rows());
        let held = self.bounds.held(rows.len().saturating_mul(self.bytes_of_span(columns))).map_err(no_room)?;
        let projection = columns.map_or(Projection::All, Projection::Only);
        Ok((self.open.read_rows(self.number, rows, projection)?, held))
    }

    /// What a row takes: it is an array's first, and then a span's.
    fn bytes_of_span(&self, columns: Option<&[String]>) -> usize {
        let names: Option<Vec<&str>> = columns.map(|columns| columns.iter().map(String::as_str).collect());
        2 * row_bytes(self.open, self.number, names.as_deref())
    }
}
