//! Long-tailed durations: a log-normal body with a Pareto tail.

use rand::Rng;
use std::f64::consts::TAU;

/// One draw in this many comes from the tail.
const TAIL_ONE_IN: u32 = 80;
/// Pareto shape; below 2 the tail is heavy enough to show in a p99.
const TAIL_SHAPE: f64 = 1.6;
/// No draw is longer than this many times the body's draw.
const TAIL_FACTOR_MAX: f64 = 30.0;

/// A distribution of durations, described by its median and by the spread of its logarithm.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    median_ms: f64,
    sigma: f64,
}

/// The usual spread of work inside one process.
pub const fn ms(median_ms: f64) -> Latency {
    Latency { median_ms, sigma: 0.32 }
}

/// A wide spread, as for third parties and cold caches.
pub const fn wide_ms(median_ms: f64) -> Latency {
    Latency { median_ms, sigma: 0.75 }
}

impl Latency {
    /// Draws a duration in nanoseconds; `load` stretches it (1 is an average hour).
    pub fn sample(&self, rng: &mut impl Rng, load: f64) -> u64 {
        let body = self.median_ms * 1e6 * load * (self.sigma * standard_normal(rng)).exp();
        let tail = if rng.random_ratio(1, TAIL_ONE_IN) { pareto(rng).min(TAIL_FACTOR_MAX) } else { 1.0 };
        (body * tail).max(200.0) as u64
    }
}

/// Box-Muller; one of the pair is enough here.
fn standard_normal(rng: &mut impl Rng) -> f64 {
    let radius = (-2.0 * open_unit(rng).ln()).sqrt();
    radius * (TAU * rng.random::<f64>()).cos()
}

fn pareto(rng: &mut impl Rng) -> f64 {
    open_unit(rng).powf(-1.0 / TAIL_SHAPE)
}

/// Uniform in (0, 1]: safe for logarithms and negative powers.
fn open_unit(rng: &mut impl Rng) -> f64 {
    1.0 - rng.random::<f64>()
}
