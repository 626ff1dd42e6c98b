//! The few messages that go back to a sender, encoded by hand: `ExportTraceServiceResponse` and `google.rpc.Status`.

use std::time::Duration;

use serde_json::json;

use crate::sink::Accepted;

/// Codes of `google.rpc.Code`, which are also those of gRPC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Code {
    Ok = 0,
    Cancelled = 1,
    InvalidArgument = 3,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
}

/// `ExportTraceServiceResponse { partial_success { rejected_spans, error_message } }`; empty if there is nothing to say.
pub(crate) fn export_response(accepted: &Accepted) -> Vec<u8> {
    let mut partial_success = Vec::new();
    put_varint_field(&mut partial_success, 1, accepted.rejected_spans);
    put_bytes_field(&mut partial_success, 2, accepted.message.as_bytes());
    let mut response = Vec::new();
    put_bytes_field(&mut response, 1, &partial_success);
    response
}

/// The same in JSON, where a 64-bit integer is a string.
pub(crate) fn export_response_json(accepted: &Accepted) -> Vec<u8> {
    if *accepted == Accepted::default() {
        return b"{}".to_vec();
    }
    json!({ "partialSuccess": {
        "rejectedSpans": accepted.rejected_spans.to_string(),
        "errorMessage": accepted.message,
    }})
    .to_string()
    .into_bytes()
}

/// `google.rpc.Status`, with a `RetryInfo` among its details if the sender shall come back.
pub(crate) fn status(code: Code, message: &str, retry_after: Option<Duration>) -> Vec<u8> {
    let mut status = Vec::new();
    put_varint_field(&mut status, 1, code as u64);
    put_bytes_field(&mut status, 2, message.as_bytes());
    if let Some(retry_after) = retry_after {
        let (mut duration, mut retry_info, mut any) = (Vec::new(), Vec::new(), Vec::new());
        put_varint_field(&mut duration, 1, retry_after.as_secs());
        put_varint_field(&mut duration, 2, u64::from(retry_after.subsec_nanos()));
        put_bytes_field(&mut retry_info, 1, &duration);
        put_bytes_field(&mut any, 1, b"type.googleapis.com/google.rpc.RetryInfo");
        put_bytes_field(&mut any, 2, &retry_info);
        put_bytes_field(&mut status, 3, &any);
    }
    status
}

pub(crate) fn status_json(code: Code, message: &str) -> Vec<u8> {
    json!({ "code": code as i32, "message": message }).to_string().into_bytes()
}

/// The default, 0, is not written.
fn put_varint_field(out: &mut Vec<u8>, field: u8, value: u64) {
    if value != 0 {
        out.push(field << 3);
        put_varint(out, value);
    }
}

/// The default, nothing, is not written.
fn put_bytes_field(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.push(field << 3 | 2);
        put_varint(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
