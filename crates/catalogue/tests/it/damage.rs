use std::fs;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tracehouse_catalogue::{Catalogue, CatalogueError, Commit, RetirementReason, SqliteCatalogue, rebuild};

use crate::{World, file, position};

async fn world_of_three() -> World {
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
    catalogue.close().await;
    world
}

/// Whatever value of a row changes by itself, the row is reported and the others are there. Before, a changed value was
/// believed, and one that made no sense took all files with it.
#[tokio::test]
async fn a_row_that_changed_by_itself_is_reported() {
    const CHANGES: [&str; 26] = [
        "UPDATE files SET id = 'x' WHERE id = 'b'",
        "UPDATE files SET tenant = 'other' WHERE id = 'b'",
        "UPDATE files SET tenant = 'de/ault' WHERE id = 'b'",
        "UPDATE files SET path = 'elsewhere' WHERE id = 'b'",
        "UPDATE files SET level = 5 WHERE id = 'b'",
        "UPDATE files SET level = 900 WHERE id = 'b'",
        "UPDATE files SET tier = 'hos' WHERE id = 'b'",
        "UPDATE files SET spans = 11 WHERE id = 'b'",
        "UPDATE files SET spans = x'0102' WHERE id = 'b'",
        "UPDATE files SET bytes = -1 WHERE id = 'b'",
        "UPDATE files SET start_min = 0 WHERE id = 'b'",
        "UPDATE files SET start_max = 3 WHERE id = 'b'",
        "UPDATE files SET created_at = 4 WHERE id = 'b'",
        "UPDATE files SET minutes = 5 WHERE id = 'b'",
        "UPDATE files SET row_groups = 6, tail_bytes = 9 WHERE id = 'b'",
        "UPDATE files SET lost_spans = 1 WHERE id = 'b'",
        "UPDATE files SET retired_at = 4, retired_reason = 'expired' WHERE id = 'b'",
        "UPDATE files SET retired_at = 4, retired_reason = 'exqired' WHERE id = 'b'",
        "UPDATE files SET revision = 0 WHERE id = 'b'",
        "UPDATE files SET tier = 'warm' WHERE id = 'b'",
        "UPDATE files SET left_out_spans = 3 WHERE id = 'b'",
        "UPDATE files SET table_name = 'rollups' WHERE id = 'b'",
        "UPDATE files SET table_name = 'Spans' WHERE id = 'b'",
        "UPDATE files SET object_store = 'locam' WHERE id = 'b'",
        "UPDATE files SET object_store = x'00' WHERE id = 'b'",
        "UPDATE files SET checksum = NULL WHERE id = 'b'",
    ];
    for change in CHANGES {
        let world = world_of_three().await;
        world.meddle(&[change]).await;
        let catalogue = world.open().await;
        let contents = catalogue.load().await.expect("the others load");
        let ids: Vec<_> = contents.files.iter().map(|file| file.id.as_str()).collect();
        assert_eq!(ids, ["a", "c"], "{change}");
        let [damaged] = &contents.damaged_rows[..] else { panic!("{change}: {:?}", contents.damaged_rows) };
        assert_eq!(
            (&damaged.id, &damaged.path).0.as_deref(),
            Some(if change.contains("id = 'x'") { "x" } else { "b" })
        );
        let retire = Commit { retire: vec![("b".into(), RetirementReason::Expired)], ..Commit::default() };
        assert!(catalogue.commit(retire).await.is_err(), "{change}: nothing builds on the row");
        let mend = Commit { drop_damaged: vec![damaged.row], add: vec![file("b")], ..Commit::default() };
        catalogue.commit(mend).await.expect("a good row takes its place");
        let contents = catalogue.load().await.expect("loads");
        assert_eq!((contents.files.len(), contents.damaged_rows.len()), (3, 0), "{change}");
    }
}

/// A position that can't be believed is not used: the log is read again instead of being skipped.
#[tokio::test]
async fn a_position_that_changed_by_itself_is_not_believed() {
    let world = world_of_three().await;
    world.meddle(&["UPDATE log_positions SET position = 4000 WHERE tenant = ''"]).await;
    let catalogue = world.open().await;
    assert_eq!(catalogue.load().await.expect("loads").log_positions, [position(Some("shop"), 6)]);
    let based_on = vec![position(Some("shop"), 6)];
    let forward = Commit { log_positions: vec![position(None, 4)], based_on, ..Commit::default() };
    catalogue.commit(forward).await.expect("a position takes its place");
    let known = catalogue.load().await.expect("loads").log_positions;
    assert_eq!(known, [position(None, 4), position(Some("shop"), 6)]);
}

/// Before, such a row was left out in silence, as if nothing had ever been remembered.
#[tokio::test]
async fn what_is_remembered_is_not_lost_in_silence() {
    const CHANGES: [(&str, bool); 8] = [
        ("UPDATE meta SET value = 'eleven' WHERE name = 'clock'", true),
        ("UPDATE meta SET value = x'6e6f6f6e' WHERE name = 'clock'", true),
        ("UPDATE meta SET checksum = checksum + 1 WHERE name = 'clock'", true),
        ("UPDATE meta SET checksum = NULL WHERE name = 'clock'", true),
        ("UPDATE meta SET name = 'clocj' WHERE name = 'clock'", true),
        ("UPDATE meta SET name = NULL WHERE name = 'clock'", true),
        ("UPDATE meta SET name = x'636c6f636b' WHERE name = 'clock'", true),
        ("DELETE FROM meta WHERE name = 'clock'", false),
    ];
    for (change, is_there) in CHANGES {
        let world = world_of_three().await;
        world.meddle(&[change]).await;
        let catalogue = world.open().await;
        let contents = catalogue.load().await.expect("the others load");
        assert!(contents.is_lost("clock") && !contents.is_lost("store"), "{change}");
        assert!(!contents.is_lost("other"), "{change}: it was never told");
        assert_eq!(contents.meta.keys().collect::<Vec<_>>(), ["store"], "{change}");
        let forgotten = catalogue.remembered("clock").await;
        assert!(
            matches!(&forgotten, Err(CatalogueError::Forgotten { name }) if name == "clock"),
            "{change}: {forgotten:?}"
        );
        assert!(catalogue.remembered("store").await.expect("it is known").is_some(), "{change}");
        assert_eq!(catalogue.remembered("other").await.expect("it was never told"), None, "{change}");
        let drop_notes: Vec<_> =
            contents.damaged_notes.iter().filter_map(|note| Some((note.kind, note.row?))).collect();
        assert_eq!(drop_notes.len(), usize::from(is_there), "{change}: {:?}", contents.damaged_notes);
        let meta = vec![("clock".into(), "noon".into())];
        catalogue.commit(Commit { drop_notes, meta, ..Commit::default() }).await.expect("commits");
        let contents = catalogue.load().await.expect("loads");
        assert_eq!((contents.damaged_notes, contents.meta.len()), (vec![], 2), "{change}");
        assert_eq!(
            catalogue.remembered("clock").await.expect("it is known again").as_deref(),
            Some("noon"),
            "{change}"
        );
    }
}

/// The list of what must be there is a row like the others. Nobody takes its loss for a catalogue of an earlier version, in which
/// rows have no checksums yet: damaged ones would become sound by that.
#[tokio::test]
async fn the_list_of_what_must_be_remembered_may_be_lost_itself() {
    const CHANGES: [&str; 4] = [
        "UPDATE meta SET value = 'done store' WHERE name = 'checksums'",
        "UPDATE meta SET value = x'00' WHERE name = 'checksums'",
        "UPDATE meta SET name = 'checkrums' WHERE name = 'checksums'",
        "DELETE FROM meta WHERE name = 'checksums'",
    ];
    for change in CHANGES {
        let world = world_of_three().await;
        world
            .meddle(&[
                change,
                "DELETE FROM meta WHERE name = 'clock'",
                "UPDATE files SET checksum = NULL WHERE id = 'b'",
                "UPDATE log_positions SET position = 4000 WHERE tenant = ''",
            ])
            .await;
        let catalogue = world.open().await;
        let contents = catalogue.load().await.expect("the others load");
        assert!(contents.is_lost("clock") && !contents.is_lost("store"), "{change}");
        assert!(!contents.damaged_notes.is_empty() && contents.are_positions_lost(), "{change}");
        assert_eq!((contents.files.len(), contents.damaged_rows.len()), (2, 1), "{change}");
        assert_eq!(contents.log_positions, [position(Some("shop"), 6)], "{change}");
    }
}

/// A catalogue that is made anew knows that there was more.
#[tokio::test]
async fn what_could_not_be_saved_is_known_to_be_lost() {
    for (change, is_list_known) in [
        ("UPDATE meta SET value = 'eleven' WHERE name = 'clock'", true),
        ("DELETE FROM meta WHERE name = 'clock'", true),
        ("UPDATE meta SET value = '' WHERE name IN ('clock', 'checksums')", false),
    ] {
        let world = world_of_three().await;
        world.meddle(&[change, "UPDATE log_positions SET position = 4000 WHERE tenant = ''"]).await;
        rebuild(&world.path()).await.expect("a new one is made");
        for _ in 0..2 {
            let catalogue = world.open().await;
            let contents = catalogue.load().await.expect("loads");
            assert!(contents.is_lost("clock") && !contents.is_lost("store"), "{change}");
            assert_eq!(contents.is_lost("other"), !is_list_known, "{change}");
            let told: Vec<_> = contents.damaged_notes.iter().filter_map(|note| note.name.as_deref()).collect();
            assert_eq!(told, ["lost", if is_list_known { "clock" } else { "checksums" }], "{change}");
            assert!(contents.are_positions_lost(), "{change}");
            assert_eq!(contents.log_positions, [position(Some("shop"), 6)], "{change}");
            // It does not become the list of what is there by the next thing that is remembered.
            let meta = vec![("log".into(), "7".into())];
            catalogue.commit(Commit { meta, ..Commit::default() }).await.expect("commits");
            catalogue.close().await;
        }
    }
}

/// A database that SQLite itself calls malformed is not opened, with an error that says what to do, and not changed; what
/// can be read of it is saved.
#[tokio::test]
async fn a_malformed_database_is_refused_and_rebuilt() {
    const PAGE_BYTES: usize = 4096;
    let world = World::new();
    let catalogue = world.open().await;
    let files: Vec<_> = (0..400).map(|number| file(&format!("file-{number:04}"))).collect();
    let commit = Commit { add: files, log_positions: vec![position(None, 3)], ..Commit::default() };
    catalogue.commit(commit).await.expect("commits");
    catalogue.close().await;
    let sound = std::fs::read(world.path()).expect("the file is there");
    // A page of rows, not of an index, in the middle of them.
    let holds = |page: &[u8], id: &str| page.windows(id.len()).any(|bytes| bytes == id.as_bytes());
    let is_rows = |page: &&[u8]| page[0] == 13 && holds(page, "file-0200") && holds(page, "tenant=default/spans/");
    let page = sound.chunks(PAGE_BYTES).position(|page| is_rows(&page)).expect("the row is somewhere");
    let mut damaged = sound.clone();
    damaged[page * PAGE_BYTES..(page + 1) * PAGE_BYTES].fill(0xa5);
    let cases: [(&str, Vec<u8>, usize); 2] =
        [("a page of rows", damaged, 300), ("no database", b"hello, I am text".repeat(400), 0)];
    for (what, bytes, saved_min) in cases {
        std::fs::write(world.path(), &bytes).expect("the file can be written");
        let refused = SqliteCatalogue::open(&world.path()).await.err();
        let Some(CatalogueError::Damaged { finding, .. }) = &refused else { panic!("{what}: {refused:?}") };
        assert!(!finding.is_empty());
        assert_eq!(std::fs::read(world.path()).expect("it is there"), bytes, "{what}: nothing was changed");
        let rebuilt = rebuild(&world.path()).await.expect("a new one is made");
        assert_eq!(std::fs::read(&rebuilt.kept_as).expect("it is kept"), bytes, "{what}");
        assert!((saved_min..400).contains(&rebuilt.files), "{what}: {rebuilt:?}");
        let contents = world.open().await.load().await.expect("loads");
        assert_eq!(contents.files.len(), rebuilt.files);
        assert_eq!(contents.damaged_rows, []);
        assert_eq!(contents.log_positions.len(), rebuilt.log_positions);
    }
}

#[tokio::test]
async fn an_index_that_does_not_fit_is_found_and_built_anew() {
    let world = world_of_three().await;
    let catalogue = world.open().await;
    catalogue.full_check().await.expect("all is sound");
    catalogue.reindex().await.expect("it can be done at any time");
    catalogue.full_check().await.expect("all is sound");
    assert_eq!(catalogue.load().await.expect("loads").files.len(), 3);
}

/// Before, SQLite waited for ever for a pipe, and through a link that led nowhere it began a new catalogue.
#[tokio::test]
async fn what_is_no_file_is_refused_and_named() {
    use std::os::unix::fs::symlink;
    type Thing = (&'static str, fn(&Path));
    const THINGS: [Thing; 4] = [
        ("a pipe", |path| mknodat(CWD, path, FileType::Fifo, Mode::RWXU, 0).expect("can be made")),
        ("a device", |path| symlink("/dev/zero", path).expect("can be made")),
        ("a folder", |path| fs::create_dir(path).expect("can be made")),
        ("a link that leads to no file", |path| symlink("nothing", path).expect("can be made")),
    ];
    for ending in ["", "-wal", "-shm", "-journal"] {
        for (what, put) in THINGS {
            let world = world_of_three().await;
            let place = PathBuf::from(format!("{}{ending}", world.path().display()));
            let kept = world.path().with_extension("kept");
            if ending.is_empty() {
                fs::rename(&place, &kept).expect("it is there");
            }
            put(&place);
            let refusals = [
                SqliteCatalogue::open(&world.path()).await.err(),
                SqliteCatalogue::open_read_only(&world.path()).await.err(),
            ];
            for refusal in refusals {
                let said = refusal.expect("it must not open").to_string();
                let names = said.contains(&format!("{what} stands at {},", place.display()));
                assert!(names && said.contains("put the file back"), "{said}");
            }
            if ending.is_empty() {
                fs::remove_file(&place).or_else(|_| fs::remove_dir(&place)).expect("it is there");
                // A catalogue on another disk.
                symlink(&kept, &place).expect("can be made");
                let catalogue = world.open().await;
                assert_eq!(catalogue.load().await.expect("loads").files.len(), 3);
                catalogue.close().await;
            }
        }
    }
}

/// All that was committed stood beside the catalogue, and that file is gone. Before, what is left was called one of an older version.
#[tokio::test]
async fn a_catalogue_whose_commits_are_gone_is_called_empty() {
    let (world, kept) = (World::new(), World::new());
    let catalogue = world.open().await;
    catalogue.commit(Commit { add: vec![file("a")], ..Commit::default() }).await.expect("commits");
    fs::copy(world.path(), kept.path()).expect("it can be copied");
    let refused = SqliteCatalogue::open_read_only(&kept.path()).await.err().expect("there is nothing in it");
    assert!(matches!(refused, CatalogueError::Empty { .. }), "{refused:?}");
    assert!(refused.to_string().contains("catalogue.sqlite-wal, which is gone"), "{refused}");
    catalogue.close().await;
}

/// What an earlier repair kept aside stays, also if only what SQLite keeps beside it is left.
#[tokio::test]
async fn a_damaged_catalogue_is_kept_beside_earlier_ones() {
    for taken in ["catalogue.sqlite.damaged-1", "catalogue.sqlite.damaged-1-wal"] {
        let world = world_of_three().await;
        fs::write(world.path(), "no database").expect("can be written");
        let beside = |name: &str| world.path().with_file_name(name);
        fs::write(beside("catalogue.sqlite-wal"), "its log").expect("can be written");
        fs::write(beside(taken), "of an earlier one").expect("can be written");
        let rebuilt = rebuild(&world.path()).await.expect("a new one is made");
        assert_eq!(rebuilt.kept_as, beside("catalogue.sqlite.damaged-2"), "{taken}");
        assert_eq!(fs::read(beside(taken)).expect("it is there"), b"of an earlier one");
        assert_eq!(fs::read(rebuilt.kept_as).expect("it is kept"), b"no database");
    }
}

/// SQLite takes a file without bytes for a new one, and removed the commits beside it, also for who only looked.
#[tokio::test]
async fn a_catalogue_that_was_cut_off_is_refused_and_nothing_beside_it_goes() {
    for left in [0, 1, 50, 99] {
        let world = world_of_three().await;
        let wal = PathBuf::from(format!("{}-wal", world.path().display()));
        fs::write(&wal, [7; 5000]).expect("can be written");
        fs::OpenOptions::new()
            .write(true)
            .open(world.path())
            .and_then(|file| file.set_len(left))
            .expect("can be cut off");
        for opened in [SqliteCatalogue::open(&world.path()).await, SqliteCatalogue::open_read_only(&world.path()).await]
        {
            let error = opened.map(|_| ()).expect_err("it is damaged");
            let expected = format!("only {left} bytes of it are left");
            assert!(
                matches!(&error, CatalogueError::Damaged { finding, .. } if *finding == expected),
                "{left}: {error}"
            );
        }
        assert_eq!(fs::read(&wal).expect("it is there").len(), 5000, "{left}");
    }
    // A start that ended before anything was written.
    let world = World::new();
    fs::write(world.path(), "").expect("can be written");
    world.open().await.close().await;
}
