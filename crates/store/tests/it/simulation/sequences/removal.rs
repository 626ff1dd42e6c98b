//! Files that no longer count, and what has their names.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use tracehouse_model::Span;
use tracehouse_spanfile::Projection;

use super::scene::{RETRY, Scene};
use crate::simulation::disk::parent;
use crate::simulation::expected::TENANTS;
use crate::simulation::run::runtime;
use crate::simulation::{check_seeds, seeds};
use crate::spans::{HOUR, NOON};
use crate::world::{file_spans, spans_of, tenant};

const RETENTION: Duration = Duration::from_secs(2 * 3600);
const MINUTE: Duration = Duration::from_secs(60);
const GRACES: [Duration; 3] = [Duration::from_secs(120), Duration::from_secs(300), Duration::from_secs(600)];

/// Somebody who has opened a file reads on when it is deleted.
fn reader_reads_on(seed: u64) {
    let mut scene = Scene::opened(seed, |config| config.retention = RETENTION);
    let of = scene.tenant_at_random();
    for _ in 0..2 {
        scene.write_file(of, NOON);
    }
    let files = scene.store().snapshot(&tenant(of)).files;
    let file = files[scene.chance.below(2) as usize].clone();
    let wanted = file_spans(&file);
    let open = file.open().expect("it is there");
    if scene.chance.one_in(2) {
        scene.pass(2 * RETENTION);
    } else {
        runtime().block_on(scene.store().compact()).expect("it merges");
        scene.pass(2 * scene.config.delete_grace);
    }
    let name = format!("{}.parquet", file.record.id);
    let left: Vec<_> =
        scene.world.files_ending_with("").into_iter().filter(|path| path.to_string_lossy().contains(&name)).collect();
    assert!(left.is_empty(), "{}: {left:?}", scene.what("it is not deleted"));
    let mut found: Vec<Span> = Vec::new();
    for group in 0..open.row_groups() {
        let rows = open.read_rows(group, 0..open.rows_of(group), Projection::All);
        let rows = rows.unwrap_or_else(|error| panic!("{}: {error:?}", scene.what("a reader can't read on")));
        found.extend(spans_of(&rows));
    }
    assert!(found == wanted, "{}", scene.what("a reader finds something else"));
}

#[test]
fn a_reader_reads_on_in_a_file_that_is_deleted() {
    check_seeds(seeds(40), reader_reads_on, drop);
}

/// The catalogue takes no retirements for a while: what was retired before is deleted in time.
fn expiry_fails(seed: u64) {
    let mut scene = Scene::new(seed);
    scene.config.retention = RETENTION;
    scene.config.delete_grace = scene.chance.pick(&GRACES);
    scene.open();
    for of in 0..TENANTS {
        for _ in 0..2 {
            scene.write_file(of, NOON);
        }
    }
    // The grace period is not over when something is to expire.
    let minutes_of_grace = scene.config.delete_grace.as_secs() / MINUTE.as_secs();
    let minutes_before = 1 + scene.chance.below(minutes_of_grace - 1) as u32;
    scene.pass(RETENTION - minutes_before * MINUTE);
    runtime().block_on(scene.store().compact()).expect("it merges");
    let retired = scene.world.files_ending_with(".retired");
    assert!(!retired.is_empty(), "{}", scene.what("files were replaced"));
    scene.catalogue.refuse_retirements(true);
    scene.pass(2 * scene.config.delete_grace + RETRY);
    let troubles = scene.store().troubles();
    assert!(troubles.iter().any(|trouble| trouble.contains("retention")), "{}: {troubles:?}", scene.what("it is told"));
    let left: Vec<_> = retired.iter().filter(|path| path.exists()).collect();
    assert!(left.is_empty(), "{}: {left:?}", scene.what("not deleted"));
    scene.assert_complete("nothing has expired");
    scene.catalogue.refuse_retirements(false);
    scene.pass(2 * RETRY + 2 * scene.config.delete_grace);
    (0..TENANTS).for_each(|of| scene.forget_spans_before(of, i64::MAX));
    scene.assert_complete("all has expired");
    scene.assert_no_troubles("all has expired");
    scene.assert_folder_is_tidy("all has expired");
}

#[test]
fn files_are_deleted_while_nothing_can_expire() {
    check_seeds(seeds(40), expiry_fails, drop);
}

/// The catalogue fails when it is to forget what was deleted.
fn forgetting_fails(seed: u64) {
    let mut scene = Scene::opened(seed, |_| ());
    for _ in 0..2 {
        let of = scene.tenant_at_random();
        scene.write_file(of, NOON);
        scene.write_file(of, NOON);
    }
    runtime().block_on(scene.store().compact()).expect("they are merged");
    scene.catalogue.fail_one_in(Some(1 + scene.chance.below(2)));
    scene.pass(2 * scene.config.delete_grace);
    scene.catalogue.fail_one_in(None);
    scene.work(2);
    let listed = scene.catalogue.contents().files;
    assert!(
        listed.iter().all(|file| file.retired.is_none()),
        "{}: {listed:?}",
        scene.what("the catalogue is well again")
    );
    scene.assert_complete("the catalogue is well again");
}

#[test]
fn what_was_deleted_is_forgotten_at_last() {
    check_seeds(seeds(40), forgetting_fails, drop);
}

/// Somebody gives a live file the name under which one that does not count any more waits to be deleted, or soon will.
fn live_file_has_another_name(seed: u64) {
    let mut scene = Scene::opened(seed, |_| ());
    let (of, whose) = (scene.tenant_at_random(), scene.tenant_at_random());
    for _ in 0..2 {
        scene.write_file(of, NOON);
    }
    let replaced = scene.live_of(of).swap_remove(scene.chance.below(2) as usize);
    let replaced = scene.path_of(&replaced);
    for hour in 1..4 {
        scene.write_file(whose, NOON + hour * HOUR);
    }
    let waits = scene.chance.one_in(2);
    if waits {
        runtime().block_on(scene.store().compact()).expect("it merges");
    }
    let hidden = replaced.with_added_extension("retired");
    let hour = NOON + (1 + scene.chance.below(3) as i64) * HOUR;
    let live = scene.live_of(whose).into_iter().find(|file| file.start_min >= hour).expect("the hour has a file");
    let live = scene.path_of(&live);
    let bytes = fs::read(&live).expect("it is there");
    if waits && scene.chance.one_in(2) {
        scene.move_by_hand(&hidden, &scene.away());
        scene.move_by_hand(&live, &hidden);
        scene.move_by_hand(&scene.away(), &live);
    } else {
        scene.move_by_hand(&live, &hidden);
    }
    if scene.chance.one_in(3) {
        scene.restart();
    }
    // Another merge may miss its file.
    let _ = runtime().block_on(scene.store().compact());
    // What can't be read does not say which file it is.
    if scene.chance.one_in(2) {
        scene.disk.unlist(Some(parent(&hidden).to_owned()));
    }
    scene.pass(2 * scene.config.delete_grace);
    scene.disk.unlist(None);
    if scene.chance.one_in(3) {
        scene.restart();
        scene.pass(2 * scene.config.delete_grace);
    }
    let files = scene.world.files_ending_with("");
    let is_there = files.iter().any(|path| fs::read(path).is_ok_and(|found| found == bytes));
    assert!(is_there, "{}", scene.what("the content of a live file is gone"));
}

#[test]
fn a_live_file_stays_whatever_name_somebody_gave_it() {
    check_seeds(seeds(60), live_file_has_another_name, drop);
}

/// Somebody takes away what is to be deleted, alone or with the folder that holds it, and puts it back later.
fn away_when_due(seed: u64) {
    let mut scene = Scene::opened(seed, |_| ());
    let of = scene.tenant_at_random();
    for other in 0..TENANTS {
        scene.write_file(other, NOON);
    }
    scene.write_file(of, NOON);
    runtime().block_on(scene.store().compact()).expect("they are merged");
    let retired = scene.world.files_ending_with(".retired");
    let moved = match scene.chance.below(3) {
        0 => scene.world.store_dir(),
        1 => scene.world.store_dir().join(format!("tenant={}", tenant(of))),
        _ => retired[scene.chance.below(retired.len() as u64) as usize].clone(),
    };
    scene.move_by_hand(&moved, &scene.away());
    // A start refuses a store of which nothing is left.
    if moved != scene.world.store_dir() && scene.chance.one_in(2) {
        scene.restart();
    }
    scene.pass(2 * scene.config.delete_grace);
    if moved.is_dir() {
        // The store has made it anew.
        fs::remove_dir_all(&moved).expect("it can be removed");
    }
    scene.move_by_hand(&scene.away(), &moved);
    scene.work(2);
    scene.assert_folder_is_tidy("it is back");
    assert_eq!(scene.world.files_ending_with(".retired"), Vec::<PathBuf>::new(), "{}", scene.what("it is back"));
    scene.restart();
    scene.assert_complete("in the next process");
    scene.assert_no_troubles("in the next process");
}

#[test]
fn what_was_away_when_it_was_due_is_deleted_when_it_is_back() {
    check_seeds(seeds(60), away_when_due, drop);
}
