//! What an encoder of our own is worth: the rows of a merged file, written once more by it and by the Parquet library.
//!
//! Both have the rows in memory, in the form that they take: spans here, Arrow arrays with dictionaries there, and write row
//! groups of the same rows with the same compression. What the library leaves out (page checksums of ours, the index, the filters)
//! is in our time.

use std::time::Instant;

use anyhow::{Context, ensure};
use arrow::array::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use tracehouse_model::SpanBatch;
use tracehouse_spanfile::{
    AttributeCounts, FileIdentity, MergedStrings, OpenFile, Packing, Projection, RowRef, SpanFileWriter, StringForm,
};

use super::RunArguments;
use super::values::{large_files, open_store, stored};
use crate::report::Row;

const SPANS: u64 = 560_000;
const RUNS: usize = 5;
/// Our time in that of the library: ours has to be faster by half.
const BAR: f64 = 1.0 / 1.5;
/// That of merged files.
const ZSTD_LEVEL: i32 = 3;

pub(super) async fn measure(arguments: &RunArguments) -> anyhow::Result<Row> {
    let server = stored(arguments, SPANS).await?;
    let store = open_store(&server).await?;
    let files = large_files(&store);
    let open = files.first().context("there is a file")?.open()?;
    let (spans, arrays) = (spans_of(&open)?, arrays_of(&open)?);
    let (mut own, mut library) = ((f64::MAX, 0), (f64::MAX, 0));
    // In turn, so that the machine's moods hit both.
    for _ in 0..RUNS {
        own = faster(own, timed(|| write_own(&open, &spans))?);
        library = faster(library, timed(|| write_by_library(&arrays))?);
    }
    let rows = open.rows();
    let us = |(seconds, _): (f64, usize)| seconds * 1e6 / rows as f64;
    Ok(Row::relative("the own Parquet encoder, against the library's", us(own), "us/span", us(library), BAR).note(
        format!(
            "{rows} rows of a merged file; ours has {:.1} B a span, the library's {:.1}",
            own.1 as f64 / rows as f64,
            library.1 as f64 / rows as f64
        ),
    ))
}

fn faster(one: (f64, usize), other: (f64, usize)) -> (f64, usize) {
    if other.0 < one.0 { other } else { one }
}

/// Seconds, and the bytes that were written.
fn timed(write: impl FnOnce() -> anyhow::Result<Vec<u8>>) -> anyhow::Result<(f64, usize)> {
    let begin = Instant::now();
    let bytes = write()?;
    Ok((begin.elapsed().as_secs_f64(), bytes.len()))
}

fn spans_of(open: &OpenFile) -> anyhow::Result<Vec<SpanBatch>> {
    let of = |row_group| Ok(open.read_rows(row_group, 0..open.rows_of(row_group), Projection::All)?);
    (0..open.row_groups()).map(of).collect()
}

fn arrays_of(open: &OpenFile) -> anyhow::Result<Vec<RecordBatch>> {
    let columns: Vec<&str> = open.column_names().collect();
    let of = |row_group: usize| {
        let rows = open.rows_of(row_group);
        let mut batches = open.scan(row_group, &columns, None, StringForm::Dictionary, rows)?;
        batches.next().transpose()?.context("a row group has rows")
    };
    (0..open.row_groups()).map(of).collect()
}

fn write_own(open: &OpenFile, spans: &[SpanBatch]) -> anyhow::Result<Vec<u8>> {
    let mut counts = AttributeCounts::default();
    spans.iter().for_each(|batch| counts.add_batch(batch));
    let identity = FileIdentity { id: "bench", tenant: "default", merged_from: Vec::new() };
    let mut writer = SpanFileWriter::new(Vec::new(), open.layout().clone(), Packing::COMPACTED, identity)?;
    for batch in spans {
        // They are in the order of the file.
        let rows: Vec<RowRef> = (0..batch.len() as u32).map(|row| RowRef { batch: 0, row }).collect();
        let mut strings = MergedStrings::of(&[batch]);
        writer.write_row_group(&[batch], &rows, &mut strings)?;
    }
    Ok(writer.finish(&counts)?.0)
}

fn write_by_library(arrays: &[RecordBatch]) -> anyhow::Result<Vec<u8>> {
    let schema = arrays.first().context("there are rows")?.schema();
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(ZSTD_LEVEL)?))
        .set_max_row_group_row_count(None)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), schema.clone(), Some(properties))?;
    for batch in arrays {
        ensure!(batch.schema() == schema, "row groups have the same columns");
        writer.write(batch)?;
        writer.flush()?;
    }
    Ok(writer.into_inner()?)
}
