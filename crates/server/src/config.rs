//! The configuration: one YAML file in which every key is optional, overridden by environment variables, overridden by
//! flags. [`Config`] is the effective configuration; [`load`] reads it and remembers where each value came from
//! ([`Loaded`]), [`show`] prints it with those sources, [`schema`] describes it.
//!
//! Defaults that belong to other crates are taken from there, so that no number is written twice.

mod check;
mod load;
mod schema;
mod show;
mod units;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracehouse_model::Limits;
use tracehouse_query::QueryLimits;
use tracehouse_sql::SqlLimits;
use tracehouse_store::StoreConfig;

pub use load::{ConfigError, Layers, Loaded, load};
pub use schema::schema;
pub use show::show;
pub use units::{Period, Size, UnitError};

/// Everything that can be set. Every key is optional.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The folder that holds everything kept: the write-ahead log, the stored files, the catalogue.
    pub data_dir: PathBuf,
    /// Where the user interface, the APIs, /metrics, /healthz and /readyz are served.
    pub listen: SocketAddr,
    /// The roles that this process runs; a role needs those it depends on.
    pub roles: Vec<String>,
    pub http: Http,
    /// What the whole process may have allocated; above it queries end with an error or a partial answer. No key: 60 % of
    /// the memory of its memory group (cgroup), or else of the machine.
    pub memory_bytes_max: Option<Size>,
    pub otlp: Otlp,
    /// The tenants that may send spans, as named in X-Scope-OrgID (default is the one of requests that name none); an empty
    /// list takes any, up to limits.tenants_max.
    pub tenants: Vec<String>,
    pub limits: LimitSettings,
    pub store: StoreSettings,
    pub query: QuerySettings,
    pub threads: Threads,
    pub log: Logging,
}

/// Who may use the ports from a web browser.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Origins of other sites whose pages may ask and read, such as https://grafana.example or https://*.team.example, where *
    /// stands for one or more characters of a host's name; http://localhost:* is any port, * alone any origin. Pages of
    /// hosts that are named so may send credentials.
    pub allowed_origins: Vec<String>,
    /// Headers that those pages, and those of otlp.browser_origins, may send, such as authorization; with none, or *, all
    /// that they ask for.
    pub allowed_headers: Vec<String>,
    /// Names under which this server may be asked, besides localhost and addresses. With none, any name is taken where a port
    /// listens on more than a loopback address.
    pub host_names: Vec<String>,
}

/// OTLP receivers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Otlp {
    /// Where OTLP/gRPC is received.
    pub grpc: SocketAddr,
    /// Where OTLP/HTTP is received (protobuf and JSON, at /v1/traces).
    pub http: SocketAddr,
    /// Web origins whose pages may send spans over OTLP/HTTP, for example https://shop.example; written as in
    /// http.allowed_origins.
    pub browser_origins: Vec<String>,
}

/// What one request, span or trace may hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Largest request as sent.
    pub request_bytes_max: Size,
    /// Largest request after decompression.
    pub decompressed_bytes_max: Size,
    /// A longer attribute value is cut and its span marked.
    pub attribute_value_bytes_max: Size,
    /// Further attributes of a span are dropped and counted.
    pub attributes_per_span_max: usize,
    /// Further events of a span are dropped and counted.
    pub events_per_span_max: usize,
    /// Further links of a span are dropped and counted.
    pub links_per_span_max: usize,
    /// Longest span name, status message, trace state or attribute key.
    pub name_bytes_max: Size,
    /// Deepest nesting of arrays and key-value lists in a value. Deeper ones are left out, and counted as dropped attributes of the span.
    pub value_depth_max: usize,
    /// Further spans of a trace are refused.
    pub spans_per_trace_max: usize,
    /// Spans of further tenants are refused, unless `tenants` lists those that may send.
    pub tenants_max: usize,
    /// Requests being worked on at once, in bytes; above it senders are asked to come back. One tenant may hold half of it
    /// while others send.
    pub in_flight_bytes_max: Size,
    /// A span may not begin further in the future than this.
    pub future_max: Period,
}

/// What one query may use. One that would need more answers with what it has, and says so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QuerySettings {
    /// Queries at once; further ones are asked to come back.
    pub at_once_max: usize,
    /// Longest time; an answer over HTTP or gRPC ends after a minute in any case.
    pub time_max: Period,
    /// Most memory for what all queries gather together, SQL statements among them.
    pub memory_bytes_max: Size,
    /// Most bytes that it may read of the stored files.
    pub scanned_bytes_max: Size,
    pub sql: SqlSettings,
}

/// What SQL statements may use. One that would need more ends with an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SqlSettings {
    /// Statements at once; further ones are asked to come back.
    pub at_once_max: usize,
    /// Longest time of a statement; an answer over HTTP ends after a minute in any case.
    pub time_max: Period,
    /// Most memory of all statements together, a share of `query.memory_bytes_max`.
    pub memory_bytes_max: Size,
    /// Most rows of an answer.
    pub rows_max: usize,
    /// Largest answer; what is beyond is left out, and the answer says so.
    pub answer_bytes_max: Size,
}

/// How a process's threads are divided, so that neither part can starve the other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Threads {
    /// Threads that receive and decode; 0 is one per core.
    pub ingest: usize,
    /// Threads that answer HTTP requests; 0 is one per core.
    pub query: usize,
}

/// What the server writes about itself, to standard error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    pub format: LogFormat,
    /// error, warn, info, debug or trace; also per part, as in `info,tracehouse_store=debug`.
    pub level: LogLevel,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct LogLevel(pub String);

/// How spans are kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSettings {
    /// When a sender is told that its spans are kept.
    pub durability: Durability,
    /// With `durability: interval`, how often the write-ahead log is synchronised to the disk.
    pub sync_interval: Period,
    /// Spans not yet in files may take this much memory; above it senders are asked to come back.
    pub hot_bytes_max: Size,
    /// Spans in memory are written to files when they take this much …
    pub flush_bytes: Size,
    /// … or when the oldest has been there this long.
    pub flush_interval: Period,
    /// Spans older than this are deleted.
    pub retention: Period,
    /// The oldest spans are deleted when the stored files take more than this; no key, no budget.
    pub disk_budget: Option<Size>,
    /// With less free space than this on the disk, senders are asked to come back later.
    pub disk_free_min: Size,
    /// A file that is no longer needed is deleted this much later, so that running queries can finish.
    pub delete_grace: Period,
    /// How often small files are merged into larger ones.
    pub compaction_interval: Period,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// After an fsync: nothing acknowledged is lost by a crash or power cut.
    Fsync,
    /// After the write: a power cut loses what came in since the last `sync_interval`; a crash of the process alone
    /// loses nothing.
    Interval,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./data"),
            listen: SocketAddr::from(([127, 0, 0, 1], 3200)),
            roles: crate::roles::ROLES.iter().map(|role| role.name.to_owned()).collect(),
            http: Http::default(),
            memory_bytes_max: None,
            otlp: Otlp::default(),
            tenants: Vec::new(),
            limits: LimitSettings::default(),
            store: StoreSettings::default(),
            query: QuerySettings::default(),
            threads: Threads::default(),
            log: Logging::default(),
        }
    }
}

impl Default for Otlp {
    fn default() -> Self {
        Self {
            grpc: SocketAddr::from(([127, 0, 0, 1], 4317)),
            http: SocketAddr::from(([127, 0, 0, 1], 4318)),
            browser_origins: Vec::new(),
        }
    }
}

impl Default for LogLevel {
    fn default() -> Self {
        Self("info".to_owned())
    }
}

impl TryFrom<String> for LogLevel {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match tracing_subscriber::EnvFilter::try_new(&text) {
            Ok(_) => Ok(Self(text)),
            Err(error) => Err(format!("{text:?} is not a log level ({error}); write for example info or debug")),
        }
    }
}

impl From<LogLevel> for String {
    fn from(level: LogLevel) -> String {
        level.0
    }
}

fn size(bytes: usize) -> Size {
    Size(bytes as u64)
}

fn bytes(size: Size) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}

impl Default for LimitSettings {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            request_bytes_max: size(limits.request_bytes_max),
            decompressed_bytes_max: size(limits.decompressed_bytes_max),
            attribute_value_bytes_max: size(limits.attribute_value_bytes_max),
            attributes_per_span_max: limits.attributes_per_span_max,
            events_per_span_max: limits.events_per_span_max,
            links_per_span_max: limits.links_per_span_max,
            name_bytes_max: size(limits.name_bytes_max),
            value_depth_max: limits.value_depth_max,
            spans_per_trace_max: limits.spans_per_trace_max,
            tenants_max: limits.tenants_max,
            in_flight_bytes_max: size(limits.in_flight_bytes_max),
            future_max: Period(Duration::from_nanos(limits.future_nanos_max.unsigned_abs())),
        }
    }
}

impl LimitSettings {
    pub fn limits(&self) -> Limits {
        Limits {
            request_bytes_max: bytes(self.request_bytes_max),
            decompressed_bytes_max: bytes(self.decompressed_bytes_max),
            attribute_value_bytes_max: bytes(self.attribute_value_bytes_max),
            attributes_per_span_max: self.attributes_per_span_max,
            events_per_span_max: self.events_per_span_max,
            links_per_span_max: self.links_per_span_max,
            name_bytes_max: bytes(self.name_bytes_max),
            value_depth_max: self.value_depth_max,
            spans_per_trace_max: self.spans_per_trace_max,
            tenants_max: self.tenants_max,
            in_flight_bytes_max: bytes(self.in_flight_bytes_max),
            future_nanos_max: i64::try_from(self.future_max.0.as_nanos()).unwrap_or(i64::MAX),
        }
    }
}

impl Default for QuerySettings {
    fn default() -> Self {
        let limits = QueryLimits::default();
        Self {
            at_once_max: limits.concurrent_max,
            time_max: Period(limits.time_max),
            memory_bytes_max: size(limits.memory_bytes_max),
            scanned_bytes_max: Size(limits.scanned_bytes_max),
            sql: SqlSettings::default(),
        }
    }
}

impl QuerySettings {
    pub fn limits(&self) -> QueryLimits {
        QueryLimits {
            concurrent_max: self.at_once_max,
            time_max: self.time_max.0,
            memory_bytes_max: bytes(self.memory_bytes_max),
            scanned_bytes_max: self.scanned_bytes_max.0,
            ..QueryLimits::default()
        }
    }
}

impl Default for SqlSettings {
    fn default() -> Self {
        let limits = SqlLimits::default();
        Self {
            at_once_max: limits.concurrent_max,
            time_max: Period(limits.time_max),
            memory_bytes_max: size(limits.memory_bytes_max),
            rows_max: limits.rows_max,
            answer_bytes_max: size(limits.answer_bytes_max),
        }
    }
}

impl SqlSettings {
    pub fn limits(&self) -> SqlLimits {
        SqlLimits {
            concurrent_max: self.at_once_max,
            memory_bytes_max: bytes(self.memory_bytes_max),
            time_max: self.time_max.0,
            rows_max: self.rows_max,
            answer_bytes_max: bytes(self.answer_bytes_max),
            ..SqlLimits::default()
        }
    }
}

impl Default for StoreSettings {
    fn default() -> Self {
        const SYNC_INTERVAL: Duration = Duration::from_millis(200);
        let store = StoreConfig::default();
        let (durability, sync_interval) = match store.durability {
            tracehouse_store::Durability::Fsync => (Durability::Fsync, SYNC_INTERVAL),
            tracehouse_store::Durability::Interval(interval) => (Durability::Interval, interval),
        };
        Self {
            durability,
            sync_interval: Period(sync_interval),
            hot_bytes_max: size(store.hot_bytes_max),
            flush_bytes: size(store.flush_bytes),
            flush_interval: Period(store.flush_interval),
            retention: Period(store.retention),
            disk_budget: store.disk_budget_bytes.map(Size),
            disk_free_min: Size(store.disk_free_bytes_min),
            delete_grace: Period(store.delete_grace),
            compaction_interval: Period(store.compaction_interval),
        }
    }
}

impl StoreSettings {
    /// The store's configuration, with its write-ahead log in the given folder.
    pub fn store_config(&self, log_dir: PathBuf) -> StoreConfig {
        StoreConfig {
            log_dir,
            durability: match self.durability {
                Durability::Fsync => tracehouse_store::Durability::Fsync,
                Durability::Interval => tracehouse_store::Durability::Interval(self.sync_interval.0),
            },
            hot_bytes_max: bytes(self.hot_bytes_max),
            flush_bytes: bytes(self.flush_bytes),
            flush_interval: self.flush_interval.0,
            retention: self.retention.0,
            disk_budget_bytes: self.disk_budget.map(|size| size.0),
            disk_free_bytes_min: self.disk_free_min.0,
            delete_grace: self.delete_grace.0,
            compaction_interval: self.compaction_interval.0,
            ..StoreConfig::default()
        }
    }
}
