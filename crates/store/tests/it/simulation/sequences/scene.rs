//! A store whose background work is called step by step, and what was sent to it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tracehouse_catalogue::FileRecord;
use tracehouse_disk::Disk;
use tracehouse_model::{Clock, Span};
use tracehouse_store::{AppendError, Background, OpenError, Store, StoreConfig, StoreStep};

use crate::simulation::catalogue::SimulatedCatalogue;
use crate::simulation::chance::Chance;
use crate::simulation::disk::{SimulatedDisk, parent};
use crate::simulation::expected::TENANTS;
use crate::simulation::run::{folder_in_memory, runtime};
use crate::spans::{NOON, assert_same_spans, batch_of, by_key, plain_span};
use crate::world::{World, all_spans, tenant};

/// Longer than what failed waits before it is tried again.
pub(super) const RETRY: Duration = Duration::from_secs(400);

pub(super) struct Scene {
    seed: u64,
    pub(super) chance: Chance,
    pub(super) world: World,
    pub(super) disk: Arc<SimulatedDisk>,
    pub(super) catalogue: Arc<SimulatedCatalogue>,
    pub(super) config: StoreConfig,
    store: Option<Arc<Store>>,
    /// What must be there, by tenant.
    sent: [Vec<Span>; TENANTS],
    spans: u64,
}

impl Scene {
    /// Not opened yet.
    pub(super) fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let world = World::in_folder(folder_in_memory());
        let disk = Arc::new(SimulatedDisk::new(world.path().to_owned(), chance.fork(), None));
        let catalogue = Arc::new(SimulatedCatalogue::new(chance.fork(), disk.clone()));
        let config =
            StoreConfig { background: Background::Called, disk: Disk::with_faults(disk.clone()), ..world.config() };
        Self { seed, chance, world, disk, catalogue, config, store: None, sent: Default::default(), spans: 0 }
    }

    pub(super) fn opened(seed: u64, change: impl FnOnce(&mut StoreConfig)) -> Self {
        let mut scene = Self::new(seed);
        change(&mut scene.config);
        scene.open();
        scene
    }

    /// For messages.
    pub(super) fn what(&self, what: &str) -> String {
        format!("seed {}, {what}", self.seed)
    }

    pub(super) fn store(&self) -> &Arc<Store> {
        self.store.as_ref().expect("it is open")
    }

    pub(super) fn try_open(&self, config: StoreConfig) -> Result<Arc<Store>, OpenError> {
        runtime().block_on(self.world.try_open(config, self.catalogue.clone(), self.world.clock.clone()))
    }

    pub(super) fn open(&mut self) {
        let opened = self.try_open(self.config.clone());
        self.store = Some(opened.unwrap_or_else(|error| panic!("{}: {error:?}", self.what("it does not open"))));
    }

    /// The process ends without a word; the disk does what the next one asks.
    pub(super) fn kill(&mut self) {
        self.store = None;
        self.disk.restart_process();
    }

    pub(super) fn restart(&mut self) {
        self.kill();
        self.open();
    }

    pub(super) fn power_fails(&mut self) {
        self.disk.fail_power_after(0);
        self.store = None;
        self.disk.restore_power();
    }

    pub(super) fn tenant_at_random(&mut self) -> usize {
        self.chance.below(TENANTS as u64) as usize
    }

    /// What time it is for senders, whatever the machine's wall clock says.
    pub(super) fn now(&self) -> i64 {
        NOON + self.world.clock.monotonic().as_nanos() as i64
    }

    /// Up to so many new spans, at least one, which begin soon after a moment.
    pub(super) fn new_spans(&mut self, count_max: u64, from: i64) -> Vec<Span> {
        let count = 1 + self.chance.below(count_max);
        let new_span = |number| {
            self.spans += 1;
            plain_span(u128::from(1 + self.spans / 4) << 60, self.spans, self.spans - 1, from + number as i64)
        };
        (0..count).map(new_span).collect()
    }

    pub(super) fn send(&mut self, of: usize, spans: &[Span]) {
        send_to(self.store(), of, spans);
        self.sent[of].extend_from_slice(spans);
    }

    /// What must be there of a tenant.
    pub(super) fn sent(&self, of: usize) -> &[Span] {
        &self.sent[of]
    }

    /// A file of new spans.
    pub(super) fn write_file(&mut self, of: usize, from: i64) -> Vec<Span> {
        let spans = self.new_spans(20, from);
        self.send(of, &spans);
        self.flush();
        spans
    }

    /// These need not be there any more.
    pub(super) fn forget_spans_before(&mut self, of: usize, before: i64) {
        self.sent[of].retain(|span| span.start_unix_nanos >= before);
    }

    pub(super) fn flush(&self) {
        let flushed = runtime().block_on(self.store().flush());
        flushed.unwrap_or_else(|error| panic!("{}: {error:?}", self.what("it can't be flushed")));
    }

    /// Rounds of all background work, and time for what failed before.
    pub(super) fn work(&self, rounds: usize) {
        for _ in 0..rounds {
            self.world.clock.advance(RETRY);
            [StoreStep::Keep, StoreStep::Merge, StoreStep::Keep].into_iter().for_each(|step| self.store().step(step));
        }
    }

    /// Time goes on, and what is to expire or to be deleted is looked for.
    pub(super) fn pass(&self, time: Duration) {
        let piece = Duration::from_secs(60);
        for _ in 0..time.as_secs().div_ceil(piece.as_secs()) {
            self.world.clock.advance(piece);
            self.store().step(StoreStep::Keep);
        }
    }

    /// Files that count, as the catalogue has them.
    pub(super) fn live(&self) -> Vec<FileRecord> {
        let mut files = self.catalogue.contents().files;
        files.retain(|file| file.retired.is_none());
        files
    }

    pub(super) fn live_of(&self, of: usize) -> Vec<FileRecord> {
        let mut files = self.live();
        files.retain(|file| file.tenant == tenant(of));
        files
    }

    pub(super) fn path_of(&self, file: &FileRecord) -> PathBuf {
        self.world.store_dir().join(&file.path)
    }

    /// Somebody else gives a file another name.
    pub(super) fn move_by_hand(&self, from: &Path, to: &Path) {
        self.disk.moved_by_hand(from);
        self.disk.moved_by_hand(to);
        fs::create_dir_all(parent(to)).expect("a folder can be made");
        fs::rename(from, to).expect("a file can be moved");
    }

    /// Where a file lies that somebody took out of the store's folder.
    pub(super) fn away(&self) -> PathBuf {
        self.world.path().join("away/file")
    }

    /// Each span of each tenant is there, once, and nothing is missing from the answers.
    pub(super) fn assert_complete(&self, what: &str) {
        for (of, sent) in self.sent.iter().enumerate() {
            let what = format!("{}, {}", self.what(what), tenant(of));
            let snapshot = self.store().snapshot(&tenant(of));
            assert!(snapshot.unreadable.is_empty(), "{what}: {:?}", snapshot.unreadable);
            assert_same_spans(&what, &all_spans(&snapshot), &by_key(sent), 1);
        }
    }

    pub(super) fn assert_no_troubles(&self, what: &str) {
        let troubles = self.store().troubles();
        assert!(troubles.is_empty(), "{}: {troubles:?}", self.what(what));
    }

    /// In the store's folder is what the catalogue lists, and nothing else.
    pub(super) fn assert_folder_is_tidy(&self, what: &str) {
        let files = self.catalogue.contents().files;
        let name = |file: &FileRecord| match file.retired {
            Some(_) => format!("{}.retired", file.path),
            None => file.path.clone(),
        };
        let is_retired = |file: &FileRecord| file.retired.is_some();
        let paths = files.iter().map(|file| (self.world.store_dir().join(name(file)), is_retired(file)));
        // The catalogue may not have been told that one was deleted.
        let listed: BTreeSet<PathBuf> =
            paths.filter(|(path, is_retired)| !is_retired || path.exists()).map(|(path, _)| path).collect();
        let mut found: BTreeSet<PathBuf> = self.world.files_ending_with("").into_iter().collect();
        found.remove(&self.world.store_dir().join("STORE_ID"));
        assert_eq!(found, listed, "{}", self.what(what));
    }
}

pub(super) fn send_to(store: &Store, of: usize, spans: &[Span]) {
    try_to_send(store, of, spans).expect("there is room");
}

/// What the store answers once it has written its log.
pub(super) fn try_to_send(store: &Store, of: usize, spans: &[Span]) -> Result<(), AppendError> {
    let mut answer = pin!(store.append(tenant(of), batch_of(spans)));
    let mut context = Context::from_waker(Waker::noop());
    if let Poll::Ready(answer) = answer.as_mut().poll(&mut context) {
        return Err(answer.expect_err("nobody has written the log yet"));
    }
    store.step(StoreStep::Log);
    let Poll::Ready(answer) = answer.as_mut().poll(&mut context) else { panic!("the log is written") };
    answer
}
