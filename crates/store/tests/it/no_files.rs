//! Something else in the place of a file: nobody waits for it or reads it without end, it is named, and the rest goes on.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tracehouse_disk::Disk;
use tracehouse_model::{Span, SystemRandomness, TenantId};
use tracehouse_store::{FileTrouble, OpenError, RepairOptions, Store, UnreadableReason, check_store, repair_store};

use crate::spans::{HOUR, NOON, assert_same_spans, batch_of, by_key, plain_span};
use crate::world::{World, all_spans, append, until_in_time};

/// Puts something into the place of a file.
type Thing = (&'static str, fn(&Path));

const THINGS: [Thing; 6] = [
    ("a pipe", |path| mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).expect("can be made")),
    ("a device", |path| symlink("/dev/zero", path).expect("can be made")),
    ("a socket", |path| drop(UnixListener::bind(path).expect("can be made"))),
    ("a folder", |path| fs::create_dir(path).expect("can be made")),
    ("a link that leads in a circle", |path| symlink(path, path).expect("can be made")),
    ("a link that leads nowhere", |path| symlink("nothing", path).expect("can be made")),
];

fn kept(path: &Path) -> PathBuf {
    path.with_extension("kept")
}

/// Moves a file away and puts something into its place.
fn replace(path: &Path, put: fn(&Path)) {
    fs::rename(path, kept(path)).expect("it is there");
    put(path);
}

fn put_back(path: &Path) {
    if fs::symlink_metadata(path).is_ok_and(|found| found.is_dir()) {
        fs::remove_dir(path).expect("it is empty");
    } else {
        fs::remove_file(path).expect("it is there");
    }
    fs::rename(kept(path), path).expect("it was kept");
}

fn spans_of_hour(hour: u64) -> Vec<Span> {
    let id = |number: u64| hour * 1000 + number + 1;
    let start = NOON + hour as i64 * HOUR;
    (0..20).map(|number| plain_span(u128::from(id(number)), id(number), 0, start)).collect()
}

fn check_hours(what: &str, store: &Store, hours: impl IntoIterator<Item = u64>) {
    let expected: Vec<Span> = hours.into_iter().flat_map(spans_of_hour).collect();
    assert_same_spans(what, &all_spans(&store.snapshot(&TenantId::default())), &by_key(&expected), 1);
}

/// A world with a file for each of three hours, closed.
async fn three_files() -> World {
    let world = World::new();
    let store = world.open().await;
    for hour in 0..3 {
        append(&store, batch_of(&spans_of_hour(hour))).await;
        store.flush().await.expect("the flush succeeds");
    }
    store.shutdown().await.expect("the store stops");
    world
}

/// A world whose log has the spans of an hour in each of two segments.
async fn two_segments() -> World {
    let world = World::new();
    append(&*world.open().await, batch_of(&spans_of_hour(0))).await;
    let world = world.crash_image();
    append(&*world.open().await, batch_of(&spans_of_hour(1))).await;
    let world = world.crash_image();
    assert_eq!(world.segments().len(), 2);
    world
}

async fn try_open(world: &World) -> Result<std::sync::Arc<Store>, OpenError> {
    let catalogue = world.catalogue().await;
    world.try_open(world.config(), catalogue, world.clock.clone()).await
}

/// The error with all its causes.
fn told(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |cause| format!("{error}: {}", told(cause)))
}

async fn refused(world: &World) -> String {
    told(&try_open(world).await.err().expect("the store must not start"))
}

async fn log_findings(world: &World) -> Vec<String> {
    check_store(&world.paths(), false, &mut |_, _| {}).await.expect("the check can be done").log
}

/// Before, a pipe in the place of a segment made start and check wait for ever, and a device took all memory.
#[tokio::test(flavor = "multi_thread")]
async fn in_the_place_of_a_log_segment() {
    for (what, put) in THINGS {
        let world = two_segments().await;
        let segment = world.segments().swap_remove(1);
        replace(&segment, put);
        let words = [&*segment.to_string_lossy(), &format!("{what} stands there, and no file")].map(str::to_owned);
        for _ in 0..2 {
            let said = refused(&world).await;
            assert!(words.iter().all(|word| said.contains(word)), "{what}: {said}");
        }
        drop(world.catalogue().await);
        let found = log_findings(&world).await;
        assert!(found.len() == 1 && words.iter().all(|word| found[0].contains(word)), "{what}: {found:?}");
        put_back(&segment);
        check_hours(what, &*world.open().await, 0..2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_lies_elsewhere_is_read_through_its_link() {
    let world = two_segments().await;
    let segment = world.segments().swap_remove(0);
    let elsewhere = world.path().join("elsewhere");
    fs::rename(&segment, &elsewhere).expect("it can be moved");
    symlink(&elsewhere, &segment).expect("can be made");
    check_hours("through a link", &*world.open().await, 0..2);
}

#[tokio::test(flavor = "multi_thread")]
async fn in_the_place_of_the_stores_name() {
    for (what, put) in &THINGS[..4] {
        let world = three_files().await;
        let marker = world.store_dir().join("STORE_ID");
        replace(&marker, *put);
        let said = refused(&world).await;
        assert!(said.contains("STORE_ID") && said.contains(&format!("{what} stands there")), "{what}: {said}");
        put_back(&marker);
        check_hours(what, &*world.open().await, 0..3);
    }
}

/// Before, a segment was read as a whole, and this one would have taken all memory there is.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_segment_that_became_very_long() {
    const LONG_BYTES: u64 = 1 << 38;
    let world = two_segments().await;
    for segment in world.segments() {
        let file = fs::OpenOptions::new().write(true).open(segment).expect("it is there");
        file.set_len(LONG_BYTES).expect("it can be made longer");
    }
    check_hours("long segments", &*world.open().await, 0..2);
    let last = world.segments().swap_remove(1);
    assert!(fs::metadata(last).expect("it is there").len() < 1 << 20, "the zeros at the log's end are cut off");
    // Those in the middle of the log may have been records.
    let copies: Vec<_> = fs::read_dir(world.log_dir().join("damaged")).expect("there is a copy").collect();
    let [Ok(copy)] = &copies[..] else { panic!("one segment is kept aside: {copies:?}") };
    let copy = copy.metadata().expect("it is there");
    assert!(copy.len() <= 1 << 30, "no copy is larger than all of them may be");
    assert!(copy.blocks() * 512 < 1 << 21, "its zeros take no room");
}

/// Before, no status and no metric counted such a file, and nothing said what was in its place.
#[tokio::test(flavor = "multi_thread")]
async fn in_the_place_of_a_stored_file_at_a_start() {
    for (what, put) in THINGS {
        let world = three_files().await;
        let file = world.files_ending_with("parquet").swap_remove(1);
        replace(&file, put);
        let store = world.open().await;
        check_missing(what, &store);
        store.shutdown().await.expect("the store stops");
        drop(store);
        let report = check_store(&world.paths(), true, &mut |_, _| {}).await.expect("the check can be done");
        let [found] = &report.findings[..] else { panic!("{what}: {:?}", report.findings) };
        assert_eq!(found.trouble, FileTrouble::NoFile { what: what.to_owned() });
        let (options, randomness) = (RepairOptions::default(), Arc::new(SystemRandomness::from_seed(1)));
        let repaired = repair_store(
            &Disk::default(),
            &world.paths(),
            options,
            world.clock.clone(),
            randomness.clone(),
            &mut |_, _| {},
        )
        .await;
        let left = repaired.expect("the repair can be done").left;
        assert!(left.len() == 1 && left[0].why.starts_with(&format!("{what} is in its place")), "{left:?}");
        put_back(&file);
        let store = world.open().await;
        until_in_time(&world, "it was compared with the others", || is_whole(&store)).await;
        check_hours(what, &store, 0..3);
    }
}

fn is_whole(store: &Store) -> bool {
    store.troubles().is_empty() && store.snapshot(&TenantId::default()).unreadable.is_empty()
}

/// The same for a file that was there at the start, once somebody asks for it.
#[tokio::test(flavor = "multi_thread")]
async fn in_the_place_of_a_stored_file_while_the_store_runs() {
    let gone: Thing = ("nothing", |_| {});
    for (what, put) in THINGS.into_iter().chain([gone]) {
        let world = three_files().await;
        let store = world.open().await;
        let file = world.files_ending_with("parquet").swap_remove(1);
        replace(&file, put);
        assert_eq!(store.troubles(), Vec::<String>::new(), "nobody has looked yet");
        let asked = store.snapshot(&TenantId::default());
        assert_eq!(asked.files.iter().filter(|file| file.open().is_err()).count(), 1, "{what}");
        let is_missing = || store.troubles().iter().any(|trouble| trouble.contains("is missing"));
        until_in_time(&world, "the file counts as missing", is_missing).await;
        check_missing(what, &store);
        if what == "nothing" {
            fs::rename(kept(&file), &file).expect("it was kept");
        } else {
            put_back(&file);
        }
        until_in_time(&world, "the file is read again", || is_whole(&store)).await;
        check_hours(what, &store, 0..3);
        assert!(store.snapshot(&TenantId::default()).unreadable.is_empty());
    }
}

fn check_missing(what: &str, store: &Store) {
    let said = store.troubles();
    let is_missing = "1 stored file that the catalogue lists is missing";
    assert!(said.len() == 1 && said[0].starts_with(is_missing), "{what}: {said:?}");
    let snapshot = store.snapshot(&TenantId::default());
    let [unreadable] = &snapshot.unreadable[..] else { panic!("{what}: {:?}", snapshot.unreadable) };
    assert_eq!((unreadable.spans, unreadable.reason), (20, UnreadableReason::Missing), "{what}");
    let lost = ((unreadable.start_min - NOON) / HOUR) as u64;
    check_hours(what, store, (0..3).filter(|hour| *hour != lost));
}

/// A server that is told to run the command that it has just run learns nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_repair_without_the_files_says_what_else_to_do() {
    let world = three_files().await;
    fs::rename(world.store_dir(), world.path().join("elsewhere")).expect("it can be moved");
    for is_empty_folder in [false, true] {
        if is_empty_folder {
            fs::create_dir(world.store_dir()).expect("can be made");
        }
        let (options, randomness) = (RepairOptions::default(), Arc::new(SystemRandomness::from_seed(1)));
        let repaired = repair_store(
            &Disk::default(),
            &world.paths(),
            options,
            world.clock.clone(),
            randomness.clone(),
            &mut |_, _| {},
        )
        .await;
        let said = told(&repaired.expect_err("there is nothing to repair"));
        assert!(said.contains("Mount the disk") && said.contains("repair --forget-missing"), "{said}");
        assert_eq!(said.matches("store repair").count(), 1, "{said}");
    }
}
