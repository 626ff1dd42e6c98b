//! How things look in a terminal: colours, widths, times.

use std::fmt;

/// What the terminal can show.
pub(super) struct Style {
    pub(super) colours: bool,
    /// In characters.
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
    let seconds = time_in_seconds(unix_nanos);
    format!("{}.{:03}Z", seconds.trim_end_matches('Z'), unix_nanos.div_euclid(1_000_000).rem_euclid(1000))
}

/// A time in UTC, as RFC 3339.
pub(super) fn time_in_seconds(unix_nanos: i64) -> String {
    const DAY_SECONDS: i64 = 86_400;
    let seconds = unix_nanos.div_euclid(1_000_000_000);
    let (year, month, day) = civil_from_days(seconds.div_euclid(DAY_SECONDS));
    let of_day = seconds.rem_euclid(DAY_SECONDS);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar. Years are counted from March, so
/// that the leap day comes last (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let since_era_epoch = days + 719_468;
    let era = since_era_epoch.div_euclid(146_097);
    let day_of_era = since_era_epoch.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// The text on one line without control characters, cut to a width in characters, the cut marked.
pub(super) fn fit(text: &str, width: usize) -> String {
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    if text.chars().count() <= width {
        return text.chars().map(clean).collect();
    }
    text.chars().take(width.saturating_sub(1)).map(clean).chain(['…']).collect()
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
    }
}
