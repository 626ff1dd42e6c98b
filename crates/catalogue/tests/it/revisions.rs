//! Whoever knows an older list of files and is told the changes since has the newer list.

use std::collections::BTreeMap;

use proptest::prelude::*;
use tracehouse_catalogue::{
    Catalogue, Changes, Commit, FileRecord, LogPosition, RetirementReason, Revision, SqliteCatalogue, rebuild,
};

use crate::{World, file, position};

/// What a reader of the list knows.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    revision: Revision,
    files: BTreeMap<String, FileRecord>,
}

impl Known {
    async fn of(catalogue: &SqliteCatalogue) -> Self {
        let contents = catalogue.load().await.expect("loads");
        let files = contents.files.into_iter().map(|file| (file.id.clone(), file)).collect();
        Self { revision: contents.revision, files }
    }

    /// Returns whether the changes were enough.
    async fn follow(&mut self, catalogue: &SqliteCatalogue) -> bool {
        let changes = catalogue.changes_since(self.revision).await.expect("reads");
        changes.apply_to(&mut self.revision, &mut self.files)
    }
}

/// What may happen to one of a few files.
#[derive(Debug, Clone, Copy)]
enum Change {
    Add,
    Replace,
    SetAside,
    Restore,
    LoseSpans(u64),
    Forget,
    Remember,
    MovePosition,
}

impl Change {
    /// The commit that does it, if it can be done.
    fn commit(self, id: &str, known: &Known, number: u64) -> Option<Commit> {
        let known = known.files.get(id);
        let retired = known.and_then(|file| file.retired.as_ref()).map(|retirement| retirement.reason);
        let is_live = known.is_some() && retired.is_none();
        let id = id.to_owned();
        let retire = |reason| Commit { retire: vec![(id.clone(), reason)], retired_at: 4, ..Commit::default() };
        match self {
            Self::Add => known.is_none().then(|| Commit { add: vec![file(&id)], ..Commit::default() }),
            Self::Replace => is_live.then(|| retire(RetirementReason::Replaced)),
            Self::SetAside => is_live.then(|| retire(RetirementReason::Damaged)),
            Self::Restore => (retired == Some(RetirementReason::Damaged)).then(|| Commit {
                restore: known.map(|file| FileRecord { retired: None, ..file.clone() }).into_iter().collect(),
                ..Commit::default()
            }),
            Self::LoseSpans(spans) => {
                is_live.then(|| Commit { lost_spans: vec![(id.clone(), spans)], ..Commit::default() })
            }
            Self::Forget => None,
            Self::Remember => Some(Commit { meta: vec![("clock".into(), number.to_string())], ..Commit::default() }),
            Self::MovePosition => {
                // Each in a log of its own, of which nothing is known.
                let log_positions = vec![LogPosition { log: number.to_string(), ..position(None, number) }];
                Some(Commit { log_positions, ..Commit::default() })
            }
        }
    }
}

fn change() -> impl Strategy<Value = (Change, usize)> {
    let change = prop_oneof![
        4 => Just(Change::Add),
        2 => Just(Change::Replace),
        1 => Just(Change::SetAside),
        1 => Just(Change::Restore),
        1 => (0..5u64).prop_map(Change::LoseSpans),
        2 => Just(Change::Forget),
        1 => Just(Change::Remember),
        1 => Just(Change::MovePosition),
    ];
    (change, 0..6usize)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn changes_make_of_any_older_list_the_newest(changes in prop::collection::vec(change(), 1..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let world = World::new();
            let catalogue = world.open().await;
            let mut known = vec![Known::of(&catalogue).await];
            for (number, (change, id)) in changes.into_iter().enumerate() {
                let (id, before) = (format!("file-{id}"), known.last().expect("the first").clone());
                let is_change = match change.commit(&id, &before, number as u64) {
                    Some(commit) => {
                        catalogue.commit(commit).await.expect("commits");
                        true
                    }
                    None => {
                        catalogue.forget(std::slice::from_ref(&id)).await.expect("forgets");
                        before.files.get(&id).is_some_and(|file| file.retired.is_some())
                    }
                };
                let after = Known::of(&catalogue).await;
                let raised = before.revision.number + u64::from(is_change);
                assert_eq!(after.revision, Revision { number: raised, ..before.revision }, "{change:?}");
                known.push(after);
            }
            let newest = known.last().expect("the first").clone();
            for mut older in known {
                let revision = older.revision;
                assert!(older.follow(&catalogue).await, "{revision:?} is known");
                assert_eq!(older, newest, "since {revision:?}");
            }
        });
    }
}

#[tokio::test]
async fn a_commit_that_changes_nothing_or_fails_has_no_number() {
    let world = World::new();
    let catalogue = world.open().await;
    let before = Known::of(&catalogue).await;
    catalogue.commit(Commit::default()).await.expect("commits");
    let wrong = Commit {
        add: vec![file("a")],
        retire: vec![("nothing".into(), RetirementReason::Expired)],
        ..Commit::default()
    };
    assert!(catalogue.commit(wrong).await.is_err());
    catalogue.forget(&["nothing".into()]).await.expect("there is nothing to forget");
    assert_eq!(Known::of(&catalogue).await, before);
}

/// So many removals are listed, and who did not ask for longer loads everything.
#[tokio::test]
async fn removals_are_listed_for_a_while() {
    const REMOVALS_MAX: usize = 10_000;
    let world = World::new();
    let catalogue = world.open().await;
    let ids: Vec<String> = (0..REMOVALS_MAX + 1).map(|number| format!("{number:05}")).collect();
    let commit = Commit {
        add: ids.iter().map(|id| file(id)).collect(),
        retire: ids.iter().map(|id| (id.clone(), RetirementReason::Replaced)).collect(),
        ..Commit::default()
    };
    catalogue.commit(commit).await.expect("commits");
    let mut known = Vec::new();
    for removed in [&ids[..1], &ids[1..4], &ids[4..]] {
        known.push(Known::of(&catalogue).await);
        catalogue.forget(removed).await.expect("forgets");
    }
    let newest = Known::of(&catalogue).await;
    assert!(newest.files.is_empty());
    assert!(!known[0].follow(&catalogue).await, "the first removal is listed no longer");
    for later in &mut known[1..] {
        assert!(later.follow(&catalogue).await);
        assert_eq!(*later, newest);
    }
}

/// What a catalogue told before it was opened anew may be more than it knows now: SQLite loses its last commits to a damaged bit,
/// and a copy may have been put back.
#[tokio::test]
async fn revisions_are_of_one_opening() {
    let world = World::new();
    let catalogue = world.open().await;
    let beginning = Known::of(&catalogue).await;
    catalogue.commit(Commit { add: vec![file("a")], ..Commit::default() }).await.expect("commits");
    catalogue.close().await;
    let copy = std::fs::read(world.path()).expect("it is there");
    let catalogue = world.open().await;
    catalogue.commit(Commit { add: vec![file("lost")], ..Commit::default() }).await.expect("commits");
    let known = Known::of(&catalogue).await;
    catalogue.close().await;
    std::fs::write(world.path(), copy).expect("it can be put back");
    let catalogue = world.open().await;
    catalogue.commit(Commit { add: vec![file("b")], ..Commit::default() }).await.expect("commits");
    assert_eq!(Known::of(&catalogue).await.revision.number, known.revision.number, "the number was given twice");
    for mut other in [beginning, known, Known { revision: Revision::default(), files: BTreeMap::new() }] {
        assert!(!other.follow(&catalogue).await, "{:?}", other.revision);
    }
    // One that comes from nowhere.
    let newest = Known::of(&catalogue).await.revision;
    let later = Revision { number: newest.number + 1, ..newest };
    assert_eq!(catalogue.changes_since(later).await.expect("reads"), Changes::Everything);
    catalogue.close().await;
    rebuild(&world.path()).await.expect("a new one is made");
    let catalogue = world.open().await;
    assert_eq!(catalogue.changes_since(newest).await.expect("reads"), Changes::Everything);
    assert_eq!(Known::of(&catalogue).await.files.len(), 2);
}

/// A row that changed by itself is reported by loading; nobody goes on from it.
#[tokio::test]
async fn damage_makes_everything_be_loaded() {
    const CHANGES: [&str; 8] = [
        "UPDATE files SET spans = 11 WHERE id = 'b'",
        "UPDATE files SET revision = revision + 1 WHERE id = 'b'",
        "UPDATE removed_files SET id = 'x'",
        "UPDATE removed_files SET revision = revision + 1",
        "UPDATE revision SET number = number + 1",
        "UPDATE revision SET history = x'00'",
        "INSERT INTO revision SELECT * FROM revision",
        "DELETE FROM revision",
    ];
    for change in CHANGES {
        let world = World::new();
        let catalogue = world.open().await;
        let retire = vec![("a".into(), RetirementReason::Replaced)];
        catalogue.commit(Commit { add: vec![file("a")], retire, ..Commit::default() }).await.expect("commits");
        let mut known = Known::of(&catalogue).await;
        catalogue.commit(Commit { add: vec![file("b")], ..Commit::default() }).await.expect("commits");
        catalogue.forget(&["a".into()]).await.expect("forgets");
        world.meddle(&[change]).await;
        assert!(!known.follow(&catalogue).await, "{change}");
        // It goes on, and who loaded everything is told again what changes.
        catalogue.commit(Commit { add: vec![file("c")], ..Commit::default() }).await.expect("commits");
        let mut known = Known::of(&catalogue).await;
        catalogue.commit(Commit { add: vec![file("d")], ..Commit::default() }).await.expect("commits");
        if change.contains("UPDATE revision") || change.contains("O revision") || change.contains("M revision") {
            assert!(known.follow(&catalogue).await, "{change}");
            assert_eq!(known, Known::of(&catalogue).await, "{change}");
        }
    }
}

/// A row without a meaning that is dropped was that of a file which nobody can name for certain.
#[tokio::test]
async fn a_dropped_row_makes_everything_be_loaded() {
    let world = World::new();
    let catalogue = world.open().await;
    catalogue.commit(Commit { add: vec![file("a"), file("b")], ..Commit::default() }).await.expect("commits");
    let mut known = Known::of(&catalogue).await;
    world.meddle(&["UPDATE files SET id = 'x' WHERE id = 'b'"]).await;
    let rows: Vec<i64> = catalogue.load().await.expect("loads").damaged_rows.iter().map(|row| row.row).collect();
    catalogue.commit(Commit { drop_damaged: rows, ..Commit::default() }).await.expect("commits");
    assert!(!known.follow(&catalogue).await);
}
