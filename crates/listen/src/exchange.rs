//! The record of one request and its answer.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::Waker;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::begun::{Begun, MOVING_BYTES};
use crate::connections::{Closing, Connection, reason};

/// What an exchange waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// The server: the answer, or more of it, is in the making.
    Working,
    /// The peer: more of the request's body.
    AwaitingBody,
    /// The peer: it has to take what there is of the answer.
    AwaitingReader,
}

/// Lives as long as anything of the request or its answer does, the answer's last byte included.
pub(crate) struct Exchange {
    pub(crate) connection: Arc<Connection>,
    phase: AtomicU8,
    /// What the peer sent or took since the last look.
    moved_bytes: AtomicUsize,
    /// What was given to the connection and is not written yet.
    given_bytes: AtomicUsize,
    progress: Mutex<Progress>,
    body_is_late: AtomicBool,
    body_is_left: AtomicBool,
    body_waker: Mutex<Option<Waker>>,
    answer_waker: Mutex<Option<Waker>>,
    /// Ends the task of its stream, in HTTP/2, while that runs.
    stream_end: OnceLock<Weak<Notify>>,
    /// What it holds, unless it had no room.
    begun: OnceLock<Begun>,
    moved: Mutex<Moved>,
    /// Whether its task has run …
    is_started: AtomicBool,
    /// … and whether it should do nothing when it does.
    is_refused: AtomicBool,
}

/// When the peer last had moved a request on by as much as it should, and what came since.
struct Moved {
    at: Instant,
    bytes_since: usize,
}

impl Moved {
    fn now() -> Self {
        Self { at: Instant::now(), bytes_since: 0 }
    }
}

/// What looks at an exchange have found.
#[derive(Clone, Copy, Default)]
pub(crate) struct Progress {
    /// What the peer owed at the last look, if anything.
    pub(crate) owes: Option<Debt>,
    /// How many looks in a row found that the peer owes the same still …
    owed_looks: u32,
    /// … and has done nothing for it.
    pub(crate) quiet_looks: u32,
    /// How many looks found that the body has not arrived.
    pub(crate) body_looks: u32,
    /// What moved between the last two looks.
    pub(crate) moved_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Debt {
    Body,
    Taking,
}

impl Progress {
    /// Whether the peer owed something between the last two looks, and moved less than this for it.
    pub(crate) fn is_slower_than(&self, bytes_min: usize) -> bool {
        self.owed_looks > 0 && self.moved_bytes < bytes_min
    }
}

impl Exchange {
    /// Begins when the head of a request has arrived.
    pub(crate) fn begin(connection: &Arc<Connection>) -> Arc<Self> {
        let exchange = Arc::new(Self {
            connection: connection.clone(),
            phase: AtomicU8::new(Phase::Working as u8),
            moved_bytes: AtomicUsize::new(0),
            given_bytes: AtomicUsize::new(0),
            progress: Mutex::default(),
            body_is_late: AtomicBool::new(false),
            body_is_left: AtomicBool::new(false),
            body_waker: Mutex::default(),
            answer_waker: Mutex::default(),
            stream_end: OnceLock::new(),
            begun: OnceLock::new(),
            moved: Mutex::new(Moved::now()),
            is_started: AtomicBool::new(false),
            is_refused: AtomicBool::new(false),
        });
        connection.begin(&exchange);
        exchange
    }

    /// It has a stream of its own, whose task ends when this is told.
    pub(crate) fn set_stream(&self, end: &Arc<Notify>) {
        // It is set once, by the task itself.
        let _ = self.stream_end.set(Arc::downgrade(end));
    }

    /// It has room until it is dropped.
    pub(crate) fn set_begun(&self, begun: Begun) {
        // It is set once, when it begins.
        let _ = self.begun.set(begun);
    }

    pub(crate) fn begun(&self) -> Option<&Begun> {
        self.begun.get()
    }

    /// When the peer last did what it owes.
    pub(crate) fn moved_at(&self) -> Instant {
        self.moved.lock().at
    }

    /// Its task runs, if this is true.
    pub(crate) fn start(&self) -> bool {
        self.is_started.store(true, Ordering::SeqCst);
        !self.is_refused.load(Ordering::SeqCst)
    }

    /// Whether nothing was done for it yet.
    pub(crate) fn is_unstarted(&self) -> bool {
        !self.is_started.load(Ordering::SeqCst)
    }

    /// Ends it because others need its room.
    pub(crate) fn end_for_room(&self) {
        self.connection.port.count_request_ended(reason::MADE_ROOM);
        let is_unstarted = self.is_unstarted();
        self.is_refused.store(true, Ordering::SeqCst);
        // What is left of an answer after its stream, and all in HTTP/1, is only ended with the connection.
        if !self.end_stream() && !is_unstarted {
            self.connection.close(Closing::AtOnce(reason::MADE_ROOM));
        }
    }

    pub(crate) fn has_stream(&self) -> bool {
        self.stream_end.get().is_some()
    }

    /// Whether the server works for it.
    pub(crate) fn is_worked_for(&self) -> bool {
        self.phase_is(Phase::Working)
    }

    fn phase_is(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Relaxed) == phase as u8
    }

    fn change(&self, from: Phase, to: Phase) {
        let (before, after) = (from as u8, to as u8);
        if self.phase.compare_exchange(before, after, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.connection.count_work(from, to);
        }
    }

    /// Notes whether more of the body has to come before there can be an answer; then it is given up by waking this.
    pub(crate) fn await_body(&self, waker: &Waker) {
        *self.body_waker.lock() = Some(waker.clone());
        self.change(Phase::Working, Phase::AwaitingBody);
    }

    pub(crate) fn body_came(&self, bytes: usize) {
        self.change(Phase::AwaitingBody, Phase::Working);
        self.note_move(bytes);
    }

    pub(crate) fn is_body_late(&self) -> bool {
        self.body_is_late.load(Ordering::Relaxed)
    }

    /// Nobody reads the rest of the body.
    pub(crate) fn leave_body(&self) {
        self.body_is_left.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_body_left(&self) -> bool {
        self.body_is_left.load(Ordering::Relaxed)
    }

    /// There is an answer.
    pub(crate) fn answer(&self) {
        self.connection.set_served();
        self.await_reader();
    }

    /// There is something of the answer that the peer has to take.
    pub(crate) fn await_reader(&self) {
        let after = Phase::AwaitingReader as u8;
        let before = self.phase.swap(after, Ordering::Relaxed);
        if before == Phase::Working as u8 {
            *self.moved.lock() = Moved::now();
            self.connection.count_work(Phase::Working, Phase::AwaitingReader);
        }
    }

    /// More of an answer that has begun is in the making.
    pub(crate) fn work_on_answer(&self) {
        self.change(Phase::AwaitingReader, Phase::Working);
    }

    pub(crate) fn give(&self, bytes: usize) {
        self.given_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn given_bytes(&self) -> usize {
        self.given_bytes.load(Ordering::Acquire)
    }

    /// Wakes who waits until everything given was taken.
    pub(crate) fn when_all_taken(&self, waker: &Waker) {
        *self.answer_waker.lock() = Some(waker.clone());
    }

    /// Something that was given was written, or is given up.
    pub(crate) fn taken(&self, bytes: usize) {
        let before = self.given_bytes.fetch_sub(bytes, Ordering::AcqRel);
        self.note_move(bytes);
        if before == bytes
            && let Some(waker) = self.answer_waker.lock().take()
        {
            waker.wake();
        }
    }

    fn note_move(&self, bytes: usize) {
        if bytes > 0 {
            self.moved_bytes.fetch_add(bytes, Ordering::Relaxed);
            self.connection.moved();
            let mut moved = self.moved.lock();
            moved.bytes_since += bytes;
            if moved.bytes_since >= MOVING_BYTES {
                *moved = Moved::now();
            }
        }
    }

    #[cfg(test)]
    pub(crate) fn moved_bytes(&self) -> usize {
        self.moved_bytes.load(Ordering::Relaxed)
    }

    /// What is done every few seconds.
    pub(crate) fn look(&self) -> Progress {
        let owes = match () {
            () if self.phase_is(Phase::AwaitingBody) => Some(Debt::Body),
            () if self.given_bytes() > 0 => Some(Debt::Taking),
            () => None,
        };
        let mut progress = self.progress.lock();
        let moved_bytes = self.moved_bytes.swap(0, Ordering::Relaxed);
        let still = owes.is_some() && owes == progress.owes;
        *progress = Progress {
            owes,
            owed_looks: if still { progress.owed_looks + 1 } else { 0 },
            quiet_looks: if still && moved_bytes == 0 { progress.quiet_looks + 1 } else { 0 },
            body_looks: progress.body_looks + u32::from(owes == Some(Debt::Body)),
            moved_bytes,
        };
        *progress
    }

    /// Gives the body up: in HTTP/2 its stream ends, in HTTP/1 who reads it gets an error.
    pub(crate) fn give_up_body(&self) {
        if self.end_stream() {
            return;
        }
        self.body_is_late.store(true, Ordering::Relaxed);
        if let Some(waker) = self.body_waker.lock().take() {
            waker.wake();
        }
    }

    /// Ends its stream, if it has one of its own.
    pub(crate) fn end_stream(&self) -> bool {
        let Some(end) = self.stream_end.get().and_then(Weak::upgrade) else { return false };
        end.notify_one();
        true
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.await_reader();
        self.connection.finish();
    }
}
