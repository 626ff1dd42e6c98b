//! OTLP in: gRPC and HTTP, protobuf and JSON, decoded by `tracehouse-otlp` straight into a [`tracehouse_model::SpanBatch`].
//!
//! Entry points: [`grpc_router`] and [`http_router`], which share a [`ReceiverState`] and hand every decoded batch to a
//! [`SpanSink`].
//!
//! The way of a request: `grpc` or `http` judges its head, and the sink its tenant; `body` reads it, with room taken from
//! `in_flight` as it arrives, of which one tenant leaves half to others; `exchange` decompresses (`decompress`), decodes,
//! hands the batch to the sink and waits; `reply` encodes the answer.
//!
//! Invariants: a sender is told success only after the sink said so. What is refused is counted and said, a span in the
//! partial success, a request with a code that tells whether to send it again. No input makes memory grow beyond the
//! bytes in flight by more than a small factor, whatever it claims about lengths, counts or compression.
//!
//! This crate must never know how spans are kept, who may connect, nor what time of day it is: whether a time is plausible
//! is for a later stage.
//!
//! Tests: `tests/it` (both protocols over real connections) and beside the code for small things.

mod body;
mod decompress;
mod exchange;
mod grpc;
mod http;
mod in_flight;
mod refused;
mod reply;
mod sink;
mod state;

pub use grpc::grpc_router;
pub use http::http_router;
pub use sink::{Accepted, Refusal, SpanSink};
pub use state::ReceiverState;
