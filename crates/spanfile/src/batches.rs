//! Rows of a file as batches of Arrow arrays, and what becomes of damage on the way.

use std::sync::Arc;

use arrow::array::{BooleanBufferBuilder, RecordBatch, RecordBatchReader};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use parking_lot::Mutex;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, RowSelection};
use parquet::errors::{ParquetError, Result};

use super::damage::Damaged;

/// What [`super::OpenFile::scan`] reads. Ends after an error.
pub struct Batches {
    rows: Rows,
    failed: bool,
}

pub(super) enum Rows {
    Read(RowReader),
    /// Of a row group that is damaged: the rows that can't be read are null.
    Made {
        all: RecordBatch,
        next: usize,
        batch_rows: usize,
    },
}

/// Reads rows. Parquet's own reader makes a text of what went wrong with a page, which no longer tells damage from errors of the
/// machine: here it comes as it was.
pub(super) struct RowReader {
    inner: ParquetRecordBatchReader,
    cause: Cause,
}

/// Why a page could not be read, once one could not.
#[derive(Clone, Default)]
pub(super) struct Cause(Arc<Mutex<Option<ParquetError>>>);

impl Cause {
    /// Keeps an error; gives another that says the same.
    pub(super) fn keep(&self, error: ParquetError) -> ParquetError {
        let text = ParquetError::General(error.to_string());
        *self.0.lock() = Some(error);
        text
    }

    fn take(&self) -> Option<ParquetError> {
        self.0.lock().take()
    }
}

impl RowReader {
    /// `make` is given what the pages that are read must tell their errors to.
    pub(super) fn new(make: impl FnOnce(Cause) -> Result<ParquetRecordBatchReader>) -> Result<Self> {
        let cause = Cause::default();
        let inner = contained(|| make(cause.clone())).map_err(|error| cause.take().unwrap_or(error))?;
        Ok(Self { inner, cause })
    }

    pub(super) fn schema(&self) -> SchemaRef {
        self.inner.schema()
    }

    pub(super) fn next(&mut self) -> Option<std::result::Result<RecordBatch, ArrowError>> {
        let next = contained(|| Ok(self.inner.next())).unwrap_or_else(|error| Some(Err(error.into())));
        let with_cause = |error| match self.cause.take() {
            Some(cause) => ArrowError::ExternalError(Box::new(cause)),
            None => error,
        };
        next.map(|batch| batch.map_err(with_cause))
    }
}

impl From<Rows> for Batches {
    fn from(rows: Rows) -> Self {
        Self { rows, failed: false }
    }
}

impl Rows {
    fn next(&mut self) -> Option<std::result::Result<RecordBatch, ArrowError>> {
        match self {
            Rows::Read(reader) => reader.next(),
            Rows::Made { all, next, batch_rows } => {
                let rows = (all.num_rows() - *next).min(*batch_rows);
                let batch = all.slice(*next, rows);
                *next += rows;
                (rows > 0).then_some(Ok(batch))
            }
        }
    }
}

impl Iterator for Batches {
    type Item = std::result::Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.rows.next();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

/// Damaged bytes can make the decoders panic: to whoever reads that is an error like any other.
pub(super) fn contained<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    let panicked = |_| Err(Damaged::error("what the file holds makes its decoder panic"));
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)).unwrap_or_else(panicked)
}

pub(super) fn mask_of(selection: &RowSelection, rows: usize) -> BooleanBuffer {
    let mut mask = BooleanBufferBuilder::new(rows);
    for part in selection.iter() {
        mask.append_n(part.row_count, !part.skip);
    }
    mask.append_n(rows.saturating_sub(mask.len()), false);
    mask.finish()
}

pub(super) fn missing_rows() -> ParquetError {
    ParquetError::General("the file has fewer rows than its footer says".into())
}

pub(super) fn wrong_column() -> ParquetError {
    ParquetError::General("a column has another type than its file's layout says".into())
}
