//! The table of a port's connections: how many there are, what each is doing, and which are closed first when there is no
//! room.
//!
//! All limits of time are counted in looks, which every connection's own task takes every [`LOOK_INTERVAL`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use metrics::{counter, gauge};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::begun::{RequestRoom, SharedByRequests};
use crate::exchange::{Debt, Exchange, Phase, Progress};
use crate::unread::{Budget, CONNECTION_BYTES_MAX, Room, Shared};

pub(crate) const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// A connection that has not sent a whole head of a request after this many looks (30 s) is closed.
const HEAD_LOOKS_MAX: u32 = 6;
/// A connection without requests is closed after this many looks (10 min): longer than exporters and people wait.
const IDLE_LOOKS_MAX: u32 = 120;
/// A request's body of which nothing came during this many looks (20 s) is given up …
const BODY_QUIET_LOOKS_MAX: u32 = 4;
/// … and so is one that has not come as a whole after this many (2 min).
const BODY_LOOKS_MAX: u32 = 24;
/// An answer of which nothing was taken during this many looks (30 s) is ended.
const UNREAD_LOOKS_MAX: u32 = 6;
/// A connection whose ended answer is still there after this many looks is closed.
const UNREAD_LOOKS_CLOSE: u32 = UNREAD_LOOKS_MAX + 2;
/// When answers need room, those of which less is taken between two looks are ended.
const SHORT_BYTES_MIN: usize = 64 * 1024;
/// Who moves less than this between two looks counts as one that has stopped, when something is needed.
const STOPPED_BYTES_MIN: usize = 1024;
/// When less than this part of the places is free, room is made.
const FREE_PART: usize = 16;
/// When room is made, this part of the connections is closed at once, so that the table is not searched for each newcomer.
const ROOM_PART: usize = 64;
/// Dead entries in a connection's list of exchanges are removed when it is longer than this.
const EXCHANGES_KEPT_MIN: usize = 32;

/// Why a connection or a request ended early, as the metric's label has it.
pub(crate) mod reason {
    pub(crate) const ENDED: &str = "ended";
    pub(crate) const FAILED: &str = "failed";
    pub(crate) const SILENT: &str = "silent";
    pub(crate) const IDLE: &str = "idle";
    pub(crate) const STALLED: &str = "stalled";
    pub(crate) const MADE_ROOM: &str = "made_room";
    pub(crate) const STOPPING: &str = "stopping";
    pub(crate) const LATE_BODY: &str = "late_body";
    pub(crate) const NO_ROOM: &str = "no_room";
}

/// How a connection is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Closing {
    /// The peer is told, and requests that have begun are finished.
    Politely(&'static str),
    AtOnce(&'static str),
}

impl Closing {
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Closing::Politely(reason) | Closing::AtOnce(reason) => reason,
        }
    }
}

/// All connections of one port.
pub(crate) struct Connections {
    pub(crate) name: &'static str,
    places: usize,
    look_interval: Duration,
    pub(crate) room: Room,
    pub(crate) request_room: RequestRoom,
    /// Numbers whatever a peer does that moves its requests on; later is larger.
    moves: AtomicU64,
    open: Mutex<Open>,
    /// Open connections that were asked to close to make room.
    leaving: AtomicUsize,
}

#[derive(Default)]
struct Open {
    next_id: u64,
    connections: BTreeMap<u64, Arc<Connection>>,
    of_address: HashMap<IpAddr, usize>,
}

/// The order in which connections are closed to make room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Usefulness {
    /// Its peer owes a request, the rest of one, or taking an answer, and has stopped.
    Stopped,
    /// None of its requests has been answered yet.
    New,
    /// It had requests and owes nothing.
    Idle,
    /// It was of use before, and its peer owes something and moves.
    Slow,
}

/// What is known of one connection while it is open.
pub(crate) struct Connection {
    pub(crate) port: Arc<Connections>,
    address: IpAddr,
    /// What its answers hold.
    pub(crate) unread: Budget,
    /// Whether its peer has sent something since the last request began or ended.
    pub(crate) heard: Arc<AtomicBool>,
    last_move: AtomicU64,
    /// Requests that have begun and whose answers are not all written.
    requests: AtomicUsize,
    /// Those of them that the server works for.
    working: AtomicUsize,
    /// Whether a request was ever begun …
    asked: AtomicBool,
    /// … and whether one was answered.
    served: AtomicBool,
    is_http2: AtomicBool,
    idle_looks: AtomicU32,
    head_looks: AtomicU32,
    /// What the last look found: its peer owes something and has stopped …
    has_stopped: AtomicBool,
    /// … or what it moved of what it owes.
    moved_bytes: AtomicUsize,
    exchanges: Mutex<Vec<Weak<Exchange>>>,
    closing: Mutex<Option<Closing>>,
    closing_set: Notify,
    leaves_room: AtomicBool,
}

/// A place in the table, given back when dropped.
pub(crate) struct Place {
    pub(crate) connections: Arc<Connections>,
    pub(crate) connection: Arc<Connection>,
    id: u64,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock();
        open.connections.remove(&self.id);
        if let Some(count) = open.of_address.get_mut(&self.connection.address) {
            *count -= 1;
            if *count == 0 {
                open.of_address.remove(&self.connection.address);
            }
        }
        if self.connection.leaves_room.load(Ordering::Relaxed) {
            self.connections.leaving.fetch_sub(1, Ordering::Relaxed);
        }
        self.connections.report(&open);
    }
}

/// Who has one address of version 6 has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

impl Connections {
    pub(crate) fn new(
        name: &'static str,
        places: usize,
        look_interval: Duration,
        shared: Arc<Shared>,
        shared_by_requests: Arc<SharedByRequests>,
    ) -> Arc<Self> {
        let connections = Arc::new(Self {
            name,
            places,
            look_interval,
            room: Room::new(shared),
            request_room: RequestRoom::new(shared_by_requests.clone()),
            moves: AtomicU64::new(0),
            open: Mutex::default(),
            leaving: AtomicUsize::new(0),
        });
        shared_by_requests.join(&connections);
        connections
    }

    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Place {
        let connection = Arc::new(Connection::new(self.clone(), network(address)));
        let mut open = self.open.lock();
        let id = open.next_id;
        open.next_id += 1;
        open.connections.insert(id, connection.clone());
        *open.of_address.entry(connection.address).or_default() += 1;
        self.report(&open);
        Place { connections: self.clone(), connection, id }
    }

    fn report(&self, open: &Open) {
        gauge!("tracehouse_connections_open", "port" => self.name).set(open.connections.len() as f64);
    }

    /// Counts a connection that has ended.
    pub(crate) fn count_ended(&self, reason: &'static str) {
        counter!("tracehouse_connections_ended_total", "port" => self.name, "reason" => reason).increment(1);
    }

    /// Counts a request that was refused or ended because of what its peer does or leaves undone.
    pub(crate) fn count_request_ended(&self, reason: &'static str) {
        counter!("tracehouse_requests_ended_total", "port" => self.name, "reason" => reason).increment(1);
    }

    /// All requests that have begun and whose answers are not all written.
    pub(crate) fn exchanges(&self) -> Vec<Arc<Exchange>> {
        let open = self.open.lock();
        open.connections.values().flat_map(|connection| connection.living_exchanges()).collect()
    }

    fn next_move(&self) -> u64 {
        self.moves.fetch_add(1, Ordering::Relaxed)
    }

    /// When a new connection is looked at.
    pub(crate) fn looks(&self) -> Interval {
        let mut looks = tokio::time::interval_at(Instant::now() + self.look_interval, self.look_interval);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        looks
    }

    /// Makes room if hardly any is left when all have gone that were asked to.
    pub(crate) fn keep_room(&self, places_free: usize) {
        if places_free + self.leaving.load(Ordering::Relaxed) <= self.places / FREE_PART {
            self.make_room();
        }
    }

    /// Asks the least useful connections to close; of equally useful ones those whose addresses hold most, then those that did
    /// least, then those that did nothing for longest. One that the server works for is never among them. Returns how many
    /// were asked.
    pub(crate) fn make_room(&self) -> usize {
        // Held to the end, so that a connection is marked before it leaves the table or not at all.
        let open = self.open.lock();
        let mut candidates: Vec<_> = open
            .connections
            .values()
            .filter_map(|connection| {
                let usefulness = connection.usefulness()?;
                let of_address = open.of_address.get(&connection.address).copied().unwrap_or_default();
                let moved_bytes = match usefulness {
                    Usefulness::Slow => connection.moved_bytes.load(Ordering::Relaxed),
                    Usefulness::Stopped | Usefulness::New | Usefulness::Idle => 0,
                };
                let last_move = connection.last_move.load(Ordering::Relaxed);
                Some(((usefulness, Reverse(of_address), moved_bytes, last_move), connection))
            })
            .collect();
        candidates.sort_unstable_by_key(|(order, _)| *order);
        candidates.truncate((open.connections.len() / ROOM_PART).max(1));
        for ((usefulness, ..), connection) in &candidates {
            if !connection.leaves_room.swap(true, Ordering::Relaxed) {
                self.leaving.fetch_add(1, Ordering::Relaxed);
            }
            connection.close(match usefulness {
                Usefulness::Idle => Closing::Politely(reason::MADE_ROOM),
                Usefulness::Stopped | Usefulness::New | Usefulness::Slow => Closing::AtOnce(reason::MADE_ROOM),
            });
        }
        candidates.len()
    }
}

impl Connection {
    fn new(port: Arc<Connections>, address: IpAddr) -> Self {
        Self {
            address,
            unread: Budget::new(CONNECTION_BYTES_MAX),
            heard: Arc::default(),
            last_move: AtomicU64::new(port.next_move()),
            port,
            requests: AtomicUsize::new(0),
            working: AtomicUsize::new(0),
            asked: AtomicBool::new(false),
            served: AtomicBool::new(false),
            is_http2: AtomicBool::new(false),
            idle_looks: AtomicU32::new(0),
            head_looks: AtomicU32::new(0),
            has_stopped: AtomicBool::new(false),
            moved_bytes: AtomicUsize::new(usize::MAX),
            exchanges: Mutex::default(),
            closing: Mutex::default(),
            closing_set: Notify::new(),
            leaves_room: AtomicBool::new(false),
        }
    }

    pub(crate) fn set_http2(&self) {
        self.is_http2.store(true, Ordering::Relaxed);
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    pub(crate) fn is_worked_for(&self) -> bool {
        self.working.load(Ordering::Relaxed) > 0
    }

    /// Notes that its peer moved a request on.
    pub(crate) fn moved(&self) {
        self.last_move.fetch_max(self.port.next_move(), Ordering::Relaxed);
    }

    pub(crate) fn begin(&self, exchange: &Arc<Exchange>) {
        self.asked.store(true, Ordering::Relaxed);
        self.working.fetch_add(1, Ordering::Relaxed);
        let requests = self.requests.fetch_add(1, Ordering::Relaxed) + 1;
        self.rest();
        let mut exchanges = self.exchanges.lock();
        if exchanges.len() >= EXCHANGES_KEPT_MIN.max(2 * requests) {
            exchanges.retain(|exchange| exchange.strong_count() > 0);
        }
        exchanges.push(Arc::downgrade(exchange));
    }

    pub(crate) fn set_served(&self) {
        self.served.store(true, Ordering::Relaxed);
    }

    pub(crate) fn finish(&self) {
        self.rest();
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// A request begins or ends: what looks found before holds no more.
    fn rest(&self) {
        self.moved();
        self.heard.store(false, Ordering::Relaxed);
        self.head_looks.store(0, Ordering::Relaxed);
        self.idle_looks.store(0, Ordering::Relaxed);
        self.has_stopped.store(false, Ordering::Relaxed);
        self.moved_bytes.store(usize::MAX, Ordering::Relaxed);
    }

    /// Counts the requests that the server works for.
    pub(crate) fn count_work(&self, from: Phase, to: Phase) {
        match (from, to) {
            (Phase::Working, Phase::AwaitingBody | Phase::AwaitingReader) => {
                self.working.fetch_sub(1, Ordering::Relaxed);
            }
            (Phase::AwaitingBody | Phase::AwaitingReader, Phase::Working) => {
                self.working.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }

    /// How useful the connection is; `None` if it may not be closed or already is.
    fn usefulness(&self) -> Option<Usefulness> {
        if self.is_worked_for() || self.closing.lock().is_some() {
            return None;
        }
        let served = self.served.load(Ordering::Relaxed);
        Some(match () {
            () if self.has_stopped.load(Ordering::Relaxed) => Usefulness::Stopped,
            () if !served => Usefulness::New,
            () if self.requests() == 0 => Usefulness::Idle,
            () => Usefulness::Slow,
        })
    }

    pub(crate) fn close(&self, how: Closing) {
        *self.closing.lock() = Some(how);
        self.closing_set.notify_one();
    }

    /// Waits until the connection is to be closed: because it was asked to, or because of what a look shows.
    pub(crate) async fn closing(&self, looks: &mut Interval) -> Closing {
        loop {
            tokio::select! {
                biased;
                () = self.closing_set.notified() => {
                    if let Some(closing) = *self.closing.lock() {
                        return closing;
                    }
                }
                _ = looks.tick() => {
                    if let Some(closing) = self.look() {
                        return closing;
                    }
                }
            }
        }
    }

    /// What is done every few seconds.
    pub(crate) fn look(&self) -> Option<Closing> {
        let progress: Vec<(Arc<Exchange>, Progress)> =
            self.living_exchanges().into_iter().map(|exchange| (exchange.clone(), exchange.look())).collect();
        let closing = progress.iter().find_map(|(exchange, progress)| self.judge(exchange, progress));
        // Of one that has just begun to owe something nothing can be said.
        let owed = progress.iter().any(|(_, progress)| progress.is_slower_than(usize::MAX));
        let moved_bytes = progress.iter().map(|(_, progress)| progress.moved_bytes).sum();
        let all_stopped = progress.iter().all(|(_, progress)| progress.is_slower_than(STOPPED_BYTES_MIN));
        // One that has never asked owes its first request.
        let owes = !progress.is_empty() || !self.served.load(Ordering::Relaxed) || self.is_in_head();
        self.moved_bytes.store(if owed { moved_bytes } else { usize::MAX }, Ordering::Relaxed);
        self.has_stopped.store(all_stopped && owes, Ordering::Relaxed);
        if closing.is_some() || self.requests() > 0 {
            return closing;
        }
        self.look_at_rest()
    }

    /// Whether its peer has begun to send a request. Frames of HTTP/2 can be anything.
    fn is_in_head(&self) -> bool {
        !self.is_http2.load(Ordering::Relaxed) && self.heard.load(Ordering::Relaxed)
    }

    fn look_at_rest(&self) -> Option<Closing> {
        let looks = |count: &AtomicU32| count.fetch_add(1, Ordering::Relaxed) + 1;
        let idle_looks = looks(&self.idle_looks);
        if !self.asked.load(Ordering::Relaxed) {
            let silent = idle_looks >= HEAD_LOOKS_MAX;
            // A client of HTTP/2 that connected before it had anything to ask should see that it can't ask here any more.
            let close = if self.is_http2.load(Ordering::Relaxed) { Closing::Politely } else { Closing::AtOnce };
            return silent.then(|| close(reason::SILENT));
        }
        if self.is_in_head() && looks(&self.head_looks) >= HEAD_LOOKS_MAX {
            return Some(Closing::AtOnce(reason::SILENT));
        }
        (idle_looks >= IDLE_LOOKS_MAX).then_some(Closing::Politely(reason::IDLE))
    }

    /// Ends what its peer has left undone for too long; returns how the connection has to be closed if that is the only way.
    fn judge(&self, exchange: &Exchange, progress: &Progress) -> Option<Closing> {
        match progress.owes? {
            Debt::Body => {
                if progress.quiet_looks >= BODY_QUIET_LOOKS_MAX || progress.body_looks >= BODY_LOOKS_MAX {
                    self.port.count_request_ended(reason::LATE_BODY);
                    exchange.give_up_body();
                }
                None
            }
            Debt::Taking => {
                let is_short = self.unread.is_short() || self.port.room.is_short();
                let is_stalled = progress.quiet_looks >= UNREAD_LOOKS_MAX;
                // Of an answer that is made while it is sent there may be no more to take.
                let bytes_min = if exchange.is_worked_for() { STOPPED_BYTES_MIN } else { SHORT_BYTES_MIN };
                let is_in_the_way = is_short && progress.is_slower_than(bytes_min);
                if !(is_stalled || is_in_the_way) {
                    return None;
                }
                // What is left of a short answer after its stream is only ended with the connection.
                let ended = progress.quiet_looks < UNREAD_LOOKS_CLOSE && exchange.end_stream();
                if ended {
                    self.port.count_request_ended(reason::STALLED);
                }
                (!ended).then_some(Closing::AtOnce(reason::STALLED))
            }
        }
    }

    fn living_exchanges(&self) -> Vec<Arc<Exchange>> {
        let mut exchanges = self.exchanges.lock();
        exchanges.retain(|exchange| exchange.strong_count() > 0);
        exchanges.iter().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
impl Connections {
    pub(crate) fn for_tests(places: usize, shared: Arc<Shared>) -> Arc<Self> {
        const NEVER: Duration = Duration::from_secs(1 << 30);
        Self::new("test", places, NEVER, shared, SharedByRequests::new(1 << 30))
    }

    /// With little room for requests.
    pub(crate) fn with_requests(shared_by_requests: Arc<SharedByRequests>) -> Arc<Self> {
        const NEVER: Duration = Duration::from_secs(1 << 30);
        Self::new("test", 64, NEVER, Shared::new(1 << 30), shared_by_requests)
    }

    /// What every connection's task does every few seconds.
    pub(crate) fn look_at_all(&self) {
        for connection in self.all() {
            if let Some(closing) = connection.look() {
                connection.close(closing);
            }
        }
    }

    fn all(&self) -> Vec<Arc<Connection>> {
        self.open.lock().connections.values().cloned().collect()
    }

    pub(crate) fn working(&self) -> usize {
        self.all().iter().map(|connection| connection.working.load(Ordering::Relaxed)).sum()
    }

    pub(crate) fn requests(&self) -> usize {
        self.all().iter().map(|connection| connection.requests()).sum()
    }

    /// What moved since the last look.
    pub(crate) fn moved_bytes(&self) -> usize {
        let exchanges = self.all().into_iter().flat_map(|connection| connection.living_exchanges());
        exchanges.map(|exchange| exchange.moved_bytes()).sum()
    }

    pub(crate) fn any_is_closing(&self) -> bool {
        self.all().iter().any(|connection| connection.closing.lock().is_some())
    }

    pub(crate) fn any_was_heard(&self) -> bool {
        self.all().iter().any(|connection| connection.is_in_head())
    }
}

#[cfg(test)]
mod tests;
