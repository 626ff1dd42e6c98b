//! Old files go, by age and by the disk's budget, but never under a reader and never because a clock was set.

use std::sync::Arc;
use std::time::Duration;

use tracehouse_model::{Span, TenantId};
use tracehouse_spanfile::Projection;
use tracehouse_store::{Background, Store, StoreConfig, StoreStep};

use crate::spans::{HOUR, NOON, assert_same_spans, batch_of, by_key, plain_span};
use crate::world::{World, all_spans, append, file_spans, world_that_lived};

const A_SECOND: Duration = Duration::from_secs(1);

fn spans_of_hour(hour: i64) -> Vec<Span> {
    let id = |number: u64| (hour + 100) as u64 * 1000 + number + 1;
    (0..100).map(|number| plain_span(u128::from(id(number / 4)), id(number), 0, NOON + hour * HOUR)).collect()
}

/// A store with a file for each of some hours before noon.
async fn store_of_hours(world: &World, config: StoreConfig, hours: std::ops::Range<i64>) -> Arc<Store> {
    let store = world.open_with(config).await;
    for hour in hours {
        add(&store, &spans_of_hour(hour)).await;
        store.flush().await.expect("the flush succeeds");
    }
    store
}

/// Moves the clock as time does, a little at a time: a jump would make the store distrust it.
fn pass(world: &World, time: Duration) {
    let step = Duration::from_secs(600);
    let steps = time.as_nanos() / step.as_nanos();
    (0..steps).for_each(|_| world.clock.advance(step));
    world.clock.advance(time - step * steps as u32);
}

/// Whose background work these tests do themselves.
fn config(world: &World) -> StoreConfig {
    StoreConfig { background: Background::Called, ..world.config() }
}

async fn step(store: &Arc<Store>, step: StoreStep) {
    let store = store.clone();
    tokio::task::spawn_blocking(move || store.step(step)).await.expect("it does not panic");
}

/// Lets the keeper do what is due.
async fn keep(store: &Arc<Store>) {
    step(store, StoreStep::Keep).await;
}

async fn add(store: &Arc<Store>, spans: &[Span]) {
    // The log is written once the spans wait for it.
    tokio::join!(append(store, batch_of(spans)), step(store, StoreStep::Log));
}

fn check(what: &str, store: &Store, hours: impl IntoIterator<Item = i64>) {
    let expected: Vec<Span> = hours.into_iter().flat_map(spans_of_hour).collect();
    assert_same_spans(what, &all_spans(&store.snapshot(&TenantId::default())), &by_key(&expected), 1);
}

fn files(store: &Store) -> usize {
    store.snapshot(&TenantId::default()).files.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_older_than_the_retention_are_removed() {
    let retention = Duration::from_secs(5 * 3600 + 1800);
    let world = world_that_lived(|world| StoreConfig { retention, ..world.config() }, retention).await;
    let config = StoreConfig { retention, ..config(&world) };
    let store = store_of_hours(&world, config.clone(), -4..1).await;
    keep(&store).await;
    check("nothing is old enough", &store, -4..1);
    pass(&world, Duration::from_secs(2 * 3600));
    keep(&store).await;
    assert!(files(&store) == 4, "one hour is too old");
    keep(&store).await;
    check("the oldest hour is gone", &store, -3..1);
    assert_eq!(world.files_ending_with(".parquet").len(), 4, "a glob does not see what expired");
    assert_eq!(world.files_ending_with(".retired").len(), 1, "readers may still hold it");
    world.clock.advance(config.delete_grace);
    keep(&store).await;
    assert!(world.files_ending_with(".retired").is_empty(), "it is deleted after the grace period");
    pass(&world, Duration::from_secs(24 * 3600));
    keep(&store).await;
    assert!(files(&store) == 0, "all are too old");
    store.shutdown().await.expect("the store stops");
    let store = world.open_with(config).await;
    check("after a restart", &store, 0..0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_files_go_when_the_disk_budget_is_used_up() {
    let world = World::new();
    // Not in the order of age.
    let store = world.open_with(config(&world)).await;
    for hour in [-2, 0, -4, -1, -3] {
        add(&store, &spans_of_hour(hour)).await;
        store.flush().await.expect("the flush succeeds");
    }
    let bytes = store.status(&TenantId::default()).bytes_stored;
    keep(&store).await;
    check("without a budget", &store, -4..1);
    store.shutdown().await.expect("the store stops");
    let config = StoreConfig { disk_budget_bytes: Some(bytes * 7 / 10), ..config(&world) };
    let store = world.open_with(config).await;
    keep(&store).await;
    assert!(files(&store) == 3, "two of five files are too many");
    keep(&store).await;
    check("the newest three stay", &store, -2..1);
    assert!(store.status(&TenantId::default()).bytes_stored <= bytes * 7 / 10);
}

/// A clock that is set a year ahead, or back, removes nothing at once; after it has been right for a while, it counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_removes_nothing() {
    const YEAR: i64 = 365 * 24 * HOUR;
    let world = World::new();
    let config = StoreConfig { retention: Duration::from_secs(24 * 3600), ..config(&world) };
    let store = store_of_hours(&world, config, -4..1).await;
    keep(&store).await;
    world.clock.jump_wall_clock(YEAR);
    keep(&store).await;
    check("a year ahead", &store, -4..1);
    world.clock.jump_wall_clock(-YEAR);
    keep(&store).await;
    pass(&world, Duration::from_secs(3600));
    keep(&store).await;
    check("and back again", &store, -4..1);
    world.clock.jump_wall_clock(-YEAR);
    keep(&store).await;
    check("a year back", &store, -4..1);
    world.clock.jump_wall_clock(YEAR);
    keep(&store).await;
    pass(&world, Duration::from_secs(25 * 3600));
    keep(&store).await;
    assert!(files(&store) == 0, "what is really old goes");
}

/// A query that began before a merge reads the replaced files until the grace period is over.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_keeps_what_it_began_with() {
    let world = World::new();
    let store = world.open_with(config(&world)).await;
    for round in 0..3 {
        let spans: Vec<Span> = (0..50).map(|number| plain_span(round + 1, number + 1, 0, NOON)).collect();
        add(&store, &spans).await;
        store.flush().await.expect("the flush succeeds");
    }
    store.shutdown().await.expect("the store stops");
    // It has files open, as copies are looked for in them.
    drop(store);
    let store = world.open_with(config(&world)).await;
    let snapshot = store.snapshot(&TenantId::default());
    let before = all_spans(&snapshot);
    let held_open = snapshot.files[0].open().expect("the file opens");
    let report = store.compact().await.expect("the merge succeeds");
    assert_eq!((report.files_before, report.files_after), (3, 1));
    assert_eq!(world.files_ending_with(".parquet").len(), 1, "a glob sees each span once");
    assert_eq!(all_spans(&snapshot), before, "the snapshot's files are still there");
    let after = store.snapshot(&TenantId::default());
    assert_eq!(after.files.len(), 1);
    assert_same_spans("merged", &all_spans(&after), &by_key(&before), 1);

    world.clock.advance(world.config().delete_grace - A_SECOND);
    keep(&store).await;
    assert_eq!(world.files_ending_with(".retired").len(), 3, "not yet");
    world.clock.advance(A_SECOND);
    keep(&store).await;
    assert!(world.files_ending_with(".retired").is_empty(), "replaced files are deleted");
    assert!(
        held_open.read_rows(0, 0..held_open.rows_of(0), Projection::All).is_ok(),
        "an open file can be read to its end"
    );
    drop((held_open, snapshot));
    keep(&store).await;
    assert!(deleted_files_held_open(&world) == 0, "the room they took is free");
    assert_same_spans("merged", &all_spans(&store.snapshot(&TenantId::default())), &by_key(&before), 1);
    assert_eq!(file_spans(&after.files[0]).len(), 150);
}

/// Files of this world that have no name any more but are open: the disk's room is not free before they are closed.
fn deleted_files_held_open(world: &World) -> usize {
    let store = world.store_dir().to_string_lossy().into_owned();
    let open = std::fs::read_dir("/proc/self/fd").expect("this is Linux");
    let targets = open.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    targets
        .filter(|target| {
            target.to_string_lossy().starts_with(&store) && target.to_string_lossy().ends_with("(deleted)")
        })
        .count()
}
