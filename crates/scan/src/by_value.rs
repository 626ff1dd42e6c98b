//! Conditions on columns whose distinct values the file numbers: decided once for each value, with no value made for any row.

use std::sync::Arc;

use arrow::array::{BooleanArray, BooleanBufferBuilder, Int64Array};
use arrow::buffer::BooleanBuffer;
use parquet::errors::Result;
use tracehouse_spanfile::{DistinctValues, NumberedColumn};

use crate::columns::{ReadRows, batch_rows};
use crate::field::{Place, Values};
use crate::rows::{Decided, RowGroup, Test, holding, present};

/// Columns of so few values that most row groups have each of them: it is not worth it to look at the values first.
const COLUMNS_OF_FEW_VALUES: [&str; 2] = ["kind", "status"];

/// What the values of a column tell of a test.
pub(crate) enum ByValue {
    /// It holds for none of them.
    Nothing,
    Decided(Decided),
    /// The rows are to be looked at.
    Unknown,
}

impl RowGroup<'_> {
    /// Decides about rows by the distinct values of a column, if the file has them apart. `to_find`: a row matters only if
    /// the test holds for its value, so that the values may be enough.
    pub(crate) fn by_value<T: Test>(
        &self,
        place: &Place<'_>,
        test: &T,
        left: &BooleanBuffer,
        to_find: bool,
    ) -> Result<ByValue> {
        let column = place.column.as_str();
        let of_few_rows = matches!(ReadRows::among(left, &[column]), ReadRows::Some(_));
        let looks_at_values = to_find && !COLUMNS_OF_FEW_VALUES.contains(&column);
        if place.key.is_some() || (of_few_rows && !looks_at_values) {
            return Ok(ByValue::Unknown);
        }
        let Some(distinct) = self.open.distinct(self.number, column)? else {
            let range = self.open.int_range(self.number, column);
            let is_outside = range.is_some_and(|(least, greatest)| !test.may_hold_within(least, greatest));
            return Ok(if is_outside && looks_at_values { ByValue::Nothing } else { ByValue::Unknown });
        };
        let values = match distinct.values() {
            DistinctValues::Texts(texts) => Values::of_texts(texts.iter().map(String::as_str)),
            DistinctValues::Ints(ints) => Values::Typed(Arc::new(Int64Array::from(ints.clone()))),
        };
        // What fails for a value is told by the rows that have it.
        let Ok(of_values) = test.of(values) else { return Ok(ByValue::Unknown) };
        if to_find && of_values.true_count() == 0 {
            return Ok(ByValue::Nothing);
        }
        // Integers are times or the like in columns that are no attributes.
        let are_plain = place.owner.is_some() || matches!(distinct.values(), DistinctValues::Texts(_));
        if of_few_rows || !are_plain || batch_rows(self.open, self.number, &[column]) < self.rows() {
            return Ok(ByValue::Unknown);
        }
        let _held = self.hold_all(&[column])?;
        Ok(ByValue::Decided(of_rows(&of_values, &distinct.numbered()?, self.rows())))
    }
}

fn of_rows(of_values: &BooleanArray, column: &NumberedColumn, rows: usize) -> Decided {
    let of_rows = |of_values: &BooleanBuffer| scattered(of_values, column, rows);
    Decided { values: of_rows(&holding(of_values)), present: of_rows(&present(of_values)) }
}

/// What is set for values, for the rows that have them.
fn scattered(of_values: &BooleanBuffer, column: &NumberedColumn, rows: usize) -> BooleanBuffer {
    let is_set = |number: u32| of_values.value(number as usize);
    match (&column.present, of_values.count_set_bits()) {
        (_, 0) => BooleanBuffer::new_unset(rows),
        (None, set) if set == of_values.len() => BooleanBuffer::new_set(rows),
        (Some(present), set) if set == of_values.len() => present.clone(),
        (None, _) => BooleanBuffer::collect_bool(rows, |row| is_set(column.numbers[row])),
        (Some(present), _) => {
            let mut builder = BooleanBufferBuilder::new(rows);
            builder.append_n(rows, false);
            let with_value = present.set_indices().zip(&column.numbers);
            with_value.filter(|(_, number)| is_set(**number)).for_each(|(row, _)| builder.set_bit(row, true));
            builder.finish()
        }
    }
}
