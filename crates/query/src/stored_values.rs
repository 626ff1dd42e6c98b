//! The values of an attribute in a file.

use std::collections::BTreeSet;

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int64Type};
use parquet::errors::ParquetError;
use tracehouse_model::AnyValue;
use tracehouse_scan::{Bounds, Contents, Field, ReadRows, RowGroup};
use tracehouse_spanfile::OpenFile;

use crate::conditions::attribute_scope;
use crate::request::Scope;

type Result<T, E = ParquetError> = std::result::Result<T, E>;

/// What is asked for as files hold it; `None` for what stands inside lists, where the groups of a count find it.
pub(crate) fn stored_field(scope: Scope, key: &str) -> Option<Field<'_>> {
    crate::column_eval::field_of(attribute_scope(scope), key)
}

/// Shows the values of an attribute in a file, most of them once in each row group, until the function says that it has enough.
pub(crate) fn each_value_of_file(
    open: &OpenFile,
    contents: &Contents,
    (scope, key): (Scope, &str),
    bounds: &Bounds,
    mut look: impl FnMut(AnyValue) -> bool,
) -> Result<()> {
    let places = stored_field(scope, key).map(|field| field.places(contents, open.layout())).unwrap_or_default();
    for place in places {
        for row_group in 0..open.row_groups() {
            let row_group = RowGroup { bounds, open, contents, number: row_group };
            for batch in row_group.read(&[&place.column], &ReadRows::exactly(&row_group.readable()), usize::MAX)? {
                // Every value of a dictionary that we write is used by some row.
                let goes_on = each_value(place.values(batch?.column(0))?.values, &mut look);
                if !goes_on || bounds.exceeded() {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

/// Shows values until the function says that it has enough: then false.
fn each_value(values: tracehouse_scan::Values, look: &mut impl FnMut(AnyValue) -> bool) -> bool {
    let array = match values {
        tracehouse_scan::Values::Any(values) => return values.iter().flatten().all(|value| look(value.clone())),
        tracehouse_scan::Values::Typed(array) => array,
    };
    let mut of_text = |text: &str| look(AnyValue::String(text.to_owned()));
    if let Some(texts) = array.as_string_opt::<i32>() {
        texts.iter().flatten().all(of_text)
    } else if let Some(texts) = array.as_string_view_opt() {
        texts.iter().flatten().all(&mut of_text)
    } else if let Some(ints) = array.as_primitive_opt::<Int64Type>() {
        let distinct: BTreeSet<i64> = ints.iter().flatten().collect();
        distinct.into_iter().all(|value| look(AnyValue::Int(value)))
    } else if let Some(doubles) = array.as_primitive_opt::<Float64Type>() {
        doubles.iter().flatten().all(|value| look(AnyValue::Double(value)))
    } else if let Some(bools) = array.as_boolean_opt() {
        bools.iter().flatten().all(|value| look(AnyValue::Bool(value)))
    } else {
        true
    }
}
