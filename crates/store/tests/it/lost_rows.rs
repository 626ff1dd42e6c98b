//! The catalogue loses the row of a file, or the answer to its retirement, while a store runs: all other files go on.

use std::sync::Arc;
use std::time::Duration;

use tracehouse_model::{Span, TenantId};
use tracehouse_store::{Background, Store, StoreConfig, StoreStep, UnreadableReason};

use crate::spans::{HOUR, NOON, assert_same_spans, batch_of, by_key, plain_span};
use crate::world::{Fault, WatchedCatalogue, World, all_spans, append};

const FILES: u64 = 4;
const DAMAGES: [&str; 2] = ["DELETE FROM files", "UPDATE files SET spans = spans + 1"];

/// Of an hour of their own for each file, if those are not to be merged.
fn some_spans(file: u64, hours: i64) -> Vec<Span> {
    let start = NOON - file as i64 * hours * HOUR;
    (0..50).map(|number| plain_span(u128::from(file) + 1, file * 100 + number + 1, 0, start)).collect()
}

async fn write_files(store: &Store, hours: i64) {
    for file in 0..FILES {
        append(store, batch_of(&some_spans(file, hours))).await;
        store.flush().await.expect("the flush succeeds");
    }
}

/// What is left without one of the files, whose row is lost.
fn check_without(what: &str, store: &Store, files: impl IntoIterator<Item = u64>, hours: i64, lost: &str) {
    let snapshot = store.snapshot(&TenantId::default());
    let unreadable: Vec<_> = snapshot.unreadable.iter().map(|file| (file.path.as_str(), file.reason)).collect();
    assert_eq!(unreadable, [(lost, UnreadableReason::Unknown)], "{what}");
    let expected: Vec<Span> = files.into_iter().flat_map(|file| some_spans(file, hours)).collect();
    assert_same_spans(what, &all_spans(&snapshot), &by_key(&expected), 1);
    assert!(store.troubles().iter().any(|trouble| trouble.contains("unknown to the catalogue")), "{what}");
}

/// Before, the files of that hour were merged no more until a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_its_row_holds_up_no_merge() {
    for damage in DAMAGES {
        let world = World::new();
        let store = world.open().await;
        write_files(&store, 0).await;
        // The newest first.
        let lost = store.snapshot(&TenantId::default()).files[1].record.clone();
        let number =
            (0..FILES).find(|file| some_spans(*file, 0)[0].trace_id == first_trace(&store, 1)).expect("a file");
        world.meddle(&[&format!("{damage} WHERE id = '{}'", lost.id)]).await;
        let report = store.compact().await.expect("the others are merged");
        assert_eq!((report.merges, report.files_before), (1, FILES - 1), "{damage}");
        let others = || (0..FILES).filter(|file| *file != number);
        check_without(damage, &store, others(), 0, &lost.path);
        assert!(
            world.store_dir().join(&lost.path).exists(),
            "{damage}: nothing deletes what the catalogue does not know"
        );
        store.shutdown().await.expect("the store stops");
        check_without(damage, &*world.open().await, others(), 0, &lost.path);
    }
}

fn first_trace(store: &Store, file: usize) -> tracehouse_model::TraceId {
    crate::world::file_spans(&store.snapshot(&TenantId::default()).files[file])[0].trace_id
}

/// Before, one whose row was damaged kept all files from expiring.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_without_its_row_holds_up_no_expiry() {
    for damage in DAMAGES {
        let world = World::new();
        let store = world.open().await;
        write_files(&store, 1).await;
        let bytes = store.status(&TenantId::default()).bytes_stored;
        store.shutdown().await.expect("the store stops");
        let store = world.open_with(with_budget(&world, bytes * 6 / 10)).await;
        let lost = store.snapshot(&TenantId::default()).files.last().expect("the oldest").record.clone();
        world.meddle(&[&format!("{damage} WHERE id = '{}'", lost.id)]).await;
        keep(&store).await;
        check_without(damage, &store, 0..2, 1, &lost.path);
        assert_eq!(store.troubles().len(), 1, "{damage}: {:?}", store.troubles());
        assert!(
            world.store_dir().join(&lost.path).exists(),
            "{damage}: nothing deletes what the catalogue does not know"
        );
    }
}

/// Before, files whose retirement was done and not answered were shown until a restart, and what was to be merged with them was not.
#[tokio::test(flavor = "multi_thread")]
async fn a_retirement_that_nobody_answered_is_done() {
    let world = World::new();
    let store = world.open().await;
    write_files(&store, 1).await;
    let bytes = store.status(&TenantId::default()).bytes_stored;
    store.shutdown().await.expect("the store stops");
    let catalogue = WatchedCatalogue::new(world.catalogue().await);
    let config = with_budget(&world, bytes * 6 / 10);
    let store = world.try_open(config, catalogue.clone(), world.clock.clone()).await.expect("the store opens");
    catalogue.fail(Fault::AfterCommit);
    keep(&store).await;
    assert!(!store.troubles().is_empty());
    catalogue.fail(Fault::None);
    world.clock.advance(Duration::from_secs(10));
    keep(&store).await;
    let check = |what: &str, store: &Store| {
        let expected: Vec<Span> = (0..2).flat_map(|file| some_spans(file, 1)).collect();
        assert_same_spans(what, &all_spans(&store.snapshot(&TenantId::default())), &by_key(&expected), 1);
        assert_eq!(store.troubles(), Vec::<String>::new(), "{what}");
    };
    check("tried again", &store);
    world.clock.advance(Duration::from_secs(130));
    keep(&store).await;
    let left = world.files_ending_with(".parquet").len() + world.files_ending_with(".retired").len();
    assert_eq!(left, 2, "what expired is deleted");
    store.shutdown().await.expect("the store stops");
    check("after a restart", &*world.open().await);
}

fn with_budget(world: &World, bytes: u64) -> StoreConfig {
    StoreConfig { disk_budget_bytes: Some(bytes), background: Background::Called, ..world.config() }
}

async fn keep(store: &Arc<Store>) {
    let store = store.clone();
    tokio::task::spawn_blocking(move || store.step(StoreStep::Keep)).await.expect("it does not panic");
}
