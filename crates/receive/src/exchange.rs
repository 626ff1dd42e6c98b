//! What happens to a request whatever protocol brought it: decompress, decode, hand to the sink, count.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderMap;
use metrics::counter;
use tracehouse_model::{Caller, TenantError, TenantId};
use tracehouse_otlp::{Decoded, json, protobuf};

use crate::decompress::{Compression, decompress};
use crate::in_flight::Reservation;
use crate::refused::{Protocol, Refused};
use crate::sink::Accepted;
use crate::state::Shared;

/// Larger bodies are decoded on a blocking thread, so that they don't hold up the connections of others. At about a
/// gigabyte per second this is a quarter of a millisecond.
const INLINE_BYTES_MAX: usize = 256 * 1024;
/// The same for compressed bodies, which decompress to several times as much and at a lower speed.
const INLINE_COMPRESSED_BYTES_MAX: usize = 32 * 1024;

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
