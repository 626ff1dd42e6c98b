//! A log that was emptied, deleted or cut between its segments is not taken for one that never held more: what is missing is
//! named at the start, in the status, and by a check. One that was trimmed as it should be is silent.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracehouse_model::TenantId;
use tracehouse_store::{Store, StoreConfig, check_store};

use crate::spans::{NOON, batch_of, plain_span};
use crate::world::{World, append, until};

async fn add(store: &Store, round: u64) {
    let spans: Vec<_> = (1..=10).map(|at| plain_span(u128::from(round) + 1, round * 100 + at, 0, NOON)).collect();
    append(store, batch_of(&spans)).await;
}

/// Each record fills a segment.
fn config(world: &World) -> StoreConfig {
    StoreConfig { log_segment_bytes_max: 200, ..world.config() }
}

/// Lets the store tell the catalogue how far the log has come, as it does every minute.
async fn a_minute_later(world: &World, store: &Store) {
    let told = async || {
        let catalogue = world.catalogue().await;
        let meta = tracehouse_catalogue::Catalogue::load(&*catalogue).await.expect("it can be read").meta;
        catalogue.close().await;
        meta.get("log").cloned().unwrap_or_default()
    };
    let before = told().await;
    world.clock.advance(Duration::from_secs(61));
    for _ in 0..600 {
        if told().await != before {
            return;
        }
        assert_eq!(store.ready(), Ok(()));
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

#[tokio::test(flavor = "multi_thread")]
async fn what_the_log_lost_is_named() {
    let keep_all = |_: &World| {};
    type Damage = fn(&World);
    let cases: [(&str, Damage, &str); 6] = [
        ("nothing", keep_all, ""),
        ("all of it", |world| fs::remove_dir_all(world.log_dir()).expect("it is there"), "Records 3 to 6 are lost"),
        (
            "its files emptied",
            |world| {
                world.segments().into_iter().for_each(|segment| fs::write(segment, "").expect("it can be written"));
            },
            "lost",
        ),
        (
            "the first segments",
            |world| remove(world.segments().into_iter().take(2)),
            "records 3 to 4 of the log are lost",
        ),
        (
            "segments in the middle",
            |world| remove(world.segments().into_iter().skip(1).take(2)),
            "records 4 to 5 of the log are lost",
        ),
        ("the last segments", |world| remove(world.segments().into_iter().skip(2)), "Records 5 to 6 are lost"),
    ];
    for (what, damage, expected) in cases {
        let world = world_of_six_records().await;
        assert_eq!(world.segments().len(), 5, "four records and the segment that is being written");
        damage(&world);
        let (troubles, checked) = said(&world).await;
        if expected.is_empty() {
            assert_eq!((troubles, checked), (vec![], vec![]), "{what}");
            continue;
        }
        assert!(checked.iter().any(|said| said.contains(expected)), "{what}: {checked:?}");
        assert!(!troubles.is_empty(), "{what}");
        assert!(troubles.iter().any(|said| said.contains("lost")), "{what}: {troubles:?}");
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
            assert_eq!(world.segments().len(), 1, "trimmed");
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
    until("it is still said", || restarted.troubles().iter().any(|said| said.contains("lost"))).await;
    restarted.flush().await.expect("the flush succeeds");
    restarted.shutdown().await.expect("the store stops");
    assert_eq!(said(&image).await, (vec![], vec![]), "what comes after stands in files");
}
