//! Time series as the native API answers them, and how their labels and values look.

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use tracehouse_model::{double_text, parse_double};

use super::text::duration;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Answer {
    pub(super) start_time_unix_nano: String,
    pub(super) step_nanos: i64,
    pub(super) steps: usize,
    pub(super) series: Vec<Series>,
    #[serde(default)]
    pub(super) partial_reason: Option<String>,
}

#[derive(Deserialize)]
pub(super) struct Series {
    labels: Vec<Label>,
    /// One for each step; `None` where there was nothing to compute from.
    #[serde(deserialize_with = "doubles")]
    pub(super) values: Vec<Option<f64>>,
}

/// What is not finite comes as a text.
fn doubles<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Option<f64>>, D::Error> {
    let values: Vec<Value> = Deserialize::deserialize(deserializer)?;
    let double = |value: Value| match value {
        Value::String(text) => parse_double(&text),
        value => value.as_f64(),
    };
    Ok(values.into_iter().map(double).collect())
}

#[derive(Deserialize)]
struct Label {
    key: String,
    value: Value,
}

/// What the values of a query are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unit {
    Number,
    Spans,
    SpansPerSecond,
    Seconds,
}

impl Answer {
    pub(super) fn start_unix_nanos(&self) -> i64 {
        self.start_time_unix_nano.parse().unwrap_or_default()
    }

    /// Those with the largest value first, so that a limit leaves out what matters least.
    pub(super) fn sort_by_height(&mut self) {
        let height = |series: &Series| series.points().fold(f64::NEG_INFINITY, f64::max);
        self.series.sort_by(|one, other| height(other).total_cmp(&height(one)));
    }
}

impl Series {
    /// The values that there are.
    pub(super) fn points(&self) -> impl Iterator<Item = f64> {
        self.values.iter().copied().flatten()
    }

    /// `resource.service.name=cart, p=0.99`.
    pub(super) fn name(&self) -> String {
        let text = |value: &Value| match value {
            Value::Null => "nil".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let labels: Vec<String> =
            self.labels.iter().map(|label| format!("{}={}", label.key, text(&label.value))).collect();
        if labels.is_empty() { "{}".to_owned() } else { labels.join(", ") }
    }
}

impl Unit {
    /// Of a query in canonical form. Arithmetic between queries may give anything.
    pub(super) fn of(printed: &str) -> Self {
        let is_function = |stage: &&str| stage.starts_with("rate(") || stage.contains("_over_time(");
        let stages = if printed.starts_with('{') { printed } else { "" };
        let Some((name, arguments)) = stages.split("| ").find(is_function).and_then(|stage| stage.split_once('('))
        else {
            return Self::Number;
        };
        let field = arguments.split([',', ')']).next().unwrap_or_default().trim();
        let durations = ["duration", "span:duration", "trace:duration", "traceDuration", "event:timeSinceStart"];
        match name {
            "rate" => Self::SpansPerSecond,
            "count_over_time" | "histogram_over_time" => Self::Spans,
            _ if durations.contains(&field) => Self::Seconds,
            _ => Self::Number,
        }
    }

    pub(super) fn format(self, value: f64) -> String {
        match self {
            Self::Seconds if value < 0.0 => format!("-{}", duration((-value * 1e9).round() as i64)),
            Self::Seconds => duration((value * 1e9).round() as i64),
            Self::SpansPerSecond => format!("{}/s", number(value)),
            Self::Number | Self::Spans => number(value),
        }
    }
}

/// At most four significant digits, thousands as `k`, millions as `M` and so on.
fn number(value: f64) -> String {
    const LARGE: [(f64, &str); 4] = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    const SMALLEST: f64 = 1e-3;
    let size = value.abs();
    if !value.is_finite() {
        return double_text(value);
    }
    if size > 0.0 && size < SMALLEST {
        return format!("{value:.2e}");
    }
    // What rounds up to 1000 is written with the next unit.
    let (scale, unit) = LARGE.into_iter().find(|(scale, _)| size >= scale * 0.999_95).unwrap_or((1.0, ""));
    let scaled = value / scale;
    let decimals = match scaled.abs() {
        large if large >= 99.995 => 1,
        medium if medium >= 9.9995 => 2,
        _ => 3,
    };
    let text = format!("{scaled:.decimals$}");
    format!("{}{unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_follow_the_function() {
        let table = [
            ("{ } | rate()", Unit::SpansPerSecond),
            ("{ } | rate() by (name) | topk(3)", Unit::SpansPerSecond),
            ("{ } | count_over_time()", Unit::Spans),
            ("{ .a = \"x\" } | quantile_over_time(duration, 0.5, 0.9) by (name)", Unit::Seconds),
            ("{ } | max_over_time(span:duration)", Unit::Seconds),
            ("{ } | max_over_time(span.size)", Unit::Number),
            ("({ } | rate()) / ({ } | rate())", Unit::Number),
            ("{ status = error }", Unit::Number),
        ];
        for (printed, unit) in table {
            assert_eq!(Unit::of(printed), unit, "{printed}");
        }
    }

    #[test]
    fn numbers_are_short() {
        let table = [
            (0.0, "0"),
            (1.0, "1"),
            (0.25, "0.25"),
            (12.345, "12.35"),
            (999.96, "1k"),
            (1234.0, "1.234k"),
            (-1_500_000.0, "-1.5M"),
            (0.000_12, "1.20e-4"),
            (100.0, "100"),
        ];
        for (value, text) in table {
            assert_eq!(number(value), text);
        }
        assert_eq!(Unit::Seconds.format(0.0123), "12.3ms");
        assert_eq!(Unit::SpansPerSecond.format(2.5), "2.5/s");
    }

    #[test]
    fn names_show_all_labels() {
        let series = |labels: &str| -> Series {
            let text = format!("{{\"labels\":{labels},\"values\":[]}}");
            serde_json::from_str(&text).expect("the test's answer is a series")
        };
        let labels = r#"[{"key":"name","type":"string","value":"a"},{"key":"p","type":"double","value":0.5},
            {"key":".x","type":"empty","value":null}]"#;
        assert_eq!(series(labels).name(), "name=a, p=0.5, .x=nil");
        assert_eq!(series("[]").name(), "{}");
    }
}
