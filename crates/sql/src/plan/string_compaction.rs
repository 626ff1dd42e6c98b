//! Frees views from buffers that they hardly use.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, GenericByteViewArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::Buffer;
use arrow::datatypes::{BinaryViewType, ByteViewType, DataType, StringViewType};
use datafusion::common::Result;

/// A column with more buffers is copied. Where batches are put together, as joins do on one side, their lists of
/// buffers are too: each join would multiply their number, outside the pool, by that of its batches.
const BUFFERS_MAX: usize = 32;

/// A view with at most so many bytes has its text in itself.
const INLINE_BYTES_MAX: u32 = 12;

/// The batch with each text once, and together, where a column had too many buffers.
pub(super) fn compact_strings(batch: RecordBatch) -> Result<RecordBatch> {
    if batch.columns().iter().all(|column| buffers(column) <= BUFFERS_MAX) {
        return Ok(batch);
    }
    let columns = batch.columns().iter().map(compact_strings_of).collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(batch.schema(), columns, &options)?)
}

fn buffers(column: &ArrayRef) -> usize {
    match column.data_type() {
        DataType::Utf8View => column.as_string_view().data_buffers().len(),
        DataType::BinaryView => column.as_binary_view().data_buffers().len(),
        _ => 0,
    }
}

fn compact_strings_of(column: &ArrayRef) -> Result<ArrayRef> {
    if buffers(column) <= BUFFERS_MAX {
        return Ok(column.clone());
    }
    match column.data_type() {
        DataType::Utf8View => Ok(Arc::new(compact_views::<StringViewType>(column.as_string_view())?)),
        _ => Ok(Arc::new(compact_views::<BinaryViewType>(column.as_binary_view())?)),
    }
}

/// Unlike `gc` of Arrow this keeps a text that many rows share in one place, as a join of one row with many makes it.
fn compact_views<T: ByteViewType>(array: &GenericByteViewArray<T>) -> Result<GenericByteViewArray<T>> {
    let mut bytes = Vec::new();
    let mut places: HashMap<u128, u128> = HashMap::new();
    let mut views = Vec::with_capacity(array.len());
    for (row, view) in array.views().iter().enumerate() {
        let is_inline = *view as u32 <= INLINE_BYTES_MAX;
        if array.is_null(row) || is_inline {
            views.push(if is_inline { *view } else { 0 });
            continue;
        }
        let place = places.entry(*view).or_insert_with(|| {
            let value: &T::Native = array.value(row);
            let offset = bytes.len() as u32;
            bytes.extend_from_slice(value.as_ref());
            // Length and prefix stay; the buffer is the only one.
            (*view & u128::from(u64::MAX)) | (u128::from(offset) << 96)
        });
        views.push(*place);
    }
    bytes.shrink_to_fit();
    let buffers = if bytes.is_empty() { Vec::new() } else { vec![Buffer::from_vec(bytes)] };
    Ok(GenericByteViewArray::try_new(views.into(), buffers, array.nulls().cloned())?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::StringViewArray;
    use arrow::compute::concat;

    #[test]
    fn many_buffers_become_one() {
        let texts = |number: usize| {
            let long = format!("a text that is not inline, number {number}");
            StringViewArray::from_iter([
                Some(long),
                None,
                Some(format!("short {number}")),
                Some("the same text each time".into()),
            ])
        };
        let parts: Vec<StringViewArray> = (0..100).map(texts).collect();
        let parts: Vec<&dyn Array> = parts.iter().map(|part| part as &dyn Array).collect();
        let column = concat(&parts).expect("of one type");
        let twice = concat(&[&column, &column]).expect("of one type");
        assert!(buffers(&twice) > BUFFERS_MAX, "{}", buffers(&twice));
        let batch = RecordBatch::try_from_iter([("text", twice)]).expect("one column");
        let compacted = compact_strings(batch.clone()).expect("compacts");
        assert_eq!(compacted, batch);
        assert_eq!(buffers(compacted.column(0)), 1);
        assert!(compacted.column(0).get_array_memory_size() < batch.column(0).get_array_memory_size());
    }
}
