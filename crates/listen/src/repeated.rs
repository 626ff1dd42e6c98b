//! Faults that repeat: told once, then with a count.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

/// Decides when a fault is told: then nothing more is said of it for a while.
pub(crate) struct Repeated {
    quiet: Duration,
    counted: Mutex<Counted>,
}

#[derive(Default)]
struct Counted {
    told: Option<Instant>,
    untold: u64,
}

impl Repeated {
    pub(crate) fn new(quiet: Duration) -> Self {
        Self { quiet, counted: Mutex::default() }
    }

    /// Counts a fault; gives how many there were since the last that was told, this one included, if it should be told.
    pub(crate) fn count(&self) -> Option<u64> {
        let mut counted = self.counted.lock();
        counted.untold += 1;
        let now = Instant::now();
        if counted.told.is_some_and(|told| now - told < self.quiet) {
            return None;
        }
        counted.told = Some(now);
        Some(std::mem::take(&mut counted.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_the_first_and_then_counts() {
        let repeated = Repeated::new(Duration::from_secs(3600));
        assert_eq!(repeated.count(), Some(1));
        assert!((0..100).all(|_| repeated.count().is_none()));
        let repeated = Repeated { quiet: Duration::ZERO, ..repeated };
        assert_eq!(repeated.count(), Some(101));
    }
}
