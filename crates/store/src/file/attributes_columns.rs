//! Turns lists of attributes into columns: one for each promoted key, and maps for the rest.

use std::io::Write;

use parquet::errors::Result;
use tracehouse_model::{AnyValue, AttributeLists, AttributeValue, SpanBatch, StringCode, StringTable};

use super::chunk::{IntEncoding, Values};
use super::layout::{ColumnType, Layout, PromotedAttribute};
use super::write::{Group, GroupWriter, MergedStrings};

/// The attribute columns of a row group.
pub(super) struct AttributeColumns {
    resource: Vec<SparseColumn>,
    span: Vec<SparseColumn>,
    resource_rest: MapColumns,
    scope_rest: MapColumns,
    span_rest: MapColumns,
}

/// Values of one promoted key: which rows have it, and what (as [`AttributeValue::payload`], strings as codes of the
/// merged table).
struct SparseColumn {
    value_type: ColumnType,
    rows: Vec<u32>,
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
        let sparse = |promoted: &[PromotedAttribute]| {
            promoted.iter().map(|attribute| SparseColumn::new(attribute.value_type)).collect()
        };
        let mut columns = Self {
            resource: sparse(&layout.resource),
            span: sparse(&layout.span),
            resource_rest: MapColumns::default(),
            scope_rest: MapColumns::default(),
            span_rest: MapColumns::default(),
        };
        let span_keys = KeyColumns::new(&layout.span, &mut group.strings.table);
        let resource_keys = KeyColumns::new(&layout.resource, &mut group.strings.table);
        let (rows, batches) = (group.rows, group.batches);
        for (row, at) in rows.iter().enumerate() {
            let (batch, batch_number) = (batches[at.batch as usize], at.batch as usize);
            let source = Source { batch, batch_number, row: row as u32 };
            let span = Target { keys: &span_keys, columns: &mut columns.span, rest: &mut columns.span_rest };
            source.spread(&batch.attributes, at.row as usize, span, group.strings);
            let resource = batch.resource[at.row as usize] as usize;
            let target =
                Target { keys: &resource_keys, columns: &mut columns.resource, rest: &mut columns.resource_rest };
            source.spread(&batch.resources.attributes, resource, target, group.strings);
            let scope = batch.scope[at.row as usize] as usize;
            columns.scope_rest.push_row(&batch.scopes.attributes, scope, batch, batch_number, group.strings);
        }
        columns
    }
}

struct Source<'a> {
    batch: &'a SpanBatch,
    batch_number: usize,
    row: u32,
}

struct Target<'a> {
    keys: &'a KeyColumns,
    columns: &'a mut [SparseColumn],
    rest: &'a mut MapColumns,
}

impl Source<'_> {
    #[inline]
    fn spread(&self, lists: &AttributeLists, owner: usize, target: Target<'_>, strings: &mut MergedStrings) {
        let mut rest = 0;
        for (key, value) in lists.of(owner) {
            let remap = &strings.remaps[self.batch_number];
            let merged_key = remap[key as usize];
            if let Some(column) = target.keys.of(merged_key)
                && target.columns[column].value_type.tag() == value.tag()
            {
                target.columns[column].push(self.row, value.remapped(remap).payload());
                continue;
            }
            target.rest.push_entry(rest, 0, merged_key, value, self.batch, &mut strings.table);
            rest += 1;
        }
        if rest == 0 {
            target.rest.push_empty(0, 0);
        }
    }
}

impl SparseColumn {
    fn new(value_type: ColumnType) -> Self {
        Self { value_type, rows: Vec::new(), payloads: Vec::new() }
    }

    #[inline]
    fn push(&mut self, row: u32, payload: u64) {
        self.rows.push(row);
        self.payloads.push(payload);
    }

    fn definition(&self, rows: usize) -> Option<Vec<i16>> {
        if self.rows.len() == rows {
            return None;
        }
        let mut definition = vec![0; rows];
        for &row in &self.rows {
            definition[row as usize] = 1;
        }
        Some(definition)
    }
}

impl MapColumns {
    /// One row's map, of a map that is a column by itself.
    pub(super) fn push_row(
        &mut self,
        lists: &AttributeLists,
        owner: usize,
        batch: &SpanBatch,
        batch_number: usize,
        strings: &mut MergedStrings,
    ) {
        if lists.count(owner) == 0 {
            return self.push_empty(0, 0);
        }
        for (position, (key, value)) in lists.of(owner).enumerate() {
            let key = strings.remaps[batch_number][key as usize];
            self.push_entry(position, 0, key, value, batch, &mut strings.table);
        }
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

    fn push_entry(
        &mut self,
        position: usize,
        outer: i16,
        key: StringCode,
        value: AttributeValue,
        batch: &SpanBatch,
        strings: &mut StringTable,
    ) {
        self.keys.push(key);
        self.values.push(json_code(value, batch, strings));
        self.definition.push(1);
        self.repetition.push(if position > 0 { 1 } else { outer });
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

impl<W: Write + Send> GroupWriter<'_, W> {
    pub(super) fn write_attributes(&mut self, columns: &AttributeColumns, group: &Group<'_>) -> Result<()> {
        let rows = group.rows.len();
        let strings = &group.strings.table;
        for column in columns.resource.iter().chain(&columns.span) {
            self.write_promoted(column, rows, strings)?;
        }
        self.put_map(&columns.resource_rest, strings)?;
        self.put_map(&columns.scope_rest, strings)?;
        self.put_map(&columns.span_rest, strings)
    }

    fn write_promoted(&mut self, column: &SparseColumn, rows: usize, strings: &StringTable) -> Result<()> {
        let definition = column.definition(rows);
        let definition = definition.as_deref();
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
