//! How many bytes the values of an array have. Unlike the memory of an array this knows slices, and counts a text
//! that several views share as often as it is there: so much is needed as soon as the values are copied.

use arrow::array::{Array, AsArray, OffsetSizeTrait, RecordBatch};
use arrow::datatypes::DataType;

/// A view, and about the size of anything else that has a fixed one.
const FIXED_BYTES: usize = 16;

pub(crate) fn bytes_of_batch(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(|column| bytes_of(column)).sum()
}

pub(crate) fn bytes_of(array: &dyn Array) -> usize {
    // The length of a view is in its lowest bits.
    let viewed = |views: &[u128]| views.iter().map(|view| FIXED_BYTES + *view as u32 as usize).sum();
    match array.data_type() {
        DataType::Utf8View => viewed(array.as_string_view().views()),
        DataType::BinaryView => viewed(array.as_binary_view().views()),
        DataType::List(_) => bytes_of_items::<i32>(array),
        DataType::LargeList(_) => bytes_of_items::<i64>(array),
        DataType::Map(_, _) => {
            let map = array.as_map();
            let offsets = map.value_offsets();
            let first = offsets[0] as usize;
            std::mem::size_of_val(offsets) + bytes_of(&map.entries().slice(first, offsets[map.len()] as usize - first))
        }
        DataType::Struct(_) => array.as_struct().columns().iter().map(|column| bytes_of(column)).sum(),
        DataType::Dictionary(_, _) => {
            let values = bytes_of(array.as_any_dictionary().values());
            values + FIXED_BYTES * array.len()
        }
        _ => array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size()),
    }
}

fn bytes_of_items<O: OffsetSizeTrait>(array: &dyn Array) -> usize {
    let list = array.as_list::<O>();
    let offsets = list.value_offsets();
    let (first, last) = (offsets[0].as_usize(), offsets[list.len()].as_usize());
    std::mem::size_of_val(offsets) + bytes_of(&list.values().slice(first, last - first))
}

/// Elements of all lists of an array; 0 if it has none.
pub(crate) fn elements_of(array: &dyn Array) -> usize {
    match array.data_type() {
        DataType::List(_) => elements::<i32>(array),
        DataType::LargeList(_) => elements::<i64>(array),
        DataType::FixedSizeList(_, _) => array.as_fixed_size_list().values().len(),
        _ => 0,
    }
}

fn elements<O: OffsetSizeTrait>(array: &dyn Array) -> usize {
    let list = array.as_list::<O>();
    let offsets = list.value_offsets();
    (offsets[list.len()] - offsets[0]).as_usize()
}

/// Bytes of the largest value of an array.
pub(crate) fn widest(array: &dyn Array) -> usize {
    let largest_view = |views: &[u128]| views.iter().map(|view| *view as u32 as usize).max().unwrap_or(0);
    match array.data_type() {
        DataType::Utf8View => FIXED_BYTES + largest_view(array.as_string_view().views()),
        DataType::BinaryView => FIXED_BYTES + largest_view(array.as_binary_view().views()),
        DataType::Utf8 => widest_between(array.as_string::<i32>().value_offsets()),
        DataType::LargeUtf8 => widest_between(array.as_string::<i64>().value_offsets()),
        DataType::Binary => widest_between(array.as_binary::<i32>().value_offsets()),
        DataType::LargeBinary => widest_between(array.as_binary::<i64>().value_offsets()),
        data_type if data_type.is_nested() => {
            (0..array.len()).map(|row| bytes_of(&array.slice(row, 1))).max().unwrap_or(0)
        }
        DataType::Dictionary(_, _) => widest(array.as_any_dictionary().values()),
        _ => FIXED_BYTES,
    }
}

fn widest_between<O: OffsetSizeTrait>(offsets: &[O]) -> usize {
    offsets.windows(2).map(|bounds| (bounds[1] - bounds[0]).as_usize()).max().unwrap_or(0)
}
