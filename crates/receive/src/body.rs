use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body_util::BodyExt;
use tracehouse_model::TenantId;

use crate::in_flight::{Arrival, Reservation};
use crate::refused::Refused;
use crate::state::Shared;

/// How often, and after which pauses, a body looks for room that others hold. Longer than those may stand still.
const ROOM_ATTEMPTS_MAX: u32 = 15;
const ROOM_PAUSE: Duration = Duration::from_millis(100);
/// How much more memory than has come of it a body takes that is not complete.
const GROWTH: usize = 4;
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

/// Reads a whole body, with room taken for what has come of it. The port ends one that stands still or takes too long.
pub(crate) async fn read(
    body: &mut Body,
    framing: Framing,
    tenant: &TenantId,
    shared: &Shared,
) -> Result<(Bytes, Reservation), Refused> {
    let arrival = shared.in_flight.begin(tenant);
    let end = arrival.end();
    tokio::select! {
        biased;
        () = end.notified() => Err(Refused::no_room()),
        read = read_all(body, framing, arrival, shared) => read,
    }
}

async fn read_all(
    body: &mut Body,
    framing: Framing,
    mut arrival: Arrival,
    shared: &Shared,
) -> Result<(Bytes, Reservation), Refused> {
    let bytes_max = shared.limits.request_bytes_max;
    let too_large = Refused::TooLarge { bytes_max, decompressed: false };
    if framing.expected_bytes(&[]).is_some_and(|bytes| bytes > bytes_max) {
        return Err(too_large);
    }
    // Most bodies come in one piece, which is then not copied.
    let Some(first) = next_piece(body).await? else { return Ok((Bytes::new(), arrival.complete())) };
    let expected = framing.expected_bytes(&first).unwrap_or(0);
    if expected.max(first.len()) > bytes_max {
        return Err(too_large);
    }
    make_room(&mut arrival, first.len(), shared).await?;
    arrival.moved(first.len());
    let Some(second) = next_piece(body).await? else { return Ok((first, arrival.complete())) };
    let most = if expected > 0 { expected } else { bytes_max };
    let (mut whole, mut pieces) = (Vec::new(), vec![first, second]);
    while !pieces.is_empty() {
        let bytes = whole.len() + pieces.iter().map(Bytes::len).sum::<usize>();
        if bytes > bytes_max {
            return Err(too_large);
        }
        // Memory grows with what has come, not with what is announced, which costs a sender nothing.
        if bytes > whole.capacity() {
            let capacity = bytes.max((GROWTH * bytes).min(most));
            make_room(&mut arrival, capacity, shared).await?;
            whole.reserve_exact(capacity - whole.len());
        }
        pieces.drain(..).for_each(|piece| whole.extend_from_slice(&piece));
        arrival.moved(bytes);
        pieces.extend(next_piece(body).await?);
    }
    Ok((whole.into(), arrival.complete()))
}

/// Makes room for a body. If bodies that are not complete hold it, some of them wait a moment: by then those move on or end.
async fn make_room(arrival: &mut Arrival, bytes: usize, shared: &Shared) -> Result<(), Refused> {
    if arrival.grow_to(bytes).await.is_ok() {
        return Ok(());
    }
    let _waiting = shared.waiting_for_room.try_acquire().map_err(|_| Refused::no_room())?;
    for _ in 0..ROOM_ATTEMPTS_MAX {
        if !arrival.may_come_free(bytes) {
            break;
        }
        tokio::time::sleep(ROOM_PAUSE).await;
        if arrival.grow_to(bytes).await.is_ok() {
            return Ok(());
        }
    }
    Err(Refused::no_room())
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
