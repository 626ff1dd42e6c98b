//! Which traces may be in a file: a split-block Bloom filter over trace ids, kept in the catalogue and in memory, so
//! that a lookup opens only the files that hold the trace.
//!
//! Source: F. Putze, P. Sanders, J. Singler, "Cache-, Hash- and Space-Efficient Bloom Filters" (2007); the salts and the
//! block of 256 bits are those of Apache Parquet's `BloomFilter.md`.

use tracehouse_model::TraceId;

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct TraceFilter {
    blocks: Vec<[u32; 8]>,
}

const SALTS: [u32; 8] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

impl TraceFilter {
    /// With so many bits for each trace about 1 in 400 lookups opens a file in vain.
    const BITS_PER_TRACE: usize = 14;

    pub(crate) fn build(trace_hashes: &[u64]) -> Self {
        let blocks = (trace_hashes.len() * Self::BITS_PER_TRACE).div_ceil(256).max(1);
        let mut filter = Self { blocks: vec![[0; 8]; blocks] };
        for &hash in trace_hashes {
            let block = filter.block_of(hash);
            for (word, salt) in filter.blocks[block].iter_mut().zip(SALTS) {
                *word |= bit(hash, salt);
            }
        }
        filter
    }

    pub(crate) fn may_contain(&self, trace: TraceId) -> bool {
        let hash = trace.hash64();
        let block = &self.blocks[self.block_of(hash)];
        block.iter().zip(SALTS).all(|(word, salt)| word & bit(hash, salt) != 0)
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.blocks.capacity() * size_of::<[u32; 8]>()
    }

    fn block_of(&self, hash: u64) -> usize {
        (((hash >> 32) * self.blocks.len() as u64) >> 32) as usize
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.blocks.iter().flatten().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// `None` if the bytes are not a filter.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() || !bytes.len().is_multiple_of(32) {
            return None;
        }
        let word = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let block = |bytes: &[u8]| std::array::from_fn(|at| word(&bytes[4 * at..]));
        Some(Self { blocks: bytes.chunks_exact(32).map(block).collect() })
    }
}

fn bit(hash: u64, salt: u32) -> u32 {
    1 << ((hash as u32).wrapping_mul(salt) >> 27)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_is_inside_and_little_else() {
        let id = |number: u128| TraceId((number.wrapping_mul(0x1_0001_0003)).to_be_bytes());
        let hashes: Vec<u64> = (1..10_000).map(|number| id(number).hash64()).collect();
        let filter = TraceFilter::build(&hashes);
        assert!((1..10_000).all(|number| filter.may_contain(id(number))));
        let wrong = (10_000..110_000).filter(|&number| filter.may_contain(id(number))).count();
        assert!(wrong < 700, "{wrong} of 100,000 lookups in vain");
        assert_eq!(TraceFilter::from_bytes(&filter.to_bytes()), Some(filter));
    }
}
