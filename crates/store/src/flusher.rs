//! When memory is written to files.

use std::time::Duration;

use tracehouse_model::TenantId;

use crate::flush_round::{Which, flush};
use crate::keeper::{chain, contained};
use crate::share::SHARE;
use crate::store::Shared;
use crate::troubles::Work;

const TICK: Duration = Duration::from_millis(200);

/// Flushes when there is enough or when it is time. Runs on its own thread until the store stops.
pub(crate) fn run_flusher(shared: &Shared, begin: Duration) {
    let mut last = begin;
    while !shared.stopping() {
        shared.flush_wanted.wait(TICK);
        shared.report_gauges();
        let now = shared.clock.monotonic();
        match due(shared, now.saturating_sub(last)) {
            Due::Nothing => last = now,
            Due::Later => {}
            Due::Now => {
                // Whoever failed has said so; a panic outside one tenant's work has not.
                let outcome = contained(|| Ok(flush(shared, Which::Due).map_or(0, |report| report.tenants_left)));
                match outcome {
                    // Those that were left are due at once.
                    Ok(1..) => shared.flush_wanted.raise(),
                    // From its beginning: what came in meanwhile waits no longer than anything else.
                    Ok(0) => last = now,
                    Err(error) => {
                        shared.troubles.failed(Work::Commit, chain(&error));
                        last = now;
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
