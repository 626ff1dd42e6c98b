//! When small files are merged, and files that were out of reach are compared with the others.

use std::time::Duration;

use crate::compact::{Effort, compact};
use crate::held_back::compare_held_back;
use crate::keeper::{chain, contained};
use crate::store::Shared;

const TICK: Duration = Duration::from_secs(1);

/// Merges from time to time. Runs on its own thread until the store stops: files expire and are deleted meanwhile.
pub(crate) fn run_merger(shared: &Shared, begin: Duration) {
    let mut last = begin;
    while !shared.stopping() {
        shared.merger_wanted.wait(TICK);
        compare_held_back(shared);
        let now = shared.clock.monotonic();
        if now.saturating_sub(last) < shared.config.compaction_interval {
            continue;
        }
        last = now;
        // A merge that failed has said so, and waits by itself; a panic outside of one has not.
        let outcome = contained(|| {
            let _ = compact(shared, Effort::Routine);
            Ok(())
        });
        if let Err(error) = outcome {
            tracing::error!(error = chain(&error), "looking for files to merge failed; it is tried again");
        }
    }
}
