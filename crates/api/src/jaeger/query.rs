//! What Jaeger's searches ask for, in the forms of both interfaces.

use std::collections::BTreeMap;

use tracehouse_model::TraceId;
use tracehouse_query::{Condition, SearchRequest, Selects};

use super::tags::tag_condition;
use crate::params::{Parameters, TimeRange};
use crate::problem::Problem;
use crate::proto::jaeger::TraceQueryParameters;
use crate::time::{DURATION_FORMS, MOMENT_FORMS, parse_duration, parse_moment};

const TRACES_DEFAULT: usize = 100;
const TRACES_MAX: usize = 1500;
const TAGS_MAX: usize = 32;
const ATTRIBUTES_FORM: &str = "a JSON object of texts, such as {\"http.route\":\"/cart\"}";

/// A search. All that it asks for must hold for one span.
#[derive(Default)]
pub(super) struct Search {
    service: Option<String>,
    operation: Option<String>,
    tags: Vec<(String, String)>,
    /// In nanoseconds, of a span.
    durations: (Option<i64>, Option<i64>),
    range: TimeRange,
    limit: usize,
}

impl Search {
    /// As the classic interface asks.
    pub(super) fn classic(parameters: &Parameters, now_unix_nanos: i64) -> Result<Self, Problem> {
        let text = |name: &str| Ok::<_, Problem>(parameters.text(name)?.map(str::to_owned));
        Ok(Self {
            service: text("service")?,
            operation: text("operation")?,
            tags: classic_tags(parameters)?,
            durations: parameters.duration_range("minDuration", "maxDuration")?,
            range: classic_range(parameters, now_unix_nanos)?,
            limit: parameters.count("limit", TRACES_DEFAULT, 1..=TRACES_MAX)?,
        })
    }

    /// As version 3 asks over HTTP.
    pub(super) fn v3(parameters: &Parameters) -> Result<Self, Problem> {
        let text = |name: &str| either_case(parameters, &format!("query.{name}"));
        refuse_filter(text("filter")?.is_some())?;
        let parsed = |name: &str, parse: fn(&str) -> Option<i64>, expected: &str| {
            let Some((name, text)) = text(name)? else { return Ok(None) };
            parse(text).map(Some).ok_or_else(|| Problem::parameter(&name, text, expected))
        };
        let attributes = text("attributes")?.map(|(name, text)| attributes(&name, text)).transpose()?;
        let start = parsed("startTimeMin", parse_unescaped_moment, MOMENT_FORMS)?;
        let end = parsed("startTimeMax", parse_unescaped_moment, MOMENT_FORMS)?;
        let depth =
            text("searchDepth")?.or(parameters.text("query.num_traces")?.map(|text| ("query.num_traces".into(), text)));
        let search = Self {
            service: text("serviceName")?.map(|(_, text)| text.to_owned()),
            operation: text("operationName")?.map(|(_, text)| text.to_owned()),
            tags: attributes.into_iter().flatten().collect(),
            durations: (
                parsed("durationMin", parse_duration, DURATION_FORMS)?,
                parsed("durationMax", parse_duration, DURATION_FORMS)?,
            ),
            range: required_range(start, end)?,
            limit: depth.map_or(Ok(TRACES_DEFAULT), |(name, text)| {
                let depth = text.parse().ok().filter(|depth| (1..=TRACES_MAX).contains(depth));
                depth.ok_or_else(|| Problem::parameter(&name, text, &format!("a whole number from 1 to {TRACES_MAX}")))
            })?,
        };
        search.checked()
    }

    /// As version 3 asks over gRPC.
    pub(super) fn of_message(query: Option<TraceQueryParameters>) -> Result<Self, Problem> {
        let missing = || Problem::invalid_parameter("query", "the field `query` is missing; it says what to find");
        let query = query.ok_or_else(missing)?;
        refuse_filter(!query.filter.is_empty())?;
        let nanos = |duration: Option<prost_types::Duration>| {
            // Zero is as good as none.
            duration.map(|duration| nanos_of(duration.seconds, duration.nanos)).filter(|nanos| *nanos != 0)
        };
        let given = |text: String| (!text.is_empty()).then_some(text);
        let search = Self {
            service: given(query.service_name),
            operation: given(query.operation_name),
            tags: query.attributes.into_iter().collect(),
            durations: (nanos(query.duration_min), nanos(query.duration_max)),
            range: required_range(
                query.start_time_min.map(|time| nanos_of(time.seconds, time.nanos)),
                query.start_time_max.map(|time| nanos_of(time.seconds, time.nanos)),
            )?,
            // Zero is as good as none.
            limit: match usize::try_from(query.search_depth) {
                Ok(0) => TRACES_DEFAULT,
                Ok(depth) if depth <= TRACES_MAX => depth,
                _ => {
                    let expected = format!("a whole number from 1 to {TRACES_MAX}");
                    return Err(Problem::parameter("search_depth", &query.search_depth.to_string(), &expected));
                }
            },
        };
        search.checked()
    }

    fn checked(self) -> Result<Self, Problem> {
        if let (Some(min), Some(max)) = self.durations
            && min > max
        {
            let detail = "the smallest duration is above the largest; no span fits; swap them";
            return Err(Problem::invalid_parameter("durationMin", detail));
        }
        Ok(self)
    }

    pub(super) fn request(self) -> Result<SearchRequest, Problem> {
        if self.tags.len() > TAGS_MAX {
            return Err(Problem::invalid_parameter("tags", format!("more than {TAGS_MAX} tags; use fewer")));
        }
        let mut conditions = Vec::new();
        conditions.extend(self.service.map(Condition::Service));
        conditions.extend(self.operation.map(Condition::Operation));
        conditions.extend(self.durations.0.map(Condition::DurationMin));
        // Durations are shown in whole microseconds.
        let max = self.durations.1.map(|max| max.saturating_add(999));
        conditions.extend(max.map(Condition::DurationMax));
        conditions.extend(self.tags.into_iter().map(|(key, value)| tag_condition(&key, &value)));
        Ok(SearchRequest {
            conditions,
            start_unix_nanos: self.range.start_unix_nanos,
            end_unix_nanos: self.range.end_unix_nanos,
            // As the original does.
            selects: Selects::Starting,
            limit: self.limit,
            ..SearchRequest::default()
        })
    }
}

pub(super) fn trace_id(name: &str, text: &str) -> Result<TraceId, Problem> {
    text.parse().map_err(|error| Problem::invalid_parameter(name, format!("{error}")))
}

/// A parameter whose name may be in camel case, as version 3 has it now, or in snake case, as it had it before; the name
/// that was found and the value.
pub(super) fn either_case<'a>(parameters: &'a Parameters, camel: &str) -> Result<Option<(String, &'a str)>, Problem> {
    let snake = camel.chars().fold(String::new(), |mut name, letter| {
        if letter.is_ascii_uppercase() {
            name.push('_');
        }
        name.push(letter.to_ascii_lowercase());
        name
    });
    if let Some(text) = parameters.text(camel)? {
        return Ok(Some((camel.to_owned(), text)));
    }
    Ok(parameters.text(&snake)?.map(|text| (snake, text)))
}

/// Some clients, Grafana among them, don't escape the plus of an offset, which then reads as a space.
pub(super) fn parse_unescaped_moment(text: &str) -> Option<i64> {
    parse_moment(&text.replace(' ', "+"))
}

pub(super) fn nanos_of(seconds: i64, nanos: i32) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(i64::from(nanos))
}

/// Jaeger never leaves this one out silently, because the answer would be one to another question.
fn refuse_filter(given: bool) -> Result<(), Problem> {
    let detail = "structured filters are not supported; use the other fields, or TraceQL at /api/search";
    if given { Err(Problem::invalid_parameter("query.filter", detail)) } else { Ok(()) }
}

/// The range of times that version 3 demands.
pub(super) fn required_range(start: Option<i64>, end: Option<i64>) -> Result<TimeRange, Problem> {
    if start.is_none() || end.is_none() {
        let detail = "the start and the end of the time range are required; send both, start before end";
        return Err(Problem::invalid_parameter("query.startTimeMin", detail));
    }
    if start >= end {
        let detail = "the start of the time range must be before its end; swap them";
        return Err(Problem::invalid_parameter("query.startTimeMin", detail));
    }
    TimeRange::new(start, end)
}

/// `start` and `end` in microseconds; without `start`, `lookback` counts back from the end. Jaeger's own interface sends
/// all three, and `lookback=custom` beside a start.
fn classic_range(parameters: &Parameters, now_unix_nanos: i64) -> Result<TimeRange, Problem> {
    let micros = |name: &str| {
        let parse = |text: &str| text.parse::<i64>().ok().filter(|micros| *micros >= 0)?.checked_mul(1000);
        parameters.parsed(name, parse, "microseconds since 1970, such as 1769860800000000")
    };
    let (start, end) = (micros("start")?, micros("end")?);
    if start.is_some() {
        return TimeRange::new(start, end);
    }
    let lookback = parameters.duration("lookback")?;
    let start = lookback.map(|lookback| end.unwrap_or(now_unix_nanos).saturating_sub(lookback));
    TimeRange::new(start, end)
}

/// `tags={"key":"value"}`, once or often, and `tag=key:value`.
fn classic_tags(parameters: &Parameters) -> Result<Vec<(String, String)>, Problem> {
    let mut found = Vec::new();
    for text in parameters.all("tags") {
        found.extend(attributes("tags", text)?);
    }
    for text in parameters.all("tag") {
        let (key, value) = text
            .split_once(':')
            .ok_or_else(|| Problem::parameter("tag", text, "a key, a colon and a value, such as http.route:/cart"))?;
        found.push((key.to_owned(), value.to_owned()));
    }
    Ok(found)
}

fn attributes(name: &str, text: &str) -> Result<BTreeMap<String, String>, Problem> {
    serde_json::from_str(text).map_err(|_| Problem::parameter(name, text, ATTRIBUTES_FORM))
}
