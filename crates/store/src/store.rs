//! The store: opening, appending, snapshots, shutting down.

use std::path::PathBuf;
use std::sync::Arc;

use object_store::ObjectStore;
use serde::Serialize;
use tracehouse_catalogue::Catalogue;
use tracehouse_model::{Clock, Randomness, SpanBatch, TenantId};

use crate::arrivals::Arrived;
use crate::choose::Effort;
use crate::clock::StoreClock;
use crate::compact::{CompactReport, compact};
use crate::config::{StoreConfig, StoreStep};
use crate::damage_found::{trouble_of_damaged_pages, trouble_of_damaged_parts};
use crate::error::{OpenError, WriteError};
use crate::flush::FlushReport;
use crate::flush_round::{Which, flush};
use crate::shared::Shared;
use crate::snapshot::{Snapshot, Snapshots};
use crate::start::{Parts, start};
use crate::workers::Workers;
use tracehouse_log::AppendError;
use tracehouse_log::{LogEntry, RecordKind};

/// Keeps spans: see the crate's documentation.
pub struct Store {
    shared: Arc<Shared>,
    workers: Workers,
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
        let runtime = tokio::runtime::Handle::current();
        let parts = Parts { config, objects, local_root, catalogue, clock, randomness };
        // A start reads and may write much: it must not hold up the runtime, and writing blocks on the runtime.
        let opening = tokio::task::spawn_blocking(move || start(parts, runtime));
        let shared = match opening.await {
            Ok(shared) => shared?,
            Err(panic) => std::panic::resume_unwind(panic.into_panic()),
        };
        let workers = Workers::start(&shared)?;
        Ok(Arc::new(Self { shared, workers }))
    }

    /// Does a piece of background work on this thread, which must not be one of the runtime. Nothing unless the store was opened with
    /// [`Background::Called`](tracehouse_log::Background::Called).
    pub fn step(&self, step: StoreStep) {
        self.workers.step(&self.shared, step);
    }

    /// Keeps a batch. Returns when it is durable and queries can see it.
    pub async fn append(&self, tenant: TenantId, spans: SpanBatch) -> Result<(), AppendError> {
        if spans.is_empty() {
            return Ok(());
        }
        let _on_the_way = self.shared.admit(&tenant, spans.memory_bytes())?;
        let (done, outcome) = tokio::sync::oneshot::channel();
        self.shared.log().submit(LogEntry::new(tenant, RecordKind::New, spans, done));
        let failed = || AppendError::Failed { reason: "the log ended while the spans were being written".into() };
        outcome.await.unwrap_or_else(|_| Err(failed())).map(|_number| ())
    }

    /// As [`Snapshots::snapshot`].
    pub fn snapshot(&self, tenant: &TenantId) -> Snapshot {
        let (mut snapshot, unread) =
            self.shared.state.snapshot_without_copies(tenant, self.shared.clock.now_unix_nanos());
        snapshot.leave_out(&unread);
        self.shared.hold_back_soon(unread);
        snapshot
    }

    /// The tenants that have spans, in memory or in files.
    pub fn tenants(&self) -> Vec<TenantId> {
        self.shared.state.tenants()
    }

    /// Moves what is in memory into files; returns when that is done.
    pub async fn flush(&self) -> Result<FlushReport, WriteError> {
        self.in_background(|shared| flush(shared, Which::All)).await
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
        let failure = || self.shared.another_writes.get().cloned();
        self.shared.log().failure().or_else(failure).map_or(Ok(()), Err)
    }

    /// What is wrong and what to do about it; background work that fails and is tried again, and why. For status pages; empty if
    /// all is well.
    pub fn troubles(&self) -> Vec<String> {
        self.troubles_shown_to(None)
    }

    /// The same without what is another tenant's business. `None`: all.
    pub fn troubles_shown_to(&self, tenant: Option<&TenantId>) -> Vec<String> {
        // Who is alone may know everything.
        let is_alone = |tenant: &TenantId| {
            let absent = self.shared.absent.lock();
            let with_files_that_are_absent = absent.by_tenant().into_keys();
            let with_files = self.tenants().into_iter().chain(with_files_that_are_absent).all(|other| other == *tenant);
            with_files && absent.lost.tenants().all(|other| other == tenant.as_str())
        };
        let only = tenant.filter(|tenant| !is_alone(tenant));
        let mut troubles = self.shared.absent.lock().troubles(only);
        troubles.extend(trouble_of_damaged_pages(&self.shared, only));
        troubles.extend(trouble_of_damaged_parts(&self.shared, only));
        troubles.extend(self.shared.started_log().and_then(|log| log.failure()));
        troubles.extend(self.shared.another_writes.get().cloned());
        troubles.extend(self.shared.trouble_of_the_disk());
        troubles.extend(self.shared.log_troubles.get().into_iter().flatten().cloned());
        troubles.extend(self.shared.store_clock.trouble());
        troubles.extend(self.shared.store_clock.trouble_of_the_future());
        troubles.extend(self.shared.troubles.tell(only));
        troubles
    }

    /// The time by which the age of spans is judged.
    pub fn clock(&self) -> Arc<StoreClock> {
        self.shared.store_clock.clone()
    }

    pub(crate) fn catalogue(&self) -> &dyn Catalogue {
        &*self.shared.catalogue
    }

    /// The operator confirms that the machine's clock is right: retention goes by it from now on.
    pub async fn trust_clock(&self) -> Result<(), WriteError> {
        self.in_background(|shared| {
            shared.store_clock.trust();
            Ok(shared.remember_trusted_clock()?)
        })
        .await
    }

    /// Stops accepting, writes what is in memory to files and ends the threads. What can't be written stays in the log.
    pub async fn shutdown(&self) -> Result<(), WriteError> {
        self.shared.stop_background();
        let threads = self.workers.take_threads();
        self.in_background(move |shared| {
            shared.log().stop();
            for thread in threads {
                if thread.join().is_err() {
                    tracing::error!("a background thread panicked");
                }
            }
            let flushed = flush(shared, Which::All).map(|_| ());
            shared.remember_end()?;
            flushed
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

impl Snapshots for Store {
    fn snapshot(&self, tenant: &TenantId) -> Snapshot {
        Store::snapshot(self, tenant)
    }

    fn snapshot_as_sent(&self, tenant: &TenantId) -> Snapshot {
        self.shared.state.snapshot_as_sent(tenant, self.shared.clock.now_unix_nanos())
    }

    fn position(&self) -> u64 {
        self.shared.state.last_sequence()
    }

    fn arrived(&self, tenant: &TenantId, after: u64, up_to: u64) -> Arrived {
        self.shared.state.arrived(tenant, after, up_to)
    }
}
