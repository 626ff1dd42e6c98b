//! Reads a whole file to learn what of it can be read, and what becomes of a file that can't be.
//!
//! Only what is wrong with the bytes counts against a file, and only if it is wrong twice. An error of the machine, a disk
//! that fails once or too many open files, says nothing about it.

use std::sync::Arc;

use parquet::errors::ParquetError;
use serde::Serialize;
use tracehouse_catalogue::{Commit, FileRecord};

use crate::error::WriteError;
use crate::file::{FileSource, OpenFile, Projection, column};
use crate::keeper::chain;
use crate::span_file::SpanFile;
use crate::store::Shared;

/// Rows that are read at a time.
const ROWS_AT_A_TIME: usize = 4096;

/// How much of a file is read to judge it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Its end, without which nothing can be read.
    Footer,
    EveryPage,
}

/// What can be read of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum Readable {
    All,
    /// All but so many spans.
    Part {
        lost_spans: u64,
        what: String,
    },
    Nothing {
        what: String,
    },
    /// An error of the machine, which says nothing about the file.
    OutOfReach {
        error: String,
    },
}

/// What a file says of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) bytes: u64,
    pub(crate) spans: u64,
    /// First and last start of a span inside.
    pub(crate) starts: Option<(i64, i64)>,
    pub(crate) row_groups: u32,
    /// Files of layout version 1 don't know their id …
    pub(crate) id: Option<String>,
    /// … nor which files they were merged from.
    pub(crate) merged_from: Vec<String>,
}

/// Reads a file and judges it.
pub(crate) fn verify(open: &dyn Fn() -> Result<FileSource, ParquetError>, effort: Effort) -> (Readable, Facts) {
    let first = attempt(open, effort);
    let is_fault = matches!(first, Ok((Readable::Part { .. } | Readable::Nothing { .. }, _)));
    // What is wrong with the file is wrong the second time too.
    let outcome = if is_fault { attempt(open, effort) } else { first };
    outcome.unwrap_or_else(|error| (Readable::OutOfReach { error: chain(&error) }, Facts::default()))
}

/// An error is one of the machine.
fn attempt(
    open: &dyn Fn() -> Result<FileSource, ParquetError>,
    effort: Effort,
) -> Result<(Readable, Facts), ParquetError> {
    let file = match open().and_then(OpenFile::open) {
        Ok(file) => file,
        Err(error) if is_damage(&error) => return Ok((Readable::Nothing { what: chain(&error) }, Facts::default())),
        Err(error) => return Err(error),
    };
    let facts = facts_of(&file);
    let (mut lost_spans, mut what) = (0, None);
    for row_group in (0..file.row_groups()).filter(|_| effort == Effort::EveryPage) {
        match read_row_group(&file, row_group) {
            Ok(()) => {}
            Err(error) if is_damage(&error) => {
                lost_spans += file.rows_of(row_group) as u64;
                what.get_or_insert_with(|| chain(&error));
            }
            Err(error) => return Err(error),
        }
    }
    let readable = match what {
        None => Readable::All,
        Some(what) if lost_spans == facts.spans => Readable::Nothing { what },
        Some(what) => Readable::Part { lost_spans, what },
    };
    Ok((readable, facts))
}

fn facts_of(file: &OpenFile) -> Facts {
    let ranges: Option<Vec<(i64, i64)>> =
        (0..file.row_groups()).map(|row_group| file.int_range(row_group, column::START_TIME)).collect();
    let starts = ranges.and_then(|ranges| {
        Some((ranges.iter().map(|range| range.0).min()?, ranges.iter().map(|range| range.1).max()?))
    });
    Facts {
        bytes: file.bytes(),
        spans: file.rows(),
        starts,
        row_groups: u32::try_from(file.row_groups()).unwrap_or(0),
        id: None,
        merged_from: Vec::new(),
    }
}

fn read_row_group(file: &OpenFile, row_group: usize) -> Result<(), ParquetError> {
    let rows = file.rows_of(row_group);
    for begin in (0..rows).step_by(ROWS_AT_A_TIME) {
        file.read_rows(row_group, begin..rows.min(begin + ROWS_AT_A_TIME), Projection::All)?;
    }
    Ok(())
}

/// Whether a file itself is at fault, and not the way to it: a disk that fails or is not there, too many open files, a
/// broken connection. Only what decoders report is about the file; what the system reports may pass.
pub(crate) fn is_damage(error: &ParquetError) -> bool {
    let ParquetError::External(cause) = error else { return true };
    if cause.is::<object_store::Error>() {
        return false;
    }
    // What decoders report has no number of the system.
    let system_error = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
    system_error.is_none()
}

impl Shared {
    /// Judges a file in which a reader met damage. What can still be read goes on answering queries, and the catalogue
    /// remembers how much can't; a file of which nothing can be read is set aside. Blocks on the disk.
    pub(crate) fn judge(&self, file: &Arc<SpanFile>) -> Result<Readable, WriteError> {
        // One at a time: many queries meet the same damage at once.
        let _one_at_a_time = self.judging.lock();
        let record = &file.record;
        let current = self.state.all_files().into_iter().find(|known| known.record.id == record.id);
        match current.map(|known| known.record.lost_spans) {
            None => return Ok(Readable::Nothing { what: "it no longer counts".into() }),
            Some(lost_spans) if lost_spans > 0 => {
                return Ok(Readable::Part { lost_spans, what: "known before".into() });
            }
            Some(_) => {}
        }
        let (readable, _) = verify(&|| self.objects.open(record), Effort::EveryPage);
        match &readable {
            Readable::All => tracing::info!(path = record.path, "a stored file could not be read, and now it can"),
            Readable::OutOfReach { error } => {
                tracing::warn!(path = record.path, error, "a stored file can't be read at the moment");
            }
            Readable::Part { lost_spans, what } => self.remember_damage(file, *lost_spans, what)?,
            Readable::Nothing { what } => self.set_damaged_file_aside(file, what),
        }
        Ok(readable)
    }

    fn remember_damage(&self, file: &Arc<SpanFile>, lost_spans: u64, what: &str) -> Result<(), WriteError> {
        let record = FileRecord { lost_spans, ..file.record.clone() };
        metrics::counter!("tracehouse_store_damaged_files_total").increment(1);
        tracing::error!(
            path = record.path,
            lost_spans,
            spans = record.spans,
            what,
            "a stored file is damaged in parts"
        );
        let commit = Commit { lost_spans: vec![(record.id.clone(), lost_spans)], ..Commit::default() };
        self.runtime.block_on(self.catalogue.commit(commit))?;
        let id = record.id.clone();
        self.state.change_files(vec![file.with_record(record)], &[id]);
        Ok(())
    }
}
