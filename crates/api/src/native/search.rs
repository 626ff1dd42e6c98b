use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Uri};
use tracehouse_model::{AnyValue, Caller, kind, status};
use tracehouse_query::{
    Arrivals, Condition, MatchedSpan, MatchedSpanset, Operator, Order, OrderKey, Scope, SearchAnswer, SearchRequest,
    Selects, TraceCount, TraceSummary,
};

use utoipa::IntoParams;

use super::answers::{
    MatchedSpanAnswer, SearchAnswerBody, ServiceShare, SpansetAnswer, TailAnswer, TraceCountAnswer, TraceSummaryAnswer,
};
use super::span_answer::attributes;
use super::terms::StatusCode;
use crate::answer::{JSON, json, large, until_sent};
use crate::params::Parameters;
use crate::problem::Problem;
use crate::state::ApiState;

const TRACES_DEFAULT: usize = 20;
const TRACES_MAX: usize = 1000;
const SPANS_DEFAULT: usize = 3;
const SPANS_MAX: usize = 100;
const ATTRIBUTES_MAX: usize = 32;
const ORDERS: &str = "start, root, duration, spans or errors, with - before it the other way round";

/// What says which traces are meant, whenever they were …
const CONDITIONS: [&str; 8] = ["service", "operation", "status", "kind", "minDuration", "maxDuration", "attr", "q"];
/// … and when.
const RANGE: [&str; 2] = ["start", "end"];
/// What says how much of them is told.
const DETAIL: [&str; 2] = ["spans", "targets"];

#[derive(IntoParams)]
#[into_params(parameter_in = Query, rename_all = "camelCase")]
#[expect(dead_code, reason = "describes what `request` reads")]
struct SearchConditions {
    #[param(example = "cart")]
    service: Option<String>,
    /// The span's name
    #[param(example = "GET /cart")]
    operation: Option<String>,
    /// error, ok or unset
    status: Option<String>,
    /// server, client, internal, producer, consumer or unspecified
    kind: Option<String>,
    /// Of the span
    #[param(example = "12.5ms")]
    min_duration: Option<String>,
    /// Of the span
    #[param(example = "2s")]
    max_duration: Option<String>,
    /// A key, an operator (= != > >= < <= =~ !~) and a value; may be repeated. `span.` or `resource.` before the key says where to look;
    /// else in both
    #[param(example = json!(["http.route=/cart"]))]
    attr: Option<Vec<String>>,
    /// A TraceQL query that selects spans
    #[param(example = "{ duration > 200ms }")]
    q: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what `request` reads")]
struct SearchRange {
    /// The span begins at this moment or later, or ends after it
    #[param(example = "2026-01-31T12:00:00Z")]
    start: Option<String>,
    /// The span begins before this moment
    end: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what `request` reads")]
struct SearchDetail {
    /// How many spans of each spanset: 1 to 100; 3 if absent
    spans: Option<u32>,
    /// Whether `target` and `rootTarget` are told; more is read for them
    targets: Option<bool>,
}

/// Finds traces with a span that meets all conditions.
#[utoipa::path(
    get, path = "/api/v1/search", tag = "traces",
    params(
        SearchConditions,
        SearchRange,
        ("limit" = Option<u32>, Query, description = "How many traces: 1 to 1000; 20 if absent"),
        SearchDetail,
        ("sort" = Option<String>, Query, description = "start, root, duration, spans or errors of the traces as a whole, with - before it \
            the other way round. It looks at all traces that match; if absent, those with the newest matches are found without that", example = "-duration"),
    ),
    responses((status = 200, body = SearchAnswerBody), (status = 400, body = Problem), (status = 503, body = Problem))
)]
pub(crate) async fn search(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let known: Vec<&str> = CONDITIONS.into_iter().chain(RANGE).chain(DETAIL).chain(["limit", "sort"]).collect();
    let request = request(&Parameters::strict(&uri, &known)?)?;
    let begun = state.clock.monotonic();
    let found = state.answers.search(&caller, request).await?;
    let elapsed_nanos = state.elapsed_nanos(begun);
    let memory = vec![found.memory.clone()];
    let answer = large(&state, &headers, found.traces.len(), JSON, move || {
        serde_json::to_vec(&body(found, elapsed_nanos)).expect("writing plain data to memory can't fail")
    });
    Ok(until_sent(answer.await?, memory))
}

/// Counts the traces with a span that meets all conditions.
#[utoipa::path(
    get, path = "/api/v1/search/count", tag = "traces",
    params(
        SearchConditions,
        SearchRange,
    ),
    responses((status = 200, body = TraceCountAnswer), (status = 400, body = Problem), (status = 503, body = Problem))
)]
pub(crate) async fn count(State(state): State<ApiState>, caller: Caller, uri: Uri) -> Result<Response, Problem> {
    let known: Vec<&str> = CONDITIONS.into_iter().chain(RANGE).collect();
    let request = request(&Parameters::strict(&uri, &known)?)?;
    let begun = state.clock.monotonic();
    let TraceCount { traces, inspected, partial_reason } = state.answers.count(&caller, request).await?;
    let (complete, inspected, elapsed_nanos) = (partial_reason.is_none(), inspected.into(), state.elapsed_nanos(begun));
    Ok(json(&TraceCountAnswer { traces, complete, partial_reason, inspected, elapsed_nanos }))
}

/// Finds traces of which spans came since the last time.
///
/// A position names what came until now. An answer holds the traces of which matching spans came after the position that is asked with,
/// and the next position; asked without one it holds only that. Who asks again and again, every second or so, sees traces as they come.
/// Where a span alone does not show that its trace matches, traces that match are found when any span of theirs comes.
#[utoipa::path(
    get, path = "/api/v1/tail", tag = "traces",
    params(
        SearchConditions,
        ("after" = Option<String>, Query, description = "The position of the answer before", example = "10482"),
        ("limit" = Option<u32>, Query, description = "How many traces: 1 to 1000; 20 if absent. Of more, those of which spans came last"),
        SearchDetail,
    ),
    responses((status = 200, body = TailAnswer), (status = 400, body = Problem), (status = 503, body = Problem))
)]
pub(crate) async fn tail(State(state): State<ApiState>, caller: Caller, uri: Uri) -> Result<Response, Problem> {
    let known: Vec<&str> = CONDITIONS.into_iter().chain(DETAIL).chain(["after", "limit"]).collect();
    let parameters = Parameters::strict(&uri, &known)?;
    let after = parameters.parsed("after", |text| text.parse().ok(), "the position of an answer, or nothing")?;
    let request = request(&parameters)?;
    let begun = state.clock.monotonic();
    let Arrivals { found, traces_begun, spans_arrived, position } =
        state.answers.arrivals(&caller, request, after).await?;
    let answer = json(&TailAnswer {
        traces_matched: found.traces_matched.unwrap_or(found.traces.len() as u64),
        traces: found.traces.into_iter().map(trace_summary).collect(),
        traces_begun,
        spans_arrived,
        position: position.to_string(),
        complete: found.partial_reason.is_none(),
        partial_reason: found.partial_reason,
        elapsed_nanos: state.elapsed_nanos(begun),
    });
    Ok(until_sent(answer, vec![found.memory]))
}

/// `-duration` in its parts.
fn order(text: &str) -> Option<Order> {
    let (key, descending) = text.strip_prefix('-').map_or((text, false), |key| (key, true));
    let key = match key {
        "start" => OrderKey::Start,
        "root" => OrderKey::Root,
        "duration" => OrderKey::Duration,
        "spans" => OrderKey::Spans,
        "errors" => OrderKey::Errors,
        _ => return None,
    };
    Some(Order { key, descending })
}

fn request(parameters: &Parameters) -> Result<SearchRequest, Problem> {
    let mut conditions = Vec::new();
    if let Some(service) = parameters.text("service")? {
        conditions.push(Condition::Service(service.to_owned()));
    }
    if let Some(operation) = parameters.text("operation")? {
        conditions.push(Condition::Operation(operation.to_owned()));
    }
    conditions.extend(parameters.parsed("status", status::from_name, "error, ok or unset")?.map(Condition::Status));
    let kinds = "server, client, internal, producer, consumer or unspecified";
    conditions.extend(parameters.parsed("kind", kind::from_name, kinds)?.map(Condition::Kind));
    let (min, max) = parameters.duration_range("minDuration", "maxDuration")?;
    conditions.extend(min.map(Condition::DurationMin));
    conditions.extend(max.map(Condition::DurationMax));
    for attribute in parameters.all("attr") {
        conditions.push(attribute_condition(attribute)?);
    }
    if parameters.all("attr").count() > ATTRIBUTES_MAX {
        return Err(Problem::invalid_parameter("attr", format!("more than {ATTRIBUTES_MAX} times `attr`; use fewer")));
    }
    let range = parameters.time_range()?;
    Ok(SearchRequest {
        conditions,
        traceql: parameters.text("q")?.map(str::to_owned),
        start_unix_nanos: range.start_unix_nanos,
        end_unix_nanos: range.end_unix_nanos,
        selects: Selects::Overlapping,
        order: parameters.parsed("sort", order, ORDERS)?,
        limit: parameters.count("limit", TRACES_DEFAULT, 1..=TRACES_MAX)?,
        spans_per_spanset: parameters.count("spans", SPANS_DEFAULT, 1..=SPANS_MAX)?,
        targets: parameters.flag("targets")?,
        trace_duration_nanos_min: None,
        trace_duration_nanos_max: None,
    })
}

/// `http.route=/cart` in its parts. A key holds none of the characters that operators are made of.
fn attribute_condition(text: &str) -> Result<Condition, Problem> {
    const EXPECTED: &str =
        "a key, an operator (= != > >= < <= =~ !~) and a value, such as http.route=/cart or span.retries>=3";
    // Longest first, so that `>=` is not read as `>`.
    const OPERATORS: [(&str, Operator); 8] = [
        ("=~", Operator::Matches),
        ("!~", Operator::NotMatches),
        ("!=", Operator::NotEqual),
        (">=", Operator::GreaterOrEqual),
        ("<=", Operator::LessOrEqual),
        ("=", Operator::Equal),
        (">", Operator::Greater),
        ("<", Operator::Less),
    ];
    let wrong = || Problem::parameter("attr", text, EXPECTED);
    let (key, rest) = text.split_at(text.find(['=', '!', '<', '>']).ok_or_else(wrong)?);
    let (symbol, operator) = OPERATORS.into_iter().find(|(symbol, _)| rest.starts_with(symbol)).ok_or_else(wrong)?;
    let (scope, key) = match key.trim() {
        key if key.starts_with("span.") => (Scope::Span, &key["span.".len()..]),
        key if key.starts_with("resource.") => (Scope::Resource, &key["resource.".len()..]),
        key => (Scope::Either, key),
    };
    if key.is_empty() {
        return Err(wrong());
    }
    Ok(Condition::Attribute { scope, key: key.to_owned(), operator, value: rest[symbol.len()..].to_owned() })
}

fn body(found: SearchAnswer, elapsed_nanos: u64) -> SearchAnswerBody {
    SearchAnswerBody {
        traces: found.traces.into_iter().map(trace_summary).collect(),
        traces_matched: found.traces_matched,
        complete: found.partial_reason.is_none(),
        partial_reason: found.partial_reason,
        inspected: found.inspected.into(),
        elapsed_nanos,
    }
}

fn trace_summary(trace: TraceSummary) -> TraceSummaryAnswer {
    TraceSummaryAnswer {
        trace_id: trace.trace_id.to_string(),
        tenant: trace.tenant.map(|tenant| tenant.to_string()),
        root_service_name: trace.root_service_name,
        root_span_name: trace.root_span_name,
        root_target: trace.root_target,
        start_time_unix_nano: trace.start_unix_nanos.to_string(),
        duration_nanos: trace.duration_nanos,
        span_count: trace.span_count,
        error_count: trace.error_count,
        root_missing: trace.root_missing,
        services: trace
            .services
            .into_iter()
            .map(|share| ServiceShare {
                name: share.name,
                span_count: share.span_count,
                error_count: share.error_count,
            })
            .collect(),
        matched_count: trace.matched_count,
        spansets: trace.spansets.into_iter().map(spanset).collect(),
    }
}

fn spanset(spanset: MatchedSpanset) -> SpansetAnswer {
    let by = spanset.by.into_iter().map(|(field, value)| (field, value.unwrap_or(AnyValue::Empty)));
    SpansetAnswer {
        by: attributes(by.collect()),
        aggregates: attributes(spanset.aggregates),
        matched_count: spanset.matched_count,
        spans: spanset.spans.into_iter().map(matched_span).collect(),
    }
}

fn matched_span(span: MatchedSpan) -> MatchedSpanAnswer {
    MatchedSpanAnswer {
        span_id: span.span_id.to_string(),
        name: span.name,
        service_name: span.service_name,
        start_time_unix_nano: span.start_unix_nanos.to_string(),
        duration_nanos: span.duration_nanos,
        status: StatusCode::of(span.status_code),
        target: span.target,
        fields: attributes(span.fields.into_iter().map(|shown| (shown.field, shown.value)).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attribute_conditions() {
        use Operator::*;
        use Scope::*;
        let table = [
            ("http.route=/cart", Some((Either, "http.route", Equal, "/cart"))),
            ("span.retries>=3", Some((Span, "retries", GreaterOrEqual, "3"))),
            ("resource.host.name!=a", Some((Resource, "host.name", NotEqual, "a"))),
            ("a=~b=~c", Some((Either, "a", Matches, "b=~c"))),
            ("a!~x", Some((Either, "a", NotMatches, "x"))),
            ("a<1", Some((Either, "a", Less, "1"))),
            ("a<=1", Some((Either, "a", LessOrEqual, "1"))),
            ("a>1", Some((Either, "a", Greater, "1"))),
            ("a=", Some((Either, "a", Equal, ""))),
            ("a = b", Some((Either, "a", Equal, " b"))),
            ("a==b", Some((Either, "a", Equal, "=b"))),
            ("a", None),
            ("a!b", None),
            ("=b", None),
            ("span.=b", None),
        ];
        for (text, expected) in table {
            let parsed = attribute_condition(text).ok();
            let expected = expected.map(|(scope, key, operator, value)| Condition::Attribute {
                scope,
                key: key.to_owned(),
                operator,
                value: value.to_owned(),
            });
            assert_eq!(parsed, expected, "{text:?}");
        }
    }
}
