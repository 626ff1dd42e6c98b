//! The interface of Grafana Tempo over HTTP and gRPC, as Grafana's data source speaks it.
//!
//! Facts of the interface: Tempo's documentation ("Tempo HTTP API") and its protobuf messages. JSON follows protobuf's
//! JSON mapping: ids of spans are base64, 64-bit integers are texts, enums are names, defaults are left out. Parameters
//! that we don't know are ignored, as clients of other versions may send them; wrong values are refused.

mod form;
mod grpc;
mod intrinsics;
mod logfmt;
mod metrics;
mod reading;
mod search;
mod steps;
mod tags;
mod traces;
mod values;

use axum::Router;
use axum::response::Response;
use axum::routing::get;
use http::Uri;
use serde_json::json;
use tracehouse_query::Inspected;

use crate::params::{Parameters, TimeRange};
use crate::problem::Problem;
use crate::proto::tempopb::SearchMetrics;
use crate::state::ApiState;

pub(crate) use grpc::routes as grpc_routes;

/// Of which all that is read from is answered here.
const TEMPO_VERSION: &str = "3.0.0";

pub(crate) fn routes() -> Router<ApiState> {
    Router::new()
        .route("/api/echo", get(async || "echo"))
        .route("/api/status/buildinfo", get(build_info))
        .route("/api/traces/{traceId}", get(traces::v1))
        .route("/api/v2/traces/{traceId}", get(traces::v2))
        .route("/api/search", get(search::search))
        .route("/api/search/tags", get(tags::names_v1))
        .route("/api/search/tag/{*rest}", get(tags::values_v1))
        .route("/api/metrics/query_range", get(metrics::range))
        .route("/api/metrics/query", get(metrics::instant))
        .route("/api/v2/search/tags", get(tags::names_v2))
        .route("/api/v2/search/tag/{*rest}", get(tags::values_v2))
}

/// An answer, and why it is not everything, with `N of M`, if it isn't.
struct Found<T> {
    answer: T,
    partial_reason: Option<String>,
}

impl<T> Found<T> {
    fn map<U>(self, change: impl FnOnce(T) -> U) -> Found<U> {
        Found { answer: change(self.answer), partial_reason: self.partial_reason }
    }
}

/// The version of Tempo whose interface this is: Grafana goes by it when it decides what to ask for, such as streams over
/// gRPC. Our own is behind it.
async fn build_info() -> Response {
    crate::answer::json(&json!({
        "version": TEMPO_VERSION,
        "revision": concat!("tracehouse-", env!("CARGO_PKG_VERSION")),
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
    }))
}

/// `start` and `end` in seconds since 1970. A second that is named is meant whole, so the range ends after it.
fn time_range_seconds(parameters: &Parameters) -> Result<TimeRange, Problem> {
    let seconds = |name: &str| {
        let parse = |text: &str| text.parse::<u32>().ok();
        parameters.parsed(name, parse, "whole seconds since 1970, such as 1769860800")
    };
    seconds_range(seconds("start")?, seconds("end")?)
}

/// The same of seconds; 0 is as good as none.
fn seconds_range(start: Option<u32>, end: Option<u32>) -> Result<TimeRange, Problem> {
    const NANOS_PER_SECOND: i64 = 1_000_000_000;
    let given = |seconds: Option<u32>| seconds.filter(|seconds| *seconds > 0).map(i64::from);
    let end = given(end).map(|seconds| (seconds + 1) * NANOS_PER_SECOND);
    TimeRange::new(given(start).map(|seconds| seconds * NANOS_PER_SECOND), end)
}

/// How much was looked at: one job for each file and one for what is in memory. Fewer completed than there are means: not
/// the whole answer.
fn search_metrics(inspected: &Inspected, traces: usize, complete: bool) -> SearchMetrics {
    let total_jobs = inspected.files_total + 1;
    let completed_jobs = if complete { total_jobs } else { inspected.files.min(total_jobs - 1) };
    SearchMetrics {
        inspected_traces: count(traces as u64),
        inspected_bytes: inspected.bytes,
        total_blocks: count(inspected.files_total),
        completed_jobs: count(completed_jobs),
        total_jobs: count(total_jobs),
        inspected_spans: inspected.spans,
    }
}

fn count(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn parameters(uri: &Uri) -> Result<Parameters, Problem> {
    Parameters::lenient(uri)
}
