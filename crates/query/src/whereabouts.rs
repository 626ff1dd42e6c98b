//! Which files hold a trace, and where: as precisely as it takes.
//!
//! The filters of the files are wrong about one file in some hundred, which costs a page of ids each time. A query that
//! looks for thousands of traces reads the ids of a file once instead.

use std::sync::OnceLock;

use parking_lot::Mutex;
use parquet::errors::ParquetError;
use tracehouse_model::TraceId;
use tracehouse_scan::{Held, may_contain, open};
use tracehouse_spanfile::TraceRows;
use tracehouse_store::SpanFile;

use crate::question::Question;
use crate::shares::whereabouts_bytes_max;

/// What one query knows of where traces are.
pub(crate) struct Whereabouts<'a> {
    question: Question<'a>,
    /// For each file, once it was asked for. `None`: there is no memory for it, or it can't be read.
    of_files: Vec<OnceLock<Option<Vec<TraceRows>>>>,
    held: Mutex<Held>,
}

impl<'a> Whereabouts<'a> {
    pub(crate) fn new(question: Question<'a>) -> Self {
        let of_files = question.snapshot.files.iter().map(|_| OnceLock::new()).collect();
        Self { question, of_files, held: Mutex::new(question.bounds.hold()) }
    }

    /// Where the traces of a file stand: if that is known, or in any case if the query is about `many` traces.
    pub(crate) fn of_file(&self, number: usize, many: bool) -> Option<&[TraceRows]> {
        let known = &self.of_files[number];
        // Whoever reads the traces themselves meets the same fault and says so.
        let known = if many { known.get_or_init(|| self.read(number).ok().flatten()) } else { known.get()? };
        known.as_deref()
    }

    fn read(&self, number: usize) -> Result<Option<Vec<TraceRows>>, ParquetError> {
        const COLUMNS: [&str; 1] = ["trace_id"];
        let bounds = self.question.bounds;
        let open = open(&self.question.snapshot.files[number])?;
        let row_groups = || 0..open.row_groups();
        let in_memory: u64 = row_groups().map(|row_group| open.bytes_in_memory(row_group, Some(&COLUMNS))).sum();
        let expected = usize::try_from(in_memory).unwrap_or(usize::MAX);
        {
            let mut held = self.held.lock();
            let room = whereabouts_bytes_max(bounds).saturating_sub(held.used());
            if expected > room || held.take(expected).is_err() {
                return Ok(None);
            }
        }
        let bytes = row_groups().map(|row_group| open.bytes_of(row_group, Some(&COLUMNS))).sum();
        bounds.count_scanned(bytes, 1, 1);
        let found = open.trace_rows();
        let taken = found.iter().flatten().map(TraceRows::bytes).sum::<usize>().min(expected);
        self.held.lock().give_back(expected - taken);
        found.map(Some)
    }

    /// Whether a trace may have spans in one of some files.
    pub(crate) fn in_any(
        &self,
        trace: TraceId,
        mut files: impl Iterator<Item = usize>,
        except: Option<&SpanFile>,
        many: bool,
    ) -> bool {
        files.any(|number| {
            let other = &self.question.snapshot.files[number];
            except.is_none_or(|file| !std::ptr::eq(&raw const **other, file))
                && may_contain(other, trace)
                && self.of_file(number, many).is_none_or(|rows| rows.iter().any(|rows| rows.of(trace).is_some()))
        })
    }
}
