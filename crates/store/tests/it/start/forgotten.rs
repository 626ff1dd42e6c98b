//! Damage to what the catalogue remembers beside its files: a start says what it does not know any more and takes the safe
//! side, a check finds it, and a repair mends it.

use super::*;
use crate::world::until_in_time;

/// What is remembered, and what people read if it is lost.
const REMEMBERED: [(&str, &str); 4] = [
    ("store", "the store's name"),
    ("clock", "what time it was"),
    ("log", "how far the log had come"),
    ("held-back", "which files may hold copies"),
];

/// What may become of a row, past SQLite's own look at the file.
const DAMAGES: [&str; 6] = [
    "UPDATE meta SET value = value || '1' WHERE name = 'NAME'",
    "UPDATE meta SET value = x'00' WHERE name = 'NAME'",
    "UPDATE meta SET checksum = checksum + 1 WHERE name = 'NAME'",
    "UPDATE meta SET checksum = NULL WHERE name = 'NAME'",
    "UPDATE meta SET name = 'x' || name WHERE name = 'NAME'",
    "DELETE FROM meta WHERE name = 'NAME'",
];

async fn damage(world: &World, damage: &str, name: &str) {
    world.meddle(&[&damage.replace("NAME", name)]).await;
}

fn says(told: &[String], what: &str) -> bool {
    told.iter().any(|told| told.contains(what))
}

/// Before, each of them was as if it had never been remembered, and nobody was told.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_catalogue_no_longer_remembers_is_told_and_mended() {
    for (name, told) in REMEMBERED {
        for change in DAMAGES {
            for is_started_first in [false, true] {
                let what = format!("{name}: {change}, started first: {is_started_first}");
                let world = world_of_hours(3).await;
                damage(&world, change, name).await;
                let report = check(&world).await;
                assert!(says(&report.catalogue, told) && !report.is_sound(), "{what}: {report:?}");
                for _ in 0..if is_started_first { 2 } else { 0 } {
                    let store = world.open().await;
                    let troubles = store.troubles();
                    assert!(says(&troubles, told) && says(&troubles, "store repair"), "{what}: {troubles:?}");
                    until(&world, &what, || unreadable(&store).is_empty()).await;
                    check_hours(&what, &store, 0..3);
                    store.shutdown().await.expect("the store stops");
                    assert!(says(&check(&world).await.catalogue, told), "{what}: until it is mended");
                }
                let done = repair_fully(&what, &world, RepairOptions::default()).await;
                let is_told =
                    |action: &Action| matches!(action, Action::Remember { finding } if finding.contains(told));
                assert!(done.actions.iter().any(is_told) && done.left.is_empty(), "{what}: {done:?}");
                let report = check(&world).await;
                assert!(report.is_sound(), "{what}: {report:?}");
                let store = world.open().await;
                assert_eq!((store.troubles(), unreadable(&store)), (vec![], vec![]), "{what}");
                check_hours(&what, &store, 0..3);
                store.shutdown().await.expect("the store stops");
            }
        }
    }
}

/// The rows by which the catalogue knows what it must remember, and what it lost, are such rows too.
#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_what_is_remembered_is_mended_too() {
    for change in DAMAGES {
        for name in ["checksums", "lost"] {
            let what = format!("{name}: {change}");
            let world = world_of_hours(3).await;
            damage(&world, DAMAGES[0], "log").await;
            world.open().await.shutdown().await.expect("the store stops");
            damage(&world, change, name).await;
            let report = check(&world).await;
            assert!(says(&report.catalogue, name), "{what}: {report:?}");
            let store = world.open().await;
            assert!(says(&store.troubles(), name), "{what}: {:?}", store.troubles());
            store.shutdown().await.expect("the store stops");
            repair(&world, RepairOptions::default()).await;
            assert!(check(&world).await.is_sound(), "{what}");
            let store = world.open().await;
            assert_eq!(store.troubles(), Vec::<String>::new(), "{what}");
            check_hours(&what, &store, 0..3);
            store.shutdown().await.expect("the store stops");
        }
    }
}

/// A file whose spans were stored again while it was missing, and the catalogue forgot that it must be compared.
async fn world_with_a_forgotten_copy(change: &str) -> World {
    let world = world_of_hours(3).await;
    let gone = record_of_hour(&world, 1).await;
    let (path, kept) = (world.store_dir().join(&gone.path), world.path().join("kept"));
    fs::rename(&path, &kept).expect("it can be moved");
    let store = world.open().await;
    add_hours(&store, 1..2).await;
    store.shutdown().await.expect("the store stops");
    fs::rename(&kept, &path).expect("it can be moved back");
    damage(&world, change, "held-back").await;
    world
}

fn stored_rows(store: &Store) -> u64 {
    snapshot(store).files.iter().map(|file| file.record.spans).sum()
}

/// Before, the file counted at once, and its spans twice.
#[tokio::test(flavor = "multi_thread")]
async fn no_span_counts_twice_if_nobody_knows_what_to_compare() {
    for change in DAMAGES {
        let world = world_with_a_forgotten_copy(change).await;
        let store = world.open().await;
        // Looked at before the files are compared, it is 0.
        assert!(stored_rows(&store) <= 150, "{change}: {}", stored_rows(&store));
        until_in_time(&world, "all files are compared", || unreadable(&store).is_empty()).await;
        assert_eq!(stored_rows(&store), 150, "{change}");
        check_hours(change, &store, 0..3);
        store.shutdown().await.expect("the store stops");

        let world = world_with_a_forgotten_copy(change).await;
        repair_fully(change, &world, RepairOptions::default()).await;
        let store = world.open().await;
        assert_eq!((stored_rows(&store), unreadable(&store)), (150, vec![]), "{change}");
        check_hours(change, &store, 0..3);
        store.shutdown().await.expect("the store stops");
    }
}
