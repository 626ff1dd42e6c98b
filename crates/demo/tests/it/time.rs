//! Times, arrivals and the daily rhythm.

use crate::START;
use std::time::Duration;
use tracehouse_demo::clock::rfc3339;
use tracehouse_demo::rhythm::{Arrivals, HISTORY_TRACES_MAX, SECOND, Timeline, load_at};

const HOUR: u64 = 3_600 * SECOND;

#[test]
fn times_are_written_as_rfc_3339() {
    let cases = [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_400 * SECOND, "2000-02-29T00:00:00.000Z"),
        (1_735_689_599 * SECOND + 999_999_999, "2024-12-31T23:59:59.999Z"),
        (START, "2025-11-22T08:26:40.000Z"),
        (4_107_542_399 * SECOND, "2100-02-28T23:59:59.000Z"),
    ];
    for (nanos, expected) in cases {
        assert_eq!(rfc3339(nanos), expected);
    }
}

#[test]
fn the_day_has_a_rhythm() {
    let day = START - START % (24 * HOUR);
    let loads: Vec<f64> = (0..24).map(|hour| load_at(day + hour * HOUR)).collect();
    let mean = loads.iter().sum::<f64>() / 24.0;
    assert!((0.99..1.01).contains(&mean), "the mean is 1, not {mean}");
    assert!(loads.iter().all(|load| *load > 0.2));
    assert!(loads[19] > 3.0 * loads[5], "evenings are busier than mornings before dawn");
}

#[test]
fn arrivals_follow_history_rhythm_and_rate() {
    let timeline = Timeline::new(START, Duration::from_secs(86_400), Some(Duration::from_secs(300)), 20.0);
    let arrivals: Vec<u64> = Arrivals::new(5, timeline).map(|arrival| arrival.at).collect();
    assert!(arrivals.is_sorted());
    assert!(arrivals.iter().all(|at| (START - 24 * HOUR..START + 300 * SECOND).contains(at)));
    let live = arrivals.iter().filter(|at| **at >= START).count() as f64;
    assert!((5_600.0..6_400.0).contains(&live), "five minutes at 20 traces a second, not {live}");
    let history = arrivals.len() as f64 - live;
    assert!(history < HISTORY_TRACES_MAX * 1.05, "{history} traces of history");
    let in_hour = |hour: u64| arrivals.iter().filter(|at| **at < START && **at / HOUR % 24 == hour).count() as f64;
    assert!(in_hour(19) > 2.5 * in_hour(4));
}
