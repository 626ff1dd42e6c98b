//! Copies of damaged files that an operator puts into the store's folder.

use std::fs;
use std::path::{Path, PathBuf};

use tracehouse_store::{Action, RepairOptions, RepairReport};

use super::{check, check_hours, everything_in, record_of_hour, repair, snapshot, unreadable, world_of_hours};
use crate::world::until;

/// Where an operator may have put a whole copy of a file: its path, of which `hour` is the folder of the file and `other` that of another.
fn places_of_copies(path: &Path, other: &Path, store: &Path) -> Vec<PathBuf> {
    let (hour, name) = (path.parent().expect("a folder"), path.file_name().expect("a name"));
    let below_tenant = hour.strip_prefix(store).expect("inside").iter().skip(1).collect::<PathBuf>();
    let named = |ending: &str| hour.join(format!("{}{ending}", name.to_string_lossy()));
    vec![
        hour.join("restored.parquet"),
        named(".new"),
        named(".unknown"),
        hour.join("copy").join(name),
        other.parent().expect("a folder").join(name),
        other.with_file_name("restored.parquet"),
        store.join("tenant=other").join(below_tenant).join(name),
        store.join(name),
    ]
}

/// A whole copy of a damaged file takes its place, wherever in the store's folder it lies, and what was damaged makes no answer partial
/// any more. Before, only a copy in the same folder did, and the ruin then counted as an unknown file.
#[tokio::test(flavor = "multi_thread")]
async fn a_whole_copy_takes_the_place_of_a_damaged_file() {
    let world = world_of_hours(2).await;
    let [path, other] = [0, 1].map(async |hour| world.store_dir().join(record_of_hour(&world, hour).await.path));
    let (path, other) = (path.await, other.await);
    let whole = fs::read(&path).expect("it is there");
    for (number, copy) in places_of_copies(&path, &other, &world.store_dir()).into_iter().enumerate() {
        for (at, length) in [(100, 1), (4, whole.len() / 2), (whole.len() - 40, 30)] {
            let set_aside_before = number % 2 == length % 2;
            let what = format!("{length} bytes at {at}, set aside before: {set_aside_before}, {}", copy.display());
            let mut bytes = whole.clone();
            bytes[at..at + length].iter_mut().for_each(|byte| *byte ^= 0xff);
            fs::write(&path, bytes).expect("it can be written");
            if set_aside_before {
                let store = world.open().await;
                if snapshot(&store).files.iter().any(|file| file.open().is_err()) {
                    until(&world, "it is set aside", || !unreadable(&store).is_empty()).await;
                }
                store.shutdown().await.expect("the store stops");
            }
            fs::create_dir_all(copy.parent().expect("a folder")).expect("can be made");
            fs::write(&copy, &whole).expect("it can be written");
            let foreseen = repair(&world, RepairOptions { dry_run: true, ..RepairOptions::default() }).await;
            let done = repair(&world, RepairOptions::default()).await;
            assert_eq!((&foreseen.actions, &foreseen.left), (&done.actions, &done.left), "{what}");
            assert!(done.left.is_empty(), "{what}: {done:?}");
            assert!(check(&world).await.is_sound(), "{what}");
            let again = repair(&world, RepairOptions::default()).await;
            assert_eq!((again.actions.len(), again.left.len()), (0, 0), "{what}: {again:?}");
            let store = world.open().await;
            check_hours(&what, &store, 0..2);
            assert_eq!(store.troubles(), [""; 0], "{what}");
            store.shutdown().await.expect("the store stops");
        }
    }
}

/// The same while the catalogue is lost, and the log: the copy itself says where it belongs. Before, it took two repairs, or the copy was
/// never found.
#[tokio::test(flavor = "multi_thread")]
async fn a_whole_copy_takes_its_place_without_a_catalogue() {
    let world = world_of_hours(2).await;
    let [path, other] = [0, 1].map(async |hour| world.store_dir().join(record_of_hour(&world, hour).await.path));
    let (path, other) = (path.await, other.await);
    let whole = fs::read(&path).expect("it is there");
    for (number, copy) in places_of_copies(&path, &other, &world.store_dir()).into_iter().enumerate() {
        for damage in [Some((100, 1)), Some((whole.len() - 40, 30)), None] {
            let what = format!("damage {damage:?}, copy {number}: {}", copy.display());
            match damage {
                Some((at, length)) => {
                    let mut bytes = whole.clone();
                    bytes[at..at + length].iter_mut().for_each(|byte| *byte ^= 0xff);
                    fs::write(&path, bytes).expect("it can be written");
                }
                None => fs::remove_file(&path).expect("it is there"),
            }
            fs::create_dir_all(copy.parent().expect("a folder")).expect("can be made");
            fs::write(&copy, &whole).expect("it can be written");
            world.lose_catalogue().await;
            fs::remove_dir_all(world.log_dir()).expect("there is a log");
            let foreseen = repair(&world, RepairOptions { dry_run: true, ..RepairOptions::default() }).await;
            let done = repair(&world, RepairOptions::default()).await;
            let renamed = |report: &RepairReport| -> Vec<String> {
                let is_move = |action: &&Action| {
                    matches!(action, Action::KeepRuin { .. } | Action::Rename { .. } | Action::MoveBack { .. })
                };
                report.actions.iter().filter(is_move).map(ToString::to_string).collect()
            };
            assert_eq!(renamed(&foreseen), renamed(&done), "{what}");
            assert!(done.left.is_empty(), "{what}: {done:?}");
            let again = repair(&world, RepairOptions::default()).await;
            assert_eq!((again.actions.len(), again.left.len()), (0, 0), "{what}: {again:?}");
            let store = world.open().await;
            check_hours(&what, &store, 0..2);
            store.shutdown().await.expect("the store stops");
        }
    }
}

/// Several copies of one file, whole and damaged ones, beside the file, in its place or without it, with and without a catalogue: whatever a
/// repair does, a second one included, no content is gone. Before, copies were written over each other.
#[tokio::test(flavor = "multi_thread")]
async fn of_several_copies_none_is_written_over() {
    for copies in [[true, true, true], [false, true, false], [true, false, false], [false, false, true]] {
        for original in [Some(true), Some(false), None] {
            for is_catalogue_lost in [false, true] {
                let what = format!("copies {copies:?}, original {original:?}, catalogue lost: {is_catalogue_lost}");
                let world = world_of_hours(2).await;
                let path = world.store_dir().join(record_of_hour(&world, 0).await.path);
                let whole = fs::read(&path).expect("it is there");
                let bytes_of = |number: usize, is_whole: bool| {
                    let mut bytes = whole.clone();
                    bytes[100 + number] ^= u8::from(!is_whole);
                    bytes
                };
                match original {
                    Some(is_whole) => fs::write(&path, bytes_of(9, is_whole)).expect("it can be written"),
                    None => fs::remove_file(&path).expect("it is there"),
                }
                for (number, is_whole) in copies.into_iter().enumerate() {
                    let copy = path.with_file_name(format!("copy{number}.parquet"));
                    fs::write(copy, bytes_of(number, is_whole)).expect("it can be written");
                }
                if is_catalogue_lost {
                    world.lose_catalogue().await;
                }
                let contents = || {
                    let files = everything_in(&world.store_dir()).into_iter().map(|(_, bytes)| bytes);
                    let mut files: Vec<Vec<u8>> = files.filter(|bytes| bytes.starts_with(b"PAR1")).collect();
                    files.sort();
                    files
                };
                let before = contents();
                for _ in 0..2 {
                    repair(&world, RepairOptions::default()).await;
                    assert_eq!(contents(), before, "{what}");
                }
                if original == Some(true) || (!is_catalogue_lost && copies.contains(&true)) {
                    check_hours(&what, &*world.open().await, 0..2);
                }
            }
        }
    }
}

/// Of two copies neither of which is whole the one in its place stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_copy_takes_no_place() {
    let world = world_of_hours(2).await;
    let path = world.store_dir().join(record_of_hour(&world, 0).await.path);
    let mut bytes = fs::read(&path).expect("it is there");
    bytes[100] ^= 0xff;
    fs::write(&path, &bytes).expect("it can be written");
    bytes[200] ^= 0xff;
    fs::write(path.with_file_name("restored.parquet"), &bytes).expect("it can be written");
    let done = repair(&world, RepairOptions::default()).await;
    assert!(!done.actions.iter().any(|action| matches!(action, Action::KeepRuin { .. })), "{done:?}");
    assert!(path.with_file_name("restored.parquet").exists(), "{done:?}");
}
