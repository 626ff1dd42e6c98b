//! What `compare()` counts: the values of each attribute.

use tracehouse_model::{AnyValue, SeededEntry, SeededMap};
use tracehouse_scan::Held;

use super::gather::{FloatBits, GroupValue};
use super::room::Room;
use super::steps::Steps;
use crate::met::Met;
use crate::question::Question;
use crate::request::Series;
use crate::shares::{points_max, too_many_points};

/// Label values of `__meta_type`.
const BASELINE: &str = "baseline";
const SELECTION: &str = "selection";

/// An attribute with more values than this, in what one thread has read, is only counted as a whole: nearly every span
/// has a value of its own, and none would be among the frequent ones.
const VALUES_MAX: usize = 20_000;
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
    pub(super) fn new(steps: &Steps, room: Room) -> Self {
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

    pub(super) fn merge(&mut self, other: Self) {
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

    pub(super) fn into_series(self, top: usize, question: Question<'_>, met: &mut Met) -> Vec<Series> {
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
