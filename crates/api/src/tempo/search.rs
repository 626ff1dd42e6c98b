use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, HeaderValue, Uri};
use serde::Serialize;
use serde_json::value::RawValue;
use tracehouse_model::{AnyValue, status};
use tracehouse_query::{
    Condition, MatchedSpan, MatchedSpanset, Operator, Scope, SearchAnswer, SearchRequest, TraceSummary,
};

use super::otlp_json::value_json;
use super::{PARTIAL_HEADER, logfmt, parameters, time_range_seconds};
use crate::answer::{JSON, large};
use crate::params::Parameters;
use crate::problem::Problem;
use crate::state::ApiState;
use crate::tenant::Tenant;

const TRACES_DEFAULT: usize = 20;
const TRACES_MAX: usize = 1000;
const SPANS_PER_SPANSET_DEFAULT: usize = 3;
const SPANS_PER_SPANSET_MAX: usize = 1000;
const TAGS_MAX: usize = 32;

pub(super) async fn search(
    State(state): State<ApiState>,
    tenant: Tenant,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let request = request(&parameters(&uri)?)?;
    let found = state.answers.search(&tenant.0, request).await?;
    let partial = found.partial_reason.as_deref().and_then(|reason| HeaderValue::from_str(reason).ok());
    let mut response = large(&state, &headers, found.traces.len(), JSON, move || {
        serde_json::to_vec(&body(found)).expect("writing plain data to memory can't fail")
    })
    .await?;
    if let Some(reason) = partial {
        response.headers_mut().insert(PARTIAL_HEADER, reason);
    }
    Ok(response)
}

fn request(parameters: &Parameters) -> Result<SearchRequest, Problem> {
    let conditions = match parameters.text("tags")? {
        Some(tags) => tag_conditions(tags)?,
        None => Vec::new(),
    };
    let (min, max) = parameters.duration_range("minDuration", "maxDuration")?;
    let range = time_range_seconds(parameters)?;
    let spans = parameters.count("spss", SPANS_PER_SPANSET_DEFAULT, 0..=usize::MAX)?;
    Ok(SearchRequest {
        conditions,
        traceql: parameters.text("q")?.map(str::to_owned),
        start_unix_nanos: range.start_unix_nanos,
        end_unix_nanos: range.end_unix_nanos,
        limit: parameters.count("limit", TRACES_DEFAULT, 1..=TRACES_MAX)?,
        // As in Tempo, 0 is as good as no limit.
        spans_per_spanset: if spans == 0 { SPANS_PER_SPANSET_MAX } else { spans.min(SPANS_PER_SPANSET_MAX) },
        trace_duration_nanos_min: min,
        trace_duration_nanos_max: max,
    })
}

/// Each tag must hold exactly. Some names stand for a field of the span, as in Tempo.
fn tag_conditions(tags: &str) -> Result<Vec<Condition>, Problem> {
    let example = "such as service.name=cart http.route=\"/a b\"";
    let pairs = logfmt::parse(tags).map_err(|why| {
        Problem::invalid_parameter("tags", format!("`tags` is not logfmt: {why}; write key=value pairs, {example}"))
    })?;
    if pairs.len() > TAGS_MAX {
        return Err(Problem::invalid_parameter("tags", format!("more than {TAGS_MAX} tags; use fewer")));
    }
    pairs.into_iter().map(|(key, value)| tag_condition(key, value)).collect()
}

fn tag_condition(key: String, value: String) -> Result<Condition, Problem> {
    let code = |name: &str| {
        status::from_name(name).ok_or_else(|| Problem::parameter("tags", name, "for the status: error, ok or unset"))
    };
    Ok(match key.as_str() {
        "service.name" => Condition::Service(value),
        "name" => Condition::Operation(value),
        "status" | "status.code" => Condition::Status(code(&value)?),
        "error" if value.is_empty() || value == "true" => Condition::Status(status::ERROR),
        _ => Condition::Attribute { scope: Scope::Either, key, operator: Operator::Equal, value },
    })
}

/// `tempopb.SearchResponse`, with no field that it doesn't have: clients of Go refuse others.
#[derive(Serialize)]
struct SearchResponse {
    traces: Vec<TraceSearchMetadata>,
    metrics: SearchMetrics,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TraceSearchMetadata {
    #[serde(rename = "traceID")]
    trace_id: String,
    root_service_name: String,
    root_trace_name: String,
    start_time_unix_nano: String,
    duration_ms: u64,
    /// Older clients read this one, newer ones `spanSets`.
    #[serde(skip_serializing_if = "Option::is_none")]
    span_set: Option<SpanSet>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    span_sets: Vec<SpanSet>,
    service_stats: BTreeMap<String, ServiceStats>,
}

#[derive(Clone, Serialize)]
struct SpanSet {
    spans: Vec<FoundSpan>,
    matched: u64,
    /// The values of a `by()`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attributes: Vec<FoundAttribute>,
}

#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct FoundSpan {
    #[serde(rename = "spanID")]
    span_id: String,
    name: String,
    start_time_unix_nano: String,
    duration_nanos: String,
    attributes: Vec<FoundAttribute>,
}

#[derive(Clone, Serialize)]
struct FoundAttribute {
    key: String,
    value: Box<RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ServiceStats {
    span_count: u64,
    #[serde(skip_serializing_if = "is_zero")]
    error_count: u64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SearchMetrics {
    inspected_traces: u64,
    inspected_bytes: String,
    total_blocks: u64,
    completed_jobs: u64,
    total_jobs: u64,
    inspected_spans: String,
}

fn body(found: SearchAnswer) -> SearchResponse {
    let inspected = found.inspected;
    // One job for each file and one for what is in memory. Fewer completed than there are means: not the whole answer.
    let total_jobs = inspected.files_total + 1;
    let completed_jobs = if found.partial_reason.is_none() { total_jobs } else { inspected.files.min(total_jobs - 1) };
    SearchResponse {
        metrics: SearchMetrics {
            inspected_traces: found.traces.len() as u64,
            inspected_bytes: inspected.bytes.to_string(),
            total_blocks: inspected.files_total,
            completed_jobs,
            total_jobs,
            inspected_spans: inspected.spans.to_string(),
        },
        traces: found.traces.into_iter().map(trace_metadata).collect(),
    }
}

fn trace_metadata(trace: TraceSummary) -> TraceSearchMetadata {
    let span_sets: Vec<SpanSet> = trace.spansets.into_iter().map(span_set).collect();
    let stats = |count: u64, errors: u64| ServiceStats { span_count: count, error_count: errors };
    TraceSearchMetadata {
        trace_id: trace.trace_id.to_string(),
        root_service_name: trace.root_service_name,
        root_trace_name: trace.root_span_name,
        start_time_unix_nano: trace.start_unix_nanos.to_string(),
        duration_ms: u64::try_from(trace.duration_nanos / 1_000_000).unwrap_or(0),
        span_set: span_sets.first().cloned(),
        span_sets,
        service_stats: trace
            .services
            .into_iter()
            .map(|share| (share.name, stats(share.span_count, share.error_count)))
            .collect(),
    }
}

fn span_set(spanset: MatchedSpanset) -> SpanSet {
    let by = spanset.by.into_iter().map(|(field, value)| FoundAttribute {
        key: format!("by({field})"),
        value: value_json(value.unwrap_or_else(|| AnyValue::String("nil".to_owned()))),
    });
    SpanSet {
        attributes: by.collect(),
        matched: spanset.matched_count,
        spans: spanset.spans.into_iter().map(found_span).collect(),
    }
}

/// A field as Grafana shows it: without its scope.
fn tag_name(field: &str) -> &str {
    let scopes = ["span.", "resource.", "event.", "link.", "instrumentation.", "."];
    scopes.iter().find_map(|scope| field.strip_prefix(scope)).unwrap_or(field)
}

fn found_span(span: MatchedSpan) -> FoundSpan {
    let mut attributes: Vec<FoundAttribute> = Vec::new();
    let mut attribute = |key: &str, value| {
        if !attributes.iter().any(|known| known.key == key) {
            attributes.push(FoundAttribute { key: key.to_owned(), value: value_json(value) });
        }
    };
    if !span.service_name.is_empty() {
        attribute("service.name", AnyValue::String(span.service_name));
    }
    if span.status_code != status::UNSET {
        attribute("status", AnyValue::String(status::name(span.status_code).to_owned()));
    }
    for (field, value) in span.fields {
        attribute(tag_name(&field), value);
    }
    FoundSpan {
        span_id: span.span_id.to_string(),
        name: span.name,
        start_time_unix_nano: span.start_unix_nanos.to_string(),
        duration_nanos: span.duration_nanos.to_string(),
        attributes,
    }
}
