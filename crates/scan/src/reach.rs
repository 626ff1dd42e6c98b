//! How much of what a question asks for could be read.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use parquet::errors::ParquetError;
use tracehouse_spanfile::OpenFile;
use tracehouse_store::{Snapshot, SpanFile, Unreadable};

use crate::fault::{Fault, again, open, readable};
use crate::window::Window;

/// Of how many files the losses are told apart; those of further ones are only counted.
const FILES_NAMED_MAX: usize = 1000;
/// Longest reason of one file in an answer.
const REASON_CHARS_MAX: usize = 200;

/// What of the files in a range of time a question could read. All threads that work for it share this.
#[derive(Debug)]
pub struct Reach {
    files: usize,
    spans: u64,
    /// Files that it does not select may be read too: what is beneath a span may stand in any. `None`: no others are.
    window: Option<Window>,
    lost: Mutex<Lost>,
}

#[derive(Debug, Default)]
struct Lost {
    by_path: BTreeMap<String, OfFile>,
    /// Files and spans beyond those that are told apart.
    further_files: usize,
    further_spans: u64,
    /// Among those are files of which nobody knows how many spans they have.
    further_unknown: bool,
    /// Files among all of these that the window does not select, and their spans, lost or not.
    outside_files: usize,
    outside_spans: u64,
}

#[derive(Debug)]
struct OfFile {
    /// Spans of the file as a whole; 0 if that is not known.
    spans: u64,
    /// Spans lost by part of the file: a row group, or all of it.
    parts: BTreeMap<Part, u64>,
    reason: String,
}

/// A part of a file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Part {
    /// Only what says where the rest is. If it can't be read, nothing can.
    Nothing,
    /// All of it.
    Whole,
    RowGroup(usize),
}

impl Reach {
    /// Of a question about spans that a window selects.
    pub fn of(snapshot: &Snapshot, window: &Window) -> Self {
        let those =
            Self::of_those(snapshot, |file| window.may_select_of(file), |file| window.may_select_of_unreadable(file));
        Self { window: Some(window.clone()), ..those }
    }

    /// Of a question about files that matter by the first and last start of their spans.
    pub fn of_matching(snapshot: &Snapshot, matters: impl Fn(i64, i64) -> bool) -> Self {
        let of_unreadable = |file: &Unreadable| matters(file.start_min, file.start_max);
        Self::of_those(snapshot, |file| matters(file.record.start_min, file.record.start_max), of_unreadable)
    }

    fn of_those(
        snapshot: &Snapshot,
        matters: impl Fn(&SpanFile) -> bool,
        missing_matters: impl Fn(&Unreadable) -> bool,
    ) -> Self {
        let those = snapshot.files.iter().filter(|file| matters(file));
        let (files, spans) = those.fold((0, 0), |(files, spans), file| (files + 1, spans + file.record.spans));
        let mut reach = Self { files, spans, window: None, lost: Mutex::default() };
        for file in snapshot.unreadable.iter() {
            if missing_matters(file) {
                reach.files += 1;
                reach.spans += file.spans;
                reach.add_missing(&file.path, file.spans, &file.reason.to_string());
            }
        }
        reach
    }

    fn add_missing(&mut self, path: &str, spans: u64, reason: &str) {
        let lost = self.lost.get_mut();
        if lost.by_path.len() >= FILES_NAMED_MAX {
            lost.further_files += 1;
            lost.further_spans += spans;
            lost.further_unknown |= spans == 0;
            return;
        }
        let (parts, reason) = (BTreeMap::from([(Part::Whole, spans)]), shortened(reason));
        lost.by_path.insert(path.to_owned(), OfFile { spans, parts, reason });
    }

    /// Files with spans in the range.
    pub fn files(&self) -> usize {
        self.files
    }

    /// Opens a file and does a piece of work on it. If that fails because of the file, it is found out what of the file can
    /// be read, and the work is done once more over that. If it can't be done, `spans` of the file are left out, and the
    /// answer says so. `None` too if the question has no memory left.
    ///
    /// The work must change nothing before all that it needs was read.
    pub fn attempt<T>(
        &self,
        file: &Arc<SpanFile>,
        part: Part,
        spans: u64,
        work: impl FnMut(&Arc<OpenFile>) -> Result<T, ParquetError>,
    ) -> Option<T> {
        self.attempt_with(None, file, part, spans, work)
    }

    /// The same for a file that is open already.
    pub(crate) fn attempt_with<T>(
        &self,
        opened: Option<&Arc<OpenFile>>,
        file: &Arc<SpanFile>,
        part: Part,
        spans: u64,
        mut work: impl FnMut(&Arc<OpenFile>) -> Result<T, ParquetError>,
    ) -> Option<T> {
        let mut opened = opened.map_or_else(|| open(file), |opened| Ok(opened.clone()));
        let mut tries = 0;
        loop {
            let failed = opened.as_ref().ok().cloned();
            let done = opened.and_then(|open| {
                self.count_damage(file, &open, part);
                work(&open)
            });
            let error = match done {
                Ok(done) => return Some(done),
                Err(error) => error,
            };
            tries += 1;
            opened = Ok(self.again(file, failed.as_deref(), part, spans, error, tries)?);
        }
    }

    /// What follows once reading a part of a file has failed for the `tries`th time, as it was opened for that: the file to go
    /// on with, which reads around what was met of its damage. `None`: the part is left out, and the answer says so, or the
    /// question has no memory left.
    pub fn again(
        &self,
        file: &Arc<SpanFile>,
        failed: Option<&OpenFile>,
        part: Part,
        spans: u64,
        error: ParquetError,
        tries: usize,
    ) -> Option<Arc<OpenFile>> {
        match again(file, failed, error, tries) {
            Ok(open) => Some(open),
            Err(error) => {
                self.count(file, part, spans, &Fault::from(error));
                None
            }
        }
    }

    /// Opens a file. `None`: it can't be, and the answer says so.
    pub fn open(&self, file: &Arc<SpanFile>) -> Option<Arc<OpenFile>> {
        self.attempt(file, Part::Nothing, file.record.spans, |open| Ok(open.clone()))
    }

    /// Counts the rows of a part that the file, as it was opened, reads around. Twice counts once.
    pub fn count_damage(&self, file: &SpanFile, open: &OpenFile, part: Part) {
        let row_groups = match part {
            Part::Nothing => return,
            Part::RowGroup(row_group) => row_group..row_group + 1,
            Part::Whole => 0..open.row_groups(),
        };
        for row_group in row_groups {
            if let Some(readable) = readable(open, row_group) {
                let rows = (readable.len() - readable.count_set_bits()) as u64;
                if rows > 0 {
                    let damage = Fault::Damage("checksums of some pages are wrong".into());
                    self.count(file, Part::RowGroup(row_group), rows, &damage);
                }
            }
        }
    }

    /// Counts spans of a file as not read. A part that is left out twice counts once.
    fn count(&self, file: &SpanFile, part: Part, spans: u64, fault: &Fault) {
        if matches!(fault, Fault::Memory(_)) {
            return;
        }
        let path = &file.record.path;
        let mut lost = self.lost.lock();
        if !lost.by_path.contains_key(path) {
            if matches!(fault, Fault::Absent(_)) {
                // The store says it, once and not for each question.
                tracing::debug!(path, %fault, "a file could not be read for a question; its answer is partial");
            } else {
                tracing::error!(path, %fault, "a file could not be read for a question; its answer is partial");
            }
            let kind = if matches!(fault, Fault::Damage(_)) { "damage" } else { "machine" };
            metrics::counter!("tracehouse_query_unreadable_files_total", "kind" => kind).increment(1);
            if lost.by_path.len() >= FILES_NAMED_MAX {
                lost.further_files += 1;
                lost.further_spans += spans;
                return;
            }
            if self.window.as_ref().is_some_and(|window| !window.may_select_of(file)) {
                lost.outside_files += 1;
                lost.outside_spans += file.record.spans;
            }
            let reason = shortened(&fault.to_string());
            let of_file = OfFile { spans: file.record.spans, parts: BTreeMap::new(), reason };
            lost.by_path.insert(path.clone(), of_file);
        }
        if let Some(of_file) = lost.by_path.get_mut(path) {
            let counted = of_file.parts.entry(if part == Part::Nothing { Part::Whole } else { part }).or_default();
            *counted = spans.max(*counted);
        }
    }

    /// Why the answer is not whole because of what could not be read, with `N of M`; `None` if all was.
    pub fn partial_reason(&self) -> Option<String> {
        let lost = self.lost.lock();
        let (path, first) = lost.by_path.iter().next()?;
        let files = lost.by_path.len() + lost.further_files;
        let spans = lost.by_path.values().map(OfFile::lost).sum::<u64>() + lost.further_spans;
        let has_unknown = lost.further_unknown || lost.by_path.values().any(|file| file.spans == 0);
        let spans_all = (self.spans + lost.outside_spans).max(spans);
        let (files_all, reason) = ((self.files + lost.outside_files).max(files), &first.reason);
        let what = match (spans, has_unknown) {
            (0, true) => "an unknown number of spans".to_owned(),
            (_, true) => format!("{spans} of {spans_all} spans and an unknown number of others"),
            (_, false) => format!("{spans} of {spans_all} spans"),
        };
        Some(format!("{what} could not be read, in {files} of {files_all} files, the first of them {path}: {reason}"))
    }

    /// Files of which something could not be read.
    pub fn files_lost(&self) -> usize {
        let lost = self.lost.lock();
        lost.by_path.len() + lost.further_files
    }
}

impl OfFile {
    fn lost(&self) -> u64 {
        self.parts.get(&Part::Whole).copied().unwrap_or_else(|| self.parts.values().sum()).min(self.spans)
    }
}

fn shortened(reason: &str) -> String {
    reason.chars().take(REASON_CHARS_MAX).collect()
}
