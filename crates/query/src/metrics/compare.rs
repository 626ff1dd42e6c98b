//! `compare()`: how the attributes of selected spans differ from those of the rest.
//!
//! Counts every value of every attribute twice, for the selection and for the rest (the baseline), and shows the most
//! frequent values of each. Dictionary columns are counted by code, so that a row costs an addition.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{Array, AsArray};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{Int32Type, Int64Type};
use parquet::errors::{ParquetError, Result};
use rustc_hash::{FxHashMap, FxHashSet};
use tracehouse_model::{AnyValue, SpanBatch, Threshold, kind, status};
use tracehouse_store::{ColumnType, KeyCount, Layout, Snapshot, SpanFile};
use tracehouse_traceql::FieldExpr;

use super::columns::{Codes, Rows, codes_of_array, starts, weights};
use super::gather::GroupValue;
use super::series::{Piece, SeriesPlan, matching_files, row_groups};
use super::traces::{TRACES_AT_ONCE, candidates};
use super::{Met, Steps};
use crate::assemble::assemble_many;
use crate::bounds::Bounds;
use crate::candidates::Scan;
use crate::compile::Expression;
use crate::error::QueryError;
use crate::evaluate::{Evaluation, union_of};
use crate::request::Series;
use crate::row_eval::{RowExpression, TraceFacts};

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
struct Counts {
    keys: FxHashMap<String, KeyCounts>,
    /// Two for each step.
    slots: usize,
    values_max: usize,
    spans: u64,
    unknown: u64,
}

impl Counts {
    fn new(steps: &Steps) -> Self {
        const CELLS_PER_KEY_MAX: usize = 1 << 20;
        let slots = 2 * steps.count;
        let values_max = (CELLS_PER_KEY_MAX / slots).clamp(64, VALUES_MAX);
        Self { keys: FxHashMap::default(), slots, values_max, spans: 0, unknown: 0 }
    }

    fn key(&mut self, name: &str) -> &mut KeyCounts {
        if !self.keys.contains_key(name) {
            let counts = KeyCounts { totals: vec![0.0; self.slots].into(), ..KeyCounts::default() };
            self.keys.insert(name.to_owned(), counts);
        }
        self.keys.get_mut(name).expect("it was put there")
    }

    /// Adds weights to the slots from `first` on.
    fn add(&mut self, name: &str, value: GroupValue, first: usize, weights: &[f64]) {
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

/// Rows of a row group, each with the slot that it counts in and its weight. The rows of a row group begin at about the
/// same time, so few slots occur.
struct Slotted {
    /// Counted from `first`.
    slots: Vec<u32>,
    first: usize,
    /// How many slots occur, from `first` on.
    width: usize,
    /// Weights of all rows by slot.
    totals: Vec<f64>,
    /// Empty if every row weighs 1.
    weights: Vec<f64>,
}

impl Slotted {
    #[inline]
    fn weight(&self, row: usize) -> f64 {
        self.weights.get(row).copied().unwrap_or(1.0)
    }
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
        let slotted = self.slotted(&rows, &wanted, &selected)?;
        counts.spans += rows.count() as u64;
        counts.unknown += slotted.1;
        let slotted = slotted.0;
        for (label, column) in
            [("name", "name"), ("kind", "kind"), ("status", "status"), ("statusMessage", "status_message")]
        {
            count_column(&rows, column, label, &slotted, counts)?;
        }
        let layout = open.layout();
        for attribute in &layout.span {
            let column = Layout::span_column_name(&attribute.key);
            count_column(&rows, &column, &column, &slotted, counts)?;
        }
        for attribute in &layout.resource {
            let column = Layout::resource_column_name(&attribute.key);
            count_column(&rows, &column, &column, &slotted, counts)?;
        }
        let contents = &piece.file.contents;
        let has_rest = |keys: &[KeyCount], column: &dyn Fn(&str) -> Option<(usize, ColumnType)>| {
            keys.iter().any(|key| column(&key.key).is_none_or(|(_, known)| key.value_type != Some(known)))
        };
        if !contents.complete || has_rest(&contents.span_keys, &|key| layout.span_column(key)) {
            count_map(&rows, &slotted, counts)?;
        }
        if !contents.complete || has_rest(&contents.resource_keys, &|key| layout.resource_column(key)) {
            count_texts_of_json(&rows, &slotted, counts)?;
        }
        Ok(())
    }

    /// The slot and weight of each row, and how many rows are of unknown probability.
    fn slotted(&self, rows: &Rows<'_>, wanted: &BooleanBuffer, selected: &BooleanBuffer) -> Result<(Slotted, u64)> {
        let starts = if self.steps.count > 1 || self.plan.window.is_some() { starts(rows)? } else { Vec::new() };
        let start = |row: usize| starts.get(row).copied().unwrap_or(self.steps.range.start);
        let slots = wanted.set_indices().enumerate().map(|(row, at)| self.slot(start(row), selected.value(at)));
        let mut slots: Vec<u32> = slots.collect();
        let first = slots.iter().min().map_or(0, |slot| slot / 2 * 2);
        let width = slots.iter().max().map_or(2, |slot| slot - first + 1).next_multiple_of(2) as usize;
        slots.iter_mut().for_each(|slot| *slot -= first);
        let weights = weights(rows)?;
        let unknown = weights.as_ref().map_or(rows.count(), |weights| weights.unknown) as u64;
        let first = first as usize;
        let of_rows = weights.map(|weights| weights.of_rows).unwrap_or_default();
        let mut totals = vec![0.0; width];
        for (row, slot) in slots.iter().enumerate() {
            totals[*slot as usize] += of_rows.get(row).copied().unwrap_or(1.0);
        }
        Ok((Slotted { slots, first, width, totals, weights: of_rows }, unknown))
    }

    fn count_memory(&self, filter: &Expression, counts: &mut Counts) {
        let mut seen: FxHashSet<(u64, u64, u8)> = FxHashSet::default();
        for hot in &self.snapshot.hot {
            let spans = &hot.spans;
            let (filter, selection) =
                (RowExpression::new(filter, spans, None), RowExpression::new(&self.plan.selection, spans, None));
            for row in 0..spans.len() {
                let start = spans.start_unix_nanos[row];
                let key = (spans.trace_id[row].hash64(), spans.span_id[row].as_u64(), spans.kind[row]);
                if self.steps.range.contains(&start) && filter.holds(row) && seen.insert(key) {
                    count_span(spans, row, self.slot(start, selection.holds(row)) as usize, counts);
                }
            }
        }
    }

    fn over_traces(&self, files: &[&Arc<SpanFile>], met: &mut Met) -> std::result::Result<Counts, QueryError> {
        let traces = candidates(self.series, self.steps, self.snapshot, self.bounds, files, met)?;
        let portions: Vec<_> = traces.chunks(TRACES_AT_ONCE).collect();
        let omitted = AtomicU64::new(0);
        let begin = || Counts::new(self.steps);
        let (all, done) = self.bounds.gather(portions.len(), begin, |portion, own| {
            assemble_many(
                self.snapshot,
                portions[portion],
                self.bounds,
                |_| None,
                |found| {
                    for tree in &found.trees {
                        let facts = TraceFacts::of(&found.spans, tree);
                        let spansets = Evaluation::new(&found.spans, tree, &facts)
                            .run(&self.series.plan.stages, &self.steps.range);
                        let selection = RowExpression::new(&self.plan.selection, &found.spans, Some(&facts));
                        for row in union_of(&spansets) {
                            let row = row as usize;
                            let slot = self.slot(found.spans.start_unix_nanos[row], selection.holds(row));
                            count_span(&found.spans, row, slot as usize, own);
                        }
                        omitted.fetch_add(tree.omitted, Ordering::Relaxed);
                    }
                },
            )
        })?;
        met.omitted(omitted.into_inner());
        if done < portions.len() {
            met.partial(|| self.bounds.stopped(done, portions.len(), "portions of traces looked at"));
        }
        let mut counts = Counts::new(self.steps);
        all.into_iter().for_each(|own| counts.merge(own));
        Ok(counts)
    }
}

/// Values that are counted: texts, numbers and truth values.
fn counted(value: &AnyValue) -> Option<GroupValue> {
    Some(match value {
        AnyValue::String(text) => GroupValue::String(text.as_str().into()),
        AnyValue::Int(value) => GroupValue::Int(*value),
        AnyValue::Double(value) => GroupValue::Float(value.to_bits()),
        AnyValue::Bool(value) => GroupValue::Bool(*value),
        AnyValue::Empty | AnyValue::Bytes(_) | AnyValue::Array(_) | AnyValue::KeyValueList(_) => return None,
    })
}

fn count_span(spans: &SpanBatch, row: usize, slot: usize, counts: &mut Counts) {
    let threshold = Threshold::new(spans.sampling_threshold[row]);
    let weight = threshold.map_or(1.0, Threshold::adjusted_count);
    counts.spans += 1;
    counts.unknown += u64::from(threshold.is_none());
    let text = |code| GroupValue::String(spans.strings.get(code).into());
    counts.add("name", text(spans.name[row]), slot, &[weight]);
    counts.add("kind", GroupValue::Kind(spans.kind[row]), slot, &[weight]);
    counts.add("status", GroupValue::Status(spans.status_code[row]), slot, &[weight]);
    if spans.status_message[row] != 0 {
        counts.add("statusMessage", text(spans.status_message[row]), slot, &[weight]);
    }
    let resource = spans.resource[row] as usize;
    let lists = [("span.", &spans.attributes, row), ("resource.", &spans.resources.attributes, resource)];
    for (scope, lists, owner) in lists {
        for (key, value) in lists.of(owner) {
            if let Some(value) = counted(&value.resolve(&spans.strings)) {
                counts.add(&format!("{scope}{}", spans.strings.get(key)), value, slot, &[weight]);
            }
        }
    }
}

fn count_column(rows: &Rows<'_>, column: &str, label: &str, slotted: &Slotted, counts: &mut Counts) -> Result<()> {
    let of_text = |text: &str| match label {
        "status" => status::from_name(text).map_or(GroupValue::Nil, GroupValue::Status),
        "kind" => kind::from_name(text).map_or(GroupValue::Nil, GroupValue::Kind),
        _ => GroupValue::String(text.into()),
    };
    if let Some(text) = rows.only_text(column) {
        counts.add(label, of_text(text), slotted.first, &slotted.totals);
        return Ok(());
    }
    let array = rows.column(column)?;
    let nulls = array.logical_nulls();
    let (first, slots) = (slotted.first, slotted.width);
    if nulls.as_ref().is_some_and(|nulls| nulls.null_count() == array.len()) {
        return Ok(());
    }
    if counts.key(label).too_many {
        let sums = tally(rows, slotted, nulls.as_ref(), 1, |_| 0);
        add_all(&mut counts.key(label).totals[first..], &sums);
        return Ok(());
    }
    let mut add_each = |sums: &[f64], value: &dyn Fn(usize) -> GroupValue| {
        let occurring =
            sums.chunks(slots).enumerate().filter(|(_, weights)| weights.iter().any(|weight| *weight > 0.0));
        occurring.for_each(|(at, weights)| counts.add(label, value(at), first, weights));
    };
    if let Some(dictionary) = array.as_dictionary_opt::<Int32Type>() {
        let (keys, texts) = (dictionary.keys().values(), dictionary.values().as_string::<i32>());
        let sums = tally(rows, slotted, nulls.as_ref(), texts.len(), |at| keys[at] as usize);
        add_each(&sums, &|at| of_text(texts.value(at)));
        return Ok(());
    }
    if let Some(bools) = array.as_boolean_opt() {
        let sums = tally(rows, slotted, nulls.as_ref(), 2, |at| usize::from(bools.value(at)));
        add_each(&sums, &|at| GroupValue::Bool(at == 1));
        return Ok(());
    }
    if let Some(ints) = array.as_primitive_opt::<Int64Type>()
        && let Some((min, max)) = rows.int_range(column)
        && let Some(width) = max.checked_sub(min).filter(|width| *width < INT_RANGE_MAX)
    {
        let values = ints.values();
        let sums = tally(rows, slotted, nulls.as_ref(), width as usize + 1, |at| (values[at] - min) as usize);
        add_each(&sums, &|at| GroupValue::Int(min + at as i64));
        return Ok(());
    }
    let codes = codes_of_array(&array, rows, of_text);
    count_codes(&codes, slotted, |value, weights| {
        if *value != GroupValue::Nil {
            counts.add(label, value.clone(), first, weights);
        }
    });
    Ok(())
}

/// Integers of a narrower range are counted in a table.
const INT_RANGE_MAX: i64 = 4096;

/// Sums of weights by value and slot of the rows that are not null; `code` gives the number of the value at a place.
#[inline]
fn tally(
    rows: &Rows<'_>,
    slotted: &Slotted,
    nulls: Option<&NullBuffer>,
    values: usize,
    code: impl Fn(usize) -> usize,
) -> Vec<f64> {
    let slots = slotted.width;
    let length = (values + 1) * slots;
    let cell = |value: usize, slot: u32| value * slots + slot as usize;
    // What is null counts beside the values, where nobody looks.
    let code_or_none = |at: usize, nulls: &NullBuffer| if nulls.is_valid(at) { code(at) } else { values };
    let mut sums = if slotted.weights.is_empty() {
        // Neighbouring rows often have the same value. Adding to the same place again has to wait for the last time, so
        // they are added in different places.
        const TABLES: usize = 4;
        let mut counted = vec![0u32; TABLES * length];
        let table = |at: usize| at % TABLES * length;
        match nulls {
            None => rows.pick_with(&slotted.slots, |at, slot| counted[table(at) + cell(code(at), slot)] += 1),
            Some(nulls) => rows.pick_with(&slotted.slots, |at, slot| {
                counted[table(at) + cell(code_or_none(at, nulls), slot)] += 1;
            }),
        }
        let sum = |at: usize| (0..TABLES).map(|table| f64::from(counted[table * length + at])).sum();
        (0..length).map(sum).collect()
    } else {
        let mut sums = vec![0.0; length];
        let mut weights = slotted.weights.iter();
        rows.pick_with(&slotted.slots, |at, slot| {
            let value = nulls.map_or_else(|| code(at), |nulls| code_or_none(at, nulls));
            sums[cell(value, slot)] += weights.next().copied().unwrap_or(1.0);
        });
        sums
    };
    sums.truncate(values * slots);
    sums
}

/// Adds the weights up by value and slot; `add` gets each value that occurs with those of all slots.
fn count_codes(codes: &Codes, slotted: &Slotted, mut add: impl FnMut(&GroupValue, &[f64])) {
    /// Values that are counted at once: all of them, but for many values in many steps.
    const CELLS_MAX: usize = 1 << 22;
    let slots = slotted.width;
    let at_once = (CELLS_MAX / slots).max(1);
    for (portion, values) in codes.values.chunks(at_once).enumerate() {
        let first = portion * at_once;
        let mut cells = vec![0.0; values.len() * slots];
        for (row, slot) in slotted.slots.iter().enumerate() {
            let value = (codes.code(row) as usize).wrapping_sub(first);
            if value < values.len() {
                cells[value * slots + *slot as usize] += slotted.weight(row);
            }
        }
        for (value, weights) in values.iter().zip(cells.chunks(slots)) {
            if weights.iter().any(|weight| *weight > 0.0) {
                add(value, weights);
            }
        }
    }
}

/// Weights by slot, for values that few rows have.
type SlotSums = Vec<(u32, f64)>;

/// Attributes of spans without a column of their own.
fn count_map(rows: &Rows<'_>, slotted: &Slotted, counts: &mut Counts) -> Result<()> {
    let array = rows.column("span_attributes")?;
    let map = array.as_map_opt().ok_or_else(|| ParquetError::General("not a column of maps".into()))?;
    let (keys, texts) = (map.keys().as_string::<i32>(), map.values().as_string::<i32>());
    // Values are parsed once for all rows that have the same text.
    let mut by_key: FxHashMap<&str, FxHashMap<&str, SlotSums>> = FxHashMap::default();
    let mut row = 0;
    rows.pick(|at| {
        let entries = map.value_offsets()[at] as usize..map.value_offsets()[at + 1] as usize;
        for entry in entries {
            let of_value = by_key.entry(keys.value(entry)).or_default().entry(texts.value(entry)).or_default();
            let (slot, weight) = (slotted.slots[row], slotted.weight(row));
            match of_value.last_mut() {
                Some((last, sum)) if *last == slot => *sum += weight,
                _ => of_value.push((slot, weight)),
            }
        }
        row += 1;
    });
    let mut weights = vec![0.0; slotted.width];
    for (key, values) in by_key {
        let label = Layout::span_column_name(key);
        for (text, sums) in values {
            let value = AnyValue::from_canonical_json(text).map_err(|error| ParquetError::External(Box::new(error)))?;
            let Some(value) = counted(&value) else { continue };
            weights.fill(0.0);
            sums.iter().for_each(|(slot, sum)| weights[*slot as usize] += sum);
            counts.add(&label, value, slotted.first, &weights);
        }
    }
    Ok(())
}

/// Attributes of resources without a column of their own: one text for all of them, the same for many spans.
fn count_texts_of_json(rows: &Rows<'_>, slotted: &Slotted, counts: &mut Counts) -> Result<()> {
    let array = rows.column("resource_attributes")?;
    let codes = codes_of_array(&array, rows, |text| GroupValue::String(text.into()));
    let mut found = Vec::new();
    count_codes(&codes, slotted, |text, weights| {
        let GroupValue::String(text) = text else { return };
        if let Ok(AnyValue::KeyValueList(entries)) = AnyValue::from_canonical_json(text) {
            found.push((entries, weights.to_vec()));
        }
    });
    for (entries, weights) in found {
        for (key, value) in entries {
            if let Some(value) = counted(&value) {
                counts.add(&Layout::resource_column_name(&key), value, slotted.first, &weights);
            }
        }
    }
    Ok(())
}
