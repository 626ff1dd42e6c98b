//! Collects an answer within its limits.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result;
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::StreamExt;
use std::sync::Arc;

/// Rows as they came, until a limit.
pub(crate) struct Collected {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: Vec<RecordBatch>,
    pub(crate) rows: usize,
    /// What ended it before the last row.
    pub(crate) cut: Option<Cut>,
}

pub(crate) enum Cut {
    Rows,
    Bytes,
    Time,
}

/// At most so many rows, so many bytes, for so long.
pub(crate) async fn collect(
    mut stream: SendableRecordBatchStream,
    rows_max: usize,
    bytes_max: usize,
    time_left: Duration,
) -> Result<Collected> {
    let schema = plain_schema(&stream.schema());
    let mut collected = Collected { schema: schema.clone(), batches: Vec::new(), rows: 0, cut: None };
    let mut bytes = 0;
    let deadline = tokio::time::sleep(time_left);
    tokio::pin!(deadline);
    loop {
        let batch = tokio::select! {
            batch = stream.next() => batch,
            () = &mut deadline => {
                collected.cut = Some(Cut::Time);
                break;
            }
        };
        let Some(batch) = batch else { break };
        let batch = batch?;
        let room = rows_max - collected.rows;
        let taken = plain(&batch.slice(0, batch.num_rows().min(room)), &schema)?;
        bytes += taken.get_array_memory_size();
        collected.rows += taken.num_rows();
        if taken.num_rows() > 0 {
            collected.batches.push(taken);
        }
        if batch.num_rows() > room {
            collected.cut = Some(Cut::Rows);
            break;
        }
        if bytes > bytes_max {
            collected.cut = Some(Cut::Bytes);
            break;
        }
    }
    Ok(collected)
}

/// A schema in types that every client knows: no views, no dictionaries.
pub(crate) fn plain_schema(schema: &Schema) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| plain_field(field)).collect::<Vec<_>>();
    Arc::new(Schema::new(fields))
}

fn plain_field(field: &Field) -> Field {
    Field::new(field.name(), plain_type(field.data_type()), true)
}

fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View | DataType::LargeUtf8 => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => plain_type(values),
        DataType::List(field) | DataType::LargeList(field) => DataType::List(Arc::new(plain_field(field))),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| plain_field(field)).collect()),
        other => other.clone(),
    }
}

fn plain(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| Ok(cast(column, field.data_type())?)).collect::<Result<Vec<_>>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}
