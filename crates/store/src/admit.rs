//! Whether spans may come in. Each tenant has its share of the memory for spans, so that one that sends more than can be written leaves
//! room for the others.

use std::time::Duration;

use tracehouse_model::TenantId;

use crate::share::OnTheWay;
use crate::shared::Shared;
use crate::troubles::Work;
use tracehouse_log::AppendError;

/// A tenant that is not the only one may hold this part of the memory …
pub(crate) const SHARE: usize = 2;
/// … and this part while its spans can't be written to files.
const SHARE_WHILE_FAILING: usize = 8;
const RETRY_WHEN_BUSY: Duration = Duration::from_secs(1);
const RETRY_WHILE_FAILING: Duration = Duration::from_secs(30);
const RETRY_WHEN_FULL: Duration = Duration::from_secs(10);
impl Shared {
    /// Whether a batch may come in now.
    pub(crate) fn admit(&self, tenant: &TenantId, bytes: usize) -> Result<OnTheWay, AppendError> {
        if self.stopping() {
            return Err(AppendError::ShuttingDown);
        }
        if let Some(reason) = self.log().failure() {
            return Err(AppendError::Failed { reason });
        }
        if let Some(reason) = self.another_writes.get() {
            return Err(AppendError::Failed { reason: reason.clone() });
        }
        if self.disk_is_full() {
            let reason = "the disk is nearly full".to_owned();
            return Err(AppendError::DiskFull { retry_after: RETRY_WHEN_FULL, reason });
        }
        self.admit_share(tenant, bytes)
    }

    /// Whether there is room for more spans of a tenant, whatever the size of these: one batch may go beyond.
    fn admit_share(&self, tenant: &TenantId, bytes: usize) -> Result<OnTheWay, AppendError> {
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
        let Some(on_the_way) = self.admitted.admit(tenant, bytes, share, || self.state.hot_bytes_of(tenant)) else {
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
        };
        Ok(on_the_way)
    }
}
