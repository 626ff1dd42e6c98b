//! Which questions may run at once: so many, and not all of one tenant.

use std::sync::Arc;

use parking_lot::Mutex;
use tracehouse_model::{SeededMap, TenantId};

/// Of all places this share is for tenants that have no question running.
const KEPT_SHARE: usize = 4;

/// See the module's documentation.
pub struct Places {
    most: usize,
    running: Mutex<Running>,
}

#[derive(Default)]
struct Running {
    all: usize,
    /// Of each tenant that has any.
    of_tenant: SeededMap<TenantId, usize>,
}

/// Free again when it is dropped.
pub struct TakenPlace {
    places: Arc<Places>,
    tenant: TenantId,
}

impl Places {
    pub fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, running: Mutex::default() })
    }

    /// A place for a question of a tenant, if there is one.
    pub fn take(self: &Arc<Self>, tenant: &TenantId) -> Option<TakenPlace> {
        let mut running = self.running.lock();
        let own = running.of_tenant.get(tenant).copied().unwrap_or(0);
        let open_to_it = if own == 0 { self.most } else { self.most - self.most / KEPT_SHARE };
        if running.all >= open_to_it {
            return None;
        }
        running.all += 1;
        running.of_tenant.insert(tenant.clone(), own + 1);
        Some(TakenPlace { places: self.clone(), tenant: tenant.clone() })
    }
}

impl Drop for TakenPlace {
    fn drop(&mut self) {
        let mut running = self.places.running.lock();
        running.all -= 1;
        if let Some(own) = running.of_tenant.get_mut(&self.tenant) {
            *own -= 1;
            if *own == 0 {
                running.of_tenant.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tenant_does_not_get_all() {
        let places = Places::new(8);
        let tenant = |name: &str| TenantId::new(name).expect("a valid name");
        let mut of_one: Vec<TakenPlace> = std::iter::from_fn(|| places.take(&tenant("one"))).collect();
        assert_eq!(of_one.len(), 6);
        let of_other = places.take(&tenant("other")).expect("it has none yet");
        assert!(places.take(&tenant("other")).is_none(), "and gets no more while it is full");
        let _of_third = places.take(&tenant("third")).expect("it has none yet");
        assert!(places.take(&tenant("fourth")).is_none(), "there are eight");
        of_one.truncate(3);
        assert!(places.take(&tenant("other")).is_some());
        drop((of_one, of_other));
        assert!(places.take(&tenant("one")).is_some());
        let only = Places::new(1);
        let _place = only.take(&tenant("one")).expect("it is free");
        assert!(only.take(&tenant("other")).is_none());
    }
}
