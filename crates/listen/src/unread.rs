//! The account of answers that their peers have not taken yet.
//!
//! An answer is in memory from when it is made until its last byte is written. Each is counted for its connection, and for
//! its port or, if that has no room, for the process: so one port whose peers read nothing leaves room to the others.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use metrics::{Gauge, gauge};
use tokio::sync::Notify;

use crate::connections::Connection;

const MIB: usize = 1024 * 1024;
/// What answers of one connection may hold; a single answer may be larger.
pub(crate) const CONNECTION_BYTES_MAX: usize = 64 * MIB;
/// What answers of each port may hold in any case, whatever others hold.
const PORT_BYTES_MAX: usize = 16 * MIB;
/// What answers of all ports may hold beyond that; a single answer may be larger. With three ports all is 256 MiB.
const SHARED_BYTES_MAX: usize = 208 * MIB;

/// A number of bytes with a maximum.
pub(crate) struct Budget {
    bytes_max: usize,
    held: AtomicUsize,
    /// Whether something had no room, and not half of it is free again.
    short: AtomicBool,
}

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, held: AtomicUsize::new(0), short: AtomicBool::new(false) }
    }

    pub(crate) fn held(&self) -> usize {
        self.held.load(Ordering::Relaxed)
    }

    fn has_room(&self) -> bool {
        self.held() < self.bytes_max
    }

    pub(crate) fn is_short(&self) -> bool {
        self.short.load(Ordering::Relaxed)
    }

    fn note_shortage(&self) {
        self.short.store(true, Ordering::Relaxed);
    }

    /// Takes room if there is enough; if nothing is held, `first_is_free` says whether there always is.
    pub(crate) fn take(&self, bytes: usize, first_is_free: bool) -> bool {
        let grown = |held: usize| {
            let sum = held.saturating_add(bytes);
            (sum <= self.bytes_max || (first_is_free && held == 0)).then_some(sum)
        };
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok()
    }

    fn take_anyway(&self, bytes: usize) {
        self.held.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn give_back(&self, bytes: usize) {
        let before = self.held.fetch_sub(bytes, Ordering::Relaxed);
        if before - bytes <= self.bytes_max / 2 {
            self.short.store(false, Ordering::Relaxed);
        }
    }
}

/// What the ports of a process share.
pub(crate) struct Shared {
    budget: Budget,
    /// Told whenever something is given back, on any port.
    freed: Arc<Notify>,
    gauge: Gauge,
}

impl Shared {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        let gauge = gauge!("tracehouse_answers_waiting_bytes");
        Arc::new(Self { budget: Budget::new(bytes_max), freed: Arc::default(), gauge })
    }

    pub(crate) fn of_process() -> Arc<Self> {
        static OF_PROCESS: OnceLock<Arc<Shared>> = OnceLock::new();
        OF_PROCESS.get_or_init(|| Self::new(SHARED_BYTES_MAX)).clone()
    }
}

/// The room for answers of one port.
pub(crate) struct Room {
    own: Budget,
    shared: Arc<Shared>,
}

impl Room {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { own: Budget::new(PORT_BYTES_MAX), shared }
    }

    /// Whether answers that nobody takes should be ended because others need their room.
    pub(crate) fn is_short(&self) -> bool {
        self.shared.budget.is_short()
    }

    /// Completes when something was given back after this call.
    pub(crate) fn freed(&self) -> tokio::sync::futures::OwnedNotified {
        self.shared.freed.clone().notified_owned()
    }

    /// Whether more of an answer may be made for a connection.
    pub(crate) fn is_there_for(&self, connection: &Connection) -> bool {
        if !connection.unread.has_room() {
            connection.unread.note_shortage();
            return false;
        }
        if !self.own.has_room() && !self.shared.budget.has_room() {
            self.shared.budget.note_shortage();
            return false;
        }
        true
    }
}

/// Bytes of an answer that are in memory; given back when this is dropped.
pub(crate) struct Unread {
    connection: Arc<Connection>,
    bytes: usize,
    is_shared: bool,
}

impl Unread {
    /// Counts an answer that is there as a whole, if it has room.
    pub(crate) fn reserve(connection: &Arc<Connection>, bytes: usize) -> Option<Self> {
        let room = &connection.port.room;
        if !connection.unread.take(bytes, true) {
            connection.unread.note_shortage();
            return None;
        }
        let is_shared = !room.own.take(bytes, false);
        if is_shared && !room.shared.budget.take(bytes, true) {
            connection.unread.give_back(bytes);
            room.shared.budget.note_shortage();
            return None;
        }
        Some(Self::counted(connection, bytes, is_shared))
    }

    /// Counts a part of an answer that is there already.
    pub(crate) fn count(connection: &Arc<Connection>, bytes: usize) -> Self {
        let room = &connection.port.room;
        connection.unread.take_anyway(bytes);
        let is_shared = !room.own.take(bytes, false);
        if is_shared {
            room.shared.budget.take_anyway(bytes);
        }
        Self::counted(connection, bytes, is_shared)
    }

    fn counted(connection: &Arc<Connection>, bytes: usize, is_shared: bool) -> Self {
        connection.port.room.shared.gauge.increment(bytes as f64);
        Self { connection: connection.clone(), bytes, is_shared }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        let room = &self.connection.port.room;
        self.connection.unread.give_back(self.bytes);
        let budget = if self.is_shared { &room.shared.budget } else { &room.own };
        budget.give_back(self.bytes);
        room.shared.gauge.decrement(self.bytes as f64);
        room.shared.freed.notify_waiters();
    }
}

#[cfg(test)]
impl Room {
    /// What all answers that were counted here hold.
    pub(crate) fn held(&self) -> usize {
        self.own.held() + self.shared.budget.held()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connections::{Connections, Place};

    fn connection(shared: &Arc<Shared>) -> Place {
        Connections::for_tests(8, shared.clone()).enter(std::net::Ipv4Addr::LOCALHOST.into())
    }

    #[test]
    fn a_port_that_is_not_read_leaves_room_to_others() {
        let shared = Shared::new(SHARED_BYTES_MAX);
        let hostile = connection(&shared);
        let table = Connections::for_tests(8, shared.clone());
        let clients: Vec<Place> = (0..4).map(|_| table.enter(std::net::Ipv4Addr::LOCALHOST.into())).collect();
        let mut held: Vec<Unread> = Vec::new();
        for client in &clients {
            while let Some(answer) = Unread::reserve(&client.connection, 16 * MIB) {
                held.push(answer);
            }
        }
        // One in the port's own room, the rest in what is shared; no connection holds more than four.
        assert_eq!(held.len(), 1 + SHARED_BYTES_MAX / (16 * MIB));
        assert!(table.room.is_short());
        assert!(clients.iter().all(|client| !table.room.is_there_for(&client.connection)));
        let other = connection(&shared);
        assert!(Unread::reserve(&other.connection, MIB).is_some(), "another port has room of its own");
        assert!(other.connections.room.is_there_for(&other.connection));
        assert!(Unread::reserve(&other.connection, 20 * MIB).is_none());
        held.truncate(7);
        assert!(!table.room.is_short(), "half of it is free again");
        assert!(Unread::reserve(&hostile.connection, 20 * MIB).is_some());
        drop(held);
        assert_eq!((table.room.held(), shared.budget.held()), (0, 0));
    }

    #[test]
    fn a_single_answer_may_be_larger_than_what_many_may_be() {
        let shared = Shared::new(SHARED_BYTES_MAX);
        let client = connection(&shared);
        let large = Unread::reserve(&client.connection, 300 * MIB).expect("nothing else is held");
        assert!(Unread::reserve(&client.connection, 1).is_none(), "its connection is full");
        let other = connection(&shared);
        assert!(Unread::reserve(&other.connection, 20 * MIB).is_none(), "so is what is shared");
        drop(large);
        assert!(Unread::reserve(&client.connection, 1).is_some());
    }
}
