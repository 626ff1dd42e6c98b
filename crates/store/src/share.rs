//! The spans of each tenant that were admitted and are on their way into memory.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tracehouse_model::TenantId;

/// Bytes of spans that were admitted and are not in memory yet.
#[derive(Default)]
pub(crate) struct Admitted {
    of_tenants: Mutex<HashMap<TenantId, usize>>,
}

/// Spans on their way. They count until this is dropped.
pub(crate) struct OnTheWay {
    admitted: Arc<Admitted>,
    tenant: TenantId,
    bytes: usize,
}

impl Admitted {
    /// Admits spans of a tenant unless it holds its share already: `share` bytes, of which `hot` are in memory.
    pub(crate) fn admit(
        self: &Arc<Self>,
        tenant: &TenantId,
        bytes: usize,
        share: usize,
        hot: impl Fn() -> usize,
    ) -> Option<OnTheWay> {
        let mut of_tenants = self.of_tenants.lock();
        let on_the_way = of_tenants.get(tenant).copied().unwrap_or(0);
        if hot() + on_the_way >= share {
            return None;
        }
        *of_tenants.entry(tenant.clone()).or_default() += bytes;
        Some(OnTheWay { admitted: self.clone(), tenant: tenant.clone(), bytes })
    }
}

impl Drop for OnTheWay {
    fn drop(&mut self) {
        let mut of_tenants = self.admitted.of_tenants.lock();
        let Some(bytes) = of_tenants.get_mut(&self.tenant) else { return };
        *bytes = bytes.saturating_sub(self.bytes);
        if *bytes == 0 {
            of_tenants.remove(&self.tenant);
        }
    }
}
