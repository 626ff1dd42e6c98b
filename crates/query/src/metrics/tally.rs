//! Counts the values of all columns of a row group, each by slot.
//!
//! Columns whose values the file numbers are counted by number, so that a value costs an addition and a row without one
//! next to nothing.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{Int32Type, Int64Type};
use parquet::errors::{ParquetError, Result};
use tracehouse_model::{AnyValue, SeededMap, kind, status};
use tracehouse_scan::{Owner, RowGroup};
use tracehouse_spanfile::{DistinctValues, NumberedColumn};

use super::columns::{Kept, Rows, codes_of_array};
use super::counts::{Counts, counted};
use super::gather::GroupValue;

/// Intrinsics that are counted, with their columns.
const INTRINSICS: [(&str, &str); 4] =
    [("name", "name"), ("kind", "kind"), ("status", "status"), ("statusMessage", "status_message")];
/// Integers of a narrower range are counted in a table.
const INT_RANGE_MAX: i64 = 4096;
/// Sums by value and slot that are made at once.
const CELLS_MAX: usize = 1 << 22;

/// A sum, and the counts that it is made from.
const BYTES_PER_CELL: usize = 24;

/// Rows of a row group, each with the slot that it counts in and its weight. The rows of a row group begin at about the
/// same time, so few slots occur.
pub(super) struct Slotted<'a> {
    /// What columns are read for: all rows, or the wanted ones if they are few.
    rows: Rows<'a>,
    /// Of each of those rows, counted from `first`; `width` if it is not wanted.
    slots: Vec<u32>,
    /// Of each of those rows. Empty if every row weighs 1.
    weights: Vec<f64>,
    first: usize,
    /// How many slots occur, from `first` on.
    width: usize,
    /// Weights of all wanted rows by slot.
    totals: Vec<f64>,
}

impl<'a> Slotted<'a> {
    /// Of rows with the slot of each, two for each step, and the weight of each, if not all are 1.
    pub(super) fn new(rows: Rows<'a>, mut slots: Vec<u32>, mut weights: Vec<f64>) -> Self {
        let first = slots.iter().min().map_or(0, |slot| slot / 2 * 2);
        let width = slots.iter().max().map_or(2, |slot| slot - first + 1).next_multiple_of(2);
        let mut totals = vec![0.0; width as usize];
        for (row, slot) in slots.iter_mut().enumerate() {
            *slot -= first;
            totals[*slot as usize] += weights.get(row).copied().unwrap_or(1.0);
        }
        let rows = if rows.are_few() {
            rows
        } else {
            slots = rows.spread(slots, width);
            weights = if weights.is_empty() { weights } else { rows.spread(weights, 0.0) };
            rows.all()
        };
        Self { rows, slots, weights, first: first as usize, width: width as usize, totals }
    }

    /// Counts the values of every intrinsic and attribute.
    pub(super) fn count(&self, counts: &mut Counts) -> Result<()> {
        for (label, column) in INTRINSICS {
            self.count_column(column, label, counts)?;
        }
        let RowGroup { open, contents, .. } = self.rows.row_group();
        let layout = open.layout();
        for attribute in &layout.span {
            let column = layout.span_column_name(&attribute.key);
            self.count_column(&column, &label_of_span(&attribute.key), counts)?;
        }
        for attribute in &layout.resource {
            let column = layout.resource_column_name(&attribute.key);
            self.count_column(&column, &label_of_resource(&attribute.key), counts)?;
        }
        if Owner::Span.has_rest(contents, layout) {
            self.count_map(counts)?;
        }
        if Owner::Resource.has_rest(contents, layout) {
            self.count_texts_of_json(counts)?;
        }
        Ok(())
    }

    fn count_column(&self, column: &str, label: &str, counts: &mut Counts) -> Result<()> {
        let of_text = |text: &str| match label {
            "status" => status::from_name(text).map_or(GroupValue::Nil, GroupValue::Status),
            "kind" => kind::from_name(text).map_or(GroupValue::Nil, GroupValue::Kind),
            _ => GroupValue::String(text.into()),
        };
        if let Some(text) = self.rows.only_text(column) {
            counts.add(label, of_text(text), self.first, &self.totals);
            return Ok(());
        }
        if !self.rows.are_few() {
            if counts.has_too_many_values(label) {
                let present = self.rows.present(column)?;
                return self.tally_present(present.as_ref(), |weights| counts.add_total(label, self.first, weights));
            }
            if let Some(numbered) = self.rows.numbered(column)? {
                return self.tally_numbered(&numbered, |number, weights| {
                    let value = match &numbered.values {
                        DistinctValues::Texts(texts) => of_text(&texts[number]),
                        DistinctValues::Ints(ints) => GroupValue::Int(ints[number]),
                    };
                    counts.add(label, value, self.first, weights);
                });
            }
        }
        self.count_array(column, label, of_text, counts)
    }

    /// Counts a column whose values are not numbered, or of which few rows are wanted.
    fn count_array(
        &self,
        column: &str,
        label: &str,
        of_text: impl Fn(&str) -> GroupValue,
        counts: &mut Counts,
    ) -> Result<()> {
        let array = self.rows.column(column)?;
        let nulls = array.logical_nulls();
        let is_there = |at: &usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(*at));
        let places = || (0..array.len()).filter(is_there);
        if let Some(dictionary) = array.as_dictionary_opt::<Int32Type>() {
            let (keys, texts) = (dictionary.keys().values(), dictionary.values().as_string::<i32>());
            let numbers = || places().map(|at| (at, keys[at] as usize));
            return self.tally(texts.len(), numbers, |at, weights| {
                counts.add(label, of_text(texts.value(at)), self.first, weights);
            });
        }
        if let Some(bools) = array.as_boolean_opt() {
            let numbers = || places().map(|at| (at, usize::from(bools.value(at))));
            let add = |at, weights: &[f64]| counts.add(label, GroupValue::Bool(at == 1), self.first, weights);
            return self.tally(2, numbers, add);
        }
        if let Some(ints) = array.as_primitive_opt::<Int64Type>()
            && let Some((min, max)) = self.rows.int_range(column)
            && let Some(width) = max.checked_sub(min).filter(|width| *width < INT_RANGE_MAX)
        {
            let values = ints.values();
            let numbers = || places().map(|at| (at, (values[at] - min) as usize));
            return self.tally(width as usize + 1, numbers, |at, weights| {
                counts.add(label, GroupValue::Int(min + at as i64), self.first, weights);
            });
        }
        self.count_codes(array, of_text, |value, weights| {
            if *value != GroupValue::Nil {
                counts.add(label, value.clone(), self.first, weights);
            }
            Ok(())
        })
    }

    /// Counts values that are numbered as they come.
    fn count_codes(
        &self,
        array: Kept<ArrayRef>,
        of_text: impl Fn(&str) -> GroupValue,
        mut add: impl FnMut(&GroupValue, &[f64]) -> Result<()>,
    ) -> Result<()> {
        let rows = array.len();
        let codes = codes_of_array(array, &self.rows, of_text);
        let numbers = || (0..rows).map(|at| (at, codes.code(at) as usize));
        let mut outcome = Ok(());
        self.tally(codes.values.len(), numbers, |at, weights| {
            if outcome.is_ok() {
                outcome = add(&codes.values[at], weights);
            }
        })?;
        outcome
    }

    fn tally_numbered(&self, column: &NumberedColumn, add: impl FnMut(usize, &[f64])) -> Result<()> {
        let (values, numbers) = (column.values.len(), || column.numbers.iter().map(|number| *number as usize));
        match &column.present {
            None => self.tally(values, || numbers().enumerate(), add),
            Some(present) => self.tally(values, || present.set_indices().zip(numbers()), add),
        }
    }

    fn tally_present(&self, present: Option<&BooleanBuffer>, mut add: impl FnMut(&[f64])) -> Result<()> {
        match present {
            None => {
                add(&self.totals);
                Ok(())
            }
            Some(present) => self.tally(1, || present.set_indices().map(|row| (row, 0)), |_, weights| add(weights)),
        }
    }

    /// Sums up the weights by value and slot. Given are the rows that have a value, with its number, below `values`; `add`
    /// gets each value that occurs, with the sums of all slots.
    #[inline]
    fn tally<I: Iterator<Item = (usize, usize)>>(
        &self,
        values: usize,
        numbers: impl Fn() -> I,
        mut add: impl FnMut(usize, &[f64]),
    ) -> Result<()> {
        // Rows that are not wanted count in a slot of their own, where nobody looks.
        let stride = self.width + 1;
        let at_once = (CELLS_MAX / stride).max(1);
        let _sums = self.rows.hold(values.min(at_once) * stride * BYTES_PER_CELL)?;
        for first in (0..values).step_by(at_once) {
            let portion = at_once.min(values - first);
            let cells = numbers().filter_map(|(row, number)| {
                let number = number.wrapping_sub(first);
                (number < portion).then(|| (row, number * stride + self.slots[row] as usize))
            });
            let sums = self.sums(portion * stride, cells);
            for (number, sums) in sums.chunks(stride).enumerate() {
                let sums = &sums[..self.width];
                if sums.iter().any(|sum| *sum > 0.0) {
                    add(first + number, sums);
                }
            }
        }
        Ok(())
    }

    /// The sum of weights in each of so many cells, from rows with their cells.
    #[inline]
    fn sums(&self, length: usize, cells: impl Iterator<Item = (usize, usize)>) -> Vec<f64> {
        if !self.weights.is_empty() {
            let mut sums = vec![0.0; length];
            cells.for_each(|(row, cell)| sums[cell] += self.weights[row]);
            return sums;
        }
        // Neighbouring rows often have the same value. Adding to the same place again has to wait for the last time, so
        // they are added in different places.
        const TABLES: usize = 4;
        const LENGTH_OF_SEVERAL_MAX: usize = 4096;
        if length > LENGTH_OF_SEVERAL_MAX {
            let mut counted = vec![0u32; length];
            cells.for_each(|(_, cell)| counted[cell] += 1);
            return counted.into_iter().map(f64::from).collect();
        }
        let mut counted = vec![[0u32; TABLES]; length];
        let mut table = 0;
        cells.for_each(|(_, cell)| {
            counted[cell][table % TABLES] += 1;
            table += 1;
        });
        counted.into_iter().map(|tables| tables.into_iter().map(f64::from).sum()).collect()
    }

    /// Attributes of spans without a column of their own.
    fn count_map(&self, counts: &mut Counts) -> Result<()> {
        let mut first = 0;
        for batch in self.rows.batches(Owner::Span.rest())? {
            let batch = batch?;
            self.count_maps(batch.column(0), first, counts)?;
            first += batch.num_rows();
        }
        Ok(())
    }

    /// The same for some of the rows, from the one numbered `first` on.
    fn count_maps(&self, array: &ArrayRef, first: usize, counts: &mut Counts) -> Result<()> {
        let map = array.as_map_opt().ok_or_else(|| ParquetError::General("not a column of maps".into()))?;
        let (keys, texts) = (map.keys().as_string::<i32>(), map.values().as_string::<i32>());
        // Values are parsed once for all rows that have the same text.
        let mut by_key: SeededMap<&str, SeededMap<&str, SlotSums>> = SeededMap::default();
        for (at, offsets) in map.value_offsets().windows(2).enumerate() {
            let row = first + at;
            let slot = self.slots.get(row).copied().unwrap_or(self.width as u32);
            if slot as usize >= self.width {
                continue;
            }
            let weight = self.weights.get(row).copied().unwrap_or(1.0);
            for entry in offsets[0] as usize..offsets[1] as usize {
                let of_value = by_key.entry(keys.value(entry)).or_default().entry(texts.value(entry)).or_default();
                match of_value.last_mut() {
                    Some((last, sum)) if *last == slot => *sum += weight,
                    _ => of_value.push((slot, weight)),
                }
            }
        }
        let mut weights = vec![0.0; self.width];
        for (key, values) in by_key {
            let label = label_of_span(key);
            for (text, sums) in values {
                let Some(value) = counted(&read_json(text)?) else { continue };
                weights.fill(0.0);
                sums.iter().for_each(|(slot, sum)| weights[*slot as usize] += sum);
                counts.add(&label, value, self.first, &weights);
            }
        }
        Ok(())
    }

    /// Attributes of resources without a column of their own: one text for all of them, the same for many spans.
    fn count_texts_of_json(&self, counts: &mut Counts) -> Result<()> {
        let array = self.rows.column(Owner::Resource.rest())?;
        self.count_codes(
            array,
            |text| GroupValue::String(text.into()),
            |value, weights| {
                let GroupValue::String(text) = value else { return Ok(()) };
                let AnyValue::KeyValueList(entries) = read_json(text)? else { return Ok(()) };
                for (key, value) in entries {
                    if let Some(value) = counted(&value) {
                        counts.add(&label_of_resource(&key), value, self.first, weights);
                    }
                }
                Ok(())
            },
        )
    }
}

fn label_of_span(key: &str) -> String {
    format!("span.{key}")
}

fn label_of_resource(key: &str) -> String {
    format!("resource.{key}")
}

/// Weights by slot, for values that few rows have.
type SlotSums = Vec<(u32, f64)>;

fn read_json(text: &str) -> Result<AnyValue> {
    AnyValue::from_canonical_json(text).map_err(|error| ParquetError::External(Box::new(error)))
}
