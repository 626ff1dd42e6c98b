//! Names and values as Tempo writes them.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use tracehouse_model::AnyValue;
use tracehouse_traceql::{Intrinsic, ValueType};

use super::logfmt;
use tracehouse_otlp::encode::key_value;

/// A value of a field under a key, of a group or a series. Something that is missing is called nil. Grafana gives a series no
/// name for an array, so an array is its text. Of several events or links Tempo groups by the first.
pub(super) fn labelled(key: String, field: &str, value: Option<AnyValue>) -> KeyValue {
    let label = match value.map(|value| shown(field, value, |several| several.into_iter().next())) {
        None => AnyValue::String("nil".to_owned()),
        Some(array @ AnyValue::Array(_)) => AnyValue::String(array.to_canonical_json()),
        Some(value) => value,
    };
    key_value(key, label)
}

/// A value of a field of a span. Of several events or links Tempo shows the last.
pub(super) fn value_of(field: &str, value: AnyValue) -> AnyValue {
    shown(field, value, |several| several.into_iter().next_back())
}

/// Durations are texts in Tempo, where they are integers here, and what there is one of is a plain value: Grafana shows no
/// arrays.
fn shown(field: &str, value: AnyValue, choose: fn(Vec<AnyValue>) -> Option<AnyValue>) -> AnyValue {
    let value = plain(field, value, choose);
    if is_duration(field) { with_durations_as_text(value) } else { value }
}

/// `choose` takes one of several events or links.
fn plain(field: &str, value: AnyValue, choose: fn(Vec<AnyValue>) -> Option<AnyValue>) -> AnyValue {
    const OF_MANY: [&str; 4] = ["event.", "event:", "link.", "link:"];
    match value {
        AnyValue::Array(mut values) if values.len() == 1 => values.remove(0),
        AnyValue::Array(values) if !values.is_empty() && OF_MANY.iter().any(|scope| field.starts_with(scope)) => {
            choose(values).map_or(AnyValue::Empty, |value| plain(field, value, choose))
        }
        value => value,
    }
}

/// Whether a field of answers is an intrinsic that holds a duration. Attributes have a dot in their names.
fn is_duration(field: &str) -> bool {
    let mut durations = Intrinsic::all().filter(|intrinsic| intrinsic.value_type() == ValueType::Duration);
    durations.any(|intrinsic| intrinsic.short_name() == field || intrinsic.name() == field)
}

fn with_durations_as_text(value: AnyValue) -> AnyValue {
    match value {
        AnyValue::Int(nanos) => AnyValue::String(duration(nanos)),
        AnyValue::Array(values) => AnyValue::Array(values.into_iter().map(with_durations_as_text).collect()),
        other => other,
    }
}

/// A duration as Go prints it: `1.5ms`, `2m0.25s`.
fn duration(nanos: i64) -> String {
    const MICRO: u64 = 1000;
    const MILLI: u64 = 1000 * MICRO;
    const SECOND: u64 = 1000 * MILLI;
    const MINUTE: u64 = 60 * SECOND;
    let magnitude = nanos.unsigned_abs();
    let text = match magnitude {
        0 => "0s".to_owned(),
        1..MICRO => format!("{magnitude}ns"),
        MICRO..MILLI => decimal(magnitude, MICRO) + "\u{b5}s",
        MILLI..SECOND => decimal(magnitude, MILLI) + "ms",
        _ => {
            let seconds = decimal(magnitude % MINUTE, SECOND);
            match (magnitude / MINUTE / 60, magnitude / MINUTE % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    };
    if nanos < 0 { format!("-{text}") } else { text }
}

/// How many units, with all digits of the fraction.
fn decimal(nanos: u64, unit: u64) -> String {
    let (whole, fraction) = (nanos / unit, nanos % unit);
    if fraction == 0 {
        return whole.to_string();
    }
    let digits = unit.ilog10() as usize;
    let fraction = format!("{fraction:0digits$}");
    format!("{whole}.{}", fraction.trim_end_matches('0'))
}

/// A number with fractions as Tempo writes it: with the fewest digits that read back as the same number, an exponent for very
/// large and very small ones, and never without a point or an exponent, so that it is not taken for an integer.
pub(super) fn float_text(value: f64) -> String {
    const EXPONENT_MIN: i32 = -4;
    const EXPONENT_MAX: i32 = 21;
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (EXPONENT_MIN..EXPONENT_MAX).contains(&exponent) {
        let text = value.to_string();
        return if text.contains('.') { text } else { text + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

/// A field as Grafana shows it: without its scope, and without the quotes that a name with spaces has in a query.
pub(super) fn tag_name(field: &str) -> String {
    let scopes = ["span.", "resource.", "event.", "link.", "instrumentation.", "."];
    let name = scopes.iter().find_map(|scope| field.strip_prefix(scope)).unwrap_or(field);
    logfmt::unquoted(name).unwrap_or_else(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_does() {
        let table = [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5\u{b5}s"),
            (10_000_000, "10ms"),
            (1_000_001, "1.000001ms"),
            (1_500_000_000, "1.5s"),
            (60_000_000_000, "1m0s"),
            (3_723_500_000_000, "1h2m3.5s"),
            (3_600_000_000_000, "1h0m0s"),
            (-5_000_000_000, "-5s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ];
        for (nanos, text) in table {
            assert_eq!(duration(nanos), text);
        }
    }

    #[test]
    fn only_fields_that_are_durations_become_text() {
        let int = || AnyValue::Int(1_500_000);
        let text = || AnyValue::String("1.5ms".to_owned());
        let table = [
            ("duration", int(), text()),
            ("span:duration", int(), text()),
            ("traceDuration", int(), text()),
            ("event:timeSinceStart", AnyValue::Array(vec![AnyValue::Int(5), int()]), text()),
            ("event.retries", AnyValue::Array(vec![AnyValue::Int(5), int()]), int()),
            (
                "link.tags",
                AnyValue::Array(vec![AnyValue::Int(5), AnyValue::Array(vec![AnyValue::Int(5), int()])]),
                int(),
            ),
            (".tags", AnyValue::Array(vec![int()]), int()),
            (".tags", AnyValue::Array(vec![int(), int()]), AnyValue::Array(vec![int(), int()])),
            (".tags", AnyValue::Array(Vec::new()), AnyValue::Array(Vec::new())),
            ("duration", AnyValue::Bool(true), AnyValue::Bool(true)),
            (".duration", int(), int()),
            ("span.duration", int(), int()),
            ("span:childCount", int(), int()),
        ];
        for (field, value, expected) in table {
            assert_eq!(value_of(field, value), expected, "{field}");
        }
    }

    #[test]
    fn floats_are_written_as_tempo_does() {
        let table = [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (-12.0, "-12.0"),
            (2.5, "2.5"),
            (0.1, "0.1"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (-1.5e-7, "-1.5e-07"),
            (1e20, "100000000000000000000.0"),
            (1e21, "1e+21"),
            (1.25e300, "1.25e+300"),
        ];
        for (value, text) in table {
            assert_eq!(float_text(value), text);
            assert_eq!(text.parse(), Ok(value), "{text}");
        }
    }

    #[test]
    fn a_label_is_no_array() {
        let tags = AnyValue::Array(vec![AnyValue::String("a".to_owned()), AnyValue::Int(2)]);
        let text = AnyValue::String("[\"a\",2]".to_owned());
        assert_eq!(labelled("tags".to_owned(), ".tags", Some(tags)), key_value("tags".to_owned(), text));
        let nil = AnyValue::String("nil".to_owned());
        assert_eq!(labelled("tags".to_owned(), ".tags", None), key_value("tags".to_owned(), nil));
    }

    #[test]
    fn names_lose_scope_and_quotes() {
        let table = [
            ("span.http.route", "http.route"),
            (".a", "a"),
            ("span.\"with space\"", "with space"),
            ("resource.\"a \\\"quoted\\\" \\\\ key\"", "a \"quoted\" \\ key"),
            ("status", "status"),
            ("event:name", "event:name"),
            ("nestedSetLeft", "nestedSetLeft"),
        ];
        for (field, expected) in table {
            assert_eq!(tag_name(field), expected, "{field}");
        }
    }
}
