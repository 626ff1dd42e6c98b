//! Rows of a row group as spans, block by block.

use std::ops::Range;

use arrow::buffer::BooleanBuffer;
use parquet::errors::Result;
use tracehouse_model::SpanBatch;
use tracehouse_store::{OpenFile, Projection};

use crate::bounds::Bounds;
use crate::fault::{no_room, row_bytes};

/// Bytes of a block in memory.
const BLOCK_BYTES: usize = 8 << 20;

/// Shows the wanted rows of a row group as spans, in blocks of at most `rows_max` rows, and fewer where they are large. Given
/// are the spans, which rows of the row group they are, and which of them are wanted, counted from the first. Stops early,
/// without an error, when a bound is met or `look` says false.
pub fn for_each_block(
    bounds: &Bounds,
    open: &OpenFile,
    row_group: usize,
    wanted: &BooleanBuffer,
    columns: Option<&[String]>,
    rows_max: usize,
    mut look: impl FnMut(&SpanBatch, Range<usize>, &[usize]) -> Result<bool>,
) -> Result<()> {
    let names: Option<Vec<&str>> = columns.map(|columns| columns.iter().map(String::as_str).collect());
    let projection = columns.map_or(Projection::All, Projection::Only);
    let bytes = open.bytes_of(row_group, names.as_deref());
    // A row is an array's first, and then a span's.
    let bytes_of_row = 2 * row_bytes(open, row_group, names.as_deref());
    let rows_at_once = (BLOCK_BYTES / bytes_of_row).clamp(1, rows_max.max(1));
    let mut begin = 0;
    while begin < wanted.len() && !bounds.exceeded() {
        let end = (begin + rows_at_once).min(wanted.len());
        let inside: Vec<usize> = wanted.slice(begin, end - begin).set_indices().collect();
        if let (Some(&first), Some(&last)) = (inside.first(), inside.last()) {
            let rows = begin + first..begin + last + 1;
            bounds.count_scanned(bytes, rows.len(), wanted.len());
            let _held = bounds.held(rows.len().saturating_mul(bytes_of_row)).map_err(no_room)?;
            let spans = open.read_rows(row_group, rows.clone(), projection)?;
            let inside: Vec<usize> = inside.into_iter().map(|row| row - first).collect();
            if !look(&spans, rows, &inside)? {
                return Ok(());
            }
        }
        begin = end;
    }
    Ok(())
}
