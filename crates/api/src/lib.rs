//! The surface for people and programs that ask: the native API under `/api/v1`; the interfaces of Tempo, Jaeger and
//! Zipkin, so that their clients work as they are; SQL over Arrow Flight; metrics, health, and the user interface. All of
//! it is on one port, HTTP and gRPC.
//!
//! Entry: [`router`] over an [`ApiState`]. A request names its tenant and its parameters, which are read strictly; the
//! question goes to the engines through the [`Answers`] trait; the answer is written as JSON or protobuf, large ones on
//! a thread of their own. Errors are problem details (RFC 9457) that say what to do ([`Problem`]).
//!
//! Invariants: an answer that is not whole says so; a parameter that can't be understood is refused, not ignored
//! (unknown ones are, in the interfaces of others); nothing here blocks the runtime; labels of metrics are bounded.
//!
//! This crate must never know files, how SQL is run, columns of storage, or how spans arrive.
//!
//! Tests: beside the code for parsers, `tests/it` for requests and answers, most against a stand-in for the
//! engines; `tests/it/shown.rs` asks a store for whatever answers show.

mod answer;
mod bodies;
mod by_trace;
mod caller;
mod dependencies;
mod engine;
mod flight;
mod grpc;
mod health;
mod jaeger;
mod json;
mod meter;
mod native;
mod openapi;
mod params;
mod problem;
pub mod proto;
mod scope;
mod state;
mod steps;
mod tempo;
mod time;
mod ui;
mod unique_ids;
mod whole;
mod zipkin;

use std::any::Any;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS};
use http::{HeaderName, HeaderValue, Method};
use http_body::Body as _;
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;

use crate::bodies::Bodies;

pub use engine::{AdminError, Answers, Stored};
pub use openapi::openapi_json;
pub use problem::Problem;
pub use state::ApiState;

/// How long an answer to a question may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a task of an administrator may take.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(3600);
/// The longest path and query of a request.
const URI_BYTES_MAX: usize = 16 * 1024;

/// Everything that is answered on the query port.
pub fn router(state: ApiState) -> Router {
    meter::describe();
    let bodies = Bodies::new(state.clock.clone());
    let questions = Router::new()
        .merge(
            native::routes()
                .route("/api/v1/openapi.json", get(openapi::serve))
                .layer(map_response(say_length))
                .layer(compression()),
        )
        .merge(routes_of_others().layer(map_response(say_length)).layer(compression().no_zstd()))
        .merge(jaeger::name_routes())
        .method_not_allowed_fallback(method_not_allowed)
        .layer(from_fn(async |request, next| limit_time(QUERY_TIMEOUT, request, next).await));
    let tasks =
        native::admin_routes().layer(from_fn(async |request, next| limit_time(ADMIN_TIMEOUT, request, next).await));
    Router::new()
        .merge(tasks)
        .merge(health::routes())
        .fallback(ui::serve)
        .method_not_allowed_fallback(method_not_allowed)
        .layer(map_response(say_length))
        .layer(compression())
        .merge(questions)
        .layer(from_fn(refuse_long))
        .layer(from_fn(protect))
        // Streams of messages, which carry their own compression and their own limit of time.
        .merge(tempo::grpc_routes(&state))
        .merge(jaeger::grpc_routes(&state))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(state.clone(), meter::measure))
        .with_state(state.clone())
        // gRPC has its own compression, limits of time and kinds of errors.
        .merge(flight::routes(state))
        .layer(from_fn_with_state(bodies, bodies::limit))
}

fn routes_of_others() -> Router<ApiState> {
    Router::new().merge(tempo::routes()).merge(jaeger::routes()).merge(zipkin::routes())
}

/// Grafana's data sources offer zstd and can't read it, so the interfaces of others go without.
fn compression() -> CompressionLayer {
    CompressionLayer::new().quality(CompressionLevel::Fastest)
}

/// Says below the compression how long an answer is, for the port that counts what its answers hold in memory: it sees only
/// what is compressed of them.
async fn say_length(mut response: Response) -> Response {
    let length = response.body().size_hint();
    response.extensions_mut().insert(length);
    response
}

async fn limit_time(limit: Duration, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::timeout(limit).into_response(),
    }
}

async fn refuse_long(request: Request, next: Next) -> Response {
    let length = request.uri().path_and_query().map_or(0, |path| path.as_str().len());
    if length > URI_BYTES_MAX {
        let detail = format!("the path and query have {length} bytes; at most {URI_BYTES_MAX} are read; shorten them");
        return Problem::uri_too_long(detail).into_response();
    }
    next.run(request).await
}

/// Headers that keep browsers from taking an answer for something else. Pages bring a policy of their own.
async fn protect(request: Request, next: Next) -> Response {
    const PROTECTIONS: [(HeaderName, HeaderValue); 4] = [
        (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
        (X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
        (REFERRER_POLICY, HeaderValue::from_static("same-origin")),
        (CONTENT_SECURITY_POLICY, HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'")),
    ];
    let mut response = next.run(request).await;
    for (name, value) in PROTECTIONS {
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}

async fn method_not_allowed(method: Method) -> Problem {
    Problem::method_not_allowed(format!("{method} is not answered here; /api/v1/openapi.json says what is"))
}

fn panicked(_: Box<dyn Any + Send + 'static>) -> Response {
    tracing::error!("a request handler panicked");
    Problem::internal("this is a defect; please report it with the server's log").into_response()
}
