//! Answers on their way to clients: given away piece by piece, and not held for ever for who does not take them.
//!
//! With HTTP/2 a client may open windows of zero and so take nothing of an answer, while its connection is alive in every
//! other way. Here an answer that nobody has asked more of for [`STALLED_AFTER`] ends its connection; and if all answers
//! that wait take more than [`WAITING_BYTES_MAX`], the largest that has stalled for a second does.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::connections::Request;

/// Nobody took anything of an answer for so long: its client is gone, or holds it on purpose.
pub(crate) const STALLED_AFTER: Duration = Duration::from_secs(30);
/// What all answers of a process that wait to be taken may hold.
const WAITING_BYTES_MAX: usize = 256 << 20;
/// With too much waiting, an answer that has stalled for so long may be ended.
const STALLED_WHEN_FULL: Duration = Duration::from_secs(1);
/// How often answers are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Answers are given away in pieces of so many bytes: what was given away is held by the connection.
const PIECE_BYTES: usize = 64 * 1024;
/// What an answer of unknown length is taken to hold.
const UNKNOWN_BYTES: usize = 1 << 20;

/// All answers of a process that are not completely given away.
pub(crate) struct Answers {
    begin: Instant,
    waiting: Mutex<Vec<Arc<Waiting>>>,
}

/// One of them.
struct Waiting {
    bytes: AtomicUsize,
    /// When a piece was last asked for, in milliseconds.
    asked_at: AtomicU64,
    /// Whether the answer itself is not ready to give a piece, which is not the client's fault.
    in_the_making: AtomicBool,
    connection: Arc<Notify>,
}

impl Answers {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { begin: Instant::now(), waiting: Mutex::default() })
    }

    /// A body that is watched. `connection` is told when the connection should end.
    pub(crate) fn watch(self: &Arc<Self>, body: Body, request: Request, connection: &Arc<Notify>) -> Body {
        let bytes = body.size_hint().exact().map_or(UNKNOWN_BYTES, |bytes| bytes as usize);
        if body.is_end_stream() {
            return body;
        }
        let waiting = Arc::new(Waiting {
            bytes: AtomicUsize::new(bytes),
            asked_at: AtomicU64::new(self.now()),
            in_the_making: AtomicBool::new(false),
            connection: connection.clone(),
        });
        self.waiting.lock().push(waiting.clone());
        let answers = self.clone();
        Body::new(Watched { body, rest: Bytes::new(), answers, waiting, _request: request })
    }

    fn now(&self) -> u64 {
        self.begin.elapsed().as_millis() as u64
    }

    /// Ends connections whose answers have stalled. Runs for as long as the process.
    pub(crate) async fn keep_moving(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            self.end_stalled(self.now());
        }
    }

    fn end_stalled(&self, now: u64) {
        let stalled_for = |one: &Waiting| match one.in_the_making.load(Ordering::Relaxed) {
            true => Duration::ZERO,
            false => Duration::from_millis(now.saturating_sub(one.asked_at.load(Ordering::Relaxed))),
        };
        let waiting = self.waiting.lock();
        let mut held: usize = waiting.iter().map(|one| one.bytes.load(Ordering::Relaxed)).sum();
        metrics::gauge!("tracehouse_answers_waiting_bytes").set(held as f64);
        for one in waiting.iter().filter(|one| stalled_for(one) >= STALLED_AFTER) {
            held = held.saturating_sub(one.bytes.load(Ordering::Relaxed));
            one.connection.notify_one();
        }
        if held <= WAITING_BYTES_MAX {
            return;
        }
        let mut stalled: Vec<&Arc<Waiting>> =
            waiting.iter().filter(|one| stalled_for(one) >= STALLED_WHEN_FULL).collect();
        stalled.sort_by_key(|one| std::cmp::Reverse(one.bytes.load(Ordering::Relaxed)));
        for one in stalled {
            if held <= WAITING_BYTES_MAX {
                break;
            }
            held = held.saturating_sub(one.bytes.load(Ordering::Relaxed));
            one.connection.notify_one();
        }
    }
}

/// An answer's body while it is given away.
struct Watched {
    body: Body,
    /// Of a large piece what was not given away yet.
    rest: Bytes,
    answers: Arc<Answers>,
    waiting: Arc<Waiting>,
    _request: Request,
}

impl Watched {
    /// The next piece of what the body gave.
    fn piece(&mut self) -> Frame<Bytes> {
        let piece = self.rest.split_to(self.rest.len().min(PIECE_BYTES));
        let _ = self
            .waiting
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bytes| Some(bytes.saturating_sub(piece.len())));
        Frame::data(piece)
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.waiting.asked_at.store(self.answers.now(), Ordering::Relaxed);
        self.waiting.in_the_making.store(true, Ordering::Relaxed);
        if self.rest.is_empty() {
            let next = ready!(Pin::new(&mut self.body).poll_frame(context));
            self.waiting.in_the_making.store(false, Ordering::Relaxed);
            let Some(Ok(frame)) = next else { return Poll::Ready(next) };
            match frame.into_data() {
                Ok(data) => self.rest = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        self.waiting.in_the_making.store(false, Ordering::Relaxed);
        Poll::Ready(Some(Ok(self.piece())))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let of_body = self.body.size_hint();
        let mut hint = SizeHint::new();
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper + rest);
        }
        hint.set_lower(of_body.lower() + rest);
        hint
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.answers.waiting.lock().retain(|one| !Arc::ptr_eq(one, &self.waiting));
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;
    use crate::connections::{Connections, IDLE_MAX};

    const LATER: u64 = 31_000;

    fn is_told(connection: &Notify) -> bool {
        let told = std::pin::pin!(connection.notified());
        told.poll(&mut Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    fn request() -> Request {
        Connections::new("test", 1, IDLE_MAX).enter().expect("there is room").begin_request()
    }

    #[tokio::test]
    async fn an_answer_that_nobody_takes_ends_its_connection() {
        let answers = Answers::new();
        let connection = Arc::new(Notify::new());
        let content = vec![7; 200_000];
        let mut taken = answers.watch(Body::from(content.clone()), request(), &connection);
        answers.end_stalled(answers.now());
        assert!(!is_told(&connection));
        answers.end_stalled(LATER);
        assert!(is_told(&connection));
        let mut pieces = Vec::new();
        while let Some(piece) = taken.frame().await {
            let piece = piece.expect("it is whole").into_data().expect("there are no trailers");
            assert!(piece.len() <= PIECE_BYTES);
            pieces.extend_from_slice(&piece);
        }
        assert_eq!(pieces, content);
        drop(taken);
        answers.end_stalled(LATER);
        assert!(!is_told(&connection), "it was taken");
    }

    #[tokio::test]
    async fn an_answer_in_the_making_is_no_fault_of_the_client() {
        let answers = Answers::new();
        let connection = Arc::new(Notify::new());
        let never = futures_never();
        let mut waiting = answers.watch(Body::new(never), request(), &connection);
        let frame = std::pin::pin!(waiting.frame());
        assert!(frame.poll(&mut Context::from_waker(std::task::Waker::noop())).is_pending());
        answers.end_stalled(LATER);
        assert!(!is_told(&connection));
    }

    fn futures_never() -> impl HttpBody<Data = Bytes, Error = axum::Error> {
        struct Never;
        impl HttpBody for Never {
            type Data = Bytes;
            type Error = axum::Error;
            fn poll_frame(
                self: Pin<&mut Self>,
                _: &mut Context<'_>,
            ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
                Poll::Pending
            }
        }
        Never
    }

    #[tokio::test]
    async fn too_much_that_waits_ends_the_largest() {
        let answers = Answers::new();
        let large: Vec<_> = (0..6)
            .map(|_| {
                let connection = Arc::new(Notify::new());
                let body = Body::from(Bytes::from_static(&[0; 60 << 20]));
                (answers.watch(body, request(), &connection), connection)
            })
            .collect();
        let small_connection = Arc::new(Notify::new());
        let _small = answers.watch(Body::from("small"), request(), &small_connection);
        answers.end_stalled(1_500);
        let told = large.iter().filter(|(_, connection)| is_told(connection)).count();
        assert_eq!(told, 2, "four of 60 MiB fit");
        assert!(!is_told(&small_connection));
    }
}
