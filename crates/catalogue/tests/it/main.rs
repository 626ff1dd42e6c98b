//! The catalogue against a real SQLite file.

use tracehouse_catalogue::{
    Catalogue, CatalogueError, Commit, FileRecord, LogPosition, RetirementReason, SqliteCatalogue,
};
use tracehouse_model::TenantId;

fn file(id: &str) -> FileRecord {
    FileRecord {
        id: id.into(),
        tenant: TenantId::default(),
        path: format!("tenant=default/spans/{id}.parquet"),
        level: 0,
        tier: "hot".into(),
        spans: 10,
        bytes: 100,
        start_min: 1,
        start_max: 2,
        created_at: 3,
        trace_filter: vec![1, 2, 3],
        contents: "{}".into(),
        retired: None,
    }
}

fn at(tenant: Option<&str>, position: u64) -> LogPosition {
    LogPosition { log: "log".into(), tenant: tenant.map(|name| TenantId::new(name).expect("a name")), position }
}

#[tokio::test]
async fn files_and_positions_survive_reopening() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = folder.path().join("catalogue.sqlite");
    {
        let catalogue = SqliteCatalogue::open(&path).await.expect("opens");
        let add = vec![file("a"), file("b")];
        let log_positions = vec![at(None, 7), at(Some("late"), 8), at(Some("early"), 12)];
        catalogue.commit(Commit { add, log_positions, ..Commit::default() }).await.expect("commits");
        let swap = Commit {
            add: vec![file("c")],
            retire: vec![("a".into(), RetirementReason::Replaced), ("b".into(), RetirementReason::Replaced)],
            retired_at: 9,
            log_positions: vec![at(None, 10)],
        };
        catalogue.commit(swap).await.expect("commits");
        for back in [at(None, 9), at(Some("early"), 11), at(Some("new"), 9)] {
            let refused = catalogue.commit(Commit { log_positions: vec![back], ..Commit::default() }).await;
            assert!(matches!(refused, Err(CatalogueError::PositionBack { .. })), "{refused:?}");
        }
    }
    let catalogue = SqliteCatalogue::open(&path).await.expect("opens again");
    let contents = catalogue.load().await.expect("loads");
    let live: Vec<_> = contents.files.iter().filter(|file| file.retired.is_none()).map(|file| &file.id).collect();
    assert_eq!(live, ["c"]);
    assert_eq!(contents.files[2], file("c"));
    assert_eq!(
        contents.log_positions,
        [at(None, 10), at(Some("early"), 12)],
        "the one for everyone replaces those behind it"
    );
    catalogue.forget(&["a".into(), "c".into()]).await.expect("forgets");
    let left: Vec<_> = catalogue.load().await.expect("loads").files.into_iter().map(|file| file.id).collect();
    assert_eq!(left, ["b", "c"], "a live file is never forgotten");
}

#[tokio::test]
async fn a_commit_that_cannot_be_whole_changes_nothing() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let catalogue = SqliteCatalogue::open(&folder.path().join("c.sqlite")).await.expect("opens");
    let wrong = Commit {
        add: vec![file("a")],
        retire: vec![("nothing".into(), RetirementReason::Expired)],
        ..Commit::default()
    };
    assert!(matches!(catalogue.commit(wrong).await, Err(CatalogueError::NotLive(_))));
    assert!(catalogue.load().await.expect("loads").files.is_empty());
}
