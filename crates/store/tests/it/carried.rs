//! Spans that can't be written to files for long do not make the log grow without bound, and stay there exactly once.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tracehouse_disk::Disk;
use tracehouse_model::{Span, SystemRandomness};
use tracehouse_store::{Action, RepairOptions, Store, StoreConfig, check_store, repair_store};

use crate::disk_faults::Faults;
use crate::spans::{Key, NOON, assert_same_spans, batch_of, by_key, plain_span};
use crate::world::{WatchedCatalogue, World, all_spans, tenant, until_log_is_trimmed};

const FAILING: usize = 1;
/// One tenant sends in every so manyth round …
const FAILING_EVERY: u64 = 6;
/// … the other so many batches in each.
const OTHERS: u64 = 4;
const SEGMENT_BYTES: u64 = 16 * 1024;

fn some_spans(round: u64) -> Vec<Span> {
    (0..40).map(|number| plain_span(u128::from(round + 1), round * 100 + number + 1, 0, NOON)).collect()
}

fn all_of(rounds: impl IntoIterator<Item = u64>) -> BTreeMap<Key, Span> {
    by_key(&rounds.into_iter().flat_map(some_spans).collect::<Vec<_>>())
}

fn check(what: &str, store: &Store, of: usize, rounds: impl IntoIterator<Item = u64>) {
    let what = format!("{what}, tenant {of}");
    assert_same_spans(&what, &all_spans(&store.snapshot(&tenant(of))), &all_of(rounds), 1);
}

async fn append_to(store: &Store, of: usize, round: u64) {
    store.append(tenant(of), batch_of(&some_spans(round))).await.expect("taken");
}

fn log_bytes(world: &World) -> u64 {
    world.segments().iter().map(|path| fs::metadata(path).expect("it is there").len()).sum()
}

fn config(world: &World, faults: &Arc<Faults>) -> StoreConfig {
    StoreConfig { log_segment_bytes_max: SEGMENT_BYTES, ..faults.config(world) }
}

/// One tenant's spans can't be written, another sends a thousand times as much.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_cannot_be_flushed_does_not_keep_the_log_of_all() {
    let world = World::new();
    let faults = Faults::new();
    let store = world.open_with(config(&world, &faults)).await;
    faults.fail("create folder", "tenant=team-a", io::ErrorKind::StorageFull);
    append_to(&store, FAILING, 0).await;
    let mut bytes_max = 0;
    for round in 0..150 {
        append_to(&store, 0, round).await;
        if round % 50 == 25 {
            append_to(&store, FAILING, round).await;
        }
        store.flush().await.expect_err("one tenant can't be written");
        bytes_max = bytes_max.max(log_bytes(&world));
    }
    let written = 150 * log_bytes_of_a_round();
    assert!(written > 20 * SEGMENT_BYTES, "{written} bytes went through the log");
    assert!(bytes_max < 8 * SEGMENT_BYTES, "the log had up to {bytes_max} bytes");
    let failing = [0, 25, 75, 125];
    check("while it fails", &store, FAILING, failing);

    let image = world.crash_image();
    let reopened = image.open().await;
    check("after a crash", &reopened, FAILING, failing);
    check("after a crash", &reopened, 0, 0..150);
    assert_eq!(reopened.status(&tenant(0)).spans_hot, 0, "what is in files is not replayed");
    reopened.flush().await.expect("nothing is in the way");
    check("after a crash and a flush", &reopened, FAILING, failing);
    reopened.shutdown().await.expect("the store stops");
    drop(reopened);
    check("after another start", &*image.open().await, FAILING, failing);

    faults.clear();
    store.flush().await.expect("nothing is in the way");
    check("in the end", &store, FAILING, failing);
    until_log_is_trimmed(&world).await;
}

/// What a round takes in the log, at least.
fn log_bytes_of_a_round() -> u64 {
    let mut encoded = Vec::new();
    batch_of(&some_spans(1)).into_exact().encode(&mut encoded);
    encoded.len() as u64
}

/// Opens images of the folders taken before every step on the disk and around every commit while spans are carried forward.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_step_of_carrying_forward_leaves_every_span_once() {
    let world = Arc::new(World::new());
    let faults = Faults::new();
    let catalogue = WatchedCatalogue::new(world.catalogue().await);
    let store =
        world.try_open(config(&world, &faults), catalogue.clone(), world.clock.clone()).await.expect("the store opens");
    let images: Arc<Mutex<Vec<(String, u64, World)>>> = Arc::default();
    let rounds = Arc::new(Mutex::new(0u64));
    let (from, into, round) = (world.clone(), images.clone(), rounds.clone());
    let is_carrying = Arc::new(Mutex::new(false));
    let carrying = is_carrying.clone();
    faults.set(move |step| {
        // The first record that a flush writes to the log begins it.
        let is_of_log = step.path.extension().is_some_and(|extension| extension == "wal");
        if *carrying.lock() && is_of_log {
            into.lock().push((format!("before {step:?}"), *round.lock(), from.crash_image()));
        }
        if step.is("create folder", "tenant=team-a") { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    });
    let (from, into, round) = (world.clone(), images.clone(), rounds.clone());
    catalogue.watch(move |moment, commit| {
        if !commit.log_positions.is_empty() {
            let what = format!("{moment:?} {:?}", commit.log_positions);
            into.lock().push((what, *round.lock(), from.crash_image()));
        }
    });
    for round in 0..24 {
        if round % FAILING_EVERY == 0 {
            append_to(&store, FAILING, round).await;
        }
        for other in 0..OTHERS {
            append_to(&store, 0, round * OTHERS + other).await;
        }
        *rounds.lock() = round + 1;
        *is_carrying.lock() = true;
        store.flush().await.expect_err("one tenant can't be written");
        *is_carrying.lock() = false;
        if round < 8 {
            images.lock().clear();
        }
    }
    let images: Vec<_> = images.lock().drain(..).collect();
    let carried = images.iter().filter(|(what, ..)| what.contains("local-adopted")).count();
    assert!(carried >= 4, "spans were carried at least twice: {carried}");
    for (number, (what, rounds, image)) in images.iter().enumerate() {
        let what = format!("image {number} {what}");
        let store = image.open_with(StoreConfig { log_segment_bytes_max: SEGMENT_BYTES, ..image.config() }).await;
        let failing = || (0..*rounds).step_by(FAILING_EVERY as usize);
        check(&what, &store, FAILING, failing());
        check(&what, &store, 0, 0..*rounds * OTHERS);
        append_to(&store, FAILING, 900).await;
        store.flush().await.expect("nothing is in the way");
        store.shutdown().await.expect("the store stops");
        drop(store);
        let again = image.open().await;
        check(&what, &again, FAILING, failing().chain([900]));
        check(&what, &again, 0, 0..*rounds * OTHERS);
    }
}

/// Before, carried records no longer counted, and after the next flush their spans were gone. Nobody was told.
#[tokio::test(flavor = "multi_thread")]
async fn carried_spans_outlive_the_catalogues_positions() {
    let world = World::new();
    let faults = Faults::new();
    let store = world.open_with(config(&world, &faults)).await;
    faults.fail("create folder", "tenant=team-a", io::ErrorKind::StorageFull);
    append_to(&store, FAILING, 0).await;
    for round in 0..50 {
        append_to(&store, 0, round).await;
        store.flush().await.expect_err("one tenant can't be written");
    }
    for which in ["log = 'local-adopted'", "tenant = ''", "log = 'local' AND tenant <> ''", "TRUE"] {
        for is_repaired in [false, true] {
            let what = format!("{which}, repaired: {is_repaired}");
            let image = world.crash_image();
            image.meddle(&[&format!("UPDATE log_positions SET position = position + 1000 WHERE {which}")]).await;
            if is_repaired {
                let (clock, randomness) = (image.clock.clone(), Arc::new(SystemRandomness::from_seed(1)));
                let options = RepairOptions::default();
                let done =
                    repair_store(&Disk::default(), &image.paths(), options, clock, randomness, &mut |_, _| {}).await;
                let done = done.expect("it can be repaired");
                assert!(matches!(&done.actions[..], [Action::Remember { .. }]), "{what}: {done:?}");
                let checked = check_store(&image.paths(), false, &mut |_, _| {}).await.expect("it can be checked");
                assert!(checked.is_sound(), "{what}: {checked:?}");
            }
            let store = image.open().await;
            let is_told = store.troubles().iter().any(|trouble| trouble.contains("how much of the log"));
            assert_eq!(is_told, !is_repaired, "{what}: {:?}", store.troubles());
            check(&what, &store, FAILING, [0]);
            check(&what, &store, 0, 0..50);
            store.shutdown().await.expect("the store stops");
            drop(store);
            let again = image.open().await;
            check(&what, &again, FAILING, [0]);
            check(&what, &again, 0, 0..50);
            again.shutdown().await.expect("the store stops");
        }
    }
}
