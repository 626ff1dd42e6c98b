use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tracehouse_model::{Clock, SeededMap, SeededSet, TenantId};

const REFUSED: &str = "tracehouse_pipeline_refused_tenants_total";
/// A tenant that was let in and of which nothing is stored loses its place after so long.
const PLACE_KEPT: Duration = Duration::from_secs(60);
/// Which tenants still have spans is asked at most so often.
const STORED_ASKED_INTERVAL: Duration = Duration::from_secs(1);
/// Refused tenants are named in the log at most so often.
const LOGGED_INTERVAL: Duration = Duration::from_secs(60);

/// Tells which tenants have spans in the store.
type StoredTenants = Box<dyn Fn() -> Vec<TenantId> + Send + Sync>;

/// Whose spans may come in: of the configured tenants, or, if none is configured, of any up to a limit. A tenant costs a
/// folder, files and memory of its own, and anybody can invent names by the thousand.
///
/// A tenant takes its place with its first spans ([`TenantGate::enter`]) and has it for as long as any of them are stored.
pub struct TenantGate {
    configured: SeededSet<TenantId>,
    tenants_max: usize,
    stored: StoredTenants,
    clock: Arc<dyn Clock>,
    places: Mutex<Places>,
}

struct Places {
    /// With the last time, on the monotonic clock, at which spans came in.
    taken: SeededMap<TenantId, Duration>,
    stored_asked_next: Duration,
    refused_since_logged: u64,
    logged_next: Duration,
}

/// Nothing is taken from a tenant, now or later. The sender must not try again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TenantRefusal {
    #[error(
        "the tenant {0} is not known here; name a known one in the header X-Scope-OrgID, or add it to `tenants` in the \
         server's configuration"
    )]
    Unknown(TenantId),
    #[error(
        "the tenant {tenant} is new, and this server takes no more than {tenants_max} tenants; check the header \
         X-Scope-OrgID, or raise limits.tenants_max"
    )]
    TooMany { tenant: TenantId, tenants_max: usize },
}

impl TenantGate {
    /// `configured`: the tenants that may send; none means any, up to `tenants_max`. `stored` tells which tenants have spans in
    /// the store.
    pub fn new(
        configured: impl IntoIterator<Item = TenantId>,
        tenants_max: usize,
        stored: impl Fn() -> Vec<TenantId> + Send + Sync + 'static,
        clock: Arc<dyn Clock>,
    ) -> Self {
        metrics::describe_counter!(REFUSED, "Requests of tenants whose spans are not taken, by reason");
        let now = clock.monotonic();
        let places = Places {
            taken: stored().into_iter().map(|tenant| (tenant, now)).collect(),
            stored_asked_next: now + STORED_ASKED_INTERVAL,
            refused_since_logged: 0,
            logged_next: now,
        };
        Self {
            configured: configured.into_iter().collect(),
            tenants_max,
            stored: Box::new(stored),
            clock,
            places: Mutex::new(places),
        }
    }

    /// Whether spans of a tenant would be let in. Takes no place, so that a request that holds nothing costs none.
    pub fn check(&self, tenant: &TenantId) -> Result<(), TenantRefusal> {
        self.judge(tenant, false)
    }

    /// Lets spans of a tenant in, which takes a place if it is new.
    pub fn enter(&self, tenant: &TenantId) -> Result<(), TenantRefusal> {
        self.judge(tenant, true)
    }

    fn judge(&self, tenant: &TenantId, takes_place: bool) -> Result<(), TenantRefusal> {
        if !self.configured.is_empty() {
            let known = self.configured.contains(tenant);
            return if known { Ok(()) } else { Err(self.refused(TenantRefusal::Unknown(tenant.clone()))) };
        }
        let now = self.clock.monotonic();
        let mut places = self.places.lock();
        if let Some(last) = places.taken.get_mut(tenant) {
            *last = now;
            return Ok(());
        }
        if places.taken.len() >= self.tenants_max && now >= places.stored_asked_next {
            places.stored_asked_next = now + STORED_ASKED_INTERVAL;
            self.free_places(&mut places, now);
        }
        if places.taken.len() >= self.tenants_max {
            drop(places);
            let refusal = TenantRefusal::TooMany { tenant: tenant.clone(), tenants_max: self.tenants_max };
            return Err(self.refused(refusal));
        }
        if takes_place {
            places.taken.insert(tenant.clone(), now);
        }
        Ok(())
    }

    /// Takes their places from tenants of which nothing is stored any more.
    fn free_places(&self, places: &mut Places, now: Duration) {
        let stored: SeededSet<TenantId> = (self.stored)().into_iter().collect();
        places.taken.retain(|tenant, last| stored.contains(tenant) || now - *last < PLACE_KEPT);
    }

    /// Counts a refusal, and names the tenant in the log unless one was named a moment ago.
    fn refused(&self, refusal: TenantRefusal) -> TenantRefusal {
        let reason = match &refusal {
            TenantRefusal::Unknown(_) => "unknown",
            TenantRefusal::TooMany { .. } => "too_many",
        };
        metrics::counter!(REFUSED, "reason" => reason).increment(1);
        let now = self.clock.monotonic();
        let mut places = self.places.lock();
        places.refused_since_logged += 1;
        if now >= places.logged_next {
            places.logged_next = now + LOGGED_INTERVAL;
            let requests = std::mem::take(&mut places.refused_since_logged);
            drop(places);
            tracing::warn!(requests, last = %refusal, "refused requests of tenants");
        }
        refusal
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracehouse_model::ManualClock;

    fn tenant(number: usize) -> TenantId {
        TenantId::new(&format!("t{number}")).expect("a valid name")
    }

    /// A gate for three tenants, over a store whose tenants the test sets.
    fn gate(configured: &[usize]) -> (TenantGate, Arc<ManualClock>, Arc<Mutex<Vec<TenantId>>>) {
        let clock = Arc::new(ManualClock::default());
        let stored: Arc<Mutex<Vec<TenantId>>> = Arc::default();
        let asked = stored.clone();
        let configured = configured.iter().map(|&number| tenant(number));
        (TenantGate::new(configured, 3, move || asked.lock().clone(), clock.clone()), clock, stored)
    }

    #[test]
    fn tenants_come_in_up_to_the_limit() {
        let (gate, _, _) = gate(&[]);
        for number in 0..5_000 {
            assert_eq!(gate.check(&tenant(number)), Ok(()), "to ask takes no place");
        }
        for number in 0..3 {
            assert_eq!(gate.enter(&tenant(number)), Ok(()));
        }
        for number in 3..5_000 {
            let refusal = gate.enter(&tenant(number)).expect_err("refused");
            assert_eq!(refusal, TenantRefusal::TooMany { tenant: tenant(number), tenants_max: 3 });
            assert!(refusal.to_string().contains("limits.tenants_max"), "{refusal}");
        }
        assert_eq!((gate.check(&tenant(0)), gate.enter(&tenant(2))), (Ok(()), Ok(())));
        assert_eq!(gate.places.lock().taken.len(), 3, "nothing is kept of those that were refused");
    }

    #[test]
    fn configured_tenants_come_in_and_no_others() {
        let (gate, _, stored) = gate(&[0, 1, 2, 3, 4]);
        stored.lock().push(tenant(7));
        for number in 0..5 {
            assert_eq!(gate.enter(&tenant(number)), Ok(()), "the list is the limit");
        }
        for refused in [tenant(7), TenantId::default()] {
            let refusal = gate.check(&refused).expect_err("refused");
            assert!(refusal.to_string().contains(&format!("the tenant {refused} is not known here")), "{refusal}");
        }
    }

    #[test]
    fn a_tenant_keeps_its_place_while_anything_of_it_is_stored() {
        let (gate, clock, stored) = gate(&[]);
        (0..3).for_each(|number| gate.enter(&tenant(number)).expect("room"));
        *stored.lock() = vec![tenant(0)];
        assert!(gate.enter(&tenant(3)).is_err(), "what came in a moment ago may be on its way into the store");
        clock.advance(PLACE_KEPT);
        gate.enter(&tenant(1)).expect("it has its place");
        gate.enter(&tenant(3)).expect("the place of 2, of which nothing is stored");
        assert!(gate.enter(&tenant(2)).is_err());
        clock.advance(PLACE_KEPT);
        (4..6).for_each(|number| gate.enter(&tenant(number)).expect("the places of 1 and 3"));
        assert!(gate.check(&tenant(6)).is_err(), "that of 0 is not free");
    }

    #[test]
    fn stored_tenants_have_their_places_from_the_start() {
        let clock: Arc<ManualClock> = Arc::default();
        let gate = TenantGate::new([], 2, || (0..3).map(tenant).collect(), clock);
        assert!(gate.enter(&tenant(5)).is_err());
        assert_eq!(gate.enter(&tenant(2)), Ok(()), "those that are stored go on, were they more than the limit");
    }
}
