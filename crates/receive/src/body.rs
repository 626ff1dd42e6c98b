use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use tracehouse_model::TenantId;

use crate::exchange::Refused;
use crate::in_flight::Reservation;
use crate::state::Shared;

/// A sender that needs longer for one request is refused: it would hold room that others need.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// Room taken at once for a body that says how long it is. A longer one takes the rest as it arrives, so that a
/// sender can't block others by announcing much and sending nothing.
const ANNOUNCED_BYTES_MAX: usize = 1024 * 1024;
/// A body that is not wanted is read all the same if it is no longer than this: else its connection has to end.
pub(crate) const PASSED_OVER_BYTES_MAX: usize = 4096;
const PASS_OVER_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a body says how long it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// In the header `Content-Length`, if at all.
    Http { content_length: Option<usize> },
    /// In the five bytes before a gRPC message.
    Grpc,
}

impl Framing {
    fn expected_bytes(self, first: &[u8]) -> Option<usize> {
        match self {
            Framing::Http { content_length } => content_length,
            Framing::Grpc => grpc_frame(first).map(|frame| GRPC_PREFIX_BYTES + frame.length),
        }
    }
}

pub(crate) const GRPC_PREFIX_BYTES: usize = 5;

/// What stands before a gRPC message.
pub(crate) struct GrpcFrame {
    pub(crate) compression_flag: u8,
    pub(crate) length: usize,
}

pub(crate) fn grpc_frame(body: &[u8]) -> Option<GrpcFrame> {
    let [compression_flag, length @ ..] = *body.first_chunk::<GRPC_PREFIX_BYTES>()?;
    Some(GrpcFrame { compression_flag, length: u32::from_be_bytes(length) as usize })
}

/// Reads a whole body, with room taken for it.
pub(crate) async fn read(
    body: &mut Body,
    framing: Framing,
    tenant: &TenantId,
    shared: &Shared,
) -> Result<(Bytes, Reservation), Refused> {
    tokio::time::timeout(READ_TIMEOUT, read_untimed(body, framing, tenant, shared)).await.unwrap_or(Err(Refused::Slow))
}

async fn read_untimed(
    body: &mut Body,
    framing: Framing,
    tenant: &TenantId,
    shared: &Shared,
) -> Result<(Bytes, Reservation), Refused> {
    let bytes_max = shared.limits.request_bytes_max;
    let too_large = Refused::TooLarge { bytes_max, decompressed: false };
    if framing.expected_bytes(&[]).is_some_and(|bytes| bytes > bytes_max) {
        return Err(too_large);
    }
    let announced = framing.expected_bytes(&[]).unwrap_or(0).min(ANNOUNCED_BYTES_MAX);
    let mut reservation = shared.in_flight.reserve(tenant, announced).map_err(|_| Refused::no_room())?;
    // Most bodies come in one piece, which is then not copied.
    let Some(first) = next_piece(body).await? else { return Ok((Bytes::new(), reservation)) };
    let expected = framing.expected_bytes(&first).unwrap_or(0);
    if expected.max(first.len()) > bytes_max {
        return Err(too_large);
    }
    reservation.grow_to(expected.min(ANNOUNCED_BYTES_MAX).max(first.len())).map_err(|_| Refused::no_room())?;
    let Some(second) = next_piece(body).await? else { return Ok((first, reservation)) };
    let mut whole = Vec::with_capacity(expected.min(ANNOUNCED_BYTES_MAX).max(first.len() + second.len()));
    whole.extend_from_slice(&first);
    drop(first);
    let mut next = Some(second);
    while let Some(piece) = next {
        let bytes = whole.len() + piece.len();
        if bytes > bytes_max {
            return Err(too_large);
        }
        reservation.grow_to(bytes).map_err(|_| Refused::no_room())?;
        whole.extend_from_slice(&piece);
        next = next_piece(body).await?;
    }
    Ok((whole.into(), reservation))
}

/// Reads what is left of a body whose length is at most [`PASSED_OVER_BYTES_MAX`].
pub(crate) async fn pass_over(body: &mut Body) {
    let all = async { while let Ok(Some(_)) = next_piece(body).await {} };
    // One that does not come takes its connection with it.
    let _ = tokio::time::timeout(PASS_OVER_TIMEOUT, all).await;
}

async fn next_piece(body: &mut Body) -> Result<Option<Bytes>, Refused> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Refused::Lost(error.to_string()))?;
        if let Ok(piece) = frame.into_data()
            && !piece.is_empty()
        {
            return Ok(Some(piece));
        }
    }
    Ok(None)
}
