//! The HTTP interfaces of Jaeger: the classic JSON one, which Jaeger's own interface and Grafana read.
//!
//! Facts of the interface: Jaeger's documentation ("APIs") and the JSON that its user interface reads. Spans become
//! Jaeger's as OpenTelemetry's specification has it ("OpenTelemetry to Jaeger Transformation").
//!
//! Tempo has an address in common with Jaeger, `/api/traces/{id}`, and no request says surely whose client sent it. So
//! that one is Tempo's at the root, and all of Jaeger's interface is also below `/jaeger`, where clients are pointed to.

mod answers;
mod classic;
mod query;
mod trace_json;

use axum::Router;
use axum::routing::get;

use crate::state::ApiState;

pub(crate) fn routes() -> Router<ApiState> {
    let alone = Router::new().route("/api/traces/{traceId}", get(classic::trace));
    shared().nest("/jaeger", shared().merge(alone))
}

fn shared() -> Router<ApiState> {
    Router::new()
        .route("/api/services", get(classic::services))
        .route("/api/services/{service}/operations", get(classic::operations_of))
        .route("/api/operations", get(classic::operations))
        .route("/api/traces", get(classic::traces))
        .route("/api/dependencies", get(classic::calls))
}
