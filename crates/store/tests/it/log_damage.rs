//! A damaged log gives back what is intact.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tracehouse_model::{AnyValue, Span, TenantId};
use tracehouse_store::check_store;

use crate::spans::{Key, NOON, assert_same_spans, batch_of, by_key, plain_span};
use crate::world::{World, all_spans, append, until_log_is_trimmed};

const HEADER_BYTES: usize = 20;
const MAGIC_BYTES: usize = 8;

fn some_spans(round: u64) -> Vec<Span> {
    (1..=10).map(|number| plain_span(u128::from(round) + 1, round * 100 + number, 0, NOON)).collect()
}

fn all_of(rounds: impl IntoIterator<Item = u64>) -> BTreeMap<Key, Span> {
    by_key(&rounds.into_iter().flat_map(some_spans).collect::<Vec<_>>())
}

/// A world whose log has a record for each of these rounds in one segment.
async fn world_with_records(rounds: u64) -> World {
    let world = World::new();
    let store = world.open().await;
    for round in 0..rounds {
        append(&store, batch_of(&some_spans(round))).await;
    }
    world.crash_image()
}

/// Where the records of a segment begin, and its end.
fn record_starts(segment: &[u8]) -> Vec<usize> {
    let mut starts = vec![MAGIC_BYTES];
    let mut at = MAGIC_BYTES;
    while at < segment.len() {
        let length = u32::from_le_bytes(segment[at..at + 4].try_into().expect("four bytes"));
        at += HEADER_BYTES + length as usize;
        starts.push(at);
    }
    assert_eq!(at, segment.len(), "the segment is whole");
    starts
}

fn damaged_copies(world: &World) -> usize {
    fs::read_dir(world.log_dir().join("damaged")).map_or(0, Iterator::count)
}

async fn check(what: &str, world: &World, expected: &BTreeMap<Key, Span>, damaged: usize) {
    let store = world.open().await;
    assert_same_spans(what, &all_spans(&store.snapshot(&TenantId::default())), expected, 1);
    assert_eq!(damaged_copies(world), damaged, "{what}: copies of damaged segments");
    // The log goes on behind what was recovered.
    append(&store, batch_of(&some_spans(900))).await;
    let image = world.crash_image();
    let mut with_new = expected.clone();
    with_new.extend(all_of([900]));
    let reopened = image.open().await;
    let found = all_spans(&reopened.snapshot(&TenantId::default()));
    assert_same_spans(&format!("{what}, and another crash"), &found, &with_new, 1);
    reopened.flush().await.expect("the flush succeeds");
    reopened.shutdown().await.expect("the store stops");
    let after_flush = image.open().await;
    let found = all_spans(&after_flush.snapshot(&TenantId::default()));
    assert_same_spans(&format!("{what}, flushed"), &found, &with_new, 1);
}

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("the segment can be read");
    change(&mut bytes);
    fs::write(path, bytes).expect("the segment can be written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_end_is_cut_off_and_is_no_damage() {
    let world = world_with_records(5).await;
    let segment = fs::read(&world.segments()[0]).expect("the segment can be read");
    let starts = record_starts(&segment);
    let last = starts[4];
    for end in [last + 1, last + 7, last + HEADER_BYTES, last + HEADER_BYTES + 1, segment.len() - 1] {
        let image = world.crash_image();
        change(&image.segments()[0], |bytes| bytes.truncate(end));
        // Crashes leave it, and damage of the disk may look alike: so whoever looks is told.
        let told = {
            let image = image.crash_image();
            let store = image.open().await;
            let said = format!("{} bytes were cut off the log's end, the beginning of record 5 ", end - last);
            store.troubles().iter().any(|trouble| trouble.contains(&said) && !trouble.contains("default"))
        };
        assert_eq!(told, end >= last + HEADER_BYTES, "cut at {end} of {}", segment.len());
        check(&format!("cut at {end} of {}", segment.len()), &image, &all_of(0..4), 0).await;
    }
    // Noise may have been a record once, so it is kept aside.
    let noise: Vec<u8> = (0..997u32).map(|at| (at * 31) as u8).collect();
    for (what, tail, kept) in [("zeros", vec![0; 4096], 0), ("noise", noise, 1)] {
        let image = world.crash_image();
        change(&image.segments()[0], |bytes| bytes.extend(&tail));
        check(what, &image, &all_of(0..5), kept).await;
    }
    for end in [0, 1, MAGIC_BYTES, MAGIC_BYTES + 1] {
        let image = world.crash_image();
        change(&image.segments()[0], |bytes| bytes.truncate(end));
        check(&format!("nothing but {end} bytes"), &image, &all_of(0..0), 0).await;
    }
}

/// Before, a check said nothing of what stands behind the last record, nor of what earlier starts kept aside.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_names_torn_ends_and_copies_of_what_could_not_be_read() {
    let checked = async |world: &World| {
        let report = check_store(&world.paths(), true, &mut |_, _| {}).await.expect("the check can be done");
        assert_eq!(report.is_sound(), report.log.is_empty(), "{report:?}");
        report.log
    };
    let world = world_with_records(5).await;
    assert_eq!(checked(&world).await, Vec::<String>::new());
    let segment = world.segments().swap_remove(0);
    change(&segment, |bytes| bytes.extend([7; 123]));
    let name = |path: &Path| path.file_name().expect("a name").to_string_lossy().into_owned();
    let said = checked(&world).await;
    assert!(said.len() == 1 && said[0].contains(&name(&segment)), "{said:?}");
    assert!(said[0].contains("the last 123 bytes") && said[0].contains("no header of a record"), "{said:?}");
    assert!(said[0].contains("The next start cuts them off"), "{said:?}");

    world.open().await.shutdown().await.expect("the store stops");
    let copies = fs::read_dir(world.log_dir().join("damaged")).expect("there is a copy");
    let copies: Vec<_> = copies.map(|entry| entry.expect("an entry").path()).collect();
    for _ in 0..2 {
        let said = checked(&world).await;
        assert!(said.len() == 1 && said[0].contains(&name(&copies[0])), "{said:?}");
        assert!(said[0].contains("123 bytes") && said[0].contains("Take it away"), "{said:?}");
    }
    for number in 0..30 {
        fs::write(world.log_dir().join(format!("damaged/{number}")), "x").expect("it can be written");
    }
    let said = checked(&world).await;
    assert!(said.len() == 21 && said[20].starts_with("11 more"), "{said:?}");
    fs::remove_dir_all(world.log_dir().join("damaged")).expect("it is there");
    assert_eq!(checked(&world).await, Vec::<String>::new());

    let world = world_with_records(5).await;
    let segment = world.segments().swap_remove(0);
    let starts = record_starts(&fs::read(&segment).expect("it is there"));
    change(&segment, |bytes| bytes.truncate(starts[4] + HEADER_BYTES + 50));
    let said = checked(&world).await;
    assert!(said[0].contains("the last 70 bytes") && said[0].contains("the beginning of record 5"), "{said:?}");
    assert!(said[0].contains("of tenant default"), "{said:?}");
}

/// What one start keeps aside of a segment is not written over by what a later one does.
#[tokio::test(flavor = "multi_thread")]
async fn copies_of_a_segment_are_kept_side_by_side() {
    let world = world_with_records(5).await;
    let segment = world.segments().swap_remove(0);
    let starts = record_starts(&fs::read(&segment).expect("it is there"));
    let kept = || {
        let entries = fs::read_dir(world.log_dir().join("damaged")).expect("there is a copy");
        entries.map(|entry| fs::read(entry.expect("an entry").path()).expect("it can be read")).collect::<Vec<_>>()
    };
    let mut damaged = Vec::new();
    for record in [1, 3] {
        change(&segment, |bytes| bytes[starts[record] + HEADER_BYTES + 9] ^= 1);
        damaged.push(fs::read(&segment).expect("it is there"));
        // As after a kill, what was replayed stays in the log. The second start meets the same again.
        for _ in 0..2 {
            drop(world.crash_image().open().await);
            let image = world.crash_image();
            drop(image.open().await);
            for entry in fs::read_dir(image.log_dir().join("damaged")).expect("there is a copy") {
                let entry = entry.expect("an entry");
                fs::create_dir_all(world.log_dir().join("damaged")).expect("it can be made");
                fs::copy(entry.path(), world.log_dir().join("damaged").join(entry.file_name()))
                    .expect("it can be copied");
            }
        }
        assert_eq!(kept().len(), damaged.len());
        assert!(damaged.iter().all(|segment| kept().contains(segment)), "each as it was found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_inside_costs_only_the_damaged_record() {
    let world = world_with_records(5).await;
    let segment = fs::read(&world.segments()[0]).expect("the segment can be read");
    let starts = record_starts(&segment);
    let middle = (starts[2] + starts[3]) / 2;
    // In the length, the checksums, the number, the body.
    for at in [starts[2], starts[2] + 3, starts[2] + 5, starts[2] + 9, starts[2] + 17, starts[2] + 20, middle] {
        let image = world.crash_image();
        change(&image.segments()[0], |bytes| bytes[at] ^= 0x40);
        check(&format!("byte {at} flipped"), &image, &all_of([0, 1, 3, 4]), 1).await;
    }
    let image = world.crash_image();
    change(&image.segments()[0], |bytes| bytes[3] ^= 1);
    check("the magic", &image, &all_of(0..5), 1).await;
    let image = world.crash_image();
    change(&image.segments()[0], |bytes| drop(bytes.drain(starts[2]..starts[3])));
    check("a record is gone without a trace", &image, &all_of([0, 1, 3, 4]), 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_segment_before_the_last_is_damage() {
    let world = world_with_records(3).await;
    let store = world.open().await;
    for round in 10..13 {
        append(&store, batch_of(&some_spans(round))).await;
    }
    let image = world.crash_image();
    let segments = image.segments();
    assert_eq!(segments.len(), 2, "each start begins a segment");
    change(&segments[0], |bytes| bytes.truncate(bytes.len() - 5));
    let intact = [0, 1, 10, 11, 12];
    check("the first of two is torn", &image, &all_of(intact), 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_files_in_the_folder_are_left_alone() {
    let world = world_with_records(3).await;
    for name in ["notes.txt", "notes.wal", ".wal", "0007.wal.bak"] {
        fs::write(world.log_dir().join(name), "not a segment").expect("a file can be written");
    }
    check("with strange files", &world, &all_of(0..3), 0).await;
    assert_eq!(fs::read_to_string(world.log_dir().join("notes.wal")).expect("still there"), "not a segment");
}

/// Segments are begun when the last is full, and removed when all in them stands in files.
/// Before, the log went on behind such a number, which has no next one: what was written then was cut off at the next start.
#[tokio::test(flavor = "multi_thread")]
async fn a_number_that_no_log_comes_to_names_no_segment() {
    for number in [u64::MAX, u64::MAX - 1, i64::MAX as u64] {
        let world = World::new();
        let stray = world.log_dir().join(format!("{number:020}-bbbbbbbbbbbbbbbb.wal"));
        let mut expected = BTreeMap::new();
        for round in 0..3u64 {
            let store = world.open().await;
            assert_eq!(store.troubles(), Vec::<String>::new(), "{number}");
            let spans: Vec<Span> =
                (1..=20).map(|own| plain_span(u128::from(round) + 1, round * 100 + own, 0, NOON)).collect();
            append(&store, batch_of(&spans)).await;
            expected.extend(by_key(&spans));
            let image = world.crash_image();
            let restarted = image.open().await;
            assert_same_spans("restarted", &all_spans(&restarted.snapshot(&TenantId::default())), &expected, 1);
            store.shutdown().await.expect("the store stops");
            fs::write(&stray, "").expect("it can be written");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_are_removed_after_a_flush() {
    let world = World::new();
    let store = world.open().await;
    let mut expected = BTreeMap::new();
    for round in 0..10u64 {
        // About 10 MiB each, so that a segment of 64 MiB fills.
        let spans: Vec<Span> = (0..10)
            .map(|number| {
                let mut span = plain_span(u128::from(round) + 1, round * 100 + number + 1, 0, NOON);
                let text = format!("{round} {number} ").repeat(256 * 1024);
                span.attributes.push(("text".into(), AnyValue::String(text)));
                span
            })
            .collect();
        append(&store, batch_of(&spans)).await;
        expected.extend(by_key(&spans));
    }
    assert!(world.segments().len() > 1, "the log went on in a new segment");
    let image = world.crash_image();
    assert_same_spans("hot", &all_spans(&store.snapshot(&TenantId::default())), &expected, 1);
    store.flush().await.expect("the flush succeeds");
    until_log_is_trimmed(&world).await;
    let reopened = image.open().await;
    assert_same_spans("from two segments", &all_spans(&reopened.snapshot(&TenantId::default())), &expected, 1);
    reopened.shutdown().await.expect("the store stops");
    let empty = image.open().await;
    assert_eq!(empty.status(&TenantId::default()).spans_hot, 0, "nothing is replayed that stands in files");
    assert_same_spans("from files", &all_spans(&empty.snapshot(&TenantId::default())), &expected, 1);
}
