//! Queries that end before they have all they asked for are counted, by kind and reason, whichever interface asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::ThreadId;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use parking_lot::{Condvar, Mutex};
use tower::ServiceExt;
use tracehouse_api::ApiState;
use tracehouse_model::{Clock, ManualClock, TenantId};
use tracehouse_query::{QueryEngine, QueryLimits};
use tracehouse_sql::{SqlEngine, SqlLimits};

use crate::send_to;
use crate::shop::{Layout, NOON, Shop, random_spans};

const SEARCH: &str = "/api/search?q=%7B%20duration%20%3E%202ns%20%7D";
const METRICS: &str =
    "/api/v1/metrics?q=%7B%20duration%20%3E%202ns%20%7D%20%7C%20rate()&start=1769857200&end=1769864400&step=60s";
const JAEGER: &str = "/jaeger/api/traces?limit=10";
const ZIPKIN: &str = "/zipkin/api/v2/traces?limit=10";
const STATEMENT: &str = r#"{"query":"SELECT name, count(*) FROM spans GROUP BY 1"}"#;
/// Takes for ever.
const ENDLESS: &str =
    r#"{"query":"SELECT count(*) FROM spans a, spans b, spans c, spans d, spans e, spans f WHERE a.name < b.name"}"#;

struct World {
    shop: Shop,
    prometheus: PrometheusHandle,
}

impl World {
    async fn open() -> Self {
        // The only test here that counts in the recorder of the whole process.
        let prometheus = PrometheusBuilder::new().install_recorder().expect("no other is installed");
        Self { shop: Shop::with(&random_spans(200, 3), Layout::Files).await, prometheus }
    }

    /// The surface with engines of their own.
    fn app(&self, limits: QueryLimits, of_sql: SqlLimits, clock: Arc<dyn Clock>) -> Router {
        let (store, limits) = (&self.shop.store, QueryLimits { threads_per_search: 1, ..limits });
        let engine = QueryEngine::new(store.clone(), limits, clock);
        let clock = Arc::new(ManualClock::at_unix_nanos(NOON));
        let sql = SqlEngine::new(store.clone(), of_sql, clock.clone()).expect("it starts");
        let tenant = TenantId::default();
        tracehouse_api::router(ApiState::new(engine, sql, store.clone(), self.prometheus.clone(), clock, tenant))
    }

    /// How often the metrics say that queries of a kind ended for a reason.
    async fn ended(&self, kind: &str, reason: &str) -> u64 {
        let app = self.app(QueryLimits::default(), SqlLimits::default(), still());
        let text = String::from_utf8(send_to(app, get("/metrics")).await.body).expect("a text");
        let is_described = text.contains("# HELP tracehouse_query_ended_early_total ");
        assert_eq!(is_described, text.contains("tracehouse_query_ended_early_total{"), "it says what it counts");
        let labels = [format!("kind=\"{kind}\""), format!("reason=\"{reason}\"")];
        let counts = text.lines().filter(|line| {
            line.starts_with("tracehouse_query_ended_early_total{") && labels.iter().all(|label| line.contains(label))
        });
        counts.map(|line| line.rsplit_once(' ').expect("a number").1.parse::<u64>().expect("a number")).sum()
    }

    /// Sends requests, each of which must be counted once.
    async fn check(&self, app: &Router, requests: Vec<(Request<Body>, &str)>, reason: &str) {
        for (request, kind) in requests {
            let (before, uri) = (self.ended(kind, reason).await, request.uri().clone());
            send_to(app.clone(), request).await;
            assert_eq!(self.ended(kind, reason).await, before + 1, "{uri}: {kind}, {reason}");
        }
    }
}

fn still() -> Arc<dyn Clock> {
    Arc::new(ManualClock::at_unix_nanos(NOON))
}

fn get(uri: &str) -> Request<Body> {
    Request::get(uri).body(Body::empty()).expect("a request")
}

fn sql(body: &str) -> Request<Body> {
    Request::post("/api/v1/sql").body(Body::from(body.to_owned())).expect("a request")
}

fn of_spans() -> Vec<(Request<Body>, &'static str)> {
    vec![(get(SEARCH), "search"), (get(METRICS), "metrics"), (get(JAEGER), "search"), (get(ZIPKIN), "search")]
}

fn of_all() -> Vec<(Request<Body>, &'static str)> {
    let mut all = of_spans();
    all.push((sql(STATEMENT), "sql"));
    all
}

/// A second passes whenever somebody looks.
#[derive(Default)]
struct Hurrying(AtomicU64);

impl Clock for Hurrying {
    fn now_unix_nanos(&self) -> i64 {
        NOON
    }

    fn monotonic(&self) -> Duration {
        Duration::from_secs(self.0.fetch_add(1, Ordering::Relaxed))
    }
}

/// Whoever looks from another thread waits until it is opened.
struct Gate {
    own: ThreadId,
    is_open: Mutex<bool>,
    opened: Condvar,
}

impl Clock for Gate {
    fn now_unix_nanos(&self) -> i64 {
        NOON
    }

    fn monotonic(&self) -> Duration {
        if std::thread::current().id() != self.own {
            self.opened.wait_while(&mut self.is_open.lock(), |is_open| !*is_open);
        }
        Duration::ZERO
    }
}

#[tokio::test]
async fn whatever_ends_a_query_early_is_counted() {
    let world = World::open().await;

    let limits = QueryLimits { concurrent_max: 0, ..QueryLimits::default() };
    let of_sql = SqlLimits { concurrent_max: 0, ..SqlLimits::default() };
    world.check(&world.app(limits, of_sql, still()), of_all(), "places").await;

    let limits = QueryLimits { memory_bytes_max: 1000, ..QueryLimits::default() };
    let of_sql = SqlLimits { memory_bytes_max: 1000, ..SqlLimits::default() };
    world.check(&world.app(limits, of_sql, still()), of_all(), "memory").await;

    let limits = QueryLimits { time_max: Duration::from_secs(3), ..QueryLimits::default() };
    let of_sql = SqlLimits { time_max: Duration::ZERO, ..SqlLimits::default() };
    world.check(&world.app(limits, of_sql, Arc::<Hurrying>::default()), of_all(), "time").await;

    let limits = QueryLimits { scanned_bytes_max: 0, ..QueryLimits::default() };
    world.check(&world.app(limits, SqlLimits::default(), still()), of_spans(), "bytes_read").await;

    let gate = Arc::new(Gate { own: std::thread::current().id(), is_open: Mutex::new(false), opened: Condvar::new() });
    let of_sql = SqlLimits { time_max: Duration::from_secs(600), ..SqlLimits::default() };
    let app = world.app(QueryLimits::default(), of_sql, gate.clone());
    for (request, kind) in [(get(SEARCH), "search"), (sql(ENDLESS), "sql")] {
        let before = world.ended(kind, "left").await;
        let waited = tokio::time::timeout(Duration::from_millis(1), app.clone().oneshot(request)).await;
        assert!(waited.is_err(), "{kind}: its client goes before there is an answer");
        *gate.is_open.lock() = true;
        gate.opened.notify_all();
        while world.ended(kind, "left").await == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(world.ended(kind, "left").await, before + 1, "{kind}");
    }

    let app = world.app(QueryLimits::default(), SqlLimits::default(), still());
    let all = [("search", "time"), ("search", "memory"), ("metrics", "bytes_read"), ("sql", "time"), ("sql", "left")];
    let mut before = Vec::new();
    for (kind, reason) in all {
        before.push(world.ended(kind, reason).await);
    }
    for (request, _) in of_all() {
        assert_eq!(send_to(app.clone(), request).await.status, http::StatusCode::OK);
    }
    for ((kind, reason), before) in all.into_iter().zip(before) {
        assert_eq!(world.ended(kind, reason).await, before, "{kind}, {reason}: what ends in time is not counted");
    }
}
