//! Folders that a running store needs, and that somebody removes.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tracehouse_model::{Span, TenantId, error_chain};
use tracehouse_store::Store;

use crate::disk_faults::{Faults, parent};
use crate::dropped_commits::repair;
use crate::spans::{NOON, assert_same_spans, batch_of, by_key, plain_span};
use crate::world::{World, all_spans, append, until_in_time};

fn some_spans(round: u64) -> Vec<Span> {
    (0..50).map(|number| plain_span(u128::from(round) + 1, round * 100 + number + 1, 0, NOON)).collect()
}

async fn add(store: &Store, round: u64) {
    append(store, batch_of(&some_spans(round))).await;
}

fn check(what: &str, store: &Store, rounds: u64) {
    let expected = by_key(&(0..rounds).flat_map(some_spans).collect::<Vec<_>>());
    assert_same_spans(what, &all_spans(&store.snapshot(&TenantId::default())), &expected, 1);
}

fn is_its_owners_alone(folder: &Path) -> bool {
    fs::metadata(folder).expect("it is there").permissions().mode() & 0o777 == 0o700
}

/// Before, no file could be written any more until a restart.
#[tokio::test(flavor = "multi_thread")]
async fn what_files_are_written_in_is_made_anew() {
    let world = World::new();
    let faults = Faults::new();
    let store = world.open_with(faults.config(&world)).await;
    let spool = world.store_dir().join(".spool");
    for round in 0..4 {
        add(&store, round).await;
        fs::remove_dir_all(&spool).expect("it is there");
        faults.take_steps();
        match round {
            0 => drop(store.flush().await.expect("it is made anew")),
            // For a merged file too, of two, and of that one and a third.
            _ => {
                store.flush().await.expect("it is made anew");
                fs::remove_dir_all(&spool).expect("it is there");
                store.compact().await.expect("it is made anew");
            }
        }
        assert!(is_its_owners_alone(&spool));
        let steps = faults.take_steps();
        let made = steps.iter().position(|step| step.is("create folder", ".spool")).expect("it is made");
        let is_synchronised =
            |step: &crate::disk_faults::Step| step.kind == "sync folder" && step.path == parent(&spool);
        assert!(steps[made..].iter().any(is_synchronised), "its name survives a power failure: {steps:?}");
        check("made anew", &store, round + 1);
    }
    assert_eq!(store.troubles(), Vec::<String>::new());
    store.shutdown().await.expect("the store stops");
    check("after a restart", &*world.open().await, 4);
}

/// An empty folder in the place of the store's is what a disk was mounted on: nothing is written to it.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_made_in_a_folder_that_is_another() {
    let world = World::new();
    let store = world.open().await;
    add(&store, 0).await;
    store.flush().await.expect("the flush succeeds");
    add(&store, 1).await;
    let elsewhere = world.path().join("elsewhere");
    fs::rename(world.store_dir(), &elsewhere).expect("it can be moved");
    for is_there in [false, true] {
        if is_there {
            fs::create_dir(world.store_dir()).expect("it can be made");
        }
        store.flush().await.expect_err("there is nowhere to write it");
        assert_eq!(store.status(&TenantId::default()).spans_hot, 50, "the spans stay in memory and the log");
        assert!(!store.troubles().is_empty());
    }
    assert_eq!(fs::read_dir(world.store_dir()).expect("it is there").count(), 0, "nothing is put into it");
    fs::remove_dir(world.store_dir()).expect("it is empty");
    fs::rename(&elsewhere, world.store_dir()).expect("it can be moved back");
    store.flush().await.expect("it is the store's again");
    let is_whole = || store.snapshot(&TenantId::default()).unreadable.is_empty();
    until_in_time(&world, "the first file is found again", is_whole).await;
    check("mounted again", &store, 2);
}

/// Before, the log went on in a file that had no name any more, and what it acknowledged was gone with the process.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_acknowledged_after_the_log_was_removed_survives_a_crash() {
    type Removal = fn(&World);
    let removals: [(&str, Removal); 3] = [
        ("the folder", |world| fs::remove_dir_all(world.log_dir()).expect("it is there")),
        ("the folder's name", |world| fs::rename(world.log_dir(), world.path().join("old")).expect("it can be moved")),
        ("its files", |world| {
            world.segments().into_iter().for_each(|segment| fs::remove_file(segment).expect("it is there"));
        }),
    ];
    for (what, remove) in removals {
        let world = World::new();
        let store = world.open().await;
        add(&store, 0).await;
        store.flush().await.expect("the flush succeeds");
        remove(&world);
        add(&store, 1).await;
        add(&store, 2).await;
        assert!(is_its_owners_alone(&world.log_dir()), "{what}");
        let image = world.crash_image();
        check(what, &*image.open().await, 3);
        store.flush().await.expect("the flush succeeds");
        store.shutdown().await.expect("the store stops");
        let restarted = world.open().await;
        check(what, &restarted, 3);
        assert_eq!(restarted.troubles(), Vec::<String>::new(), "{what}");
    }
}

/// Before, SQLite went on in files that had no name any more: all seemed well, and a later start knew of nothing that was written meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_committed_to_a_catalogue_that_was_removed() {
    for is_replaced in [false, true] {
        for name in ["catalogue.sqlite", "catalogue.sqlite-wal"] {
            if is_replaced && name.ends_with("-wal") {
                continue;
            }
            let what = format!("{name}, replaced: {is_replaced}");
            let world = World::new();
            let store = world.open().await;
            add(&store, 0).await;
            store.flush().await.expect("the flush succeeds");
            let (place, aside) = (world.path().join(name), world.path().join("aside"));
            fs::rename(&place, &aside).expect("it is there");
            if is_replaced {
                fs::copy(&aside, &place).expect("it can be copied");
            }
            add(&store, 1).await;
            let files = world.files_ending_with("");
            let error = store.flush().await.expect_err("it would be lost");
            assert!(error_chain(&error).contains("was removed, renamed, replaced or emptied"), "{what}: {error}");
            assert_eq!(world.files_ending_with(""), files, "{what}: nothing is left of what was not committed");
            assert!(store.troubles().join("\n").contains(name), "{what}: {:?}", store.troubles());
            check(&what, &store, 2);
            let image = world.crash_image();
            repair(&what, &image).await;
            check(&format!("{what}, gone for good"), &*image.open().await, 2);
            fs::rename(&aside, &place).expect("it can be put back");
            store.flush().await.expect("it is there again");
            assert_eq!(store.troubles(), Vec::<String>::new(), "{what}");
            store.shutdown().await.expect("the store stops");
            check(&format!("{what}, put back"), &*world.open().await, 2);
        }
    }
}

/// Before, commits went on in a file of which SQLite had cached all that was gone.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_committed_to_a_catalogue_that_was_emptied() {
    let world = World::new();
    world.open().await.shutdown().await.expect("the store stops");
    let store = world.open().await;
    add(&store, 0).await;
    store.flush().await.expect("the flush succeeds");
    fs::File::options()
        .write(true)
        .open(world.path().join("catalogue.sqlite"))
        .expect("it is there")
        .set_len(0)
        .expect("it is cut");
    add(&store, 1).await;
    let error = store.flush().await.expect_err("it would be lost");
    assert!(error_chain(&error).contains("was removed, renamed, replaced or emptied"), "{error}");
    assert!(store.troubles().join("\n").contains("catalogue.sqlite"), "{:?}", store.troubles());
    check("emptied", &store, 2);
    let image = world.crash_image();
    repair("emptied", &image).await;
    check("emptied, repaired", &*image.open().await, 2);
}

/// With no room for a new segment senders are asked to wait, as with any full disk.
#[tokio::test(flavor = "multi_thread")]
async fn a_removed_log_on_a_full_disk_goes_on_when_there_is_room() {
    let world = World::new();
    let faults = Faults::new();
    let store = world.open_with(faults.config(&world)).await;
    add(&store, 0).await;
    store.flush().await.expect("the flush succeeds");
    fs::remove_dir_all(world.log_dir()).expect("it is there");
    faults.fail("create file", ".wal", io::ErrorKind::StorageFull);
    let refused = store.append(TenantId::default(), batch_of(&some_spans(1))).await;
    assert!(matches!(refused, Err(tracehouse_store::AppendError::DiskFull { .. })), "{refused:?}");
    faults.clear();
    world.clock.advance(Duration::from_secs(1));
    add(&store, 1).await;
    check("with room again", &*world.crash_image().open().await, 2);
}
