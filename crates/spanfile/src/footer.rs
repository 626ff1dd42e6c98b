//! The footer of a file: read, checked, taken apart.

use std::sync::Arc;

use bytes::Bytes;
use parquet::errors::Result;
use parquet::file::FOOTER_SIZE;
use parquet::file::metadata::{FooterTail, PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};

use super::damage::Damaged;
use super::index::FileIndex;
use super::layout::LAYOUT_FOOTER_KEY;
use super::older::{SECTIONS_KEY, index_of_version_1, index_of_version_2};
use super::pages::PageFile;
use super::seal::{SEAL_KEY, Seal, TENANT_KEY, TailReader};
use super::shape::Shape;
use super::source::FileSource;

/// What a file must be.
#[derive(Debug, Clone, Copy, Default)]
pub struct Expected<'a> {
    /// `None`: whatever it is.
    pub file_id: Option<&'a str>,
    /// How long its end is that is read to open it, so that it is read at once; 0 if that is not known.
    pub tail_bytes: u32,
}

/// What the end of a file says.
pub(super) struct Footer {
    pub(super) file: Arc<PageFile>,
    /// The id in the seal; `None` for layout version 1.
    pub(super) file_id: Option<String>,
    /// Whose spans it holds, by itself. `None`: it does not say, or it is the file that was expected, of which that is known.
    pub(super) tenant: Option<String>,
    /// 0 for layout version 1.
    pub(super) tail_bytes: u32,
}

/// So much is read of the end of a file of which nothing is known.
const FIRST_READ_BYTES: u64 = 64 * 1024;

impl Footer {
    pub(super) fn read(source: FileSource, expected: &Expected<'_>) -> Result<Self> {
        let first = Self::read_once(&source, expected);
        match first {
            // What was read wrong once may be right on the disk: a second look decides.
            Err(error) if super::damage::is_damage(&error) => Self::read_once(&source, expected),
            outcome => outcome,
        }
    }

    fn read_once(source: &FileSource, expected: &Expected<'_>) -> Result<Self> {
        let tail = read_tail(source, expected.tail_bytes)?;
        let (tail, file_id, tenant) = match expected.file_id.filter(|id| is_sealed(&tail, id)) {
            Some(id) => (tail, id.to_owned(), None),
            None => {
                let metadata = decode(&tail, PageIndexPolicy::Skip)?;
                if !was_sealed(&metadata, expected) && Shape::of(layout_of(&metadata)?)?.layout.version == 1 {
                    return Self::of_version_1(source);
                }
                let tenant = value_of(&metadata, TENANT_KEY).filter(|name| !name.is_empty()).map(str::to_owned);
                let (tail, file_id) = sealed(source, &metadata, tail, expected)?;
                (tail, file_id, tenant)
            }
        };
        let index = if FileIndex::is_at_begin_of(&tail.bytes) {
            FileIndex::read(&tail.bytes)?
        } else {
            let metadata = decode(&tail, PageIndexPolicy::Required)?;
            let sections = value_of(&metadata, SECTIONS_KEY).ok_or_else(|| Damaged::error("the file has no index"))?;
            index_of_version_2(&metadata, layout_of(&metadata)?, sections, &tail)?
        };
        let shape = Shape::of(index.layout()?)?;
        if index.leaves() != shape.leaves() && index.row_groups() > 0 {
            return Err(Damaged::error("the index has other columns than the layout"));
        }
        let tail_bytes = u32::try_from(tail.bytes.len()).unwrap_or(0);
        let file = Arc::new(PageFile { source: source.clone(), index, shape });
        Ok(Self { file, file_id: Some(file_id), tenant, tail_bytes })
    }

    fn of_version_1(source: &FileSource) -> Result<Self> {
        let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required);
        let metadata = reader.parse_and_finish(source)?;
        let layout = layout_of(&metadata)?;
        let shape = Shape::of(layout)?;
        if !shape.is_that_of(metadata.file_metadata().schema_descr()) {
            return Err(Damaged::error("the file has other columns than its layout"));
        }
        let index = index_of_version_1(&metadata, layout)?;
        let file = Arc::new(PageFile { source: source.clone(), index, shape });
        Ok(Self { file, file_id: None, tenant: None, tail_bytes: 0 })
    }
}

/// Whether a tail has the seal of the file that it should be, which is the usual case: nothing has to be decoded to see it.
fn is_sealed(tail: &TailReader, file_id: &str) -> bool {
    Seal::find(&tail.bytes, file_id).is_some_and(|(seal, text)| seal.holds(text, &tail.bytes))
}

/// Whether a footer is one that later layout versions wrote, whatever version it names: nothing but the seal tells whether that number
/// is right, and files of layout version 1 have none.
fn was_sealed(metadata: &ParquetMetaData, expected: &Expected<'_>) -> bool {
    let later_keys = [SEAL_KEY, TENANT_KEY, SECTIONS_KEY];
    expected.tail_bytes > 0 || later_keys.iter().any(|key| value_of(metadata, key).is_some())
}

/// Checks the seal; gives the whole tail, and the id in the seal.
fn sealed(
    source: &FileSource,
    metadata: &ParquetMetaData,
    tail: TailReader,
    expected: &Expected<'_>,
) -> Result<(TailReader, String)> {
    let text = value_of(metadata, SEAL_KEY).unwrap_or_default();
    let seal = Seal::parse(text).ok_or_else(|| Damaged::error("the footer has no seal"))?;
    let tail = match u32::try_from(seal.tail_bytes) {
        Ok(length) if u64::from(length) == tail.bytes.len() as u64 => tail,
        Ok(length) if length >= FOOTER_SIZE as u32 => read_tail(source, length)?,
        _ => return Err(Damaged::error("the seal has an impossible length")),
    };
    if !seal.holds(text, &tail.bytes) {
        return Err(Damaged::error("the footer has another checksum than when it was written"));
    }
    if let Some(file_id) = expected.file_id.filter(|id| *id != seal.file_id) {
        return Err(Damaged::error(format!("this is the file {}, not {file_id}", seal.file_id)));
    }
    Ok((tail, seal.file_id.to_owned()))
}

/// The last so many bytes of a file; with 0, as many as its footer takes.
fn read_tail(source: &FileSource, tail_bytes: u32) -> Result<TailReader> {
    let length = source.len();
    let too_short = || Damaged::error(format!("a file of {length} bytes is no file of spans"));
    if length < FOOTER_SIZE as u64 {
        return Err(too_short());
    }
    let wanted = if tail_bytes == 0 { FIRST_READ_BYTES.min(length) } else { u64::from(tail_bytes) };
    let begin = length.checked_sub(wanted).ok_or_else(too_short)?;
    let tail = TailReader { bytes: source.get_bytes(begin, wanted as usize)?, begin };
    let footer = footer_tail(&tail.bytes)?.metadata_length() as u64 + FOOTER_SIZE as u64;
    if footer <= wanted {
        return Ok(tail);
    }
    let begin = length.checked_sub(footer).ok_or_else(too_short)?;
    Ok(TailReader { bytes: source.get_bytes(begin, footer as usize)?, begin })
}

fn footer_tail(tail: &Bytes) -> Result<FooterTail> {
    let last: Option<&[u8; FOOTER_SIZE]> = tail.last_chunk();
    let wrong = || Damaged::error("the file does not end as Parquet files do");
    FooterTail::try_new(last.ok_or_else(wrong)?).map_err(|_| wrong())
}

fn decode(tail: &TailReader, page_index: PageIndexPolicy) -> Result<ParquetMetaData> {
    let reader = ParquetMetaDataReader::new().with_page_index_policy(page_index);
    reader.parse_and_finish(tail).map_err(|error| Damaged::error(format!("the footer can't be read: {error}")))
}

fn value_of<'a>(metadata: &'a ParquetMetaData, key: &str) -> Option<&'a str> {
    let pairs = metadata.file_metadata().key_value_metadata()?;
    pairs.iter().find(|pair| pair.key == key)?.value.as_deref()
}

/// The layout, as JSON.
fn layout_of(metadata: &ParquetMetaData) -> Result<&str> {
    value_of(metadata, LAYOUT_FOOTER_KEY).ok_or_else(|| Damaged::error("not a file of spans: its footer has no layout"))
}
