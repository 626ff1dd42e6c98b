//! Conditions on fields, decided for the rows of a row group: those that need the attributes without columns of their own are
//! decided together, so that a column of attributes is read once however many conditions look into it.

use std::collections::VecDeque;

use arrow::array::{Array, BooleanArray, BooleanBufferBuilder, Int32Array};
use arrow::buffer::BooleanBuffer;

use crate::by_value::Looked;
use crate::columns::ReadRows;
use crate::fault::no_room;
use crate::field::{Field, Owner, Place, Values};
use crate::held::Held;
use crate::keys::{Keys, ValuesOfKey, distinct};
use crate::rows::{Decided, RowGroup, Test};

/// What is decided in one pass over a column takes at most so much, if one condition alone takes no more.
const DECIDED_BYTES_MAX: usize = 32 << 20;
/// Of rows, for each condition: where it holds and where there is a value, while they are read and afterwards.
const MASKS_PER_CONDITION: usize = 4;

/// The columns of attributes in the order in which they are read: a resource's are asked where a span has none.
const OWNERS: [Owner; 3] = [Owner::Span, Owner::Resource, Owner::Scope];

/// A condition for some rows of a row group, as far as it is decided.
pub struct Undecided<'f, T> {
    test: T,
    of_none: bool,
    /// Where to look next.
    places: VecDeque<Looked<'f>>,
    /// `None`: nowhere so far.
    held: Option<BooleanBuffer>,
    /// The rows that are still in question.
    left: BooleanBuffer,
}

impl<T: Test> Undecided<'_, T> {
    /// Whether attributes without columns of their own have to be read for it.
    pub fn waits(&self) -> bool {
        self.next_column().is_some()
    }

    /// The rows for which it holds.
    pub fn rows(&self) -> BooleanBuffer {
        match &self.held {
            Some(held) if self.of_none => held | &self.left,
            Some(held) => held.clone(),
            None if self.of_none => self.left.clone(),
            None => BooleanBuffer::new_unset(self.left.len()),
        }
    }

    /// The column of attributes that it waits for.
    fn next_column(&self) -> Option<&str> {
        let next = self.places.front().map(|looked| &looked.place);
        next.filter(|place| place.key.is_some()).map(|place| place.column.as_str())
    }

    /// Whether it matters, beyond where the condition holds, for which rows there is a value.
    fn looks_on(&self) -> bool {
        self.of_none || !self.places.is_empty()
    }

    fn add(&mut self, decided: &Decided) {
        let held = &decided.values & &self.left;
        self.held = Some(self.held.take().map_or_else(|| held.clone(), |before| &before | &held));
        if self.looks_on() {
            self.left = &self.left & &!&decided.present;
        }
    }
}

/// A condition of which is known what the values of a row group's columns say.
pub struct Prepared<'f, T> {
    test: T,
    of_none: bool,
    places: VecDeque<Looked<'f>>,
}

impl<T> Prepared<'_, T> {
    /// Whether it may hold for any row.
    pub fn may_hold(&self) -> bool {
        self.of_none || self.places.iter().any(Looked::may_hold)
    }

    /// About for what share of the rows it holds.
    pub fn share(&self) -> f64 {
        let of_places = self.places.iter().map(Looked::share);
        if self.of_none { 1.0 } else { of_places.sum::<f64>().min(1.0) }
    }

    /// The rows for which it may hold, if that is known of all places without a look at rows.
    pub fn within(&self) -> Option<BooleanBuffer> {
        let mut possible = self.places.iter().filter(|looked| looked.may_hold());
        let first = possible.next().filter(|_| !self.of_none)?.within()?.clone();
        possible.try_fold(first, |all, looked| Some(&all | looked.within()?))
    }

    /// The columns that it looks at.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.places.iter().map(|looked| looked.place.column.as_str())
    }
}

/// Whether rows matter only if a condition holds for their value in a place. A key stands once among the attributes of one owner: it
/// matters only to those of others that it is there.
fn only_holding_matters<'f>(
    of_none: bool,
    owner: Option<Owner>,
    mut further: impl Iterator<Item = &'f Looked<'f>>,
) -> bool {
    !of_none && further.all(|next| next.place.owner == owner)
}

/// What a pass over a column says of a condition.
struct Marks {
    held: BooleanBufferBuilder,
    present: BooleanBufferBuilder,
}

impl Marks {
    fn of(rows: usize) -> Self {
        let [held, present] = [0, 1].map(|_| {
            let mut mask = BooleanBufferBuilder::new(rows);
            mask.append_n(rows, false);
            mask
        });
        Self { held, present }
    }

    fn set(&mut self, row: Option<usize>, decided: &BooleanArray, at: usize) {
        let Some(row) = row.filter(|row| *row < self.held.len() && decided.is_valid(at)) else { return };
        self.present.set_bit(row, true);
        self.held.set_bit(row, decided.value(at));
    }

    /// From what was decided about the values of a key; `row` tells the place in the row group of a row of the batch.
    fn add(
        &mut self,
        found: &ValuesOfKey,
        decided: &BooleanArray,
        numbers: Option<&Int32Array>,
        row: impl Fn(usize) -> Option<usize>,
    ) {
        let Some(numbers) = numbers else {
            found.rows.iter().enumerate().for_each(|(at, place)| self.set(row(*place as usize), decided, at));
            return;
        };
        let most = found.rows.last().map_or(0, |last| *last as usize + 1);
        let mut at_of_value = vec![None; most];
        found.rows.iter().enumerate().for_each(|(at, value)| at_of_value[*value as usize] = Some(at));
        for (place, number) in numbers.iter().enumerate() {
            let at = number.and_then(|number| at_of_value.get(number as usize).copied().flatten());
            if let Some(at) = at {
                self.set(row(place), decided, at);
            }
        }
    }

    fn finish(mut self) -> Decided {
        Decided { values: self.held.finish(), present: self.present.finish() }
    }
}

impl RowGroup<'_> {
    /// The rows of some for which a test of a field holds. None once the time is over.
    pub fn holding<T: Test>(
        &self,
        field: Field<'_>,
        test: &T,
        among: &BooleanBuffer,
    ) -> Result<BooleanBuffer, T::Error> {
        let mut held = self.bounds.hold();
        let mut condition = [self.begin(field, test, among, &mut held)?];
        self.decide_together(&mut condition, &mut held)?;
        Ok(condition[0].rows())
    }

    /// Begins to decide a condition for some rows: as far as columns do that hold nothing else. What the condition takes is
    /// counted in `held`.
    pub fn begin<'f, T: Test>(
        &self,
        field: Field<'f>,
        test: T,
        among: &BooleanBuffer,
        held: &mut Held,
    ) -> Result<Undecided<'f, T>, T::Error> {
        let of_none = test.of_none()?;
        let places = field.places(self.contents, self.open.layout());
        let places = places.into_iter().map(Looked::from).collect();
        self.begin_prepared(Prepared { test, of_none, places }, among, held)
    }

    /// Finds out what the values of columns say of a condition that hold nothing else, before any row is read.
    pub fn prepare<'f, T: Test>(&self, field: Field<'f>, test: T) -> Result<Prepared<'f, T>, T::Error> {
        let of_none = test.of_none()?;
        let places = field.places(self.contents, self.open.layout());
        let mut places: VecDeque<Looked<'_>> = places.into_iter().map(Looked::from).collect();
        for number in 0..places.len() {
            let owner = places[number].place.owner;
            let to_find = only_holding_matters(of_none, owner, places.iter().skip(number + 1));
            self.look_ahead(&mut places[number], &test, to_find);
        }
        Ok(Prepared { test, of_none, places })
    }

    /// The same as [`Self::begin`], for a condition that was prepared for this row group.
    pub fn begin_prepared<'f, T: Test>(
        &self,
        prepared: Prepared<'f, T>,
        among: &BooleanBuffer,
        held: &mut Held,
    ) -> Result<Undecided<'f, T>, T::Error> {
        let Prepared { test, of_none, places } = prepared;
        let mut condition = Undecided { test, of_none, places, held: None, left: among.clone() };
        self.ask_own_columns(&mut condition)?;
        if condition.waits() {
            let masks = 1 + usize::from(condition.held.is_some());
            self.bounds.take(held, masks * self.mask_bytes()).map_err(no_room)?;
        }
        Ok(condition)
    }

    /// Decides the conditions that wait for attributes without columns of their own, with one pass over each column of such. Ends
    /// early, with conditions that say nothing, once the time is over. What they take is counted in `held`.
    pub fn decide_together<T: Test>(
        &self,
        conditions: &mut [Undecided<'_, T>],
        held: &mut Held,
    ) -> Result<(), T::Error> {
        let at_once = (DECIDED_BYTES_MAX / (MASKS_PER_CONDITION * self.mask_bytes())).max(1);
        loop {
            let is_next = |column: &&str| conditions.iter().any(|condition| condition.next_column() == Some(column));
            let Some(column) = OWNERS.map(Owner::rest).into_iter().find(is_next) else { return Ok(()) };
            let waiting = conditions.iter_mut().filter(|condition| condition.next_column() == Some(column));
            for some in waiting.collect::<Vec<_>>().chunks_mut(at_once) {
                self.pass(column, some, held)?;
                for condition in some {
                    if self.bounds.out_of_time() {
                        return Ok(());
                    }
                    self.ask_own_columns(condition)?;
                }
            }
        }
    }

    fn mask_bytes(&self) -> usize {
        self.rows().div_ceil(8).max(1)
    }

    /// Looks at the columns of the field that come before attributes without columns of their own.
    fn ask_own_columns<T: Test>(&self, condition: &mut Undecided<'_, T>) -> Result<(), T::Error> {
        loop {
            if condition.left.count_set_bits() == 0 {
                condition.places.clear();
            }
            let Some(looked) = condition.places.pop_front_if(|looked| looked.place.key.is_none()) else {
                return Ok(());
            };
            let to_find = only_holding_matters(condition.of_none, looked.place.owner, condition.places.iter());
            if let Some(decided) = self.by_value(looked, &condition.test, &condition.left, to_find)? {
                condition.add(&decided);
            }
        }
    }

    /// Reads a column of attributes once for all conditions that wait for it.
    fn pass<T: Test>(
        &self,
        column: &str,
        conditions: &mut [&mut Undecided<'_, T>],
        held: &mut Held,
    ) -> Result<(), T::Error> {
        let decided_bytes = MASKS_PER_CONDITION * self.mask_bytes() * conditions.len();
        self.bounds.take(held, decided_bytes).map_err(no_room)?;
        let places: Vec<Place<'_>> = conditions
            .iter_mut()
            .filter_map(|condition| condition.places.pop_front())
            .map(|looked| looked.place)
            .collect();
        let mut keys = Keys::default();
        let numbers: Vec<usize> = places.iter().map(|place| keys.add(place.key.unwrap_or_default())).collect();
        let wanted = union(conditions.iter().map(|condition| &condition.left), self.rows());
        let read = ReadRows::among(&wanted, &[column]);
        let mut marks: Vec<Marks> = conditions.iter().map(|_| Marks::of(self.rows())).collect();
        let mut rows = read.rows();
        for batch in self.read(&[column], &read, usize::MAX)? {
            let batch = batch?;
            let (array, numbered) = distinct(batch.column(0))?;
            let mut of_batch = self.bounds.hold();
            let keep = |bytes| self.bounds.take(&mut of_batch, bytes).map_err(no_room);
            let found = keys.find(column, &array, keep)?;
            let rows: Vec<usize> = rows.by_ref().take(batch.num_rows()).collect();
            for ((condition, number), marks) in conditions.iter().zip(&numbers).zip(&mut marks) {
                if self.bounds.out_of_time() {
                    return Ok(());
                }
                let found = &found[*number];
                if !found.rows.is_empty() {
                    let decided = condition.test.of(Values::Any(found.values.clone()))?;
                    marks.add(found, &decided, numbered, |row| rows.get(row).copied());
                }
            }
        }
        for (condition, marks) in conditions.iter_mut().zip(marks) {
            condition.add(&marks.finish());
        }
        // What was noted while rows were read is gone.
        held.give_back(decided_bytes / 2);
        Ok(())
    }
}

/// All rows that any of some masks has.
fn union<'m>(masks: impl Iterator<Item = &'m BooleanBuffer>, rows: usize) -> BooleanBuffer {
    let mut last: Option<&BooleanBuffer> = None;
    let mut all = BooleanBuffer::new_unset(rows);
    for mask in masks {
        // Conditions side by side are mostly asked of the same rows.
        if !last.is_some_and(|last| last.inner().ptr_eq(mask.inner())) {
            all = &all | mask;
        }
        last = Some(mask);
    }
    all
}
