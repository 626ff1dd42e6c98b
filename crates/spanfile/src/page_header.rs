//! The header that stands before each page, in Thrift's compact protocol.
//!
//! The Parquet library writes headers without a checksum, so these are ours. Sources: Apache Parquet, `parquet.thrift`
//! (`PageHeader`) and `README.md`, "Checksumming"; Apache Thrift, `thrift-compact-protocol.md`.

use parquet::basic::Encoding;
use parquet::errors::Result;

use super::rows::damaged;

/// What a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PageKind {
    Data,
    Dictionary,
}

/// The fields of a page's header that our files have.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PageHeader {
    pub(super) kind: PageKind,
    pub(super) uncompressed_bytes: u32,
    pub(super) compressed_bytes: u32,
    /// CRC-32 (the one of gzip) of the body as it is stored; files of layout version 1 have none.
    pub(super) crc: Option<u32>,
    pub(super) num_values: u32,
    pub(super) encoding: Encoding,
}

/// Types of fields in the compact protocol.
mod field_type {
    pub(super) const TRUE: u8 = 1;
    pub(super) const FALSE: u8 = 2;
    pub(super) const BYTE: u8 = 3;
    pub(super) const I16: u8 = 4;
    pub(super) const I32: u8 = 5;
    pub(super) const I64: u8 = 6;
    pub(super) const DOUBLE: u8 = 7;
    pub(super) const BINARY: u8 = 8;
    pub(super) const STRUCT: u8 = 12;
}

const STOP: u8 = 0;
const DATA_PAGE: i32 = 0;
const DICTIONARY_PAGE: i32 = 2;
/// `Encoding::RLE` in `parquet.thrift`: that of levels.
const LEVELS: i32 = 3;
/// Structs in structs: a header has two levels.
const DEPTH_MAX: usize = 4;

impl PageHeader {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let kind = if self.kind == PageKind::Data { DATA_PAGE } else { DICTIONARY_PAGE };
        put_i32(out, 1, kind);
        put_i32(out, 1, self.uncompressed_bytes as i32);
        put_i32(out, 1, self.compressed_bytes as i32);
        let mut last = 3;
        if let Some(crc) = self.crc {
            put_i32(out, 1, crc as i32);
            last = 4;
        }
        let number = if self.kind == PageKind::Data { 5 } else { 7 };
        out.push((number - last) << 4 | field_type::STRUCT);
        put_i32(out, 1, self.num_values as i32);
        put_i32(out, 1, encoding_number(self.encoding));
        match self.kind {
            PageKind::Data => {
                put_i32(out, 1, LEVELS);
                put_i32(out, 1, LEVELS);
            }
            // Not sorted.
            PageKind::Dictionary => out.push(1 << 4 | field_type::FALSE),
        }
        out.extend([STOP, STOP]);
    }

    /// Reads a header; gives it and its length.
    pub(super) fn read(page: &[u8]) -> Result<(Self, usize)> {
        let mut input = Input { bytes: page, at: 0 };
        let fields = Fields::read(&mut input).ok_or_else(|| damaged("the header of a page"))?;
        let header = fields.header().ok_or_else(|| damaged("the header of a page"))?;
        Ok((header, input.at))
    }
}

/// The fields of a header as they are read.
#[derive(Default)]
struct Fields {
    kind: Option<i32>,
    uncompressed: Option<i32>,
    compressed: Option<i32>,
    crc: Option<i32>,
    data: Option<(i32, i32)>,
    dictionary: Option<(i32, i32)>,
}

impl Fields {
    fn read(input: &mut Input<'_>) -> Option<Self> {
        let mut fields = Self::default();
        let mut last = 0;
        while let Some((number, field)) = input.field(&mut last)? {
            match (number, field) {
                (1, field_type::I32) => fields.kind = Some(input.i32()?),
                (2, field_type::I32) => fields.uncompressed = Some(input.i32()?),
                (3, field_type::I32) => fields.compressed = Some(input.i32()?),
                (4, field_type::I32) => fields.crc = Some(input.i32()?),
                (5, field_type::STRUCT) => fields.data = Some(input.values_and_encoding()?),
                (7, field_type::STRUCT) => fields.dictionary = Some(input.values_and_encoding()?),
                (_, field) => input.skip(field, 0)?,
            }
        }
        Some(fields)
    }

    fn header(&self) -> Option<PageHeader> {
        let (kind, (num_values, encoding)) = match self.kind? {
            DATA_PAGE => (PageKind::Data, self.data?),
            DICTIONARY_PAGE => (PageKind::Dictionary, self.dictionary?),
            _ => return None,
        };
        Some(PageHeader {
            kind,
            uncompressed_bytes: u32::try_from(self.uncompressed?).ok()?,
            compressed_bytes: u32::try_from(self.compressed?).ok()?,
            crc: self.crc.map(|crc| crc as u32),
            num_values: u32::try_from(num_values).ok()?,
            encoding: encoding_of(encoding)?,
        })
    }
}

struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.bytes.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn zigzag(&mut self) -> Option<i64> {
        let value = self.varint()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn i32(&mut self) -> Option<i32> {
        i32::try_from(self.zigzag()?).ok()
    }

    /// Number and type of the next field of a struct; `Some(None)` at its end.
    fn field(&mut self, last: &mut i64) -> Option<Option<(i64, u8)>> {
        let byte = self.byte()?;
        if byte == STOP {
            return Some(None);
        }
        let step = i64::from(byte >> 4);
        *last = if step == 0 { self.zigzag()? } else { last.checked_add(step)? };
        Some(Some((*last, byte & 0x0f)))
    }

    /// The first two fields of both kinds of inner headers.
    fn values_and_encoding(&mut self) -> Option<(i32, i32)> {
        let (mut values, mut encoding, mut last) = (None, None, 0);
        while let Some((number, field)) = self.field(&mut last)? {
            match (number, field) {
                (1, field_type::I32) => values = Some(self.i32()?),
                (2, field_type::I32) => encoding = Some(self.i32()?),
                (_, field) => self.skip(field, 1)?,
            }
        }
        Some((values?, encoding?))
    }

    fn skip(&mut self, field: u8, depth: usize) -> Option<()> {
        match field {
            field_type::TRUE | field_type::FALSE => {}
            field_type::BYTE => self.at = self.at.checked_add(1)?,
            field_type::I16 | field_type::I32 | field_type::I64 => drop(self.varint()?),
            field_type::DOUBLE => self.at = self.at.checked_add(8)?,
            field_type::BINARY => {
                let length = usize::try_from(self.varint()?).ok()?;
                self.at = self.at.checked_add(length)?;
            }
            field_type::STRUCT if depth < DEPTH_MAX => {
                let mut last = 0;
                while let Some((_, field)) = self.field(&mut last)? {
                    self.skip(field, depth + 1)?;
                }
            }
            // Headers have no lists or maps.
            _ => return None,
        }
        Some(())
    }
}

/// A field of 32 bits, so many numbers after the one before it.
fn put_i32(out: &mut Vec<u8>, step: u8, value: i32) {
    out.push(step << 4 | field_type::I32);
    let mut zigzag = ((value << 1) ^ (value >> 31)) as u32;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

/// The encodings of values in our pages, with their numbers in `parquet.thrift`.
const ENCODINGS: [(Encoding, i32); 5] = [
    (Encoding::PLAIN, 0),
    (Encoding::RLE, 3),
    (Encoding::DELTA_BINARY_PACKED, 5),
    (Encoding::RLE_DICTIONARY, 8),
    (Encoding::BYTE_STREAM_SPLIT, 9),
];

fn encoding_number(encoding: Encoding) -> i32 {
    ENCODINGS.iter().find(|(known, _)| *known == encoding).map_or(0, |(_, number)| *number)
}

fn encoding_of(number: i32) -> Option<Encoding> {
    ENCODINGS.iter().find(|(_, known)| *known == number).map(|(encoding, _)| *encoding)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back() {
        for kind in [PageKind::Data, PageKind::Dictionary] {
            for crc in [None, Some(0), Some(u32::MAX)] {
                let header = PageHeader {
                    kind,
                    uncompressed_bytes: 70_000,
                    compressed_bytes: 63,
                    crc,
                    num_values: 131_072,
                    encoding: Encoding::RLE_DICTIONARY,
                };
                let mut bytes = Vec::new();
                header.write(&mut bytes);
                let length = bytes.len();
                bytes.extend(b"the body");
                assert_eq!(PageHeader::read(&bytes).expect("a header"), (header, length));
                assert!(PageHeader::read(&bytes[..length - 1]).is_err());
            }
        }
    }
}
