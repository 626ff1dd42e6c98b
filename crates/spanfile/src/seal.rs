//! What lies around the row groups of a file, and how it is told from damage.
//!
//! ```text
//! PAR1, row groups, each with filters over pages
//! of texts behind it, trace filter, names,
//! filter of values                                  read when they are needed, each with a checksum
//! index, page indexes, footer, length, PAR1         the tail: read as one when the file is opened
//! ```
//!
//! The footer's key-value metadata bears the seal: the file's id, the length of the tail, and the CRC-32C of the tail, for
//! which the digits of the checksum count as zeros. So no bit of the tail can change unnoticed, and a file under another's
//! name is noticed too. Beside it stands the tenant, so that a file in another's folder is noticed by who knows no better. Other engines read past all of this.

use std::io::{self, Write};

use bytes::Bytes;
use parquet::errors::{ParquetError, Result};
use parquet::file::reader::{ChunkReader, Length};
use serde::Deserialize;

use super::damage::Damaged;

/// Footer key.
pub(super) const SEAL_KEY: &str = "tracehouse.seal";

/// Footer key of the name of the tenant whose spans the file holds. Files that were written before there was one don't say.
pub(super) const TENANT_KEY: &str = "tracehouse.tenant";

/// A stretch of a file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub(super) struct Section {
    pub(super) offset: u64,
    pub(super) bytes: u32,
    pub(super) crc32c: u32,
}

impl Section {
    /// Where a section that is written now will be.
    pub(super) fn at(offset: u64, content: &[u8]) -> Self {
        Self { offset, bytes: content.len() as u32, crc32c: crc32c::crc32c(content) }
    }
}

const CRC_DIGITS: usize = 8;
const TAIL_DIGITS: usize = 10;

/// The text of a seal that is to be completed by [`complete`].
pub(super) fn open_seal(file_id: &str) -> String {
    Seal { file_id, tail_bytes: 0, crc32c: 0 }.text()
}

/// What a seal says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Seal<'a> {
    pub(super) file_id: &'a str,
    pub(super) tail_bytes: u64,
    crc32c: u32,
}

impl<'a> Seal<'a> {
    fn text(&self) -> String {
        let Self { file_id, tail_bytes, crc32c } = self;
        format!("id={file_id} tail={tail_bytes:0TAIL_DIGITS$} crc32c={crc32c:0CRC_DIGITS$x}")
    }

    /// Takes what [`Self::text`] gives and nothing else that would mean the same.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.split(' ');
        let file_id = parts.next()?.strip_prefix("id=")?;
        let tail_bytes = parts.next()?.strip_prefix("tail=")?.parse().ok()?;
        let crc32c = u32::from_str_radix(parts.next()?.strip_prefix("crc32c=")?, 16).ok()?;
        let seal = Self { file_id, tail_bytes, crc32c };
        (seal.text() == text).then_some(seal)
    }

    /// The seal of a file of known id in its tail, with its text.
    pub(super) fn find(tail: &'a [u8], file_id: &str) -> Option<(Self, &'a str)> {
        let begin = position_of(tail, format!("id={file_id} tail=").as_bytes())?;
        let text = tail.get(begin..begin + open_seal(file_id).len())?;
        let text = std::str::from_utf8(text).ok()?;
        Some((Self::parse(text)?, text))
    }

    /// Whether a tail is what was sealed. `text` is the seal as the footer has it.
    pub(super) fn holds(&self, text: &str, tail: &[u8]) -> bool {
        if self.tail_bytes != tail.len() as u64 {
            return false;
        }
        let Some(at) = position_of(tail, text.as_bytes()) else { return false };
        let digits = at + text.len() - CRC_DIGITS;
        let crc = crc32c::crc32c(&tail[..digits]);
        let crc = crc32c::crc32c_append(crc, &[b'0'; CRC_DIGITS]);
        crc32c::crc32c_append(crc, &tail[digits + CRC_DIGITS..]) == self.crc32c
    }
}

/// Writes length and checksum into the seal in a tail.
fn complete(tail: &mut [u8], open: &str) -> Result<()> {
    let missing = || ParquetError::General("the footer was written without its seal".into());
    let at = position_of(tail, open.as_bytes()).ok_or_else(missing)?;
    let length = format!("{:0TAIL_DIGITS$}", tail.len());
    let length_at = at + open.find("tail=").ok_or_else(missing)? + "tail=".len();
    tail[length_at..length_at + TAIL_DIGITS].copy_from_slice(length.as_bytes());
    let crc = format!("{:0CRC_DIGITS$x}", crc32c::crc32c(tail));
    let crc_at = at + open.len() - CRC_DIGITS;
    tail[crc_at..crc_at + CRC_DIGITS].copy_from_slice(crc.as_bytes());
    Ok(())
}

/// The last place of a text. Seals hold the file's id, which is partly chance: nobody can have chosen the same text.
fn position_of(bytes: &[u8], text: &[u8]) -> Option<usize> {
    memchr::memmem::rfind(bytes, text)
}

/// Passes on what is written, until the tail begins, which is kept back to be sealed.
pub(super) struct SealingSink<W> {
    inner: W,
    tail: Option<Vec<u8>>,
}

impl<W: Write> SealingSink<W> {
    pub(super) fn new(inner: W) -> Self {
        Self { inner, tail: None }
    }

    pub(super) fn begin_tail(&mut self) {
        self.tail = Some(Vec::new());
    }

    /// Seals and writes the tail; gives the sink below and the length of the tail.
    pub(super) fn finish(mut self, open_seal: &str) -> Result<(W, u32)> {
        let mut tail = self.tail.take().unwrap_or_default();
        complete(&mut tail, open_seal)?;
        self.inner.write_all(&tail)?;
        let length = u32::try_from(tail.len());
        Ok((self.inner, length.map_err(|_| ParquetError::General("the footer is larger than 4 GiB".into()))?))
    }
}

impl<W: Write> Write for SealingSink<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.tail {
            Some(tail) => tail.write(bytes),
            None => self.inner.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The end of a file in memory, for whoever reads it as a part of the file.
pub(super) struct TailReader {
    pub(super) bytes: Bytes,
    /// Where it begins in the file.
    pub(super) begin: u64,
}

impl Length for TailReader {
    fn len(&self) -> u64 {
        self.begin + self.bytes.len() as u64
    }
}

impl ChunkReader for TailReader {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T> {
        let rest = self.len().saturating_sub(start);
        Ok(bytes::Buf::reader(self.get_bytes(start, rest as usize)?))
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        let outside = || Damaged::error("the footer names places outside of the end of the file");
        let begin = usize::try_from(start.checked_sub(self.begin).ok_or_else(outside)?).map_err(|_| outside())?;
        let end = begin.checked_add(length).filter(|end| *end <= self.bytes.len()).ok_or_else(outside)?;
        Ok(self.bytes.slice(begin..end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seal_notices_every_bit() {
        let open = open_seal("0001-abc");
        let mut sink = SealingSink::new(Vec::new());
        sink.write_all(b"row groups").expect("memory takes it");
        sink.begin_tail();
        sink.write_all(format!("indexes, {open}, length").as_bytes()).expect("memory takes it");
        let (file, tail_bytes) = sink.finish(&open).expect("it is sealed");
        let mut tail = file[file.len() - tail_bytes as usize..].to_vec();
        let text = |tail: &[u8]| {
            let at = position_of(tail, b"id=").expect("a seal");
            String::from_utf8(tail[at..at + open.len()].to_vec()).ok()
        };
        let sealed = text(&tail).expect("a text");
        let seal = Seal::parse(&sealed).expect("a seal");
        assert_eq!((seal.file_id, seal.tail_bytes), ("0001-abc", tail.len() as u64));
        assert!(seal.holds(&sealed, &tail));
        for bit in 0..tail.len() * 8 {
            tail[bit / 8] ^= 1 << (bit % 8);
            assert!(!seal.holds(&sealed, &tail), "bit {bit}");
            tail[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
