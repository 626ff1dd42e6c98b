//! Cells by series and step, as one thread gathers them.

use tracehouse_model::{AnyValue, SeededMap, SpanId, TraceId, kind, status};

use super::Steps;
use super::measure::Cell;
use crate::value::Value;

/// A value to group by: what [`Value`] is, out of its batch and comparable.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum GroupValue {
    /// The span has no such field.
    Nil,
    String(Box<str>),
    Int(i64),
    /// Bits of a float.
    Float(u64),
    Bool(bool),
    Status(u8),
    Kind(u8),
    /// Canonical JSON of an array.
    Json(Box<str>),
}

impl GroupValue {
    pub(crate) fn of(value: &Value<'_>) -> Self {
        match value {
            Value::Missing | Value::Nil | Value::Other => GroupValue::Nil,
            Value::String(text) => GroupValue::String(text.as_ref().into()),
            Value::Int(value) => GroupValue::Int(*value),
            Value::Float(value) => GroupValue::Float(value.to_bits()),
            Value::Bool(value) => GroupValue::Bool(*value),
            Value::Status(code) => GroupValue::Status(*code),
            Value::Kind(code) => GroupValue::Kind(*code),
            Value::Many(_) | Value::Each(_) => {
                value.to_any().map_or(GroupValue::Nil, |any| GroupValue::Json(any.to_canonical_json().into()))
            }
        }
    }

    pub(crate) fn to_any(&self) -> Option<AnyValue> {
        Some(match self {
            GroupValue::Nil => return None,
            GroupValue::String(text) => AnyValue::String(text.as_ref().to_owned()),
            GroupValue::Int(value) => AnyValue::Int(*value),
            GroupValue::Float(bits) => AnyValue::Double(f64::from_bits(*bits)),
            GroupValue::Bool(value) => AnyValue::Bool(*value),
            GroupValue::Status(code) => AnyValue::String(status::name(*code).to_owned()),
            GroupValue::Kind(code) => AnyValue::String(kind::name(*code).to_owned()),
            GroupValue::Json(text) => AnyValue::from_canonical_json(text).unwrap_or(AnyValue::Empty),
        })
    }
}

pub(crate) type GroupKey = Box<[GroupValue]>;

/// Where a span stands that may become an exemplar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    Known {
        trace_id: TraceId,
        span_id: SpanId,
    },
    /// Number of the file among those that are read, row group, row.
    Stored {
        file: u32,
        row_group: u32,
        row: u32,
    },
}

/// A span that may become an exemplar.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    /// The candidate with the smallest number wins: chance that is the same whenever the query runs.
    lot: u64,
    pub(crate) start_unix_nanos: i64,
    pub(crate) value: f64,
    pub(crate) place: Place,
}

/// Most series of a query.
const SERIES_MAX: usize = 20_000;
/// Spans between looks at how much memory the cells take.
const SPANS_PER_CHECK: u64 = 1 << 16;

/// The cells of one series, from the first step to the last that has spans.
struct GroupCells<C> {
    begin: u32,
    cells: Vec<C>,
}

impl<C: Cell> GroupCells<C> {
    #[inline]
    fn cell(&mut self, step: u32) -> &mut C {
        let at = step.wrapping_sub(self.begin) as usize;
        if at < self.cells.len() { &mut self.cells[at] } else { self.grow(step) }
    }

    #[cold]
    fn grow(&mut self, step: u32) -> &mut C {
        if self.cells.is_empty() {
            self.begin = step;
        }
        if step < self.begin {
            let before = (self.begin - step) as usize;
            self.cells.splice(0..0, std::iter::repeat_n(C::default(), before));
            self.begin = step;
        }
        let at = (step - self.begin) as usize;
        if at >= self.cells.len() {
            self.cells.resize(at + 1, C::default());
        }
        &mut self.cells[at]
    }
}

/// Cells by series and step.
pub(crate) struct Gathered<C> {
    groups: SeededMap<GroupKey, u32>,
    cells: Vec<GroupCells<C>>,
    /// For each series as many places as exemplars are wanted, spread over the range of time.
    exemplars: Vec<Option<Candidate>>,
    steps: Steps,
    exemplars_max: usize,
    groups_max: usize,
    cell_bytes_max: usize,
    /// Spans of series beyond the limit.
    pub(crate) left_out: u64,
    pub(crate) spans: u64,
    pub(crate) spans_of_unknown_probability: u64,
    until_check: u64,
}

/// A series that is not gathered because there are too many.
pub(crate) const NO_GROUP: u32 = u32::MAX;

impl<C: Cell> Gathered<C> {
    /// `cell_bytes_max`: what the cells may take before no further series are begun.
    pub(crate) fn new(steps: &Steps, exemplars_max: usize, cell_bytes_max: usize) -> Self {
        let bytes_per_group = size_of::<C>() + exemplars_max * size_of::<Option<Candidate>>() + 64;
        Self {
            groups: SeededMap::default(),
            cells: Vec::new(),
            exemplars: Vec::new(),
            steps: steps.clone(),
            exemplars_max,
            groups_max: (cell_bytes_max / bytes_per_group).clamp(1, SERIES_MAX),
            cell_bytes_max,
            left_out: 0,
            spans: 0,
            spans_of_unknown_probability: 0,
            until_check: SPANS_PER_CHECK,
        }
    }

    /// The number of a series; [`NO_GROUP`] if there are too many.
    pub(crate) fn group(&mut self, key: &[GroupValue]) -> u32 {
        if let Some(&group) = self.groups.get(key) {
            return group;
        }
        if self.groups.len() >= self.groups_max {
            return NO_GROUP;
        }
        let group = self.groups.len() as u32;
        self.groups.insert(key.into(), group);
        self.cells.push(GroupCells { begin: 0, cells: Vec::new() });
        self.exemplars.resize(self.exemplars.len() + self.exemplars_max, None);
        group
    }

    #[inline]
    pub(crate) fn add(&mut self, group: u32, step: u32, value: f64, weight: f64) {
        if group == NO_GROUP {
            self.left_out += 1;
            return;
        }
        self.cells[group as usize].cell(step).add(value, weight);
    }

    pub(crate) fn wants_exemplars(&self) -> bool {
        self.exemplars_max > 0
    }

    /// Offers a span as an exemplar of its series.
    pub(crate) fn offer(&mut self, group: u32, start_unix_nanos: i64, value: f64, place: Place) {
        if group == NO_GROUP {
            return;
        }
        let range = &self.steps.range;
        let share = (start_unix_nanos - range.start) as i128 * self.exemplars_max as i128;
        let slot = (share / i128::from(range.end - range.start)) as usize;
        // A multiplication scatters; starts differ in their low digits.
        let lot = (start_unix_nanos as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let held = &mut self.exemplars[group as usize * self.exemplars_max + slot];
        if held.is_none_or(|held| (lot, place) < (held.lot, held.place)) {
            *held = Some(Candidate { lot, start_unix_nanos, value, place });
        }
    }

    /// Counts spans; from time to time looks whether the cells have grown too large for further series.
    pub(crate) fn count(&mut self, spans: u64, of_unknown_probability: u64) {
        self.spans += spans;
        self.spans_of_unknown_probability += of_unknown_probability;
        self.until_check = self.until_check.saturating_sub(spans);
        if self.until_check == 0 {
            self.until_check = SPANS_PER_CHECK;
            let bytes = |cells: &GroupCells<C>| {
                cells.cells.capacity() * size_of::<C>() + cells.cells.iter().map(Cell::heap_bytes).sum::<usize>()
            };
            let heap: usize = self.cells.iter().map(bytes).sum();
            if heap > self.cell_bytes_max {
                self.groups_max = self.groups_max.min(self.groups.len());
            }
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        for (key, from) in &other.groups {
            let group = self.group(key);
            if group == NO_GROUP {
                self.left_out += 1;
                continue;
            }
            let cells = &other.cells[*from as usize];
            for (step, cell) in (cells.begin..).zip(&cells.cells) {
                self.cells[group as usize].cell(step).merge(cell);
            }
            let (into, from) = (group as usize * self.exemplars_max, *from as usize * self.exemplars_max);
            for slot in 0..self.exemplars_max {
                let (held, offered) = (&mut self.exemplars[into + slot], other.exemplars[from + slot]);
                if let Some(offered) = offered
                    && held.is_none_or(|held| (offered.lot, offered.place) < (held.lot, held.place))
                {
                    *held = Some(offered);
                }
            }
        }
        self.left_out += other.left_out;
        self.spans += other.spans;
        self.spans_of_unknown_probability += other.spans_of_unknown_probability;
    }

    /// How many series there are.
    pub(crate) fn series(&self) -> usize {
        self.groups.len()
    }

    /// Each series with its cells, one for each step, and its exemplars; in the order of their keys.
    pub(crate) fn into_groups(mut self) -> impl Iterator<Item = (GroupKey, Vec<C>, Vec<Candidate>)> {
        let mut keys: Vec<(GroupKey, u32)> = self.groups.drain().collect();
        keys.sort_unstable();
        keys.into_iter().map(move |(key, group)| {
            let nothing = GroupCells { begin: 0, cells: Vec::new() };
            let GroupCells { begin, cells } = std::mem::replace(&mut self.cells[group as usize], nothing);
            // The cells that most series don't have are made for one series at a time.
            let mut of_group = vec![C::default(); begin as usize];
            of_group.extend(cells);
            of_group.resize(self.steps.count, C::default());
            let first = group as usize * self.exemplars_max;
            let exemplars = self.exemplars[first..first + self.exemplars_max].iter().flatten().copied().collect();
            (key, of_group, exemplars)
        })
    }
}
