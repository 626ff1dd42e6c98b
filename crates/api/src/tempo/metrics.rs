use std::ops::Range;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Uri};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use prost::Message;
use tracehouse_model::{AnyValue, Caller, SeededSet};
use tracehouse_query::{HistogramBuckets, MetricsAnswer, MetricsRequest, TENANT_KEY};

use super::reading::Reading;
use super::shared::{Found, parameters, search_metrics};
use super::steps::{default_step, whole_steps};
use super::values::labelled;
use crate::answer::{JSON, items_of, large, until_sent, with_partial_header};
use crate::params::Parameters;
use crate::problem::Problem;
use crate::proto::tempopb::{
    Exemplar, InstantSeries, PartialStatus, QueryInstantRequest, QueryInstantResponse, QueryRangeRequest,
    QueryRangeResponse, Sample, TimeSeries,
};
use crate::state::ApiState;
use crate::steps::{metrics_range, step_nanos};
use crate::time::{parse_duration, parse_moment};
use tracehouse_otlp::encode::key_value;

const NANOS_PER_MILLI: i64 = 1_000_000;
const QUERY: &str = "a TraceQL metrics query, such as { } | rate()";

pub(super) async fn range(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let parameters = parameters(&uri)?;
    let range = time_range(&parameters, &state)?;
    let step = parameters.parsed("step", parse_step, "a duration such as 15s, or seconds such as 15")?;
    let exemplars = parameters.count("exemplars", 0, 0..=usize::MAX)?;
    let query = query_of(&parameters)?;
    let reading = Reading::of(query, exemplars);
    let request = range_request(query, &range, step, &reading, &state)?;
    let found = state.answers.metrics(&caller, request).await?;
    let partial = found.partial_reason.clone();
    let memory = vec![found.memory.clone()];
    let answer = large(&state, &headers, items_of(&found.series), JSON, move || {
        serde_json::to_vec(&range_response(&reading, found)).expect("writing plain data to memory can't fail")
    })
    .await?;
    Ok(until_sent(with_partial_header(answer, partial), memory))
}

pub(super) async fn instant(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let parameters = parameters(&uri)?;
    let range = time_range(&parameters, &state)?;
    let request = instant_request(query_of(&parameters)?, &range);
    let name = Reading::of(&request.traceql, 0).name;
    let found = state.answers.metrics(&caller, request).await?;
    let partial = found.partial_reason.clone();
    let memory = vec![found.memory.clone()];
    let answer = large(&state, &headers, found.series.len(), JSON, move || {
        serde_json::to_vec(&instant_response(&name, found)).expect("writing plain data to memory can't fail")
    })
    .await?;
    Ok(until_sent(with_partial_header(answer, partial), memory))
}

/// The same as a gRPC client asks it.
pub(super) async fn streamed_range(
    state: &ApiState,
    caller: &Caller,
    asked: QueryRangeRequest,
) -> Result<Found<QueryRangeResponse>, Problem> {
    let range = range_of_message(asked.start, asked.end, state)?;
    let step = Some(asked.step).filter(|step| *step > 0).map(|step| i64::try_from(step).unwrap_or(i64::MAX));
    let query = given(&asked.query)?;
    let reading = Reading::of(query, asked.exemplars as usize);
    let request = range_request(query, &range, step, &reading, state)?;
    let found = state.answers.metrics(caller, request).await?;
    Ok(Found { partial_reason: found.partial_reason.clone(), answer: range_response(&reading, found) })
}

/// The same as a gRPC client asks it.
pub(super) async fn streamed_instant(
    state: &ApiState,
    caller: &Caller,
    asked: QueryInstantRequest,
) -> Result<Found<QueryInstantResponse>, Problem> {
    let range = range_of_message(asked.start, asked.end, state)?;
    let found = state.answers.metrics(caller, instant_request(given(&asked.query)?, &range)).await?;
    let name = Reading::of(&asked.query, 0).name;
    Ok(Found { partial_reason: found.partial_reason.clone(), answer: instant_response(&name, found) })
}

/// The query, which has two names in Tempo as well.
fn query_of(parameters: &Parameters) -> Result<&str, Problem> {
    match parameters.text("q")? {
        Some(query) => Ok(query),
        None => parameters.text("query")?.map_or_else(|| parameters.required("q", QUERY), Ok),
    }
}

fn given(query: &str) -> Result<&str, Problem> {
    let missing = || Problem::invalid_parameter("query", format!("`query` is missing; expected {QUERY}"));
    Some(query).filter(|query| !query.is_empty()).ok_or_else(missing)
}

/// `start` and `end`, or `since`: how long before the end the range begins. A moment of 0 is as good as none.
fn time_range(parameters: &Parameters, state: &ApiState) -> Result<Range<i64>, Problem> {
    let start = parameters.moment("start")?.filter(|moment| *moment != 0);
    let end = parameters.moment("end")?.filter(|moment| *moment != 0);
    metrics_range(start, end, parameters.duration("since")?, state.clock.now_unix_nanos())
}

/// Clients send nanoseconds; seconds are told apart as in the parameters of HTTP.
fn range_of_message(start: u64, end: u64, state: &ApiState) -> Result<Range<i64>, Problem> {
    let moment = |name: &str, value: u64| {
        let expected = "nanoseconds or seconds since 1970";
        let text = value.to_string();
        if value == 0 {
            return Ok(None);
        }
        parse_moment(&text).map(Some).ok_or_else(|| Problem::parameter(name, &text, expected))
    };
    metrics_range(moment("start", start)?, moment("end", end)?, None, state.clock.now_unix_nanos())
}

/// A duration, or a number of seconds.
fn parse_step(text: &str) -> Option<i64> {
    parse_duration(text).or_else(|| parse_duration(&format!("{text}s")))
}

fn range_request(
    query: &str,
    range: &Range<i64>,
    step: Option<i64>,
    reading: &Reading,
    state: &ApiState,
) -> Result<MetricsRequest, Problem> {
    let step = step_nanos(range, Some(step.unwrap_or_else(|| default_step(range))))?;
    let range = whole_steps(range, step, state.clock.now_unix_nanos());
    Ok(MetricsRequest {
        traceql: query.to_owned(),
        start_unix_nanos: range.start,
        end_unix_nanos: range.end,
        step_nanos: Some(step),
        exemplars_max: reading.exemplars_of_series(),
        exemplars_in_all_max: Some(reading.exemplars),
        histogram: HistogramBuckets::PowersOfTwo,
    })
}

fn instant_request(query: &str, range: &Range<i64>) -> MetricsRequest {
    MetricsRequest {
        traceql: query.to_owned(),
        start_unix_nanos: range.start,
        end_unix_nanos: range.end,
        step_nanos: None,
        exemplars_max: 0,
        exemplars_in_all_max: None,
        histogram: HistogramBuckets::PowersOfTwo,
    }
}

fn range_response(reading: &Reading, found: MetricsAnswer) -> QueryRangeResponse {
    let metrics = search_metrics(&found.inspected, 0, found.partial_reason.is_none());
    let exemplars_each = reading.exemplars.div_ceil(found.series.len().max(1));
    let end_millis = |step: usize| {
        let end = found.start_unix_nanos.saturating_add(found.step_nanos.saturating_mul(step as i64 + 1));
        end / NANOS_PER_MILLI
    };
    let step_of = |moment: i64| usize::try_from((moment - found.start_unix_nanos).div_euclid(found.step_nanos.max(1)));
    let mut labelling = Labelling::new(&reading.name);
    let series = found.series.into_iter().map(|series| {
        let mut exemplars = series.exemplars;
        exemplars.sort_by_key(|exemplar| exemplar.start_unix_nanos);
        let value_at = |step: usize| series.values.get(step).copied().flatten();
        let shown = |exemplar: &tracehouse_query::Exemplar| {
            let of_step = || step_of(exemplar.start_unix_nanos).ok().and_then(value_at);
            let value = if reading.measures { Some(exemplar.value) } else { of_step() };
            value.map(|value| exemplar_at(exemplar, value))
        };
        let sample = |step| Some(Sample { value: value_at(step)?, timestamp_ms: end_millis(step) });
        TimeSeries {
            samples: (0..series.values.len()).filter_map(sample).collect(),
            exemplars: spread(&exemplars, exemplars_each).filter_map(shown).collect(),
            labels: labelling.of(series.labels),
        }
    });
    QueryRangeResponse {
        series: series.collect(),
        metrics: Some(metrics),
        status: partial_status(found.partial_reason.as_deref()),
        message: found.partial_reason.unwrap_or_default(),
    }
}

/// At most `count` items at even distances.
fn spread<T>(items: &[T], count: usize) -> impl Iterator<Item = &T> {
    let count = count.min(items.len());
    (0..count).map(move |at| &items[at * items.len() / count])
}

/// Labels of series as Tempo writes them, no two alike: where the plain form of a value is that of another series, as of a text and a
/// list of this one text, the later one's values are JSON.
struct Labelling<'a> {
    /// What a series is called that is not grouped.
    name: &'a str,
    taken: SeededSet<Vec<u8>>,
}

impl<'a> Labelling<'a> {
    fn new(name: &'a str) -> Self {
        Self { name, taken: SeededSet::default() }
    }

    fn of(&mut self, labels: Vec<(String, Option<AnyValue>)>) -> Vec<KeyValue> {
        let mut labels = labels;
        loop {
            let shown = shown_labels(&labels, self.name);
            let bytes = shown.iter().flat_map(Message::encode_length_delimited_to_vec).collect();
            // What has no label but its name can't be told apart.
            if self.taken.insert(bytes) || labels.is_empty() {
                return shown;
            }
            for (_, value) in labels.iter_mut().filter(|(key, _)| key != TENANT_KEY) {
                *value = Some(AnyValue::String(value.take().unwrap_or(AnyValue::Empty).to_canonical_json()));
            }
        }
    }
}

/// As in Tempo: a series that is not grouped has the name of what it is, and fields that the spans of a series don't have
/// are left out, unless no label would be left. In `compare()` such a field stands for the total. A tenant, which comes last, is no
/// field of the spans.
fn shown_labels(labels: &[(String, Option<AnyValue>)], name: &str) -> Vec<KeyValue> {
    let (tenant, labels) = match labels.split_last() {
        Some((tenant, others)) if tenant.0 == TENANT_KEY => (Some(tenant), others),
        _ => (None, labels),
    };
    let has_value = |(_, value): &&(String, Option<AnyValue>)| value.is_some();
    let shown: Vec<_> = match labels.first() {
        None if tenant.is_some() => Vec::new(),
        None => return vec![key_value("__name__".to_owned(), AnyValue::String(name.to_owned()))],
        Some((key, _)) if key == "__meta_type" => labels.iter().collect(),
        Some(_) if labels.iter().any(|label| has_value(&label)) => labels.iter().filter(has_value).collect(),
        Some(first) => vec![first],
    };
    shown.into_iter().chain(tenant).map(|(key, value)| labelled(key.clone(), key, value.clone())).collect()
}

/// Grafana makes links to traces of the ids.
fn exemplar_at(exemplar: &tracehouse_query::Exemplar, value: f64) -> Exemplar {
    let text = |key: &str, id: String| key_value(key.to_owned(), AnyValue::String(id));
    let ids = [text("trace:id", exemplar.trace_id.to_string()), text("span:id", exemplar.span_id.to_string())];
    let fields = exemplar.fields.iter().filter(|shown| ids.iter().all(|id| id.key != shown.field));
    let fields = fields.map(|shown| labelled(shown.field.clone(), &shown.field, Some(shown.value.clone())));
    Exemplar {
        labels: ids.iter().cloned().chain(fields).collect(),
        value,
        timestamp_ms: exemplar.start_unix_nanos / NANOS_PER_MILLI,
    }
}

/// The last step of each series, which is the only one. Series without a value are left out.
fn instant_response(name: &str, found: MetricsAnswer) -> QueryInstantResponse {
    let metrics = search_metrics(&found.inspected, 0, found.partial_reason.is_none());
    let mut labelling = Labelling::new(name);
    let series = found.series.into_iter().filter_map(|series| {
        let value = series.values.last().copied().flatten()?;
        Some(InstantSeries { labels: labelling.of(series.labels), value })
    });
    QueryInstantResponse {
        series: series.collect(),
        metrics: Some(metrics),
        status: partial_status(found.partial_reason.as_deref()),
        message: found.partial_reason.unwrap_or_default(),
    }
}

fn partial_status(partial_reason: Option<&str>) -> i32 {
    let status = if partial_reason.is_none() { PartialStatus::Complete } else { PartialStatus::Partial };
    status.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_without_a_value_are_left_out() {
        type Labels<'a> = &'a [(&'a str, Option<&'a str>)];
        let table: [(Labels, &[(&str, &str)]); 9] = [
            (&[], &[("__name__", "rate")]),
            (&[("a", Some("1")), ("b", None)], &[("a", "1")]),
            (&[("a", None), ("b", Some("2"))], &[("b", "2")]),
            (&[("a", None), ("b", None)], &[("a", "nil")]),
            (&[("a", None), ("p", Some("0.9"))], &[("p", "0.9")]),
            (
                &[("__meta_type", Some("baseline_total")), ("span.a", None)],
                &[("__meta_type", "baseline_total"), ("span.a", "nil")],
            ),
            (&[("tenant", Some("t"))], &[("tenant", "t")]),
            (&[("a", None), ("tenant", Some("t"))], &[("a", "nil"), ("tenant", "t")]),
            (
                &[("__meta_type", Some("baseline_total")), ("span.a", None), ("tenant", Some("t"))],
                &[("__meta_type", "baseline_total"), ("span.a", "nil"), ("tenant", "t")],
            ),
        ];
        let text = |text: &str| AnyValue::String(text.to_owned());
        for (given, expected) in table {
            let given: Vec<_> = given.iter().map(|(key, value)| ((*key).to_owned(), value.map(text))).collect();
            let expected: Vec<KeyValue> =
                expected.iter().map(|(key, value)| key_value((*key).to_owned(), text(value))).collect();
            assert_eq!(shown_labels(&given, "rate"), expected);
        }
    }

    #[test]
    fn no_two_series_have_the_same_labels() {
        let text = |text: &str| Some(AnyValue::String(text.to_owned()));
        let list = |values: &[&str]| {
            Some(AnyValue::Array(values.iter().map(|value| AnyValue::String((*value).to_owned())).collect()))
        };
        let one = |key: &str, value: Option<AnyValue>| vec![(key.to_owned(), value)];
        let series = [
            (one("span.a", text("a")), "a"),
            (one("span.a", list(&["a"])), r#"["a"]"#),
            (one("span.a", text(r#"["a"]"#)), r#""[\"a\"]""#),
            (one("span.a", list(&["a", "b"])), r#"["a","b"]"#),
            (one("span.a", None), "nil"),
            (one("span.a", text("nil")), r#""nil""#),
            (one("span.b", text("nil")), "nil"),
            (one("span.b", None), "null"),
            (one("event.a", list(&["a", "b"])), "a"),
            (one("event.a", list(&["a", "c"])), r#"["a","c"]"#),
        ];
        let mut labelling = Labelling::new("rate");
        for (labels, expected) in series {
            let shown = labelling.of(labels.clone());
            let [only] = &shown[..] else { panic!("{shown:?}") };
            assert_eq!(*only, key_value(labels[0].0.clone(), AnyValue::String(expected.to_owned())));
        }
        let int = |value| one("span.a", Some(AnyValue::Int(value)));
        assert_eq!(labelling.of(int(1)), vec![key_value("span.a".to_owned(), AnyValue::Int(1))]);
        let of_list = labelling.of(one("span.a", Some(AnyValue::Array(vec![AnyValue::Int(1)]))));
        assert_eq!(of_list, vec![key_value("span.a".to_owned(), AnyValue::String("[1]".to_owned()))]);
    }

    #[test]
    fn what_is_thinned_out_is_spread() {
        let table: [(usize, usize, &[usize]); 5] =
            [(0, 3, &[]), (3, 0, &[]), (3, 5, &[0, 1, 2]), (10, 2, &[0, 5]), (10, 3, &[0, 3, 6])];
        for (items, count, expected) in table {
            let items: Vec<usize> = (0..items).collect();
            assert_eq!(spread(&items, count).copied().collect::<Vec<_>>(), expected, "{count} of {}", items.len());
        }
    }
}
