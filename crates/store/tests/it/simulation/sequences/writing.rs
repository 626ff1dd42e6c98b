//! Flushes that fail or are cut short, and two stores that write.

use std::fs;
use std::io;
use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tracehouse_disk::{Disk, DiskFaults, DiskStep};
use tracehouse_model::Span;
use tracehouse_store::{Durability, StoreConfig, StoreStep};

use super::scene::{Scene, send_to, try_to_send};
use crate::simulation::disk::SimulatedDisk;
use crate::simulation::expected::TENANTS;
use crate::simulation::run::runtime;
use crate::simulation::{check_seeds, seeds};
use crate::spans::{NOON, assert_same_spans, by_key};
use crate::world::{all_spans, tenant};

/// Longer than what failed once waits, and shorter than the time after which the store writes down the time anyway.
const SOON: Duration = Duration::from_secs(10);
/// So many steps on disk and catalogue a first flush takes, about.
const STEPS_OF_FLUSH: u64 = 20;

/// The process is killed amid the first flush of each tenant, another one flushes the same hour, and the power fails.
fn killed_before(seed: u64) {
    let mut scene = Scene::opened(seed, |_| ());
    for of in 0..TENANTS {
        let spans = scene.new_spans(20, NOON);
        scene.send(of, &spans);
        let steps = scene.chance.below(STEPS_OF_FLUSH);
        scene.disk.fail_power_after(steps);
        let _ = runtime().block_on(scene.store().flush());
        scene.restart();
        scene.assert_complete("after a kill");
    }
    for of in 0..TENANTS {
        scene.write_file(of, NOON);
    }
    scene.power_fails();
    scene.open();
    scene.assert_complete("after the power failed");
}

#[test]
fn what_is_flushed_after_a_kill_survives_a_power_failure() {
    check_seeds(seeds(120), killed_before, drop);
}

/// A disk on which one step fails, once.
struct FailsOnce {
    disk: Arc<SimulatedDisk>,
    /// Which steps may.
    may_fail: fn(DiskStep<'_>) -> bool,
    /// So many of them are taken before; `None`: it is sound.
    left: Mutex<Option<u64>>,
}

impl FailsOnce {
    /// A store on such a disk.
    fn opened(
        seed: u64,
        may_fail: fn(DiskStep<'_>) -> bool,
        change: impl FnOnce(&mut StoreConfig),
    ) -> (Scene, Arc<Self>) {
        let mut scene = Scene::new(seed);
        let disk = Arc::new(Self { disk: scene.disk.clone(), may_fail, left: Mutex::default() });
        scene.config.disk = Disk::with_faults(disk.clone());
        change(&mut scene.config);
        scene.open();
        (scene, disk)
    }
}

impl DiskFaults for FailsOnce {
    fn before(&self, step: DiskStep<'_>, site: &'static Location<'static>) -> io::Result<()> {
        if (self.may_fail)(step) {
            let mut left = self.left.lock();
            if *left == Some(0) {
                *left = None;
                return Err(io::Error::from_raw_os_error(5));
            }
            *left = left.map(|left| left - 1);
        }
        self.disk.before(step, site)
    }

    fn torn(&self, bytes: usize) -> usize {
        self.disk.torn(bytes)
    }
}

/// A folder can't be synchronised while a flush writes its files.
fn synchronisation_fails(seed: u64) {
    let (mut scene, disk) = FailsOnce::opened(seed, |step| matches!(step, DiskStep::SyncFolder(_)), |_| ());
    for of in 0..TENANTS {
        let spans = scene.new_spans(20, NOON);
        scene.send(of, &spans);
    }
    *disk.left.lock() = Some(seed % 18);
    let _ = runtime().block_on(scene.store().flush());
    *disk.left.lock() = None;
    scene.flush();
    scene.store().step(StoreStep::Keep);
    scene.assert_complete("after a synchronisation failed");
    scene.assert_folder_is_tidy("after a synchronisation failed");
    scene.assert_no_troubles("after a synchronisation failed");
    scene.restart();
    scene.assert_complete("in the next process");
    scene.assert_folder_is_tidy("in the next process");
}

#[test]
fn a_flush_that_fails_leaves_no_files() {
    check_seeds(seeds(54), synchronisation_fails, drop);
}

/// The log is synchronised from time to time, or as a segment is full, and cannot be.
fn log_is_not_synchronised(seed: u64) {
    let is_of_log =
        |step: DiskStep<'_>| matches!(step, DiskStep::SyncFile(path) if path.extension().is_some_and(|is| is == "wal"));
    let by_time = seed.is_multiple_of(2);
    let (mut scene, disk) = FailsOnce::opened(seed, is_of_log, |config| {
        config.durability = Durability::Interval(if by_time { SOON } else { Duration::from_secs(1 << 30) });
        config.log_segment_bytes_max = if by_time { 1 << 30 } else { 1 << 10 };
    });
    let rounds = 2 + scene.chance.below(8);
    *disk.left.lock() = Some(scene.chance.below(rounds) / 2);
    for _ in 0..40 {
        let (of, spans) = (scene.tenant_at_random(), scene.new_spans(20, NOON));
        let answer = try_to_send(scene.store(), of, &spans);
        if answer.is_err() {
            break;
        }
        scene.world.clock.advance(SOON);
        scene.store().step(StoreStep::Log);
    }
    assert!(disk.left.lock().is_none(), "{}", scene.what("it never failed"));
    let (of, spans) = (scene.tenant_at_random(), scene.new_spans(20, NOON));
    let answer = try_to_send(scene.store(), of, &spans);
    assert!(answer.is_err(), "{}", scene.what("acknowledged though what came before may be lost"));
    assert!(!scene.store().troubles().is_empty(), "{}", scene.what("nobody is told"));
}

#[test]
fn a_log_that_cannot_be_synchronised_takes_nothing_more() {
    check_seeds(seeds(40), log_is_not_synchronised, drop);
}

/// A segment of the log that nobody needs any more can't be removed at once.
fn segment_stays(seed: u64) {
    let is_removal = |step: DiskStep<'_>| matches!(step, DiskStep::RemoveFile(path) if path.extension().is_some_and(|it| it == "wal"));
    let (mut scene, disk) = FailsOnce::opened(seed, is_removal, |config| config.log_segment_bytes_max = 1 << 10);
    for _ in 0..3 + scene.chance.below(4) {
        let spans = scene.new_spans(20, NOON);
        let of = scene.tenant_at_random();
        scene.send(of, &spans);
    }
    *disk.left.lock() = Some(scene.chance.below(4));
    scene.flush();
    *disk.left.lock() = None;
    for of in 0..TENANTS {
        scene.write_file(of, NOON);
    }
    let segments = scene.world.segments();
    assert_eq!(segments.len(), 1, "{}: {segments:?}", scene.what("all is in files"));
    scene.assert_complete("all is in files");
}

#[test]
fn a_segment_that_could_not_be_removed_is_removed_later() {
    check_seeds(seeds(40), segment_stays, drop);
}

/// A tenant whose spans could not be stored has kept the log's position behind those of another; a start catches up.
fn position_catches_up(seed: u64) {
    let mut scene = Scene::opened(seed, |config| {
        config.log_segment_bytes_max = 1 << 10;
        config.flush_bytes = 1;
    });
    let of = scene.tenant_at_random();
    for _ in 0..1 + scene.chance.below(3) {
        for whose in [of, (of + 1) % TENANTS] {
            let spans = scene.new_spans(20, NOON);
            scene.send(whose, &spans);
        }
    }
    scene.disk.refuse(Some(scene.world.store_dir().join(format!("tenant={}", tenant(of)))));
    runtime().block_on(scene.store().flush()).expect_err("one tenant has no folder");
    scene.restart();
    scene.flush();
    scene.restart();
    scene.assert_complete("all is in files");
    scene.assert_no_troubles("all is in files");
}

#[test]
fn nobody_is_told_of_losses_when_the_log_catches_up() {
    check_seeds(seeds(40), position_catches_up, drop);
}

/// Nobody can tell at first what became of a flush's commit; where it was done, the next flush finds nothing left to write down.
fn commit_is_unknown(seed: u64) {
    let mut scene = Scene::opened(seed, |_| ());
    for _ in 0..1 + scene.chance.below(2) {
        let of = scene.tenant_at_random();
        let spans = scene.new_spans(20, NOON);
        scene.send(of, &spans);
    }
    scene.catalogue.fail_one_in(Some(1));
    runtime().block_on(scene.store().flush()).expect_err("the catalogue fails");
    scene.catalogue.fail_one_in(None);
    assert!(!scene.store().troubles().is_empty(), "{}", scene.what("it is told"));
    scene.flush();
    scene.assert_no_troubles("it is known");
    scene.assert_complete("it is known");
    scene.assert_folder_is_tidy("it is known");
    scene.restart();
    scene.assert_complete("in the next process");
}

#[test]
fn a_trouble_ends_where_its_commit_was_done() {
    check_seeds(seeds(40), commit_is_unknown, drop);
}

/// How far the log had come was written down after a failure; then somebody removes the log.
fn log_is_removed(seed: u64) {
    let mut scene = Scene::opened(seed, |_| ());
    for _ in 0..scene.chance.below(3) {
        let of = scene.tenant_at_random();
        scene.write_file(of, NOON);
    }
    let of = scene.tenant_at_random();
    let lost = scene.new_spans(20, NOON);
    send_to(scene.store(), of, &lost);
    if scene.chance.one_in(2) {
        scene.catalogue.fail_one_in(Some(1));
        scene.store().step(StoreStep::Keep);
        scene.catalogue.fail_one_in(None);
        scene.world.clock.advance(SOON);
    }
    scene.store().step(StoreStep::Keep);
    scene.kill();
    let log_dir = &scene.config.log_dir;
    scene.disk.moved_by_hand(log_dir);
    fs::remove_dir_all(log_dir).expect("the log's folder is there");
    scene.open();
    // Of each process, until somebody acknowledges it.
    for _ in 0..1 + scene.chance.below(3) {
        scene.assert_complete("the rest");
        let troubles = scene.store().troubles();
        let is_told = troubles.iter().any(|trouble| trouble.contains("the log") && trouble.contains("lost"));
        assert!(is_told, "{}: {troubles:?}", scene.what("nobody is told"));
        let of = scene.tenant_at_random();
        scene.write_file(of, NOON);
        scene.restart();
    }
}

#[test]
fn what_a_removed_log_held_is_told_by_each_process() {
    check_seeds(seeds(60), log_is_removed, drop);
}

/// A second store is opened over the same catalogue and folder, with a log of its own.
fn two_write(seed: u64) {
    let mut scene = Scene::opened(seed, |_| ());
    let of = scene.tenant_at_random();
    for _ in 0..1 + scene.chance.below(3) {
        scene.write_file(of, NOON);
    }
    let second_config = StoreConfig { log_dir: scene.world.path().join("second-log"), ..scene.config.clone() };
    let second = scene.try_open(second_config).expect("nothing tells it yet");
    let mut others = Vec::new();
    for _ in 0..1 + scene.chance.below(9) {
        let spans = scene.new_spans(3, NOON);
        send_to(&second, of, &spans);
        others.extend(spans);
    }
    for _ in 0..1 + scene.chance.below(3) {
        let spans = scene.new_spans(3, NOON);
        scene.send(of, &spans);
    }
    scene.flush();
    let is_told = runtime().block_on(second.flush()).is_err() && second.ready().is_err();
    let is_seconds = |span: &Span| others.iter().any(|other| other.span_id == span.span_id);
    let (shown, _): (Vec<Span>, Vec<Span>) = all_spans(&second.snapshot(&tenant(of))).into_iter().partition(is_seconds);
    assert_same_spans(&scene.what("what the second took"), &shown, &by_key(&others), 1);
    for _ in 0..1 + scene.chance.below(9) {
        let spans = scene.new_spans(3, NOON);
        scene.send(of, &spans);
    }
    if scene.chance.one_in(3) {
        scene.flush();
    }
    drop(second);
    scene.restart();
    let (_, firsts): (Vec<Span>, Vec<Span>) =
        all_spans(&scene.store().snapshot(&tenant(of))).into_iter().partition(is_seconds);
    assert_same_spans(&scene.what("what the first took"), &firsts, &by_key(scene.sent(of)), 1);
    assert!(is_told, "{}", scene.what("the second is not told"));
}

#[test]
fn of_two_stores_that_write_one_stops_and_nothing_is_missing() {
    check_seeds(seeds(60), two_write, drop);
}
