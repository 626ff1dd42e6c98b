//! What the catalogue loses, and a clock that nobody had set.

use std::time::Duration;

use tracehouse_store::{StoreStep, UnreadableReason};

use super::scene::{RETRY, Scene};
use crate::simulation::catalogue::Loss;
use crate::simulation::expected::TENANTS;
use crate::simulation::run::runtime;
use crate::simulation::{check_seeds, seeds};
use crate::spans::{HOUR, NOON};
use crate::world::tenant;

const RETENTION: Duration = Duration::from_secs(2 * 3600);
const MINUTE: Duration = Duration::from_secs(60);

/// Spans that could not be written to files were repeated in the log, and the catalogue loses how far those count.
fn positions_are_lost(seed: u64) {
    const ROUNDS_MAX: usize = 200;
    let mut scene = Scene::opened(seed, |config| config.log_segment_bytes_max = 1 << 10);
    let of = scene.tenant_at_random();
    scene.disk.refuse(Some(scene.world.store_dir().join(format!("tenant={}", tenant(of)))));
    let spans = scene.new_spans(20, NOON);
    scene.send(of, &spans);
    let rounds_after = scene.chance.below(4);
    let is_adopted =
        |scene: &Scene| scene.catalogue.contents().log_positions.iter().any(|known| known.log == "local-adopted");
    let mut rounds_left = ROUNDS_MAX;
    while !is_adopted(&scene) {
        rounds_left -= 1;
        assert!(rounds_left > 0, "{}", scene.what("the log grows without bound"));
        let spans = scene.new_spans(40, NOON);
        scene.send((of + 1) % TENANTS, &spans);
        runtime().block_on(scene.store().flush()).expect_err("one tenant has no folder");
    }
    for _ in 0..rounds_after {
        let spans = scene.new_spans(4, NOON);
        let whose = scene.tenant_at_random();
        scene.send(whose, &spans);
    }
    scene.kill();
    let positions = scene.catalogue.contents().log_positions;
    let adopted = positions.iter().position(|known| known.log == "local-adopted").expect("one was seen");
    let place = if scene.chance.one_in(3) { scene.chance.next() } else { adopted as u64 };
    assert!(scene.catalogue.lose(&Loss::Position(place)), "{}", scene.what("there are positions"));
    scene.open();
    scene.assert_complete("a position is lost");
    let troubles = scene.store().troubles();
    let is_told = troubles.iter().any(|trouble| trouble.contains("the catalogue lost"));
    assert!(is_told, "{}: {troubles:?}", scene.what("nobody is told"));
    scene.flush();
    scene.assert_complete("a position is lost, and all is in files");
    scene.restart();
    scene.assert_complete("a position was lost, and another process began");
}

#[test]
fn repeated_spans_are_there_though_positions_are_lost() {
    check_seeds(seeds(40), positions_are_lost, drop);
}

/// The note of the time is lost while the wall clock is far ahead, and files were written under it.
fn time_is_lost(seed: u64) {
    let mut scene = Scene::opened(seed, |config| config.retention = RETENTION);
    for of in 0..TENANTS {
        scene.write_file(of, NOON);
    }
    let minutes = scene.chance.below(50) as u32;
    scene.pass(minutes * MINUTE);
    let ahead = (1 + scene.chance.below(60) as i64) * 24 * HOUR;
    scene.world.clock.jump_wall_clock(ahead);
    let (of, now) = (scene.tenant_at_random(), scene.now());
    scene.write_file(of, now);
    if scene.chance.one_in(2) {
        scene.store().step(StoreStep::Keep);
    }
    scene.kill();
    assert!(scene.catalogue.lose(&Loss::Note("clock")), "{}", scene.what("the time is noted"));
    scene.open();
    let minutes = 1 + scene.chance.below(50) as u32;
    scene.pass(minutes * MINUTE);
    scene.assert_complete("the wall clock is ahead");
    scene.world.clock.jump_wall_clock(-ahead);
    scene.store().step(StoreStep::Keep);
    scene.assert_complete("the wall clock is right again");
}

#[test]
fn nothing_expires_by_a_wrong_clock_when_the_time_is_lost() {
    check_seeds(seeds(40), time_is_lost, drop);
}

/// A machine without a battery begins in 1970, and learns the time later.
fn clock_is_set_later(seed: u64) {
    let mut scene = Scene::new(seed);
    scene.config.retention = RETENTION;
    let behind = NOON - scene.chance.below(100) as i64 * HOUR;
    scene.world.clock.jump_wall_clock(-behind);
    scene.open();
    for of in 0..TENANTS {
        scene.write_file(of, NOON);
    }
    let minutes = scene.chance.below(300) as u32;
    scene.pass(minutes * MINUTE);
    scene.assert_complete("nothing is old");
    let restarts = scene.chance.below(3);
    if restarts == 1 {
        scene.restart();
    }
    scene.world.clock.jump_wall_clock(behind);
    if restarts == 2 {
        scene.restart();
    }
    scene.store().step(StoreStep::Keep);
    scene.assert_no_troubles("the clock is right");
    scene.assert_complete("the clock is right");
    scene.pass(RETENTION);
    let now = scene.now();
    for of in 0..TENANTS {
        scene.write_file(of, now);
        scene.forget_spans_before(of, now);
    }
    scene.pass(10 * MINUTE);
    scene.assert_complete("what is old has expired");
    scene.assert_no_troubles("what is old has expired");
}

#[test]
fn a_clock_that_was_set_late_is_believed() {
    check_seeds(seeds(40), clock_is_set_later, drop);
}

/// The row of an old file is lost: it stays where it is, and all others expire.
fn row_of_old_file_is_lost(seed: u64) {
    let mut scene = Scene::opened(seed, |config| config.retention = RETENTION);
    for of in 0..TENANTS {
        for _ in 0..1 + scene.chance.below(3) {
            scene.write_file(of, NOON);
        }
    }
    scene.pass(RETENTION / 2);
    let now = scene.now();
    for of in 0..TENANTS {
        scene.forget_spans_before(of, now);
        scene.write_file(of, now);
    }
    let old: Vec<_> = scene.live().into_iter().filter(|file| file.start_max < now).collect();
    let lost = &old[scene.chance.below(old.len() as u64) as usize];
    assert!(scene.catalogue.lose(&Loss::File(lost.id.clone())), "{}", scene.what("it has a row"));
    let seconds_more = scene.chance.below(900);
    scene.pass(RETENTION / 2 + RETRY + Duration::from_secs(seconds_more));
    for of in 0..TENANTS {
        let snapshot = scene.store().snapshot(&tenant(of));
        let found = snapshot.files.iter().filter(|file| file.record.start_max < now).count();
        assert_eq!(found, 0, "{}, {}", scene.what("old files that have not expired"), tenant(of));
        let new = snapshot.files.iter().filter(|file| file.record.start_min >= now).count();
        assert_eq!(new, 1, "{}, {}", scene.what("new files"), tenant(of));
        let named: Vec<_> = snapshot.unreadable.iter().map(|file| (file.path.as_str(), file.reason)).collect();
        let is_lost = lost.tenant == tenant(of);
        let wanted: Vec<_> = is_lost.then_some((lost.path.as_str(), UnreadableReason::Unknown)).into_iter().collect();
        assert_eq!(named, wanted, "{}, {}", scene.what("what can't be read"), tenant(of));
    }
    assert!(scene.path_of(lost).exists(), "{}", scene.what("a file that nobody knows is deleted"));
}

#[test]
fn a_file_whose_row_is_lost_keeps_none_of_the_others_from_expiring() {
    check_seeds(seeds(40), row_of_old_file_is_lost, drop);
}
