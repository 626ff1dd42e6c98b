use axum::extract::State;
use axum::response::Response;
use http::header::{ACCEPT, VARY};
use http::{HeaderMap, HeaderValue, Uri};
use prost::encoding::{WireType, encode_key, encode_varint};
use tracehouse_query::{Trace, TraceDetail};

use super::{parameters, time_range_seconds};
use crate::answer::{JSON, PARTIAL_HEADER, PROTOBUF, large, until_sent};
use crate::json;
use crate::native::unknown_trace;
use crate::otlp_json::{self, Form};
use crate::otlp_out::resource_spans;
use crate::params::TracePath;
use crate::problem::Problem;
use crate::state::ApiState;
use crate::tenant::Tenant;
use crate::unique_ids::{Halves, make_unique};

/// More spans of a trace are left out, and the answer says so: Grafana takes the whole trace into memory.
const SPANS_MAX: usize = 200_000;

/// `tempopb.PartialStatus`.
const STATUS_PARTIAL: u64 = 1;

/// The trace as `tempopb.Trace`.
pub(super) async fn v1(
    State(state): State<ApiState>,
    tenant: Tenant,
    path: TracePath,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let trace = find(&state, &tenant, &path, &uri).await?;
    answer(&state, &headers, trace, v1_json, v1_protobuf).await
}

/// The trace inside a `tempopb.TraceByIDResponse`, which says whether it is whole.
pub(super) async fn v2(
    State(state): State<ApiState>,
    tenant: Tenant,
    path: TracePath,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Problem> {
    let trace = find(&state, &tenant, &path, &uri).await?;
    answer(&state, &headers, trace, v2_json, v2_protobuf).await
}

/// An unknown trace is a 404, never an empty 200: by it Grafana falls back from v2 to v1 and tells people.
async fn find(state: &ApiState, tenant: &Tenant, path: &TracePath, uri: &Uri) -> Result<Trace, Problem> {
    let parameters = parameters(uri)?;
    // A hint where to look, which is not needed here: all of a trace is found by its id.
    time_range_seconds(&parameters)?;
    let filter = parameters.text("q")?.map(|query| query.replace(' ', ""));
    if filter.is_some_and(|filter| filter != "{}" && filter != "{true}") {
        return Err(Problem::invalid_parameter("q", "filtering the spans of a trace is not supported; leave `q` out"));
    }
    let found = state.answers.trace(&tenant.0, path.trace_id, SPANS_MAX, TraceDetail::Whole).await?;
    found.filter(|trace| !trace.spans.is_empty()).ok_or_else(|| unknown_trace(path.trace_id))
}

async fn answer(
    state: &ApiState,
    headers: &HeaderMap,
    mut trace: Trace,
    write_json: fn(&Trace) -> Vec<u8>,
    write_protobuf: fn(&Trace) -> Vec<u8>,
) -> Result<Response, Problem> {
    let protobuf = wants_protobuf(headers);
    let (content_type, write) = if protobuf { (PROTOBUF, write_protobuf) } else { (JSON, write_json) };
    let partial = partial_reason(&trace).and_then(|reason| HeaderValue::from_str(&reason).ok());
    let (spans, memory) = (trace.spans.len(), vec![trace.memory.clone()]);
    let write = move || {
        make_unique(&mut trace, Halves::OnlyCalls);
        write(&trace)
    };
    let response = large(state, headers, spans, content_type, write).await?;
    let mut response = until_sent(response, memory);
    response.headers_mut().append(VARY, HeaderValue::from_name(ACCEPT));
    if let Some(reason) = partial {
        response.headers_mut().insert(PARTIAL_HEADER, reason);
    }
    Ok(response)
}

fn wants_protobuf(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|offer| {
        let media_type = offer.split(';').next().unwrap_or_default().trim();
        media_type.eq_ignore_ascii_case("application/protobuf")
            || media_type.eq_ignore_ascii_case("application/x-protobuf")
    })
}

fn partial_reason(trace: &Trace) -> Option<String> {
    let returned = trace.spans.len() as u64;
    let cut = || (returned < trace.span_count).then(|| format!("{returned} of {} spans", trace.span_count));
    trace.partial_reason.clone().or_else(cut)
}

fn v1_json(trace: &Trace) -> Vec<u8> {
    let mut out = Vec::with_capacity(JSON_BYTES_PER_SPAN * trace.spans.len());
    out.extend_from_slice(b"{\"batches\":");
    json::array(&mut out, resource_spans(&trace.spans), |out, message| {
        otlp_json::resource_spans(out, Form::Protobuf, &message);
    });
    out.push(b'}');
    out
}

fn v2_json(trace: &Trace) -> Vec<u8> {
    let mut out = Vec::with_capacity(JSON_BYTES_PER_SPAN * trace.spans.len());
    out.extend_from_slice(b"{\"trace\":{\"resourceSpans\":");
    json::array(&mut out, resource_spans(&trace.spans), |out, message| {
        otlp_json::resource_spans(out, Form::Protobuf, &message);
    });
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
fn v1_protobuf(trace: &Trace) -> Vec<u8> {
    let mut out = Vec::with_capacity(PROTOBUF_BYTES_PER_SPAN * trace.spans.len());
    for message in resource_spans(&trace.spans) {
        prost::encoding::message::encode(1, &message, &mut out);
    }
    out
}

/// `tempopb.TraceByIDResponse`: `trace` = 1, `metrics` = 2, `status` = 3, `message` = 4.
fn v2_protobuf(trace: &Trace) -> Vec<u8> {
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
