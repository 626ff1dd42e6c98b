//! Which traces may be in a file: a split-block Bloom filter over trace ids, kept in the file, so that a lookup reads only the files
//! that hold the trace. It stands there in pages with a checksum each, and a lookup needs but one of them.
//!
//! Source: F. Putze, P. Sanders, J. Singler, "Cache-, Hash- and Space-Efficient Bloom Filters" (2007); the salts and the
//! block of 256 bits are those of Apache Parquet's `BloomFilter.md`.

use std::ops::Range;

use tracehouse_model::TraceId;

#[derive(Clone, Debug, PartialEq)]
pub struct TraceFilter {
    blocks: Vec<[u32; 8]>,
}

const SALTS: [u32; 8] =
    [0x47b6_137b, 0x4497_4d91, 0x8824_ad5b, 0xa2b7_289d, 0x7054_95c7, 0x2df1_424b, 0x9efc_4947, 0x5c6b_fb31];

impl TraceFilter {
    /// With so many bits for each trace about 1 in 400 lookups opens a file in vain.
    const BITS_PER_TRACE: usize = 14;

    pub(crate) fn build(trace_hashes: &[u64]) -> Self {
        Self::of_hashes(trace_hashes, trace_hashes.len() * Self::BITS_PER_TRACE)
    }

    /// Of traces, of which some may come several times.
    pub fn of_traces(traces: impl Iterator<Item = TraceId>) -> Self {
        let mut hashes: Vec<u64> = traces.map(TraceId::hash64).collect();
        hashes.sort_unstable();
        hashes.dedup();
        Self::build(&hashes)
    }

    /// With about so many bits.
    pub(super) fn of_hashes(hashes: &[u64], bits: usize) -> Self {
        let blocks = bits.div_ceil(256).max(1);
        let mut filter = Self { blocks: vec![[0; 8]; blocks] };
        for &hash in hashes {
            let block = filter.block_of(hash);
            for (word, salt) in filter.blocks[block].iter_mut().zip(SALTS) {
                *word |= bit(hash, salt);
            }
        }
        filter
    }

    pub fn may_contain(&self, trace: TraceId) -> bool {
        self.may_contain_hash(trace.hash64())
    }

    pub(super) fn may_contain_hash(&self, hash: u64) -> bool {
        is_in_block(hash, &self.blocks[self.block_of(hash)])
    }

    pub fn memory_bytes(&self) -> usize {
        self.blocks.capacity() * size_of::<[u32; 8]>()
    }

    fn block_of(&self, hash: u64) -> usize {
        block_among(self.blocks.len(), hash)
    }

    /// From its blocks one after the other, as files of layout version 2 have them, and the catalogue for those of
    /// version 1. `None` if the bytes are
    /// not a filter.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        if bytes.is_empty() || !bytes.len().is_multiple_of(32) {
            return None;
        }
        Some(Self { blocks: bytes.chunks_exact(BLOCK_BYTES).map(block_of_bytes).collect() })
    }
}

const BLOCK_BYTES: usize = 32;
const CHECKSUM_BYTES: usize = 4;
/// A page is about as much as disks read at once.
const BLOCKS_PER_PAGE: usize = 127;
const PAGE_BYTES: usize = BLOCKS_PER_PAGE * BLOCK_BYTES + CHECKSUM_BYTES;

/// A filter as it stands in a file: blocks, and after each [`BLOCKS_PER_PAGE`] of them, and at the end, the CRC-32C of those
/// before it.
pub(super) struct FilterPages {
    bytes: usize,
    blocks: usize,
}

impl FilterPages {
    pub(super) fn pack(filter: &TraceFilter) -> Vec<u8> {
        let mut pages = Vec::with_capacity(filter.blocks.len() * BLOCK_BYTES + CHECKSUM_BYTES);
        for blocks in filter.blocks.chunks(BLOCKS_PER_PAGE) {
            let begin = pages.len();
            blocks.iter().flatten().for_each(|word| pages.extend_from_slice(&word.to_le_bytes()));
            let checksum = crc32c::crc32c(&pages[begin..]);
            pages.extend_from_slice(&checksum.to_le_bytes());
        }
        pages
    }

    /// `None` if these are no pages. Their checksums are not looked at.
    pub(super) fn unpack(pages: &[u8]) -> Option<TraceFilter> {
        let blocks =
            pages.chunks(PAGE_BYTES).map(|page| page.split_last_chunk::<CHECKSUM_BYTES>().map(|(blocks, _)| blocks));
        TraceFilter::from_bytes(&blocks.collect::<Option<Vec<_>>>()?.concat())
    }

    /// Pages that take so many bytes together. `None` if pages can't take as many.
    pub(super) fn of_length(bytes: usize) -> Option<Self> {
        let blocks_bytes = bytes.checked_sub(bytes.div_ceil(PAGE_BYTES) * CHECKSUM_BYTES)?;
        let is_whole = blocks_bytes > 0 && blocks_bytes.is_multiple_of(BLOCK_BYTES);
        is_whole.then_some(Self { bytes, blocks: blocks_bytes / BLOCK_BYTES })
    }

    /// The page that says whether a hash may be in, and what is to be looked up there.
    pub(super) fn page_of(&self, hash: u64) -> (Range<usize>, Lookup) {
        let block = block_among(self.blocks, hash);
        let begin = block / BLOCKS_PER_PAGE * PAGE_BYTES;
        (begin..self.bytes.min(begin + PAGE_BYTES), Lookup { hash, block: block % BLOCKS_PER_PAGE })
    }
}

/// A hash that is looked up in a page.
pub(super) struct Lookup {
    hash: u64,
    block: usize,
}

impl Lookup {
    /// The block of the hash; `None` if the page is not what was written.
    pub(super) fn block_in(&self, page: &[u8]) -> Option<[u32; 8]> {
        let (blocks, checksum) = page.split_last_chunk::<CHECKSUM_BYTES>()?;
        let is_right = crc32c::crc32c(blocks) == u32::from_le_bytes(*checksum);
        let begin = self.block * BLOCK_BYTES;
        is_right.then(|| blocks.get(begin..begin + BLOCK_BYTES).map(block_of_bytes))?
    }

    /// Whether the hash may be in, given its block.
    pub(super) fn is_in(&self, block: &[u32; 8]) -> bool {
        is_in_block(self.hash, block)
    }
}

fn block_among(blocks: usize, hash: u64) -> usize {
    (((hash >> 32) * blocks as u64) >> 32) as usize
}

fn is_in_block(hash: u64, block: &[u32; 8]) -> bool {
    block.iter().zip(SALTS).all(|(word, salt)| word & bit(hash, salt) != 0)
}

fn block_of_bytes(bytes: &[u8]) -> [u32; 8] {
    let word = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    std::array::from_fn(|at| word(&bytes[4 * at..]))
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
        let pages = FilterPages::pack(&filter);
        assert_eq!(FilterPages::unpack(&pages).as_ref(), Some(&filter));
        let places = FilterPages::of_length(pages.len()).expect("it is that long");
        let mut pages_met = std::collections::BTreeSet::new();
        for number in 1..20_000 {
            let (page, lookup) = places.page_of(id(number).hash64());
            let block = lookup.block_in(&pages[page.clone()]).expect("the page is whole");
            assert_eq!(lookup.is_in(&block), filter.may_contain(id(number)));
            pages_met.insert(page.start);
        }
        assert_eq!(pages_met.len(), pages.len().div_ceil(PAGE_BYTES));
        assert!(FilterPages::of_length(pages.len() - 1).is_none() && FilterPages::of_length(0).is_none());
    }
}
