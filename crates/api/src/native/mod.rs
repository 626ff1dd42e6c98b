//! The native API under `/api/v1`.

mod admin;
pub(crate) mod answers;
mod attributes;
mod compact_trace;
mod find;
mod metrics;
mod query;
mod query_answers;
mod saved_queries;
mod search;
mod services;
mod span_answer;
mod sql;
mod sql_values;
mod status;
mod terms;
mod traces;

use axum::Router;
use axum::routing::{get, post, put};
use utoipa::OpenApi;

use crate::state::ApiState;

pub(crate) use traces::unknown_trace;

pub(crate) fn routes() -> Router<ApiState> {
    Router::new()
        .route("/api/v1/services", get(services::services))
        .route("/api/v1/operations", get(services::operations))
        .route("/api/v1/attributes/keys", get(attributes::keys))
        .route("/api/v1/attributes/values", get(attributes::values))
        .route("/api/v1/search", get(search::search))
        .route("/api/v1/search/count", get(search::count))
        .route("/api/v1/tail", get(search::tail))
        .route("/api/v1/metrics", get(metrics::metrics))
        .route("/api/v1/query/check", get(query::check))
        .route("/api/v1/query/explain", get(query::explain))
        .route("/api/v1/traces/{traceId}", get(traces::trace))
        .route("/api/v1/traces/{traceId}/spans/{spanId}", get(traces::span))
        .route("/api/v1/traces/{traceId}/find", get(traces::find))
        .route("/api/v1/saved-queries", get(saved_queries::list))
        .route("/api/v1/saved-queries/{name}", put(saved_queries::save).delete(saved_queries::remove))
        .route("/api/v1/sql", post(sql::sql))
        .route("/api/v1/status", get(status::status))
}

/// Tasks that may take minutes.
pub(crate) fn admin_routes() -> Router<ApiState> {
    Router::new()
        .route("/api/v1/admin/flush", post(admin::flush))
        .route("/api/v1/admin/compact", post(admin::compact))
        .route("/api/v1/admin/trust-clock", post(admin::trust_clock))
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tracehouse",
        description = "Finds and reads traces. Moments in parameters are RFC 3339, seconds since 1970, or nanoseconds \
            since 1970; durations are a number with a unit, such as `12.5ms`. The header `X-Scope-OrgID` names the \
            tenant or, for traces, searches, series and names, several as `a|b`. Errors are problem details (RFC 9457) that say what to do.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        services::services,
        services::operations,
        attributes::keys,
        attributes::values,
        search::search,
        search::count,
        search::tail,
        metrics::metrics,
        query::check,
        query::explain,
        traces::trace,
        traces::span,
        traces::find,
        saved_queries::list,
        saved_queries::save,
        saved_queries::remove,
        sql::sql,
        status::status,
        admin::flush,
        admin::compact,
        admin::trust_clock,
    ),
    tags(
        (name = "traces", description = "Find traces and read them"),
        (name = "metrics", description = "Compute time series from spans"),
        (name = "queries", description = "Check, explain and save queries"),
        (name = "names", description = "What there is to search for"),
        (name = "operation", description = "Run the server"),
    )
)]
pub(crate) struct NativeApi;
