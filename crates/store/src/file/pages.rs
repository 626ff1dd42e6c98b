//! Pages of one row group, decompressed with a context that each thread keeps.
//!
//! The Parquet library makes a compression context for every column it reads, which costs more than reading the few rows
//! of a trace. Here it is told that pages are not compressed, and they are decompressed on the way to it.

use std::cell::RefCell;
use std::sync::Arc;

use bytes::Bytes;
use parquet::arrow::arrow_reader::RowGroups;
use parquet::basic::Compression;
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, RowGroupMetaData};
use parquet::file::serialized_reader::SerializedPageReader;

use super::source::FileSource;

/// Larger pages are not ours: one of texts ends with the row that fills it, and a row comes from one request.
const PAGE_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// A row group that is to be read.
pub(super) struct RowGroupPages {
    pub(super) source: Arc<FileSource>,
    pub(super) metadata: Arc<ParquetMetaData>,
    pub(super) row_group: usize,
}

impl RowGroups for RowGroupPages {
    fn num_rows(&self) -> usize {
        self.metadata.row_group(self.row_group).num_rows() as usize
    }

    fn column_chunks(&self, leaf: usize) -> Result<Box<dyn PageIterator>> {
        let chunk = self.metadata.row_group(self.row_group).column(leaf);
        let compressed = match chunk.compression() {
            Compression::UNCOMPRESSED => false,
            Compression::ZSTD(_) => true,
            other => return Err(ParquetError::NYI(format!("pages compressed with {other:?}"))),
        };
        let as_stored = chunk.clone().into_builder().set_compression(Compression::UNCOMPRESSED).build()?;
        let locations = self.metadata.offset_index().map(|index| index[self.row_group][leaf].page_locations().clone());
        let pages = SerializedPageReader::new(self.source.clone(), &as_stored, self.num_rows(), locations)?;
        Ok(Box::new(OneChunk(Some(Box::new(DecompressedPages { pages, compressed })))))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(std::iter::once(self.metadata.row_group(self.row_group)))
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
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

struct DecompressedPages {
    pages: SerializedPageReader<FileSource>,
    compressed: bool,
}

impl Iterator for DecompressedPages {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl PageReader for DecompressedPages {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        let Some(mut page) = self.pages.get_next_page()? else { return Ok(None) };
        if self.compressed {
            match &mut page {
                Page::DataPage { buf, .. } | Page::DictionaryPage { buf, .. } => *buf = decompress(buf)?,
                Page::DataPageV2 { .. } => return Err(ParquetError::NYI("data pages of version 2".into())),
            }
        }
        Ok(Some(page))
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.pages.skip_next_page()
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
        .ok_or_else(|| ParquetError::General("a page does not say how large it is, or is too large".into()))?;
    DECOMPRESSOR.with_borrow_mut(|kept| {
        let decompressor = match kept {
            Some(decompressor) => decompressor,
            None => kept.insert(zstd::bulk::Decompressor::new()?),
        };
        Ok(Bytes::from(decompressor.decompress(page, length)?))
    })
}
