//! Conditions on single columns, decided page by page: once for each value where the file numbers them, and only in the pages that hold
//! rows in question. What the values alone rule out is known before any row is read.

use std::sync::Arc;

use arrow::array::{BooleanBufferBuilder, Int64Array, RecordBatch};
use arrow::buffer::BooleanBuffer;
use parquet::errors::Result;
use tracehouse_spanfile::{DistinctColumn, DistinctValues, IntsOfRows, OpenFile, RowsOfValues, Sought};

use crate::bounds::share;
use crate::columns::batch_rows;
use crate::fault::no_room;
use crate::field::{Place, Values};
use crate::held::Held;
use crate::rows::{Decided, RowGroup, Test, holding, of_rows, present};

/// Columns of so few values that most row groups have each of them: it is not worth it to look at the values first.
const COLUMNS_OF_FEW_VALUES: [&str; 2] = ["kind", "status"];
/// Of the rows, where nothing is known of how many a condition holds for.
const SHARE_UNKNOWN: f64 = 0.5;

/// A place where values of a field stand, and what is known of them before any row is read.
pub(crate) struct Looked<'f> {
    pub(crate) place: Place<'f>,
    /// `None`: nothing was found out yet.
    seen: Option<Seen>,
}

/// What the values of a column tell of a test.
enum Seen {
    /// It holds for none of them, and nothing else matters.
    Nothing,
    /// For which of the values that the column numbers it holds. Each of these is a value for the test.
    Numbered(RowsOfValues, BooleanBuffer),
    /// It holds for none but some rows, which are to be looked at.
    Within(BooleanBuffer),
    /// The rows are to be looked at.
    Unknown,
}

impl Looked<'_> {
    /// Whether the test may hold for any row by what stands here.
    pub(crate) fn may_hold(&self) -> bool {
        match &self.seen {
            Some(Seen::Nothing) => false,
            Some(Seen::Numbered(_, holding)) => holding.count_set_bits() > 0,
            Some(Seen::Within(_) | Seen::Unknown) | None => true,
        }
    }

    /// About for what share of the rows it holds.
    pub(crate) fn share(&self) -> f64 {
        match &self.seen {
            Some(Seen::Nothing) => 0.0,
            Some(Seen::Numbered(rows, holding)) => holding.count_set_bits() as f64 / rows.values().max(1) as f64,
            Some(Seen::Within(rows)) => rows.count_set_bits() as f64 / rows.len().max(1) as f64,
            Some(Seen::Unknown) | None => SHARE_UNKNOWN,
        }
    }

    /// The rows for which the test may hold by what stands here, as far as that is known without a look at them.
    pub(crate) fn within(&self) -> Option<&BooleanBuffer> {
        match &self.seen {
            Some(Seen::Within(rows)) => Some(rows),
            _ => None,
        }
    }
}

impl<'f> From<Place<'f>> for Looked<'f> {
    fn from(place: Place<'f>) -> Self {
        Self { place, seen: None }
    }
}

impl RowGroup<'_> {
    /// Looks at the values of a column ahead of its rows. `to_find`: a row matters only if the test holds for its value.
    pub(crate) fn look_ahead<T: Test>(&self, looked: &mut Looked<'_>, test: &T, to_find: bool) {
        if looked.place.key.is_none() && !COLUMNS_OF_FEW_VALUES.contains(&looked.place.column.as_str()) {
            // What can't be read is told by the rows, if any are still in question then.
            looked.seen = self.see(&looked.place, test, to_find, OpenFile::distinct_ahead).ok();
        }
    }

    fn see<T: Test>(
        &self,
        place: &Place<'_>,
        test: &T,
        to_find: bool,
        read: fn(&OpenFile, usize, &str) -> Result<Option<DistinctColumn>>,
    ) -> Result<Seen> {
        let column = place.column.as_str();
        let is_other_type = self.open.column_type(column).is_some_and(|of_values| !test.may_hold_for(of_values));
        if is_other_type && to_find {
            return Ok(Seen::Nothing);
        }
        let Some(distinct) = read(self.open, self.number, column)? else {
            let range = self.open.int_range(self.number, column);
            let is_outside = range.is_some_and(|(least, greatest)| !test.may_hold_within(least, greatest));
            return Ok(if is_outside && to_find { Seen::Nothing } else { self.see_pages(column, test, to_find) });
        };
        // What fails for a value is told by the rows that have it.
        let Some(held) = self.held_for_values(place, &distinct, test, to_find) else { return Ok(Seen::Unknown) };
        let is_nothing = to_find && held.count_set_bits() == 0;
        Ok(if is_nothing { Seen::Nothing } else { Seen::Numbered(distinct.rows(), held) })
    }

    /// What the filters over pages of texts tell of a test.
    fn see_pages<T: Test>(&self, column: &str, test: &T, to_find: bool) -> Seen {
        let Some(text) = test.only_text().filter(|_| to_find) else { return Seen::Unknown };
        // A filter that can't be read rules nothing out.
        match self.open.rows_that_may_have(self.number, column, text) {
            Ok(Some(rows)) if rows.count_set_bits() == 0 => Seen::Nothing,
            Ok(Some(rows)) => Seen::Within(rows),
            Ok(None) | Err(_) => Seen::Unknown,
        }
    }

    /// For which values of a column a test holds. `None`: the rows tell.
    fn held_for_values<T: Test>(
        &self,
        place: &Place<'_>,
        distinct: &DistinctColumn,
        test: &T,
        to_find: bool,
    ) -> Option<BooleanBuffer> {
        if let Some(text) = test.only_text().filter(|_| to_find)
            && let Ok(Some(equal)) = distinct.equal_to(text)
        {
            return if equal.count_set_bits() == 0 || holds_for(test, text)? { Some(equal) } else { None };
        }
        let values = match distinct.values().ok()? {
            DistinctValues::Texts(texts) => Values::of_texts(texts.iter().map(String::as_str)),
            // Integers are times or the like in columns that are no attributes.
            DistinctValues::Ints(_) if place.owner.is_none() => return None,
            DistinctValues::Ints(ints) => Values::Typed(Arc::new(Int64Array::from(ints))),
        };
        let of_values = test.of(values).ok()?;
        let all_count = to_find || present(&of_values).count_set_bits() == of_values.len();
        all_count.then(|| holding(&of_values))
    }

    /// Decides about some rows by what stands in a column that holds nothing else. `None`: it holds for none, and no other row matters.
    pub(crate) fn by_value<T: Test>(
        &self,
        looked: Looked<'_>,
        test: &T,
        left: &BooleanBuffer,
        to_find: bool,
    ) -> Result<Option<Decided>, T::Error> {
        let Looked { place, seen } = looked;
        let column = place.column.as_str();
        let seen = match seen {
            Some(seen) => seen,
            None => self.see(&place, test, to_find, OpenFile::distinct)?,
        };
        let narrowed;
        let left = match &seen {
            Seen::Within(rows) => {
                narrowed = left & rows;
                &narrowed
            }
            _ => left,
        };
        let is_large = batch_rows(self.open, self.number, &[column]) < self.rows();
        let decided = match seen {
            Seen::Nothing => return Ok(None),
            Seen::Numbered(rows, held) if !is_large => {
                let _held = self.hold_pages(column, left)?;
                Some(rows.sought(&held, left)?.into())
            }
            Seen::Within(_) | Seen::Unknown if !is_large => self.by_stored_value(column, test, left, to_find)?,
            _ => None,
        };
        if decided.is_some() {
            return Ok(decided);
        }
        let of_batch = |batch: &RecordBatch| {
            let found = place.values(batch.column(0))?;
            let of_values = test.of(found.values)?;
            Ok::<_, T::Error>(found.numbers.map_or_else(|| of_values.clone(), |numbers| of_rows(&of_values, numbers)))
        };
        self.decide(&[column], left, of_batch).map(Some)
    }

    /// The same where values are written row by row. `None`: they are not, or of a type that is not read this way.
    fn by_stored_value<T: Test>(
        &self,
        column: &str,
        test: &T,
        left: &BooleanBuffer,
        to_find: bool,
    ) -> Result<Option<Decided>, T::Error> {
        if let Some(text) = test.only_text().filter(|_| to_find)
            && self.open.has_texts_by_row(self.number, column)
            && holds_for(test, text) == Some(true)
        {
            let _held = self.hold_pages(column, left)?;
            if let Some(sought) = self.open.with_text(self.number, column, text, left)? {
                return Ok(Some(sought.into()));
            }
        }
        if !self.open.has_ints_by_row(self.number, column) {
            return Ok(None);
        }
        let _held = self.hold_pages(column, left)?;
        let Some(IntsOfRows { present: with_value, values }) = self.open.ints(self.number, column, left)? else {
            return Ok(None);
        };
        let of_values = test.of(Values::Typed(Arc::new(Int64Array::from(values))))?;
        Ok(Some(Decided {
            values: spread(&holding(&of_values), &with_value),
            present: spread(&present(&of_values), &with_value),
        }))
    }

    /// Counts the pages of a column as read that hold any of some rows, and takes the memory for that.
    fn hold_pages(&self, column: &str, among: &BooleanBuffer) -> Result<Held> {
        let all = self.open.bytes_of(self.number, Some(&[column]));
        let dictionary = self.open.dictionary_bytes(self.number, column) as u64;
        let read = self.open.bytes_among(self.number, column, among)? + dictionary;
        self.bounds.count_scanned(read, 1, 1);
        let in_memory = self.open.bytes_in_memory(self.number, Some(&[column]));
        let [read, all] = [read, all].map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        self.bounds.held(share(in_memory, read.min(all), all)).map_err(no_room)
    }
}

/// Whether a test holds for a text; `None` if that fails.
fn holds_for<T: Test>(test: &T, text: &str) -> Option<bool> {
    test.of(Values::of_texts([text])).ok().map(|of_text| holding(&of_text).value(0))
}

impl From<Sought> for Decided {
    fn from(Sought { holding, present }: Sought) -> Self {
        Decided { values: holding, present }
    }
}

/// What is set for values, for the rows that have them.
fn spread(of_values: &BooleanBuffer, with_value: &BooleanBuffer) -> BooleanBuffer {
    match of_values.count_set_bits() {
        0 => BooleanBuffer::new_unset(with_value.len()),
        set if set == of_values.len() => with_value.clone(),
        _ if of_values.len() == with_value.len() => of_values.clone(),
        _ => {
            let mut rows = BooleanBufferBuilder::new(with_value.len());
            rows.append_n(with_value.len(), false);
            let with_value = with_value.set_indices().zip(of_values);
            with_value.filter(|(_, is_set)| *is_set).for_each(|(row, _)| rows.set_bit(row, true));
            rows.finish()
        }
    }
}
