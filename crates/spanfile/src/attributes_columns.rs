//! Turns lists of attributes into columns: one for each promoted key, and residual columns for the rest.

use std::io::Write;

use parquet::errors::Result;
use tracehouse_model::{AnyValue, AttributeLists, AttributeValue, SpanBatch, StringCode, StringTable};

use super::chunk::{IntEncoding, Values};
use super::group::{Group, Owner, Taken};
use super::layout::{ColumnType, Layout, PromotedAttribute};
use super::write::{GroupWriter, MergedStrings};

/// The attribute columns of a row group.
///
/// Values are as [`AttributeValue::payload`] gives them, strings as codes of the merged table.
pub(super) struct AttributeColumns {
    /// By number.
    resources: Vec<SplitOwner>,
    /// By number: the attributes as JSON; 0 if there are none.
    scopes: Vec<StringCode>,
    span: Vec<SparseColumn>,
    span_rest: MapColumns,
}

/// Values of one promoted key: which rows have it, in any order, and what.
struct SparseColumn {
    value_type: ColumnType,
    values: Vec<(u32, u64)>,
}

/// Values of one promoted key in the order of rows.
struct PromotedColumn {
    value_type: ColumnType,
    /// `None` if all rows have one.
    definition: Option<Vec<i16>>,
    payloads: Vec<u64>,
}

/// A map from key to canonical JSON in each row, or in each element of a list of each row.
#[derive(Default)]
pub(super) struct MapColumns {
    pub(super) keys: Vec<StringCode>,
    pub(super) values: Vec<StringCode>,
    pub(super) definition: Vec<i16>,
    pub(super) repetition: Vec<i16>,
}

const NOT_PROMOTED: u16 = u16::MAX;

/// For each string code the promoted column of that key.
struct KeyColumns(Vec<u16>);

impl KeyColumns {
    fn new(promoted: &[PromotedAttribute], strings: &mut StringTable) -> Self {
        let codes: Vec<StringCode> = promoted.iter().map(|attribute| strings.intern_str(&attribute.key)).collect();
        let mut columns = vec![NOT_PROMOTED; strings.len()];
        for (column, code) in codes.into_iter().enumerate() {
            columns[code as usize] = column as u16;
        }
        Self(columns)
    }

    #[inline]
    fn of(&self, key: StringCode) -> Option<usize> {
        // Strings that were added after this table was made are values, never promoted keys.
        self.0.get(key as usize).filter(|&&column| column != NOT_PROMOTED).map(|&column| usize::from(column))
    }
}

impl AttributeColumns {
    pub(super) fn collect(group: &mut Group<'_>, layout: &Layout) -> Self {
        let span_keys = KeyColumns::new(&layout.span, &mut group.strings.table);
        let resource_keys = KeyColumns::new(&layout.resource, &mut group.strings.table);
        let (span, span_rest) = spread_spans(group, layout, &span_keys);
        let resources = group.resources.all().iter().map(|&owner| {
            let lists = &group.batches[owner.batch].resources.attributes;
            split_owner(group.batches[owner.batch], owner, lists, Some((&resource_keys, layout)), group.strings)
        });
        let resources = resources.collect();
        let scopes = group.scopes.all().iter().map(|&owner| {
            let lists = &group.batches[owner.batch].scopes.attributes;
            split_owner(group.batches[owner.batch], owner, lists, None, group.strings).rest
        });
        let scopes = scopes.collect();
        Self { resources, scopes, span, span_rest }
    }
}

/// The attributes of the spans.
fn spread_spans(group: &mut Group<'_>, layout: &Layout, keys: &KeyColumns) -> (Vec<SparseColumn>, MapColumns) {
    let mut columns: Vec<SparseColumn> = layout.span.iter().map(|own| SparseColumn::new(own.value_type)).collect();
    let mut rest = Vec::new();
    let MergedStrings { table, remaps } = &mut *group.strings;
    for (batch, taken) in group.by_batch.each() {
        let remap = &remaps[taken[0].batch as usize];
        for &Taken { row, position, .. } in taken {
            for (key, value) in batch.attributes.of(row as usize) {
                let key = remap[key as usize];
                match keys.of(key).map(|column| &mut columns[column]) {
                    Some(column) if column.value_type.tag() == value.tag() => {
                        column.push(position, value.remapped(remap).payload());
                    }
                    _ => rest.push(RestEntry { position, key, value: json_code(value, batch, table) }),
                }
            }
        }
    }
    // Of one span in the order in which they came.
    rest.sort_by_key(|entry: &RestEntry| entry.position);
    (columns, MapColumns::of_rows(group.rows.len(), &rest))
}

/// An attribute of a span that has no column of its own.
struct RestEntry {
    position: u32,
    key: StringCode,
    value: StringCode,
}

/// A resource or scope as it is stored with each of its spans.
struct SplitOwner {
    /// Promoted column and payload.
    promoted: Vec<(usize, u64)>,
    /// The other attributes as JSON; 0 if there are none.
    rest: StringCode,
}

fn split_owner(
    batch: &SpanBatch,
    owner: Owner,
    lists: &AttributeLists,
    promoted_keys: Option<(&KeyColumns, &Layout)>,
    strings: &mut MergedStrings,
) -> SplitOwner {
    let mut promoted = Vec::new();
    let mut rest = Vec::new();
    for (key, value) in lists.of(owner.index) {
        let remap = &strings.remaps[owner.batch];
        if let Some((keys, layout)) = promoted_keys
            && let Some(column) = keys.of(remap[key as usize])
            && layout.resource[column].value_type.tag() == value.tag()
        {
            promoted.push((column, value.remapped(remap).payload()));
            continue;
        }
        rest.push((batch.strings.get(key).to_owned(), value.resolve(&batch.strings)));
    }
    let rest =
        if rest.is_empty() { 0 } else { strings.table.intern_str(&AnyValue::KeyValueList(rest).to_canonical_json()) };
    SplitOwner { promoted, rest }
}

impl SparseColumn {
    fn new(value_type: ColumnType) -> Self {
        Self { value_type, values: Vec::new() }
    }

    #[inline]
    fn push(&mut self, row: u32, payload: u64) {
        self.values.push((row, payload));
    }

    fn in_order(&self, rows: usize) -> PromotedColumn {
        let (mut definition, mut payloads) = (vec![0i16; rows], vec![0; rows]);
        for &(row, payload) in &self.values {
            (definition[row as usize], payloads[row as usize]) = (1, payload);
        }
        if self.values.len() == rows {
            return PromotedColumn { value_type: self.value_type, definition: None, payloads };
        }
        // Without a branch, which nobody could foretell.
        let mut next = 0;
        for row in 0..rows {
            payloads[next] = payloads[row];
            next += definition[row] as usize;
        }
        payloads.truncate(next);
        PromotedColumn { value_type: self.value_type, definition: Some(definition), payloads }
    }
}

impl MapColumns {
    /// The maps of all rows; `entries` in the order of rows.
    fn of_rows(rows: usize, entries: &[RestEntry]) -> Self {
        let mut columns = Self::default();
        let mut maps = entries.chunk_by(|left, right| left.position == right.position).peekable();
        for row in 0..rows {
            match maps.next_if(|map| map[0].position as usize == row) {
                Some(map) => map.iter().enumerate().for_each(|(position, entry)| columns.push_entry(position, entry)),
                None => columns.push_empty(0, 0),
            }
        }
        columns
    }

    /// The map of the element at `position` of a row's list.
    pub(super) fn push_nested(
        &mut self,
        lists: &AttributeLists,
        owner: usize,
        position: usize,
        batch: &SpanBatch,
        batch_number: usize,
        strings: &mut MergedStrings,
    ) {
        let outer = i16::from(position > 0);
        if lists.count(owner) == 0 {
            return self.push_empty(1, outer);
        }
        for (entry, (key, value)) in lists.of(owner).enumerate() {
            let key = strings.remaps[batch_number][key as usize];
            let value = json_code(value, batch, &mut strings.table);
            self.keys.push(key);
            self.values.push(value);
            self.definition.push(2);
            self.repetition.push(if entry > 0 { 2 } else { outer });
        }
    }

    /// A row whose list is empty, of a map inside a list.
    pub(super) fn push_absent(&mut self) {
        self.push_empty(0, 0);
    }

    fn push_empty(&mut self, definition: i16, repetition: i16) {
        self.definition.push(definition);
        self.repetition.push(repetition);
    }

    fn push_entry(&mut self, position: usize, entry: &RestEntry) {
        self.keys.push(entry.key);
        self.values.push(entry.value);
        self.definition.push(1);
        self.repetition.push(i16::from(position > 0));
    }
}

/// The canonical JSON of a value, as a string of the merged table.
fn json_code(value: AttributeValue, batch: &SpanBatch, strings: &mut StringTable) -> StringCode {
    match value {
        AttributeValue::Json(code) => strings.intern(batch.strings.bytes(code)),
        AttributeValue::String(code) => {
            let mut json = String::new();
            AnyValue::write_json_string(batch.strings.get(code), &mut json);
            strings.intern_str(&json)
        }
        other => strings.intern_str(&other.resolve(&batch.strings).to_canonical_json()),
    }
}

/// The column of a promoted key of resources.
fn of_resources(column: usize, value_type: ColumnType, resources: &[SplitOwner], group: &Group<'_>) -> PromotedColumn {
    let of_resource = |resource: &SplitOwner| resource.promoted.iter().find(|own| own.0 == column).map(|own| own.1);
    let by_number: Vec<Option<u64>> = resources.iter().map(of_resource).collect();
    let of_rows = group.resources.spread(|number| by_number[number]);
    let definition = by_number.contains(&None).then(|| of_rows.iter().map(|own| i16::from(own.is_some())).collect());
    PromotedColumn { value_type, definition, payloads: of_rows.into_iter().flatten().collect() }
}

impl<W: Write + Send> GroupWriter<'_, W> {
    pub(super) fn write_attributes(
        &mut self,
        columns: &AttributeColumns,
        layout: &Layout,
        group: &Group<'_>,
    ) -> Result<()> {
        let AttributeColumns { resources, scopes, span, span_rest } = columns;
        let strings = &group.strings.table;
        for (column, attribute) in layout.resource.iter().enumerate() {
            self.put_promoted(&of_resources(column, attribute.value_type, resources, group), strings)?;
        }
        for column in span {
            self.put_promoted(&column.in_order(group.rows.len()), strings)?;
        }
        let rest: Vec<StringCode> = group.resources.spread(|number| resources[number].rest);
        self.put_strings_or_null(&rest, strings)?;
        self.put_strings_or_null(&group.scopes.spread(|number| scopes[number]), strings)?;
        self.put_map(span_rest, strings)
    }

    fn put_promoted(&mut self, column: &PromotedColumn, strings: &StringTable) -> Result<()> {
        let definition = column.definition.as_deref();
        let payloads = column.payloads.iter().copied();
        match column.value_type {
            ColumnType::String => {
                let codes: Vec<StringCode> = payloads.map(|payload| payload as StringCode).collect();
                self.put_optional(Values::Strings(&codes, strings), definition)
            }
            ColumnType::Int => {
                let ints: Vec<i64> = payloads.map(|payload| payload as i64).collect();
                self.put_optional(Values::Ints(&ints, IntEncoding::Dictionary), definition)
            }
            ColumnType::Double => {
                let doubles: Vec<f64> = payloads.map(f64::from_bits).collect();
                self.put_optional(Values::Doubles(&doubles), definition)
            }
            ColumnType::Bool => {
                let bools: Vec<bool> = payloads.map(|payload| payload != 0).collect();
                self.put_optional(Values::Bools(&bools), definition)
            }
        }
    }
}
