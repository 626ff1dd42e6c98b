//! `compare()`: how the attributes of selected spans differ from those of the rest.
//!
//! Counts every value of every attribute twice, for the selection and for the rest (the baseline), and shows the most
//! frequent values of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parquet::errors::Result;
use tracehouse_model::{AnyValue, SeededEntry, SeededMap};
use tracehouse_scan::{Done, Held, Piece, Reach, each_row_group};
use tracehouse_store::SpanFile;
use tracehouse_traceql::FieldExpr;

use super::batch_counts::BatchCounts;
use super::columns::{Rows, starts, weights};
use super::gather::{FloatBits, GroupValue};
use super::measure::Room;
use super::series::{SeriesPlan, matching_files};
use super::tally::Slotted;
use super::traces::WholeTraces;
use super::{Met, Steps};
use crate::candidates::Scan;
use crate::compile::Expression;
use crate::error::QueryError;
use crate::halves::HotCallers;
use crate::question::Question;
use crate::request::Series;
use crate::row_eval::RowExpression;
use crate::shares::{cell_bytes_max, points_max, too_many_points};

/// Values shown of each attribute unless the query says otherwise.
const TOP_DEFAULT: usize = 10;
/// An attribute with more values than this, in what one thread has read, is only counted as a whole: nearly every span
/// has a value of its own, and none would be among the frequent ones.
const VALUES_MAX: usize = 20_000;
/// Label values of `__meta_type`.
const BASELINE: &str = "baseline";
const SELECTION: &str = "selection";

#[derive(Debug)]
pub(crate) struct ComparePlan {
    pub(super) selection: Expression,
    top: usize,
    window: Option<(i64, i64)>,
}

impl ComparePlan {
    pub(super) fn of(
        selection: Option<&FieldExpr>,
        top: Option<i64>,
        window: Option<(i64, i64)>,
    ) -> std::result::Result<Self, QueryError> {
        Ok(Self {
            selection: selection.map_or_else(|| Ok(Expression::always()), Expression::of)?,
            top: top.and_then(|top| usize::try_from(top).ok()).unwrap_or(TOP_DEFAULT),
            window,
        })
    }

    fn in_window(&self, start: i64) -> bool {
        self.window.is_none_or(|(from, until)| (from..until).contains(&start))
    }
}

/// Weights of one attribute: by value, and of all spans that have it; for each step one for the baseline and one for the
/// selection.
#[derive(Default)]
struct KeyCounts {
    values: SeededMap<GroupValue, Box<[f64]>>,
    totals: Box<[f64]>,
    /// There were too many values to count each.
    too_many: bool,
    /// What the values take, and all of it.
    value_bytes: usize,
    bytes: usize,
}

/// About what an attribute, and a value of it, take beside their sums and texts.
const KEY_BYTES: usize = 256;
const VALUE_BYTES: usize = 128;

/// What is counted of all attributes.
pub(super) struct Counts {
    keys: SeededMap<String, KeyCounts>,
    /// Two for each step.
    slots: usize,
    values_max: usize,
    /// For the sums.
    room: Room,
    /// Whether there was no room for further attributes.
    left_out: bool,
    pub(super) spans: u64,
    /// Spans of unknown probability.
    pub(super) unknown: u64,
}

impl Counts {
    fn new(steps: &Steps, room: Room) -> Self {
        const CELLS_PER_KEY_MAX: usize = 1 << 20;
        let slots = 2 * steps.count;
        Self {
            keys: SeededMap::default(),
            slots,
            values_max: (CELLS_PER_KEY_MAX / slots).clamp(64, VALUES_MAX),
            room,
            left_out: false,
            spans: 0,
            unknown: 0,
        }
    }

    /// Whether an attribute is only counted as a whole.
    pub(super) fn has_too_many_values(&self, name: &str) -> bool {
        self.keys.get(name).is_some_and(|key| key.too_many)
    }

    /// Adds weights to the slots from `first` on, whatever the value is.
    pub(super) fn add_total(&mut self, name: &str, first: usize, weights: &[f64]) {
        if self.make_room(name) {
            add_all(&mut self.keys.get_mut(name).expect("there is room").totals[first..], weights);
        }
    }

    /// Adds weights to the slots from `first` on.
    pub(super) fn add(&mut self, name: &str, value: GroupValue, first: usize, weights: &[f64]) {
        if self.make_room(name) {
            add_all(&mut self.keys.get_mut(name).expect("there is room").totals[first..], weights);
            self.add_value(name, value, first, weights);
        }
    }

    /// Whether the sums of an attribute are there or could be made.
    fn make_room(&mut self, name: &str) -> bool {
        if self.keys.contains_key(name) {
            return true;
        }
        let bytes = self.slots * size_of::<f64>() + name.len() + KEY_BYTES;
        if !self.room.take(bytes) {
            self.left_out = true;
            return false;
        }
        let counts = KeyCounts { totals: vec![0.0; self.slots].into(), bytes, ..KeyCounts::default() };
        self.keys.insert(name.to_owned(), counts);
        true
    }

    fn add_value(&mut self, name: &str, value: GroupValue, first: usize, weights: &[f64]) {
        let Some(key) = self.keys.get_mut(name).filter(|key| !key.too_many) else { return };
        let mut full = key.values.len() >= self.values_max;
        let bytes = self.slots * size_of::<f64>() + value.heap_bytes() + VALUE_BYTES;
        match key.values.entry(value) {
            SeededEntry::Occupied(mut known) => {
                add_all(&mut known.get_mut()[first..], weights);
                return;
            }
            SeededEntry::Vacant(new) if !full && self.room.take(bytes) => {
                key.value_bytes += bytes;
                add_all(&mut new.insert(vec![0.0; self.slots].into())[first..], weights);
            }
            SeededEntry::Vacant(_) => full = true,
        }
        if full {
            self.count_as_a_whole(name);
        }
    }

    fn count_as_a_whole(&mut self, name: &str) {
        if let Some(key) = self.keys.get_mut(name) {
            key.too_many = true;
            key.values = SeededMap::default();
            self.room.give_back(std::mem::take(&mut key.value_bytes));
        }
    }

    fn merge(&mut self, other: Self) {
        self.room.absorb(other.room);
        for (name, counts) in other.keys {
            // What is added is counted before what is added from goes, as both are there for a while.
            let bytes = counts.bytes + counts.value_bytes;
            if !self.make_room(&name) {
                self.room.give_back(bytes);
                continue;
            }
            self.add_total(&name, 0, &counts.totals);
            if counts.too_many {
                self.count_as_a_whole(&name);
            }
            for (value, weights) in counts.values {
                self.add_value(&name, value, 0, &weights);
            }
            self.room.give_back(bytes);
        }
        self.left_out |= other.left_out;
        self.spans += other.spans;
        self.unknown += other.unknown;
    }

    fn into_series(self, top: usize, question: Question<'_>, met: &mut Met) -> Vec<Series> {
        let steps = self.slots / 2;
        let mut keys: Vec<(String, KeyCounts)> = self.keys.into_iter().collect();
        keys.sort_unstable_by(|left, right| left.0.cmp(&right.0));
        let total = keys.len();
        if self.left_out {
            met.partial(|| {
                format!("{total} of more attributes: there is no room for the sums of all; choose a longer step")
            });
        }
        let mut series: Vec<Series> = Vec::new();
        for (number, (name, counts)) in keys.into_iter().enumerate() {
            let room_for_all = series.len() * steps <= points_max(question.bounds);
            if !room_for_all || !counts.add_series(&name, top, &mut series, &mut met.held) {
                met.partial(|| too_many_points(question.bounds, number, total, "attributes"));
                break;
            }
        }
        series
    }
}

impl KeyCounts {
    /// Makes the lines of an attribute; false if there is no room for one of them.
    fn add_series(&self, name: &str, top: usize, series: &mut Vec<Series>, held: &mut Held) -> bool {
        for (meta, total_meta, class) in [(BASELINE, "baseline_total", 0), (SELECTION, "selection_total", 1)] {
            let of_class = |weights: &[f64]| -> Vec<Option<f64>> {
                weights.iter().skip(class).step_by(2).map(|weight| Some(*weight)).collect()
            };
            let mut line = |meta: &str, value: &GroupValue, weights: &[f64]| {
                let points = weights.len() / 2 * size_of::<Option<f64>>();
                if held.take(points + 3 * (name.len() + value.heap_bytes()) + KEY_BYTES).is_err() {
                    return false;
                }
                let meta = ("__meta_type".to_owned(), Some(AnyValue::String(meta.to_owned())));
                let labels = vec![meta, (name.to_owned(), value.to_any())];
                series.push(Series { labels, values: of_class(weights), exemplars: Vec::new() });
                true
            };
            let sum = |weights: &[f64]| weights.iter().skip(class).step_by(2).sum::<f64>();
            if sum(&self.totals) > 0.0 && !line(total_meta, &GroupValue::Nil, &self.totals) {
                return false;
            }
            let mut ranked: Vec<(&GroupValue, &Box<[f64]>, f64)> =
                self.values.iter().map(|(value, weights)| (value, weights, sum(weights))).collect();
            ranked.retain(|(_, _, sum)| *sum > 0.0);
            ranked.sort_by(|left, right| right.2.total_cmp(&left.2).then_with(|| left.0.cmp(right.0)));
            if !ranked.iter().take(top).all(|(value, weights, _)| line(meta, value, weights)) {
                return false;
            }
        }
        true
    }
}

fn add_all(into: &mut [f64], weights: &[f64]) {
    into.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += weight);
}

struct Compare<'a> {
    plan: &'a ComparePlan,
    series: &'a SeriesPlan,
    steps: &'a Steps,
    question: Question<'a>,
}

impl ComparePlan {
    pub(super) fn run(&self, series: &SeriesPlan, steps: &Steps, question: Question<'_>, met: &mut Met) -> Vec<Series> {
        let compare = Compare { plan: self, series, steps, question };
        let files = matching_files(series, steps, question, met);
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
        let (mut all, mut done) = self.over_row_groups(filter, files, &trial, |scan, piece, own| {
            let counted = self.count_row_group(scan, piece, own);
            failed.fetch_or(counted.is_err(), Ordering::Relaxed);
            counted
        });
        if failed.into_inner() || trial.files_lost() > reach.files_lost() {
            all.clear();
            (all, done) = self.over_row_groups(filter, files, reach, |scan, piece, own| {
                let mut alone = self.begin();
                self.count_row_group(scan, piece, &mut alone)?;
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
        count: impl Fn(&Scan<'_>, &Piece<'f>, &mut Counts) -> Result<()> + Sync,
    ) -> (Vec<Counts>, Done) {
        let bounds = self.question.bounds;
        let scan = Scan { filter, exactly: &[], window: self.steps.window(), bounds };
        each_row_group(bounds, reach, files, || self.begin(), |piece, own| count(&scan, piece, own))
    }

    fn count_row_group(&self, scan: &Scan<'_>, piece: &Piece<'_>, counts: &mut Counts) -> Result<()> {
        let row_group = piece.rows(scan.bounds);
        let wanted = scan.matching_rows(row_group)?;
        let selecting =
            Scan { filter: &self.plan.selection, exactly: &[], window: scan.window.clone(), bounds: scan.bounds };
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
        for hot in hot_batches {
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
        let traces = WholeTraces { series: self.series, steps: self.steps, question: self.question };
        let all = traces.gather(
            files,
            met,
            || self.begin(),
            |_| None,
            |spans, facts, rows, own| {
                let selection = RowExpression::new(&self.plan.selection, spans, Some(facts));
                let mut of_trace = BatchCounts::new(spans);
                for row in rows {
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

/// Values that are counted: texts, numbers and truth values.
pub(super) fn counted(value: &AnyValue) -> Option<GroupValue> {
    Some(match value {
        AnyValue::String(text) => GroupValue::String(text.as_str().into()),
        AnyValue::Int(value) => GroupValue::Int(*value),
        AnyValue::Double(value) => GroupValue::Float(FloatBits::of(*value)),
        AnyValue::Bool(value) => GroupValue::Bool(*value),
        AnyValue::Empty | AnyValue::Bytes(_) | AnyValue::Array(_) | AnyValue::KeyValueList(_) => return None,
    })
}
