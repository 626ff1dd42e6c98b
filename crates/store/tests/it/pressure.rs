//! More than can be taken, from many sides at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tracehouse_model::{Span, SystemClock, TenantId};
use tracehouse_store::{AppendError, Durability, Store, StoreConfig};

use crate::spans::{Key, NOON, assert_same_spans, batch_of, by_key, key_of, plain_span};
use crate::world::{Fault, WatchedCatalogue, World, all_spans, append, tenant};

fn some_spans(round: u64) -> Vec<Span> {
    (0..50)
        .map(|number| plain_span(u128::from(round * 7 + number / 10) + 1, round * 100 + number + 1, 0, NOON))
        .collect()
}

fn all_of(rounds: impl IntoIterator<Item = u64>) -> BTreeMap<Key, Span> {
    by_key(&rounds.into_iter().flat_map(some_spans).collect::<Vec<_>>())
}

/// While files can't be written, memory fills to its limit and senders are asked to wait; afterwards all goes on.
#[tokio::test(flavor = "multi_thread")]
async fn full_memory_asks_senders_to_wait_and_loses_nothing() {
    let world = World::new();
    let catalogue = WatchedCatalogue::new(world.catalogue().await);
    let config = StoreConfig { hot_bytes_max: 256 * 1024, flush_bytes: 64 * 1024 * 1024, ..world.config() };
    let store = world.try_open(config, catalogue.clone(), world.clock.clone()).await.expect("opens");
    catalogue.fail(Fault::BeforeCommit);
    let mut taken = 0;
    let refusal = loop {
        match store.append(TenantId::default(), batch_of(&some_spans(taken))).await {
            Ok(()) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 10_000, "memory has no end");
    };
    assert!(matches!(&refusal, AppendError::Busy { retry_after, .. } if !retry_after.is_zero()), "{refusal:?}");
    assert!(taken > 3, "some were taken");
    let found = all_spans(&store.snapshot(&TenantId::default()));
    assert_same_spans("while senders wait", &found, &all_of(0..taken), 1);
    catalogue.fail(Fault::None);
    store.flush().await.expect("the flush succeeds");
    append(&store, batch_of(&some_spans(taken))).await;
    assert_same_spans("after it", &all_spans(&store.snapshot(&TenantId::default())), &all_of(0..=taken), 1);
}

/// Full memory starts a flush by itself, even with a flush size that memory never reaches.
#[tokio::test(flavor = "multi_thread")]
async fn full_memory_is_flushed_by_itself() {
    let world = World::new();
    let config = StoreConfig { hot_bytes_max: 256 * 1024, flush_bytes: 64 * 1024 * 1024, ..world.config() };
    let store = world.open_with(config).await;
    let mut refused = 0;
    for round in 0..200 {
        while let Err(error) = store.append(TenantId::default(), batch_of(&some_spans(round))).await {
            assert!(matches!(error, AppendError::Busy { .. }), "{error:?}");
            refused += 1;
            assert!(refused < 1000, "no flush makes room");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    assert_same_spans("all", &all_spans(&store.snapshot(&TenantId::default())), &all_of(0..200), 1);
}

/// Spans come in, move to files and are merged, while snapshots are taken: each has every acknowledged span once.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_snapshot_has_every_acknowledged_span_once() {
    const SENDERS: u64 = 3;
    let world = World::new();
    let store = world.open().await;
    let acknowledged: Arc<[AtomicU64; SENDERS as usize]> = Arc::default();
    let done = Arc::new(AtomicBool::new(false));
    let senders = (0..SENDERS).map(|sender| {
        let (store, acknowledged) = (store.clone(), acknowledged.clone());
        tokio::spawn(async move {
            for turn in 0..250 {
                append(&store, batch_of(&some_spans(turn * SENDERS + sender))).await;
                acknowledged[sender as usize].fetch_add(1, Ordering::SeqCst);
            }
        })
    });
    let senders: Vec<_> = senders.collect();
    let flushing = repeat(store.clone(), done.clone(), |store| async move {
        store.flush().await.expect("the flush succeeds");
    });
    let merging = repeat(store.clone(), done.clone(), |store| async move {
        store.compact().await.expect("the merge succeeds");
    });
    let mut snapshots = 0;
    while !senders.iter().all(|sender| sender.is_finished()) {
        let before: Vec<u64> = acknowledged.iter().map(|turns| turns.load(Ordering::SeqCst)).collect();
        let snapshot = store.snapshot(&TenantId::default());
        let keys: Vec<Key> = all_spans(&snapshot).iter().map(key_of).collect();
        let distinct: std::collections::HashSet<&Key> = keys.iter().collect();
        assert_eq!(keys.len(), distinct.len(), "a span is in memory and in a file, or in two files");
        for (sender, turns) in (0..).zip(before) {
            let rounds = (0..turns).map(|turn| turn * SENDERS + sender);
            let missing = rounds.flat_map(some_spans).filter(|span| !distinct.contains(&key_of(span))).count();
            assert_eq!(missing, 0, "spans that were acknowledged before the snapshot");
        }
        snapshots += 1;
        tokio::task::yield_now().await;
    }
    done.store(true, Ordering::SeqCst);
    for task in senders.into_iter().chain([flushing, merging]) {
        task.await.expect("no task panics");
    }
    assert!(snapshots > 3, "snapshots were taken meanwhile");
    store.flush().await.expect("the flush succeeds");
    store.compact().await.expect("the merge succeeds");
    let snapshot = store.snapshot(&TenantId::default());
    assert_eq!(snapshot.files.len(), 1);
    assert_same_spans("in the end", &all_spans(&snapshot), &all_of(0..250 * SENDERS), 1);
}

fn repeat<F: Future<Output = ()> + Send + 'static>(
    store: Arc<Store>,
    done: Arc<AtomicBool>,
    work: impl Fn(Arc<Store>) -> F + Send + 'static,
) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        while !done.load(Ordering::SeqCst) {
            work(store.clone()).await;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
}

/// Many small batches become few in memory, none lost, also while a flush is going on.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_small_batches_are_joined() {
    let world = World::new();
    let catalogue = WatchedCatalogue::new(world.catalogue().await);
    let store = world.try_open(world.config(), catalogue.clone(), world.clock.clone()).await.expect("opens");
    let spans: Vec<Span> = (0..3000).flat_map(|round| some_spans(round).into_iter().take(1)).collect();
    for (number, span) in spans.iter().enumerate() {
        if number % 700 == 350 {
            // A flush that fails in the middle must not keep batches from being joined, nor join what it writes.
            catalogue.fail(if number % 1400 == 350 { Fault::BeforeCommit } else { Fault::None });
            let _ = store.flush().await;
        }
        append(&store, batch_of([span])).await;
    }
    catalogue.fail(Fault::None);
    let snapshot = store.snapshot(&TenantId::default());
    assert!(snapshot.hot.len() < 200, "{} batches", snapshot.hot.len());
    assert_same_spans("in memory", &all_spans(&snapshot), &by_key(&spans), 1);
    let image = world.crash_image();
    let crashed = image.open().await;
    assert_same_spans("from the log", &all_spans(&crashed.snapshot(&TenantId::default())), &by_key(&spans), 1);
    store.flush().await.expect("the flush succeeds");
    assert_same_spans("in files", &all_spans(&store.snapshot(&TenantId::default())), &by_key(&spans), 1);
}

/// With synchronisation at intervals an append returns before it, and a crash of the process loses nothing.
#[tokio::test(flavor = "multi_thread")]
async fn durability_at_intervals_keeps_everything_over_a_crash_of_the_process() {
    let world = World::new();
    let config = StoreConfig { durability: Durability::Interval(Duration::from_millis(20)), ..world.config() };
    let catalogue = world.catalogue().await;
    let clock = Arc::new(SystemClock::default());
    let store = world.try_open(config.clone(), catalogue, clock).await.expect("opens");
    for round in 0..100 {
        append(&store, batch_of(&some_spans(round))).await;
        if round % 25 == 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    let image = world.crash_image();
    let reopened = image.open().await;
    assert_same_spans("a crash", &all_spans(&reopened.snapshot(&TenantId::default())), &all_of(0..100), 1);
    store.shutdown().await.expect("the store stops");
    assert_eq!(store.status(&TenantId::default()).spans_hot, 0, "a shutdown writes what is in memory");
    let reopened = world.open_with(config).await;
    assert_same_spans("a restart", &all_spans(&reopened.snapshot(&TenantId::default())), &all_of(0..100), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_taken_after_a_shutdown() {
    let world = World::new();
    let store = world.open().await;
    append(&store, batch_of(&some_spans(0))).await;
    assert_eq!(store.ready(), Ok(()));
    store.shutdown().await.expect("the store stops");
    let refused = store.append(TenantId::default(), batch_of(&some_spans(1))).await;
    assert!(matches!(refused, Err(AppendError::ShuttingDown)), "{refused:?}");
    assert!(store.ready().is_err());
    assert_same_spans("still readable", &all_spans(&store.snapshot(&TenantId::default())), &all_of(0..1), 1);
    store.shutdown().await.expect("a second time is no error");
}

/// Tenants share memory and the log but see nothing of each other.
#[tokio::test(flavor = "multi_thread")]
async fn tenants_are_apart() {
    let world = World::new();
    let store = world.open().await;
    let found: Arc<Mutex<Vec<usize>>> = Arc::default();
    for round in 0..6u64 {
        // The same ids for each tenant.
        for number in 0..3 {
            let mut spans = some_spans(round % 2);
            spans.iter_mut().for_each(|span| span.scope_name = format!("tenant {number}"));
            store.append(tenant(number), batch_of(&spans)).await.expect("taken");
        }
        if round == 3 {
            store.flush().await.expect("the flush succeeds");
        }
    }
    store.flush().await.expect("the flush succeeds");
    store.compact().await.expect("the merge succeeds");
    for number in 0..3 {
        let mut expected = all_of(0..2);
        expected.values_mut().for_each(|span| span.scope_name = format!("tenant {number}"));
        let snapshot = store.snapshot(&tenant(number));
        assert_same_spans(&format!("tenant {number}"), &all_spans(&snapshot), &expected, 1);
        let folder = format!("tenant={}/", tenant(number));
        assert!(snapshot.files.iter().all(|file| file.record.path.starts_with(&folder)));
        found.lock().push(snapshot.files.len());
    }
    assert_eq!(*found.lock(), [1, 1, 1]);
}
