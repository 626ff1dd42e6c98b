//! The bodies of requests: while they arrive and until they are answered, all together hold no more than
//! [`BODIES_BYTES_MAX`]. Each is bounded by who reads it, but a client may send many at once and finish none: where there is
//! no room, bodies that don't move on end first.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use metrics::counter;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;
use tracehouse_model::{Clock, SeededMap};

use crate::Problem;

const BODIES_BYTES_MAX: usize = 64 << 20;
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// A body moves on as long as so many of its bytes …
const MOVING_BYTES: usize = 16 * 1024;
/// … take no longer than this.
const MOVING_TIME: Duration = Duration::from_secs(1);
/// How often, and after which pauses, a body looks for room that others hold. Longer than those may stand still.
const ROOM_ATTEMPTS_MAX: u32 = 15;
const ROOM_PAUSE: Duration = Duration::from_millis(100);
/// So many bodies look for room at once; others are refused.
const WAITING_MAX: usize = 256;

/// What all bodies hold.
pub(crate) struct Bodies {
    bytes_max: usize,
    clock: Arc<dyn Clock>,
    all: Mutex<All>,
    waiting: Arc<Semaphore>,
}

#[derive(Default)]
struct All {
    bytes: usize,
    of_each: SeededMap<u64, OfOne>,
    next: u64,
}

/// What one body holds.
struct OfOne {
    bytes: usize,
    /// When, on the monotonic clock, and with how many bytes it last had moved on.
    mark: (Duration, usize),
    is_complete: bool,
    end: Arc<Notify>,
}

impl Bodies {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Arc<Self> {
        Self::with(BODIES_BYTES_MAX, clock)
    }

    fn with(bytes_max: usize, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { bytes_max, clock, all: Mutex::default(), waiting: Arc::new(Semaphore::new(WAITING_MAX)) })
    }

    fn begin(self: &Arc<Self>) -> Held {
        let end = Arc::new(Notify::new());
        let mut all = self.all.lock();
        let number = all.next;
        all.next += 1;
        let mark = (self.clock.monotonic(), 0);
        all.of_each.insert(number, OfOne { bytes: 0, mark, is_complete: false, end: end.clone() });
        drop(all);
        Held { bodies: self.clone(), number, told: end }
    }
}

impl All {
    /// Ends bodies that don't move on, the longest still first, until so many bytes are free, if that can be reached.
    fn make_room(&mut self, wanted: usize, bytes_max: usize, now: Duration) {
        let is_still =
            |body: &OfOne| !body.is_complete && body.bytes > 0 && now.saturating_sub(body.mark.0) > MOVING_TIME;
        let still = self.of_each.iter().filter(|(_, body)| is_still(body));
        let mut still: Vec<(Duration, u64)> = still.map(|(number, body)| (body.mark.0, *number)).collect();
        still.sort_unstable();
        for (_, number) in still {
            if self.bytes.saturating_add(wanted) <= bytes_max {
                return;
            }
            // Its request is dropped as soon as it is told, so what it held counts no more.
            if let Some(body) = self.of_each.remove(&number) {
                self.bytes -= body.bytes;
                body.end.notify_one();
                counter!("tracehouse_api_still_bodies_ended_total").increment(1);
            }
        }
    }
}

/// What one body holds; given back when this is dropped.
struct Held {
    bodies: Arc<Bodies>,
    number: u64,
    /// Told when it is to end, as others need its room.
    told: Arc<Notify>,
}

impl Held {
    fn grow(&self, bytes: usize) -> bool {
        let now = self.bodies.clock.monotonic();
        let bytes_max = self.bodies.bytes_max;
        let mut all = self.bodies.all.lock();
        let has_room = |all: &All| all.bytes.saturating_add(bytes) <= bytes_max;
        if let Some(body) = all.of_each.get_mut(&self.number)
            && body.bytes + bytes >= body.mark.1 + MOVING_BYTES
        {
            body.mark = (now, body.bytes + bytes);
        }
        if !has_room(&all) {
            all.make_room(bytes, bytes_max, now);
        }
        if !has_room(&all) {
            return false;
        }
        let Some(body) = all.of_each.get_mut(&self.number) else { return false };
        body.bytes += bytes;
        all.bytes += bytes;
        true
    }

    /// Gives everything back and counts no more.
    fn end(&self) {
        let mut all = self.bodies.all.lock();
        if let Some(body) = all.of_each.remove(&self.number) {
            all.bytes -= body.bytes;
        }
    }

    fn has_ended(&self) -> bool {
        !self.bodies.all.lock().of_each.contains_key(&self.number)
    }

    fn complete(&self) {
        if let Some(body) = self.bodies.all.lock().of_each.get_mut(&self.number) {
            body.is_complete = true;
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.end();
    }
}

/// Middleware for all routes.
pub(crate) async fn limit(State(bodies): State<Arc<Bodies>>, request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    let held = Arc::new(bodies.begin());
    let counted = held.clone();
    let answer = next.run(request.map(|body| Body::new(Counted { body, held: counted, waiting: None })));
    tokio::select! {
        biased;
        response = answer => if !held.has_ended() { return response },
        () = held.told.notified() => {}
    }
    Problem::unavailable("too many requests are being sent at once; send this one again", RETRY_AFTER).into_response()
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
    waiting: Option<Waiting>,
}

/// A piece that has come and has no room yet.
struct Waiting {
    piece: Frame<Bytes>,
    pause: Pin<Box<Sleep>>,
    attempts: u32,
    _permit: OwnedSemaphorePermit,
}

type PolledFrame = Poll<Option<Result<Frame<Bytes>, axum::Error>>>;

impl Counted {
    fn poll_waiting(&mut self, context: &mut Context<'_>, mut waiting: Waiting) -> PolledFrame {
        loop {
            if waiting.pause.as_mut().poll(context).is_pending() {
                self.waiting = Some(waiting);
                return Poll::Pending;
            }
            if self.held.grow(bytes_of(&waiting.piece)) {
                return Poll::Ready(Some(Ok(waiting.piece)));
            }
            waiting.attempts += 1;
            if waiting.attempts == ROOM_ATTEMPTS_MAX {
                return self.refuse();
            }
            waiting.pause = Box::pin(tokio::time::sleep(ROOM_PAUSE));
        }
    }

    /// Ends the request, whatever its reader makes of the error.
    fn refuse(&self) -> PolledFrame {
        self.held.end();
        Poll::Ready(Some(Err(axum::Error::new(NoRoom))))
    }
}

fn bytes_of(frame: &Frame<Bytes>) -> usize {
    frame.data_ref().map_or(0, Bytes::len)
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> PolledFrame {
        if let Some(waiting) = self.waiting.take() {
            return self.poll_waiting(context, waiting);
        }
        let piece = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
            Some(Ok(piece)) => piece,
            None => {
                self.held.complete();
                return Poll::Ready(None);
            }
            failed => return Poll::Ready(failed),
        };
        if self.held.grow(bytes_of(&piece)) {
            if self.body.is_end_stream() {
                self.held.complete();
            }
            return Poll::Ready(Some(Ok(piece)));
        }
        let Ok(permit) = self.held.bodies.waiting.clone().try_acquire_owned() else { return self.refuse() };
        let pause = Box::pin(tokio::time::sleep(ROOM_PAUSE));
        self.poll_waiting(context, Waiting { piece, pause, attempts: 0, _permit: permit })
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let waiting = self.waiting.as_ref().map_or(0, |waiting| bytes_of(&waiting.piece) as u64);
        let of_body = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(of_body.lower() + waiting);
        if let Some(upper) = of_body.upper() {
            hint.set_upper(upper + waiting);
        }
        hint
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
    use tracehouse_model::ManualClock;

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

    fn half(bytes: &'static [u8]) -> Body {
        Body::new(Half(Some(Bytes::from_static(bytes))))
    }

    fn router(bodies: &Arc<Bodies>) -> Router {
        Router::new().route("/", post(async |body: Bytes| body)).layer(from_fn_with_state(bodies.clone(), limit))
    }

    async fn ask(bodies: &Arc<Bodies>, body: Body) -> Response {
        let request = Request::post("/").body(body).expect("a request");
        router(bodies).oneshot(request).await.expect("routers don't fail")
    }

    fn poll(asked: &mut Pin<Box<impl Future<Output = Response>>>) -> Poll<Response> {
        asked.as_mut().poll(&mut Context::from_waker(Waker::noop()))
    }

    #[tokio::test]
    async fn bodies_that_arrive_hold_no_more_than_they_may_together() {
        let bodies = Bodies::with(10, Arc::new(ManualClock::default()));
        let mut halves: Vec<_> = (0..2).map(|_| Box::pin(ask(&bodies, half(b"1234")))).collect();
        for half in &mut halves {
            assert!(poll(half).is_pending());
        }
        let others_wait = bodies.waiting.clone().try_acquire_many_owned(WAITING_MAX as u32);
        let answer = ask(&bodies, Body::from("123")).await;
        drop(others_wait);
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.headers().contains_key(header::RETRY_AFTER));
        assert_eq!(ask(&bodies, Body::from("12")).await.status(), StatusCode::OK);
        halves.pop();
        assert_eq!(ask(&bodies, Body::from("123456")).await.status(), StatusCode::OK);
        drop(halves);
        assert_eq!(bodies.all.lock().bytes, 0);
        assert!(bodies.all.lock().of_each.is_empty());
    }

    #[tokio::test]
    async fn bodies_that_stand_still_end_where_others_need_their_room() {
        let clock = Arc::new(ManualClock::default());
        let bodies = Bodies::with(12, clock.clone());
        let mut halves = Vec::new();
        for _ in 0..3 {
            let mut asked = Box::pin(ask(&bodies, half(b"1234")));
            assert!(poll(&mut asked).is_pending());
            halves.push(asked);
            clock.advance(Duration::from_millis(1));
        }
        clock.advance(MOVING_TIME);
        assert_eq!(ask(&bodies, Body::from("12345")).await.status(), StatusCode::OK);
        let ended: Vec<bool> = halves.iter_mut().map(|asked| poll(asked).is_ready()).collect();
        assert_eq!(ended, [true, true, false], "the longest still first, and no more than needed");
        drop(halves);
        assert_eq!(bodies.all.lock().bytes, 0);
    }

    #[tokio::test]
    async fn a_body_waits_for_room_of_those_that_may_still_move_on() {
        let clock = Arc::new(ManualClock::default());
        let bodies = Bodies::with(4, clock.clone());
        let mut still = Box::pin(ask(&bodies, half(b"1234")));
        assert!(poll(&mut still).is_pending());
        let mut waiting = Box::pin(ask(&bodies, Body::from("5678")));
        assert!(poll(&mut waiting).is_pending());
        clock.advance(2 * MOVING_TIME);
        assert_eq!(waiting.await.status(), StatusCode::OK);
        assert_eq!(still.await.status(), StatusCode::SERVICE_UNAVAILABLE);
    }

    #[test]
    fn a_body_that_is_complete_does_not_end_and_one_that_drips_does() {
        let clock = Arc::new(ManualClock::default());
        let bodies = Bodies::with(MOVING_BYTES, clock.clone());
        let (complete, dripping, newcomer) = (bodies.begin(), bodies.begin(), bodies.begin());
        assert!(complete.grow(100));
        complete.complete();
        for _ in 0..3 {
            clock.advance(MOVING_TIME / 2);
            assert!(dripping.grow(1));
        }
        assert!(newcomer.grow(MOVING_BYTES - 100), "the room of the one that drips");
        assert!(!dripping.grow(1), "it has ended");
        assert!(dripping.has_ended() && !complete.has_ended());
    }
}
