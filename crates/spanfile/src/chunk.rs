//! Encodes one column of one row group into Parquet pages.
//!
//! The Parquet library would hash every value of every row to build dictionaries. The batch's string table did that
//! once when the spans came in, so here a dictionary is made by numbering the codes in use, and a row costs an array
//! access. Pages hold about the same number of bytes, so that the rows of a trace cost little to read whatever the column.
//! Format: Apache Parquet, `README.md` (data page version 1), `Encodings.md`, `PageIndex.md`.

use bytes::Bytes;
use parquet::basic::{BoundaryOrder, Compression, Encoding, Type as Physical, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::{FixedLenByteArray, Int64Type};
use parquet::encodings::encoding::{DeltaBitPackEncoder, Encoder};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ColumnIndexBuilder, OffsetIndexBuilder};
use parquet::file::statistics::Statistics;
use parquet::schema::types::ColumnDescPtr;
use tracehouse_model::{SeededMap, StringCode, StringTable};
use zstd::zstd_safe::CParameter;

use super::hybrid::{bits_for, put_bits, put_hybrid, put_run};
use super::index::{ChunkEntry, PageEntry, ValueRange};
use super::page_filters::PageFiltersWriter;
use super::page_header::{PageHeader, PageKind};
use super::value_filter::ColumnHash;

/// The defined values of a column, in row order.
pub(crate) enum Values<'a> {
    Strings(&'a [StringCode], &'a StringTable),
    /// Values of `width` bytes each, one after the other. Sorted ones get a page index to look rows up by.
    Fixed {
        bytes: &'a [u8],
        width: usize,
        sorted: bool,
        compressible: bool,
    },
    /// Few distinct values.
    SmallInts(&'a [i32]),
    Ints(&'a [i64], IntEncoding),
    Doubles(&'a [f64]),
    Bools(&'a [bool]),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum IntEncoding {
    /// Values near their predecessors.
    Delta,
    /// Values of similar size but no order: their high bytes compress, their low bytes are noise.
    ByteStreamSplit,
    /// Values that repeat; plain if they turn out not to.
    Dictionary,
}

/// A column's values with Parquet's levels where it has them.
pub(crate) struct Column<'a> {
    pub(crate) values: Values<'a>,
    /// One for each position; `None` if every value is defined.
    pub(crate) definition: Option<&'a [i16]>,
    pub(crate) repetition: Option<&'a [i16]>,
}

/// Makes chunks; keeps its scratch space from one to the next.
pub(crate) struct ChunkWriter {
    level: i32,
    /// For texts that are written row by row.
    text_level: i32,
    page_scale: f64,
    compressor: zstd::bulk::Compressor<'static>,
    /// Number in the dictionary of each string code, or `ABSENT`.
    numbers: Vec<u32>,
    ints: SeededMap<i64, u32>,
    dictionary: Dictionary,
    page: Vec<u8>,
    levels: Vec<u32>,
}

#[derive(Default)]
struct Dictionary {
    used: bool,
    entries: usize,
    plain: Vec<u8>,
    indices: Vec<u32>,
    codes: Vec<StringCode>,
}

const ABSENT: u32 = u32::MAX;
const TRACE_ID_BYTES: usize = 16;
/// Bytes of a page before compression: a lookup decompresses one page of each column, a header takes about 30 bytes.
pub(crate) const PAGE_BYTES: f64 = 12.0 * 1024.0;
/// Texts compress by what they have in common with those before them.
const TEXT_PAGE_BYTES: f64 = 160.0 * 1024.0;
/// Where texts are long a page ends sooner, if need be after a single row.
const TEXT_PAGE_BYTES_MAX: usize = 1024 * 1024;
const ROWS_PER_PAGE_MIN: usize = 256;
const ROWS_PER_PAGE_MAX: usize = 16 * 1024;
/// A dictionary has to be read before any row: above this size values are written row by row instead.
const DICTIONARY_BYTES_MAX: usize = 1024 * 1024;
/// With more distinct values than this share of all values a dictionary saves nothing.
const DICTIONARY_SHARE_MAX: f64 = 0.7;
const DICTIONARY_ALWAYS_BELOW: usize = 64;
/// A column of a row group is compressed only if that saves so many bytes …
const SAVED_BYTES_MIN: usize = 64;
/// … and one in so many: a reader takes a microsecond or more for each page.
const SAVED_SHARE_MIN: u64 = 16;
/// Larger dictionaries and longer strings are not searched for minimum and maximum.
const STATISTICS_VALUES_MAX: usize = 4096;
const STATISTICS_BYTES_MAX: usize = 64;

impl ChunkWriter {
    /// `text_level`: for texts that are written row by row. `page_scale`: how much larger than usual pages are.
    pub(crate) fn new(level: i32, text_level: i32, page_scale: f64) -> Result<Self> {
        let mut compressor = zstd::bulk::Compressor::new(level)?;
        // Four bytes a page, so that every reader notices damage instead of showing other values.
        compressor.set_parameter(CParameter::ChecksumFlag(true))?;
        Ok(Self {
            level,
            text_level,
            page_scale,
            compressor,
            numbers: Vec::new(),
            ints: SeededMap::default(),
            dictionary: Dictionary::default(),
            page: Vec::new(),
            levels: Vec::new(),
        })
    }

    /// Encodes a chunk; the result is to be appended to a row group.
    ///
    /// `hash`: how its different texts are hashed, if somebody wants to know them.
    pub(super) fn write(
        &mut self,
        descriptor: ColumnDescPtr,
        column: &Column<'_>,
        hash: Option<&ColumnHash>,
    ) -> Result<WrittenChunk> {
        self.build_dictionary(column);
        let text_hashes = match (hash, &column.values) {
            (Some(hash), Values::Strings(_, strings)) => {
                self.dictionary.codes.iter().map(|&code| hash.of_text(strings.bytes(code))).collect()
            }
            _ => Vec::new(),
        };
        let is_text_by_row = matches!(column.values, Values::Strings(..)) && !self.dictionary.used;
        let level = if is_text_by_row { self.text_level } else { self.level };
        self.compressor.set_parameter(CParameter::CompressionLevel(level))?;
        let mut encoded = self.encode(&descriptor, column, self.may_compress(column))?;
        if encoded.chunk.compressed_pages && !encoded.chunk.is_worth_it() {
            encoded = self.encode(&descriptor, column, false)?;
        }
        let Encoded { pages, chunk } = encoded;
        let page_filters = (is_text_by_row && hash.is_some()).then(|| self.page_filters(&pages.values, &text_hashes));
        let page_filters = page_filters.and_then(|filters| filters.finish(pages.bytes.len()));
        let statistics = self.statistics(column);
        let entry = ChunkEntry {
            offset: 0,
            uncompressed_bytes: chunk.uncompressed,
            text_bytes: self.text_bytes(&descriptor, column),
            positions: column.positions() as u64,
            is_compressed: chunk.compressed_pages,
            has_dictionary: self.dictionary.used,
            range: self.value_range(column),
            pages: pages.entries,
            trace_ranges: pages.trace_ranges,
        };
        let close = chunk.close(descriptor, column, statistics, self.dictionary.used)?;
        self.forget_dictionary();
        Ok(WrittenChunk { bytes: Bytes::from(pages.bytes), close, entry, text_hashes, page_filters })
    }

    /// Of pages with so many values each, which the column has one after the other; `hashes` are those of its different texts.
    fn page_filters(&self, pages: &[usize], hashes: &[u64]) -> PageFiltersWriter {
        let mut writer = PageFiltersWriter::default();
        let (mut last_page, mut of_page) = (vec![0; hashes.len()], Vec::new());
        let mut indices = self.dictionary.indices.as_slice();
        for (page, values) in pages.iter().enumerate() {
            let (in_page, rest) = indices.split_at((*values).min(indices.len()));
            of_page.clear();
            for &number in in_page {
                let last_page = &mut last_page[number as usize];
                if *last_page <= page {
                    *last_page = page + 1;
                    of_page.push(hashes[number as usize]);
                }
            }
            writer.add_page(&of_page);
            indices = rest;
        }
        writer
    }

    /// Whether compression may save anything: not where noise is written, nor a short value that all have.
    fn may_compress(&self, column: &Column<'_>) -> bool {
        let Dictionary { used, entries, plain, .. } = &self.dictionary;
        let is_one_short_value = *used && *entries <= 1 && plain.len() < SAVED_BYTES_MIN;
        !is_one_short_value && !matches!(column.values, Values::Fixed { compressible: false, .. })
    }

    fn encode(&mut self, descriptor: &ColumnDescPtr, column: &Column<'_>, compressed: bool) -> Result<Encoded> {
        let mut chunk = Chunk::new(descriptor, column, self.level, compressed);
        let mut pages = PagesWriter::default();
        if self.dictionary.used {
            self.write_dictionary(&mut pages, &mut chunk)?;
        }
        self.write_pages(descriptor, column, &mut pages, &mut chunk)?;
        Ok(Encoded { pages, chunk })
    }

    fn build_dictionary(&mut self, column: &Column<'_>) {
        let values = column.values.len();
        match &column.values {
            Values::Strings(codes, strings) => self.number_strings(codes, strings),
            Values::SmallInts(ints) => {
                self.number_ints(ints.iter().map(|&value| i64::from(value)));
                for &entry in &self.int_entries() {
                    self.dictionary.plain.extend_from_slice(&(entry as i32).to_le_bytes());
                }
            }
            Values::Ints(ints, IntEncoding::Dictionary) => {
                self.number_ints(ints.iter().copied());
                for &entry in &self.int_entries() {
                    self.dictionary.plain.extend_from_slice(&entry.to_le_bytes());
                }
            }
            _ => return,
        }
        let entries = self.dictionary.entries;
        self.dictionary.used = self.dictionary.plain.len() <= DICTIONARY_BYTES_MAX
            && (entries <= DICTIONARY_ALWAYS_BELOW || (entries as f64) < DICTIONARY_SHARE_MAX * values as f64);
    }

    /// Numbers the distinct codes in order of appearance.
    fn number_strings(&mut self, codes: &[StringCode], strings: &StringTable) {
        if self.numbers.len() < strings.len() {
            self.numbers.resize(strings.len(), ABSENT);
        }
        let dictionary = &mut self.dictionary;
        dictionary.indices.reserve(codes.len());
        for &code in codes {
            let number = &mut self.numbers[code as usize];
            if *number == ABSENT {
                *number = dictionary.codes.len() as u32;
                dictionary.codes.push(code);
            }
            dictionary.indices.push(*number);
        }
        dictionary.entries = dictionary.codes.len();
        for &code in &dictionary.codes {
            put_plain_string(&mut dictionary.plain, strings.bytes(code));
        }
    }

    fn number_ints(&mut self, values: impl Iterator<Item = i64>) {
        let mut last = (i64::MIN, ABSENT);
        for value in values {
            if last.1 == ABSENT || last.0 != value {
                let next = self.ints.len() as u32;
                last = (value, *self.ints.entry(value).or_insert(next));
            }
            self.dictionary.indices.push(last.1);
        }
        self.dictionary.entries = self.ints.len();
    }

    fn int_entries(&self) -> Vec<i64> {
        let mut entries = vec![0; self.ints.len()];
        for (&value, &number) in &self.ints {
            entries[number as usize] = value;
        }
        entries
    }

    fn forget_dictionary(&mut self) {
        for &code in &self.dictionary.codes {
            self.numbers[code as usize] = ABSENT;
        }
        self.ints.clear();
        let dictionary = &mut self.dictionary;
        (dictionary.used, dictionary.entries) = (false, 0);
        dictionary.plain.clear();
        dictionary.indices.clear();
        dictionary.codes.clear();
    }

    fn write_dictionary(&mut self, pages: &mut PagesWriter, chunk: &mut Chunk) -> Result<()> {
        let body = compress(&mut self.compressor, &self.dictionary.plain, chunk.compressed_pages)?;
        let header = PageHeader {
            kind: PageKind::Dictionary,
            uncompressed_bytes: self.dictionary.plain.len() as u32,
            compressed_bytes: body.len() as u32,
            crc: Some(crc32fast::hash(&body)),
            num_values: self.dictionary.entries as u32,
            encoding: Encoding::PLAIN,
        };
        chunk.dictionary_written(&pages.write(&header, &body, 0));
        Ok(())
    }

    fn write_pages(
        &mut self,
        descriptor: &ColumnDescPtr,
        column: &Column<'_>,
        pages: &mut PagesWriter,
        chunk: &mut Chunk,
    ) -> Result<()> {
        let positions = column.positions();
        let rows_per_page = self.rows_per_page(column, positions);
        let (mut position, mut value) = (0, 0);
        while position < positions {
            let (page_end, rows) = match &column.values {
                Values::Strings(codes, strings) if !self.dictionary.used => {
                    let lengths = codes[value..].iter().map(|&code| strings.bytes(code).len());
                    text_page_end(column, descriptor.max_def_level(), position, rows_per_page, lengths)
                }
                _ => page_end(column.repetition, position, positions, rows_per_page),
            };
            let defined = match column.definition {
                Some(levels) => {
                    let max = descriptor.max_def_level();
                    levels[position..page_end].iter().filter(|&&level| level == max).count()
                }
                None => page_end - position,
            };
            self.page.clear();
            if let Some(levels) = column.repetition {
                self.put_levels(&levels[position..page_end], descriptor.max_rep_level());
            }
            if descriptor.max_def_level() > 0 {
                match column.definition {
                    Some(levels) => self.put_levels(&levels[position..page_end], descriptor.max_def_level()),
                    None => put_constant_level(&mut self.page, page_end - position, descriptor.max_def_level()),
                }
            }
            let encoding = self.put_values(&column.values, value..value + defined)?;
            let body = compress(&mut self.compressor, &self.page, chunk.compressed_pages)?;
            let header = PageHeader {
                kind: PageKind::Data,
                uncompressed_bytes: self.page.len() as u32,
                compressed_bytes: body.len() as u32,
                crc: Some(crc32fast::hash(&body)),
                num_values: (page_end - position) as u32,
                encoding,
            };
            let first_row = chunk.rows as u32;
            pages.values.push(defined);
            chunk.page_written(&pages.write(&header, &body, first_row), rows, &column.values, value..value + defined);
            if let Values::Fixed { bytes, width: TRACE_ID_BYTES, sorted: true, .. } = &column.values {
                let id = |at: usize| &bytes[at * TRACE_ID_BYTES..(at + 1) * TRACE_ID_BYTES];
                pages.add_trace_range(id(value), id(value + defined - 1));
            }
            (position, value) = (page_end, value + defined);
        }
        Ok(())
    }

    /// How many rows make a page of about [`PAGE_BYTES`] before compression.
    fn rows_per_page(&self, column: &Column<'_>, positions: usize) -> usize {
        let bits_of_value = match &column.values {
            _ if self.dictionary.used => u64::from(bits_for(self.dictionary.entries.saturating_sub(1) as u32).max(1)),
            Values::Strings(..) => self.dictionary.plain.len() as u64 * 8 / (self.dictionary.entries.max(1) as u64),
            Values::Fixed { width, .. } => *width as u64 * 8,
            Values::SmallInts(_) => 32,
            Values::Ints(..) | Values::Doubles(_) => 64,
            Values::Bools(_) => 1,
        };
        let bits = bits_of_value * column.values.len() as u64 + positions as u64;
        let bytes_of_row = (bits as f64 / 8.0 / positions.max(1) as f64).max(f64::MIN_POSITIVE);
        let page_bytes = match &column.values {
            Values::Strings(..) if !self.dictionary.used => TEXT_PAGE_BYTES,
            _ => PAGE_BYTES,
        };
        let rows_max = (ROWS_PER_PAGE_MAX as f64 * self.page_scale) as usize;
        ((page_bytes * self.page_scale / bytes_of_row) as usize).clamp(ROWS_PER_PAGE_MIN, rows_max)
    }

    fn put_levels(&mut self, levels: &[i16], max: i16) {
        let length_at = self.page.len();
        self.page.extend_from_slice(&[0; 4]);
        if max == 1 {
            put_bits(&mut self.page, levels.iter().map(|&level| level != 0));
        } else {
            self.levels.clear();
            self.levels.extend(levels.iter().map(|&level| level as u32));
            put_hybrid(&mut self.page, &self.levels, bits_for(max as u32));
        }
        set_length(&mut self.page, length_at);
    }

    fn put_values(&mut self, values: &Values<'_>, range: std::ops::Range<usize>) -> Result<Encoding> {
        let page = &mut self.page;
        if self.dictionary.used {
            let width = bits_for(self.dictionary.entries.saturating_sub(1) as u32).max(1);
            page.push(width as u8);
            put_hybrid(page, &self.dictionary.indices[range], width);
            return Ok(Encoding::RLE_DICTIONARY);
        }
        match values {
            Values::Strings(codes, strings) => {
                codes[range].iter().for_each(|&code| put_plain_string(page, strings.bytes(code)));
            }
            Values::Fixed { bytes, width, .. } => {
                page.extend_from_slice(&bytes[range.start * width..range.end * width]);
            }
            Values::SmallInts(ints) => {
                ints[range].iter().for_each(|value| page.extend_from_slice(&value.to_le_bytes()));
            }
            Values::Ints(ints, IntEncoding::Delta) => {
                let mut encoder = DeltaBitPackEncoder::<Int64Type>::new();
                encoder.put(&ints[range])?;
                page.extend_from_slice(&encoder.flush_buffer()?);
                return Ok(Encoding::DELTA_BINARY_PACKED);
            }
            Values::Ints(ints, IntEncoding::ByteStreamSplit) => {
                for shift in (0..64).step_by(8) {
                    page.extend(ints[range.clone()].iter().map(|value| (value >> shift) as u8));
                }
                return Ok(Encoding::BYTE_STREAM_SPLIT);
            }
            Values::Ints(ints, IntEncoding::Dictionary) => {
                ints[range].iter().for_each(|value| page.extend_from_slice(&value.to_le_bytes()));
            }
            Values::Doubles(doubles) => {
                doubles[range].iter().for_each(|value| page.extend_from_slice(&value.to_le_bytes()));
            }
            Values::Bools(bools) => {
                page.extend(
                    bools[range]
                        .chunks(8)
                        .map(|bits| bits.iter().enumerate().fold(0, |byte, (at, &bit)| byte | (u8::from(bit) << at))),
                );
            }
        }
        Ok(Encoding::PLAIN)
    }

    /// How long the texts of lists and maps are, which readers copy for each element.
    fn text_bytes(&self, descriptor: &ColumnDescPtr, column: &Column<'_>) -> Option<u64> {
        let Values::Strings(codes, strings) = &column.values else { return None };
        if descriptor.max_rep_level() == 0 {
            return None;
        }
        Some(codes.iter().map(|&code| strings.bytes(code).len() as u64).sum())
    }

    fn value_range(&self, column: &Column<'_>) -> ValueRange {
        match &column.values {
            Values::Ints(ints, _) if !ints.is_empty() => {
                let (min, max) = min_max(ints);
                ValueRange::Ints(min, max)
            }
            Values::Strings(codes, strings) if codes.len() == column.positions() => match self.dictionary.codes[..] {
                [code] if strings.bytes(code).len() <= STATISTICS_BYTES_MAX => {
                    ValueRange::OneText(strings.bytes(code).to_vec())
                }
                _ => ValueRange::Unknown,
            },
            _ => ValueRange::Unknown,
        }
    }

    fn statistics(&self, column: &Column<'_>) -> Option<Statistics> {
        let nulls = Some((column.positions() - column.values.len()) as u64);
        match &column.values {
            Values::Strings(_, strings) => {
                let codes = &self.dictionary.codes;
                if codes.len() > STATISTICS_VALUES_MAX {
                    return None;
                }
                let min = codes.iter().map(|&code| strings.bytes(code)).min()?;
                let max = codes.iter().map(|&code| strings.bytes(code)).max()?;
                (min.len().max(max.len()) <= STATISTICS_BYTES_MAX).then(|| {
                    Statistics::byte_array(Some(min.to_vec().into()), Some(max.to_vec().into()), None, nulls, false)
                })
            }
            Values::Fixed { bytes, width, sorted: true, .. } => {
                let fixed = |value: &[u8]| Some(FixedLenByteArray::from(value.to_vec()));
                let (min, max) = (bytes.chunks_exact(*width).next()?, bytes.chunks_exact(*width).next_back()?);
                Some(Statistics::fixed_len_byte_array(fixed(min), fixed(max), None, nulls, false))
            }
            Values::Fixed { .. } => None,
            Values::SmallInts(ints) => {
                Some(Statistics::int32(ints.iter().min().copied(), ints.iter().max().copied(), None, nulls, false))
            }
            Values::Ints(ints, _) => {
                Some(Statistics::int64(ints.iter().min().copied(), ints.iter().max().copied(), None, nulls, false))
            }
            Values::Doubles(doubles) => {
                if doubles.iter().any(|value| value.is_nan()) {
                    return None;
                }
                let (min, max) = (doubles.iter().copied().reduce(f64::min)?, doubles.iter().copied().reduce(f64::max)?);
                Some(Statistics::double(Some(min), Some(max), None, nulls, false))
            }
            Values::Bools(_) => None,
        }
    }
}

impl Values<'_> {
    fn len(&self) -> usize {
        match self {
            Values::Strings(codes, _) => codes.len(),
            Values::Fixed { bytes, width, .. } => bytes.len() / width,
            Values::SmallInts(values) => values.len(),
            Values::Ints(values, _) => values.len(),
            Values::Doubles(values) => values.len(),
            Values::Bools(values) => values.len(),
        }
    }
}

impl Column<'_> {
    fn positions(&self) -> usize {
        self.definition.map_or(self.values.len(), <[i16]>::len)
    }
}

/// A column of a row group as it is stored.
pub(crate) struct WrittenChunk {
    pub(crate) bytes: Bytes,
    pub(crate) close: ColumnCloseResult,
    /// For the index of the file; the offset is not known yet.
    pub(super) entry: ChunkEntry,
    /// Of its different texts, if they were asked for.
    pub(super) text_hashes: Vec<u64>,
    /// Over the texts of each page, if they were asked for and are worth it.
    pub(super) page_filters: Option<Vec<u8>>,
}

struct Encoded {
    pages: PagesWriter,
    chunk: Chunk,
}

/// Puts pages one after the other.
#[derive(Default)]
struct PagesWriter {
    bytes: Vec<u8>,
    entries: Vec<PageEntry>,
    /// Of each page but the dictionary.
    values: Vec<usize>,
    trace_ranges: Vec<[u8; 2 * TRACE_ID_BYTES]>,
}

/// Where a page was written.
struct WrittenPage {
    offset: usize,
    /// With its header.
    bytes: usize,
    uncompressed_bytes: usize,
}

impl PagesWriter {
    fn add_trace_range(&mut self, min: &[u8], max: &[u8]) {
        let mut range = [0; 2 * TRACE_ID_BYTES];
        range[..TRACE_ID_BYTES].copy_from_slice(min);
        range[TRACE_ID_BYTES..].copy_from_slice(max);
        self.trace_ranges.push(range);
    }

    fn write(&mut self, header: &PageHeader, body: &[u8], first_row: u32) -> WrittenPage {
        let offset = self.bytes.len();
        header.write(&mut self.bytes);
        let header_bytes = self.bytes.len() - offset;
        self.bytes.extend_from_slice(body);
        let bytes = self.bytes.len() - offset;
        let crc32c = crc32c::crc32c(&self.bytes[offset..]);
        self.entries.push(PageEntry { bytes: bytes as u32, first_row, crc32c });
        WrittenPage { offset, bytes, uncompressed_bytes: header_bytes + header.uncompressed_bytes as usize }
    }
}

/// What has been written of a chunk.
struct Chunk {
    level: i32,
    compressed_pages: bool,
    rows: u64,
    compressed: u64,
    uncompressed: u64,
    dictionary_offset: Option<i64>,
    data_offset: Option<i64>,
    offsets: OffsetIndexBuilder,
    index: Option<ColumnIndexBuilder>,
    data_encoding: Encoding,
}

impl Chunk {
    fn new(descriptor: &ColumnDescPtr, column: &Column<'_>, level: i32, compressed_pages: bool) -> Self {
        let index = match &column.values {
            Values::Fixed { sorted: true, .. } => {
                let mut index = ColumnIndexBuilder::new(Physical::FIXED_LEN_BYTE_ARRAY);
                index.set_boundary_order(BoundaryOrder::ASCENDING);
                Some(index)
            }
            Values::Ints(_, IntEncoding::Delta) if descriptor.max_rep_level() == 0 => {
                Some(ColumnIndexBuilder::new(Physical::INT64))
            }
            _ => None,
        };
        let data_encoding = match &column.values {
            Values::Ints(_, IntEncoding::Delta) => Encoding::DELTA_BINARY_PACKED,
            Values::Ints(_, IntEncoding::ByteStreamSplit) => Encoding::BYTE_STREAM_SPLIT,
            _ => Encoding::PLAIN,
        };
        Self {
            level,
            compressed_pages,
            rows: 0,
            compressed: 0,
            uncompressed: 0,
            dictionary_offset: None,
            data_offset: None,
            offsets: OffsetIndexBuilder::new(),
            index,
            data_encoding,
        }
    }

    /// Whether compression saves what its undoing costs every reader.
    fn is_worth_it(&self) -> bool {
        let saved = self.uncompressed.saturating_sub(self.compressed);
        saved >= SAVED_BYTES_MIN as u64 && saved * SAVED_SHARE_MIN >= self.uncompressed
    }

    fn dictionary_written(&mut self, page: &WrittenPage) {
        self.dictionary_offset = Some(page.offset as i64);
        self.compressed += page.bytes as u64;
        self.uncompressed += page.uncompressed_bytes as u64;
    }

    fn page_written(&mut self, page: &WrittenPage, rows: usize, values: &Values<'_>, range: std::ops::Range<usize>) {
        self.rows += rows as u64;
        self.compressed += page.bytes as u64;
        self.uncompressed += page.uncompressed_bytes as u64;
        self.data_offset.get_or_insert(page.offset as i64);
        self.offsets.append_row_count(rows as i64);
        self.offsets.append_offset_and_size(page.offset as i64, page.bytes as i32);
        let Some(index) = &mut self.index else { return };
        match values {
            Values::Fixed { bytes, width, .. } => {
                let value = |at: usize| bytes[at * width..(at + 1) * width].to_vec();
                index.append(false, value(range.start), value(range.end - 1), 0);
            }
            Values::Ints(ints, _) => {
                let (min, max) = min_max(&ints[range]);
                index.append(false, min.to_le_bytes().to_vec(), max.to_le_bytes().to_vec(), 0);
            }
            _ => {}
        }
    }

    fn close(
        self,
        descriptor: ColumnDescPtr,
        column: &Column<'_>,
        statistics: Option<Statistics>,
        dictionary: bool,
    ) -> Result<ColumnCloseResult> {
        let mut encodings = vec![Encoding::PLAIN, Encoding::RLE];
        encodings.push(if dictionary { Encoding::RLE_DICTIONARY } else { self.data_encoding });
        encodings.dedup();
        let compression = if self.compressed_pages {
            Compression::ZSTD(ZstdLevel::try_new(self.level)?)
        } else {
            Compression::UNCOMPRESSED
        };
        let no_pages = || ParquetError::General("a column without pages".into());
        let mut builder = ColumnChunkMetaData::builder(descriptor)
            .set_compression(compression)
            .set_encodings(encodings)
            .set_num_values(column.positions() as i64)
            .set_total_compressed_size(self.compressed as i64)
            .set_total_uncompressed_size(self.uncompressed as i64)
            .set_data_page_offset(self.data_offset.ok_or_else(no_pages)?)
            .set_dictionary_page_offset(self.dictionary_offset);
        if let Some(statistics) = statistics {
            builder = builder.set_statistics(statistics);
        }
        Ok(ColumnCloseResult {
            bytes_written: self.compressed,
            rows_written: self.rows,
            metadata: builder.build()?,
            bloom_filter: None,
            column_index: self.index.map(ColumnIndexBuilder::build).transpose()?,
            offset_index: Some(self.offsets.build()),
        })
    }
}

/// Where the page that begins at a position ends, and how many rows it holds. Pages end between rows.
fn page_end(repetition: Option<&[i16]>, begin: usize, positions: usize, rows_per_page: usize) -> (usize, usize) {
    let Some(repetition) = repetition else {
        let end = (begin + rows_per_page).min(positions);
        return (end, end - begin);
    };
    let mut rows = 0;
    for (at, &level) in repetition.iter().enumerate().skip(begin) {
        if level == 0 {
            if rows == rows_per_page {
                return (at, rows);
            }
            rows += 1;
        }
    }
    (positions, rows)
}

/// The same for texts that are written row by row; their lengths are those of the values from the first position on.
fn text_page_end(
    column: &Column<'_>,
    definition_max: i16,
    begin: usize,
    rows_per_page: usize,
    mut lengths: impl Iterator<Item = usize>,
) -> (usize, usize) {
    let (mut rows, mut bytes) = (0, 0);
    for at in begin..column.positions() {
        if column.repetition.is_none_or(|levels| levels[at] == 0) {
            if rows == rows_per_page || bytes >= TEXT_PAGE_BYTES_MAX {
                return (at, rows);
            }
            rows += 1;
        }
        if column.definition.is_none_or(|levels| levels[at] == definition_max) {
            bytes += lengths.next().unwrap_or_default();
        }
    }
    (column.positions(), rows)
}

fn min_max(values: &[i64]) -> (i64, i64) {
    values.iter().fold((i64::MAX, i64::MIN), |(min, max), &value| (min.min(value), max.max(value)))
}

fn compress(compressor: &mut zstd::bulk::Compressor<'_>, page: &[u8], compressed: bool) -> Result<Bytes> {
    Ok(if compressed { Bytes::from(compressor.compress(page)?) } else { Bytes::copy_from_slice(page) })
}

fn put_plain_string(page: &mut Vec<u8>, value: &[u8]) {
    page.extend_from_slice(&(value.len() as u32).to_le_bytes());
    page.extend_from_slice(value);
}

fn put_constant_level(page: &mut Vec<u8>, count: usize, level: i16) {
    let length_at = page.len();
    page.extend_from_slice(&[0; 4]);
    put_run(page, count, level as u32, 1);
    set_length(page, length_at);
}

fn set_length(page: &mut [u8], length_at: usize) {
    let length = (page.len() - length_at - 4) as u32;
    page[length_at..length_at + 4].copy_from_slice(&length.to_le_bytes());
}
