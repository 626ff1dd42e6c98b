//! Damage to the small files that say what the large ones are: the store's name, and what the catalogue says of itself.

use std::os::unix::fs::symlink;

use super::*;
use crate::world::until_in_time;

fn marker(world: &World) -> PathBuf {
    world.store_dir().join("STORE_ID")
}

/// What one bit, an interrupted write or a mistake leaves of a name.
fn damaged(name: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let flipped = |mask: u8| [&[name[0] ^ mask], &name[1..]].concat();
    vec![
        ("another digit", flipped(1)),
        ("no digit", flipped(0x40)),
        ("no text", flipped(0x80)),
        ("empty", Vec::new()),
        ("half", name[..16].to_vec()),
        ("zeros", vec![0; 33]),
    ]
}

async fn try_repair(world: &World, options: RepairOptions) -> Result<RepairReport, OpenError> {
    let (clock, randomness) = (world.clock.clone(), Arc::new(SystemRandomness::from_seed(1)));
    repair_store(&Disk::default(), &world.paths(), options, clock, randomness, &mut |_, _| {}).await
}

/// Before, one bit of it was a dead end: the store started no more, and a repair refused as well.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_name_of_the_store_is_written_anew() {
    let world = world_of_hours(3).await;
    let name = fs::read(marker(&world)).expect("the folder has a name");
    for (what, damaged) in damaged(&name) {
        fs::write(marker(&world), &damaged).expect("it can be written");
        let said = refused(&world).await.to_string();
        assert!(said.contains("STORE_ID") && said.contains("`tracehouse store repair`"), "{what}: {said}");
        let findings = check(&world).await.catalogue;
        assert!(findings.iter().any(|finding| finding.contains("STORE_ID")), "{what}: {findings:?}");
        let done = repair_fully(what, &world, RepairOptions::default()).await;
        assert!(matches!(&done.actions[..], [Action::NameStore { .. }]), "{what}: {done:?}");
        assert_eq!(fs::read(marker(&world)).expect("the folder has a name"), name, "{what}");
        assert!(check(&world).await.is_sound(), "{what}");
        let store = world.open().await;
        check_hours(what, &store, 0..3);
        store.shutdown().await.expect("the store stops");
    }
}

/// A folder with another's name, in which nothing is, stays another's whatever is said of missing files.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_name_in_a_folder_without_the_files_is_not_written_anew() {
    let world = world_of_hours(3).await;
    let name = fs::read(marker(&world)).expect("the folder has a name");
    fs::rename(world.store_dir().join("tenant=default"), world.path().join("kept")).expect("it can be moved");
    for (what, damaged) in damaged(&name) {
        fs::write(marker(&world), &damaged).expect("it can be written");
        for forget_missing in [false, true] {
            let has_another_name = what == "another digit";
            if forget_missing && !has_another_name {
                continue;
            }
            let options = RepairOptions { forget_missing, ..RepairOptions::default() };
            let error = try_repair(&world, options).await.expect_err("the files are not there");
            match error {
                OpenError::NothingOfOurs { listed: 3, .. } => assert!(has_another_name, "{what}"),
                OpenError::NothingToRepair { listed: 3, .. } => assert!(!has_another_name, "{what}"),
                error => panic!("{what}: {error:?}"),
            }
            assert_eq!(fs::read(marker(&world)).expect("it is there"), damaged, "{what}");
        }
    }
    let options = RepairOptions { forget_missing: true, ..RepairOptions::default() };
    try_repair(&world, options).await.expect("an operator may let go of them");
    assert_eq!(fs::read(marker(&world)).expect("the folder has a name"), name);
    world.open().await.shutdown().await.expect("the store stops");
}

/// Nothing depends on it yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_name_of_an_empty_store_is_written_anew_by_a_start() {
    for what in ["no text", "empty", "half", "zeros"] {
        let world = World::new();
        world.open().await.shutdown().await.expect("the store stops");
        let name = fs::read(marker(&world)).expect("the folder has a name");
        let bytes = damaged(&name).into_iter().find(|(kind, _)| *kind == what).expect("it is one of them").1;
        fs::write(marker(&world), bytes).expect("it can be written");
        world.open().await.shutdown().await.expect("the store stops");
        assert_eq!(fs::read(marker(&world)).expect("the folder has a name"), name, "{what}");
    }
}

/// Once, a check called such a store whole.
#[tokio::test(flavor = "multi_thread")]
async fn something_else_in_place_of_the_spool_is_found() {
    type Thing = (&'static str, fn(&Path));
    const THINGS: [Thing; 2] = [
        ("a file", |path| fs::write(path, "").expect("it can be written")),
        ("a link that leads nowhere", |path| symlink("nothing", path).expect("it can be made")),
    ];
    for (what, put) in THINGS {
        let world = world_of_hours(1).await;
        let spool = world.store_dir().join(".spool");
        fs::remove_dir(&spool).expect("it is empty");
        put(&spool);
        let report = check(&world).await;
        let [finding] = &report.catalogue[..] else { panic!("{what}: {report:?}") };
        assert!(finding.contains(".spool") && finding.contains(what), "{finding}");
        let repaired = repair(&world, RepairOptions::default()).await;
        assert!(
            matches!(&repaired.left[..], [left] if left.path == ".spool" && left.why.contains(what)),
            "{repaired:?}"
        );
        let said = refused(&world).await.to_string();
        assert!(said.contains(".spool"), "{said}");
        fs::remove_file(&spool).expect("it is there");
        check_hours(what, &*world.open().await, 0..1);
    }
}

/// Files that are not ours are not removed, should the folder be a link to theirs.
#[tokio::test(flavor = "multi_thread")]
async fn only_half_written_files_are_removed_from_the_spool() {
    let world = world_of_hours(1).await;
    let spool = world.store_dir().join(".spool");
    for name in ["x.tmp", "letter.txt"] {
        fs::write(spool.join(name), "").expect("it can be written");
    }
    world.open().await.shutdown().await.expect("the store stops");
    assert_eq!(everything_in(&spool), [(spool.join("letter.txt"), Vec::new())]);
}

/// Before, neither a start nor a repair went on after a changed letter in the catalogue's description of its tables.
#[tokio::test(flavor = "multi_thread")]
async fn a_catalogue_that_describes_other_tables_is_rebuilt() {
    const CHANGES: [(&str, u8); 6] = [
        ("minutes ", 1),
        ("start_min ", 0x80),
        ("start_min      BIGINT", 0x80),
        ("success BOOLEAN", 2),
        ("meta (", 4),
        ("SQLite format 3", 1),
    ];
    for (what, mask) in CHANGES {
        let world = world_of_hours(3).await;
        world.close_catalogues().await;
        let catalogue = world.paths().catalogue;
        let mut bytes = fs::read(&catalogue).expect("it is there");
        let at = bytes.windows(what.len()).rposition(|window| window == what.as_bytes()).expect("it says so");
        bytes[at + what.len() - 3] ^= mask;
        fs::write(&catalogue, bytes).expect("it can be written");
        let refusal = tracehouse_catalogue::SqliteCatalogue::open(&catalogue).await.err().expect("it is damaged");
        assert!(refusal.to_string().contains("`tracehouse store repair`"), "{what}: {refusal}");
        assert!(!check(&world).await.is_sound(), "{what}");
        let foreseen = repair(&world, RepairOptions { dry_run: true, ..RepairOptions::default() }).await;
        let is_rebuilding = |report: &RepairReport| matches!(report.actions[0], Action::RebuildCatalogue { .. });
        assert!(is_rebuilding(&foreseen), "{what}: {foreseen:?}");
        let done = repair(&world, RepairOptions::default()).await;
        assert!(is_rebuilding(&done) && done.left.is_empty(), "{what}: {done:?}");
        let report = check(&world).await;
        assert!(report.is_sound(), "{what}: {done:?} {report:?}");
        let store = world.open().await;
        assert_eq!((unreadable(&store), store.troubles()), (vec![], vec![]), "{what}");
        check_hours(what, &store, 0..3);
        store.shutdown().await.expect("the store stops");
    }
}

/// What the catalogue remembers beside the files: damaged, it was left out without a word, and a file counted that was not
/// compared yet.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_catalogue_remembers_is_not_left_out_in_silence() {
    let world = world_of_hours(3).await;
    // An hour is sent again while its file is away; both are there after that, and the next start would compare them.
    let path = world.store_dir().join(record_of_hour(&world, 1).await.path);
    let kept = world.path().join("kept");
    fs::rename(&path, &kept).expect("it can be moved");
    let store = world.open().await;
    append(&store, batch_of(&spans_of_hour(1))).await;
    store.flush().await.expect("the flush succeeds");
    store.shutdown().await.expect("the store stops");
    fs::rename(&kept, &path).expect("it can be put back");
    for (name, told, damage) in [
        ("held-back", "which files may hold copies", "UPDATE meta SET value = value || 'x' WHERE name = 'held-back'"),
        ("store", "the store's name", "UPDATE meta SET value = upper(value) || 'x' WHERE name = 'store'"),
        ("clock", "what time it was", "UPDATE meta SET value = '9' || value WHERE name = 'clock'"),
        ("log", "how far the log had come", "UPDATE meta SET value = x'ff' WHERE name = 'log'"),
    ] {
        let world = world.crash_image();
        world.meddle(&[damage]).await;
        let started = world.crash_image();
        let store = started.open().await;
        let troubles = store.troubles();
        let is_told = |said: &String| said.contains(told) && said.contains("`tracehouse store repair`");
        assert!(troubles.iter().any(is_told), "{name}: {troubles:?}");
        until_in_time(&started, "the files are compared", || unreadable(&store).is_empty()).await;
        check_hours(name, &store, 0..3);
        store.shutdown().await.expect("the store stops");
        assert!(check(&world).await.catalogue.iter().any(|finding| finding.contains(told)), "{name}");
        let done = repair_fully(name, &world, RepairOptions::default()).await;
        assert!(done.actions.iter().any(|action| action.to_string().contains(told)), "{name}: {done:?}");
        assert!(check(&world).await.is_sound(), "{name}");
        let store = world.open().await;
        check_hours(name, &store, 0..3);
        store.shutdown().await.expect("the store stops");
    }
}
