//! OTLP, the OpenTelemetry protocol, as bytes: requests decoded straight into a [`tracehouse_model::SpanBatch`], and spans encoded
//! as messages and JSON.
//!
//! Entry points: [`protobuf::decode_export_request`] and [`json::decode_export_request`] for what comes in;
//! [`encode::resource_spans`] and [`encode::json`] for what goes out. Each of the two ways ends where a batch begins.
//!
//! Invariants: no input makes memory grow beyond its size by more than a small factor, whatever it claims about lengths or counts;
//! no input is decoded to something else in JSON than in protobuf; what was kept of a span is encoded whole.
//!
//! This crate is pure. It must never know connections, compression, files, clocks, nor how spans are kept: whether a time is
//! plausible is for a later stage.
//!
//! Tests: `tests/it` (the generated decoder of `opentelemetry-proto` as the oracle, odd encodings, what was encoded decoded again),
//! beside the code for small things, and the targets `otlp_protobuf` and `otlp_json` in `/fuzz`. `examples/decode_speed.rs` measures.

mod decode;
pub mod encode;
pub mod json_writer;

pub use decode::{
    DecodeError, Decoded, Excess, REQUEST_BYTES_CEILING, RejectReason, Rejections, WireError, json, protobuf,
};
