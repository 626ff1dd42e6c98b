//! Finds the newest traces with a span that satisfies a filter.
//!
//! First the candidates: memory, then files from the newest back, until no older file can hold a newer match than those
//! found. Then each candidate trace is summed up from its own rows.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::{Array, AsArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::TimestampNanosecondType;
use parking_lot::Mutex;
use parquet::arrow::arrow_reader::RowSelection;
use parquet::errors::{ParquetError, Result};
use rustc_hash::FxHashMap;
use tracehouse_model::{SpanBatch, TraceId, status};
use tracehouse_store::{OpenFile, Projection, ReadError, Snapshot, SpanFile, StringForm};

use crate::assemble::assemble_columns;
use crate::column_eval::{ColumnFilter, columns_of, file_may_match};
use crate::compile::Filter;
use crate::request::{
    Inspected, MatchedSpan, MatchedSpanset, ParentRow, SearchAnswer, SearchRequest, ServiceCount, Trace, TraceSummary,
};
use crate::row_eval::{RowFilter, TraceFacts};

/// What bounds a search besides its own limit.
pub(crate) struct Bounds<'a> {
    pub(crate) threads: usize,
    pub(crate) time_max: Duration,
    pub(crate) elapsed: &'a (dyn Fn() -> Duration + Sync),
    /// Set when nobody waits for the answer any more.
    pub(crate) cancelled: &'a AtomicBool,
    /// Most spans that are read of one trace to sum it up.
    pub(crate) spans_per_trace_max: usize,
}

impl Bounds<'_> {
    fn exceeded(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed) || (self.elapsed)() > self.time_max
    }
}

/// Candidates are kept for so many traces more than asked for: some may turn out not to match as a whole.
const CANDIDATES_MIN: usize = 64;
const CANDIDATES_WITH_TRACE_CONDITIONS: usize = 20_000;
/// Matching rows are looked at one by one, if they must be, in blocks of so many.
const ROWS_PER_CHECK: usize = 4096;

/// What the line of a trace in a list is made from.
const SUMMARY_COLUMNS: [&str; 4] = ["name", "kind", "status", "resource.service.name"];

pub(crate) fn search(
    snapshot: &Snapshot,
    filter: &Filter,
    request: &SearchRequest,
    bounds: &Bounds<'_>,
) -> std::result::Result<SearchAnswer, ReadError> {
    let start = request.start_unix_nanos.unwrap_or(i64::MIN)..request.end_unix_nanos.unwrap_or(i64::MAX);
    let trace_conditions =
        filter.needs_trace || request.trace_duration_nanos_min.is_some() || request.trace_duration_nanos_max.is_some();
    let wanted = if trace_conditions { CANDIDATES_WITH_TRACE_CONDITIONS } else { request.limit.max(CANDIDATES_MIN) };
    let search = Search { snapshot, filter, request, bounds, start, wanted };
    let mut candidates = Candidates::new(wanted);
    let mut answer = SearchAnswer::default();
    search.look_at_memory(&mut candidates, &mut answer.inspected);
    search.look_at_files(&mut candidates, &mut answer, trace_conditions);
    search.sum_up(candidates, &mut answer)?;
    if bounds.exceeded() && answer.partial_reason.is_none() {
        answer.partial_reason = Some(format!(
            "stopped after {:.1} s: {} of {} files read",
            bounds.time_max.as_secs_f64(),
            answer.inspected.files,
            answer.inspected.files_total
        ));
    }
    Ok(answer)
}

struct Search<'a> {
    snapshot: &'a Snapshot,
    filter: &'a Filter,
    request: &'a SearchRequest,
    bounds: &'a Bounds<'a>,
    start: Range<i64>,
    wanted: usize,
}

/// Traces with a matching span, newest match first.
struct Candidates {
    by_trace: FxHashMap<TraceId, i64>,
    wanted: usize,
}

impl Candidates {
    fn new(wanted: usize) -> Self {
        Self { by_trace: FxHashMap::default(), wanted }
    }

    fn add(&mut self, trace: TraceId, start: i64) {
        let newest = self.by_trace.entry(trace).or_insert(start);
        *newest = (*newest).max(start);
        if self.by_trace.len() >= 8 * self.wanted {
            let kept = self.sorted();
            self.by_trace = kept.into_iter().take(2 * self.wanted).collect();
        }
    }

    fn sorted(&self) -> Vec<(TraceId, i64)> {
        let mut sorted: Vec<_> = self.by_trace.iter().map(|(trace, start)| (*trace, *start)).collect();
        sorted.sort_unstable_by(|left, right| (right.1, left.0).cmp(&(left.1, right.0)));
        sorted
    }

    /// The start of the match that is last among the wanted; `None` while there are fewer.
    fn last_wanted(&self, limit: usize) -> Option<i64> {
        if self.by_trace.len() < limit {
            return None;
        }
        let mut starts: Vec<i64> = self.by_trace.values().copied().collect();
        let (_, last, _) = starts.select_nth_unstable_by(limit - 1, |left, right| right.cmp(left));
        Some(*last)
    }
}

impl Search<'_> {
    fn look_at_memory(&self, candidates: &mut Candidates, inspected: &mut Inspected) {
        for hot in &self.snapshot.hot {
            let spans = &hot.spans;
            inspected.spans += spans.len() as u64;
            let rows = RowFilter::new(self.filter, spans, None);
            for row in 0..spans.len() {
                let start = spans.start_unix_nanos[row];
                if self.start.contains(&start) && (self.filter.needs_trace || rows.holds(row)) {
                    candidates.add(spans.trace_id[row], start);
                }
            }
        }
    }

    /// Looks at files, newest first, until they can add nothing.
    fn look_at_files(&self, candidates: &mut Candidates, answer: &mut SearchAnswer, trace_conditions: bool) {
        let in_range = |file: &&std::sync::Arc<SpanFile>| {
            file.record.start_max >= self.start.start && file.record.start_min < self.start.end
        };
        let files: Vec<_> = self.snapshot.files.iter().filter(in_range).collect();
        answer.inspected.files_total = files.len() as u64;
        let mut failed = Vec::new();
        for file in files {
            let enough = if trace_conditions { self.wanted } else { self.request.limit };
            let done = candidates.last_wanted(enough).is_some_and(|last| file.record.start_max < last);
            if done || self.bounds.exceeded() {
                break;
            }
            answer.inspected.files += 1;
            if !self.filter.needs_trace && !file_may_match(self.filter, &file.contents) {
                continue;
            }
            match self.look_at_file(file, candidates) {
                Ok(spans) => {
                    answer.inspected.spans += spans;
                    answer.inspected.bytes += file.record.bytes;
                }
                Err(error) => failed.push(file.read_error(error)),
            }
        }
        if let Some(first) = failed.first() {
            let (of, total) = (failed.len(), answer.inspected.files_total);
            tracing::error!(path = first.path, error = %first.source, "a file could not be searched");
            answer.partial_reason = Some(format!("{of} of {total} files could not be read"));
            answer.inspected.files -= of as u64;
        }
    }

    /// Looks at one file, its row groups side by side; returns how many spans it has.
    fn look_at_file(&self, file: &std::sync::Arc<SpanFile>, candidates: &mut Candidates) -> Result<u64> {
        let open = file.open().map_err(|error| error.source)?;
        let (next, spans) = (AtomicUsize::new(0), AtomicU64::new(0));
        let found: Mutex<Vec<(TraceId, i64)>> = Mutex::default();
        let work = || -> Result<()> {
            loop {
                let row_group = next.fetch_add(1, Ordering::Relaxed);
                if row_group >= open.row_groups() || self.bounds.exceeded() {
                    return Ok(());
                }
                spans.fetch_add(open.rows_of(row_group) as u64, Ordering::Relaxed);
                let matches = self.look_at_row_group(file, &open, row_group)?;
                found.lock().extend(matches);
            }
        };
        let helpers = self.bounds.threads.min(open.row_groups()).saturating_sub(1);
        std::thread::scope(|scope| {
            let handles: Vec<_> = (0..helpers).map(|_| scope.spawn(work)).collect();
            let mut outcome = work();
            for handle in handles {
                let joined = handle.join().unwrap_or_else(|_| Err(ParquetError::General("a search panicked".into())));
                outcome = outcome.and(joined);
            }
            outcome
        })?;
        for (trace, start) in found.into_inner() {
            candidates.add(trace, start);
        }
        Ok(spans.into_inner())
    }

    /// The traces with matching spans in a row group, each with the start of its newest match.
    fn look_at_row_group(&self, file: &SpanFile, open: &OpenFile, row_group: usize) -> Result<Vec<(TraceId, i64)>> {
        if let Some((min, max)) = open.int_range(row_group, "start_time")
            && (max < self.start.start || min >= self.start.end)
        {
            return Ok(Vec::new());
        }
        let columns = ColumnFilter {
            filter: self.filter,
            file: open,
            contents: &file.contents,
            row_group,
            start: self.start.clone(),
        };
        let mask = columns.run()?;
        let mut rows = mask.rows;
        if !mask.exact && !self.filter.needs_trace {
            rows = self.check_rows(open, row_group, &rows)?;
        }
        if rows.count_set_bits() == 0 {
            return Ok(Vec::new());
        }
        let selection = RowSelection::from_filters(&[rows.clone().into()]);
        let reader =
            open.scan(row_group, &["trace_id", "start_time"], Some(selection), StringForm::View, rows.len())?;
        let mut found: Vec<(TraceId, i64)> = Vec::new();
        for batch in reader {
            let batch = batch?;
            let ids = batch.column(0).as_fixed_size_binary();
            let starts = batch.column(1).as_primitive::<TimestampNanosecondType>();
            for row in 0..ids.len() {
                let trace = trace_id(ids.value(row));
                let start = starts.value(row);
                match found.last_mut() {
                    Some(last) if last.0 == trace => last.1 = last.1.max(start),
                    _ => found.push((trace, start)),
                }
            }
        }
        Ok(found)
    }

    /// Looks at rows one by one, for conditions that columns can't decide.
    fn check_rows(&self, open: &OpenFile, row_group: usize, rows: &BooleanBuffer) -> Result<BooleanBuffer> {
        let mut held = arrow::array::BooleanBufferBuilder::new(rows.len());
        held.append_n(rows.len(), false);
        let columns = columns_of(self.filter, open.layout());
        let mut begin = 0;
        while begin < rows.len() {
            let end = (begin + ROWS_PER_CHECK).min(rows.len());
            let block = rows.slice(begin, end - begin);
            if block.count_set_bits() > 0 && !self.bounds.exceeded() {
                let spans = open.read_rows(row_group, begin..end, Projection::Only(&columns))?;
                let filter = RowFilter::new(self.filter, &spans, None);
                for row in block.set_indices().filter(|&row| filter.holds(row)) {
                    held.set_bit(begin + row, true);
                }
            }
            begin = end;
        }
        Ok(held.finish())
    }

    fn sum_up(&self, candidates: Candidates, answer: &mut SearchAnswer) -> std::result::Result<(), ReadError> {
        let sorted = candidates.sorted();
        let limit = self.request.limit;
        let mut from = 0;
        while from < sorted.len() && answer.traces.len() < limit && !self.bounds.exceeded() {
            let to = (from + limit - answer.traces.len()).min(sorted.len());
            answer.traces.extend(self.summaries(&sorted[from..to])?);
            from = to;
        }
        answer.traces.sort_by(|left, right| {
            (right.start_unix_nanos, left.trace_id).cmp(&(left.start_unix_nanos, right.trace_id))
        });
        Ok(())
    }

    /// Sums traces up, side by side; those that don't match as a whole are left out.
    fn summaries(&self, traces: &[(TraceId, i64)]) -> std::result::Result<Vec<TraceSummary>, ReadError> {
        let next = AtomicUsize::new(0);
        let done: Mutex<BTreeMap<usize, TraceSummary>> = Mutex::default();
        let work = || -> std::result::Result<(), ReadError> {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                let Some((trace, _)) = traces.get(number) else { return Ok(()) };
                if let Some(summary) = self.summary(*trace)? {
                    done.lock().insert(number, summary);
                }
            }
        };
        let helpers = self.bounds.threads.min(traces.len()).saturating_sub(1);
        std::thread::scope(|scope| {
            let handles: Vec<_> = (0..helpers).map(|_| scope.spawn(work)).collect();
            let mut outcome = work();
            for handle in handles {
                let panicked = || ReadError {
                    path: String::new(),
                    source: ParquetError::General("summing up a trace panicked".into()),
                };
                outcome = outcome.and(handle.join().unwrap_or_else(|_| Err(panicked())));
            }
            outcome
        })?;
        Ok(done.into_inner().into_values().collect())
    }

    fn summary(&self, trace_id: TraceId) -> std::result::Result<Option<TraceSummary>, ReadError> {
        let columns = |open: &OpenFile| {
            let mut columns = columns_of(self.filter, open.layout());
            columns.extend(SUMMARY_COLUMNS.map(str::to_owned));
            if open.layout().resource_column("service.name").is_none() {
                columns.push("resource_attributes".to_owned());
            }
            Some(columns)
        };
        let assembled = assemble_columns(self.snapshot, trace_id, self.bounds.spans_per_trace_max, columns)?;
        let Some(trace) = assembled else { return Ok(None) };
        let duration = trace.duration_nanos;
        if self.request.trace_duration_nanos_min.is_some_and(|min| duration < min)
            || self.request.trace_duration_nanos_max.is_some_and(|max| duration > max)
        {
            return Ok(None);
        }
        let facts = TraceFacts::of(&trace);
        let filter = RowFilter::new(self.filter, &trace.spans, Some(&facts));
        let in_range = |row: &usize| self.start.contains(&trace.spans.start_unix_nanos[*row]);
        let mut matched: Vec<usize> =
            (0..trace.spans.len()).filter(in_range).filter(|&row| filter.holds(row)).collect();
        if matched.is_empty() {
            return Ok(None);
        }
        let matched_count = matched.len() as u64;
        matched.sort_by_key(|&row| (trace.spans.start_unix_nanos[row], trace.spans.span_id[row]));
        matched.truncate(self.request.spans_per_spanset);
        let spans = matched.into_iter().map(|row| matched_span(&trace.spans, row)).collect();
        let spanset = MatchedSpanset { by: Vec::new(), matched_count, spans };
        Ok(Some(summarize(&trace, vec![spanset])))
    }
}

fn matched_span(spans: &SpanBatch, row: usize) -> MatchedSpan {
    MatchedSpan {
        span_id: spans.span_id[row],
        name: spans.strings.get(spans.name[row]).to_owned(),
        service_name: spans.strings.get(spans.service_name(row)).to_owned(),
        start_unix_nanos: spans.start_unix_nanos[row],
        duration_nanos: spans.duration_nanos[row],
        status_code: spans.status_code[row],
        fields: Vec::new(),
    }
}

fn summarize(trace: &Trace, spansets: Vec<MatchedSpanset>) -> TraceSummary {
    let spans = &trace.spans;
    let mut services: FxHashMap<u32, (u64, u64)> = FxHashMap::default();
    for row in 0..spans.len() {
        let counts = services.entry(spans.service_name(row)).or_default();
        counts.0 += 1;
        counts.1 += u64::from(spans.status_code[row] == status::ERROR);
    }
    let mut services: Vec<ServiceCount> = services
        .into_iter()
        .map(|(service, (span_count, error_count))| ServiceCount {
            name: spans.strings.get(service).to_owned(),
            span_count,
            error_count,
        })
        .collect();
    services.sort_by(|left, right| (right.span_count, &left.name).cmp(&(left.span_count, &right.name)));
    let earliest = (0..spans.len()).min_by_key(|&row| spans.start_unix_nanos[row]).unwrap_or(0);
    let first = trace.root.map_or(earliest, |row| row as usize);
    TraceSummary {
        trace_id: trace.trace_id,
        root_service_name: spans.strings.get(spans.service_name(first)).to_owned(),
        root_span_name: spans.strings.get(spans.name[first]).to_owned(),
        root_missing: !trace.parent.contains(&ParentRow::Root),
        start_unix_nanos: trace.start_unix_nanos,
        duration_nanos: trace.duration_nanos,
        span_count: trace.span_count,
        error_count: trace.error_count,
        services,
        matched_count: spansets.iter().map(|spanset| spanset.matched_count).sum(),
        spansets,
    }
}

fn trace_id(bytes: &[u8]) -> TraceId {
    let mut id = [0; 16];
    id.copy_from_slice(bytes);
    TraceId(id)
}
