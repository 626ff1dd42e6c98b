//! Rows of Arrow as JSON.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use tracehouse_model::double_text;

/// The rows of batches as arrays with commas between them, in parts of about so many bytes.
pub(super) struct JsonRows {
    batches: std::vec::IntoIter<RecordBatch>,
    /// What is left of the batch that was begun.
    rest: Option<RecordBatch>,
    part_bytes: usize,
    is_first: bool,
}

impl JsonRows {
    pub(super) fn new(batches: Vec<RecordBatch>, part_bytes: usize) -> Self {
        Self { batches: batches.into_iter(), rest: None, part_bytes, is_first: true }
    }
}

impl Iterator for JsonRows {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let batch = self.rest.take().or_else(|| self.batches.next())?;
        let columns: Vec<Cells<'_>> = batch.columns().iter().map(Cells::new).collect();
        let mut out = Vec::new();
        for row in 0..batch.num_rows() {
            if out.len() >= self.part_bytes {
                self.rest = Some(batch.slice(row, batch.num_rows() - row));
                break;
            }
            if !std::mem::take(&mut self.is_first) {
                out.push(b',');
            }
            out.push(b'[');
            for (at, column) in columns.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                column.write(row, &mut out);
            }
            out.push(b']');
        }
        Some(out)
    }
}

/// A column, ready to be written cell by cell.
struct Cells<'a> {
    array: &'a ArrayRef,
    form: Form<'a>,
}

enum Form<'a> {
    /// Whole numbers of up to 64 bits with a sign, cast to that.
    Int(ArrayRef),
    Double(ArrayRef),
    Bool,
    Text,
    List,
    /// All else as Arrow prints it: times as RFC 3339.
    Printed(ArrayFormatter<'a>),
    /// What can't even be printed.
    Unknown,
}

const PRINTED: FormatOptions<'static> = FormatOptions::new().with_types_info(false);

impl<'a> Cells<'a> {
    fn new(array: &'a ArrayRef) -> Self {
        let form = match array.data_type() {
            DataType::Utf8 => Form::Text,
            DataType::Boolean => Form::Bool,
            DataType::Float16 | DataType::Float32 | DataType::Float64 => {
                cast(array, &DataType::Float64).map_or(Form::Unknown, Form::Double)
            }
            DataType::List(_) => Form::List,
            data_type if data_type.is_integer() && *data_type != DataType::UInt64 => {
                cast(array, &DataType::Int64).map_or(Form::Unknown, Form::Int)
            }
            _ => ArrayFormatter::try_new(array, &PRINTED).map_or(Form::Unknown, Form::Printed),
        };
        Self { array, form }
    }

    fn write(&self, row: usize, out: &mut Vec<u8>) {
        if self.array.is_null(row) {
            return out.extend_from_slice(b"null");
        }
        match &self.form {
            Form::Int(values) => {
                out.extend_from_slice(values.as_primitive::<Int64Type>().value(row).to_string().as_bytes())
            }
            Form::Double(values) => write_double(values.as_primitive::<Float64Type>().value(row), out),
            Form::Bool => out.extend_from_slice(if self.array.as_boolean().value(row) { b"true" } else { b"false" }),
            Form::Text => write_text(self.array.as_string::<i32>().value(row), out),
            Form::List => write_list(&self.array.as_list::<i32>().value(row), out),
            Form::Printed(printed) if *self.array.data_type() == DataType::UInt64 => {
                out.extend_from_slice(printed.value(row).to_string().as_bytes());
            }
            Form::Printed(printed) => write_text(&printed.value(row).to_string(), out),
            Form::Unknown => out.extend_from_slice(b"null"),
        }
    }
}

fn write_list(values: &ArrayRef, out: &mut Vec<u8>) {
    let cells = Cells::new(values);
    out.push(b'[');
    for at in 0..values.len() {
        if at > 0 {
            out.push(b',');
        }
        cells.write(at, out);
    }
    out.push(b']');
}

/// JSON has no infinity: what is not finite is a text.
fn write_double(value: f64, out: &mut Vec<u8>) {
    if value.is_finite() {
        out.extend_from_slice(format!("{value:?}").as_bytes());
    } else {
        write_text(&double_text(value), out);
    }
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    serde_json::to_writer(out, text).expect("writing plain data to memory can't fail");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        BooleanArray, Float64Array, Int32Array, ListArray, StringArray, TimestampNanosecondArray, UInt64Array,
    };
    use arrow::datatypes::Int64Type as Int64;

    use super::*;

    #[test]
    fn every_type_has_a_form() {
        let list = ListArray::from_iter_primitive::<Int64, _, _>(vec![Some(vec![Some(1), None]), None]);
        let times = TimestampNanosecondArray::from(vec![1_700_000_000_000_000_001, 0]).with_timezone("UTC");
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("i", Arc::new(Int32Array::from(vec![Some(-1), None]))),
            ("u", Arc::new(UInt64Array::from(vec![u64::MAX, 0]))),
            ("d", Arc::new(Float64Array::from(vec![1.0, f64::NAN]))),
            ("b", Arc::new(BooleanArray::from(vec![true, false]))),
            ("t", Arc::new(StringArray::from(vec!["a\"\n", ""]))),
            ("l", Arc::new(list)),
            ("w", Arc::new(times)),
        ];
        let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
        let expected = concat!(
            r#"[-1,18446744073709551615,1.0,true,"a\"\n",[1,null],"2023-11-14T22:13:20.000000001Z"],"#,
            r#"[null,0,"NaN",false,"",null,"1970-01-01T00:00:00Z"]"#
        );
        for (batches, part_bytes, parts) in [
            (vec![batch.slice(0, 1), batch.slice(1, 1)], usize::MAX, 2),
            (vec![batch.clone()], usize::MAX, 1),
            (vec![batch], 1, 2),
        ] {
            let written: Vec<Vec<u8>> = JsonRows::new(batches, part_bytes).collect();
            assert_eq!(written.len(), parts);
            assert_eq!(String::from_utf8(written.concat()).expect("text"), expected);
        }
    }
}
