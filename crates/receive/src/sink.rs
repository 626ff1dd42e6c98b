use std::time::Duration;

use async_trait::async_trait;
use tracehouse_model::{Caller, SpanBatch};

/// Where decoded spans go. The receiver answers a sender only after `accept` returned, so `Ok` must mean what the
/// sender is told: the spans are durable.
///
/// The future is dropped when the sender goes away. What was taken by then may be kept or not; the sender, who got no
/// answer, will send it again.
#[async_trait]
pub trait SpanSink: Send + Sync + 'static {
    /// Whether a caller's spans would be taken; asked when the head of a request has come, before its body is read.
    fn check(&self, caller: &Caller) -> Result<(), Refusal>;

    async fn accept(&self, caller: &Caller, batch: SpanBatch) -> Result<Accepted, Refusal>;
}

/// The batch was taken, all of it or all but some spans.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Spans refused one by one after decoding.
    pub rejected_spans: u64,
    /// Why, in words for the sender; may also carry a warning when nothing was refused.
    pub message: String,
}

/// Nothing of the batch was taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too much at once: gRPC `RESOURCE_EXHAUSTED` with `RetryInfo`, HTTP 429 with `Retry-After`.
    Busy { retry_after: Duration, reason: String },
    /// Cannot take anything for now: gRPC `UNAVAILABLE` with `RetryInfo`, HTTP 503 with `Retry-After`.
    Unavailable { retry_after: Duration, reason: String },
    /// Not from this tenant: gRPC `PERMISSION_DENIED`, HTTP 403. The sender must not try again.
    Forbidden { reason: String },
    /// Will never be taken: gRPC `INVALID_ARGUMENT`, HTTP 400. The sender must not try again.
    Invalid { reason: String },
}
