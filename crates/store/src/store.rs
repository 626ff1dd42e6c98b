//! The store: opening, appending, snapshots, shutting down.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use object_store::ObjectStore;
use parking_lot::{Condvar, Mutex};
use parquet::errors::ParquetError;
use serde::Serialize;
use tracehouse_catalogue::{Catalogue, Commit, FileRecord, RetirementReason};
use tracehouse_model::{Clock, Randomness, SpanBatch, TenantId};

use crate::compact::{CompactReport, Effort, compact};
use crate::config::StoreConfig;
use crate::error::{AppendError, OpenError, WriteError};
use crate::flush::{FlushReport, flush};
use crate::keeper::{chain, run_flusher, run_keeper};
use crate::log::{LOG_NAME, LogEntry, SegmentedLog, SpanLog, recover};
use crate::objects::{Objects, free_bytes};
use crate::span_file::{FileAccess, SpanFile};
use crate::state::{Snapshot, State};

const RETRY_WHEN_BUSY: Duration = Duration::from_secs(1);
const RETRY_WHEN_FULL: Duration = Duration::from_secs(10);
/// How often the room on the disk is looked at.
const DISK_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// Keeps spans: see the crate's documentation.
pub struct Store {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What a tenant has stored.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct StoreStatus {
    pub spans_hot: u64,
    pub spans_stored: u64,
    pub files: u64,
    pub bytes_stored: u64,
    pub log_bytes: u64,
}

pub(crate) struct Shared {
    pub(crate) config: StoreConfig,
    pub(crate) state: Arc<State>,
    pub(crate) objects: Arc<Objects>,
    pub(crate) catalogue: Arc<dyn Catalogue>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) randomness: Arc<dyn Randomness>,
    pub(crate) runtime: tokio::runtime::Handle,
    pub(crate) flush_lock: Mutex<()>,
    pub(crate) compact_lock: Mutex<()>,
    pub(crate) flush_wanted: Arc<Signal>,
    pub(crate) keeper_wanted: Signal,
    pub(crate) retired: Mutex<Vec<RetiredFile>>,
    log: OnceLock<Box<dyn SpanLog>>,
    pub(crate) access: Arc<FileAccess>,
    stopping: AtomicBool,
    disk: Mutex<DiskCheck>,
}

/// A file that waits for its deletion.
pub(crate) struct RetiredFile {
    pub(crate) id: String,
    pub(crate) path: String,
    /// On the monotonic clock.
    pub(crate) delete_at: Duration,
}

struct DiskCheck {
    next: Duration,
    full: bool,
}

/// Wakes a background thread before its time.
#[derive(Default)]
pub(crate) struct Signal {
    raised: Mutex<bool>,
    condition: Condvar,
}

impl Signal {
    pub(crate) fn raise(&self) {
        *self.raised.lock() = true;
        self.condition.notify_all();
    }

    pub(crate) fn wait(&self, at_most: Duration) {
        let mut raised = self.raised.lock();
        if !*raised {
            self.condition.wait_for(&mut raised, at_most);
        }
        *raised = false;
    }
}

impl Store {
    /// Opens the store, replays the log and starts the background threads. `local_root` is the folder of `objects` if it
    /// is a local one.
    pub async fn open(
        config: StoreConfig,
        objects: Arc<dyn ObjectStore>,
        local_root: Option<PathBuf>,
        catalogue: Arc<dyn Catalogue>,
        clock: Arc<dyn Clock>,
        randomness: Arc<dyn Randomness>,
    ) -> Result<Arc<Self>, OpenError> {
        let contents = catalogue.load().await?;
        let runtime = tokio::runtime::Handle::current();
        // Recovery reads and may write much: it must not hold up the runtime, and writing blocks on the runtime.
        let opening = tokio::task::spawn_blocking(move || {
            let folder_error = |path: &std::path::Path| {
                let path = path.display().to_string();
                move |source| OpenError::Folder { path, source }
            };
            fs::create_dir_all(&config.log_dir).map_err(folder_error(&config.log_dir))?;
            let spool = local_root.as_ref().map_or_else(|| config.log_dir.join("spool"), |root| root.join(".spool"));
            let objects =
                Objects::new(objects, local_root, spool.clone(), runtime.clone()).map_err(folder_error(&spool))?;
            let shared = Shared::new(config, Arc::new(objects), catalogue, clock, randomness, runtime);
            shared.load_files(contents.files)?;
            let position = contents.log_positions.iter().find(|(log, _)| log == LOG_NAME).map_or(0, |(_, at)| *at);
            shared.recover_log(position)?;
            Ok::<_, OpenError>(Arc::new(shared))
        });
        let shared = match opening.await {
            Ok(shared) => shared?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        let store = Arc::new(Self { shared, threads: Mutex::new(Vec::new()) });
        store.start_threads()?;
        Ok(store)
    }

    fn start_threads(&self) -> Result<(), OpenError> {
        let mut threads = self.threads.lock();
        for (name, run) in [("flusher", run_flusher as fn(&Shared)), ("keeper", run_keeper as fn(&Shared))] {
            let shared = self.shared.clone();
            let spawned = std::thread::Builder::new().name(name.into()).spawn(move || run(&shared));
            threads.push(spawned.map_err(|source| OpenError::Folder { path: format!("thread {name}"), source })?);
        }
        Ok(())
    }

    /// Keeps a batch. Returns when it is durable and queries can see it.
    pub async fn append(&self, tenant: TenantId, spans: SpanBatch) -> Result<(), AppendError> {
        if spans.is_empty() {
            return Ok(());
        }
        self.shared.admit()?;
        let (done, outcome) = tokio::sync::oneshot::channel();
        self.shared.log().submit(LogEntry::new(tenant, spans, done));
        let failed = || AppendError::Failed { reason: "the log ended while the spans were being written".into() };
        outcome.await.unwrap_or_else(|_| Err(failed()))
    }

    /// All spans of a tenant at this moment, each once. May read files to tell copies, so not for the threads of a runtime.
    pub fn snapshot(&self, tenant: &TenantId) -> Snapshot {
        self.shared.state.snapshot_without_copies(tenant, self.shared.clock.now_unix_nanos())
    }

    /// The tenants that have spans, in memory or in files.
    pub fn tenants(&self) -> Vec<TenantId> {
        self.shared.state.tenants()
    }

    /// Moves what is in memory into files; returns when that is done.
    pub async fn flush(&self) -> Result<FlushReport, WriteError> {
        self.in_background(flush).await
    }

    /// Merges files until nothing is left to merge; returns when that is done.
    pub async fn compact(&self) -> Result<CompactReport, WriteError> {
        self.in_background(|shared| compact(shared, Effort::Everything)).await
    }

    async fn in_background<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, WriteError> + Send + 'static,
    ) -> Result<T, WriteError> {
        let shared = self.shared.clone();
        tokio::task::spawn_blocking(move || work(&shared)).await.unwrap_or(Err(WriteError::Ended))
    }

    pub fn status(&self, tenant: &TenantId) -> StoreStatus {
        let snapshot = self.shared.state.snapshot(tenant);
        StoreStatus {
            spans_hot: snapshot.hot.iter().map(|batch| batch.spans.len() as u64).sum(),
            spans_stored: snapshot.files.iter().map(|file| file.record.spans).sum(),
            files: snapshot.files.len() as u64,
            bytes_stored: snapshot.files.iter().map(|file| file.record.bytes).sum(),
            log_bytes: self.shared.log().disk_bytes(),
        }
    }

    /// Whether spans are accepted; if not, why.
    pub fn ready(&self) -> Result<(), String> {
        if self.shared.stopping() {
            return Err("shutting down".into());
        }
        self.shared.log().failure().map_or(Ok(()), Err)
    }

    /// Stops accepting, writes what is in memory to files and ends the threads. What can't be written stays in the log.
    pub async fn shutdown(&self) -> Result<(), WriteError> {
        self.shared.stop_background();
        let threads: Vec<_> = self.threads.lock().drain(..).collect();
        self.in_background(move |shared| {
            shared.log().stop();
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("a background thread panicked");
                }
            }
            flush(shared).map(|_| ())
        })
        .await
    }
}

impl Drop for Store {
    /// Without a shutdown what is in memory stays in the log; the threads must not go on writing to the folders.
    fn drop(&mut self) {
        self.shared.stop_background();
    }
}

impl Shared {
    fn new(
        config: StoreConfig,
        objects: Arc<Objects>,
        catalogue: Arc<dyn Catalogue>,
        clock: Arc<dyn Clock>,
        randomness: Arc<dyn Randomness>,
        runtime: tokio::runtime::Handle,
    ) -> Self {
        let opener = objects.clone();
        let access = FileAccess::new(move |record| opener.open(record));
        Self {
            config,
            state: Arc::default(),
            objects,
            catalogue,
            clock,
            randomness,
            runtime,
            flush_lock: Mutex::new(()),
            compact_lock: Mutex::new(()),
            flush_wanted: Arc::default(),
            keeper_wanted: Signal::default(),
            retired: Mutex::default(),
            log: OnceLock::new(),
            access,
            stopping: AtomicBool::new(false),
            disk: Mutex::new(DiskCheck { next: Duration::ZERO, full: false }),
        }
    }

    pub(crate) fn log(&self) -> &dyn SpanLog {
        self.log.get().expect("the log is started while the store opens").as_ref()
    }

    fn stop_background(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.flush_wanted.raise();
        self.keeper_wanted.raise();
    }

    pub(crate) fn stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// A file as queries see it; a description that can't be read is reported, and the file left out.
    pub(crate) fn describe(&self, record: FileRecord) -> Option<Arc<SpanFile>> {
        let path = record.path.clone();
        let file = SpanFile::new(record, self.access.clone());
        if file.is_none() {
            metrics::counter!("tracehouse_store_damaged_files_total").increment(1);
            tracing::error!(path, "the catalogue's description of a file is damaged; its spans are not shown");
        }
        file
    }

    fn load_files(&self, records: Vec<FileRecord>) -> Result<(), OpenError> {
        let known: std::collections::HashSet<String> = records.iter().map(|record| record.path.clone()).collect();
        let strays = self.objects.sort_strays(|path| known.contains(path));
        let strays = strays.map_err(|source| OpenError::Folder { path: "the store".into(), source })?;
        if strays.removed > 0 {
            tracing::info!(files = strays.removed, "removed files that a crash left before they were committed");
        }
        metrics::gauge!("tracehouse_store_unknown_files").set(strays.set_aside.len() as f64);
        for path in &strays.set_aside {
            tracing::error!(
                path = %path.display(),
                "the catalogue does not know a stored file: was the catalogue lost or restored from an older copy? The file \
                 is set aside and its spans are not shown; any Parquet reader can read it"
            );
        }
        let mut live = Vec::new();
        for record in records {
            match &record.retired {
                None => {
                    // A crash may have come between the commit and this.
                    self.objects.confirm(&record.path);
                    live.extend(self.describe(record));
                }
                Some(retirement) if retirement.reason == RetirementReason::Damaged => {}
                // No query of an earlier run is left, but another process may read the folder.
                Some(_) => {
                    self.objects.hide(&record.path);
                    self.schedule_deletion(record.id, record.path);
                }
            }
        }
        self.state.change_files(live, &[]);
        Ok(())
    }

    fn recover_log(&self, position: u64) -> Result<(), OpenError> {
        let folder = self.config.log_dir.clone();
        let error = |source| OpenError::Folder { path: folder.display().to_string(), source };
        let mut replayed = 0u64;
        let recovered = recover(&folder, position, |batch| {
            replayed += batch.spans.len() as u64;
            self.state.add_hot(vec![batch]);
            Ok(())
        })
        .map_err(error)?;
        for path in &recovered.damaged {
            metrics::counter!("tracehouse_log_damaged_segments_total").increment(1);
            tracing::error!(path = %path.display(), "a segment of the log is damaged; a copy was set aside, its intact records are kept");
        }
        if recovered.records > 0 || recovered.torn_bytes > 0 {
            let torn_bytes = recovered.torn_bytes;
            tracing::info!(records = recovered.records, spans = replayed, torn_bytes, "replayed the log");
        }
        let (state, wanted, flush_bytes) = (self.state.clone(), self.flush_wanted.clone(), self.config.flush_bytes);
        let on_durable = Box::new(move |batches| {
            state.add_hot(batches);
            if state.hot_bytes() >= flush_bytes {
                wanted.raise();
            }
        });
        let log = SegmentedLog::start(&folder, &recovered, self.config.durability, self.clock.clone(), on_durable)
            .map_err(error)?;
        if self.log.set(Box::new(log)).is_err() {
            unreachable!("the log is started once");
        }
        Ok(())
    }

    /// Whether a batch may come in now.
    fn admit(&self) -> Result<(), AppendError> {
        if self.stopping() {
            return Err(AppendError::ShuttingDown);
        }
        if let Some(reason) = self.log().failure() {
            return Err(AppendError::Failed { reason });
        }
        if self.disk_is_full() {
            let reason = "the disk is nearly full".to_owned();
            return Err(AppendError::DiskFull { retry_after: RETRY_WHEN_FULL, reason });
        }
        if self.state.hot_bytes() + self.log().queued_bytes() >= self.config.hot_bytes_max {
            self.flush_wanted.raise();
            let reason = "spans arrive faster than they can be written".to_owned();
            return Err(AppendError::Busy { retry_after: RETRY_WHEN_BUSY, reason });
        }
        Ok(())
    }

    fn disk_is_full(&self) -> bool {
        let mut disk = self.disk.lock();
        let now = self.clock.monotonic();
        if now >= disk.next {
            disk.next = now + DISK_CHECK_INTERVAL;
            let free = [self.objects.free_bytes(), free_bytes(&self.config.log_dir)].into_iter().flatten().min();
            let full = free.is_some_and(|free| free < self.config.disk_free_bytes_min);
            if full != disk.full {
                tracing::warn!(
                    free_bytes = free,
                    full,
                    "the room on the disk changed: spans are accepted only with room"
                );
            }
            disk.full = full;
        }
        disk.full
    }

    /// Commits a change that adds files which were just written. If it fails they are removed again, or an engine that
    /// reads the folder with a glob would count their spans twice.
    pub(crate) fn commit_new_files(&self, commit: Commit) -> Result<(), WriteError> {
        let written = commit.add.clone();
        let Err(error) = self.runtime.block_on(self.catalogue.commit(commit)) else {
            written.iter().for_each(|record| self.objects.confirm(&record.path));
            return Ok(());
        };
        // A commit may have been done though its answer was lost: removing its files would lose their spans.
        let Ok(contents) = self.runtime.block_on(self.catalogue.load()) else { return Err(error.into()) };
        let is_known = |record: &FileRecord| contents.files.iter().any(|known| known.id == record.id);
        if written.iter().all(is_known) {
            tracing::warn!(error = chain(&error), "a commit reported an error but was done");
            written.iter().for_each(|record| self.objects.confirm(&record.path));
            return Ok(());
        }
        self.discard_files(&written);
        Err(error.into())
    }

    /// Removes files that were written but never committed.
    pub(crate) fn discard_files(&self, written: &[FileRecord]) {
        for record in written {
            if let Err(error) = self.objects.delete(&record.path) {
                tracing::warn!(error = chain(&error), path = record.path, "removing an uncommitted file failed");
            }
        }
    }

    /// Takes files out of sight and deletes them after the grace period.
    pub(crate) fn retire_later(&self, files: &[Arc<SpanFile>]) {
        for file in files {
            self.objects.hide(&file.record.path);
            self.schedule_deletion(file.record.id.clone(), file.record.path.clone());
        }
    }

    fn schedule_deletion(&self, id: String, path: String) {
        let delete_at = self.clock.monotonic() + self.config.delete_grace;
        self.retired.lock().push(RetiredFile { id, path, delete_at });
    }

    /// Takes a file that can't be read out of every query; it stays on the disk and in the catalogue, marked.
    pub(crate) fn set_damaged_file_aside(&self, file: &SpanFile, source: &ParquetError) {
        metrics::counter!("tracehouse_store_damaged_files_total").increment(1);
        tracing::error!(
            path = file.record.path,
            spans = file.record.spans,
            error = chain(source),
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
        self.objects.hide(&file.record.path);
        self.state.change_files(Vec::new(), std::slice::from_ref(&file.record.id));
    }

    pub(crate) fn report_gauges(&self) {
        metrics::gauge!("tracehouse_store_hot_bytes").set(self.state.hot_bytes() as f64);
        metrics::gauge!("tracehouse_store_hot_spans").set(self.state.hot_spans() as f64);
        metrics::gauge!("tracehouse_log_queued_bytes").set(self.log().queued_bytes() as f64);
        metrics::gauge!("tracehouse_log_disk_bytes").set(self.log().disk_bytes() as f64);
        metrics::gauge!("tracehouse_store_retired_files").set(self.retired.lock().len() as f64);
    }
}
