//! A request's body: who waits for it is known, and it does not keep anybody waiting for ever.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use crate::exchange::Exchange;

/// A shorter piece is copied: it would keep the whole buffer that it came in.
const SHARED_PIECE_BYTES_MIN: usize = 16 * 1024;

/// The peer stopped in the middle of a body, or sent it too slowly.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LateBody;

impl fmt::Display for LateBody {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the body of the request did not arrive in time; send it again, faster or in smaller parts")
    }
}

impl std::error::Error for LateBody {}

fn unshared(piece: Bytes) -> Bytes {
    if piece.len() < SHARED_PIECE_BYTES_MIN { Bytes::copy_from_slice(&piece) } else { piece }
}

pub(crate) struct RequestBody {
    body: Body,
    exchange: Arc<Exchange>,
    is_read: bool,
}

impl RequestBody {
    pub(crate) fn new(body: Body, exchange: Arc<Exchange>) -> Self {
        Self { body, exchange, is_read: false }
    }
}

/// Whoever reads no further has what it needs.
impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.is_read && !self.body.is_end_stream() {
            self.exchange.leave_body();
        }
        self.exchange.body_came(0);
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => {
                let piece = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
                self.exchange.body_came(piece.map_or(0, Bytes::len));
                self.is_read = frame.is_none();
                Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(unshared))))
            }
            Poll::Pending => {
                self.exchange.await_body(context.waker());
                // Looked at after the waker was left: it is not told twice.
                if self.exchange.is_body_late() {
                    return Poll::Ready(Some(Err(axum::Error::new(LateBody))));
                }
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
