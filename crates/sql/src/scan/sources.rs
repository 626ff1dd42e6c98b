//! Which columns of a file a column of a table comes from.

use parquet::errors::{ParquetError, Result};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, new_null_array};
use arrow::compute::kernels::zip::zip;
use arrow::compute::{cast, is_not_null};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type};
use tracehouse_model::{AnyValue, Threshold};
use tracehouse_store::{ColumnType, FileContents, Layout, NameList};

use super::spans::{probabilities, weights};
use super::values::{ValueBuilder, hex_column};
use crate::functions::lookup;
use crate::tables::{AttributeColumn, AttributeScope, AttributeType, Column, Table};

/// The residual columns of a file.
const SPAN_REST: &str = "span_attributes";
const RESOURCE_REST: &str = "resource_attributes";

/// Whether a column can be made from columns of a file, row by row, without making whole spans.
pub(super) fn is_columnar(column: &Column, table: Table) -> bool {
    match column {
        Column::Attributes | Column::ResourceAttributes => false,
        Column::EventTime | Column::EventName => false,
        Column::LinkedTraceId | Column::LinkedSpanId | Column::LinkedTraceState => false,
        Column::Attribute(attribute) => table == Table::Spans || attribute.scope == AttributeScope::Resource,
        _ => true,
    }
}

/// Where a file may hold the values of a key, in the order in which they count.
pub(super) struct AttributeSources<'a> {
    attribute: &'a AttributeColumn,
    sources: Vec<Source>,
}

enum Source {
    Column(String, ColumnType),
    SpanRest,
    ResourceRest,
}

impl<'a> AttributeSources<'a> {
    pub(super) fn new(attribute: &'a AttributeColumn, layout: &Layout, contents: &FileContents) -> Self {
        let key = &*attribute.key;
        let mut sources = Vec::new();
        if attribute.scope != AttributeScope::Resource {
            let column = layout.span_column(key).map(|(_, value_type)| value_type);
            sources.extend(column.map(|value_type| Source::Column(Layout::span_column_name(key), value_type)));
            if in_rest(NameList::SpanKeys, key, column, contents) {
                sources.push(Source::SpanRest);
            }
        }
        if attribute.scope != AttributeScope::Span {
            let column = layout.resource_column(key).map(|(_, value_type)| value_type);
            sources.extend(column.map(|value_type| Source::Column(Layout::resource_column_name(key), value_type)));
            if in_rest(NameList::ResourceKeys, key, column, contents) {
                sources.push(Source::ResourceRest);
            }
        }
        Self { attribute, sources }
    }

    pub(super) fn stored(&self) -> Vec<String> {
        let name = |source: &Source| match source {
            Source::Column(name, _) => name.clone(),
            Source::SpanRest => SPAN_REST.to_owned(),
            Source::ResourceRest => RESOURCE_REST.to_owned(),
        };
        self.sources.iter().map(name).collect()
    }

    /// The values in a batch, as a dictionary if that is how a text is stored.
    fn values(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        let wanted = self.attribute.value_type;
        let mut values: Option<ArrayRef> = None;
        for source in &self.sources {
            let next = match source {
                Source::Column(name, value_type) => typed(stored(batch, name)?, *value_type, wanted)?,
                Source::SpanRest => from_map(stored(batch, SPAN_REST)?, &self.attribute.key, wanted)?,
                Source::ResourceRest => from_json(stored(batch, RESOURCE_REST)?, &self.attribute.key, wanted)?,
            };
            values = Some(match values {
                None => next,
                Some(first) => first_of(&first, &next)?,
            });
        }
        Ok(values.unwrap_or_else(|| new_null_array(&wanted.data_type(), batch.num_rows())))
    }
}

/// Whether a key may occur in a file at all.
pub(super) fn may_occur(attribute: &AttributeColumn, contents: &FileContents) -> bool {
    let listed = |list: NameList| in_rest(list, &attribute.key, None, contents);
    (attribute.scope != AttributeScope::Resource && listed(NameList::SpanKeys))
        || (attribute.scope != AttributeScope::Span && listed(NameList::ResourceKeys))
}

/// Whether values of a key may stand among the residual attributes, given the type of its own column.
fn in_rest(list: NameList, key: &str, column: Option<ColumnType>, contents: &FileContents) -> bool {
    let keys = if list == NameList::SpanKeys { &contents.span_keys } else { &contents.resource_keys };
    !contents.lists_all(list)
        || keys.iter().any(|known| known.key == key && (column.is_none() || known.value_type != column))
}

/// Names of the stored columns that a columnar column is made from. Parents are read apart.
pub(super) fn stored_columns(column: &Column, layout: &Layout, contents: &FileContents) -> Vec<String> {
    let one = |name: &str| vec![name.to_owned()];
    match column {
        Column::ParentSpanId => Vec::new(),
        Column::SpanName => one("name"),
        Column::Weight | Column::Probability => one("sampling_threshold"),
        Column::ServiceName => AttributeSources::new(&AttributeColumn::service_name(), layout, contents).stored(),
        Column::Attribute(attribute) => AttributeSources::new(attribute, layout, contents).stored(),
        // Only read as whole spans.
        Column::Attributes => {
            let columns = layout.span.iter().map(|promoted| Layout::span_column_name(&promoted.key));
            columns.chain([SPAN_REST.to_owned()]).collect()
        }
        Column::ResourceAttributes => {
            let columns = layout.resource.iter().map(|promoted| Layout::resource_column_name(&promoted.key));
            columns.chain([RESOURCE_REST.to_owned()]).collect()
        }
        Column::EventTime | Column::EventName => one("events"),
        Column::LinkedTraceId | Column::LinkedSpanId | Column::LinkedTraceState => one("links"),
        same => one(&same.name()),
    }
}

/// A column of a table from what was read; texts may still be dictionaries.
pub(super) fn made_from(
    column: &Column,
    batch: &RecordBatch,
    layout: &Layout,
    contents: &FileContents,
) -> Result<ArrayRef> {
    let ids = |name: &str| -> Result<ArrayRef> {
        let ids = stored(batch, name)?.as_fixed_size_binary_opt().ok_or_else(|| wrong_type(name))?;
        Ok(hex_column((0..ids.len()).map(|row| ids.value(row))))
    };
    let thresholds = || -> Result<Vec<Option<Threshold>>> {
        let name = "sampling_threshold";
        let bits = stored(batch, name)?.as_primitive_opt::<Int64Type>().ok_or_else(|| wrong_type(name))?;
        Ok(bits.iter().map(|bits| Threshold::new(bits? as u64)).collect())
    };
    match column {
        Column::TraceId => ids("trace_id"),
        Column::SpanId => ids("span_id"),
        Column::Weight => Ok(weights(thresholds()?.into_iter())),
        Column::Probability => Ok(probabilities(thresholds()?.into_iter())),
        Column::ServiceName => AttributeSources::new(&AttributeColumn::service_name(), layout, contents).values(batch),
        Column::Attribute(attribute) => AttributeSources::new(attribute, layout, contents).values(batch),
        Column::SpanName => stored(batch, "name").cloned(),
        Column::StartTime => Ok(cast(stored(batch, "start_time")?, &column.data_type())?),
        same => stored(batch, &same.name()).cloned(),
    }
}

/// A text column without its dictionary, as the table's schema has it.
pub(super) fn without_dictionary(values: ArrayRef) -> Result<ArrayRef> {
    match values.data_type() {
        DataType::Dictionary(_, _) | DataType::Utf8 => Ok(cast(&values, &DataType::Utf8View)?),
        _ => Ok(values),
    }
}

fn stored<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| ParquetError::General(format!("the file has no column {name}")))
}

fn wrong_type(name: &str) -> ParquetError {
    ParquetError::General(format!("column {name} has another type than its file's layout says"))
}

/// A promoted column as values of the wanted type.
fn typed(column: &ArrayRef, stored: ColumnType, wanted: AttributeType) -> Result<ArrayRef> {
    Ok(match (stored, wanted) {
        (ColumnType::String, AttributeType::Text)
        | (ColumnType::Int, AttributeType::Int)
        | (ColumnType::Double, AttributeType::Float)
        | (ColumnType::Bool, AttributeType::Bool) => column.clone(),
        (ColumnType::Int | ColumnType::Bool, AttributeType::Text) => cast(column, &DataType::Utf8View)?,
        (ColumnType::Int, AttributeType::Float) => cast(column, &DataType::Float64)?,
        (ColumnType::Double, AttributeType::Text) => {
            let doubles = column.as_primitive_opt::<Float64Type>().ok_or_else(|| wrong_type("of an attribute"))?;
            built(wanted, doubles.iter().map(|double| double.map(AnyValue::Double)))
        }
        _ => new_null_array(&wanted.data_type(), column.len()),
    })
}

fn built(wanted: AttributeType, values: impl Iterator<Item = Option<AnyValue>>) -> ArrayRef {
    let mut builder = ValueBuilder::new(wanted);
    values.for_each(|value| builder.push_first(value.into_iter()));
    builder.finish()
}

/// Values of a key in a map from key to JSON.
fn from_map(column: &ArrayRef, key: &str, wanted: AttributeType) -> Result<ArrayRef> {
    let map = column.as_map_opt().ok_or_else(|| wrong_type(SPAN_REST))?;
    let keys = map.keys().as_string_opt::<i32>().ok_or_else(|| wrong_type(SPAN_REST))?;
    let values = map.values().as_string_opt::<i32>().ok_or_else(|| wrong_type(SPAN_REST))?;
    let value = |window: &[i32]| {
        let at = (window[0] as usize..window[1] as usize).find(|&at| keys.value(at) == key)?;
        AnyValue::from_canonical_json(values.value(at)).ok()
    };
    Ok(built(wanted, map.value_offsets().windows(2).map(value)))
}

/// Values of a key in texts of JSON, which are few and repeat.
fn from_json(column: &ArrayRef, key: &str, wanted: AttributeType) -> Result<ArrayRef> {
    let Some(dictionary) = column.as_dictionary_opt::<Int32Type>() else {
        let texts = column.as_string_view_opt().ok_or_else(|| wrong_type(RESOURCE_REST))?;
        return Ok(built(wanted, texts.iter().map(|json| lookup(json?, key))));
    };
    let texts = dictionary.values().as_string_opt::<i32>().ok_or_else(|| wrong_type(RESOURCE_REST))?;
    let values = built(wanted, texts.iter().map(|json| lookup(json?, key)));
    Ok(arrow::compute::take(&values, dictionary.keys(), None)?)
}

/// The first values where they are there, else the second.
fn first_of(first: &ArrayRef, second: &ArrayRef) -> Result<ArrayRef> {
    let (first, second) = (without_dictionary(first.clone())?, without_dictionary(second.clone())?);
    if first.null_count() == 0 {
        return Ok(first);
    }
    let chosen = zip(&is_not_null(&first)?, &first, &second)?;
    Ok(Arc::clone(&chosen))
}
