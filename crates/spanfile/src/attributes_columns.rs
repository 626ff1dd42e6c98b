//! Turns lists of attributes into columns: one for each promoted key, and residual columns for the rest.

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
    /// Codes of the merged table; 0 where there are none.
    resource_rest: Vec<StringCode>,
    scope_rest: Vec<StringCode>,
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
            resource_rest: Vec::with_capacity(group.rows.len()),
            scope_rest: Vec::with_capacity(group.rows.len()),
            span_rest: MapColumns::default(),
        };
        let span_keys = KeyColumns::new(&layout.span, &mut group.strings.table);
        let resource_keys = KeyColumns::new(&layout.resource, &mut group.strings.table);
        let mut resources = Owners::new(group.batches.iter().map(|batch| batch.resources.attributes.owners()));
        let mut scopes = Owners::new(group.batches.iter().map(|batch| batch.scopes.attributes.owners()));
        let (rows, batches) = (group.rows, group.batches);
        for (row, at) in rows.iter().enumerate() {
            let (batch, batch_number) = (batches[at.batch as usize], at.batch as usize);
            let source = Source { batch, batch_number, row: row as u32 };
            let span = Target { keys: &span_keys, columns: &mut columns.span, rest: &mut columns.span_rest };
            source.spread(&batch.attributes, at.row as usize, span, group.strings);
            let resource = resources.get(batch_number, batch.resource[at.row as usize], |owner| {
                split_owner(
                    batch,
                    batch_number,
                    &batch.resources.attributes,
                    owner,
                    Some((&resource_keys, layout)),
                    group.strings,
                )
            });
            for &(column, payload) in &resource.promoted {
                columns.resource[column].push(row as u32, payload);
            }
            columns.resource_rest.push(resource.rest);
            let scope = scopes.get(batch_number, batch.scope[at.row as usize], |owner| {
                split_owner(batch, batch_number, &batch.scopes.attributes, owner, None, group.strings)
            });
            columns.scope_rest.push(scope.rest);
        }
        columns
    }
}

/// A resource or scope as it is stored with each of its spans.
struct Owner {
    /// Promoted column and payload.
    promoted: Vec<(usize, u64)>,
    /// The other attributes as JSON; 0 if there are none.
    rest: StringCode,
}

/// The resources or scopes of all batches, each worked out when it is first met.
struct Owners(Vec<Vec<Option<Owner>>>);

impl Owners {
    fn new(owners_of_batches: impl Iterator<Item = usize>) -> Self {
        Self(owners_of_batches.map(|owners| (0..owners).map(|_| None).collect()).collect())
    }

    #[inline]
    fn get(&mut self, batch: usize, owner: u32, make: impl FnOnce(usize) -> Owner) -> &Owner {
        self.0[batch][owner as usize].get_or_insert_with(|| make(owner as usize))
    }
}

fn split_owner(
    batch: &SpanBatch,
    batch_number: usize,
    lists: &AttributeLists,
    owner: usize,
    promoted_keys: Option<(&KeyColumns, &Layout)>,
    strings: &mut MergedStrings,
) -> Owner {
    let mut promoted = Vec::new();
    let mut rest = Vec::new();
    for (key, value) in lists.of(owner) {
        let remap = &strings.remaps[batch_number];
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
    Owner { promoted, rest }
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
        self.put_strings_or_null(&columns.resource_rest, strings)?;
        self.put_strings_or_null(&columns.scope_rest, strings)?;
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
