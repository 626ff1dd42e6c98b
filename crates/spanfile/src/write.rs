//! Writes spans into a Parquet file, row group by row group.

use std::io::Write;
use std::sync::Arc;

use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::SchemaDescriptor;
use tracehouse_model::{SeededSet, SpanBatch, SpanId, StringCode, StringTable, Threshold, TraceId, kind, status};

use super::attributes_columns::{AttributeColumns, MapColumns};
use super::chunk::{ChunkWriter, Column, IntEncoding, Values};
use super::contents::{FileContents, NameList};
use super::group::Group;
use super::index::{Described, IndexWriter, ValueFilterPlace};
use super::layout::{ColumnType, LAYOUT_FOOTER_KEY, Layout, PromotedAttribute};
use super::order::{RowRef, parent_offsets};
use super::promote::AttributeCounts;
use super::seal::{SEAL_KEY, SealingSink, Section, TENANT_KEY, open_seal};
use super::summary::{Summary, WrittenFile};
use super::trace_filter::FilterPages;
use super::value_filter::{ColumnHash, ColumnTexts};

/// Rows of a row group: large enough for dictionaries to pay, small enough to hold in memory.
pub const ROWS_PER_ROW_GROUP: usize = 128 * 1024;

/// Of the names of a file, which are small and read often.
const NAMES_ZSTD_LEVEL: i32 = 1;

/// How hard a file is packed.
#[derive(Debug, Clone, Copy)]
pub struct Packing {
    pub(crate) zstd_level: i32,
    /// For texts that are written row by row, which are most of what is compressed.
    pub(crate) text_zstd_level: i32,
    /// How much larger than [`super::chunk::PAGE_BYTES`] pages are: fewer pages are faster to write, slower to look up in.
    pub(crate) page_scale: f64,
    /// Whether there is a filter of values, and one over each page of texts that are written row by row.
    pub(crate) filters_values: bool,
}

impl Packing {
    /// For files that compaction will soon write again.
    pub const FLUSH: Packing = Packing { zstd_level: 1, text_zstd_level: 1, page_scale: 4.0, filters_values: false };
    pub const COMPACTED: Packing = Packing { zstd_level: 3, text_zstd_level: 4, page_scale: 1.0, filters_values: true };
}

/// Which file is written.
pub struct FileIdentity<'a> {
    /// Stands in its seal.
    pub id: &'a str,
    /// Whose spans it holds.
    pub tenant: &'a str,
    /// Ids of the files whose spans it takes over.
    pub merged_from: Vec<String>,
}

/// Writes one file. Rows come in file order: by trace id, then start.
pub struct SpanFileWriter<W: Write + Send> {
    file: SerializedFileWriter<SealingSink<W>>,
    descriptor: SchemaDescriptor,
    layout: Layout,
    layout_json: String,
    chunks: ChunkWriter,
    index: IndexWriter,
    summary: Summary,
    /// For each leaf how its texts are hashed, if they go into the filter of values.
    hashes: Vec<Option<ColumnHash>>,
    texts: ColumnTexts,
    id: String,
    merged_from: Vec<String>,
}

/// Batches whose strings were merged into one table: `remaps[batch][code in the batch] = code in the table`.
pub struct MergedStrings {
    pub(crate) table: StringTable,
    pub(crate) remaps: Vec<Vec<StringCode>>,
}

impl MergedStrings {
    pub fn of(batches: &[&SpanBatch]) -> Self {
        let mut table = StringTable::new();
        let remaps = batches.iter().map(|batch| batch.strings.iter().map(|text| table.intern(text)).collect());
        let remaps = remaps.collect();
        Self { table, remaps }
    }
}

impl<W: Write + Send> SpanFileWriter<W> {
    pub fn new(sink: W, layout: Layout, packing: Packing, identity: FileIdentity<'_>) -> Result<Self> {
        let FileIdentity { id, tenant, merged_from } = identity;
        let schema = layout.schema()?;
        let layout_json = serde_json::to_string(&layout).map_err(|error| ParquetError::External(Box::new(error)))?;
        let properties = WriterProperties::builder()
            .set_created_by(concat!("tracehouse ", env!("CARGO_PKG_VERSION")).to_owned())
            .set_key_value_metadata(Some(vec![
                KeyValue::new(LAYOUT_FOOTER_KEY.to_owned(), layout_json.clone()),
                KeyValue::new(TENANT_KEY.to_owned(), tenant.to_owned()),
            ]))
            .set_sorting_columns(Some(vec![
                SortingColumn { column_idx: 0, descending: false, nulls_first: false },
                SortingColumn { column_idx: 4, descending: false, nulls_first: false },
            ]))
            .build();
        let descriptor = SchemaDescriptor::new(schema.clone());
        let file = SerializedFileWriter::new(SealingSink::new(sink), schema, Arc::new(properties))?;
        let chunks = ChunkWriter::new(packing.zstd_level, packing.text_zstd_level, packing.page_scale)?;
        let (index, summary, id) = (IndexWriter::default(), Summary::default(), id.to_owned());
        let hashes = if packing.filters_values { text_columns(&descriptor, &layout) } else { Vec::new() };
        let texts = ColumnTexts::default();
        Ok(Self { file, descriptor, layout, layout_json, chunks, index, summary, hashes, texts, id, merged_from })
    }

    /// Writes rows of the batches as one row group. `strings` must have been merged from the same batches.
    pub fn write_row_group(
        &mut self,
        batches: &[&SpanBatch],
        rows: &[RowRef],
        strings: &mut MergedStrings,
    ) -> Result<()> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut group = Group::new(batches, rows, strings);
        self.summary.add(&group);
        self.index.begin_row_group(rows.len())?;
        let (end, page_filters) = self.write_columns(&mut group)?;
        self.texts.end_row_group(rows.len());
        assert_eq!(self.file.bytes_written() as u64, end, "the index says where columns are");
        for (leaf, filters) in page_filters {
            let section = self.write_section(&filters)?;
            self.index.set_page_filters(self.descriptor.num_columns(), leaf, section);
        }
        Ok(())
    }

    /// Gives where the columns end in the file, by the index, and the filters over their pages, by leaf.
    fn write_columns(&mut self, group: &mut Group<'_>) -> Result<(u64, Vec<FiltersOfLeaf>)> {
        let offset = self.file.bytes_written() as u64;
        let row_group = self.file.next_row_group()?;
        let mut columns = GroupWriter {
            row_group,
            descriptor: &self.descriptor,
            chunks: &mut self.chunks,
            index: &mut self.index,
            summary: &mut self.summary,
            hashes: &self.hashes,
            texts: &mut self.texts,
            page_filters: Vec::new(),
            next_leaf: 0,
            offset,
        };
        columns.write_ids(group)?;
        columns.write_times_and_names(group)?;
        columns.write_counts_and_scope(group)?;
        let attributes = AttributeColumns::collect(group, &self.layout);
        columns.write_attributes(&attributes, &self.layout, group)?;
        columns.write_events(group)?;
        columns.write_links(group)?;
        let (end, page_filters) = (columns.offset, std::mem::take(&mut columns.page_filters));
        columns.row_group.close()?;
        Ok((end, page_filters))
    }

    /// Writes the sections and the sealed footer; returns the sink and what the catalogue needs to know.
    pub fn finish(mut self, counts: &AttributeCounts) -> Result<(W, WrittenFile)> {
        let mut written = std::mem::take(&mut self.summary).finish(counts);
        let names = serde_json::to_vec(&written.contents).map_err(|error| ParquetError::External(Box::new(error)))?;
        let names = zstd::bulk::compress(&names, NAMES_ZSTD_LEVEL)?;
        let trace_filter = self.write_section(&FilterPages::pack(&written.trace_filter))?;
        let names = self.write_section(&names)?;
        let value_filter = std::mem::take(&mut self.texts).finish(self.descriptor.num_columns());
        let value_filter = value_filter.as_ref().map(|filter| {
            let section = self.write_section(&filter.pages)?;
            Ok::<_, ParquetError>(ValueFilterPlace { section, columns: &filter.columns })
        });
        // What follows is held back until it is sealed.
        self.file.flush()?;
        self.file.inner_mut().begin_tail();
        let described = Described {
            layout: &self.layout_json,
            trace_filter,
            names,
            merged_from: &self.merged_from,
            has_checksums: true,
            has_filter_pages: true,
            alone: &self.alone(&written.contents),
            value_filter: value_filter.transpose()?,
        };
        let index = std::mem::take(&mut self.index).finish(&described)?;
        self.file.write_all(&index)?;
        let seal = open_seal(&self.id);
        self.file.append_key_value_metadata(KeyValue::new(SEAL_KEY.to_owned(), seal.clone()));
        written.row_groups = self.file.flushed_row_groups().len() as u32;
        let (sink, tail_bytes) = self.file.into_inner()?.finish(&seal)?;
        written.tail_bytes = tail_bytes;
        Ok((sink, written))
    }

    /// For each column whether it alone holds the attributes of its key.
    fn alone(&self, contents: &FileContents) -> Vec<bool> {
        let Layout { span, resource, .. } = &self.layout;
        let of = |list, keys: &[PromotedAttribute], name: fn(&Layout, &str) -> String| {
            let alone = keys.iter().filter(move |own| contents.only_type(list, &own.key) == Some(own.value_type));
            alone.map(|own| name(&self.layout, &own.key)).collect::<Vec<String>>()
        };
        let mut names: SeededSet<String> = SeededSet::default();
        names.extend(of(NameList::SpanKeys, span, Layout::span_column_name));
        names.extend(of(NameList::ResourceKeys, resource, Layout::resource_column_name));
        let columns = self.descriptor.columns().iter().map(|column| column.path().parts());
        columns.map(|parts| matches!(parts, [name] if names.contains(name))).collect()
    }

    fn write_section(&mut self, content: &[u8]) -> Result<Section> {
        let section = Section::at(self.file.bytes_written() as u64, content);
        self.file.write_all(content)?;
        Ok(section)
    }
}

/// For each leaf how its texts are hashed: those of the columns of single keys.
fn text_columns(descriptor: &SchemaDescriptor, layout: &Layout) -> Vec<Option<ColumnHash>> {
    let texts = |keys: &[PromotedAttribute], name: fn(&Layout, &str) -> String| {
        let texts = keys.iter().filter(|own| own.value_type == ColumnType::String);
        texts.map(|own| name(layout, &own.key)).collect::<Vec<String>>()
    };
    let mut names: SeededSet<String> = SeededSet::default();
    names.extend(texts(&layout.span, Layout::span_column_name));
    names.extend(texts(&layout.resource, Layout::resource_column_name));
    let columns = descriptor.columns().iter().map(|column| column.path().parts());
    columns
        .map(|parts| match parts {
            [name] => names.contains(name).then(|| ColumnHash::of(name)),
            _ => None,
        })
        .collect()
}

/// A leaf and the filters over its pages.
type FiltersOfLeaf = (usize, Vec<u8>);

/// Writes the columns of one row group, in the order of [`Layout::schema`].
pub(super) struct GroupWriter<'a, W: Write + Send> {
    row_group: SerializedRowGroupWriter<'a, W>,
    descriptor: &'a SchemaDescriptor,
    chunks: &'a mut ChunkWriter,
    index: &'a mut IndexWriter,
    summary: &'a mut Summary,
    hashes: &'a [Option<ColumnHash>],
    texts: &'a mut ColumnTexts,
    page_filters: Vec<FiltersOfLeaf>,
    next_leaf: usize,
    /// Where the next column will begin in the file.
    offset: u64,
}

impl<W: Write + Send> GroupWriter<'_, W> {
    fn put_column(&mut self, column: Column<'_>) -> Result<()> {
        let hash = self.hashes.get(self.next_leaf).and_then(Option::as_ref);
        let mut chunk = self.chunks.write(self.descriptor.column(self.next_leaf), &column, hash)?;
        if hash.is_some() {
            self.texts.add(self.next_leaf, std::mem::take(&mut chunk.text_hashes));
        }
        self.page_filters.extend(chunk.page_filters.take().map(|filters| (self.next_leaf, filters)));
        self.next_leaf += 1;
        chunk.entry.offset = self.offset;
        self.index.add_chunk(&chunk.entry)?;
        self.offset += chunk.bytes.len() as u64;
        self.row_group.append_column(&chunk.bytes, chunk.close)
    }

    pub(super) fn put(&mut self, values: Values<'_>) -> Result<()> {
        self.put_column(Column { values, definition: None, repetition: None })
    }

    /// A column without lists: `definition` is `None` if all rows have a value.
    pub(super) fn put_optional(&mut self, values: Values<'_>, definition: Option<&[i16]>) -> Result<()> {
        self.put_column(Column { values, definition, repetition: None })
    }

    pub(super) fn put_repeated(&mut self, values: Values<'_>, definition: &[i16], repetition: &[i16]) -> Result<()> {
        self.put_column(Column { values, definition: Some(definition), repetition: Some(repetition) })
    }

    /// Strings of which the empty one means none.
    pub(super) fn put_strings_or_null(&mut self, codes: &[StringCode], strings: &StringTable) -> Result<()> {
        if !codes.contains(&0) {
            return self.put_optional(Values::Strings(codes, strings), None);
        }
        let definition: Vec<i16> = codes.iter().map(|&code| i16::from(code != 0)).collect();
        let defined: Vec<StringCode> = codes.iter().copied().filter(|&code| code != 0).collect();
        self.put_optional(Values::Strings(&defined, strings), Some(&definition))
    }

    fn write_ids(&mut self, group: &Group<'_>) -> Result<()> {
        let trace_ids: Vec<TraceId> = group.gather(|batch, row| batch.trace_id[row]);
        self.summary.add_traces(&trace_ids);
        let trace_bytes: Vec<[u8; 16]> = trace_ids.iter().map(|id| id.0).collect();
        let bytes = trace_bytes.as_flattened();
        self.put(Values::Fixed { bytes, width: 16, sorted: true, compressible: true })?;
        let span_ids: Vec<SpanId> = group.gather(|batch, row| batch.span_id[row]);
        let span_bytes: Vec<[u8; 8]> = span_ids.iter().map(|id| id.0).collect();
        let bytes = span_bytes.as_flattened();
        self.put(Values::Fixed { bytes, width: 8, sorted: false, compressible: false })?;

        let parents: Vec<SpanId> = group.gather(|batch, row| batch.parent_span_id[row]);
        let mut end = 0;
        let traces = trace_ids.chunk_by(|left, right| left == right).map(|trace| {
            end += trace.len();
            end - trace.len()..end
        });
        let offsets = parent_offsets(traces, &span_ids, &parents, |row| group.placing(row));
        // The half of a call that shares its id with the other half stands beneath that, and keeps what it names.
        let is_half =
            |at: usize| offsets[at].is_some_and(|offset| span_ids[(at as i32 - offset) as usize] == span_ids[at]);
        let explicit = |at: usize| !parents[at].is_none() && (offsets[at].is_none() || is_half(at));
        let definition: Vec<i16> = (0..offsets.len()).map(|at| i16::from(explicit(at))).collect();
        let ids: Vec<[u8; 8]> = (0..offsets.len()).filter(|&at| explicit(at)).map(|at| parents[at].0).collect();
        let values = Values::Fixed { bytes: ids.as_flattened(), width: 8, sorted: false, compressible: false };
        self.put_optional(values, Some(&definition))?;
        let definition: Vec<i16> = offsets.iter().map(|offset| i16::from(offset.is_some())).collect();
        let offsets: Vec<i32> = offsets.into_iter().flatten().collect();
        self.put_optional(Values::SmallInts(&offsets), Some(&definition))
    }

    fn write_times_and_names(&mut self, group: &mut Group<'_>) -> Result<()> {
        let kinds = kind::NAMES.map(|name| group.strings.table.intern_str(name));
        let statuses = status::NAMES.map(|name| group.strings.table.intern_str(name));
        let start = group.gather(|batch, row| batch.start_unix_nanos[row]);
        self.put(Values::Ints(&start, IntEncoding::ByteStreamSplit))?;
        let duration = group.gather(|batch, row| batch.duration_nanos[row]);
        self.put(Values::Ints(&duration, IntEncoding::ByteStreamSplit))?;
        self.summary.add_times(&start, &duration);
        let names = group.gather_codes(|batch, row| batch.name[row]);
        let kinds: Vec<_> = group.gather(|batch, row| kinds[usize::from(batch.kind[row])]);
        let statuses: Vec<_> = group.gather(|batch, row| statuses[usize::from(batch.status_code[row])]);
        let messages = group.gather_codes(|batch, row| batch.status_message[row]);
        let states = group.gather_codes(|batch, row| batch.trace_state[row]);
        let strings = &group.strings.table;
        let services = group.codes_of(&group.resources, |batch, resource| batch.resources.service_name[resource]);
        self.summary.add_names(&services, &names, strings);
        self.put(Values::Strings(&names, strings))?;
        self.put(Values::Strings(&kinds, strings))?;
        self.put(Values::Strings(&statuses, strings))?;
        self.put_strings_or_null(&messages, strings)?;
        self.put_strings_or_null(&states, strings)
    }

    fn write_counts_and_scope(&mut self, group: &Group<'_>) -> Result<()> {
        self.put_small(group.gather(|batch, row| batch.flags[row] as i32))?;
        let thresholds = group.gather(|batch, row| batch.sampling_threshold[row]);
        let definition: Vec<i16> = thresholds.iter().map(|&bits| i16::from(bits != Threshold::UNKNOWN_BITS)).collect();
        let known: Vec<i64> =
            thresholds.iter().filter(|&&bits| bits != Threshold::UNKNOWN_BITS).map(|&bits| bits as i64).collect();
        self.put_optional(Values::Ints(&known, IntEncoding::Dictionary), Some(&definition))?;
        self.put_small(group.gather(|batch, row| i32::from(batch.marks[row])))?;
        self.put_small(group.gather(|batch, row| batch.dropped_attributes[row] as i32))?;
        self.put_small(group.gather(|batch, row| batch.dropped_events[row] as i32))?;
        self.put_small(group.gather(|batch, row| batch.dropped_links[row] as i32))?;
        let strings = &group.strings.table;
        let (scopes, resources) = (&group.scopes, &group.resources);
        let names = group.codes_of(scopes, |batch, scope| batch.scopes.name[scope]);
        self.put_strings_or_null(&names, strings)?;
        let versions = group.codes_of(scopes, |batch, scope| batch.scopes.version[scope]);
        self.put_strings_or_null(&versions, strings)?;
        let urls = group.codes_of(scopes, |batch, scope| batch.scopes.schema_url[scope]);
        self.put_strings_or_null(&urls, strings)?;
        self.put_small(group.values_of(scopes, |batch, scope| batch.scopes.dropped_attributes[scope] as i32))?;
        let urls = group.codes_of(resources, |batch, resource| batch.resources.schema_url[resource]);
        self.put_strings_or_null(&urls, strings)?;
        let dropped = group.values_of(resources, |batch, resource| batch.resources.dropped_attributes[resource] as i32);
        self.put_small(dropped)
    }

    fn put_small(&mut self, values: Vec<i32>) -> Result<()> {
        self.put(Values::SmallInts(&values))
    }

    pub(super) fn put_map(&mut self, map: &MapColumns, strings: &StringTable) -> Result<()> {
        self.put_repeated(Values::Strings(&map.keys, strings), &map.definition, &map.repetition)?;
        self.put_repeated(Values::Strings(&map.values, strings), &map.definition, &map.repetition)
    }

    fn write_events(&mut self, group: &mut Group<'_>) -> Result<()> {
        let mut levels = ListLevels::default();
        let mut map = MapColumns::default();
        let (mut time, mut name, mut dropped) = (Vec::new(), Vec::new(), Vec::new());
        let counts = group.gather(|batch, row| batch.event_range(row).len() as u32);
        for (&at, count) in group.rows.iter().zip(counts) {
            levels.push_list(count as usize);
            if count == 0 {
                map.push_absent();
                continue;
            }
            let batch = group.batches[at.batch as usize];
            let range = batch.event_range(at.row as usize);
            for (position, event) in range.enumerate() {
                time.push(batch.events.time_unix_nanos[event]);
                name.push(group.strings.remaps[at.batch as usize][batch.events.name[event] as usize]);
                dropped.push(batch.events.dropped_attributes[event] as i32);
                let merged = &mut *group.strings;
                map.push_nested(&batch.events.attributes, event, position, batch, at.batch as usize, merged);
            }
        }
        let (definition, repetition) = (&levels.definition, &levels.repetition);
        self.put_repeated(Values::Ints(&time, IntEncoding::Delta), definition, repetition)?;
        self.put_repeated(Values::Strings(&name, &group.strings.table), definition, repetition)?;
        self.put_repeated(Values::SmallInts(&dropped), definition, repetition)?;
        self.put_map(&map, &group.strings.table)
    }

    fn write_links(&mut self, group: &mut Group<'_>) -> Result<()> {
        let mut levels = ListLevels::default();
        let mut map = MapColumns::default();
        let (mut trace_id, mut span_id) = (Vec::new(), Vec::new());
        let (mut state, mut flags, mut dropped) = (Vec::new(), Vec::new(), Vec::new());
        let counts = group.gather(|batch, row| batch.link_range(row).len() as u32);
        for (&at, count) in group.rows.iter().zip(counts) {
            levels.push_list(count as usize);
            if count == 0 {
                map.push_absent();
                continue;
            }
            let batch = group.batches[at.batch as usize];
            let range = batch.link_range(at.row as usize);
            for (position, link) in range.enumerate() {
                trace_id.push(batch.links.trace_id[link].0);
                span_id.push(batch.links.span_id[link].0);
                state.push(group.strings.remaps[at.batch as usize][batch.links.trace_state[link] as usize]);
                flags.push(batch.links.flags[link] as i32);
                dropped.push(batch.links.dropped_attributes[link] as i32);
                let merged = &mut *group.strings;
                map.push_nested(&batch.links.attributes, link, position, batch, at.batch as usize, merged);
            }
        }
        let (definition, repetition) = (&levels.definition, &levels.repetition);
        let fixed = |bytes, width| Values::Fixed { bytes, width, sorted: false, compressible: true };
        self.put_repeated(fixed(trace_id.as_flattened(), 16), definition, repetition)?;
        self.put_repeated(fixed(span_id.as_flattened(), 8), definition, repetition)?;
        self.put_repeated(Values::Strings(&state, &group.strings.table), definition, repetition)?;
        self.put_repeated(Values::SmallInts(&flags), definition, repetition)?;
        self.put_repeated(Values::SmallInts(&dropped), definition, repetition)?;
        self.put_map(&map, &group.strings.table)
    }
}

/// Levels of a list of required elements in each row.
#[derive(Default)]
struct ListLevels {
    definition: Vec<i16>,
    repetition: Vec<i16>,
}

impl ListLevels {
    fn push_list(&mut self, elements: usize) {
        self.definition.push(i16::from(elements > 0));
        self.repetition.push(0);
        for _ in 1..elements {
            self.definition.push(1);
            self.repetition.push(1);
        }
    }
}
