//! The yardstick R: what a plain, well-tuned program needs to turn the same requests into one Parquet file.
//!
//! Decode with `opentelemetry-proto`, sort by (trace id, start), write all columns once. Moving decoded values into
//! columns is glue that another program may do better or not at all; it is reported but not counted.

mod columns;

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::schema::types::ColumnPath;
use prost::Message;
use serde::Serialize;

use crate::data::Stream;
use crate::measure::thread_cpu;
use columns::Columns;

/// Costs in microseconds of one thread's CPU time per span, sizes in bytes per span.
#[derive(Clone, Serialize)]
pub(crate) struct Yardstick {
    pub(crate) spans: u64,
    pub(crate) request_bytes: f64,
    pub(crate) decode_us: f64,
    pub(crate) sort_us: f64,
    pub(crate) write_us: f64,
    /// Moving values into columns and rows into order, and freeing the decoded structs: not part of R.
    pub(crate) glue_us: f64,
    pub(crate) file_bytes: f64,
    /// The file's columns and their bytes per span, the largest first.
    pub(crate) columns: Vec<(String, f64)>,
}

impl Yardstick {
    /// R: decode, sort, and write.
    pub(crate) fn r_us(&self) -> f64 {
        self.decode_us + self.sort_us + self.write_us
    }

    pub(crate) fn summary(&self) -> String {
        format!(
            "yardstick over {} spans of {:.0} B in {} columns, one thread, CPU per span: decode {:.3} us, sort {:.3} us, \
             write {:.3} us: R = {:.3} us (glue besides: {:.3} us); file {:.2} B a span",
            self.spans,
            self.request_bytes,
            self.columns.len(),
            self.decode_us,
            self.sort_us,
            self.write_us,
            self.r_us(),
            self.glue_us,
            self.file_bytes
        )
    }
}

const ROWS_PER_GROUP: usize = 128 * 1024;
const PAGE_BYTES: usize = 1024 * 1024;

/// Measures the first round of this stream, writing to (and removing) a file at this path.
pub(crate) fn measure(stream: &Stream, path: &Path) -> anyhow::Result<Yardstick> {
    let begin = thread_cpu();
    let mut copying = Duration::ZERO;
    let mut decode = Duration::ZERO;
    let mut columns = Columns::default();
    // One request at a time, so that its structs stay in the processor's caches, as a receiver would do it.
    for number in 0..stream.dataset.templates.len() as u64 {
        // Stamping the bytes is the sender's work.
        let before_copying = thread_cpu();
        let encoded = encoded(stream, number);
        let before = thread_cpu();
        copying += before - before_copying;
        let request = ExportTraceServiceRequest::decode(encoded.as_slice());
        decode += thread_cpu() - before;
        columns.add(request.context("decode a request")?);
    }

    let before = thread_cpu();
    let mut order: Vec<(u128, i64, u32)> =
        columns.trace_id.iter().zip(&columns.start_ns).zip(0..).map(|((id, start), row)| (*id, *start, row)).collect();
    order.sort_unstable();
    let order: Vec<u32> = order.into_iter().map(|(_, _, row)| row).collect();
    let sort = thread_cpu() - before;

    let write = write(&columns, &order, path)?;
    let file_bytes = std::fs::metadata(path)?.len();
    let column_bytes = column_bytes(path)?;
    std::fs::remove_file(path)?;
    let glue = thread_cpu() - begin - copying - decode - sort - write;
    let spans = columns.rows() as u64;
    let us = |time: Duration| time.as_secs_f64() * 1e6 / spans as f64;
    Ok(Yardstick {
        spans,
        request_bytes: stream.dataset.bytes as f64 / spans as f64,
        decode_us: us(decode),
        sort_us: us(sort),
        write_us: us(write),
        glue_us: us(glue),
        file_bytes: file_bytes as f64 / spans as f64,
        columns: column_bytes.into_iter().map(|(name, bytes)| (name, bytes as f64 / spans as f64)).collect(),
    })
}

fn encoded(stream: &Stream, number: u64) -> Vec<u8> {
    let request = stream.request(number);
    let mut bytes = Vec::with_capacity(request.template().len());
    request.template().write(request.stamp(), &mut bytes);
    bytes
}

/// Returns the CPU time of the writer alone.
fn write(columns: &Columns, order: &[u32], path: &Path) -> anyhow::Result<Duration> {
    let mut spent = Duration::ZERO;
    let mut writer: Option<ArrowWriter<File>> = None;
    for rows in order.chunks(ROWS_PER_GROUP) {
        let batch = columns.batch(rows)?;
        let before = thread_cpu();
        if writer.is_none() {
            writer = Some(ArrowWriter::try_new(File::create(path)?, batch.schema(), Some(properties()))?);
        }
        if let Some(writer) = writer.as_mut() {
            writer.write(&batch)?;
        }
        spent += thread_cpu() - before;
    }
    let before = thread_cpu();
    if let Some(writer) = writer {
        writer.close()?;
    }
    Ok(spent + (thread_cpu() - before))
}

fn column_bytes(path: &Path) -> anyhow::Result<Vec<(String, i64)>> {
    let reader = SerializedFileReader::new(File::open(path)?)?;
    let mut bytes: HashMap<String, i64> = HashMap::new();
    for column in reader.metadata().row_groups().iter().flat_map(|group| group.columns()) {
        *bytes.entry(column.column_path().string()).or_default() += column.compressed_size();
    }
    let mut bytes: Vec<(String, i64)> = bytes.into_iter().collect();
    bytes.sort_by_key(|(name, bytes)| (-bytes, name.clone()));
    Ok(bytes)
}

fn properties() -> WriterProperties {
    let column = |name: &str| ColumnPath::from(name);
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(3).expect("zstd has a level 3")))
        .set_max_row_group_row_count(Some(ROWS_PER_GROUP))
        .set_data_page_size_limit(PAGE_BYTES)
        .set_column_encoding(column(columns::START), Encoding::DELTA_BINARY_PACKED)
        .set_column_encoding(column(columns::DURATION), Encoding::BYTE_STREAM_SPLIT);
    for name in [columns::TRACE_ID, columns::SPAN_ID, columns::PARENT_ID, columns::START, columns::DURATION] {
        properties = properties.set_column_dictionary_enabled(column(name), false);
    }
    properties.build()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::data::{Dataset, Settings};

    #[test]
    fn every_span_is_written_once_in_order() {
        let dataset = Arc::new(Dataset::generate(&Settings::new(5, 3_000, 20_000.0)));
        let stream = Stream { dataset, salt: 0, begin_ns: 1_700_000_000_000_000_000 };
        let mut columns = Columns::default();
        for number in 0..stream.dataset.templates.len() as u64 {
            let bytes = encoded(&stream, number);
            columns.add(ExportTraceServiceRequest::decode(bytes.as_slice()).expect("decodes"));
        }
        let order: Vec<u32> = (0..columns.rows() as u32).collect();
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("spans.parquet");
        write(&columns, &order, &path).expect("writes");
        let reader = SerializedFileReader::new(File::open(&path).expect("opens")).expect("is Parquet");
        assert_eq!(reader.metadata().file_metadata().num_rows(), 3_000);
        let names: Vec<String> =
            reader.metadata().row_group(0).columns().iter().map(|c| c.column_path().string()).collect();
        for expected in ["trace_id", "resource.service.name", "http.route", "db.query.text", "field.name"] {
            assert!(names.iter().any(|name| name == expected), "{expected} is a column of its own");
        }
        assert_eq!(names.iter().filter(|name| name.starts_with("resource.")).count(), 15);
    }
}
