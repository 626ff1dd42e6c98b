//! Pages of one column of a row group: the one place where pages are read, checked and decompressed.
//!
//! A page is given out only if its checksum, which covers its header too, is right; a file of layout version 1 has only
//! that of its compression.
//!
//! The Parquet library makes a compression context for every column it reads, which costs more than reading the few rows
//! of a trace. Here each thread keeps one.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use parquet::arrow::arrow_reader::RowGroups;
use parquet::basic::Encoding;
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::Result;
use parquet::file::metadata::{FileMetaData, ParquetMetaData, RowGroupMetaData};
use parquet::file::reader::ChunkReader;
use parquet::schema::types::{SchemaDescriptor, Type};

use super::batches::Cause;
use super::damage::Damaged;
use super::index::{FileIndex, PagePlace};
use super::page_header::{PageHeader, PageKind};
use super::shape::Shape;
use super::source::FileSource;

/// Larger pages are not ours: one of texts ends with the row that fills it, and a row comes from one request.
const PAGE_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// Columns that take no more are read at once.
const READ_AT_ONCE_BYTES_MAX: u64 = 64 * 1024;

/// What is needed to read pages of a file.
pub(super) struct PageFile {
    pub(super) source: FileSource,
    pub(super) index: FileIndex,
    pub(super) shape: Arc<Shape>,
}

/// A row group that is to be read.
pub(super) struct RowGroupPages {
    pub(super) file: Arc<PageFile>,
    pub(super) row_group: usize,
    /// Is told why a page can't be read.
    pub(super) cause: Cause,
}

/// What readers ask the metadata for only if they number rows, which ours don't.
static NO_METADATA: LazyLock<ParquetMetaData> = LazyLock::new(|| {
    let nothing = Type::group_type_builder("spans").build().expect("a schema may be empty");
    let schema = Arc::new(SchemaDescriptor::new(Arc::new(nothing)));
    ParquetMetaData::new(FileMetaData::new(1, 0, None, None, schema, None), Vec::new())
});

impl RowGroups for RowGroupPages {
    fn num_rows(&self) -> usize {
        self.file.index.rows_of(self.row_group)
    }

    fn column_chunks(&self, leaf: usize) -> Result<Box<dyn PageIterator>> {
        let pages = CheckedPages::new(self.file.clone(), self.row_group, leaf)?;
        let pages = CheckedPages { cause: Some(self.cause.clone()), ..pages };
        Ok(Box::new(OneChunk(Some(Box::new(pages)))))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(std::iter::empty())
    }

    fn metadata(&self) -> &ParquetMetaData {
        &NO_METADATA
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

/// The pages of a column in a row group, in order.
pub(super) struct CheckedPages {
    file: Arc<PageFile>,
    leaf: usize,
    compressed: bool,
    /// Where all pages are in the file.
    range: Range<u64>,
    places: VecDeque<PagePlace>,
    /// The whole column, if it is small, once it was read.
    read_at_once: Option<Bytes>,
    cause: Option<Cause>,
}

impl CheckedPages {
    pub(super) fn new(file: Arc<PageFile>, row_group: usize, leaf: usize) -> Result<Self> {
        let chunk = file.index.chunk(row_group, leaf);
        let (compressed, range, places) = (chunk.is_compressed(), chunk.byte_range(), chunk.places()?);
        Ok(Self { file, leaf, compressed, range, places, read_at_once: None, cause: None })
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
        let column = self.file.shape.leaf(self.leaf).path().string();
        Err(Damaged::error(format!(
            "the page of {column} at {} has another checksum than when it was written",
            place.offset
        )))
    }

    fn read(&mut self, place: &PagePlace) -> Result<Bytes> {
        let (begin, length) = (self.range.start, self.range.end - self.range.start);
        if length > READ_AT_ONCE_BYTES_MAX {
            return self.file.source.get_bytes(place.offset, place.bytes);
        }
        let bytes = match &mut self.read_at_once {
            Some(read) => read,
            none => none.insert(self.file.source.get_bytes(begin, length as usize)?),
        };
        let at = place.offset.checked_sub(begin).and_then(|at| usize::try_from(at).ok());
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
            buf = decompress(&buf, PAGE_BYTES_MAX, "a page")?;
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

impl Iterator for CheckedPages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for CheckedPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let Some(place) = self.places.pop_front() else { return Ok(None) };
        let page = self.decoded(&place).map(Some);
        page.map_err(|error| match &self.cause {
            Some(cause) => cause.keep(error),
            None => error,
        })
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

/// Decompresses what says of itself that it takes no more than so many bytes. `what`: of what errors tell.
pub(super) fn decompress(packed: &[u8], bytes_max: usize, what: &str) -> Result<Bytes> {
    let length = zstd::zstd_safe::get_frame_content_size(packed)
        .ok()
        .flatten()
        .and_then(|length| usize::try_from(length).ok())
        .filter(|&length| length <= bytes_max)
        .ok_or_else(|| Damaged::error(format!("{what} can't be decompressed: the size is missing or too large")))?;
    DECOMPRESSOR.with_borrow_mut(|kept| {
        let decompressor = match kept {
            Some(decompressor) => decompressor,
            None => kept.insert(zstd::bulk::Decompressor::new()?),
        };
        let decompressed = decompressor.decompress(packed, length);
        Ok(Bytes::from(decompressed.map_err(|error| Damaged::error(format!("{what} can't be decompressed: {error}")))?))
    })
}
