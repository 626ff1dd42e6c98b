use std::io::{self, Read};

use crate::in_flight::Reservation;
use crate::refused::Refused;

/// How a body is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// What the receivers accept, for `Accept-Encoding` and `grpc-accept-encoding`.
    pub(crate) const ACCEPTED: &'static str = "identity, gzip, zstd";

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name.trim() {
            "" | "identity" => Some(Self::None),
            "gzip" | "x-gzip" => Some(Self::Gzip),
            "zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// Decompresses into at most `bytes_max` bytes, with room taken as the output grows. Memory never exceeds the maximum
/// by more than the decoder's window, whatever the input claims.
pub(crate) fn decompress(
    compressed: &[u8],
    compression: Compression,
    bytes_max: usize,
    reservation: &mut Reservation,
) -> Result<Vec<u8>, Refused> {
    /// 8 MiB, what RFC 8878 asks every decoder to support and no compression level below the "ultra" ones exceeds.
    const ZSTD_WINDOW_LOG_MAX: u32 = 23;
    let broken = |error: io::Error| Refused::Undecodable(format!("the body cannot be decompressed: {error}"));
    match compression {
        Compression::None => Ok(compressed.to_vec()),
        Compression::Gzip => {
            read_capped(flate2::bufread::MultiGzDecoder::new(compressed), compressed.len(), bytes_max, reservation)
        }
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(compressed).map_err(broken)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(broken)?;
            read_capped(decoder, compressed.len(), bytes_max, reservation)
        }
    }
}

fn read_capped(
    mut decoder: impl Read,
    compressed_bytes: usize,
    bytes_max: usize,
    reservation: &mut Reservation,
) -> Result<Vec<u8>, Refused> {
    /// Telemetry compresses about this well; the first piece is mostly enough.
    const USUAL_RATIO: usize = 8;
    const PIECE_BYTES_MIN: usize = 16 * 1024;
    let mut out = Vec::new();
    let mut piece_bytes = compressed_bytes.saturating_mul(USUAL_RATIO);
    loop {
        // One byte more than is allowed, to tell a body that just fits from one that doesn't.
        let piece = piece_bytes.max(PIECE_BYTES_MIN).min(bytes_max + 1 - out.len());
        reservation.grow_to(compressed_bytes + out.len() + piece).map_err(|_| Refused::no_room())?;
        out.reserve_exact(piece);
        let read = (&mut decoder)
            .take(piece as u64)
            .read_to_end(&mut out)
            .map_err(|error| Refused::Undecodable(format!("the body cannot be decompressed: {error}")))?;
        if out.len() > bytes_max {
            return Err(Refused::TooLarge { bytes_max, decompressed: true });
        }
        if read < piece {
            return Ok(out);
        }
        piece_bytes = out.len();
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::in_flight::InFlight;
    use std::sync::Arc;
    use tracehouse_model::{ManualClock, TenantId};

    fn room(bytes_max: usize) -> Reservation {
        InFlight::new(bytes_max, Arc::new(ManualClock::default())).reserve(&TenantId::default(), 0).expect("room")
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).expect("in memory");
        encoder.finish().expect("in memory")
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).expect("in memory")
    }

    #[test]
    fn bodies_up_to_the_maximum_come_back() {
        const MAX: usize = 1 << 20;
        for length in [0, 1, 1000, MAX - 1, MAX, MAX + 1, 8 * MAX] {
            let body: Vec<u8> = (0..length).map(|at| (at / 100) as u8).collect();
            for (compression, compressed) in [(Compression::Gzip, gzip(&body)), (Compression::Zstd, zstd(&body))] {
                let mut reservation = room(4 * MAX);
                match decompress(&compressed, compression, MAX, &mut reservation) {
                    Ok(out) => assert!(length <= MAX && out == body, "{length}"),
                    Err(Refused::TooLarge { decompressed: true, .. }) => assert!(length > MAX, "{length}"),
                    Err(other) => panic!("{length}: {other:?}"),
                }
            }
        }
    }

    #[test]
    fn bombs_and_garbage_end_early() {
        let bomb = zstd(&vec![0; 100 << 20]);
        assert!(bomb.len() < 20_000);
        let mut reservation = room(1 << 20);
        let result = decompress(&bomb, Compression::Zstd, 64 << 20, &mut reservation);
        assert!(matches!(result, Err(Refused::Busy { .. })), "no more room is taken than there is");
        for garbage in [&b""[..], b"garbage", &bomb[..bomb.len() / 2]] {
            for compression in [Compression::Gzip, Compression::Zstd] {
                let mut reservation = room(1 << 30);
                let result = decompress(garbage, compression, 1 << 20, &mut reservation);
                let refused = matches!(result, Err(Refused::Undecodable(_) | Refused::TooLarge { .. }));
                let nothing = garbage.is_empty() && result.is_ok_and(|out| out.is_empty());
                assert!(refused || nothing, "{garbage:?}");
            }
        }
    }
}
