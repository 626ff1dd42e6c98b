//! When small files are merged, and files that were out of reach are compared with the others.

use std::time::Duration;

use tracehouse_model::Bell;

use crate::choose::Effort;
use crate::compact::compact;
use crate::error::{chain, contained};
use crate::held_back::compare_held_back;
use crate::shared::Shared;
use crate::worker::Worker;

/// Merges from time to time, while files expire and are deleted.
pub(crate) struct Merger {
    /// When it looked last, on the monotonic clock.
    last: Duration,
}

impl Worker for Merger {
    const NAME: &'static str = "merger";
    const TICK: Duration = Duration::from_secs(1);

    fn new(begin: Duration) -> Self {
        Self { last: begin }
    }

    fn wanted(shared: &Shared) -> &Bell {
        &shared.merger_wanted
    }

    fn round(&mut self, shared: &Shared) {
        compare_held_back(shared);
        let now = shared.clock.monotonic();
        if now.saturating_sub(self.last) < shared.config.compaction_interval {
            return;
        }
        self.last = now;
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
