//! One run: a store in a folder, and what a seed lets happen to it.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, OnceLock, mpsc};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tempfile::TempDir;
use tokio::runtime::Runtime;
use tracehouse_catalogue::{RetirementReason, SqliteCatalogue};
use tracehouse_disk::Disk;
use tracehouse_model::{Clock, ManualClock, Span, SystemRandomness};
use tracehouse_store::{
    AppendError, Background, Durability, OpenError, Store, StoreConfig, StoreStep, WriteError, open_folder,
};

use super::catalogue::SimulatedCatalogue;
use super::chance::Chance;
use super::disk::{Moment, Mood, Pause, SimulatedDisk, Site, parent};
use super::expected::{Expected, MayExpire, TENANTS};
use crate::spans::{HOUR, NOON, SECOND, batch_of, plain_span};
use crate::world::tenant;

/// What a run came to.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) trace: u64,
    pub(crate) sites: BTreeSet<Site>,
    steps: u64,
    events: u64,
    power_failures: u64,
    kills: u64,
    batches: u64,
    spans_compared: u64,
    expired: u64,
    amid: u64,
    moved: u64,
}

impl Outcome {
    pub(crate) fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.events += other.events;
        self.power_failures += other.power_failures;
        self.kills += other.kills;
        self.batches += other.batches;
        self.spans_compared += other.spans_compared;
        self.expired += other.expired;
        self.amid += other.amid;
        self.moved += other.moved;
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { steps, events, power_failures, kills, batches, spans_compared, expired, amid, moved, .. } = self;
        write!(
            formatter,
            "{events} events, {batches} batches, {steps} steps on the disk, {kills} restarts, {power_failures} of them after the power \
             had failed, {spans_compared} spans compared, {expired} expired, {amid} times work went on amid other work, {moved} files \
             moved away for a while"
        )
    }
}

/// Work that takes long.
#[derive(Debug, Clone, Copy)]
enum Long {
    Flush,
    Merge,
}

type Appending = Pin<Box<dyn Future<Output = Result<(), AppendError>> + Send>>;

struct Run {
    seed: u64,
    chance: Chance,
    folder: TempDir,
    disk: Arc<SimulatedDisk>,
    catalogue: Arc<SimulatedCatalogue>,
    clock: Arc<ManualClock>,
    config: StoreConfig,
    store: Option<Arc<Store>>,
    opened: u64,
    /// Batches that were sent and not answered yet.
    appending: Vec<(usize, Appending)>,
    expected: Expected,
    /// Spans so far, each of which has a number.
    spans: u64,
    /// Of the wall clock, from the right time.
    wall_is_off_by: i64,
    /// The furthest that it was ahead of the right time while the store can't know better, as its first clock was wrong.
    is_believed_ahead: Option<i64>,
    /// Files that somebody moved out of the store's folder.
    away: Vec<PathBuf>,
    /// Whose files can't be made.
    refused: Option<usize>,
    /// Disk and catalogue do what they are asked.
    is_sound: bool,
    outcome: Outcome,
    event: String,
}

pub(super) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
    })
}

/// Panics when something does not hold.
pub(crate) fn run(seed: u64, left_out: Option<Site>) -> Outcome {
    let mut chance = Chance::new(seed);
    let folder = folder_in_memory();
    let disk = Arc::new(SimulatedDisk::new(folder.path().to_owned(), chance.fork(), left_out));
    let faults = chance.fork();
    // A few, as it synchronises in earnest.
    let catalogue = if seed % 40 == 7 {
        runtime().block_on(async {
            let opened = SqliteCatalogue::open(&folder.path().join("catalogue.sqlite")).await;
            SimulatedCatalogue::of_sqlite(opened.expect("SQLite opens"), faults, disk.clone()).await
        })
    } else {
        SimulatedCatalogue::new(faults, disk.clone())
    };
    let catalogue = Arc::new(catalogue);
    let config = settings(&mut chance, &folder, &disk);
    let mut run = Run {
        seed,
        chance,
        folder,
        disk,
        catalogue,
        clock: Arc::new(ManualClock::at_unix_nanos(NOON)),
        config,
        store: None,
        opened: 0,
        appending: Vec::new(),
        expected: Expected::default(),
        spans: 0,
        wall_is_off_by: 0,
        is_believed_ahead: None,
        away: Vec::new(),
        refused: None,
        is_sound: true,
        outcome: Outcome::default(),
        event: String::new(),
    };
    if run.chance.one_in(8) {
        let off_by = run.chance.pick(&[30 * 24 * HOUR, -30 * 24 * HOUR]);
        run.is_believed_ahead = Some(0);
        run.set_wall_clock(off_by);
    }
    run.open();
    let events = 40 + run.chance.below(120);
    for number in 0..events {
        run.event(number);
    }
    run.end();
    runtime().block_on(run.catalogue.close());
    run.outcome.trace = run.disk.trace();
    run.outcome.sites = run.disk.sites();
    run.outcome.steps = run.disk.steps();
    run.outcome.events = events;
    run.outcome.batches = run.expected.batches.len() as u64;
    run.outcome.spans_compared = run.expected.found;
    run.outcome.expired = run.expected.expired;
    run.outcome
}

/// What is durable the simulated disk says: a real one need not be waited for.
fn folder_in_memory() -> TempDir {
    let of_memory = tempfile::tempdir_in("/dev/shm");
    of_memory.or_else(|_| tempfile::tempdir()).expect("a temporary folder")
}

fn settings(chance: &mut Chance, folder: &TempDir, disk: &Arc<SimulatedDisk>) -> StoreConfig {
    StoreConfig {
        log_dir: folder.path().join("log"),
        durability: if chance.one_in(5) { Durability::Interval(Duration::from_secs(1)) } else { Durability::Fsync },
        hot_bytes_max: chance.pick(&[1 << 20, 1 << 20, 1 << 20, 24 << 10]),
        flush_bytes: chance.pick(&[8 << 10, 64 << 10, 1 << 20]),
        flush_interval: Duration::from_secs(60),
        retention: if chance.one_in(3) { Duration::from_secs(2 * 3600) } else { Duration::from_secs(1 << 33) },
        disk_budget_bytes: chance.one_in(6).then_some(96 << 10),
        disk_free_bytes_min: 0,
        log_segment_bytes_max: chance.pick(&[1 << 10, 8 << 10, 1 << 20]),
        disk: Disk::with_faults(disk.clone()),
        background: Background::Called,
        ..StoreConfig::default()
    }
}

impl Run {
    fn what(&self) -> String {
        format!("seed {}, {}", self.seed, self.event)
    }

    fn say(&mut self, number: u64, event: &str) {
        self.event = format!("event {number}: {event}");
        self.tell(&format!("{} (disk step {})", self.event, self.disk.steps()));
    }

    /// For who runs one seed again.
    fn tell(&self, what: &str) {
        if std::env::var_os("SIMULATION_SEED").is_some() {
            eprintln!("{what}");
        }
    }

    /// Beneath another folder than the log's.
    fn store_dir(&self) -> PathBuf {
        self.folder.path().join("disk/store")
    }

    fn try_open(&mut self) -> Result<Arc<Store>, OpenError> {
        self.opened += 1;
        let randomness = Arc::new(SystemRandomness::from_seed(self.seed << 20 | self.opened));
        let (config, catalogue, clock, root) =
            (self.config.clone(), self.catalogue.clone(), self.clock.clone(), self.store_dir());
        runtime().block_on(async move {
            let objects = open_folder(&config.disk, &root, &*catalogue).await?;
            Store::open(config, objects, Some(root), catalogue, clock, randomness).await
        })
    }

    /// Opens the store; should that fail, once more on a sound disk.
    fn open(&mut self) {
        let opened = self.try_open();
        if self.disk.take_dropped() {
            self.expected.doubt();
        }
        match opened {
            Ok(store) => self.store = Some(store),
            Err(error) => {
                let are_away = matches!(error, OpenError::FilesMissing { .. }) && !self.away.is_empty();
                assert!(
                    !self.is_sound || !self.disk.has_power() || are_away,
                    "{}: the store does not open: {error:?}",
                    self.what()
                );
                self.mend();
                // Most are missing: somebody has to say what is to become of them.
                self.put_back();
                let opened = self.try_open();
                self.store =
                    Some(opened.unwrap_or_else(|error| panic!("{}: it does not open: {error:?}", self.what())));
            }
        }
        // A start makes durable what it finds.
        self.expected.durable(self.clock.monotonic());
        self.look();
    }

    /// From here on disk and catalogue do what they are asked. If the power has failed, what was not on the disk is lost.
    fn mend(&mut self) {
        if self.disk.has_power() {
            self.disk.restart_process();
        } else {
            self.outcome.power_failures += 1;
            self.expected.power_failed();
            self.disk.restore_power();
        }
        self.refused = None;
        self.catalogue.fail_one_in(None);
        self.is_sound = true;
    }

    fn store(&self) -> &Arc<Store> {
        self.store.as_ref().expect("it is open")
    }

    /// The process ends without a word, and another begins.
    fn kill(&mut self) {
        self.outcome.kills += 1;
        self.poll();
        self.appending.clear();
        self.store = None;
        if !self.disk.has_power() || self.chance.one_in(2) {
            self.mend();
        }
        self.open();
    }

    fn event(&mut self, number: u64) {
        if !self.disk.has_power() {
            self.say(number, "the power has failed");
            self.kill();
        }
        match self.chance.below(100) {
            0..28 => {
                self.say(number, "send");
                self.send();
                if self.chance.one_in(2) {
                    self.step(StoreStep::Log);
                }
            }
            28..34 => {
                self.say(number, "send again");
                self.send_again();
            }
            34..52 => {
                self.say(number, "write the log");
                self.step(StoreStep::Log);
            }
            52..57 => {
                self.say(number, "flush if due");
                self.step(StoreStep::Flush);
            }
            57..60 => {
                self.say(number, "flush");
                // What waits for the log may come into memory while the flush goes on.
                let comes_in = !self.appending.is_empty();
                let flushed = runtime().block_on(self.store().flush()).map(drop);
                self.check_work(flushed);
                if !comes_in {
                    self.look_who_is_in_memory();
                }
            }
            60..63 => self.amid(number, Long::Flush),
            63..67 => {
                self.say(number, "merge if due");
                self.step(StoreStep::Merge);
            }
            67..69 => {
                self.say(number, "merge");
                let merged = runtime().block_on(self.store().compact()).map(drop);
                self.check_work(merged);
            }
            69..71 => self.amid(number, Long::Merge),
            71..76 => {
                self.say(number, "keep");
                self.step(StoreStep::Keep);
            }
            76..78 => {
                self.say(number, "a file is moved away");
                self.move_away();
            }
            78..79 => {
                self.say(number, "files are put back");
                self.put_back();
            }
            79..87 => {
                let seconds = self.chance.pick(&[1, 2, 20, 61, 61, 130, 600, 3600, 3 * 3600]);
                self.say(number, &format!("{seconds} s pass"));
                self.clock.advance(Duration::from_secs(seconds));
            }
            87..89 => {
                let off_by = self.chance.pick(&[0, 0, HOUR, -HOUR, 30 * 24 * HOUR, -30 * 24 * HOUR]);
                self.say(number, &format!("the wall clock is off by {} s", off_by / SECOND));
                self.set_wall_clock(off_by);
            }
            89..92 => {
                self.say(number, "the process is killed");
                self.kill();
            }
            92..94 => {
                let steps = self.chance.below(60);
                self.say(number, &format!("the power fails after {steps} steps"));
                self.disk.fail_power_after(steps);
            }
            94..95 => {
                self.say(number, "stop");
                let stopped = runtime().block_on(self.store().shutdown());
                self.check_work(stopped);
                self.kill();
            }
            95..97 => {
                self.say(number, "all is sound");
                self.disk.set_mood(Mood::Sound);
                self.disk.refuse(None);
                self.refused = None;
                self.catalogue.fail_one_in(None);
                // What failed before may still have its effect: the store has to open once more.
            }
            97..98 => {
                self.say(number, "the catalogue fails");
                let one_in = self.chance.pick(&[2, 5, 12]);
                self.catalogue.fail_one_in(Some(one_in));
                self.is_sound = false;
            }
            98..99 => {
                let of = self.chance.below(TENANTS as u64) as usize;
                self.say(number, &format!("no file can be made for {}", tenant(of)));
                self.disk.refuse(Some(self.store_dir().join(format!("tenant={}", tenant(of)))));
                self.refused = Some(of);
            }
            _ => {
                let one_in = self.chance.pick(&[3, 10, 40]);
                let mood = self.chance.pick(&[Mood::Failing { one_in }, Mood::Full, Mood::Unreadable { one_in }]);
                self.say(number, &format!("the disk is {mood:?}"));
                self.disk.set_mood(mood);
                self.is_sound = false;
            }
        }
        self.look();
    }

    /// Work fails only if the disk or the catalogue do.
    fn check_work(&mut self, outcome: Result<(), WriteError>) {
        self.poll();
        if let Err(error) = outcome {
            let may_fail = !self.is_sound || !self.disk.has_power() || self.refused.is_some() || !self.away.is_empty();
            assert!(may_fail, "{}: it fails on a sound disk: {error:?}", self.what());
            self.tell(&format!("it fails: {error:?}"));
        }
    }

    /// After a flush of everything: whose spans can't be written keeps nobody else's in memory.
    fn look_who_is_in_memory(&self) {
        if !self.is_sound || !self.disk.has_power() {
            return;
        }
        for number in (0..TENANTS).filter(|number| self.refused != Some(*number)) {
            let hot = self.store().snapshot(&tenant(number)).hot;
            assert!(hot.is_empty(), "{}: spans of {} stay in memory for another's sake", self.what(), tenant(number));
        }
    }

    /// Work that takes long stops before one of its steps; what may go on meanwhile does.
    fn amid(&mut self, number: u64, long: Long) {
        let steps_left = self.chance.below(9);
        self.say(number, &format!("{long:?}, and other work amid it after {steps_left} steps"));
        let (tell, told) = mpsc::channel();
        let store = self.store().clone();
        let disk = self.disk.clone();
        let outcome = std::thread::scope(|scope| {
            let (goes_on, go_on) = mpsc::channel();
            disk.set_pause(Some(Pause { steps_left, tell: tell.clone(), go_on }));
            let working = scope.spawn(move || {
                let outcome = match long {
                    Long::Flush => runtime().block_on(store.flush()).map(drop),
                    Long::Merge => runtime().block_on(store.compact()).map(drop),
                };
                let _ = tell.send(Moment::Done);
                outcome
            });
            if told.recv() == Ok(Moment::Paused) {
                self.outcome.amid += 1;
                for _ in 0..1 + self.chance.below(4) {
                    self.work_amid(long);
                    self.look();
                }
            }
            drop(goes_on);
            working.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        self.disk.set_pause(None);
        self.check_work(outcome);
    }

    fn work_amid(&mut self, long: Long) {
        match (self.chance.below(8), long) {
            (0..2, _) => self.send(),
            (2, _) => self.send_again(),
            (3..5, _) => self.step(StoreStep::Log),
            (5, _) => self.step(StoreStep::Keep),
            (6, _) => {
                self.clock.advance(Duration::from_secs(61));
                self.step(StoreStep::Keep);
            }
            (_, Long::Flush) => {
                let merged = runtime().block_on(self.store().compact()).map(drop);
                self.check_work(merged);
            }
            (_, Long::Merge) => {
                let flushed = runtime().block_on(self.store().flush()).map(drop);
                self.check_work(flushed);
            }
        }
    }

    fn set_wall_clock(&mut self, off_by: i64) {
        self.clock.jump_wall_clock(off_by - self.wall_is_off_by);
        self.wall_is_off_by = off_by;
        self.is_believed_ahead = self.is_believed_ahead.map(|furthest| furthest.max(off_by));
    }

    fn away_path(&self, path: &Path) -> PathBuf {
        let relative = path.strip_prefix(self.folder.path()).expect("a file of the store");
        self.folder.path().join("away").join(relative)
    }

    /// Somebody moves a file out of the store's folder.
    fn move_away(&mut self) {
        if !self.disk.has_power() {
            return;
        }
        let live: Vec<PathBuf> = (0..TENANTS)
            .flat_map(|number| self.store().snapshot(&tenant(number)).files.to_vec())
            .map(|file| self.store_dir().join(&file.record.path))
            .filter(|path| path.exists())
            .collect();
        if live.is_empty() {
            return;
        }
        let path = live[self.chance.below(live.len() as u64) as usize].clone();
        let away = self.away_path(&path);
        fs::create_dir_all(parent(&away)).expect("a folder can be made");
        self.disk.moved_by_hand(&path);
        fs::rename(&path, away).expect("a file can be moved");
        self.tell(&format!("{} is moved away", path.display()));
        self.outcome.moved += 1;
        self.away.push(path);
    }

    /// All files are where they were, those apart that the store has given up meanwhile.
    fn put_back(&mut self) {
        for path in std::mem::take(&mut self.away) {
            let is_known = self.catalogue.contents().files.iter().any(|file| path.ends_with(&file.path));
            if is_known {
                self.tell(&format!("{} is put back", path.display()));
                fs::create_dir_all(parent(&path)).expect("a folder can be made");
                fs::rename(self.away_path(&path), &path).expect("a file can be moved");
            }
        }
    }

    fn step(&mut self, step: StoreStep) {
        self.store().step(step);
        self.poll();
        if step == StoreStep::Log && self.is_sound && self.disk.has_power() {
            let interval = match self.config.durability {
                Durability::Fsync => Duration::ZERO,
                Durability::Interval(interval) => interval,
            };
            if let Some(up_to) = self.clock.monotonic().checked_sub(interval) {
                self.expected.durable(up_to);
            }
        }
    }

    /// Now, whatever the wall clock says.
    fn now(&self) -> i64 {
        NOON + self.clock.monotonic().as_nanos() as i64
    }

    fn send(&mut self) {
        let of = self.chance.below(TENANTS as u64) as usize;
        let count = 1 + self.chance.below(if self.chance.clone().one_in(8) { 60 } else { 8 });
        let ago = self.chance.pick(&[0, 0, 0, 1, 90]) * 60 * SECOND;
        let spans: Vec<Span> = (0..count)
            .map(|_| {
                self.spans += 1;
                let trace = u128::from(1 + self.spans / 5) << 60;
                let start = self.now() - ago - self.chance.below(30 * SECOND as u64) as i64;
                plain_span(trace, self.spans, self.spans.saturating_sub(1), start)
            })
            .collect();
        self.append(of, spans);
    }

    /// A batch once more, or a part of it.
    fn send_again(&mut self) {
        if self.expected.batches.is_empty() {
            return;
        }
        let sent = &self.expected.batches[self.chance.below(self.expected.batches.len() as u64) as usize];
        let (of, mut spans) = (sent.tenant, sent.spans.clone());
        if self.chance.one_in(3) {
            spans.truncate(1 + self.chance.below(spans.len() as u64) as usize);
        }
        self.append(of, spans);
    }

    fn append(&mut self, of: usize, spans: Vec<Span>) {
        let (store, batch) = (self.store().clone(), batch_of(&spans));
        let number = self.expected.sent(of, spans);
        self.tell(&format!("batch {number}, of {}, {} spans", tenant(of), batch.len()));
        let appending: Appending = Box::pin(async move { store.append(tenant(of), batch).await });
        self.appending.push((number, appending));
        self.poll();
    }

    /// Takes what was answered.
    fn poll(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        let now = self.clock.monotonic();
        let is_durable_at_once = self.config.durability == Durability::Fsync;
        let is_told = std::env::var_os("SIMULATION_SEED").is_some();
        let expected = &mut self.expected;
        self.appending.retain_mut(|(batch, appending)| match appending.as_mut().poll(&mut context) {
            Poll::Pending => true,
            Poll::Ready(answer) => {
                if is_told {
                    eprintln!("batch {batch}: {answer:?}");
                }
                if answer.is_ok() {
                    expected.acknowledged(*batch, now);
                    if is_durable_at_once {
                        expected.durable(now);
                    }
                }
                false
            }
        });
        // What was acknowledged just now may have been dropped just then.
        if self.disk.take_dropped() {
            expected.doubt();
        }
    }

    fn may_expire(&mut self) -> MayExpire {
        let retention = i64::try_from(self.config.retention.as_nanos()).unwrap_or(i64::MAX);
        let for_room = self.config.disk_budget_bytes.is_some();
        if for_room {
            for file in self.catalogue.contents().files {
                let has_expired = file.retired.is_some_and(|retired| retired.reason == RetirementReason::Expired);
                if has_expired && let Some(of) = (0..TENANTS).find(|number| tenant(*number) == file.tenant) {
                    self.expected.removed(of, &file.id);
                }
            }
        }
        // A store whose first clock was wrong can't tell which of the times that it was told is right.
        let latest = self.now() + self.is_believed_ahead.unwrap_or(0);
        MayExpire { before: latest.saturating_sub(retention), for_room }
    }

    fn look(&mut self) {
        let what = self.what();
        let may_expire = self.may_expire();
        let mut hot_bytes = 0;
        for number in 0..TENANTS {
            let snapshot = self.store().snapshot(&tenant(number));
            hot_bytes += snapshot.hot.iter().map(|batch| batch.spans.memory_bytes()).sum::<usize>();
            self.expected.check(&what, number, &snapshot, &may_expire, false);
        }
        assert!(hot_bytes <= 2 * self.config.hot_bytes_max, "{what}: {hot_bytes} bytes in memory");
    }

    /// All is well again, and time goes on until nothing is left to do.
    fn end(&mut self) {
        self.say(u64::MAX, "the end");
        self.kill();
        self.mend();
        self.appending.clear();
        self.store = None;
        self.set_wall_clock(0);
        self.put_back();
        self.open();
        for _ in 0..6 {
            self.clock.advance(Duration::from_secs(400));
            for step in [StoreStep::Log, StoreStep::Flush, StoreStep::Merge, StoreStep::Keep] {
                self.step(step);
                self.look();
            }
        }
        let flushed = runtime().block_on(self.store().flush()).map(drop);
        self.check_work(flushed);
        self.look();
        let merged = runtime().block_on(self.store().compact()).map(drop);
        self.check_work(merged);
        self.look();
        for _ in 0..3 {
            self.clock.advance(Duration::from_secs(400));
            self.step(StoreStep::Keep);
            self.look();
        }
        let what = self.what();
        let may_expire = self.may_expire();
        let mut listed: BTreeSet<PathBuf> = BTreeSet::new();
        let mut bytes = 0;
        for number in 0..TENANTS {
            let snapshot = self.store().snapshot(&tenant(number));
            assert!(snapshot.hot.is_empty(), "{what}: all is in files");
            self.expected.check(&what, number, &snapshot, &may_expire, true);
            listed.extend(snapshot.files.iter().map(|file| self.store_dir().join(&file.record.path)));
            bytes += snapshot.files.iter().map(|file| file.record.bytes).sum::<u64>();
        }
        if let Some(budget) = self.config.disk_budget_bytes {
            assert!(bytes <= budget, "{what}: {bytes} bytes in files, the budget is {budget}");
        }
        // What has just expired is there for those who read it.
        let files = self.catalogue.contents().files;
        let retired = files.iter().filter(|file| file.retired.is_some());
        listed.extend(retired.map(|file| self.store_dir().join(format!("{}.retired", file.path))));
        assert_eq!(files_below(&self.store_dir()), listed, "{what}: what is in the folder");
    }
}

/// Files of the store's folder, apart from the one that names the store.
fn files_below(root: &std::path::Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the store") {
            let path = entry.expect("an entry of it").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name != "STORE_ID") {
                found.insert(path);
            }
        }
    }
    found
}
