use sqlx::migrate::Migrator;
use tracehouse_catalogue::{Catalogue, CatalogueError, FileRecord, LegacyDescription, SqliteCatalogue};

use crate::{World, file, position};

/// A catalogue as the first schema had it, with two files.
async fn world_of_version_1() -> World {
    let world = World::new();
    let migrations = tempfile::tempdir().expect("temporary folder");
    let first = include_str!("../../migrations/0001_initial.sql");
    std::fs::write(migrations.path().join("0001_initial.sql"), first).expect("it can be written");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(world.path()).create_if_missing(true);
    let pool = sqlx::SqlitePool::connect_with(options).await.expect("connects");
    Migrator::new(migrations.path()).await.expect("one migration").run(&pool).await.expect("it runs");
    pool.close().await;
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
    let as_before =
        |id: &str| FileRecord { minutes: FileRecord::MINUTES_UNKNOWN, row_groups: 0, tail_bytes: 0, ..file(id) };
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
