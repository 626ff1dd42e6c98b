//! The format of log segments.
//!
//! A segment: 8 bytes of magic, then records. A record: length of the body (u32), CRC-32C of the body (u32), sequence
//! number (u64), CRC-32C of the segment's salt and these 16 bytes (u32), the body. Little-endian. A body: length of the
//! tenant's name (7 bits) and whether the record is carried forward (1 bit), the name, the encoded batch.
//!
//! The header has its own checksum so that after damage the next intact record can be found. The salt keeps what senders
//! put into their spans from looking like a record then: it is a random number in the segment's name, where no damage inside
//! the segment reaches it. Segments of the first version have no salt.

use std::path::{Path, PathBuf};

use tracehouse_model::{ExactBatch, TenantId};

pub(crate) const MAGIC: &[u8; 8] = b"TRHLOG02";
const MAGIC_OF_FIRST_VERSION: &[u8; 8] = b"TRHLOG01";
pub(crate) const HEADER_BYTES: usize = 20;
const EXTENSION: &str = "wal";
/// No log comes as far. What stands under a higher number is none of its files: to go on behind it, numbers would have to begin anew.
const FIRST_SEQUENCE_MAX: u64 = 1 << 56;
/// In the first byte of a body, beside the length of the tenant's name.
const CARRIED: u8 = 0x80;

/// What a segment's name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SegmentName {
    /// The number of its first record.
    pub(crate) first_sequence: u64,
    pub(crate) salt: Option<u64>,
}

impl SegmentName {
    pub(crate) fn path_in(self, folder: &Path) -> PathBuf {
        let salt = self.salt.map_or_else(String::new, |salt| format!("-{salt:016x}"));
        folder.join(format!("{:020}{salt}.{EXTENSION}", self.first_sequence))
    }

    /// `None` for other files.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        if path.extension()?.to_str()? != EXTENSION {
            return None;
        }
        let stem = path.file_stem()?.to_str()?;
        let (number, salt) = stem.split_once('-').map_or((stem, None), |(number, salt)| (number, Some(salt)));
        let salt = salt.map(|salt| u64::from_str_radix(salt, 16)).transpose().ok()?;
        let first_sequence = number.parse().ok().filter(|number| *number <= FIRST_SEQUENCE_MAX)?;
        Some(Self { first_sequence, salt })
    }
}

/// Where the first record stands.
pub(crate) fn begin(segment: &[u8]) -> usize {
    let has_magic = segment.starts_with(MAGIC) || segment.starts_with(MAGIC_OF_FIRST_VERSION);
    if has_magic { MAGIC.len() } else { 0 }
}

/// Why a record was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// Its spans had just come in.
    New,
    /// It repeats spans of earlier records that could not be written to files for long, so that those can be let go. It
    /// counts from the moment the catalogue says so: see [`super::Positions`].
    Carried,
}

pub(crate) fn encode_body(tenant: &TenantId, kind: RecordKind, spans: &ExactBatch) -> Vec<u8> {
    let mut body = Vec::with_capacity(spans.spans().len() * 192 + 1024);
    let name = tenant.as_str().as_bytes();
    let flag = if kind == RecordKind::Carried { CARRIED } else { 0 };
    // A tenant's name has at most 64 bytes.
    body.push(name.len() as u8 | flag);
    body.extend_from_slice(name);
    spans.encode(&mut body);
    body
}

/// Whose a record is and why it was written, and its encoded batch. Works on the beginning of a body too.
pub(crate) fn split_body(body: &[u8]) -> Option<(TenantId, RecordKind, &[u8])> {
    let (&first, rest) = body.split_first()?;
    let (name, encoded) = rest.split_at_checked(usize::from(first & !CARRIED))?;
    let kind = if first & CARRIED == 0 { RecordKind::New } else { RecordKind::Carried };
    Some((TenantId::new(std::str::from_utf8(name).ok()?).ok()?, kind, encoded))
}

/// What stands before a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) sequence: u64,
    pub(crate) body_bytes: usize,
    pub(crate) body_crc: u32,
}

impl Header {
    /// What the record takes, header and body.
    pub(crate) fn bytes(self) -> u64 {
        (HEADER_BYTES + self.body_bytes) as u64
    }

    pub(crate) fn encode(self, salt: u64) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        header[..4].copy_from_slice(&(self.body_bytes as u32).to_le_bytes());
        header[4..8].copy_from_slice(&self.body_crc.to_le_bytes());
        header[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        let crc = checksum(Some(salt), &header[..16]);
        header[16..].copy_from_slice(&crc.to_le_bytes());
        header
    }

    /// The header with which these bytes begin, if it is intact.
    pub(crate) fn of(bytes: &[u8], salt: Option<u64>) -> Option<Self> {
        let header = bytes.get(..HEADER_BYTES)?;
        let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        if checksum(salt, &header[..16]) != word(16) {
            return None;
        }
        Some(Self { sequence: sequence_in(header)?, body_bytes: word(0) as usize, body_crc: word(4) })
    }
}

/// The number in the header with which these bytes may begin.
pub(crate) fn sequence_in(bytes: &[u8]) -> Option<u64> {
    let number = bytes.get(..HEADER_BYTES)?.get(8..16)?;
    Some(u64::from_le_bytes(number.try_into().ok()?))
}

fn checksum(salt: Option<u64>, header: &[u8]) -> u32 {
    let salt = salt.map_or(0, |salt| crc32c::crc32c(&salt.to_le_bytes()));
    crc32c::crc32c_append(salt, header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_first_number_and_the_salt() {
        let names =
            [SegmentName { first_sequence: 7, salt: None }, SegmentName { first_sequence: 12, salt: Some(0xabc) }];
        for name in names {
            assert_eq!(SegmentName::of(&name.path_in(Path::new("log"))), Some(name));
        }
        let too_high = ["18446744073709551615-bbbbbbbbbbbbbbbb.wal", "09223372036854775807.wal"];
        for other in ["notes.wal", "7.wal.bak", "7-xyz.wal", ".wal"].into_iter().chain(too_high) {
            assert_eq!(SegmentName::of(Path::new(other)), None, "{other}");
        }
    }

    /// Bytes that a sender chose must not pass for a record.
    #[test]
    fn a_header_counts_only_with_the_salt_of_its_segment() {
        let header = Header { sequence: 3, body_bytes: 10, body_crc: 4 };
        let bytes = header.encode(17);
        assert_eq!(Header::of(&bytes, Some(17)), Some(header));
        assert_eq!(Header::of(&bytes, Some(18)), None);
        assert_eq!(Header::of(&bytes, None), None);
    }
}
