//! `compare()`: how the attributes of selected spans differ from those of the rest.
//!
//! Counts every value of every attribute twice, for the selection and for the rest (the baseline), and shows the most
//! frequent values of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parquet::errors::Result;
use tracehouse_scan::{Done, Piece, Reach, each_row_group};
use tracehouse_store::SpanFile;

use super::batch_counts::BatchCounts;
use super::columns::{Rows, starts, weights};
use super::counts::Counts;
use super::room::Room;
use super::series_plan::{ComparePlan, SeriesPlan};
use super::steps::Steps;
use super::tally::Slotted;
use crate::candidates::SpanFinder;
use crate::compile::Expression;
use crate::halves::HotCallers;
use crate::met::{Met, matching_files};
use crate::question::Question;
use crate::request::Series;
use crate::row_eval::RowExpression;
use crate::shares::cell_bytes_max;
use crate::whole_traces::{Left, WholeTraces};

struct Compare<'a> {
    plan: &'a ComparePlan,
    series: &'a SeriesPlan,
    steps: &'a Steps,
    question: Question<'a>,
}

impl ComparePlan {
    pub(super) fn run(&self, series: &SeriesPlan, steps: &Steps, question: Question<'_>, met: &mut Met) -> Vec<Series> {
        let compare = Compare { plan: self, series, steps, question };
        let files = matching_files(&series.finder(steps, question), question, met);
        let counts = match series.spans_alone() {
            Some(filter) => compare.over_columns(filter, &files, met),
            None => compare.over_traces(&files, met),
        };
        met.weighting.spans += counts.spans;
        met.weighting.spans_of_unknown_probability += counts.unknown;
        counts.into_series(self.top, question, met)
    }
}

impl Compare<'_> {
    fn slot(&self, start: i64, selected: bool) -> u32 {
        2 * self.steps.of_start(start) + u32::from(selected && self.plan.in_window(start))
    }

    fn begin(&self) -> Counts {
        let bounds = self.question.bounds;
        Counts::new(self.steps, Room::new(bounds.hold(), cell_bytes_max(bounds)))
    }

    /// Columns are counted one after the other. If one can't be read, what was counted of its row group is half a truth: then
    /// everything is counted once more, each row group by itself and added only when all of it was read.
    fn over_columns(&self, filter: &Expression, files: &[&Arc<SpanFile>], met: &mut Met) -> Counts {
        let Question { snapshot, reach, .. } = self.question;
        let (trial, failed) = (Reach::of(snapshot, &self.steps.window()), AtomicBool::new(false));
        let (mut all, mut done) = self.over_row_groups(filter, files, &trial, |finder, piece, own| {
            let counted = self.count_row_group(finder, piece, own);
            failed.fetch_or(counted.is_err(), Ordering::Relaxed);
            counted
        });
        if failed.into_inner() || trial.files_lost() > reach.files_lost() {
            all.clear();
            (all, done) = self.over_row_groups(filter, files, reach, |finder, piece, own| {
                let mut alone = self.begin();
                self.count_row_group(finder, piece, &mut alone)?;
                own.merge(alone);
                Ok(())
            });
        }
        met.read(self.question, done, files.len());
        let mut counts = self.begin();
        self.count_memory(filter, &mut counts);
        all.into_iter().for_each(|own| counts.merge(own));
        counts
    }

    fn over_row_groups<'f>(
        &self,
        filter: &Expression,
        files: &[&'f Arc<SpanFile>],
        reach: &Reach,
        count: impl Fn(&SpanFinder<'_>, &Piece<'f>, &mut Counts) -> Result<()> + Sync,
    ) -> (Vec<Counts>, Done) {
        let bounds = self.question.bounds;
        let finder = SpanFinder { filter, exactly: &[], window: self.steps.window(), bounds };
        each_row_group(bounds, reach, files, || self.begin(), |piece, own| count(&finder, piece, own))
    }

    fn count_row_group(&self, finder: &SpanFinder<'_>, piece: &Piece<'_>, counts: &mut Counts) -> Result<()> {
        let row_group = piece.rows(finder.bounds);
        let wanted = finder.matching_rows(row_group)?;
        let selecting = SpanFinder {
            filter: &self.plan.selection,
            exactly: &[],
            window: finder.window.clone(),
            bounds: finder.bounds,
        };
        let selected = &selecting.matching_rows(row_group)? & &wanted;
        let rows = Rows::new(row_group, wanted.clone());
        if rows.count() == 0 || self.question.bounds.exceeded() {
            return Ok(());
        }
        // Starts, weights and slots of the wanted rows, and of all.
        let _lists = rows.hold(wanted.len() * LIST_BYTES_PER_ROW)?;
        counts.spans += rows.count() as u64;
        let starts = if self.steps.count > 1 || self.plan.window.is_some() { starts(&rows)? } else { Vec::new() };
        let start = |row: usize| starts.get(row).copied().unwrap_or(self.steps.range.start);
        let slots = wanted.set_indices().enumerate().map(|(row, at)| self.slot(start(row), selected.value(at)));
        let slots: Vec<u32> = slots.collect();
        let weights = weights(&rows)?;
        counts.unknown += weights.as_ref().map_or(rows.count(), |weights| weights.unknown) as u64;
        let weights = weights.map(|weights| weights.of_rows).unwrap_or_default();
        Slotted::new(rows, slots, weights).count(counts)
    }

    fn count_memory(&self, filter: &Expression, counts: &mut Counts) {
        let hot_batches = &self.question.snapshot.hot;
        let callers = HotCallers::for_expressions(hot_batches, &[filter, &self.plan.selection]);
        for hot in hot_batches.iter() {
            if self.question.bounds.exceeded() {
                return;
            }
            let spans = &hot.spans;
            let is_half = |row: usize| callers.as_ref().is_some_and(|callers| callers.has_half(spans, row));
            let bind = |expression| RowExpression::new(expression, spans, None).with_halves(&is_half);
            let (filter, selection) = (bind(filter), bind(&self.plan.selection));
            let mut of_batch = BatchCounts::new(spans);
            for row in 0..spans.len() {
                let start = spans.start_unix_nanos[row];
                if self.steps.range.contains(&start) && filter.holds(row) {
                    of_batch.add(row, self.slot(start, selection.holds(row)));
                }
            }
            of_batch.finish(counts);
        }
    }

    fn over_traces(&self, files: &[&Arc<SpanFile>], met: &mut Met) -> Counts {
        let traces = WholeTraces::of_plan(&self.series.plan, self.steps.window(), self.question);
        let all = traces.gather(
            files,
            met,
            || self.begin(),
            |_| None,
            |left, own| {
                let Left { spans, facts, .. } = left;
                let selection = RowExpression::new(&self.plan.selection, spans, Some(facts));
                let mut of_trace = BatchCounts::new(spans);
                for row in left.rows() {
                    let row = row as usize;
                    of_trace.add(row, self.slot(spans.start_unix_nanos[row], selection.holds(row)));
                }
                of_trace.finish(own);
            },
        );
        let mut counts = self.begin();
        all.into_iter().for_each(|own| counts.merge(own));
        counts
    }
}

/// What a row takes in lists while its row group is counted.
const LIST_BYTES_PER_ROW: usize = 48;
