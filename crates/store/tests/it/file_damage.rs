//! A stored file that can't be read never stops the rest.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parquet::basic::Compression;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaDataReader};
use tracehouse_catalogue::{Catalogue, FileRecord, RetirementReason};
use tracehouse_model::{Randomness, Span, SystemRandomness, TenantId};
use tracehouse_store::{Projection, Readable, UnreadableReason, WriteError};

use crate::spans::{HOUR, NOON, assert_same_spans, batch_of, by_key, key_of, plain_span};
use crate::world::{World, all_spans, append};

/// Spans of one of three hours, so that each hour has files of its own.
fn some_spans(hour: u64, round: u64) -> Vec<Span> {
    let start = NOON + hour as i64 * HOUR;
    let id = |number: u64| hour * 100_000 + round * 1000 + number + 1;
    (0..200).map(|number| plain_span(u128::from(id(number / 5)), id(number), 0, start + number as i64)).collect()
}

async fn world_of_three_hours() -> World {
    let world = World::new();
    let store = world.open().await;
    for round in 0..2 {
        for hour in 0..3 {
            append(&store, batch_of(&some_spans(hour, round))).await;
        }
        store.flush().await.expect("the flush succeeds");
        // So that files are listed in the order of rounds.
        world.clock.advance(Duration::from_secs(1));
    }
    store.shutdown().await.expect("the store stops");
    world
}

fn spans_but(left_out: &[(u64, u64)]) -> Vec<Span> {
    let all = (0..3).flat_map(|hour| (0..2).map(move |round| (hour, round)));
    all.filter(|file| !left_out.contains(file)).flat_map(|(hour, round)| some_spans(hour, round)).collect()
}

async fn records(world: &World) -> Vec<FileRecord> {
    world.catalogue().await.load().await.expect("the catalogue can be read").files
}

fn retired_name(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.retired", path.display()))
}

type Damage = fn(&Path, usize);

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("the file can be read");
    change(&mut bytes);
    fs::write(path, bytes).expect("the file can be written");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_without_a_readable_footer_are_set_aside_when_they_are_read() {
    let damages: [(&str, Damage); 7] = [
        ("magic", |path, length| edit(path, |bytes| bytes[length - 1] ^= 1)),
        ("length of the footer", |path, length| edit(path, |bytes| bytes[length - 6] ^= 0x7f)),
        ("footer", |path, length| edit(path, |bytes| bytes[length - 60..length - 8].fill(0xff))),
        ("half of it", |path, length| edit(path, |bytes| bytes.truncate(length / 2))),
        ("a byte less", |path, length| edit(path, |bytes| bytes.truncate(length - 1))),
        ("nothing left", |path, _| edit(path, Vec::clear)),
        ("another file", |path, _| fs::write(path, "hello, I am text").expect("the file can be written")),
    ];
    for (what, damage) in damages {
        let world = world_of_three_hours().await;
        let damaged = records(&world).await.into_iter().find(|file| file.path.contains("hour=13")).expect("a file");
        let path = world.store_dir().join(&damaged.path);
        damage(&path, usize::try_from(damaged.bytes).expect("a small file"));
        let expected = by_key(&spans_but(&[(1, 0)]));

        for start in 0..2 {
            let store = world.open().await;
            let unreadable = || store.snapshot(&TenantId::default()).unreadable.len();
            if start == 0 {
                let files = store.snapshot(&TenantId::default()).files;
                assert_eq!((files.len(), unreadable()), (6, 0), "{what}: a start opens no file");
                let file = files.iter().find(|file| file.open().is_err()).expect("a reader meets it").clone();
                let judged = tokio::task::spawn_blocking({
                    let store = store.clone();
                    move || store.report_damage(&file)
                });
                let judged = judged.await.expect("no panic").expect("the catalogue is there");
                assert!(matches!(judged, Readable::Nothing { .. }), "{what}: {judged:?}");
            }
            let snapshot = store.snapshot(&TenantId::default());
            assert_eq!(snapshot.files.len(), 5, "{what}");
            let aside = &snapshot.unreadable[..];
            let [aside] = aside else { panic!("{what}: answers over its times are partial: {aside:?}") };
            assert_eq!((aside.reason, aside.spans), (UnreadableReason::SetAside, damaged.spans), "{what}");
            assert_same_spans(what, &all_spans(&snapshot), &expected, 1);
            assert!(!path.exists() && retired_name(&path).exists(), "{what}: hidden from a glob, but kept");
            let marked: Vec<_> = records(&world).await.into_iter().filter(|file| file.retired.is_some()).collect();
            assert_eq!(marked.len(), 1, "{what}");
            assert_eq!(marked[0].id, damaged.id);
            assert_eq!(marked[0].retired.as_ref().expect("marked").reason, RetirementReason::Damaged);
            store.shutdown().await.expect("the store stops");
        }
        let store = world.open().await;
        store.compact().await.expect("the merge succeeds");
        assert_same_spans(what, &all_spans(&store.snapshot(&TenantId::default())), &expected, 1);
        world.clock.advance(world.config().delete_grace * 2);
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert!(retired_name(&path).exists(), "{what}: a damaged file is never deleted");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_gone_is_marked() {
    let world = world_of_three_hours().await;
    let gone = records(&world).await.into_iter().find(|file| file.path.contains("hour=13")).expect("a file");
    fs::remove_file(world.store_dir().join(&gone.path)).expect("it can be removed");
    let store = world.open().await;
    let found = all_spans(&store.snapshot(&TenantId::default()));
    assert_same_spans("the others", &found, &by_key(&spans_but(&[(1, 0)])), 1);
}

/// A file that can't be opened now may be opened later: too many files are open, a disk is away.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_out_of_reach_is_not_damaged() {
    let world = world_of_three_hours().await;
    let away = records(&world).await.into_iter().find(|file| file.path.contains("hour=13")).expect("a file");
    let path = world.store_dir().join(&away.path);
    let kept = world.path().join("kept");
    fs::rename(&path, &kept).expect("it can be moved");
    // A link to itself can't be followed: an error of the system, not of the file.
    std::os::unix::fs::symlink(&path, &path).expect("a link can be made");
    let store = world.open().await;
    let snapshot = store.snapshot(&TenantId::default());
    assert_eq!(snapshot.files.len(), 6);
    let unreadable: Vec<_> = snapshot.files.iter().filter(|file| file.open().is_err()).collect();
    assert_eq!(unreadable.len(), 1);
    assert!(matches!(store.compact().await, Err(WriteError::Parquet(_))), "the merge says what it can't read");
    fs::rename(&kept, &path).expect("it can be moved back");
    store.compact().await.expect("the merge succeeds");
    let found = all_spans(&store.snapshot(&TenantId::default()));
    assert_same_spans("all", &found, &by_key(&spans_but(&[])), 1);
}

/// Damage that shows only when the rows are read: the merge that meets it goes on without the file.
#[tokio::test(flavor = "multi_thread")]
async fn files_with_unreadable_rows_are_set_aside_by_the_merge() {
    let world = world_of_three_hours().await;
    let damaged = records(&world).await.into_iter().find(|file| file.path.contains("hour=13")).expect("a file");
    let path = world.store_dir().join(&damaged.path);
    edit(&path, |bytes| bytes[4..600].fill(0xa5));
    let store = world.open().await;
    assert_eq!(store.snapshot(&TenantId::default()).files.len(), 6, "its footer is intact");
    store.compact().await.expect("the merge goes on without the file");
    let snapshot = store.snapshot(&TenantId::default());
    assert_eq!(snapshot.files.len(), 3);
    assert_same_spans("the others", &all_spans(&snapshot), &by_key(&spans_but(&[(1, 0)])), 1);
    assert!(!path.exists() && retired_name(&path).exists(), "hidden from a glob, but kept");
    assert!(world.files_ending_with(".tmp").is_empty(), "the merge that failed left nothing behind");
}

/// A flipped bit in a page is an error, not another value.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_pages_are_noticed() {
    let world = world_of_three_hours().await;
    let damaged = records(&world).await.into_iter().find(|file| file.path.contains("hour=13")).expect("a file");
    let path = world.store_dir().join(&damaged.path);
    let metadata = {
        let mut reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required);
        reader.try_parse(&fs::File::open(&path).expect("the file is there")).expect("the footer can be read");
        reader.finish().expect("the footer can be read")
    };
    let offsets = &metadata.offset_index().expect("there is one")[0];
    for (leaf, column) in metadata.row_group(0).columns().iter().enumerate() {
        if column.compression() == Compression::UNCOMPRESSED {
            continue;
        }
        let image = world.crash_image();
        let page = &offsets[leaf].page_locations()[0];
        let last_before_checksum = page.offset as usize + page.compressed_page_size as usize - 5;
        edit(&image.store_dir().join(&damaged.path), |bytes| bytes[last_before_checksum] ^= 0x10);
        let store = image.open().await;
        let snapshot = store.snapshot(&TenantId::default());
        let file = snapshot.files.iter().find(|file| file.record.id == damaged.id).expect("its footer is intact");
        let open = file.open().expect("its footer is intact");
        let rows = open.read_rows(0, 0..open.rows_of(0), Projection::All);
        assert!(rows.is_err(), "a flipped bit in {}", column.column_path());
    }
}

/// Bytes flipped anywhere: reading and merging may fail, but nothing panics, nothing hangs, and the rest stays whole.
#[tokio::test(flavor = "multi_thread")]
async fn flipped_bytes_anywhere_do_no_harm_to_the_rest() {
    let world = world_of_three_hours().await;
    let randomness = SystemRandomness::from_seed(7);
    let below = |limit: u64| (randomness.next_u64() % limit) as usize;
    for round in 0..60 {
        let image = world.crash_image();
        let damaged = records(&image).await.into_iter().find(|file| file.path.contains("hour=13")).expect("a file");
        let path = image.store_dir().join(&damaged.path);
        edit(&path, |bytes| {
            for _ in 0..=below(4) {
                let at = below(bytes.len() as u64);
                bytes[at] = bytes[at].wrapping_add(1 + below(255) as u8);
            }
        });
        let store = image.open().await;
        for file in store.snapshot(&TenantId::default()).files.iter() {
            let Ok(open) = file.open() else { continue };
            for row_group in 0..open.row_groups() {
                // An error or wrong values, but no panic.
                let _ = open.read_rows(row_group, 0..open.rows_of(row_group), Projection::All);
            }
            let _ = open.read_trace(some_spans(1, 0)[0].trace_id, 100);
        }
        match store.compact().await {
            Ok(_) | Err(WriteError::Damaged { .. }) => {}
            Err(error) => panic!("round {round}: {error:?}"),
        }
        // What the damaged file still gives may be wrong; nothing else may.
        let rest = (0..2).flat_map(|round| [some_spans(0, round), some_spans(2, round)].concat());
        let expected = by_key(&rest.collect::<Vec<_>>());
        let mut found = all_spans(&store.snapshot(&TenantId::default()));
        found.retain(|span| expected.contains_key(&key_of(span)));
        assert_same_spans(&format!("round {round}"), &found, &expected, 1);
    }
}
