//! Pages of one column of a row group: the one place where pages are read, checked and decompressed.
//!
//! A page is given out only if its checksum, which covers its header too, is right; a file of layout version 1 has only
//! that of its compression.
//!
//! The Parquet library makes a compression context for every column it reads, which costs more than reading the few rows
//! of a trace. Here each thread keeps one.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use parquet::arrow::arrow_reader::RowGroups;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::ChunkReader;

use super::damage::Damaged;
use super::page_checksums::PageChecksums;
use super::page_header::{PageHeader, PageKind};
use super::source::FileSource;

/// Larger pages are not ours: one of texts ends with the row that fills it, and a row comes from one request.
const PAGE_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// Columns that take no more are read at once.
const READ_AT_ONCE_BYTES_MAX: u64 = 64 * 1024;

/// What is needed to read pages of a file.
#[derive(Clone)]
pub(super) struct PageFile {
    pub(super) source: Arc<FileSource>,
    pub(super) metadata: Arc<ParquetMetaData>,
    /// `None`: the file has none, as it is of layout version 1.
    pub(super) checksums: Option<Arc<PageChecksums>>,
}

/// A row group that is to be read.
pub(super) struct RowGroupPages {
    pub(super) file: PageFile,
    pub(super) row_group: usize,
}

impl RowGroups for RowGroupPages {
    fn num_rows(&self) -> usize {
        self.file.metadata.row_group(self.row_group).num_rows() as usize
    }

    fn column_chunks(&self, leaf: usize) -> Result<Box<dyn PageIterator>> {
        let pages = CheckedPages::new(self.file.clone(), self.row_group, leaf)?;
        Ok(Box::new(OneChunk(Some(Box::new(pages)))))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(std::iter::once(self.file.metadata.row_group(self.row_group)))
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.file.metadata
    }
}

struct OneChunk(Option<Box<dyn PageReader>>);

impl Iterator for OneChunk {
    type Item = Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.take().map(Ok)
    }
}

impl PageIterator for OneChunk {}

/// Where a page is, and what must be in it.
#[derive(Clone, Debug)]
pub(super) struct PagePlace {
    offset: u64,
    bytes: usize,
    /// Rows of the row group; all of them for a dictionary.
    pub(super) rows: std::ops::Range<usize>,
    pub(super) is_dictionary: bool,
    /// CRC-32C of header and body, if the file has it.
    crc32c: Option<u32>,
}

/// The pages of a column in a row group, in order.
pub(super) struct CheckedPages {
    file: PageFile,
    row_group: usize,
    leaf: usize,
    compressed: bool,
    places: VecDeque<PagePlace>,
    /// The whole column, if it is small, once it was read: and where it begins.
    read_at_once: Option<(u64, Bytes)>,
}

impl CheckedPages {
    pub(super) fn new(file: PageFile, row_group: usize, leaf: usize) -> Result<Self> {
        let compressed = match file.metadata.row_group(row_group).column(leaf).compression() {
            Compression::UNCOMPRESSED => false,
            Compression::ZSTD(_) => true,
            other => return Err(ParquetError::NYI(format!("pages compressed with {other:?}"))),
        };
        let places = places(&file, row_group, leaf)?;
        Ok(Self { file, row_group, leaf, compressed, places, read_at_once: None })
    }

    pub(super) fn places(&self) -> impl Iterator<Item = &PagePlace> {
        self.places.iter()
    }

    /// Reads a page as it is stored, checked.
    pub(super) fn checked(&mut self, place: &PagePlace) -> Result<Bytes> {
        let page = self.read(place)?;
        let is_right = |page: &Bytes| place.crc32c.is_none_or(|crc| crc32c::crc32c(page) == crc);
        if is_right(&page) {
            return Ok(page);
        }
        // What was read wrong once may be right on the disk: a second look decides.
        let page = self.file.source.get_bytes(place.offset, place.bytes)?;
        if is_right(&page) {
            tracing::warn!(offset = place.offset, "a page of a stored file was read wrong once");
            return Ok(page);
        }
        let row_group = self.file.metadata.row_group(self.row_group);
        let column = row_group.column(self.leaf).column_path().string();
        Err(Damaged::error(format!(
            "the page of {column} at {} has another checksum than when it was written",
            place.offset
        )))
    }

    fn read(&mut self, place: &PagePlace) -> Result<Bytes> {
        let chunk = self.file.metadata.row_group(self.row_group).column(self.leaf);
        let (begin, length) = chunk.byte_range();
        if length > READ_AT_ONCE_BYTES_MAX {
            return self.file.source.get_bytes(place.offset, place.bytes);
        }
        let (begin, bytes) = match &mut self.read_at_once {
            Some(read) => read,
            none => none.insert((begin, self.file.source.get_bytes(begin, length as usize)?)),
        };
        let at = place.offset.checked_sub(*begin).and_then(|at| usize::try_from(at).ok());
        let inside = at.and_then(|at| Some(at..at.checked_add(place.bytes).filter(|end| *end <= bytes.len())?));
        inside.map(|inside| bytes.slice(inside)).ok_or_else(|| Damaged::error("a page lies outside of its column"))
    }

    /// A page of the right kind, decompressed.
    pub(super) fn decoded(&mut self, place: &PagePlace) -> Result<Page> {
        let stored = self.checked(place)?;
        let (header, length) = PageHeader::read(&stored)?;
        let mut buf = stored.slice(length..);
        let is_dictionary = header.kind == PageKind::Dictionary;
        if header.compressed_bytes as usize != buf.len() || is_dictionary != place.is_dictionary {
            return Err(Damaged::error("the header of a page contradicts the page"));
        }
        if self.compressed {
            buf = decompress(&buf)?;
        }
        if header.uncompressed_bytes as usize != buf.len() {
            return Err(Damaged::error("a page has another size than its header says"));
        }
        let (num_values, encoding) = (header.num_values, header.encoding);
        Ok(match header.kind {
            PageKind::Dictionary => Page::DictionaryPage { buf, num_values, encoding, is_sorted: false },
            PageKind::Data => data_page(buf, num_values, encoding),
        })
    }
}

fn data_page(buf: Bytes, num_values: u32, encoding: Encoding) -> Page {
    Page::DataPage {
        buf,
        num_values,
        encoding,
        def_level_encoding: Encoding::RLE,
        rep_level_encoding: Encoding::RLE,
        statistics: None,
    }
}

/// Where the pages of a column are.
fn places(file: &PageFile, row_group: usize, leaf: usize) -> Result<VecDeque<PagePlace>> {
    let metadata = file.metadata.row_group(row_group);
    let chunk = metadata.column(leaf);
    let rows = metadata.num_rows() as usize;
    let missing = || Damaged::error("the file has no index of its pages");
    let index = file.metadata.offset_index().and_then(|index| index.get(row_group)?.get(leaf)).ok_or_else(missing)?;
    let mut checksums = match &file.checksums {
        Some(checksums) => Some(checksums.of_chunk(row_group, leaf).ok_or_else(missing)?),
        None => None,
    };
    let mut next_checksum = || match &mut checksums {
        Some(checksums) => checksums.next().map(Some).ok_or_else(missing),
        None => Ok(None),
    };
    let mut places = VecDeque::new();
    let locations = index.page_locations();
    if let Some(offset) = chunk.dictionary_page_offset() {
        let end = locations.first().map_or(offset + chunk.compressed_size(), |first| first.offset);
        let (offset, bytes) = (offset as u64, usize::try_from(end - offset).map_err(|_| missing())?);
        places.push_back(PagePlace { offset, bytes, rows: 0..rows, is_dictionary: true, crc32c: next_checksum()? });
    }
    for (number, page) in locations.iter().enumerate() {
        let begin = page.first_row_index as usize;
        let end = locations.get(number + 1).map_or(rows, |next| next.first_row_index as usize);
        let (offset, bytes) = (page.offset as u64, page.compressed_page_size as usize);
        if begin > end || end > rows {
            return Err(Damaged::error("the index of pages contradicts itself"));
        }
        places.push_back(PagePlace { offset, bytes, rows: begin..end, is_dictionary: false, crc32c: next_checksum()? });
    }
    Ok(places)
}

impl Iterator for CheckedPages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for CheckedPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let Some(place) = self.places.pop_front() else { return Ok(None) };
        self.decoded(&place).map(Some)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        Ok(self.places.front().map(|place| PageMetadata {
            num_rows: (!place.is_dictionary).then_some(place.rows.len()),
            num_levels: None,
            is_dict: place.is_dictionary,
        }))
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.places.pop_front();
        Ok(())
    }

    fn at_record_boundary(&mut self) -> Result<bool> {
        // Our pages end between rows.
        Ok(true)
    }
}

thread_local! {
    static DECOMPRESSOR: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

fn decompress(page: &Bytes) -> Result<Bytes> {
    let length = zstd::zstd_safe::get_frame_content_size(page)
        .ok()
        .flatten()
        .and_then(|length| usize::try_from(length).ok())
        .filter(|&length| length <= PAGE_BYTES_MAX)
        .ok_or_else(|| Damaged::error("a page does not say how large it is, or is too large"))?;
    DECOMPRESSOR.with_borrow_mut(|kept| {
        let decompressor = match kept {
            Some(decompressor) => decompressor,
            None => kept.insert(zstd::bulk::Decompressor::new()?),
        };
        let decompressed = decompressor.decompress(page, length);
        Ok(Bytes::from(decompressed.map_err(|error| Damaged::error(format!("a page can't be decompressed: {error}")))?))
    })
}
