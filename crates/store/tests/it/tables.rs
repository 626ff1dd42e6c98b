//! Files of other tables than spans, of several tiers, and in other object stores, as a later version may leave them.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tracehouse_catalogue::{FileRecord, Table, Tier};
use tracehouse_disk::Disk;
use tracehouse_model::{Span, SystemRandomness, TenantId};
use tracehouse_store::{FileTrouble, RepairOptions, Store, StoreConfig, UnreadableReason, check_store, repair_store};

use crate::spans::{HOUR, NOON, assert_same_spans, batch_of, by_key, plain_span};
use crate::world::{World, all_spans, append, until, until_in_time, world_that_lived};

const ROLLUP: &str = "tenant=default/rollups/date=2018-12-13/hour=12/0167a7f4bc00-000000000000000a.parquet";
const STRAY: &str = "tenant=default/profiles/date=2018-12-13/hour=12/0167a7f4bc00-000000000000000b.parquet.new";

fn span(number: u64) -> Span {
    plain_span(u128::from(number), number, 0, NOON + number as i64)
}

async fn store_files(store: &Store, numbers: std::ops::Range<u64>) {
    for number in numbers {
        append(store, batch_of(&[span(number)])).await;
        store.flush().await.expect("the flush succeeds");
    }
}

fn assert_holds(store: &Store, numbers: std::ops::Range<u64>) {
    let expected: Vec<Span> = numbers.map(span).collect();
    let found = all_spans(&store.snapshot(&TenantId::default()));
    assert_same_spans("the spans", &found, &by_key(&expected), 1);
}

fn rollups() -> Table {
    Table::new("rollups").expect("a valid name")
}

/// A listed file of another table beside spans, and one that nobody lists.
async fn put_files_of_other_tables(world: &World) {
    for (path, bytes) in [(ROLLUP, "no spans are in here"), (STRAY, "nor in here")] {
        let path = world.store_dir().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("it can be made");
        fs::write(path, bytes).expect("it can be written");
    }
    world
        .change_files(|mut files| {
            let id = "0167a7f4bc00-000000000000000a".to_owned();
            let record = FileRecord { id, path: ROLLUP.into(), table: rollups(), bytes: 20, ..files[0].clone() };
            files.push(record);
            files
        })
        .await;
}

fn are_left_alone(world: &World) -> bool {
    [ROLLUP, STRAY].iter().all(|path| world.store_dir().join(path).exists())
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_other_tables_are_left_alone_and_named() {
    let world = World::new();
    let store = world.open().await;
    store_files(&store, 1..5).await;
    store.shutdown().await.expect("it stops");
    put_files_of_other_tables(&world).await;
    for _ in 0..2 {
        let store = world.open().await;
        let snapshot = store.snapshot(&TenantId::default());
        assert!(snapshot.unreadable.is_empty() && are_left_alone(&world));
        let rollups = rollups();
        let listed: Vec<&str> = snapshot.files_of(&rollups).map(|record| record.path.as_str()).collect();
        assert_eq!(listed, [ROLLUP]);
        assert_eq!(snapshot.files_of(&Table::SPANS).count(), snapshot.files.len());
        assert!(snapshot.files.iter().all(|file| file.record.table == Table::SPANS));
        let troubles = store.troubles();
        assert!(troubles.iter().any(|trouble| trouble.contains("2 (profiles, rollups)")), "{troubles:?}");
        store.compact().await.expect("spans are merged");
        assert_eq!(store.snapshot(&TenantId::default()).files.len(), 1);
        assert_holds(&store, 1..5);
        store.shutdown().await.expect("it stops");
    }
    world.close_catalogues().await;

    let report = check_store(&world.paths(), false, &mut |_, _| {}).await.expect("it can be checked");
    assert!(report.catalogue.is_empty() && report.files_whole == 1, "{report:?}");
    let [finding] = &report.findings[..] else { panic!("{report:?}") };
    assert_eq!(finding.trouble, FileTrouble::OtherTable { table: "profiles".into() });
    for dry_run in [true, false] {
        let options = RepairOptions { dry_run, forget_missing: true };
        let randomness = Arc::new(SystemRandomness::from_seed(1));
        let (disk, clock) = (Disk::default(), world.clock.clone());
        let done = repair_store(&disk, &world.paths(), options, clock, randomness, &mut |_, _| {}).await;
        let done = done.expect("it can be repaired");
        assert_eq!(done.actions, [], "nothing is done");
        assert!(done.left.len() == 1 && done.left[0].why.contains("the table profiles"), "{:?}", done.left);
        assert!(are_left_alone(&world));
    }
    let store = world.open().await;
    assert_eq!(store.snapshot(&TenantId::default()).files_of(&rollups()).count(), 1);
    assert_holds(&store, 1..5);
}

/// How long they are kept is no business of the retention of spans.
#[tokio::test(flavor = "multi_thread")]
async fn retention_of_spans_is_that_of_spans_alone() {
    const RETENTION: Duration = Duration::from_secs(24 * 3600);
    let config = |world: &World| StoreConfig { retention: RETENTION, ..world.config() };
    let world = world_that_lived(config, RETENTION).await;
    let store = world.open_with(config(&world)).await;
    store_files(&store, 1..3).await;
    store.shutdown().await.expect("it stops");
    put_files_of_other_tables(&world).await;
    let store = world.open_with(config(&world)).await;
    world.clock.advance(RETENTION + Duration::from_secs(2 * 3600));
    let snapshot = || store.snapshot(&TenantId::default());
    until(&world, "the spans expire", || snapshot().files.is_empty()).await;
    until_in_time(&world, "they are deleted", || {
        world.files_ending_with(".parquet").len() + world.files_ending_with(".retired").len() == 1
    })
    .await;
    assert_eq!(snapshot().files_of(&rollups()).count(), 1);
    assert!(are_left_alone(&world));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_different_tiers_are_not_merged() {
    let world = World::new();
    let store = world.open().await;
    store_files(&store, 1..7).await;
    store.shutdown().await.expect("it stops");
    let tier_of = |number: usize| [Tier::Hot, Tier::Warm, Tier::Cold][number % 3];
    world
        .change_files(|files| {
            let files = files.into_iter().enumerate();
            files.map(|(number, file)| FileRecord { tier: tier_of(number), ..file }).collect()
        })
        .await;
    let store = world.open().await;
    store.compact().await.expect("the merge succeeds");
    let files = store.snapshot(&TenantId::default()).files;
    let merged: BTreeSet<(Tier, u64)> = files.iter().map(|file| (file.record.tier, file.record.spans)).collect();
    assert_eq!(merged, BTreeSet::from([(Tier::Hot, 2), (Tier::Warm, 2), (Tier::Cold, 2)]));
    assert_holds(&store, 1..7);
    store.shutdown().await.expect("it stops");
    assert_holds(&*world.open().await, 1..7);
}

/// The disk budget is that of what is hot.
#[tokio::test(flavor = "multi_thread")]
async fn the_budget_removes_nothing_of_another_tier() {
    let world = World::new();
    let store = world.open().await;
    for number in 1..4 {
        let start = NOON + number * HOUR;
        append(&store, batch_of(&[plain_span(number as u128, number as u64, 0, start)])).await;
        store.flush().await.expect("the flush succeeds");
    }
    store.shutdown().await.expect("it stops");
    world
        .change_files(|mut files| {
            // The oldest.
            files.iter_mut().min_by_key(|file| file.start_max).expect("three").tier = Tier::Cold;
            files
        })
        .await;
    let store = world.open_with(StoreConfig { disk_budget_bytes: Some(1), ..world.config() }).await;
    let tiers = || {
        let files = store.snapshot(&TenantId::default()).files;
        files.iter().map(|file| file.record.tier).collect::<Vec<_>>()
    };
    until(&world, "what is hot is removed", || tiers() == [Tier::Cold]).await;
}

/// As a missing file does, one in an object store that is not configured makes answers partial, and is there again later.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_store_that_is_not_configured_is_named() {
    const RETENTION: Duration = Duration::from_secs(24 * 3600);
    let config = |world: &World| StoreConfig { retention: RETENTION, ..world.config() };
    let world = world_that_lived(config, RETENTION).await;
    let store = world.open_with(config(&world)).await;
    store_files(&store, 1..4).await;
    store.shutdown().await.expect("it stops");
    let mut moved = String::new();
    world
        .change_files(|mut files| {
            files[1].object_store = "archive".into();
            moved.clone_from(&files[1].path);
            files
        })
        .await;
    let aside = world.path().join("archived");
    fs::rename(world.store_dir().join(&moved), &aside).expect("it can be moved");
    let store = world.open_with(config(&world)).await;
    let snapshot = store.snapshot(&TenantId::default());
    let unreadable: Vec<_> = snapshot.unreadable.iter().map(|file| (file.spans, file.reason)).collect();
    assert_eq!((snapshot.files.len(), unreadable), (2, vec![(1, UnreadableReason::Elsewhere)]));
    let troubles = store.troubles();
    let named = "1 stored file lies in object stores that are not configured: archive";
    assert!(troubles.iter().any(|trouble| trouble == named), "{troubles:?}");
    // A span inside is sent again, which nobody can know now.
    append(&store, batch_of(&[span(2)])).await;
    store.flush().await.expect("the flush succeeds");
    store.shutdown().await.expect("it stops");
    world.close_catalogues().await;
    let report = check_store(&world.paths(), false, &mut |_, _| {}).await.expect("it can be checked");
    let [finding] = &report.findings[..] else { panic!("{report:?}") };
    assert_eq!(finding.trouble, FileTrouble::Elsewhere { object_store: "archive".into() });

    world
        .change_files(|mut files| {
            files.iter_mut().for_each(|file| file.object_store = FileRecord::LOCAL.into());
            files
        })
        .await;
    fs::rename(aside, world.store_dir().join(&moved)).expect("it can be moved back");
    let store = world.open_with(config(&world)).await;
    until(&world, "it is compared", || store.snapshot(&TenantId::default()).unreadable.is_empty()).await;
    assert_holds(&store, 1..4);
}
