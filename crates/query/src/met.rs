//! What a question meets that goes over all files.

use std::sync::Arc;

use tracehouse_scan::{Bounds, Done, Held, contents_of};
use tracehouse_store::SpanFile;

use crate::assemble::Omitted;
use crate::candidates::SpanFinder;
use crate::column_eval::file_may_match;
use crate::question::Question;
use crate::request::{Inspected, Weighting};

/// What a question meets that goes over all files.
pub(crate) struct Met {
    pub(crate) inspected: Inspected,
    pub(crate) weighting: Weighting,
    partial: Option<String>,
    /// What the answer takes.
    pub(crate) held: Held,
}

impl Met {
    pub(crate) fn nothing(bounds: &Bounds) -> Self {
        let (inspected, weighting) = (Inspected::default(), Weighting::default());
        Self { inspected, weighting, partial: None, held: bounds.hold() }
    }

    pub(crate) fn omitted(&mut self, omitted: Omitted) {
        if let Some(words) = omitted.in_words() {
            self.partial(|| words);
        }
    }

    /// The first reason counts.
    pub(crate) fn partial(&mut self, reason: impl FnOnce() -> String) {
        self.partial.get_or_insert_with(reason);
    }

    /// Counts what was read of some files.
    pub(crate) fn read(&mut self, question: Question<'_>, done: Done, files: usize) {
        self.inspected.spans += done.rows;
        self.inspected.files += (done.files as u64).saturating_sub(question.reach.files_lost() as u64);
        if !done.all {
            self.partial(|| question.bounds.stopped(done.files, files, "files read"));
        }
    }

    /// Why the answer is partial, if it is, once all is done that could be.
    pub(crate) fn partial_reason(&mut self, question: Question<'_>) -> Option<String> {
        let Question { bounds, reach, .. } = question;
        if bounds.exceeded() {
            let (read, total) = (self.inspected.files as usize, self.inspected.files_total as usize);
            self.partial(|| bounds.stopped(read, total, "files read"));
        }
        let reasons: Vec<String> = reach.partial_reason().into_iter().chain(self.partial.take()).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

/// Files in the range of time in which the spans may be.
pub(crate) fn matching_files<'s>(
    finder: &SpanFinder<'_>,
    question: Question<'s>,
    met: &mut Met,
) -> Vec<&'s Arc<SpanFile>> {
    let files = finder.files(question.snapshot);
    met.inspected.files_total += files.len() as u64;
    met.inspected.spans += question.snapshot.hot.iter().map(|hot| hot.spans.len() as u64).sum::<u64>();
    let may_match = |file: &&Arc<SpanFile>| {
        // What comes after the end of the time is not read either.
        question.bounds.exceeded() || file_may_match(finder.filter, file, &contents_of(file))
    };
    let (may_match, ruled_out): (Vec<_>, Vec<_>) = files.into_iter().partition(may_match);
    met.inspected.files += ruled_out.len() as u64;
    may_match
}
