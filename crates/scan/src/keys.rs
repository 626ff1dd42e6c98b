//! Values of several keys among the attributes that have no column of their own: a column of attributes is walked once, however
//! many keys are asked for, and what nobody asked for is not kept.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, RecordBatch, StringArray};
use arrow::compute::take;
use arrow::datatypes::Int32Type;
use parquet::errors::{ParquetError, Result};
use tracehouse_model::{AnyValue, SeededMap};

use crate::bounds::Bounds;
use crate::fault::no_room;
use crate::field::{Place, Values, ValuesOfRows};
use crate::held::Held;

/// A row of a column that no value was found in yet.
const NO_ROW: u32 = u32::MAX;

/// Keys that are asked for, each once.
#[derive(Default)]
pub(crate) struct Keys<'k> {
    numbers: SeededMap<&'k str, usize>,
}

/// What a key has in a column.
#[derive(Debug)]
pub(crate) struct ValuesOfKey {
    /// In which rows of the column, ascending.
    pub(crate) rows: Vec<u32>,
    /// What, in these rows; none is missing.
    pub(crate) values: Arc<Vec<Option<AnyValue>>>,
}

impl ValuesOfKey {
    /// With a place for each of so many rows.
    fn dense(&self, rows: usize) -> Values {
        if self.rows.len() == rows {
            return Values::Any(self.values.clone());
        }
        let mut dense = vec![None; rows];
        self.rows.iter().zip(self.values.iter()).for_each(|(row, value)| dense[*row as usize] = value.clone());
        Values::Any(Arc::new(dense))
    }
}

/// What was found so far.
struct Finds<'k, F> {
    keys: &'k Keys<'k>,
    found: Vec<(Vec<u32>, Vec<Option<AnyValue>>)>,
    /// For each key the last row that had it: of keys that stand twice, the first one counts.
    last: Vec<u32>,
    keep: F,
}

impl<F: FnMut(usize) -> Result<()>> Finds<'_, F> {
    fn offer(&mut self, row: usize, key: &str, bytes: usize, value: impl FnOnce() -> Result<AnyValue>) -> Result<()> {
        let Some(number) = self.keys.number(key) else { return Ok(()) };
        if self.last[number] == row as u32 {
            return Ok(());
        }
        self.last[number] = row as u32;
        let value = value()?;
        // An attribute that is empty is like one that is not there.
        if value != AnyValue::Empty {
            (self.keep)(size_of::<(u32, Option<AnyValue>)>() + bytes)?;
            self.found[number].0.push(row as u32);
            self.found[number].1.push(Some(value));
        }
        Ok(())
    }

    fn in_maps(&mut self, offsets: &[i32], keys: &StringArray, values: &StringArray) -> Result<()> {
        for (row, window) in offsets.windows(2).enumerate() {
            for at in window[0] as usize..window[1] as usize {
                let text = values.value(at);
                self.offer(row, keys.value(at), text.len(), || read_json(text))?;
            }
        }
        Ok(())
    }

    fn in_texts<'t>(&mut self, texts: impl Iterator<Item = Option<&'t str>>) -> Result<()> {
        for (row, text) in texts.enumerate() {
            let Some(text) = text else { continue };
            let AnyValue::KeyValueList(entries) = read_json(text)? else { continue };
            for (key, value) in entries {
                let bytes = if let AnyValue::String(text) = &value { text.len() } else { 0 };
                self.offer(row, &key, bytes, || Ok(value))?;
            }
        }
        Ok(())
    }
}

impl<'k> Keys<'k> {
    pub(crate) fn add(&mut self, key: &'k str) -> usize {
        let next = self.numbers.len();
        *self.numbers.entry(key).or_insert(next)
    }

    fn number(&self, key: &str) -> Option<usize> {
        self.numbers.get(key).copied()
    }

    /// What each key has, by its number: in maps of texts of JSON, or in texts of JSON that each hold all attributes. `keep` is
    /// told, before anything is kept, about how many bytes it takes.
    pub(crate) fn find(
        &self,
        column: &str,
        array: &ArrayRef,
        keep: impl FnMut(usize) -> Result<()>,
    ) -> Result<Vec<ValuesOfKey>> {
        let wrong_type = || ParquetError::General(format!("column {column} is not of attributes"));
        let count = self.numbers.len();
        let mut finds = Finds { keys: self, found: vec![Default::default(); count], last: vec![NO_ROW; count], keep };
        if let Some(map) = array.as_map_opt() {
            let keys = map.keys().as_string_opt::<i32>().ok_or_else(wrong_type)?;
            let values = map.values().as_string_opt::<i32>().ok_or_else(wrong_type)?;
            finds.in_maps(map.value_offsets(), keys, values)?;
        } else if let Some(texts) = array.as_string_view_opt() {
            finds.in_texts(texts.iter())?;
        } else {
            finds.in_texts(array.as_string_opt::<i32>().ok_or_else(wrong_type)?.iter())?;
        }
        let found = finds.found.into_iter();
        Ok(found.map(|(rows, values)| ValuesOfKey { rows, values: Arc::new(values) }).collect())
    }
}

fn read_json(text: &str) -> Result<AnyValue> {
    AnyValue::from_canonical_json(text).map_err(|error| ParquetError::External(Box::new(error)))
}

/// The values of a column, each once where the column numbers them and there are fewer than rows.
pub(crate) fn distinct(column: &ArrayRef) -> Result<(ArrayRef, Option<&Int32Array>)> {
    Ok(match column.as_dictionary_opt::<Int32Type>() {
        None => (column.clone(), None),
        Some(numbered) if numbered.values().len() <= numbered.len() => {
            (numbered.values().clone(), Some(numbered.keys()))
        }
        Some(numbered) => (take(numbered.values(), numbered.keys(), None)?, None),
    })
}

/// What is asked for of the attributes in a batch of stored columns.
pub struct AttributesOf<'p> {
    columns: SeededMap<&'p str, (Keys<'p>, Vec<ValuesOfKey>)>,
    /// For the values.
    _held: Held,
}

impl<'p> AttributesOf<'p> {
    /// Walks each column of attributes once, for all places in it.
    pub fn places(
        places: impl IntoIterator<Item = &'p Place<'p>>,
        batch: &RecordBatch,
        bounds: &Bounds,
    ) -> Result<Self> {
        let mut columns: SeededMap<&str, (Keys<'_>, Vec<ValuesOfKey>)> = SeededMap::default();
        for place in places {
            if let Some(key) = place.key {
                columns.entry(&place.column).or_default().0.add(key);
            }
        }
        let mut held = bounds.hold();
        for (name, (keys, found)) in &mut columns {
            let keep = |bytes| bounds.take(&mut held, bytes).map_err(no_room);
            *found = keys.find(name, &distinct(column_of(batch, name)?)?.0, keep)?;
        }
        Ok(Self { columns, _held: held })
    }

    /// The values in one of the places.
    pub fn values<'c>(&self, place: &Place<'_>, batch: &'c RecordBatch) -> Result<ValuesOfRows<'c>> {
        let (array, numbers) = distinct(column_of(batch, &place.column)?)?;
        let Some(key) = place.key else { return Ok(ValuesOfRows { values: Values::Typed(array), numbers }) };
        let found = self.columns.get(place.column.as_str()).and_then(|(keys, found)| found.get(keys.number(key)?));
        let values =
            found.map_or_else(|| Values::Any(Arc::new(vec![None; array.len()])), |found| found.dense(array.len()));
        Ok(ValuesOfRows { values, numbers })
    }
}

fn column_of<'c>(batch: &'c RecordBatch, name: &str) -> Result<&'c ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| ParquetError::General(format!("the file has no column {name}")))
}

impl Place<'_> {
    /// The values in the place's column, each once where the column numbers them and there are fewer than rows.
    pub fn values<'c>(&self, column: &'c ArrayRef) -> Result<ValuesOfRows<'c>> {
        let (array, numbers) = distinct(column)?;
        let Some(key) = self.key else { return Ok(ValuesOfRows { values: Values::Typed(array), numbers }) };
        let mut keys = Keys::default();
        let number = keys.add(key);
        let found = keys.find(&self.column, &array, |_| Ok(()))?;
        Ok(ValuesOfRows { values: found[number].dense(array.len()), numbers })
    }
}
