//! Clocks and percentiles.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Durations, kept whole: runs are short enough.
#[derive(Default, Clone)]
pub(crate) struct Latencies {
    nanos: Vec<u64>,
}

impl Latencies {
    pub(crate) fn push(&mut self, latency: Duration) {
        self.nanos.push(latency.as_nanos() as u64);
    }

    pub(crate) fn add(&mut self, other: Latencies) {
        self.nanos.extend(other.nanos);
    }

    pub(crate) fn len(&self) -> usize {
        self.nanos.len()
    }

    /// The smallest latency that this share (0 to 1) of all do not exceed, in milliseconds; NaN if there are none.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        let mut sorted = self.nanos.clone();
        let rank = ((share * sorted.len() as f64).ceil() as usize).saturating_sub(1);
        if rank >= sorted.len() {
            return f64::NAN;
        }
        let (_, nanos, _) = sorted.select_nth_unstable(rank);
        *nanos as f64 / 1e6
    }

    /// `p50 1.2, p90 …` in milliseconds, for people.
    pub(crate) fn summary(&self) -> String {
        let at = |share| self.quantile_ms(share);
        format!(
            "p50 {:.2} ms, p90 {:.2} ms, p99 {:.2} ms, max {:.2} ms of {}",
            at(0.5),
            at(0.9),
            at(0.99),
            at(1.0),
            self.len()
        )
    }
}

/// CPU time of the calling thread.
pub(crate) fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// CPU time of this process.
pub(crate) fn process_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Nanoseconds since 1970.
pub(crate) fn now_unix_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
