//! What the computation of several series meets.

use std::sync::Arc;

use tracehouse_scan::{Done, Held, contents_of};
use tracehouse_store::SpanFile;

use super::series_plan::SeriesPlan;
use super::steps::Steps;
use crate::assemble::Omitted;
use crate::candidates::SpanFinder;
use crate::column_eval::file_may_match;
use crate::question::Question;
use crate::request::{Inspected, Weighting};

/// What the computation of several series met.
pub(crate) struct Met {
    pub(super) inspected: Inspected,
    pub(super) weighting: Weighting,
    pub(super) partial: Option<String>,
    /// What the series of the answer take.
    pub(super) held: Held,
}

impl Met {
    pub(super) fn omitted(&mut self, omitted: Omitted) {
        if let Some(words) = omitted.in_words() {
            self.partial(|| words);
        }
    }

    /// The first reason counts.
    pub(super) fn partial(&mut self, reason: impl FnOnce() -> String) {
        self.partial.get_or_insert_with(reason);
    }

    /// Counts what was read of the files of one function.
    pub(super) fn read(&mut self, question: Question<'_>, done: Done, files: usize) {
        self.inspected.spans += done.rows;
        self.inspected.files += (done.files as u64).saturating_sub(question.reach.files_lost() as u64);
        if !done.all {
            self.partial(|| question.bounds.stopped(done.files, files, "files read"));
        }
    }
}

/// Files in the range of time in which the spans may be.
pub(super) fn matching_files<'s>(
    series: &SeriesPlan,
    steps: &Steps,
    question: Question<'s>,
    met: &mut Met,
) -> Vec<&'s Arc<SpanFile>> {
    let driver = &series.plan.drivers.span;
    let finder = SpanFinder { filter: driver, exactly: &[], window: steps.window(), bounds: question.bounds };
    let files = finder.files(question.snapshot);
    met.inspected.files_total += files.len() as u64;
    met.inspected.spans += question.snapshot.hot.iter().map(|hot| hot.spans.len() as u64).sum::<u64>();
    let may_match = |file: &&Arc<SpanFile>| {
        // What comes after the end of the time is not read either.
        question.bounds.exceeded() || file_may_match(driver, file, &contents_of(file))
    };
    let (may_match, ruled_out): (Vec<_>, Vec<_>) = files.into_iter().partition(may_match);
    met.inspected.files += ruled_out.len() as u64;
    may_match
}
