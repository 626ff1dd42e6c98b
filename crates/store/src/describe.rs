//! Describes files that have no description: those of layout version 1 whose catalogue was lost. All rows are read.

use std::io;

use parquet::errors::ParquetError;
use tracehouse_spanfile::{
    AttributeCounts, FileIdentity, MergedStrings, OpenFile, Packing, Projection, RowRef, SpanFileWriter, WrittenFile,
};

/// Rows that are read at a time.
const ROWS_AT_A_TIME: usize = 4096;

/// What the writer of a file would have said of it. Some names may be missing that a reader could do without.
pub(crate) fn describe_rows(open: &OpenFile) -> Result<WrittenFile, ParquetError> {
    let mut counts = AttributeCounts::default();
    let nobody = FileIdentity { id: "", tenant: "", merged_from: Vec::new() };
    let mut writer = SpanFileWriter::new(io::sink(), counts.layout(), Packing::FLUSH, nobody)?;
    for row_group in 0..open.row_groups() {
        let rows = open.rows_of(row_group);
        for begin in (0..rows).step_by(ROWS_AT_A_TIME) {
            let batch = open.read_rows(row_group, begin..rows.min(begin + ROWS_AT_A_TIME), Projection::All)?;
            counts.add_batch(&batch);
            let all: Vec<RowRef> = (0..batch.len() as u32).map(|row| RowRef { batch: 0, row }).collect();
            let mut strings = MergedStrings::of(&[&batch]);
            writer.write_row_group(&[&batch], &all, &mut strings)?;
        }
    }
    Ok(writer.finish(&counts)?.1)
}
