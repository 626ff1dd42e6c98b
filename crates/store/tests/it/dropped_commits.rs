//! SQLite reads its write-ahead log up to the first damaged frame, so one bit there takes back all commits from it on: additions,
//! replacements and deletions of files, and how far the log has come. Whatever is taken back, answers hold each span once, and
//! say so if they lack one.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracehouse_catalogue::{Catalogue, SqliteCatalogue};
use tracehouse_disk::Disk;
use tracehouse_model::{Span, SystemRandomness, TenantId};
use tracehouse_store::{OpenError, RepairOptions, RepairReport, Store, repair_store};

use crate::spans::{HOUR, Key, NOON, assert_same_spans, batch_of, by_key, key_of, plain_span};
use crate::world::{World, append, file_spans, hot_spans, until};

/// Of the format of SQLite's write-ahead log: <https://www.sqlite.org/fileformat.html#the_write_ahead_log>.
const WAL_HEADER_BYTES: usize = 32;
const FRAME_HEADER_BYTES: usize = 24;
/// So many frames are damaged, each in a run of its own.
const FRAMES_MAX: usize = 24;

/// Spans of one of four hours; each number has its own.
fn spans_of(number: u64) -> Vec<Span> {
    let start = NOON + (number % 4) as i64 * HOUR;
    let id = |span: u64| number * 1000 + span + 1;
    (0..20).map(|span| plain_span(u128::from(id(span / 5)), id(span), 0, start + span as i64)).collect()
}

struct Lived {
    world: World,
    sent: Vec<Span>,
}

async fn send(store: &Store, sent: &mut Vec<Span>, numbers: std::ops::Range<u64>) {
    for number in numbers {
        append(store, batch_of(&spans_of(number))).await;
        sent.extend(spans_of(number));
    }
}

/// A store that flushed, merged and deleted several times, as a crash leaves it: most of it is in SQLite's log.
async fn store_that_lived() -> Lived {
    let world = World::new();
    let store = world.open().await;
    let mut sent = Vec::new();
    for round in 0..3 {
        for part in 0..3 {
            let first = round * 100 + part * 4;
            send(&store, &mut sent, first..first + 4).await;
            // Some come twice.
            append(&store, batch_of(&spans_of(first))).await;
            store.flush().await.expect("the flush succeeds");
            world.clock.advance(Duration::from_secs(1));
        }
        store.compact().await.expect("the merge succeeds");
        if round == 0 {
            world.clock.advance(world.config().delete_grace);
            until(&world, "the replaced files are gone", || world.files_ending_with(".retired").is_empty()).await;
        }
    }
    // These are in the log alone.
    send(&store, &mut sent, 900..904).await;
    Lived { world: world.crash_image(), sent }
}

fn beside(world: &World) -> PathBuf {
    world.path().join("catalogue.sqlite-wal")
}

/// A place in each region of SQLite's log: in its header, and in header and page of each frame.
fn places(wal: &[u8]) -> Vec<usize> {
    let page_bytes = u32::from_be_bytes([wal[8], wal[9], wal[10], wal[11]]) as usize;
    let frame_bytes = FRAME_HEADER_BYTES + page_bytes;
    let mut places: Vec<usize> = (0..WAL_HEADER_BYTES).step_by(4).collect();
    let frames: Vec<usize> = (WAL_HEADER_BYTES..wal.len()).step_by(frame_bytes).collect();
    for (number, frame) in frames.iter().step_by(frames.len().div_ceil(FRAMES_MAX)).enumerate() {
        // Page number, length after a commit, salts, checksum; then somewhere in the page.
        let inside = [3, 7, 11, 19, FRAME_HEADER_BYTES + page_bytes / 2, frame_bytes - 1];
        places.push(frame + inside[number % inside.len()]);
    }
    places.retain(|place| *place < wal.len());
    places
}

/// Each span at most once and as it was sent, and all of them unless the answer says that some are missing. Returns how many are.
fn check_answer(what: &str, store: &Store, sent: &[Span]) -> usize {
    let snapshot = store.snapshot(&TenantId::default());
    let mut found = hot_spans(&snapshot);
    found.extend(snapshot.files.iter().flat_map(file_spans));
    let keys: BTreeSet<Key> = found.iter().map(key_of).collect();
    let mut expected = by_key(sent);
    let all = expected.len();
    expected.retain(|key, _| keys.contains(key));
    assert_same_spans(what, &found, &expected, 1);
    let missing = all - expected.len();
    let is_partial = !snapshot.unreadable.is_empty();
    assert!(missing == 0 || is_partial, "{what}: {missing} spans are missing, and nothing says so");
    missing
}

pub(crate) async fn repair(what: &str, world: &World) {
    let done = what_repair_says(what, world).await;
    assert!(done.left.is_empty(), "{what}: {done:?}");
}

pub(crate) async fn what_repair_says(what: &str, world: &World) -> RepairReport {
    what_repair_with_says(what, world, RepairOptions::default()).await
}

pub(crate) async fn what_repair_with_says(what: &str, world: &World, options: RepairOptions) -> RepairReport {
    let (clock, randomness) = (world.clock.clone(), Arc::new(SystemRandomness::from_seed(1)));
    let done = repair_store(&Disk::default(), &world.paths(), options, clock, randomness, &mut |_, _| {}).await;
    done.unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// Starts, works, stops and repairs. Returns how many spans the first answer lacked; `None`: the start was refused.
async fn live_on(what: &str, world: &World, sent: &[Span]) -> Option<usize> {
    let opened = SqliteCatalogue::open(&world.paths().catalogue).await;
    let started = match opened {
        Ok(catalogue) => {
            let started = world.try_open(world.config(), catalogue.clone(), world.clock.clone()).await;
            (started, Some(catalogue))
        }
        Err(error) => (Err(error.into()), None),
    };
    let lacked = match started {
        (Ok(store), catalogue) => {
            let lacked = check_answer(what, &store, sent);
            store.flush().await.expect("the flush succeeds");
            store.compact().await.expect("the merge succeeds");
            check_answer(&format!("{what}, merged"), &store, sent);
            store.shutdown().await.expect("the store stops");
            drop(store);
            catalogue.expect("it was opened").close().await;
            Some(lacked)
        }
        (Err(error), catalogue) => {
            let is_named = matches!(error, OpenError::FilesMissing { .. } | OpenError::Catalogue(_));
            assert!(is_named && error.to_string().contains("repair"), "{what}: {error:?}");
            if let Some(catalogue) = catalogue {
                catalogue.close().await;
            }
            None
        }
    };
    repair(what, world).await;
    let store = world.open().await;
    assert_eq!(check_answer(&format!("{what}, repaired"), &store, sent), 0, "{what}: a repair brings all back");
    store.shutdown().await.expect("the store stops");
    world.close_catalogues().await;
    lacked
}

/// With the store's own log, which brings all back, and without: then it shows what the files alone tell.
#[tokio::test(flavor = "multi_thread")]
async fn commits_that_are_taken_back_are_told() {
    let Lived { world, mut sent } = store_that_lived().await;
    let wal = fs::read(beside(&world)).expect("SQLite's log is there");
    let (mut whole, mut partial, mut refused, mut lengths) = (0, 0, 0, BTreeSet::new());
    for has_log in [true, false] {
        if !has_log {
            fs::remove_dir_all(world.log_dir()).expect("there is a log");
            sent.truncate(sent.len() - spans_of(0).len() * 4);
        }
        for place in places(&wal) {
            let world = world.crash_image();
            let mut damaged = wal.clone();
            damaged[place] ^= 1 << (place % 8);
            fs::write(beside(&world), damaged).expect("it can be written");
            let what = format!("byte {place} of {}, with the store's log: {has_log}", wal.len());
            if let Ok(catalogue) = SqliteCatalogue::open_read_only(&world.crash_image().paths().catalogue).await {
                lengths.insert(catalogue.load().await.expect("it can be read").files.len());
            }
            match live_on(&what, &world, &sent).await {
                Some(0) => whole += 1,
                Some(_) => partial += 1,
                None => refused += 1,
            }
        }
    }
    assert!(lengths.len() > 4, "many catalogues were tried: {lengths:?}");
    assert!(whole > 0 && partial > 0 && refused > 0, "{whole} whole, {partial} partial, {refused} refused");
}
