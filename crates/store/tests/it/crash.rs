//! A crash at any point loses nothing that was acknowledged and shows nothing twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tracehouse_model::{Span, SystemClock, TenantId};
use tracehouse_store::{Store, StoreConfig};

use crate::spans::{Key, NOON, assert_same_spans, batch_of, by_key, plain_span};
use crate::world::{Fault, WatchedCatalogue, World, all_spans, append, until};

/// Traces of four spans; every `round` other ones.
fn some_spans(round: u64) -> Vec<Span> {
    let span = |number: u64| {
        let trace = u128::from(round * 100 + number / 4) << 32;
        plain_span(
            trace,
            round * 1000 + number + 1,
            if number.is_multiple_of(4) { 0 } else { round * 1000 + number },
            NOON + number as i64,
        )
    };
    (0..40).map(span).collect()
}

fn all_of(rounds: std::ops::Range<u64>) -> BTreeMap<Key, Span> {
    by_key(&rounds.flat_map(some_spans).collect::<Vec<_>>())
}

/// Every span once: as found at the start, and after everything was written and merged; and no stray files.
async fn check_world(what: &str, world: &World, expected: &BTreeMap<Key, Span>) {
    let store = world.open().await;
    check_store(what, world, &store, expected);
    store.flush().await.expect("the flush succeeds");
    check_store(&format!("{what}, flushed"), world, &store, expected);
    store.compact().await.expect("the merge succeeds");
    check_store(&format!("{what}, merged"), world, &store, expected);
    store.shutdown().await.expect("the store stops");
}

fn check_store(what: &str, world: &World, store: &Store, expected: &BTreeMap<Key, Span>) {
    let snapshot = store.snapshot(&TenantId::default());
    assert_same_spans(what, &all_spans(&snapshot), expected, 1);
    let mut listed: Vec<_> = snapshot.files.iter().map(|file| world.store_dir().join(&file.record.path)).collect();
    listed.sort();
    assert_eq!(world.files_ending_with(".parquet"), listed, "{what}: what a glob finds");
    for suffix in [".tmp", ".new", ".unknown"] {
        assert!(world.files_ending_with(suffix).is_empty(), "{what}: no stray files ending with {suffix}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_spans_survive_a_crash_before_the_first_flush() {
    let world = World::new();
    let store = world.open().await;
    for round in 0..50 {
        append(&store, batch_of(&some_spans(round))).await;
    }
    let image = world.crash_image();
    check_world("from the log", &image, &all_of(0..50)).await;
    check_world("once more", &image, &all_of(0..50)).await;
}

/// Opens images of the folders taken around every commit: before it (files are written, the catalogue does not know
/// them) and after it (the catalogue knows, the log still has the spans and replaced files are still in place).
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_around_a_commit_shows_every_span_once() {
    let world = Arc::new(World::new());
    let catalogue = WatchedCatalogue::new(world.catalogue().await);
    let store = world.try_open(world.config(), catalogue.clone(), world.clock.clone()).await.expect("opens");
    let images: Arc<Mutex<Vec<(String, World)>>> = Arc::default();
    let (from, into) = (world.clone(), images.clone());
    catalogue.watch(move |moment, commit| {
        let what = format!("{moment:?}, adds {}, retires {}", commit.add.len(), commit.retire.len());
        into.lock().push((what, from.crash_image()));
    });
    for round in 0..6 {
        append(&store, batch_of(&some_spans(round))).await;
        if round % 2 == 1 {
            store.flush().await.expect("the flush succeeds");
        }
    }
    store.compact().await.expect("the merge succeeds");
    let images: Vec<_> = images.lock().drain(..).collect();
    assert_eq!(images.len(), 8, "three flushes and a merge, before and after");
    for (number, (what, image)) in images.iter().enumerate() {
        let rounds = (number / 2 * 2 + 2).min(6) as u64;
        check_world(&format!("image {number}: {what}"), image, &all_of(0..rounds)).await;
    }
    check_store("the store itself", &world, &store, &all_of(0..6));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_before_replaced_files_are_deleted_leaves_them_to_the_next_start() {
    let world = World::new();
    let store = world.open().await;
    for round in 0..3 {
        append(&store, batch_of(&some_spans(round))).await;
        store.flush().await.expect("the flush succeeds");
    }
    store.compact().await.expect("the merge succeeds");
    let image = world.crash_image();
    assert_eq!(image.files_ending_with(".retired").len(), 3);
    let reopened = image.open().await;
    image.clock.advance(image.config().delete_grace);
    until(&image, "they are deleted after the grace period", || image.files_ending_with(".retired").is_empty()).await;
    check_store("without them", &image, &reopened, &all_of(0..3));
}

/// A commit that fails, or that succeeds but says it failed, is followed by another attempt.
#[tokio::test(flavor = "multi_thread")]
async fn failing_commits_lose_and_repeat_nothing() {
    for fault in [Fault::BeforeCommit, Fault::AfterCommit] {
        let world = World::new();
        let catalogue = WatchedCatalogue::new(world.catalogue().await);
        let store = world.try_open(world.config(), catalogue.clone(), world.clock.clone()).await.expect("opens");
        append(&store, batch_of(&some_spans(0))).await;
        store.flush().await.expect("the flush succeeds");
        append(&store, batch_of(&some_spans(1))).await;

        catalogue.fail(fault);
        let _ = store.flush().await;
        check_store(&format!("{fault:?} in a flush"), &world, &store, &all_of(0..2));
        catalogue.fail(Fault::None);
        append(&store, batch_of(&some_spans(2))).await;
        store.flush().await.expect("the flush succeeds");
        check_store(&format!("{fault:?}, flushed again"), &world, &store, &all_of(0..3));

        catalogue.fail(fault);
        let _ = store.compact().await;
        check_store(&format!("{fault:?} in a merge"), &world, &store, &all_of(0..3));
        catalogue.fail(Fault::None);
        store.compact().await.expect("the merge succeeds");
        check_store(&format!("{fault:?}, merged again"), &world, &store, &all_of(0..3));
        check_world(&format!("{fault:?}, after a crash"), &world.crash_image(), &all_of(0..3)).await;
    }
}

/// Crashes at random moments while spans come in, files are written, merged and deleted.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_crash_under_load_loses_nothing_that_was_acknowledged() {
    let world = World::new();
    let catalogue = WatchedCatalogue::new(world.catalogue().await);
    let config =
        StoreConfig { flush_bytes: 64 * 1024, compaction_interval: Duration::from_millis(300), ..world.config() };
    let clock = Arc::new(SystemClock::default());
    let store = world.try_open(config, catalogue.clone(), clock).await.expect("opens");
    let acknowledged: Arc<Mutex<Vec<u64>>> = Arc::default();
    let senders: Vec<_> = (0..3u64)
        .map(|sender| {
            let (store, acknowledged) = (store.clone(), acknowledged.clone());
            tokio::spawn(async move {
                for round in (sender..).step_by(3) {
                    append(&store, batch_of(&some_spans(round))).await;
                    acknowledged.lock().push(round);
                    tokio::time::sleep(Duration::from_millis(8)).await;
                }
            })
        })
        .collect();
    for number in 0..6 {
        tokio::time::sleep(Duration::from_millis(150 + number * 37)).await;
        let before = acknowledged.lock().clone();
        let image = {
            let _still = catalogue.still.write().await;
            world.crash_image()
        };
        // What was on its way when the crash came may be there or not, but whole batches and once.
        let sent = acknowledged.lock().iter().max().map_or(0, |last| last + 10);
        check_image(&format!("image {number}"), &image, &before, sent).await;
    }
    senders.iter().for_each(|sender| sender.abort());
    assert!(acknowledged.lock().len() > 100, "there was load");
}

async fn check_image(what: &str, image: &World, acknowledged: &[u64], sent: u64) {
    let store = image.open().await;
    let sent = all_of(0..sent);
    for phase in ["opened", "flushed", "merged"] {
        match phase {
            "flushed" => drop(store.flush().await.expect("the flush succeeds")),
            "merged" => drop(store.compact().await.expect("the merge succeeds")),
            _ => {}
        }
        let found = all_spans(&store.snapshot(&TenantId::default()));
        let found_by_key = by_key(&found);
        let expected: BTreeMap<Key, Span> = sent
            .iter()
            .filter(|(key, span)| acknowledged.contains(&round_of(span)) || found_by_key.contains_key(key))
            .map(|(key, span)| (*key, span.clone()))
            .collect();
        assert_same_spans(&format!("{what}, {phase}"), &found, &expected, 1);
    }
    store.shutdown().await.expect("the store stops");
}

fn round_of(span: &Span) -> u64 {
    (span.span_id.as_u64() - 1) / 1000
}
