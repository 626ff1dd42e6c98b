use sqlx::migrate::Migrator;
use tracehouse_catalogue::{
    Catalogue, CatalogueError, Changes, Commit, FileRecord, LegacyDescription, Retirement, RetirementReason,
    SqliteCatalogue, rebuild,
};

use crate::{World, file, position};

const MIGRATIONS: [(&str, &str); 3] = [
    ("0001_initial.sql", include_str!("../../migrations/0001_initial.sql")),
    ("0002_checked_rows.sql", include_str!("../../migrations/0002_checked_rows.sql")),
    ("0003_latest_ends.sql", include_str!("../../migrations/0003_latest_ends.sql")),
];

/// An empty catalogue as an earlier schema had it.
async fn world_of_migrations(count: usize) -> World {
    let world = World::new();
    let migrations = tempfile::tempdir().expect("temporary folder");
    for (name, sql) in &MIGRATIONS[..count] {
        std::fs::write(migrations.path().join(name), sql).expect("it can be written");
    }
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(world.path()).create_if_missing(true);
    let pool = sqlx::SqlitePool::connect_with(options).await.expect("connects");
    Migrator::new(migrations.path()).await.expect("migrations").run(&pool).await.expect("they run");
    pool.close().await;
    world
}

/// A catalogue as the first schema had it, with two files.
async fn world_of_version_1() -> World {
    let world = world_of_migrations(1).await;
    world
        .meddle(&[
            "INSERT INTO tenants VALUES ('default', 3)",
            "INSERT INTO files VALUES ('a', 'default', 'tenant=default/spans/a.parquet', 4, 'hot', 10, 100, 1, 2, 3, \
             x'010203', '{\"names\": 1}', NULL, NULL)",
            "INSERT INTO files VALUES ('b', 'default', 'tenant=default/spans/b.parquet', 4, 'hot', 10, 100, 1, 2, 3, \
             x'04', '{}', 9, 'replaced')",
            "INSERT INTO log_positions VALUES ('log', 7)",
        ])
        .await;
    world
}

#[tokio::test]
async fn a_catalogue_of_version_1_goes_on() {
    let world = world_of_version_1().await;
    let read_only = SqliteCatalogue::open_read_only(&world.path()).await.err();
    assert!(matches!(read_only, Some(CatalogueError::Outdated { .. })), "{read_only:?}");
    let as_before = |id: &str| FileRecord {
        end_max: None,
        minutes: FileRecord::MINUTES_UNKNOWN,
        row_groups: 0,
        tail_bytes: 0,
        ..file(id)
    };
    for _ in 0..2 {
        let catalogue = world.open().await;
        let contents = catalogue.load().await.expect("loads");
        assert_eq!(contents.damaged_rows, []);
        assert_eq!(contents.files[0], as_before("a"));
        assert_eq!(contents.files[1].retired.as_ref().map(|retirement| retirement.at), Some(9));
        assert_eq!(contents.log_positions, [position(None, 7)]);
        let description = LegacyDescription { trace_filter: vec![1, 2, 3], contents: "{\"names\": 1}".into() };
        assert_eq!(catalogue.legacy_description("a").await.expect("reads"), Some(description));
        assert_eq!(catalogue.legacy_description("c").await.expect("reads"), None);
        catalogue.close().await;
    }
    let catalogue = world.open().await;
    catalogue.forget(&["a".into(), "b".into()]).await.expect("forgets");
    assert!(catalogue.legacy_description("a").await.expect("reads").is_some(), "it is live");
    assert!(catalogue.legacy_description("b").await.expect("reads").is_none(), "gone with its file");
    SqliteCatalogue::open_read_only(&world.path()).await.expect("it has this version's schema now");
}

/// What earlier versions put into each catalogue: that all rows have checksums.
const ALL_CHECKED: &str = "INSERT INTO meta VALUES ('checksums', 'done', 3929528623)";

/// A catalogue as the second schema had it, with a file.
async fn world_of_version_2() -> (World, FileRecord) {
    let world = world_of_migrations(2).await;
    let row = "INSERT INTO files VALUES ('a', 'default', 'tenant=default/spans/a.parquet', 4, 'hot', 10, 100, 1, 2, 3, \
         -9223372036854775803, 7, 8, 0, NULL, NULL, 747069738)";
    world.meddle(&[ALL_CHECKED, row]).await;
    (world, FileRecord { end_max: None, ..file("a") })
}

/// A catalogue as the third schema had it, with a file.
async fn world_of_version_3() -> (World, FileRecord) {
    let world = world_of_migrations(3).await;
    let row = "INSERT INTO files VALUES ('a', 'default', 'tenant=default/spans/a.parquet', 4, 'hot', 10, 100, 1, 2, 3, \
         -9223372036854775803, 7, 8, 0, NULL, NULL, 978272925, 5)";
    world.meddle(&[ALL_CHECKED, row]).await;
    (world, file("a"))
}

#[tokio::test]
async fn rows_of_a_catalogue_that_knew_no_revisions_are_saved() {
    let (world, before) = world_of_version_3().await;
    assert_eq!(rebuild(&world.path()).await.expect("a new one is made").files, 1);
    assert_eq!(world.open().await.load().await.expect("loads").files, [before]);
}

#[tokio::test]
async fn a_catalogue_that_knew_no_revisions_goes_on() {
    let (world, before) = world_of_version_3().await;
    let read_only = SqliteCatalogue::open_read_only(&world.path()).await.err();
    assert!(matches!(read_only, Some(CatalogueError::Outdated { .. })), "{read_only:?}");
    let catalogue = world.open().await;
    let contents = catalogue.load().await.expect("loads");
    assert_eq!((contents.damaged_rows, contents.files), (vec![], vec![before.clone()]));
    catalogue.commit(Commit { add: vec![file("b")], ..Commit::default() }).await.expect("commits");
    let Changes::Since { changed, removed, .. } = catalogue.changes_since(contents.revision).await.expect("reads")
    else {
        panic!("it is known what changed");
    };
    assert_eq!((changed, removed), (vec![file("b")], vec![]), "what was there before did not change");
    let retire = vec![("a".into(), RetirementReason::Expired)];
    catalogue.commit(Commit { retire, retired_at: 6, ..Commit::default() }).await.expect("commits");
    let contents = catalogue.load().await.expect("loads");
    let retired = Some(Retirement { at: 6, reason: RetirementReason::Expired });
    assert_eq!(contents.files, [FileRecord { retired, ..before }, file("b")]);
}

#[tokio::test]
async fn rows_of_a_catalogue_that_knew_no_ends_are_saved() {
    let (world, before) = world_of_version_2().await;
    assert_eq!(rebuild(&world.path()).await.expect("a new one is made").files, 1);
    assert_eq!(world.open().await.load().await.expect("loads").files, [before]);
}

/// Its rows have checksums, over what it knew of files.
#[tokio::test]
async fn a_catalogue_that_knew_no_ends_goes_on() {
    let (world, before) = world_of_version_2().await;
    let read_only = SqliteCatalogue::open_read_only(&world.path()).await.err();
    assert!(matches!(read_only, Some(CatalogueError::Outdated { .. })), "{read_only:?}");
    let catalogue = world.open().await;
    catalogue.commit(Commit { add: vec![file("b")], ..Commit::default() }).await.expect("commits");
    let contents = catalogue.load().await.expect("loads");
    assert_eq!((contents.damaged_rows, contents.files), (vec![], vec![before, file("b")]));
    catalogue.close().await;
    // The end of a span is as much a part of the row as the others.
    world.meddle(&["UPDATE files SET end_max = 6 WHERE id = 'b'"]).await;
    let contents = world.open().await.load().await.expect("loads");
    assert_eq!((contents.damaged_rows.len(), contents.files.len()), (1, 1));
}
