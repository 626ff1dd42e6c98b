//! The account of requests that have begun: what each holds until its answer is written, besides its body and its answer.
//!
//! A peer can begin many requests at once and finish none, at hardly any cost of its own. All together have
//! [`PORT_BYTES_MAX`] for each port and [`SHARED_BYTES_MAX`] for all. When that is used up, requests whose peers owe something
//! end first: those that stand still, then those of connections that have begun many; else the new one is refused.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Uri, Version};
use metrics::{Gauge, gauge};
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::connections::{Connection, Connections};
use crate::exchange::Exchange;
use crate::unread::Budget;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// What requests of each port may hold in any case, whatever others hold.
const PORT_BYTES_MAX: usize = 8 * MIB;
/// What requests of all ports may hold beyond that. With three ports all is 64 MiB.
const SHARED_BYTES_MAX: usize = 40 * MIB;
/// What requests may hold besides that were told to end and whose tasks have not run since.
const LEAVING_BYTES_MAX: usize = 32 * MIB;
/// When room is made, so much is made at once, so that the tables are not searched for each newcomer.
const ROOM_BYTES_MIN: usize = MIB;
/// After a search for requests that may end which found too few, none is made for so long.
const VAIN_SEARCH_PAUSE: Duration = Duration::from_millis(10);
/// What a request holds whatever its head says: its task, its stream, its place in the tables. Measured: 60 connections of
/// HTTP/2 with 250 half requests each took 10 to 11.5 KiB of resident memory for each request, by port.
const REQUEST_BYTES: usize = 12 * KIB;
/// What a header field takes besides its text: its place in the map, …
const FIELD_BYTES: usize = 112;
/// … the place of a further one of the same name, …
const REPEATED_FIELD_BYTES: usize = 144;
/// … and what the allocator adds.
const FIELD_ALLOCATED_BYTES: usize = 32;
/// A request moves on as long as so many bytes of its body or its answer …
pub(crate) const MOVING_BYTES: usize = 16 * KIB;
/// … take no longer than this.
const MOVING_TIME: Duration = Duration::from_secs(1);

/// What the ports of a process share.
pub(crate) struct SharedByRequests {
    budget: Budget,
    /// What requests hold that were told to end and are not gone.
    leaving: AtomicUsize,
    /// Held while room is made.
    ports: Mutex<Vec<Weak<Connections>>>,
    gauge: Gauge,
}

impl SharedByRequests {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        let gauge = gauge!("tracehouse_requests_begun_bytes");
        Arc::new(Self { budget: Budget::new(bytes_max), leaving: AtomicUsize::new(0), ports: Mutex::default(), gauge })
    }

    pub(crate) fn of_process() -> Arc<Self> {
        static OF_PROCESS: OnceLock<Arc<SharedByRequests>> = OnceLock::new();
        OF_PROCESS.get_or_init(|| Self::new(SHARED_BYTES_MAX)).clone()
    }

    /// From now on room is made among the requests of this port, too.
    pub(crate) fn join(&self, port: &Arc<Connections>) {
        let mut ports = self.ports.lock();
        ports.retain(|port| port.strong_count() > 0);
        ports.push(Arc::downgrade(port));
    }
}

/// The room for requests of one port.
pub(crate) struct RequestRoom {
    own: Budget,
    shared: Arc<SharedByRequests>,
    vain_search: Mutex<Option<VainSearch>>,
}

/// A search for requests that may end which found too few, for a connection with so many.
struct VainSearch {
    at: Instant,
    requests: usize,
}

impl RequestRoom {
    pub(crate) fn new(shared: Arc<SharedByRequests>) -> Self {
        Self { own: Budget::new(PORT_BYTES_MAX), shared, vain_search: Mutex::default() }
    }

    fn take(&self, bytes: usize) -> Option<Source> {
        match () {
            () if self.own.take(bytes, false) => Some(Source::Own),
            () if self.shared.budget.take(bytes, false) => Some(Source::Shared),
            () => None,
        }
    }
}

/// Where the room of a request comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Own,
    Shared,
}

/// What one request holds; given back when this is dropped.
pub(crate) struct Begun {
    port: Arc<Connections>,
    source: Source,
    /// Nothing once it was given back.
    bytes: AtomicUsize,
    /// What it held when it was told to end.
    leaving: AtomicUsize,
}

impl Begun {
    /// Takes room for a request with this head, making some if need be.
    pub(crate) fn take(connection: &Arc<Connection>, head: &Parts) -> Option<Self> {
        Self::take_bytes(connection, head_bytes(head) + REQUEST_BYTES, Instant::now())
    }

    fn take_bytes(connection: &Arc<Connection>, bytes: usize, now: Instant) -> Option<Self> {
        let port = &connection.port;
        let room = &port.request_room;
        let source = room.take(bytes).or_else(|| take_room_of_others(connection, bytes, now))?;
        room.shared.gauge.increment(bytes as f64);
        Some(Self { port: port.clone(), source, bytes: AtomicUsize::new(bytes), leaving: AtomicUsize::new(0) })
    }

    /// Gives the room back of what was told to end.
    fn leave(&self) {
        let bytes = self.give_back();
        self.leaving.fetch_add(bytes, Ordering::Relaxed);
        self.port.request_room.shared.leaving.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give_back(&self) -> usize {
        let bytes = self.bytes.swap(0, Ordering::Relaxed);
        let room = &self.port.request_room;
        match self.source {
            Source::Own => room.own.give_back(bytes),
            Source::Shared => room.shared.budget.give_back(bytes),
        }
        room.shared.gauge.decrement(bytes as f64);
        bytes
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        self.give_back();
        self.port.request_room.shared.leaving.fetch_sub(*self.leaving.get_mut(), Ordering::Relaxed);
    }
}

/// Takes room for a request on this connection from others, which end for it.
fn take_room_of_others(connection: &Connection, bytes: usize, now: Instant) -> Option<Source> {
    let room = &connection.port.request_room;
    let ports = room.shared.ports.lock();
    // Others may have made some meanwhile.
    if let Some(source) = room.take(bytes) {
        return Some(source);
    }
    let requests = connection.requests();
    let is_in_vain = |search: &VainSearch| now.saturating_duration_since(search.at) < VAIN_SEARCH_PAUSE;
    let mut vain_search = room.vain_search.lock();
    // A connection's only request is tried in any case: it is as dear to a peer as a connection.
    if requests > 1 && vain_search.as_ref().is_some_and(|search| is_in_vain(search) && search.requests <= requests) {
        return None;
    }
    make_room(&ports, connection, bytes.max(ROOM_BYTES_MIN), now);
    let source = room.take(bytes);
    *vain_search = source.is_none().then_some(VainSearch { at: now, requests });
    source
}

/// Ends requests for a newcomer until so many bytes have come free.
fn make_room(ports: &[Weak<Connections>], newcomer: &Connection, mut missing: usize, now: Instant) {
    let newcomers_requests = newcomer.requests();
    let shared = &newcomer.port.request_room.shared;
    let mut candidates = Vec::new();
    for port in ports.iter().filter_map(Weak::upgrade) {
        let is_newcomers = Arc::ptr_eq(&port, &newcomer.port);
        for exchange in port.exchanges() {
            let gives_room = exchange.begun().is_some_and(|begun| {
                (is_newcomers || begun.source == Source::Shared) && begun.bytes.load(Ordering::Relaxed) > 0
            });
            if gives_room && let Some(order) = order_of_end(&exchange, newcomers_requests, now) {
                candidates.push((order, exchange));
            }
        }
    }
    // Those that were told to end are in memory until their tasks have run.
    let is_crowded = newcomers_requests > 1 && shared.leaving.load(Ordering::Relaxed) > LEAVING_BYTES_MAX;
    candidates.sort_unstable_by_key(|(order, _)| *order);
    for (_, exchange) in candidates {
        if missing == 0 || is_crowded {
            break;
        }
        if let Some(begun) = exchange.begun() {
            missing = missing.saturating_sub(begun.bytes.load(Ordering::Relaxed));
            begun.leave();
        }
        exchange.end_for_room();
    }
}

/// Less is earlier: still ones, the longest still first; then those of connections with most requests. `None` is never: one
/// that the server has begun to work for, and one that moves on a connection with no more requests than the newcomer's.
fn order_of_end(exchange: &Exchange, newcomers_requests: usize, now: Instant) -> Option<(Reverse<usize>, Instant)> {
    let is_unstarted = exchange.is_unstarted();
    if exchange.is_worked_for() && !is_unstarted {
        return None;
    }
    let moved_at = exchange.moved_at();
    // Its peer is not to blame that nothing was done for it yet.
    if !is_unstarted && now.saturating_duration_since(moved_at) > MOVING_TIME {
        return Some((Reverse(usize::MAX), moved_at));
    }
    let requests = exchange.connection.requests();
    (requests > newcomers_requests).then_some((Reverse(requests), moved_at))
}

/// About what a head takes in memory.
fn head_bytes(head: &Parts) -> usize {
    let headers = &head.headers;
    let repeated = headers.len() - headers.keys_len();
    let texts: usize =
        headers.iter().map(|(name, value)| name.as_str().len() + value.len() + FIELD_ALLOCATED_BYTES).sum();
    let texts = texts + head.uri.path().len() + head.uri.query().map_or(0, str::len);
    // In HTTP/1 texts are parts of the connection's buffer, which grows by doubling.
    let texts = if head.version < Version::HTTP_2 { 2 * texts } else { texts };
    headers.capacity() * FIELD_BYTES + repeated * REPEATED_FIELD_BYTES + texts
}

/// A head that shares no memory with what came beside it: in HTTP/2 a few bytes of a head would keep a whole buffer.
pub(crate) fn unshared(mut head: Parts) -> Parts {
    let mut headers = HeaderMap::with_capacity(head.headers.keys_len());
    for (name, value) in &head.headers {
        // It was one before, so it is one again.
        if let Ok(mut copy) = HeaderValue::from_bytes(value.as_bytes()) {
            copy.set_sensitive(value.is_sensitive());
            headers.append(name, copy);
        }
    }
    head.headers = headers;
    if let Ok(uri) = Uri::try_from(head.uri.to_string()) {
        head.uri = uri;
    }
    head
}

#[cfg(test)]
impl RequestRoom {
    /// What all requests that were counted here hold.
    pub(crate) fn held(&self) -> usize {
        self.own.held() + self.shared.budget.held()
    }
}

#[cfg(test)]
mod tests;
