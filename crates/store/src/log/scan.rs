//! Finds what stands in a segment: records, damaged ones, and bytes that are none.

use std::ops::Range;

use super::segment::{self, HEADER_BYTES, Header};

/// A number further ahead than this is not believed: no log has lost so many records.
const GAP_MAX: u64 = 1 << 32;

/// A part of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Part<'a> {
    Record {
        sequence: u64,
        body: &'a [u8],
    },
    /// The header is intact and the body is not.
    Damaged {
        sequence: u64,
        body: &'a [u8],
    },
    /// The header is intact, and the segment ends before the body does.
    CutOff {
        sequence: u64,
        body_bytes: usize,
        body: &'a [u8],
    },
    /// No record that can be told begins here.
    Unknown,
}

/// The parts of a segment in order. Numbers grow from record to record and stay below `numbers.end`; what has another
/// number is not believed.
pub(super) struct Scan<'a> {
    segment: &'a [u8],
    salt: Option<u64>,
    numbers: Range<u64>,
    offset: usize,
    /// A part that was found while the bytes before it were passed over.
    next: Option<(Range<usize>, Part<'a>)>,
}

impl<'a> Scan<'a> {
    pub(super) fn new(segment: &'a [u8], salt: Option<u64>, numbers: Range<u64>) -> Self {
        Self { segment, salt, numbers, offset: segment::begin(segment), next: None }
    }

    fn part_at(&self, offset: usize) -> Option<(Range<usize>, Part<'a>)> {
        let Header { sequence, body_bytes, body_crc } = Header::at(self.segment, offset, self.salt)?;
        let is_plausible = self.numbers.contains(&sequence) && sequence - self.numbers.start <= GAP_MAX;
        if !is_plausible {
            return None;
        }
        let begin = offset + HEADER_BYTES;
        let end = begin.saturating_add(body_bytes);
        let body = &self.segment[begin..end.min(self.segment.len())];
        if body.len() == body_bytes && crc32c::crc32c(body) == body_crc {
            return Some((offset..end, Part::Record { sequence, body }));
        }
        // Without a salt this may be text that a sender chose: its length must not hide what follows.
        self.salt?;
        let part = if body.len() == body_bytes {
            Part::Damaged { sequence, body }
        } else {
            Part::CutOff { sequence, body_bytes, body }
        };
        Some((offset..begin + body.len(), part))
    }
}

impl<'a> Iterator for Scan<'a> {
    type Item = (Range<usize>, Part<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(found) = self.next.take() {
            return Some(found);
        }
        let begin = self.offset;
        while self.offset < self.segment.len() {
            let Some((range, part)) = self.part_at(self.offset) else {
                self.offset += 1;
                continue;
            };
            if let Part::Record { sequence, .. } | Part::Damaged { sequence, .. } = part {
                self.numbers.start = sequence + 1;
            }
            self.offset = range.end;
            if range.start == begin {
                return Some((range, part));
            }
            let unknown = begin..range.start;
            self.next = Some((range, part));
            return Some((unknown, Part::Unknown));
        }
        (begin < self.offset).then_some((begin..self.offset, Part::Unknown))
    }
}

#[cfg(test)]
mod tests {
    use super::super::segment::MAGIC;
    use super::*;

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

    /// Found in a segment: `r3` a record, `d3` a damaged one, `c3` one cut off, `?` unknown bytes.
    fn found(bytes: &[u8], numbers: Range<u64>) -> String {
        let parts = Scan::new(bytes, Some(SALT), numbers).map(|(_, part)| match part {
            Part::Record { sequence, .. } => format!("r{sequence}"),
            Part::Damaged { sequence, .. } => format!("d{sequence}"),
            Part::CutOff { sequence, .. } => format!("c{sequence}"),
            Part::Unknown => "?".to_owned(),
        });
        parts.collect::<Vec<_>>().join(" ")
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
        ];
        for (bytes, numbers, expected) in cases {
            assert_eq!(found(&bytes, numbers), expected);
        }
    }
}
