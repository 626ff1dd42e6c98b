//! Opens stored files, finds traces in them and scans their columns.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use arrow::array::{
    Array, BooleanArray, BooleanBufferBuilder, FixedSizeBinaryArray, RecordBatch, RecordBatchOptions,
    RecordBatchReader, UInt32Array,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Fields, Schema};
use arrow::error::ArrowError;
use bytes::Bytes;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, RowSelection, RowSelector};
use parquet::arrow::{FieldLevels, ProjectionMask, parquet_to_arrow_field_levels, parquet_to_arrow_schema};
use parquet::basic::Type as Physical;
use parquet::column::page::{Page, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::reader::{ChunkReader, Length};
use parquet::schema::types::SchemaDescriptor;
use tracehouse_model::{SpanBatch, SpanId, TraceId};

use super::contents::FileContents;
use super::damage::{Damage, Damaged, DamagedPage, is_damage};
use super::footer::{Expected, Footer};
use super::layout::{Layout, column};
use super::numbered::{Chunk, DistinctValues, NumberedColumn};
use super::pages::{CheckedPages, PageFile, RowGroupPages};
use super::rows::{parent_ids, parent_ids_in, parent_reach, to_spans};
use super::seal::{Section, Sections};
use super::source::FileSource;
use super::trace_filter::TraceFilter;
use super::trace_rows::TraceRows;

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

/// A file whose footer has been read. Cheap to share; reads may run from many threads at once.
pub struct OpenFile {
    footer: Footer,
    /// The fields of the file's schema as Arrow has them.
    arrow_fields: OnceLock<Fields>,
    /// Strings as views: no work for values that are not looked at.
    views: OnceLock<Form>,
    /// Strings as the file's own dictionaries: conditions are evaluated once for each distinct value.
    dictionaries: OnceLock<Form>,
    /// What can't be read of it, once that was found out.
    damage: OnceLock<Arc<Damage>>,
}

/// The Arrow types that columns are read as.
struct Form {
    fields: Fields,
    /// Of all columns: worked out once, as there are many.
    all: OnceLock<FieldLevels>,
    /// The same in two parts, for two threads.
    halves: OnceLock<[FieldLevels; 2]>,
}

impl Form {
    fn all(&self, schema: &SchemaDescriptor) -> Result<&FieldLevels> {
        if let Some(known) = self.all.get() {
            return Ok(known);
        }
        let all = parquet_to_arrow_field_levels(schema, ProjectionMask::all(), Some(&self.fields))?;
        Ok(self.all.get_or_init(|| all))
    }

    fn halves(&self, schema: &SchemaDescriptor) -> Result<&[FieldLevels; 2]> {
        if let Some(known) = self.halves.get() {
            return Ok(known);
        }
        let half = |odd: bool| {
            let roots = (0..self.fields.len()).filter(|root| (root % 2 == 1) == odd);
            parquet_to_arrow_field_levels(schema, ProjectionMask::roots(schema, roots), Some(&self.fields))
        };
        let halves = [half(false)?, half(true)?];
        Ok(self.halves.get_or_init(|| halves))
    }
}

/// Uncompressed names of a file may take no more.
const NAMES_BYTES_MAX: u64 = 64 << 20;

/// What tells the parent of each row.
const PARENT_COLUMNS: [&str; 3] = [column::SPAN_ID, column::PARENT_SPAN_ID, column::PARENT_OFFSET];

/// In which form [`OpenFile::scan`] gives top-level string columns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StringForm {
    View,
    /// `Dictionary(Int32, Utf8)` where the file has a dictionary in every row group, else a view.
    Dictionary,
}

/// What [`OpenFile::scan`] reads. Ends after an error.
pub struct Batches {
    rows: Rows,
    failed: bool,
}

enum Rows {
    Read(ParquetRecordBatchReader),
    /// Of a row group that is damaged: the rows that can't be read are null.
    Made {
        all: RecordBatch,
        next: usize,
        batch_rows: usize,
    },
}

impl Rows {
    fn next(&mut self) -> Option<std::result::Result<RecordBatch, ArrowError>> {
        match self {
            Rows::Read(reader) => reader.next(),
            Rows::Made { all, next, batch_rows } => {
                let rows = (all.num_rows() - *next).min(*batch_rows);
                let batch = all.slice(*next, rows);
                *next += rows;
                (rows > 0).then_some(Ok(batch))
            }
        }
    }
}

impl Iterator for Batches {
    type Item = std::result::Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = contained(|| Ok(self.rows.next())).unwrap_or_else(|error| Some(Err(error.into())));
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

/// Damaged bytes can make the decoders panic: to whoever reads that is an error like any other.
fn contained<T>(read: impl FnOnce() -> Result<T>) -> Result<T> {
    let panicked = |_| Err(Damaged::error("what the file holds makes its decoder panic"));
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)).unwrap_or_else(panicked)
}

impl OpenFile {
    pub(crate) fn open(source: FileSource, expected: &Expected<'_>) -> Result<Self> {
        let footer = contained(|| Footer::read(source, expected))?;
        Ok(Self {
            footer,
            arrow_fields: OnceLock::new(),
            views: OnceLock::new(),
            dictionaries: OnceLock::new(),
            damage: OnceLock::new(),
        })
    }

    /// From now on rows that can't be read come as nulls; [`OpenFile::readable`] tells which they are. The first call counts.
    pub(crate) fn set_damage(&self, damage: Arc<Damage>) {
        let _ = self.damage.set(damage);
    }

    /// The rows of a row group of which everything can be read; `None`: all.
    pub fn readable(&self, row_group: usize) -> Option<&BooleanBuffer> {
        self.damage.get()?.readable(row_group)
    }

    /// How many rows of the file can't be read, as far as that is known.
    pub fn unreadable_rows(&self) -> u64 {
        self.damage.get().map_or(0, |damage| damage.rows())
    }

    /// Reads every page of the file and finds out which are damaged. Errors are those of the machine.
    pub(crate) fn verify(&self) -> Result<Damage> {
        let mut damaged = Vec::new();
        for row_group in 0..self.row_groups() {
            for leaf in 0..self.metadata().row_group(row_group).num_columns() {
                self.verify_chunk(row_group, leaf, &mut damaged)?;
            }
        }
        let rows: Vec<usize> = (0..self.row_groups()).map(|row_group| self.rows_of(row_group)).collect();
        Ok(Damage::of(damaged, &rows))
    }

    fn verify_chunk(&self, row_group: usize, leaf: usize, damaged: &mut Vec<DamagedPage>) -> Result<()> {
        let mut pages = CheckedPages::new(self.page_file(), row_group, leaf)?;
        let places: Vec<_> = pages.places().cloned().collect();
        for place in places {
            match contained(|| pages.decoded(&place)) {
                Ok(_) => {}
                Err(error) if is_damage(&error) => damaged.push(DamagedPage {
                    row_group,
                    column: self.metadata().row_group(row_group).column(leaf).column_path().string(),
                    rows: place.rows,
                }),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Its own id, whatever its name; `None` if it is of layout version 1.
    pub(crate) fn file_id(&self) -> Option<&str> {
        self.footer.file_id()
    }

    /// Bytes of the file.
    pub(crate) fn bytes(&self) -> u64 {
        self.footer.source.len()
    }

    /// How many bytes at its end are read to open it; 0 if it is of layout version 1.
    pub(crate) fn tail_bytes(&self) -> u32 {
        u32::try_from(self.footer.tail_bytes).unwrap_or(0)
    }

    /// What the file says of itself; `None` if it is of layout version 1, which says nothing.
    pub(crate) fn sections(&self) -> Option<&Sections> {
        self.footer.sections.as_ref()
    }

    /// The names that occur inside, read from the file; `None` if it is of layout version 1.
    pub(crate) fn read_contents(&self) -> Result<Option<FileContents>> {
        let Some(sections) = self.sections() else { return Ok(None) };
        let packed = self.read_section(sections.names, "the names")?;
        let wrong = |what: &str| Damaged::error(format!("the names can't be read: {what}"));
        let length = zstd::zstd_safe::get_frame_content_size(&packed).ok().flatten();
        let length = length.filter(|length| *length <= NAMES_BYTES_MAX).ok_or_else(|| wrong("they are too many"))?;
        let names = zstd::bulk::decompress(&packed, length as usize).map_err(|error| wrong(&error.to_string()))?;
        serde_json::from_slice(&names).map(Some).map_err(|error| wrong(&error.to_string()))
    }

    /// The filter over trace ids, read from the file; `None` if it is of layout version 1.
    pub(crate) fn read_filter(&self) -> Result<Option<TraceFilter>> {
        let Some(sections) = self.sections() else { return Ok(None) };
        let bytes = self.read_section(sections.trace_filter, "the trace filter")?;
        TraceFilter::from_bytes(&bytes)
            .map(Some)
            .ok_or_else(|| Damaged::error("the trace filter has an impossible size"))
    }

    fn read_section(&self, section: Section, what: &str) -> Result<Bytes> {
        let read = || self.footer.source.get_bytes(section.offset, section.bytes as usize);
        let is_right = |bytes: &Bytes| crc32c::crc32c(bytes) == section.crc32c;
        let bytes = read()?;
        if is_right(&bytes) {
            return Ok(bytes);
        }
        let again = read()?;
        if is_right(&again) { Ok(again) } else { Err(Damaged::error(format!("{what} have another checksum"))) }
    }

    /// About what the footer takes in memory, with all that may yet be made of it.
    pub(crate) fn memory_bytes(&self) -> usize {
        /// Of a column in one of the Arrow forms.
        const FORM_BYTES_PER_LEAF: usize = 400;
        const FORMS: usize = 3;
        let leaves = self.metadata().file_metadata().schema_descr().num_columns();
        self.metadata().memory_size() + self.footer.tail_bytes + FORMS * leaves * FORM_BYTES_PER_LEAF
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.footer.metadata
    }

    fn page_file(&self) -> PageFile {
        PageFile {
            source: self.footer.source.clone(),
            metadata: self.footer.metadata.clone(),
            checksums: self.footer.checksums.clone(),
        }
    }

    fn form(&self, form: StringForm) -> Result<&Form> {
        let kept = match form {
            StringForm::View => &self.views,
            StringForm::Dictionary => &self.dictionaries,
        };
        if let Some(known) = kept.get() {
            return Ok(known);
        }
        let made = self.make_form(form)?;
        Ok(kept.get_or_init(|| made))
    }

    fn arrow_fields(&self) -> Result<&Fields> {
        if let Some(known) = self.arrow_fields.get() {
            return Ok(known);
        }
        let schema = self.metadata().file_metadata().schema_descr();
        let fields = parquet_to_arrow_schema(schema, None)?.fields().clone();
        Ok(self.arrow_fields.get_or_init(|| fields))
    }

    fn make_form(&self, form: StringForm) -> Result<Form> {
        let string_type = |name: &str| match form {
            StringForm::Dictionary if has_dictionaries(self.metadata(), name) => {
                DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
            }
            _ => DataType::Utf8View,
        };
        let typed = self.arrow_fields()?.iter().map(|field| {
            if field.data_type() != &DataType::Utf8 {
                return field.clone();
            }
            Arc::new(Field::new(field.name(), string_type(field.name()), field.is_nullable()))
        });
        Ok(Form { fields: typed.collect(), all: OnceLock::new(), halves: OnceLock::new() })
    }

    pub fn layout(&self) -> &Layout {
        &self.footer.layout
    }

    pub fn row_groups(&self) -> usize {
        self.metadata().num_row_groups()
    }

    pub fn rows_of(&self, row_group: usize) -> usize {
        self.metadata().row_group(row_group).num_rows() as usize
    }

    /// How many rows all row groups have.
    pub(crate) fn rows(&self) -> u64 {
        (0..self.row_groups()).map(|row_group| self.rows_of(row_group) as u64).sum()
    }

    /// About how many bytes the columns take before compression.
    pub(crate) fn uncompressed_bytes(&self) -> u64 {
        self.metadata().row_groups().iter().map(|row_group| row_group.total_byte_size().max(0) as u64).sum()
    }

    /// Minimum and maximum of an `INT64` column in a row group, if the file says.
    pub fn int_range(&self, row_group: usize, column_name: &str) -> Option<(i64, i64)> {
        let leaf = self.leaf(column_name)?;
        match self.metadata().row_group(row_group).column(leaf).statistics()? {
            parquet::file::statistics::Statistics::Int64(values) => Some((*values.min_opt()?, *values.max_opt()?)),
            _ => None,
        }
    }

    /// The text that every row of a row group has in a column, if the file says that it is one and the same.
    pub fn only_text(&self, row_group: usize, column_name: &str) -> Option<&str> {
        let statistics = self.metadata().row_group(row_group).column(self.leaf(column_name)?).statistics()?;
        let parquet::file::statistics::Statistics::ByteArray(texts) = statistics else { return None };
        // Our writer gives minimum and maximum whole or not at all.
        let (min, max) = (texts.min_bytes_opt()?, texts.max_bytes_opt()?);
        (min == max && texts.null_count_opt() == Some(0)).then(|| std::str::from_utf8(min).ok())?
    }

    /// The distinct values of a top-level column in a row group, if the file lists them apart from its rows.
    pub fn distinct_values(&self, row_group: usize, column_name: &str) -> Result<Option<DistinctValues>> {
        let Some(leaf) = self.leaf(column_name).filter(|leaf| self.has_dictionary(row_group, *leaf)) else {
            return Ok(None);
        };
        let physical = self.metadata().row_group(row_group).column(leaf).column_type();
        let mut pages = self.pages_of(row_group, leaf)?;
        let Some(Page::DictionaryPage { buf, num_values, .. }) = pages.get_next_page()? else { return Ok(None) };
        contained(|| DistinctValues::read(physical, &buf, num_values as usize))
    }

    /// A top-level column of a row group as the numbers of its values, if the file numbers them.
    pub fn numbered(&self, row_group: usize, column_name: &str) -> Result<Option<NumberedColumn>> {
        let Some(leaf) = self.leaf(column_name).filter(|leaf| self.has_dictionary(row_group, *leaf)) else {
            return Ok(None);
        };
        contained(|| self.chunk(row_group, leaf)?.numbered())
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
        let physical = self.metadata().row_group(row_group).column(leaf).column_type();
        let optional = self.metadata().file_metadata().schema_descr().column(leaf).max_def_level() > 0;
        Ok(Chunk { pages: self.pages_of(row_group, leaf)?, physical, rows: self.rows_of(row_group), optional })
    }

    /// Our writer puts either all pages of a chunk on the dictionary or none. Where some can't be read, none count.
    fn has_dictionary(&self, row_group: usize, leaf: usize) -> bool {
        if self.readable(row_group).is_some() {
            return false;
        }
        self.metadata().row_group(row_group).column(leaf).dictionary_page_offset().is_some()
    }

    fn pages_of(&self, row_group: usize, leaf: usize) -> Result<Box<dyn PageReader>> {
        Ok(Box::new(CheckedPages::new(self.page_file(), row_group, leaf)?))
    }

    /// The leaf of a column that is no list, map or the like.
    fn leaf(&self, column_name: &str) -> Option<usize> {
        let columns = self.metadata().file_metadata().schema_descr().columns();
        columns.iter().position(|leaf| leaf.path().parts() == [column_name])
    }

    /// Bytes of columns (by name, all leaves of each; all of them if `None`) of a row group, as they are in the file.
    pub fn bytes_of(&self, row_group: usize, columns: Option<&[&str]>) -> u64 {
        let chunks = self.metadata().row_group(row_group).columns().iter();
        let wanted = chunks
            .filter(|chunk| columns.is_none_or(|columns| columns.contains(&chunk.column_path().parts()[0].as_str())));
        wanted.map(|chunk| u64::try_from(chunk.compressed_size()).unwrap_or(0)).sum()
    }

    /// About what columns of a row group (as in [`Self::bytes_of`]) take in memory when all their rows are read, in bytes.
    ///
    /// A text inside a list or map is a copy for each row, even if the file has it once. How long these are together is
    /// guessed where the file doesn't say.
    pub fn bytes_in_memory(&self, row_group: usize, columns: Option<&[&str]>) -> u64 {
        const BYTES_PER_VALUE: u64 = 16;
        const TEXT_BYTES_GUESSED: u64 = 64;
        let chunks = self.metadata().row_group(row_group).columns().iter();
        let wanted = chunks
            .filter(|chunk| columns.is_none_or(|columns| columns.contains(&chunk.column_path().parts()[0].as_str())));
        let bytes = |chunk: &ColumnChunkMetaData| {
            let [values, stored] =
                [chunk.num_values(), chunk.uncompressed_size()].map(|number| u64::try_from(number).unwrap_or(0));
            let copies = chunk.column_path().parts().len() > 1 && chunk.column_type() == Physical::BYTE_ARRAY;
            let texts = || {
                let known = chunk.unencoded_byte_array_data_bytes().and_then(|bytes| u64::try_from(bytes).ok());
                known.unwrap_or(if chunk.dictionary_page_offset().is_some() { TEXT_BYTES_GUESSED * values } else { 0 })
            };
            BYTES_PER_VALUE * values + stored.max(if copies { texts() } else { 0 })
        };
        wanted.map(bytes).sum()
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
        let schema = self.metadata().file_metadata().schema_descr();
        let leaves = schema
            .columns()
            .iter()
            .enumerate()
            .filter(|(_, leaf)| columns.contains(&leaf.path().parts()[0].as_str()))
            .map(|(number, _)| number);
        let projection = ProjectionMask::leaves(schema, leaves);
        self.read(row_group, Some(projection), selection, form, batch_rows)
    }

    /// Reads columns of a row group; all of them without a projection.
    fn read(
        &self,
        row_group: usize,
        projection: Option<ProjectionMask>,
        selection: Option<RowSelection>,
        form: StringForm,
        batch_rows: usize,
    ) -> Result<Batches> {
        let form = self.form(form)?;
        let schema = self.metadata().file_metadata().schema_descr();
        let Some(projection) = projection else {
            return self.read_levels(row_group, form.all(schema)?, selection, batch_rows);
        };
        let levels = parquet_to_arrow_field_levels(schema, projection, Some(&form.fields))?;
        self.read_levels(row_group, &levels, selection, batch_rows)
    }

    fn read_levels(
        &self,
        row_group: usize,
        levels: &FieldLevels,
        selection: Option<RowSelection>,
        batch_rows: usize,
    ) -> Result<Batches> {
        if let Some(readable) = self.readable(row_group) {
            let all = self.read_with_nulls(row_group, levels, selection, readable)?;
            return Ok(Batches { rows: Rows::Made { all, next: 0, batch_rows }, failed: false });
        }
        let reader = self.reader(row_group, levels, selection, batch_rows)?;
        Ok(Batches { rows: Rows::Read(reader), failed: false })
    }

    fn reader(
        &self,
        row_group: usize,
        levels: &FieldLevels,
        selection: Option<RowSelection>,
        batch_rows: usize,
    ) -> Result<ParquetRecordBatchReader> {
        let pages = RowGroupPages { file: self.page_file(), row_group };
        contained(|| ParquetRecordBatchReader::try_new_with_row_groups(levels, &pages, batch_rows, selection))
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
        let selection = RowSelection::from_filters(&[BooleanArray::new(wanted.clone(), None)]);
        let mut reader = self.reader(row_group, levels, Some(selection), wanted.count_set_bits().max(1))?;
        let schema = reader.schema();
        let read = contained(|| Ok(reader.next()))?.transpose()?;
        let read = read.unwrap_or_else(|| RecordBatch::new_empty(schema));
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

    /// Where the spans of a trace stand: row groups, and rows in each.
    pub fn find_trace(&self, trace: TraceId) -> Result<Vec<(usize, Range<usize>)>> {
        contained(|| self.find_trace_in_pages(trace))
    }

    fn find_trace_in_pages(&self, trace: TraceId) -> Result<Vec<(usize, Range<usize>)>> {
        let mut found = Vec::new();
        for row_group in 0..self.row_groups() {
            let Some(pages) = self.pages_that_may_hold(row_group, trace)? else { continue };
            let reader =
                self.scan(row_group, &[column::TRACE_ID], Some(select(&pages)), StringForm::View, pages.len())?;
            let (mut begin, mut count, mut row) = (0, 0, pages.start);
            for batch in reader {
                let batch = batch?;
                let ids = batch.column(0).as_any().downcast_ref::<FixedSizeBinaryArray>().ok_or_else(wrong_column)?;
                for at in 0..ids.len() {
                    // The id of a row that can't be read is unknown: rows of a trace stand together.
                    if ids.value(at) == trace.0 {
                        if count == 0 {
                            begin = row;
                        }
                        count += 1;
                    }
                    row += 1;
                }
            }
            if count > 0 {
                found.extend(self.readable_of(row_group, begin..begin + count).map(|rows| (row_group, rows)));
            }
        }
        Ok(found)
    }

    /// The parts of some rows that can be read.
    fn readable_of(&self, row_group: usize, rows: Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let parts: Vec<Range<usize>> = match self.readable(row_group) {
            _ if rows.is_empty() => Vec::new(),
            None => vec![rows],
            Some(readable) => {
                let inside = readable.slice(rows.start, rows.len());
                inside.set_slices().map(|(begin, end)| rows.start + begin..rows.start + end).collect()
            }
        };
        parts.into_iter()
    }

    /// Where all traces of each row group stand.
    pub fn trace_rows(&self) -> Result<Vec<TraceRows>> {
        let of_row_group = |row_group: usize| {
            let mut found = TraceRows::default();
            let rows = self.rows_of(row_group).max(1);
            for batch in self.scan(row_group, &[column::TRACE_ID], None, StringForm::View, rows)? {
                let batch = batch?;
                let ids = batch.column(0).as_any().downcast_ref().ok_or_else(wrong_column)?;
                found.push(ids, self.readable(row_group))?;
            }
            Ok(found)
        };
        (0..self.row_groups()).map(of_row_group).collect()
    }

    /// The spans of some traces, which are given sorted, in the order of the file: at most so many, and how many were left
    /// out for that. Where the traces stand is looked up unless it is known.
    pub fn read_traces(
        &self,
        traces: &[TraceId],
        known: Option<&[TraceRows]>,
        columns: Projection<'_>,
        spans_max: usize,
    ) -> Result<(SpanBatch, u64)> {
        let mut spans = SpanBatch::new();
        let (mut left, mut left_out) = (spans_max, 0);
        for row_group in 0..self.row_groups() {
            let found = match known.and_then(|known| known.get(row_group)) {
                Some(known) => traces.iter().filter_map(|&trace| known.of(trace)).collect(),
                None => contained(|| self.rows_of_traces(row_group, traces))?,
            };
            let kept = found.into_iter().map(|rows| {
                let taken = rows.len().min(left);
                left -= taken;
                left_out += (rows.len() - taken) as u64;
                rows.start..rows.start + taken
            });
            let kept: Vec<_> = kept.flat_map(|rows| self.readable_of(row_group, rows)).collect();
            let part = self.read_ranges(row_group, &joined(&kept), columns)?;
            if spans.is_empty() { spans = part } else { spans.append(&part) }
        }
        Ok((spans, left_out))
    }

    /// Where the spans of some traces stand in a row group.
    fn rows_of_traces(&self, row_group: usize, traces: &[TraceId]) -> Result<Vec<Range<usize>>> {
        let mut found: Vec<Range<usize>> = Vec::new();
        let mut last = None;
        let pages = self.pages_that_may_hold_any(row_group, traces);
        if pages.is_empty() {
            return Ok(found);
        }
        let rows: usize = pages.iter().map(Range::len).sum();
        let selection = RowSelection::from_consecutive_ranges(pages.iter().cloned(), self.rows_of(row_group));
        let reader = self.scan(row_group, &[column::TRACE_ID], Some(selection), StringForm::View, rows)?;
        let mut row_numbers = pages.into_iter().flatten();
        let mut wanted = traces;
        for batch in reader {
            let batch = batch?;
            let ids = batch.column(0).as_any().downcast_ref::<FixedSizeBinaryArray>().ok_or_else(wrong_column)?;
            for (id, row) in ids.iter().zip(&mut row_numbers) {
                // Not to be read, but a row.
                let Some(id) = id else { continue };
                while wanted.first().is_some_and(|first| first.0.as_slice() < id) {
                    wanted = &wanted[1..];
                }
                let Some(&trace) = wanted.first().filter(|first| first.0.as_slice() == id) else { continue };
                match found.last_mut() {
                    Some(rows) if last == Some(trace) && rows.end == row => rows.end += 1,
                    _ => found.push(row..row + 1),
                }
                last = Some(trace);
            }
        }
        Ok(found)
    }

    /// The rows of the pages of a row group whose range of trace ids includes one of the traces, which are sorted.
    fn pages_that_may_hold_any(&self, row_group: usize, traces: &[TraceId]) -> Vec<Range<usize>> {
        let metadata = self.metadata();
        let all = std::iter::once(0..self.rows_of(row_group)).filter(|rows| !rows.is_empty());
        let (Some(index), Some(offsets)) = (metadata.column_index(), metadata.offset_index()) else {
            return all.collect();
        };
        let ColumnIndexMetaData::FIXED_LEN_BYTE_ARRAY(pages) = &index[row_group][0] else { return all.collect() };
        let locations = offsets[row_group][0].page_locations();
        let holds = |page: usize| {
            let (Some(min), Some(max)) = (pages.min_value(page), pages.max_value(page)) else { return true };
            let first = traces.partition_point(|trace| trace.0.as_slice() < min);
            traces.get(first).is_some_and(|trace| trace.0.as_slice() <= max)
        };
        let rows = |page: usize| {
            let end = locations.get(page + 1).map_or(self.rows_of(row_group), |next| next.first_row_index as usize);
            locations[page].first_row_index as usize..end
        };
        (0..locations.len()).filter(|&page| holds(page)).map(rows).collect()
    }

    /// The rows of the pages of a row group whose range of trace ids includes the trace.
    fn pages_that_may_hold(&self, row_group: usize, trace: TraceId) -> Result<Option<Range<usize>>> {
        let metadata = self.metadata();
        let statistics = metadata.row_group(row_group).column(0).statistics();
        let outside = statistics.is_some_and(|range| {
            range.min_bytes_opt().is_some_and(|min| trace.0.as_slice() < min)
                || range.max_bytes_opt().is_some_and(|max| trace.0.as_slice() > max)
        });
        if outside {
            return Ok(None);
        }
        let (Some(index), Some(offsets)) = (metadata.column_index(), metadata.offset_index()) else {
            return Ok(Some(0..self.rows_of(row_group)));
        };
        let ColumnIndexMetaData::FIXED_LEN_BYTE_ARRAY(pages) = &index[row_group][0] else {
            return Ok(Some(0..self.rows_of(row_group)));
        };
        let locations = offsets[row_group][0].page_locations();
        let holds = |page: usize| {
            pages.min_value(page).is_none_or(|min| min <= trace.0.as_slice())
                && pages.max_value(page).is_none_or(|max| max >= trace.0.as_slice())
        };
        let holding: Vec<usize> = (0..locations.len()).filter(|&page| holds(page)).collect();
        let (Some(&first), Some(&last)) = (holding.first(), holding.last()) else { return Ok(None) };
        let end = locations.get(last + 1).map_or(self.rows_of(row_group), |next| next.first_row_index as usize);
        Ok(Some(locations[first].first_row_index as usize..end))
    }

    /// All spans of a trace in this file, with all that belongs to them; at most `spans_max`.
    pub fn read_trace(&self, trace: TraceId, spans_max: usize) -> Result<Option<SpanBatch>> {
        let mut spans = SpanBatch::new();
        for (row_group, rows) in self.find_trace(trace)? {
            let left = spans_max.saturating_sub(spans.len());
            let rows = rows.start..rows.end.min(rows.start.saturating_add(left));
            if rows.is_empty() {
                break;
            }
            let part = self.read_rows(row_group, rows, Projection::All)?;
            if spans.is_empty() { spans = part } else { spans.append(&part) }
        }
        Ok((!spans.is_empty()).then_some(spans))
    }

    /// Contiguous rows of a row group as spans. Parents outside the rows are looked up.
    pub fn read_rows(&self, row_group: usize, rows: Range<usize>, columns: Projection<'_>) -> Result<SpanBatch> {
        if rows.is_empty() {
            return Ok(SpanBatch::new());
        }
        let batch = match self.projection(columns) {
            None => self.read_all_columns(row_group, &rows)?,
            Some(projection) => {
                let mut reader =
                    self.read(row_group, Some(projection), Some(select(&rows)), StringForm::View, rows.len())?;
                reader.next().transpose()?.ok_or_else(missing_rows)?
            }
        };
        contained(|| {
            let parents = self.parents_of(&batch, row_group, rows)?;
            to_spans(&batch, &self.footer.layout, &parents)
        })
    }

    /// Some ranges of rows of a row group, ascending and apart, as spans. Each page is decoded once.
    pub(crate) fn read_ranges(
        &self,
        row_group: usize,
        ranges: &[Range<usize>],
        columns: Projection<'_>,
    ) -> Result<SpanBatch> {
        if ranges.len() > 1 {
            let selection = RowSelection::from_consecutive_ranges(ranges.iter().cloned(), self.rows_of(row_group));
            let (projection, selected) = (self.projection(columns), selection.row_count());
            let mut reader = self.read(row_group, projection, Some(selection), StringForm::View, selected)?;
            let batch = reader.next().transpose()?.ok_or_else(missing_rows)?;
            let parents = contained(|| parent_ids_in(&batch, ranges))?;
            if let Some(parents) = parents {
                return contained(|| to_spans(&batch, &self.footer.layout, &parents));
            }
        }
        let mut spans = SpanBatch::new();
        for range in ranges {
            let part = self.read_rows(row_group, range.clone(), columns)?;
            if spans.is_empty() { spans = part } else { spans.append(&part) }
        }
        Ok(spans)
    }

    /// All columns of some rows, read by two threads: there are about a hundred, and somebody waits for the trace.
    fn read_all_columns(&self, row_group: usize, rows: &Range<usize>) -> Result<RecordBatch> {
        let read = |levels: &FieldLevels| {
            let mut reader = self.read_levels(row_group, levels, Some(select(rows)), rows.len())?;
            reader.next().transpose()?.ok_or_else(missing_rows)
        };
        let [even, odd] = self.form(StringForm::View)?.halves(self.metadata().file_metadata().schema_descr())?;
        let (even, odd) = std::thread::scope(|scope| {
            let odd = scope.spawn(|| read(odd));
            (read(even), odd.join())
        });
        let odd = odd.unwrap_or_else(|_| Err(ParquetError::General("reading columns panicked".into())))?;
        let even = even?;
        let fields = even.schema().fields().iter().chain(odd.schema().fields()).cloned().collect::<Vec<_>>();
        let columns = even.columns().iter().chain(odd.columns()).cloned().collect();
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }

    fn projection(&self, columns: Projection<'_>) -> Option<ProjectionMask> {
        let Projection::Only(names) = columns else { return None };
        let schema = self.metadata().file_metadata().schema_descr();
        let leaves = schema.columns().iter().enumerate().filter(|(_, leaf)| {
            let name = leaf.path().parts()[0].as_str();
            BASIC_COLUMNS.contains(&name) || names.iter().any(|wanted| wanted == name)
        });
        Some(ProjectionMask::leaves(schema, leaves.map(|(number, _)| number)))
    }

    /// The parent of each row of a batch that was read from these rows.
    fn parents_of(&self, batch: &RecordBatch, row_group: usize, rows: Range<usize>) -> Result<Vec<SpanId>> {
        let reach = parent_reach(batch)?;
        if reach == (0..batch.num_rows() as i64) {
            return parent_ids(batch, 0..batch.num_rows());
        }
        let inside = 0..self.rows_of(row_group) as i64;
        let begin = (rows.start as i64 + reach.start).max(inside.start) as usize;
        let end = (rows.start as i64 + reach.end).min(inside.end) as usize;
        let window = select(&(begin..end));
        let mut ids = self.scan(row_group, &PARENT_COLUMNS, Some(window), StringForm::View, end - begin)?;
        let window = ids.next().transpose()?.ok_or_else(wrong_column)?;
        let first = rows.start - begin;
        parent_ids(&window, first..first + batch.num_rows())
    }

    /// The parent of each row of a row group; [`SpanId::NONE`] for a root.
    pub fn parents(&self, row_group: usize) -> Result<Vec<SpanId>> {
        let rows = self.rows_of(row_group);
        let mut parents = Vec::with_capacity(rows);
        for batch in self.scan(row_group, &PARENT_COLUMNS, None, StringForm::View, rows.max(1))? {
            let batch = batch?;
            parents = contained(|| parent_ids(&batch, 0..batch.num_rows()))?;
        }
        Ok(parents)
    }

    /// Reads the whole file in order, a bounded number of rows at a time.
    pub(crate) fn stream(self: &Arc<Self>, batch_rows: usize) -> SpanStream {
        SpanStream { file: self.clone(), next_row_group: 0, current: None, batch_rows }
    }
}

/// The spans of a file from first to last.
pub(crate) struct SpanStream {
    file: Arc<OpenFile>,
    next_row_group: usize,
    current: Option<StreamedRowGroup>,
    batch_rows: usize,
}

struct StreamedRowGroup {
    reader: Batches,
    parents: Vec<SpanId>,
    next_row: usize,
}

impl Iterator for SpanStream {
    type Item = Result<SpanBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(current) = &mut self.current {
                match current.reader.next() {
                    Some(Ok(batch)) => {
                        let rows = current.next_row..current.next_row + batch.num_rows();
                        current.next_row = rows.end;
                        let parents = &current.parents;
                        return Some(contained(|| to_spans(&batch, &self.file.footer.layout, &parents[rows])));
                    }
                    Some(Err(error)) => return Some(Err(error.into())),
                    None => self.current = None,
                }
            }
            if self.next_row_group == self.file.row_groups() {
                return None;
            }
            match contained(|| self.open_row_group(self.next_row_group)) {
                Ok(opened) => self.current = Some(opened),
                Err(error) => return Some(Err(error)),
            }
            self.next_row_group += 1;
        }
    }
}

impl SpanStream {
    fn open_row_group(&self, row_group: usize) -> Result<StreamedRowGroup> {
        let parents = self.file.parents(row_group)?;
        let reader = self.file.read(row_group, None, None, StringForm::Dictionary, self.batch_rows)?;
        Ok(StreamedRowGroup { reader, parents, next_row: 0 })
    }
}

/// Ascending ranges, with those as one that touch each other.
fn joined(ranges: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut joined: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => joined.push(range.clone()),
        }
    }
    joined
}

fn mask_of(selection: &RowSelection, rows: usize) -> BooleanBuffer {
    let mut mask = BooleanBufferBuilder::new(rows);
    for part in selection.iter() {
        mask.append_n(part.row_count, !part.skip);
    }
    mask.append_n(rows.saturating_sub(mask.len()), false);
    mask.finish()
}

fn select(rows: &Range<usize>) -> RowSelection {
    RowSelection::from(vec![RowSelector::skip(rows.start), RowSelector::select(rows.len())])
}

fn missing_rows() -> ParquetError {
    ParquetError::General("the file has fewer rows than its footer says".into())
}

pub(super) fn wrong_column() -> ParquetError {
    ParquetError::General("a column has another type than its file's layout says".into())
}

fn has_dictionaries(metadata: &ParquetMetaData, column_name: &str) -> bool {
    metadata.row_groups().iter().all(|row_group| {
        row_group.columns().iter().any(|chunk| {
            chunk.column_path().parts() == [column_name]
                && chunk.column_type() == Physical::BYTE_ARRAY
                && (chunk.dictionary_page_offset().is_some() || chunk.num_values() == 0)
        })
    })
}
