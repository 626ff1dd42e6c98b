use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::HeaderValue;
use http::header::CONTENT_TYPE;

use crate::problem::Problem;
use crate::state::ApiState;

const READY_RETRY_AFTER: Duration = Duration::from_secs(5);

pub(crate) fn routes() -> Router<ApiState> {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        // Where Tempo answers the same.
        .route("/ready", get(readyz))
        // Kiali takes Tempo for healthy if there is an answer here.
        .route("/status/services", get(async || "query: Running\n"))
}

/// The process is up.
async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether spans can be taken in; else 503 and why not.
async fn readyz(State(state): State<ApiState>) -> Result<&'static str, Problem> {
    match state.answers.ready() {
        Ok(()) => Ok("ready\n"),
        Err(reason) => Err(Problem::unavailable(format!("not ready: {reason}"), READY_RETRY_AFTER)),
    }
}

/// Metrics in Prometheus' text format.
async fn metrics(State(state): State<ApiState>) -> Result<Response, Problem> {
    let prometheus = state.prometheus.clone();
    let rendered = tokio::task::spawn_blocking(move || prometheus.render()).await;
    let text = rendered.map_err(|_| Problem::internal("the metrics could not be written; see the server's log"))?;
    let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    Ok(([(CONTENT_TYPE, content_type)], text).into_response())
}
