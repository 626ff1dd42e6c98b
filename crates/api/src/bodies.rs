//! The bodies of requests: while they arrive and until they are answered, all together hold no more than
//! [`BODIES_BYTES_MAX`]. Each is bounded by who reads it, but a client may send many at once and finish none.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};

use crate::Problem;

const BODIES_BYTES_MAX: usize = 64 << 20;
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// What all bodies hold.
pub(crate) struct Bodies {
    bytes_max: usize,
    bytes: AtomicUsize,
}

impl Bodies {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { bytes_max: BODIES_BYTES_MAX, bytes: AtomicUsize::new(0) })
    }
}

/// What one body holds; given back when this is dropped.
struct Held {
    bodies: Arc<Bodies>,
    bytes: AtomicUsize,
    had_no_room: AtomicBool,
}

impl Held {
    fn grow(&self, bytes: usize) -> bool {
        let grown = |held: usize| Some(held.saturating_add(bytes)).filter(|held| *held <= self.bodies.bytes_max);
        if self.bodies.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_err() {
            self.had_no_room.store(true, Ordering::Relaxed);
            return false;
        }
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.bodies.bytes.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

/// Middleware for all routes.
pub(crate) async fn limit(State(bodies): State<Arc<Bodies>>, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let held = Arc::new(Held { bodies, bytes: AtomicUsize::new(0), had_no_room: AtomicBool::new(false) });
    let counted = held.clone();
    let response = next.run(request.map(|body| Body::new(Counted { body, held: counted }))).await;
    if held.had_no_room.load(Ordering::Relaxed) {
        return Problem::unavailable("too many requests are being sent at once; send this one again", RETRY_AFTER)
            .into_response();
    }
    response
}

#[derive(Debug)]
struct NoRoom;

impl fmt::Display for NoRoom {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("there is no room for more of the request")
    }
}

impl Error for NoRoom {}

struct Counted {
    body: Body,
    held: Arc<Held>,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        if let Some(Ok(piece)) = &frame
            && !self.held.grow(piece.data_ref().map_or(0, Bytes::len))
        {
            return Poll::Ready(Some(Err(axum::Error::new(NoRoom))));
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use axum::Router;
    use axum::middleware::from_fn_with_state;
    use axum::routing::post;
    use http::StatusCode;
    use http::header;
    use tower::ServiceExt;

    use super::*;

    /// Bytes of which no more come.
    struct Half(Option<Bytes>);

    impl http_body::Body for Half {
        type Data = Bytes;
        type Error = axum::Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
            self.0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(Frame::data(bytes)))))
        }
    }

    #[tokio::test]
    async fn bodies_that_arrive_hold_no_more_than_they_may_together() {
        let bodies = Arc::new(Bodies { bytes_max: 10, bytes: AtomicUsize::new(0) });
        let router =
            Router::new().route("/", post(async |body: Bytes| body)).layer(from_fn_with_state(bodies.clone(), limit));
        let ask = |body: Body| router.clone().oneshot(Request::post("/").body(body).expect("a request"));
        let mut halves: Vec<_> =
            (0..2).map(|_| Box::pin(ask(Body::new(Half(Some(Bytes::from_static(b"1234"))))))).collect();
        for half in &mut halves {
            assert!(half.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        let answer = ask(Body::from("123")).await.expect("routers don't fail");
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.headers().contains_key(header::RETRY_AFTER));
        assert_eq!(ask(Body::from("12")).await.expect("routers don't fail").status(), StatusCode::OK);
        halves.pop();
        assert_eq!(ask(Body::from("123456")).await.expect("routers don't fail").status(), StatusCode::OK);
        drop(halves);
        assert_eq!(bodies.bytes.load(Ordering::Relaxed), 0);
    }
}
