//! The rows of a row group: for which of them a condition holds, and what columns say of them.
//!
//! Here and in `conditions` it is decided, for every language, where a field's values stand, once for each distinct value where the
//! file numbers them, and only for the rows that are still in question if these are few. A language says of values alone whether
//! its condition holds for them ([`Test`]).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, FixedSizeBinaryArray};
use arrow::array::{Int32Array, RecordBatch, RecordBatchOptions};
use arrow::buffer::{BooleanBuffer, NullBuffer};
use arrow::datatypes::{DataType, Field as ArrowField, Int64Type, Schema, TimestampNanosecondType};
use parquet::errors::{ParquetError, Result};
use tracehouse_model::SpanId;
use tracehouse_spanfile::{ColumnType, OpenFile, StringForm, TreeIds};

use crate::bounds::{Bounds, Reading};
use crate::columns::{ReadRows, batch_rows};
use crate::fault::{Contents, no_room, readable};
use crate::field::{Field, OWN_ID, PARENT, Values};
use crate::held::Held;
use crate::window::Window;

/// The columns that tell the parent of a span.
const PARENT_COLUMNS: [&str; 3] = ["span_id", "parent_span_id", "parent_offset"];

/// Columns that are made of others.
const MADE_COLUMNS: [&str; 2] = [OWN_ID, PARENT];

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

    /// Whether it may hold for any value of a type, if it can tell.
    fn may_hold_for(&self, _of_values: ColumnType) -> bool {
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

    fn may_hold_for(&self, of_values: ColumnType) -> bool {
        (**self).may_hold_for(of_values)
    }
}

/// Whether a test of a field may hold for any span of a file, from what is known of what occurs in it.
pub fn may_hold<T: Test>(field: Field<'_>, test: &T, contents: &Contents) -> bool {
    // What fails for a value that no span may have is told by the rows.
    let of_none = || test.of_none().unwrap_or(true);
    if test.only_text().is_some_and(|text| field.lacks_text(text, contents)) || !field.may_occur(contents) {
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

    /// The rows that can be read of spans that a window selects.
    pub fn selected_by(&self, window: &Window) -> Result<BooleanBuffer> {
        let latest_end = self.open.latest_end(self.number).unwrap_or(i64::MAX);
        if let Some((first, last)) = self.open.int_range(self.number, "start_time") {
            if !window.may_select(first, last, latest_end) {
                return Ok(BooleanBuffer::new_unset(self.rows()));
            }
            if window.selects_all(first, last) {
                return Ok(self.readable());
            }
        }
        let longest = self.open.int_range(self.number, "duration_nanos").map_or(i64::MAX, |(_, longest)| longest);
        let readable = self.readable();
        // Null where the start alone does not tell, which is so for few.
        let told = |starts: &[i64]| {
            let told = |row: usize| !window.depends_on_end(starts[row], longest);
            window.is_overlapping().then(|| NullBuffer::new(BooleanBuffer::collect_bool(starts.len(), told)))
        };
        let by_start = self.decide(&["start_time"], &readable, |batch| {
            let starts = batch.column(0).as_primitive::<TimestampNanosecondType>().values();
            let inside = BooleanBuffer::collect_bool(starts.len(), |row| window.range().contains(&starts[row]));
            Ok::<_, ParquetError>(BooleanArray::new(inside, told(starts)))
        })?;
        let (inside, unknown) = (&by_start.values & &readable, &readable & &!&by_start.present);
        if unknown.count_set_bits() == 0 {
            return Ok(inside);
        }
        let by_end = self.decide(&["start_time", "duration_nanos"], &unknown, |batch| {
            let starts = batch.column(0).as_primitive::<TimestampNanosecondType>().values();
            let durations = batch.column(1).as_primitive::<Int64Type>().values();
            let reaching = |row: usize| window.selects(starts[row], durations[row]);
            Ok::<_, ParquetError>(BooleanArray::new(BooleanBuffer::collect_bool(starts.len(), reaching), None))
        })?;
        Ok(&inside | &(&by_end.values & &unknown))
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

    /// Reads columns of some rows, in batches of at most so many; [`PARENT`] and [`OWN_ID`] may be among them, and come last.
    pub fn read(&self, columns: &[&str], rows: &ReadRows<'_>, rows_max: usize) -> Result<Columns> {
        let made: Vec<&'static str> = MADE_COLUMNS.into_iter().filter(|name| columns.contains(name)).collect();
        let stored: Vec<&str> = columns.iter().copied().filter(|name| !MADE_COLUMNS.contains(name)).collect();
        let count = rows.count();
        let rows_max = batch_rows(self.open, self.number, &stored).min(rows_max).min(count).max(1);
        let made = if made.is_empty() { None } else { Some(self.made_of_ids(&made, rows)?) };
        let reading = if stored.is_empty() {
            None
        } else {
            let (selection, form) = (rows.selection(), StringForm::Dictionary);
            Some(self.bounds.scan_in_batches(self.open, self.number, &stored, selection, form, rows_max)?)
        };
        Ok(Columns { reading, columns: stored.len(), made, given: 0, count, rows_max })
    }

    /// Counts columns as read for all rows, and takes the memory for that.
    pub fn hold_all(&self, columns: &[&str]) -> Result<Held> {
        self.bounds.count_scanned(self.open.bytes_of(self.number, Some(columns)), 1, 1);
        let bytes = self.open.bytes_in_memory(self.number, Some(columns));
        self.bounds.held(usize::try_from(bytes).unwrap_or(usize::MAX)).map_err(no_room)
    }

    /// The ids of the spans of the row group and of their parents, each different, with the memory for them.
    pub fn own_ids(&self) -> Result<(TreeIds, Held)> {
        let held = self.hold_all(&PARENT_COLUMNS)?;
        Ok((self.open.tree_ids(self.number)?, held))
    }

    /// The id of each row and of the parent that it names.
    pub fn named_ids(&self) -> Result<(TreeIds, Held)> {
        let held = self.hold_all(&PARENT_COLUMNS)?;
        Ok((self.open.named_ids(self.number)?, held))
    }

    /// Columns that are made of ids, in this order.
    fn made_of_ids(&self, made: &[&'static str], rows: &ReadRows<'_>) -> Result<Made> {
        let (ids, held) = self.own_ids()?;
        let width = size_of::<SpanId>() as i32;
        let column = |name: &&'static str| {
            let of_rows = if **name == *PARENT { &ids.parents } else { &ids.ids };
            let id = |id: &SpanId| (!id.is_none()).then_some(id.0);
            let array = match rows {
                ReadRows::All(_) => FixedSizeBinaryArray::try_from_sparse_iter_with_size(of_rows.iter().map(id), width),
                ReadRows::Some(wanted) => {
                    let wanted = wanted.set_indices().map(|row| of_rows.get(row).and_then(id));
                    FixedSizeBinaryArray::try_from_sparse_iter_with_size(wanted, width)
                }
            };
            Ok((*name, Arc::new(array?) as ArrayRef))
        };
        Ok(Made { columns: made.iter().map(column).collect::<Result<_>>()?, _held: held })
    }
}

/// Columns that no file has.
struct Made {
    columns: Vec<(&'static str, ArrayRef)>,
    /// The memory for what they were made of.
    _held: Held,
}

/// What was decided about the rows of a row group; false for those that were not read.
pub(crate) struct Decided {
    pub(crate) values: BooleanBuffer,
    /// Where there is a value at all.
    pub(crate) present: BooleanBuffer,
}

pub(crate) fn holding(decided: &BooleanArray) -> BooleanBuffer {
    decided.nulls().map_or_else(|| decided.values().clone(), |nulls| decided.values() & nulls.inner())
}

pub(crate) fn present(decided: &BooleanArray) -> BooleanBuffer {
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
    made: Option<Made>,
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
        let Some(made) = &self.made else { return Ok(Some(batch)) };
        let mut fields = batch.schema().fields().to_vec();
        let mut columns = batch.columns().to_vec();
        for (name, array) in &made.columns {
            fields.push(Arc::new(ArrowField::new(*name, DataType::FixedSizeBinary(size_of::<SpanId>() as i32), true)));
            columns.push(array.slice(first.min(array.len()), rows.min(array.len().saturating_sub(first))));
        }
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
