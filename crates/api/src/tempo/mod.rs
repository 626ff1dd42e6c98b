//! The HTTP interface of Grafana Tempo, as Grafana's data source speaks it.
//!
//! Facts of the interface: Tempo's documentation ("Tempo HTTP API") and its protobuf messages. JSON follows protobuf's
//! JSON mapping: ids of spans are base64, 64-bit integers are texts, enums are names, defaults are left out. Parameters
//! that we don't know are ignored, as clients of other versions may send them; wrong values are refused.

mod intrinsics;
mod logfmt;
mod otlp_json;
mod search;
mod tags;
mod traces;

use axum::Router;
use axum::response::Response;
use axum::routing::get;
use http::Uri;
use http::header::HeaderName;
use serde_json::json;

use crate::params::{Parameters, TimeRange};
use crate::problem::Problem;
use crate::state::ApiState;

/// Says why an answer is not whole where Tempo's messages have no place for it.
const PARTIAL_HEADER: HeaderName = HeaderName::from_static("x-tracehouse-partial");

pub(crate) fn routes() -> Router<ApiState> {
    Router::new()
        .route("/api/echo", get(async || "echo"))
        .route("/api/status/buildinfo", get(build_info))
        .route("/api/traces/{traceId}", get(traces::v1))
        .route("/api/v2/traces/{traceId}", get(traces::v2))
        .route("/api/search", get(search::search))
        .route("/api/search/tags", get(tags::names_v1))
        .route("/api/search/tag/{tag}/values", get(tags::values_v1))
        .route("/api/v2/search/tags", get(tags::names_v2))
        .route("/api/v2/search/tag/{tag}/values", get(tags::values_v2))
}

/// Our own version: Grafana turns streaming on for Tempo 2.2 and later, which needs gRPC.
async fn build_info() -> Response {
    crate::answer::json(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "revision": "",
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
    }))
}

/// `start` and `end` in seconds since 1970. A second that is named is meant whole, so the range ends after it.
fn time_range_seconds(parameters: &Parameters) -> Result<TimeRange, Problem> {
    const NANOS_PER_SECOND: i64 = 1_000_000_000;
    let seconds = |name: &str| {
        let parse = |text: &str| text.parse::<i64>().ok().filter(|seconds| (0..=i64::from(u32::MAX)).contains(seconds));
        parameters.parsed(name, parse, "whole seconds since 1970, such as 1769860800")
    };
    let start = seconds("start")?.filter(|seconds| *seconds > 0);
    let end = seconds("end")?.filter(|seconds| *seconds > 0);
    TimeRange::new(start.map(|seconds| seconds * NANOS_PER_SECOND), end.map(|seconds| (seconds + 1) * NANOS_PER_SECOND))
}

fn parameters(uri: &Uri) -> Result<Parameters, Problem> {
    Parameters::lenient(uri)
}
