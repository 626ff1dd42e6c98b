//! Which files hold a trace, and where: as precisely as it takes.
//!
//! The filters of the files are wrong about one file in some hundred, which costs a page of ids each time. A query that
//! looks for thousands of traces reads the ids of a file once instead.

use std::sync::OnceLock;

use parking_lot::Mutex;
use parquet::errors::ParquetError;
use tracehouse_model::TraceId;
use tracehouse_scan::{Held, Part, may_contain};
use tracehouse_spanfile::{OpenFile, TraceRows};
use tracehouse_store::SpanFile;

use crate::question::Question;
use crate::shares::whereabouts_bytes_max;

/// By the first byte of an id.
const PARTS_OF_IDS: usize = 256;

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
        let known = if many { known.get_or_init(|| self.read(number)) } else { known.get()? };
        known.as_deref()
    }

    /// The traces of some files that stand in several of them, or in several row groups of one; sorted. `None`: of some file it is not
    /// known where its traces stand, or there is no memory for them.
    pub(crate) fn in_several(&self, files: &[usize]) -> Option<Vec<TraceId>> {
        let bounds = self.question.bounds;
        let (read, _) = bounds.gather(files.len(), || true, |at, all| *all &= self.of_file(files[at], true).is_some());
        if bounds.exceeded() || !read.into_iter().all(|all| all) {
            return None;
        }
        // Ids that begin with one byte at a time, so that few are copied at once.
        let with_byte = |byte: u8, several: &mut Vec<TraceId>| {
            let of_files = files.iter().filter_map(|&number| self.of_file(number, false));
            let mut met: Vec<TraceId> =
                of_files.flatten().flat_map(|rows| rows.beginning_with(byte)).copied().collect();
            met.sort_unstable();
            let again = met.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]);
            several.extend(again);
        };
        let (found, done) = bounds.gather(PARTS_OF_IDS, Vec::new, |part, several| with_byte(part as u8, several));
        let mut several = found.concat();
        let bytes = several.len() * 2 * size_of::<TraceId>();
        if done < PARTS_OF_IDS || self.held.lock().take(bytes).is_err() {
            return None;
        }
        several.sort_unstable();
        several.dedup();
        Some(several)
    }

    /// Whoever goes by this need not read the ids himself, so what of them can't be read is counted here.
    fn read(&self, number: usize) -> Option<Vec<TraceRows>> {
        let Question { snapshot, reach, .. } = self.question;
        let file = &snapshot.files[number];
        reach.attempt(file, Part::Whole, file.record.spans, |open| self.read_ids(open)).flatten()
    }

    fn read_ids(&self, open: &OpenFile) -> Result<Option<Vec<TraceRows>>, ParquetError> {
        const COLUMNS: [&str; 1] = ["trace_id"];
        let bounds = self.question.bounds;
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

    /// Whether the question is over, so that nothing counts any more that is found out.
    pub(crate) fn ended(&self) -> bool {
        self.question.bounds.exceeded()
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
