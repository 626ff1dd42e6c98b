use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Uri};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use tracehouse_model::{AnyValue, Caller, status};
use tracehouse_query::{
    Condition, MatchedSpan, MatchedSpanset, Operator, QueryError, Scope, SearchAnswer, SearchRequest, Selects,
    ServiceCount, ShownValue, TENANT_KEY, TraceSummary,
};
use tracehouse_traceql::{Intrinsic, Static};

use super::form::{Form, by_form};
use super::logfmt;
use super::shared::{Found, count, parameters, search_metrics, seconds_range, time_range_seconds};
use super::values::{labelled, tag_name, value_of};
use crate::answer::{large, until_sent, with_partial_header};
use crate::by_trace::by_trace;
use crate::params::Parameters;
use crate::problem::Problem;
use crate::proto::tempopb::{self, SearchResponse, ServiceStats, Span, SpanSet, TraceSearchMetadata};
use crate::state::ApiState;
use tracehouse_otlp::encode::key_value;

const TRACES_DEFAULT: usize = 20;
const TRACES_MAX: usize = 1000;
const SPANS_PER_SPANSET_DEFAULT: usize = 3;
const SPANS_PER_SPANSET_MAX: usize = 1000;
const TAGS_MAX: usize = 32;

pub(super) async fn search(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let Found { answer: found, partial_reason } = find(&state, &caller, request(&parameters(&uri)?)?).await?;
    let traces = found.traces.len();
    let (memory, form) = (vec![found.memory.clone()], Form::wanted(&headers));
    let write = move || form.write(&response(found));
    let answer = large(&state, &headers, traces, form.content_type(), write).await?;
    Ok(until_sent(with_partial_header(by_form(answer), partial_reason), memory))
}

/// The same as a gRPC client asks it.
pub(super) async fn streamed(
    state: &ApiState,
    caller: &Caller,
    asked: tempopb::SearchRequest,
) -> Result<Found<SearchResponse>, Problem> {
    let Tags { conditions, of_trace } = conditions(asked.tags.into_iter().collect())?;
    let millis = |millis: u32| (millis > 0).then(|| i64::from(millis) * 1_000_000);
    let range = seconds_range(Some(asked.start), Some(asked.end))?;
    let request = SearchRequest {
        conditions,
        traceql: with_condition(Some(asked.query).filter(|query| !query.is_empty()), of_trace),
        start_unix_nanos: range.start_unix_nanos,
        end_unix_nanos: range.end_unix_nanos,
        selects: Selects::Overlapping,
        order: None,
        limit: if asked.limit == 0 { TRACES_DEFAULT } else { asked.limit as usize },
        spans_per_spanset: match asked.spans_per_span_set as usize {
            0 => SPANS_PER_SPANSET_DEFAULT,
            spans => spans.min(SPANS_PER_SPANSET_MAX),
        },
        targets: false,
        trace_duration_nanos_min: millis(asked.min_duration_ms),
        trace_duration_nanos_max: millis(asked.max_duration_ms),
    };
    Ok(find(state, caller, request).await?.map(response))
}

/// At most [`TRACES_MAX`] traces, whatever is asked for. One more is looked for, to say whether there are more.
async fn find(
    state: &ApiState,
    caller: &Caller,
    mut request: SearchRequest,
) -> Result<Found<SearchAnswer>, QueryError> {
    request.limit = request.limit.min(TRACES_MAX + 1);
    let mut answer = state.answers.search(caller, request).await?;
    answer.traces.iter_mut().for_each(show_tenant);
    answer.traces = by_trace(answer.traces);
    if answer.traces.len() > TRACES_MAX {
        answer.traces.truncate(TRACES_MAX);
        let cut = format!("the newest {TRACES_MAX} of more traces, as no more are answered at once");
        let reasons: Vec<String> = answer.partial_reason.into_iter().chain([cut]).collect();
        answer.partial_reason = Some(reasons.join("; "));
    }
    let partial_reason = answer.partial_reason.clone();
    Ok(Found { answer, partial_reason })
}

/// Grafana knows a trace by its id alone and shows the attributes of spans: of several tenants each span names its own.
fn show_tenant(trace: &mut TraceSummary) {
    let Some(tenant) = &trace.tenant else { return };
    for span in trace.spansets.iter_mut().flat_map(|spanset| &mut spanset.spans) {
        let value = AnyValue::String(tenant.to_string());
        span.fields.insert(0, ShownValue { field: TENANT_KEY.to_owned(), value, matched: None });
    }
}

fn request(parameters: &Parameters) -> Result<SearchRequest, Problem> {
    let Tags { conditions, of_trace } = match parameters.text("tags")? {
        Some(tags) => tag_conditions(tags)?,
        None => Tags::default(),
    };
    let (min, max) = parameters.duration_range("minDuration", "maxDuration")?;
    let range = time_range_seconds(parameters)?;
    let spans = parameters.count("spss", SPANS_PER_SPANSET_DEFAULT, 0..=usize::MAX)?;
    Ok(SearchRequest {
        conditions,
        traceql: with_condition(parameters.text("q")?.map(str::to_owned), of_trace),
        start_unix_nanos: range.start_unix_nanos,
        end_unix_nanos: range.end_unix_nanos,
        selects: Selects::Overlapping,
        order: None,
        limit: parameters.count("limit", TRACES_DEFAULT, 1..=u32::MAX as usize)?,
        // As in Tempo, 0 is as good as no limit.
        spans_per_spanset: if spans == 0 { SPANS_PER_SPANSET_MAX } else { spans.min(SPANS_PER_SPANSET_MAX) },
        targets: false,
        trace_duration_nanos_min: min,
        trace_duration_nanos_max: max,
    })
}

/// What `tags` ask for.
#[derive(Default)]
struct Tags {
    conditions: Vec<Condition>,
    /// Of the root of the trace, as TraceQL writes it.
    of_trace: Vec<String>,
}

/// A query whose traces satisfy conditions too.
fn with_condition(query: Option<String>, conditions: Vec<String>) -> Option<String> {
    if conditions.is_empty() {
        return query;
    }
    let filter = format!("{{ {} }}", conditions.join(" && "));
    Some(query.map_or_else(|| filter.clone(), |query| format!("{query} | {filter}")))
}

/// Each tag must hold exactly. Some names stand for a field of the span or its trace, as in Tempo.
fn tag_conditions(tags: &str) -> Result<Tags, Problem> {
    let example = "such as service.name=cart http.route=\"/a b\"";
    let pairs = logfmt::parse(tags).map_err(|why| {
        Problem::invalid_parameter("tags", format!("`tags` is not logfmt: {why}; write key=value pairs, {example}"))
    })?;
    conditions(pairs)
}

fn conditions(pairs: Vec<(String, String)>) -> Result<Tags, Problem> {
    if pairs.len() > TAGS_MAX {
        return Err(Problem::invalid_parameter("tags", format!("more than {TAGS_MAX} tags; use fewer")));
    }
    let mut tags = Tags::default();
    for (key, value) in pairs {
        let of_root = match key.as_str() {
            "root.name" => Some(Intrinsic::TraceRootName),
            "root.service.name" => Some(Intrinsic::TraceRootService),
            _ => None,
        };
        match of_root {
            Some(field) => tags.of_trace.push(format!("{field} = {}", Static::String(value))),
            None => tags.conditions.push(tag_condition(key, value)?),
        }
    }
    Ok(tags)
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

fn response(found: SearchAnswer) -> SearchResponse {
    let metrics = search_metrics(&found.inspected, found.traces.len(), found.partial_reason.is_none());
    SearchResponse { traces: found.traces.into_iter().map(trace_metadata).collect(), metrics: Some(metrics) }
}

fn trace_metadata(trace: TraceSummary) -> TraceSearchMetadata {
    let span_sets: Vec<SpanSet> = trace.spansets.into_iter().map(span_set).collect();
    let stats = |share: ServiceCount| {
        let counts = ServiceStats { span_count: count(share.span_count), error_count: count(share.error_count) };
        (share.name, counts)
    };
    TraceSearchMetadata {
        trace_id: trace.trace_id.to_string(),
        root_service_name: trace.root_service_name,
        root_trace_name: trace.root_span_name,
        start_time_unix_nano: u64::try_from(trace.start_unix_nanos).unwrap_or(0),
        duration_ms: u32::try_from(trace.duration_nanos / 1_000_000).unwrap_or(if trace.duration_nanos < 0 {
            0
        } else {
            u32::MAX
        }),
        span_set: span_sets.first().cloned(),
        span_sets,
        service_stats: trace.services.into_iter().map(stats).collect(),
    }
}

fn span_set(spanset: MatchedSpanset) -> SpanSet {
    let by = spanset.by.into_iter().map(|(field, value)| labelled(format!("by({field})"), &field, value));
    let aggregates = spanset.aggregates.into_iter().map(|(name, value)| key_value(name, value));
    SpanSet {
        attributes: by.chain(aggregates).collect(),
        matched: count(spanset.matched_count),
        spans: spanset.spans.into_iter().map(found_span).collect(),
    }
}

/// Attributes of several scopes may have one name and other values. A field of the span itself gives way to an attribute of its name.
fn found_span(span: MatchedSpan) -> Span {
    let mut attributes: Vec<KeyValue> = Vec::new();
    let names_tenant = span.fields.first().is_some_and(|shown| shown.field == TENANT_KEY);
    let (own, of_scopes): (Vec<ShownValue>, Vec<ShownValue>) =
        span.fields.into_iter().partition(|shown| tag_name(&shown.field) == shown.field && shown.field != TENANT_KEY);
    for ShownValue { field, value, matched } in of_scopes.into_iter().chain(own) {
        let shown = value_of(&field, matched.map_or(value, AnyValue::Array));
        let attribute = key_value(tag_name(&field), shown);
        let is_own = attribute.key == field || (names_tenant && attribute.key == TENANT_KEY);
        if !attributes.iter().any(|known| known.key == attribute.key && (is_own || known.value == attribute.value)) {
            attributes.push(attribute);
        }
    }
    // What every span says of itself, unless something else was asked for under that name.
    let mut also = |key: &str, value: String| {
        if !attributes.iter().any(|known| known.key == key) {
            attributes.insert(0, key_value(key.to_owned(), AnyValue::String(value)));
        }
    };
    if span.status_code != status::UNSET {
        also("status", status::name(span.status_code).to_owned());
    }
    if !span.service_name.is_empty() {
        also("service.name", span.service_name);
    }
    Span {
        span_id: span.span_id.to_string(),
        name: span.name,
        start_time_unix_nano: u64::try_from(span.start_unix_nanos).unwrap_or(0),
        duration_nanos: u64::try_from(span.duration_nanos).unwrap_or(0),
        attributes,
    }
}
