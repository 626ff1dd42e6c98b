//! A store with spans that are known one by one.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::local::LocalFileSystem;
use tempfile::TempDir;
use tracehouse_catalogue::{Catalogue, CatalogueContents, Commit, FileRecord, SqliteCatalogue};
use tracehouse_model::{
    AnyValue, AttributeLists, AttributeValue, ManualClock, Randomness, Span, SpanBatch, SpanFields, SpanId,
    StringTable, SystemRandomness, TenantId, TraceId, kind, status,
};
use tracehouse_query::{QueryEngine, QueryLimits};
use tracehouse_store::{Store, StoreConfig};

pub(crate) const NOON: i64 = 1_700_000_000_000_000_000;
const SERVICES: [&str; 5] = ["gateway", "cart", "checkout", "payment", "ünïcode \"quoted\""];

/// A running store with its engine; the folder goes with it.
pub(crate) struct Shop {
    pub(crate) store: Arc<Store>,
    pub(crate) engine: Arc<QueryEngine>,
    folder: TempDir,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        Self::open_in(tempfile::tempdir().expect("a temporary folder")).await
    }

    /// The same store after a start, which knows nothing of its files but what the catalogue says.
    pub(crate) async fn restart(self) -> Self {
        self.store.shutdown().await.expect("stops");
        let Self { store, engine, folder } = self;
        drop((store, engine));
        Self::open_in(folder).await
    }

    /// The same store as if an earlier version had written its catalogue, which did not say when spans end.
    pub(crate) async fn without_ends(self) -> Self {
        self.store.shutdown().await.expect("stops");
        let Self { store, engine, folder } = self;
        drop((store, engine));
        let path = folder.path().join("catalogue.sqlite");
        let catalogue = SqliteCatalogue::open(&path).await.expect("opens");
        let CatalogueContents { files, log_positions, meta, .. } = catalogue.load().await.expect("loads");
        catalogue.close().await;
        for end in ["", "-wal", "-shm"] {
            let _ = std::fs::remove_file(folder.path().join(format!("catalogue.sqlite{end}")));
        }
        let add = files.into_iter().map(|file| FileRecord { end_max: None, ..file }).collect();
        let meta = meta.into_iter().collect();
        let catalogue = SqliteCatalogue::open(&path).await.expect("opens");
        catalogue.commit(Commit { add, log_positions, meta, ..Commit::default() }).await.expect("there is room");
        catalogue.close().await;
        Self::open_in(folder).await
    }

    async fn open_in(folder: TempDir) -> Self {
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
        let store =
            Store::open(config, objects, Some(root), catalogue, clock.clone(), randomness).await.expect("opens");
        let engine = QueryEngine::new(store.clone(), QueryLimits::default(), clock);
        Self { store, engine, folder }
    }

    /// Paths of the files that are stored, in their order.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.folder.path().join("store")];
        let mut files = Vec::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("the folder can be read") {
                let path = entry.expect("it can be read").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "parquet") {
                    files.push(path);
                }
            }
        }
        files.sort();
        files
    }

    pub(crate) async fn append(&self, batch: SpanBatch) {
        self.store.append(TenantId::default(), batch).await.expect("there is room");
    }
}

pub(crate) fn put(strings: &mut StringTable, lists: &mut AttributeLists, key: &str, value: &AnyValue) {
    let key = strings.intern_str(key);
    let value = match value {
        AnyValue::Empty => AttributeValue::Empty,
        AnyValue::String(text) => AttributeValue::String(strings.intern_str(text)),
        AnyValue::Int(value) => AttributeValue::Int(*value),
        AnyValue::Double(value) => AttributeValue::Double(*value),
        AnyValue::Bool(value) => AttributeValue::Bool(*value),
        AnyValue::Bytes(bytes) => AttributeValue::Bytes(strings.intern(bytes)),
        list => AttributeValue::Json(strings.intern_str(&list.to_canonical_json())),
    };
    lists.push(key, value);
}

pub(crate) fn trace_id(number: u64) -> TraceId {
    TraceId((u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835) | 1).to_be_bytes())
}

/// Batches of spans of many kinds, and the same spans one by one. Equal seeds give equal spans.
pub(crate) fn many_spans(traces: u64, seed: u64) -> (Vec<SpanBatch>, Vec<Span>) {
    let random = SystemRandomness::from_seed(seed);
    let mut batches = Vec::new();
    for chunk in (0..traces).collect::<Vec<_>>().chunks(40) {
        let mut batch = SpanBatch::new();
        for &trace in chunk {
            push_trace(&mut batch, trace, &random);
        }
        batches.push(batch);
    }
    let spans = batches.iter().flat_map(|batch| (0..batch.len()).map(|row| batch.span(row))).collect();
    (batches, spans)
}

fn push_trace(batch: &mut SpanBatch, trace: u64, random: &SystemRandomness) {
    let below = |limit: u64| random.next_u64() % limit;
    let service = SERVICES[below(SERVICES.len() as u64) as usize];
    put(&mut batch.strings, &mut batch.resources.attributes, "service.name", &AnyValue::String(service.into()));
    let pod = AnyValue::String(format!("pod-{}", below(4)));
    put(&mut batch.strings, &mut batch.resources.attributes, "k8s.pod.name", &pod);
    put(&mut batch.strings, &mut batch.resources.attributes, "both", &AnyValue::String("from resource".into()));
    let resource = batch.finish_resource(0, 0);
    put(&mut batch.strings, &mut batch.scopes.attributes, "scope.level", &AnyValue::Int(below(3) as i64));
    let (name, version) = (batch.strings.intern_str("http"), batch.strings.intern_str("1.2"));
    let scope = batch.finish_scope(name, version, 0, 0);
    let start = NOON + (trace as i64) * 1_000_000;
    for span in 0..1 + below(6) {
        push_attributes(batch, random);
        if below(4) == 0 {
            let kind = AnyValue::String(["IOException", "Timeout"][below(2) as usize].into());
            put(&mut batch.strings, &mut batch.events.attributes, "exception.type", &kind);
            let name = batch.strings.intern_str("exception");
            batch.finish_event(start + 5, name, 0);
        }
        let name = batch.strings.intern_str(["GET /", "POST /cart", "SELECT", "publish"][below(4) as usize]);
        let message = batch.strings.intern_str(["", "", "deadline exceeded"][below(3) as usize]);
        batch.finish_span(SpanFields {
            trace_id: trace_id(trace + 1),
            span_id: SpanId((trace * 100 + span + 1).to_be_bytes()),
            parent_span_id: if span == 0 { SpanId::NONE } else { SpanId((trace * 100 + span).to_be_bytes()) },
            start_unix_nanos: start + span as i64 * 10,
            duration_nanos: below(1_000_000_000) as i64,
            name,
            kind: [kind::SERVER, kind::CLIENT, kind::INTERNAL][below(3) as usize],
            status_code: [status::UNSET, status::OK, status::ERROR][below(3) as usize],
            status_message: message,
            resource,
            scope,
            ..SpanFields::default()
        });
    }
}

fn push_attributes(batch: &mut SpanBatch, random: &SystemRandomness) {
    let below = |limit: u64| random.next_u64() % limit;
    let mut attribute = |key: &str, value: AnyValue| put(&mut batch.strings, &mut batch.attributes, key, &value);
    attribute("http.route", AnyValue::String(format!("/route/{}", below(12))));
    if below(2) == 0 {
        attribute("http.status", AnyValue::Int([200, 404, 500][below(3) as usize]));
    }
    // One key with several types: most are strings, so the others are residual.
    match below(8) {
        0 => attribute("code", AnyValue::Int(7)),
        1 => attribute("code", AnyValue::Double(7.5)),
        2 => attribute("code", AnyValue::Bool(true)),
        3 => {}
        _ => attribute("code", AnyValue::String(["7", "x", "true"][below(3) as usize].into())),
    }
    if below(3) == 0 {
        attribute("ratio", AnyValue::Double(below(100) as f64 / 10.0));
    }
    if below(3) == 0 {
        attribute("cache.hit", AnyValue::Bool(below(2) == 0));
    }
    if below(5) == 0 {
        attribute("both", AnyValue::String("from span".into()));
    }
    if below(900) == 0 {
        attribute("rare.key", AnyValue::String("needle".into()));
    }
    if below(6) == 0 {
        let tags = ["a", "b", "c"].iter().take(1 + below(3) as usize);
        attribute("tags", AnyValue::Array(tags.map(|tag| AnyValue::String((*tag).into())).collect()));
    }
    attribute("user.id", AnyValue::String(format!("user-{}", below(1 << 40))));
}
