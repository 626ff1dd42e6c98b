//! When memory is written to files.

use std::time::Duration;

use tracehouse_model::{Bell, TenantId};

use crate::admit::SHARE;
use crate::error::{chain, contained};
use crate::flush_round::{Which, flush};
use crate::shared::Shared;
use crate::troubles::Work;
use crate::worker::Worker;

/// Flushes when there is enough or when it is time.
pub(crate) struct Flusher {
    /// When it began last, on the monotonic clock.
    last: Duration,
}

impl Worker for Flusher {
    const NAME: &'static str = "flusher";
    const TICK: Duration = Duration::from_millis(200);

    fn new(begin: Duration) -> Self {
        Self { last: begin }
    }

    fn wanted(shared: &Shared) -> &Bell {
        &shared.flush_wanted
    }

    fn round(&mut self, shared: &Shared) {
        shared.report_gauges();
        let now = shared.clock.monotonic();
        match due(shared, now.saturating_sub(self.last)) {
            Due::Nothing => self.last = now,
            Due::Later => {}
            Due::Now => {
                // Whoever failed has said so; a panic outside one tenant's work has not.
                let outcome = contained(|| Ok(flush(shared, Which::Due).map_or(0, |report| report.tenants_left)));
                match outcome {
                    // Those that were left are due at once.
                    Ok(1..) => shared.flush_wanted.ring(),
                    // From its beginning: what came in meanwhile waits no longer than anything else.
                    Ok(0) => self.last = now,
                    Err(error) => {
                        shared.troubles.failed(Work::Commit, chain(&error));
                        self.last = now;
                    }
                }
            }
        }
    }
}

enum Due {
    /// There is nothing to flush, apart from what waits after a failure.
    Nothing,
    Later,
    Now,
}

fn due(shared: &Shared, since_last: Duration) -> Due {
    if shared.troubles.must_wait(&Work::Commit) {
        return Due::Later;
    }
    let failing = shared.troubles.failing_tenants();
    if failing.iter().any(|(_, retry_now)| *retry_now) {
        return Due::Now;
    }
    let waiting: Vec<TenantId> = failing.into_iter().map(|(tenant, _)| tenant).collect();
    let hot = shared.state.hot_except(&waiting);
    let bytes_max = shared.config.hot_bytes_max;
    let is_enough = hot.bytes >= shared.config.flush_bytes.min(bytes_max / 2);
    // The other half of a tenant's share is for what comes in while the first is written.
    let nears_its_share = hot.tenants > 1 && hot.bytes_of_largest >= bytes_max / SHARE / 2;
    let is_time = hot.bytes > 0 && since_last >= shared.config.flush_interval;
    match hot.bytes {
        0 => Due::Nothing,
        _ if is_enough || nears_its_share || is_time => Due::Now,
        _ => Due::Later,
    }
}
