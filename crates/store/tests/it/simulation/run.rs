//! One run: a store in a folder, and what a seed lets happen to it.

mod end;
mod events;
mod looks;
mod losses;
mod others;
mod readers;
mod sends;

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tempfile::TempDir;
use tokio::runtime::Runtime;
use tracehouse_catalogue::{FileRecord, SqliteCatalogue};
use tracehouse_disk::Disk;
use tracehouse_model::{Clock, ManualClock, SystemRandomness, TenantId};
use tracehouse_store::{AppendError, Background, Durability, OpenError, Store, StoreConfig, open_folder};

use super::catalogue::SimulatedCatalogue;
use super::chance::Chance;
use super::disk::{SimulatedDisk, Site};
use super::expected::Expected;
use crate::spans::{HOUR, NOON};
use crate::world::tenant;
use losses::LostRow;
use readers::Reader;

/// As long as so many segments together one may become while the next can't be begun.
const SEGMENTS_IN_ONE_MAX: u64 = 4;

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
    refused: u64,
    spans_compared: u64,
    expired: u64,
    amid: u64,
    moved: u64,
    read_on: u64,
}

impl Outcome {
    pub(crate) fn add(&mut self, other: &Self) {
        self.steps += other.steps;
        self.events += other.events;
        self.power_failures += other.power_failures;
        self.kills += other.kills;
        self.batches += other.batches;
        self.refused += other.refused;
        self.spans_compared += other.spans_compared;
        self.expired += other.expired;
        self.amid += other.amid;
        self.moved += other.moved;
        self.read_on += other.read_on;
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { steps, events, power_failures, kills, batches, refused, .. } = self;
        let Self { spans_compared, expired, amid, moved, read_on, .. } = self;
        write!(
            formatter,
            "{events} events, {batches} batches, {refused} of them refused, {steps} steps on the disk, {kills} restarts, \
             {power_failures} of them after the power had failed, {spans_compared} spans compared, {expired} expired, {amid} times work went on amid other work, {moved} files \
             moved away for a while, {read_on} read again by who held on to them"
        )
    }
}

/// A batch that was sent and not answered yet.
struct Appending {
    batch: usize,
    of: usize,
    bytes: usize,
    /// It must not be refused for want of room.
    has_room: bool,
    /// Its tenant has all that it may have already.
    takes_share: bool,
    answer: Pin<Box<dyn Future<Output = Result<(), AppendError>> + Send>>,
}

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
    appending: Vec<Appending>,
    /// What the largest batch took in memory.
    batch_bytes_max: usize,
    expected: Expected,
    /// Spans so far, each of which has a number.
    spans: u64,
    /// Of the wall clock, from the right time.
    wall_is_off_by: i64,
    /// The furthest that it was ahead of the right time while the store can't know better, as its first clock was wrong.
    is_believed_ahead: Option<i64>,
    /// Files that somebody moved out of the store's folder.
    away: Vec<PathBuf>,
    /// All that ever were, though they were put back.
    moved: BTreeSet<PathBuf>,
    readers: Vec<Reader>,
    /// Somebody removed the log, or a part of it, at some time.
    has_lost_log: bool,
    /// The catalogue may lose rows: in few runs, as less can be expected then.
    loses_rows: bool,
    /// Files whose rows it lost.
    lost_rows: Vec<LostRow>,
    /// It lost those, or others.
    has_lost_rows: bool,
    /// A store that lost the time deletes nothing up to a moment, and had deleted what began before another.
    nothing_expires_until: Option<(Duration, i64)>,
    /// Of the wall clock, whenever it was.
    furthest_ahead: i64,
    /// It was wrong at some time.
    was_clock_wrong: bool,
    /// What the next batch brings is to be remembered soon.
    is_news_to_come: bool,
    /// How far the catalogue knew the log to have come when such news came.
    news: Option<u64>,
    /// When the time could not be written down for the first time in a row.
    time_failed_at: Option<Duration>,
    /// Whose files can't be made.
    refused: Option<usize>,
    /// Disk and catalogue do what they are asked.
    is_sound: bool,
    /// A synchronisation of the log failed since the store was opened: nothing is acknowledged any more.
    has_log_failed: bool,
    /// They did not at some time since the store was opened.
    has_met_faults: bool,
    outcome: Outcome,
    /// Of the event.
    number: u64,
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
    let config = settings(seed, &mut chance, &folder, &disk);
    disk.bound_segments(SEGMENTS_IN_ONE_MAX * config.log_segment_bytes_max);
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
        batch_bytes_max: 0,
        expected: Expected::default(),
        spans: 0,
        wall_is_off_by: 0,
        is_believed_ahead: None,
        away: Vec::new(),
        moved: BTreeSet::new(),
        readers: Vec::new(),
        has_lost_log: false,
        loses_rows: seed % 5 == 3,
        lost_rows: Vec::new(),
        has_lost_rows: false,
        nothing_expires_until: None,
        furthest_ahead: 0,
        was_clock_wrong: false,
        is_news_to_come: true,
        news: None,
        time_failed_at: None,
        refused: None,
        is_sound: true,
        has_log_failed: false,
        has_met_faults: false,
        outcome: Outcome::default(),
        number: 0,
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
        run.number = number;
        run.event();
    }
    run.number = events;
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
pub(super) fn folder_in_memory() -> TempDir {
    let of_memory = tempfile::tempdir_in("/dev/shm");
    of_memory.or_else(|_| tempfile::tempdir()).expect("a temporary folder")
}

fn settings(seed: u64, chance: &mut Chance, folder: &TempDir, disk: &Arc<SimulatedDisk>) -> StoreConfig {
    StoreConfig {
        log_dir: folder.path().join("log"),
        durability: if chance.one_in(5) { Durability::Interval(Duration::from_secs(1)) } else { Durability::Fsync },
        hot_bytes_max: chance.pick(&[1 << 20, 1 << 20, 160 << 10, 24 << 10]),
        flush_bytes: chance.pick(&[8 << 10, 64 << 10, 1 << 20]),
        flush_interval: Duration::from_secs(60),
        flush_files_max: if seed % 4 == 1 { 1 } else { 8192 },
        retention: if chance.one_in(3) { Duration::from_secs(2 * 3600) } else { Duration::from_secs(1 << 33) },
        disk_budget_bytes: chance.one_in(6).then_some(96 << 10),
        disk_free_bytes_min: 0,
        delete_grace: Duration::from_secs(chance.pick(&[120, 120, 30, 600])),
        log_segment_bytes_max: chance.pick(&[1 << 10, 8 << 10, 1 << 20]),
        disk: Disk::with_faults(disk.clone()),
        // Without caches who asks finds out that a file is away.
        cache_bytes_max: chance.pick(&[0, StoreConfig::default().cache_bytes_max]),
        background: Background::Called,
        ..StoreConfig::default()
    }
}

impl Run {
    fn what(&self) -> String {
        format!("seed {}, {}", self.seed, self.event)
    }

    fn say(&mut self, event: &str) {
        self.event = format!("event {}: {event}", self.number);
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

    fn tenant_dir(&self, number: usize) -> PathBuf {
        self.store_dir().join(format!("tenant={}", tenant(number)))
    }

    fn try_open(&mut self) -> Result<Arc<Store>, OpenError> {
        self.opened += 1;
        self.disk.process_begins();
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
        self.has_met_faults = !self.is_sound || self.disk.has_unlisted();
        self.has_log_failed = false;
        let opened = self.try_open();
        if self.disk.take_dropped() {
            self.expected.doubt();
        }
        match opened {
            Ok(store) => self.store = Some(store),
            Err(error) => {
                let are_away = matches!(error, OpenError::FilesMissing { .. }) && !self.away.is_empty();
                // Nothing is left if all files that count are in one folder.
                let files = self.catalogue.contents().files;
                let is_there =
                    |file: &&FileRecord| file.retired.is_none() && self.store_dir().join(&file.path).exists();
                let tenants: BTreeSet<&TenantId> = files.iter().filter(is_there).map(|file| &file.tenant).collect();
                let is_unlisted =
                    self.disk.has_unlisted() && (tenants.len() < 2 || !matches!(error, OpenError::Disk(_)));
                assert!(
                    !self.is_sound || !self.disk.has_power() || are_away || is_unlisted,
                    "{}: the store does not open: {error:?}",
                    self.what()
                );
                self.mend();
                self.disk.unlist(None);
                self.has_met_faults = false;
                // Most are missing: somebody has to say what is to become of them.
                self.put_back();
                let opened = self.try_open();
                self.store =
                    Some(opened.unwrap_or_else(|error| panic!("{}: it does not open: {error:?}", self.what())));
            }
        }
        // A start makes durable what it finds.
        self.expected.durable(self.clock.monotonic());
        (self.is_news_to_come, self.news) = (true, None);
        self.look_at_replayed();
        self.look();
        self.look_whether_loss_is_told();
        self.look_at_lost_rows();
    }

    /// From here on disk and catalogue do what they are asked. If the power has failed, what was not on the disk is lost; or it was the
    /// process that ended amid its steps.
    fn mend(&mut self) {
        if self.disk.has_power() || self.chance.one_in(3) {
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

    fn now_fails(&mut self) {
        self.is_sound = false;
        self.has_met_faults = true;
    }

    fn store(&self) -> &Arc<Store> {
        self.store.as_ref().expect("it is open")
    }

    /// The process ends without a word, and another begins.
    fn kill(&mut self) {
        self.end_process();
        if !self.disk.has_power() || self.chance.one_in(2) {
            self.mend();
        }
        self.open();
    }

    fn end_process(&mut self) {
        self.outcome.kills += 1;
        self.poll();
        self.lose_what_was_in_removed_log();
        self.appending.clear();
        self.readers.clear();
        self.store = None;
    }

    fn set_wall_clock(&mut self, off_by: i64) {
        self.clock.jump_wall_clock(off_by - self.wall_is_off_by);
        self.wall_is_off_by = off_by;
        self.furthest_ahead = self.furthest_ahead.max(off_by);
        self.was_clock_wrong |= off_by != 0;
        self.is_believed_ahead = self.is_believed_ahead.map(|furthest| furthest.max(off_by));
    }
}
