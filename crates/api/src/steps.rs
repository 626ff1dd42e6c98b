//! Which time a metrics query is about, and in which steps.

use std::ops::Range;

use crate::problem::Problem;

const NANOS_PER_SECOND: i64 = 1_000_000_000;
const RANGE_NANOS_DEFAULT: i64 = 3600 * NANOS_PER_SECOND;
/// Most steps of a series.
const STEPS_MAX: i64 = 11_000;
/// As many points as a chart shows well.
const STEPS_WANTED: i64 = 120;
/// Lengths of steps that people read easily, in seconds: from one second to one day.
const STEP_SECONDS: [i64; 17] = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 21_600, 43_200, 86_400];

/// Most exemplars of a series that can be asked for.
pub(crate) const EXEMPLARS_MAX: usize = 1000;

/// The range of a metrics query in nanoseconds since the Unix epoch. Without an end it ends now; without a start it
/// begins `length` (an hour if absent) before its end.
pub(crate) fn metrics_range(
    start: Option<i64>,
    end: Option<i64>,
    length: Option<i64>,
    now_unix_nanos: i64,
) -> Result<Range<i64>, Problem> {
    let end = end.unwrap_or(now_unix_nanos);
    let start = start.unwrap_or_else(|| end.saturating_sub(length.unwrap_or(RANGE_NANOS_DEFAULT)));
    if start >= end {
        let detail = "`start` is not before `end`, so no time lies between them; without `end` the range ends now";
        return Err(Problem::invalid_parameter("start", detail));
    }
    Ok(start..end)
}

/// The length of a step in nanoseconds: `step` if it fits the range, else one that gives about as many steps as a
/// chart shows well.
pub(crate) fn step_nanos(range: &Range<i64>, step: Option<i64>) -> Result<i64, Problem> {
    let Some(step) = step else {
        let length = range.end.saturating_sub(range.start);
        let fits = |seconds: &i64| length / (seconds * NANOS_PER_SECOND) <= STEPS_WANTED;
        let seconds = STEP_SECONDS.into_iter().find(fits).unwrap_or_else(|| day_or_weeks(length / NANOS_PER_SECOND));
        return checked(range, seconds * NANOS_PER_SECOND);
    };
    checked(range, step)
}

/// The seconds of a step in a range of so many seconds that steps of a day are more than are wanted.
fn day_or_weeks(length: i64) -> i64 {
    const DAY: i64 = 86_400;
    // A chart of a year still shows its days.
    if length / DAY <= 4 * STEPS_WANTED { DAY } else { (length / (7 * DAY * STEPS_WANTED) + 1) * 7 * DAY }
}

fn checked(range: &Range<i64>, step: i64) -> Result<i64, Problem> {
    let wrong = |detail: String| Err(Problem::invalid_parameter("step", detail));
    if step <= 0 {
        return wrong("the step must be longer than nothing, such as 15s".to_owned());
    }
    // Steps begin at multiples of their length, so that the same moment is in the same step whatever the range.
    let first = range.start.div_euclid(step).saturating_mul(step);
    let steps = (range.end.saturating_sub(first) - 1) / step + 1;
    if steps > STEPS_MAX {
        return wrong(format!(
            "the range has {steps} steps; at most {STEPS_MAX} are computed: choose a longer step or a shorter range"
        ));
    }
    Ok(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = NANOS_PER_SECOND;

    #[test]
    fn ranges_have_defaults() {
        let table = [
            ((None, None, None), Some(6400..10_000)),
            ((None, None, Some(60)), Some(9940..10_000)),
            ((Some(9000), None, Some(60)), Some(9000..10_000)),
            ((None, Some(4000), None), Some(400..4000)),
            ((Some(1), Some(2), None), Some(1..2)),
            ((Some(2), Some(2), None), None),
            ((Some(10_001), None, None), None),
            ((None, Some(5), Some(0)), None),
        ];
        for ((start, end, length), expected) in table {
            let nanos = |seconds: Option<i64>| seconds.map(|seconds| seconds * S);
            let range = metrics_range(nanos(start), nanos(end), nanos(length), 10_000 * S).ok();
            let expected = expected.map(|range: Range<i64>| range.start * S..range.end * S);
            assert_eq!(range, expected, "{start:?} {end:?} {length:?}");
        }
    }

    #[test]
    fn steps_suit_the_range() {
        const DAY: i64 = 86_400;
        let table = [
            (1, None, Some(1)),
            (120, None, Some(1)),
            (900, None, Some(10)),
            (3600, None, Some(30)),
            (6 * 3600, None, Some(300)),
            (DAY, None, Some(900)),
            (7 * DAY, None, Some(7200)),
            (365 * DAY, None, Some(DAY)),
            (3 * 365 * DAY, None, Some(14 * DAY)),
            (50 * 365 * DAY, None, Some(154 * DAY)),
            (3600, Some(7), Some(7)),
            (3600, Some(0), None),
            (3600, Some(-1), None),
            (11_000, Some(1), Some(1)),
            (11_001, Some(1), None),
        ];
        for (length, step, expected) in table {
            let range = 1_769_860_800 * S..(1_769_860_800 + length) * S;
            let found = step_nanos(&range, step.map(|step| step * S)).ok();
            assert_eq!(found, expected.map(|step| step * S), "{length} {step:?}");
        }
        assert!(step_nanos(&(i64::MIN..i64::MAX), None).is_ok(), "of all there can be");
        // Not a multiple of the step: the first step begins before the range.
        assert!(step_nanos(&(1..11_000 * S + 1), Some(S)).is_err());
    }
}
