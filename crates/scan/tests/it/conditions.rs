//! Which rows of a row group a condition holds for: those that a loop over the spans says, however a language looks at values.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use parquet::errors::{ParquetError, Result};
use tracehouse_model::{
    AnyValue, AttributeLists, AttributeValue, Span, SpanBatch, SpanFields, SpanId, StringTable, TraceId,
};
use tracehouse_scan::{
    Contents, Field, Owner, PARENT, Pool, ReadRows, RowGroup, Test, Values, contents_of, may_hold, open,
};
use tracehouse_spanfile::Projection;

use crate::stored::{NOON, Stored};

/// So many that few of them are a small share.
const SPANS: u64 = 1500;

pub(crate) const SPAN: &[Owner] = &[Owner::Span];
const RESOURCE: &[Owner] = &[Owner::Resource];
pub(crate) const EITHER: &[Owner] = &[Owner::Span, Owner::Resource];
const SCOPE: &[Owner] = &[Owner::Scope];

/// Attributes of one type, of several types, of spans and resources at once, rare ones, and ones that nobody has.
pub(crate) const FIELDS: [Field<'_>; 14] = [
    Field::Column("name"),
    Field::Column("status_message"),
    Field::Column("duration_nanos"),
    Field::Attribute(SPAN, "route"),
    Field::Attribute(SPAN, "size"),
    Field::Attribute(SPAN, "mixed"),
    Field::Attribute(SPAN, "rare"),
    Field::Attribute(SPAN, "nobody's"),
    Field::Attribute(RESOURCE, "service.name"),
    Field::Attribute(RESOURCE, "both"),
    Field::Attribute(EITHER, "service.name"),
    Field::Attribute(EITHER, "both"),
    Field::Attribute(EITHER, "mixed"),
    Field::Attribute(SCOPE, "level"),
];

fn text(text: &str) -> AnyValue {
    AnyValue::String(text.to_owned())
}

fn put(strings: &mut StringTable, lists: &mut AttributeLists, key: &str, value: &AnyValue) {
    let key = strings.intern_str(key);
    let value = match value {
        AnyValue::String(text) => AttributeValue::String(strings.intern_str(text)),
        AnyValue::Int(value) => AttributeValue::Int(*value),
        AnyValue::Double(value) => AttributeValue::Double(*value),
        AnyValue::Bool(value) => AttributeValue::Bool(*value),
        list => AttributeValue::Json(strings.intern_str(&list.to_canonical_json())),
    };
    lists.push(key, value);
}

/// Spans of three services: what they carry follows from their numbers.
pub(crate) fn spans() -> SpanBatch {
    let mut batch = SpanBatch::new();
    let owners: Vec<(u32, u32)> = (0..3)
        .map(|number| {
            let (strings, resources) = (&mut batch.strings, &mut batch.resources.attributes);
            put(strings, resources, "service.name", &text(["cart", "gateway", "payment"][number]));
            if number > 0 {
                put(strings, resources, "both", &text(["", "from resource", "7"][number]));
            }
            if number == 2 {
                put(strings, resources, "mixed", &AnyValue::Int(7));
            }
            let resource = batch.finish_resource(0, 0);
            put(&mut batch.strings, &mut batch.scopes.attributes, "level", &AnyValue::Int(number as i64));
            (resource, batch.finish_scope(0, 0, 0, 0))
        })
        .collect();
    for number in 0..SPANS {
        let mut attribute = |key: &str, value: AnyValue| put(&mut batch.strings, &mut batch.attributes, key, &value);
        attribute("route", text(&format!("/route/{}", number % 12)));
        if number % 2 == 0 {
            attribute("size", AnyValue::Int(number as i64 % 9));
        }
        match number % 7 {
            0 => attribute("mixed", AnyValue::Int(7)),
            1 => attribute("mixed", AnyValue::Double(7.5)),
            2 => attribute("mixed", AnyValue::Bool(true)),
            3 => attribute("mixed", AnyValue::Array(vec![text("7"), AnyValue::Int(7)])),
            4 => {}
            _ => attribute("mixed", text("7")),
        }
        if number % 5 == 0 {
            attribute("both", text("from span"));
        }
        if number % 700 == 0 {
            attribute("rare", text("7"));
        }
        let name = batch.strings.intern_str(["GET /", "SELECT", "7"][number as usize % 3]);
        let status_message = batch.strings.intern_str(["", "no route"][number as usize % 2]);
        let (resource, scope) = owners[number as usize % 5 % 3];
        batch.finish_span(SpanFields {
            trace_id: TraceId(u128::from(number / 10 + 1).to_be_bytes()),
            span_id: SpanId((number + 1).to_be_bytes()),
            parent_span_id: if number % 10 == 0 { SpanId::NONE } else { SpanId(number.to_be_bytes()) },
            start_unix_nanos: NOON + number as i64,
            duration_nanos: number as i64 % 8,
            name,
            status_message,
            resource,
            scope,
            ..SpanFields::default()
        });
    }
    batch
}

/// What a span has in a field.
pub(crate) fn value_of(span: &Span, field: Field<'_>) -> Option<AnyValue> {
    let find = |attributes: &[(String, AnyValue)], key: &str| {
        attributes.iter().find(|(known, _)| known == key).map(|(_, value)| value.clone())
    };
    match field {
        Field::Column("name") => Some(text(&span.name)),
        Field::Column("status_message") => Some(text(&span.status_message)).filter(|_| !span.status_message.is_empty()),
        Field::Column(_) => Some(AnyValue::Int(span.duration_nanos)),
        Field::Attribute(owners, key) => owners.iter().find_map(|owner| match owner {
            Owner::Span => find(&span.attributes, key),
            Owner::Resource => find(&span.resource_attributes, key),
            Owner::Scope => find(&span.scope_attributes, key),
        }),
    }
}

/// Whether a condition holds for a value as a text, `None` where there is none.
pub(crate) type Holds = fn(Option<&str>) -> bool;

pub(crate) const CONDITIONS: [(&str, Holds); 9] = [
    ("= 7", |value| value == Some("7")),
    ("!= 7", |value| value.is_some_and(|value| value != "7")),
    ("is not 7, or not there", |value| value != Some("7")),
    (">= 5", |value| value >= Some("5")),
    ("in (cart, 3, from span)", |value| value.is_some_and(|value| ["cart", "3", "from span"].contains(&value))),
    ("like %o%", |value| value.is_some_and(|value| value.contains('o'))),
    ("is there", |value| value.is_some()),
    ("is not there", |value| value.is_none()),
    ("= nothing that there is", |value| value == Some("nothing that there is")),
];

pub(crate) fn as_text(value: &AnyValue) -> String {
    match value {
        AnyValue::String(text) => text.clone(),
        other => other.to_canonical_json(),
    }
}

/// Looks at one value after the other, as TraceQL does.
pub(crate) struct OneByOne(pub(crate) Holds);

impl Test for OneByOne {
    type Error = ParquetError;

    fn of(&self, values: Values) -> Result<BooleanArray> {
        let values = match values {
            Values::Any(values) => values,
            Values::Typed(array) => Arc::new((0..array.len()).map(|at| any_value(&array, at)).collect()),
        };
        Ok(values.iter().map(|value| value.as_ref().map(|value| self.0(Some(&as_text(value))))).collect())
    }

    fn of_none(&self) -> Result<bool> {
        Ok(self.0(None))
    }

    fn may_hold_within(&self, least: i64, greatest: i64) -> bool {
        (least..=greatest).any(|value| self.0(Some(&value.to_string())))
    }
}

fn any_value(array: &ArrayRef, at: usize) -> Option<AnyValue> {
    use arrow::datatypes::{Float64Type, Int64Type};
    if array.is_null(at) {
        return None;
    }
    Some(match array.data_type() {
        DataType::Utf8 => text(array.as_string::<i32>().value(at)),
        DataType::Utf8View => text(array.as_string_view().value(at)),
        DataType::Int64 => AnyValue::Int(array.as_primitive::<Int64Type>().value(at)),
        DataType::Float64 => AnyValue::Double(array.as_primitive::<Float64Type>().value(at)),
        DataType::Boolean => AnyValue::Bool(array.as_boolean().value(at)),
        other => panic!("no attribute is of type {other}"),
    })
}

/// Makes one array of texts of all values, null where there is none, as SQL does; says nothing of ranges.
pub(crate) struct InColumns(pub(crate) Holds);

impl Test for InColumns {
    type Error = ParquetError;

    fn of(&self, values: Values) -> Result<BooleanArray> {
        let texts = match values {
            Values::Typed(array) => cast(&array, &DataType::Utf8)?,
            Values::Any(values) => {
                let texts = values.iter().map(|value| value.as_ref().map(as_text));
                Arc::new(texts.collect::<StringArray>()) as ArrayRef
            }
        };
        let holds = BooleanBuffer::collect_bool(texts.len(), |at| {
            self.0(texts.is_valid(at).then(|| texts.as_string::<i32>().value(at)))
        });
        Ok(BooleanArray::new(holds, texts.nulls().cloned()))
    }

    fn of_none(&self) -> Result<bool> {
        Ok(self.0(None))
    }
}

#[tokio::test]
async fn one_condition_decides_the_same_rows_for_both_languages() {
    let stored = Stored::of(spans()).await;
    let (snapshot, pool) = (stored.snapshot(), Pool::new(64 << 20));
    let (bounds, _) = stored.bounds(&pool);
    let [file] = &snapshot.files[..] else { panic!("there is one file") };
    let opened = open(file).expect("it can be opened");
    let (mut rows_held, mut ruled_out) = (0, 0);
    for contents in [contents_of(file), Contents::UNKNOWN] {
        for number in 0..opened.row_groups() {
            let row_group = RowGroup { bounds: &bounds, open: &opened, contents: &contents, number };
            let rows = row_group.rows();
            let batch = opened.read_rows(number, 0..rows, Projection::All).expect("they can be read");
            // Few, and few for a column of maps alone.
            let every = |nth: usize| BooleanBuffer::collect_bool(rows, |row| row % nth == 0);
            for among in [row_group.readable(), every(300), every(9)] {
                for (field, (what, holds)) in FIELDS.iter().flat_map(|field| CONDITIONS.map(|known| (*field, known))) {
                    let expected = BooleanBuffer::collect_bool(rows, |row| {
                        let value = value_of(&batch.span(row), field);
                        among.value(row) && holds(value.as_ref().map(as_text).as_deref())
                    });
                    let one_by_one = row_group.holding(field, &OneByOne(holds), &among).expect("it is decided");
                    let in_columns = row_group.holding(field, &InColumns(holds), &among).expect("it is decided");
                    assert_eq!(one_by_one, expected, "{field:?} {what}");
                    assert_eq!(in_columns, expected, "{field:?} {what}");
                    let any = expected.count_set_bits() > 0;
                    assert!(may_hold(field, &OneByOne(holds), &contents) || !any, "{field:?} {what}");
                    let prepared = row_group.prepare(field, InColumns(holds)).expect("the values can be read");
                    assert!(prepared.may_hold() || !any, "{field:?} {what}");
                    ruled_out += usize::from(!prepared.may_hold());
                    let mut held = bounds.hold();
                    let mut begun = [row_group.begin_prepared(prepared, &among, &mut held).expect("it begins")];
                    row_group.decide_together(&mut begun, &mut held).expect("it is decided");
                    assert_eq!(begun[0].rows(), expected, "{field:?} {what}, prepared");
                    rows_held += expected.count_set_bits();
                }
            }
        }
    }
    assert!(rows_held > 10 * SPANS as usize, "conditions hold for some rows: {rows_held}");
    assert!(ruled_out > 10, "values alone rule out {ruled_out} conditions");
    assert_eq!(pool.bytes_taken(), 0, "what was read for them goes back");
}

#[tokio::test]
async fn what_a_file_lists_keeps_it_closed() {
    let stored = Stored::of(spans()).await;
    let snapshot = stored.snapshot();
    let contents = contents_of(&snapshot.files[0]);
    let equal = OneByOne(|value| value == Some("nothing that there is"));
    let other = OneByOne(|value| value.is_some_and(|value| value.len() > 100));
    let present = OneByOne(|value| value.is_some());
    for (field, test, expected) in [
        (Field::Column("name"), &equal, false),
        (Field::Column("name"), &other, false),
        (Field::Column("name"), &present, true),
        (Field::Attribute(RESOURCE, "service.name"), &equal, false),
        (Field::Attribute(EITHER, "service.name"), &other, false),
        (Field::Attribute(SPAN, "service.name"), &present, false),
        (Field::Attribute(SPAN, "nobody's"), &present, false),
        (Field::Attribute(SCOPE, "route"), &present, false),
        // The file doesn't list these values.
        (Field::Attribute(SPAN, "route"), &equal, true),
    ] {
        assert_eq!(may_hold(field, test, &contents), expected, "{field:?}");
        assert!(may_hold(field, test, &Contents::UNKNOWN), "{field:?}: nothing is known");
    }
}

#[tokio::test]
async fn parents_are_read_like_a_column_and_no_columns_are_rows_all_the_same() {
    let stored = Stored::of(spans()).await;
    let (snapshot, pool) = (stored.snapshot(), Pool::new(64 << 20));
    let (bounds, _) = stored.bounds(&pool);
    let (opened, contents) = (open(&snapshot.files[0]).expect("it can be opened"), contents_of(&snapshot.files[0]));
    let row_group = RowGroup { bounds: &bounds, open: &opened, contents: &contents, number: 0 };
    let spans = opened.read_rows(0, 0..row_group.rows(), Projection::All).expect("they can be read");
    let some = BooleanBuffer::collect_bool(row_group.rows(), |row| row % 3 == 0);
    let wanted: Vec<usize> = some.set_indices().collect();
    for columns in [&["name", PARENT][..], &[PARENT], &[]] {
        let mut next = wanted.iter();
        for batch in row_group.read(columns, &ReadRows::exactly(&some), 7).expect("it begins") {
            let batch = batch.expect("it is read");
            assert!(batch.num_rows() <= 7 && batch.num_columns() == columns.len(), "{columns:?}");
            for (at, &row) in (0..batch.num_rows()).zip(&mut next) {
                let Some(parents) = batch.column_by_name(PARENT) else { continue };
                let (parents, expected) = (parents.as_fixed_size_binary(), spans.parent_span_id[row]);
                assert_eq!(parents.is_null(at), expected.is_none(), "row {row}");
                assert!(parents.is_null(at) || parents.value(at) == expected.0, "row {row}");
            }
        }
        assert_eq!(next.next(), None, "{columns:?}: every row is read");
    }
}
