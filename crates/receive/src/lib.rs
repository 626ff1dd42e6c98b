//! OTLP in: gRPC and HTTP, protobuf and JSON, decoded straight into a [`tracehouse_model::SpanBatch`].
//!
//! Entry points: [`serve_grpc`] and [`serve_http`], which share a [`ReceiverState`] and hand every decoded batch to a
//! [`SpanSink`].

mod body;
mod builder;
mod decoded;
mod decompress;
mod exchange;
mod grpc;
mod http;
mod in_flight;
pub mod json;
mod nested;
pub mod protobuf;
mod reply;
mod serve;
mod sink;
mod state;

pub use decoded::{DecodeError, Decoded, RejectReason, Rejections, WireError};
pub use grpc::grpc_router;
pub use http::http_router;
pub use serve::{serve_grpc, serve_http};
pub use sink::{Accepted, Refusal, SpanSink};
pub use state::ReceiverState;
