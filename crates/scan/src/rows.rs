//! The rows of a row group: for which of them a condition holds, and what columns say of them.
//!
//! Here and in `conditions` it is decided, for every language, where a field's values stand, once for each distinct value where the
//! file numbers them, and only for the rows that are still in question if these are few. A language says of values alone whether
//! its condition holds for them ([`Test`]).

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, FixedSizeBinaryArray};
use arrow::array::{Int32Array, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{DataType, Field as ArrowField, Schema, TimestampNanosecondType};
use parquet::errors::{ParquetError, Result};
use tracehouse_model::SpanId;
use tracehouse_store::{DistinctValues, OpenFile, StringForm};

use crate::bounds::{Bounds, Reading};
use crate::columns::{ReadRows, batch_rows};
use crate::fault::{Contents, no_room, readable};
use crate::field::{Field, PARENT, Place, Values};
use crate::held::Held;

/// The columns that tell the parent of a span.
const PARENT_COLUMNS: [&str; 3] = ["span_id", "parent_span_id", "parent_offset"];

/// Columns of so few values that most row groups have each of them: it is not worth it to look at the values first.
const COLUMNS_OF_FEW_VALUES: [&str; 2] = ["kind", "status"];

/// A condition on the value of one field, as a language has it.
pub trait Test {
    type Error: From<ParquetError>;

    /// Whether it holds for each of some values; null where there is none, or what stands there is no value for it.
    fn of(&self, values: Values) -> Result<BooleanArray, Self::Error>;

    /// Whether it holds for a span without a value.
    fn of_none(&self) -> Result<bool, Self::Error>;

    /// The one text for which it holds, if it holds for nothing else.
    fn only_text(&self) -> Option<&str> {
        None
    }

    /// Whether it may hold for a whole number in a range, if it can tell.
    fn may_hold_within(&self, _least: i64, _greatest: i64) -> bool {
        true
    }
}

impl<T: Test> Test for &T {
    type Error = T::Error;

    fn of(&self, values: Values) -> Result<BooleanArray, Self::Error> {
        (**self).of(values)
    }

    fn of_none(&self) -> Result<bool, Self::Error> {
        (**self).of_none()
    }

    fn only_text(&self) -> Option<&str> {
        (**self).only_text()
    }

    fn may_hold_within(&self, least: i64, greatest: i64) -> bool {
        (**self).may_hold_within(least, greatest)
    }
}

/// Whether a test of a field may hold for any span of a file, from what is known of what occurs in it.
pub fn may_hold<T: Test>(field: Field<'_>, test: &T, contents: &Contents) -> bool {
    // What fails for a value that no span may have is told by the rows.
    let of_none = || test.of_none().unwrap_or(true);
    if !field.may_occur(contents) {
        return of_none();
    }
    let Some(known) = field.known_texts(contents) else { return true };
    let for_a_value = || match test.only_text() {
        Some(text) => known.has(text),
        None => test.of(Values::of_texts(known.texts())).map_or(true, |held| held.true_count() > 0),
    };
    for_a_value() || of_none()
}

/// A row group of an open file, to look for rows in.
#[derive(Clone, Copy)]
pub struct RowGroup<'a> {
    pub bounds: &'a Bounds,
    pub open: &'a OpenFile,
    pub contents: &'a Contents,
    pub number: usize,
}

impl RowGroup<'_> {
    pub fn rows(&self) -> usize {
        self.open.rows_of(self.number)
    }

    /// The rows that can be read.
    pub fn readable(&self) -> BooleanBuffer {
        readable(self.open, self.number).unwrap_or_else(|| BooleanBuffer::new_set(self.rows()))
    }

    /// The rows that can be read of spans that begin in a range of times.
    pub fn starting_in(&self, start: &Range<i64>) -> Result<BooleanBuffer> {
        if let Some((first, last)) = self.open.int_range(self.number, "start_time") {
            if last < start.start || first >= start.end {
                return Ok(BooleanBuffer::new_unset(self.rows()));
            }
            if start.contains(&first) && start.contains(&last) {
                return Ok(self.readable());
            }
        }
        let readable = self.readable();
        let inside = self.decide(&["start_time"], &readable, |batch| {
            let times = batch.column(0).as_primitive::<TimestampNanosecondType>().values();
            let inside = BooleanBuffer::collect_bool(times.len(), |row| start.contains(&times[row]));
            Ok::<_, ParquetError>(BooleanArray::new(inside, None))
        })?;
        Ok(&inside.values & &readable)
    }

    /// Whether the file says which values a column has, and a test holds for none of them.
    pub(crate) fn rules_out<T: Test>(&self, place: &Place<'_>, test: &T) -> Result<bool> {
        if place.key.is_some() || COLUMNS_OF_FEW_VALUES.contains(&place.column.as_str()) {
            return Ok(false);
        }
        let values = match self.open.distinct_values(self.number, &place.column)? {
            Some(DistinctValues::Texts(texts)) => Values::of_texts(texts.iter().map(String::as_str)),
            Some(DistinctValues::Ints(ints)) => Values::Typed(Arc::new(Int64Array::from(ints))),
            None => {
                let range = self.open.int_range(self.number, &place.column);
                return Ok(range.is_some_and(|(least, greatest)| !test.may_hold_within(least, greatest)));
            }
        };
        // What fails for a value is told by the rows that have it.
        Ok(test.of(values).is_ok_and(|held| held.true_count() == 0))
    }

    /// The rows of some for which a condition on several columns holds, batch by batch.
    pub fn holding_in_batches<E: From<ParquetError>>(
        &self,
        columns: &[&str],
        among: &BooleanBuffer,
        mut holds: impl FnMut(&RecordBatch) -> Result<BooleanBuffer, E>,
    ) -> Result<BooleanBuffer, E> {
        let decided = self.decide(columns, among, |batch| holds(batch).map(|held| BooleanArray::new(held, None)))?;
        Ok(&decided.values & among)
    }

    /// Reads columns, of all rows or only of those in question if they are few, and decides batch by batch.
    pub(crate) fn decide<E: From<ParquetError>>(
        &self,
        columns: &[&str],
        among: &BooleanBuffer,
        mut decide: impl FnMut(&RecordBatch) -> Result<BooleanArray, E>,
    ) -> Result<Decided, E> {
        let rows = ReadRows::among(among, columns);
        let mut parts = Vec::new();
        for batch in self.read(columns, &rows, usize::MAX)? {
            parts.push(decide(&batch?)?);
        }
        let all = |of: fn(&BooleanArray) -> BooleanBuffer| rows.scatter(&joined(parts.iter().map(of).collect()));
        Ok(Decided { values: all(holding), present: all(present) })
    }

    /// Reads columns of some rows, in batches of at most so many; [`PARENT`] may be one, and comes last.
    pub fn read(&self, columns: &[&str], rows: &ReadRows<'_>, rows_max: usize) -> Result<Columns> {
        let stored: Vec<&str> = columns.iter().copied().filter(|name| *name != PARENT).collect();
        let count = rows.count();
        let rows_max = batch_rows(self.open, self.number, &stored).min(rows_max).min(count).max(1);
        let parents = if stored.len() < columns.len() { Some(self.parents(rows)?) } else { None };
        let reading = if stored.is_empty() {
            None
        } else {
            let (selection, form) = (rows.selection(), StringForm::Dictionary);
            Some(self.bounds.scan_in_batches(self.open, self.number, &stored, selection, form, rows_max)?)
        };
        Ok(Columns { reading, columns: stored.len(), parents, given: 0, count, rows_max })
    }

    /// Counts columns as read for all rows, and takes the memory for that.
    pub fn hold_all(&self, columns: &[&str]) -> Result<Held> {
        self.bounds.count_scanned(self.open.bytes_of(self.number, Some(columns)), 1, 1);
        let bytes = self.open.bytes_in_memory(self.number, Some(columns));
        self.bounds.held(usize::try_from(bytes).unwrap_or(usize::MAX)).map_err(no_room)
    }

    fn parents(&self, rows: &ReadRows<'_>) -> Result<(ArrayRef, Held)> {
        let held = self.hold_all(&PARENT_COLUMNS)?;
        let parents = self.open.parents(self.number)?;
        let id = |parent: &SpanId| (!parent.is_none()).then_some(parent.0);
        let width = size_of::<SpanId>() as i32;
        let ids = match rows {
            ReadRows::All(_) => FixedSizeBinaryArray::try_from_sparse_iter_with_size(parents.iter().map(id), width),
            ReadRows::Some(wanted) => {
                let wanted = wanted.set_indices().map(|row| parents.get(row).and_then(id));
                FixedSizeBinaryArray::try_from_sparse_iter_with_size(wanted, width)
            }
        };
        Ok((Arc::new(ids?), held))
    }
}

/// What was decided about the rows of a row group; false for those that were not read.
pub(crate) struct Decided {
    pub(crate) values: BooleanBuffer,
    /// Where there is a value at all.
    pub(crate) present: BooleanBuffer,
}

fn holding(decided: &BooleanArray) -> BooleanBuffer {
    decided.nulls().map_or_else(|| decided.values().clone(), |nulls| decided.values() & nulls.inner())
}

fn present(decided: &BooleanArray) -> BooleanBuffer {
    decided.nulls().map_or_else(|| BooleanBuffer::new_set(decided.len()), |nulls| nulls.inner().clone())
}

/// Masks over one batch after the other as one.
fn joined(mut masks: Vec<BooleanBuffer>) -> BooleanBuffer {
    if masks.len() == 1 {
        return masks.swap_remove(0);
    }
    let mut all = BooleanBufferBuilder::new(masks.iter().map(BooleanBuffer::len).sum());
    masks.iter().for_each(|mask| all.append_buffer(mask));
    all.finish()
}

/// What was decided about values as what is decided about the rows that have them.
pub(crate) fn of_rows(of_values: &BooleanArray, numbers: &Int32Array) -> BooleanArray {
    let rows = |of_value: BooleanBuffer| {
        if of_value.count_set_bits() == 0 {
            return BooleanBuffer::new_unset(numbers.len());
        }
        let of_value: Vec<bool> = of_value.iter().collect();
        let numbers = numbers.values();
        BooleanBuffer::collect_bool(numbers.len(), |row| of_value.get(numbers[row] as usize).copied().unwrap_or(false))
    };
    let nulls = match (of_values.null_count(), numbers.nulls()) {
        (0, nulls) => nulls.cloned(),
        (_, None) => Some(NullBuffer::new(rows(present(of_values)))),
        (_, Some(nulls)) => Some(NullBuffer::new(&rows(present(of_values)) & nulls.inner())),
    };
    BooleanArray::new(rows(holding(of_values)), nulls)
}

/// Columns of some rows of a row group, batch by batch, with the memory for them.
pub struct Columns {
    /// `None`: of no stored column.
    reading: Option<Reading>,
    columns: usize,
    parents: Option<(ArrayRef, Held)>,
    /// Rows that were given, and those there are.
    given: usize,
    count: usize,
    rows_max: usize,
}

impl Columns {
    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let batch = match &mut self.reading {
            Some(reading) => reading.next().transpose()?,
            None => {
                let rows = (self.count - self.given).min(self.rows_max);
                if rows > 0 { Some(batch_of(Schema::empty(), Vec::new(), rows)?) } else { None }
            }
        };
        let Some(batch) = batch else {
            let other = || ParquetError::General("the file has other numbers of rows than its footer says".into());
            return if self.given == self.count { Ok(None) } else { Err(other()) };
        };
        if batch.num_columns() != self.columns {
            return Err(ParquetError::General("the file lacks a column that it says it has".into()));
        }
        let (first, rows) = (self.given, batch.num_rows());
        self.given += rows;
        let Some((parents, _)) = &self.parents else { return Ok(Some(batch)) };
        let of_batch = parents.slice(first.min(parents.len()), rows.min(parents.len().saturating_sub(first)));
        let mut fields = batch.schema().fields().to_vec();
        fields.push(Arc::new(ArrowField::new(PARENT, DataType::FixedSizeBinary(size_of::<SpanId>() as i32), true)));
        let columns = batch.columns().iter().cloned().chain([of_batch]).collect();
        batch_of(Schema::new(fields), columns, rows).map(Some)
    }
}

impl Iterator for Columns {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_batch().transpose()
    }
}

fn batch_of(schema: Schema, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(Arc::new(schema), columns, &options)?)
}
