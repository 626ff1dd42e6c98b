use std::io::Write;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::response::Response;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures::stream;
use http::header::{ACCEPT_ENCODING, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, VARY};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Frame, SizeHint};
use serde::Serialize;
use tracehouse_query::{Reservation, Series};

use crate::problem::Problem;
use crate::state::ApiState;

pub(crate) const JSON: HeaderValue = HeaderValue::from_static("application/json");
pub(crate) const PROTOBUF: HeaderValue = HeaderValue::from_static("application/protobuf");

/// A point of a time series is that much smaller than a span or trace.
const POINTS_PER_ITEM: usize = 20;
/// From here on an answer is written on a thread for blocking work, as it would hold up others.
const LARGE_ITEMS_MIN: usize = 200;
const GZIP_BYTES_MIN: usize = 1024;
/// Fast rather than small: half of a trace is ids, which don't compress.
const GZIP_LEVEL: u32 = 2;

/// Says why an answer is not whole where its interface has no place for it.
pub(crate) const PARTIAL_HEADER: HeaderName = HeaderName::from_static(PARTIAL_NAME);
pub(crate) const PARTIAL_NAME: &str = "x-tracehouse-partial";

pub(crate) fn with_partial_header(mut response: Response, partial_reason: Option<String>) -> Response {
    if let Some(reason) = partial_reason {
        response.headers_mut().insert(PARTIAL_HEADER, header_of(&reason));
    }
    response
}

/// A text as the value of a header: short enough for those who hand it on, of characters that a header may have.
fn header_of(text: &str) -> HeaderValue {
    const BYTES_MAX: usize = 2048;
    let shown = |character: char| if matches!(character, ' '..='~') { character } else { '?' };
    let mut value: String = text.chars().map(shown).take(BYTES_MAX).collect();
    if text.chars().nth(BYTES_MAX).is_some() {
        value.push_str("...");
    }
    HeaderValue::try_from(value).unwrap_or_else(|_| HeaderValue::from_static("not everything could be read"))
}

/// Keeps the memory that was counted for an answer until its last byte was sent, or nobody waits for it any more.
pub(crate) fn until_sent(response: Response, memory: Vec<Reservation>) -> Response {
    response.map(|body| {
        // What it was made from is gone: the text is left.
        let mut left = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(usize::MAX);
        for part in &memory {
            part.shrink_to(left);
            left -= part.bytes().min(left);
        }
        Body::new(Held { body, _memory: memory })
    })
}

/// A body with the memory for it.
struct Held {
    body: Body,
    _memory: Vec<Reservation>,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A small answer.
pub(crate) fn json(value: &impl Serialize) -> Response {
    bytes(JSON, serde_json::to_vec(value).expect("writing plain data to memory can't fail"))
}

pub(crate) fn bytes(content_type: HeaderValue, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    // More spans of a trace may come at any time.
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// How many items time series are worth, for [`large`].
pub(crate) fn items_of(series: &[Series]) -> usize {
    series.iter().map(|series| series.values.len()).sum::<usize>() / POINTS_PER_ITEM
}

/// An answer that may be large, written by `make`. `items` (spans, traces) says how large.
pub(crate) async fn large(
    state: &ApiState,
    headers: &HeaderMap,
    items: usize,
    content_type: HeaderValue,
    make: impl FnOnce() -> Vec<u8> + Send + 'static,
) -> Result<Response, Problem> {
    if items < LARGE_ITEMS_MIN {
        return Ok(bytes(content_type, make()));
    }
    let gzip = accepts_gzip(headers);
    let (body, compressed) = off_runtime(state, move || {
        let body = make();
        if gzip && body.len() >= GZIP_BYTES_MIN { (gzipped(&body, GZIP_LEVEL), true) } else { (body, false) }
    })
    .await?;
    let mut response = bytes(content_type, body);
    response.headers_mut().insert(VARY, HeaderValue::from_name(ACCEPT_ENCODING));
    if compressed {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

/// An answer that is written part by part while it is sent, so that it never is in memory as a whole.
pub(crate) fn in_parts(content_type: HeaderValue, parts: impl Iterator<Item = Vec<u8>> + Send + 'static) -> Response {
    let written = stream::try_unfold(parts, |mut parts| {
        tokio::task::spawn_blocking(move || parts.next().map(|part| (Bytes::from(part), parts)))
    });
    bytes(content_type, Body::from_stream(written))
}

/// Runs work that takes long on a thread of its own, few at once.
pub(crate) async fn off_runtime<T: Send + 'static>(
    state: &ApiState,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Problem> {
    let permit = state.large_answers.clone().acquire_owned().await;
    let worked = tokio::task::spawn_blocking(move || {
        let result = work();
        drop(permit);
        result
    });
    worked.await.map_err(|error| {
        tracing::error!(%error, "writing an answer ended unexpectedly");
        Problem::internal("the answer could not be written; this is a defect, please report it with the server's log")
    })
}

pub(crate) fn gzipped(body: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 3), Compression::new(level));
    encoder.write_all(body).expect("writing to memory can't fail");
    encoder.finish().expect("writing to memory can't fail")
}

pub(crate) fn accepts_gzip(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|text| text.split(','))
        .any(|offer| {
            let (name, quality) = offer.split_once(';').unwrap_or((offer, ""));
            let refused = matches!(quality.replace(' ', "").as_str(), "q=0" | "q=0.0" | "q=0.00" | "q=0.000");
            name.trim().eq_ignore_ascii_case("gzip") && !refused
        })
}
