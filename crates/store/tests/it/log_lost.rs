//! A log that was emptied, deleted or cut between its segments is not taken for one that never held more: what is missing is
//! named at the start, and in the status and by a check until a repair acknowledges it. One that was trimmed as it should be is
//! silent.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracehouse_disk::Disk;
use tracehouse_model::{SystemRandomness, TenantId};
use tracehouse_store::{Action, RepairOptions, Store, StoreConfig, check_store, repair_store};

use crate::spans::{NOON, batch_of, plain_span};
use crate::world::{Moment, WatchedCatalogue, World, append, tenant, until, until_log_is_trimmed};

async fn add(store: &Store, round: u64) {
    let spans: Vec<_> = (1..=10).map(|at| plain_span(u128::from(round) + 1, round * 100 + at, 0, NOON)).collect();
    append(store, batch_of(&spans)).await;
}

/// Each record fills a segment.
fn config(world: &World) -> StoreConfig {
    StoreConfig { log_segment_bytes_max: 200, ..world.config() }
}

/// What the catalogue remembers of the log.
async fn told_of_the_log(world: &World) -> String {
    let catalogue = world.catalogue().await;
    let meta = tracehouse_catalogue::Catalogue::load(&*catalogue).await.expect("it can be read").meta;
    catalogue.close().await;
    meta.get("log").cloned().unwrap_or_default()
}

/// Lets the store tell the catalogue how far the log has come, as it does every minute.
async fn a_minute_later(world: &World, store: &Store) {
    let before = told_of_the_log(world).await;
    world.clock.advance(Duration::from_secs(61));
    assert_eq!(store.ready(), Ok(()));
    is_told(world, &before).await;
}

/// Waits until the catalogue is told how far the log has come.
async fn is_told(world: &World, before: &str) {
    for _ in 0..600 {
        if told_of_the_log(world).await != before {
            return;
        }
        world.clock.wake();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the catalogue is not told how far the log has come");
}

/// What the status says of the log, and what a check says.
async fn said(world: &World) -> (Vec<String>, Vec<String>) {
    let checked = check_store(&world.paths(), true, &mut |_, _| {}).await.expect("the check can be done").log;
    let store = world.open_with(config(world)).await;
    let troubles = store.troubles();
    store.shutdown().await.expect("the store stops");
    (troubles, checked)
}

fn remove(segments: impl IntoIterator<Item = PathBuf>) {
    segments.into_iter().for_each(|segment| fs::remove_file(segment).expect("the segment is there"));
}

/// Repairs; returns what was acknowledged.
async fn acknowledged(world: &World) -> Vec<String> {
    let (clock, randomness) = (world.clock.clone(), Arc::new(SystemRandomness::from_seed(1)));
    let options = RepairOptions::default();
    let done = repair_store(&Disk::default(), &world.paths(), options, clock, randomness, &mut |_, _| {})
        .await
        .expect("it can be repaired");
    assert_eq!(done.left, []);
    let finding = |action| match action {
        Action::Acknowledge { finding } => finding,
        other => panic!("nothing else has to be done: {other}"),
    };
    done.actions.into_iter().map(finding).collect()
}

/// Six records, of which two are in files, after a crash.
async fn world_of_six_records() -> World {
    let world = World::new();
    let store = world.open_with(config(&world)).await;
    for round in 0..6 {
        add(&store, round).await;
        if round == 1 {
            store.flush().await.expect("the flush succeeds");
        }
    }
    a_minute_later(&world, &store).await;
    world.crash_image()
}

type Damage = fn(&World);

/// What may become of a log, and what is said of it.
const LOSSES: [(&str, Damage, &str); 5] = [
    ("all of it", |world| fs::remove_dir_all(world.log_dir()).expect("it is there"), "Records 3 to 6 are lost"),
    (
        "its files emptied",
        |world| world.segments().into_iter().for_each(|segment| fs::write(segment, "").expect("it can be written")),
        "lost",
    ),
    ("the first segments", |world| remove(world.segments().into_iter().take(2)), "records 3 to 4 of the log are lost"),
    (
        "segments in the middle",
        |world| remove(world.segments().into_iter().skip(1).take(2)),
        "records 4 to 5 of the log are lost",
    ),
    ("the last segments", |world| remove(world.segments().into_iter().skip(2)), "Records 5 to 6 are lost"),
];

fn says(told: &[String], what: &str) -> bool {
    told.iter().any(|told| told.contains(what))
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_said_of_a_log_that_lost_nothing() {
    let world = world_of_six_records().await;
    assert_eq!(world.segments().len(), 5, "four records and the segment that is being written");
    assert_eq!(said(&world).await, (vec![], vec![]));
    assert_eq!(acknowledged(&world).await, Vec::<String>::new());
}

/// Before, the next start and a check after the first knew nothing of it any more.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_lost_is_named_until_it_is_acknowledged() {
    for (what, damage, expected) in LOSSES {
        for starts_before in [0, 1, 3] {
            let world = world_of_six_records().await;
            damage(&world);
            for start in 0..starts_before {
                let (troubles, checked) = said(&world).await;
                assert!(says(&checked, expected), "{what}, check before start {start}: {checked:?}");
                assert!(says(&troubles, expected), "{what}, start {start}: {troubles:?}");
                let is_told_once = troubles.iter().filter(|told| told.contains(expected)).count() == 1;
                assert!(is_told_once || expected == "lost", "{what}, start {start}: {troubles:?}");
            }
            assert!(says(&acknowledged(&world).await, expected), "{what}, after {starts_before} starts");
            for _ in 0..2 {
                assert_eq!(said(&world).await, (vec![], vec![]), "{what}, acknowledged after {starts_before} starts");
            }
            assert_eq!(acknowledged(&world).await, Vec::<String>::new(), "{what}: once");
        }
    }
}

/// What is in the log's place is no folder, so that nothing can be written; then the process is killed. Before, the catalogue was told only
/// each minute, and the next start said nothing.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_removed_log_held_is_named_though_the_process_is_killed_at_once() {
    let world = World::new();
    let store = world.open_with(config(&world)).await;
    add(&store, 0).await;
    add(&store, 1).await;
    let before = told_of_the_log(&world).await;
    fs::remove_dir_all(world.log_dir()).expect("it is there");
    fs::write(world.log_dir(), "").expect("it can be written");
    let spans = batch_of(&[plain_span(9, 9, 0, NOON)]);
    store.append(TenantId::default(), spans).await.expect_err("there is nowhere to write it");
    is_told(&world, &before).await;
    fs::remove_file(world.log_dir()).expect("it is there");
    fs::create_dir(world.log_dir()).expect("it can be made");
    let (troubles, checked) = said(&world.crash_image()).await;
    assert!(
        says(&troubles, "Records 1 to 2 are lost") && says(&checked, "Records 1 to 2 are lost"),
        "{troubles:?} {checked:?}"
    );
}

/// A crash right after a start leaves the log as it was, with its gap.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_is_not_found_again() {
    for (what, damage, _) in LOSSES {
        let world = world_of_six_records().await;
        damage(&world);
        let store = world.open_with(config(&world)).await;
        assert_eq!(store.ready(), Ok(()));
        let image = world.crash_image();
        assert!(!acknowledged(&image).await.is_empty(), "{what}");
        assert_eq!(said(&image).await, (vec![], vec![]), "{what}");
    }
}

/// Files that a start writes move the log's positions over what is lost.
#[tokio::test(flavor = "multi_thread")]
async fn a_loss_is_noted_before_it_can_be_found_no_more() {
    let world = world_of_six_records().await;
    LOSSES[3].1(&world);
    let catalogue = WatchedCatalogue::new(world.catalogue().await);
    let commits: Arc<parking_lot::Mutex<Vec<&str>>> = Arc::default();
    let seen = commits.clone();
    catalogue.watch(move |moment, commit| {
        let is_note = commit.meta.iter().any(|(name, _)| name == "log-lost");
        let kind = if is_note { Some("note") } else { (!commit.log_positions.is_empty()).then_some("positions") };
        seen.lock().extend(kind.filter(|_| moment == Moment::AfterCommit));
    });
    let config = StoreConfig { flush_bytes: 1, ..config(&world) };
    let store = world.try_open(config, catalogue, world.clock.clone()).await.expect("the store opens");
    assert_eq!(commits.lock().iter().find(|kind| **kind == "note"), Some(&"note"), "{:?}", commits.lock());
    let of_loss = commits.lock().iter().position(|kind| *kind == "note").expect("it is noted");
    let written = commits.lock()[..of_loss].len();
    assert!(written <= 1, "record 3, which stands before the loss, may be written: {:?}", commits.lock());
    assert!(commits.lock().len() > written + 1, "and later ones afterwards: {:?}", commits.lock());
    store.shutdown().await.expect("the store stops");
}

/// Nobody knows then what was lost, but that something may have been.
#[tokio::test(flavor = "multi_thread")]
async fn a_note_that_is_damaged_is_told() {
    for change in
        ["UPDATE meta SET value = value || '1' WHERE name = 'log-lost'", "DELETE FROM meta WHERE name = 'log-lost'"]
    {
        let world = world_of_six_records().await;
        LOSSES[0].1(&world);
        assert!(says(&said(&world).await.0, LOSSES[0].2));
        world.close_catalogues().await;
        world.meddle(&[change]).await;
        for _ in 0..2 {
            let store = world.open_with(config(&world)).await;
            assert!(says(&store.troubles(), "lost at earlier starts"), "{change}: {:?}", store.troubles());
            store.shutdown().await.expect("the store stops");
        }
        let (clock, randomness) = (world.clock.clone(), Arc::new(SystemRandomness::from_seed(1)));
        let options = RepairOptions::default();
        repair_store(&Disk::default(), &world.paths(), options, clock, randomness, &mut |_, _| {})
            .await
            .expect("it can be repaired");
        assert_eq!(said(&world).await, (vec![], vec![]), "{change}");
    }
}

/// What the catalogue knows to have been written is no write that a crash interrupted. Before, its beginning was cut off without a copy, and
/// after a repair nothing told of it.
#[tokio::test(flavor = "multi_thread")]
async fn the_beginning_of_a_record_that_was_known_is_kept_aside() {
    for is_repaired in [false, true] {
        let world = World::new();
        let store = world.open().await;
        for round in 0..3 {
            add(&store, round).await;
        }
        a_minute_later(&world, &store).await;
        let image = world.crash_image();
        let segment = image.segments().pop().expect("one that is being written");
        let bytes = fs::read(&segment).expect("it can be read");
        let record_bytes = (bytes.len() - 8) / 3;
        let (begin, end) = (8 + record_bytes, 8 + record_bytes * 3 / 2);
        fs::write(&segment, &bytes[..end]).expect("it can be written");
        if is_repaired {
            let (clock, randomness) = (image.clock.clone(), Arc::new(SystemRandomness::from_seed(1)));
            let options = RepairOptions::default();
            let done = repair_store(&Disk::default(), &image.paths(), options, clock, randomness, &mut |_, _| {}).await;
            done.expect("it can be repaired");
        }
        let restarted = image.open().await;
        assert!(says(&restarted.troubles(), "damaged"), "{is_repaired}: {:?}", restarted.troubles());
        let folder = fs::read_dir(image.log_dir().join("damaged")).expect("there is a copy");
        let copies: Vec<PathBuf> = folder.map(|entry| entry.expect("it can be listed").path()).collect();
        let [copy] = &copies[..] else { panic!("{is_repaired}: one copy: {copies:?}") };
        assert_eq!(fs::read(copy).expect("it can be read"), &bytes[begin..end], "{is_repaired}");
    }
}

/// After an orderly stop all stands in files; and a log that was trimmed is whole.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_needs_is_not_missed() {
    let world = World::new();
    let silent = async |what: &str| assert_eq!(said(&world).await, (vec![], vec![]), "{what}");
    world.open_with(config(&world)).await.shutdown().await.expect("the store stops");
    silent("a new store").await;
    for round in 0..4 {
        let store = world.open_with(config(&world)).await;
        add(&store, round).await;
        if round % 2 == 0 {
            store.flush().await.expect("the flush succeeds");
            until_log_is_trimmed(&world).await;
        }
        let image = world.crash_image();
        assert_eq!(said(&image).await, (vec![], vec![]), "after a crash");
        store.shutdown().await.expect("the store stops");
        silent("after a stop").await;
    }
    fs::remove_dir_all(world.log_dir()).expect("it is there");
    silent("removed after a stop").await;
    world.lose_catalogue().await;
    let store = world.open_with(config(&world)).await;
    let of_log = |trouble: &String| trouble.contains("the log");
    assert!(!store.troubles().iter().any(of_log), "without the catalogue nobody knows where the log began");
}

/// A record that only its tenant's position covers is let go after the one for everyone does.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_let_go_after_a_start_is_not_missed() {
    let world = World::new();
    let store = world.open_with(config(&world)).await;
    let in_the_way = world.store_dir().join(format!("tenant={}", TenantId::default()));
    fs::write(&in_the_way, "").expect("it can be written");
    add(&store, 0).await;
    store.append(tenant(1), batch_of(&[plain_span(9, 9, 0, NOON)])).await.expect("it is accepted");
    store.flush().await.expect_err("one tenant has no folder");
    fs::remove_file(&in_the_way).expect("it can be removed");
    let image = world.crash_image();
    let restarted = image.open_with(StoreConfig { flush_bytes: 1, ..config(&image) }).await;
    restarted.flush().await.expect("the flush succeeds");
    until_log_is_trimmed(&image).await;
    let image = image.crash_image();
    assert_eq!(said(&image).await, (vec![], vec![]));
}

/// What comes in after a loss gets numbers of its own, and is not taken for lost.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_go_on_after_a_loss() {
    let world = world_of_six_records().await;
    fs::remove_dir_all(world.log_dir()).expect("it is there");
    let store = world.open_with(config(&world)).await;
    add(&store, 50).await;
    let image = world.crash_image();
    let restarted = image.open_with(config(&image)).await;
    let tenant = TenantId::default();
    let spans = |store: &Arc<Store>| {
        let snapshot = store.snapshot(&tenant);
        let hot: usize = snapshot.hot.iter().map(|batch| batch.spans.len()).sum();
        hot as u64 + snapshot.files.iter().map(|file| file.record.spans).sum::<u64>()
    };
    assert_eq!(spans(&restarted), 30, "what came after the loss is replayed");
    until(&world, "it is still said", || restarted.troubles().iter().any(|said| said.contains("lost"))).await;
    restarted.flush().await.expect("the flush succeeds");
    restarted.shutdown().await.expect("the store stops");
    assert!(says(&acknowledged(&image).await, "Records 3 to 6 are lost"));
    assert_eq!(said(&image).await, (vec![], vec![]), "what comes after stands in files");
}
