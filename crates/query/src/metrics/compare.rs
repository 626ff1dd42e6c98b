//! `compare()`: how the attributes of selected spans differ from those of the rest.
//!
//! Counts every value of every attribute twice, for the selection and for the rest (the baseline), and shows the most
//! frequent values of each.

use std::sync::Arc;

use parquet::errors::Result;
use rustc_hash::{FxHashMap, FxHashSet};
use tracehouse_model::AnyValue;
use tracehouse_store::{Snapshot, SpanFile};
use tracehouse_traceql::FieldExpr;

use super::batch_counts::BatchCounts;
use super::columns::{Rows, starts, weights};
use super::gather::GroupValue;
use super::series::{Piece, SeriesPlan, matching_files, row_groups};
use super::tally::Slotted;
use super::traces::WholeTraces;
use super::{Met, Steps};
use crate::bounds::Bounds;
use crate::candidates::Scan;
use crate::compile::Expression;
use crate::error::QueryError;
use crate::request::Series;
use crate::row_eval::RowExpression;

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
    values: FxHashMap<GroupValue, Box<[f64]>>,
    totals: Box<[f64]>,
    /// There were too many values to count each.
    too_many: bool,
}

/// What is counted of all attributes.
pub(super) struct Counts {
    keys: FxHashMap<String, KeyCounts>,
    /// Two for each step.
    slots: usize,
    values_max: usize,
    pub(super) spans: u64,
    /// Spans of unknown probability.
    pub(super) unknown: u64,
}

impl Counts {
    fn new(steps: &Steps) -> Self {
        const CELLS_PER_KEY_MAX: usize = 1 << 20;
        let slots = 2 * steps.count;
        let values_max = (CELLS_PER_KEY_MAX / slots).clamp(64, VALUES_MAX);
        Self { keys: FxHashMap::default(), slots, values_max, spans: 0, unknown: 0 }
    }

    /// Whether an attribute is only counted as a whole.
    pub(super) fn has_too_many_values(&self, name: &str) -> bool {
        self.keys.get(name).is_some_and(|key| key.too_many)
    }

    /// Adds weights to the slots from `first` on, whatever the value is.
    pub(super) fn add_total(&mut self, name: &str, first: usize, weights: &[f64]) {
        add_all(&mut self.key(name).totals[first..], weights);
    }

    fn key(&mut self, name: &str) -> &mut KeyCounts {
        if !self.keys.contains_key(name) {
            let counts = KeyCounts { totals: vec![0.0; self.slots].into(), ..KeyCounts::default() };
            self.keys.insert(name.to_owned(), counts);
        }
        self.keys.get_mut(name).expect("it was put there")
    }

    /// Adds weights to the slots from `first` on.
    pub(super) fn add(&mut self, name: &str, value: GroupValue, first: usize, weights: &[f64]) {
        let (slots, values_max) = (self.slots, self.values_max);
        let key = self.key(name);
        add_all(&mut key.totals[first..], weights);
        if key.too_many {
            return;
        }
        let sums = key.values.entry(value).or_insert_with(|| vec![0.0; slots].into());
        add_all(&mut sums[first..], weights);
        if key.values.len() > values_max {
            key.too_many = true;
            key.values = FxHashMap::default();
        }
    }

    fn merge(&mut self, other: Self) {
        for (name, counts) in other.keys {
            let values_max = self.values_max;
            let key = self.key(&name);
            add_all(&mut key.totals, &counts.totals);
            key.too_many |= counts.too_many;
            if key.too_many {
                key.values = FxHashMap::default();
                continue;
            }
            for (value, weights) in counts.values {
                match key.values.entry(value) {
                    std::collections::hash_map::Entry::Occupied(mut known) => add_all(known.get_mut(), &weights),
                    std::collections::hash_map::Entry::Vacant(new) => drop(new.insert(weights)),
                }
            }
            if key.values.len() > values_max {
                key.too_many = true;
                key.values = FxHashMap::default();
            }
        }
        self.spans += other.spans;
        self.unknown += other.unknown;
    }

    fn into_series(self, top: usize) -> Vec<Series> {
        let mut series = Vec::new();
        for (name, counts) in self.keys {
            for (meta, total_meta, class) in [(BASELINE, "baseline_total", 0), (SELECTION, "selection_total", 1)] {
                let of_class =
                    |weights: &[f64]| -> Vec<f64> { weights.iter().skip(class).step_by(2).copied().collect() };
                let mut line = |meta: &str, value: Option<AnyValue>, weights: &[f64]| {
                    let labels = vec![
                        ("__meta_type".to_owned(), Some(AnyValue::String(meta.to_owned()))),
                        (name.clone(), value),
                    ];
                    let values = of_class(weights).into_iter().map(Some).collect();
                    series.push(Series { labels, values, exemplars: Vec::new() });
                };
                let sum = |weights: &[f64]| of_class(weights).iter().sum::<f64>();
                if sum(&counts.totals) > 0.0 {
                    line(total_meta, None, &counts.totals);
                }
                let mut ranked: Vec<(&GroupValue, &Box<[f64]>, f64)> =
                    counts.values.iter().map(|(value, weights)| (value, weights, sum(weights))).collect();
                ranked.retain(|(_, _, sum)| *sum > 0.0);
                ranked.sort_by(|left, right| right.2.total_cmp(&left.2).then_with(|| left.0.cmp(right.0)));
                ranked.iter().take(top).for_each(|(value, weights, _)| line(meta, value.to_any(), weights));
            }
        }
        series
    }
}

fn add_all(into: &mut [f64], weights: &[f64]) {
    into.iter_mut().zip(weights).for_each(|(sum, weight)| *sum += weight);
}

struct Compare<'a> {
    plan: &'a ComparePlan,
    series: &'a SeriesPlan,
    steps: &'a Steps,
    snapshot: &'a Snapshot,
    bounds: &'a Bounds<'a>,
}

impl ComparePlan {
    pub(super) fn run(
        &self,
        series: &SeriesPlan,
        steps: &Steps,
        snapshot: &Snapshot,
        bounds: &Bounds<'_>,
        met: &mut Met,
    ) -> std::result::Result<Vec<Series>, QueryError> {
        let compare = Compare { plan: self, series, steps, snapshot, bounds };
        let files = matching_files(series, steps, snapshot, bounds, met);
        let counts = match series.spans_alone() {
            Some(filter) => compare.over_columns(filter, &files, met)?,
            None => compare.over_traces(&files, met)?,
        };
        met.weighting.spans += counts.spans;
        met.weighting.spans_of_unknown_probability += counts.unknown;
        Ok(counts.into_series(self.top))
    }
}

impl Compare<'_> {
    fn slot(&self, start: i64, selected: bool) -> u32 {
        2 * self.steps.of_start(start) + u32::from(selected && self.plan.in_window(start))
    }

    fn over_columns(
        &self,
        filter: &Expression,
        files: &[&Arc<SpanFile>],
        met: &mut Met,
    ) -> std::result::Result<Counts, QueryError> {
        let scan = Scan { filter, start: self.steps.range.clone(), bounds: self.bounds };
        let mut counts = Counts::new(self.steps);
        self.count_memory(filter, &mut counts);
        let pieces = row_groups(files, met)?;
        let (all, done) = self.bounds.gather(
            pieces.len(),
            || Counts::new(self.steps),
            |piece, own| {
                let piece = &pieces[piece];
                self.count_row_group(&scan, piece, own).map_err(|source| piece.file.read_error(source))
            },
        )?;
        if done < pieces.len() {
            met.partial(|| self.bounds.stopped(done, pieces.len(), "row groups read"));
        }
        all.into_iter().for_each(|own| counts.merge(own));
        Ok(counts)
    }

    fn count_row_group(&self, scan: &Scan<'_>, piece: &Piece<'_>, counts: &mut Counts) -> Result<()> {
        let (open, row_group) = (&*piece.open, piece.row_group);
        let wanted = scan.matching_rows(piece.file, open, row_group)?;
        let selecting = Scan { filter: &self.plan.selection, start: scan.start.clone(), bounds: scan.bounds };
        let selected = &selecting.matching_rows(piece.file, open, row_group)? & &wanted;
        let rows = Rows::new(self.bounds, open, row_group, wanted.clone());
        if rows.count() == 0 {
            return Ok(());
        }
        counts.spans += rows.count() as u64;
        let starts = if self.steps.count > 1 || self.plan.window.is_some() { starts(&rows)? } else { Vec::new() };
        let start = |row: usize| starts.get(row).copied().unwrap_or(self.steps.range.start);
        let slots = wanted.set_indices().enumerate().map(|(row, at)| self.slot(start(row), selected.value(at)));
        let slots: Vec<u32> = slots.collect();
        let weights = weights(&rows)?;
        counts.unknown += weights.as_ref().map_or(rows.count(), |weights| weights.unknown) as u64;
        let weights = weights.map(|weights| weights.of_rows).unwrap_or_default();
        Slotted::new(rows, slots, weights).count(&piece.file.contents, counts)
    }

    fn count_memory(&self, filter: &Expression, counts: &mut Counts) {
        let mut seen: FxHashSet<(u64, u64, u8)> = FxHashSet::default();
        for hot in &self.snapshot.hot {
            let spans = &hot.spans;
            let (filter, selection) =
                (RowExpression::new(filter, spans, None), RowExpression::new(&self.plan.selection, spans, None));
            let mut of_batch = BatchCounts::new(spans);
            for row in 0..spans.len() {
                let start = spans.start_unix_nanos[row];
                let key = (spans.trace_id[row].hash64(), spans.span_id[row].as_u64(), spans.kind[row]);
                if self.steps.range.contains(&start) && filter.holds(row) && seen.insert(key) {
                    of_batch.add(row, self.slot(start, selection.holds(row)));
                }
            }
            of_batch.finish(counts);
        }
    }

    fn over_traces(&self, files: &[&Arc<SpanFile>], met: &mut Met) -> std::result::Result<Counts, QueryError> {
        let (series, steps, snapshot, bounds) = (self.series, self.steps, self.snapshot, self.bounds);
        let traces = WholeTraces { series, steps, snapshot, bounds };
        let begin = || Counts::new(self.steps);
        let all = traces.gather(
            files,
            met,
            begin,
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
        )?;
        let mut counts = Counts::new(self.steps);
        all.into_iter().for_each(|own| counts.merge(own));
        Ok(counts)
    }
}

/// Values that are counted: texts, numbers and truth values.
pub(super) fn counted(value: &AnyValue) -> Option<GroupValue> {
    Some(match value {
        AnyValue::String(text) => GroupValue::String(text.as_str().into()),
        AnyValue::Int(value) => GroupValue::Int(*value),
        AnyValue::Double(value) => GroupValue::Float(value.to_bits()),
        AnyValue::Bool(value) => GroupValue::Bool(*value),
        AnyValue::Empty | AnyValue::Bytes(_) | AnyValue::Array(_) | AnyValue::KeyValueList(_) => return None,
    })
}
