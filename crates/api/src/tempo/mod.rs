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
mod shared;
mod steps;
mod tags;
mod traces;
mod values;

use axum::Router;
use axum::response::Response;
use axum::routing::get;
use serde_json::json;

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
