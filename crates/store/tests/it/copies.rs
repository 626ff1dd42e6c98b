//! Spans that are sent more than once: each counts once, in memory and in files, wherever its twin went.

use tracehouse_model::{AnyValue, Span, TenantId, TraceId};
use tracehouse_store::{Snapshot, Snapshots};

use crate::spans::{NOON, batch_of, plain_span};
use crate::world::{World, all_spans, append, hot_spans};

fn spans() -> Vec<Span> {
    (0..600u64)
        .map(|number| {
            let mut span = plain_span(u128::from(number / 20) + 1, number + 1, 0, NOON + (number as i64 % 20) * 1_000);
            span.attributes.push(("number".into(), AnyValue::Int(number as i64)));
            span
        })
        .collect()
}

/// Every row that a query would count.
fn rows(snapshot: &Snapshot) -> usize {
    let stored: u64 = snapshot.files.iter().map(|file| file.record.spans).sum();
    hot_spans(snapshot).len() + stored as usize
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_counts_once_wherever_its_twin_lies() {
    let world = World::new();
    let store = world.open().await;
    let tenant = TenantId::default();
    let spans = spans();
    let again = |some: &[Span]| batch_of(&some.iter().rev().cloned().collect::<Vec<_>>());
    append(&store, batch_of(&spans[..300])).await;
    assert_eq!(rows(&store.snapshot(&tenant)), 300);
    // Its twin is in memory, in another batch and in its own.
    append(&store, again(&[&spans[..300], &spans[..50]].concat())).await;
    assert_eq!(rows(&store.snapshot(&tenant)), 300, "twins in memory");
    store.flush().await.expect("the flush succeeds");
    assert_eq!(rows(&store.snapshot(&tenant)), 300, "flushed");
    // In a file, some of the spans new.
    append(&store, again(&spans[200..600])).await;
    assert_eq!(rows(&store.snapshot(&tenant)), 600, "twins in a file");
    let report = store.flush().await.expect("the flush succeeds");
    assert_eq!((report.spans, report.duplicates), (300, 0), "the query had them taken out");
    // In files, and nobody asked before the flush.
    append(&store, again(&spans)).await;
    let report = store.flush().await.expect("the flush succeeds");
    assert_eq!((report.spans, report.files, report.duplicates), (0, 0, 600));
    // In a merged file, which is final.
    store.compact().await.expect("the merge succeeds");
    append(&store, again(&spans[100..])).await;
    assert_eq!(rows(&store.snapshot(&tenant)), 600, "twins in a merged file");
    // Copies that come back from the log.
    store.shutdown().await.expect("the store stops");
    drop(store);
    let store = world.open().await;
    append(&store, again(&spans)).await;
    let crashed = world.crash_image();
    let restarted = crashed.open().await;
    assert_eq!(rows(&restarted.snapshot(&tenant)), 600, "twins in files, copies in the log");
    assert_eq!(all_spans(&restarted.snapshot(&tenant)).len(), 600);
}

/// Questions about whole traces don't have everything in memory looked at, only the traces: those of their spans that are
/// stored don't come twice. Few traces are looked up in their pages, many by what tells all spans apart.
#[tokio::test(flavor = "multi_thread")]
async fn spans_in_memory_of_some_traces_are_those_that_are_not_stored() {
    let world = World::new();
    let store = world.open().await;
    let tenant = TenantId::default();
    let spans = spans();
    append(&store, batch_of(&spans[..300])).await;
    store.flush().await.expect("the flush succeeds");
    append(&store, batch_of(&spans[200..400])).await;
    let found = |traces: std::ops::Range<u128>| {
        let snapshot = store.snapshot_as_sent(&tenant);
        assert_eq!(hot_spans(&snapshot).len(), 200, "what was sent again is there");
        let traces: Vec<TraceId> = traces.map(|trace| TraceId(trace.to_be_bytes())).collect();
        snapshot.hot_rows(&traces).iter().map(|hot| hot.rows.len()).sum::<usize>()
    };
    // Traces of 20 spans: the first 15 are stored, 11 to 20 were sent afterwards.
    assert_eq!(found(1..11), 0, "stored only");
    assert_eq!(found(15..16), 0, "sent again");
    assert_eq!(found(16..17), 20, "new");
    assert_eq!(found(1..31), 100, "all");
    assert_eq!(rows(&store.snapshot(&tenant)), 400, "whoever counts has them taken out");
}

/// An SDK that uses ids again, or a proxy that changes what it passes on, makes other spans: none is thrown away.
#[tokio::test(flavor = "multi_thread")]
async fn another_span_under_the_same_ids_is_kept() {
    let world = World::new();
    let store = world.open().await;
    let original = plain_span(1, 7, 0, NOON);
    let differing = |change: &dyn Fn(&mut Span)| {
        let mut span = original.clone();
        change(&mut span);
        span
    };
    let sent = vec![
        original.clone(),
        differing(&|span| span.name = "another name".into()),
        differing(&|span| span.start_unix_nanos += 1),
        differing(&|span| span.duration_nanos += 1),
        differing(&|span| span.kind = (span.kind + 1) % 5),
        differing(&|span| span.attributes.push(("retry".into(), AnyValue::Int(1)))),
        differing(&|span| span.dropped_events += 1),
        differing(&|span| span.resource_attributes.push(("host.name".into(), AnyValue::String("other".into())))),
    ];
    for round in 0..3 {
        append(&store, batch_of(&sent)).await;
        assert_eq!(rows(&store.snapshot(&TenantId::default())), sent.len(), "round {round}");
        store.flush().await.expect("the flush succeeds");
        assert_eq!(rows(&store.snapshot(&TenantId::default())), sent.len(), "round {round}, flushed");
        // A flush that found nothing new left no file to merge.
        store.compact().await.expect("the merge succeeds");
        assert_eq!(rows(&store.snapshot(&TenantId::default())), sent.len(), "round {round}, merged");
    }
}

/// Spans of one trace, id, start and kind that all differ would be compared each with each: 900 million comparisons.
#[tokio::test(flavor = "multi_thread")]
async fn chosen_ids_cost_no_square() {
    let world = World::new();
    let store = world.open().await;
    let spans: Vec<Span> = (0..30_000)
        .map(|number| {
            let mut span = plain_span(1, 7, 0, NOON);
            span.duration_nanos = number;
            span
        })
        .collect();
    append(&store, batch_of(&spans)).await;
    assert_eq!(rows(&store.snapshot(&TenantId::default())), spans.len());
    store.flush().await.expect("the flush succeeds");
    append(&store, batch_of(&spans)).await;
    assert_eq!(rows(&store.snapshot(&TenantId::default())), spans.len(), "sent again");
    append(&store, batch_of(&[&spans[..], &spans[..]].concat())).await;
    store.flush().await.expect("the flush succeeds");
    store.compact().await.expect("the merge succeeds");
    assert_eq!(rows(&store.snapshot(&TenantId::default())), spans.len(), "again, flushed and merged");
}

/// A loop that sends one span over and over.
#[tokio::test(flavor = "multi_thread")]
async fn however_often_a_span_is_sent_it_counts_once() {
    let world = World::new();
    let store = world.open().await;
    let repeated = vec![plain_span(1, 7, 0, NOON); 20_000];
    for round in 0..2 {
        append(&store, batch_of(&repeated)).await;
        assert_eq!(rows(&store.snapshot(&TenantId::default())), 1, "round {round}, in memory");
        append(&store, batch_of(&repeated)).await;
        store.flush().await.expect("the flush succeeds");
        assert_eq!(rows(&store.snapshot(&TenantId::default())), 1, "round {round}, flushed");
    }
}

/// A twin in a file that can't be read can't be found; that must not keep new spans out.
#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_twin_keeps_nothing_out() {
    let world = World::new();
    let store = world.open().await;
    let spans = spans();
    append(&store, batch_of(&spans)).await;
    store.flush().await.expect("the flush succeeds");
    for path in world.files_ending_with(".parquet") {
        let file = std::fs::OpenOptions::new().write(true).open(path).expect("the file can be opened");
        file.set_len(100).expect("the file can be cut");
    }
    append(&store, batch_of(&spans)).await;
    let report = store.flush().await.expect("the flush succeeds");
    assert_eq!(report.spans, spans.len() as u64);
}
