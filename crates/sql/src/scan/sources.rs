//! Which columns of a file a column of a table comes from, and what it makes of their values.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, new_null_array};
use arrow::buffer::BooleanBuffer;
use arrow::compute::kernels::zip::zip;
use arrow::compute::{cast, or, take};
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use parquet::errors::{ParquetError, Result};
use tracehouse_model::{AnyValue, Threshold};
use tracehouse_scan::{AttributesOf, Bounds, Contents, Field, OWN_ID, Owner, PARENT, Place, Values};
use tracehouse_spanfile::Layout;

use super::spans::{probabilities, weights};
use super::values::{ValueBuilder, hex_column};
use crate::limits::without_signs;
use crate::tables::{AttributeColumn, AttributeScope, AttributeType, Column, Table};

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

impl Column {
    /// What a columnar column is in a file.
    pub(super) fn stored_field(&self) -> Field<'_> {
        match self {
            Column::SpanId => Field::Column(OWN_ID),
            Column::ParentSpanId => Field::Column(PARENT),
            Column::SpanName => Field::Column("name"),
            Column::Weight | Column::Probability => Field::Column("sampling_threshold"),
            Column::ServiceName => Field::Attribute(&[Owner::Resource], AttributeColumn::SERVICE_NAME),
            Column::Attribute(AttributeColumn { scope, key, .. }) => {
                let owners: &[Owner] = match scope {
                    AttributeScope::Any => &[Owner::Span, Owner::Resource],
                    AttributeScope::Span => &[Owner::Span],
                    AttributeScope::Resource => &[Owner::Resource],
                };
                Field::Attribute(owners, key)
            }
            same => Field::Column(same.schema_name().unwrap_or_default()),
        }
    }

    /// Values of a file as those of the column; null where they are of another type.
    pub(super) fn made_of(&self, values: Values) -> Result<ArrayRef> {
        let array = match (self, values) {
            (Column::Attribute(attribute), values) => return of_type(values, attribute.value_type),
            (Column::ServiceName, values) => return of_type(values, AttributeType::Text),
            (_, Values::Typed(array)) => array,
            (_, Values::Any(_)) => return Err(wrong_type(self)),
        };
        let thresholds = || -> Result<Vec<Option<Threshold>>> {
            let bits = array.as_primitive_opt::<Int64Type>().ok_or_else(|| wrong_type(self))?;
            Ok(bits.iter().map(|bits| Threshold::new(bits? as u64)).collect())
        };
        match self {
            Column::TraceId | Column::SpanId | Column::ParentSpanId => {
                Ok(hex_column(array.as_fixed_size_binary_opt().ok_or_else(|| wrong_type(self))?.iter()))
            }
            Column::Weight => Ok(weights(thresholds()?.into_iter())),
            Column::Probability => Ok(probabilities(thresholds()?.into_iter())),
            _ => Ok(cast(&array, &self.data_type())?),
        }
    }

    /// The value of a span for which the file has none.
    pub(super) fn of_none(&self) -> ArrayRef {
        match self {
            Column::Weight => weights(std::iter::once(None)),
            _ => new_null_array(&self.data_type(), 1),
        }
    }

    /// The column for the rows of a batch of its stored columns.
    fn made_from(&self, places: &[Place<'_>], attributes: &AttributesOf<'_>, batch: &RecordBatch) -> Result<ArrayRef> {
        let mut made: Option<(ArrayRef, BooleanArray)> = None;
        for place in places {
            let found = attributes.values(place, batch)?;
            let present = present(&found.values);
            let values = self.made_of(found.values)?;
            let (of_rows, present) = match found.numbers {
                None => (values, present),
                Some(numbers) => {
                    let present = take(&present, numbers, None)?;
                    (take(&values, numbers, None)?, without_nulls(present.as_boolean()))
                }
            };
            made = Some(match made {
                None => (of_rows, present),
                // A value of another type hides those of later places all the same.
                Some((first, first_present)) => (zip(&first_present, &first, &of_rows)?, or(&first_present, &present)?),
            });
        }
        Ok(made.map_or_else(|| new_null_array(&self.data_type(), batch.num_rows()), |(made, _)| made))
    }
}

/// Columnar columns of a table, and where a file has their values.
pub(super) struct Sources<'c>(Vec<(&'c Column, Vec<Place<'c>>)>);

impl<'c> Sources<'c> {
    pub(super) fn of(columns: impl IntoIterator<Item = &'c Column>, layout: &Layout, contents: &Contents) -> Self {
        let places = |column: &'c Column| (column, column.stored_field().places(contents, layout));
        Self(columns.into_iter().map(places).collect())
    }

    /// Names of the stored columns, each once.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.0.iter().flat_map(|(_, places)| places).map(|place| place.column.clone()).collect();
        names.sort();
        names.dedup();
        names
    }

    /// The columns, one after the other, for the rows of a batch of stored ones. Attributes are looked for once for all of them.
    pub(super) fn made_from<'s>(
        &'s self,
        batch: &'s RecordBatch,
        bounds: &Bounds,
    ) -> Result<impl Iterator<Item = Result<ArrayRef>> + 's> {
        let attributes = AttributesOf::places(self.0.iter().flat_map(|(_, places)| places), batch, bounds)?;
        Ok(self.0.iter().map(move |(column, places)| column.made_from(places, &attributes, batch)))
    }
}

/// Names of the stored columns that columns of a table need in a file, each once.
pub(super) fn stored_names(columns: &[Column], layout: &Layout, contents: &Contents) -> Vec<String> {
    let mut names: Vec<String> = columns.iter().flat_map(|column| stored_columns(column, layout, contents)).collect();
    names.sort();
    names.dedup();
    names
}

fn stored_columns(column: &Column, layout: &Layout, contents: &Contents) -> Vec<String> {
    let one = |name: &str| vec![name.to_owned()];
    match column {
        // Only read as whole spans.
        Column::Attributes => {
            let columns = layout.span.iter().map(|promoted| layout.span_column_name(&promoted.key));
            columns.chain(one(Owner::Span.rest())).collect()
        }
        Column::ResourceAttributes => {
            let columns = layout.resource.iter().map(|promoted| layout.resource_column_name(&promoted.key));
            columns.chain(one(Owner::Resource.rest())).collect()
        }
        Column::EventTime | Column::EventName => one("events"),
        Column::LinkedTraceId | Column::LinkedSpanId | Column::LinkedTraceState => one("links"),
        columnar => columnar.stored_field().places(contents, layout).into_iter().map(|place| place.column).collect(),
    }
}

fn wrong_type(column: &Column) -> ParquetError {
    ParquetError::General(format!("what {} is made from has another type than its file's layout says", column.name()))
}

/// Values of an attribute that are of the wanted type.
fn of_type(values: Values, wanted: AttributeType) -> Result<ArrayRef> {
    let array = match values {
        Values::Typed(array) => array,
        Values::Any(values) => return Ok(built(wanted, values.iter().map(Option::as_ref))),
    };
    Ok(match (array.data_type(), wanted) {
        (DataType::Utf8 | DataType::Int64 | DataType::Boolean, AttributeType::Text) => {
            cast(&array, &DataType::Utf8View)?
        }
        (DataType::Int64, AttributeType::Float) => cast(&array, &DataType::Float64)?,
        (DataType::Float64, AttributeType::Text) => {
            let doubles = array.as_primitive::<Float64Type>();
            let doubles: Vec<Option<AnyValue>> = doubles.iter().map(|double| double.map(AnyValue::Double)).collect();
            built(wanted, doubles.iter().map(Option::as_ref))
        }
        (DataType::Float64, AttributeType::Float) => without_signs(&array),
        (known, _) if *known == wanted.data_type() => array,
        _ => new_null_array(&wanted.data_type(), array.len()),
    })
}

fn built<'v>(wanted: AttributeType, values: impl Iterator<Item = Option<&'v AnyValue>>) -> ArrayRef {
    let mut builder = ValueBuilder::new(wanted);
    for value in values {
        if !value.is_some_and(|value| builder.push_any(value)) {
            builder.push_null();
        }
    }
    builder.finish()
}

/// The same with `false` in the place of null.
fn without_nulls(mask: &BooleanArray) -> BooleanArray {
    mask.nulls().map_or_else(|| mask.clone(), |nulls| BooleanArray::from(mask.values() & nulls.inner()))
}

/// Where there is a value, of whatever type.
pub(super) fn present(values: &Values) -> BooleanArray {
    let present = match values {
        Values::Typed(array) => match array.logical_nulls() {
            Some(nulls) => nulls.into_inner(),
            None => BooleanBuffer::new_set(array.len()),
        },
        Values::Any(values) => {
            let is_there = |row: usize| values[row].as_ref().is_some_and(|value| *value != AnyValue::Empty);
            BooleanBuffer::collect_bool(values.len(), is_there)
        }
    };
    BooleanArray::from(present)
}
