//! A store with random spans behind the whole surface.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use metrics_exporter_prometheus::PrometheusBuilder;
use object_store::local::LocalFileSystem;
use serde_json::Value;
use tempfile::TempDir;
use tracehouse_api::ApiState;
use tracehouse_catalogue::SqliteCatalogue;
use tracehouse_model::{
    AnyValue, AttributeLists, AttributeValue, ManualClock, Randomness, SpanBatch, SpanFields, SpanId, StringTable,
    SystemRandomness, TenantId, TraceId, kind, status,
};
use tracehouse_query::{QueryEngine, QueryLimits};
use tracehouse_sql::{SqlEngine, SqlLimits};
use tracehouse_store::{Store, StoreConfig};

use crate::{Answer, send_to};

pub(crate) const NOON: i64 = 1_769_860_800_000_000_000;

/// Where the spans are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Layout {
    Memory,
    Files,
    /// A file of each half, not merged.
    Halves,
}

/// The surface over a running store; the folder goes with it.
pub(crate) struct Shop {
    pub(crate) app: Router,
    pub(crate) store: Arc<Store>,
    _folder: TempDir,
}

impl Shop {
    pub(crate) async fn with(batches: &[SpanBatch], layout: Layout) -> Self {
        let of_default = batches.iter().map(|batch| (TenantId::default(), batch.clone()));
        Self::of_tenants(of_default.collect(), layout).await
    }

    pub(crate) async fn of_tenants(batches: Vec<(TenantId, SpanBatch)>, layout: Layout) -> Self {
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
        let store =
            Store::open(config, objects, Some(root), catalogue, clock.clone(), randomness).await.expect("opens");
        for (tenant, batch) in batches {
            store.append(tenant, batch).await.expect("there is room");
            if layout == Layout::Halves {
                store.flush().await.expect("the flush succeeds");
            }
        }
        if layout == Layout::Files {
            store.flush().await.expect("the flush succeeds");
            store.compact().await.expect("the merge succeeds");
        }
        let engine = QueryEngine::new(store.clone(), QueryLimits::default(), clock.clone());
        let sql = SqlEngine::new(store.clone(), SqlLimits::default(), clock.clone()).expect("it starts");
        let prometheus = PrometheusBuilder::new().build_recorder().handle();
        let state = ApiState::new(engine, sql, store.clone(), prometheus, clock, TenantId::default());
        Self { app: tracehouse_api::router(state), store, _folder: folder }
    }

    pub(crate) async fn get(&self, uri: &str) -> Answer {
        send_to(self.app.clone(), Request::get(uri).body(Body::empty()).expect("a request")).await
    }

    pub(crate) async fn put(&self, uri: &str, body: &Value) -> Answer {
        send_to(self.app.clone(), Request::put(uri).body(Body::from(body.to_string())).expect("a request")).await
    }

    pub(crate) async fn json(&self, uri: &str) -> Value {
        let answer = self.get(uri).await;
        assert_eq!(answer.status, http::StatusCode::OK, "{uri}: {}", String::from_utf8_lossy(&answer.body));
        answer.json()
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

/// Keys of attributes. Some are those of fields that answers show as tags.
const KEYS: [&str; 16] = [
    "http.route",
    "k",
    "größe",
    "blob",
    "error",
    "event",
    "span.kind",
    "otel.scope.name",
    "otel.scope.version",
    "otel.status_code",
    "otel.status_description",
    "w3c.tracestate",
    "peer.service",
    "server.address",
    "net.peer.name",
    "network.peer.address",
];
const TEXTS: [&str; 16] = [
    "/cart",
    "",
    "true",
    "1",
    "POST",
    "NaN",
    "Infinity",
    "größe \"1\\2\"",
    "[1]",
    "{\"a\":1}",
    "ERROR",
    "client",
    "AP8=",
    "10.0.0.1",
    "  padded ",
    " ",
];

/// Spans with every kind of value in every place, in two batches. Equal seeds give equal spans.
pub(crate) fn random_spans(traces: u64, seed: u64) -> Vec<SpanBatch> {
    let random = SystemRandomness::from_seed(seed);
    let mut batches = vec![SpanBatch::new(), SpanBatch::new()];
    for trace in 0..traces {
        let batch = &mut batches[(trace % 2) as usize];
        for span in 0..1 + below(&random, 3) {
            push_span(batch, trace, span, &random);
        }
    }
    batches
}

fn below(random: &SystemRandomness, limit: u64) -> u64 {
    random.next_u64() % limit
}

fn text_of(random: &SystemRandomness) -> String {
    match below(random, 3) {
        0 => format!("text {}", below(random, 1000)),
        _ => TEXTS[below(random, TEXTS.len() as u64) as usize].to_owned(),
    }
}

fn value_of(random: &SystemRandomness, depth: u64) -> AnyValue {
    match below(random, if depth > 1 { 10 } else { 13 }) {
        0 => AnyValue::Int([0, 1, -7, 9_007_199_254_740_993, i64::MIN][below(random, 5) as usize]),
        1 => AnyValue::Double([0.5, 1.0, -0.0, 1e300, 72.25][below(random, 5) as usize]),
        2 => AnyValue::Double([f64::NAN, f64::INFINITY, f64::NEG_INFINITY][below(random, 3) as usize]),
        3 => AnyValue::Bool(below(random, 2) == 0),
        4 => AnyValue::Bytes((0..below(random, 6)).map(|_| below(random, 256) as u8).collect()),
        5 => AnyValue::Empty,
        10 | 11 => AnyValue::Array((0..below(random, 4)).map(|_| value_of(random, depth + 1)).collect()),
        12 => AnyValue::KeyValueList(vec![("a".to_owned(), value_of(random, depth + 1))]),
        _ => AnyValue::String(text_of(random)),
    }
}

fn put_some(strings: &mut StringTable, lists: &mut AttributeLists, most: u64, random: &SystemRandomness) {
    let mut keys: Vec<&str> = Vec::new();
    for _ in 0..below(random, most + 1) {
        let key = KEYS[below(random, KEYS.len() as u64) as usize];
        if !keys.contains(&key) {
            keys.push(key);
            put(strings, lists, key, &value_of(random, 0));
        }
    }
}

fn push_span(batch: &mut SpanBatch, trace: u64, span: u64, random: &SystemRandomness) {
    let of = |values: &[&'static str]| values[below(random, values.len() as u64) as usize];
    let service = AnyValue::String(of(&["gateway", "cart", "checkout"]).to_owned());
    put(&mut batch.strings, &mut batch.resources.attributes, "service.name", &service);
    put_some(&mut batch.strings, &mut batch.resources.attributes, 2, random);
    let resource = batch.finish_resource(0, 0);
    put_some(&mut batch.strings, &mut batch.scopes.attributes, 1, random);
    let (name, version) =
        (batch.strings.intern_str(of(&["", "http", "sql"])), batch.strings.intern_str(of(&["", "1.2"])));
    let scope = batch.finish_scope(name, version, 0, 0);
    put_some(&mut batch.strings, &mut batch.attributes, 5, random);
    let start = NOON - 60_000_000_000 + trace as i64 * 1_000_000;
    for event in 0..below(random, 3) as i64 {
        put_some(&mut batch.strings, &mut batch.events.attributes, 2, random);
        let name = batch.strings.intern_str(of(&["", "exception", "retry", "a=b", "größe"]));
        batch.finish_event(start + event * 1000, name, 0);
    }
    if below(random, 4) == 0 {
        put_some(&mut batch.strings, &mut batch.links.attributes, 2, random);
        batch.finish_link(TraceId([3; 16]), SpanId([4; 8]), 0, 0, 0);
    }
    let name = batch.strings.intern_str(of(&["GET /", "SELECT", "publish"]));
    let status_message = batch.strings.intern_str(of(&["", "deadline exceeded", "no route"]));
    let trace_state = batch.strings.intern_str(of(&["", "", "ot=th:8", "a=b,c=d"]));
    batch.finish_span(SpanFields {
        trace_id: trace_id(trace + 1),
        span_id: SpanId((trace * 100 + span + 1).to_be_bytes()),
        parent_span_id: if span == 0 { SpanId::NONE } else { SpanId((trace * 100 + span).to_be_bytes()) },
        start_unix_nanos: start + span as i64 * 10_000,
        duration_nanos: below(random, 1_000_000_000) as i64,
        name,
        kind: below(random, u64::from(kind::CONSUMER) + 1) as u8,
        status_code: below(random, u64::from(status::ERROR) + 1) as u8,
        status_message,
        trace_state,
        resource,
        scope,
        ..SpanFields::default()
    });
}
