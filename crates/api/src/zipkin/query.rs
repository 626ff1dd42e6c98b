//! The parameters of Zipkin's search.

use tracehouse_query::{Condition, SearchRequest, Selects, TextField};

use super::remote::remote_service_condition;
use super::tags::{annotation_condition, present_condition, tag_condition};
use crate::params::{Parameters, TimeRange};
use crate::problem::Problem;

const TRACES_DEFAULT: usize = 10;
const TRACES_MAX: usize = 1000;
const TERMS_MAX: usize = 32;
const NANOS_PER_MICRO: i64 = 1000;
const NANOS_PER_MILLI: i64 = 1_000_000;

/// All conditions must hold for one span, where Zipkin is content if one service fulfils them in several.
pub(super) fn search_request(parameters: &Parameters, now_unix_nanos: i64) -> Result<SearchRequest, Problem> {
    let mut conditions = Vec::new();
    conditions.extend(parameters.text("serviceName")?.map(|service| Condition::Service(service.to_owned())));
    conditions.extend(parameters.text("spanName")?.map(|name| Condition::Operation(name.to_owned())));
    conditions.extend(parameters.text("remoteServiceName")?.map(remote_service_condition));
    let min = whole_number(parameters, "minDuration", NANOS_PER_MICRO, "microseconds, such as 100000")?;
    let max = whole_number(parameters, "maxDuration", NANOS_PER_MICRO, "microseconds, such as 100000")?;
    if let (Some(min), Some(max)) = (min, max)
        && min > max
    {
        let detail = "`minDuration` is above `maxDuration`; no span fits; swap them";
        return Err(Problem::invalid_parameter("minDuration", detail));
    }
    // What is shorter is shown as 1.
    conditions.extend(min.filter(|min| *min > NANOS_PER_MICRO).map(Condition::DurationMin));
    // A span of less than a microsecond more has the same duration in Zipkin.
    conditions.extend(max.map(|max| Condition::DurationMax(max.saturating_add(NANOS_PER_MICRO - 1))));
    let terms: Vec<&str> =
        parameters.text("annotationQuery")?.map_or_else(Vec::new, |text| text.split(" and ").collect());
    if terms.len() > TERMS_MAX {
        let detail = format!("more than {TERMS_MAX} terms; use fewer");
        return Err(Problem::invalid_parameter("annotationQuery", detail));
    }
    conditions.extend(terms.into_iter().filter(|term| !term.trim().is_empty()).map(term_condition));
    let range = time_range(parameters, now_unix_nanos)?;
    Ok(SearchRequest {
        conditions,
        start_unix_nanos: range.start_unix_nanos,
        end_unix_nanos: range.end_unix_nanos,
        // As the original does.
        selects: Selects::Starting,
        limit: parameters.count("limit", TRACES_DEFAULT, 1..=TRACES_MAX)?,
        ..SearchRequest::default()
    })
}

/// `key=value` is a tag; a term by itself is an annotation, or the key of a tag. Zipkin takes spaces away from both ends of keys, values
/// and terms; what has them is found as well.
fn term_condition(term: &str) -> Condition {
    if let Some(annotation) = annotation_condition(term) {
        return annotation;
    }
    let mut readings: Vec<Condition> = match term.split_once('=') {
        Some((key, value)) => {
            let of_key = |key| with_and_without_spaces(value).map(move |value| tag_condition(key, value));
            let tags = with_and_without_spaces(key).flat_map(of_key);
            // The name of an event may have the sign in it.
            let named = |text: &str| Condition::Text { field: TextField::EventName, text: text.to_owned() };
            tags.chain(with_and_without_spaces(term).map(named)).collect()
        }
        None => with_and_without_spaces(term).map(present_condition).collect(),
    };
    if readings.len() == 1 { readings.remove(0) } else { Condition::Any(readings) }
}

/// A text, and what it is without the spaces at its ends if it has some.
fn with_and_without_spaces(text: &str) -> impl Iterator<Item = &str> {
    let trimmed = text.trim();
    std::iter::once(text).chain((trimmed != text).then_some(trimmed))
}

/// `endTs` and `lookback` in milliseconds. The end is meant whole. Without `lookback` all before it is searched.
fn time_range(parameters: &Parameters, now_unix_nanos: i64) -> Result<TimeRange, Problem> {
    let end = whole_number(parameters, "endTs", NANOS_PER_MILLI, "milliseconds since 1970, such as 1769860800000")?;
    let lookback = whole_number(parameters, "lookback", NANOS_PER_MILLI, "milliseconds, such as 3600000")?;
    let start = lookback.map(|lookback| end.unwrap_or(now_unix_nanos).saturating_sub(lookback));
    TimeRange::new(start, end.map(|end| end.saturating_add(NANOS_PER_MILLI)))
}

/// In nanoseconds.
fn whole_number(parameters: &Parameters, name: &str, unit_nanos: i64, expected: &str) -> Result<Option<i64>, Problem> {
    let parse = |text: &str| text.parse::<i64>().ok().filter(|number| *number >= 0)?.checked_mul(unit_nanos);
    parameters.parsed(name, parse, expected)
}
