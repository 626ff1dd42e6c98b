//! How things look in a terminal: colours, widths, times.

use std::fmt;

use jiff::Timestamp;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use crate::plain::one_line;

/// What the terminal can show.
pub(super) struct Style {
    pub(super) colours: bool,
    /// In columns: a Chinese character takes two.
    pub(super) width: usize,
}

/// Parts of an ANSI colour sequence.
#[derive(Clone, Copy)]
pub(super) struct Colour(&'static str);

pub(super) const RED: Colour = Colour("31;1");
pub(super) const DIM: Colour = Colour("2");
pub(super) const BOLD: Colour = Colour("1");

/// Told apart on light and dark grounds alike; red is kept for errors.
const SERVICE_COLOURS: [Colour; 6] =
    [Colour("34"), Colour("32"), Colour("35"), Colour("36"), Colour("33"), Colour("94")];

impl Style {
    const WIDTH_UNKNOWN: usize = 160;
    const WIDTH_MIN: usize = 60;
    const WIDTH_MAX: usize = 240;

    /// Colours only for a person at a terminal who has not asked for none (<https://no-color.org>).
    pub(super) fn of_terminal(is_terminal: bool) -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let width = terminal_size::terminal_size().map(|(width, _)| usize::from(width.0));
        let width = width.unwrap_or(Self::WIDTH_UNKNOWN).clamp(Self::WIDTH_MIN, Self::WIDTH_MAX);
        Self { colours: is_terminal && !refused, width }
    }

    pub(super) fn paint(&self, colour: Colour, text: impl fmt::Display) -> String {
        if self.colours { format!("\x1b[{}m{text}\x1b[0m", colour.0) } else { text.to_string() }
    }
}

/// Of one of several series.
pub(super) fn series_colour(at: usize) -> Colour {
    SERVICE_COLOURS[at % SERVICE_COLOURS.len()]
}

/// The same service always has the same colour.
pub(super) fn service_colour(service: &str) -> Colour {
    let sum = service.bytes().fold(0usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(usize::from(byte)));
    SERVICE_COLOURS[sum % SERVICE_COLOURS.len()]
}

/// Three significant digits with a fitting unit: `1.23s`, `45.6ms`, `789us`.
pub(super) fn duration(nanos: i64) -> String {
    const UNITS: [(&str, f64); 3] = [("s", 1e9), ("ms", 1e6), ("us", 1e3)];
    let value = nanos as f64;
    if value >= 600e9 {
        let seconds = (value / 1e9).round() as i64;
        return format!("{}h{:02}m{:02}s", seconds / 3600, seconds / 60 % 60, seconds % 60);
    }
    match UNITS.iter().find(|(_, unit)| value >= *unit) {
        None => format!("{nanos}ns"),
        Some((name, unit)) => {
            let value = value / unit;
            let decimals = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
            format!("{value:.decimals$}{name}")
        }
    }
}

/// A time in UTC with milliseconds, as RFC 3339.
pub(super) fn time(unix_nanos: i64) -> String {
    format!("{:.3}", moment(unix_nanos))
}

/// A time in UTC, as RFC 3339.
pub(super) fn time_in_seconds(unix_nanos: i64) -> String {
    format!("{:.0}", moment(unix_nanos))
}

fn moment(unix_nanos: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(unix_nanos)).expect("64 bits of nanoseconds lie within the calendar")
}

/// The columns of a terminal that a text takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

/// The text on one line without control characters, cut to a width, the cut marked.
pub(super) fn fit(text: &str, width_max: usize) -> String {
    let clean = one_line(text);
    if width(&clean) <= width_max {
        return clean;
    }
    let mut room = width_max.saturating_sub(1);
    let fits = |c: &char| {
        let left = room.checked_sub(c.width().unwrap_or(0));
        room = left.unwrap_or(0);
        left.is_some()
    };
    clean.chars().take_while(fits).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_short() {
        let cases = [
            (0, "0ns"),
            (999, "999ns"),
            (1_000, "1.00us"),
            (45_600_000, "45.6ms"),
            (789_000_000, "789ms"),
            (1_234_000_000, "1.23s"),
            (59_990_000_000, "60.0s"),
            (3_723_000_000_000, "1h02m03s"),
        ];
        for (nanos, expected) in cases {
            assert_eq!(duration(nanos), expected);
        }
    }

    #[test]
    fn times_are_utc() {
        let cases = [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_709_210_096_789_000_000, "2024-02-29T12:34:56.789Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (4_102_444_800_000_000_000, "2100-01-01T00:00:00.000Z"),
        ];
        for (nanos, expected) in cases {
            assert_eq!(time(nanos), expected);
        }
    }

    #[test]
    fn texts_fit() {
        assert_eq!(fit("abc", 3), "abc");
        assert_eq!(fit("abcd", 3), "ab…");
        assert_eq!(fit("a\nb\x1b", 9), "a b ");
        assert_eq!(fit("購物車", 6), "購物車");
        assert_eq!(fit("購物車", 5), "購物…");
        assert_eq!(fit("購物車", 4), "購…");
    }
}
