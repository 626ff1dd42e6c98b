//! The steps of a range query as Tempo takes them.

use std::ops::Range;

const NANOS_PER_MILLI: i64 = 1_000_000;
const NANOS_PER_SECOND: i64 = 1000 * NANOS_PER_MILLI;
const NANOS_PER_MINUTE: i64 = 60 * NANOS_PER_SECOND;
/// About so many steps there are if none is asked for: an hour has steps of 15 s.
const STEPS_WANTED: i64 = 240;
/// In a range below a minute steps are multiples of this, in longer ones of one of [`UNITS`].
const SHORTEST_UNIT: i64 = 50 * NANOS_PER_MILLI;
const UNITS: [i64; 6] = [
    60 * NANOS_PER_MINUTE,
    5 * NANOS_PER_MINUTE,
    NANOS_PER_MINUTE,
    15 * NANOS_PER_SECOND,
    5 * NANOS_PER_SECOND,
    NANOS_PER_SECOND,
];

/// The step for a range if none is asked for, in nanoseconds.
pub(super) fn default_step(range: &Range<i64>) -> i64 {
    let length = range.end.saturating_sub(range.start);
    let wanted = length / STEPS_WANTED;
    if length < NANOS_PER_MINUTE {
        return multiple(wanted, SHORTEST_UNIT);
    }
    let unit = UNITS.into_iter().find(|unit| wanted > *unit).unwrap_or(NANOS_PER_SECOND);
    multiple(wanted, unit)
}

/// The largest multiple of a unit that is not above `nanos`, but at least one.
fn multiple(nanos: i64, unit: i64) -> i64 {
    (nanos / unit * unit).max(unit)
}

/// The range from the begin of its first step to the end of its last, so that no step is computed in part, which would show
/// as a dip. For the same reason steps that end after now are left out, if any remains.
pub(super) fn whole_steps(range: &Range<i64>, step: i64, now_unix_nanos: i64) -> Range<i64> {
    let begin_of_step = |moment: i64| moment.div_euclid(step).saturating_mul(step);
    let start = begin_of_step(range.start);
    let end = begin_of_step(range.end.saturating_add(step - 1));
    let complete = end.min(begin_of_step(now_unix_nanos));
    start..if complete > start { complete } else { end }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = NANOS_PER_SECOND;

    #[test]
    fn the_step_is_tempos() {
        let ms = NANOS_PER_MILLI;
        let table = [
            (S, 50 * ms),
            (30 * S, 100 * ms),
            (60 * S, S),
            (300 * S, S),
            (900 * S, 3 * S),
            (3600 * S, 15 * S),
            (3 * 3600 * S, 45 * S),
            (6 * 3600 * S, 60 * S),
            (86_400 * S, 300 * S),
            (7 * 86_400 * S, 2400 * S),
            (30 * 86_400 * S, 10_800 * S),
        ];
        for (length, step) in table {
            assert_eq!(default_step(&(START..START + length)), step, "{} s", length / S);
        }
    }

    const START: i64 = 1_769_860_800 * S;

    #[test]
    fn ranges_have_whole_steps() {
        // Seconds; the step has ten of them.
        let table = [
            (100..200, 1000, 100..200),
            (101..199, 1000, 100..200),
            (109..111, 1000, 100..120),
            // The last step is not over yet.
            (101..199, 199, 100..190),
            (101..199, 200, 100..200),
            // A range that ends in the future.
            (101..300, 205, 100..200),
            // No step is over: better one in part than none.
            (101..108, 105, 100..110),
            (101..300, 99, 100..300),
        ];
        for (range, now, expected) in table {
            let nanos = |range: &Range<i64>| range.start * S..range.end * S;
            assert_eq!(whole_steps(&nanos(&range), 10 * S, now * S), nanos(&expected), "{range:?} at {now}");
        }
    }
}
