//! The parameters of Jaeger's classic search.

use tracehouse_model::{kind, status};
use tracehouse_query::{Condition, Operator, Scope, SearchRequest};

use crate::params::{Parameters, TimeRange};
use crate::problem::Problem;
use crate::time::{DURATION_FORMS, parse_duration};

const TRACES_DEFAULT: usize = 100;
const TRACES_MAX: usize = 1500;
const TAGS_MAX: usize = 32;
const DAY_NANOS: i64 = 86_400_000_000_000;

pub(super) fn search_request(parameters: &Parameters, now_unix_nanos: i64) -> Result<SearchRequest, Problem> {
    let mut conditions = Vec::new();
    conditions.extend(parameters.text("service")?.map(|service| Condition::Service(service.to_owned())));
    conditions.extend(parameters.text("operation")?.map(|name| Condition::Operation(name.to_owned())));
    let (min, max) = parameters.duration_range("minDuration", "maxDuration")?;
    conditions.extend(min.map(Condition::DurationMin));
    conditions.extend(max.map(Condition::DurationMax));
    for (key, value) in tags(parameters)? {
        conditions.push(tag_condition(key, value));
    }
    let range = time_range(parameters, now_unix_nanos)?;
    Ok(SearchRequest {
        conditions,
        start_unix_nanos: range.start_unix_nanos,
        end_unix_nanos: range.end_unix_nanos,
        limit: parameters.count("limit", TRACES_DEFAULT, 1..=TRACES_MAX)?,
        ..SearchRequest::default()
    })
}

/// `start` and `end` in microseconds; without `start`, `lookback` counts back from the end. Jaeger's own interface sends
/// all three, and `lookback=custom` beside a start.
fn time_range(parameters: &Parameters, now_unix_nanos: i64) -> Result<TimeRange, Problem> {
    let micros = |name: &str| {
        let parse = |text: &str| text.parse::<i64>().ok().filter(|micros| *micros >= 0)?.checked_mul(1000);
        parameters.parsed(name, parse, "microseconds since 1970, such as 1769860800000000")
    };
    let (start, end) = (micros("start")?, micros("end")?);
    if start.is_some() {
        return TimeRange::new(start, end);
    }
    let days = |text: &str| text.strip_suffix('d')?.parse::<i64>().ok()?.checked_mul(DAY_NANOS);
    let parse = |text: &str| parse_duration(text).or_else(|| days(text)).filter(|nanos| *nanos >= 0);
    let lookback = parameters.parsed("lookback", parse, &format!("{DURATION_FORMS}, or days, such as 2d"))?;
    let start = lookback.map(|lookback| end.unwrap_or(now_unix_nanos).saturating_sub(lookback));
    TimeRange::new(start, end)
}

/// `tags={"key":"value"}`, once or often, and `tag=key:value`.
fn tags(parameters: &Parameters) -> Result<Vec<(String, String)>, Problem> {
    let mut found = Vec::new();
    for text in parameters.all("tags") {
        let map: std::collections::BTreeMap<String, String> = serde_json::from_str(text).map_err(|_| {
            Problem::parameter("tags", text, "a JSON object of texts, such as {\"http.route\":\"/cart\"}")
        })?;
        found.extend(map);
    }
    for text in parameters.all("tag") {
        let (key, value) = text
            .split_once(':')
            .ok_or_else(|| Problem::parameter("tag", text, "a key, a colon and a value, such as http.route:/cart"))?;
        found.push((key.to_owned(), value.to_owned()));
    }
    if found.len() > TAGS_MAX {
        return Err(Problem::invalid_parameter("tags", format!("more than {TAGS_MAX} tags; use fewer")));
    }
    Ok(found)
}

/// Tags that our answers make of fields of the span are looked for in those fields.
fn tag_condition(key: String, value: String) -> Condition {
    match (key.as_str(), value.as_str()) {
        ("error", "true") | ("otel.status_code", "ERROR") => Condition::Status(status::ERROR),
        ("otel.status_code", "OK") => Condition::Status(status::OK),
        ("span.kind", name) if kind::from_name(name).is_some() => {
            Condition::Kind(kind::from_name(name).unwrap_or(kind::UNSPECIFIED))
        }
        _ => Condition::Attribute { scope: Scope::Either, key, operator: Operator::Equal, value },
    }
}
