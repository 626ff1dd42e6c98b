//! Turns rows read from a file back into spans.

use std::ops::Range;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, DictionaryArray, FixedSizeBinaryArray, Float64Array, Int32Array,
    Int64Array, ListArray, MapArray, RecordBatch, StringArray, StringViewArray, StructArray, TimestampNanosecondArray,
};
use arrow::datatypes::Int32Type;
use parquet::errors::{ParquetError, Result};
use tracehouse_model::{
    AnyValue, AttributeLists, AttributeValue, Marks, SeededMap, SpanBatch, SpanFields, SpanId, StringCode, StringTable,
    Threshold, TraceId, derived_span_id, kind, status,
};

use super::layout::{Layout, PromotedAttribute, column};

/// All columns of some rows as spans. The parents, which are stored as row offsets, are given for each row.
pub(crate) fn to_spans(batch: &RecordBatch, layout: &Layout, parents: &[SpanId]) -> Result<SpanBatch> {
    let mut spans = SpanBatch::new();
    let mut columns = Columns::new(batch, layout)?;
    let mut owners = Owners::default();
    for (row, &parent) in parents.iter().enumerate() {
        let resource = columns.resource(row, &mut spans, &mut owners)?;
        let scope = columns.scope(row, &mut spans, &mut owners)?;
        columns.push_span_attributes(row, &mut spans)?;
        columns.push_events(row, &mut spans)?;
        columns.push_links(row, &mut spans)?;
        let fields = columns.fixed_fields(row, parent, resource, scope, &mut spans.strings);
        spans.finish_span(fields);
    }
    Ok(spans)
}

/// The parent id that each of some rows of a batch names, from explicit ids and offsets.
pub(crate) fn parent_ids(batch: &RecordBatch, rows: Range<usize>) -> Result<Vec<SpanId>> {
    let span_ids: &FixedSizeBinaryArray = typed(batch, column::SPAN_ID)?;
    let explicit: &FixedSizeBinaryArray = typed(batch, column::PARENT_SPAN_ID)?;
    let offsets: &Int32Array = typed(batch, column::PARENT_OFFSET)?;
    rows.map(|row| {
        if explicit.is_valid(row) {
            return Ok(SpanId(fixed_bytes(explicit.value(row))));
        }
        if offsets.is_null(row) {
            return Ok(SpanId::NONE);
        }
        let parent = row as i64 - i64::from(offsets.value(row));
        let inside = usize::try_from(parent).ok().filter(|&parent| parent < span_ids.len());
        let parent = inside.ok_or_else(outside)?;
        Ok(named_id(span_ids, row, parent))
    })
    .collect()
}

/// The parent id of each row of a batch that was read from ranges of rows, ascending and apart. `None` if a parent stands
/// outside of them.
pub(crate) fn parent_ids_in(batch: &RecordBatch, ranges: &[Range<usize>]) -> Result<Option<Vec<SpanId>>> {
    let span_ids: &FixedSizeBinaryArray = typed(batch, column::SPAN_ID)?;
    let explicit: &FixedSizeBinaryArray = typed(batch, column::PARENT_SPAN_ID)?;
    let offsets: &Int32Array = typed(batch, column::PARENT_OFFSET)?;
    let mut parents = Vec::with_capacity(batch.num_rows());
    for range in ranges {
        // In the batch, the range begins here.
        let first = parents.len();
        for at in first..first + range.len() {
            if at >= batch.num_rows() {
                return Err(damaged("a column has fewer rows than its row group"));
            }
            if explicit.is_valid(at) {
                parents.push(SpanId(fixed_bytes(explicit.value(at))));
                continue;
            }
            if offsets.is_null(at) {
                parents.push(SpanId::NONE);
                continue;
            }
            let inside = (at - first) as i64 - i64::from(offsets.value(at));
            if !(0..range.len() as i64).contains(&inside) {
                return Ok(None);
            }
            parents.push(named_id(span_ids, at, first + inside as usize));
        }
    }
    Ok(Some(parents))
}

/// Ids of the spans of a row group. Where they are those of a tree no two of a trace are the same, as far as the row group tells: the half of a call that shares its id
/// with the other half has one of its own.
#[derive(Debug, Default)]
pub struct TreeIds {
    /// Of each row.
    pub ids: Vec<SpanId>,
    /// Of each row the id of the span that it stands beneath, or that it names if that is elsewhere; [`SpanId::NONE`] for a root.
    pub parents: Vec<SpanId>,
}

/// The ids of all rows of a batch and of the parents that they name.
pub(crate) fn named_ids(batch: &RecordBatch) -> Result<TreeIds> {
    let span_ids: &FixedSizeBinaryArray = typed(batch, column::SPAN_ID)?;
    let rows = 0..batch.num_rows();
    Ok(TreeIds { ids: rows.clone().map(|row| known_id(span_ids, row)).collect(), parents: parent_ids(batch, rows)? })
}

/// The ids of all rows of a row group, of which the batch has all.
pub(crate) fn tree_ids(batch: &RecordBatch) -> Result<TreeIds> {
    let span_ids: &FixedSizeBinaryArray = typed(batch, column::SPAN_ID)?;
    let explicit: &FixedSizeBinaryArray = typed(batch, column::PARENT_SPAN_ID)?;
    let offsets: &Int32Array = typed(batch, column::PARENT_OFFSET)?;
    let rows = batch.num_rows();
    let above = |row: usize| {
        let above = offsets.is_valid(row).then(|| row as i64 - i64::from(offsets.value(row)));
        let inside = |above: i64| usize::try_from(above).ok().filter(|&above| above < rows);
        above.map(|above| inside(above).ok_or_else(outside)).transpose()
    };
    let mut ids: Vec<SpanId> = (0..rows).map(|row| known_id(span_ids, row)).collect();
    let mut last_beside: SeededMap<usize, SpanId> = SeededMap::default();
    for row in 0..rows {
        let Some(caller) = above(row)?.filter(|&above| same_id(span_ids, row, above)) else { continue };
        let id = last_beside.entry(caller).or_insert(ids[caller]);
        *id = derived_span_id(*id);
        ids[row] = *id;
    }
    let parent = |row: usize| match above(row)? {
        Some(above) => Ok(ids[above]),
        None if explicit.is_valid(row) => Ok(SpanId(fixed_bytes(explicit.value(row)))),
        None => Ok(SpanId::NONE),
    };
    let parents = (0..rows).map(parent).collect::<Result<_>>()?;
    Ok(TreeIds { ids, parents })
}

fn outside() -> ParquetError {
    damaged("a parent offset leads out of its row group")
}

fn same_id(span_ids: &FixedSizeBinaryArray, row: usize, other: usize) -> bool {
    span_ids.is_valid(row) && span_ids.is_valid(other) && span_ids.value(row) == span_ids.value(other)
}

/// The id that a span names as its parent, which has another row. A half of a call whose halves share an id names none where it names no other.
fn named_id(span_ids: &FixedSizeBinaryArray, row: usize, parent: usize) -> SpanId {
    if same_id(span_ids, row, parent) { SpanId::NONE } else { known_id(span_ids, parent) }
}

/// The id of a span that may be unreadable: its children then have a parent that is missing, and are no roots.
fn known_id(span_ids: &FixedSizeBinaryArray, row: usize) -> SpanId {
    const LOST: SpanId = SpanId([0xff; 8]);
    if span_ids.is_valid(row) { SpanId(fixed_bytes(span_ids.value(row))) } else { LOST }
}

/// The rows, counted from the first of the batch, among which all parents of its rows stand, its own rows included.
pub(crate) fn parent_reach(batch: &RecordBatch) -> Result<Range<i64>> {
    let offsets: &Int32Array = typed(batch, column::PARENT_OFFSET)?;
    let reach = 0..batch.num_rows() as i64;
    let parents = offsets.iter().zip(0i64..).filter_map(|(offset, row)| Some(row - i64::from(offset?)));
    Ok(parents.fold(reach, |reach, parent| reach.start.min(parent)..reach.end.max(parent + 1)))
}

/// Resources and scopes met so far, by all that distinguishes them.
#[derive(Default)]
struct Owners {
    resources: SeededMap<Vec<u64>, u32>,
    scopes: SeededMap<Vec<u64>, u32>,
    key: Vec<u64>,
}

/// The columns that were read; what was left out reads as its default.
struct Columns<'a> {
    trace_id: &'a FixedSizeBinaryArray,
    span_id: &'a FixedSizeBinaryArray,
    start: &'a TimestampNanosecondArray,
    duration: &'a Int64Array,
    name: Strings<'a>,
    kind: Codes<'a>,
    status: Codes<'a>,
    status_message: Strings<'a>,
    trace_state: Strings<'a>,
    flags: Numbers<'a>,
    threshold: Option<&'a Int64Array>,
    marks: Numbers<'a>,
    dropped_attributes: Numbers<'a>,
    dropped_events: Numbers<'a>,
    dropped_links: Numbers<'a>,
    scope_name: Strings<'a>,
    scope_version: Strings<'a>,
    scope_schema_url: Strings<'a>,
    scope_dropped: Numbers<'a>,
    resource_schema_url: Strings<'a>,
    resource_dropped: Numbers<'a>,
    resource: PromotedColumns<'a>,
    span: PromotedColumns<'a>,
    resource_rest: Strings<'a>,
    scope_rest: Strings<'a>,
    span_rest: Option<Map<'a>>,
    events: Option<&'a ListArray>,
    links: Option<&'a ListArray>,
}

impl<'a> Columns<'a> {
    fn new(batch: &'a RecordBatch, layout: &'a Layout) -> Result<Self> {
        let promoted = |attributes: &'a [PromotedAttribute], column_name: fn(&Layout, &str) -> String| {
            let array = |key: &'a str| Some((key, batch.column_by_name(&column_name(layout, key))?));
            let arrays = attributes.iter().filter_map(|attribute| array(&attribute.key));
            PromotedColumns::new(arrays.collect(), batch.num_rows())
        };
        let strings = |name: &str| Strings::find(batch, name);
        let numbers = |name: &str| Numbers::find(batch, name);
        Ok(Self {
            trace_id: typed(batch, column::TRACE_ID)?,
            span_id: typed(batch, column::SPAN_ID)?,
            start: typed(batch, column::START_TIME)?,
            duration: typed(batch, column::DURATION_NANOS)?,
            name: strings(column::NAME)?,
            kind: Codes::new(strings(column::KIND)?, |name| kind::from_name(name).unwrap_or(kind::UNSPECIFIED)),
            status: Codes::new(strings(column::STATUS)?, |name| status::from_name(name).unwrap_or(status::UNSET)),
            status_message: strings(column::STATUS_MESSAGE)?,
            trace_state: strings(column::TRACE_STATE)?,
            flags: numbers(column::FLAGS)?,
            threshold: optional(batch, column::SAMPLING_THRESHOLD)?,
            marks: numbers(column::MARKS)?,
            dropped_attributes: numbers(column::DROPPED_ATTRIBUTES)?,
            dropped_events: numbers(column::DROPPED_EVENTS)?,
            dropped_links: numbers(column::DROPPED_LINKS)?,
            scope_name: strings(column::SCOPE_NAME)?,
            scope_version: strings(column::SCOPE_VERSION)?,
            scope_schema_url: strings(column::SCOPE_SCHEMA_URL)?,
            scope_dropped: numbers(column::SCOPE_DROPPED_ATTRIBUTES)?,
            resource_schema_url: strings(column::RESOURCE_SCHEMA_URL)?,
            resource_dropped: numbers(column::RESOURCE_DROPPED_ATTRIBUTES)?,
            resource: promoted(&layout.resource, Layout::resource_column_name)?,
            span: promoted(&layout.span, Layout::span_column_name)?,
            resource_rest: strings(column::RESOURCE_ATTRIBUTES)?,
            scope_rest: strings(column::SCOPE_ATTRIBUTES)?,
            span_rest: batch.column_by_name(column::SPAN_ATTRIBUTES).map(Map::new).transpose()?,
            events: optional(batch, column::EVENTS)?,
            links: optional(batch, column::LINKS)?,
        })
    }

    fn resource(&mut self, row: usize, spans: &mut SpanBatch, owners: &mut Owners) -> Result<u32> {
        let key = &mut owners.key;
        key.clear();
        let url = self.resource_schema_url.code(row, &mut spans.strings);
        let dropped = self.resource_dropped.value(row) as u32;
        key.extend([u64::from(url), u64::from(dropped)]);
        self.resource.each_of(row, |place, column| {
            key.extend([place as u64, column.value(row, &mut spans.strings).payload()]);
        });
        let rest = self.resource_rest.code(row, &mut spans.strings);
        key.push(u64::from(rest));
        if let Some(&known) = owners.resources.get(key.as_slice()) {
            return Ok(known);
        }
        self.resource.push(row, &mut spans.strings, &mut spans.resources.attributes);
        push_json(rest, &mut spans.strings, &mut spans.resources.attributes)?;
        let index = spans.finish_resource(dropped, url);
        owners.resources.insert(key.clone(), index);
        Ok(index)
    }

    fn scope(&mut self, row: usize, spans: &mut SpanBatch, owners: &mut Owners) -> Result<u32> {
        let key = &mut owners.key;
        key.clear();
        let name = self.scope_name.code(row, &mut spans.strings);
        let version = self.scope_version.code(row, &mut spans.strings);
        let url = self.scope_schema_url.code(row, &mut spans.strings);
        let dropped = self.scope_dropped.value(row) as u32;
        key.extend([name, version, url, dropped].map(u64::from));
        let rest = self.scope_rest.code(row, &mut spans.strings);
        key.push(u64::from(rest));
        if let Some(&known) = owners.scopes.get(key.as_slice()) {
            return Ok(known);
        }
        push_json(rest, &mut spans.strings, &mut spans.scopes.attributes)?;
        let index = spans.finish_scope(name, version, dropped, url);
        owners.scopes.insert(key.clone(), index);
        Ok(index)
    }

    fn push_span_attributes(&mut self, row: usize, spans: &mut SpanBatch) -> Result<()> {
        self.span.push(row, &mut spans.strings, &mut spans.attributes);
        match &mut self.span_rest {
            Some(rest) => rest.push(row, &mut spans.strings, &mut spans.attributes),
            None => Ok(()),
        }
    }

    fn fixed_fields(
        &mut self,
        row: usize,
        parent_span_id: SpanId,
        resource: u32,
        scope: u32,
        strings: &mut StringTable,
    ) -> SpanFields {
        let threshold = self.threshold.filter(|column| column.is_valid(row)).map(|column| column.value(row) as u64);
        SpanFields {
            trace_id: TraceId(fixed_bytes(self.trace_id.value(row))),
            span_id: SpanId(fixed_bytes(self.span_id.value(row))),
            parent_span_id,
            start_unix_nanos: self.start.value(row),
            duration_nanos: self.duration.value(row),
            name: self.name.code(row, strings),
            kind: self.kind.code(row),
            status_code: self.status.code(row),
            status_message: self.status_message.code(row, strings),
            trace_state: self.trace_state.code(row, strings),
            flags: self.flags.value(row) as u32,
            sampling_threshold: threshold.and_then(Threshold::new),
            marks: Marks(self.marks.value(row) as u16),
            dropped_attributes: self.dropped_attributes.value(row) as u32,
            dropped_events: self.dropped_events.value(row) as u32,
            dropped_links: self.dropped_links.value(row) as u32,
            resource,
            scope,
        }
    }

    fn push_events(&self, row: usize, spans: &mut SpanBatch) -> Result<()> {
        let Some(events) = self.events.filter(|column| column.value_length(row) > 0) else { return Ok(()) };
        let events = events.value(row);
        let events = events.as_struct();
        let name: &StringArray = field(events, "name")?;
        if is_part(events) {
            for event in 0..events.len() {
                let name = spans.strings.intern_str(name.value(event));
                spans.finish_event(0, name, 0);
            }
            return Ok(());
        }
        let time: &TimestampNanosecondArray = field(events, "time")?;
        let dropped: &Int32Array = field(events, "dropped_attributes")?;
        let mut attributes = Map::new(named_field(events, "attributes")?)?;
        for event in 0..events.len() {
            attributes.push(event, &mut spans.strings, &mut spans.events.attributes)?;
            let name = spans.strings.intern_str(name.value(event));
            spans.finish_event(time.value(event), name, dropped.value(event) as u32);
        }
        Ok(())
    }

    fn push_links(&self, row: usize, spans: &mut SpanBatch) -> Result<()> {
        let Some(links) = self.links.filter(|column| column.value_length(row) > 0) else { return Ok(()) };
        let links = links.value(row);
        let links = links.as_struct();
        let trace_id: &FixedSizeBinaryArray = field(links, "trace_id")?;
        if is_part(links) {
            for link in 0..links.len() {
                spans.finish_link(TraceId(fixed_bytes(trace_id.value(link))), SpanId::NONE, 0, 0, 0);
            }
            return Ok(());
        }
        let span_id: &FixedSizeBinaryArray = field(links, "span_id")?;
        let state: &StringArray = field(links, "trace_state")?;
        let flags: &Int32Array = field(links, "flags")?;
        let dropped: &Int32Array = field(links, "dropped_attributes")?;
        let mut attributes = Map::new(named_field(links, "attributes")?)?;
        for link in 0..links.len() {
            attributes.push(link, &mut spans.strings, &mut spans.links.attributes)?;
            let state = spans.strings.intern_str(state.value(link));
            spans.finish_link(
                TraceId(fixed_bytes(trace_id.value(link))),
                SpanId(fixed_bytes(span_id.value(link))),
                state,
                flags.value(link) as u32,
                dropped.value(link) as u32,
            );
        }
        Ok(())
    }
}

/// A column of small integers; zero where it was not read.
struct Numbers<'a>(Option<&'a Int32Array>);

impl<'a> Numbers<'a> {
    fn find(batch: &'a RecordBatch, name: &str) -> Result<Self> {
        optional(batch, name).map(Self)
    }

    #[inline]
    fn value(&self, row: usize) -> i32 {
        self.0.map_or(0, |column| column.value(row))
    }
}

/// A column of strings in any of the forms a scan gives.
enum Strings<'a> {
    /// Not read: no row has a string.
    Absent,
    View(&'a StringViewArray),
    /// With the code of each dictionary value, once it has been used.
    Dictionary {
        keys: &'a DictionaryArray<Int32Type>,
        values: &'a StringArray,
        codes: Vec<StringCode>,
    },
}

const NO_CODE: StringCode = StringCode::MAX;

impl<'a> Strings<'a> {
    fn find(batch: &'a RecordBatch, name: &str) -> Result<Self> {
        batch.column_by_name(name).map_or(Ok(Strings::Absent), Self::new)
    }

    fn new(array: &'a ArrayRef) -> Result<Self> {
        if let Some(views) = array.as_string_view_opt() {
            return Ok(Strings::View(views));
        }
        let keys = array.as_dictionary_opt::<Int32Type>().ok_or_else(|| damaged("a string column"))?;
        let values = keys.values().as_string_opt::<i32>().ok_or_else(|| damaged("a string dictionary"))?;
        Ok(Strings::Dictionary { keys, values, codes: vec![NO_CODE; values.len()] })
    }

    fn is_valid(&self, row: usize) -> bool {
        match self {
            Strings::Absent => false,
            Strings::View(array) => array.is_valid(row),
            Strings::Dictionary { keys, .. } => keys.is_valid(row),
        }
    }

    /// The string of a row; empty if the row has none.
    fn text(&self, row: usize) -> &str {
        match self {
            _ if !self.is_valid(row) => "",
            Strings::Absent => "",
            Strings::View(array) => array.value(row),
            Strings::Dictionary { keys, values, .. } => values.value(keys.keys().value(row) as usize),
        }
    }

    /// The code of a row's string; 0, the empty string, if the row has none.
    #[inline]
    fn code(&mut self, row: usize, strings: &mut StringTable) -> StringCode {
        if !self.is_valid(row) {
            return 0;
        }
        match self {
            Strings::Absent => 0,
            Strings::View(array) => strings.intern_str(array.value(row)),
            Strings::Dictionary { keys, values, codes } => {
                let number = keys.keys().value(row) as usize;
                if codes[number] == NO_CODE {
                    codes[number] = strings.intern_str(values.value(number));
                }
                codes[number]
            }
        }
    }
}

/// A column of names that stand for numbers.
struct Codes<'a> {
    names: Strings<'a>,
    /// Of the values of a dictionary.
    of_values: Vec<u8>,
    of_name: fn(&str) -> u8,
}

impl<'a> Codes<'a> {
    fn new(names: Strings<'a>, of_name: fn(&str) -> u8) -> Self {
        let of_values = match &names {
            Strings::Dictionary { values, .. } => (0..values.len()).map(|value| of_name(values.value(value))).collect(),
            Strings::Absent | Strings::View(_) => Vec::new(),
        };
        Self { names, of_values, of_name }
    }

    #[inline]
    fn code(&self, row: usize) -> u8 {
        match &self.names {
            Strings::Dictionary { keys, .. } if keys.is_valid(row) => self.of_values[keys.keys().value(row) as usize],
            names => (self.of_name)(names.text(row)),
        }
    }
}

/// The columns of promoted attributes.
struct PromotedColumns<'a> {
    columns: Vec<Promoted<'a>>,
    /// A bit for each column that has a value in a row, in so many words for each row: most columns are empty in most rows.
    present: Vec<u64>,
    words: usize,
}

impl<'a> PromotedColumns<'a> {
    /// `arrays`: with their keys.
    fn new(arrays: Vec<(&'a str, &'a ArrayRef)>, rows: usize) -> Result<Self> {
        let words = arrays.len().div_ceil(u64::BITS as usize);
        let mut present = vec![0; rows * words];
        for (column, (_, array)) in arrays.iter().enumerate() {
            let (word, bit) = (column / u64::BITS as usize, 1 << (column % u64::BITS as usize));
            match array.nulls() {
                None => (0..rows).for_each(|row| present[row * words + word] |= bit),
                Some(nulls) => nulls.valid_indices().for_each(|row| present[row * words + word] |= bit),
            }
        }
        let columns = arrays.into_iter().map(|(key, array)| Promoted::new(key, array)).collect::<Result<_>>()?;
        Ok(Self { columns, present, words })
    }

    /// Calls a function with each column that has a value in a row, and its place.
    #[inline]
    fn each_of(&mut self, row: usize, mut take: impl FnMut(usize, &mut Promoted<'a>)) {
        for word in 0..self.words {
            let mut left = self.present[row * self.words + word];
            while left != 0 {
                let column = word * u64::BITS as usize + left.trailing_zeros() as usize;
                left &= left - 1;
                take(column, &mut self.columns[column]);
            }
        }
    }

    /// Appends the attributes of a row.
    fn push(&mut self, row: usize, strings: &mut StringTable, lists: &mut AttributeLists) {
        self.each_of(row, |_, column| {
            let value = column.value(row, strings);
            lists.push(column.key_code(strings), value);
        });
    }
}

/// The column of a promoted attribute.
struct Promoted<'a> {
    key: &'a str,
    values: PromotedValues<'a>,
    key_code: Option<StringCode>,
}

enum PromotedValues<'a> {
    Strings(Strings<'a>),
    Ints(&'a Int64Array),
    Doubles(&'a Float64Array),
    Bools(&'a BooleanArray),
}

impl<'a> Promoted<'a> {
    fn new(key: &'a str, array: &'a ArrayRef) -> Result<Self> {
        let any = array.as_any();
        let values = if let Some(ints) = any.downcast_ref() {
            PromotedValues::Ints(ints)
        } else if let Some(doubles) = any.downcast_ref() {
            PromotedValues::Doubles(doubles)
        } else if let Some(bools) = any.downcast_ref() {
            PromotedValues::Bools(bools)
        } else {
            PromotedValues::Strings(Strings::new(array)?)
        };
        Ok(Self { key, values, key_code: None })
    }

    fn key_code(&mut self, strings: &mut StringTable) -> StringCode {
        *self.key_code.get_or_insert_with(|| strings.intern_str(self.key))
    }

    /// The value of a row that has one.
    #[inline]
    fn value(&mut self, row: usize, strings: &mut StringTable) -> AttributeValue {
        match &mut self.values {
            PromotedValues::Strings(texts) => AttributeValue::String(texts.code(row, strings)),
            PromotedValues::Ints(ints) => AttributeValue::Int(ints.value(row)),
            PromotedValues::Doubles(doubles) => AttributeValue::Double(doubles.value(row)),
            PromotedValues::Bools(bools) => AttributeValue::Bool(bools.value(row)),
        }
    }
}

/// A map column, at the top or inside an element of a list.
struct Map<'a> {
    map: &'a MapArray,
    keys: &'a StringArray,
    values: &'a StringArray,
}

impl<'a> Map<'a> {
    fn new(array: &'a ArrayRef) -> Result<Self> {
        let map = array.as_map_opt().ok_or_else(|| damaged("a map column"))?;
        let strings = |array: &'a ArrayRef| array.as_string_opt::<i32>().ok_or_else(|| damaged("a map's strings"));
        Ok(Self { map, keys: strings(map.keys())?, values: strings(map.values())? })
    }

    fn entries(&self, row: usize) -> Range<usize> {
        let offsets = self.map.value_offsets();
        offsets[row] as usize..offsets[row + 1] as usize
    }

    fn push(&mut self, row: usize, strings: &mut StringTable, lists: &mut AttributeLists) -> Result<()> {
        for at in self.entries(row) {
            let value = AnyValue::from_canonical_json(self.values.value(at))
                .map_err(|error| ParquetError::External(Box::new(error)))?;
            let value = intern_value(value, strings);
            let key = strings.intern_str(self.keys.value(at));
            lists.push(key, value);
        }
        Ok(())
    }
}

/// The attributes in a residual text of a resource or scope.
fn push_json(rest: StringCode, strings: &mut StringTable, lists: &mut AttributeLists) -> Result<()> {
    if rest == 0 {
        return Ok(());
    }
    let parsed = AnyValue::from_canonical_json(strings.get(rest));
    let parsed = parsed.map_err(|error| ParquetError::External(Box::new(error)))?;
    let AnyValue::KeyValueList(entries) = parsed else { return Err(damaged("residual attributes")) };
    for (key, value) in entries {
        let value = intern_value(value, strings);
        let key = strings.intern_str(&key);
        lists.push(key, value);
    }
    Ok(())
}

fn intern_value(value: AnyValue, strings: &mut StringTable) -> AttributeValue {
    match value {
        AnyValue::Empty => AttributeValue::Empty,
        AnyValue::String(text) => AttributeValue::String(strings.intern_str(&text)),
        AnyValue::Int(value) => AttributeValue::Int(value),
        AnyValue::Double(value) => AttributeValue::Double(value),
        AnyValue::Bool(value) => AttributeValue::Bool(value),
        AnyValue::Bytes(bytes) => AttributeValue::Bytes(strings.intern(&bytes)),
        list @ (AnyValue::Array(_) | AnyValue::KeyValueList(_)) => {
            AttributeValue::Json(strings.intern_str(&list.to_canonical_json()))
        }
    }
}

fn find<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| damaged(name))
}

fn typed<'a, T: 'static>(batch: &'a RecordBatch, name: &str) -> Result<&'a T> {
    find(batch, name)?.as_any().downcast_ref().ok_or_else(|| damaged(name))
}

/// A column that may have been left out.
fn optional<'a, T: 'static>(batch: &'a RecordBatch, name: &str) -> Result<Option<&'a T>> {
    if batch.column_by_name(name).is_none() {
        return Ok(None);
    }
    typed(batch, name).map(Some)
}

/// Whether only one column of a list's elements was read.
fn is_part(elements: &StructArray) -> bool {
    elements.num_columns() == 1
}

fn named_field<'a>(array: &'a StructArray, name: &str) -> Result<&'a ArrayRef> {
    array.column_by_name(name).ok_or_else(|| damaged(name))
}

fn field<'a, T: 'static>(array: &'a StructArray, name: &str) -> Result<&'a T> {
    named_field(array, name)?.as_any().downcast_ref().ok_or_else(|| damaged(name))
}

fn fixed_bytes<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut fixed = [0; N];
    fixed.copy_from_slice(bytes);
    fixed
}

pub(super) fn damaged(what: &str) -> ParquetError {
    ParquetError::General(format!("the file contradicts its layout: {what}"))
}
