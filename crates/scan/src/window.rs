//! Which spans a range of times selects.

use std::ops::Range;

use tracehouse_store::{SpanFile, Unreadable};

/// A range of times, in nanoseconds since the Unix epoch, and what lies in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    range: Range<i64>,
    overlapping: bool,
}

impl Window {
    /// Of spans that begin in a range.
    pub fn starting(range: Range<i64>) -> Self {
        Self { range, overlapping: false }
    }

    /// Of spans of which a moment lies in a range: those that begin in it, and earlier ones that end after its begin.
    pub fn overlapping(range: Range<i64>) -> Self {
        Self { range, overlapping: true }
    }

    pub fn range(&self) -> &Range<i64> {
        &self.range
    }

    /// Whether spans that begin before the range may lie in it.
    pub(crate) fn is_overlapping(&self) -> bool {
        self.overlapping
    }

    /// Whether it selects a span. One that claims to end before it begins ends where it begins.
    pub fn selects(&self, start_unix_nanos: i64, duration_nanos: i64) -> bool {
        self.range.contains(&start_unix_nanos)
            || self.overlapping
                && start_unix_nanos < self.range.start.min(self.range.end)
                && start_unix_nanos.saturating_add(duration_nanos) > self.range.start
    }

    /// Whether it may select any of some spans, by when the first and the last of them begin and the last to end ends.
    pub fn may_select(&self, first_start: i64, last_start: i64, latest_end: i64) -> bool {
        first_start < self.range.end
            && (last_start >= self.range.start || self.overlapping && latest_end > self.range.start)
    }

    /// Whether it selects all spans that begin between two moments, however long they are.
    pub fn selects_all(&self, first_start: i64, last_start: i64) -> bool {
        self.range.contains(&first_start) && self.range.contains(&last_start)
    }

    /// Whether the end of a span matters that begins at a moment, if none is longer than so many nanoseconds.
    pub(crate) fn depends_on_end(&self, start_unix_nanos: i64, longest_nanos: i64) -> bool {
        !self.range.contains(&start_unix_nanos) && self.selects(start_unix_nanos, longest_nanos)
    }

    /// Whether a file may have spans that it selects.
    pub fn may_select_of(&self, file: &SpanFile) -> bool {
        self.may_select(file.record.start_min, file.record.start_max, file.latest_end())
    }

    /// The same of a file that can't be read. Where nobody knows when its spans end, it counts in the range in which they
    /// begin: else one that is lost would take something from all later answers.
    pub(crate) fn may_select_of_unreadable(&self, file: &Unreadable) -> bool {
        self.may_select(file.start_min, file.start_max, file.end_max.unwrap_or(i64::MIN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YEARS: i64 = 3 * 365 * 86_400_000_000_000;

    #[test]
    fn spans_are_selected_by_start_or_by_overlap() {
        // Start, duration, whether it begins in 100..200, whether it overlaps that.
        let table = [
            (100, 0, true, true),
            (99, 0, false, false),
            (199, 0, true, true),
            (200, 0, false, false),
            (200, 50, false, false),
            // It ends where the range begins.
            (50, 50, false, false),
            (50, 51, false, true),
            // The range lies inside the span.
            (50, 1000, false, true),
            (150, 1000, true, true),
            (100 - YEARS, YEARS, false, false),
            (100 - YEARS, YEARS + 1, false, true),
            // It claims to end before it begins.
            (150, -100, true, true),
            (99, -5, false, false),
            (250, -100, false, false),
            // Its end lies beyond all times.
            (50, i64::MAX, false, true),
            (i64::MIN, i64::MAX, false, false),
            (i64::MAX, i64::MAX, false, false),
        ];
        let (starting, overlapping) = (Window::starting(100..200), Window::overlapping(100..200));
        for (start, duration, starts, overlaps) in table {
            assert_eq!(starting.selects(start, duration), starts, "{start} {duration}");
            assert_eq!(overlapping.selects(start, duration), overlaps, "{start} {duration}");
            for (window, selected) in [(&starting, starts), (&overlapping, overlaps)] {
                let latest_end = start.saturating_add(duration.max(0));
                let may = window.may_select(start, start, latest_end);
                assert_eq!(may, selected, "what is known of a file of one span tells: {window:?} {start} {duration}");
                let known = window.selects_all(start, start) || window.depends_on_end(start, duration);
                assert_eq!(known, selected, "{window:?} {start} {duration}");
            }
        }
        for moment in [i64::MIN, 0, i64::MAX - 1] {
            let ever = i64::MIN..i64::MAX;
            assert!(Window::overlapping(ever.clone()).selects(moment, 0) && Window::starting(ever).selects(moment, 0));
        }
    }
}
