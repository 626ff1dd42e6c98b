//! Which traces have a span that satisfies a condition, from columns alone where they decide.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, AsArray, BooleanBufferBuilder};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use parquet::errors::Result;
use tracehouse_model::{SeededMap, SeededSet, SpanBatch, TraceId};
use tracehouse_scan::{Bounds, ReadRows, RowGroup, Window, contents_of, may_contain};
use tracehouse_store::{Snapshot, SpanFile};

use crate::column_eval::{ColumnFilter, columns_of, file_may_match};
use crate::compile::Expression;
use crate::drivers::{AtLeast, TraceDriver};
use crate::question::Question;
use crate::request::Condition;
use crate::row_eval::RowExpression;
use crate::shown::{all_hold, columns_of_conditions};
use crate::whereabouts::Whereabouts;

/// Rows are looked at one by one, if they must be, in blocks of so many.
const ROWS_PER_CHECK: usize = 4096;

/// Matches are few if they are one row in so many.
const SHARE_OF_FEW: usize = 32;

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

    /// Takes out those whose newest span is newer than a moment, each with the start of that span: newest first, ties by trace id.
    pub(crate) fn take_newer_than(&mut self, moment: i64) -> Vec<(TraceId, i64)> {
        let mut newer: Vec<(TraceId, i64)> = self.by_trace.extract_if(|_, start| *start > moment).collect();
        newer.sort_unstable_by(|left, right| (right.1, left.0).cmp(&(left.1, right.0)));
        self.taken.extend(newer.iter().map(|(trace, _)| *trace));
        newer
    }

    /// About what this takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.by_trace.capacity() * (size_of::<(TraceId, i64)>() + 1)
            + self.taken.capacity() * (size_of::<TraceId>() + 1)
    }
}

/// Looks for the spans that satisfy a condition on spans.
pub(crate) struct SpanFinder<'a> {
    pub(crate) filter: &'a Expression,
    /// Conditions for which the filter lets too much through.
    pub(crate) exactly: &'a [Condition],
    /// Only spans that it selects.
    pub(crate) window: Window,
    pub(crate) bounds: &'a Bounds,
}

impl SpanFinder<'_> {
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

    /// The traces with matching spans in a row group, each with the start of its newest match. Left out are those that lack
    /// something that the driver of traces asks for, and can't have it `elsewhere`; none of those, if matches are few and `many` others
    /// are not looked for: who puts few traces together sees that sooner.
    pub(crate) fn traces_in_row_group(
        &self,
        row_group: RowGroup<'_>,
        driver: &TraceDriver,
        many: bool,
        elsewhere: impl Fn(TraceId, Lacks) -> bool,
    ) -> Result<Vec<(TraceId, i64)>> {
        let matching = self.matching_rows(row_group)?;
        if matching.count_set_bits() == 0 {
            return Ok(Vec::new());
        }
        let are_few = !many && matching.count_set_bits() <= matching.len() / SHARE_OF_FEW;
        let driver = if are_few { &TraceDriver::NONE } else { driver };
        let runs = self.runs(row_group, driver, &matching)?;
        // A trace at an edge may go on in the next row group.
        let last = runs.len().saturating_sub(1);
        let at_edge = |number: usize| (number == 0 && row_group.number > 0) || number == last;
        let kept = runs.iter().enumerate().filter(|(number, run)| {
            run.newest.is_some()
                && run.lacks(driver).is_none_or(|lacks| at_edge(*number) || elsewhere(run.trace, lacks))
        });
        Ok(kept.filter_map(|(_, run)| Some((run.trace, run.newest?))).collect())
    }

    /// What a row group says about its traces: that with matching spans, and of others enough to see that they have none.
    fn runs(&self, row_group: RowGroup<'_>, driver: &TraceDriver, matching: &BooleanBuffer) -> Result<Vec<Run>> {
        // What stands beside a match may be older than the range that is asked for.
        let always = Window::starting(i64::MIN..i64::MAX);
        let of_condition = |has: &AtLeast| {
            let filter = ColumnFilter { filter: &has.condition, row_group, window: &always };
            Ok(filter.run()?.rows)
        };
        let beside: Vec<BooleanBuffer> = driver.has.iter().map(of_condition).collect::<Result<_>>()?;
        let wanted = if driver.asks_for_length() {
            row_group.readable()
        } else {
            beside.iter().fold(matching.clone(), |all, rows| &all | rows)
        };
        let columns: &[&str] = &["trace_id", "start_time", "duration_nanos"];
        let columns = &columns[..if driver.asks_for_length() { 3 } else { 2 }];
        let mut runs: Vec<Run> = Vec::new();
        let mut rows = wanted.set_indices();
        for batch in row_group.read(columns, &ReadRows::exactly(&wanted), usize::MAX)? {
            let batch = batch?;
            let ids = batch.column(0).as_fixed_size_binary();
            let starts = batch.column(1).as_primitive::<TimestampNanosecondType>();
            let durations = batch.columns().get(2).map(|column| column.as_primitive::<Int64Type>());
            for at in 0..ids.len() {
                let Some(row) = rows.next() else { break };
                let run = Run::of(trace_id(ids.value(at)), driver, &mut runs);
                let start = starts.value(at);
                run.start = run.start.min(start);
                if let Some(durations) = durations {
                    run.end = run.end.max(start.saturating_add(durations.value(at)));
                }
                for (count, rows) in run.beside.iter_mut().zip(&beside) {
                    *count += usize::from(rows.value(row));
                }
                if matching.value(row) {
                    run.newest = Some(run.newest.map_or(start, |newest| newest.max(start)));
                }
            }
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

/// What a trace does not have where it was looked at.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lacks {
    Length,
    /// Of what the driver of traces says it has, the one of this number.
    Spans(usize),
}

/// Rows of one trace that follow each other.
struct Run {
    trace: TraceId,
    /// When the newest match starts.
    newest: Option<i64>,
    start: i64,
    end: i64,
    /// How many there are of what the driver of traces says it has, each.
    beside: Vec<usize>,
}

impl Run {
    /// The last run, or a new one if that is of another trace.
    fn of<'r>(trace: TraceId, driver: &TraceDriver, runs: &'r mut Vec<Run>) -> &'r mut Run {
        if runs.last().is_none_or(|last| last.trace != trace) {
            let beside = vec![0; driver.has.len()];
            runs.push(Run { trace, newest: None, start: i64::MAX, end: i64::MIN, beside });
        }
        runs.last_mut().expect("one was put there")
    }

    fn lacks(&self, driver: &TraceDriver) -> Option<Lacks> {
        let short = |(_, (count, has)): &(usize, (&usize, &AtLeast))| **count < has.spans;
        let lacking = self.beside.iter().zip(&driver.has).enumerate().find(short);
        let too_short = driver.asks_for_length() && self.end.saturating_sub(self.start) < driver.duration_nanos_min;
        lacking.map(|(number, _)| Lacks::Spans(number)).or(too_short.then_some(Lacks::Length))
    }
}

/// What the driver of traces says that a trace has beside the spans by which it is found, and where it may have that.
pub(crate) struct Beside<'a> {
    question: Question<'a>,
    whereabouts: &'a Whereabouts<'a>,
    driver: &'a TraceDriver,
    /// For each condition, the numbers of the files that may have such spans, once it was asked for.
    files: Vec<OnceLock<Vec<usize>>>,
    /// For how many traces files were looked through.
    asked: AtomicUsize,
}

/// What all files say of their contents is read, where it isn't known yet, if so many traces are in question, or a share of all files
/// is looked at anyway: one in so many.
const TRACES_OF_ALL_FILES: usize = 256;
const SHARE_OF_ALL_FILES: usize = 4;

impl<'a> Beside<'a> {
    pub(crate) fn new(question: Question<'a>, whereabouts: &'a Whereabouts<'a>, driver: &'a TraceDriver) -> Self {
        let files = driver.has.iter().map(|_| OnceLock::new()).collect();
        Self { question, whereabouts, driver, files, asked: AtomicUsize::new(0) }
    }

    /// Whether no trace at all has what one of the conditions asks for, if that is worth finding out for so many files.
    pub(crate) fn rules_out_all(&self, files: usize) -> bool {
        if files * SHARE_OF_ALL_FILES < self.question.snapshot.files.len() {
            return false;
        }
        let has_not = |(number, has): (usize, &AtLeast)| {
            self.files_of(number).is_empty() && !self.question.bounds.exceeded() && {
                let mut any = false;
                self.look_at_memory(has, |_| {
                    any = true;
                    false
                });
                !any
            }
        };
        self.driver.has.iter().enumerate().any(has_not)
    }

    /// Leaves of candidates that were found in memory those that have there what is asked for, or may have it in files.
    pub(crate) fn keep_possible(&self, candidates: &mut Candidates) {
        let bounds = self.question.bounds;
        for (number, has) in self.driver.has.iter().enumerate() {
            let mut held = bounds.hold();
            if candidates.by_trace.is_empty() || bounds.take(&mut held, candidates.bytes()).is_err() {
                return;
            }
            let mut counts: SeededMap<TraceId, usize> = SeededMap::default();
            self.look_at_memory(has, |trace| {
                if candidates.by_trace.contains_key(&trace) {
                    *counts.entry(trace).or_default() += 1;
                }
                true
            });
            candidates.by_trace.retain(|trace, _| {
                counts.get(trace).is_some_and(|count| *count >= has.spans)
                    || self.in_files(*trace, Lacks::Spans(number), None, true)
            });
        }
    }

    /// Whether a trace may have outside a file what it lacks there. `many`: it is not the only trace in question.
    pub(crate) fn elsewhere(&self, trace: TraceId, lacks: Lacks, file: &SpanFile, many: bool) -> bool {
        self.in_files(trace, lacks, Some(file), many) || self.question.snapshot.hot.may_hold(trace)
    }

    fn in_files(&self, trace: TraceId, lacks: Lacks, except: Option<&SpanFile>, many: bool) -> bool {
        let Question { snapshot, bounds, .. } = self.question;
        let all = 0..snapshot.files.len();
        // After the end of the time nothing of this counts.
        bounds.exceeded()
            || match lacks {
                Lacks::Length => self.whereabouts.in_any(trace, all, except, many),
                Lacks::Spans(number) if self.asked.fetch_add(1, Ordering::Relaxed) >= TRACES_OF_ALL_FILES => {
                    self.whereabouts.in_any(trace, self.files_of(number).iter().copied(), except, many)
                }
                Lacks::Spans(number) => {
                    let holding = all.filter(|&file| may_contain(&snapshot.files[file], trace));
                    let possible = holding.filter(|&file| self.may_have(number, &snapshot.files[file]));
                    self.whereabouts.in_any(trace, possible, except, many)
                }
            }
    }

    fn may_have(&self, condition: usize, file: &Arc<SpanFile>) -> bool {
        let condition = &self.driver.has[condition].condition;
        self.question.bounds.exceeded() || file_may_match(condition, file, &contents_of(file))
    }

    fn files_of(&self, condition: usize) -> &[usize] {
        self.files[condition].get_or_init(|| {
            let files = self.question.snapshot.files.iter().enumerate();
            files.filter(|(_, file)| self.may_have(condition, file)).map(|(number, _)| number).collect()
        })
    }

    /// Shows the trace of each span in memory that satisfies a condition, until `look` wants no more.
    fn look_at_memory(&self, has: &AtLeast, mut look: impl FnMut(TraceId) -> bool) {
        for hot in self.question.snapshot.hot.iter() {
            let filter = RowExpression::new(&has.condition, &hot.spans, None);
            for row in 0..hot.spans.len() {
                let stop = row % ROWS_PER_CHECK == 0 && self.question.bounds.exceeded();
                if stop || filter.holds(row) && !look(hot.spans.trace_id[row]) {
                    return;
                }
            }
        }
    }
}

fn trace_id(bytes: &[u8]) -> TraceId {
    let mut id = [0; 16];
    id.copy_from_slice(bytes);
    TraceId(id)
}
