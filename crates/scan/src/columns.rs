//! Reads a column of a row group for the rows in question, and puts what was found about them back in their places.

use arrow::array::{ArrayRef, BooleanArray, BooleanBufferBuilder};
use arrow::buffer::BooleanBuffer;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use parquet::errors::{ParquetError, Result};
use tracehouse_store::{OpenFile, StringForm};

use crate::bounds::Bounds;
use crate::fault::row_bytes;

/// With at most this share of the rows wanted, a column is read only for them.
pub const SPARSE_SHARE: usize = 256;
/// Columns that take more than this are read in batches of about so many bytes.
const WHOLE_BYTES_MAX: u64 = 32 << 20;
const BATCH_BYTES: usize = 8 << 20;
/// Columns of lists and maps are always read in batches: their texts are copied for each row, and how long these are is not
/// known for all files.
const NESTED_ROWS_MAX: usize = 4096;

/// The rows that a selection wants.
pub fn selection_of(rows: &BooleanBuffer) -> RowSelection {
    RowSelection::from_filters(&[BooleanArray::new(rows.clone(), None)])
}

/// For which rows a column is read: all, or only the wanted ones if they are few.
pub enum ReadRows<'a> {
    All(usize),
    Some(&'a BooleanBuffer),
}

impl<'a> ReadRows<'a> {
    /// For a question about some rows.
    pub fn among(wanted: &'a BooleanBuffer) -> Self {
        let few = wanted.count_set_bits() <= wanted.len() / SPARSE_SHARE;
        if few { ReadRows::Some(wanted) } else { ReadRows::All(wanted.len()) }
    }

    /// For whoever looks at all that can be used: the rest isn't read.
    pub fn usable(usable: &'a BooleanBuffer) -> Self {
        let all = usable.count_set_bits() == usable.len();
        if all { ReadRows::All(usable.len()) } else { ReadRows::Some(usable) }
    }

    /// What to read; `None`: all rows.
    pub fn selection(&self) -> Option<RowSelection> {
        match self {
            ReadRows::All(_) => None,
            ReadRows::Some(wanted) => Some(selection_of(wanted)),
        }
    }

    /// A mask over what was read as a mask over the row group.
    pub fn scatter(&self, read: &BooleanBuffer) -> BooleanBuffer {
        match self {
            ReadRows::All(rows) if read.len() == *rows => read.clone(),
            ReadRows::All(rows) => BooleanBuffer::new_unset(*rows),
            ReadRows::Some(among) => {
                let mut builder = BooleanBufferBuilder::new(among.len());
                builder.append_n(among.len(), false);
                for (at, row) in among.set_indices().enumerate() {
                    if at < read.len() && read.value(at) {
                        builder.set_bit(row, true);
                    }
                }
                builder.finish()
            }
        }
    }
}

/// Shows a column, for the rows that `rows` says, batch by batch: in one, unless it is large or `nested` (lists, maps).
pub fn read_column(
    bounds: &Bounds,
    open: &OpenFile,
    row_group: usize,
    name: &str,
    rows: &ReadRows<'_>,
    nested: bool,
    mut look: impl FnMut(&ArrayRef) -> Result<()>,
) -> Result<()> {
    let selection = rows.selection();
    let large = open.bytes_in_memory(row_group, Some(&[name])) > WHOLE_BYTES_MAX;
    let fitting = (BATCH_BYTES / row_bytes(open, row_group, Some(&[name]))).max(1);
    let batch_rows = match (nested, large) {
        (true, _) => fitting.min(NESTED_ROWS_MAX),
        (false, true) => fitting,
        (false, false) => usize::MAX,
    };
    let form = StringForm::Dictionary;
    for batch in bounds.scan_in_batches(open, row_group, &[name], selection, form, batch_rows)? {
        let batch = batch?;
        if batch.num_columns() != 1 {
            return Err(ParquetError::General(format!("the file has no column {name}")));
        }
        look(batch.column(0))?;
    }
    Ok(())
}

/// The selection of a range of rows.
pub fn selection_of_range(rows: &std::ops::Range<usize>) -> RowSelection {
    RowSelection::from(vec![RowSelector::skip(rows.start), RowSelector::select(rows.len())])
}
