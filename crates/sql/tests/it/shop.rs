//! A store with spans that are known one by one.

use std::sync::Arc;
use std::time::Duration;

use arrow::util::display::{ArrayFormatter, FormatOptions};
use object_store::local::LocalFileSystem;
use tempfile::TempDir;
use tracehouse_catalogue::SqliteCatalogue;
use tracehouse_model::{
    AnyValue, AttributeLists, AttributeValue, ManualClock, Randomness, Span, SpanBatch, SpanFields, SpanId,
    StringTable, SystemRandomness, TenantId, Threshold, TraceId, kind, status,
};
use tracehouse_sql::{SqlAnswer, SqlEngine, SqlError, SqlLimits, SqlRequest};
use tracehouse_store::{Store, StoreConfig};

/// 2023-11-14T22:13:20Z.
pub(crate) const BEGIN: i64 = 1_700_000_000_000_000_000;
pub(crate) const SERVICES: [&str; 3] = ["gateway", "cart", "ünïcode \"quoted\""];
/// Traces begin this far from each other.
pub(crate) const TRACE_INTERVAL: i64 = 60_000_000_000;

/// Where the spans are while they are asked about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Layout {
    Hot,
    /// Each hour in a file of its own, and those merged where they can be.
    Files,
    Mixed,
}

pub(crate) const LAYOUTS: [Layout; 3] = [Layout::Hot, Layout::Files, Layout::Mixed];

/// A running store with its engine; the folder goes with it.
pub(crate) struct Shop {
    pub(crate) store: Arc<Store>,
    pub(crate) engine: Arc<SqlEngine>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) folder: TempDir,
}

impl Shop {
    pub(crate) async fn open(limits: SqlLimits) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().join("store");
        std::fs::create_dir_all(&root).expect("the folder can be made");
        let objects = Arc::new(LocalFileSystem::new_with_prefix(&root).expect("the folder is there"));
        let catalogue = SqliteCatalogue::open(&folder.path().join("catalogue.sqlite")).await.expect("opens");
        let clock = Arc::new(ManualClock::at_unix_nanos(BEGIN));
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
        let engine = SqlEngine::new(store.clone(), limits, clock.clone()).expect("threads can be started");
        Self { store, engine, clock, folder }
    }

    /// A shop with all spans in a layout, and the spans.
    pub(crate) async fn filled(layout: Layout) -> (Self, Vec<Span>) {
        let shop = Self::open(SqlLimits::default()).await;
        let (batches, spans) = many_spans(150);
        let half = batches.len() / 2;
        for (number, batch) in batches.into_iter().enumerate() {
            shop.append(batch).await;
            if layout == Layout::Mixed && number == half {
                shop.store.flush().await.expect("flushes");
            }
        }
        if layout == Layout::Files {
            shop.store.flush().await.expect("flushes");
            shop.store.compact().await.expect("merges");
        }
        (shop, spans)
    }

    pub(crate) async fn append(&self, batch: SpanBatch) {
        self.store.append(TenantId::default(), batch).await.expect("there is room");
    }

    pub(crate) async fn ask(&self, query: &str) -> SqlAnswer {
        self.try_ask(query, 100_000).await.unwrap_or_else(|error| panic!("{query}: {error}"))
    }

    pub(crate) async fn try_ask(&self, query: &str, rows_max: usize) -> Result<SqlAnswer, SqlError> {
        self.engine.query(&TenantId::default(), SqlRequest { query: query.to_owned(), rows_max }).await
    }

    /// The rows of a whole answer as texts, columns divided by ` | `; null is `-`.
    pub(crate) async fn rows(&self, query: &str) -> Vec<String> {
        let answer = self.ask(query).await;
        assert!(answer.complete, "{query}: {:?}", answer.partial_reason);
        rows_of(&answer)
    }
}

pub(crate) fn rows_of(answer: &SqlAnswer) -> Vec<String> {
    let options = FormatOptions::new().with_null("-");
    let mut rows = Vec::new();
    for batch in &answer.batches {
        let columns: Vec<ArrayFormatter<'_>> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &options).expect("prints")).collect();
        for row in 0..batch.num_rows() {
            let texts: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
            rows.push(texts.join(" | "));
        }
    }
    rows
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

/// Batches of spans of many kinds over several hours, and the same spans one by one.
pub(crate) fn many_spans(traces: u64) -> (Vec<SpanBatch>, Vec<Span>) {
    many_spans_every(TRACE_INTERVAL, traces)
}

/// The same with another time between two traces.
pub(crate) fn many_spans_every(interval: i64, traces: u64) -> (Vec<SpanBatch>, Vec<Span>) {
    let random = SystemRandomness::from_seed(11);
    let mut batches = Vec::new();
    for chunk in (0..traces).collect::<Vec<_>>().chunks(20) {
        let mut batch = SpanBatch::new();
        for &trace in chunk {
            push_trace(&mut batch, trace, BEGIN + trace as i64 * interval, &random);
        }
        batches.push(batch);
    }
    let spans = batches.iter().flat_map(|batch| (0..batch.len()).map(|row| batch.span(row))).collect();
    (batches, spans)
}

fn push_trace(batch: &mut SpanBatch, trace: u64, start: i64, random: &SystemRandomness) {
    let below = |limit: u64| random.next_u64() % limit;
    if trace % 10 != 9 {
        let service = AnyValue::String(SERVICES[below(3) as usize].into());
        put(&mut batch.strings, &mut batch.resources.attributes, "service.name", &service);
    }
    let pod = AnyValue::String(format!("pod-{}", below(4)));
    put(&mut batch.strings, &mut batch.resources.attributes, "k8s.pod.name", &pod);
    put(&mut batch.strings, &mut batch.resources.attributes, "both", &AnyValue::String("from resource".into()));
    let resource = batch.finish_resource(0, 0);
    let (name, version) = (batch.strings.intern_str("http"), batch.strings.intern_str("1.2"));
    let scope = batch.finish_scope(name, version, 0, 0);
    for span in 0..1 + below(6) {
        push_attributes(batch, random);
        push_events_and_links(batch, trace, start, random);
        let name = batch.strings.intern_str(["GET /", "POST /cart", "SELECT"][below(3) as usize]);
        let message = batch.strings.intern_str(["", "deadline exceeded"][below(2) as usize]);
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
            sampling_threshold: Threshold::parse(["8", "c", "0", "not"][below(4) as usize]),
            resource,
            scope,
            ..SpanFields::default()
        });
    }
}

fn push_events_and_links(batch: &mut SpanBatch, trace: u64, start: i64, random: &SystemRandomness) {
    for event in 0..random.next_u64() % 3 {
        let kind = AnyValue::String(["IOException", "Timeout"][(random.next_u64() % 2) as usize].into());
        put(&mut batch.strings, &mut batch.events.attributes, "exception.type", &kind);
        let name = batch.strings.intern_str("exception");
        batch.finish_event(start + event as i64, name, 0);
    }
    if random.next_u64().is_multiple_of(4) {
        put(&mut batch.strings, &mut batch.links.attributes, "why", &AnyValue::String("retry".into()));
        batch.finish_link(trace_id(trace + 2), SpanId(7u64.to_be_bytes()), 0, 0, 0);
    }
}

fn push_attributes(batch: &mut SpanBatch, random: &SystemRandomness) {
    let below = |limit: u64| random.next_u64() % limit;
    let spans = batch.len();
    let mut attribute = |key: &str, value: AnyValue| put(&mut batch.strings, &mut batch.attributes, key, &value);
    // Keys that differ only in case are two keys.
    attribute(["userId", "userid"][spans % 2], AnyValue::Int(spans as i64 % 5));
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
    if below(400) == 0 {
        attribute("rare.key", AnyValue::String("needle".into()));
    }
    if below(6) == 0 {
        let tags = ["a", "b", "c"].iter().take(1 + below(3) as usize);
        attribute("tags", AnyValue::Array(tags.map(|tag| AnyValue::String((*tag).into())).collect()));
    }
}
