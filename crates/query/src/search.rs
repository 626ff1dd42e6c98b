//! Finds the newest traces of which a pipeline leaves spans.
//!
//! Each trace in the answer has a span that satisfies the pipeline's [driver](crate::drivers::Drivers). Those spans are
//! looked for column by column: in memory, then in files from the newest back. As soon as no older file can hold a newer
//! span of a candidate, the candidates are settled, newest first: put together and run through the whole pipeline.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use parquet::errors::ParquetError;
use tracehouse_model::{SeededMap, SeededSet, SpanBatch, TraceId, status};
use tracehouse_store::{OpenFile, ReadError, Snapshot, SpanFile};

use crate::assemble::{TraceTree, assemble_many};
use crate::bounds::Bounds;
use crate::candidates::{Candidates, Scan};
use crate::column_eval::{columns_of, file_may_match};
use crate::drivers::TraceDriver;
use crate::evaluate::{Evaluation, Spanset, union_of};
use crate::plan::Plan;
use crate::request::{MatchedSpan, MatchedSpanset, ParentRow, SearchAnswer, SearchRequest, ServiceCount, TraceSummary};
use crate::row_eval::{RowExpression, TraceFacts};
use crate::whereabouts::Whereabouts;

/// Traces that are settled at once: few at first, as a common condition needs no more than are asked for.
const SETTLED_AT_ONCE_MAX: usize = 32 * 1024;
/// Of those, traces that one thread puts together at once.
const ASSEMBLED_AT_ONCE_MAX: usize = 2048;

/// A search that is done after so many files is quicker without knowing where all traces stand.
const FILES_OF_SHORT_SEARCH: u64 = 4;

/// What the line of a trace in a list is made from.
const SUMMARY_COLUMNS: [&str; 4] = ["name", "kind", "status", "resource.service.name"];

pub(crate) fn search(
    snapshot: &Snapshot,
    plan: &Plan,
    request: &SearchRequest,
    bounds: &Bounds<'_>,
) -> Result<SearchAnswer, ReadError> {
    let start = request.start_unix_nanos.unwrap_or(i64::MIN)..request.end_unix_nanos.unwrap_or(i64::MAX);
    let mut trace = plan.drivers.trace.clone();
    trace.duration_nanos_min = trace.duration_nanos_min.max(request.trace_duration_nanos_min.unwrap_or(i64::MIN));
    let search = Search {
        snapshot,
        whereabouts: Whereabouts::new(snapshot, bounds),
        plan,
        request,
        bounds,
        scan: Scan { filter: &plan.drivers.span, start: start.clone(), bounds },
        trace: &trace,
        answer: SearchAnswer::default(),
        at_once: request.limit.clamp(8, SETTLED_AT_ONCE_MAX),
        omitted: 0,
    };
    search.run()
}

struct Search<'a> {
    snapshot: &'a Snapshot,
    whereabouts: Whereabouts<'a>,
    plan: &'a Plan,
    request: &'a SearchRequest,
    bounds: &'a Bounds<'a>,
    scan: Scan<'a>,
    trace: &'a TraceDriver,
    answer: SearchAnswer,
    at_once: usize,
    /// Spans that were left out because their traces are too large.
    omitted: u64,
}

impl Search<'_> {
    fn run(mut self) -> Result<SearchAnswer, ReadError> {
        let mut candidates = Candidates::default();
        for hot in &self.snapshot.hot {
            self.answer.inspected.spans += hot.spans.len() as u64;
            self.scan.look_at_memory(&hot.spans, &mut candidates);
        }
        let files = self.scan.files(self.snapshot);
        self.answer.inspected.files_total = files.len() as u64;
        let mut failed = Vec::new();
        for file in files {
            self.settle(&mut candidates, file.record.start_max)?;
            if self.is_done() {
                break;
            }
            self.answer.inspected.files += 1;
            if !file_may_match(self.scan.filter, &file.contents) {
                continue;
            }
            match self.look_at_file(file, &mut candidates) {
                Ok(()) => self.bounds.hold_candidates(candidates.bytes()),
                Err(error) => failed.push(file.read_error(error)),
            }
        }
        self.settle(&mut candidates, i64::MIN)?;
        self.answer.inspected.bytes = self.bounds.scanned_bytes();
        self.answer.partial_reason = self.partial_reason(&failed);
        self.answer.inspected.files -= failed.len() as u64;
        let newest_first = |left: &TraceSummary, right: &TraceSummary| {
            (right.start_unix_nanos, left.trace_id).cmp(&(left.start_unix_nanos, right.trace_id))
        };
        self.answer.traces.sort_by(newest_first);
        Ok(self.answer)
    }

    fn is_done(&self) -> bool {
        self.answer.traces.len() >= self.request.limit || self.bounds.exceeded()
    }

    fn partial_reason(&self, failed: &[ReadError]) -> Option<String> {
        let inspected = &self.answer.inspected;
        if let Some(first) = failed.first() {
            tracing::error!(path = first.path, error = %first.source, "a file could not be searched");
            return Some(format!("{} of {} files could not be read", failed.len(), inspected.files_total));
        }
        if self.bounds.exceeded() {
            let (read, total) = (inspected.files as usize, inspected.files_total as usize);
            return Some(self.bounds.stopped(read, total, "files read"));
        }
        (self.omitted > 0)
            .then(|| format!("{} spans of very large traces were not looked at; open the trace by id", self.omitted))
    }

    fn look_at_file(&mut self, file: &Arc<SpanFile>, candidates: &mut Candidates) -> Result<(), ParquetError> {
        let open = file.open().map_err(|error| error.source)?;
        let found: Mutex<Vec<(TraceId, i64)>> = Mutex::default();
        let many = self.answer.inspected.files > FILES_OF_SHORT_SEARCH;
        let spans = self.bounds.side_by_side(open.row_groups(), |row_group| {
            let elsewhere = |trace| self.whereabouts.elsewhere(trace, file, many);
            let matches = self.scan.traces_in_row_group(file, &open, row_group, self.trace, elsewhere)?;
            found.lock().extend(matches);
            Ok(open.rows_of(row_group) as u64)
        })?;
        self.answer.inspected.spans += spans;
        found.into_inner().into_iter().for_each(|(trace, start)| candidates.add(trace, start));
        Ok(())
    }

    /// Settles the candidates whose newest span is newer than everything that was not looked at yet.
    fn settle(&mut self, candidates: &mut Candidates, horizon: i64) -> Result<(), ReadError> {
        let mut ready = candidates.take_newer_than(horizon);
        while !ready.is_empty() && !self.is_done() {
            let rest = ready.split_off(self.at_once.min(ready.len()));
            for (summary, omitted) in self.summaries(&ready)? {
                self.omitted += omitted;
                if self.answer.traces.len() < self.request.limit {
                    self.answer.traces.extend(summary);
                }
            }
            // Few of the candidates matched as a whole: larger portions read the files fewer times.
            self.at_once = (2 * self.at_once).min(SETTLED_AT_ONCE_MAX);
            ready = rest;
        }
        Ok(())
    }

    /// Runs traces through the pipeline, side by side; each with the spans of it that could not be looked at.
    fn summaries(&self, traces: &[TraceId]) -> Result<Vec<(Option<TraceSummary>, u64)>, ReadError> {
        // Neighbours by id stand side by side in a file.
        let mut sorted = traces.to_vec();
        sorted.sort_unstable();
        let portion = traces.len().div_ceil(self.bounds.threads).clamp(1, ASSEMBLED_AT_ONCE_MAX);
        let portions: Vec<&[TraceId]> = sorted.chunks(portion).collect();
        let next = AtomicUsize::new(0);
        let done: Mutex<SeededMap<TraceId, (Option<TraceSummary>, u64)>> = Mutex::default();
        let work = || -> Result<(), ReadError> {
            while let Some(portion) = portions.get(next.fetch_add(1, Ordering::Relaxed)) {
                assemble_many(
                    self.snapshot,
                    &self.whereabouts,
                    portion,
                    self.bounds,
                    |open| Some(self.columns(open)),
                    |found| {
                        for tree in &found.trees {
                            let summary = self.summary(&found.spans, tree);
                            done.lock().insert(tree.trace_id, (summary, tree.omitted));
                        }
                    },
                )?;
            }
            Ok(())
        };
        self.bounds.on_threads(portions.len(), work, || ReadError {
            path: String::new(),
            source: ParquetError::General("summing up a trace panicked".into()),
        })?;
        let mut done = done.into_inner();
        Ok(traces.iter().filter_map(|trace| done.remove(trace)).collect())
    }

    fn columns(&self, open: &OpenFile) -> Vec<String> {
        let shown = self.plan.shown.iter().map(|field| &field.expression);
        let mut columns: SeededSet<String> = SUMMARY_COLUMNS.iter().map(|name| (*name).to_owned()).collect();
        for expression in self.plan.expressions().into_iter().chain(shown) {
            columns.extend(columns_of(expression, open.layout()));
        }
        if open.layout().resource_column("service.name").is_none() {
            columns.insert("resource_attributes".to_owned());
        }
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
        let spansets = Evaluation::new(spans, tree, &facts).run(&self.plan.stages, &self.scan.start);
        let matched_count = union_of(&spansets).len() as u64;
        let shown = spansets.into_iter().map(|spanset| self.matched(spans, &facts, spanset));
        let spansets: Vec<MatchedSpanset> = shown.collect();
        (!spansets.is_empty()).then(|| summarize(spans, tree, matched_count, spansets))
    }

    fn matched(&self, spans: &SpanBatch, facts: &TraceFacts<'_>, spanset: Spanset) -> MatchedSpanset {
        let matched_count = spanset.rows.len() as u64;
        let mut rows = spanset.rows;
        rows.sort_by_key(|&row| (spans.start_unix_nanos[row as usize], spans.span_id[row as usize]));
        rows.truncate(self.request.spans_per_spanset);
        let shown: Vec<(&str, RowExpression<'_>)> = self
            .plan
            .shown
            .iter()
            .map(|field| (field.name.as_str(), RowExpression::new(&field.expression, spans, Some(facts))))
            .collect();
        let span = |row: u32| {
            let row = row as usize;
            MatchedSpan {
                span_id: spans.span_id[row],
                name: spans.strings.get(spans.name[row]).to_owned(),
                service_name: spans.strings.get(spans.service_name(row)).to_owned(),
                start_unix_nanos: spans.start_unix_nanos[row],
                duration_nanos: spans.duration_nanos[row],
                status_code: spans.status_code[row],
                fields: shown
                    .iter()
                    .filter_map(|(name, field)| Some(((*name).to_owned(), field.value_of(row).to_any()?)))
                    .collect(),
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

fn summarize(spans: &SpanBatch, tree: &TraceTree, matched_count: u64, spansets: Vec<MatchedSpanset>) -> TraceSummary {
    let mut services: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut earliest = tree.rows.start;
    for row in tree.rows.clone() {
        let counts = services.entry(spans.strings.get(spans.service_name(row))).or_default();
        counts.0 += 1;
        counts.1 += u64::from(spans.status_code[row] == status::ERROR);
        if spans.start_unix_nanos[row] < spans.start_unix_nanos[earliest] {
            earliest = row;
        }
    }
    let mut services: Vec<ServiceCount> = services
        .into_iter()
        .map(|(name, (span_count, error_count))| ServiceCount { name: name.to_owned(), span_count, error_count })
        .collect();
    services.sort_by_key(|service| std::cmp::Reverse(service.span_count));
    let first = tree.root.map_or(earliest, |row| tree.rows.start + row as usize);
    TraceSummary {
        trace_id: tree.trace_id,
        root_service_name: spans.strings.get(spans.service_name(first)).to_owned(),
        root_span_name: spans.strings.get(spans.name[first]).to_owned(),
        root_missing: !tree.parent.contains(&ParentRow::Root),
        start_unix_nanos: tree.start_unix_nanos,
        duration_nanos: tree.duration_nanos,
        span_count: tree.rows.len() as u64 + tree.omitted,
        error_count: tree.error_count,
        orphan_count: tree.parent.iter().filter(|parent| **parent == ParentRow::Missing).count() as u64,
        services,
        matched_count,
        spansets,
    }
}
