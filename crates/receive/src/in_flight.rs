use std::sync::Arc;
use std::time::Duration;

use metrics::{counter, gauge};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracehouse_model::{Clock, SeededMap, TenantId};

const GAUGE: &str = "tracehouse_receive_in_flight_bytes";
/// A body moves on as long as so many of its bytes …
const MOVING_BYTES: usize = 16 * 1024;
/// … take no longer than this. One that does not is ended when another needs its room.
const MOVING_TIME: Duration = Duration::from_secs(1);
/// Longest wait for the room of bodies that are being ended.
const ENDING_MAX: Duration = Duration::from_secs(1);
/// A tenant that was sent away counts as waiting for so long: senders come back after a second or a few.
const WAITING: Duration = Duration::from_secs(10);

/// Bytes of requests being worked on, with a maximum. Who finds no room is sent away at once and never queued: a
/// queue would only move the memory elsewhere.
///
/// A tenant may hold all of it while no other sends, and half while another does: one that sends as much as it can leaves
/// room for those that send little. Its only request may be larger than half, or it could never be taken.
///
/// Bodies count by what has come of them, whatever they announce. Where there is no room, those that don't move on end
/// first, the longest still first: what they hold costs their sender nothing.
pub(crate) struct InFlight {
    bytes_max: usize,
    clock: Arc<dyn Clock>,
    held: Mutex<Held>,
    /// Notified when room comes free that somebody waits for.
    freed: Notify,
}

#[derive(Default)]
struct Held {
    bytes: usize,
    /// Only tenants that hold some.
    by_tenant: SeededMap<TenantId, usize>,
    /// The last tenant that was sent away while it held less than half, and until when, on the monotonic clock, it counts as
    /// waiting.
    waiting: Option<(TenantId, Duration)>,
    /// Bodies that are not complete yet, by number.
    arriving: SeededMap<u64, Arriving>,
    next_arriving: u64,
}

/// A body that is not complete yet.
struct Arriving {
    bytes: usize,
    /// When, on the monotonic clock, and with how many bytes it last had moved on.
    mark: (Duration, usize),
    /// Told when it is to end.
    end: Arc<Notify>,
    is_ending: bool,
}

/// There is no room; nothing was taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoRoom;

impl InFlight {
    pub(crate) fn new(bytes_max: usize, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { bytes_max, clock, held: Mutex::default(), freed: Notify::new() })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.held.lock().bytes
    }

    /// Begins a body, of which nothing has come yet.
    pub(crate) fn begin(self: &Arc<Self>, tenant: &TenantId) -> Arrival {
        let reservation = Reservation { in_flight: self.clone(), tenant: tenant.clone(), bytes: 0 };
        let end = Arc::new(Notify::new());
        let mut held = self.held.lock();
        let number = held.next_arriving;
        held.next_arriving += 1;
        let mark = (self.clock.monotonic(), 0);
        held.arriving.insert(number, Arriving { bytes: 0, mark, end: end.clone(), is_ending: false });
        drop(held);
        Arrival { reservation, place: Place { in_flight: self.clone(), number }, end }
    }

    #[cfg(test)]
    pub(crate) fn reserve(self: &Arc<Self>, tenant: &TenantId, bytes: usize) -> Result<Reservation, NoRoom> {
        let mut reservation = Reservation { in_flight: self.clone(), tenant: tenant.clone(), bytes: 0 };
        reservation.grow_to(bytes)?;
        Ok(reservation)
    }
}

impl InFlight {
    /// Takes more for a request that holds `of_request` so far.
    fn take(&self, tenant: &TenantId, more: usize, of_request: usize) -> Result<(), NoRoom> {
        let mut held = self.held.lock();
        let half = self.bytes_max / 2;
        let is_only_request = held.of(tenant) == of_request;
        let own = held.of(tenant).saturating_add(more);
        let fits = held.bytes.saturating_add(more) <= self.bytes_max;
        // The common case needs no clock: who holds little may always have what is free.
        if fits && (is_only_request || own <= half || !held.others_send(tenant, self.clock.monotonic())) {
            held.change(tenant, more, 0);
            return Ok(());
        }
        if own <= half {
            held.waiting = Some((tenant.clone(), self.clock.monotonic() + WAITING));
        }
        Err(NoRoom)
    }

    /// Ends bodies that don't move on, the longest still first, until so many bytes come free; whether any will.
    fn end_still_ones(&self, bytes: usize) -> bool {
        let mut held = self.held.lock();
        let now = self.clock.monotonic();
        let mut ending: usize = held.arriving.values().filter(|body| body.is_ending).map(|body| body.bytes).sum();
        let is_still =
            |body: &Arriving| !body.is_ending && body.bytes > 0 && now.saturating_sub(body.mark.0) > MOVING_TIME;
        let mut still: Vec<&mut Arriving> = held.arriving.values_mut().filter(|body| is_still(body)).collect();
        still.sort_unstable_by_key(|body| body.mark.0);
        for body in still {
            if ending >= bytes {
                break;
            }
            ending += body.bytes;
            body.is_ending = true;
            body.end.notify_one();
            counter!("tracehouse_receive_still_bodies_ended_total").increment(1);
        }
        ending > 0
    }
}

impl Held {
    fn of(&self, tenant: &TenantId) -> usize {
        self.by_tenant.get(tenant).copied().unwrap_or(0)
    }

    /// Whether another tenant holds bytes, or was sent away a moment ago.
    fn others_send(&self, tenant: &TenantId, now: Duration) -> bool {
        let waits = |(waiting, until): &(TenantId, Duration)| waiting != tenant && now < *until;
        self.bytes > self.of(tenant) || self.waiting.as_ref().is_some_and(waits)
    }

    fn change(&mut self, tenant: &TenantId, more: usize, less: usize) {
        self.bytes = self.bytes + more - less;
        let own = self.of(tenant) + more - less;
        if own == 0 {
            self.by_tenant.remove(tenant);
        } else {
            self.by_tenant.insert(tenant.clone(), own);
        }
        gauge!(GAUGE).set(self.bytes as f64);
    }
}

/// A body while it arrives, with the room for what has come of it.
pub(crate) struct Arrival {
    reservation: Reservation,
    place: Place,
    end: Arc<Notify>,
}

impl Arrival {
    /// Told when the body is to end, as others need its room.
    pub(crate) fn end(&self) -> Arc<Notify> {
        self.end.clone()
    }

    /// So many bytes of the body have come.
    pub(crate) fn moved(&self, bytes: usize) {
        self.place.moved(bytes);
    }

    /// Makes room for a body of so many bytes, waiting for that of others that end for it.
    pub(crate) async fn grow_to(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let in_flight = self.place.in_flight.clone();
        let wait = async {
            loop {
                let freed = in_flight.freed.notified();
                tokio::pin!(freed);
                freed.as_mut().enable();
                if self.reservation.grow_to(bytes).is_ok() {
                    return Ok(());
                }
                if !in_flight.end_still_ones(bytes.saturating_sub(self.reservation.bytes)) {
                    return Err(NoRoom);
                }
                freed.await;
            }
        };
        tokio::time::timeout(ENDING_MAX, wait).await.unwrap_or(Err(NoRoom))
    }

    /// Whether bodies that are not complete hold so much room that it may come free soon.
    pub(crate) fn may_come_free(&self, bytes: usize) -> bool {
        let held = self.place.in_flight.held.lock();
        let of_others = held.arriving.iter().filter(|(number, _)| **number != self.place.number);
        self.reservation.bytes + of_others.map(|(_, body)| body.bytes).sum::<usize>() >= bytes
    }

    /// The room of a body that is complete.
    pub(crate) fn complete(self) -> Reservation {
        self.reservation
    }
}

/// A body's place among those that arrive.
struct Place {
    in_flight: Arc<InFlight>,
    number: u64,
}

impl Place {
    fn moved(&self, bytes: usize) {
        let now = self.in_flight.clock.monotonic();
        if let Some(body) = self.in_flight.held.lock().arriving.get_mut(&self.number) {
            body.bytes = bytes;
            if bytes >= body.mark.1 + MOVING_BYTES {
                body.mark = (now, bytes);
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let ended = self.in_flight.held.lock().arriving.remove(&self.number);
        if ended.is_some_and(|body| body.is_ending) {
            self.in_flight.freed.notify_waiters();
        }
    }
}

/// Bytes held by one request; given back when dropped.
pub(crate) struct Reservation {
    in_flight: Arc<InFlight>,
    tenant: TenantId,
    bytes: usize,
}

impl Reservation {
    /// Makes sure that at least `bytes` are held.
    pub(crate) fn grow_to(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let Some(more) = bytes.checked_sub(self.bytes).filter(|&more| more > 0) else { return Ok(()) };
        self.in_flight.take(&self.tenant, more, self.bytes)?;
        self.bytes = bytes;
        Ok(())
    }

    /// Holds exactly `bytes` from here on, even beyond the maximum: what is in memory already must be counted.
    pub(crate) fn set(&mut self, bytes: usize) {
        let held = std::mem::replace(&mut self.bytes, bytes);
        self.in_flight.held.lock().change(&self.tenant, bytes, held);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracehouse_model::ManualClock;

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).expect("a valid name")
    }

    #[test]
    fn room_is_given_back() {
        let in_flight = InFlight::new(100, Arc::new(ManualClock::default()));
        let only = tenant("only");
        let mut first = in_flight.reserve(&only, 60).expect("room");
        assert_eq!(in_flight.reserve(&only, 41).err(), Some(NoRoom));
        let second = in_flight.reserve(&only, 40).expect("room");
        assert_eq!(first.grow_to(61), Err(NoRoom));
        drop(second);
        assert_eq!(first.grow_to(61), Ok(()));
        assert_eq!(first.grow_to(10), Ok(()));
        assert_eq!(in_flight.bytes(), 61);
        first.set(500);
        assert_eq!(in_flight.bytes(), 500);
        drop(first);
        assert_eq!(in_flight.bytes(), 0);
        assert!(in_flight.held.lock().by_tenant.is_empty(), "nothing is kept of a tenant that holds nothing");
    }

    #[test]
    fn a_tenant_leaves_half_to_others() {
        let clock = Arc::new(ManualClock::default());
        let in_flight = InFlight::new(100, clock.clone());
        let (loud, quiet) = (tenant("loud"), tenant("quiet"));
        // Alone it may have everything.
        let mut requests: Vec<_> = (0..10).map(|_| in_flight.reserve(&loud, 10).expect("room")).collect();
        assert_eq!(in_flight.reserve(&quiet, 10).err(), Some(NoRoom));
        // Another waits: what comes free is for it.
        requests.truncate(6);
        assert_eq!(in_flight.reserve(&loud, 10).err(), Some(NoRoom));
        let first = in_flight.reserve(&quiet, 30).expect("room");
        requests.truncate(4);
        requests.push(in_flight.reserve(&loud, 10).expect("room up to the half"));
        assert_eq!(in_flight.reserve(&loud, 10).err(), Some(NoRoom));
        let second = in_flight.reserve(&quiet, 20).expect("room up to the half");
        drop((first, second));
        // Who was sent away does not come back: after a while all is free again.
        assert_eq!(in_flight.reserve(&loud, 50).err(), Some(NoRoom));
        clock.advance(WAITING);
        requests.push(in_flight.reserve(&loud, 50).expect("room"));
    }

    #[test]
    fn the_only_request_of_a_tenant_may_be_large() {
        let in_flight = InFlight::new(100, Arc::new(ManualClock::default()));
        let quiet = in_flight.reserve(&tenant("quiet"), 10).expect("room");
        let mut large = in_flight.reserve(&tenant("loud"), 40).expect("room");
        assert_eq!(large.grow_to(80), Ok(()));
        assert_eq!(in_flight.reserve(&tenant("loud"), 5).err(), Some(NoRoom), "a second one not");
        assert_eq!(large.grow_to(90), Ok(()));
        drop((quiet, large));
        assert_eq!(in_flight.bytes(), 0);
    }

    /// A body of which so many bytes have come.
    async fn body(in_flight: &Arc<InFlight>, of: &TenantId, bytes: usize) -> Arrival {
        let mut body = in_flight.begin(of);
        body.grow_to(bytes).await.expect("room");
        body.moved(bytes);
        body
    }

    #[tokio::test]
    async fn still_bodies_end_where_others_need_their_room() {
        let clock = Arc::new(ManualClock::default());
        let in_flight = InFlight::new(10 * MOVING_BYTES, clock.clone());
        let (one, two, quiet) = (tenant("one"), tenant("two"), tenant("quiet"));
        let mut bodies = Vec::new();
        for number in 0..10 {
            bodies.push(body(&in_flight, if number % 2 == 0 { &one } else { &two }, MOVING_BYTES).await);
            clock.advance(Duration::from_millis(1));
        }
        let mut sent = in_flight.begin(&quiet);
        assert_eq!(sent.grow_to(MOVING_BYTES).await, Err(NoRoom), "all that are there may still move on");
        assert!(sent.may_come_free(MOVING_BYTES) && !sent.may_come_free(11 * MOVING_BYTES));
        clock.advance(MOVING_TIME);
        let moving = bodies.pop().expect("the last one");
        moving.moved(2 * MOVING_BYTES);
        // Each ends when it is told to, as its request does.
        let ends = bodies.into_iter().enumerate().map(|(number, body)| async move {
            body.end().notified().await;
            drop(body);
            number
        });
        let mut ends: Vec<_> = ends.map(tokio::spawn).collect();
        sent.grow_to(2 * MOVING_BYTES).await.expect("room of still ones");
        let rest = ends.split_off(2);
        for (number, end) in ends.into_iter().enumerate() {
            assert_eq!(end.await.ok(), Some(number), "the longest still first");
        }
        assert!(rest.iter().all(|end| !end.is_finished()), "no more than needed");
        assert!(in_flight.held.lock().arriving.contains_key(&moving.place.number), "one that moves goes on");
        rest.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test]
    async fn a_body_that_drips_does_not_move_on() {
        let clock = Arc::new(ManualClock::default());
        let in_flight = InFlight::new(MOVING_BYTES, clock.clone());
        let mut dripping = body(&in_flight, &tenant("loud"), 100).await;
        for bytes in 101..104 {
            clock.advance(MOVING_TIME / 2);
            dripping.grow_to(bytes).await.expect("room");
            dripping.moved(bytes);
        }
        assert!(in_flight.end_still_ones(1));
        tokio::time::timeout(MOVING_TIME, dripping.end().notified()).await.expect("it is told to end");
        let complete = dripping.complete();
        assert!(in_flight.held.lock().arriving.is_empty(), "a complete body is none that arrives");
        assert_eq!(in_flight.bytes(), 103);
        drop(complete);
    }

    #[test]
    fn invented_tenants_leave_nothing() {
        let in_flight = InFlight::new(100, Arc::new(ManualClock::default()));
        let loud = in_flight.reserve(&tenant("loud"), 100).expect("room");
        for number in 0..5_000 {
            assert_eq!(in_flight.reserve(&tenant(&format!("t{number}")), 1).err(), Some(NoRoom));
        }
        drop(loud);
        for number in 0..5_000 {
            in_flight.reserve(&tenant(&format!("t{number}")), 1).expect("room");
        }
        assert!(in_flight.held.lock().by_tenant.is_empty());
    }
}
