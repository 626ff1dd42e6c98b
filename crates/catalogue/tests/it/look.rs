//! Reading only needs to write nothing, also not beside the catalogue, and sees what stands in SQLite's write-ahead log.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use tracehouse_catalogue::{Catalogue, Commit, SqliteCatalogue};

use crate::{World, file};

/// What lies in a folder, by name.
fn everything_in(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).expect("it can be listed").map(|entry| entry.expect("an entry").path());
    let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    entries.map(|path| (name(&path), fs::read(&path).expect("it can be read"))).collect()
}

/// A catalogue with a file in its own pages and two in the log beside it, as a crash leaves it.
async fn after_a_crash() -> World {
    let (world, image) = (World::new(), World::new());
    let catalogue = world.open().await;
    catalogue.commit(Commit { add: vec![file("a")], ..Commit::default() }).await.expect("commits");
    catalogue.close().await;
    let catalogue = world.open().await;
    catalogue.commit(Commit { add: vec![file("b"), file("c")], ..Commit::default() }).await.expect("commits");
    for (name, bytes) in everything_in(world.folder.path()) {
        if !name.ends_with("-shm") {
            fs::write(image.folder.path().join(name), bytes).expect("it can be written");
        }
    }
    catalogue.close().await;
    image
}

async fn files_read_only(world: &World) -> usize {
    let catalogue = SqliteCatalogue::open_read_only(&world.path()).await.expect("it can be read");
    catalogue.full_check().await.expect("it is sound");
    let files = catalogue.load().await.expect("it can be read").files.len();
    catalogue.close().await;
    files
}

#[tokio::test]
async fn reading_only_changes_nothing() {
    let world = after_a_crash().await;
    let before = everything_in(world.folder.path());
    assert!(before.len() == 2 && !before["catalogue.sqlite-wal"].is_empty(), "{:?}", before.keys());
    assert_eq!(files_read_only(&world).await, 3);
    let mut after = everything_in(world.folder.path());
    after.remove("catalogue.sqlite-shm");
    assert_eq!(after, before, "after a crash");
    world.open().await.close().await;
    let before = everything_in(world.folder.path());
    assert_eq!(before.len(), 1, "after a stop one file holds everything");
    assert_eq!(files_read_only(&world).await, 3);
    assert_eq!(everything_in(world.folder.path()), before, "after a stop");
}

/// Before, SQLite could not open it, as it could not make its file beside the catalogue. Skipped where mounting is not
/// permitted.
#[tokio::test]
async fn a_catalogue_on_a_disk_that_is_mounted_read_only_can_be_read() {
    let world = after_a_crash().await;
    let disk = World::new();
    let mount = |options: &[&str]| {
        let output = Command::new("mount").args(options).arg(disk.folder.path()).output();
        output.is_ok_and(|output| output.status.success())
    };
    if !mount(&["-t", "tmpfs", "tracehouse-test"]) {
        return;
    }
    for (name, bytes) in everything_in(world.folder.path()) {
        fs::write(disk.folder.path().join(name), bytes).expect("it can be written");
    }
    assert!(mount(&["-o", "remount,ro"]), "it can be mounted anew");
    let files = files_read_only(&disk).await;
    let written = fs::write(disk.folder.path().join("x"), "x");
    let unmounted = Command::new("umount").arg("--lazy").arg(disk.folder.path()).output();
    assert!(unmounted.is_ok_and(|output| output.status.success()));
    assert!(written.is_err(), "nothing can be written there");
    assert_eq!(files, 3);
}

/// A start of a large catalogue leaves out what would take long. Before, nothing said so.
#[tokio::test]
async fn a_catalogue_too_large_to_be_looked_through_says_so() {
    const LARGE: u64 = 65 * 1024 * 1024;
    let world = World::new();
    let catalogue = world.open().await;
    assert_eq!(catalogue.unchecked(), None);
    catalogue.commit(Commit { add: vec![file("a")], ..Commit::default() }).await.expect("commits");
    catalogue.close().await;
    // Room that nothing uses, as after many deletions.
    let opened = fs::OpenOptions::new().write(true).open(world.path()).expect("it is there");
    opened.set_len(LARGE).expect("it can grow");
    let catalogue = world.open().await;
    let unchecked = catalogue.unchecked().expect("it is large");
    assert!(unchecked.contains("64 MiB") && unchecked.contains("`tracehouse store check`"), "{unchecked}");
    assert_eq!(catalogue.load().await.expect("loads").files, [file("a")]);
    catalogue.close().await;
}
