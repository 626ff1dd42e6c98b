//! OTLP/HTTP: `POST /v1/traces` with protobuf or JSON, as the OTLP specification's "OTLP/HTTP" says.

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use axum::routing::post;
use http::header::{ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Version};

use crate::body::{self, Framing};
use crate::decompress::Compression;
use crate::exchange::{Arrived, caller};
use crate::refused::{Protocol, Refused};
use crate::reply::{self, Code};
use crate::sink::Accepted;
use crate::state::ReceiverState;

const TRACES_PATH: &str = "/v1/traces";
const PROTOBUF: &str = "application/x-protobuf";
const JSON: &str = "application/json";

/// The OTLP/HTTP receiver: `POST /v1/traces`.
pub fn http_router(state: ReceiverState) -> Router {
    Router::new().route(TRACES_PATH, post(traces)).with_state(state)
}

async fn traces(State(state): State<ReceiverState>, request: Request<Body>) -> Response {
    let (head, mut body) = request.into_parts();
    match content(&head.headers) {
        Ok((protocol, compression)) => match receive(&state, &head.headers, &mut body, protocol, compression).await {
            Ok(accepted) => success(protocol, &accepted),
            Err(refused) => {
                let refused = refused.noted(protocol);
                let mut response = failed(protocol, &refused);
                if !leaves_body(&refused, &head.headers) {
                    body::pass_over(&mut body).await;
                } else if head.version < Version::HTTP_2 {
                    // The connection ends with this answer: a client that is not told sends its next request in vain.
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                response
            }
        },
        Err(message) => unsupported(&message),
    }
}

/// Whether a request was refused before its body was read, and the rest is more than is read to keep a connection.
fn leaves_body(refused: &Refused, headers: &HeaderMap) -> bool {
    let whole_body_read =
        matches!(refused, Refused::Undecodable(_) | Refused::Invalid(_) | Refused::TooLarge { decompressed: true, .. });
    !whole_body_read && content_length(headers).is_none_or(|bytes| bytes > body::PASSED_OVER_BYTES_MAX)
}

fn content_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok())
}

/// How the body is encoded; an error says what would be supported.
fn content(headers: &HeaderMap) -> Result<(Protocol, Compression), String> {
    let text = |name| headers.get(name).map_or(Some(""), |value| value.to_str().ok());
    let media_type = text(CONTENT_TYPE).and_then(|value| value.split(';').next()).unwrap_or_default().trim();
    let protocol = match media_type.to_ascii_lowercase().as_str() {
        PROTOBUF => Protocol::HttpProtobuf,
        JSON => Protocol::HttpJson,
        _ => return Err(format!("Content-Type {media_type:?} is not supported; use {PROTOBUF} or {JSON}")),
    };
    let compression = text(CONTENT_ENCODING).and_then(Compression::from_name);
    let unsupported = || format!("Content-Encoding is not supported; use one of: {}", Compression::ACCEPTED);
    Ok((protocol, compression.ok_or_else(unsupported)?))
}

async fn receive(
    state: &ReceiverState,
    headers: &HeaderMap,
    body: &mut Body,
    protocol: Protocol,
    compression: Compression,
) -> Result<Accepted, Refused> {
    let (caller, tenant) = caller(headers, &state.shared)?;
    let framing = Framing::Http { content_length: content_length(headers) };
    let (message, reservation) = body::read(body, framing, &tenant, &state.shared).await?;
    if message.is_empty() {
        // An empty body is an empty request in protobuf, and some senders probe with one in JSON.
        return Ok(Accepted::default());
    }
    Arrived { protocol, caller, compression, message, reservation }.process(&state.shared).await
}

fn answer(status: StatusCode, media_type: &'static str, body: Vec<u8>) -> Response {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

fn success(protocol: Protocol, accepted: &Accepted) -> Response {
    match protocol {
        Protocol::HttpJson => answer(StatusCode::OK, JSON, reply::export_response_json(accepted)),
        _ => answer(StatusCode::OK, PROTOBUF, reply::export_response(accepted)),
    }
}

fn failed(protocol: Protocol, refused: &Refused) -> Response {
    // Which codes a client tries again: OTLP specification, "OTLP/HTTP Response", "Failures".
    let (status, code) = match refused {
        Refused::Tenant(_) | Refused::Undecodable(_) | Refused::Invalid(_) => {
            (StatusCode::BAD_REQUEST, Code::InvalidArgument)
        }
        Refused::Forbidden(_) => (StatusCode::FORBIDDEN, Code::PermissionDenied),
        Refused::Lost(_) => (StatusCode::BAD_REQUEST, Code::Cancelled),
        Refused::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, Code::ResourceExhausted),
        Refused::Busy { .. } => (StatusCode::TOO_MANY_REQUESTS, Code::ResourceExhausted),
        Refused::Unavailable { .. } => (StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable),
        Refused::Internal => (StatusCode::INTERNAL_SERVER_ERROR, Code::Internal),
    };
    let message = refused.message();
    let mut response = match protocol {
        Protocol::HttpJson => answer(status, JSON, reply::status_json(code, &message)),
        _ => answer(status, PROTOBUF, reply::status(code, &message, refused.retry_after())),
    };
    if let Some(retry_after) = refused.retry_after() {
        // The header counts whole seconds; 0 would mean at once.
        let seconds = retry_after.as_secs() + u64::from(retry_after.subsec_nanos() > 0);
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    response
}

fn unsupported(message: &str) -> Response {
    let body = reply::status_json(Code::InvalidArgument, message);
    let mut response = answer(StatusCode::UNSUPPORTED_MEDIA_TYPE, JSON, body);
    response.headers_mut().insert(ACCEPT_ENCODING, HeaderValue::from_static(Compression::ACCEPTED));
    response
}
