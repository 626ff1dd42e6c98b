//! Catalogue and folder that do not fit together: a start refuses, or names what it can't show, and condemns nothing; a
//! repair brings them together again.

mod copies;
mod doubled;
mod dry_run;
mod forgotten;
mod misplaced;
mod small_files;
mod surplus;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tracehouse_catalogue::{Catalogue, FileRecord};
use tracehouse_disk::Disk;
use tracehouse_model::{Span, SystemRandomness, TenantId};
use tracehouse_spanfile::Projection;
use tracehouse_store::{
    Action, CheckReport, FileFinding, FileTrouble, OpenError, Readable, RepairOptions, RepairReport, Snapshot, Store,
    StoreConfig, UnreadableReason, check_store, repair_store,
};

use crate::spans::{HOUR, NOON, assert_same_spans, batch_of, by_key, plain_span};
use crate::world::{World, all_spans, append, tenant, until};

/// Spans of an hour after noon: each hour has a file of its own.
fn spans_of_hour(hour: u64) -> Vec<Span> {
    let start = NOON + hour as i64 * HOUR;
    let id = |number: u64| hour * 1000 + number + 1;
    (0..50).map(|number| plain_span(u128::from(id(number / 5)), id(number), 0, start + number as i64)).collect()
}

fn spans_of_hours(hours: impl IntoIterator<Item = u64>) -> Vec<Span> {
    hours.into_iter().flat_map(spans_of_hour).collect()
}

async fn add_hours(store: &Store, hours: std::ops::Range<u64>) {
    append(store, batch_of(&spans_of_hours(hours))).await;
    store.flush().await.expect("the flush succeeds");
}

/// A world with a file for each of so many hours, closed.
async fn world_of_hours(hours: u64) -> World {
    let world = World::new();
    let store = world.open().await;
    add_hours(&store, 0..hours).await;
    store.shutdown().await.expect("the store stops");
    world
}

async fn refused(world: &World) -> OpenError {
    let catalogue = world.catalogue().await;
    let outcome = world.try_open(world.config(), catalogue, world.clock.clone()).await;
    outcome.err().expect("the store must not start")
}

async fn records(world: &World) -> Vec<FileRecord> {
    world.catalogue().await.load().await.expect("the catalogue can be read").files
}

async fn record_of_hour(world: &World, hour: u64) -> FileRecord {
    let end = format!("hour={:02}", 12 + hour);
    records(world).await.into_iter().find(|record| record.path.contains(&end)).expect("the hour has a file")
}

fn snapshot(store: &Store) -> Snapshot {
    store.snapshot(&TenantId::default())
}

fn check_hours(what: &str, store: &Store, hours: impl IntoIterator<Item = u64>) {
    assert_same_spans(what, &all_spans(&snapshot(store)), &by_key(&spans_of_hours(hours)), 1);
}

/// The hours over which answers are partial, and why.
fn unreadable(store: &Store) -> Vec<(u64, UnreadableReason)> {
    let hour = |start: i64| ((start - NOON) / HOUR) as u64;
    let mut found: Vec<_> = snapshot(store)
        .unreadable
        .iter()
        .map(|file| {
            assert_eq!(hour(file.start_min), hour(file.start_max), "all is in one hour");
            (hour(file.start_min), file.reason)
        })
        .collect();
    found.sort_by_key(|(hour, _)| *hour);
    found
}

/// Everything below a folder: paths and contents.
fn everything_in(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry of it").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.clone(), fs::read(&path).expect("a file")));
            }
        }
    }
    found.sort();
    found
}

async fn check(world: &World) -> CheckReport {
    check_store(&world.paths(), false, &mut |_, _| {}).await.expect("the check can be done")
}

async fn repair(world: &World, options: RepairOptions) -> RepairReport {
    let (clock, randomness) = (world.clock.clone(), Arc::new(SystemRandomness::from_seed(1)));
    let outcome = repair_store(&Disk::default(), &world.paths(), options, clock, randomness, &mut |_, _| {}).await;
    let done = outcome.expect("the repair can be done");
    if done.left.is_empty() && !options.dry_run {
        let left = check(world).await;
        assert!(left.is_sound(), "a repair names what a check finds afterwards: {left:?}, and not only {done:?}");
    }
    done
}

/// A dry run says what a real one does, and changes nothing; a second run has nothing left to do.
async fn repair_fully(what: &str, world: &World, options: RepairOptions) -> RepairReport {
    let before = everything_in(&world.store_dir());
    let foreseen = repair(world, RepairOptions { dry_run: true, ..options }).await;
    assert_eq!(everything_in(&world.store_dir()), before, "{what}: a dry run changes nothing");
    let done = repair(world, options).await;
    assert_eq!(foreseen.actions, done.actions, "{what}");
    assert!(!done.actions.is_empty(), "{what}");
    let again = repair(world, options).await;
    assert_eq!(again.actions, [], "{what}: nothing is left to do");
    done
}

/// What was committed stood beside it, and is gone. Before, a dry run was refused, and the repair itself was not.
#[tokio::test(flavor = "multi_thread")]
async fn an_empty_catalogue_is_repaired_as_one_that_is_not_there() {
    let world = world_of_hours(2).await;
    world.lose_catalogue().await;
    fs::write(world.path().join("catalogue.sqlite"), b"").expect("it can be written");
    fs::remove_dir_all(world.log_dir()).expect("there is a log");
    let done = repair_fully("an empty catalogue", &world, RepairOptions::default()).await;
    assert!(done.left.is_empty() && check(&world).await.is_sound(), "{done:?}");
    check_hours("repaired", &*world.open().await, 0..2);
}

/// As long as somebody has not taken it away. Before, a repair said that nothing had to be done, while a check named it.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_damaged_segment_is_left_and_named() {
    let world = world_of_hours(1).await;
    let copy = world.log_dir().join("damaged/7.wal");
    fs::create_dir_all(world.log_dir().join("damaged")).expect("it can be made");
    fs::write(&copy, [7; 300]).expect("it can be written");
    let done = repair(&world, RepairOptions::default()).await;
    let [left] = &done.left[..] else { panic!("{done:?}") };
    assert!(
        left.why.contains(&format!("{}: a copy of what a start could not read, 300 bytes", copy.display())),
        "{left:?}"
    );
    let store = world.open().await;
    let troubles = store.troubles();
    assert!(troubles.iter().any(|trouble| trouble.contains("1 copy of a damaged segment, 300 bytes")), "{troubles:?}");
    store.shutdown().await.expect("the store stops");
    fs::remove_file(&copy).expect("it is there");
    assert!(repair(&world, RepairOptions::default()).await.left.is_empty());
}

/// Before, an absent folder was made anew, all files were marked as damaged, and their spans were gone for good.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_not_mounted_is_refused_and_left_alone() {
    let world = world_of_hours(3).await;
    let (store_dir, elsewhere) = (world.store_dir(), world.path().join("elsewhere"));
    let listed = records(&world).await;
    fs::rename(&store_dir, &elsewhere).expect("it can be moved");
    for _ in 0..2 {
        let error = refused(&world).await;
        assert!(matches!(error, OpenError::NotMounted { listed: 3, .. }), "{error:?}");
        assert!(!store_dir.exists(), "the folder is not made");
    }
    // An empty folder is what a disk is mounted on.
    fs::create_dir(&store_dir).expect("it can be made");
    let error = refused(&world).await;
    assert!(matches!(error, OpenError::NotMounted { listed: 3, .. }), "{error:?}");
    assert_eq!(everything_in(&store_dir), [], "nothing is put into it");
    assert_eq!(records(&world).await, listed, "nothing is marked");
    fs::remove_dir(&store_dir).expect("it is empty");
    fs::rename(&elsewhere, &store_dir).expect("it can be moved back");
    check_hours("mounted again", &*world.open().await, 0..3);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_of_another_store_is_refused() {
    let (world, other) = (world_of_hours(3).await, World::new());
    // Its files have other ids, as it was opened before.
    other.open().await.shutdown().await.expect("the store stops");
    let store = other.open().await;
    add_hours(&store, 0..2).await;
    store.shutdown().await.expect("the store stops");
    fs::write(other.store_dir().join("STORE_ID"), "0123456789abcdef0123456789abcdef\n").expect("it can be written");
    let kept = world.path().join("kept");
    fs::rename(world.store_dir(), &kept).expect("it can be moved");
    fs::rename(other.store_dir(), world.store_dir()).expect("it can be moved");
    let before = everything_in(&world.store_dir());
    let error = refused(&world).await;
    assert!(matches!(error, OpenError::OtherStore { listed: 3, .. }), "{error:?}");
    let options = RepairOptions { forget_missing: true, ..RepairOptions::default() };
    let mut progress = |_, _| {};
    let (clock, randomness) = (world.clock.clone(), Arc::new(SystemRandomness::from_seed(1)));
    let repaired = repair_store(&Disk::default(), &world.paths(), options, clock, randomness, &mut progress).await;
    assert!(matches!(repaired, Err(OpenError::NothingOfOurs { listed: 3, .. })), "nor is it repaired");
    assert_eq!(everything_in(&world.store_dir()), before);
    fs::remove_dir_all(world.store_dir()).expect("it can be removed");
    fs::rename(&kept, world.store_dir()).expect("it can be moved back");
    check_hours("the right folder", &*world.open().await, 0..3);
}

/// Before, a missing file was marked as damaged at the next start, and stayed so when it came back.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_file_makes_answers_partial_until_it_comes_back() {
    let world = world_of_hours(6).await;
    let gone = record_of_hour(&world, 2).await;
    let (path, kept) = (world.store_dir().join(&gone.path), world.path().join("kept"));
    fs::rename(&path, &kept).expect("it can be moved");
    for start in ["the first start", "the second"] {
        let store = world.open().await;
        check_hours(start, &store, [0, 1, 3, 4, 5]);
        assert_eq!(unreadable(&store), [(2, UnreadableReason::Missing)], "{start}");
        assert_eq!(snapshot(&store).unreadable[0].spans, 50);
        assert!(store.troubles().iter().any(|trouble| trouble.contains("missing")), "{:?}", store.troubles());
        assert!(record_of_hour(&world, 2).await.retired.is_none(), "{start}: it stays listed");
        store.shutdown().await.expect("the store stops");
    }
    let store = world.open().await;
    fs::rename(&kept, &path).expect("it can be moved back");
    world.clock.advance(Duration::from_secs(10));
    until(&world, "the file is read again", || unreadable(&store).is_empty()).await;
    check_hours("it came back", &store, 0..6);
    assert_eq!(store.troubles(), Vec::<String>::new());
}

/// Who may know of one tenant is not asked to repair what is another's, and learns no names.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_is_told_of_its_own_missing_files() {
    let world = world_of_hours(3).await;
    let store = world.open().await;
    let other = tenant(1);
    store.append(other.clone(), batch_of(&spans_of_hour(3))).await.expect("it is accepted");
    store.flush().await.expect("the flush succeeds");
    store.shutdown().await.expect("the store stops");
    fs::rename(world.store_dir().join(format!("tenant={other}")), world.path().join("away")).expect("it can be moved");
    let store = world.open().await;
    let told = |tenant: Option<&TenantId>| store.troubles_shown_to(tenant).join("\n");
    assert!(told(Some(&other)).contains("--forget-missing") && told(None).contains("--forget-missing"));
    let told = told(Some(&TenantId::default()));
    assert!(!told.contains("--forget-missing") && !told.contains(other.as_str()), "{told}");
    assert!(told.contains("1 stored file of other tenants can't be read"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_is_refused_when_many_files_are_missing() {
    let world = world_of_hours(6).await;
    let listed = records(&world).await;
    let kept = world.path().join("kept");
    fs::create_dir(&kept).expect("it can be made");
    let places = [1, 4].map(|hour| {
        let path = listed.iter().map(|record| world.store_dir().join(&record.path)).nth(hour).expect("a file");
        let aside = kept.join(hour.to_string());
        fs::rename(&path, &aside).expect("it can be moved");
        (path, aside)
    });
    let error = refused(&world).await;
    assert!(matches!(error, OpenError::FilesMissing { missing: 2, listed: 6, .. }), "{error:?}");
    for told in ["--forget-missing", "2 of 6 of tenant default", &listed[1].path] {
        assert!(error.to_string().contains(told), "{error}");
    }
    assert_eq!(records(&world).await, listed, "nothing is marked");
    let left = repair(&world, RepairOptions::default()).await;
    assert_eq!((left.actions.len(), left.left.len()), (0, 2), "a repair drops nothing of itself");
    let image = world.crash_image();
    for (path, aside) in places {
        fs::rename(aside, path).expect("it can be moved back");
    }
    check_hours("they are back", &*world.open().await, 0..6);

    let options = RepairOptions { forget_missing: true, ..RepairOptions::default() };
    repair_fully("gone for good", &image, options).await;
    let store = image.open().await;
    assert_eq!(unreadable(&store), [], "answers are whole without them");
    assert_eq!(snapshot(&store).files.len(), 4);
}

/// Before, files that the catalogue does not know were renamed, named at one start, and never again; answers were complete.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_catalogue_costs_nothing() {
    let world = world_of_hours(3).await;
    let before = everything_in(&world.store_dir());
    world.lose_catalogue().await;
    // The log may still have the spans and would bring them back.
    fs::remove_dir_all(world.log_dir()).expect("there is a log");
    for start in ["the first start", "the second"] {
        let store = world.open().await;
        check_hours(start, &store, []);
        let unknown = UnreadableReason::Unknown;
        assert_eq!(unreadable(&store), [(0, unknown), (1, unknown), (2, unknown)], "{start}");
        assert!(store.troubles().iter().any(|trouble| trouble.contains("unknown")), "{:?}", store.troubles());
        store.shutdown().await.expect("the store stops");
        assert_eq!(everything_in(&world.store_dir()), before, "{start}: every file is left as it is");
    }
    let report = check(&world).await;
    assert!(report.findings.iter().all(|finding| finding.trouble == FileTrouble::Unknown));
    assert_eq!(report.findings.len(), 3);
    repair_fully("lost", &world, RepairOptions::default()).await;
    assert!(check(&world).await.is_sound());
    let store = world.open().await;
    assert_eq!((unreadable(&store), store.troubles()), (vec![], vec![]));
    check_hours("adopted", &store, 0..3);
    store.compact().await.expect("the merge succeeds");
    check_hours("merged", &store, 0..3);
}

/// When the last span of a file ends is in the catalogue, and in the file for a catalogue that is made anew.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_known_when_spans_end_also_after_a_catalogue_was_lost() {
    const LONG: i64 = 2 * HOUR + 5;
    let world = World::new();
    let store = world.open().await;
    let mut spans = spans_of_hours(0..3);
    spans[7].duration_nanos = LONG;
    // One that claims to end before it begins ends where it begins.
    spans[60].duration_nanos = -LONG;
    append(&store, batch_of(&spans)).await;
    store.flush().await.expect("the flush succeeds");
    store.shutdown().await.expect("the store stops");
    let end = |span: &Span| span.start_unix_nanos + span.duration_nanos.max(0);
    let ends: Vec<i64> = spans.chunks(50).map(|hour| hour.iter().map(end).max().expect("fifty")).collect();
    let known = async || {
        let mut known = records(&world).await;
        known.sort_by_key(|record| record.start_min);
        known.into_iter().map(|record| record.end_max.expect("it is known")).collect::<Vec<i64>>()
    };
    assert_eq!(known().await, ends);
    world.lose_catalogue().await;
    fs::remove_dir_all(world.log_dir()).expect("there is a log");
    repair_fully("lost", &world, RepairOptions::default()).await;
    // The last start and the longest duration stand in a file, not which spans they are of.
    for ((told, end), hour) in known().await.into_iter().zip(ends).zip(0..) {
        let last_start = NOON + hour * HOUR + 49;
        assert!((end..=last_start.max(end) + LONG).contains(&told), "{hour}: {told} for {end}");
        assert!(hour == 0 || told < NOON + (hour + 1) * HOUR, "{hour}: {told} is not the end of another file");
    }
}

/// The same with no server start between the loss and the repair, and with names that an earlier version gave.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_an_earlier_version_renamed_are_adopted() {
    let world = world_of_hours(3).await;
    for path in world.files_ending_with(".parquet") {
        let mut name = path.clone().into_os_string();
        name.push(".unknown");
        fs::rename(&path, name).expect("it can be renamed");
    }
    world.lose_catalogue().await;
    fs::remove_dir_all(world.log_dir()).expect("there is a log");
    repair_fully("renamed", &world, RepairOptions::default()).await;
    assert_eq!(world.files_ending_with(".parquet").len(), 3, "they have their own names again");
    check_hours("adopted", &*world.open().await, 0..3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalogue_older_than_the_files_is_brought_up_to_date() {
    let world = world_of_hours(2).await;
    world.meddle(&[]).await;
    let old = fs::read(world.path().join("catalogue.sqlite")).expect("the catalogue is there");
    let store = world.open().await;
    add_hours(&store, 2..5).await;
    store.shutdown().await.expect("the store stops");
    world.lose_catalogue().await;
    fs::write(world.path().join("catalogue.sqlite"), old).expect("it can be written");
    fs::remove_dir_all(world.log_dir()).expect("there is a log");
    let store = world.open().await;
    check_hours("older", &store, 0..2);
    let unknown = UnreadableReason::Unknown;
    assert_eq!(unreadable(&store), [(2, unknown), (3, unknown), (4, unknown)]);
    store.shutdown().await.expect("the store stops");
    repair_fully("older", &world, RepairOptions::default()).await;
    let store = world.open().await;
    check_hours("up to date", &store, 0..5);
    assert_eq!(unreadable(&store), []);
}

/// Before, one damaged row took all files with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_row_costs_its_file_until_it_is_repaired() {
    let world = world_of_hours(3).await;
    world.meddle(&["UPDATE files SET spans = spans + 1 WHERE path LIKE '%hour=13%'"]).await;
    for start in ["the first start", "the second"] {
        let store = world.open().await;
        check_hours(start, &store, [0, 2]);
        assert_eq!(unreadable(&store), [(1, UnreadableReason::Unknown)], "{start}");
        assert!(store.troubles().iter().any(|trouble| trouble.contains("row")), "{:?}", store.troubles());
        store.shutdown().await.expect("the store stops");
    }
    assert!(!check(&world).await.catalogue.is_empty());
    repair_fully("a row", &world, RepairOptions::default()).await;
    assert!(check(&world).await.is_sound());
    check_hours("repaired", &*world.open().await, 0..3);
}

/// Before, a malformed catalogue ended the start with an error of SQLite and no way out.
#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_catalogue_is_rebuilt_from_what_is_left() {
    let world = world_of_hours(3).await;
    world.lose_catalogue().await;
    fs::write(world.path().join("catalogue.sqlite"), b"hello, I am text".repeat(400)).expect("it can be written");
    fs::remove_dir_all(world.log_dir()).expect("there is a log");
    let report = check(&world).await;
    assert!(report.catalogue[0].contains("store repair"), "{:?}", report.catalogue);
    let foreseen = repair(&world, RepairOptions { dry_run: true, ..RepairOptions::default() }).await;
    assert_eq!(foreseen.actions.len(), 1, "what comes after the catalogue can't be foreseen");
    let done = repair(&world, RepairOptions::default()).await;
    let (lost, others): (Vec<_>, Vec<_>) =
        done.actions.iter().partition(|action| matches!(action, Action::Remember { .. }));
    assert_eq!(others.len(), 1 + 3 + 1, "rebuilt, three adopted, the store's name: {done:?}");
    assert!(!lost.is_empty() && done.left.is_empty(), "{done:?}");
    let report = check(&world).await;
    assert!(report.is_sound(), "{report:?}");
    check_hours("rebuilt", &*world.open().await, 0..3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_names_what_is_wrong_with_each_file() {
    let world = world_of_hours(6).await;
    assert!(check(&world).await.is_sound());
    let path = async |hour| world.store_dir().join(record_of_hour(&world, hour).await.path);
    let edit = |path: &Path, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = fs::read(path).expect("the file can be read");
        change(&mut bytes);
        fs::write(path, bytes).expect("the file can be written");
    };
    edit(&path(1).await, &|bytes| bytes.truncate(100));
    edit(&path(2).await, &|bytes| bytes[4..600].fill(0xa5));
    fs::remove_file(path(3).await).expect("it can be removed");
    let before = everything_in(&world.store_dir());
    let report = check(&world).await;
    let mut found: Vec<_> = report.findings.iter().map(|finding| (&finding.path[..], &finding.trouble)).collect();
    found.sort_by_key(|(path, _)| *path);
    assert!(found[0].0.contains("hour=13") && found[1].0.contains("hour=14") && found[2].0.contains("hour=15"));
    let FileTrouble::Damaged(Readable::Nothing { .. }) = found[0].1 else { panic!("{found:?}") };
    let FileTrouble::Damaged(Readable::Part { lost_spans, .. }) = found[1].1 else { panic!("{found:?}") };
    assert_eq!(*lost_spans, record_of_hour(&world, 2).await.spans);
    assert_eq!(found[2].1, &FileTrouble::Missing);
    assert_eq!((report.files_whole, found.len()), (3, 3));
    let mut steps = Vec::new();
    let quick =
        check_store(&world.paths(), true, &mut |done, of| steps.push((done, of))).await.expect("it can be done");
    assert_eq!(quick.findings.len(), 2, "a quick check reads footers only");
    assert_eq!((steps.first(), steps.last()), (Some(&(0, 5)), Some(&(5, 5))));
    assert_eq!(everything_in(&world.store_dir()), before, "a check changes nothing");
}

/// A file that was set aside keeps answers over its hour partial as long as retention would have kept it; then it goes.
/// Before, answers were complete, and the file stayed on the disk for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_set_aside_counts_until_retention_ends_it() {
    let world = World::new();
    let retention = Duration::from_secs(24 * 3600);
    let config = StoreConfig { retention, ..world.config() };
    // A day before noon, so that the store is not a new one.
    world.clock.jump_wall_clock(-24 * HOUR);
    let store = world.open_with(config.clone()).await;
    world.clock.advance(retention);
    add_hours(&store, 0..3).await;
    let file =
        store.snapshot(&TenantId::default()).files.iter().find(|file| file.record.path.contains("hour=13")).cloned();
    let file = file.expect("the hour has a file");
    let path = world.store_dir().join(&file.record.path);
    let whole = fs::read(&path).expect("the file is there");
    fs::write(&path, &whole[..200]).expect("it can be written");
    assert!(file.open().is_err());
    until(&world, "it is set aside", || !unreadable(&store).is_empty()).await;
    for start in ["at once", "after a start"] {
        check_hours(start, &store, [0, 2]);
        assert_eq!(unreadable(&store), [(1, UnreadableReason::SetAside)], "{start}");
        store.shutdown().await.expect("the store stops");
        drop(world.open_with(config.clone()).await);
    }

    // Its bytes are right again: a copy was put back.
    let aside = path.with_extension("parquet.retired");
    let image = world.crash_image();
    fs::write(image.store_dir().join(aside.strip_prefix(world.store_dir()).expect("inside")), &whole).expect("written");
    repair_fully("taken back", &image, RepairOptions::default()).await;
    let back = image.open().await;
    check_hours("taken back", &back, 0..3);
    assert_eq!(unreadable(&back), []);

    let store = world.open_with(config.clone()).await;
    world.clock.advance(Duration::from_secs(26 * 3600));
    until(&world, "answers are whole again", || unreadable(&store).is_empty()).await;
    world.clock.advance(config.delete_grace);
    until(&world, "the file is gone", || !aside.exists()).await;
    until_async(&world, "its row is gone", async || {
        records(&world).await.iter().all(|record| record.id != file.record.id)
    })
    .await;
}

async fn until_async(world: &World, what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..600 {
        if holds().await {
            return;
        }
        world.clock.wake();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("in half a minute not: {what}");
}

/// A file is judged by its bytes: what the system can't do at the moment says nothing about it.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_machine_condemns_no_file() {
    let world = world_of_hours(3).await;
    let path = world.store_dir().join(record_of_hour(&world, 1).await.path);
    let kept = world.path().join("kept");
    fs::rename(&path, &kept).expect("it can be moved");
    // The system can't open a name so long, which says nothing about what bears it.
    std::os::unix::fs::symlink("long".repeat(100), &path).expect("a link can be made");
    let store = world.open().await;
    let file = snapshot(&store).files.iter().find(|file| file.open().is_err()).expect("one can't be opened").clone();
    let error = file.open().err().expect("it can't be opened").source;
    assert!(!file.check(&error), "it is not worth reading again now");
    store.compact().await.expect_err("the merge says what it can't read");
    store.shutdown().await.expect("the store stops");
    let left = repair(&world, RepairOptions::default()).await;
    assert_eq!((left.actions.len(), left.left.len()), (0, 1), "{left:?}");
    fs::rename(&kept, &path).expect("it can be moved back");
    check_hours("within reach", &*world.open().await, 0..3);
}

/// Two files that changed their names: each says whose it is. Before, both answered as the other.
#[tokio::test(flavor = "multi_thread")]
async fn swapped_files_get_their_names_back() {
    for set_aside_before in [false, true] {
        let world = world_of_hours(3).await;
        let [one, other] = [0, 2].map(async |hour| world.store_dir().join(record_of_hour(&world, hour).await.path));
        let (one, other, between) = (one.await, other.await, world.path().join("between"));
        fs::rename(&one, &between).expect("it can be renamed");
        fs::rename(&other, &one).expect("it can be renamed");
        fs::rename(&between, &other).expect("it can be renamed");
        if set_aside_before {
            let store = world.open().await;
            let files = snapshot(&store).files;
            assert_eq!(files.iter().filter(|file| file.open().is_err()).count(), 2, "both are noticed");
            until(&world, "both are set aside", || unreadable(&store).len() == 2).await;
            check_hours("the third", &store, 1..2);
            store.shutdown().await.expect("the store stops");
        } else {
            let report = check(&world).await;
            let is_swapped = |finding: &&FileFinding| matches!(finding.trouble, FileTrouble::WrongName { .. });
            assert_eq!(report.findings.iter().filter(is_swapped).count(), 2, "{report:?}");
        }
        repair_fully("swapped", &world, RepairOptions::default()).await;
        assert!(check(&world).await.is_sound());
        check_hours("swapped back", &*world.open().await, 0..3);
    }
}

/// Three files that changed their names in a circle, one of which was cut: the other two get their names back, and what is left of
/// the third its own. Before, the ruin kept the place of a whole file.
#[tokio::test(flavor = "multi_thread")]
async fn a_ruin_gives_way_to_the_file_whose_name_it_has() {
    for (changed, set_aside_before) in [(2, false), (2, true), (3, false), (3, true)] {
        let what = format!("{changed} files, set aside before: {set_aside_before}");
        let world = world_of_hours(4).await;
        let mut paths = Vec::new();
        for hour in 0..changed {
            paths.push(world.store_dir().join(record_of_hour(&world, hour).await.path));
        }
        let cut = fs::OpenOptions::new().write(true).open(&paths[0]).expect("it is there");
        cut.set_len(1_000).expect("it can be cut");
        let between = world.path().join("between");
        // Each gets the next one's name; the last one that of the ruin.
        let last = paths.len() - 1;
        fs::rename(&paths[last], &between).expect("it can be renamed");
        for at in (0..last).rev() {
            fs::rename(&paths[at], &paths[at + 1]).expect("it can be renamed");
        }
        fs::rename(&between, &paths[0]).expect("it can be renamed");
        if set_aside_before {
            let store = world.open().await;
            assert!(snapshot(&store).files.iter().filter(|file| file.open().is_err()).count() > 0, "{what}");
            until(&world, "they are set aside", || unreadable(&store).len() == paths.len()).await;
            store.shutdown().await.expect("the store stops");
        }
        let done = repair(&world, RepairOptions::default()).await;
        assert!(!done.actions.is_empty(), "{what}");
        let store = world.open().await;
        check_hours(&what, &store, 1..4);
        assert_eq!(unreadable(&store).len(), 1, "{what}: the ruin stays known");
        store.shutdown().await.expect("the store stops");
        let again = repair(&world, RepairOptions::default()).await;
        assert!(again.actions.is_empty(), "{what}: {again:?}");
    }
}

/// Before, a check without a catalogue said to look whether the folder can be written.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_without_a_catalogue_names_the_files() {
    let world = world_of_hours(3).await;
    for name in ["catalogue.sqlite", "catalogue.sqlite-wal", "catalogue.sqlite-shm"] {
        let _ = fs::remove_file(world.path().join(name));
    }
    let before = everything_in(world.path());
    let report = check(&world).await;
    assert!(report.catalogue[0].contains("there is no catalogue"), "{report:?}");
    let unknown = report.findings.iter().filter(|finding| finding.trouble == FileTrouble::Unknown);
    assert_eq!(unknown.count(), 3, "{report:?}");
    assert_eq!(everything_in(world.path()), before, "nothing is made");
}

/// A store in which two files were merged into a third, and its catalogue from before the merge.
async fn merged_world(deleted: bool) -> (World, Vec<u8>) {
    let world = World::new();
    let store = world.open().await;
    for half in spans_of_hour(0).chunks(25) {
        append(&store, batch_of(half)).await;
        store.flush().await.expect("the flush succeeds");
        world.clock.advance(Duration::from_secs(1));
    }
    add_hours(&store, 1..2).await;
    world.meddle(&[]).await;
    let old = fs::read(world.path().join("catalogue.sqlite")).expect("the catalogue is there");
    store.compact().await.expect("the merge succeeds");
    if deleted {
        world.clock.advance(world.config().delete_grace);
        until(&world, "the replaced files are gone", || world.files_ending_with(".retired").is_empty()).await;
    }
    store.shutdown().await.expect("the store stops");
    drop(store);
    fs::remove_dir_all(world.log_dir()).expect("there is a log");
    (world, old)
}

/// Before, the bytes of the live file were deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_live_file_under_the_name_of_a_replaced_one_is_not_deleted() {
    for repaired_before in [false, true] {
        check_a_live_file_under_the_name_of_a_replaced_one(repaired_before).await;
    }
}

async fn check_a_live_file_under_the_name_of_a_replaced_one(repaired_before: bool) {
    let (world, _) = merged_world(false).await;
    let is_live = |record: &FileRecord| record.retired.is_none() && record.path.contains("hour=13");
    let live = records(&world).await.into_iter().find(is_live).expect("the hour has a file");
    let live = world.store_dir().join(live.path);
    let (mut retired, between) = (world.files_ending_with(".retired"), world.path().join("between"));
    let (replaced, other) = (retired.remove(0), retired.remove(0));
    for (from, to) in [(&live, &between), (&replaced, &live), (&between, &replaced)] {
        fs::rename(from, to).expect("it can be renamed");
    }
    if repaired_before {
        repair(&world, RepairOptions::default()).await;
        check_hours("repaired before a start", &*world.open().await, 0..2);
        return;
    }
    let store = world.open().await;
    until(&world, "the other replaced file is deleted", || {
        world.clock.advance(world.config().delete_grace);
        !other.exists()
    })
    .await;
    store.shutdown().await.expect("the store stops");
    assert!(replaced.exists());
    repair(&world, RepairOptions::default()).await;
    check_hours("repaired", &*world.open().await, 0..2);
}

/// Without knowing what was merged into what, each span would be there twice after the repair.
#[tokio::test(flavor = "multi_thread")]
async fn merged_files_and_what_they_were_merged_from_are_not_both_adopted() {
    for deleted in [false, true] {
        for older in [false, true] {
            let what = format!("replaced files deleted: {deleted}, an older catalogue: {older}");
            let (world, old) = merged_world(deleted).await;
            world.lose_catalogue().await;
            if older {
                fs::write(world.path().join("catalogue.sqlite"), old).expect("it can be written");
            }
            if older && deleted {
                assert!(matches!(refused(&world).await, OpenError::FilesMissing { .. }), "{what}");
            }
            repair_fully(&what, &world, RepairOptions::default()).await;
            let store = world.open().await;
            check_hours(&what, &store, 0..2);
            let mut troubles = store.troubles();
            // The older catalogue is of a running store, whose log is gone.
            troubles.retain(|trouble| !older || !trouble.starts_with("the log ends"));
            assert_eq!((unreadable(&store), troubles), (vec![], vec![]), "{what}");
            store.compact().await.expect("the merge succeeds");
            check_hours(&what, &store, 0..2);
        }
    }
}

/// What is left of a damaged file is never merged, since a merge would throw the rest away; also after a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_known_to_be_damaged_is_not_merged_after_a_restart() {
    let (world, _) = merged_world(true).await;
    let store = world.open().await;
    append(&store, batch_of(&[plain_span(900, 900, 0, NOON)])).await;
    store.flush().await.expect("the flush succeeds");
    let record = records(&world).await.into_iter().find(|record| record.spans == 50 && record.path.contains("hour=12"));
    let record = record.expect("the merged file");
    let path = world.store_dir().join(&record.path);
    let mut bytes = fs::read(&path).expect("the file can be read");
    bytes[8] ^= 1;
    fs::write(&path, bytes).expect("the file can be written");
    let files = snapshot(&store).files;
    let file = files.iter().find(|file| file.record.id == record.id).expect("it is live");
    let open = file.open().expect("its footer is right");
    let error = open.read_rows(0, 0..50, Projection::All).err().expect("a page is damaged");
    assert!(file.check(&error), "what is left of it can be read");
    let lost = async || records(&world).await.iter().map(|record| record.lost_spans).sum::<u64>();
    until_async(&world, "the catalogue remembers it", async || lost().await > 0).await;
    store.shutdown().await.expect("the store stops");
    let store = world.open().await;
    store.compact().await.expect("the merge succeeds");
    assert!(snapshot(&store).files.iter().any(|file| file.record.id == record.id), "it stays as it is");
    store.shutdown().await.expect("the store stops");
    let report = check(&world).await;
    let [finding] = &report.findings[..] else { panic!("{report:?}") };
    assert!(matches!(finding.trouble, FileTrouble::Damaged(Readable::Part { .. })));
}

/// A store that was begun but never finished its first start goes on; so does one whose catalogue has no files to lose.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_may_be_interrupted_anywhere() {
    let marker = |world: &World| world.store_dir().join("STORE_ID");
    // The catalogue has the name, the folder has not.
    let world = World::new();
    world.open().await.shutdown().await.expect("the store stops");
    let name = fs::read(marker(&world)).expect("the folder has a name");
    fs::remove_dir_all(world.store_dir()).expect("it can be removed");
    world.open().await.shutdown().await.expect("the store stops");
    assert_eq!(fs::read(marker(&world)).expect("the folder has a name"), name);
    // The folder has it, the catalogue has not.
    world.lose_catalogue().await;
    world.open().await.shutdown().await.expect("the store stops");
    assert_eq!(fs::read(marker(&world)).expect("the folder has a name"), name);
    let store = world.open().await;
    add_hours(&store, 0..1).await;
    check_hours("it goes on", &store, 0..1);
}
