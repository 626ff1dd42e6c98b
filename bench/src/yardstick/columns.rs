//! Spans turned into columns, row by row: the glue between decoding and writing, whose cost does not count.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, FixedSizeBinaryBuilder, Float64Array, Int32Array, Int64Array,
    Int64Builder, ListBuilder, StringArray, StringBuilder, StructBuilder,
};
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Schema};
use arrow::record_batch::RecordBatch;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};

/// Every span, column by column, in order of arrival.
#[derive(Default)]
pub(crate) struct Columns {
    pub(crate) trace_id: Vec<u128>,
    span_id: Vec<u64>,
    parent_id: Vec<Option<u64>>,
    pub(crate) start_ns: Vec<i64>,
    duration_ns: Vec<i64>,
    kind: Vec<i32>,
    status: Vec<i32>,
    flags: Vec<i32>,
    dropped: [Vec<i32>; 3],
    events: HashMap<u32, Vec<Event>>,
    links: HashMap<u32, Vec<Link>>,
    named: Vec<NamedColumn>,
    /// Place of a (prefix, key, type) in `named`.
    places: HashMap<&'static str, HashMap<String, TypedPlaces>>,
}

/// A key may occur with several types, each a column.
type TypedPlaces = Vec<(Type, usize)>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Text,
    Int,
    Double,
    Bool,
}

struct NamedColumn {
    name: String,
    values: Values,
}

/// Dense up to the last row that has a value; texts are numbered from one.
enum Values {
    Text { rows: Vec<Option<NonZeroU32>>, numbers: HashMap<Rc<str>, NonZeroU32>, texts: Vec<Rc<str>> },
    Int(Vec<Option<i64>>),
    Double(Vec<Option<f64>>),
    Bool(Vec<Option<bool>>),
}

/// Text columns with more values than this are handed over as plain strings rather than as dictionaries.
const DICTIONARY_VALUES_MAX: usize = 1 << 16;

/// Columns written without a dictionary: their values hardly repeat.
pub(crate) const TRACE_ID: &str = "trace_id";
pub(crate) const SPAN_ID: &str = "span_id";
pub(crate) const PARENT_ID: &str = "parent_span_id";
pub(crate) const START: &str = "start_time_unix_nano";
pub(crate) const DURATION: &str = "duration_nanos";

impl Columns {
    pub(crate) fn rows(&self) -> usize {
        self.trace_id.len()
    }

    pub(crate) fn add(&mut self, request: ExportTraceServiceRequest) {
        for resource_spans in request.resource_spans {
            let resource = resource_spans.resource.unwrap_or_default();
            for scope_spans in resource_spans.scope_spans {
                let scope = scope_spans.scope.unwrap_or_default();
                for span in scope_spans.spans {
                    let row = self.rows();
                    for attribute in &resource.attributes {
                        self.set_attribute("resource.", row, attribute);
                    }
                    self.set_text("scope.name", row, &scope.name);
                    self.set_text("scope.version", row, &scope.version);
                    self.set_text("resource_schema_url", row, &resource_spans.schema_url);
                    self.set_text("scope_schema_url", row, &scope_spans.schema_url);
                    self.add_span(row, span);
                }
            }
        }
    }

    fn add_span(&mut self, row: usize, span: Span) {
        let eight = |id: &[u8]| id.try_into().map(u64::from_be_bytes).ok();
        self.trace_id.push(span.trace_id.as_slice().try_into().map(u128::from_be_bytes).unwrap_or_default());
        self.span_id.push(eight(&span.span_id).unwrap_or_default());
        self.parent_id.push(eight(&span.parent_span_id));
        self.start_ns.push(span.start_time_unix_nano as i64);
        self.duration_ns.push(span.end_time_unix_nano as i64 - span.start_time_unix_nano as i64);
        self.kind.push(span.kind);
        self.flags.push(span.flags as i32);
        let counts = [span.dropped_attributes_count, span.dropped_events_count, span.dropped_links_count];
        for (column, count) in self.dropped.iter_mut().zip(counts) {
            column.push(count as i32);
        }
        self.set_text("name", row, &span.name);
        if !span.trace_state.is_empty() {
            self.set_text("trace_state", row, &span.trace_state);
        }
        let status = span.status.unwrap_or_default();
        self.status.push(status.code);
        if !status.message.is_empty() {
            self.set_text("status_message", row, &status.message);
        }
        for attribute in &span.attributes {
            self.set_attribute("", row, attribute);
        }
        if !span.events.is_empty() {
            self.events.insert(row as u32, span.events);
        }
        if !span.links.is_empty() {
            self.links.insert(row as u32, span.links);
        }
    }

    fn set_attribute(&mut self, prefix: &'static str, row: usize, attribute: &KeyValue) {
        match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
            None => {}
            Some(Value::StringValue(text)) => self.column(prefix, &attribute.key, Type::Text).set_text(row, text),
            Some(Value::IntValue(number)) => {
                if let Values::Int(rows) = self.column(prefix, &attribute.key, Type::Int) {
                    set(rows, row, *number);
                }
            }
            Some(Value::DoubleValue(number)) => {
                if let Values::Double(rows) = self.column(prefix, &attribute.key, Type::Double) {
                    set(rows, row, *number);
                }
            }
            Some(Value::BoolValue(truth)) => {
                if let Values::Bool(rows) = self.column(prefix, &attribute.key, Type::Bool) {
                    set(rows, row, *truth);
                }
            }
            Some(composite) => {
                let json = serde_json::to_string(composite).expect("OTLP values are representable in JSON");
                self.column(prefix, &attribute.key, Type::Text).set_text(row, &json);
            }
        }
    }

    fn set_text(&mut self, key: &'static str, row: usize, text: &str) {
        self.column("field.", key, Type::Text).set_text(row, text);
    }

    fn column(&mut self, prefix: &'static str, key: &str, wanted: Type) -> &mut Values {
        let by_key = self.places.entry(prefix).or_default();
        if !by_key.contains_key(key) {
            by_key.insert(key.to_owned(), Vec::new());
        }
        let places = by_key.get_mut(key).expect("inserted above if it was missing");
        let place = match places.iter().find(|(type_, _)| *type_ == wanted) {
            Some((_, place)) => *place,
            None => {
                let place = self.named.len();
                places.push((wanted, place));
                let (suffix, values) = Values::new(wanted);
                self.named.push(NamedColumn { name: format!("{prefix}{key}{suffix}"), values });
                place
            }
        };
        &mut self.named[place].values
    }

    /// These rows, in this order, as one batch.
    pub(crate) fn batch(&self, order: &[u32]) -> anyhow::Result<RecordBatch> {
        let mut columns: Vec<(String, ArrayRef)> = vec![
            (TRACE_ID.into(), self.fixed(order, 16, |row| Some(self.trace_id[row].to_be_bytes()))?),
            (SPAN_ID.into(), self.fixed(order, 8, |row| Some(self.span_id[row].to_be_bytes()))?),
            (PARENT_ID.into(), self.fixed(order, 8, |row| self.parent_id[row].map(u64::to_be_bytes))?),
            (START.into(), longs(order, &self.start_ns)),
            (DURATION.into(), longs(order, &self.duration_ns)),
            ("kind".into(), ints(order, &self.kind)),
            ("status_code".into(), ints(order, &self.status)),
            ("flags".into(), ints(order, &self.flags)),
            ("dropped_attributes_count".into(), ints(order, &self.dropped[0])),
            ("dropped_events_count".into(), ints(order, &self.dropped[1])),
            ("dropped_links_count".into(), ints(order, &self.dropped[2])),
            ("events".into(), self.events(order)),
            ("links".into(), self.links(order)),
        ];
        columns.extend(self.named.iter().map(|column| (column.name.clone(), column.values.gather(order))));
        let fields: Vec<Field> = columns
            .iter()
            .map(|(name, array)| {
                // What OTLP always has is required in the file too, as a careful schema would say.
                let required = matches!(name.as_str(), TRACE_ID | SPAN_ID | START | DURATION | "kind" | "status_code")
                    || name == "flags"
                    || name.starts_with("dropped_");
                Field::new(name, array.data_type().clone(), !required)
            })
            .collect();
        let arrays = columns.into_iter().map(|(_, array)| array).collect();
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)?)
    }

    fn fixed<const N: usize>(
        &self,
        order: &[u32],
        width: i32,
        value: impl Fn(usize) -> Option<[u8; N]>,
    ) -> anyhow::Result<ArrayRef> {
        let mut builder = FixedSizeBinaryBuilder::with_capacity(order.len(), width);
        for &row in order {
            match value(row as usize) {
                Some(bytes) => builder.append_value(bytes)?,
                None => builder.append_null(),
            }
        }
        Ok(Arc::new(builder.finish()))
    }

    fn events(&self, order: &[u32]) -> ArrayRef {
        let mut list = lists(&["name", "attributes"], Some("time_unix_nano"));
        for row in order {
            for event in self.events.get(row).into_iter().flatten() {
                let times: &mut Int64Builder = list.values().field_builder(2).expect("times are the third field");
                times.append_value(event.time_unix_nano as i64);
                append(list.values(), &[&event.name, &json(&event.attributes)]);
            }
            list.append(true);
        }
        Arc::new(list.finish())
    }

    fn links(&self, order: &[u32]) -> ArrayRef {
        let mut list = lists(&["trace_id", "span_id", "trace_state", "attributes"], None);
        for row in order {
            for link in self.links.get(row).into_iter().flatten() {
                let ids = [hex(&link.trace_id), hex(&link.span_id)];
                append(list.values(), &[&ids[0], &ids[1], &link.trace_state, &json(&link.attributes)]);
            }
            list.append(true);
        }
        Arc::new(list.finish())
    }
}

fn json(attributes: &[KeyValue]) -> String {
    serde_json::to_string(attributes).expect("OTLP attributes are representable in JSON")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lists of structs with these text fields, and perhaps a number after them.
fn lists(texts: &[&str], number: Option<&str>) -> ListBuilder<StructBuilder> {
    let texts = texts.iter().map(|name| Field::new(*name, DataType::Utf8, true));
    let number = number.map(|name| Field::new(name, DataType::Int64, true));
    let fields: Fields = texts.chain(number).collect();
    ListBuilder::new(StructBuilder::from_fields(fields, 16))
}

fn append(structs: &mut StructBuilder, values: &[&str]) {
    for (number, value) in values.iter().enumerate() {
        let builder: &mut StringBuilder = structs.field_builder(number).expect("one string builder for each field");
        builder.append_value(value);
    }
    structs.append(true);
}

fn longs(order: &[u32], values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(order.iter().map(|row| values[*row as usize])))
}

fn ints(order: &[u32], values: &[i32]) -> ArrayRef {
    Arc::new(Int32Array::from_iter_values(order.iter().map(|row| values[*row as usize])))
}

/// Sets a row's value; the first of equal keys wins, as it does everywhere here.
fn set<T: Copy>(rows: &mut Vec<Option<T>>, row: usize, value: T) {
    if rows.len() <= row {
        rows.resize(row, None);
        rows.push(Some(value));
    }
}

impl Values {
    /// Empty, with what is added to the column's name: keys may occur with several types.
    fn new(wanted: Type) -> (&'static str, Self) {
        match wanted {
            Type::Text => ("", Self::Text { rows: Vec::new(), numbers: HashMap::default(), texts: Vec::new() }),
            Type::Int => ("#int", Self::Int(Vec::new())),
            Type::Double => ("#double", Self::Double(Vec::new())),
            Type::Bool => ("#bool", Self::Bool(Vec::new())),
        }
    }

    fn set_text(&mut self, row: usize, text: &str) {
        let Self::Text { rows, numbers, texts } = self else { return };
        let number = match numbers.get(text) {
            Some(number) => *number,
            None => {
                let text: Rc<str> = text.into();
                texts.push(text.clone());
                let number = NonZeroU32::new(texts.len() as u32).expect("one text was just added");
                numbers.insert(text, number);
                number
            }
        };
        set(rows, row, number);
    }

    fn gather(&self, order: &[u32]) -> ArrayRef {
        fn at<T: Copy>(order: &[u32], rows: &[Option<T>]) -> impl Iterator<Item = Option<T>> {
            order.iter().map(|row| rows.get(*row as usize).copied().flatten())
        }
        match self {
            Self::Int(rows) => Arc::new(at(order, rows).collect::<Int64Array>()),
            Self::Double(rows) => Arc::new(at(order, rows).collect::<Float64Array>()),
            Self::Bool(rows) => Arc::new(at(order, rows).collect::<BooleanArray>()),
            Self::Text { rows, texts, .. } if texts.len() > DICTIONARY_VALUES_MAX => {
                Arc::new(at(order, rows).map(|n| n.map(|n| &*texts[n.get() as usize - 1])).collect::<StringArray>())
            }
            Self::Text { rows, texts, .. } => {
                let keys: Int32Array =
                    at(order, rows).map(|number| number.map(|number| number.get() as i32 - 1)).collect();
                let values = Arc::new(StringArray::from_iter_values(texts));
                Arc::new(DictionaryArray::<Int32Type>::new(keys, values))
            }
        }
    }
}
