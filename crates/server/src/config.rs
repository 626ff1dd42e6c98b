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
    /// The folder for all data: the write-ahead log, the stored files, the catalogue.
    pub data_dir: PathBuf,
    /// Address of the user interface, the APIs, /metrics, /healthz and /readyz.
    pub listen: SocketAddr,
    /// Roles that this process runs. Each needs the roles it depends on.
    pub roles: Vec<String>,
    pub http: Http,
    /// Maximum memory that the process allocates; queries that would exceed it end with an error or a partial result. If
    /// unset: 60 % of the memory limit of its cgroup, or else of the machine's memory.
    pub memory_bytes_max: Option<Size>,
    pub otlp: Otlp,
    /// Tenants that may send spans, as named in X-Scope-OrgID (requests without it belong to the tenant `default`). If
    /// empty, any tenant may, up to limits.tenants_max.
    pub tenants: Vec<String>,
    pub limits: LimitSettings,
    pub store: StoreSettings,
    pub query: QuerySettings,
    pub threads: Threads,
    pub log: Logging,
}

/// Which web pages may send requests from a browser.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Origins of other sites whose pages may send requests and read responses, such as https://grafana.example or
    /// https://*.team.example, where * stands for one or more characters of a host's name; http://localhost:* is any port,
    /// * alone any origin. Pages may send credentials if their host is named.
    pub allowed_origins: Vec<String>,
    /// Request headers that these pages, and those of otlp.browser_origins, may send, such as authorization. If empty or *:
    /// all that they ask for.
    pub allowed_headers: Vec<String>,
    /// Host names under which this server may be reached, besides localhost and IP addresses. If empty, any name is accepted
    /// on ports that listen on more than a loopback address.
    pub host_names: Vec<String>,
}

/// OTLP receivers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Otlp {
    /// Address of OTLP/gRPC.
    pub grpc: SocketAddr,
    /// Address of OTLP/HTTP (protobuf and JSON, at /v1/traces).
    pub http: SocketAddr,
    /// Origins whose pages may send spans over OTLP/HTTP, such as https://shop.example; written as in http.allowed_origins.
    pub browser_origins: Vec<String>,
}

/// Limits on requests, spans, traces and tenants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LimitSettings {
    /// Maximum size of a request as sent.
    pub request_bytes_max: Size,
    /// Maximum size of a request after decompression.
    pub decompressed_bytes_max: Size,
    /// Maximum length of an attribute value; longer values are truncated and their span is marked.
    pub attribute_value_bytes_max: Size,
    /// Maximum attributes of a span; excess attributes are dropped and counted.
    pub attributes_per_span_max: usize,
    /// Maximum events of a span; excess events are dropped and counted.
    pub events_per_span_max: usize,
    /// Maximum links of a span; excess links are dropped and counted.
    pub links_per_span_max: usize,
    /// Maximum length of a span name, status message, trace state or attribute key.
    pub name_bytes_max: Size,
    /// Maximum nesting of arrays and key-value lists in a value; deeper ones are dropped, and counted as dropped attributes
    /// of the span.
    pub value_depth_max: usize,
    /// Maximum spans of a trace; excess spans are refused.
    pub spans_per_trace_max: usize,
    /// Maximum tenants; spans of excess tenants are refused. Not used if `tenants` lists the tenants that may send.
    pub tenants_max: usize,
    /// Maximum bytes of concurrent requests; excess requests get 429 (gRPC: RESOURCE_EXHAUSTED) and may be retried. One
    /// tenant may use half of it while others send.
    pub in_flight_bytes_max: Size,
    /// How far in the future a span may start; others are refused.
    pub future_max: Period,
}

/// Limits on queries. A query that reaches one returns what it has, and says so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QuerySettings {
    /// Maximum concurrent queries; excess requests get 503 and may be retried.
    pub at_once_max: usize,
    /// Maximum time of a query; a response over HTTP or gRPC ends after a minute in any case.
    pub time_max: Period,
    /// Maximum memory for the data that all queries gather together, including SQL statements.
    pub memory_bytes_max: Size,
    /// Maximum bytes that a query reads from stored files.
    pub scanned_bytes_max: Size,
    pub sql: SqlSettings,
}

/// Limits on SQL statements. A statement that exceeds one ends with an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SqlSettings {
    /// Maximum concurrent statements; excess requests get 503 and may be retried.
    pub at_once_max: usize,
    /// Maximum time of a statement; a response over HTTP ends after a minute in any case.
    pub time_max: Period,
    /// Maximum memory of all statements together, a share of `query.memory_bytes_max`.
    pub memory_bytes_max: Size,
    /// Maximum rows of a result.
    pub rows_max: usize,
    /// Maximum size of a result; rows beyond it are left out, and the result says so.
    pub answer_bytes_max: Size,
}

/// Threads of the process, divided so that neither receiving nor queries can starve the other.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Threads {
    /// Threads that receive and decode spans; 0: one per core.
    pub ingest: usize,
    /// Threads that answer HTTP requests; 0: one per core.
    pub query: usize,
}

/// The server's own log, on standard error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Logging {
    pub format: LogFormat,
    /// error, warn, info, debug or trace; also by component, as in `info,tracehouse_store=debug`.
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

/// How spans are stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct StoreSettings {
    /// When spans are acknowledged.
    pub durability: Durability,
    /// With `durability: interval`, how often the write-ahead log is synchronised to the disk.
    pub sync_interval: Period,
    /// Maximum memory of spans that are not in files yet; excess requests get 429 (gRPC: RESOURCE_EXHAUSTED) and may be
    /// retried.
    pub hot_bytes_max: Size,
    /// Spans in memory are written to files when they take this much memory …
    pub flush_bytes: Size,
    /// … or when the oldest has been in memory this long.
    pub flush_interval: Period,
    /// Spans that started longer ago than this are refused when they are sent; stored ones are deleted with the file that they are in, once
    /// all spans of it started that long ago. A file has spans of one hour.
    pub retention: Period,
    /// Maximum size of the stored files; the oldest spans are deleted to keep to it. If unset: unlimited.
    pub disk_budget: Option<Size>,
    /// Minimum free space on the disk; with less, requests to store spans get 503 (gRPC: UNAVAILABLE) and may be retried.
    pub disk_free_min: Size,
    /// How long a file that is no longer needed is kept, so that running queries can finish.
    pub delete_grace: Period,
    /// How often small files are merged into larger ones.
    pub compaction_interval: Period,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// After an fsync: no acknowledged span is lost in a crash or power cut.
    Fsync,
    /// After the write: a power cut loses the spans of the last `sync_interval`; a crash of the process alone loses
    /// nothing.
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
