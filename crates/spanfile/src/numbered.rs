//! Columns whose distinct values the file numbers, read as those numbers.
//!
//! An Arrow array has a place for every row. Most attributes stand on few spans, so whoever counts values spends the time on
//! places that are empty. Here a column is the rows that have a value, a bit each as the file has them, and the numbers of
//! their values. Format: Apache Parquet, `README.md` (data page version 1), `Encodings.md`.

use arrow::array::BooleanBufferBuilder;
use arrow::buffer::BooleanBuffer;
use arrow::util::bit_chunk_iterator::UnalignedBitChunk;
use bytes::Bytes;
use parquet::basic::{Encoding, Type as Physical};
use parquet::column::page::{Page, PageReader};
use parquet::encodings::rle::RleDecoder;
use parquet::errors::{ParquetError, Result};

use super::batches::contained;
use super::hybrid::read_bits;
use super::rows::damaged;

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
    pub(super) fn read(physical: Physical, mut bytes: &[u8], count: usize) -> Result<Option<Self>> {
        fn take<'b>(bytes: &mut &'b [u8], length: usize) -> Result<&'b [u8]> {
            let short = || ParquetError::EOF("a dictionary ends in the middle of a value".into());
            let (taken, rest) = bytes.split_at_checked(length).ok_or_else(short)?;
            *bytes = rest;
            Ok(taken)
        }
        match physical {
            Physical::BYTE_ARRAY => {
                let mut texts = Vec::with_capacity(count.min(bytes.len()));
                for _ in 0..count {
                    let mut length = [0; 4];
                    length.copy_from_slice(take(&mut bytes, 4)?);
                    let text = take(&mut bytes, u32::from_le_bytes(length) as usize)?;
                    texts.push(String::from_utf8_lossy(text).into_owned());
                }
                Ok(Some(DistinctValues::Texts(texts)))
            }
            Physical::INT64 => {
                let mut ints = Vec::with_capacity(count.min(bytes.len()));
                for _ in 0..count {
                    let mut int = [0; 8];
                    int.copy_from_slice(take(&mut bytes, 8)?);
                    ints.push(i64::from_le_bytes(int));
                }
                Ok(Some(DistinctValues::Ints(ints)))
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

/// A chunk of a top-level column that is to be read.
pub(super) struct Chunk {
    pub(super) pages: Box<dyn PageReader>,
    pub(super) physical: Physical,
    pub(super) rows: usize,
    /// Whether rows may be without a value.
    pub(super) optional: bool,
}

/// A column of a row group of which the distinct values were read, and the numbers of the rows are still to be.
pub struct DistinctColumn {
    values: DistinctValues,
    rest: Chunk,
}

impl DistinctColumn {
    pub fn values(&self) -> &DistinctValues {
        &self.values
    }

    /// Reads which of the values each row has.
    pub fn numbered(self) -> Result<NumberedColumn> {
        contained(|| self.rest.numbers(self.values))
    }
}

impl Chunk {
    /// The distinct values, which must be there. `None`: they are of a type that is not read this way.
    pub(super) fn distinct(mut self) -> Result<Option<DistinctColumn>> {
        let Some(Page::DictionaryPage { buf, num_values, .. }) = self.pages.get_next_page()? else {
            return Err(damaged("a column has no dictionary"));
        };
        let values = DistinctValues::read(self.physical, &buf, num_values as usize)?;
        Ok(values.map(|values| DistinctColumn { values, rest: self }))
    }

    fn numbers(self, values: DistinctValues) -> Result<NumberedColumn> {
        let (count, mut numbers) = (values.len(), Vec::with_capacity(self.rows));
        let present = self.each_page(|encoding, bytes, defined| {
            if encoding != Encoding::RLE_DICTIONARY {
                return Err(damaged("a page does not use the dictionary of its column"));
            }
            put_numbers(bytes, defined, &mut numbers)
        })?;
        if numbers.iter().any(|number| *number as usize >= count) {
            return Err(damaged("a value is not in the dictionary"));
        }
        Ok(NumberedColumn { values, present, numbers })
    }

    /// The rows that have a value, whatever it is; `None`: all have.
    pub(super) fn present(self) -> Result<Option<BooleanBuffer>> {
        self.each_page(|_, _, _| Ok(()))
    }

    /// Shows the values of each page: how they are encoded, and how many they are. Gives the rows that have one.
    fn each_page(
        mut self,
        mut look: impl FnMut(Encoding, Bytes, usize) -> Result<()>,
    ) -> Result<Option<BooleanBuffer>> {
        let mut present = BooleanBufferBuilder::new(if self.optional { self.rows } else { 0 });
        let (mut rows, mut all) = (0, 0);
        while let Some(page) = self.pages.get_next_page()? {
            let (buf, num_values, encoding) = match page {
                Page::DataPage { buf, num_values, encoding, .. } => (buf, num_values as usize, encoding),
                Page::DictionaryPage { .. } => continue,
                Page::DataPageV2 { .. } => return Err(ParquetError::NYI("data pages of version 2".into())),
            };
            let (mut bytes, mut defined) = (buf, num_values);
            if self.optional {
                let (levels, values) = split_levels(bytes)?;
                let before = present.len();
                read_bits(&levels, num_values, &mut present)?;
                let bits = UnalignedBitChunk::new(present.as_slice(), before, num_values);
                (bytes, defined) = (values, bits.count_ones());
            }
            rows += num_values;
            all += defined;
            look(encoding, bytes, defined)?;
        }
        if rows != self.rows {
            return Err(damaged("a column has another number of rows than its row group"));
        }
        Ok((all < rows).then(|| present.finish()))
    }
}

/// The levels at the start of a page, and what follows them.
fn split_levels(page: Bytes) -> Result<(Bytes, Bytes)> {
    let short = || damaged("a page ends within its levels");
    let length = page.first_chunk::<4>().map(|length| u32::from_le_bytes(*length) as usize).ok_or_else(short)?;
    let end = length.checked_add(4).filter(|end| *end <= page.len()).ok_or_else(short)?;
    Ok((page.slice(4..end), page.slice(end..)))
}

fn put_numbers(bytes: Bytes, count: usize, numbers: &mut Vec<u32>) -> Result<()> {
    if count == 0 {
        return Ok(());
    }
    let width = *bytes.first().filter(|width| **width <= 32).ok_or_else(|| damaged("numbers of no known width"))?;
    let mut decoder = RleDecoder::new(width);
    decoder.set_data(bytes.slice(1..))?;
    let before = numbers.len();
    numbers.resize(before + count, 0);
    if decoder.get_batch(&mut numbers[before..])? != count {
        return Err(damaged("a page has fewer values than rows"));
    }
    Ok(())
}
