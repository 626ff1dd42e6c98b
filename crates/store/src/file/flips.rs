//! A bit flipped anywhere in a file: it is noticed, or it changes nothing; and what it did not hit can still be read.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use tracehouse_model::{AttributeValue, Span, SpanBatch, SpanFields, SpanId, TraceId};

use super::{
    AttributeCounts, Expected, FileContents, FileSource, MergedStrings, OpenFile, Packing, Projection, RowRef,
    SpanFileWriter, TraceFilter, is_damage, order_spans,
};

const ID: &str = "0123456789ab-0123456789abcdef";
const SPANS_PER_ROW_GROUP: u64 = 300;

/// Spans that use every column, with values that repeat and values that don't.
fn spans(first: u64) -> SpanBatch {
    let mut batch = SpanBatch::new();
    let service = batch.strings.intern_str("cart");
    let (service_key, retries) = (batch.strings.intern_str("service.name"), batch.strings.intern_str("retries"));
    batch.resources.attributes.push(service_key, AttributeValue::String(service));
    batch.resources.attributes.push(retries, AttributeValue::Int(3));
    let resource = batch.finish_resource(0, 0);
    let scope_name = batch.strings.intern_str("http");
    let scope = batch.finish_scope(scope_name, 0, 0, 0);
    for number in first..first + SPANS_PER_ROW_GROUP {
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
        let trace = u128::from(number / 10 + 1) * 0x1_0000_0001;
        batch.finish_span(SpanFields {
            trace_id: TraceId(trace.to_be_bytes()),
            span_id: SpanId((number + 1).to_be_bytes()),
            parent_span_id: if number % 10 == 0 { SpanId::NONE } else { SpanId(number.to_be_bytes()) },
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

/// A file of two row groups, and its spans in the order of the file.
fn write(path: &Path) -> (Vec<Vec<Span>>, u32) {
    let batches = [spans(0), spans(SPANS_PER_ROW_GROUP)];
    let mut counts = AttributeCounts::default();
    batches.iter().for_each(|batch| counts.add_batch(batch));
    let file = std::fs::File::create(path).expect("a file");
    let mut writer = SpanFileWriter::new(file, counts.layout(), Packing::COMPACTED, ID, Vec::new()).expect("a writer");
    let mut expected = Vec::new();
    for batch in &batches {
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

fn open(path: &Path, tail_bytes: u32) -> parquet::errors::Result<OpenFile> {
    let source = FileSource::open_local(path).expect("the file is there");
    OpenFile::open(source, &Expected { file_id: Some(ID), tail_bytes })
}

fn read(open: &OpenFile, row_group: usize) -> parquet::errors::Result<Vec<Span>> {
    let spans = open.read_rows(row_group, 0..open.rows_of(row_group), Projection::All)?;
    Ok((0..spans.len()).map(|row| sorted(spans.span(row))).collect())
}

struct Written {
    spans: Vec<Vec<Span>>,
    names: FileContents,
    filter: TraceFilter,
    tail_bytes: u32,
}

#[test]
fn a_flipped_bit_is_noticed_wherever_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file.parquet");
    let (spans, tail_bytes) = write(&path);
    let whole = open(&path, tail_bytes).expect("it opens");
    let names = whole.read_contents().expect("it can be read").expect("they are there");
    let filter = whole.read_filter().expect("it can be read").expect("it is there");
    let written = Written { spans, names, filter, tail_bytes };
    for (row_group, spans) in written.spans.iter().enumerate() {
        assert_eq!(&read(&whole, row_group).expect("it can be read"), spans);
    }
    assert!(whole.verify().expect("it can be read").is_none());
    let bytes = std::fs::read(&path).expect("the file can be read");
    let file = OpenOptions::new().write(true).open(&path).expect("the file can be written");
    // Every byte of the tail, and of the rest enough to meet each header and each page.
    let tail = bytes.len() - tail_bytes as usize;
    let places = (0..tail).step_by(5).chain((tail..bytes.len()).step_by(3));
    let mut noticed = 0;
    for at in places {
        let flipped = bytes[at] ^ (1 << (at % 8));
        file.write_all_at(&[flipped], at as u64).expect("it is written");
        noticed += usize::from(is_noticed(&path, &written, at));
        file.write_all_at(&bytes[at..=at], at as u64).expect("it is written");
    }
    assert!(noticed > bytes.len() / 5 - 10, "only the first bytes of the file are never looked at: {noticed}");
}

/// Reads the file in every way; returns whether the damage was noticed. That it did no harm otherwise is asserted.
fn is_noticed(path: &Path, written: &Written, at: usize) -> bool {
    let damaged = match open(path, written.tail_bytes) {
        Ok(open) => open,
        Err(error) => {
            assert!(is_damage(&error), "byte {at}: {error}");
            return true;
        }
    };
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
    for (row_group, spans) in written.spans.iter().enumerate() {
        right(read(&damaged, row_group).map(|found| found == *spans));
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
    damaged.set_damage(Arc::new(damage));
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
    }
}

#[test]
fn a_file_under_another_name_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file.parquet");
    write(&path);
    let source = FileSource::open_local(&path).expect("the file is there");
    let other = Expected { file_id: Some("0123456789ab-other"), tail_bytes: 0 };
    let error = OpenFile::open(source.clone(), &other).err().expect("it is another file");
    assert!(is_damage(&error));
    assert!(error.to_string().contains(ID), "{error}");
    assert!(OpenFile::open(source, &Expected::default()).is_ok(), "whatever it is, it can be read");
}
