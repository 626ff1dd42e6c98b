//! Cells by series and step, as one thread gathers them.

use tracehouse_model::{AnyValue, SeededMap, SpanId, TraceId, kind, status};

use super::measure::Cell;
use super::room::Room;
use super::steps::Steps;
use crate::value::Value;

/// A value to group by: what [`Value`] is, out of its batch and comparable.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum GroupValue {
    /// The span has no such field.
    Nil,
    String(Box<str>),
    Int(i64),
    Float(FloatBits),
    Bool(bool),
    Status(u8),
    Kind(u8),
    /// Canonical JSON of an array.
    Json(Box<str>),
}

/// A float as a key. There is one of those that are no number, and one zero, as for comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct FloatBits(u64);

impl FloatBits {
    pub(crate) fn of(number: f64) -> Self {
        let number = if number.is_nan() { f64::NAN } else { number };
        // Zero of either sign and 0 make 0.
        Self((number + 0.0).to_bits())
    }

    pub(crate) fn number(self) -> f64 {
        f64::from_bits(self.0)
    }
}

impl GroupValue {
    pub(crate) fn of(value: &Value<'_>) -> Self {
        match value {
            Value::Missing | Value::Nil | Value::Other => GroupValue::Nil,
            Value::String(text) => GroupValue::String(text.as_ref().into()),
            Value::Id(id) => GroupValue::String(id.to_string().into()),
            Value::Int(value) => GroupValue::Int(*value),
            Value::Float(value) => GroupValue::Float(FloatBits::of(*value)),
            Value::Bool(value) => GroupValue::Bool(*value),
            Value::Status(code) => GroupValue::Status(*code),
            Value::Kind(code) => GroupValue::Kind(*code),
            Value::Each(values) if values.len() == 1 => Self::of(&values[0]),
            Value::Many(_) | Value::Each(_) => {
                value.to_any().map_or(GroupValue::Nil, |any| GroupValue::Json(any.to_canonical_json().into()))
            }
        }
    }

    /// Memory beside the value itself.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            GroupValue::String(text) | GroupValue::Json(text) => text.len(),
            _ => 0,
        }
    }

    pub(crate) fn to_any(&self) -> Option<AnyValue> {
        Some(match self {
            GroupValue::Nil => return None,
            GroupValue::String(text) => AnyValue::String(text.as_ref().to_owned()),
            GroupValue::Int(value) => AnyValue::Int(*value),
            GroupValue::Float(bits) => AnyValue::Double(bits.number()),
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
    /// Number of the batch among those in memory, and row.
    Hot {
        batch: u32,
        row: u32,
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

/// The cells of one series, from the first step to the last that has spans.
struct GroupCells<C> {
    begin: u32,
    cells: Vec<C>,
}

impl<C: Cell> GroupCells<C> {
    const NONE: Self = Self { begin: 0, cells: Vec::new() };

    /// The cell of a step; `None` if there is no room for it.
    #[inline]
    fn cell(&mut self, step: u32, steps: usize, room: &mut Room) -> Option<&mut C> {
        let at = step.wrapping_sub(self.begin) as usize;
        if at >= self.cells.len() && !self.grow(step, step, steps, room) {
            return None;
        }
        Some(&mut self.cells[(step - self.begin) as usize])
    }

    /// Makes the cells of some steps, and those between them and the others; false if there is no room for them.
    #[cold]
    fn grow(&mut self, first: u32, last: u32, steps: usize, room: &mut Room) -> bool {
        let (begin, end) = if self.cells.is_empty() {
            (first, last + 1)
        } else {
            (self.begin.min(first), (self.begin + self.cells.len() as u32).max(last + 1))
        };
        let length = (end - begin) as usize;
        if length > self.cells.capacity() {
            // Spans come roughly in the order of time, from either side.
            let spare = self.cells.len().min(steps.saturating_sub(length));
            let grown = room.grow(&mut self.cells, length + spare) || room.grow(&mut self.cells, length);
            if !grown {
                return false;
            }
        }
        let before = if self.cells.is_empty() { 0 } else { (self.begin - begin) as usize };
        if before > 0 {
            self.cells.splice(0..0, std::iter::repeat_n(C::default(), before));
        }
        self.cells.resize(length, C::default());
        self.begin = begin;
        true
    }

    fn bytes(&self) -> usize {
        self.cells.capacity() * size_of::<C>() + self.cells.iter().map(Cell::heap_bytes).sum::<usize>()
    }

    /// Adds the cells of another one. How many could not be.
    fn merge(&mut self, other: &Self, steps: usize, room: &mut Room) -> u64 {
        let Some(last) = other.cells.len().checked_sub(1) else { return 0 };
        self.grow(other.begin, other.begin + last as u32, steps, room);
        let mut left_out = 0;
        for (step, cell) in (other.begin..).zip(&other.cells) {
            let merged = match self.cell(step, steps, room) {
                Some(own) => own.merge(cell, room),
                None => false,
            };
            left_out += u64::from(!merged);
        }
        left_out
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
    /// What all of this takes.
    room: Room,
    /// Spans for which there is no room.
    pub(crate) left_out: u64,
    pub(crate) spans: u64,
    pub(crate) spans_of_unknown_probability: u64,
}

/// A series that is not gathered because there are too many.
pub(crate) const NO_GROUP: u32 = u32::MAX;

impl<C: Cell> Gathered<C> {
    /// `room`: for the cells. If it is full, spans of further series and steps are left out.
    pub(crate) fn new(steps: &Steps, exemplars_max: usize, room: Room) -> Self {
        Self {
            groups: SeededMap::default(),
            cells: Vec::new(),
            exemplars: Vec::new(),
            steps: steps.clone(),
            exemplars_max,
            room,
            left_out: 0,
            spans: 0,
            spans_of_unknown_probability: 0,
        }
    }

    /// The number of a series; [`NO_GROUP`] if there are too many.
    pub(crate) fn group(&mut self, key: &[GroupValue]) -> u32 {
        if let Some(&group) = self.groups.get(key) {
            return group;
        }
        let texts: usize = key.iter().map(GroupValue::heap_bytes).sum();
        // Tables and lists grow to twice their size, and are there twice while they do.
        let places = size_of::<(GroupKey, u32)>() + size_of::<GroupCells<C>>() + 8;
        let bytes = texts + size_of_val(key) + 3 * places + 3 * self.exemplars_max * size_of::<Option<Candidate>>();
        if self.groups.len() >= SERIES_MAX || !self.room.take(bytes) {
            return NO_GROUP;
        }
        let group = self.groups.len() as u32;
        self.groups.insert(key.into(), group);
        self.cells.push(GroupCells::NONE);
        self.exemplars.resize(self.exemplars.len() + self.exemplars_max, None);
        group
    }

    #[inline]
    pub(crate) fn add(&mut self, group: u32, step: u32, value: f64, weight: f64) {
        let added = group != NO_GROUP && {
            let cell = self.cells[group as usize].cell(step, self.steps.count, &mut self.room);
            cell.is_some_and(|cell| cell.add(value, weight, &mut self.room))
        };
        self.left_out += u64::from(!added);
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

    pub(crate) fn count(&mut self, spans: u64, of_unknown_probability: u64) {
        self.spans += spans;
        self.spans_of_unknown_probability += of_unknown_probability;
    }

    pub(crate) fn merge(&mut self, other: Self) {
        let Gathered { groups, cells: mut their_cells, exemplars, room, .. } = other;
        self.room.absorb(room);
        for (key, from) in groups {
            let group = self.group(&key);
            if group == NO_GROUP {
                self.left_out += 1;
                continue;
            }
            let cells = std::mem::replace(&mut their_cells[from as usize], GroupCells::NONE);
            let own = &mut self.cells[group as usize];
            if own.cells.is_empty() {
                *own = cells;
            } else {
                self.left_out += own.merge(&cells, self.steps.count, &mut self.room);
                self.room.give_back(cells.bytes());
            }
            let (into, from) = (group as usize * self.exemplars_max, from as usize * self.exemplars_max);
            for slot in 0..self.exemplars_max {
                let (held, offered) = (&mut self.exemplars[into + slot], exemplars[from + slot]);
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
            let GroupCells { begin, cells } = std::mem::replace(&mut self.cells[group as usize], GroupCells::NONE);
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

/// Exemplars in the order of time.
pub(super) fn sorted(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.sort_by_key(|candidate| (candidate.start_unix_nanos, candidate.place));
    candidates
}
