//! What the answers of this interface have in common.

use http::Uri;
use tracehouse_query::Inspected;

use crate::params::{Parameters, TimeRange};
use crate::problem::Problem;
use crate::proto::tempopb::SearchMetrics;

/// An answer, and why it is not everything, with `N of M`, if it isn't.
pub(super) struct Found<T> {
    pub(super) answer: T,
    pub(super) partial_reason: Option<String>,
}

impl<T> Found<T> {
    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Found<U> {
        Found { answer: change(self.answer), partial_reason: self.partial_reason }
    }
}

/// `start` and `end` in seconds since 1970. A second that is named is meant whole, so the range ends after it.
pub(super) fn time_range_seconds(parameters: &Parameters) -> Result<TimeRange, Problem> {
    let seconds = |name: &str| {
        let parse = |text: &str| text.parse::<u32>().ok();
        parameters.parsed(name, parse, "whole seconds since 1970, such as 1769860800")
    };
    seconds_range(seconds("start")?, seconds("end")?)
}

/// The same of seconds; 0 is as good as none.
pub(super) fn seconds_range(start: Option<u32>, end: Option<u32>) -> Result<TimeRange, Problem> {
    const NANOS_PER_SECOND: i64 = 1_000_000_000;
    let given = |seconds: Option<u32>| seconds.filter(|seconds| *seconds > 0).map(i64::from);
    let end = given(end).map(|seconds| (seconds + 1) * NANOS_PER_SECOND);
    TimeRange::new(given(start).map(|seconds| seconds * NANOS_PER_SECOND), end)
}

/// How much was looked at: one job for each file and one for what is in memory. Fewer completed than there are means: not
/// the whole answer.
pub(super) fn search_metrics(inspected: &Inspected, traces: usize, complete: bool) -> SearchMetrics {
    let total_jobs = inspected.files_total + 1;
    let completed_jobs = if complete { total_jobs } else { inspected.files.min(total_jobs - 1) };
    SearchMetrics {
        inspected_traces: count(traces as u64),
        inspected_bytes: inspected.bytes,
        total_blocks: count(inspected.files_total),
        completed_jobs: count(completed_jobs),
        total_jobs: count(total_jobs),
        inspected_spans: inspected.spans,
    }
}

pub(super) fn count(count: u64) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

pub(super) fn parameters(uri: &Uri) -> Result<Parameters, Problem> {
    Parameters::lenient(uri)
}
