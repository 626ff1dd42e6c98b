//! An open file: what is known of it, and reading its columns.

use std::sync::{Arc, Weak};

use arrow::array::{Array, BooleanArray, BooleanBufferBuilder, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{concat_batches, filter_record_batch, take};
use arrow::datatypes::{DataType, Fields, Schema};
use bytes::Bytes;
use parquet::arrow::FieldLevels;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, RowSelection};
use parquet::errors::Result;
use parquet::file::reader::{ChunkReader, Length};
use tracehouse_model::TraceId;

use super::batches::{Batches, RowReader, Rows, contained, mask_of, missing_rows};
use super::contents::FileContents;
use super::damage::{Around, Damage, Damaged, DamagedPage, Part, PartWatcher, is_damage};
use super::footer::{Expected, Footer};
use super::index::{Chunk as IndexedChunk, PackedIndex};
use super::layout::{ColumnType, Layout, column};
use super::numbered::{Chunk, DistinctColumn, NumberedColumn};
use super::page_filters::PageFilters;
use super::pages::{CheckedPages, PageFile, RowGroupPages, decompress};
use super::seal::Section;
use super::shape::Shape;
use super::sought::{IntsOfRows, Sought};
use super::source::FileSource;
use super::summary::end_of;
use super::trace_filter::{FilterPages, TraceFilter};
use super::value_filter::ColumnHash;

/// Which columns are read into spans.
#[derive(Clone, Copy, Debug)]
pub enum Projection<'a> {
    All,
    /// Ids, times and the named columns; whatever else spans have is left at its default.
    Only(&'a [String]),
}

/// What spans are nothing without.
const BASIC_COLUMNS: [&str; 6] = [
    column::TRACE_ID,
    column::SPAN_ID,
    column::PARENT_SPAN_ID,
    column::PARENT_OFFSET,
    column::START_TIME,
    column::DURATION_NANOS,
];

/// A file whose end has been read. Cheap to share; reads may run from many threads at once.
pub struct OpenFile {
    pub(super) file: Arc<PageFile>,
    /// Its own id, whatever its name; `None` if it is of layout version 1.
    file_id: Option<String>,
    tail_bytes: u32,
    memory_bytes: usize,
    /// What can't be read of it, if that was found out.
    around: Option<Around>,
    watcher: Option<Weak<dyn PartWatcher>>,
}

/// A file whose end has been read, as it is kept in memory while nobody reads it. Many are small: of these the index is packed,
/// so that more have room.
pub enum KeptFile {
    Whole(Arc<OpenFile>),
    Packed(Box<PackedFile>),
}

pub struct PackedFile {
    source: FileSource,
    index: PackedIndex,
    shape: Arc<Shape>,
    file_id: Option<String>,
    tail_bytes: u32,
    memory_bytes: usize,
    watcher: Option<Weak<dyn PartWatcher>>,
}

/// Larger indexes stay as they are: to unpack one takes as long as it is.
const PACKED_INDEX_BYTES_MAX: usize = 16 << 10;

impl KeptFile {
    pub fn of(open: &Arc<OpenFile>) -> Self {
        let PageFile { source, index, shape } = &*open.file;
        if index.memory_bytes() > PACKED_INDEX_BYTES_MAX {
            return Self::Whole(open.clone());
        }
        let packed = PackedIndex::of(index);
        let texts = open.file_id.as_ref().map_or(0, String::len);
        let memory_bytes = packed.memory_bytes() + shape_bytes(shape) + texts + size_of::<PackedFile>() + SOURCE_BYTES;
        Self::Packed(Box::new(PackedFile {
            source: source.clone(),
            index: packed,
            shape: shape.clone(),
            file_id: open.file_id.clone(),
            tail_bytes: open.tail_bytes,
            memory_bytes,
            watcher: open.watcher.clone(),
        }))
    }

    /// The file as it was opened.
    pub fn open(&self) -> Arc<OpenFile> {
        match self {
            Self::Whole(open) => open.clone(),
            Self::Packed(packed) => Arc::new(packed.open()),
        }
    }

    pub fn memory_bytes(&self) -> usize {
        match self {
            Self::Whole(open) => open.memory_bytes(),
            Self::Packed(packed) => packed.memory_bytes,
        }
    }
}

impl PackedFile {
    fn open(&self) -> OpenFile {
        let file = PageFile { source: self.source.clone(), index: self.index.unpack(), shape: self.shape.clone() };
        let open = OpenFile::of(Arc::new(file), self.file_id.clone(), self.tail_bytes);
        OpenFile { watcher: self.watcher.clone(), ..open }
    }
}

/// About what a source takes: with what opens it, if it is one of many.
const SOURCE_BYTES: usize = 256;

/// The share of one file in its shape, which all open files of the same layout share.
fn shape_bytes(shape: &Arc<Shape>) -> usize {
    shape.memory_bytes() / Arc::strong_count(shape).max(1)
}

/// Uncompressed names of a file may take no more.
const NAMES_BYTES_MAX: usize = 64 << 20;

/// In which form [`OpenFile::scan`] gives top-level string columns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StringForm {
    View,
    /// `Dictionary(Int32, Utf8)` where the file has a dictionary in every row group, else a view.
    Dictionary,
}

impl OpenFile {
    pub fn open(source: FileSource, expected: &Expected<'_>) -> Result<Self> {
        let Footer { file, file_id, tail_bytes, .. } = contained(|| Footer::read(source, expected))?;
        Ok(Self::of(file, file_id, tail_bytes))
    }

    /// Opens a file of which nothing is known; gives also the tenant that it names.
    pub fn open_unknown(source: FileSource) -> Result<(Self, Option<String>)> {
        let Footer { file, file_id, tenant, tail_bytes } = contained(|| Footer::read(source, &Expected::default()))?;
        Ok((Self::of(file, file_id, tail_bytes), tenant))
    }

    fn of(file: Arc<PageFile>, file_id: Option<String>, tail_bytes: u32) -> Self {
        let memory_bytes = file.index.memory_bytes() + shape_bytes(&file.shape) + size_of::<Self>() + SOURCE_BYTES;
        Self { file, file_id, tail_bytes, memory_bytes, around: None, watcher: None }
    }

    fn with(&self, around: Around) -> Self {
        let Self { tail_bytes, memory_bytes, .. } = *self;
        let (file, file_id, watcher) = (self.file.clone(), self.file_id.clone(), self.watcher.clone());
        Self { file, file_id, tail_bytes, memory_bytes, around: Some(around), watcher }
    }

    /// The same file, of which somebody is told what is damaged beside its rows.
    pub fn watched_by(self, watcher: Weak<dyn PartWatcher>) -> Self {
        Self { watcher: Some(watcher), ..self }
    }

    /// What came of reading a part.
    fn watched<T>(&self, part: Part, read: Result<T>) -> Result<T> {
        if let Err(error) = &read
            && is_damage(error)
            && let Some(watcher) = self.watcher.as_ref().and_then(Weak::upgrade)
        {
            watcher.is_damaged(part);
        }
        read
    }

    /// The same file, of which the rows come as nulls that are damaged in any column.
    pub fn around(&self, damage: Arc<Damage>) -> Self {
        self.with(Around::all(damage))
    }

    /// The same file to be read as if it had no damage, which it remembers as far as it meets it: see [`Self::around_met`].
    pub fn meeting(&self, damage: Arc<Damage>) -> Self {
        self.with(Around::none(damage))
    }

    /// Whether it was opened by one who knows what of it is damaged.
    pub fn knows_damage(&self) -> bool {
        self.around.is_some()
    }

    /// After reading failed: the same file, of which the rows come as nulls that are damaged in columns which were asked for
    /// until now. `None` if none of those is known to be damaged.
    pub fn around_met(&self) -> Option<Self> {
        self.around.as_ref()?.what_was_met().map(|around| self.with(around))
    }

    /// The rows of a row group that come with what was written; `None`: all.
    pub fn readable(&self, row_group: usize) -> Option<&BooleanBuffer> {
        self.around.as_ref()?.avoided().readable(row_group)
    }

    fn meet(&self, row_group: usize, leaves: impl IntoIterator<Item = usize>) {
        if let Some(around) = &self.around {
            around.meet(row_group, leaves);
        }
    }

    /// How many rows come as nulls.
    pub fn unreadable_rows(&self) -> u64 {
        self.around.as_ref().map_or(0, |around| around.avoided().rows())
    }

    /// Reads every page of the file and finds out which are damaged. Errors are those of the machine.
    pub fn verify(&self) -> Result<Damage> {
        let mut damaged = Vec::new();
        for row_group in 0..self.row_groups() {
            for leaf in 0..self.file.index.leaves() {
                self.verify_chunk(row_group, leaf, &mut damaged)?;
            }
        }
        let rows: Vec<usize> = (0..self.row_groups()).map(|row_group| self.rows_of(row_group)).collect();
        Ok(Damage::of(damaged, &rows))
    }

    /// What is damaged beside the rows. Those can be read all the same; errors are those of the machine.
    pub fn damaged_parts(&self) -> Result<Vec<Part>> {
        const MARK: &[u8] = b"PAR1";
        let is_marked = || self.file.source.get_bytes(0, MARK.len()).map(|begin| begin.as_ref() == MARK);
        let mut damaged = Vec::new();
        if !is_marked()? && !is_marked()? {
            damaged.push(Part::Mark);
        }
        for (part, read) in [
            (Part::TraceFilter, self.read_filter().map(drop)),
            (Part::Names, self.read_contents().map(drop)),
            (Part::ValueFilter, self.verify_value_filter()),
            (Part::PageFilters, self.verify_page_filters()),
        ] {
            match read {
                Ok(()) => {}
                Err(error) if is_damage(&error) => damaged.push(part),
                Err(error) => return Err(error),
            }
        }
        Ok(damaged)
    }

    fn verify_chunk(&self, row_group: usize, leaf: usize, damaged: &mut Vec<DamagedPage>) -> Result<()> {
        let mut pages = CheckedPages::new(self.file.clone(), row_group, leaf)?;
        let places: Vec<_> = pages.places().cloned().collect();
        for place in places {
            match contained(|| pages.decoded(&place)) {
                Ok(_) => {}
                Err(error) if is_damage(&error) => damaged.push(DamagedPage {
                    row_group,
                    leaf,
                    column: self.file.shape.leaf(leaf).path().string(),
                    rows: place.rows,
                }),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Its own id, whatever its name; `None` if it is of layout version 1.
    pub fn file_id(&self) -> Option<&str> {
        self.file_id.as_deref()
    }

    /// Bytes of the file.
    pub fn bytes(&self) -> u64 {
        self.file.source.len()
    }

    /// Whether each read asks another machine.
    pub fn is_remote(&self) -> bool {
        matches!(self.file.source, FileSource::Remote { .. })
    }

    /// How many bytes at its end are read to open it; 0 if it is of layout version 1.
    pub fn tail_bytes(&self) -> u32 {
        self.tail_bytes
    }

    /// Ids of the files that this one was merged from. Files of layout version 1 don't say.
    pub fn merged_from(&self) -> Result<Vec<String>> {
        self.file.index.merged_from()
    }

    /// The names that occur inside, read from the file; `None` if it is of layout version 1.
    pub fn read_contents(&self) -> Result<Option<FileContents>> {
        if self.file_id.is_none() {
            return Ok(None);
        }
        let read = || {
            let packed = self.read_section(self.file.index.names(), Part::Names)?;
            let names = decompress(&packed, NAMES_BYTES_MAX, "the list of names")?;
            let wrong = |error: serde_json::Error| Damaged::error(format!("the names can't be read: {error}"));
            serde_json::from_slice(&names).map(Some).map_err(wrong)
        };
        self.watched(Part::Names, read())
    }

    /// The filter over trace ids, read from the file; `None` if it is of layout version 1.
    pub fn read_filter(&self) -> Result<Option<TraceFilter>> {
        if self.file_id.is_none() {
            return Ok(None);
        }
        let read = || {
            let stored = self.read_section(self.file.index.trace_filter(), Part::TraceFilter)?;
            let in_pages = self.file.index.has_filter_pages();
            let filter = if in_pages { FilterPages::unpack(&stored) } else { TraceFilter::from_bytes(&stored) };
            filter.map(Some).ok_or_else(|| Damaged::error(format!("{} has an impossible size", Part::TraceFilter)))
        };
        self.watched(Part::TraceFilter, read())
    }

    /// Bytes of the filter over trace ids; `None` if the file is of layout version 1.
    pub fn filter_bytes(&self) -> Option<u32> {
        self.file_id.as_ref().map(|_| self.file.index.trace_filter().bytes)
    }

    /// Whether spans of a trace may be inside, from the page of the filter that says so: far less is read than the whole.
    /// `None` if the file is of an older layout version.
    pub fn filter_may_contain(&self, trace: TraceId) -> Result<Option<bool>> {
        if !self.file.index.has_filter_pages() {
            return Ok(None);
        }
        self.look_up(self.file.index.trace_filter(), trace.hash64(), Part::TraceFilter).map(Some)
    }

    /// Whether a text may be a value of a column, from the page of the filter of values that says so. `None` if the column is not
    /// in it.
    pub fn may_have_text(&self, column_name: &str, text: &str) -> Result<Option<bool>> {
        let in_filter = |leaf: &usize| self.row_groups() > 0 && self.file.index.chunk(0, *leaf).is_filtered();
        let (Some(section), Some(_)) = (self.file.index.value_filter(), self.leaf(column_name).filter(in_filter))
        else {
            return Ok(None);
        };
        let hash = ColumnHash::of(column_name).of_text(text.as_bytes());
        self.look_up(section, hash, Part::ValueFilter).map(Some)
    }

    /// Bytes of the filter of values; `None` if there is none.
    pub fn value_filter_bytes(&self) -> Option<u32> {
        self.file.index.value_filter().map(|section| section.bytes)
    }

    /// Looks a hash up in its page of a filter.
    fn look_up(&self, section: Section, hash: u64, part: Part) -> Result<bool> {
        self.watched(part, self.look_up_in(section, hash, part))
    }

    fn look_up_in(&self, section: Section, hash: u64, part: Part) -> Result<bool> {
        let wrong = || Damaged::error(format!("{part} has an impossible size"));
        let pages = FilterPages::of_length(section.bytes as usize).ok_or_else(wrong)?;
        let (page, lookup) = pages.page_of(hash);
        let read = || self.file.source.get_bytes(section.offset + page.start as u64, page.len());
        for _ in 0..2 {
            if let Some(block) = lookup.block_in(&read()?) {
                return Ok(lookup.is_in(&block));
            }
        }
        Err(Damaged::error(format!("{part} has another checksum")))
    }

    pub(super) fn verify_value_filter(&self) -> Result<()> {
        let section = self.file.index.value_filter();
        section.map_or(Ok(()), |section| self.read_section(section, Part::ValueFilter).map(drop))
    }

    pub(super) fn verify_page_filters(&self) -> Result<()> {
        let leaves = 0..self.file.index.leaves();
        let mut chunks = (0..self.row_groups()).flat_map(|row_group| leaves.clone().map(move |leaf| (row_group, leaf)));
        chunks.try_for_each(|(row_group, leaf)| {
            let section = self.file.index.chunk(row_group, leaf).page_filters();
            section.map_or(Ok(()), |section| self.read_page_filters(section).map(drop))
        })
    }

    fn read_page_filters(&self, section: Section) -> Result<Bytes> {
        self.read_section(section, Part::PageFilters)
    }

    fn read_section(&self, section: Section, part: Part) -> Result<Bytes> {
        let read = || self.file.source.get_bytes(section.offset, section.bytes as usize);
        let is_right = |bytes: &Bytes| crc32c::crc32c(bytes) == section.crc32c;
        let bytes = read()?;
        if is_right(&bytes) {
            return Ok(bytes);
        }
        let again = read()?;
        if is_right(&again) { Ok(again) } else { Err(Damaged::error(format!("{part}: another checksum"))) }
    }

    /// About what this takes in memory; the same at any time, as caches count with it.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    pub fn layout(&self) -> &Layout {
        &self.file.shape.layout
    }

    /// The names of its top-level columns, in their order.
    pub fn column_names(&self) -> impl Iterator<Item = &str> {
        self.file.shape.names()
    }

    pub fn row_groups(&self) -> usize {
        self.file.index.row_groups()
    }

    pub fn rows_of(&self, row_group: usize) -> usize {
        self.file.index.rows_of(row_group)
    }

    /// How many rows all row groups have.
    pub fn rows(&self) -> u64 {
        (0..self.row_groups()).map(|row_group| self.rows_of(row_group) as u64).sum()
    }

    /// About how many bytes a row takes while it is read into a span, in the row group where rows take most.
    pub fn row_bytes(&self) -> u64 {
        let of_row_group = |row_group: usize| {
            let chunks = (0..self.file.index.leaves()).map(|leaf| self.file.index.chunk(row_group, leaf));
            let bytes = chunks.map(|chunk| chunk.uncompressed_bytes().max(chunk.text_bytes().unwrap_or(0)));
            bytes.fold(0, u64::saturating_add) / (self.rows_of(row_group) as u64).max(1) + 1
        };
        (0..self.row_groups()).map(of_row_group).max().unwrap_or(1)
    }

    /// Whether a column alone holds the attributes of its key, whatever their type; false if that is not known.
    pub fn holds_alone(&self, column_name: &str) -> bool {
        self.row_groups() > 0 && self.leaf(column_name).is_some_and(|leaf| self.file.index.chunk(0, leaf).is_alone())
    }

    /// Minimum and maximum of an `INT64` column in a row group, if the file says.
    pub fn int_range(&self, row_group: usize, column_name: &str) -> Option<(i64, i64)> {
        self.file.index.chunk(row_group, self.leaf(column_name)?).int_range()
    }

    /// A moment after which no span of a row group ends, if the file says when they begin and how long they are.
    pub fn latest_end(&self, row_group: usize) -> Option<i64> {
        let (_, last) = self.int_range(row_group, "start_time")?;
        let (_, longest) = self.int_range(row_group, "duration_nanos")?;
        Some(end_of(last, longest))
    }

    /// The same of the file as a whole.
    pub fn latest_end_of_all(&self) -> Option<i64> {
        (0..self.row_groups())
            .map(|row_group| self.latest_end(row_group))
            .try_fold(i64::MIN, |latest, end| Some(latest.max(end?)))
    }

    /// The text that every row of a row group has in a column, if the file says that it is one and the same.
    pub fn only_text(&self, row_group: usize, column_name: &str) -> Option<&str> {
        self.file.index.chunk(row_group, self.leaf(column_name)?).one_text()
    }

    /// The distinct values of a top-level column in a row group, if the file numbers them. Which row has which is read only
    /// if it is asked for.
    pub fn distinct(&self, row_group: usize, column_name: &str) -> Result<Option<DistinctColumn>> {
        let Some(leaf) = self.leaf(column_name).filter(|leaf| self.has_dictionary(row_group, *leaf)) else {
            return Ok(None);
        };
        contained(|| self.chunk(row_group, leaf)?.distinct())
    }

    /// The same for one who may not read which row has which, and then calls [`Self::bytes_among`]: damage of the column does not count as met yet.
    pub fn distinct_ahead(&self, row_group: usize, column_name: &str) -> Result<Option<DistinctColumn>> {
        let Some(leaf) = self.leaf(column_name).filter(|leaf| self.has_dictionary(row_group, *leaf)) else {
            return Ok(None);
        };
        contained(|| self.unmet_chunk(row_group, leaf)?.distinct())
    }

    /// How many bytes of the file the dictionary of a top-level column takes; 0 if there is none.
    pub fn dictionary_bytes(&self, row_group: usize, column_name: &str) -> usize {
        let Some(leaf) = self.leaf(column_name).filter(|leaf| self.has_dictionary(row_group, *leaf)) else { return 0 };
        let places = self.file.index.chunk(row_group, leaf).places();
        places.ok().and_then(|places| places.front().map(|place| place.bytes)).unwrap_or_default()
    }

    /// Which of some rows of a row group have a text in a top-level column whose texts are written row by row. `None`: they are not, or some
    /// rows can't be read.
    pub fn with_text(
        &self,
        row_group: usize,
        column_name: &str,
        text: &str,
        among: &BooleanBuffer,
    ) -> Result<Option<Sought>> {
        match self.written_by_row(row_group, column_name) {
            Some(leaf) => contained(|| self.chunk(row_group, leaf)?.with_text(text, among)),
            None => Ok(None),
        }
    }

    /// The rows of a row group in pages that may hold a text, in a top-level column whose texts are written row by row. `None`: nobody knows.
    pub fn rows_that_may_have(&self, row_group: usize, column_name: &str, text: &str) -> Result<Option<BooleanBuffer>> {
        // What is written may be no UTF-8, and read as this.
        let is_plain = !text.contains(char::REPLACEMENT_CHARACTER);
        let Some(leaf) = self.written_by_row(row_group, column_name).filter(|_| is_plain) else { return Ok(None) };
        let Some(section) = self.file.index.chunk(row_group, leaf).page_filters() else { return Ok(None) };
        let hash = ColumnHash::of(column_name).of_text(text.as_bytes());
        self.watched(Part::PageFilters, self.rows_of_page_filters(row_group, leaf, section, hash)).map(Some)
    }

    fn rows_of_page_filters(
        &self,
        row_group: usize,
        leaf: usize,
        section: Section,
        hash: u64,
    ) -> Result<BooleanBuffer> {
        let stored = self.read_page_filters(section)?;
        let pages = self.file.index.chunk(row_group, leaf).places()?;
        let others = || Damaged::error(format!("{} are those of others", Part::PageFilters));
        let filters = PageFilters::of(&stored, pages.len()).ok_or_else(others)?;
        let mut rows = BooleanBufferBuilder::new(self.rows_of(row_group));
        for (number, page) in pages.iter().enumerate() {
            rows.append_n(page.rows.len(), filters.may_hold(number, hash));
        }
        if rows.len() == self.rows_of(row_group) { Ok(rows.finish()) } else { Err(others()) }
    }

    /// What some rows of a row group have in a top-level column of plain integers that are written row by row. `None`: they are not, or some
    /// rows can't be read.
    pub fn ints(&self, row_group: usize, column_name: &str, among: &BooleanBuffer) -> Result<Option<IntsOfRows>> {
        match self.written_by_row(row_group, column_name).filter(|_| self.has_ints_by_row(row_group, column_name)) {
            Some(leaf) => contained(|| self.chunk(row_group, leaf)?.ints(among)),
            None => Ok(None),
        }
    }

    /// Whether [`Self::with_text`] may tell.
    pub fn has_texts_by_row(&self, row_group: usize, column_name: &str) -> bool {
        let is_text = self.file.shape.arrow_type(column_name) == Some(&DataType::Utf8);
        is_text && self.written_by_row(row_group, column_name).is_some()
    }

    /// Whether [`Self::ints`] may tell.
    pub fn has_ints_by_row(&self, row_group: usize, column_name: &str) -> bool {
        let is_int = self.file.shape.arrow_type(column_name) == Some(&DataType::Int64);
        is_int && self.written_by_row(row_group, column_name).is_some()
    }

    /// Of what type the values of a top-level column are, if attributes may be of that.
    pub fn column_type(&self, column_name: &str) -> Option<ColumnType> {
        match self.file.shape.arrow_type(column_name)? {
            DataType::Utf8 => Some(ColumnType::String),
            DataType::Int64 => Some(ColumnType::Int),
            DataType::Float64 => Some(ColumnType::Double),
            DataType::Boolean => Some(ColumnType::Bool),
            _ => None,
        }
    }

    /// The leaf of a top-level column without a dictionary, if all rows of a row group can be read.
    fn written_by_row(&self, row_group: usize, column_name: &str) -> Option<usize> {
        let is_written_by_row = |leaf: &usize| {
            self.readable(row_group).is_none() && !self.file.index.chunk(row_group, *leaf).has_dictionary()
        };
        self.leaf(column_name).filter(is_written_by_row)
    }

    /// How many bytes of the file are read of a top-level column for some rows of a row group, beside its dictionary. To be asked before.
    pub fn bytes_among(&self, row_group: usize, column_name: &str, among: &BooleanBuffer) -> Result<u64> {
        match self.leaf(column_name) {
            Some(leaf) => Ok(self.chunk(row_group, leaf)?.bytes_among(among)),
            None => Ok(0),
        }
    }

    /// A top-level column of a row group as the numbers of its values, if the file numbers them.
    pub fn numbered(&self, row_group: usize, column_name: &str) -> Result<Option<NumberedColumn>> {
        self.distinct(row_group, column_name)?.map(DistinctColumn::numbered).transpose()
    }

    /// The rows of a row group that have a value in a top-level column; `None`: all have.
    pub fn present(&self, row_group: usize, column_name: &str) -> Result<Option<BooleanBuffer>> {
        match self.leaf(column_name) {
            Some(_) if self.readable(row_group).is_some() => {
                let rows = self.rows_of(row_group).max(1);
                let mut batches = self.scan(row_group, &[column_name], None, StringForm::View, rows)?;
                let batch = batches.next().transpose()?.ok_or_else(missing_rows)?;
                Ok(batch.column(0).nulls().map(|nulls| nulls.inner().clone()))
            }
            Some(leaf) => contained(|| self.chunk(row_group, leaf)?.present()),
            None => Ok(Some(BooleanBuffer::new_unset(self.rows_of(row_group)))),
        }
    }

    fn chunk(&self, row_group: usize, leaf: usize) -> Result<Chunk> {
        self.meet(row_group, [leaf]);
        self.unmet_chunk(row_group, leaf)
    }

    fn unmet_chunk(&self, row_group: usize, leaf: usize) -> Result<Chunk> {
        let described = self.file.shape.leaf(leaf);
        let (physical, optional) = (described.physical_type(), described.max_def_level() > 0);
        let pages = CheckedPages::new(self.file.clone(), row_group, leaf)?;
        Ok(Chunk { pages, physical, rows: self.rows_of(row_group), optional })
    }

    /// Our writer puts either all pages of a chunk on the dictionary or none. Where some can't be read, none count.
    fn has_dictionary(&self, row_group: usize, leaf: usize) -> bool {
        self.readable(row_group).is_none() && self.file.index.chunk(row_group, leaf).has_dictionary()
    }

    /// The leaf of a column that is no list, map or the like.
    fn leaf(&self, column_name: &str) -> Option<usize> {
        self.file.shape.only_leaf_of(column_name)
    }

    /// Columns of a row group (by name, all leaves of each; all of them if `None`).
    fn chunks<'a>(
        &'a self,
        row_group: usize,
        columns: Option<&'a [&'a str]>,
    ) -> impl Iterator<Item = (usize, IndexedChunk<'a>)> {
        let all = columns.is_none().then(|| 0..self.file.index.leaves());
        let named = columns.unwrap_or_default().iter().map(|name| self.file.shape.leaves_of(name));
        let leaves = all.into_iter().chain(named).flatten();
        leaves.map(move |leaf| (leaf, self.file.index.chunk(row_group, leaf)))
    }

    /// Bytes of columns (by name, all leaves of each; all of them if `None`) of a row group, as they are in the file.
    pub fn bytes_of(&self, row_group: usize, columns: Option<&[&str]>) -> u64 {
        self.chunks(row_group, columns).map(|(_, chunk)| chunk.stored_bytes()).fold(0, u64::saturating_add)
    }

    /// About what columns of a row group (as in [`Self::bytes_of`]) take in memory when all their rows are read, in bytes.
    ///
    /// A text inside a list or map is a copy for each row, even if the file has it once. How long these are together is
    /// guessed where the file doesn't say.
    pub fn bytes_in_memory(&self, row_group: usize, columns: Option<&[&str]>) -> u64 {
        const BYTES_PER_VALUE: u64 = 16;
        const TEXT_BYTES_GUESSED: u64 = 64;
        let bytes = |(leaf, chunk): (usize, IndexedChunk<'_>)| {
            let values = chunk.positions();
            let copies = self.file.shape.is_nested_text(leaf);
            let texts = || chunk.text_bytes().unwrap_or(TEXT_BYTES_GUESSED.saturating_mul(values));
            let stored = chunk.uncompressed_bytes().max(if copies { texts() } else { 0 });
            BYTES_PER_VALUE.saturating_mul(values).saturating_add(stored)
        };
        self.chunks(row_group, columns).map(bytes).fold(0, u64::saturating_add)
    }

    /// Reads columns (by name, all leaves of each) of a row group, only the selected rows, in batches.
    pub fn scan(
        &self,
        row_group: usize,
        columns: &[&str],
        selection: Option<RowSelection>,
        form: StringForm,
        batch_rows: usize,
    ) -> Result<Batches> {
        let places = self.file.shape.places(columns.iter().copied());
        self.read_places(row_group, places.into_iter(), selection, form, batch_rows)
    }

    /// Reads the columns that spans are made from.
    pub(super) fn read(
        &self,
        row_group: usize,
        projection: Projection<'_>,
        selection: Option<RowSelection>,
        form: StringForm,
        batch_rows: usize,
    ) -> Result<Batches> {
        let shape = &self.file.shape;
        match projection {
            Projection::All => self.read_places(row_group, shape.all_places(), selection, form, batch_rows),
            Projection::Only(names) => {
                let names = BASIC_COLUMNS.into_iter().chain(names.iter().map(String::as_str));
                self.read_places(row_group, shape.places(names).into_iter(), selection, form, batch_rows)
            }
        }
    }

    /// Reads columns, given ascending by their places.
    pub(super) fn read_places(
        &self,
        row_group: usize,
        places: impl Iterator<Item = usize>,
        selection: Option<RowSelection>,
        form: StringForm,
        batch_rows: usize,
    ) -> Result<Batches> {
        let as_dictionary = |leaf: usize| form == StringForm::Dictionary && self.has_dictionaries(leaf);
        let places: Vec<usize> = places.collect();
        if self.around.is_some() {
            self.meet(row_group, self.file.shape.leaves_of_all(places.iter().copied()));
        }
        let levels = contained(|| self.file.shape.levels(places.into_iter(), as_dictionary))?;
        if let Some(readable) = self.readable(row_group) {
            let all = self.read_with_nulls(row_group, &levels, selection, readable)?;
            return Ok(Rows::Made { all, next: 0, batch_rows }.into());
        }
        Ok(Rows::Read(self.reader(row_group, &levels, selection, batch_rows)?).into())
    }

    /// Whether a column has a dictionary in every row group that has values of it.
    fn has_dictionaries(&self, leaf: usize) -> bool {
        let mut chunks = (0..self.row_groups()).map(|row_group| self.file.index.chunk(row_group, leaf));
        chunks.all(|chunk| chunk.has_dictionary() || chunk.positions() == 0)
    }

    fn reader(
        &self,
        row_group: usize,
        levels: &FieldLevels,
        selection: Option<RowSelection>,
        batch_rows: usize,
    ) -> Result<RowReader> {
        RowReader::new(|cause| {
            let pages = RowGroupPages { file: self.file.clone(), row_group, cause };
            ParquetRecordBatchReader::try_new_with_row_groups(levels, &pages, batch_rows, selection)
        })
    }

    /// Some of the rows of a damaged row group that can be read. All of those are read, from the first that is wanted to the last: of
    /// rows that stand far apart the library reads every page between them.
    fn read_wanted(
        &self,
        row_group: usize,
        levels: &FieldLevels,
        wanted: &BooleanBuffer,
        readable: &BooleanBuffer,
    ) -> Result<RecordBatch> {
        const ROWS_AT_ONCE: usize = 8 * 1024;
        let (first, last) = (wanted.set_indices().next(), wanted.set_slices().last());
        let range = first.zip(last).map_or(0..0, |(first, (_, end))| first..end);
        let inside = readable.slice(range.start, range.len());
        let parts = inside.set_slices().map(|(begin, end)| range.start + begin..range.start + end);
        let selection = RowSelection::from_consecutive_ranges(parts, readable.len());
        let mut reader = self.reader(row_group, levels, Some(selection), ROWS_AT_ONCE)?;
        let schema = reader.schema();
        let mut rows = inside.set_indices().map(|row| range.start + row);
        let mut batches = Vec::new();
        while let Some(batch) = reader.next().transpose()? {
            let is_wanted: Vec<bool> = rows.by_ref().take(batch.num_rows()).map(|row| wanted.value(row)).collect();
            batches.push(filter_record_batch(&batch, &BooleanArray::from(is_wanted))?);
        }
        Ok(concat_batches(&schema, &batches)?)
    }

    /// The selected rows of a damaged row group: those that can't be read are null in every column.
    fn read_with_nulls(
        &self,
        row_group: usize,
        levels: &FieldLevels,
        selection: Option<RowSelection>,
        readable: &BooleanBuffer,
    ) -> Result<RecordBatch> {
        let selected = match selection {
            Some(selection) => mask_of(&selection, readable.len()),
            None => BooleanBuffer::new_set(readable.len()),
        };
        let wanted = &selected & readable;
        let read = self.read_wanted(row_group, levels, &wanted, readable)?;
        let mut next = 0u32;
        let places = selected.set_indices().map(|row| {
            wanted.value(row).then(|| {
                next += 1;
                next - 1
            })
        });
        let places: UInt32Array = places.collect();
        if next as usize != read.num_rows() {
            return Err(missing_rows());
        }
        let columns = read.columns().iter().map(|column| take(column, &places, None)).collect::<Result<Vec<_>, _>>()?;
        let schema = read.schema();
        let nullable = schema.fields().iter().map(|field| Arc::new(field.as_ref().clone().with_nullable(true)));
        let schema = Schema::new(nullable.collect::<Fields>());
        let options = RecordBatchOptions::new().with_row_count(Some(places.len()));
        Ok(RecordBatch::try_new_with_options(Arc::new(schema), columns, &options)?)
    }
}
