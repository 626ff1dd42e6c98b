use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Uri};
use tracehouse_model::{Caller, Span, SpanId, TraceId};
use tracehouse_query::{QueryError, TraceDetail};

use super::answers::{CompactTrace, FindAnswer, SpanAnswer};
use super::{compact_trace, find, span_answer};
use crate::answer::{JSON, json, large, off_runtime, until_sent, with_partial_header};
use crate::params::{Parameters, TracePath};
use crate::problem::Problem;
use crate::state::ApiState;
use crate::unique_ids::{Halves, make_unique};

const SPANS_DEFAULT: usize = 200_000;
const SPANS_MAX: usize = 1_000_000;
const TEXT_BYTES_MAX: usize = 1000;

/// One trace as columns. What does not fit `limit` is left out and said: `returned` of `spanCount`.
#[utoipa::path(
    get, path = "/api/v1/traces/{traceId}", tag = "traces",
    params(
        ("traceId" = String, Path, description = "Up to 32 hexadecimal digits"),
        ("limit" = Option<u32>, Query, description = "How many spans: 1 to 1000000; 200000 if absent"),
        ("targets" = Option<bool>, Query, description = "Whether `targets` are told; more is read for them"),
    ),
    responses(
        (status = 200, body = CompactTrace), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 503, body = Problem),
    )
)]
pub(crate) async fn trace(
    State(state): State<ApiState>,
    caller: Caller,
    path: TracePath,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let parameters = Parameters::strict(&uri, &["limit", "targets"])?;
    let spans_max = parameters.count("limit", SPANS_DEFAULT, 1..=SPANS_MAX)?;
    let with_targets = parameters.flag("targets")?;
    let detail = if with_targets { TraceDetail::OutlineWithTargets } else { TraceDetail::Outline };
    let found = state.answers.trace(&caller, path.trace_id, spans_max, detail).await?;
    let mut trace = found.ok_or_else(|| unknown_trace(path.trace_id))?;
    trace.spans.name_services();
    let (spans, memory) = (trace.spans.len(), vec![trace.memory.clone()]);
    let write = move || {
        make_unique(&mut trace, Halves::Apart);
        compact_trace::write(&trace, with_targets)
    };
    let answer = large(&state, &headers, spans, JSON, write).await?;
    Ok(until_sent(answer, memory))
}

/// One span with all that was sent of it.
#[utoipa::path(
    get, path = "/api/v1/traces/{traceId}/spans/{spanId}", tag = "traces",
    params(
        ("traceId" = String, Path, description = "Up to 32 hexadecimal digits"),
        ("spanId" = String, Path, description = "Up to 16 hexadecimal digits"),
    ),
    responses(
        (status = 200, body = SpanAnswer), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 503, body = Problem),
    )
)]
pub(crate) async fn span(
    State(state): State<ApiState>,
    caller: Caller,
    path: TracePath,
    uri: Uri,
) -> Result<Response, Problem> {
    Parameters::strict(&uri, &[])?;
    let found = match state.answers.span(&caller, path.trace_id, path.span_id).await? {
        None => span_of_own_id(&state, &caller, path.trace_id, path.span_id).await?,
        found => found,
    };
    let span = found.ok_or_else(|| {
        Problem::not_found(format!(
            "trace {} has no span {} here; check both ids, or it is gone by retention",
            path.trace_id, path.span_id
        ))
    })?;
    Ok(json(&span_answer::span_answer(span)))
}

/// The span to which an answer gave an id of its own, as it shares the one that was sent.
async fn span_of_own_id(
    state: &ApiState,
    caller: &Caller,
    id: TraceId,
    span: SpanId,
) -> Result<Option<Span>, QueryError> {
    for detail in [TraceDetail::Outline, TraceDetail::Whole] {
        // Whether there is one is told by less than the whole trace.
        let Some(mut trace) = state.answers.trace(caller, id, SPANS_MAX, detail).await? else { return Ok(None) };
        make_unique(&mut trace, Halves::Apart);
        let Some(row) = trace.spans.span_id.iter().position(|of_row| *of_row == span) else { return Ok(None) };
        if detail == TraceDetail::Whole {
            return Ok(Some(trace.spans.span(row)));
        }
    }
    Ok(None)
}

/// Spans of a trace with a name, service, id, attribute key or value that contains a text, in any case.
#[utoipa::path(
    get, path = "/api/v1/traces/{traceId}/find", tag = "traces",
    params(
        ("traceId" = String, Path, description = "Up to 32 hexadecimal digits"),
        ("q" = String, Query, description = "The text", example = "timeout"),
        ("limit" = Option<u32>, Query, description = "As given when the trace was read; 200000 if absent"),
    ),
    responses(
        (status = 200, body = FindAnswer), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 503, body = Problem),
    )
)]
pub(crate) async fn find(
    State(state): State<ApiState>,
    caller: Caller,
    path: TracePath,
    uri: Uri,
) -> Result<Response, Problem> {
    let parameters = Parameters::strict(&uri, &["q", "limit"])?;
    let text = parameters.required("q", "a text to look for")?.to_owned();
    if text.len() > TEXT_BYTES_MAX {
        return Err(Problem::invalid_parameter("q", format!("`q` is longer than {TEXT_BYTES_MAX} bytes; shorten it")));
    }
    let spans_max = parameters.count("limit", SPANS_DEFAULT, 1..=SPANS_MAX)?;
    let found = state.answers.trace(&caller, path.trace_id, spans_max, TraceDetail::Texts).await?;
    let mut trace = found.ok_or_else(|| unknown_trace(path.trace_id))?;
    let partial = trace.partial_reason.clone();
    let find = move || {
        make_unique(&mut trace, Halves::Apart);
        find::rows_with(&trace.spans, &text)
    };
    let indices = off_runtime(&state, find).await?;
    let total = indices.len() as u64;
    Ok(with_partial_header(json(&FindAnswer { indices, total }), partial))
}

pub(crate) fn unknown_trace(id: TraceId) -> Problem {
    Problem::not_found(format!(
        "there is no trace {id} here; check the id and the tenants, or it is gone by retention, or its spans have not \
         arrived yet"
    ))
}
