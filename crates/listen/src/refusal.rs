//! Answers to requests that no router sees, as problem details (RFC 9457). A client of gRPC goes by their status.

use axum::body::Body;
use axum::response::Response;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};

const NO_ROOM_RETRY_SECONDS: u16 = 5;

pub(crate) fn problem(status: StatusCode, detail: &str) -> Response {
    let quoted = detail.replace('\\', "\\\\").replace('"', "\\\"");
    let title = status.canonical_reason().unwrap_or_default();
    let problem =
        format!(r#"{{"type":"about:blank","title":"{title}","status":{},"detail":"{quoted}"}}"#, status.as_u16());
    let mut response = Response::new(Body::from(problem));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Answers wait to be read, and hold all they may.
pub(crate) fn no_room() -> Response {
    let detail = "too many answers wait to be read by their clients; read those, or ask again in a moment";
    let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, detail);
    response.headers_mut().insert(RETRY_AFTER, NO_ROOM_RETRY_SECONDS.into());
    response
}

/// Requests wait for their peers, and hold all they may.
pub(crate) fn too_many_requests() -> Response {
    let detail = "too many requests have begun and wait for their clients; send this one again in a moment";
    let mut response = problem(StatusCode::SERVICE_UNAVAILABLE, detail);
    response.headers_mut().insert(RETRY_AFTER, NO_ROOM_RETRY_SECONDS.into());
    response
}

/// The body of a request in HTTP/1 did not come.
pub(crate) fn late_body() -> Response {
    problem(StatusCode::REQUEST_TIMEOUT, &crate::request_body::LateBody.to_string())
}
