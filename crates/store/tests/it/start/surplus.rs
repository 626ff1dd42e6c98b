//! Second copies of stored files that are in their places.

use std::os::unix::fs::symlink;

use super::*;
use crate::disk_faults::parent;

/// Where an operator may have put a copy of a file, relative to the store's folder.
fn places(record: &FileRecord) -> Vec<String> {
    let (hour, name) = record.path.rsplit_once('/').expect("a folder and a name");
    vec![
        format!("{hour}/restored.parquet"),
        format!("{hour}/copy/{name}"),
        format!("{}.new", record.path),
        format!("{}.unknown", record.path),
        format!("{}.retired", record.path),
        record.path.replace("tenant=default", "tenant=other"),
        record.path.replace("hour=13", "hour=12"),
        record.path.replace("hour=13", "hour=20"),
        name.to_owned(),
    ]
}

fn put(world: &World, path: &str, bytes: &[u8]) -> PathBuf {
    let path = world.store_dir().join(path);
    fs::create_dir_all(parent(&path)).expect("folders can be made");
    fs::write(&path, bytes).expect("it can be written");
    path
}

/// Before, such a copy stayed unknown and made answers partial until somebody took it away.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_copy_of_a_file_in_its_place_is_kept_aside() {
    let world = world_of_hours(2).await;
    let record = record_of_hour(&world, 1).await;
    let bytes = fs::read(world.store_dir().join(&record.path)).expect("the file is there");
    for (number, path) in places(&record).into_iter().enumerate() {
        put(&world, &path, &bytes);
        let done = repair_fully(&path, &world, RepairOptions::default()).await;
        let [Action::KeepCopy { path: copy, of, kept_as }] = &done.actions[..] else { panic!("{path}: {done:?}") };
        assert_eq!((copy, of, done.left.len()), (&path, &record.path, 0));
        assert_eq!(fs::read(kept_as).expect("it is kept"), bytes, "{path}");
        assert!(!world.store_dir().join(&path).exists(), "{path}");
        assert!(check(&world).await.is_sound(), "{path}");
        assert_eq!(world.files_ending_with(".parquet").len(), 2, "{path}: no glob finds it");
        let store = world.open().await;
        check_hours(&path, &store, 0..2);
        assert_eq!((unreadable(&store), store.troubles()), (vec![], vec![]), "{path}");
        store.shutdown().await.expect("the store stops");
        let kept = everything_in(&world.store_dir()).into_iter().filter(|(_, content)| *content == bytes);
        assert_eq!(kept.count(), number + 2, "{path}: none is written over or deleted");
    }
}

/// All of them at once, also while the catalogue is lost: one of them counts, the others are kept.
#[tokio::test(flavor = "multi_thread")]
async fn of_many_copies_one_counts() {
    for is_catalogue_lost in [false, true] {
        let world = world_of_hours(2).await;
        let record = record_of_hour(&world, 1).await;
        let bytes = fs::read(world.store_dir().join(&record.path)).expect("the file is there");
        // Without a catalogue nobody knows that a file of this name was not one that a crash left.
        let copies: Vec<String> = places(&record).into_iter().filter(|path| !path.ends_with(".retired")).collect();
        copies.iter().for_each(|path| drop(put(&world, path, &bytes)));
        if is_catalogue_lost {
            world.lose_catalogue().await;
            fs::remove_dir_all(world.log_dir()).expect("there is a log");
        }
        let foreseen = repair(&world, RepairOptions { dry_run: true, ..RepairOptions::default() }).await;
        let done = repair(&world, RepairOptions::default()).await;
        assert_eq!((&foreseen.actions, &foreseen.left), (&done.actions, &done.left), "lost: {is_catalogue_lost}");
        assert!(done.left.is_empty(), "lost: {is_catalogue_lost}: {done:?}");
        assert!(world.store_dir().join(&record.path).exists(), "the one where it belongs counts");
        assert!(check(&world).await.is_sound(), "lost: {is_catalogue_lost}");
        let store = world.open().await;
        check_hours("many copies", &store, 0..2);
        assert_eq!(unreadable(&store), []);
        let kept = everything_in(&world.store_dir()).into_iter().filter(|(_, content)| *content == bytes);
        assert_eq!(kept.count(), copies.len() + 1);
    }
}

/// What only looks like a copy stays where it is and is named.
#[tokio::test(flavor = "multi_thread")]
async fn what_differs_is_no_copy() {
    let world = world_of_hours(2).await;
    let record = record_of_hour(&world, 1).await;
    let own = world.store_dir().join(&record.path);
    let whole = fs::read(&own).expect("the file is there");
    let mut damaged = whole.clone();
    damaged[100] ^= 1;
    let copy = put(&world, &places(&record)[0], &damaged);
    for _ in 0..2 {
        let done = repair(&world, RepairOptions::default()).await;
        assert_eq!((done.actions.len(), done.left.len()), (0, 1), "{done:?}");
        assert_eq!(fs::read(&copy).expect("it is left"), damaged);
    }
    // The file in its place is a link to the other: without that it would lead nowhere.
    fs::write(&copy, &whole).expect("it can be written");
    fs::remove_file(&own).expect("it is there");
    symlink(&copy, &own).expect("it can be made");
    let done = repair(&world, RepairOptions::default()).await;
    assert_eq!((done.actions.len(), done.left.len()), (0, 1), "{done:?}");
    check_hours("a link", &*world.open().await, 0..2);
}

/// A link to the file in its place is a second name of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_name_of_a_file_is_kept_aside() {
    for is_link in [true, false] {
        let world = world_of_hours(2).await;
        let record = record_of_hour(&world, 1).await;
        let (own, copy) = (world.store_dir().join(&record.path), world.store_dir().join(&places(&record)[0]));
        match is_link {
            true => symlink(&own, &copy).expect("it can be made"),
            false => fs::hard_link(&own, &copy).expect("it can be made"),
        }
        let done = repair_fully("a second name", &world, RepairOptions::default()).await;
        assert!(matches!(&done.actions[..], [Action::KeepCopy { .. }]), "{done:?}");
        assert!(check(&world).await.is_sound());
        check_hours("a second name", &*world.open().await, 0..2);
    }
}
