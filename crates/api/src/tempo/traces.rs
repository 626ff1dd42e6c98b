use axum::extract::State;
use axum::response::Response;
use http::{HeaderMap, Uri};
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use prost::encoding::{WireType, encode_key, encode_varint};
use tracehouse_model::Caller;
use tracehouse_query::{Trace, TraceDetail};

use super::form::{Form, by_form};
use super::shared::{parameters, time_range_seconds};
use crate::answer::{large, until_sent, with_partial_header};
use crate::json;
use crate::native::unknown_trace;
use crate::params::TracePath;
use crate::problem::Problem;
use crate::state::ApiState;
use crate::unique_ids::{Halves, make_unique};
use tracehouse_otlp::encode::json::{self as otlp_json, Form as OtlpForm};
use tracehouse_otlp::encode::resource_spans;

/// More spans of a trace are left out, and the answer says so: Grafana takes the whole trace into memory.
const SPANS_MAX: usize = 200_000;

/// `tempopb.PartialStatus`.
const STATUS_PARTIAL: u64 = 1;

/// The trace as `tempopb.Trace`.
pub(super) async fn v1(
    State(state): State<ApiState>,
    caller: Caller,
    path: TracePath,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let found = find(&state, &caller, &path, &uri).await?;
    let trace = found.filter(|trace| !trace.spans.is_empty()).ok_or_else(|| unknown_trace(path.trace_id))?;
    answer(&state, &headers, Some(trace), v1_json, v1_protobuf).await
}

/// The trace inside a `tempopb.TraceByIDResponse`, which says whether it is whole. As in Tempo, a trace that is unknown is an
/// empty one here, and a 404 in the first version.
pub(super) async fn v2(
    State(state): State<ApiState>,
    caller: Caller,
    path: TracePath,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let found = find(&state, &caller, &path, &uri).await?;
    answer(&state, &headers, found, v2_json, v2_protobuf).await
}

async fn find(state: &ApiState, caller: &Caller, path: &TracePath, uri: &Uri) -> Result<Option<Trace>, Problem> {
    let parameters = parameters(uri)?;
    // A hint where to look, which is not needed here: all of a trace is found by its id.
    time_range_seconds(&parameters)?;
    let filter = parameters.text("q")?.map(|query| query.replace(' ', ""));
    if filter.is_some_and(|filter| filter != "{}" && filter != "{true}") {
        return Err(Problem::invalid_parameter("q", "filtering the spans of a trace is not supported; leave `q` out"));
    }
    Ok(state.answers.trace(caller, path.trace_id, SPANS_MAX, TraceDetail::Whole).await?)
}

/// A trace in the form that its client wants; `None` is one without spans.
async fn answer(
    state: &ApiState,
    headers: &HeaderMap,
    mut trace: Option<Trace>,
    write_json: fn(Option<&Trace>) -> Vec<u8>,
    write_protobuf: fn(Option<&Trace>) -> Vec<u8>,
) -> Result<Response, Problem> {
    let form = Form::wanted(headers);
    let write = match form {
        Form::Json => write_json,
        Form::Protobuf => write_protobuf,
    };
    let partial = partial_reason(trace.as_ref());
    let memory = trace.iter().map(|trace| trace.memory.clone()).collect();
    let spans = spans_of(trace.as_ref());
    let write = move || {
        if let Some(trace) = &mut trace {
            make_unique(trace, Halves::OnlyCalls);
        }
        write(trace.as_ref())
    };
    let response = large(state, headers, spans, form.content_type(), write).await?;
    Ok(with_partial_header(by_form(until_sent(response, memory)), partial))
}

fn spans_of(trace: Option<&Trace>) -> usize {
    trace.map_or(0, |trace| trace.spans.len())
}

fn messages_of(trace: Option<&Trace>) -> impl Iterator<Item = ResourceSpans> {
    trace.into_iter().flat_map(|trace| resource_spans(&trace.spans))
}

fn partial_reason(trace: Option<&Trace>) -> Option<String> {
    let trace = trace?;
    let returned = trace.spans.len() as u64;
    let cut = || (returned < trace.span_count).then(|| format!("{returned} of {} spans", trace.span_count));
    trace.partial_reason.clone().or_else(cut)
}

fn v1_json(trace: Option<&Trace>) -> Vec<u8> {
    let mut out = Vec::with_capacity(JSON_BYTES_PER_SPAN * spans_of(trace));
    out.extend_from_slice(b"{\"batches\":");
    json::array(&mut out, messages_of(trace), |out, message| {
        otlp_json::resource_spans(out, OtlpForm::Protobuf, &message);
    });
    out.push(b'}');
    out
}

fn v2_json(trace: Option<&Trace>) -> Vec<u8> {
    let mut out = Vec::with_capacity(JSON_BYTES_PER_SPAN * spans_of(trace));
    out.extend_from_slice(b"{\"trace\":{");
    if spans_of(trace) > 0 {
        json::key(&mut out, "resourceSpans");
        json::array(&mut out, messages_of(trace), |out, message| {
            otlp_json::resource_spans(out, OtlpForm::Protobuf, &message);
        });
    }
    out.extend_from_slice(b"},\"metrics\":{}");
    if let Some(reason) = partial_reason(trace) {
        json::field(&mut out, "status", "PARTIAL");
        json::field(&mut out, "message", &reason);
    }
    out.push(b'}');
    out
}

const JSON_BYTES_PER_SPAN: usize = 800;
const PROTOBUF_BYTES_PER_SPAN: usize = 350;

/// Field 1, repeated, of `tempopb.Trace`.
fn v1_protobuf(trace: Option<&Trace>) -> Vec<u8> {
    let mut out = Vec::with_capacity(PROTOBUF_BYTES_PER_SPAN * spans_of(trace));
    for message in messages_of(trace) {
        prost::encoding::message::encode(1, &message, &mut out);
    }
    out
}

/// `tempopb.TraceByIDResponse`: `trace` = 1, `metrics` = 2, `status` = 3, `message` = 4.
fn v2_protobuf(trace: Option<&Trace>) -> Vec<u8> {
    let body = v1_protobuf(trace);
    let mut out = Vec::with_capacity(body.len() + 256);
    encode_key(1, WireType::LengthDelimited, &mut out);
    encode_varint(body.len() as u64, &mut out);
    out.extend_from_slice(&body);
    // An empty message.
    encode_key(2, WireType::LengthDelimited, &mut out);
    encode_varint(0, &mut out);
    if let Some(reason) = partial_reason(trace) {
        encode_key(3, WireType::Varint, &mut out);
        encode_varint(STATUS_PARTIAL, &mut out);
        encode_key(4, WireType::LengthDelimited, &mut out);
        encode_varint(reason.len() as u64, &mut out);
        out.extend_from_slice(reason.as_bytes());
    }
    out
}
