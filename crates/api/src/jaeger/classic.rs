use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, StatusCode, Uri};
use serde::Serialize;
use tracehouse_model::{Caller, TraceId};
use tracehouse_query::{Among, Listing};

use super::answers::{Envelope, JaegerError, Layout, Refused};
use super::messages::cut_reason;
use super::operations;
use super::query::{Search, trace_id};
use super::trace_json::JaegerTrace;
use crate::answer::{JSON, large, until_sent, with_partial_header};
use crate::dependencies;
use crate::params::{NamePath, Parameters, TracePath};
use crate::problem::Problem;
use crate::state::ApiState;
use crate::unique_ids::Halves;
use crate::whole::{self, Whole};

const TRACE_IDS_MAX: usize = 100;

pub(super) async fn services(
    State(state): State<ApiState>,
    caller: Caller,
    layout: Layout,
) -> Result<Response, Refused> {
    Ok(names(layout, state.answers.services(&caller, &Among::default()).await?))
}

pub(super) async fn operations_of(
    State(state): State<ApiState>,
    caller: Caller,
    layout: Layout,
    NamePath(service): NamePath,
) -> Result<Response, Refused> {
    Ok(names(layout, state.answers.operations(&caller, Some(&service), &Among::default()).await?))
}

fn names(layout: Layout, listing: Listing<String>) -> Response {
    let partial = cut(&listing);
    layout.respond(&Envelope::new(listing.items, partial))
}

fn cut<T>(listing: &Listing<T>) -> Vec<JaegerError> {
    cut_reason(listing).into_iter().map(JaegerError::partial).collect()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Operation {
    name: String,
    /// Empty for spans without one.
    span_kind: &'static str,
}

pub(super) async fn operations_of_kind(
    State(state): State<ApiState>,
    caller: Caller,
    layout: Layout,
    uri: Uri,
) -> Result<Response, Refused> {
    let parameters = Parameters::lenient(&uri)?;
    let kind = parameters.text("spanKind")?.unwrap_or_default();
    let listing = operations::operations(&state, &caller, parameters.text("service")?, kind).await?;
    let partial = cut(&listing);
    let operation =
        |operation: operations::Operation| Operation { name: operation.name, span_kind: operation.span_kind };
    Ok(layout.respond(&Envelope::new(listing.items.into_iter().map(operation).collect(), partial)))
}

pub(super) async fn traces(
    State(state): State<ApiState>,
    caller: Caller,
    layout: Layout,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Refused> {
    let parameters = Parameters::lenient(&uri)?;
    let ids = trace_ids(&parameters)?;
    let whole = if ids.is_empty() {
        whole::search(&state, &caller, Search::classic(&parameters, state.clock.now_unix_nanos())?.request()?).await?
    } else {
        whole::by_ids(&state, &caller, &ids).await?
    };
    answer(&state, &headers, layout, whole).await
}

fn trace_ids(parameters: &Parameters) -> Result<Vec<TraceId>, Problem> {
    let ids: Vec<TraceId> =
        parameters.all("traceID").map(|text| trace_id("traceID", text)).collect::<Result<_, _>>()?;
    if ids.len() > TRACE_IDS_MAX {
        let detail = format!("{} ids; at most {TRACE_IDS_MAX} are answered at once", ids.len());
        return Err(Problem::invalid_parameter("traceID", detail));
    }
    Ok(ids)
}

pub(super) async fn trace(
    State(state): State<ApiState>,
    caller: Caller,
    layout: Layout,
    path: Result<TracePath, Problem>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let whole = whole::by_id(&state, &caller, path?.trace_id).await?;
    answer(&state, &headers, layout, whole).await
}

async fn answer(state: &ApiState, headers: &HeaderMap, layout: Layout, whole: Whole) -> Result<Response, Refused> {
    let (spans, memory) = (whole.spans(), whole.memory());
    let make = move || {
        let whole = whole.with_unique_ids(Halves::Apart);
        let unknown = whole.unknown.iter().map(|id| JaegerError {
            code: StatusCode::NOT_FOUND.as_u16(),
            msg: "trace not found".to_owned(),
            trace_id: Some(id.to_string()),
        });
        let partial = whole.partial.iter().cloned().map(JaegerError::partial);
        let errors = unknown.chain(partial).collect();
        let traces: Vec<JaegerTrace<'_>> = whole.traces.iter().map(JaegerTrace::new).collect();
        layout.write(&Envelope::new(traces, errors))
    };
    Ok(until_sent(large(state, headers, spans, JSON, make).await?, memory))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Dependency<'a> {
    parent: &'a str,
    child: &'a str,
    call_count: u64,
}

pub(super) async fn calls(
    State(state): State<ApiState>,
    caller: Caller,
    layout: Layout,
    uri: Uri,
) -> Result<Response, Refused> {
    let range = dependencies::time_range(&Parameters::lenient(&uri)?, state.clock.now_unix_nanos())?;
    let found = dependencies::dependencies(&state, &caller, range).await?;
    let links = found.links.iter();
    let data = links.map(|((parent, child), calls)| Dependency { parent, child, call_count: calls.count }).collect();
    // Grafana takes any error here for a failure, so the reason goes elsewhere.
    Ok(with_partial_header(layout.respond(&Envelope::new(data, Vec::new())), found.partial_reason.clone()))
}

/// Figures of spans, which Jaeger reads from a Prometheus if it has one.
pub(super) async fn span_metrics() -> Refused {
    Problem::not_implemented("there are no figures of spans here; ask with TraceQL at /api/metrics/query_range").into()
}

pub(super) async fn unknown(uri: Uri) -> Refused {
    Problem::not_found(format!("Jaeger's interface has no {:.100} here", uri.path())).into()
}
