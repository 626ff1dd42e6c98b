//! Each tenant's share of the memory for spans, so that one that sends more than can be written leaves room for the others.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tracehouse_model::TenantId;

use crate::error::AppendError;
use crate::store::Shared;
use crate::troubles::Work;

/// A tenant that is not the only one may hold this part of the memory …
pub(crate) const SHARE: usize = 2;
/// … and this part while its spans can't be written to files.
const SHARE_WHILE_FAILING: usize = 8;
const RETRY_WHEN_BUSY: Duration = Duration::from_secs(1);
const RETRY_WHILE_FAILING: Duration = Duration::from_secs(30);

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

impl Shared {
    /// Whether there is room for more spans of a tenant, whatever the size of these: one batch may go beyond.
    pub(crate) fn admit_share(&self, tenant: &TenantId, bytes: usize) -> Result<OnTheWay, AppendError> {
        let bytes_max = self.config.hot_bytes_max;
        let busy = |reason: String, retry_after| Err(AppendError::Busy { retry_after, reason });
        if self.state.hot_bytes() + self.log().queued_bytes() >= bytes_max {
            self.flush_wanted.ring();
            return busy("spans arrive faster than they can be written".into(), RETRY_WHEN_BUSY);
        }
        let is_failing = self.troubles.is_failing(&Work::Flush(tenant.clone()));
        let share = match (self.state.is_only_tenant(tenant), is_failing) {
            (true, _) => bytes_max,
            (false, true) => bytes_max / SHARE_WHILE_FAILING,
            (false, false) => bytes_max / SHARE,
        };
        let mut of_tenants = self.admitted.of_tenants.lock();
        let on_the_way = of_tenants.get(tenant).copied().unwrap_or(0);
        if self.state.hot_bytes_of(tenant) + on_the_way >= share {
            drop(of_tenants);
            metrics::counter!("tracehouse_store_share_refusals_total").increment(1);
            if is_failing {
                let reason = format!("the spans of tenant {tenant} can't be written to files at the moment");
                return busy(reason, RETRY_WHILE_FAILING);
            }
            self.flush_wanted.ring();
            return busy(
                format!("the spans of tenant {tenant} arrive faster than they can be written"),
                RETRY_WHEN_BUSY,
            );
        }
        *of_tenants.entry(tenant.clone()).or_default() += bytes;
        Ok(OnTheWay { admitted: self.admitted.clone(), tenant: tenant.clone(), bytes })
    }
}
