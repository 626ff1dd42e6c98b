//! Jaeger's interfaces for reading: the classic JSON one, which Jaeger's older interface and Grafana read, and version 3
//! over HTTP and gRPC.
//!
//! Facts of the interfaces: Jaeger's documentation ("APIs"), its protobuf messages, and the JSON that its user interface
//! reads. In the classic one spans become Jaeger's as OpenTelemetry's specification has it ("OpenTelemetry to Jaeger
//! Transformation").
//!
//! Tempo has an address in common with Jaeger, `/api/traces/{id}`, and no request says surely whose client sent it. So
//! that one is Tempo's at the root, and all of Jaeger's interface is also below `/jaeger`, where clients are pointed to.

mod answers;
mod classic;
mod grpc;
mod messages;
mod operations;
mod query;
mod tags;
mod trace_json;
mod v3;

use axum::Router;
use axum::routing::{any, get};

use crate::state::ApiState;

pub(crate) use grpc::routes as grpc_routes;

pub(crate) fn routes() -> Router<ApiState> {
    shared().nest("/jaeger", shared().merge(alone()))
}

/// Lists of names, which older data sources of Grafana read only as they are: they don't undo any compression.
pub(crate) fn name_routes() -> Router<ApiState> {
    names().nest("/jaeger", names())
}

fn names() -> Router<ApiState> {
    Router::new()
        .route("/api/services", get(classic::services))
        .route("/api/services/{service}/operations", get(classic::operations_of))
        .route("/api/operations", get(classic::operations_of_kind))
        .route("/api/v3/services", get(v3::services))
        .route("/api/v3/operations", get(v3::operations_of_kind))
}

fn shared() -> Router<ApiState> {
    Router::new()
        .route("/api/traces", get(classic::traces))
        .route("/api/dependencies", get(classic::calls))
        .route("/api/v3/traces", get(v3::traces).post(v3::posted_traces))
        .route("/api/v3/traces/{traceId}", get(v3::trace))
        .route("/api/v3/trace-summaries", get(v3::summaries).post(v3::posted_summaries))
        .route("/api/v3/dependencies", get(v3::calls))
}

/// Only below `/jaeger`, where nothing but Jaeger's interface is.
fn alone() -> Router<ApiState> {
    Router::new()
        .route("/api/traces/{traceId}", get(classic::trace))
        .route("/api/metrics/latencies", get(classic::span_metrics))
        .route("/api/metrics/calls", get(classic::span_metrics))
        .route("/api/metrics/errors", get(classic::span_metrics))
        .route("/api/metrics/minstep", get(classic::span_metrics))
        .route("/api/v3/{*unknown}", any(v3::unknown))
        .route("/{*unknown}", any(classic::unknown))
}
