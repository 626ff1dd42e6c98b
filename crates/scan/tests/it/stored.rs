//! A store with some small files.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use object_store::local::LocalFileSystem;
use tempfile::TempDir;
use tracehouse_catalogue::SqliteCatalogue;
use tracehouse_model::{ManualClock, SpanBatch, SpanFields, SpanId, SystemRandomness, TenantId, TraceId};
use tracehouse_scan::{Bounds, Limits, Pool};
use tracehouse_store::{Snapshot, Store, StoreConfig};

pub(crate) const NOON: i64 = 1_700_000_000_000_000_000;
const HOUR: i64 = 3_600_000_000_000;

pub(crate) struct Stored {
    store: Arc<Store>,
    pub(crate) clock: Arc<ManualClock>,
    _folder: TempDir,
}

impl Stored {
    /// A file for each hour, with so many spans in each.
    pub(crate) async fn files(hours: u64, spans: u64) -> Self {
        let mut batch = SpanBatch::new();
        let (resource, scope) = (batch.finish_resource(0, 0), batch.finish_scope(0, 0, 0, 0));
        for number in 0..hours * spans {
            batch.finish_span(SpanFields {
                trace_id: TraceId(u128::from(number + 1).to_be_bytes()),
                span_id: SpanId((number + 1).to_be_bytes()),
                start_unix_nanos: NOON + (number / spans) as i64 * HOUR,
                resource,
                scope,
                ..SpanFields::default()
            });
        }
        Self::of(batch).await
    }

    /// Some spans, in files.
    pub(crate) async fn of(batch: SpanBatch) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().join("store");
        std::fs::create_dir_all(&root).expect("the folder can be made");
        let objects = Arc::new(LocalFileSystem::new_with_prefix(&root).expect("the folder is there"));
        let catalogue = SqliteCatalogue::open(&folder.path().join("catalogue.sqlite")).await.expect("opens");
        let clock = Arc::new(ManualClock::at_unix_nanos(NOON));
        let config = StoreConfig {
            log_dir: folder.path().join("log"),
            flush_interval: Duration::from_secs(1 << 30),
            compaction_interval: Duration::from_secs(1 << 30),
            retention: Duration::from_secs(1 << 33),
            disk_free_bytes_min: 0,
            ..StoreConfig::default()
        };
        let randomness = Arc::new(SystemRandomness::from_seed(7));
        let opened = Store::open(config, objects, Some(root), catalogue, clock.clone(), randomness);
        let store = opened.await.expect("opens");
        store.append(TenantId::default(), batch).await.expect("there is room");
        store.flush().await.expect("flushes");
        Self { store, clock, _folder: folder }
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        self.store.snapshot(&TenantId::default())
    }

    /// Bounds of a question with three threads, and what cancels it.
    pub(crate) fn bounds(&self, pool: &Pool) -> (Bounds, Arc<AtomicBool>) {
        let limits = Limits { threads: 3, time_max: Duration::from_secs(10), scanned_bytes_max: 1 << 30 };
        let cancelled = Arc::new(AtomicBool::new(false));
        (Bounds::new(limits, pool.clone(), self.clock.clone(), cancelled.clone()), cancelled)
    }
}
