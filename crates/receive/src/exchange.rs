//! What happens to a request whatever protocol brought it: decompress, decode, hand to the sink, count.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use metrics::counter;
use tracehouse_model::{Caller, TenantError, TenantId};
use tracing::debug;

use crate::decoded::{DecodeError, Decoded};
use crate::decompress::{Compression, decompress};
use crate::in_flight::Reservation;
use crate::sink::{Accepted, Refusal};
use crate::state::Shared;
use crate::{json, protobuf};

/// Larger bodies are decoded on a blocking thread, so that they don't hold up the connections of others. At about a
/// gigabyte per second this is a quarter of a millisecond.
const INLINE_BYTES_MAX: usize = 256 * 1024;
/// The same for compressed bodies, which decompress to several times as much and at a lower speed.
const INLINE_COMPRESSED_BYTES_MAX: usize = 32 * 1024;
const NO_ROOM_RETRY: Duration = Duration::from_secs(1);

/// How a request is encoded and came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Protocol {
    Grpc,
    HttpProtobuf,
    HttpJson,
}

impl Protocol {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Protocol::Grpc => "grpc",
            Protocol::HttpProtobuf => "http_protobuf",
            Protocol::HttpJson => "http_json",
        }
    }
}

/// Why nothing of a request was taken. Each protocol says it in its own codes.
#[derive(Debug)]
pub(crate) enum Refused {
    /// The tenant's name is none.
    Tenant(String),
    /// Nothing is taken from this tenant.
    Forbidden(String),
    Undecodable(String),
    /// The sink says that it never will.
    Invalid(String),
    TooLarge {
        bytes_max: usize,
        decompressed: bool,
    },
    /// The body did not arrive in time.
    Slow,
    /// The body ended with an error of the connection.
    Lost(String),
    Busy {
        retry_after: Duration,
        reason: String,
    },
    Unavailable {
        retry_after: Duration,
        reason: String,
    },
    Internal,
}

impl Refused {
    pub(crate) fn no_room() -> Self {
        let reason = "too many bytes of requests are being worked on; send this request again later".to_owned();
        Self::Busy { retry_after: NO_ROOM_RETRY, reason }
    }

    fn label(&self) -> &'static str {
        match self {
            Self::Tenant(_) => "tenant",
            Self::Forbidden(_) => "forbidden",
            Self::Undecodable(_) => "undecodable",
            Self::Invalid(_) => "invalid",
            Self::TooLarge { .. } => "too_large",
            Self::Slow => "slow",
            Self::Lost(_) => "lost",
            Self::Busy { .. } => "busy",
            Self::Unavailable { .. } => "unavailable",
            Self::Internal => "internal",
        }
    }

    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after, .. } | Self::Unavailable { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }

    /// Words for the sender.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Tenant(reason) | Self::Forbidden(reason) => reason.clone(),
            Self::Undecodable(reason) | Self::Invalid(reason) => reason.clone(),
            Self::Busy { reason, .. } | Self::Unavailable { reason, .. } => reason.clone(),
            Self::TooLarge { bytes_max, decompressed } => {
                let state = if *decompressed { "after decompression" } else { "as sent" };
                format!("the request is larger than {bytes_max} bytes {state}; send smaller batches")
            }
            Self::Slow => "the body did not arrive in time".to_owned(),
            Self::Lost(error) => format!("the body could not be read: {error}"),
            Self::Internal => "the request could not be decoded because of an internal error".to_owned(),
        }
    }

    /// Counts the refusal.
    pub(crate) fn noted(self, protocol: Protocol) -> Self {
        counter!(
            "tracehouse_receive_refused_requests_total",
            "protocol" => protocol.label(), "reason" => self.label()
        )
        .increment(1);
        // Not the message: it may quote what was sent, and nobody has redacted that. The sender is told.
        debug!(protocol = protocol.label(), reason = self.label(), "refused a request");
        self
    }
}

impl From<DecodeError> for Refused {
    fn from(error: DecodeError) -> Self {
        Self::Undecodable(error.to_string())
    }
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Busy { retry_after, reason } => Self::Busy { retry_after, reason },
            Refusal::Unavailable { retry_after, reason } => Self::Unavailable { retry_after, reason },
            Refusal::Forbidden { reason } => Self::Forbidden(reason),
            Refusal::Invalid { reason } => Self::Invalid(reason),
        }
    }
}

/// Who sends, as the headers say, for which tenant, if its spans are taken.
pub(crate) fn caller(headers: &HeaderMap, shared: &Shared) -> Result<(Caller, TenantId), Refused> {
    let values = |name| headers.get_all(name).iter().map(|value| value.as_bytes());
    let refused = |error: TenantError| Refused::Tenant(error.to_string());
    let caller = Caller::of_sender(values, &TenantId::default()).map_err(refused)?;
    let tenant = caller.tenant().map_err(refused)?.clone();
    shared.sink.check(&caller)?;
    Ok((caller, tenant))
}

/// A request whose body has arrived.
pub(crate) struct Arrived {
    pub(crate) protocol: Protocol,
    pub(crate) caller: Caller,
    pub(crate) compression: Compression,
    pub(crate) message: Bytes,
    pub(crate) reservation: Reservation,
}

impl Arrived {
    /// Decodes the request and hands it to the sink; says which spans were refused.
    pub(crate) async fn process(mut self, shared: &Arc<Shared>) -> Result<Accepted, Refused> {
        let (protocol, caller) = (self.protocol, self.caller.clone());
        counter!("tracehouse_receive_request_bytes_total", "protocol" => protocol.label())
            .increment(self.message.len() as u64);
        let (decoded, reservation) = if self.is_small(shared)? {
            self.decode(shared)?
        } else {
            let _permit = shared.large_decodes.acquire().await.expect("the semaphore is never closed");
            let for_thread = shared.clone();
            tokio::task::spawn_blocking(move || self.decode(&for_thread)).await.map_err(|_| Refused::Internal)??
        };
        let Decoded { batch, rejected, values_cut } = decoded;
        let spans = batch.len() as u64;
        let mut accepted = if batch.is_empty() {
            Accepted::default()
        } else {
            shared.sink.accept(&caller, batch).await.map_err(Refused::from)?
        };
        drop(reservation);
        counter!("tracehouse_receive_spans_total", "protocol" => protocol.label())
            .increment(spans.saturating_sub(accepted.rejected_spans));
        for (reason, count) in rejected.by_reason() {
            counter!("tracehouse_receive_rejected_spans_total", "reason" => reason.label()).increment(count);
        }
        if accepted.rejected_spans > 0 {
            counter!("tracehouse_receive_rejected_spans_total", "reason" => "later_stage")
                .increment(accepted.rejected_spans);
        }
        counter!("tracehouse_receive_values_cut_total").increment(values_cut);
        counter!("tracehouse_receive_wrong_attributes_total").increment(rejected.wrong_attributes());
        accepted.rejected_spans += rejected.count();
        let messages = [rejected.message(), accepted.message];
        accepted.message = messages.into_iter().filter(|message| !message.is_empty()).collect::<Vec<_>>().join("; ");
        Ok(accepted)
    }

    /// Whether the request may be decoded on this thread. What is small as sent may be large all the same: a compressed
    /// one is decompressed as far as a small one goes, and what goes further waits for its turn.
    fn is_small(&mut self, shared: &Shared) -> Result<bool, Refused> {
        if self.compression == Compression::None {
            return Ok(self.message.len() <= INLINE_BYTES_MAX);
        }
        if self.message.len() > INLINE_COMPRESSED_BYTES_MAX {
            return Ok(false);
        }
        let bytes_max = INLINE_BYTES_MAX.min(shared.limits.decompressed_bytes_max);
        match decompress(&self.message, self.compression, bytes_max, &mut self.reservation) {
            Ok(message) => {
                self.message = message.into();
                self.compression = Compression::None;
                Ok(true)
            }
            Err(Refused::TooLarge { .. }) => Ok(false),
            Err(refused) => Err(refused),
        }
    }

    fn decode(mut self, shared: &Shared) -> Result<(Decoded, Reservation), Refused> {
        let bytes_max = shared.limits.decompressed_bytes_max;
        let message = match self.compression {
            Compression::None => self.message,
            compression => decompress(&self.message, compression, bytes_max, &mut self.reservation)?.into(),
        };
        let decoded = match self.protocol {
            Protocol::Grpc | Protocol::HttpProtobuf => protobuf::decode_export_request(&message, &shared.limits)?,
            Protocol::HttpJson => json::decode_export_request(&message, &shared.limits)?,
        };
        drop(message);
        // From here on the request weighs what its batch does.
        self.reservation.set(decoded.batch.memory_bytes());
        Ok((decoded, self.reservation))
    }
}
