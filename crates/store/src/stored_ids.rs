//! What tells the spans of a file apart, kept in memory while copies are looked for.

use std::ops::Range;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, TimestampNanosecondType};
use parquet::errors::ParquetError;
use tracehouse_model::{CopyKey, TraceId, kind};
use tracehouse_spanfile::{OpenFile, StringForm, TraceRows};

/// What a key is made of.
pub(crate) const KEY_COLUMNS: [&str; 3] = ["span_id", "start_time", "kind"];

/// What tells the spans of a file apart, without their content: about 18 bytes for each span.
pub(crate) struct StoredIds {
    pub(crate) row_groups: Vec<RowGroupIds>,
}

pub(crate) struct RowGroupIds {
    pub(crate) traces: TraceRows,
    pub(crate) keys: Vec<CopyKey>,
}

impl StoredIds {
    pub(crate) fn read(open: &OpenFile) -> Result<Self, ParquetError> {
        let row_groups = (0..open.row_groups()).map(|row_group| RowGroupIds::read(open, row_group));
        Ok(Self { row_groups: row_groups.collect::<Result<_, _>>()? })
    }

    /// The traces of a row group, and the rows of each.
    pub(crate) fn traces_of(&self, row_group: usize) -> impl Iterator<Item = (TraceId, Range<usize>)> {
        self.row_groups[row_group].traces.iter()
    }

    /// What this takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        let of_row_group = |ids: &RowGroupIds| {
            ids.traces.bytes() + ids.keys.capacity() * size_of::<CopyKey>() + size_of::<RowGroupIds>()
        };
        self.row_groups.iter().map(of_row_group).sum()
    }
}

impl RowGroupIds {
    fn read(open: &OpenFile, row_group: usize) -> Result<Self, ParquetError> {
        let rows = open.rows_of(row_group).max(1);
        let columns: Vec<&str> = ["trace_id"].into_iter().chain(KEY_COLUMNS).collect();
        let mut ids = Self { traces: TraceRows::default(), keys: Vec::with_capacity(rows) };
        for batch in open.scan(row_group, &columns, None, StringForm::Dictionary, rows)? {
            let batch = batch?;
            let traces = column(&batch, "trace_id")?.as_fixed_size_binary_opt();
            ids.traces.push(traces.ok_or_else(|| wrong_column("trace_id"))?, open.readable(row_group))?;
            push_keys(&batch, &mut ids.keys)?;
        }
        Ok(ids)
    }
}

/// Adds the keys of spans of which [`KEY_COLUMNS`] were read.
pub(crate) fn push_keys(batch: &RecordBatch, keys: &mut Vec<CopyKey>) -> Result<(), ParquetError> {
    let wrong = |name: &'static str| move || wrong_column(name);
    let span_id = column(batch, "span_id")?.as_fixed_size_binary_opt().ok_or_else(wrong("span_id"))?;
    let starts = column(batch, "start_time")?.as_primitive_opt::<TimestampNanosecondType>();
    let starts = starts.ok_or_else(wrong("start_time"))?.values();
    let kinds = column(batch, "kind")?.as_dictionary_opt::<Int32Type>().ok_or_else(wrong("kind"))?;
    let names = kinds.values().as_string_opt::<i32>().ok_or_else(wrong("kind"))?;
    let code = |name: Option<&str>| kind::from_name(name.unwrap_or_default()).unwrap_or(kind::UNSPECIFIED);
    let codes: Vec<u8> = names.iter().map(code).collect();
    for row in 0..batch.num_rows() {
        let id: [u8; 8] = span_id.value(row).try_into().map_err(|_| wrong_column("span_id"))?;
        let code = codes.get(kinds.keys().value(row) as usize).copied().unwrap_or(kind::UNSPECIFIED);
        keys.push(CopyKey { span_id: u64::from_be_bytes(id), start_unix_nanos: starts[row], kind: code });
    }
    Ok(())
}

pub(crate) fn column<'b>(batch: &'b RecordBatch, name: &str) -> Result<&'b ArrayRef, ParquetError> {
    batch.column_by_name(name).ok_or_else(|| wrong_column(name))
}

pub(crate) fn wrong_column(name: &str) -> ParquetError {
    ParquetError::General(format!("the column {name} has another type than the files of spans have"))
}
