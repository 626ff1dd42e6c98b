//! Version 3 over HTTP: traces as OTLP in JSON. As in Jaeger, parameters that are unknown are ignored.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, StatusCode, Uri};
use serde::Serialize;
use serde_json::{Map, Value};
use tracehouse_model::{Caller, TraceId};
use tracehouse_query::{Among, QueryError};

use super::query::{Search, either_case, parse_unescaped_moment, required_range, trace_id};
use super::{messages, operations};
use crate::answer::{JSON, json, large, until_sent, with_partial_header};
use crate::dependencies;
use crate::json::array;
use crate::params::{NamePath, Parameters};
use crate::problem::Problem;
use crate::state::ApiState;
use crate::time::MOMENT_FORMS;
use crate::unique_ids::Halves;
use crate::whole::{self, Whole};
use tracehouse_otlp::encode::json::{self as otlp_json, Form};
use tracehouse_otlp::encode::resource_spans;

/// A problem as clients of version 3 read it.
pub(super) struct Refused(Problem);

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<QueryError> for Refused {
    fn from(error: QueryError) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Details {
            grpc_code: i32,
            http_code: u16,
            message: String,
            http_status: &'static str,
        }
        #[derive(Serialize)]
        struct Envelope {
            error: Details,
        }
        let Self(problem) = self;
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let wait = problem.retry_after;
        let grpc = tonic::Status::from(problem);
        let mut response = json(&Envelope {
            error: Details {
                grpc_code: grpc.code() as i32,
                http_code: status.as_u16(),
                message: grpc.message().to_owned(),
                http_status: status.canonical_reason().unwrap_or_default(),
            },
        });
        *response.status_mut() = status;
        if let Some(wait) = wait {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
        }
        response
    }
}

pub(super) async fn services(State(state): State<ApiState>, caller: Caller) -> Result<Response, Refused> {
    let found = state.answers.services(&caller, &Among::default()).await?;
    let partial = messages::cut_reason(&found);
    Ok(with_partial_header(json(&messages::services(found)), partial))
}

pub(super) async fn operations_of_kind(
    State(state): State<ApiState>,
    caller: Caller,
    uri: Uri,
) -> Result<Response, Refused> {
    let parameters = Parameters::lenient(&uri)?;
    let kind = either_case(&parameters, "spanKind")?;
    let kind = kind.as_ref().map_or("", |(_, kind)| kind);
    let found = operations::operations(&state, &caller, parameters.text("service")?, kind).await?;
    let partial = messages::cut_reason(&found);
    Ok(with_partial_header(json(&messages::operations(found)), partial))
}

pub(super) async fn trace(
    State(state): State<ApiState>,
    caller: Caller,
    path: Result<NamePath, Problem>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let NamePath(text) = path?;
    answer(&state, &headers, whole::by_id(&state, &caller, trace_id_of(&text)?).await?).await
}

/// In hexadecimal, or in base64 as protobuf's JSON mapping has bytes: with either alphabet, with or without padding.
fn trace_id_of(text: &str) -> Result<TraceId, Problem> {
    let from_hexadecimal = trace_id("traceId", text);
    let standard = text.trim_end_matches('=').replace('-', "+").replace('_', "/");
    let bytes = STANDARD_NO_PAD.decode(standard).ok().and_then(|bytes| bytes.try_into().ok());
    from_hexadecimal.or_else(|problem| bytes.map(TraceId).ok_or(problem))
}

pub(super) async fn traces(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Refused> {
    find(&state, &caller, &headers, &Parameters::lenient(&uri)?).await
}

pub(super) async fn posted_traces(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    find(&state, &caller, &headers, &posted(&body)?).await
}

async fn find(
    state: &ApiState,
    caller: &Caller,
    headers: &HeaderMap,
    parameters: &Parameters,
) -> Result<Response, Refused> {
    let whole = whole::search(state, caller, Search::v3(parameters)?.request()?).await?;
    if whole.traces.is_empty() && whole.partial.is_empty() {
        // Jaeger has no empty list here.
        return Err(Problem::not_found("no trace was found; widen the time range or ask for less").into());
    }
    answer(state, headers, whole).await
}

pub(super) async fn summaries(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Refused> {
    summarize(&state, &caller, &headers, &Parameters::lenient(&uri)?).await
}

pub(super) async fn posted_summaries(
    State(state): State<ApiState>,
    caller: Caller,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    summarize(&state, &caller, &headers, &posted(&body)?).await
}

async fn summarize(
    state: &ApiState,
    caller: &Caller,
    headers: &HeaderMap,
    parameters: &Parameters,
) -> Result<Response, Refused> {
    let found = state.answers.search(caller, Search::v3(parameters)?.request()?).await?;
    let (traces, partial, memory) = (found.traces.len(), found.partial_reason.clone(), vec![found.memory.clone()]);
    let make = move || {
        serde_json::to_vec(&messages::summaries(found.traces)).expect("writing plain data to memory can't fail")
    };
    Ok(until_sent(with_partial_header(large(state, headers, traces, JSON, make).await?, partial), memory))
}

pub(super) async fn calls(State(state): State<ApiState>, caller: Caller, uri: Uri) -> Result<Response, Refused> {
    let parameters = Parameters::lenient(&uri)?;
    let moment = |name: &str| {
        let Some((name, text)) = either_case(&parameters, name)? else { return Ok(None) };
        parse_unescaped_moment(text).map(Some).ok_or_else(|| Problem::parameter(&name, text, MOMENT_FORMS))
    };
    let range = required_range(moment("startTime")?, moment("endTime")?)?;
    let found = dependencies::dependencies(&state, &caller, range).await?;
    let partial = found.partial_reason.clone();
    Ok(with_partial_header(json(&messages::dependencies(found)), partial))
}

pub(super) async fn unknown(uri: Uri) -> Refused {
    Problem::not_found(format!("version 3 of Jaeger's interface has no {:.100} here", uri.path())).into()
}

/// A search in the body of a request: the message `FindTracesRequest` as JSON. Its fields are called as the parameters.
fn posted(body: &[u8]) -> Result<Parameters, Problem> {
    #[derive(serde::Deserialize)]
    struct Body {
        #[serde(default)]
        query: Map<String, Value>,
    }
    let body: Body = serde_json::from_slice(body).map_err(|error| {
        Problem::invalid_query(format!("the body is not a search: {error}; send {{\"query\":{{…}}}} as JSON"))
    })?;
    let text = |value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    let given = body.query.into_iter().filter(|(_, value)| !value.is_null());
    Ok(Parameters::of(given.map(|(name, value)| (format!("query.{name}"), text(value))).collect()))
}

/// All traces in one OTLP message.
async fn answer(state: &ApiState, headers: &HeaderMap, whole: Whole) -> Result<Response, Refused> {
    let (spans, partial, memory) = (whole.spans(), whole.partial_reason(), whole.memory());
    let make = move || {
        let whole = whole.with_unique_ids(Halves::Apart);
        let mut out = b"{\"result\":{\"resourceSpans\":".to_vec();
        let messages = whole.traces.iter().flat_map(|trace| resource_spans(&trace.spans));
        array(&mut out, messages, |out, message| otlp_json::resource_spans(out, Form::Otlp, &message));
        out.extend_from_slice(b"}}");
        out
    };
    Ok(until_sent(with_partial_header(large(state, headers, spans, JSON, make).await?, partial), memory))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_ids_have_two_forms() {
        let known = TraceId([0xfb, 0x8e, 0xff, 0xf7, 0x98, 3, 0x81, 3, 0xd2, 0x69, 0xb6, 0x33, 0x81, 0x3f, 0xc6, 0x0c]);
        let table = [
            ("fb8efff798038103d269b633813fc60c", Some(known)),
            ("+47/95gDgQPSabYzgT/GDA==", Some(known)),
            ("-47_95gDgQPSabYzgT_GDA==", Some(known)),
            ("-47_95gDgQPSabYzgT_GDA", Some(known)),
            // Digits are digits.
            ("abcdef", Some(TraceId(0xab_cdef_u128.to_be_bytes()))),
            ("+47/95gDgQ==", None),
            ("xyz", None),
        ];
        for (text, expected) in table {
            assert_eq!(trace_id_of(text).ok(), expected, "{text}");
        }
    }
}
