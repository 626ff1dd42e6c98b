use std::sync::Arc;
use std::time::Duration;

use metrics::gauge;
use parking_lot::Mutex;
use tracehouse_model::{Clock, SeededMap, TenantId};

const GAUGE: &str = "tracehouse_receive_in_flight_bytes";
/// A tenant that was sent away counts as waiting for so long: senders come back after a second or a few.
const WAITING: Duration = Duration::from_secs(10);

/// Bytes of requests being worked on, with a maximum. Who finds no room is sent away at once and never queued: a
/// queue would only move the memory elsewhere.
///
/// A tenant may hold all of it while no other sends, and half while another does: one that sends as much as it can leaves
/// room for those that send little. Its only request may be larger than half, or it could never be taken.
pub(crate) struct InFlight {
    bytes_max: usize,
    clock: Arc<dyn Clock>,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    bytes: usize,
    /// Only tenants that hold some.
    by_tenant: SeededMap<TenantId, usize>,
    /// The last tenant that was sent away while it held less than half, and until when, on the monotonic clock, it counts as
    /// waiting.
    waiting: Option<(TenantId, Duration)>,
}

/// There is no room; nothing was taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoRoom;

impl InFlight {
    pub(crate) fn new(bytes_max: usize, clock: Arc<dyn Clock>) -> Arc<Self> {
        Arc::new(Self { bytes_max, clock, held: Mutex::default() })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.held.lock().bytes
    }

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
