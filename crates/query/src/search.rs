//! Finds the newest traces of which a pipeline leaves spans.
//!
//! Each trace in the answer has a span that satisfies the pipeline's [driver](crate::drivers::Drivers). Those spans are
//! looked for column by column: in memory, then in files from the newest back. As soon as no older file can hold a newer
//! span of a candidate, the candidates are settled, newest first: put together and run through the whole pipeline. That may leave older
//! spans than the one by which a trace was found, so the search goes on until no other trace can have newer ones than those it has.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tracehouse_model::{AnyValue, ParentRow, SeededMap, SeededSet, SpanBatch, TraceId, status};
use tracehouse_scan::{Held, Reservation, contents_of, each_row_group};
use tracehouse_spanfile::OpenFile;
use tracehouse_store::SpanFile;

use crate::assemble::{Omitted, TraceTree, assemble_many};
use crate::candidates::{Beside, Candidates, SpanFinder};
use crate::column_eval::{columns_of, file_may_match};
use crate::drivers::TraceDriver;
use crate::evaluate::{Evaluation, Spanset, union_of};
use crate::plan::{Plan, ShownField};
use crate::question::Question;
use crate::request::{
    MatchedSpan, MatchedSpanset, SearchAnswer, SearchRequest, ServiceCount, ShownValue, TraceSummary,
};
use crate::row_eval::{RowExpression, TraceFacts};
use crate::services::columns_of_services;
use crate::shares::candidate_bytes_max;
use crate::shown::{Driver, all_hold, columns_of_conditions, depend_on_contents, inexact};
use crate::value::Value;
use crate::whereabouts::Whereabouts;

/// Traces that are settled at once: few at first, as a common condition needs no more than are asked for.
const SETTLED_AT_ONCE_MAX: usize = 32 * 1024;
/// Of those, traces that one thread puts together at once.
const ASSEMBLED_AT_ONCE_MAX: usize = 2048;

/// A search that is done after so many files is quicker without knowing where all traces stand.
const FILES_OF_SHORT_SEARCH: u64 = 4;
/// A longer one looks at several files at once: at one for so many that it has looked at, so that few are looked at in vain …
const SHARE_OF_FILES_BEFORE: u64 = 2;
/// … and at no more than keep the threads busy.
const FILES_PER_THREAD: usize = 2;

/// What the line of a trace in a list is made from.
const SUMMARY_COLUMNS: [&str; 3] = ["name", "kind", "status"];

pub(crate) fn search(question: Question<'_>, plan: &Plan, request: &SearchRequest) -> SearchAnswer {
    let mut trace = plan.drivers.trace.clone();
    trace.duration_nanos_min = trace.duration_nanos_min.max(request.trace_duration_nanos_min.unwrap_or(i64::MIN));
    let whereabouts = Whereabouts::new(question);
    let search = Search {
        question,
        whereabouts: &whereabouts,
        beside: Beside::new(question, &whereabouts, &trace),
        plan,
        request,
        finder: SpanFinder {
            filter: &plan.drivers.span,
            exactly: inexact(&request.conditions),
            window: request.window(),
            bounds: question.bounds,
        },
        depends_on_contents: depend_on_contents(&request.conditions),
        trace: &trace,
        answer: SearchAnswer::default(),
        held: question.bounds.hold(),
        at_once: request.limit.clamp(8, SETTLED_AT_ONCE_MAX),
        omitted: Omitted::default(),
    };
    search.run()
}

struct Search<'a> {
    question: Question<'a>,
    whereabouts: &'a Whereabouts<'a>,
    beside: Beside<'a>,
    plan: &'a Plan,
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
type Settled = (Option<TraceSummary>, Omitted);

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
            for (summary, omitted) in self.summaries(&traces) {
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

    /// Runs traces through the pipeline, side by side.
    fn summaries(&self, traces: &[TraceId]) -> Vec<Settled> {
        let bounds = self.question.bounds;
        // Neighbours by id stand side by side in a file.
        let mut sorted = traces.to_vec();
        sorted.sort_unstable();
        let portion = traces.len().div_ceil(bounds.threads()).clamp(1, ASSEMBLED_AT_ONCE_MAX);
        let portions: Vec<&[TraceId]> = sorted.chunks(portion).collect();
        let done: Mutex<SeededMap<TraceId, Settled>> = Mutex::default();
        let held = Mutex::new(bounds.hold());
        bounds.gather(
            portions.len(),
            || (),
            |portion, ()| {
                let columns = |open: &OpenFile| Some(self.columns(open));
                assemble_many(self.question, self.whereabouts, portions[portion], columns, |found| {
                    for tree in &found.trees {
                        let summary = self.summary(&found.spans, tree);
                        let bytes = summary.as_ref().map_or(0, bytes_of) + size_of::<(TraceId, Settled)>();
                        if bounds.take(&mut held.lock(), bytes).is_err() {
                            return;
                        }
                        done.lock().insert(tree.trace_id, (summary, tree.omitted()));
                    }
                });
            },
        );
        let mut done = done.into_inner();
        traces.iter().filter_map(|trace| done.remove(trace)).collect()
    }

    fn columns(&self, open: &OpenFile) -> Vec<String> {
        let shown = self.plan.shown.iter().map(|shown| &shown.field.expression);
        let mut columns: SeededSet<String> =
            SUMMARY_COLUMNS.into_iter().chain(columns_of_services(open)).map(str::to_owned).collect();
        for expression in self.plan.expressions().into_iter().chain(shown) {
            columns.extend(columns_of(expression, open.layout()));
        }
        columns.extend(columns_of_conditions(self.finder.exactly, open.layout()));
        columns.into_iter().collect()
    }

    fn summary(&self, spans: &SpanBatch, tree: &TraceTree) -> Option<TraceSummary> {
        let duration = tree.duration_nanos;
        if self.request.trace_duration_nanos_min.is_some_and(|min| duration < min)
            || self.request.trace_duration_nanos_max.is_some_and(|max| duration > max)
        {
            return None;
        }
        let facts = TraceFacts::of(spans, tree);
        let mut spansets = Evaluation::new(spans, tree, &facts).run(&self.plan.stages, &self.finder.window);
        for spanset in &mut spansets {
            spanset.rows.retain(|&row| all_hold(self.finder.exactly, spans, row as usize));
        }
        spansets.retain(|spanset| !spanset.rows.is_empty());
        let matched = union_of(&spansets);
        let newest = matched.iter().map(|&row| spans.start_unix_nanos[row as usize]).max()?;
        let shown = spansets.into_iter().map(|spanset| self.matched(spans, &facts, spanset));
        let spansets: Vec<MatchedSpanset> = shown.collect();
        Some(TraceSummary {
            matched_count: matched.len() as u64,
            newest_match_unix_nanos: newest,
            spansets,
            ..summarize(spans, tree)
        })
    }

    fn matched(&self, spans: &SpanBatch, facts: &TraceFacts<'_>, spanset: Spanset) -> MatchedSpanset {
        let matched_count = spanset.rows.len() as u64;
        let mut rows = spanset.rows;
        rows.sort_by_key(|&row| (spans.start_unix_nanos[row as usize], spans.span_id[row as usize]));
        rows.truncate(self.request.spans_per_spanset);
        let shown: Vec<BoundField<'_>> =
            self.plan.shown.iter().map(|field| BoundField::new(field, spans, facts)).collect();
        let span = |row: u32| {
            let row = row as usize;
            MatchedSpan {
                span_id: spans.span_id[row],
                name: spans.strings.get(spans.name[row]).to_owned(),
                service_name: spans.shown_service(spans.resource[row] as usize).into_owned(),
                start_unix_nanos: spans.start_unix_nanos[row],
                duration_nanos: spans.duration_nanos[row],
                status_code: spans.status_code[row],
                fields: shown.iter().filter_map(|field| field.value(row)).collect(),
            }
        };
        MatchedSpanset {
            by: spanset.by,
            aggregates: spanset.aggregates,
            matched_count,
            spans: rows.into_iter().map(span).collect(),
        }
    }
}

/// A field that goes with each span, bound to the spans of a trace.
struct BoundField<'a> {
    name: &'a str,
    field: RowExpression<'a>,
    conditions: Vec<RowExpression<'a>>,
}

impl<'a> BoundField<'a> {
    fn new(shown: &'a ShownField, spans: &'a SpanBatch, facts: &'a TraceFacts<'a>) -> Self {
        let bind = |expression| RowExpression::new(expression, spans, Some(facts));
        let conditions = shown.conditions.iter().map(bind).collect();
        Self { name: &shown.field.name, field: bind(&shown.field.expression), conditions }
    }

    fn value(&self, row: usize) -> Option<ShownValue> {
        let value = self.field.value_of(row);
        let shown = value.to_any()?;
        let matched = if matches!(shown, AnyValue::Array(_)) { self.matched(value, row) } else { None };
        Some(ShownValue { field: self.name.to_owned(), value: shown, matched })
    }

    /// Of several values those that satisfy a condition, unless that are all or none.
    fn matched(&self, value: Value<'_>, row: usize) -> Option<Vec<AnyValue>> {
        let singles = value.into_singles();
        let holds = |single: &&Value<'_>| self.conditions.iter().any(|condition| condition.holds_of(single, row));
        let matched: Vec<&Value<'_>> = singles.iter().filter(holds).collect();
        let is_choice = !matched.is_empty() && matched.len() < singles.len();
        is_choice.then(|| matched.into_iter().filter_map(Value::to_any).collect())
    }
}

/// The order of traces in an answer.
pub(crate) fn newest_first(left: &TraceSummary, right: &TraceSummary) -> Ordering {
    (right.start_unix_nanos, left.trace_id).cmp(&(left.start_unix_nanos, right.trace_id))
}

/// The order in which a limit takes traces.
pub(crate) fn newest_match_first(left: &TraceSummary, right: &TraceSummary) -> Ordering {
    (right.newest_match_unix_nanos, left.trace_id).cmp(&(left.newest_match_unix_nanos, right.trace_id))
}

/// About what the line of a trace takes in memory.
fn bytes_of(summary: &TraceSummary) -> usize {
    let of_span = |span: &MatchedSpan| {
        let fields = span.fields.iter().map(ShownValue::bytes).sum::<usize>();
        size_of::<MatchedSpan>() + span.name.len() + span.service_name.len() + fields
    };
    let of_spanset = |spanset: &MatchedSpanset| {
        let by = spanset.by.iter().map(|(name, value)| name.len() + value.as_ref().map_or(0, value_bytes) + 64);
        let aggregates = spanset.aggregates.iter().map(|(name, value)| name.len() + value_bytes(value) + 64);
        let spans = spanset.spans.iter().map(of_span);
        size_of::<MatchedSpanset>() + by.chain(aggregates).chain(spans).sum::<usize>()
    };
    let services = summary.services.iter().map(|service| size_of::<ServiceCount>() + service.name.len());
    let names = summary.root_service_name.len() + summary.root_span_name.len();
    size_of::<TraceSummary>() + names + services.chain(summary.spansets.iter().map(of_spanset)).sum::<usize>()
}

impl ShownValue {
    /// About what it takes in memory, while it is copied once.
    pub(crate) fn bytes(&self) -> usize {
        let matched = self.matched.iter().flatten().map(|value| value_bytes(value) + size_of::<AnyValue>());
        self.field.len() + value_bytes(&self.value) + matched.sum::<usize>() + 2 * size_of::<Self>()
    }
}

fn value_bytes(value: &AnyValue) -> usize {
    match value {
        AnyValue::String(text) => text.len(),
        AnyValue::Bytes(bytes) => bytes.len(),
        AnyValue::Array(items) => items.iter().map(|item| value_bytes(item) + size_of::<AnyValue>()).sum(),
        AnyValue::KeyValueList(entries) => {
            entries.iter().map(|(key, value)| key.len() + value_bytes(value) + 2 * size_of::<AnyValue>()).sum()
        }
        AnyValue::Empty | AnyValue::Bool(_) | AnyValue::Int(_) | AnyValue::Double(_) => 0,
    }
}

/// What the line says of the trace, whatever was asked for.
fn summarize(spans: &SpanBatch, tree: &TraceTree) -> TraceSummary {
    let mut services: BTreeMap<Cow<'_, str>, (u64, u64)> = BTreeMap::new();
    let mut earliest = tree.rows.start;
    for row in tree.rows.clone() {
        let counts = services.entry(spans.shown_service(spans.resource[row] as usize)).or_default();
        counts.0 += 1;
        counts.1 += u64::from(spans.status_code[row] == status::ERROR);
        if spans.start_unix_nanos[row] < spans.start_unix_nanos[earliest] {
            earliest = row;
        }
    }
    let mut services: Vec<ServiceCount> = services
        .into_iter()
        .map(|(name, (span_count, error_count))| ServiceCount { name: name.into_owned(), span_count, error_count })
        .collect();
    services.sort_by_key(|service| std::cmp::Reverse(service.span_count));
    let first = tree.root.map_or(earliest, |row| tree.rows.start + row as usize);
    TraceSummary {
        tenant: None,
        trace_id: tree.trace_id,
        root_service_name: spans.shown_service(spans.resource[first] as usize).into_owned(),
        root_span_name: spans.strings.get(spans.name[first]).to_owned(),
        root_missing: !tree.parent.contains(&ParentRow::Root),
        start_unix_nanos: tree.start_unix_nanos,
        duration_nanos: tree.duration_nanos,
        span_count: tree.rows.len() as u64 + tree.omitted,
        error_count: tree.error_count,
        orphan_count: tree.parent.iter().filter(|parent| **parent == ParentRow::Missing).count() as u64,
        services,
        matched_count: 0,
        newest_match_unix_nanos: i64::MIN,
        spansets: Vec::new(),
    }
}
