//! Parquet's hybrid of run-length encoding and bit packing. Source: Apache Parquet, `Encodings.md`, "RLE = 3".

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
    let width = width.max(1);
    let (mut at, mut literals_begin) = (0, 0);
    while let Some(Run { begin, length }) = next_run(values, at) {
        at = begin + length;
        // A bit-packed stretch holds whole groups, so a run gives it what its last group lacks.
        let lacking = (GROUP - (begin - literals_begin) % GROUP) % GROUP;
        if length >= RUN_MIN + lacking {
            put_packed(out, &values[literals_begin..begin + lacking], width);
            put_run(out, length - lacking, values[begin], width);
            literals_begin = at;
        }
    }
    put_packed(out, &values[literals_begin..], width);
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

pub(crate) fn put_run(out: &mut Vec<u8>, count: usize, value: u32, width: u32) {
    put_varint(out, (count as u64) << 1);
    out.extend_from_slice(&value.to_le_bytes()[..width.max(1).div_ceil(8) as usize]);
}

fn put_packed(out: &mut Vec<u8>, values: &[u32], width: u32) {
    if values.is_empty() {
        return;
    }
    let groups = values.len().div_ceil(GROUP);
    put_varint(out, ((groups as u64) << 1) | 1);
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
