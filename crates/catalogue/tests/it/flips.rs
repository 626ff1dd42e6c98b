//! One bit of the catalogue's file changes by itself.

use std::fs;
use std::time::Duration;

use tracehouse_catalogue::{
    Catalogue, CatalogueContents, CatalogueError, Commit, RetirementReason, SqliteCatalogue, rebuild,
};

use crate::{World, file, position};

/// Of the bytes that describe tables, and of rows, so many are passed over before one is changed. All bytes of the header
/// and of the list of migrations are changed.
const STEP: usize = 13;
const HEADER_BYTES: usize = 100;
const PAGE_BYTES: usize = 4096;
/// What was refused is repaired, of so many one.
const REPAIRED_STEP: usize = 8;
/// Nothing that a start does takes so long: it waits for something that never comes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The file of a closed catalogue, and what is in it.
async fn sound() -> (Vec<u8>, CatalogueContents) {
    let world = World::new();
    let catalogue = world.open().await;
    let commit = Commit {
        add: vec![file("a"), file("b"), file("c")],
        retire: vec![("c".into(), RetirementReason::Replaced)],
        retired_at: 4,
        log_positions: vec![position(None, 3), position(Some("shop"), 6)],
        meta: vec![("store".into(), "1".into()), ("clock".into(), "noon".into())],
        ..Commit::default()
    };
    catalogue.commit(commit).await.expect("commits");
    let contents = catalogue.load().await.expect("loads");
    catalogue.close().await;
    (fs::read(world.path()).expect("it is there"), contents)
}

/// Where bits are changed: zeros between the rows mean nothing.
fn places(bytes: &[u8]) -> Vec<usize> {
    let migrations = bytes.windows(7).rposition(|window| window == b"initial").expect("a migration has this name");
    let page = migrations / PAGE_BYTES * PAGE_BYTES;
    let is_taken = |at: usize| at < HEADER_BYTES || (page..page + PAGE_BYTES).contains(&at) || at.is_multiple_of(STEP);
    (0..bytes.len()).filter(|at| (*at < HEADER_BYTES || bytes[*at] != 0) && is_taken(*at)).collect()
}

/// What a start and a first change make of it: a catalogue that is right, or the finding that it is damaged.
async fn start(world: &World, sound: &CatalogueContents, change: &str) -> Result<(), String> {
    let damage = |error: CatalogueError| match error {
        CatalogueError::Damaged { finding, .. } | CatalogueError::DamagedRow { reason: finding, .. } => finding,
        other => panic!("{change}: {other:?}"),
    };
    let catalogue = SqliteCatalogue::open(&world.path()).await.map_err(damage)?;
    let loaded = catalogue.load().await;
    let used = match &loaded {
        Ok(contents) => {
            let known = contents.files.iter().filter(|file| file.id == "a");
            let retire = known.map(|file| (file.id.clone(), RetirementReason::Expired)).collect();
            catalogue.commit(Commit { add: vec![file("d")], retire, ..Commit::default() }).await
        }
        Err(_) => Ok(()),
    };
    catalogue.close().await;
    let contents = loaded.map_err(damage)?;
    assert_eq!(contents.files.len() + contents.damaged_rows.len(), sound.files.len(), "{change}: {contents:?}");
    assert!(is_part(&contents, sound), "{change}: {contents:?}");
    assert!(tells_what_is_lost(&contents, sound), "{change}: {contents:?}");
    used.map_err(damage)
}

fn is_part(contents: &CatalogueContents, of: &CatalogueContents) -> bool {
    contents.files.iter().all(|file| of.files.contains(file))
        && contents.log_positions.iter().all(|position| of.log_positions.contains(position))
        && contents.meta.iter().all(|(name, value)| of.meta.get(name) == Some(value))
}

/// Nothing that was remembered is gone in silence.
fn tells_what_is_lost(contents: &CatalogueContents, of: &CatalogueContents) -> bool {
    of.meta.keys().all(|name| contents.meta.contains_key(name) || contents.is_lost(name))
        && (contents.log_positions.len() == of.log_positions.len() || contents.are_positions_lost())
}

/// Before, a changed letter in a column's name was another error, which nothing mended, and one that was no text kept a start
/// waiting for ever.
#[tokio::test]
async fn a_flipped_bit_changes_nothing_or_is_damage() {
    let (bytes, sound) = sound().await;
    let mut refused = 0;
    for at in places(&bytes) {
        // Of neighbours different ones, also of those that are so many bytes apart.
        let bit = (at + at / 8) % 8;
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << bit;
        let world = World::new();
        fs::write(world.path(), &flipped).expect("can be written");
        let change = format!("bit {bit} of byte {at}");
        let started = tokio::time::timeout(PATIENCE, start(&world, &sound, &change)).await;
        let Err(finding) = started.unwrap_or_else(|_| panic!("{change}: it waits for ever")) else { continue };
        assert!(!finding.is_empty(), "{change}");
        refused += 1;
        if refused % REPAIRED_STEP == 0 {
            let rebuilt = tokio::time::timeout(PATIENCE, rebuild(&world.path())).await;
            rebuilt.unwrap_or_else(|_| panic!("{change}: a repair waits for ever")).expect("it is made anew");
            let contents = world.open().await.load().await.expect("loads");
            assert!(is_part(&contents, &sound) && contents.damaged_rows.is_empty(), "{change}: {contents:?}");
            assert!(tells_what_is_lost(&contents, &sound), "{change}: {contents:?}");
        }
    }
    assert!(refused > REPAIRED_STEP, "{refused}");
}

/// What was committed last may be in the file beside the catalogue still. A change there takes the commits from it on back, as
/// a whole: the catalogue is one that was.
#[tokio::test]
async fn a_flipped_bit_in_what_was_committed_last_gives_an_earlier_catalogue() {
    const CHANGES: usize = 200;
    let world = World::new();
    let catalogue = world.open().await;
    let mut states = vec![CatalogueContents::default()];
    for (number, id) in ["a", "b", "c"].into_iter().enumerate() {
        let log_positions = vec![position(None, 3 + number as u64)];
        let based_on = states[number].log_positions.clone();
        let commit = Commit { add: vec![file(id)], log_positions, based_on, ..Commit::default() };
        catalogue.commit(commit).await.expect("commits");
        states.push(catalogue.load().await.expect("loads"));
    }
    // As a crash leaves them.
    let beside = |world: &World| world.path().with_extension("sqlite-wal");
    let (main, last) = (fs::read(world.path()).expect("it is there"), fs::read(beside(&world)).expect("it is there"));
    catalogue.close().await;
    for at in (0..last.len()).step_by(last.len() / CHANGES).chain(0..64) {
        let mut flipped = last.clone();
        flipped[at] ^= 1 << (at % 8);
        let world = World::new();
        fs::write(world.path(), &main).expect("can be written");
        fs::write(beside(&world), &flipped).expect("can be written");
        let opened = SqliteCatalogue::open(&world.path()).await;
        if let Err(CatalogueError::Damaged { .. }) = opened {
            continue;
        }
        let contents = opened.expect("it is sound or damaged").load().await.expect("loads");
        let is_of = |state: &&CatalogueContents| {
            (&state.files, &state.log_positions) == (&contents.files, &contents.log_positions)
        };
        assert!(contents.damaged_rows.is_empty() && states.iter().any(|state| is_of(&state)), "{at}: {contents:?}");
    }
}
