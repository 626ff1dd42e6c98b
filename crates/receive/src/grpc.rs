//! OTLP/gRPC: the one unary method `TraceService/Export`, answered on top of HTTP/2 directly. A generated service
//! would take the body out of our hands: its limits, its decompression, and the room it takes.
//!
//! Source of the protocol: <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>.

use std::fmt::Write;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full};

use crate::body::{self, Framing, GRPC_PREFIX_BYTES};
use crate::decompress::Compression;
use crate::exchange::{Arrived, caller};
use crate::refused::{Protocol, Refused};
use crate::reply::{self, Code};
use crate::sink::Accepted;
use crate::state::ReceiverState;

const EXPORT_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const CONTENT_TYPE_GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_STATUS_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// The OTLP/gRPC trace service. Other services and methods are answered with `UNIMPLEMENTED`.
pub fn grpc_router(state: ReceiverState) -> Router {
    Router::new().route(EXPORT_PATH, post(export)).fallback(unknown_method).with_state(state)
}

/// Why a call failed.
struct Failure {
    code: Code,
    message: String,
    retry_after: Option<Duration>,
}

impl Failure {
    fn new(code: Code, message: &str) -> Self {
        Self { code, message: message.to_owned(), retry_after: None }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        // Which codes a client tries again: OTLP specification, "OTLP/gRPC Response", "Failures".
        let code = match &refused {
            Refused::Tenant(_) | Refused::Undecodable(_) | Refused::Invalid(_) => Code::InvalidArgument,
            Refused::TooLarge { .. } | Refused::Busy { .. } => Code::ResourceExhausted,
            Refused::Forbidden(_) => Code::PermissionDenied,
            Refused::Lost(_) => Code::Cancelled,
            Refused::Unavailable { .. } => Code::Unavailable,
            Refused::Internal => Code::Internal,
        };
        Self { code, message: refused.message(), retry_after: refused.retry_after() }
    }
}

async fn export(State(state): State<ReceiverState>, request: Request<Body>) -> Response {
    if !is_grpc(request.headers()) {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return response;
    }
    match call(&state, request).await {
        Ok(accepted) => success(&accepted),
        Err(failure) => failed(failure),
    }
}

/// `application/grpc`, perhaps with `+proto`, perhaps with parameters; not `application/grpc-web`.
fn is_grpc(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    matches!(content_type.split(';').next().unwrap_or_default().trim(), "application/grpc" | "application/grpc+proto")
}

async fn call(state: &ReceiverState, request: Request<Body>) -> Result<Accepted, Failure> {
    let (head, mut body) = request.into_parts();
    let noted = |refused: Refused| Failure::from(refused.noted(Protocol::Grpc));
    let compression = message_compression(&head.headers)?;
    let (caller, tenant) = caller(&head.headers, &state.shared).map_err(noted)?;
    let (body, reservation) = body::read(&mut body, Framing::Grpc, &tenant, &state.shared).await.map_err(noted)?;
    let undecodable = |what: &str| noted(Refused::Undecodable(what.to_owned()));
    let frame = body::grpc_frame(&body).ok_or_else(|| undecodable("the call has no message"))?;
    let message = body.slice(GRPC_PREFIX_BYTES..);
    if message.len() != frame.length {
        return Err(undecodable("the length of the message is not what its prefix says"));
    }
    let compression = match frame.compression_flag {
        0 => Compression::None,
        1 if compression != Compression::None => compression,
        1 => return Err(Failure::new(Code::Internal, "the message is compressed but grpc-encoding doesn't say how")),
        _ => return Err(Failure::new(Code::Internal, "the compressed-flag of the message is neither 0 nor 1")),
    };
    let arrived = Arrived { protocol: Protocol::Grpc, caller, compression, message, reservation };
    arrived.process(&state.shared).await.map_err(noted)
}

fn message_compression(headers: &HeaderMap) -> Result<Compression, Failure> {
    let Some(name) = headers.get(GRPC_ENCODING) else { return Ok(Compression::None) };
    name.to_str().ok().and_then(Compression::from_name).ok_or_else(|| {
        let message = format!("grpc-encoding {name:?} is not supported; use one of: {}", Compression::ACCEPTED);
        Failure::new(Code::Unimplemented, &message)
    })
}

fn success(accepted: &Accepted) -> Response {
    let message = reply::export_response(accepted);
    let mut body = Vec::with_capacity(GRPC_PREFIX_BYTES + message.len());
    body.push(0);
    body.extend_from_slice(&(message.len() as u32).to_be_bytes());
    body.extend_from_slice(&message);
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(GRPC_STATUS, HeaderValue::from(Code::Ok as u16));
    let body = Full::new(Bytes::from(body)).with_trailers(async move { Some(Ok(trailers)) });
    let mut response = Response::new(Body::new(body));
    response.headers_mut().insert(CONTENT_TYPE, CONTENT_TYPE_GRPC);
    response
}

/// A response without a body, its status among the headers ("Trailers-Only").
fn failed(failure: Failure) -> Response {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, CONTENT_TYPE_GRPC);
    headers.insert(GRPC_STATUS, HeaderValue::from(failure.code as u16));
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(&failure.message)) {
        headers.insert(GRPC_MESSAGE, message);
    }
    if failure.code == Code::Unimplemented {
        headers.insert(GRPC_ACCEPT_ENCODING, HeaderValue::from_static(Compression::ACCEPTED));
    }
    if failure.retry_after.is_some() {
        let details = reply::status(failure.code, &failure.message, failure.retry_after);
        if let Ok(details) = HeaderValue::from_str(&STANDARD_NO_PAD.encode(details)) {
            headers.insert(GRPC_STATUS_DETAILS, details);
        }
    }
    response
}

/// As the gRPC protocol writes `grpc-message`: printable ASCII but `%` stays.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if matches!(byte, b' '..=b'~') && byte != b'%' {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a String cannot fail");
        }
    }
    out
}

async fn unknown_method() -> Response {
    failed(Failure::new(
        Code::Unimplemented,
        "only opentelemetry.proto.collector.trace.v1.TraceService/Export is served",
    ))
}
