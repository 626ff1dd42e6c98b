//! Why nothing of a request was taken, in words and for each protocol.

use std::time::Duration;

use metrics::counter;
use tracehouse_otlp::DecodeError;
use tracing::debug;

use crate::sink::Refusal;

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
