use tracehouse_catalogue::{
    Catalogue, CatalogueError, Commit, FileRecord, KnownPositions, Retirement, RetirementReason, Table, Tier, rebuild,
};

use crate::{World, file, position};

#[tokio::test]
async fn files_and_positions_survive_reopening() {
    let world = World::new();
    {
        let catalogue = world.open().await;
        let commit = Commit {
            add: vec![file("a"), file("b")],
            log_positions: vec![position(None, 7), position(Some("shop"), 9)],
            meta: vec![("store".into(), "1".into()), ("clock".into(), "noon".into())],
            ..Commit::default()
        };
        catalogue.commit(commit).await.expect("commits");
        let swap = Commit {
            add: vec![file("c")],
            retire: vec![("a".into(), RetirementReason::Replaced), ("b".into(), RetirementReason::Replaced)],
            retired_at: 9,
            meta: vec![("clock".into(), "later".into())],
            ..Commit::default()
        };
        catalogue.commit(swap).await.expect("commits");
    }
    let catalogue = world.open().await;
    let contents = catalogue.load().await.expect("loads");
    let replaced = Some(Retirement { at: 9, reason: RetirementReason::Replaced });
    let expected = [
        FileRecord { retired: replaced.clone(), ..file("a") },
        FileRecord { retired: replaced, ..file("b") },
        file("c"),
    ];
    assert_eq!(contents.files, expected);
    assert_eq!(contents.damaged_rows, []);
    assert_eq!(contents.log_positions, [position(None, 7), position(Some("shop"), 9)]);
    let meta: Vec<_> = contents.meta.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(meta, [("clock", "later"), ("store", "1")]);
    catalogue.forget(&["a".into(), "c".into()]).await.expect("forgets");
    let left: Vec<_> = catalogue.load().await.expect("loads").files.into_iter().map(|file| file.id).collect();
    assert_eq!(left, ["b", "c"], "a live file is never forgotten");
}

#[tokio::test]
async fn a_commit_that_cannot_be_whole_changes_nothing() {
    let world = World::new();
    let catalogue = world.open().await;
    let wrong = Commit {
        add: vec![file("a")],
        retire: vec![("nothing".into(), RetirementReason::Expired)],
        ..Commit::default()
    };
    assert!(matches!(catalogue.commit(wrong).await, Err(CatalogueError::NotLive(_))));
    assert!(catalogue.load().await.expect("loads").files.is_empty());
}

/// What became of a file can be changed back and remembered, but only for a file that is in that state.
#[tokio::test]
async fn files_are_set_aside_and_restored() {
    let world = World::new();
    let catalogue = world.open().await;
    catalogue.commit(Commit { add: vec![file("a")], ..Commit::default() }).await.expect("commits");
    let found = FileRecord { spans: 7, bytes: 70, end_max: Some(9), lost_spans: 4, ..file("a") };
    let restore = || Commit { restore: vec![found.clone()], ..Commit::default() };
    assert!(matches!(catalogue.commit(restore()).await, Err(CatalogueError::NotSetAside(_))), "it is live");
    let lost = || Commit { lost_spans: vec![("a".into(), 4)], ..Commit::default() };
    catalogue.commit(lost()).await.expect("commits");
    let aside = Commit { retire: vec![("a".into(), RetirementReason::Damaged)], retired_at: 1, ..Commit::default() };
    catalogue.commit(aside).await.expect("commits");
    assert!(matches!(catalogue.commit(lost()).await, Err(CatalogueError::NotLive(_))), "it is not live");
    catalogue.commit(restore()).await.expect("commits");
    // As it was found, and not as the row had it.
    assert_eq!(catalogue.load().await.expect("loads").files, [found]);
}

/// Before, a position that went back was taken for the larger of both in silence.
#[tokio::test]
async fn positions_only_move_forward() {
    let world = World::new();
    let catalogue = world.open().await;
    let moved = async |positions: Vec<_>| {
        let known = KnownPositions::of(&catalogue.load().await.expect("loads").log_positions);
        let based_on = known.basis_of(&positions);
        let commit = Commit { log_positions: positions, based_on, ..Commit::default() };
        let outcome = catalogue.commit(commit).await;
        (outcome, catalogue.load().await.expect("loads").log_positions)
    };
    let (outcome, known) = moved(vec![position(None, 5), position(Some("a"), 8), position(Some("b"), 6)]).await;
    outcome.expect("all go forward");
    assert_eq!(known, [position(None, 5), position(Some("a"), 8), position(Some("b"), 6)]);
    for back in [position(None, 4), position(Some("a"), 7), position(Some("c"), 4)] {
        let (outcome, after) = moved(vec![position(Some("b"), 7), back.clone()]).await;
        assert!(matches!(outcome, Err(CatalogueError::PositionBack { .. })), "{back:?}: {outcome:?}");
        assert_eq!(after, known, "{back:?}: nothing moved");
    }
    let (outcome, known) = moved(vec![position(None, 7)]).await;
    outcome.expect("it goes forward");
    assert_eq!(known, [position(None, 7), position(Some("a"), 8)], "what it includes is not kept");
    moved(vec![position(None, 7)]).await.0.expect("staying is not going back");
}

/// Before, who did not know that another had moved a position moved it on, and what the other's log held between counted twice or
/// not at all.
#[tokio::test]
async fn a_position_moves_only_for_who_knows_where_it_is() {
    let world = World::new();
    let catalogue = world.open().await;
    let first = vec![position(None, 5), position(Some("a"), 8)];
    catalogue.commit(Commit { log_positions: first.clone(), ..Commit::default() }).await.expect("nothing was there");
    for (what, based_on, to) in [
        ("nothing is known", vec![], position(None, 9)),
        ("everyone's is known only", vec![position(None, 5)], position(None, 9)),
        ("one is not known", vec![position(None, 5)], position(Some("a"), 9)),
        ("it is taken to be further", vec![position(None, 6)], position(Some("b"), 9)),
    ] {
        let commit = Commit { add: vec![file("a")], log_positions: vec![to], based_on, ..Commit::default() };
        let error = catalogue.commit(commit).await.expect_err(what);
        assert!(matches!(error, CatalogueError::PositionMoved { .. }), "{what}: {error:?}");
        assert!(error.to_string().contains("another process writes the same catalogue"), "{error}");
        let contents = catalogue.load().await.expect("loads");
        assert_eq!((contents.files, contents.log_positions), (vec![], first.clone()), "{what}: nothing was changed");
    }
    let commit = Commit { log_positions: vec![position(None, 9)], based_on: first, ..Commit::default() };
    catalogue.commit(commit).await.expect("it is known");
}

/// A reader gets its answer while a writer holds the database.
#[tokio::test]
async fn reads_do_not_wait_for_a_writer() {
    let world = World::new();
    let catalogue = world.open().await;
    catalogue.commit(Commit { add: vec![file("a")], ..Commit::default() }).await.expect("commits");
    let writer = sqlx::SqlitePool::connect_with(sqlx::sqlite::SqliteConnectOptions::new().filename(world.path()));
    let writer = writer.await.expect("connects");
    let mut transaction = writer.begin_with("BEGIN IMMEDIATE").await.expect("nobody else writes");
    sqlx::query("UPDATE files SET spans = 0").execute(&mut *transaction).await.expect("the statement runs");
    // Behind the writer, this one waits until it is given up.
    let waiting = tokio::spawn({
        let catalogue = catalogue.clone();
        async move { catalogue.commit(Commit { add: vec![file("b")], ..Commit::default() }).await }
    });
    assert_eq!(catalogue.load().await.expect("loads").files, [file("a")]);
    assert_eq!(catalogue.legacy_description("a").await.expect("reads"), None);
    transaction.rollback().await.expect("rolls back");
    waiting.await.expect("no panic").expect("the writer is gone");
    assert_eq!(catalogue.load().await.expect("loads").files, [file("a"), file("b")]);
}

/// Files of several tables, tiers and stores beside each other.
#[tokio::test]
async fn a_file_has_a_table_a_tier_and_a_store() {
    let world = World::new();
    let table = Table::new("rollups").expect("a valid name");
    let files = [
        FileRecord { table, ..file("a") },
        FileRecord { tier: Tier::Warm, object_store: "archive".into(), ..file("b") },
        FileRecord { tier: Tier::Cold, left_out_spans: 7, ..file("c") },
        file("d"),
    ];
    let catalogue = world.open().await;
    catalogue.commit(Commit { add: files.to_vec(), ..Commit::default() }).await.expect("commits");
    catalogue.close().await;
    assert_eq!(world.open().await.load().await.expect("loads").files, files);
    world.meddle(&["UPDATE files SET table_name = 'spans' WHERE id = 'a'"]).await;
    assert_eq!(world.open().await.load().await.expect("loads").files, files[1..], "a row that changed by itself");
    world.meddle(&["UPDATE files SET table_name = 'rollups' WHERE id = 'a'"]).await;
    rebuild(&world.path()).await.expect("a new one is made");
    assert_eq!(world.open().await.load().await.expect("loads").files, files);
}
