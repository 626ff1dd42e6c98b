//! An answer's body, handed on in pieces that are counted until the last byte of each is written.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::{Buf, Bytes};
use http::HeaderMap;
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::futures::OwnedNotified;

use crate::exchange::Exchange;
use crate::unread::Unread;

/// HTTP/2 takes a piece as a whole as soon as the peer's window lets one byte of it go, so pieces are small.
const PIECE_BYTES: usize = 64 * 1024;
/// An answer that is no longer than this ends with its last piece. The end of a longer one is given when all of it is
/// written: until then its stream can be ended by itself, afterwards only with its connection.
const WATCHED_BYTES_MIN: usize = 16 * 1024;

pub(crate) struct AnswerBody {
    body: Body,
    exchange: Arc<Exchange>,
    /// Counts the whole answer if that was known at once, else what came last of it.
    unread: Option<Arc<Unread>>,
    is_whole: bool,
    /// What is left of the part that came last.
    rest: Bytes,
    trailers: Option<HeaderMap>,
    /// Whether the body has given all it has.
    is_exhausted: bool,
    length: usize,
    /// Completes when there may be room again.
    freed: Option<Pin<Box<OwnedNotified>>>,
}

impl AnswerBody {
    /// `whole` counts the answer if its length is known; else its parts are counted as they come, and wait until there is room.
    pub(crate) fn new(body: Body, exchange: Arc<Exchange>, whole: Option<Unread>) -> Self {
        Self {
            is_whole: whole.is_some(),
            unread: whole.map(Arc::new),
            body,
            exchange,
            rest: Bytes::new(),
            trailers: None,
            is_exhausted: false,
            length: 0,
            freed: None,
        }
    }

    /// Waits until more may be made. The beginning of an answer always may: it was let in as a whole.
    fn poll_room(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let connection = self.exchange.connection.clone();
        let room = &connection.port.room;
        if self.is_whole || self.length == 0 {
            return Poll::Ready(());
        }
        loop {
            // Made before it is looked at, so that what is given back in between is noticed.
            let freed = self.freed.get_or_insert_with(|| Box::pin(room.freed()));
            if room.is_there_for(&connection) {
                self.freed = None;
                return Poll::Ready(());
            }
            ready!(freed.as_mut().poll(context));
            self.freed = None;
        }
    }

    fn poll_more(&mut self, context: &mut Context<'_>) -> Poll<Result<(), axum::Error>> {
        ready!(self.poll_room(context));
        match ready!(Pin::new(&mut self.body).poll_frame(context)).transpose()?.map(Frame::into_data) {
            Some(Ok(bytes)) => {
                if !self.is_whole {
                    self.unread = Some(Arc::new(Unread::count(&self.exchange.connection, bytes.len())));
                }
                self.rest = bytes;
            }
            Some(Err(last)) => {
                self.trailers = last.into_trailers().ok();
                self.is_exhausted = true;
            }
            None => self.is_exhausted = true,
        }
        Poll::Ready(Ok(()))
    }

    fn must_be_taken_first(&self) -> bool {
        self.exchange.has_stream() && self.length > WATCHED_BYTES_MIN && self.exchange.given_bytes() > 0
    }

    fn poll_taken(&self, context: &mut Context<'_>) -> Poll<()> {
        if !self.must_be_taken_first() {
            return Poll::Ready(());
        }
        self.exchange.when_all_taken(context.waker());
        if self.must_be_taken_first() { Poll::Pending } else { Poll::Ready(()) }
    }

    fn next_piece(&mut self) -> Piece {
        let bytes = self.rest.split_to(self.rest.len().min(PIECE_BYTES));
        self.length = self.length.saturating_add(bytes.len());
        self.exchange.give(bytes.len());
        Piece { bytes, exchange: self.exchange.clone(), _unread: self.unread.clone() }
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        self.exchange.await_reader();
    }
}

impl http_body::Body for AnswerBody {
    type Data = Piece;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, axum::Error>>> {
        if self.rest.is_empty() && !self.is_exhausted {
            match self.poll_more(context) {
                Poll::Ready(more) => {
                    self.exchange.await_reader();
                    more?;
                }
                Poll::Pending => {
                    self.exchange.work_on_answer();
                    return Poll::Pending;
                }
            }
        }
        if !self.is_exhausted {
            return Poll::Ready(Some(Ok(Frame::data(self.next_piece()))));
        }
        ready!(self.poll_taken(context));
        Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }

    fn is_end_stream(&self) -> bool {
        let is_exhausted = self.is_exhausted || self.body.is_end_stream();
        self.rest.is_empty() && self.trailers.is_none() && is_exhausted && !self.must_be_taken_first()
    }

    fn size_hint(&self) -> SizeHint {
        let (body, rest) = (self.body.size_hint(), self.rest.len() as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + rest);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

/// A part of an answer that waits to be written.
pub(crate) struct Piece {
    bytes: Bytes,
    exchange: Arc<Exchange>,
    /// What it is a part of stays in memory as a whole.
    _unread: Option<Arc<Unread>>,
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.exchange.taken(count);
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.exchange.taken(self.bytes.len());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;
    use crate::connections::{Connections, Place};
    use crate::unread::Shared;

    const MIB: usize = 1024 * 1024;

    /// Parts of a MiB, without end.
    struct Endless;

    impl http_body::Body for Endless {
        type Data = Bytes;
        type Error = axum::Error;

        fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
            Poll::Ready(Some(Ok(Frame::data(vec![7; MIB].into()))))
        }
    }

    #[derive(Default)]
    struct CountWakes(AtomicUsize);

    impl Wake for CountWakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn streaming(place: &Place) -> AnswerBody {
        AnswerBody::new(Body::new(Endless), Exchange::begin(&place.connection), None)
    }

    /// As many pieces as come without waiting.
    fn pieces(body: &mut AnswerBody, context: &mut Context<'_>) -> Vec<Piece> {
        std::iter::from_fn(|| match Pin::new(&mut *body).poll_frame(context) {
            Poll::Ready(frame) => Some(frame?.expect("it goes on").into_data().ok().expect("there are no trailers")),
            Poll::Pending => None,
        })
        .collect()
    }

    #[test]
    fn a_stream_waits_until_its_connection_has_room() {
        let place = Connections::for_tests(8, Shared::new(1024 * MIB)).enter(std::net::Ipv4Addr::LOCALHOST.into());
        let mut body = streaming(&place);
        let wakes = Arc::new(CountWakes::default());
        let waker = wakes.clone().into();
        let mut context = Context::from_waker(&waker);
        let mut first = pieces(&mut body, &mut context);
        assert_eq!(first.len() * PIECE_BYTES, 64 * MIB);
        assert_eq!(place.connections.working(), 1, "its peer is not to blame");
        // A part is in memory until its last piece is written.
        first.remove(0);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 0);
        first.drain(..MIB / PIECE_BYTES - 1);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        assert_eq!(pieces(&mut body, &mut context).len() * PIECE_BYTES, MIB);
        drop((first, body));
        assert_eq!(place.connections.room.held(), 0);
    }

    #[test]
    fn streams_share_what_there_is_and_each_may_begin() {
        let table = Connections::for_tests(8, Shared::new(10 * MIB));
        let place = || table.enter(std::net::Ipv4Addr::LOCALHOST.into());
        let (first_place, second_place) = (place(), place());
        let (mut first, mut second) = (streaming(&first_place), streaming(&second_place));
        let mut context = Context::from_waker(std::task::Waker::noop());
        // 16 MiB are the port's own.
        let taken = pieces(&mut first, &mut context);
        assert_eq!(taken.len() * PIECE_BYTES, 26 * MIB);
        assert_eq!(pieces(&mut second, &mut context).len() * PIECE_BYTES, MIB);
        drop(taken);
        assert!(!pieces(&mut second, &mut context).is_empty());
    }

    #[test]
    fn pieces_are_given_back_as_they_are_written() {
        let place = Connections::for_tests(8, Shared::new(MIB)).enter(std::net::Ipv4Addr::LOCALHOST.into());
        let exchange = Exchange::begin(&place.connection);
        let whole = Unread::reserve(&place.connection, 100_000);
        let mut body = AnswerBody::new(Body::from(vec![7; 100_000]), exchange.clone(), whole);
        let mut context = Context::from_waker(std::task::Waker::noop());
        let mut all = pieces(&mut body, &mut context);
        assert_eq!(all.iter().map(Piece::remaining).collect::<Vec<_>>(), [PIECE_BYTES, 100_000 - PIECE_BYTES]);
        assert_eq!(exchange.given_bytes(), 100_000);
        all[0].advance(60_000);
        assert_eq!(exchange.given_bytes(), 40_000);
        all.remove(0);
        assert_eq!((exchange.given_bytes(), place.connections.room.held()), (100_000 - PIECE_BYTES, 100_000));
        drop((body, all));
        assert_eq!((exchange.given_bytes(), place.connections.room.held()), (0, 0));
    }
}
