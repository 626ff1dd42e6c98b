//! The steps of time of an answer, and how many examples it shows.

use std::ops::Range;

use tracehouse_scan::Window;

use crate::error::QueryError;
use crate::request::MetricsRequest;

/// Most points of a series.
const STEPS_MAX: i64 = 11_000;

/// The steps of time that all series of an answer share.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Steps {
    /// Begin of the first step.
    pub(crate) first: i64,
    /// Nanoseconds.
    pub(crate) length: i64,
    pub(crate) count: usize,
    /// Spans that begin here count.
    pub(crate) range: Range<i64>,
}

impl Steps {
    pub(crate) fn window(&self) -> Window {
        Window::starting(self.range.clone())
    }

    pub(crate) fn of(request: &MetricsRequest) -> Result<Self, QueryError> {
        let range = request.start_unix_nanos..request.end_unix_nanos;
        let Some(total) = range.end.checked_sub(range.start).filter(|total| *total > 0) else {
            return Err(QueryError::Invalid("the time range is empty or too long: start must be before end".into()));
        };
        let Some(length) = request.step_nanos else {
            return Ok(Self { first: range.start, length: total, count: 1, range });
        };
        if length <= 0 {
            return Err(QueryError::Invalid("the step must be longer than nothing, such as 15s".into()));
        }
        let first = range.start.div_euclid(length).saturating_mul(length);
        let count = range.end.saturating_sub(first).saturating_add(length - 1) / length;
        if count > STEPS_MAX {
            return Err(QueryError::Invalid(format!(
                "the range has {count} steps; at most {STEPS_MAX} are computed: choose a longer step or a shorter range"
            )));
        }
        Ok(Self { first, length, count: count as usize, range })
    }

    /// The step of a moment in the range.
    #[inline]
    pub(crate) fn of_start(&self, start_unix_nanos: i64) -> u32 {
        if self.count == 1 { 0 } else { ((start_unix_nanos - self.first) / self.length) as u32 }
    }

    /// The step in which all begins that begins between two moments; `None` if that may be several, or outside of the range.
    pub(crate) fn only_step(&self, first: i64, last: i64) -> Option<u32> {
        // Spans outside of the range were left out before.
        if self.count == 1 {
            return Some(0);
        }
        let inside = self.range.contains(&first) && self.range.contains(&last);
        (inside && self.of_start(first) == self.of_start(last)).then(|| self.of_start(first))
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.length as f64 / 1e9
    }
}

/// How many spans are shown as examples of what is behind a series.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Exemplars {
    pub(crate) of_series_max: usize,
    in_all_max: usize,
}

impl Exemplars {
    pub(crate) const NONE: Self = Self { of_series_max: 0, in_all_max: 0 };

    pub(super) fn of(request: &MetricsRequest) -> Self {
        let in_all_max = request.exemplars_in_all_max.unwrap_or(usize::MAX);
        Self { of_series_max: request.exemplars_max.min(in_all_max), in_all_max }
    }

    /// How many each of so many series may have.
    pub(super) fn of_each(self, series: usize) -> usize {
        self.in_all_max.div_ceil(series.max(1)).min(self.of_series_max)
    }
}
