//! What is needed to read a file, at places that are computed and not searched for: opening a file costs as little with a
//! thousand columns as with ten. It stands at the begin of the tail ([`super::seal`]), whose checksum covers it. Parquet's
//! own footer and page indexes say the same once more, for other engines.
//!
//! Numbers are little-endian. In order:
//!
//! ```text
//! head          magic; counts of row groups, columns, pages and trace ranges; lengths of the texts; flags; sections: the trace
//!               filter, the names, from version 2 on the filter of values
//! row groups    rows u32, number of its first trace range u32
//! chunks        64 bytes for each column of each row group: see `Chunk`
//! pages         of all chunks, in the order of the file: bytes u32, first row u32, CRC-32C u32
//! trace ranges  first and last trace id of each page of the first column, 32 bytes
//! texts         values of columns that have one and the same in all rows; the layout; ids of files that were merged
//! ```
//!
//! Files of older layout versions have no index: the same bytes are made when they are opened ([`super::older`]).

use std::collections::VecDeque;
use std::ops::Range;

use bytes::Bytes;
use parquet::errors::{ParquetError, Result};

use super::damage::Damaged;
use super::seal::Section;

mod packed;

pub(super) use packed::PackedIndex;

/// The last two digits are the version of this format: the second if there is a filter of values, which the flags say too.
const MAGIC: [u8; 8] = *b"THINDX01";
const MAGIC_2: [u8; 8] = *b"THINDX02";
const SECTIONS_BEGIN: usize = 8 + 4 * COUNTS;
const COUNTS: usize = 8;
const SECTION_BYTES: usize = 16;
const ROW_GROUP_BYTES: usize = 8;
const CHUNK_BYTES: usize = 64;
/// Where the range stands in a chunk: two numbers of eight bytes.
const RANGE_BEGIN: usize = 40;
const PAGE_BYTES: usize = 12;
const TRACE_RANGE_BYTES: usize = 32;

/// What the last of the counts in the head says.
mod file_flag {
    /// The checksums of pages count.
    pub(super) const CHECKSUMS: u32 = 1;
    /// The trace filter stands in pages.
    pub(super) const FILTER_PAGES: u32 = 2;
    /// There is a filter of values.
    pub(super) const VALUE_FILTER: u32 = 4;
}

/// How many bytes the head of an index with these flags has.
fn head_bytes(flags: u32) -> usize {
    SECTIONS_BEGIN + (2 + usize::from(flags & file_flag::VALUE_FILTER != 0)) * SECTION_BYTES
}

fn magic(flags: u32) -> [u8; 8] {
    if flags & file_flag::VALUE_FILTER != 0 { MAGIC_2 } else { MAGIC }
}

/// What a chunk's flags say.
mod flag {
    pub(super) const COMPRESSED: u32 = 1;
    /// The first page is a dictionary.
    pub(super) const DICTIONARY: u32 = 2;
    /// The range is minimum and maximum of the values.
    pub(super) const INTS: u32 = 4;
    /// The range is where the text stands that every row has.
    pub(super) const ONE_TEXT: u32 = 8;
    /// No attribute of the file with the column's key stands in another column. Files that were written before there was this
    /// flag don't say so.
    pub(super) const ALONE: u32 = 16;
    /// All texts of the column, in all row groups, are in the filter of values.
    pub(super) const FILTERED: u32 = 32;
    /// The range is where the filters over the texts of its pages stand, and their length and checksum. Earlier readers pass over it.
    pub(super) const PAGE_FILTERS: u32 = 64;
}

/// A page, as the index has it.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageEntry {
    /// With its header.
    pub(super) bytes: u32,
    /// 0 for a dictionary.
    pub(super) first_row: u32,
    pub(super) crc32c: u32,
}

/// What is known of the values of a chunk.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum ValueRange {
    #[default]
    Unknown,
    /// Minimum and maximum.
    Ints(i64, i64),
    /// Every row has this text.
    OneText(Vec<u8>),
}

/// A column of a row group, as the index is told of it.
#[derive(Debug, Clone, Default)]
pub(super) struct ChunkEntry {
    /// In the file.
    pub(super) offset: u64,
    pub(super) uncompressed_bytes: u64,
    /// How long its texts are together, each counted as often as it occurs; `None` if that is not known.
    pub(super) text_bytes: Option<u64>,
    /// Rows, or elements of lists with one for each row without any.
    pub(super) positions: u64,
    pub(super) is_compressed: bool,
    pub(super) has_dictionary: bool,
    pub(super) range: ValueRange,
    /// A dictionary first.
    pub(super) pages: Vec<PageEntry>,
    /// First and last value of each page, if they are trace ids.
    pub(super) trace_ranges: Vec<[u8; TRACE_RANGE_BYTES]>,
}

/// Gathers the index of a file while the file is written.
#[derive(Default)]
pub(super) struct IndexWriter {
    row_groups: Vec<u8>,
    chunks: Vec<u8>,
    pages: Vec<u8>,
    trace_ranges: Vec<u8>,
    texts: Vec<u8>,
}

/// What an index says apart from where the columns are.
pub(super) struct Described<'a> {
    /// As JSON.
    pub(super) layout: &'a str,
    pub(super) trace_filter: Section,
    pub(super) names: Section,
    pub(super) merged_from: &'a [String],
    /// Whether the checksums of pages count.
    pub(super) has_checksums: bool,
    /// Whether the trace filter stands in pages with a checksum each.
    pub(super) has_filter_pages: bool,
    /// For each column whether it alone holds the attributes of its key; empty if that is not known.
    pub(super) alone: &'a [bool],
    pub(super) value_filter: Option<ValueFilterPlace<'a>>,
}

/// Where the filter of values stands.
pub(super) struct ValueFilterPlace<'a> {
    pub(super) section: Section,
    /// For each column whether its texts are in it.
    pub(super) columns: &'a [bool],
}

impl IndexWriter {
    /// Begins a row group, whose columns come next.
    pub(super) fn begin_row_group(&mut self, rows: usize) -> Result<()> {
        put(&mut self.row_groups, &[fit(rows)?, fit(self.trace_ranges.len() / TRACE_RANGE_BYTES)?]);
        Ok(())
    }

    pub(super) fn add_chunk(&mut self, chunk: &ChunkEntry) -> Result<()> {
        let mut flags = 0;
        flags |= if chunk.is_compressed { flag::COMPRESSED } else { 0 };
        flags |= if chunk.has_dictionary { flag::DICTIONARY } else { 0 };
        let range = match &chunk.range {
            ValueRange::Unknown => [0, 0],
            ValueRange::Ints(min, max) => {
                flags |= flag::INTS;
                [*min as u64, *max as u64]
            }
            ValueRange::OneText(text) => {
                flags |= flag::ONE_TEXT;
                let begin = self.texts.len();
                self.texts.extend_from_slice(text);
                [begin as u64, text.len() as u64]
            }
        };
        let stored_bytes = chunk.pages.iter().map(|page| u64::from(page.bytes)).sum();
        let [min, max] = range;
        let text_bytes = chunk.text_bytes.unwrap_or(u64::MAX);
        for number in [chunk.offset, stored_bytes, chunk.uncompressed_bytes, text_bytes, chunk.positions, min, max] {
            self.chunks.extend_from_slice(&number.to_le_bytes());
        }
        put(&mut self.chunks, &[fit(self.pages.len() / PAGE_BYTES)?, flags]);
        for page in &chunk.pages {
            put(&mut self.pages, &[page.bytes, page.first_row, page.crc32c]);
        }
        self.trace_ranges.extend_from_slice(chunk.trace_ranges.as_flattened());
        Ok(())
    }

    /// Says where the filters over the pages of a column of the last row group stand, which has so many columns.
    pub(super) fn set_page_filters(&mut self, leaves: usize, leaf: usize, section: Section) {
        let begin = self.chunks.len() - (leaves - leaf) * CHUNK_BYTES;
        let chunk = &mut self.chunks[begin..begin + CHUNK_BYTES];
        let Section { offset, bytes, crc32c } = section;
        chunk[RANGE_BEGIN..RANGE_BEGIN + 8].copy_from_slice(&offset.to_le_bytes());
        chunk[RANGE_BEGIN + 8..RANGE_BEGIN + 12].copy_from_slice(&bytes.to_le_bytes());
        chunk[RANGE_BEGIN + 12..RANGE_BEGIN + 16].copy_from_slice(&crc32c.to_le_bytes());
        chunk[CHUNK_BYTES - 4] |= flag::PAGE_FILTERS as u8;
    }

    pub(super) fn finish(mut self, described: &Described<'_>) -> Result<Vec<u8>> {
        self.flag_columns(described.alone, flag::ALONE);
        if let Some(filter) = &described.value_filter {
            self.flag_columns(filter.columns, flag::FILTERED);
        }
        let merged_from =
            serde_json::to_vec(described.merged_from).map_err(|error| ParquetError::External(Box::new(error)))?;
        let row_groups = self.row_groups.len() / ROW_GROUP_BYTES;
        let leaves = (self.chunks.len() / CHUNK_BYTES).checked_div(row_groups).unwrap_or(0);
        let mut flags = if described.has_checksums { file_flag::CHECKSUMS } else { 0 };
        flags |= if described.has_filter_pages { file_flag::FILTER_PAGES } else { 0 };
        flags |= if described.value_filter.is_some() { file_flag::VALUE_FILTER } else { 0 };
        let counts = [
            fit(row_groups)?,
            fit(leaves)?,
            fit(self.pages.len() / PAGE_BYTES)?,
            fit(self.trace_ranges.len() / TRACE_RANGE_BYTES)?,
            fit(self.texts.len())?,
            fit(described.layout.len())?,
            fit(merged_from.len())?,
            flags,
        ];
        let mut index = magic(flags).to_vec();
        put(&mut index, &counts);
        let value_filter = described.value_filter.as_ref().map(|filter| filter.section);
        for section in [described.trace_filter, described.names].into_iter().chain(value_filter) {
            index.extend_from_slice(&section.offset.to_le_bytes());
            put(&mut index, &[section.bytes, section.crc32c]);
        }
        let parts: [&[u8]; 7] = [
            &self.row_groups,
            &self.chunks,
            &self.pages,
            &self.trace_ranges,
            &self.texts,
            described.layout.as_bytes(),
            &merged_from,
        ];
        parts.iter().for_each(|part| index.extend_from_slice(part));
        Ok(index)
    }
}

impl IndexWriter {
    /// Sets a flag of columns in all row groups.
    fn flag_columns(&mut self, columns: &[bool], flag: u32) {
        let chunks = self.chunks.chunks_exact_mut(CHUNK_BYTES).zip(columns.iter().cycle());
        chunks.filter(|(_, is_set)| **is_set).for_each(|(chunk, _)| chunk[CHUNK_BYTES - 4] |= flag as u8);
    }
}

/// The index of an open file.
pub(super) struct FileIndex {
    bytes: Bytes,
    leaves: usize,
    flags: u32,
    row_groups: Range<usize>,
    chunks: Range<usize>,
    pages: Range<usize>,
    trace_ranges: Range<usize>,
    texts: Range<usize>,
    layout: Range<usize>,
    merged_from: Range<usize>,
}

/// Where a page is, and what must be in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PagePlace {
    pub(super) offset: u64,
    pub(super) bytes: usize,
    /// Rows of the row group; all of them for a dictionary.
    pub(super) rows: Range<usize>,
    pub(super) is_dictionary: bool,
    /// CRC-32C of header and body, if the file has it.
    pub(super) crc32c: Option<u32>,
}

impl FileIndex {
    /// Whether bytes begin with an index, of this version or another.
    pub(super) fn is_at_begin_of(bytes: &[u8]) -> bool {
        bytes.starts_with(&MAGIC[..6])
    }

    /// Takes the index from the begin of some bytes: a copy, so that the rest of them is free.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        if !Self::is_at_begin_of(bytes) {
            return Err(Damaged::error("the file has no index"));
        }
        if !bytes.starts_with(&MAGIC) && !bytes.starts_with(&MAGIC_2) {
            return Err(ParquetError::NYI("the file has the index of a later version".into()));
        }
        let index =
            Self::take_apart(bytes).map(|(index, end)| Self { bytes: Bytes::copy_from_slice(&bytes[..end]), ..index });
        index.ok_or_else(|| Damaged::error("the index of the file contradicts itself"))
    }

    /// Takes bytes that are an index and nothing else.
    fn of_bytes(bytes: Bytes) -> Option<Self> {
        let (index, _) = Self::take_apart(&bytes)?;
        Some(Self { bytes, ..index })
    }

    /// Where the parts of the index are, and where it ends.
    fn take_apart(bytes: &[u8]) -> Option<(Self, usize)> {
        bytes.get(..SECTIONS_BEGIN)?;
        let flags = u32_at(bytes, 8 + 4 * 7);
        bytes.get(..head_bytes(flags)).filter(|head| head.starts_with(&magic(flags)))?;
        let count = |number: usize| u32_at(bytes, 8 + 4 * number) as usize;
        let chunks = count(0).checked_mul(count(1))?;
        let mut end = head_bytes(flags);
        let mut region = |items: usize, bytes_of_item: usize| {
            let begin = end;
            end = begin.checked_add(items.checked_mul(bytes_of_item)?)?;
            Some(begin..end)
        };
        let index = Self {
            bytes: Bytes::new(),
            leaves: count(1),
            flags,
            row_groups: region(count(0), ROW_GROUP_BYTES)?,
            chunks: region(chunks, CHUNK_BYTES)?,
            pages: region(count(2), PAGE_BYTES)?,
            trace_ranges: region(count(3), TRACE_RANGE_BYTES)?,
            texts: region(count(4), 1)?,
            layout: region(count(5), 1)?,
            merged_from: region(count(6), 1)?,
        };
        (end <= bytes.len()).then_some((index, end))
    }

    /// What this takes in memory.
    pub(super) fn memory_bytes(&self) -> usize {
        self.bytes.len() + size_of::<Self>()
    }

    pub(super) fn layout(&self) -> Result<&str> {
        std::str::from_utf8(&self.bytes[self.layout.clone()]).map_err(|_| Damaged::error("the layout is no text"))
    }

    pub(super) fn merged_from(&self) -> Result<Vec<String>> {
        serde_json::from_slice(&self.bytes[self.merged_from.clone()])
            .map_err(|error| Damaged::error(format!("the ids of merged files: {error}")))
    }

    fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Whether the trace filter stands in pages with a checksum each.
    pub(super) fn has_filter_pages(&self) -> bool {
        self.has(file_flag::FILTER_PAGES)
    }

    pub(super) fn trace_filter(&self) -> Section {
        self.section(0)
    }

    pub(super) fn names(&self) -> Section {
        self.section(1)
    }

    /// The filter of values, if there is one.
    pub(super) fn value_filter(&self) -> Option<Section> {
        self.has(file_flag::VALUE_FILTER).then(|| self.section(2))
    }

    fn section(&self, number: usize) -> Section {
        let at = SECTIONS_BEGIN + number * SECTION_BYTES;
        let (bytes, crc32c) = (u32_at(&self.bytes, at + 8), u32_at(&self.bytes, at + 12));
        Section { offset: u64_at(&self.bytes, at), bytes, crc32c }
    }

    pub(super) fn row_groups(&self) -> usize {
        self.row_groups.len() / ROW_GROUP_BYTES
    }

    /// Columns of a row group.
    pub(super) fn leaves(&self) -> usize {
        self.leaves
    }

    pub(super) fn rows_of(&self, row_group: usize) -> usize {
        u32_at(&self.bytes, self.row_groups.start + row_group * ROW_GROUP_BYTES) as usize
    }

    pub(super) fn chunk(&self, row_group: usize, leaf: usize) -> Chunk<'_> {
        assert!(leaf < self.leaves, "a column of the file");
        let begin = self.chunks.start + (row_group * self.leaves + leaf) * CHUNK_BYTES;
        Chunk { index: self, row_group, begin }
    }

    /// Rows of each page of the trace ids of a row group, with the first and the last id.
    pub(super) fn trace_pages(&self, row_group: usize) -> Result<impl Iterator<Item = (Range<usize>, &[u8], &[u8])>> {
        let places = self.chunk(row_group, 0).places()?;
        let first = u32_at(&self.bytes, self.row_groups.start + row_group * ROW_GROUP_BYTES + 4) as usize;
        let ranges = &self.bytes[self.trace_ranges.clone()];
        let pages = places.into_iter().filter(|place| !place.is_dictionary).enumerate().map(move |(number, place)| {
            let at = (first + number) * TRACE_RANGE_BYTES;
            let range = ranges.get(at..at + TRACE_RANGE_BYTES).unwrap_or(&[]);
            let (min, max) = range.split_at(range.len() / 2);
            (place.rows, min, max)
        });
        Ok(pages)
    }
}

/// A column of a row group, as the index has it.
#[derive(Clone, Copy)]
pub(super) struct Chunk<'a> {
    index: &'a FileIndex,
    row_group: usize,
    begin: usize,
}

impl<'a> Chunk<'a> {
    fn number(&self, number: usize) -> u64 {
        u64_at(&self.index.bytes, self.begin + 8 * number)
    }

    fn flags(&self) -> u32 {
        u32_at(&self.index.bytes, self.begin + CHUNK_BYTES - 4)
    }

    fn has(&self, flag: u32) -> bool {
        self.flags() & flag != 0
    }

    /// Where its pages are in the file.
    pub(super) fn byte_range(&self) -> Range<u64> {
        self.number(0)..self.number(0).saturating_add(self.stored_bytes())
    }

    pub(super) fn stored_bytes(&self) -> u64 {
        self.number(1)
    }

    pub(super) fn uncompressed_bytes(&self) -> u64 {
        self.number(2)
    }

    /// How long its texts are together, each counted as often as it occurs, if that is known.
    pub(super) fn text_bytes(&self) -> Option<u64> {
        Some(self.number(3)).filter(|bytes| *bytes != u64::MAX)
    }

    pub(super) fn positions(&self) -> u64 {
        self.number(4)
    }

    pub(super) fn is_compressed(&self) -> bool {
        self.has(flag::COMPRESSED)
    }

    pub(super) fn has_dictionary(&self) -> bool {
        self.has(flag::DICTIONARY)
    }

    /// Whether it alone holds the attributes of its key.
    pub(super) fn is_alone(&self) -> bool {
        self.has(flag::ALONE)
    }

    /// Whether its texts, and those of its column in all row groups, are in the filter of values.
    pub(super) fn is_filtered(&self) -> bool {
        self.has(flag::FILTERED)
    }

    /// Minimum and maximum of integers, if they are known.
    pub(super) fn int_range(&self) -> Option<(i64, i64)> {
        self.has(flag::INTS).then(|| (self.number(5) as i64, self.number(6) as i64))
    }

    /// Where the filters over the texts of its pages stand, if there are any.
    pub(super) fn page_filters(&self) -> Option<Section> {
        let section = || Section {
            offset: self.number(5),
            bytes: u32_at(&self.index.bytes, self.begin + RANGE_BEGIN + 8),
            crc32c: u32_at(&self.index.bytes, self.begin + RANGE_BEGIN + 12),
        };
        self.has(flag::PAGE_FILTERS).then(section)
    }

    /// The text that every row has.
    pub(super) fn one_text(&self) -> Option<&'a str> {
        if !self.has(flag::ONE_TEXT) {
            return None;
        }
        let texts = &self.index.bytes[self.index.texts.clone()];
        let (begin, length) = (usize::try_from(self.number(5)).ok()?, usize::try_from(self.number(6)).ok()?);
        std::str::from_utf8(texts.get(begin..begin.checked_add(length)?)?).ok()
    }

    /// Where its pages are, in order.
    pub(super) fn places(&self) -> Result<VecDeque<PagePlace>> {
        let wrong = || Damaged::error("the index of pages contradicts itself");
        let bytes = &self.index.bytes;
        let pages = &bytes[self.index.pages.clone()];
        let first = |begin: usize| u32_at(bytes, begin + CHUNK_BYTES - 8) as usize * PAGE_BYTES;
        let is_last = self.begin + CHUNK_BYTES == self.index.chunks.end;
        let end = if is_last { pages.len() } else { first(self.begin + CHUNK_BYTES) };
        let pages = pages.get(first(self.begin)..end).ok_or_else(wrong)?;
        let count = pages.len() / PAGE_BYTES;
        let rows = self.index.rows_of(self.row_group);
        let first_row = |number: usize| {
            if number < count { u32_at(pages, number * PAGE_BYTES + 4) as usize } else { rows }
        };
        let mut offset = self.number(0);
        let mut places = VecDeque::with_capacity(count);
        for number in 0..count {
            let at = number * PAGE_BYTES;
            let is_dictionary = number == 0 && self.has_dictionary();
            let rows = if is_dictionary { 0..rows } else { first_row(number)..first_row(number + 1) };
            if rows.start > rows.end {
                return Err(wrong());
            }
            let bytes = u32_at(pages, at) as usize;
            let crc32c = self.index.has(file_flag::CHECKSUMS).then(|| u32_at(pages, at + 8));
            places.push_back(PagePlace { offset, bytes, rows, is_dictionary, crc32c });
            offset = offset.checked_add(bytes as u64).ok_or_else(wrong)?;
        }
        Ok(places)
    }
}

fn put(out: &mut Vec<u8>, numbers: &[u32]) {
    numbers.iter().for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
}

fn fit(number: usize) -> Result<u32> {
    u32::try_from(number).map_err(|_| ParquetError::General("a file has too many parts to list".into()))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
