//! The reading half of Zipkin's HTTP interface, version 2, at `/api/v2` and at `/zipkin/api/v2`, where Zipkin's own
//! user interface looks for it.
//!
//! Facts of the interface: `zipkin2-api.yaml`. Spans become Zipkin's as OpenTelemetry's specification has it
//! ("OpenTelemetry to Zipkin Transformation"). Names of services and spans stay as they were sent, where Zipkin would
//! write them in lower case: a name that is listed is also the name to search for.

mod query;
mod read;
mod remote;
mod span_json;
mod tags;

use axum::Router;
use axum::routing::{any, get};
use http::Uri;

use crate::problem::Problem;
use crate::state::ApiState;

pub(crate) fn routes() -> Router<ApiState> {
    below_version().nest("/zipkin", below_version().merge(alone()))
}

/// Only below `/zipkin`, where nothing but Zipkin's interface is.
fn alone() -> Router<ApiState> {
    Router::new().route("/config.json", get(read::configuration)).route("/{*unknown}", any(unknown))
}

async fn unknown(uri: Uri) -> Problem {
    Problem::not_found(format!("Zipkin's interface has no {:.100} here", uri.path()))
}

fn below_version() -> Router<ApiState> {
    Router::new()
        .route("/api/v2/services", get(read::services))
        .route("/api/v2/spans", get(read::span_names))
        .route("/api/v2/remoteServices", get(read::remote_services))
        .route("/api/v2/traces", get(read::traces))
        .route("/api/v2/trace/{traceId}", get(read::trace))
        .route("/api/v2/traceMany", get(read::trace_many))
        .route("/api/v2/dependencies", get(read::calls))
        .route("/api/v2/autocompleteKeys", get(read::attribute_keys))
        .route("/api/v2/autocompleteValues", get(read::attribute_values))
}
