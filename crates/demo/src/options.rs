//! What the caller chooses, and what a run comes to.

use clap::Args;
use serde::Serialize;
use std::path::PathBuf;
use std::time::Duration;

/// More would be a load test, which is not what a demo is for.
const RATE_MAX: f64 = 2_000.0;
const HISTORY_MAX: Duration = Duration::from_secs(31 * 24 * 3_600);

/// Options of `tracehouse demo`.
#[derive(Args, Clone, Debug)]
pub struct DemoOptions {
    /// OTLP/gRPC endpoint to send to.
    #[arg(long, default_value = "http://127.0.0.1:4317")]
    pub endpoint: String,
    /// Live traffic, in traces per second.
    #[arg(long, default_value_t = 20.0, value_parser = parse_rate)]
    pub rate: f64,
    /// The same seed gives the same shop, problems and traces.
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Write what was injected to this JSON file, every few seconds and at the end.
    #[arg(long, value_name = "FILE")]
    pub facts: Option<PathBuf>,
    /// Stop after this much live traffic (such as 30s or 5m); without it, go on until interrupted.
    #[arg(long, value_parser = parse_duration)]
    pub duration: Option<Duration>,
    /// First send this much history (such as 1h or 7d), sparser than live traffic.
    #[arg(long, value_parser = parse_history)]
    pub history: Option<Duration>,
    /// Tenant to send as (metadata `x-scope-orgid`).
    #[arg(long)]
    pub tenant: Option<String>,
}

/// What a run sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DemoSummary {
    /// Traces with at least one span.
    pub traces_generated: u64,
    /// Traces of which every span was acknowledged.
    pub traces_acknowledged: u64,
    /// Traces the simulated head sampler dropped; no span of them exists.
    pub sampled_out: u64,
    pub spans_generated: u64,
    /// Spans in acknowledged requests, redelivered copies not counted.
    pub spans_acknowledged: u64,
    /// Spans the receiver refused for good in a partial success.
    pub spans_rejected: u64,
    /// Spans given up after a final error or too many attempts.
    pub spans_abandoned: u64,
    /// Acknowledged requests, redelivered copies not counted.
    pub requests_acknowledged: u64,
    /// Attempts that met a retryable error.
    pub requests_retried: u64,
}

/// Parses `90s`, `5m`, `1h30m`, `7d`, `250ms`; units from days down to milliseconds.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let problem = || format!("`{text}` is not a duration; write it like 30s, 5m, 1h30m or 7d");
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(problem());
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(problem)?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, next) = tail.split_at(letters);
        let count: u32 = number.parse().map_err(|_| problem())?;
        let unit = match unit {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3_600),
            "d" => Duration::from_secs(86_400),
            _ => return Err(problem()),
        };
        total = unit.checked_mul(count).and_then(|part| total.checked_add(part)).ok_or_else(problem)?;
        rest = next;
    }
    Ok(total)
}

fn parse_history(text: &str) -> Result<Duration, String> {
    let history = parse_duration(text)?;
    if history > HISTORY_MAX { Err("the history may be at most 31d".to_owned()) } else { Ok(history) }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| format!("`{text}` is not a number of traces per second"))?;
    if rate > 0.0 && rate <= RATE_MAX {
        Ok(rate)
    } else {
        Err(format!("the rate must lie above 0 and up to {RATE_MAX}"))
    }
}
