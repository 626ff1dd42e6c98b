//! Parquet's hybrid of run-length encoding and bit packing. Source: Apache Parquet, `Encodings.md`, "RLE = 3".

use std::ops::Range;

use arrow::array::BooleanBufferBuilder;
use parquet::errors::{ParquetError, Result};

/// Bits needed for values from 0 to `max`.
pub(crate) fn bits_for(max: u32) -> u32 {
    u32::BITS - max.leading_zeros()
}

/// Values are packed in groups of so many.
const GROUP: usize = 8;
/// Shorter runs cost less bit-packed.
const RUN_MIN: usize = 8;

/// Appends the values, each below `2^width`, without a length in front. A width of 0 is written as 1.
pub(crate) fn put_hybrid(out: &mut Vec<u8>, values: &[u32], width: u32) {
    match width {
        0 | 1 => put_bits(out, values.iter().map(|&value| value & 1 == 1)),
        _ => put_numbers(out, values, width),
    }
}

/// Appends values of one bit each as [`put_hybrid`] does, many at a time: the levels of most columns are such.
pub(crate) fn put_bits(out: &mut Vec<u8>, bits: impl ExactSizeIterator<Item = bool>) {
    let bits = Bits::pack(bits);
    put_runs(
        out,
        bits.len,
        |at| bits.next_run(at),
        |out, range| bits.put_packed(out, range),
        |out, at, count| put_run(out, count, u32::from(bits.is_set(at)), 1),
    );
}

fn put_numbers(out: &mut Vec<u8>, values: &[u32], width: u32) {
    put_runs(
        out,
        values.len(),
        |at| next_run(values, at),
        |out, range| put_packed(out, &values[range], width),
        |out, at, count| put_run(out, count, values[at], width),
    );
}

/// Appends runs as such, where they are long, and what stands between them packed.
fn put_runs(
    out: &mut Vec<u8>,
    values: usize,
    next_run: impl Fn(usize) -> Option<Run>,
    put_packed: impl Fn(&mut Vec<u8>, Range<usize>),
    put_run: impl Fn(&mut Vec<u8>, usize, usize),
) {
    let (mut at, mut literals_begin) = (0, 0);
    while let Some(Run { begin, length }) = next_run(at) {
        at = begin + length;
        // A bit-packed stretch holds whole groups, so a run gives it what its last group lacks.
        let lacking = (GROUP - (begin - literals_begin) % GROUP) % GROUP;
        if length >= RUN_MIN + lacking {
            put_packed(out, literals_begin..begin + lacking);
            put_run(out, begin, length - lacking);
            literals_begin = at;
        }
    }
    put_packed(out, literals_begin..values);
}

/// Equal values, one after the other.
struct Run {
    begin: usize,
    length: usize,
}

/// The first run of at least [`RUN_MIN`] values at a place or behind it, where another value stands before the place.
///
/// The last of so many values says first that they are none: where neighbours differ, few of them are looked at.
fn next_run(values: &[u32], mut at: usize) -> Option<Run> {
    loop {
        let window = values.get(at..at + RUN_MIN)?;
        let last = window[RUN_MIN - 1];
        match window.iter().rposition(|&value| value != last) {
            Some(other) => at += other + 1,
            None => {
                let behind = &values[at + RUN_MIN..];
                let further = behind.iter().position(|&value| value != last).unwrap_or(behind.len());
                return Some(Run { begin: at, length: RUN_MIN + further });
            }
        }
    }
}

/// Values of one bit each.
struct Bits {
    /// The first value is the lowest bit of the first word. One word more than is needed, and at least one.
    words: Vec<u64>,
    len: usize,
}

impl Bits {
    fn pack(mut bits: impl ExactSizeIterator<Item = bool>) -> Self {
        let len = bits.len();
        let word = |_| bits.by_ref().take(64).enumerate().fold(0, |word, (at, bit)| word | u64::from(bit) << at);
        let mut words: Vec<u64> = (0..len.div_ceil(64)).map(word).collect();
        words.push(0);
        Self { words, len }
    }

    fn is_set(&self, at: usize) -> bool {
        self.words[at / 64] >> (at % 64) & 1 == 1
    }

    /// The 64 bits that begin at a place, and how many of them there are.
    #[inline]
    fn window(&self, at: usize) -> (u64, usize) {
        let (word, shift) = (at / 64, at % 64);
        let above = if shift == 0 { 0 } else { self.words[word + 1] << (64 - shift) };
        (self.words[word] >> shift | above, (self.len - at).min(64))
    }

    /// See [`next_run`].
    fn next_run(&self, mut at: usize) -> Option<Run> {
        while at + RUN_MIN <= self.len {
            let (bits, known) = self.window(at);
            // Where a bit is like the next, where that is so for two, for four, for seven bits one after the other.
            let one = !(bits ^ (bits >> 1)) & low_bits(known - 1);
            let two = one & (one >> 1);
            let four = two & (two >> 2);
            let seven = four & (four >> 3);
            if seven != 0 {
                let begin = at + seven.trailing_zeros() as usize;
                return Some(Run { begin, length: RUN_MIN + self.like(self.is_set(begin), begin + RUN_MIN) });
            }
            // The last places of the window may begin a run that its end cuts off.
            at += known - (RUN_MIN - 1);
        }
        None
    }

    /// How many bits from a place on are like this one.
    fn like(&self, bit: bool, begin: usize) -> usize {
        let mut at = begin;
        while at < self.len {
            let (bits, known) = self.window(at);
            let others = if bit { !bits } else { bits } & low_bits(known);
            if others != 0 {
                return at + others.trailing_zeros() as usize - begin;
            }
            at += known;
        }
        at - begin
    }

    fn put_packed(&self, out: &mut Vec<u8>, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        put_packed_header(out, range.len());
        for at in range.clone().step_by(64) {
            let taken = (range.end - at).min(64);
            let bits = self.window(at).0 & low_bits(taken);
            out.extend_from_slice(&bits.to_le_bytes()[..taken.div_ceil(8)]);
        }
    }
}

fn low_bits(count: usize) -> u64 {
    if count < 64 { (1 << count) - 1 } else { u64::MAX }
}

pub(crate) fn put_run(out: &mut Vec<u8>, count: usize, value: u32, width: u32) {
    put_varint(out, (count as u64) << 1);
    out.extend_from_slice(&value.to_le_bytes()[..width.max(1).div_ceil(8) as usize]);
}

fn put_packed(out: &mut Vec<u8>, values: &[u32], width: u32) {
    if values.is_empty() {
        return;
    }
    let groups = put_packed_header(out, values.len());
    let end = out.len() + groups * width as usize;
    let (mut pending, mut pending_bits) = (0u64, 0);
    for &value in values {
        pending |= u64::from(value) << pending_bits;
        pending_bits += width;
        if pending_bits >= 32 {
            out.extend_from_slice(&(pending as u32).to_le_bytes());
            pending >>= 32;
            pending_bits -= 32;
        }
    }
    out.extend_from_slice(&pending.to_le_bytes()[..pending_bits.div_ceil(8) as usize]);
    out.resize(end, 0);
}

/// Gives the number of groups.
fn put_packed_header(out: &mut Vec<u8>, values: usize) -> usize {
    let groups = values.div_ceil(GROUP);
    put_varint(out, ((groups as u64) << 1) | 1);
    groups
}

fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends values of one bit each, of which there must be so many.
pub(crate) fn read_bits(mut bytes: &[u8], count: usize, into: &mut BooleanBufferBuilder) -> Result<()> {
    let short = || ParquetError::EOF("a page ends within its levels".into());
    let mut left = count;
    while left > 0 {
        let header = take_varint(&mut bytes).ok_or_else(short)?;
        let length = usize::try_from(header >> 1).unwrap_or(usize::MAX);
        if header & 1 == 1 {
            let (packed, rest) = bytes.split_at_checked(length).ok_or_else(short)?;
            let taken = left.min(length.saturating_mul(GROUP));
            into.append_packed_range(0..taken, packed);
            (bytes, left) = (rest, left - taken);
        } else {
            let (value, rest) = bytes.split_first().ok_or_else(short)?;
            let taken = left.min(length);
            into.append_n(taken, *value & 1 == 1);
            (bytes, left) = (rest, left - taken);
        }
        // Runs of nothing would never end.
        if length == 0 {
            return Err(short());
        }
    }
    Ok(())
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use parquet::encodings::rle::RleDecoder;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_library_reads_what_we_write(
            runs in proptest::collection::vec((0u32..2000, 1usize..40), 0..60)
        ) {
            let values: Vec<u32> = runs.iter().flat_map(|&(value, count)| std::iter::repeat_n(value, count)).collect();
            let width = bits_for(values.iter().copied().max().unwrap_or(0)).max(1);
            let mut encoded = Vec::new();
            put_hybrid(&mut encoded, &values, width);
            let mut decoder = RleDecoder::new(width as u8);
            decoder.set_data(encoded.into()).expect("readable");
            let mut decoded = vec![0i32; values.len()];
            prop_assert_eq!(decoder.get_batch(&mut decoded).expect("readable"), values.len());
            prop_assert!(values.iter().zip(&decoded).all(|(&left, &right)| left as i32 == right));
        }

        #[test]
        fn runs_are_those_that_each_place_shows(
            runs in proptest::collection::vec((0u32..3, 1usize..20), 0..60)
        ) {
            let values: Vec<u32> = runs.iter().flat_map(|&(value, count)| std::iter::repeat_n(value, count)).collect();
            let (mut found, mut at) = (Vec::new(), 0);
            while let Some(Run { begin, length }) = next_run(&values, at) {
                found.push((begin, length));
                at = begin + length;
            }
            let mut begin = 0;
            let all = values.chunk_by(|left, right| left == right).map(|run| {
                begin += run.len();
                (begin - run.len(), run.len())
            });
            prop_assert_eq!(found, all.filter(|run| run.1 >= RUN_MIN).collect::<Vec<_>>());
        }

        #[test]
        fn bits_are_written_as_numbers_are(
            runs in proptest::collection::vec((any::<bool>(), 1usize..150), 0..40),
            single in proptest::collection::vec(any::<bool>(), 0..300),
        ) {
            let runs = runs.iter().flat_map(|&(bit, count)| std::iter::repeat_n(bit, count));
            let bits: Vec<bool> = runs.clone().chain(single).chain(runs).collect();
            let (mut of_bits, mut of_numbers) = (Vec::new(), Vec::new());
            put_bits(&mut of_bits, bits.iter().copied());
            put_numbers(&mut of_numbers, &bits.iter().map(|&bit| u32::from(bit)).collect::<Vec<u32>>(), 1);
            prop_assert_eq!(of_bits, of_numbers);
        }

        #[test]
        fn bits_come_back(runs in proptest::collection::vec((any::<bool>(), 1usize..70), 0..60)) {
            let bits: Vec<bool> = runs.iter().flat_map(|&(bit, count)| std::iter::repeat_n(bit, count)).collect();
            let mut encoded = Vec::new();
            put_hybrid(&mut encoded, &bits.iter().map(|&bit| u32::from(bit)).collect::<Vec<u32>>(), 1);
            let mut decoded = BooleanBufferBuilder::new(0);
            read_bits(&encoded, bits.len(), &mut decoded).expect("readable");
            prop_assert_eq!(decoded.finish().iter().collect::<Vec<bool>>(), bits);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40), count in 0usize..2000) {
            let mut decoded = BooleanBufferBuilder::new(0);
            if read_bits(&bytes, count, &mut decoded).is_ok() {
                prop_assert_eq!(decoded.len(), count);
            }
        }
    }
}
