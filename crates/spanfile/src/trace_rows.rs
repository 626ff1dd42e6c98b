//! Where the traces of a row group stand: worked out once for whoever looks for many of them.

use std::ops::Range;

use arrow::array::FixedSizeBinaryArray;
use arrow::buffer::BooleanBuffer;
use parquet::errors::Result;
use tracehouse_model::TraceId;

/// The traces of a row group, whose rows are sorted by trace.
#[derive(Debug, Default)]
pub struct TraceRows {
    traces: Vec<TraceId>,
    /// The first row of each.
    first_rows: Vec<u32>,
    rows: u32,
    /// Rows whose trace could not be read.
    unknown: u32,
}

impl TraceRows {
    /// The rows of a trace.
    pub fn of(&self, trace: TraceId) -> Option<Range<usize>> {
        let at = self.traces.binary_search(&trace).ok()?;
        let end = self.first_rows.get(at + 1).copied().unwrap_or(self.rows);
        Some(self.first_rows[at] as usize..end as usize)
    }

    /// The traces whose ids begin with a byte.
    pub fn beginning_with(&self, byte: u8) -> &[TraceId] {
        let first = self.traces.partition_point(|trace| trace.0[0] < byte);
        let end = self.traces.partition_point(|trace| trace.0[0] <= byte);
        &self.traces[first..end]
    }

    /// All traces and the rows of each, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (TraceId, Range<usize>)> {
        let ends = self.first_rows.iter().skip(1).copied().chain([self.rows]);
        let rows = self.first_rows.iter().zip(ends).map(|(&first, end)| first as usize..end as usize);
        self.traces.iter().copied().zip(rows)
    }

    /// Whether it is known of each row of which trace it is.
    pub fn is_whole(&self) -> bool {
        self.unknown == 0
    }

    /// What this takes in memory.
    pub fn bytes(&self) -> usize {
        self.traces.capacity() * size_of::<TraceId>() + self.first_rows.capacity() * size_of::<u32>()
    }

    /// Adds rows. The id of a row that can't be read is unknown; it counts to the trace before it, as rows of a trace stand together.
    pub fn push(&mut self, ids: &FixedSizeBinaryArray, readable: Option<&BooleanBuffer>) -> Result<()> {
        for (row, id) in ids.iter().enumerate() {
            if readable.is_some_and(|readable| !readable.value(row)) {
                self.rows += 1;
                self.unknown += 1;
                continue;
            }
            let id = id.and_then(|id| id.try_into().ok()).map(TraceId).ok_or_else(super::batches::wrong_column)?;
            match self.traces.last() {
                Some(last) if *last == id => {}
                Some(last) if *last > id => {
                    return Err(super::rows::damaged("the rows of a file are not sorted by trace"));
                }
                _ => {
                    self.traces.push(id);
                    self.first_rows.push(self.rows);
                }
            }
            self.rows += 1;
        }
        Ok(())
    }
}
