//! Whole traces that a decider leaves out are gone after merges, and all others are there: wherever their spans lie, and
//! whenever the process ends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use proptest::prelude::*;
use tracehouse_catalogue::{Catalogue, RetirementReason};
use tracehouse_model::{Span, TenantId, TraceId};
use tracehouse_store::{Decider, Store, StoreConfig, WholeTrace};

use crate::spans::{HOUR, NOON, assert_same_spans, batch_of, by_key, plain_span};
use crate::world::{Moment, WatchedCatalogue, World, all_spans, append};

const ERROR: u8 = 2;

/// Leaves out traces without an error.
#[derive(Debug, Default)]
struct ErrorsOnly {
    asked: Mutex<Vec<TraceId>>,
}

impl Decider for ErrorsOnly {
    fn keeps(&self, trace: &WholeTrace<'_>) -> bool {
        self.asked.lock().push(trace.id);
        assert!(trace.spans().all(|(batch, row)| batch.trace_id[row] == trace.id), "they are all of the trace");
        trace.spans().any(|(batch, row)| batch.status_code[row] == ERROR)
    }

    fn reach(&self) -> Duration {
        Duration::from_secs(2 * 3600)
    }
}

fn config(world: &World, decider: Arc<dyn Decider>) -> StoreConfig {
    StoreConfig { decider: Some(decider), ..world.config() }
}

fn span(trace: u128, number: u64, hour: i64, is_error: bool) -> Span {
    let status_code = if is_error { ERROR } else { 0 };
    Span { status_code, ..plain_span(trace, trace as u64 * 1000 + number, 0, NOON + hour * HOUR + number as i64) }
}

async fn put(store: &Store, spans: &[Span]) {
    append(store, batch_of(spans)).await;
    store.flush().await.expect("the flush succeeds");
}

fn left_out(store: &Store) -> u64 {
    store.snapshot(&TenantId::default()).files.iter().map(|file| file.record.left_out_spans).sum()
}

/// The error is in another file of the same merge, in one of another hour, in memory, or nowhere.
fn files() -> ([Vec<Span>; 3], Vec<Span>) {
    let files = [
        vec![
            span(1, 0, 0, false),
            span(2, 0, 0, false),
            span(3, 0, 0, false),
            span(4, 0, 0, false),
            span(5, 0, 0, false),
        ],
        vec![span(1, 1, 0, false), span(2, 1, 0, true), span(5, 1, 0, false)],
        vec![span(3, 2, 1, true), span(5, 2, 1, false)],
    ];
    (files, vec![span(4, 3, 0, true), span(6, 0, 0, false)])
}

/// What is left: of trace 6 as it is in memory still.
fn kept() -> Vec<Span> {
    let (files, hot) = files();
    let all = files.into_iter().flatten().chain(hot);
    all.filter(|span| ![1, 5].contains(&u128::from_be_bytes(span.trace_id.0))).collect()
}

async fn assert_decided(what: &str, world: &World) {
    let store = world.open_with(config(world, Arc::new(ErrorsOnly::default()))).await;
    store.compact().await.expect("the merge succeeds");
    assert_same_spans(what, &all_spans(&store.snapshot(&TenantId::default())), &by_key(&kept()), 1);
    assert_eq!(left_out(&store), 5, "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn traces_are_left_out_whole_wherever_their_spans_lie() {
    let world = World::new();
    let catalogue = WatchedCatalogue::new(world.catalogue().await);
    let decider = Arc::new(ErrorsOnly::default());
    let opened = world.try_open(config(&world, decider.clone()), catalogue.clone(), world.clock.clone()).await;
    let store = opened.expect("the store opens");
    let (files, hot) = files();
    for spans in &files {
        put(&store, spans).await;
    }
    append(&store, batch_of(&hot)).await;
    // A crash before and after each commit of the merges.
    let images: Arc<Mutex<Vec<(String, World)>>> = Arc::default();
    let (seen, world) = (images.clone(), Arc::new(world));
    let watched = Arc::downgrade(&world);
    catalogue.watch(move |moment, commit| {
        if commit.retire.is_empty() {
            return;
        }
        let world = watched.upgrade().expect("the test holds it");
        let image = (format!("{moment:?} {:?}", commit.retire), world.crash_image());
        assert!(matches!(moment, Moment::BeforeCommit | Moment::AfterCommit));
        seen.lock().push(image);
    });
    store.compact().await.expect("the merges succeed");
    assert_same_spans("merged", &all_spans(&store.snapshot(&TenantId::default())), &by_key(&kept()), 1);
    assert_eq!(left_out(&store), 5, "of the traces 1 and 5");
    let mut asked: Vec<u128> = decider.asked.lock().iter().map(|trace| u128::from_be_bytes(trace.0)).collect();
    asked.sort_unstable();
    assert_eq!(asked, [1, 2, 3, 3, 4, 5, 5], "once by each of two merges");
    let images = std::mem::take(&mut *images.lock());
    assert_eq!(images.len(), 4);
    for (what, image) in images {
        assert_decided(&what, &image).await;
    }
    // Nobody decides any more, and what was left out stays known when files are merged again.
    store.shutdown().await.expect("it stops");
    drop(store);
    let store = world.open().await;
    store.compact().await.expect("the merge succeeds");
    assert_eq!(left_out(&store), 5);
    assert_same_spans("all are kept", &all_spans(&store.snapshot(&TenantId::default())), &by_key(&kept()), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_files_without_a_kept_trace_nothing_is_left() {
    let world = World::new();
    let store = world.open_with(config(&world, Arc::new(ErrorsOnly::default()))).await;
    put(&store, &[span(1, 0, 0, false)]).await;
    put(&store, &[span(2, 0, 0, false), span(1, 1, 0, false)]).await;
    let report = store.compact().await.expect("the merge succeeds");
    assert_eq!((report.files_before, report.files_after), (2, 0));
    assert!(store.snapshot(&TenantId::default()).files.is_empty());
    let files = world.catalogue().await.load().await.expect("it can be read").files;
    let reasons: Vec<_> = files.iter().filter_map(|file| Some(file.retired.as_ref()?.reason)).collect();
    assert_eq!(reasons, [RetirementReason::LeftOut; 2]);
    assert_eq!(world.files_ending_with(".parquet").len() + world.files_ending_with(".new").len(), 0);
    store.shutdown().await.expect("it stops");
    assert!(world.open().await.snapshot(&TenantId::default()).files.is_empty(), "they stay away");
}

/// A trace that may have spans in a file that can't be read is not seen whole.
#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_seen_whole_is_kept() {
    let world = World::new();
    let decider = Arc::new(ErrorsOnly::default());
    let store = world.open().await;
    for number in 0..2 {
        put(&store, &[span(1, number, 0, false)]).await;
    }
    put(&store, &[span(1, 2, 1, true)]).await;
    let snapshot = store.snapshot(&TenantId::default());
    let with_error = snapshot.files.iter().max_by_key(|file| file.record.start_min).expect("three").record.path.clone();
    drop(snapshot);
    store.shutdown().await.expect("it stops");
    let (place, aside) = (world.store_dir().join(with_error), world.path().join("aside"));
    std::fs::rename(&place, &aside).expect("it can be moved");
    let store = world.open_with(config(&world, decider.clone())).await;
    store.compact().await.expect("the merge succeeds");
    assert_eq!((decider.asked.lock().len(), left_out(&store)), (0, 0), "nobody could decide");
    assert_eq!(all_spans(&store.snapshot(&TenantId::default())).len(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Files of two hours and memory, with spans of a few traces, some of them with an error.
    #[test]
    fn exactly_the_traces_without_an_error_are_left_out(
        files in prop::collection::vec(prop::collection::vec((1u128..9, 0i64..2, prop::bool::weighted(0.1)), 1..12), 1..6),
        hot in prop::collection::vec((1u128..9, 0i64..2, prop::bool::weighted(0.1)), 0..4),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let world = World::new();
            let store = world.open_with(config(&world, Arc::new(ErrorsOnly::default()))).await;
            let mut number = 0;
            let mut spans_of = |described: &[(u128, i64, bool)]| -> Vec<Span> {
                let spans = described.iter().map(|(trace, hour, is_error)| {
                    number += 1;
                    span(*trace, number, *hour, *is_error)
                });
                spans.collect()
            };
            let mut stored = Vec::new();
            for file in &files {
                let spans = spans_of(file);
                put(&store, &spans).await;
                stored.extend(spans);
            }
            let hot = spans_of(&hot);
            if !hot.is_empty() {
                append(&store, batch_of(&hot)).await;
            }
            let mut has_error: BTreeMap<TraceId, bool> = BTreeMap::new();
            for span in stored.iter().chain(&hot) {
                *has_error.entry(span.trace_id).or_default() |= span.status_code == ERROR;
            }
            store.compact().await.expect("the merges succeed");
            let mut expected: Vec<Span> = stored.into_iter().filter(|span| has_error[&span.trace_id]).collect();
            expected.extend(hot);
            let found = all_spans(&store.snapshot(&TenantId::default()));
            assert_same_spans("after the merges", &found, &by_key(&expected), 1);
        });
    }
}
