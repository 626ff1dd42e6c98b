//! The index of files of older layout versions, made from their footer with its page indexes when they are opened.
//!
//! | version | checksums of pages | trace filter and names |
//! |---|---|---|
//! | 1 | none | in the catalogue |
//! | 2 | at the begin of the tail: how many columns all row groups have together, how many pages come before each, and the CRC-32C of each page, as 32-bit numbers, little-endian | in the file, the filter as one piece; where, the footer's metadata says |

use bytes::Bytes;
use parquet::basic::{Compression, Type as Physical};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::page_index::offset_index::OffsetIndexMetaData;
use parquet::file::reader::ChunkReader;
use parquet::file::statistics::Statistics;
use serde::Deserialize;

use super::damage::Damaged;
use super::index::{ChunkEntry, Described, FileIndex, IndexWriter, PageEntry, ValueRange};
use super::seal::{Section, TailReader};

/// Footer key of version 2: where the sections are.
pub(super) const SECTIONS_KEY: &str = "tracehouse.sections";

#[derive(Deserialize)]
struct Sections {
    trace_filter: Section,
    names: Section,
    page_checksums: Section,
    #[serde(default)]
    merged_from: Vec<String>,
}

/// `layout`: as JSON.
pub(super) fn index_of_version_1(metadata: &ParquetMetaData, layout: &str) -> Result<FileIndex> {
    let (trace_filter, names) = (Section::default(), Section::default());
    let described = Described {
        layout,
        trace_filter,
        names,
        merged_from: &[],
        has_checksums: false,
        has_filter_pages: false,
        alone: &[],
        value_filter: None,
    };
    index_of(metadata, &described, &mut std::iter::repeat(0))
}

/// `sections`: the value of [`SECTIONS_KEY`].
pub(super) fn index_of_version_2(
    metadata: &ParquetMetaData,
    layout: &str,
    sections: &str,
    tail: &TailReader,
) -> Result<FileIndex> {
    let wrong = |error: serde_json::Error| Damaged::error(format!("the places of sections: {error}"));
    let sections: Sections = serde_json::from_str(sections).map_err(wrong)?;
    let place = sections.page_checksums;
    let numbers = tail.get_bytes(place.offset, place.bytes as usize)?;
    let described = Described {
        layout,
        trace_filter: sections.trace_filter,
        names: sections.names,
        merged_from: &sections.merged_from,
        has_checksums: true,
        has_filter_pages: false,
        alone: &[],
        value_filter: None,
    };
    let leaves = metadata.file_metadata().schema_descr().num_columns();
    let mut checksums = page_checksums(&numbers, leaves * metadata.num_row_groups())?;
    let index = index_of(metadata, &described, &mut checksums)?;
    match checksums.next() {
        None => Ok(index),
        Some(_) => Err(contradiction()),
    }
}

fn contradiction() -> ParquetError {
    Damaged::error("the checksums of pages contradict the footer")
}

/// The checksums of all pages, in the order of the file.
fn page_checksums(numbers: &Bytes, chunks: usize) -> Result<impl Iterator<Item = u32>> {
    let (numbers, rest) = numbers.as_chunks::<4>();
    let mut numbers = numbers.iter().map(|bytes| u32::from_le_bytes(*bytes));
    let says = numbers.next().and_then(|count| usize::try_from(count).ok());
    if says != Some(chunks) || !rest.is_empty() {
        return Err(contradiction());
    }
    Ok(numbers.skip(chunks))
}

fn missing() -> ParquetError {
    Damaged::error("the file has no index of its pages")
}

/// `checksums`: of all pages, in the order of the file.
fn index_of(
    metadata: &ParquetMetaData,
    described: &Described<'_>,
    checksums: &mut impl Iterator<Item = u32>,
) -> Result<FileIndex> {
    let mut index = IndexWriter::default();
    for (number, row_group) in metadata.row_groups().iter().enumerate() {
        index.begin_row_group(usize::try_from(row_group.num_rows()).map_err(|_| missing())?)?;
        for (leaf, chunk) in row_group.columns().iter().enumerate() {
            let offsets = metadata.offset_index().and_then(|index| index.get(number)?.get(leaf)).ok_or_else(missing)?;
            let mut entry = entry_of(chunk)?;
            add_pages(&mut entry, chunk, offsets, checksums)?;
            if leaf == 0 {
                let pages = metadata.column_index().and_then(|index| index.get(number)?.first());
                let Some(ColumnIndexMetaData::FIXED_LEN_BYTE_ARRAY(pages)) = pages else { return Err(missing()) };
                for page in 0..offsets.page_locations().len() {
                    let ids = [pages.min_value(page), pages.max_value(page)].map(Option::unwrap_or_default).concat();
                    entry.trace_ranges.push(ids.try_into().map_err(|_| missing())?);
                }
            }
            index.add_chunk(&entry)?;
        }
    }
    FileIndex::read(&index.finish(described)?)
}

fn add_pages(
    entry: &mut ChunkEntry,
    chunk: &ColumnChunkMetaData,
    offsets: &OffsetIndexMetaData,
    checksums: &mut impl Iterator<Item = u32>,
) -> Result<()> {
    let mut add = |bytes: i64, first_row: i64| {
        let bytes = u32::try_from(bytes).map_err(|_| missing())?;
        let first_row = u32::try_from(first_row).map_err(|_| missing())?;
        let crc32c = checksums.next().ok_or_else(contradiction)?;
        entry.pages.push(PageEntry { bytes, first_row, crc32c });
        Ok::<_, ParquetError>(())
    };
    let first = offsets.page_locations().first().ok_or_else(missing)?.offset;
    let begin = chunk.dictionary_page_offset().unwrap_or(first);
    if begin != first {
        add(first.saturating_sub(begin), 0)?;
    }
    for page in offsets.page_locations() {
        add(i64::from(page.compressed_page_size), page.first_row_index)?;
    }
    entry.offset = u64::try_from(begin).map_err(|_| missing())?;
    Ok(())
}

fn entry_of(chunk: &ColumnChunkMetaData) -> Result<ChunkEntry> {
    let is_compressed = match chunk.compression() {
        Compression::UNCOMPRESSED => false,
        Compression::ZSTD(_) => true,
        other => return Err(ParquetError::NYI(format!("pages compressed with {other:?}"))),
    };
    let range = match chunk.statistics() {
        Some(Statistics::Int64(values)) => match (values.min_opt(), values.max_opt()) {
            (Some(min), Some(max)) => ValueRange::Ints(*min, *max),
            _ => ValueRange::Unknown,
        },
        // Minimum and maximum are given whole or not at all.
        Some(Statistics::ByteArray(texts)) if texts.null_count_opt() == Some(0) => {
            match (texts.min_bytes_opt(), texts.max_bytes_opt()) {
                (Some(min), Some(max)) if min == max => ValueRange::OneText(min.to_vec()),
                _ => ValueRange::Unknown,
            }
        }
        _ => ValueRange::Unknown,
    };
    let [positions, uncompressed_bytes] =
        [chunk.num_values(), chunk.uncompressed_size()].map(|number| u64::try_from(number).unwrap_or(0));
    let has_dictionary = chunk.dictionary_page_offset().is_some();
    // Without a dictionary the pages hold the texts themselves.
    let text_bytes = (chunk.column_type() != Physical::BYTE_ARRAY || !has_dictionary).then_some(0);
    Ok(ChunkEntry {
        uncompressed_bytes,
        text_bytes,
        positions,
        is_compressed,
        has_dictionary,
        range,
        ..ChunkEntry::default()
    })
}
