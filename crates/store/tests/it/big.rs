//! Pages, row groups and traces larger than either.

use std::collections::{BTreeMap, BTreeSet};

use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
use tracehouse_model::{
    AnyValue, Event, Link, Randomness, Span, SpanBatch, SpanId, SystemRandomness, TenantId, TraceId,
};
use tracehouse_spanfile::{OpenFile, Projection};
use tracehouse_store::SpanFile;

use crate::spans::{Key, NOON, assert_same_spans, batch_of, by_key, plain_span};
use crate::world::{World, all_spans, append, file_spans, spans_of};

/// Pages have between so many rows and so many.
const ROWS_PER_PAGE_MIN: usize = 256;
const ROWS_PER_PAGE_MAX: usize = 32 * 1024;
const ROWS_PER_ROW_GROUP: usize = 128 * 1024;

/// A span whose lists differ from its neighbours', with values that repeat and values that don't.
fn varied_span(trace: u128, number: u64, parent: u64) -> Span {
    let mut span = plain_span(trace, number + 1, parent, NOON + number as i64);
    for event in 0..(number * 7 % 5) as i64 {
        let mut attributes = vec![("exception.message".into(), AnyValue::String(format!("message {number} {event}")))];
        if event % 2 == 1 {
            attributes.push(("attempt".into(), AnyValue::Int(event)));
        }
        attributes.truncate((number % 3) as usize);
        span.events.push(Event {
            time_unix_nanos: NOON + event,
            name: if event == 0 { String::new() } else { "exception".into() },
            attributes,
            dropped_attributes: 0,
        });
    }
    if number.is_multiple_of(97) {
        span.links.push(Link {
            trace_id: TraceId([9; 16]),
            span_id: SpanId(number.to_be_bytes()),
            trace_state: String::new(),
            flags: 1,
            attributes: vec![("link".into(), AnyValue::Bool(true))],
            dropped_attributes: 0,
        });
    }
    span.attributes.push(("id".into(), AnyValue::String(format!("unique value {number}"))));
    if number.is_multiple_of(2) {
        span.attributes.push(("ratio".into(), AnyValue::Double(number as f64 / 3.0)));
    }
    if number.is_multiple_of(1000) {
        span.attributes.push(("seldom".into(), AnyValue::Bool(number.is_multiple_of(3))));
    }
    // Mixed types under one key: one of them gets the column.
    let mixed = if number.is_multiple_of(5) { AnyValue::String("text".into()) } else { AnyValue::Int(number as i64) };
    span.attributes.push(("mixed".into(), mixed));
    span
}

async fn append_all(store: &tracehouse_store::Store, spans: &[Span]) {
    for part in spans.chunks(20_000) {
        append(store, batch_of(part)).await;
    }
}

/// Files whose numbers of rows lie around the sizes of pages and row groups.
#[tokio::test(flavor = "multi_thread")]
async fn rows_around_the_ends_of_pages_and_row_groups_come_back() {
    let (few, many) = (ROWS_PER_PAGE_MIN, ROWS_PER_PAGE_MAX);
    for rows in [1, few - 1, few, few + 1, many, many + 1, ROWS_PER_ROW_GROUP, ROWS_PER_ROW_GROUP + 1] {
        let world = World::new();
        let store = world.open().await;
        // Traces of three spans whose parent is the one before.
        let spans: Vec<Span> = (0..rows as u64)
            .map(|number| {
                varied_span(u128::from(number / 3) + 1, number, if number.is_multiple_of(3) { 0 } else { number })
            })
            .collect();
        let expected = by_key(&spans);
        append_all(&store, &spans).await;
        store.flush().await.expect("the flush succeeds");
        check_file(&format!("{rows} rows"), &store.snapshot(&TenantId::default()).files[0], &expected);
        store.compact().await.expect("the merge succeeds");
        check_file(&format!("{rows} rows, packed"), &store.snapshot(&TenantId::default()).files[0], &expected);
    }
}

fn check_file(what: &str, file: &std::sync::Arc<SpanFile>, expected: &BTreeMap<Key, Span>) {
    let found = file_spans(file);
    assert_same_spans(what, &found, expected, 1);
    let order = |span: &Span| (span.trace_id, span.start_unix_nanos);
    assert!(found.is_sorted_by_key(order), "{what}: by trace id, then start");
    let open = file.open().expect("the file opens");
    let traces: Vec<TraceId> = found.iter().map(|span| span.trace_id).collect();
    let around = [0, 1, traces.len() / 2, traces.len().saturating_sub(2), traces.len() - 1];
    let pages = (0..traces.len()).step_by(16 * ROWS_PER_PAGE_MIN).flat_map(|page| [page.saturating_sub(1), page]);
    let picked = around.into_iter().chain(pages).filter(|&row| row < traces.len()).map(|row| traces[row]);
    for trace in picked.collect::<BTreeSet<_>>() {
        check_trace(what, &open, trace, &found);
    }
    for absent in [TraceId([0; 16]), TraceId([255; 16]), TraceId((1u128 << 60).to_be_bytes())] {
        assert_eq!(open.find_trace(absent).expect("the file can be read"), [], "{what}: {absent:?} was never sent");
        assert!(open.read_trace(absent, 10).expect("the file can be read").is_none());
    }
}

fn check_trace(what: &str, open: &OpenFile, trace: TraceId, all: &[Span]) {
    let begin = all.partition_point(|span| span.trace_id < trace);
    let end = all.partition_point(|span| span.trace_id <= trace);
    let found = open.read_trace(trace, usize::MAX).expect("the file can be read").expect("the trace is there");
    assert_eq!(spans_of(&found), all[begin..end], "{what}: trace {trace:?} at row {begin}");
    let places = open.find_trace(trace).expect("the file can be read");
    let mut first_row = 0;
    let mut rows = Vec::new();
    for row_group in 0..open.row_groups() {
        let here = places.iter().filter(|(found, _)| *found == row_group);
        rows.extend(here.flat_map(|(_, range)| first_row + range.start..first_row + range.end));
        first_row += open.rows_of(row_group);
    }
    assert_eq!(rows, (begin..end).collect::<Vec<_>>(), "{what}: where trace {trace:?} stands");
}

/// Parts of a trace, whose parents may lie before or behind the part.
#[tokio::test(flavor = "multi_thread")]
async fn part_of_a_trace_knows_its_parents() {
    let world = World::new();
    let store = world.open().await;
    // Every parent begins after its children, as with a clock that is wrong; others have theirs far before.
    let spans: Vec<Span> = (0..1000u64)
        .map(|number| {
            varied_span(5, number, if number.is_multiple_of(2) { (number + 300) % 1000 + 1 } else { number / 2 + 1 })
        })
        .collect();
    append(&store, batch_of(&spans)).await;
    store.flush().await.expect("the flush succeeds");
    let file = store.snapshot(&TenantId::default()).files[0].clone();
    let open = file.open().expect("the file opens");
    let all = file_spans(&file);
    for part in [0..1, 0..2, 1..2, 10..20, 0..999, 1..1000, 500..1000, 999..1000, 7..7] {
        let rows = open.read_rows(0, part.clone(), Projection::All).expect("the rows can be read");
        assert_eq!(spans_of(&rows), all[part.clone()], "rows {part:?}");
    }
    for limit in [1, 2, 500, 999, 1000, 1001] {
        let rows = open.read_trace(TraceId(5u128.to_be_bytes()), limit).expect("readable").expect("there");
        assert_eq!(spans_of(&rows), all[..limit.min(1000)], "the first {limit} spans");
    }
    assert!(open.read_trace(TraceId(5u128.to_be_bytes()), 0).expect("readable").is_none());
}

/// One trace of 270,000 spans between small ones: it crosses row groups, and its parents do as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_huge_trace_comes_back() {
    const HUGE: u64 = 270_000;
    let world = World::new();
    let store = world.open().await;
    let small = |trace: u128| (0..50).map(move |number| varied_span(trace, number, number));
    let parent = |number: u64| match number % 4 {
        _ if number == 0 => 0,
        // The first span, the one before, one far before, one that begins later.
        0 => 1,
        1 => number,
        2 => number / 3 + 1,
        _ => (number + 100_000) % HUGE + 1,
    };
    let huge = (0..HUGE).map(|number| varied_span(1000, number, parent(number)));
    let spans: Vec<Span> = small(1).chain(huge).chain(small(2000)).collect();
    let expected = by_key(&spans);
    append_all(&store, &spans).await;
    drop(spans);
    store.flush().await.expect("the flush succeeds");
    let file = store.snapshot(&TenantId::default()).files[0].clone();
    assert!(file.open().expect("opens").row_groups() >= 3);
    check_file("huge", &file, &expected);
    store.compact().await.expect("the merge succeeds");
    let file = store.snapshot(&TenantId::default()).files[0].clone();
    check_file("huge, packed", &file, &expected);
}

/// Spans with long texts: memory and row groups are counted in bytes as well.
#[tokio::test(flavor = "multi_thread")]
async fn long_texts_come_back() {
    let world = World::new();
    let store = world.open().await;
    let mut expected = BTreeMap::new();
    for round in 0..4u64 {
        let spans: Vec<Span> = (0..2000)
            .map(|number| {
                let mut span = plain_span(u128::from(number) + 1, round * 10_000 + number + 1, 0, NOON);
                let text = format!("\u{1}\" {round} {number} ").repeat(600);
                span.attributes.push(("text".into(), AnyValue::String(text.clone())));
                span.attributes.push((format!("seldom {number}"), AnyValue::Array(vec![AnyValue::String(text)])));
                span
            })
            .collect();
        append(&store, batch_of(&spans)).await;
        store.flush().await.expect("the flush succeeds");
        expected.extend(by_key(&spans));
    }
    assert_same_spans("flushed", &all_spans(&store.snapshot(&TenantId::default())), &expected, 1);
    store.compact().await.expect("the merge succeeds");
    let snapshot = store.snapshot(&TenantId::default());
    assert_eq!(snapshot.files.len(), 1);
    let row_groups = snapshot.files[0].open().expect("the file opens").row_groups();
    assert!(row_groups > 1, "memory is needed for a row group at a time, and these are too long for one");
    assert_same_spans("merged", &all_spans(&snapshot), &expected, 1);
}

/// A lookup decompresses whole pages, so those of long texts have few rows.
#[tokio::test(flavor = "multi_thread")]
async fn pages_of_long_texts_are_small() {
    let world = World::new();
    let store = world.open().await;
    let spans: Vec<Span> = (0..600)
        .map(|number| {
            let mut span = plain_span(u128::from(number) + 1, number + 1, 0, NOON);
            // One key in all spans, which gets a column, and others in the residual map, some of them many in a row.
            for attribute in 0..=number % 7 {
                let key = if attribute == 0 { "text".into() } else { format!("text {number} {attribute}") };
                span.attributes.push((key, AnyValue::String(noise(number * 10 + attribute, 16 * 1024))));
            }
            span
        })
        .collect();
    append(&store, batch_of(&spans)).await;
    store.flush().await.expect("the flush succeeds");
    let file = store.snapshot(&TenantId::default()).files[0].clone();
    assert_same_spans("flushed", &file_spans(&file), &by_key(&spans), 1);
    let written = std::fs::File::open(world.store_dir().join(&file.record.path)).expect("the file is there");
    let mut reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required);
    reader.try_parse(&written).expect("the footer can be read");
    let metadata = reader.finish().expect("the footer can be read");
    let pages = metadata.offset_index().expect("there is one")[0].iter().flat_map(|column| column.page_locations());
    let largest = pages.map(|page| page.compressed_page_size).max().expect("there are pages");
    assert!((100_000..1_500_000).contains(&largest), "the largest page has {largest} bytes");
}

/// Text that can't be compressed well.
fn noise(seed: u64, bytes: usize) -> String {
    let randomness = SystemRandomness::from_seed(seed << 20);
    (0..bytes / 16).map(|_| format!("{:016x}", randomness.next_u64())).collect()
}

/// Where a batch holds nothing but duplicates, or nothing at all.
#[tokio::test(flavor = "multi_thread")]
async fn empty_things_do_no_harm() {
    let world = World::new();
    let store = world.open().await;
    append(&store, SpanBatch::new()).await;
    assert_eq!(store.flush().await.expect("the flush succeeds").files, 0);
    assert_eq!(store.compact().await.expect("the merge succeeds").merges, 0);
    assert!(all_spans(&store.snapshot(&TenantId::default())).is_empty());
    let status = store.status(&TenantId::new("nobody").expect("a name"));
    assert_eq!((status.spans_hot, status.spans_stored, status.files), (0, 0, 0));
}
