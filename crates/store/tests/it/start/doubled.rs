//! Spans that were stored a second time while the file that has them was missing, out of reach, or unknown to the catalogue:
//! each counts once as soon as the file counts again.

use parking_lot::Mutex;
use tracehouse_model::AnyValue;
use tracehouse_store::Snapshots;

use super::*;
use crate::file_damage::metadata_of;
use crate::world::{WatchedCatalogue, readable_spans, until_in_time};

/// Every row that SQL and series would count.
fn rows(store: &Store) -> u64 {
    let snapshot = snapshot(store);
    let hot: usize = snapshot.hot.iter().map(|batch| batch.spans.len()).sum();
    hot as u64 + snapshot.files.iter().map(|file| file.record.spans).sum::<u64>()
}

fn check_rows(what: &str, store: &Store, expected: &[Span]) {
    assert_eq!(rows(store), expected.len() as u64, "{what}");
    assert_same_spans(what, &all_spans(&snapshot(store)), &by_key(expected), 1);
}

fn left_out(report: &RepairReport) -> u64 {
    let of = |action: &Action| if let Action::LeaveOutCopies { spans, .. } = action { *spans } else { 0 };
    report.actions.iter().map(of).sum()
}

/// A store that lost its catalogue and was started before it was repaired: what the log still held was written once more, and
/// so was what was sent again.
#[tokio::test(flavor = "multi_thread")]
async fn a_repair_after_a_start_doubles_nothing() {
    for (has_log, again) in [(true, 0..0), (false, 0..3), (false, 2..5)] {
        let what = format!("with the log: {has_log}, hours {again:?} again");
        let world = world_of_hours(4).await;
        world.lose_catalogue().await;
        if !has_log {
            fs::remove_dir_all(world.log_dir()).expect("there is a log");
        }
        let store = world.open().await;
        add_hours(&store, again.clone()).await;
        // Some are in the log alone.
        append(&store, batch_of(&spans_of_hour(3)[..20])).await;
        let world = world.crash_image();
        let hours_twice = if has_log { 4 } else { again.clone().filter(|hour| *hour < 4).count() as u64 };
        let done = repair_fully(&what, &world, RepairOptions::default()).await;
        assert_eq!(left_out(&done), 50 * hours_twice, "{what}: {done:?}");
        let store = world.open().await;
        let expected = spans_of_hours(0..again.end.max(4));
        check_rows(&what, &store, &expected);
        store.flush().await.expect("the flush succeeds");
        check_rows(&what, &store, &expected);
        store.shutdown().await.expect("the store stops");
        assert!(check(&world).await.is_sound(), "{what}");
        check_rows(&what, &*world.open().await, &expected);
    }
}

/// Only what others hold leaves a file; another span under the same ids stays.
#[tokio::test(flavor = "multi_thread")]
async fn an_adopted_file_keeps_what_no_other_has() {
    let world = world_of_hours(1).await;
    world.lose_catalogue().await;
    fs::remove_dir_all(world.log_dir()).expect("there is a log");
    let store = world.open().await;
    let mut sent: Vec<Span> = spans_of_hour(0).into_iter().step_by(3).collect();
    let copies = sent.len() as u64;
    let mut other = spans_of_hour(0)[1].clone();
    other.attributes.push(("retry".into(), AnyValue::Int(1)));
    sent.push(other.clone());
    append(&store, batch_of(&sent)).await;
    store.shutdown().await.expect("the store stops");
    let done = repair_fully("adopted", &world, RepairOptions::default()).await;
    assert_eq!(left_out(&done), copies);
    let store = world.open().await;
    assert_eq!(rows(&store), 51);
    store.compact().await.expect("the merge succeeds");
    assert_eq!(rows(&store), 51);
    let of_id = all_spans(&snapshot(&store)).into_iter().filter(|span| span.span_id == other.span_id);
    let mut attributes: Vec<usize> = of_id.map(|span| span.attributes.len()).collect();
    attributes.sort_unstable();
    assert_eq!(attributes, [other.attributes.len() - 1, other.attributes.len()]);
}

/// Sent again while the file was missing: also when the server is stopped before the file comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_file_that_comes_back_doubles_nothing() {
    for (again, back_while_running) in [(50, true), (20, true), (50, false), (20, false)] {
        let what = format!("{again} of 50 sent again, back while running: {back_while_running}");
        let world = world_of_hours(3).await;
        let path = world.store_dir().join(record_of_hour(&world, 1).await.path);
        let kept = world.path().join("kept");
        fs::rename(&path, &kept).expect("it can be moved");
        let mut store = world.open().await;
        append(&store, batch_of(&spans_of_hour(1)[..again])).await;
        store.flush().await.expect("the flush succeeds");
        // A query has looked at these before the file is back.
        append(&store, batch_of(&spans_of_hour(1)[..again + (50 - again) / 2])).await;
        assert_eq!(rows(&store), 100 + again as u64 + (50 - again as u64) / 2, "{what}");
        if !back_while_running {
            store.shutdown().await.expect("the store stops");
        }
        fs::rename(&kept, &path).expect("it can be moved back");
        if !back_while_running {
            store = world.open().await;
        }
        check_when_let_in(&what, &world, &store, &spans_of_hours(0..3)).await;
        store.flush().await.expect("the flush succeeds");
        check_rows(&what, &store, &spans_of_hours(0..3));
        store.shutdown().await.expect("the store stops");
        let store = world.open().await;
        assert_eq!(unreadable(&store), [], "{what}: it is compared once");
        check_rows(&what, &store, &spans_of_hours(0..3));
        store.shutdown().await.expect("the store stops");
        assert!(check(&world).await.is_sound(), "{what}");
    }
}

/// A repair compares what a server has not compared yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_repair_compares_what_came_back() {
    let world = world_of_hours(3).await;
    let path = world.store_dir().join(record_of_hour(&world, 1).await.path);
    let kept = world.path().join("kept");
    fs::rename(&path, &kept).expect("it can be moved");
    let store = world.open().await;
    add_hours(&store, 1..2).await;
    store.shutdown().await.expect("the store stops");
    fs::rename(&kept, &path).expect("it can be moved back");
    let done = repair_fully("back", &world, RepairOptions::default()).await;
    assert!(matches!(&done.actions[..], [Action::LeaveOutCopies { spans: 50, .. }]), "{done:?}");
    let store = world.open().await;
    assert_eq!(unreadable(&store), []);
    check_rows("back", &store, &spans_of_hours(0..3));
}

/// Puts a socket in the place of a file: it is there and can't be opened, which is not its fault. Returns where it is kept.
fn put_out_of_reach(world: &World, path: &Path) -> PathBuf {
    let kept = world.path().join("kept");
    fs::rename(path, &kept).expect("it can be moved");
    // The system can't open a name so long, which says nothing about what bears it.
    std::os::unix::fs::symlink("long".repeat(100), path).expect("a link can be made");
    kept
}

async fn check_when_let_in(what: &str, world: &World, store: &Store, expected: &[Span]) {
    until_in_time(world, "the file counts again", || {
        assert!(rows(store) <= expected.len() as u64, "{what}: never more than there are");
        unreadable(store).is_empty()
    })
    .await;
    check_rows(what, store, expected);
}

/// A file that can't be read while its spans are sent again: a flush can't tell, so the file does not count until it was
/// compared, also if the server ends before.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_out_of_reach_during_a_flush_doubles_nothing() {
    let world = world_of_hours(3).await;
    let record = record_of_hour(&world, 1).await;
    let path = world.store_dir().join(&record.path);
    let store = world.open().await;
    let kept = put_out_of_reach(&world, &path);
    append(&store, batch_of(&spans_of_hour(1)[..30])).await;
    store.flush().await.expect("the flush succeeds");
    assert_eq!(unreadable(&store), [(1, UnreadableReason::HeldBack)]);
    assert_eq!(rows(&store), 130);
    until(&world, "it is said", || store.troubles().iter().any(|trouble| trouble.contains(&record.id))).await;
    fs::remove_file(&path).expect("the socket is there");
    let crashed = world.crash_image();
    fs::copy(&kept, crashed.store_dir().join(&record.path)).expect("it can be put back");
    let after_crash = crashed.open().await;
    check_when_let_in("after a crash", &crashed, &after_crash, &spans_of_hours(0..3)).await;
    fs::rename(&kept, &path).expect("it can be put back");
    check_when_let_in("while running", &world, &store, &spans_of_hours(0..3)).await;
    assert_eq!(store.troubles(), Vec::<String>::new());
}

/// What a query could not compare with a file is not taken for known.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_out_of_reach_of_a_query_is_held_back() {
    let world = world_of_hours(2).await;
    let store = world.open().await;
    let path = world.store_dir().join(record_of_hour(&world, 1).await.path);
    let kept = put_out_of_reach(&world, &path);
    append(&store, batch_of(&spans_of_hour(1))).await;
    // Of the first answer too: it may be within reach a moment later.
    assert_eq!(unreadable(&store), [(1, UnreadableReason::HeldBack)]);
    until(&world, "it is held back", || !store.snapshot_as_sent(&TenantId::default()).unreadable.is_empty()).await;
    assert_eq!(rows(&store), 100, "the spans in memory count");
    fs::rename(&kept, &path).expect("it can be put back");
    check_when_let_in("within reach", &world, &store, &spans_of_hours(0..2)).await;
}

/// Of two files that hold the same spans the damaged one stays as it is: writing it anew would throw the rest away.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_that_comes_back_is_not_written_anew() {
    let world = World::new();
    let spans: Vec<Span> =
        (0..20_000).map(|number| plain_span(u128::from(number / 5) + 1, number + 1, 0, NOON + number as i64)).collect();
    let store = world.open().await;
    append(&store, batch_of(&spans)).await;
    store.flush().await.expect("the flush succeeds");
    add_hours(&store, 1..2).await;
    store.shutdown().await.expect("the store stops");
    let record = record_of_hour(&world, 0).await;
    let path = world.store_dir().join(&record.path);
    let kept = world.path().join("kept");
    fs::rename(&path, &kept).expect("it can be moved");
    let store = world.open().await;
    append(&store, batch_of(&spans)).await;
    append(&store, batch_of(&[plain_span(77_777, 77_777, 0, NOON + 5)])).await;
    store.shutdown().await.expect("the store stops");

    let metadata = metadata_of(&kept);
    let columns = metadata.row_group(0).columns();
    let durations = columns.iter().position(|column| column.column_path().string() == "duration_nanos");
    let page = &metadata.offset_index().expect("there is one")[0][durations.expect("a column")].page_locations()[0];
    let mut bytes = fs::read(&kept).expect("it is there");
    bytes[page.offset as usize + page.compressed_page_size as usize / 2] ^= 0x10;
    fs::write(&path, bytes).expect("it can be written");
    let store = world.open().await;
    until_in_time(&world, "it counts again", || unreadable(&store).is_empty()).await;
    let files = snapshot(&store).files;
    let file = files.iter().find(|file| file.record.id == record.id).expect("it counts as it is");
    let lost = file.open().expect("it opens").unreadable_rows();
    assert!((1..20_000).contains(&lost), "{lost} spans of it can't be read");
    let found: Vec<Span> = files.iter().flat_map(readable_spans).collect();
    let mut expected = spans;
    expected.push(plain_span(77_777, 77_777, 0, NOON + 5));
    expected.extend(spans_of_hour(1));
    assert_same_spans("the others still have what it lost", &found, &by_key(&expected), 1);
}

/// A crash around the commit that puts a file in the place of another.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_while_a_file_is_let_in_doubles_and_loses_nothing() {
    for again in [20, 50] {
        let world = Arc::new(world_of_hours(2).await);
        let path = world.store_dir().join(record_of_hour(&world, 1).await.path);
        let kept = world.path().join("kept");
        fs::rename(&path, &kept).expect("it can be moved");
        let store = world.open().await;
        append(&store, batch_of(&spans_of_hour(1)[..again])).await;
        store.shutdown().await.expect("the store stops");
        fs::rename(&kept, &path).expect("it can be moved back");
        let catalogue = WatchedCatalogue::new(world.catalogue().await);
        let images: Arc<Mutex<Vec<World>>> = Arc::default();
        let (from, into) = (world.clone(), images.clone());
        catalogue.watch(move |_, commit| {
            if !commit.retire.is_empty() {
                into.lock().push(from.crash_image());
            }
        });
        let store = world.try_open(world.config(), catalogue, world.clock.clone()).await.expect("opens");
        check_when_let_in("without a crash", &world, &store, &spans_of_hours(0..2)).await;
        let images = std::mem::take(&mut *images.lock());
        assert_eq!(images.len(), 2, "before and after");
        for image in images {
            let store = image.open().await;
            check_when_let_in("after a crash", &image, &store, &spans_of_hours(0..2)).await;
            assert_eq!(image.files_ending_with(".new"), Vec::<PathBuf>::new());
            store.shutdown().await.expect("the store stops");
            assert!(check(&image).await.is_sound());
        }
    }
}
