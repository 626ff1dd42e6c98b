//! A small file of every kind of value, and all that can be read of it while it is damaged, for tests and for who fuzzes.

use std::fs::{File, OpenOptions};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::buffer::BooleanBuffer;
use tracehouse_model::{AnyValue, AttributeValue, Span, SpanBatch, SpanFields, SpanId, TraceId};

use super::{
    AttributeCounts, Expected, FileContents, FileIdentity, FileSource, MergedStrings, OpenFile, Packing, Projection,
    RowRef, SpanFileWriter, TraceFilter, is_damage, order_spans,
};

pub(super) const ID: &str = "0123456789ab-0123456789abcdef";
const SPANS_PER_ROW_GROUP: u64 = 120;
pub(super) const ROW_GROUPS: usize = 2;

/// Spans that use every column, with values that repeat and values that don't.
pub(super) fn spans(numbers: Range<u64>, spans_per_trace: u64) -> SpanBatch {
    let mut batch = SpanBatch::new();
    let service = batch.strings.intern_str("cart");
    let (service_key, retries) = (batch.strings.intern_str("service.name"), batch.strings.intern_str("retries"));
    batch.resources.attributes.push(service_key, AttributeValue::String(service));
    batch.resources.attributes.push(retries, AttributeValue::Int(3));
    let resource = batch.finish_resource(0, 0);
    let scope_name = batch.strings.intern_str("http");
    let scope = batch.finish_scope(scope_name, 0, 0, 0);
    for number in numbers {
        let put = |key: &str, value: AttributeValue, batch: &mut SpanBatch| {
            let key = batch.strings.intern_str(key);
            batch.attributes.push(key, value);
        };
        let text = batch.strings.intern_str(&format!("/carts/{number}"));
        put("url.path", AttributeValue::String(text), &mut batch);
        put("size", AttributeValue::Int(number as i64 * 7919), &mut batch);
        put("share", AttributeValue::Double(number as f64 / 3.0), &mut batch);
        put("cached", AttributeValue::Bool(number % 3 == 0), &mut batch);
        if number % 29 == 0 {
            put(&format!("seldom {number}"), AttributeValue::Int(1), &mut batch);
        }
        if number % 4 == 0 {
            let name = batch.strings.intern_str("exception");
            let key = batch.strings.intern_str("exception.type");
            batch.events.attributes.push(key, AttributeValue::Int(number as i64));
            batch.finish_event(1_000 + number as i64, name, 0);
        }
        if number % 5 == 0 {
            batch.finish_link(TraceId([7; 16]), SpanId([8; 8]), 0, 0, 0);
        }
        let name = batch.strings.intern_str(if number % 2 == 0 { "GET" } else { "POST" });
        let trace = u128::from(number / spans_per_trace + 1) * 0x1_0000_0001;
        batch.finish_span(SpanFields {
            trace_id: TraceId(trace.to_be_bytes()),
            span_id: SpanId((number + 1).to_be_bytes()),
            parent_span_id: if number % spans_per_trace == 0 { SpanId::NONE } else { SpanId(number.to_be_bytes()) },
            start_unix_nanos: 1_700_000_000_000_000_000 + number as i64,
            duration_nanos: 1 << (number % 40),
            name,
            kind: (number % 6) as u8,
            status_code: (number % 3) as u8,
            resource,
            scope,
            ..SpanFields::default()
        });
    }
    batch
}

/// Two row groups.
pub(super) fn small_batches() -> Vec<SpanBatch> {
    let first = |row_group: u64| row_group * SPANS_PER_ROW_GROUP;
    (0..ROW_GROUPS as u64).map(|number| spans(first(number)..first(number + 1), 10)).collect()
}

/// Writes batches as row groups; gives the spans of each in the order of the file, and the length of its tail.
pub(super) fn write(path: &Path, batches: &[SpanBatch]) -> (Vec<Vec<Span>>, u32) {
    let mut counts = AttributeCounts::default();
    batches.iter().for_each(|batch| counts.add_batch(batch));
    let file = std::fs::File::create(path).expect("a file");
    let identity = FileIdentity { id: ID, tenant: "default", merged_from: Vec::new() };
    let mut writer = SpanFileWriter::new(file, counts.layout(), Packing::COMPACTED, identity).expect("a writer");
    let mut expected = Vec::new();
    for batch in batches {
        let rows = (0..batch.len() as u32).map(|row| RowRef { batch: 0, row });
        let ordered = order_spans(&[batch], rows);
        let mut strings = MergedStrings::of(&[batch]);
        writer.write_row_group(&[batch], &ordered.rows, &mut strings).expect("it is written");
        expected.push(ordered.rows.iter().map(|at| sorted(batch.span(at.row as usize))).collect());
    }
    let (_, written) = writer.finish(&counts).expect("it is written");
    (expected, written.tail_bytes)
}

/// The order of attributes is no content.
fn sorted(mut span: Span) -> Span {
    span.attributes.sort_by(|left, right| left.0.cmp(&right.0));
    span.resource_attributes.sort_by(|left, right| left.0.cmp(&right.0));
    span
}

pub(super) fn open(path: &Path, tail_bytes: u32) -> parquet::errors::Result<OpenFile> {
    let source = FileSource::open_local(path).expect("the file is there");
    OpenFile::open(source, &Expected { file_id: Some(ID), tail_bytes })
}

pub(super) fn read(open: &OpenFile, row_group: usize) -> parquet::errors::Result<Vec<Span>> {
    let spans = open.read_rows(row_group, 0..open.rows_of(row_group), Projection::All)?;
    Ok((0..spans.len()).map(|row| sorted(spans.span(row))).collect())
}

pub(super) struct Written {
    pub(super) spans: Vec<Vec<Span>>,
    names: FileContents,
    filter: TraceFilter,
    /// Columns, texts that may be in them, and whether they are.
    texts: Vec<(String, String, Option<bool>)>,
    pub(super) tail_bytes: u32,
}

impl Written {
    pub(super) fn new(path: &Path, batches: &[SpanBatch]) -> Self {
        let (spans, tail_bytes) = write(path, batches);
        let whole = open(path, tail_bytes).expect("it opens");
        for (row_group, spans) in spans.iter().enumerate() {
            assert_eq!(&read(&whole, row_group).expect("it can be read"), spans);
        }
        assert!(whole.verify().expect("it can be read").is_none());
        let names = whole.read_contents().expect("it can be read").expect("they are there");
        let filter = whole.read_filter().expect("it can be read").expect("it is there");
        let layout = whole.layout();
        let of_spans = layout.span.iter().map(|own| layout.span_column_name(&own.key));
        let columns = of_spans.chain(layout.resource.iter().map(|own| layout.resource_column_name(&own.key)));
        let asked = |column: String| {
            let ask = |number: usize| {
                let text = number.to_string();
                let known = whole.may_have_text(&column, &text).expect("it can be read");
                (column.clone(), text, known)
            };
            (0..40).map(ask).collect::<Vec<_>>()
        };
        let texts: Vec<_> = columns.flat_map(asked).collect();
        assert!(texts.iter().any(|(_, _, known)| *known == Some(false)), "some column is in the filter of values");
        Self { spans, names, filter, texts, tail_bytes }
    }
}

/// Reads the file in every way; returns whether the damage was noticed. That it did no harm otherwise is asserted.
pub(super) fn is_noticed(path: &Path, written: &Written, at: usize) -> bool {
    let damaged = open(path, written.tail_bytes).expect("its footer is right");
    let mut noticed = false;
    let mut right = |is_right: parquet::errors::Result<bool>| match is_right {
        Ok(is_right) => assert!(is_right, "byte {at}: other content, and nobody noticed"),
        Err(error) => {
            assert!(is_damage(&error), "byte {at}: {error}");
            noticed = true;
        }
    };
    right(damaged.read_contents().map(|names| names.as_ref() == Some(&written.names)));
    right(damaged.read_filter().map(|filter| filter.as_ref() == Some(&written.filter)));
    for number in 0..300u128 {
        let trace = TraceId((number * 0x1_0000_0001).to_be_bytes());
        let expected = written.filter.may_contain(trace);
        right(damaged.filter_may_contain(trace).map(|may_contain| may_contain == Some(expected)));
    }
    right(damaged.verify_value_filter().map(|()| true));
    for (column, text, known) in &written.texts {
        right(damaged.may_have_text(column, text).map(|found| found == *known));
    }
    for (row_group, spans) in written.spans.iter().enumerate() {
        right(read(&damaged, row_group).map(|found| found == *spans));
        right(
            damaged.parents(row_group).map(|parents| parents.iter().eq(spans.iter().map(|span| &span.parent_span_id))),
        );
        right(damaged.numbered(row_group, "kind").map(|_| true));
        right(damaged.present(row_group, "span.size").map(|rows| rows.is_none()));
        let all = BooleanBuffer::new_set(spans.len());
        right(damaged.ints(row_group, "duration_nanos", &all).map(|found| {
            found.is_some_and(|found| found.values.iter().eq(spans.iter().map(|span| &span.duration_nanos)))
        }));
        let first = spans[0].attributes.iter().find(|(key, _)| key == "url.path");
        let Some((_, AnyValue::String(path))) = first else { panic!("each span has a path") };
        right(
            damaged
                .with_text(row_group, "span.url.path", path, &all)
                .map(|found| found.is_some_and(|found| found.holding.set_indices().eq([0]) && found.present == all)),
        );
    }
    if noticed {
        read_the_rest(path, written, at);
    }
    noticed
}

/// What the damage did not hit comes back as it was.
fn read_the_rest(path: &Path, written: &Written, at: usize) {
    let damaged = open(path, written.tail_bytes).expect("its footer is right");
    let damage = damaged.verify().expect("the disk can be read");
    let damaged = damaged.around(Arc::new(damage));
    for (row_group, spans) in written.spans.iter().enumerate() {
        let found = read(&damaged, row_group).expect("what is left can be read");
        assert_eq!(found.len(), spans.len(), "byte {at}");
        for (row, (found, expected)) in found.iter().zip(spans).enumerate() {
            if damaged.readable(row_group).is_none_or(|readable| readable.value(row)) {
                let parent_is_lost = found.parent_span_id == SpanId([0xff; 8]);
                let expected = if parent_is_lost {
                    Span { parent_span_id: found.parent_span_id, ..expected.clone() }
                } else {
                    expected.clone()
                };
                assert_eq!(*found, expected, "byte {at}, row {row}");
            }
        }
        let readable = |row: usize| damaged.readable(row_group).is_none_or(|readable| readable.value(row));
        // Rows far apart are not read through the damaged pages between them.
        let apart: Vec<_> = (0..spans.len()).step_by(40).filter(|&row| readable(row)).map(|row| row..row + 1).collect();
        let found = damaged.read_ranges(row_group, &apart, Projection::All).expect("what is left can be read");
        assert_eq!(found.len(), apart.len(), "byte {at}");
        for trace in spans.chunk_by(|left, right| left.trace_id == right.trace_id) {
            let found = damaged.find_trace(trace[0].trace_id).expect("what is left can be read");
            let found: Vec<usize> =
                found.into_iter().filter(|(group, _)| *group == row_group).flat_map(|(_, rows)| rows).collect();
            let rows = (0..spans.len()).filter(|&row| spans[row].trace_id == trace[0].trace_id && readable(row));
            assert_eq!(found, rows.collect::<Vec<_>>(), "byte {at}: the rows of a trace");
        }
    }
}

/// The file, to be damaged again and again.
pub struct Sample {
    path: PathBuf,
    file: File,
    bytes: Vec<u8>,
    written: Written,
}

impl Sample {
    /// Makes the file.
    pub fn write(path: &Path) -> Self {
        let written = Written::new(path, &small_batches());
        let bytes = std::fs::read(path).expect("the file can be read");
        assert!(bytes.len() <= usize::from(u16::MAX) + 1, "two bytes name every place");
        let file = OpenOptions::new().write(true).open(path).expect("the file can be written");
        Self { path: path.to_owned(), file, bytes, written }
    }

    /// Reads it in every way with other bytes in some places, and puts those right again. `patches`: for each the place, in two bytes,
    /// and what is to stand there. Whatever is read is as it was, or an error that tells of damage.
    pub fn read_patched(&self, patches: &[u8]) {
        let places: Vec<usize> = patches
            .chunks_exact(3)
            .map(|patch| usize::from(u16::from_le_bytes([patch[0], patch[1]])) % self.bytes.len())
            .collect();
        for (at, patch) in places.iter().zip(patches.chunks_exact(3)) {
            self.file.write_all_at(&patch[2..], *at as u64).expect("it is written");
        }
        match open(&self.path, self.written.tail_bytes) {
            Ok(_) => drop(is_noticed(&self.path, &self.written, places.first().copied().unwrap_or_default())),
            Err(error) => assert!(is_damage(&error), "{error}"),
        }
        for at in places {
            self.file.write_all_at(&self.bytes[at..=at], at as u64).expect("it is written");
        }
    }
}
