use std::ops::Range;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Uri};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use tracehouse_model::{AnyValue, TenantId};
use tracehouse_query::{MetricsAnswer, MetricsRequest};
use tracehouse_traceql::{MetricsExpr, QueryExpr};

use super::{label, parameters, search_metrics};
use crate::answer::{JSON, items_of, large, with_partial_header};
use crate::otlp_out::key_value;
use crate::params::Parameters;
use crate::problem::Problem;
use crate::proto::tempopb::{
    Exemplar, InstantSeries, PartialStatus, QueryInstantRequest, QueryInstantResponse, QueryRangeRequest,
    QueryRangeResponse, Sample, TimeSeries,
};
use crate::state::ApiState;
use crate::steps::{EXEMPLARS_MAX, metrics_range, step_nanos};
use crate::tenant::Tenant;
use crate::time::{parse_duration, parse_moment};

const NANOS_PER_MILLI: i64 = 1_000_000;
const QUERY: &str = "a TraceQL metrics query, such as { } | rate()";

pub(super) async fn range(
    State(state): State<ApiState>,
    tenant: Tenant,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let parameters = parameters(&uri)?;
    let range = time_range(&parameters, &state)?;
    let step = parameters.parsed("step", parse_step, "a duration such as 15s, or seconds such as 15")?;
    let exemplars = parameters.count("exemplars", 0, 0..=usize::MAX)?;
    let request = range_request(parameters.required("q", QUERY)?, &range, step, exemplars)?;
    let name = name_of(&request.traceql);
    let found = state.answers.metrics(&tenant.0, request).await?;
    let partial = found.partial_reason.clone();
    let answer = large(&state, &headers, items_of(&found.series), JSON, move || {
        serde_json::to_vec(&range_response(&name, found, exemplars)).expect("writing plain data to memory can't fail")
    })
    .await?;
    Ok(with_partial_header(answer, partial))
}

pub(super) async fn instant(
    State(state): State<ApiState>,
    tenant: Tenant,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let parameters = parameters(&uri)?;
    let range = time_range(&parameters, &state)?;
    let request = instant_request(parameters.required("q", QUERY)?, &range);
    let name = name_of(&request.traceql);
    let found = state.answers.metrics(&tenant.0, request).await?;
    let partial = found.partial_reason.clone();
    let answer = large(&state, &headers, found.series.len(), JSON, move || {
        serde_json::to_vec(&instant_response(&name, found)).expect("writing plain data to memory can't fail")
    })
    .await?;
    Ok(with_partial_header(answer, partial))
}

/// The same as a gRPC client asks it.
pub(super) async fn streamed_range(
    state: &ApiState,
    tenant: &TenantId,
    asked: QueryRangeRequest,
) -> Result<QueryRangeResponse, Problem> {
    let range = range_of_message(asked.start, asked.end, state)?;
    let step = Some(asked.step).filter(|step| *step > 0).map(|step| i64::try_from(step).unwrap_or(i64::MAX));
    let exemplars = asked.exemplars as usize;
    let request = range_request(given(&asked.query)?, &range, step, exemplars)?;
    let name = name_of(&request.traceql);
    Ok(range_response(&name, state.answers.metrics(tenant, request).await?, exemplars))
}

/// The same as a gRPC client asks it.
pub(super) async fn streamed_instant(
    state: &ApiState,
    tenant: &TenantId,
    asked: QueryInstantRequest,
) -> Result<QueryInstantResponse, Problem> {
    let range = range_of_message(asked.start, asked.end, state)?;
    let found = state.answers.metrics(tenant, instant_request(given(&asked.query)?, &range)).await?;
    Ok(instant_response(&name_of(&asked.query), found))
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
    exemplars: usize,
) -> Result<MetricsRequest, Problem> {
    Ok(MetricsRequest {
        traceql: query.to_owned(),
        start_unix_nanos: range.start,
        end_unix_nanos: range.end,
        step_nanos: Some(step_nanos(range, step)?),
        exemplars_max: exemplars.min(EXEMPLARS_MAX),
    })
}

fn instant_request(query: &str, range: &Range<i64>) -> MetricsRequest {
    MetricsRequest {
        traceql: query.to_owned(),
        start_unix_nanos: range.start,
        end_unix_nanos: range.end,
        step_nanos: None,
        exemplars_max: 0,
    }
}

/// `exemplars` is a number for all series together, which share it evenly.
fn range_response(name: &str, found: MetricsAnswer, exemplars: usize) -> QueryRangeResponse {
    let metrics = search_metrics(&found.inspected, 0, found.partial_reason.is_none());
    let exemplars_each = exemplars.min(EXEMPLARS_MAX).div_ceil(found.series.len().max(1));
    let end_millis = |step: usize| {
        let end = found.start_unix_nanos.saturating_add(found.step_nanos.saturating_mul(step as i64 + 1));
        end / NANOS_PER_MILLI
    };
    let series = found.series.into_iter().map(|series| TimeSeries {
        labels: labels(series.labels, name),
        samples: series
            .values
            .into_iter()
            .enumerate()
            .filter_map(|(step, value)| {
                Some(Sample { value: value.filter(|value| value.is_finite())?, timestamp_ms: end_millis(step) })
            })
            .collect(),
        exemplars: series.exemplars.into_iter().take(exemplars_each).map(exemplar).collect(),
    });
    QueryRangeResponse {
        series: series.collect(),
        metrics: Some(metrics),
        status: partial_status(found.partial_reason.as_deref()),
        message: found.partial_reason.unwrap_or_default(),
    }
}

/// A series that is not grouped has the name of what it is, as in Tempo.
fn labels(labels: Vec<(String, Option<AnyValue>)>, name: &str) -> Vec<KeyValue> {
    if labels.is_empty() {
        return vec![key_value("__name__".to_owned(), AnyValue::String(name.to_owned()))];
    }
    labels.into_iter().map(|(key, value)| label(key, value)).collect()
}

/// `rate`, or `(rate / count_over_time)`; the query has been answered, so it can be read.
fn name_of(query: &str) -> String {
    match tracehouse_traceql::parse(query).map(|query| query.expr) {
        Ok(QueryExpr::Metrics(expr)) => name_of_series(&expr),
        _ => String::new(),
    }
}

fn name_of_series(expr: &MetricsExpr) -> String {
    match expr {
        MetricsExpr::Series { function, .. } => function.name().to_owned(),
        MetricsExpr::Then { input, .. } => name_of_series(input),
        MetricsExpr::Arithmetic { op, left, right, .. } => {
            format!("({} {} {})", name_of_series(left), op.symbol(), name_of_series(right))
        }
        MetricsExpr::Literal { value, .. } => value.to_string(),
    }
}

/// Grafana makes links to traces of these labels.
fn exemplar(exemplar: tracehouse_query::Exemplar) -> Exemplar {
    let text = |key: &str, id: String| key_value(key.to_owned(), AnyValue::String(id));
    Exemplar {
        labels: vec![text("trace:id", exemplar.trace_id.to_string()), text("span:id", exemplar.span_id.to_string())],
        value: exemplar.value,
        timestamp_ms: exemplar.start_unix_nanos / NANOS_PER_MILLI,
    }
}

/// The last step of each series, which is the only one. Series without a value are left out.
fn instant_response(name: &str, found: MetricsAnswer) -> QueryInstantResponse {
    let metrics = search_metrics(&found.inspected, 0, found.partial_reason.is_none());
    let series = found.series.into_iter().filter_map(|series| {
        let value = series.values.last().copied().flatten().filter(|value| value.is_finite())?;
        Some(InstantSeries { labels: labels(series.labels, name), value })
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
