//! Finds traces of which a pipeline leaves spans: the newest, or those that are [first](crate::ranked) in another order.
//!
//! Each trace in the answer has a span that satisfies the pipeline's [driver](crate::drivers::Drivers). Those spans are
//! looked for column by column: in memory, then in files from the newest back. As soon as no older file can hold a newer
//! span of a candidate, the candidates are settled, newest first: put together and run through the whole pipeline. That may leave older
//! spans than the one by which a trace was found, so the search goes on until no other trace can have newer ones than those it has.

use std::sync::Arc;

use parking_lot::Mutex;
use tracehouse_model::{SeededMap, TraceId};
use tracehouse_scan::{Held, Reservation, contents_of, each_row_group};
use tracehouse_spanfile::OpenFile;
use tracehouse_store::SpanFile;

use crate::assemble::{Omitted, assemble_side_by_side};
use crate::candidates::{Beside, Candidates, SpanFinder};
use crate::column_eval::file_may_match;
use crate::drivers::TraceDriver;
use crate::order::{newest_first, newest_match_first};
use crate::plan::Plan;
use crate::question::Question;
use crate::ranked::{counted, ranked};
use crate::request::{SearchAnswer, SearchRequest, TraceCount, TraceSummary};
use crate::shares::candidate_bytes_max;
use crate::shown::{Driver, depend_on_contents, inexact};
use crate::summary::{Summaries, bytes_of};
use crate::whereabouts::Whereabouts;
use crate::whole_traces::{Left, WholeTraces};

/// Traces that are settled at once: few at first, as a common condition needs no more than are asked for.
const SETTLED_AT_ONCE_MAX: usize = 32 * 1024;

/// A search that is done after so many files is quicker without knowing where all traces stand.
const FILES_OF_SHORT_SEARCH: u64 = 4;
/// A longer one looks at several files at once: at one for so many that it has looked at, so that few are looked at in vain …
const SHARE_OF_FILES_BEFORE: u64 = 2;
/// … and at no more than keep the threads busy.
const FILES_PER_THREAD: usize = 2;

pub(crate) fn search(question: Question<'_>, plan: &Plan, request: &SearchRequest) -> SearchAnswer {
    let (finder, trace) = (finder(question, plan, request), trace_driver(plan, request));
    let summaries = Summaries { plan, request };
    if let Some(order) = request.order {
        return ranked(question, &WholeTraces { plan, driver: &trace, finder, question }, summaries, order);
    }
    let whereabouts = Whereabouts::new(question);
    let search = Search {
        question,
        whereabouts: &whereabouts,
        beside: Beside::new(question, &whereabouts, &trace),
        summaries,
        request,
        finder,
        depends_on_contents: depend_on_contents(&request.conditions),
        trace: &trace,
        answer: SearchAnswer::default(),
        held: question.bounds.hold(),
        at_once: request.limit.clamp(8, SETTLED_AT_ONCE_MAX),
        omitted: Omitted::default(),
    };
    search.run()
}

/// How many traces a search would find.
pub(crate) fn count(question: Question<'_>, plan: &Plan, request: &SearchRequest) -> TraceCount {
    let (finder, trace) = (finder(question, plan, request), trace_driver(plan, request));
    let traces = WholeTraces { plan, driver: &trace, finder, question };
    counted(question, &traces, Summaries { plan, request })
}

pub(crate) fn finder<'a>(question: Question<'a>, plan: &'a Plan, request: &'a SearchRequest) -> SpanFinder<'a> {
    let (window, bounds) = (request.window(), question.bounds);
    SpanFinder { filter: &plan.drivers.span, exactly: inexact(&request.conditions), window, bounds }
}

fn trace_driver(plan: &Plan, request: &SearchRequest) -> TraceDriver {
    let mut trace = plan.drivers.trace.clone();
    trace.duration_nanos_min = trace.duration_nanos_min.max(request.trace_duration_nanos_min.unwrap_or(i64::MIN));
    trace
}

struct Search<'a> {
    question: Question<'a>,
    whereabouts: &'a Whereabouts<'a>,
    beside: Beside<'a>,
    summaries: Summaries<'a>,
    request: &'a SearchRequest,
    finder: SpanFinder<'a>,
    /// Whether each file has a driver of its own.
    depends_on_contents: bool,
    trace: &'a TraceDriver,
    answer: SearchAnswer,
    /// What the answer takes.
    held: Held,
    at_once: usize,
    /// Spans of traces that are too large, left out and all.
    omitted: Omitted,
}

/// The line of a trace in a list, if it is in the answer, and how many of its spans could not be looked at.
pub(crate) type Settled = (Option<TraceSummary>, Omitted);

impl Search<'_> {
    fn run(mut self) -> SearchAnswer {
        let Question { snapshot, bounds, reach } = self.question;
        let (mut candidates, mut of_candidates) = (Candidates::default(), bounds.hold());
        for hot in snapshot.hot.iter() {
            self.answer.inspected.spans += hot.spans.len() as u64;
            self.finder.look_at_memory(&hot.spans, &mut candidates);
            if !self.hold_candidates(&mut of_candidates, &candidates) {
                break;
            }
        }
        self.beside.keep_possible(&mut candidates);
        let files = self.finder.files(snapshot);
        let mut ruled_out = false;
        self.answer.inspected.files_total = files.len() as u64;
        let mut left = files.as_slice();
        while let Some(newest) = left.first() {
            self.settle(&mut candidates, newest.record.start_max);
            if self.is_done(newest.record.start_max) {
                break;
            }
            if self.answer.inspected.files == FILES_OF_SHORT_SEARCH {
                ruled_out = self.beside.rules_out_all(self.answer.inspected.files_total as usize);
            }
            let (together, older) = left.split_at(self.files_together().min(left.len()));
            self.answer.inspected.files += together.len() as u64;
            let unread = if ruled_out { 0 } else { self.look_at_files(together, &mut candidates) };
            if self.question.bounds.exceeded() {
                // What was ended in the middle was not read.
                self.answer.inspected.files -= unread.max(1) as u64;
            }
            self.hold_candidates(&mut of_candidates, &candidates);
            left = older;
        }
        self.settle(&mut candidates, i64::MIN);
        self.answer.inspected.bytes = bounds.scanned_bytes();
        self.answer.partial_reason = self.partial_reason();
        self.answer.inspected.files = self.answer.inspected.files.saturating_sub(reach.files_lost() as u64);
        self.keep_newest();
        self.answer.traces.sort_by(newest_first);
        let is_all = self.answer.partial_reason.is_none() && self.answer.traces.len() < self.request.limit;
        self.answer.traces_matched = is_all.then_some(self.answer.traces.len() as u64);
        self.answer.memory = Reservation::of(self.held);
        self.answer
    }

    /// Counts what the candidates take; false if the search ends because it is too much.
    fn hold_candidates(&self, held: &mut Held, candidates: &Candidates) -> bool {
        let (bounds, bytes) = (self.question.bounds, candidates.bytes());
        let too_many = bytes > candidate_bytes_max(bounds);
        // More than there can be ends it, with the same words.
        let more = if too_many { usize::MAX } else { bytes.saturating_sub(held.used()) };
        bounds.take(held, more).is_ok()
    }

    /// Whether nothing can come into the answer any more if all that is left begins at a moment or before.
    fn is_done(&self, begins: i64) -> bool {
        let settled = |trace: &&TraceSummary| trace.newest_match_unix_nanos > begins;
        self.question.bounds.exceeded() || self.answer.traces.iter().filter(settled).count() >= self.request.limit
    }

    /// Of the traces that were found, those whose matches are newest.
    fn keep_newest(&mut self) {
        let traces = &mut self.answer.traces;
        if traces.len() > self.request.limit {
            traces.sort_by(newest_match_first);
            let left_out = traces.split_off(self.request.limit);
            self.held.give_back(left_out.iter().map(bytes_of).sum());
        }
    }

    fn partial_reason(&self) -> Option<String> {
        let (inspected, bounds) = (&self.answer.inspected, self.question.bounds);
        let stopped = || {
            let (read, total) = (inspected.files as usize, inspected.files_total as usize);
            bounds.exceeded().then(|| bounds.stopped(read, total, "files read"))
        };
        let omitted = || self.omitted.in_words().map(|words| format!("{words}; open the trace by id"));
        self.question.reach.partial_reason().or_else(stopped).or_else(omitted)
    }

    /// How many files are looked at next: one, as long as each may be the last, and then several, so that no thread waits for the others
    /// at the end of each.
    fn files_together(&self) -> usize {
        let before = self.answer.inspected.files;
        if before < FILES_OF_SHORT_SEARCH {
            return 1;
        }
        let threads = self.question.bounds.threads();
        usize::try_from(before / SHARE_OF_FILES_BEFORE).unwrap_or(usize::MAX).clamp(1, FILES_PER_THREAD * threads)
    }

    /// Gives how many of the files were not read to their end.
    fn look_at_files(&mut self, files: &[&Arc<SpanFile>], candidates: &mut Candidates) -> usize {
        let (Question { bounds, reach, .. }, request) = (self.question, self.request);
        let SpanFinder { filter: planned, exactly: planned_exactly, window, .. } = &self.finder;
        let drivers = files.iter().filter_map(|file| Some((*file, self.driver_of(file, request)?)));
        let drivers: Vec<(&Arc<SpanFile>, Driver<'_>)> = drivers.collect();
        let finders = drivers.iter().map(|(_, driver)| {
            let (filter, exactly) = match driver {
                Driver::Tighter(filter, exactly) => (filter, *exactly),
                Driver::AsPlanned | Driver::Nothing => (*planned, *planned_exactly),
            };
            SpanFinder { filter, exactly, window: window.clone(), bounds }
        });
        let finders: Vec<SpanFinder<'_>> = finders.collect();
        let files: Vec<&Arc<SpanFile>> = drivers.iter().map(|(file, _)| *file).collect();
        let many = self.answer.inspected.files > FILES_OF_SHORT_SEARCH;
        let (found, done) = each_row_group(bounds, reach, &files, Vec::new, |piece, found: &mut Vec<_>| {
            let elsewhere = |trace, lacks| self.beside.elsewhere(trace, lacks, piece.file, many);
            let finder = &finders[piece.number as usize];
            found.extend(finder.traces_in_row_group(piece.rows(bounds), self.trace, many, elsewhere)?);
            Ok(())
        });
        self.answer.inspected.spans += done.rows;
        found.into_iter().flatten().for_each(|(trace, start)| candidates.add(trace, start));
        files.len() - done.files
    }

    /// What a file is looked through for; `None`: it has nothing of that.
    fn driver_of<'r>(&self, file: &Arc<SpanFile>, request: &'r SearchRequest) -> Option<Driver<'r>> {
        let contents = contents_of(file);
        let driver = if self.depends_on_contents { Driver::of(request, &contents) } else { Driver::AsPlanned };
        let filter = match &driver {
            Driver::AsPlanned => self.finder.filter,
            Driver::Nothing => return None,
            Driver::Tighter(filter, _) => filter,
        };
        file_may_match(filter, file, &contents).then_some(driver)
    }

    /// Settles the candidates whose newest span is newer than everything that was not looked at yet.
    fn settle(&mut self, candidates: &mut Candidates, horizon: i64) {
        let mut ready = candidates.take_newer_than(horizon);
        while let Some((_, newest)) = ready.first()
            && !self.is_done(*newest)
        {
            let rest = ready.split_off(self.at_once.min(ready.len()));
            let traces: Vec<TraceId> = ready.into_iter().map(|(trace, _)| trace).collect();
            let (question, whereabouts, summaries) = (self.question, self.whereabouts, self.summaries);
            let lines = Lines { question, whereabouts, summaries, finder: &self.finder };
            for (summary, omitted) in lines.of(&traces) {
                self.omitted.add(omitted);
                let Some(summary) = summary else { continue };
                if self.question.bounds.take(&mut self.held, bytes_of(&summary)).is_err() {
                    return;
                }
                self.answer.traces.push(summary);
            }
            self.keep_newest();
            // Few of the candidates matched as a whole: larger portions read the files fewer times.
            self.at_once = (2 * self.at_once).min(SETTLED_AT_ONCE_MAX);
            ready = rest;
        }
    }
}

/// Makes the lines of traces in a list.
pub(crate) struct Lines<'a> {
    pub(crate) question: Question<'a>,
    pub(crate) whereabouts: &'a Whereabouts<'a>,
    pub(crate) summaries: Summaries<'a>,
    pub(crate) finder: &'a SpanFinder<'a>,
}

impl Lines<'_> {
    /// Runs traces through the pipeline, side by side.
    pub(crate) fn of(&self, traces: &[TraceId]) -> Vec<Settled> {
        let bounds = self.question.bounds;
        // Neighbours by id stand side by side in a file.
        let mut sorted = traces.to_vec();
        sorted.sort_unstable();
        let done: Mutex<SeededMap<TraceId, Settled>> = Mutex::default();
        let held = Mutex::new(bounds.hold());
        let columns = |_: &Arc<SpanFile>, open: &Arc<OpenFile>| Some(self.summaries.columns(open));
        assemble_side_by_side(self.question, self.whereabouts, &sorted, columns, |found| {
            for tree in &found.trees {
                let SpanFinder { window, exactly, .. } = &self.finder;
                let summary = self.summaries.of(&Left::of(&found.spans, tree, self.summaries.plan, window, exactly));
                let bytes = summary.as_ref().map_or(0, bytes_of) + size_of::<(TraceId, Settled)>();
                if bounds.take(&mut held.lock(), bytes).is_err() {
                    return;
                }
                done.lock().insert(tree.trace_id, (summary, tree.omitted()));
            }
        });
        let mut done = done.into_inner();
        traces.iter().filter_map(|trace| done.remove(trace)).collect()
    }
}
