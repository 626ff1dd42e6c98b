//! Files that lie elsewhere in the store's folder than the catalogue says, and folders that can't be listed.

use std::io;

use super::*;
use crate::disk_faults::Faults;
use crate::world::{tenant, until_in_time};

const DAY: &str = "tenant=default/spans/date=2025-06-01";
const FIRST_HOUR: &str = "tenant=default/spans/date=2025-06-01/hour=12";

/// Moves a file or folder of the store, also into a folder that is not there yet.
fn move_in_store(world: &World, from: &str, to: &str) {
    let to = world.store_dir().join(to);
    fs::create_dir_all(to.parent().expect("a path in the store")).expect("folders can be made");
    fs::rename(world.store_dir().join(from), to).expect("it can be moved");
}

fn both_ways() -> [RepairOptions; 2] {
    [false, true].map(|forget_missing| RepairOptions { forget_missing, ..RepairOptions::default() })
}

/// Before, a repair ended with an error of SQLite, whether or not missing files were to be forgotten.
#[tokio::test(flavor = "multi_thread")]
async fn misplaced_files_are_moved_back() {
    let file = async |world: &World| record_of_hour(world, 1).await.path;
    let name_of = |path: &str| path.rsplit('/').next().expect("a name").to_owned();
    for options in both_ways() {
        for what in ["another hour", "another tenant", "another name", "no hour", "a renamed day", "a renamed tenant"] {
            let world = world_of_hours(3).await;
            let (path, listed) = (file(&world).await, records(&world).await);
            let before = everything_in(&world.store_dir());
            let moved = match what {
                "another hour" => (path.clone(), format!("{DAY}/hour=20/{}", name_of(&path))),
                "another tenant" => (path.clone(), path.replace("tenant=default", "tenant=other")),
                "another name" => (path.clone(), format!("{DAY}/hour=20/000000000001-0000000000000001.parquet")),
                "no hour" => (path.clone(), format!("kept/{}", name_of(&path))),
                "a renamed day" => (DAY.to_owned(), "tenant=default/spans/date=2025-06-02".to_owned()),
                _ => ("tenant=default".to_owned(), "tenant=other".to_owned()),
            };
            move_in_store(&world, &moved.0, &moved.1);
            let done = repair_fully(what, &world, options).await;
            assert!(done.actions.iter().all(|action| matches!(action, Action::MoveBack { .. })), "{what}: {done:?}");
            assert_eq!(done.left, [], "{what}");
            assert_eq!(everything_in(&world.store_dir()), before, "{what}: all is where it was");
            assert_eq!(records(&world).await, listed, "{what}: the list is as it was");
            assert!(check(&world).await.is_sound(), "{what}");
            let store = world.open().await;
            assert_eq!((unreadable(&store), store.troubles()), (vec![], vec![]), "{what}");
            check_hours(what, &store, 0..3);
            store.shutdown().await.expect("the store stops");
        }
    }
}

/// Neither adopted where it lies, nor forgotten, nor moved over what is in its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_moved_back_is_left_as_it_is() {
    for options in both_ways() {
        let world = world_of_hours(3).await;
        let (record, listed) = (record_of_hour(&world, 1).await, records(&world).await);
        let elsewhere = record.path.replace("tenant=default", "tenant=other");
        move_in_store(&world, &record.path, &elsewhere);
        let hour = format!("{DAY}/hour=13");
        fs::remove_dir(world.store_dir().join(&hour)).expect("it is empty");
        fs::write(world.store_dir().join(&hour), "in the way").expect("it can be written");
        let before = everything_in(&world.store_dir());
        for dry_run in [true, false] {
            let report = repair(&world, RepairOptions { dry_run, ..options }).await;
            assert_eq!(report.actions, []);
            let reason = report.left.iter().find(|left| left.path == elsewhere).map(|left| left.why.as_str());
            assert!(reason.is_some_and(|why| why.contains("hour=13 is in the way")), "{report:?}");
            assert_eq!(everything_in(&world.store_dir()), before);
            assert_eq!(records(&world).await, listed);
        }
        fs::remove_file(world.store_dir().join(&hour)).expect("it is there");
        repair_fully("out of the way", &world, options).await;
        check_hours("out of the way", &*world.open().await, 0..3);
    }
}

/// Also a file whose spans are not shown belongs where the catalogue lists it.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_set_aside_is_moved_back_too() {
    let world = world_of_hours(3).await;
    let record = record_of_hour(&world, 1).await;
    let path = world.store_dir().join(&record.path);
    let whole = fs::read(&path).expect("the file is there");
    fs::write(&path, &whole[..200]).expect("it can be written");
    repair_fully("set aside", &world, RepairOptions::default()).await;
    let elsewhere = record.path.replace("tenant=default", "tenant=other");
    move_in_store(&world, &record.path, &elsewhere);
    let done = repair_fully("misplaced", &world, RepairOptions::default()).await;
    assert!(matches!(&done.actions[..], [Action::MoveBack { to, .. }] if *to == record.path), "{done:?}");
    // A copy takes its place, elsewhere: it is moved back and read again.
    fs::remove_file(path.with_extension("parquet.retired")).expect("it was moved back");
    fs::write(world.store_dir().join(&elsewhere), whole).expect("it can be written");
    let done = repair_fully("whole again", &world, RepairOptions::default()).await;
    assert!(matches!(&done.actions[..], [Action::MoveBack { .. }, Action::TakeBack { .. }]), "{done:?}");
    check_hours("whole again", &*world.open().await, 0..3);
}

/// The file of an hour, in the folder of another tenant, in a store whose catalogue is lost.
async fn lost_in_anothers_folder(world: &World) -> (String, String) {
    let own = record_of_hour(world, 1).await.path;
    let elsewhere = own.replace("tenant=default", "tenant=other");
    move_in_store(world, &own, &elsewhere);
    world.lose_catalogue().await;
    fs::remove_dir_all(world.log_dir()).expect("there is a log");
    (own, elsewhere)
}

/// Before, nothing but the folder said whose spans a file holds, and the other tenant got them.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_anothers_folder_is_adopted_by_its_own_tenant() {
    for suffix in ["", ".unknown"] {
        let world = world_of_hours(3).await;
        let before = everything_in(&world.store_dir());
        let (_, elsewhere) = lost_in_anothers_folder(&world).await;
        move_in_store(&world, &elsewhere, &format!("{elsewhere}{suffix}"));
        let store = world.open().await;
        assert_eq!(
            all_spans(&store.snapshot(&TenantId::new("other").expect("a valid name"))),
            vec![],
            "not shown to it"
        );
        store.shutdown().await.expect("the store stops");
        let report = check(&world).await;
        let found = report.findings.iter().find(|finding| finding.path == elsewhere).expect("it is named");
        assert_eq!((found.spans, &found.trouble), (50, &FileTrouble::WrongTenant { tenant: "default".to_owned() }));
        let done = repair_fully("another tenant's folder", &world, RepairOptions::default()).await;
        assert!(done.actions.iter().any(|action| matches!(action, Action::MoveBack { .. })), "{done:?}");
        assert_eq!(done.left, []);
        assert_eq!(everything_in(&world.store_dir()), before, "all is where it was");
        assert!(records(&world).await.iter().all(|record| record.tenant == TenantId::default()));
        let store = world.open().await;
        assert_eq!((unreadable(&store), store.troubles()), (vec![], vec![]));
        check_hours("adopted", &store, 0..3);
        store.shutdown().await.expect("the store stops");
    }
}

/// Nor is it adopted where it lies if it can't be moved.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_anothers_folder_is_held_back_if_its_own_is_in_the_way() {
    let world = world_of_hours(3).await;
    let (own, elsewhere) = lost_in_anothers_folder(&world).await;
    let hour = world.store_dir().join(&own).parent().expect("a folder").to_owned();
    fs::remove_dir(&hour).expect("it is empty");
    fs::write(&hour, "in the way").expect("it can be written");
    for _ in 0..2 {
        let report = repair(&world, RepairOptions::default()).await;
        let left = report.left.iter().find(|left| left.path == elsewhere).expect("it is named");
        assert!(left.why.contains("is in the way"), "{left:?}");
        assert!(world.store_dir().join(&elsewhere).exists(), "it is left as it is");
        assert_eq!(records(&world).await.len(), 2);
    }
    fs::remove_file(&hour).expect("it is there");
    repair_fully("out of the way", &world, RepairOptions::default()).await;
    check_hours("out of the way", &*world.open().await, 0..3);
}

/// Nothing that is stored can be read: it is no use to start.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_of_which_no_folder_can_be_listed_is_refused() {
    let world = world_of_hours(2).await;
    let faults = Faults::new();
    faults.fail("read", "tenant=default", io::ErrorKind::PermissionDenied);
    let outcome = world.try_open(faults.config(&world), world.catalogue().await, world.clock.clone()).await;
    let error = outcome.err().expect("the store must not start").to_string();
    let folder = world.store_dir().join("tenant=default");
    assert!(error.contains(&folder.display().to_string()) && error.contains("belongs to the user"), "{error}");
    faults.clear();
    check_hours("listed again", &*world.open_with(faults.config(&world)).await, 0..2);
}

/// Before, one folder that could not be listed kept all tenants' files from being read.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_cannot_be_listed_costs_what_is_in_it() {
    let world = world_of_hours(3).await;
    let other = tenant(1);
    let store = world.open().await;
    let spans = spans_of_hour(0);
    store.append(other.clone(), batch_of(&spans)).await.expect("the store takes it");
    store.shutdown().await.expect("the store stops");
    let of_default = async || {
        let all = records(&world).await.into_iter();
        all.filter(|record| record.tenant == TenantId::default()).collect::<Vec<_>>()
    };
    let listed = of_default().await;
    for (part, of_other, hours) in [("tenant=team-a", 0, vec![0, 1, 2]), (FIRST_HOUR, spans.len(), vec![1, 2])] {
        let faults = Faults::new();
        faults.fail("read", part, io::ErrorKind::PermissionDenied);
        let store = world.open_with(faults.config(&world)).await;
        check_hours(part, &store, hours.iter().copied());
        assert_eq!(all_spans(&store.snapshot(&other)).len(), of_other, "{part}");
        let missed = [unreadable(&store).len(), store.snapshot(&other).unreadable.len()];
        assert_eq!(missed.iter().sum::<usize>(), 1, "{part}: {missed:?}");
        assert_eq!(missed[0], 3 - hours.len(), "{part}: {missed:?}");
        let troubles = store.troubles();
        assert!(troubles.len() == 1 && troubles[0].contains("can't be listed"), "{troubles:?}");
        // What comes in for it is taken.
        faults.clear();
        store.append(other.clone(), batch_of(&spans_of_hour(0))).await.expect("the store takes it");
        store.flush().await.expect("the flush succeeds");
        until_in_time(&world, "it is back", || store.troubles().is_empty() && unreadable(&store).is_empty()).await;
        until_in_time(&world, "it is back", || store.snapshot(&other).unreadable.is_empty()).await;
        check_hours(part, &store, 0..3);
        assert_same_spans(part, &all_spans(&store.snapshot(&other)), &by_key(&spans), 1);
        store.shutdown().await.expect("the store stops");
        assert_eq!(of_default().await, listed, "{part}: nothing was condemned");
    }
}

/// Before, a repair had nothing to do about it, and took it back for ever once it had been set aside.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_another_was_written_over_is_named_until_its_own_is_back() {
    let world = world_of_hours(3).await;
    let (own, other) = (record_of_hour(&world, 1).await, record_of_hour(&world, 2).await);
    let (path, other) = (world.store_dir().join(&own.path), world.store_dir().join(&other.path));
    let whole = fs::read(&path).expect("it is there");
    fs::copy(&other, &path).expect("it can be written");
    for set_aside in [false, true] {
        if set_aside {
            let store = world.open().await;
            let file = snapshot(&store).files.iter().find(|file| file.record.id == own.id).cloned();
            assert!(file.expect("it is listed").open().is_err());
            until(&world, "it is set aside", || !unreadable(&store).is_empty()).await;
            check_hours("set aside", &store, [0, 2]);
            store.shutdown().await.expect("the store stops");
        }
        for dry_run in [true, false] {
            let report = repair(&world, RepairOptions { dry_run, ..RepairOptions::default() }).await;
            assert_eq!(report.actions, [], "{set_aside} {dry_run}");
            let left = report.left.iter().find(|left| left.path == own.path).map(|left| left.why.as_str());
            assert!(left.is_some_and(|why| why.contains("was written over it")), "{set_aside} {dry_run}: {report:?}");
        }
    }
    let aside = path.with_extension("parquet.retired");
    fs::write(if aside.exists() { &aside } else { &path }, &whole).expect("it can be written");
    repair_fully("its own is back", &world, RepairOptions::default()).await;
    let store = world.open().await;
    check_hours("its own is back", &store, 0..3);
    assert_eq!(unreadable(&store), []);
}
