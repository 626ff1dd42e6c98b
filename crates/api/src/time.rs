//! Moments and durations as people and programs write them in query parameters.

use jiff::Timestamp;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// What a moment may look like, for error texts.
pub(crate) const MOMENT_FORMS: &str = "RFC 3339 such as 2026-01-31T12:00:00Z, seconds since 1970 such as 1769860800, \
     or nanoseconds since 1970 such as 1769860800000000000";

/// What a duration may look like, for error texts.
pub(crate) const DURATION_FORMS: &str = "a number and a unit (ns, us, ms, s, m, h, d, w), such as 12.5ms, 1m30s or 2d";

/// A moment in nanoseconds since the Unix epoch: RFC 3339, or an integer of at least 10^17 (nanoseconds, from 1973 on), or a number
/// below 10^12, which may have a fraction (seconds). What lies between, as milliseconds and microseconds of today do, is refused.
pub(crate) fn parse_moment(text: &str) -> Option<i64> {
    const NANOSECONDS_MIN: i64 = 100_000_000_000_000_000;
    const SECONDS_MAX: i64 = 1_000_000_000_000;
    if text.contains(['T', 't', '-', ':']) {
        return parse_rfc3339(text);
    }
    if let Ok(integer) = text.parse::<i64>()
        && integer >= NANOSECONDS_MIN
    {
        return Some(integer);
    }
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if text.ends_with('.') || !is_digits(whole) || !(fraction.is_empty() || is_digits(fraction)) {
        return None;
    }
    let seconds = whole.parse::<i64>().ok().filter(|seconds| *seconds < SECONDS_MAX)?;
    seconds.checked_mul(NANOS_PER_SECOND)?.checked_add(fraction_nanos(fraction))
}

/// `1970-01-01T00:00:00.123456789Z`, or with an offset such as `+02:00`.
fn parse_rfc3339(text: &str) -> Option<i64> {
    const DATE_LEN: usize = "1970-01-01T".len();
    let (date, rest) = text.split_at_checked(DATE_LEN)?;
    // A plus sign in a query string means a space; behind the date nothing else can be meant by one.
    let moment: Timestamp = format!("{date}{}", rest.replace(' ', "+")).parse().ok()?;
    i64::try_from(moment.as_nanosecond()).ok()
}

/// The digits after a decimal point of a second, in nanoseconds; more than nine are cut.
fn fraction_nanos(digits: &str) -> i64 {
    digits.bytes().chain(std::iter::repeat(b'0')).take(9).fold(0, |nanos, digit| nanos * 10 + i64::from(digit - b'0'))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// A duration in nanoseconds, as Go writes it, `12.5ms` or `1m30s`, and with days and weeks, as Prometheus has them.
/// Not negative; `0` needs no unit. (`jiff` reads neither `.5s` nor `1.5m30s`, which Go does, but months, and times of day.)
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text;
    let mut nanos = 0i64;
    while !rest.is_empty() {
        let number_len = rest.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
        let (number, after) = rest.split_at(number_len);
        let unit_len = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, remaining) = after.split_at(unit_len);
        nanos = nanos.checked_add(scaled(number, unit_nanos(unit)?)?)?;
        rest = remaining;
    }
    (!text.is_empty()).then_some(nanos)
}

fn unit_nanos(unit: &str) -> Option<i64> {
    Some(match unit {
        "ns" => 1,
        // Both the micro sign (U+00B5) and the Greek letter mu (U+03BC) are in use.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => NANOS_PER_SECOND,
        "m" => 60 * NANOS_PER_SECOND,
        "h" => 3600 * NANOS_PER_SECOND,
        "d" => 86_400 * NANOS_PER_SECOND,
        "w" => 7 * 86_400 * NANOS_PER_SECOND,
        _ => return None,
    })
}

/// A decimal number times a unit, in integers, so that `0.1s` is exactly a tenth.
fn scaled(number: &str, unit: i64) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits_only = (whole.is_empty() || is_digits(whole)) && (fraction.is_empty() || is_digits(fraction));
    if !digits_only || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let whole = if whole.is_empty() { 0 } else { whole.parse::<i64>().ok()?.checked_mul(unit)? };
    let part = i128::from(fraction_nanos(fraction)) * i128::from(unit) / i128::from(NANOS_PER_SECOND);
    whole.checked_add(i64::try_from(part).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        let table = [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2026-01-31T12:00:00Z", Some(1_769_860_800 * NANOS_PER_SECOND)),
            ("2026-01-31T14:00:00.5+02:00", Some(1_769_860_800_500_000_000)),
            ("2026-01-31T14:00:00.5 02:00", Some(1_769_860_800_500_000_000)),
            ("2024-02-29T00:00:00Z", Some(1_709_164_800 * NANOS_PER_SECOND)),
            ("1969-12-31T23:59:59Z", Some(-NANOS_PER_SECOND)),
            ("2026-01-31t12:00:00z", Some(1_769_860_800 * NANOS_PER_SECOND)),
            ("2026-01-31 12:00:00Z", Some(1_769_860_800 * NANOS_PER_SECOND)),
            ("2026-01-31T07:30:00.000000001-04:30", Some(1_769_860_800_000_000_001)),
            // A leap second counts as the second before it, as Unix time has it.
            ("2016-12-31T23:59:60Z", Some(1_483_228_799 * NANOS_PER_SECOND)),
            ("1769860800", Some(1_769_860_800 * NANOS_PER_SECOND)),
            ("1769860800.25", Some(1_769_860_800_250_000_000)),
            ("1769860800000000001", Some(1_769_860_800_000_000_001)),
            ("0", Some(0)),
            // Milliseconds and microseconds are neither.
            ("1769860800000", None),
            ("1769860800000000", None),
            ("2023-02-29T00:00:00Z", None),
            ("2026-01-31T12:00:00", None),
            ("2026-13-01T12:00:00Z", None),
            ("2026-01-31", None),
            ("2026-01-31T24:00:00Z", None),
            // Later than nanoseconds in 64 bits reach.
            ("2300-01-01T00:00:00Z", None),
            ("yesterday", None),
            ("-5", None),
            ("1.", None),
            ("1e9", None),
            ("99999999999999999999", None),
            ("2026-01-31T12:00:0éZ", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_moment(text), expected, "{text:?}");
        }
    }

    #[test]
    fn durations() {
        let table = [
            ("12.5ms", Some(12_500_000)),
            ("2s", Some(2 * NANOS_PER_SECOND)),
            ("100us", Some(100_000)),
            ("100\u{b5}s", Some(100_000)),
            ("1m30s", Some(90 * NANOS_PER_SECOND)),
            (".5s", Some(500_000_000)),
            ("0.1s", Some(100_000_000)),
            ("1.5h", Some(5_400 * NANOS_PER_SECOND)),
            ("0", Some(0)),
            ("1d12h", Some(36 * 3_600 * NANOS_PER_SECOND)),
            ("2w", Some(14 * 86_400 * NANOS_PER_SECOND)),
            ("5", None),
            ("ms", None),
            ("-1s", None),
            ("1.2.3s", None),
            ("1 s", None),
            ("1y", None),
            ("9223372036854775807h", None),
            ("", None),
        ];
        for (text, expected) in table {
            assert_eq!(parse_duration(text), expected, "{text:?}");
        }
    }
}
