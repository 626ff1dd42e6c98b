//! Parquet's hybrid of run-length encoding and bit packing. Source: Apache Parquet, `Encodings.md`, "RLE = 3".

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
    while at < values.len() {
        let run = run_length(&values[at..]);
        // A bit-packed stretch holds whole groups, so a run gives it what its last group lacks.
        let lacking = (GROUP - (at - literals_begin) % GROUP) % GROUP;
        if run >= RUN_MIN + lacking {
            put_packed(out, &values[literals_begin..at + lacking], width);
            put_run(out, run - lacking, values[at], width);
            at += run;
            literals_begin = at;
        } else {
            at += run;
        }
    }
    put_packed(out, &values[literals_begin..], width);
}

#[inline]
fn run_length(values: &[u32]) -> usize {
    let first = values[0];
    values.iter().position(|&value| value != first).unwrap_or(values.len())
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
    }
}
