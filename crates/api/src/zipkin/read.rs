use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Uri};
use serde::Serialize;
use tracehouse_model::{Caller, TraceId};
use tracehouse_query::{Among, Listing, Scope};

use super::query::search_request;
use super::remote::{is_service_name, remote_service_sources};
use super::span_json::trace_spans;
use crate::answer::{JSON, json, large, until_sent, with_partial_header};
use crate::dependencies;
use crate::params::{Parameters, TracePath};
use crate::problem::Problem;
use crate::state::ApiState;
use crate::unique_ids::Halves;
use crate::whole::{self, Whole};

const TRACE_IDS_MAX: usize = 100;
const VALUES_MAX: usize = 1000;

pub(super) async fn services(State(state): State<ApiState>, caller: Caller) -> Result<Response, Problem> {
    Ok(names(state.answers.services(&caller, &Among::default()).await?))
}

pub(super) async fn span_names(State(state): State<ApiState>, caller: Caller, uri: Uri) -> Result<Response, Problem> {
    let parameters = Parameters::lenient(&uri)?;
    let service = parameters.required("serviceName", "the name of a service")?;
    Ok(names(state.answers.operations(&caller, Some(service), &Among::default()).await?))
}

/// The names in the remote endpoints that the spans of a service show.
pub(super) async fn remote_services(
    State(state): State<ApiState>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Problem> {
    let parameters = Parameters::lenient(&uri)?;
    let service = parameters.required("serviceName", "the name of a service")?;
    let mut all = Listing { complete: true, ..Listing::default() };
    for (key, condition) in remote_service_sources() {
        // What has no such attribute is not looked at.
        let traceql = format!("{{ span.{key} != nil {condition} }}");
        let among = Among { traceql: Some(traceql), service: Some(service.to_owned()), ..Among::default() };
        let found = state.answers.attribute_values(&caller, Scope::Span, key, VALUES_MAX, &among).await?;
        let texts = found.items.into_iter().filter(|seen| seen.value_type == "string").map(|seen| seen.value);
        all.items.extend(texts.filter(|value| is_service_name(value)));
        all.complete &= found.complete;
        all.partial_reason = all.partial_reason.or(found.partial_reason);
    }
    all.items.sort_unstable();
    all.items.dedup();
    Ok(names(all))
}

/// What Zipkin's user interface reads before anything else; the values are those of Zipkin's own server.
pub(super) async fn configuration() -> Response {
    json(&serde_json::json!({
        "environment": "",
        "suggestLang": false,
        "queryLimit": 10,
        "defaultLookback": 900_000,
        "searchEnabled": true,
        "dependency": {"enabled": true, "lowErrorRate": 0.5, "highErrorRate": 0.75},
    }))
}

pub(super) async fn attribute_keys(State(state): State<ApiState>, caller: Caller) -> Result<Response, Problem> {
    let found = state.answers.attribute_keys(&caller, Some(Scope::Span), &Among::default()).await?;
    Ok(names(Listing {
        items: found.items.into_iter().map(|seen| seen.key).collect(),
        complete: found.complete,
        partial_reason: found.partial_reason,
    }))
}

pub(super) async fn attribute_values(
    State(state): State<ApiState>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Problem> {
    let parameters = Parameters::lenient(&uri)?;
    values(&state, &caller, Scope::Either, parameters.required("key", "the key of an attribute")?).await
}

async fn values(state: &ApiState, caller: &Caller, scope: Scope, key: &str) -> Result<Response, Problem> {
    let found = state.answers.attribute_values(caller, scope, key, VALUES_MAX, &Among::default()).await?;
    let mut items: Vec<String> = found.items.into_iter().map(|seen| seen.value).collect();
    // Without its type a value may be there twice, as a text and as a number.
    items.sort_unstable();
    items.dedup();
    Ok(names(Listing { items, complete: found.complete, partial_reason: found.partial_reason }))
}

fn names(listing: Listing<String>) -> Response {
    let count = listing.items.len();
    let cut = (!listing.complete).then(|| format!("the first {count} of more names"));
    let partial = listing.partial_reason.or(cut);
    with_partial_header(json(&listing.items), partial)
}

pub(super) async fn traces(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let request = search_request(&Parameters::lenient(&uri)?, state.clock.now_unix_nanos())?;
    let whole = whole::search(&state, &caller, request).await?;
    answer_traces(&state, &headers, whole).await
}

/// The traces that there are of those asked for.
pub(super) async fn trace_many(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let parameters = Parameters::lenient(&uri)?;
    let text = parameters.required("traceIds", "ids of traces with commas between them")?;
    let ids: Vec<TraceId> = text
        .split(',')
        .map(|id| id.trim().parse().map_err(|error| Problem::invalid_parameter("traceIds", format!("{error}"))))
        .collect::<Result<_, _>>()?;
    if ids.len() > TRACE_IDS_MAX {
        let detail = format!("{} ids; at most {TRACE_IDS_MAX} are answered at once", ids.len());
        return Err(Problem::invalid_parameter("traceIds", detail));
    }
    let whole = whole::by_ids(&state, &caller, &ids).await?;
    answer_traces(&state, &headers, whole).await
}

async fn answer_traces(state: &ApiState, headers: &HeaderMap, whole: Whole) -> Result<Response, Problem> {
    let (spans, partial, memory) = (whole.spans(), whole.partial_reason(), whole.memory());
    let make = move || {
        let whole = whole.with_unique_ids(Halves::Shared);
        let traces: Vec<_> = whole.traces.iter().map(trace_spans).collect();
        serde_json::to_vec(&traces).expect("writing plain data to memory can't fail")
    };
    Ok(until_sent(with_partial_header(large(state, headers, spans, JSON, make).await?, partial), memory))
}

pub(super) async fn trace(
    State(state): State<ApiState>,
    caller: Caller,
    path: TracePath,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let whole = whole::by_id(&state, &caller, path.trace_id).await?;
    let (spans, partial, memory) = (whole.spans(), whole.partial_reason(), whole.memory());
    let make = move || {
        let whole = whole.with_unique_ids(Halves::Shared);
        let spans = whole.traces.first().map(trace_spans);
        serde_json::to_vec(&spans).expect("writing plain data to memory can't fail")
    };
    Ok(until_sent(with_partial_header(large(&state, &headers, spans, JSON, make).await?, partial), memory))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dependency<'a> {
    parent: &'a str,
    child: &'a str,
    call_count: u64,
    error_count: u64,
}

pub(super) async fn calls(State(state): State<ApiState>, caller: Caller, uri: Uri) -> Result<Response, Problem> {
    let range = dependencies::time_range(&Parameters::lenient(&uri)?, state.clock.now_unix_nanos())?;
    let found = dependencies::dependencies(&state, &caller, range).await?;
    let links: Vec<Dependency<'_>> = found
        .links
        .iter()
        .map(|((parent, child), calls)| Dependency {
            parent,
            child,
            call_count: calls.count,
            error_count: calls.errors,
        })
        .collect();
    Ok(with_partial_header(json(&links), found.partial_reason.clone()))
}
