//! What all parts of a store share.

use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tracehouse_catalogue::{Catalogue, Commit, FileRecord, KnownPositions, LegacyDescription, RetirementReason};
use tracehouse_model::{Bell, Clock, Randomness};
use tracehouse_spanfile::Handles;

use crate::absent::Absent;
use crate::clock::StoreClock;
use crate::config::StoreConfig;
use crate::error::chain;
use crate::object_stores::ObjectStores;
use crate::objects::free_bytes;
use crate::share::Admitted;
use crate::span_file::{FileAccess, SpanFile};
use crate::state::State;
use crate::troubles::Troubles;
use tracehouse_log::SpanLog;

/// How often the room on the disk is looked at.
const DISK_CHECK_INTERVAL: Duration = Duration::from_millis(500);

pub(crate) struct Shared {
    pub(crate) config: StoreConfig,
    pub(crate) state: Arc<State>,
    pub(crate) objects: Arc<ObjectStores>,
    pub(crate) catalogue: Arc<dyn Catalogue>,
    pub(crate) clock: Arc<dyn Clock>,
    /// By which the age of spans is judged.
    pub(crate) store_clock: Arc<StoreClock>,
    pub(crate) randomness: Arc<dyn Randomness>,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) flush_lock: Mutex<()>,
    pub(crate) compact_lock: Mutex<()>,
    /// Held over every change of the list of files that depends on what the list was.
    pub(crate) files_lock: Mutex<()>,
    /// Commits of which nobody knows whether they were done.
    pub(crate) unresolved: Mutex<Vec<Commit>>,
    /// Where this process knows the positions of the log to be.
    pub(crate) positions: Mutex<KnownPositions>,
    /// Set once it was found that another process moves them.
    pub(crate) another_writes: OnceLock<String>,
    pub(crate) troubles: Troubles,
    pub(crate) admitted: Arc<Admitted>,
    pub(crate) merger_wanted: Bell,
    pub(crate) flush_wanted: Bell,
    pub(crate) keeper_wanted: Bell,
    pub(crate) retired: Mutex<Vec<RetiredFile>>,
    log: OnceLock<Box<dyn SpanLog>>,
    /// What was wrong with the log when the store opened.
    pub(crate) log_troubles: OnceLock<Vec<String>>,
    pub(crate) access: Arc<FileAccess>,
    stopping: AtomicBool,
    disk: Mutex<DiskCheck>,
    /// Files that can't be read, whose absence makes answers partial.
    pub(crate) absent: Mutex<Absent>,
    /// Files that a query could not look into for copies, and that are to be held back.
    pub(crate) unread: Mutex<Vec<Arc<SpanFile>>>,
}

/// A file that waits for its deletion.
#[derive(Clone)]
pub(crate) struct RetiredFile {
    pub(crate) id: String,
    pub(crate) path: String,
    pub(crate) object_store: String,
    /// Set if queries of this run may have read it.
    pub(crate) file: Option<Arc<SpanFile>>,
    /// On the monotonic clock, as is the next.
    pub(crate) delete_at: Duration,
    /// Since when it is nowhere, though this process has not deleted it.
    pub(crate) missing_since: Option<Duration>,
    /// It was deleted, but the catalogue could not be told.
    pub(crate) is_deleted: bool,
}

struct DiskCheck {
    next: Duration,
    full: bool,
    /// `None`: nobody knows.
    free_bytes: Option<u64>,
}

impl Shared {
    pub(crate) fn new(
        config: StoreConfig,
        objects: Arc<ObjectStores>,
        catalogue: Arc<dyn Catalogue>,
        clock: Arc<dyn Clock>,
        store_clock: Arc<StoreClock>,
        randomness: Arc<dyn Randomness>,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        let opener = objects.clone();
        let troubles = Troubles::new(clock.clone(), randomness.clone());
        let (asked, asking) = (catalogue.clone(), runtime.clone());
        let legacy = move |id: &str| legacy_description(&*asked, &asking, id);
        let open = move |record: &FileRecord, number, handles: &Arc<Handles>| opener.open(record, number, handles);
        let access = FileAccess::new(config.cache_bytes_max as u64, open, legacy);
        Self {
            config,
            state: Arc::default(),
            objects,
            catalogue,
            clock,
            store_clock,
            randomness,
            runtime,
            flush_lock: Mutex::new(()),
            compact_lock: Mutex::new(()),
            files_lock: Mutex::new(()),
            unresolved: Mutex::default(),
            positions: Mutex::default(),
            another_writes: OnceLock::new(),
            troubles,
            admitted: Arc::default(),
            merger_wanted: Bell::default(),
            flush_wanted: Bell::default(),
            keeper_wanted: Bell::default(),
            retired: Mutex::default(),
            log: OnceLock::new(),
            log_troubles: OnceLock::new(),
            access,
            stopping: AtomicBool::new(false),
            disk: Mutex::new(DiskCheck { next: Duration::ZERO, full: false, free_bytes: None }),
            absent: Mutex::default(),
            unread: Mutex::default(),
        }
    }

    pub(crate) fn log(&self) -> &dyn SpanLog {
        self.started_log().expect("the log is started while the store opens")
    }

    /// `None` while the store opens.
    pub(crate) fn started_log(&self) -> Option<&dyn SpanLog> {
        self.log.get().map(AsRef::as_ref)
    }

    /// Done once, while the store opens.
    pub(crate) fn set_log(&self, log: Box<dyn SpanLog>) {
        if self.log.set(log).is_err() {
            unreachable!("the log is started once");
        }
    }

    pub(crate) fn stop_background(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.flush_wanted.ring();
        self.keeper_wanted.ring();
        self.merger_wanted.ring();
    }

    pub(crate) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// A file as queries see it.
    pub(crate) fn span_file(&self, record: FileRecord) -> Arc<SpanFile> {
        SpanFile::new(record, self.access.clone())
    }

    pub(crate) fn disk_is_full(&self) -> bool {
        let mut disk = self.disk.lock();
        let now = self.clock.monotonic();
        if now >= disk.next {
            disk.next = now + DISK_CHECK_INTERVAL;
            let free =
                [self.objects.local().free_bytes(), free_bytes(&self.config.log_dir)].into_iter().flatten().min();
            let full = free.is_some_and(|free| free < self.config.disk_free_bytes_min);
            if full != disk.full {
                tracing::warn!(
                    free_bytes = free,
                    full,
                    "the room on the disk changed: spans are accepted only with room"
                );
            }
            (disk.full, disk.free_bytes) = (full, free);
        }
        disk.full
    }

    /// What the operator is told while there is too little room.
    pub(crate) fn trouble_of_the_disk(&self) -> Option<String> {
        const MIB: u64 = 1 << 20;
        if !self.disk_is_full() {
            // Less than is to stay free may be too little for a record, and a quota is none of the disk's.
            return self.log_is_out_of_room().then(|| {
                "the disk is full: it has no room for the log. Senders are asked to wait, what is stored can be queried; make room, or \
                 raise the quota if there is one"
                    .to_owned()
            });
        }
        let free = self.disk.lock().free_bytes.unwrap_or(0) / MIB;
        let needed = self.config.disk_free_bytes_min / MIB;
        Some(format!(
            "the disk is nearly full ({free} MiB are free, store.disk_free_min is {needed} MiB): senders are asked to wait, what is \
             stored can be queried; make room"
        ))
    }

    /// How much room there is, and how much files of spans in memory need at most, for who found that it was too little.
    pub(crate) fn room_in_words(&self, bytes_in_memory: usize) -> String {
        self.disk.lock().next = Duration::ZERO;
        self.disk_is_full();
        let free = self.disk.lock().free_bytes.map_or("an unknown number of".to_owned(), in_mib);
        format!("; {free} MiB are free, and the files may need up to {} MiB", in_mib(bytes_in_memory as u64))
    }

    fn log_is_out_of_room(&self) -> bool {
        self.started_log().is_some_and(|log| log.is_out_of_room())
    }

    /// Takes files out of sight and deletes them after the grace period.
    pub(crate) fn retire_later(&self, files: &[Arc<SpanFile>]) {
        for file in files {
            self.objects.hide(&file.record);
            self.delete_later(file.record.clone(), Some(file.clone()));
        }
    }

    /// For a file that no query of this run has read.
    pub(crate) fn schedule_deletion(&self, record: FileRecord) {
        self.delete_later(record, None);
    }

    fn delete_later(&self, record: FileRecord, file: Option<Arc<SpanFile>>) {
        let FileRecord { id, path, object_store, .. } = record;
        let (delete_at, missing_since, is_deleted) = (self.grace_end(), None, false);
        self.retired.lock().push(RetiredFile { id, path, object_store, file, delete_at, missing_since, is_deleted });
    }

    fn grace_end(&self) -> Duration {
        self.clock.monotonic() + self.config.delete_grace
    }

    /// The catalogue remembers how much of a file can't be read, so that the file is not merged after a restart either.
    pub(crate) fn remember_damage(&self, id: &str, lost_spans: u64) {
        let commit = Commit { lost_spans: vec![(id.to_owned(), lost_spans)], ..Commit::default() };
        if let Err(error) = self.runtime.block_on(self.catalogue.commit(commit)) {
            tracing::error!(error = chain(&error), "marking a damaged file failed");
        }
    }

    /// Takes a file of which nothing can be read out of every query; it stays on the disk and in the catalogue, marked, as
    /// long as retention would have kept it.
    pub(crate) fn set_damaged_file_aside(&self, file: &SpanFile, what: &str) {
        metrics::counter!("tracehouse_store_damaged_files_total").increment(1);
        tracing::error!(
            path = file.record.path,
            spans = file.record.spans,
            error = what,
            "a stored file can't be read; it is set aside and its spans are not shown"
        );
        let commit = Commit {
            retire: vec![(file.record.id.clone(), RetirementReason::Damaged)],
            retired_at: self.clock.now_unix_nanos(),
            ..Commit::default()
        };
        if let Err(error) = self.runtime.block_on(self.catalogue.commit(commit)) {
            tracing::error!(error = chain(&error), "marking a damaged file failed");
        }
        self.objects.hide(&file.record);
        self.state.change_files(Vec::new(), std::slice::from_ref(&file.record.id));
        self.add_set_aside(file.record.clone());
    }

    pub(crate) fn report_gauges(&self) {
        metrics::gauge!("tracehouse_store_hot_bytes").set(self.state.hot_bytes() as f64);
        metrics::gauge!("tracehouse_store_hot_spans").set(self.state.hot_spans() as f64);
        metrics::gauge!("tracehouse_log_queued_bytes").set(self.log().queued_bytes() as f64);
        metrics::gauge!("tracehouse_log_disk_bytes").set(self.log().disk_bytes() as f64);
        metrics::gauge!("tracehouse_store_retired_files").set(self.retired.lock().len() as f64);
        let is_full = self.disk_is_full() || self.log_is_out_of_room();
        metrics::gauge!("tracehouse_store_disk_full").set(f64::from(u8::from(is_full)));
        if let Some(free_bytes) = self.disk.lock().free_bytes {
            metrics::gauge!("tracehouse_store_disk_free_bytes").set(free_bytes as f64);
        }
        self.troubles.report_gauges();
        self.store_clock.report_gauge();
        self.access.report_gauges();
    }
}

/// Rounded up.
fn in_mib(bytes: u64) -> String {
    bytes.div_ceil(1 << 20).to_string()
}

/// Asks the catalogue on a thread of its own: the caller may be one of a runtime, which must not wait for another.
fn legacy_description(
    catalogue: &dyn Catalogue,
    runtime: &tokio::runtime::Handle,
    id: &str,
) -> Option<LegacyDescription> {
    let ask = || runtime.block_on(catalogue.legacy_description(id));
    let answer = std::thread::scope(|scope| scope.spawn(ask).join());
    match answer {
        Ok(Ok(description)) => description,
        Ok(Err(error)) => {
            tracing::warn!(error = chain(&error), id, "reading the description of a file from the catalogue failed");
            None
        }
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
