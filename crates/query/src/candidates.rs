//! Which traces have a span that satisfies a condition, from columns alone where they decide.

use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanBufferBuilder};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use parquet::errors::Result;
use tracehouse_model::{SeededMap, SeededSet, SpanBatch, TraceId};
use tracehouse_scan::{Bounds, ReadRows, RowGroup, Window};
use tracehouse_store::{Snapshot, SpanFile};

use crate::column_eval::{ColumnFilter, columns_of};
use crate::compile::Expression;
use crate::drivers::TraceDriver;
use crate::request::Condition;
use crate::row_eval::RowExpression;
use crate::shown::{all_hold, columns_of_conditions};

/// Rows are looked at one by one, if they must be, in blocks of so many.
const ROWS_PER_CHECK: usize = 4096;

/// Traces with a matching span, each with the start of its newest one.
#[derive(Default)]
pub(crate) struct Candidates {
    by_trace: SeededMap<TraceId, i64>,
    /// They don't come again, even if older spans of theirs are met.
    taken: SeededSet<TraceId>,
}

impl Candidates {
    pub(crate) fn add(&mut self, trace: TraceId, start: i64) {
        if self.taken.contains(&trace) {
            return;
        }
        let newest = self.by_trace.entry(trace).or_insert(start);
        *newest = (*newest).max(start);
    }

    /// Takes out those whose newest span is newer than a moment: newest first, ties by trace id.
    pub(crate) fn take_newer_than(&mut self, moment: i64) -> Vec<TraceId> {
        let mut newer: Vec<(TraceId, i64)> = self.by_trace.extract_if(|_, start| *start > moment).collect();
        newer.sort_unstable_by(|left, right| (right.1, left.0).cmp(&(left.1, right.0)));
        self.taken.extend(newer.iter().map(|(trace, _)| *trace));
        newer.into_iter().map(|(trace, _)| trace).collect()
    }

    /// About what this takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.by_trace.capacity() * (size_of::<(TraceId, i64)>() + 1)
            + self.taken.capacity() * (size_of::<TraceId>() + 1)
    }
}

/// Looks for the spans that satisfy a condition on spans.
pub(crate) struct Scan<'a> {
    pub(crate) filter: &'a Expression,
    /// Conditions for which the filter lets too much through.
    pub(crate) exactly: &'a [Condition],
    /// Only spans that it selects.
    pub(crate) window: Window,
    pub(crate) bounds: &'a Bounds,
}

impl Scan<'_> {
    /// Files that may have such spans, newest first.
    pub(crate) fn files<'s>(&self, snapshot: &'s Snapshot) -> Vec<&'s Arc<SpanFile>> {
        snapshot.files.iter().filter(|file| self.window.may_select_of(file)).collect()
    }

    pub(crate) fn look_at_memory(&self, spans: &SpanBatch, candidates: &mut Candidates) {
        let filter = RowExpression::new(self.filter, spans, None);
        for row in 0..spans.len() {
            if row % ROWS_PER_CHECK == 0 && self.bounds.exceeded() {
                return;
            }
            let start = spans.start_unix_nanos[row];
            if self.window.selects(start, spans.duration_nanos[row])
                && filter.holds(row)
                && all_hold(self.exactly, spans, row)
            {
                candidates.add(spans.trace_id[row], start);
            }
        }
    }

    /// The traces with matching spans in a row group, each with the start of its newest match. Left out are those that lie
    /// here as a whole and are not what the driver of traces asks for.
    pub(crate) fn traces_in_row_group(
        &self,
        row_group: RowGroup<'_>,
        driver: &TraceDriver,
        elsewhere: impl Fn(TraceId) -> bool,
    ) -> Result<Vec<(TraceId, i64)>> {
        let matching = self.matching_rows(row_group)?;
        if matching.count_set_bits() == 0 {
            return Ok(Vec::new());
        }
        let runs = if driver.looks_at_whole_traces() {
            self.whole_runs(row_group, driver, &matching)?
        } else {
            self.matching_runs(row_group, &matching)?
        };
        // A trace at an edge may go on in the next row group.
        let last = runs.len().saturating_sub(1);
        let at_edge = |number: usize| (number == 0 && row_group.number > 0) || number == last;
        let kept = runs.iter().enumerate().filter(|(number, run)| {
            run.matching > 0 && (driver.is_none() || run.satisfies(driver) || at_edge(*number) || elsewhere(run.trace))
        });
        Ok(kept.map(|(_, run)| (run.trace, run.newest)).collect())
    }

    /// What the matching rows of a row group say about their traces.
    fn matching_runs(&self, row_group: RowGroup<'_>, matching: &BooleanBuffer) -> Result<Vec<Run>> {
        let mut runs = Vec::new();
        for batch in row_group.read(&["trace_id", "start_time"], &ReadRows::exactly(matching), usize::MAX)? {
            let batch = batch?;
            let ids = batch.column(0).as_fixed_size_binary();
            let starts = batch.column(1).as_primitive::<TimestampNanosecondType>();
            for row in 0..ids.len() {
                Run::of(trace_id(ids.value(row)), &mut runs).add_match(starts.value(row));
            }
        }
        Ok(runs)
    }

    /// What all rows of a row group say about their traces.
    fn whole_runs(&self, row_group: RowGroup<'_>, driver: &TraceDriver, matching: &BooleanBuffer) -> Result<Vec<Run>> {
        let roots = match &driver.root {
            None => BooleanBuffer::new_unset(matching.len()),
            Some(filter) => {
                // A root may be older than the range that is asked for.
                ColumnFilter { filter, row_group, window: &Window::starting(i64::MIN..i64::MAX) }.run()?.rows
            }
        };
        let columns = ["trace_id", "start_time", "duration_nanos"];
        let readable = row_group.readable();
        let mut runs = Vec::new();
        let mut first = 0;
        for batch in row_group.read(&columns, &ReadRows::All(readable.len()), usize::MAX)? {
            let batch = batch?;
            let ids = batch.column(0).as_fixed_size_binary();
            let starts = batch.column(1).as_primitive::<TimestampNanosecondType>();
            let durations = batch.column(2).as_primitive::<Int64Type>();
            for row in 0..ids.len() {
                if !readable.value(first + row) {
                    continue;
                }
                let run = Run::of(trace_id(ids.value(row)), &mut runs);
                let start = starts.value(row);
                run.start = run.start.min(start);
                run.end = run.end.max(start.saturating_add(durations.value(row)));
                run.has_root |= roots.value(first + row);
                if matching.value(first + row) {
                    run.add_match(start);
                }
            }
            first += ids.len();
        }
        Ok(runs)
    }

    /// The rows of a row group that satisfy the condition.
    pub(crate) fn matching_rows(&self, row_group: RowGroup<'_>) -> Result<BooleanBuffer> {
        let mask = ColumnFilter { filter: self.filter, row_group, window: &self.window }.run()?;
        if mask.exact && self.exactly.is_empty() { Ok(mask.rows) } else { self.check_rows(row_group, &mask.rows) }
    }

    /// Looks at rows one by one, for conditions that columns can't decide.
    fn check_rows(&self, row_group: RowGroup<'_>, rows: &BooleanBuffer) -> Result<BooleanBuffer> {
        let mut held = BooleanBufferBuilder::new(rows.len());
        held.append_n(rows.len(), false);
        let mut columns = columns_of(self.filter, row_group.open.layout());
        columns.extend(columns_of_conditions(self.exactly, row_group.open.layout()));
        columns.sort_unstable();
        columns.dedup();
        let ids = if self.filter.mentions_parent { Some(row_group.own_ids()?) } else { None };
        row_group.each_block(rows, Some(&columns), ROWS_PER_CHECK, |spans, block, inside| {
            let own_id = |row: usize| ids.as_ref().and_then(|(ids, _)| ids.ids.get(block.start + row));
            let is_half = |row: usize| own_id(row).is_some_and(|own| *own != spans.span_id[row]);
            let filter = RowExpression::new(self.filter, spans, None).with_halves(&is_half);
            for &row in inside.iter().filter(|&&row| filter.holds(row) && all_hold(self.exactly, spans, row)) {
                held.set_bit(block.start + row, true);
            }
            Ok(true)
        })?;
        Ok(held.finish())
    }
}

/// Rows of one trace that follow each other.
struct Run {
    trace: TraceId,
    matching: usize,
    /// When the newest match starts.
    newest: i64,
    start: i64,
    end: i64,
    /// Whether a root satisfies what the driver asks of roots.
    has_root: bool,
}

impl Run {
    /// The last run, or a new one if that is of another trace.
    fn of(trace: TraceId, runs: &mut Vec<Run>) -> &mut Run {
        if runs.last().is_none_or(|last| last.trace != trace) {
            let (newest, start, end) = (i64::MIN, i64::MAX, i64::MIN);
            runs.push(Run { trace, matching: 0, newest, start, end, has_root: false });
        }
        runs.last_mut().expect("one was put there")
    }

    fn add_match(&mut self, start: i64) {
        self.matching += 1;
        self.newest = self.newest.max(start);
    }

    fn satisfies(&self, driver: &TraceDriver) -> bool {
        self.matching >= driver.spans_min
            && (!driver.looks_at_whole_traces()
                || self.end.saturating_sub(self.start) >= driver.duration_nanos_min
                    && (driver.root.is_none() || self.has_root))
    }
}

fn trace_id(bytes: &[u8]) -> TraceId {
    let mut id = [0; 16];
    id.copy_from_slice(bytes);
    TraceId(id)
}
