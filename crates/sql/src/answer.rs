//! Collects an answer within its limits.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::common::{DataFusionError, Result};
use datafusion::physical_plan::SendableRecordBatchStream;
use futures::StreamExt;
use tracehouse_scan::Reservation;

use crate::limits::bytes_of_batch;
use crate::watch::{Stopped, Watch};

/// Rows as they came, until a limit.
pub(crate) struct Collected {
    pub(crate) schema: SchemaRef,
    pub(crate) batches: Vec<RecordBatch>,
    pub(crate) rows: usize,
    /// What ended it before the last row.
    pub(crate) cut: Option<Cut>,
    /// What the rows take of the memory for queries.
    pub(crate) memory: Reservation,
}

/// An answer is there twice while it is written: as rows and as the text or message that is made of them.
const COPIES_OF_ANSWER: usize = 2;

pub(crate) enum Cut {
    Rows,
    Bytes,
    Memory,
    Time,
}

/// At most so many rows, so many bytes, for as long as the watch allows.
pub(crate) async fn collect(
    mut stream: SendableRecordBatchStream,
    rows_max: usize,
    bytes_max: usize,
    watch: &Watch,
) -> Result<Collected> {
    let schema = plain_schema(&stream.schema());
    let memory = Reservation::default();
    let mut collected = Collected { schema: schema.clone(), batches: Vec::new(), rows: 0, cut: None, memory };
    let mut held = watch.hold_answer();
    let mut bytes = 0;
    let deadline = tokio::time::sleep(watch.time_left());
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
        let batch = match batch {
            Err(error) if Stopped::of(&error) == Some(Stopped::TimeIsUp) => {
                collected.cut = Some(Cut::Time);
                break;
            }
            batch => batch?,
        };
        let room = rows_max - collected.rows;
        let wanted = batch.slice(0, batch.num_rows().min(room));
        let fitting = first_rows(&wanted, bytes_max - bytes);
        let fitting_bytes = bytes_of_batch(&fitting);
        if let Err(error) = watch.take_for_answer(&mut held, COPIES_OF_ANSWER * fitting_bytes) {
            if collected.rows == 0 {
                return Err(DataFusionError::ResourcesExhausted(format!("the first rows of the answer: {error}")));
            }
            collected.cut = Some(Cut::Memory);
            break;
        }
        bytes += fitting_bytes;
        collected.rows += fitting.num_rows();
        if fitting.num_rows() > 0 {
            collected.batches.push(plain(&fitting, &schema)?);
        }
        if fitting.num_rows() < wanted.num_rows() {
            if collected.rows == 0 {
                let detail = format!("one row has more than the {bytes_max} bytes that an answer may have");
                return Err(DataFusionError::ResourcesExhausted(detail));
            }
            collected.cut = Some(Cut::Bytes);
            break;
        }
        if batch.num_rows() > room {
            collected.cut = Some(Cut::Rows);
            break;
        }
    }
    collected.memory = Reservation::of(held);
    Ok(collected)
}

/// As many of the first rows as have no more bytes, all or about half of what would fit.
fn first_rows(batch: &RecordBatch, bytes_max: usize) -> RecordBatch {
    let mut fitting = batch.clone();
    while fitting.num_rows() > 0 && bytes_of_batch(&fitting) > bytes_max {
        fitting = batch.slice(0, fitting.num_rows() / 2);
    }
    fitting
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
    let columns = columns.map(|(column, field)| {
        let column = cast(column, field.data_type())?;
        check_times(&column)?;
        Ok(column)
    });
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

/// Fails if a value is no time that can be shown, as one of more seconds than a calendar has: it would be an error in
/// the place of a value.
fn check_times(column: &ArrayRef) -> Result<()> {
    if is_always_shown(column.data_type()) {
        return Ok(());
    }
    let options = FormatOptions::new().with_display_error(false);
    let shown = ArrayFormatter::try_new(column, &options)?;
    for row in 0..column.len() {
        shown.value(row).try_to_string()?;
    }
    Ok(())
}

fn is_always_shown(data_type: &DataType) -> bool {
    match data_type {
        // All nanoseconds of 64 bits are times of this calendar.
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => zone.as_deref().is_none_or(|zone| zone == "UTC"),
        DataType::List(field) => is_always_shown(field.data_type()),
        DataType::Struct(fields) => fields.iter().all(|field| is_always_shown(field.data_type())),
        other => !other.is_temporal() && !other.is_nested(),
    }
}
