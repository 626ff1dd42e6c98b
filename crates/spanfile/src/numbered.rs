//! Columns whose distinct values the file numbers, read as those numbers.
//!
//! An Arrow array has a place for every row. Most attributes stand on few spans, so whoever counts values spends the time on
//! places that are empty. Here a column is the rows that have a value, a bit each as the file has them, and the numbers of
//! their values. Format: Apache Parquet, `README.md` (data page version 1), `Encodings.md`.

use std::ops::Range;

use arrow::array::BooleanBufferBuilder;
use arrow::buffer::BooleanBuffer;
use bytes::Bytes;
use parquet::basic::{Encoding, Type as Physical};
use parquet::column::page::{Page, PageReader};
use parquet::encodings::rle::RleDecoder;
use parquet::errors::{ParquetError, Result};

use super::batches::contained;
use super::hybrid::read_bits;
use super::pages::CheckedPages;
use super::rows::damaged;
use super::sought::{Sought, Wanted};

/// The distinct values of a column in a row group.
#[derive(Debug, Clone, PartialEq)]
pub enum DistinctValues {
    Texts(Vec<String>),
    Ints(Vec<i64>),
}

/// A column of a row group as the numbers of its values.
#[derive(Debug, PartialEq)]
pub struct NumberedColumn {
    /// By number.
    pub values: DistinctValues,
    /// The rows that have a value; `None`: all have.
    pub present: Option<BooleanBuffer>,
    /// The number of its value, below the number of values, for each row that has one.
    pub numbers: Vec<u32>,
}

impl DistinctValues {
    /// Reads a dictionary page: texts with their lengths before them, or integers, all little-endian.
    pub(super) fn read(physical: Physical, bytes: &[u8], count: usize) -> Result<Option<Self>> {
        match physical {
            Physical::BYTE_ARRAY => {
                let mut texts = Vec::with_capacity(count.min(bytes.len()));
                each_text(bytes, count, |text| texts.push(String::from_utf8_lossy(text).into_owned()))?;
                Ok(Some(DistinctValues::Texts(texts)))
            }
            Physical::INT64 => {
                let (ints, _) = bytes.as_chunks::<8>();
                let short = || ParquetError::EOF("a dictionary ends in the middle of a value".into());
                let ints = ints.get(..count).ok_or_else(short)?;
                Ok(Some(DistinctValues::Ints(ints.iter().map(|int| i64::from_le_bytes(*int)).collect())))
            }
            _ => Ok(None),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            DistinctValues::Texts(texts) => texts.len(),
            DistinctValues::Ints(ints) => ints.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Shows so many texts, which stand one after the other with their lengths before them, in four bytes each.
pub(super) fn each_text<'b>(mut bytes: &'b [u8], count: usize, mut look: impl FnMut(&'b [u8])) -> Result<()> {
    let short = || ParquetError::EOF("a page ends in the middle of a text".into());
    for _ in 0..count {
        let (length, rest) = bytes.split_first_chunk::<4>().ok_or_else(short)?;
        let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(short)?;
        look(text);
        bytes = rest;
    }
    Ok(())
}

/// A chunk of a top-level column that is to be read.
pub(super) struct Chunk {
    pub(super) pages: CheckedPages,
    pub(super) physical: Physical,
    pub(super) rows: usize,
    /// Whether rows may be without a value.
    pub(super) optional: bool,
}

/// A column of a row group of which the distinct values were read, and the numbers of the rows are still to be.
pub struct DistinctColumn {
    dictionary: Bytes,
    rows: RowsOfValues,
}

/// Which row has which of the values of a column, which are given by number: to be read.
pub struct RowsOfValues {
    count: usize,
    rest: Chunk,
}

/// The values of a page.
pub(super) struct ValuesPage {
    /// Rows of the row group.
    pub(super) rows: Range<usize>,
    /// Which of them have a value; `None`: all.
    pub(super) present: Option<BooleanBuffer>,
    /// How many these are.
    pub(super) values: usize,
    pub(super) encoding: Encoding,
    pub(super) bytes: Bytes,
}

impl DistinctColumn {
    pub fn values(&self) -> Result<DistinctValues> {
        let RowsOfValues { count, rest } = &self.rows;
        let values = contained(|| DistinctValues::read(rest.physical, &self.dictionary, *count))?;
        values.ok_or_else(|| damaged("a dictionary is of another type than its column"))
    }

    /// The values that are a text, by number; `None` if they are no texts.
    pub fn equal_to(&self, wanted: &str) -> Result<Option<BooleanBuffer>> {
        let RowsOfValues { count, rest } = &self.rows;
        // As a text it is what stands for bytes that are none.
        if rest.physical != Physical::BYTE_ARRAY || wanted.contains(char::REPLACEMENT_CHARACTER) {
            return Ok(None);
        }
        let mut equal = BooleanBufferBuilder::new((*count).min(self.dictionary.len()));
        each_text(&self.dictionary, *count, |text| equal.append(text == wanted.as_bytes()))?;
        Ok(Some(equal.finish()))
    }

    /// What is left to read, without the values.
    pub fn rows(self) -> RowsOfValues {
        self.rows
    }

    /// Reads which of the values each row has.
    pub fn numbered(self) -> Result<NumberedColumn> {
        let values = self.values()?;
        contained(|| self.rows.rest.numbers(values))
    }
}

impl RowsOfValues {
    /// How many different values there are.
    pub fn values(&self) -> usize {
        self.count
    }

    /// Reads which of some rows have one of some values.
    pub fn sought(self, values: &BooleanBuffer, among: &BooleanBuffer) -> Result<Sought> {
        contained(|| self.rest.with_numbers(&Wanted::of(values), among))
    }
}

impl Chunk {
    /// The distinct values, which must be there. `None`: they are of a type that is not read this way.
    pub(super) fn distinct(mut self) -> Result<Option<DistinctColumn>> {
        let Some(Page::DictionaryPage { buf, num_values, .. }) = self.pages.get_next_page()? else {
            return Err(damaged("a column has no dictionary"));
        };
        let is_known = matches!(self.physical, Physical::BYTE_ARRAY | Physical::INT64);
        let rows = RowsOfValues { count: num_values as usize, rest: self };
        Ok(is_known.then(|| DistinctColumn { dictionary: buf, rows }))
    }

    fn numbers(self, values: DistinctValues) -> Result<NumberedColumn> {
        let (count, mut numbers) = (values.len(), Vec::with_capacity(self.rows));
        let present = self.each_value(|page| put_numbers(page, count, &mut numbers))?;
        Ok(NumberedColumn { values, present, numbers })
    }

    /// The rows that have a value, whatever it is; `None`: all have.
    pub(super) fn present(self) -> Result<Option<BooleanBuffer>> {
        self.each_value(|_| Ok(()))
    }

    /// Shows the values of all pages. Gives the rows that have one; `None`: all have.
    fn each_value(self, mut look: impl FnMut(&ValuesPage) -> Result<()>) -> Result<Option<BooleanBuffer>> {
        let (rows, mut values) = (self.rows, 0);
        let mut present = BooleanBufferBuilder::new(if self.optional { rows } else { 0 });
        self.each_page(None, |page| {
            match &page.present {
                Some(of_page) => present.append_buffer(of_page),
                None => present.append_n(page.rows.len(), true),
            }
            values += page.values;
            look(&page)
        })?;
        Ok((values < rows).then(|| present.finish()))
    }

    /// How many bytes of the file the pages take that hold any of some rows.
    pub(super) fn bytes_among(&self, among: &BooleanBuffer) -> u64 {
        let with_any = self.pages.places().filter(|place| !place.is_dictionary && has_any(among, &place.rows));
        with_any.map(|place| place.bytes as u64).sum()
    }

    /// Shows the pages that hold any of some rows, or all pages. No other is read.
    pub(super) fn each_page(
        mut self,
        among: Option<&BooleanBuffer>,
        mut look: impl FnMut(ValuesPage) -> Result<()>,
    ) -> Result<()> {
        let wrong = || damaged("a column has another number of rows than its row group");
        let mut rows_end = 0;
        loop {
            let Some(place) = self.pages.places().next().cloned() else { break };
            if !place.is_dictionary && (place.rows.start != rows_end || place.rows.end > self.rows) {
                return Err(wrong());
            }
            if place.is_dictionary || among.is_some_and(|among| !has_any(among, &place.rows)) {
                self.pages.skip_next_page()?;
            } else {
                let page = self.pages.get_next_page()?;
                look(values_page(page, place.rows.clone(), self.optional)?)?;
            }
            if !place.is_dictionary {
                rows_end = place.rows.end;
            }
        }
        if rows_end == self.rows { Ok(()) } else { Err(wrong()) }
    }
}

fn has_any(among: &BooleanBuffer, rows: &Range<usize>) -> bool {
    rows.end <= among.len() && among.slice(rows.start, rows.len()).count_set_bits() > 0
}

fn values_page(page: Option<Page>, rows: Range<usize>, optional: bool) -> Result<ValuesPage> {
    let Some(Page::DataPage { buf, num_values, encoding, .. }) = page else {
        return Err(ParquetError::NYI("data pages of another version".into()));
    };
    if num_values as usize != rows.len() {
        return Err(damaged("a page has another number of rows than the index says"));
    }
    if !optional {
        return Ok(ValuesPage { values: rows.len(), rows, present: None, encoding, bytes: buf });
    }
    let (levels, bytes) = split_levels(buf)?;
    let mut present = BooleanBufferBuilder::new(rows.len());
    read_bits(&levels, rows.len(), &mut present)?;
    let present = present.finish();
    let values = present.count_set_bits();
    let present = (values < rows.len()).then_some(present);
    Ok(ValuesPage { rows, present, values, encoding, bytes })
}

/// The levels at the start of a page, and what follows them.
fn split_levels(page: Bytes) -> Result<(Bytes, Bytes)> {
    let short = || damaged("a page ends within its levels");
    let length = page.first_chunk::<4>().map(|length| u32::from_le_bytes(*length) as usize).ok_or_else(short)?;
    let end = length.checked_add(4).filter(|end| *end <= page.len()).ok_or_else(short)?;
    Ok((page.slice(4..end), page.slice(end..)))
}

/// Appends the numbers of the values of a page, of which there are `count` different ones.
pub(super) fn put_numbers(page: &ValuesPage, count: usize, numbers: &mut Vec<u32>) -> Result<()> {
    if page.encoding != Encoding::RLE_DICTIONARY {
        return Err(damaged("a page does not use the dictionary of its column"));
    }
    if page.values == 0 {
        return Ok(());
    }
    let width = page.bytes.first().filter(|width| **width <= 32);
    let width = *width.ok_or_else(|| damaged("numbers of no known width"))?;
    let mut decoder = RleDecoder::new(width);
    decoder.set_data(page.bytes.slice(1..))?;
    let before = numbers.len();
    numbers.resize(before + page.values, 0);
    if decoder.get_batch(&mut numbers[before..])? != page.values {
        return Err(damaged("a page has fewer values than rows"));
    }
    let count = u32::try_from(count).unwrap_or(u32::MAX);
    // Without an early end, so that many are looked at at once.
    let any_outside = numbers[before..].iter().fold(false, |any, number| any | (*number >= count));
    if any_outside { Err(damaged("a value is not in the dictionary")) } else { Ok(()) }
}
