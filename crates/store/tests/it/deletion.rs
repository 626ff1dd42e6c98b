//! What is deleted stays away, what is new stays, and nobody else reads it.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracehouse_catalogue::Catalogue;
use tracehouse_model::{Span, TenantId};
use tracehouse_store::{Store, StoreConfig};

use crate::disk_faults::{Faults, parent};
use crate::spans::{HOUR, NOON, assert_same_spans, batch_of, by_key, plain_span};
use crate::world::{World, all_spans, append, until, until_deleted, until_in_time, world_that_lived};

const RETENTION: Duration = Duration::from_secs(5 * 3600 + 1800);

fn spans_of_hour(hour: i64) -> Vec<Span> {
    let id = |number: u64| (hour + 100) as u64 * 1000 + number + 1;
    (0..40).map(|number| plain_span(u128::from(id(number / 4)), id(number), 0, NOON + hour * HOUR)).collect()
}

/// A store with a file for each of some hours before noon, and a retention of five and a half hours.
async fn store_of_hours(world: &World, faults: &Arc<Faults>, hours: std::ops::Range<i64>) -> Arc<Store> {
    let config = StoreConfig { retention: RETENTION, ..faults.config(world) };
    let store = world.open_with(config).await;
    for hour in hours {
        append(&store, batch_of(&spans_of_hour(hour))).await;
        store.flush().await.expect("the flush succeeds");
    }
    store
}

/// Moves the clock as time does, a little at a time.
fn pass_hours(world: &World, hours: u32) {
    (0..hours * 6).for_each(|_| world.clock.advance(Duration::from_secs(600)));
}

fn folders(world: &World) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![world.store_dir()];
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(folder).expect("a folder of the store") {
            let path = entry.expect("an entry of it").path();
            if path.is_dir() {
                left.push(path.clone());
                found.push(path);
            }
        }
    }
    found
}

async fn listed(world: &World) -> usize {
    world.catalogue().await.load().await.expect("loads").files.len()
}

/// A deletion that was not made durable may be undone by a power failure: the catalogue must still know the file then.
#[tokio::test(flavor = "multi_thread")]
async fn files_are_forgotten_only_when_they_cannot_come_back() {
    let world = World::new();
    let faults = Faults::new();
    let store = store_of_hours(&world, &faults, -3..1).await;
    faults.fail("sync folder", "hour=", io::ErrorKind::Other);
    pass_hours(&world, 24);
    until(&world, "all expire", || store.snapshot(&TenantId::default()).files.is_empty()).await;
    until_deleted(&world, 0).await;
    until(&world, "the failure is told", || !store.troubles().is_empty()).await;
    assert_eq!(listed(&world).await, 4, "the catalogue still knows them");
    faults.clear();
    world.clock.advance(Duration::from_secs(400));
    until(&world, "the failure is over", || store.troubles().is_empty()).await;
    assert_eq!(listed(&world).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_deleted_keeps_none_of_the_others() {
    let world = World::new();
    let faults = Faults::new();
    let store = store_of_hours(&world, &faults, -3..1).await;
    faults.fail("remove file", "hour=10", io::ErrorKind::PermissionDenied);
    pass_hours(&world, 24);
    until(&world, "all expire", || store.snapshot(&TenantId::default()).files.is_empty()).await;
    until_deleted(&world, 1).await;
    until(&world, "the failure is told", || store.troubles().iter().any(|trouble| trouble.contains("hour=10"))).await;
    assert_eq!(listed(&world).await, 1);
    faults.clear();
    world.clock.advance(Duration::from_secs(400));
    until(&world, "it is deleted too", || world.files_ending_with(".retired").is_empty()).await;
    until(&world, "the failure is over", || store.troubles().is_empty()).await;
    assert_eq!(listed(&world).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn empty_folders_go_with_their_last_file_and_come_again() {
    let world = world_that_lived(|world| StoreConfig { retention: RETENTION, ..world.config() }, RETENTION).await;
    let faults = Faults::new();
    let store = store_of_hours(&world, &faults, -3..1).await;
    let hours = |world: &World| folders(world).iter().filter(|path| path.to_string_lossy().contains("hour=")).count();
    assert_eq!(hours(&world), 4);
    pass_hours(&world, 4);
    until(&world, "two hours expire", || store.snapshot(&TenantId::default()).files.len() == 2).await;
    until_in_time(&world, "their folders go", || hours(&world) == 2).await;
    pass_hours(&world, 24);
    until(&world, "all expire", || store.snapshot(&TenantId::default()).files.is_empty()).await;
    let spool = vec![world.store_dir().join(".spool")];
    until_in_time(&world, "all folders go", || folders(&world) == spool).await;
    append(&store, batch_of(&spans_of_hour(30))).await;
    store.flush().await.expect("the folders are made again");
    let found = all_spans(&store.snapshot(&TenantId::default()));
    assert_same_spans("in new folders", &found, &by_key(&spans_of_hour(30)), 1);
}

/// Also folders that are there: whoever made them may have been interrupted before he synchronised them.
#[tokio::test(flavor = "multi_thread")]
async fn every_folder_above_a_new_file_is_synchronised_once() {
    let world = World::new();
    let faults = Faults::new();
    std::fs::create_dir_all(world.store_dir().join("tenant=default/spans")).expect("can be made");
    let store = world.open_with(faults.config(&world)).await;
    let opened = faults.take_steps();
    for folder in [world.path().to_owned(), parent(world.path()).to_owned()] {
        assert!(opened.iter().any(|step| step.kind == "sync folder" && step.path == folder), "{folder:?} at the start");
    }
    append(&store, batch_of(&spans_of_hour(0))).await;
    store.flush().await.expect("the flush succeeds");
    let file = world.files_ending_with(".parquet").remove(0);
    let steps = faults.take_steps();
    for folder in parent(&file).ancestors().take_while(|at| at.starts_with(world.store_dir())) {
        assert!(steps.iter().any(|step| step.kind == "sync folder" && step.path == folder), "{folder:?}");
    }
    append(&store, batch_of(&spans_of_hour(100))).await;
    append(&store, batch_of(&[plain_span(99, 99, 0, NOON)])).await;
    store.flush().await.expect("the flush succeeds");
    let again = faults.take_steps();
    let root = again.iter().filter(|step| step.kind == "sync folder" && step.path == world.store_dir()).count();
    assert_eq!(root, 0, "what is durable is not synchronised again");
}

/// A failed synchronisation may succeed when it is tried again, for what is lost: a new folder is made anew instead.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_could_not_be_synchronised_is_made_anew() {
    let world = World::new();
    let faults = Faults::new();
    let store = world.open_with(faults.config(&world)).await;
    append(&store, batch_of(&spans_of_hour(0))).await;
    faults.fail("sync folder", "spans", io::ErrorKind::Other);
    store.flush().await.expect_err("the disk fails");
    let of_days = |world: &World| folders(world).iter().filter(|path| path.to_string_lossy().contains("date=")).count();
    assert_eq!(of_days(&world), 0, "the folder is gone");
    faults.clear();
    store.flush().await.expect("the disk works");
    assert_eq!(of_days(&world), 2, "of the day and the hour");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_folders_belong_to_their_owner_alone() {
    let world = World::new();
    for folder in [world.store_dir(), world.log_dir()] {
        std::fs::create_dir_all(&folder).expect("can be made");
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).expect("ours");
    }
    let store = world.open().await;
    for hour in 0..3 {
        append(&store, batch_of(&spans_of_hour(hour))).await;
        store.flush().await.expect("the flush succeeds");
    }
    store.compact().await.expect("the merge succeeds");
    append(&store, batch_of(&spans_of_hour(4))).await;
    let mut all = folders(&world);
    all.extend([world.store_dir(), world.log_dir()]);
    all.extend(world.files_ending_with(""));
    all.extend(world.segments());
    for path in all {
        let mode = std::fs::metadata(&path).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{path:?} is open to others: {mode:o}");
    }
}

/// Something else has the name under which a replaced file waits for its deletion, or the file's own. Before, the one was written over,
/// and the other took the name of the replaced file.
#[tokio::test(flavor = "multi_thread")]
async fn a_replaced_file_takes_no_name_from_another() {
    for stands_at in [".retired", ""] {
        let world = World::new();
        let store = world.open().await;
        for half in spans_of_hour(0).chunks(20) {
            append(&store, batch_of(half)).await;
            store.flush().await.expect("the flush succeeds");
            world.clock.advance(Duration::from_secs(1));
        }
        append(&store, batch_of(&spans_of_hour(1))).await;
        store.flush().await.expect("the flush succeeds");
        let [first, other] = ["hour=12", "hour=13"].map(|hour| {
            let mut files = world.files_ending_with(".parquet");
            files.retain(|path| path.to_string_lossy().contains(hour));
            files.remove(0)
        });
        let (bytes, replaced) =
            (std::fs::read(&other).expect("it is there"), std::fs::read(&first).expect("it is there"));
        let place = PathBuf::from(format!("{}{stands_at}", first.display()));
        let is_after = stands_at.is_empty();
        if !is_after {
            std::fs::write(&place, &bytes).expect("it can be written");
        }
        store.compact().await.expect("the merge succeeds");
        store.shutdown().await.expect("the store stops");
        if is_after {
            std::fs::write(&place, &bytes).expect("it can be written");
        }
        let store = world.open().await;
        assert_eq!(std::fs::read(&place).expect("it is there"), bytes, "{stands_at:?}: it stays");
        assert_eq!(first.exists(), is_after, "{stands_at:?}: no glob finds a replaced file");
        let hidden = PathBuf::from(format!("{}{}", first.display(), if is_after { ".retired" } else { ".new" }));
        assert_eq!(std::fs::read(&hidden).expect("it waits"), replaced, "{stands_at:?}");
        until(&world, "the replaced files are deleted", || {
            world.clock.advance(world.config().delete_grace);
            !hidden.exists()
        })
        .await;
        store.shutdown().await.expect("the store stops");
        assert_eq!(std::fs::read(&place).expect("it is there"), bytes, "{stands_at:?}: it is not deleted either");
    }
}
