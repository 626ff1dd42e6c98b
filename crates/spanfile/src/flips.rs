//! A bit flipped anywhere in a file: it is noticed, or it changes nothing; and what it did not hit can still be read. Errors of the
//! machine while a file is read are no damage.

use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use tracehouse_model::{AttributeValue, Span, SpanBatch, SpanFields, SpanId, TraceId};

use super::pages::CheckedPages;
use super::{
    AttributeCounts, Expected, FileContents, FileIdentity, FileSource, Handles, MergedStrings, OpenFile, Packing,
    Projection, RowRef, SpanFileWriter, TraceFilter, is_damage, order_spans,
};

const ID: &str = "0123456789ab-0123456789abcdef";
const SPANS_PER_ROW_GROUP: u64 = 120;
const ROW_GROUPS: usize = 2;

/// Spans that use every column, with values that repeat and values that don't.
fn spans(numbers: Range<u64>, spans_per_trace: u64) -> SpanBatch {
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
fn small_batches() -> Vec<SpanBatch> {
    let first = |row_group: u64| row_group * SPANS_PER_ROW_GROUP;
    (0..ROW_GROUPS as u64).map(|number| spans(first(number)..first(number + 1), 10)).collect()
}

/// Writes batches as row groups; gives the spans of each in the order of the file, and the length of its tail.
fn write(path: &Path, batches: &[SpanBatch]) -> (Vec<Vec<Span>>, u32) {
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

impl Written {
    fn new(path: &Path, batches: &[SpanBatch]) -> Self {
        let (spans, tail_bytes) = write(path, batches);
        let whole = open(path, tail_bytes).expect("it opens");
        for (row_group, spans) in spans.iter().enumerate() {
            assert_eq!(&read(&whole, row_group).expect("it can be read"), spans);
        }
        assert!(whole.verify().expect("it can be read").is_none());
        let names = whole.read_contents().expect("it can be read").expect("they are there");
        let filter = whole.read_filter().expect("it can be read").expect("it is there");
        Self { spans, names, filter, tail_bytes }
    }
}

/// Flips one bit of a byte while something is done.
fn with_flipped(file: &File, bytes: &[u8], at: usize, look: impl FnOnce()) {
    let flipped = bytes[at] ^ (1 << (at % 8));
    file.write_all_at(&[flipped], at as u64).expect("it is written");
    look();
    file.write_all_at(&bytes[at..=at], at as u64).expect("it is written");
}

/// Every byte of a file, all of its sections, headers, pages, indexes, its footer and its seal.
#[test]
fn a_flipped_bit_is_noticed_wherever_it_is() {
    const MAGIC_BYTES: usize = 4;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file.parquet");
    let written = Written::new(&path, &small_batches());
    let bytes = std::fs::read(&path).expect("the file can be read");
    let file = OpenOptions::new().write(true).open(&path).expect("the file can be written");
    for at in MAGIC_BYTES..bytes.len() {
        with_flipped(&file, &bytes, at, || match open(&path, written.tail_bytes) {
            Err(error) => assert!(is_damage(&error), "byte {at}: {error}"),
            Ok(open) => {
                let in_pages = !open.verify().expect("the disk can be read").is_none();
                let in_sections = || open.read_contents().is_err() || open.read_filter().is_err();
                assert!(in_pages || in_sections(), "byte {at}: nobody noticed");
            }
        });
    }
}

/// A byte of each header and of each page of each column, and some of the sections: whatever is read is right or an error, and the
/// rest is read as it was.
#[test]
fn what_a_flipped_bit_did_not_hit_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file.parquet");
    let written = Written::new(&path, &small_batches());
    let bytes = std::fs::read(&path).expect("the file can be read");
    let file = OpenOptions::new().write(true).open(&path).expect("the file can be written");
    let whole = open(&path, written.tail_bytes).expect("it opens");
    let mut places = Vec::new();
    for (row_group, leaf) in
        (0..ROW_GROUPS).flat_map(|group| (0..whole.file.index.leaves()).map(move |leaf| (group, leaf)))
    {
        let pages = CheckedPages::new(whole.file.clone(), row_group, leaf).expect("a column");
        places.extend(pages.places().flat_map(|page| [page.offset as usize, page.offset as usize + page.bytes - 1]));
    }
    let pages_end = places.last().expect("there are pages") + 1;
    let sections = pages_end..bytes.len() - written.tail_bytes as usize;
    assert!(sections.len() > 100);
    for at in places.iter().copied().chain(sections.step_by(7)) {
        with_flipped(&file, &bytes, at, || assert!(is_noticed(&path, &written, at), "byte {at}"));
    }
}

/// Reads the file in every way; returns whether the damage was noticed. That it did no harm otherwise is asserted.
fn is_noticed(path: &Path, written: &Written, at: usize) -> bool {
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
    for (row_group, spans) in written.spans.iter().enumerate() {
        right(read(&damaged, row_group).map(|found| found == *spans));
        right(
            damaged.parents(row_group).map(|parents| parents.iter().eq(spans.iter().map(|span| &span.parent_span_id))),
        );
        right(damaged.numbered(row_group, "kind").map(|_| true));
        right(damaged.present(row_group, "span.size").map(|rows| rows.is_none()));
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
        let readable = |row: usize| damaged.readable(row_group).is_none_or(|readable| readable.value(row));
        for trace in spans.chunk_by(|left, right| left.trace_id == right.trace_id) {
            let found = damaged.find_trace(trace[0].trace_id).expect("what is left can be read");
            let found: Vec<usize> =
                found.into_iter().filter(|(group, _)| *group == row_group).flat_map(|(_, rows)| rows).collect();
            let rows = (0..spans.len()).filter(|&row| spans[row].trace_id == trace[0].trace_id && readable(row));
            assert_eq!(found, rows.collect::<Vec<_>>(), "byte {at}: the rows of a trace");
        }
    }
}

#[test]
fn a_file_under_another_name_is_noticed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file.parquet");
    write(&path, &small_batches());
    let source = FileSource::open_local(&path).expect("the file is there");
    let other = Expected { file_id: Some("0123456789ab-other"), tail_bytes: 0 };
    let error = OpenFile::open(source.clone(), &other).err().expect("it is another file");
    assert!(is_damage(&error));
    assert!(error.to_string().contains(ID), "{error}");
    assert!(OpenFile::open(source, &Expected::default()).is_ok(), "whatever it is, it can be read");
}

/// Traces that begin before a page that is damaged and end after it lose what the page held, and nothing else.
#[test]
fn a_trace_with_a_hole_is_read_before_and_after_it() {
    const SPANS: u64 = 10_000;
    const SPANS_PER_TRACE: u64 = 9_000;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file.parquet");
    let written = Written::new(&path, &[spans(0..SPANS, SPANS_PER_TRACE)]);
    let bytes = std::fs::read(&path).expect("the file can be read");
    let file = OpenOptions::new().write(true).open(&path).expect("the file can be written");
    let whole = open(&path, written.tail_bytes).expect("it opens");
    for column in ["trace_id", "span_id", "start_time", "duration_nanos"] {
        let leaf = whole.file.shape.leaves_of(column).start;
        let pages = CheckedPages::new(whole.file.clone(), 0, leaf).expect("a column");
        let pages: Vec<_> = pages.places().filter(|place| !place.is_dictionary).cloned().collect();
        assert!(pages.len() > 3, "{column} has {} pages", pages.len());
        let at = pages[1].offset as usize + pages[1].bytes / 2;
        with_flipped(&file, &bytes, at, || assert!(is_noticed(&path, &written, at), "{column}"));
    }
}

/// Too many open files, an error of the disk, a folder in the place of the file: none of it condemns a file, whoever meets it.
#[test]
fn errors_of_the_machine_are_no_damage() {
    const NO_ERROR: i32 = 0;
    const EIO: i32 = 5;
    const EMFILE: i32 = 24;
    const A_FOLDER: i32 = -1;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("file.parquet");
    let written = Written::new(&path, &small_batches());
    let (handles, fault) = (Arc::new(Handles::default()), Arc::new(AtomicI32::new(NO_ERROR)));
    let (fault_now, path_now, folder_now) = (fault.clone(), path.clone(), folder.path().to_owned());
    let source = FileSource::pooled(1, &handles, move |_| match fault_now.load(Ordering::Relaxed) {
        NO_ERROR => File::open(&path_now),
        // It can be opened, but every read fails.
        A_FOLDER => File::open(&folder_now),
        code => Err(io::Error::from_raw_os_error(code)),
    });
    let source = source.expect("it can be opened");
    let expected = Expected { file_id: Some(ID), tail_bytes: written.tail_bytes };
    let open = OpenFile::open(source.clone(), &expected).expect("it opens");
    for code in [EIO, EMFILE, A_FOLDER] {
        fault.store(code, Ordering::Relaxed);
        handles.close(1);
        let errors = [
            OpenFile::open(source.clone(), &expected).err(),
            OpenFile::open(source.clone(), &Expected::default()).err(),
            open.verify().err(),
            open.read_contents().err(),
            open.read_filter().err(),
            open.filter_may_contain(TraceId([1; 16])).err(),
            open.numbered(0, "kind").err(),
            open.parents(0).err(),
            read(&open, 0).err(),
        ];
        for (number, error) in errors.into_iter().enumerate() {
            let error = error.expect("nothing can be read");
            assert!(!is_damage(&error), "{number}: {error}");
        }
    }
    fault.store(NO_ERROR, Ordering::Relaxed);
    handles.close(1);
    assert_eq!(read(&open, 0).expect("it can be read again"), written.spans[0]);
}
