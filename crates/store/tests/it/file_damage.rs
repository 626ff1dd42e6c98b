//! A stored file that can't be read never stops the rest.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use tracehouse_catalogue::{Catalogue, FileRecord, RetirementReason};
use tracehouse_model::{AnyValue, Randomness, Span, SystemRandomness, TenantId, TraceId};
use tracehouse_spanfile::{NameList, Projection};
use tracehouse_store::{FileTrouble, Readable, RepairOptions, Snapshot, Store, WriteError, check_store};

use crate::dropped_commits::{repair, what_repair_says, what_repair_with_says};
use crate::spans::{HOUR, NOON, assert_same_spans, batch_of, by_key, key_of, plain_span};
use crate::world::{World, all_spans, append, readable_spans, tenant, until};

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
async fn a_file_without_a_readable_footer_is_set_aside_by_who_meets_it() {
    let damages: [(&str, Damage); 8] = [
        ("magic", |path, length| edit(path, |bytes| bytes[length - 1] ^= 1)),
        ("length of the footer", |path, length| edit(path, |bytes| bytes[length - 6] ^= 0x7f)),
        ("footer", |path, length| edit(path, |bytes| bytes[length - 60..length - 8].fill(0xff))),
        ("a bit of the name of a column", |path, _| {
            edit(path, |bytes| {
                let name = b"duration_nanos";
                let at = bytes.windows(name.len()).rposition(|window| window == name).expect("a footer");
                bytes[at] ^= 1;
            });
        }),
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

        let store = world.open().await;
        let readable = |store: &Store| -> Vec<Span> {
            store.snapshot(&TenantId::default()).files.iter().flat_map(readable_spans).collect()
        };
        assert_eq!(store.snapshot(&TenantId::default()).files.len(), 6, "{what}: a start opens no file");
        assert_same_spans(what, &readable(&store), &expected, 1);
        until(&world, "it is set aside", || store.snapshot(&TenantId::default()).files.len() == 5).await;
        assert!(!path.exists() && retired_name(&path).exists(), "{what}: hidden from a glob, but kept");
        let marked: Vec<_> = records(&world).await.into_iter().filter(|file| file.retired.is_some()).collect();
        assert_eq!(marked.len(), 1, "{what}");
        assert_eq!(marked[0].id, damaged.id);
        assert_eq!(marked[0].retired.as_ref().expect("marked").reason, RetirementReason::Damaged);
        store.shutdown().await.expect("the store stops");

        let store = world.open().await;
        store.compact().await.expect("the merge succeeds");
        assert_same_spans(what, &all_spans(&store.snapshot(&TenantId::default())), &expected, 1);
    }
}

/// Files that changed their names would give answers that nobody asked for: traces by their filters, hours by their paths.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_changed_names_are_noticed() {
    let world = world_of_three_hours().await;
    let records = records(&world).await;
    let path = |hour: &str| {
        let record = records.iter().find(|file| file.path.contains(hour)).expect("a file");
        world.store_dir().join(&record.path)
    };
    let (one, other, between) = (path("hour=12"), path("hour=13"), world.path().join("between"));
    fs::rename(&one, &between).expect("it can be moved");
    fs::rename(&other, &one).expect("it can be moved");
    fs::rename(&between, &other).expect("it can be moved");
    let store = world.open().await;
    let snapshot = store.snapshot(&TenantId::default());
    let errors: Vec<String> =
        snapshot.files.iter().filter_map(|file| Some(file.open().err()?.source.to_string())).collect();
    assert_eq!(errors.len(), 2);
    assert!(errors.iter().all(|error| error.contains("this is the file")), "{errors:?}");
    until(&world, "they are set aside", || store.snapshot(&TenantId::default()).files.len() == 4).await;
}

/// It may come back: the disk is not mounted, or somebody moved a folder.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_gone_is_not_condemned() {
    let world = world_of_three_hours().await;
    let gone = records(&world).await.into_iter().find(|file| file.path.contains("hour=13")).expect("a file");
    let (path, kept) = (world.store_dir().join(&gone.path), world.path().join("kept"));
    fs::rename(&path, &kept).expect("it can be moved");
    let store = world.open().await;
    let found: Vec<Span> = store.snapshot(&TenantId::default()).files.iter().flat_map(readable_spans).collect();
    assert_same_spans("the others", &found, &by_key(&spans_but(&[(1, 0)])), 1);
    fs::rename(&kept, &path).expect("it can be moved");
    let store = reopened(&world, store).await;
    until(&world, "it counts again", || store.snapshot(&TenantId::default()).unreadable.is_empty()).await;
    assert_same_spans("all", &all_spans(&store.snapshot(&TenantId::default())), &by_key(&spans_but(&[])), 1);
}

async fn reopened(world: &World, store: Arc<Store>) -> Arc<Store> {
    store.shutdown().await.expect("the store stops");
    drop(store);
    world.open().await
}

/// A file that can't be opened now may be opened later: too many files are open, a disk is away.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_out_of_reach_is_not_damaged() {
    let world = world_of_three_hours().await;
    let away = records(&world).await.into_iter().find(|file| file.path.contains("hour=13")).expect("a file");
    let path = world.store_dir().join(&away.path);
    let kept = world.path().join("kept");
    fs::rename(&path, &kept).expect("it can be moved");
    // The system can't open a name so long, which says nothing about what bears it.
    std::os::unix::fs::symlink("long".repeat(100), &path).expect("a link can be made");
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

/// One byte of one page of one column: the merge leaves the file as it is, and all rows of other pages are read.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_page_costs_what_it_holds() {
    let world = World::new();
    let store = world.open().await;
    let spans: Vec<Span> =
        (0..30_000).map(|number| plain_span(u128::from(number / 5) + 1, number + 1, 0, NOON + number as i64)).collect();
    append(&store, batch_of(&spans)).await;
    store.flush().await.expect("the flush succeeds");
    let store = reopened(&world, store).await;
    let damaged = records(&world).await.remove(0);
    let path = world.store_dir().join(&damaged.path);
    let page = {
        let metadata = metadata_of(&path);
        let durations =
            metadata.row_group(0).columns().iter().position(|column| column.column_path().string() == "duration_nanos");
        let pages =
            metadata.offset_index().expect("there is one")[0][durations.expect("a column")].page_locations().clone();
        assert!(pages.len() > 2);
        pages[1].clone()
    };
    edit(&path, |bytes| bytes[page.offset as usize + page.compressed_page_size as usize / 2] ^= 0x10);
    let report = store.compact().await.expect("the merge goes on without the file");
    assert_eq!((report.damaged, report.merges), (1, 0));
    let snapshot = store.snapshot(&TenantId::default());
    assert_eq!(snapshot.files.len(), 1, "it is still read");
    let found = readable_spans(&snapshot.files[0]);
    let open = snapshot.files[0].open().expect("its footer is right");
    let lost = open.unreadable_rows() as usize;
    assert!((1..spans.len() / 2).contains(&lost), "{lost} rows of a page are lost");
    assert_eq!(found.len(), spans.len() - lost);
    let expected: Vec<Span> = {
        let kept: std::collections::BTreeSet<_> = found.iter().map(key_of).collect();
        spans.into_iter().filter(|span| kept.contains(&key_of(span))).collect()
    };
    assert_same_spans("what is left", &found, &by_key(&expected), 1);
    assert!(path.exists());
    assert!(world.files_ending_with(".tmp").is_empty(), "the merge that failed left nothing behind");
    let said = format!("1 of 1 stored files: {lost} spans in them can't be read whole");
    assert!(store.troubles().iter().any(|trouble| trouble.contains(&said)), "{:?}", store.troubles());
    // Before, others were told of files that are none of theirs.
    store.append(tenant(1), batch_of(&[plain_span(9, 9, 0, NOON)])).await.expect("it is accepted");
    assert_eq!(store.troubles_shown_to(Some(&tenant(1))), Vec::<String>::new());
    let own = store.troubles_shown_to(Some(&TenantId::default()));
    assert!(own.iter().any(|trouble| trouble.contains(&said)), "{own:?}");
}

/// What stands beside the rows is checked, too. Before, a check called such a file whole, and an intact copy did not take its place.
#[tokio::test(flavor = "multi_thread")]
async fn a_check_finds_damage_beside_the_rows() {
    let world = world_of_three_hours().await;
    let damaged = records(&world).await.into_iter().find(|file| file.path.contains("hour=13")).expect("a file");
    let path = world.store_dir().join(&damaged.path);
    let intact = fs::read(&path).expect("the file can be read");
    let rows_end = {
        let columns = metadata_of(&path);
        let of_row_group = columns.row_groups().iter().flat_map(|row_group| row_group.columns().iter());
        of_row_group.map(|column| column.byte_range()).map(|(begin, bytes)| begin + bytes).max().expect("columns")
    };
    for (at, part) in [(1, "the mark at its beginning"), (rows_end as usize + 3, "the filter over trace ids")] {
        edit(&path, |file| file[at] ^= 0x10);
        let report = check_store(&world.paths(), false, &mut |_, _| {}).await.expect("the check can be done");
        let [finding] = &report.findings[..] else { panic!("{part}: {report:?}") };
        let FileTrouble::Damaged(Readable::Part { lost_spans: 0, what }) = &finding.trouble else {
            panic!("{finding:?}")
        };
        assert_eq!(what, part);
        fs::write(world.store_dir().join("copy.parquet"), &intact).expect("it can be written");
        repair(part, &world).await;
        assert_eq!(fs::read(&path).expect("the file can be read"), intact, "{part}: the copy takes its place");
        let report = check_store(&world.paths(), false, &mut |_, _| {}).await.expect("the check can be done");
        assert!(report.is_sound(), "{part}: {report:?}");
    }
}

/// Before, the row that a repair had made of the damaged file, which said that it has no spans, stayed the intact copy's: as soon as one
/// span of it had been sent again, all of it was taken for copies, and deleted.
#[tokio::test(flavor = "multi_thread")]
async fn an_intact_copy_of_a_file_that_nobody_knew_counts_as_it_is() {
    let hour = |first: u64| -> Vec<Span> {
        (first..first + 50).map(|number| plain_span(u128::from(number / 5) << 64 | 7, number, 0, NOON)).collect()
    };
    let (first, second, later) = (hour(1), hour(101), hour(201));
    for sent_again in [0, 1, 50, 100] {
        let what = format!("{sent_again} spans are sent again");
        let world = World::new();
        let store = world.open().await;
        append(&store, batch_of(&[first.clone(), second.clone()].concat())).await;
        store.flush().await.expect("the flush succeeds");
        store.shutdown().await.expect("the store stops");
        let [path] = &world.files_ending_with(".parquet")[..] else { panic!("a file") };
        let intact = fs::read(path).expect("the file can be read");
        let store = world.open().await;
        append(&store, batch_of(&later)).await;
        store.flush().await.expect("the log has nothing of the first file any more");
        store.shutdown().await.expect("the store stops");
        fs::write(path, &intact[..intact.len() / 2]).expect("it can be written");
        world.lose_catalogue().await;
        assert!(!what_repair_says(&what, &world).await.left.is_empty(), "{what}: it is set aside");
        let store = world.open().await;
        let again = [first.clone(), second.clone()].concat();
        if sent_again > 0 {
            append(&store, batch_of(&again[..sent_again])).await;
        }
        store.shutdown().await.expect("the store stops");
        fs::write(world.store_dir().join("copy.parquet"), &intact).expect("it can be written");
        repair(&what, &world).await;
        let store = world.open().await;
        let expected = by_key(&[again, later.clone()].concat());
        assert_same_spans(&what, &all_spans(&store.snapshot(&TenantId::default())), &expected, 1);
        let status = store.status(&TenantId::default());
        assert_eq!((status.spans_stored + status.spans_hot) as usize, expected.len(), "{what}");
        assert_eq!(store.troubles(), Vec::<String>::new(), "{what}");
    }
}

/// Before, nothing but retention cleared what it had left behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_set_aside_and_is_gone_can_be_forgotten() {
    let world = world_of_three_hours().await;
    let known = records(&world).await;
    let path = world.store_dir().join(&known[0].path);
    fs::write(&path, &fs::read(&path).expect("the file can be read")[..500]).expect("it can be written");
    what_repair_says("damaged", &world).await;
    for place in [path.clone(), retired_name(&path)] {
        let _ = fs::remove_file(place);
    }
    let said = what_repair_says("gone", &world).await;
    assert!(said.left.iter().any(|left| left.why.contains("--forget-missing drops it")), "{said:?}");
    let options = RepairOptions { forget_missing: true, ..RepairOptions::default() };
    let said = what_repair_with_says("forgotten", &world, options).await;
    assert!(said.left.is_empty(), "{said:?}");
    assert_eq!(records(&world).await.len(), known.len() - 1);
    assert_eq!(world.open().await.troubles(), Vec::<String>::new());
}

/// Before, a repair took it for a stored file of which nothing can be read, and answers stayed partial also once it was removed.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_file_of_ours_is_none_when_it_is_removed() {
    let world = world_of_three_hours().await;
    let known = records(&world).await;
    let path = world.store_dir().join(&known[0].path);
    let junk = path.with_file_name("backup-of-something.parquet");
    fs::write(&junk, &fs::read(&path).expect("the file can be read")[..500]).expect("it can be written");
    let said = what_repair_says("junk", &world).await;
    assert!(said.left.iter().any(|left| left.why.contains("its name is none of ours; remove it")), "{said:?}");
    assert_eq!(records(&world).await, known, "it is not listed");
    fs::remove_file(junk).expect("it is there");
    repair("removed", &world).await;
    assert_eq!(world.open().await.troubles(), Vec::<String>::new());
}

/// A page of a small file holds a column's values of all rows. Before, a repair set such a file aside although all other columns
/// could be read, and no status named it.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_column_leaves_the_others() {
    let world = world_of_three_hours().await;
    let damaged = records(&world).await.into_iter().find(|file| file.path.contains("hour=13")).expect("a file");
    let path = world.store_dir().join(&damaged.path);
    let (begin, bytes) = {
        let metadata = metadata_of(&path);
        let columns = metadata.row_group(0).columns();
        let flags = columns.iter().find(|column| column.column_path().string() == "flags").expect("a column");
        flags.byte_range()
    };
    edit(&path, |file| file[(begin + bytes / 2) as usize] ^= 0x10);
    let report = check_store(&world.paths(), false, &mut |_, _| {}).await.expect("the check can be done");
    let [finding] = &report.findings[..] else { panic!("{report:?}") };
    let FileTrouble::Damaged(Readable::Part { lost_spans, what }) = &finding.trouble else { panic!("{finding:?}") };
    assert_eq!((*lost_spans, &what[..]), (damaged.spans, "in the columns flags"));
    // Nothing mends it: it is named however often a repair runs. Before, the second one said that nothing had to be done.
    for actions in [1, 0] {
        let done = what_repair_says("a column is damaged", &world).await;
        let [left] = &done.left[..] else { panic!("{done:?}") };
        assert_eq!((done.actions.len(), &left.path), (actions, &damaged.path), "{done:?}");
        assert!(left.why.contains("can't be read whole (in the columns flags)"), "{}", left.why);
    }
    let store = world.open().await;
    let said = format!("1 of 6 stored files: {} spans in them can't be read whole", damaged.spans);
    assert!(store.troubles().iter().any(|trouble| trouble.contains(&said)), "{:?}", store.troubles());
    let files = store.snapshot(&TenantId::default()).files;
    assert_eq!(files.len(), 6, "none is set aside");
    let file = files.iter().find(|file| file.record.id == damaged.id).expect("it is live");
    let open = file.open().expect("its footer is right");
    let starts = open.read_rows(0, 0..open.rows_of(0), Projection::Only(&[])).expect("other columns can be read");
    assert_eq!(starts.len() as u64, damaged.spans);
}

/// A file of layout version 1, without checksums, is read as before, and merged into one that has them.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_version_1_is_read() {
    let world = World::with_data("tests/data/version-1");
    let store = world.open().await;
    let spans = all_spans(&store.snapshot(&TenantId::default()));
    assert_eq!(spans.len(), 40);
    store.compact().await.expect("the merge succeeds");
    let merged = store.snapshot(&TenantId::default());
    assert_eq!(merged.files.len(), 1);
    assert_same_spans("merged", &all_spans(&merged), &by_key(&spans), 1);
    let trace = spans[0].trace_id;
    let found = merged.files[0].open().expect("it opens").read_trace(trace, 100).expect("it can be read");
    assert_eq!(found.map(|spans| spans.len()), Some(8));
}

/// Files of layout version 2, without an index: what they say of themselves counts, and so do their checksums.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_version_2_is_read() {
    let world = World::with_data("tests/data/version-2");
    let store = world.open().await;
    let snapshot = store.snapshot(&TenantId::default());
    let spans = all_spans(&snapshot);
    assert_eq!((snapshot.files.len(), spans.len()), (2, 400));
    assert!(spans.iter().all(|span| span.name.starts_with("operation ") && span.attributes.len() == 3));
    assert_eq!(spans.iter().filter(|span| !span.events.is_empty()).count(), 133);
    for file in snapshot.files.iter() {
        let contents = file.contents().expect("the names can be read");
        assert_eq!(contents.services.values().map(Vec::len).collect::<Vec<_>>(), [7]);
        assert!(contents.lists_all_keys() && contents.lists_all(NameList::Services));
        let found = (1..=1000u128)
            .filter(|trace| file.may_contain(TraceId(trace.to_be_bytes())).expect("the filter can be read"));
        assert!((25..30).contains(&found.count()), "25 traces are inside, and few others seem to be");
    }
    let copy = World::with_data("tests/data/version-2");
    edit(&copy.store_dir().join(&snapshot.files[0].record.path), |bytes| bytes[100] ^= 1);
    let of_copy = copy.open().await.snapshot(&TenantId::default());
    let error = of_copy.files[0].open().and_then(|open| {
        open.read_rows(0, 0..200, Projection::All).map_err(|error| of_copy.files[0].read_error(error))
    });
    assert!(error.is_err(), "a flipped bit is noticed");
    store.compact().await.expect("the merge succeeds");
    let merged = store.snapshot(&TenantId::default());
    assert_eq!(merged.files.len(), 1);
    assert_same_spans("merged", &all_spans(&merged), &by_key(&spans), 1);
}

/// Files of layout version 3, whose columns are called as the keys: of keys that differ only in case too.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_version_3_is_read() {
    let world = World::with_data("tests/data/version-3");
    let store = world.open().await;
    let snapshot = store.snapshot(&TenantId::default());
    let spans = all_spans(&snapshot);
    assert_eq!((snapshot.files.len(), spans.len()), (2, 80));
    let numbers = |key: &str| -> Vec<i64> {
        let values = spans.iter().flat_map(|span| &span.attributes).filter(|(known, _)| known == key);
        let as_int = |value: &AnyValue| if let AnyValue::Int(number) = value { Some(*number) } else { None };
        let mut numbers: Vec<i64> = values.filter_map(|(_, value)| as_int(value)).collect();
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(numbers("userId"), (0..80).step_by(2).collect::<Vec<_>>());
    assert_eq!(numbers("userid"), (1..80).step_by(2).collect::<Vec<_>>());
    assert_eq!(numbers("Ä"), (0..80).collect::<Vec<_>>());
    let columns = |snapshot: &Snapshot| {
        let layout = snapshot.files[0].open().expect("it opens").layout().clone();
        layout.span.iter().map(|attribute| layout.span_column_name(&attribute.key)).collect::<Vec<_>>()
    };
    assert_eq!(columns(&snapshot), ["span.userId", "span.userid", "span.Ä"]);
    store.compact().await.expect("the merge succeeds");
    let merged = store.snapshot(&TenantId::default());
    assert_eq!(merged.files.len(), 1);
    assert_eq!(columns(&merged), ["span.user^Id", "span.userid"]);
    assert_same_spans("merged", &all_spans(&merged), &by_key(&spans), 1);
}

pub(crate) fn metadata_of(path: &Path) -> ParquetMetaData {
    let mut reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Required);
    reader.try_parse(&fs::File::open(path).expect("the file is there")).expect("the footer can be read");
    reader.finish().expect("the footer can be read")
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
            readable_spans(file);
            let Ok(open) = file.open() else { continue };
            open.read_trace(some_spans(1, 0)[0].trace_id, 100).expect("what can't be read is known");
        }
        match store.compact().await {
            Ok(_) | Err(WriteError::Damaged { .. }) => {}
            Err(error) => panic!("round {round}: {error:?}"),
        }
        // All that is read is right, and only the damaged file lacks spans.
        let all = by_key(&spans_but(&[]));
        let found: Vec<Span> = store.snapshot(&TenantId::default()).files.iter().flat_map(readable_spans).collect();
        let expected = found.iter().map(|span| (key_of(span), all[&key_of(span)].clone())).collect();
        assert_same_spans(&format!("round {round}"), &found, &expected, 1);
        let of_damaged: Vec<_> = some_spans(1, 0).iter().map(key_of).collect();
        let lost = all.keys().filter(|key| !expected.contains_key(*key));
        assert!(lost.clone().all(|key| of_damaged.contains(key)), "round {round}");
    }
}
