//! When requests arrive: a daily rhythm, a sparse history, then the live rate.

use crate::randomness::{Purpose, stream};
use rand::Rng;
use rand::rngs::StdRng;
use std::f64::consts::TAU;
use std::time::Duration;

pub const SECOND: u64 = 1_000_000_000;
const HOUR: u64 = 3_600 * SECOND;

/// History is sent at this fraction of the live rate …
const HISTORY_RATE_SHARE: f64 = 0.1;
/// … and never holds more traces than this, so that the back-fill of a month ends as soon as that of a day.
pub const HISTORY_TRACES_MAX: f64 = 60_000.0;
/// The live rate starts out as asked and takes on the daily rhythm over this time.
const RHYTHM_FADE_IN: u64 = 6 * HOUR;

/// The span of simulated time; all times are nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub struct Timeline {
    /// Where live traffic begins.
    pub start: u64,
    /// Nanoseconds of history before `start`.
    pub history: u64,
    /// Where traffic ends, if it does.
    pub end: Option<u64>,
    /// Traces per second from `start` on.
    pub rate: f64,
}

impl Timeline {
    pub fn new(start: u64, history: Duration, duration: Option<Duration>, rate: f64) -> Timeline {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX / 4);
        Timeline { start, history: nanos(history).min(start), end: duration.map(|live| start + nanos(live)), rate }
    }

    pub fn history_start(&self) -> u64 {
        self.start - self.history
    }

    /// Expected traces per second at `at`.
    pub fn rate_at(&self, at: u64) -> f64 {
        if at < self.start {
            let history_s = self.history as f64 / SECOND as f64;
            let base = (self.rate * HISTORY_RATE_SHARE).min(HISTORY_TRACES_MAX / history_s);
            return base * load_at(at);
        }
        let fade = ((at - self.start) as f64 / RHYTHM_FADE_IN as f64).min(1.0);
        self.rate * (1.0 + fade * (load_at(at) - 1.0))
    }
}

/// Load of the shop by time of day (UTC), 1 on average: quiet before dawn, a shoulder at noon, busiest in the evening.
pub fn load_at(at: u64) -> f64 {
    let hour = (at % (24 * HOUR)) as f64 / HOUR as f64;
    1.0 + 0.52 * (TAU * (hour - 18.5) / 24.0).cos() + 0.17 * (TAU * (hour - 12.5) / 12.0).cos()
}

/// One request to simulate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    pub index: u64,
    pub at: u64,
}

/// The arrivals of a timeline in order: a Poisson process whose rate follows the rhythm.
pub struct Arrivals {
    timeline: Timeline,
    rng: StdRng,
    now: u64,
    index: u64,
}

impl Arrivals {
    pub fn new(seed: u64, timeline: Timeline) -> Arrivals {
        Arrivals { timeline, rng: stream(seed, Purpose::Arrivals, 0), now: timeline.history_start(), index: 0 }
    }
}

impl Iterator for Arrivals {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        let unit = 1.0 - self.rng.random::<f64>();
        let gap_s = -unit.ln() / self.timeline.rate_at(self.now);
        let next = self.now + (gap_s * SECOND as f64) as u64;
        // The sparse history must not leap over the start of the live part.
        self.now = if self.now < self.timeline.start { next.min(self.timeline.start) } else { next };
        if self.timeline.end.is_some_and(|end| self.now >= end) {
            return None;
        }
        self.index += 1;
        Some(Arrival { index: self.index - 1, at: self.now })
    }
}
