//! Files that are out of reach for a while.

use tracehouse_model::Span;
use tracehouse_store::StoreStep;

use super::scene::{RETRY, Scene};
use crate::simulation::catalogue::Loss;
use crate::simulation::disk::parent;
use crate::simulation::expected::TENANTS;
use crate::simulation::run::runtime;
use crate::simulation::{check_seeds, seeds};
use crate::spans::{HOUR, NOON};
use crate::world::tenant;

/// A store that has none of its files open, one of which is away. With the spans of that file, and the tenant.
fn one_is_away(seed: u64) -> (Scene, usize, Vec<Span>) {
    // What is in memory of a file could be read without it.
    let mut scene = Scene::opened(seed, |config| config.cache_bytes_max = 0);
    let of = scene.tenant_at_random();
    let spans = scene.write_file(of, NOON);
    let file = scene.live_of(of).remove(0);
    // It has others beside it, or is the only one of its tenant.
    let is_alone = scene.chance.one_in(3);
    for other in (0..TENANTS).filter(|other| *other != of || !is_alone) {
        scene.write_file(other, NOON);
    }
    scene.restart();
    scene.move_by_hand(&scene.path_of(&file), &scene.away());
    (scene, of, spans)
}

fn put_back(scene: &Scene) {
    // It is the only one that is missing.
    let files = scene.live();
    let file = files.iter().find(|file| !scene.path_of(file).exists()).expect("a file is away");
    scene.move_by_hand(&scene.away(), &scene.path_of(file));
}

/// Spans are sent again while the file in which they stand is away.
fn sent_again(seed: u64) {
    let (mut scene, of, spans) = one_is_away(seed);
    if scene.chance.one_in(3) {
        scene.restart();
    }
    let again = 1 + scene.chance.below(spans.len() as u64) as usize;
    for spans in spans[..again].chunks(1 + scene.chance.below(again as u64) as usize) {
        scene.send(of, spans);
    }
    scene.flush();
    if scene.chance.one_in(3) {
        scene.store().step(StoreStep::Keep);
    }
    put_back(&scene);
    if scene.chance.one_in(2) {
        scene.kill();
        if scene.chance.one_in(2) {
            assert!(scene.catalogue.lose(&Loss::Note("held-back")), "{}", scene.what("there is such a note"));
        }
        scene.open();
    }
    scene.work(2);
    scene.assert_complete("the file is back");
    scene.restart();
    scene.work(1);
    scene.assert_complete("the file is back, after a restart");
}

#[test]
fn spans_sent_again_while_their_file_is_away_count_once() {
    check_seeds(seeds(60), sent_again, drop);
}

/// Who asks finds that a file is away; when it is back it can't be read for a while.
fn away_and_unreadable(seed: u64) {
    let (scene, of, _) = one_is_away(seed);
    let files = scene.live_of(of);
    let file = files.iter().find(|file| !scene.path_of(file).exists()).expect("a file is away");
    let assert_named = |what: &str| {
        let unreadable = scene.store().snapshot(&tenant(of)).unreadable;
        let is_named = unreadable.iter().any(|other| other.path == file.path);
        assert!(is_named, "{}: {unreadable:?}", scene.what(what));
    };
    scene.store().snapshot(&tenant(of)).files.iter().for_each(|file| drop(file.open()));
    scene.store().step(StoreStep::Keep);
    assert_named("it is away");
    put_back(&scene);
    scene.disk.unlist(Some(parent(&scene.path_of(file)).to_owned()));
    scene.work(2);
    assert_named("it can't be read");
    scene.disk.unlist(None);
    scene.work(2);
    scene.assert_complete("it can be read");
}

#[test]
fn a_file_that_is_away_is_named_until_it_can_be_read() {
    check_seeds(seeds(40), away_and_unreadable, drop);
}

/// All spans of a file are sent again while it is away, so that nothing is left of it when it is back; the catalogue fails just then.
fn nothing_is_left(seed: u64) {
    let (mut scene, of, spans) = one_is_away(seed);
    scene.send(of, &spans);
    scene.flush();
    put_back(&scene);
    scene.catalogue.fail_one_in(Some(2));
    scene.work(1);
    scene.catalogue.fail_one_in(None);
    if scene.chance.one_in(3) {
        scene.restart();
    }
    scene.work(2);
    scene.assert_complete("the catalogue is well again");
    scene.restart();
    scene.work(2);
    scene.assert_complete("after a restart");
    scene.assert_folder_is_tidy("after a restart");
}

#[test]
fn a_file_that_has_nothing_of_its_own_goes_for_good_or_stays() {
    check_seeds(seeds(60), nothing_is_left, drop);
}

/// Nobody hears that a file that is back counts again; its spans are sent again, and the process is killed.
fn answer_is_lost(seed: u64) {
    let (mut scene, of, spans) = one_is_away(seed);
    scene.restart();
    put_back(&scene);
    scene.world.clock.advance(RETRY);
    scene.store().step(StoreStep::Keep);
    scene.catalogue.fail_one_in(Some(2));
    scene.store().step(StoreStep::Merge);
    scene.send(of, &spans);
    let _ = runtime().block_on(scene.store().flush());
    scene.catalogue.fail_one_in(None);
    if scene.chance.one_in(2) {
        scene.flush();
    }
    scene.restart();
    scene.work(2);
    scene.assert_complete("in the next process");
}

#[test]
fn a_file_counts_again_once_though_nobody_hears_of_it() {
    check_seeds(seeds(60), answer_is_lost, drop);
}

/// A merge fails, as one of its files is away: all others are done.
fn others_are_merged(seed: u64) {
    const HOURS: i64 = 2;
    const FILES: usize = 2;
    let mut scene = Scene::opened(seed, |config| config.cache_bytes_max = 0);
    let places: Vec<(usize, i64)> =
        (0..TENANTS).flat_map(|of| (0..HOURS).map(move |hour| (of, NOON - hour * HOUR))).collect();
    for (of, from) in places.iter().cycle().take(FILES * places.len()) {
        scene.write_file(*of, *from);
    }
    scene.restart();
    let files = scene.live();
    let missing = &files[scene.chance.below(files.len() as u64) as usize];
    scene.move_by_hand(&scene.path_of(missing), &scene.away());
    runtime().block_on(scene.store().compact()).expect_err("a file is away");
    for (of, from) in places {
        let in_place = |start: i64| (from..from + HOUR).contains(&start);
        let files = scene.live_of(of).into_iter().filter(|file| in_place(file.start_min)).count();
        let is_missing = missing.tenant == tenant(of) && in_place(missing.start_min);
        let wanted = if is_missing { FILES } else { 1 };
        assert_eq!(files, wanted, "{}, {}, files that begin at {from}", scene.what("merged"), tenant(of));
    }
    put_back(&scene);
    scene.work(2);
    runtime().block_on(scene.store().compact()).expect("no file is away");
    scene.assert_complete("all are merged");
}

#[test]
fn a_merge_that_fails_keeps_none_of_the_others() {
    check_seeds(seeds(30), others_are_merged, drop);
}
