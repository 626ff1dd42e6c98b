//! Finds what stands in a segment: records, damaged ones, and bytes that are none.

use std::io;
use std::ops::Range;

use crate::pieces::Pieces;
use crate::segment::{self, HEADER_BYTES, Header, MAGIC};

/// A number further ahead than this is not believed: no log has lost so many records.
const GAP_MAX: u64 = 1 << 32;
/// So much of a record that can't be read is looked at: it begins with the name of its tenant.
const HEAD_BYTES: u64 = 128;

/// A part of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Record {
        sequence: u64,
        body: Vec<u8>,
    },
    /// The header is intact and the body is not.
    Damaged {
        sequence: u64,
        body_bytes: u64,
        /// The beginning of the body.
        head: Vec<u8>,
    },
    /// The header is intact, and the segment ends before the body does.
    CutOff {
        sequence: u64,
        body_bytes: u64,
        head: Vec<u8>,
    },
    /// No record that can be told begins here.
    Unknown {
        is_zeros: bool,
    },
}

/// The parts of a segment in order. Numbers grow from record to record and stay below `numbers.end`; what has another
/// number is not believed. An error is one of the machine; nothing comes behind it.
pub(crate) struct SegmentParts<'a> {
    segment: &'a mut Pieces,
    salt: Option<u64>,
    numbers: Range<u64>,
    offset: u64,
    /// A part that was found while the bytes before it were passed over.
    next: Option<(Range<u64>, Part)>,
}

impl<'a> SegmentParts<'a> {
    pub(crate) fn new(segment: &'a mut Pieces, salt: Option<u64>, numbers: Range<u64>) -> io::Result<Self> {
        let offset = segment::begin(segment.from(0, MAGIC.len())?) as u64;
        Ok(Self { segment, salt, numbers, offset, next: None })
    }

    fn part_at(&mut self, offset: u64) -> io::Result<Option<(Range<u64>, Part)>> {
        let Some(header) = self.header_at(offset)? else { return Ok(None) };
        let Header { sequence, body_bytes, body_crc } = header;
        let body_bytes = body_bytes as u64;
        let begin = offset + HEADER_BYTES as u64;
        let end = begin + body_bytes;
        let is_there = end <= self.segment.bytes();
        // Before it is right, nothing says that there is a body of this length: it is not read as a whole.
        if is_there && self.segment.crc(begin..end)? == body_crc {
            let body = self.segment.read(begin..end)?;
            return Ok(Some((offset..end, Part::Record { sequence, body })));
        }
        // Without a salt this may be text that a sender chose: its length must not hide what follows.
        if self.salt.is_none() {
            return Ok(None);
        }
        let end = end.min(self.segment.bytes());
        let head = self.segment.read(begin..end.min(begin + HEAD_BYTES))?;
        let part = if is_there {
            Part::Damaged { sequence, body_bytes, head }
        } else {
            Part::CutOff { sequence, body_bytes, head }
        };
        Ok(Some((offset..end, part)))
    }

    /// An intact header whose number is plausible. The number is looked at first, as that takes less time than a checksum.
    fn header_at(&mut self, offset: u64) -> io::Result<Option<Header>> {
        let bytes = self.segment.from(offset, HEADER_BYTES)?;
        let sequence = segment::sequence_in(bytes);
        let is_plausible = |sequence| self.numbers.contains(&sequence) && sequence - self.numbers.start <= GAP_MAX;
        Ok(if sequence.is_some_and(is_plausible) { Header::of(bytes, self.salt) } else { None })
    }

    /// The next place at which a header may stand, behind one where none does. Within so many zeros as a header is long none
    /// begins: no body is empty, and no number zero.
    fn place_behind(&mut self, offset: u64) -> io::Result<u64> {
        let zeros = self.segment.zeros_from(offset)?;
        Ok(offset + zeros.saturating_sub(HEADER_BYTES as u64 - 1).max(1))
    }

    fn step(&mut self) -> io::Result<Option<(Range<u64>, Part)>> {
        let begin = self.offset;
        while self.offset < self.segment.bytes() {
            let Some((range, part)) = self.part_at(self.offset)? else {
                self.offset = self.place_behind(self.offset)?;
                continue;
            };
            if let Part::Record { sequence, .. } | Part::Damaged { sequence, .. } = part {
                self.numbers.start = sequence + 1;
            }
            self.offset = range.end;
            if range.start == begin {
                return Ok(Some((range, part)));
            }
            let unknown = begin..range.start;
            self.next = Some((range, part));
            return self.unknown(unknown).map(Some);
        }
        if begin < self.offset { self.unknown(begin..self.offset).map(Some) } else { Ok(None) }
    }

    fn unknown(&mut self, range: Range<u64>) -> io::Result<(Range<u64>, Part)> {
        let is_zeros = self.segment.zeros_from(range.start)? >= range.end - range.start;
        Ok((range, Part::Unknown { is_zeros }))
    }
}

impl Iterator for SegmentParts<'_> {
    type Item = io::Result<(Range<u64>, Part)>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(found) = self.next.take() {
            return Some(Ok(found));
        }
        let step = self.step();
        if step.is_err() {
            self.offset = self.segment.bytes();
        }
        step.transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pieces::tests::pieces_of;

    const SALT: u64 = 99;

    fn segment(records: &[(u64, &[u8])]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for (sequence, body) in records {
            let header = Header { sequence: *sequence, body_bytes: body.len(), body_crc: crc32c::crc32c(body) };
            bytes.extend_from_slice(&header.encode(SALT));
            bytes.extend_from_slice(body);
        }
        bytes
    }

    /// Found in a segment: `r3` a record, `d3` a damaged one, `c3` one cut off, `?` unknown bytes, `0` zeros.
    fn found(bytes: &[u8], numbers: Range<u64>) -> String {
        let mut pieces = pieces_of(bytes);
        let parts = SegmentParts::new(&mut pieces, Some(SALT), numbers).expect("can be read");
        let mut end = parts.offset;
        let letters = parts.map(|part| {
            let (range, part) = part.expect("can be read");
            assert_eq!(range.start, end, "parts follow each other");
            end = range.end;
            match part {
                Part::Record { sequence, .. } => format!("r{sequence}"),
                Part::Damaged { sequence, .. } => format!("d{sequence}"),
                Part::CutOff { sequence, .. } => format!("c{sequence}"),
                Part::Unknown { is_zeros: true } => "0".to_owned(),
                Part::Unknown { is_zeros: false } => "?".to_owned(),
            }
        });
        letters.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn parts_of_a_segment() {
        let whole = segment(&[(5, b"first"), (6, b"second"), (7, b"third")]);
        let second = MAGIC.len() + HEADER_BYTES + 5;
        let changed = |at: usize| {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            bytes
        };
        let cases = [
            (whole.clone(), 5..u64::MAX, "r5 r6 r7"),
            (changed(second), 5..u64::MAX, "r5 ? r7"),
            (changed(second + HEADER_BYTES), 5..u64::MAX, "r5 d6 r7"),
            (whole[..whole.len() - 1].to_vec(), 5..u64::MAX, "r5 r6 c7"),
            (whole[..second + 3].to_vec(), 5..u64::MAX, "r5 ?"),
            // Numbers that do not fit.
            (whole.clone(), 6..u64::MAX, "? r6 r7"),
            (whole.clone(), 5..7, "r5 r6 ?"),
            (segment(&[(5, b"a"), (5, b"b"), (6, b"c")]), 5..u64::MAX, "r5 ? r6"),
            (segment(&[(5, b"a"), (u64::MAX - 1, b"b"), (6, b"c")]), 5..u64::MAX, "r5 ? r6"),
            (segment(&[(5, b"a"), (9, b"b")]), 5..u64::MAX, "r5 r9"),
            (Vec::new(), 5..u64::MAX, ""),
            // Zeros, also before a record, and as many as a record's header begins and ends with.
            ([&whole[..], &[0; 4096]].concat(), 5..u64::MAX, "r5 r6 r7 0"),
            ([&whole[..second], &[0; 4096], &whole[second..]].concat(), 5..u64::MAX, "r5 0 r6 r7"),
            ([&whole[..second], &[0; 19], &whole[second..]].concat(), 5..u64::MAX, "r5 0 r6 r7"),
            ([&whole[..second], &[1], &[0; 50], &whole[second..]].concat(), 5..u64::MAX, "r5 ? r6 r7"),
        ];
        for (bytes, numbers, expected) in cases {
            assert_eq!(found(&bytes, numbers), expected);
        }
    }
}
