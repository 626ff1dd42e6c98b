//! What may go wrong with a file, and the ways to a file that may.
//!
//! Whatever reads the disk is asked for here, so that one place decides what an error means.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use arrow::buffer::BooleanBuffer;
use parquet::errors::ParquetError;
use tracehouse_disk::is_absent;
use tracehouse_memory::OutOfMemory;
use tracehouse_model::{SpanBatch, TraceId};
use tracehouse_spanfile::{FileContents, OpenFile, Projection, is_damage};
use tracehouse_store::SpanFile;

/// Why a piece of work on a file was not done.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The bytes of the file are at fault.
    #[error("damaged: {0}")]
    Damage(String),
    /// The machine is: the file may be whole.
    #[error("not readable at the moment: {0}")]
    Machine(String),
    /// It is not there, or something else is in its place. The store names such a file once, and counts it as missing from then on.
    #[error("missing: {0}")]
    Absent(String),
    /// The question has no memory left. Nothing is wrong with the file.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
}

impl From<ParquetError> for Fault {
    fn from(error: ParquetError) -> Self {
        if let Some(out_of_memory) = out_of_memory(&error) {
            return Fault::Memory(out_of_memory);
        }
        let ParquetError::External(cause) = &error else {
            let reason = error.to_string();
            return if is_damage(&error) { Fault::Damage(reason) } else { Fault::Machine(reason) };
        };
        let cause = innermost(cause.as_ref()).to_string();
        if is_absent(&error) {
            Fault::Absent(cause)
        } else if is_damage(&error) {
            Fault::Damage(cause.trim_start_matches("damaged: ").to_owned())
        } else {
            Fault::Machine(cause)
        }
    }
}

/// What went wrong: readers wrap each other's errors, and each says it once more.
fn innermost<'a>(error: &'a (dyn std::error::Error + 'static)) -> &'a (dyn std::error::Error + 'static) {
    let mut innermost = error;
    while let Some(inner) = innermost.source() {
        innermost = inner;
    }
    innermost
}

/// A question without memory, for functions that read.
pub fn no_room(error: OutOfMemory) -> ParquetError {
    ParquetError::External(Box::new(error))
}

/// What an error says if it is that a question has no memory left.
pub fn out_of_memory(error: &ParquetError) -> Option<OutOfMemory> {
    let ParquetError::External(cause) = error else { return None };
    cause.downcast_ref::<OutOfMemory>().copied()
}

/// What is known of what occurs in a file. It is read when it is first asked for: most questions about a file that is open
/// need none of it.
#[derive(Clone)]
pub struct Contents(Option<OfFile>);

#[derive(Clone)]
struct OfFile {
    file: Arc<SpanFile>,
    open: OnceLock<Option<Arc<OpenFile>>>,
    known: OnceLock<Option<Arc<FileContents>>>,
}

impl Contents {
    /// Anything may occur.
    pub const UNKNOWN: Self = Self(None);

    /// Of a file that is open.
    pub fn of_open(file: &Arc<SpanFile>, open: &Arc<OpenFile>) -> Self {
        let open = OnceLock::from(Some(open.clone()));
        Self(Some(OfFile { file: file.clone(), open, known: OnceLock::new() }))
    }

    /// `None`: nothing is known, so anything may occur. May block on the disk or the network.
    pub fn known(&self) -> Option<&FileContents> {
        let OfFile { file, known, .. } = self.0.as_ref()?;
        known.get_or_init(|| file.contents().ok()).as_deref()
    }

    /// Whether a column is known to hold all attributes of its key.
    pub(crate) fn stands_alone(&self, column: &str) -> bool {
        let open = self.0.as_ref().and_then(|of_file| of_file.open.get()?.as_ref());
        open.is_some_and(|open| open.holds_alone(column))
    }

    /// The file, opened if it was not yet. `None`: it can't be, or nothing is known. May block on the disk or the network.
    pub(crate) fn opened(&self) -> Option<&OpenFile> {
        let of_file = self.0.as_ref()?;
        of_file.open.get_or_init(|| open(&of_file.file).ok()).as_deref()
    }
}

/// Opens a file for a question. May block on the disk or the network.
pub fn open(file: &Arc<SpanFile>) -> Result<Arc<OpenFile>, ParquetError> {
    file.open_for_question().map_err(|error| error.source)
}

/// What follows once reading a file has failed for the `tries`th time, as it was opened for that: the file to go on with,
/// which reads around the damage that was met. It is the error again if nothing would be different now.
pub(crate) fn again(
    file: &Arc<SpanFile>,
    failed: Option<&OpenFile>,
    error: ParquetError,
    tries: usize,
) -> Result<Arc<OpenFile>, ParquetError> {
    if out_of_memory(&error).is_some() {
        return Err(error);
    }
    if !is_damage(&error) {
        file.check(&error);
        // They come once at times.
        return if tries > 1 { Err(error) } else { open(file) };
    }
    match failed.filter(|failed| failed.knows_damage()) {
        // What is left has another fault than its pages.
        Some(failed) => failed.around_met().map(Arc::new).ok_or(error),
        None => {
            // Another thread may have found out meanwhile.
            file.check(&error);
            let open = open(file)?;
            if open.knows_damage() { Ok(open) } else { Err(error) }
        }
    }
}

/// What occurs in a file. If that can't be read the spans may still be.
pub fn contents_of(file: &Arc<SpanFile>) -> Contents {
    Contents(Some(OfFile { file: file.clone(), open: OnceLock::new(), known: OnceLock::new() }))
}

/// Whether a file may have spans of a trace: it may if that can't be read. May block on the disk or the network.
pub fn may_contain(file: &SpanFile, trace: TraceId) -> bool {
    file.may_contain(trace).unwrap_or(true)
}

/// The rows of a row group that may be used; `None`: all of them.
pub fn readable(open: &OpenFile, row_group: usize) -> Option<BooleanBuffer> {
    open.readable(row_group).cloned()
}

/// Rows of a row group as spans, those alone that can be read.
pub fn read_rows(
    open: &OpenFile,
    row_group: usize,
    rows: Range<usize>,
    columns: Projection<'_>,
) -> Result<SpanBatch, ParquetError> {
    let Some(readable) = open.readable(row_group) else { return open.read_rows(row_group, rows, columns) };
    let mut spans = SpanBatch::new();
    for (begin, end) in readable.slice(rows.start, rows.len()).set_slices() {
        spans.append(&open.read_rows(row_group, rows.start + begin..rows.start + end, columns)?);
    }
    Ok(spans)
}

/// About what one row takes in memory with some columns (all if `None`), in bytes; at least 1.
pub fn row_bytes(open: &OpenFile, row_group: usize, columns: Option<&[&str]>) -> usize {
    let rows = open.rows_of(row_group).max(1);
    usize::try_from(open.bytes_in_memory(row_group, columns)).unwrap_or(usize::MAX).div_ceil(rows).max(1)
}
