//! The checksums of all pages of a file: CRC-32C over header and body of each, in the order in which they are written.
//!
//! Stored as 32-bit numbers, little-endian: how many columns there are in all row groups together; for each of them, in order, how many
//! pages come before it; then the checksums.

use bytes::Bytes;

use super::damage::Damaged;

const NUMBER_BYTES: usize = 4;

/// Gathers checksums while a file is written.
#[derive(Default)]
pub(super) struct PageChecksumsWriter {
    begins: Vec<u32>,
    checksums: Vec<u32>,
}

impl PageChecksumsWriter {
    /// Adds those of the next column.
    pub(super) fn add_chunk(&mut self, checksums: &[u32]) {
        self.begins.push(self.checksums.len() as u32);
        self.checksums.extend_from_slice(checksums);
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let count = self.begins.len() as u32;
        let numbers = std::iter::once(&count).chain(&self.begins).chain(&self.checksums);
        numbers.flat_map(|number| number.to_le_bytes()).collect()
    }
}

/// The checksums of a file.
pub(super) struct PageChecksums {
    bytes: Bytes,
    /// Columns of a row group.
    leaves: usize,
    chunks: usize,
}

impl PageChecksums {
    pub(super) fn read(bytes: Bytes, leaves: usize, row_groups: usize) -> parquet::errors::Result<Self> {
        let checksums = Self { bytes, leaves, chunks: leaves * row_groups };
        let count = checksums.number(0).filter(|count| *count as usize == checksums.chunks);
        count.map(|_| checksums).ok_or_else(|| Damaged::error("the checksums of pages contradict the footer"))
    }

    fn number(&self, at: usize) -> Option<u32> {
        let bytes = self.bytes.get(at * NUMBER_BYTES..(at + 1) * NUMBER_BYTES)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    }

    /// Those of the pages of a column, in order.
    pub(super) fn of_chunk(&self, row_group: usize, leaf: usize) -> Option<impl Iterator<Item = u32> + '_> {
        let chunk = row_group * self.leaves + leaf;
        let first = 1 + self.chunks;
        let begin = self.number(1 + chunk)? as usize;
        let all = self.bytes.len() / NUMBER_BYTES - first;
        let end = if chunk + 1 < self.chunks { self.number(2 + chunk)? as usize } else { all };
        (begin <= end && end <= all).then(|| (begin..end).map_while(move |at| self.number(first + at)))
    }
}
