//! For which rows of a row group columns are read, and how many at once.

use arrow::array::{BooleanArray, BooleanBufferBuilder};
use arrow::buffer::BooleanBuffer;
use parquet::arrow::arrow_reader::{RowSelection, RowSelector};
use tracehouse_spanfile::OpenFile;

use crate::fault::row_bytes;
use crate::field::Owner;

/// With at most this share of the rows wanted, a column is read only for them …
const SPARSE_SHARE: usize = 256;
/// … or with this one if it is of lists or maps, of which each row costs more than to leave it out.
const SPARSE_SHARE_NESTED: usize = 8;
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

/// The selection of a range of rows.
pub fn selection_of_range(rows: &std::ops::Range<usize>) -> RowSelection {
    RowSelection::from(vec![RowSelector::skip(rows.start), RowSelector::select(rows.len())])
}

/// For which rows a column is read: all, or only the wanted ones if they are few.
pub enum ReadRows<'a> {
    All(usize),
    Some(&'a BooleanBuffer),
}

impl<'a> ReadRows<'a> {
    /// For a question about some rows, which some columns answer.
    pub fn among(wanted: &'a BooleanBuffer, columns: &[&str]) -> Self {
        let share = if columns.iter().any(is_nested) { SPARSE_SHARE_NESTED } else { SPARSE_SHARE };
        let few = wanted.count_set_bits() <= wanted.len() / share;
        if few { ReadRows::Some(wanted) } else { ReadRows::All(wanted.len()) }
    }

    /// For whoever looks at exactly these: the rest isn't read.
    pub fn exactly(wanted: &'a BooleanBuffer) -> Self {
        let all = wanted.count_set_bits() == wanted.len();
        if all { ReadRows::All(wanted.len()) } else { ReadRows::Some(wanted) }
    }

    /// How many are read.
    pub fn count(&self) -> usize {
        match self {
            ReadRows::All(rows) => *rows,
            ReadRows::Some(wanted) => wanted.count_set_bits(),
        }
    }

    /// Which rows of the row group are read, one after the other.
    pub(crate) fn rows(&self) -> Box<dyn Iterator<Item = usize> + '_> {
        match self {
            ReadRows::All(rows) => Box::new(0..*rows),
            ReadRows::Some(wanted) => Box::new(wanted.set_indices()),
        }
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

/// Whether a column is of lists or maps.
fn is_nested(name: &&str) -> bool {
    [Owner::Span.rest(), "events", "links"].contains(name)
}

/// How many rows of some columns are read at once: all, unless the columns are large, or lists or maps.
pub(crate) fn batch_rows(open: &OpenFile, row_group: usize, columns: &[&str]) -> usize {
    let nested = columns.iter().any(is_nested);
    let large = open.bytes_in_memory(row_group, Some(columns)) > WHOLE_BYTES_MAX;
    let fitting = BATCH_BYTES / row_bytes(open, row_group, Some(columns));
    match (nested, large) {
        (true, _) => fitting.clamp(1, NESTED_ROWS_MAX),
        (false, true) => fitting.max(1),
        (false, false) => usize::MAX,
    }
}
