//! The format of log segments.
//!
//! A segment: 8 bytes of magic, then records. A record: length of the body (u32), CRC-32C of the body (u32), sequence
//! number (u64), CRC-32C of these 16 bytes (u32), the body. Little-endian. A body: length of the tenant's name (u8), the
//! name, the encoded batch. The header has its own checksum so that after damage the next intact record can be found.

use std::path::{Path, PathBuf};

use tracehouse_model::{ExactBatch, SpanBatch, TenantId};

pub(super) const MAGIC: &[u8; 8] = b"TRHLOG01";
pub(super) const HEADER_BYTES: usize = 20;
const EXTENSION: &str = "wal";

pub(super) fn path(folder: &Path, first_sequence: u64) -> PathBuf {
    folder.join(format!("{first_sequence:020}.{EXTENSION}"))
}

/// The number in a segment's name; `None` for other files.
pub(super) fn first_sequence(path: &Path) -> Option<u64> {
    if path.extension()?.to_str()? != EXTENSION {
        return None;
    }
    path.file_stem()?.to_str()?.parse().ok()
}

pub(super) fn encode_body(tenant: &TenantId, spans: &ExactBatch) -> Vec<u8> {
    let mut body = Vec::with_capacity(spans.spans().len() * 192 + 1024);
    let name = tenant.as_str().as_bytes();
    // A tenant's name has at most 64 bytes.
    body.push(name.len() as u8);
    body.extend_from_slice(name);
    spans.encode(&mut body);
    body
}

pub(super) fn decode_body(body: &[u8]) -> Option<(TenantId, SpanBatch)> {
    let (&length, rest) = body.split_first()?;
    let (name, encoded) = rest.split_at_checked(usize::from(length))?;
    let tenant = TenantId::new(std::str::from_utf8(name).ok()?).ok()?;
    Some((tenant, SpanBatch::decode(encoded).ok()?))
}

pub(super) fn encode_header(body_length: usize, body_crc: u32, sequence: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(&(body_length as u32).to_le_bytes());
    header[4..8].copy_from_slice(&body_crc.to_le_bytes());
    header[8..16].copy_from_slice(&sequence.to_le_bytes());
    let crc = crc32c::crc32c(&header[..16]);
    header[16..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// A record of which header and body are intact.
pub(super) struct Record<'a> {
    pub(super) sequence: u64,
    pub(super) body: &'a [u8],
    pub(super) end: usize,
}

/// The record at an offset, if an intact one begins there.
pub(super) fn record_at(segment: &[u8], offset: usize) -> Option<Record<'_>> {
    let header = segment.get(offset..offset + HEADER_BYTES)?;
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if crc32c::crc32c(&header[..16]) != word(16) {
        return None;
    }
    let end = offset + HEADER_BYTES + word(0) as usize;
    let body = segment.get(offset + HEADER_BYTES..end)?;
    if crc32c::crc32c(body) != word(4) {
        return None;
    }
    let sequence = u64::from(word(8)) | u64::from(word(12)) << 32;
    Some(Record { sequence, body, end })
}
