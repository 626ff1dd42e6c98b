//! Which of a few batches have spans of a trace.
//!
//! A table of 32-bit fingerprints, sorted by their first bits in one step (a counting sort): made in a few nanoseconds for each
//! entry, as every span that comes in pays for it, and looked up by reading one short run of entries.

use std::hash::BuildHasher;
use std::sync::LazyLock;

use tracehouse_model::{SeededState, SpanBatch, TraceId};

/// So many batches have one table: as many as there are bits in a word.
pub(crate) const GROUP_BATCHES: usize = 64;
/// An entry holds the number of a batch in its last bits, and before it what fits of the fingerprint.
const NUMBER_BITS: u32 = GROUP_BATCHES.ilog2();
/// About so many entries begin with the same bits.
const ENTRIES_PER_RUN: usize = 4;
/// A byte for where the runs begin, and four of an entry for each span at most.
pub(crate) const BYTES_PER_SPAN_MAX: usize = 5;

/// Who chooses trace ids must not choose which of them look alike.
static SEED: LazyLock<SeededState> = LazyLock::new(SeededState::default);

pub(crate) fn fingerprint(trace: TraceId) -> u32 {
    SEED.hash_one(trace.as_u128()) as u32
}

/// Of the traces of a batch, in no order; several times for one whose spans are apart.
pub(crate) fn fingerprints(spans: &SpanBatch) -> Vec<u32> {
    let mut traces = Vec::with_capacity(spans.len());
    traces.extend(spans.trace_id.chunk_by(|one, other| one == other).map(|run| fingerprint(run[0])));
    traces
}

/// See the module's documentation.
pub(crate) struct TraceTable {
    /// Bits of a fingerprint that come after those which the entries are sorted by.
    bits_after: u32,
    /// Where each run begins, and where the last ends.
    begins: Box<[u32]>,
    entries: Box<[u32]>,
}

impl TraceTable {
    /// Of at most [`GROUP_BATCHES`] batches, given by the fingerprints of their traces.
    pub(crate) fn of(batches: &[&[u32]]) -> Self {
        assert!(batches.len() <= GROUP_BATCHES, "the number of a batch has its bits in an entry");
        let count: usize = batches.iter().map(|traces| traces.len()).sum();
        // The bits before an entry's number and those that sort it are the whole fingerprint.
        let run_bits = (count / ENTRIES_PER_RUN).max(GROUP_BATCHES).ilog2();
        let bits_after = u32::BITS - run_bits;
        let mut begins = vec![0u32; (1 << run_bits) + 1].into_boxed_slice();
        for trace in batches.iter().flat_map(|traces| traces.iter()) {
            begins[run_of(*trace, bits_after) + 1] += 1;
        }
        let mut end = 0;
        for begin in &mut begins {
            end += *begin;
            *begin = end;
        }
        let mut next = begins.clone();
        let mut entries = vec![0u32; count].into_boxed_slice();
        for (number, traces) in (0..).zip(batches) {
            for &trace in *traces {
                let place = &mut next[run_of(trace, bits_after)];
                entries[*place as usize] = trace << NUMBER_BITS | number;
                *place += 1;
            }
        }
        Self { bits_after, begins, entries }
    }

    /// The batches that have a trace, as the bits of a word; few others with them.
    pub(crate) fn batches_of(&self, trace: u32) -> u64 {
        let run = run_of(trace, self.bits_after);
        let entries = &self.entries[self.begins[run] as usize..self.begins[run + 1] as usize];
        let is_it = |entry: &&u32| (**entry ^ trace << NUMBER_BITS) >> NUMBER_BITS == 0;
        entries.iter().filter(is_it).fold(0, |batches, entry| batches | 1 << (entry % GROUP_BATCHES as u32))
    }
}

/// The first bits of a fingerprint: the number of its run.
fn run_of(trace: u32, bits_after: u32) -> usize {
    (trace >> bits_after) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fingerprints as ids give them, and such that differ only in their first or their last bits.
    fn of_batch(number: u32, traces: u32) -> Vec<u32> {
        let spread = |trace: u32| trace.wrapping_mul(0x9e37_79b9) ^ number;
        (0..traces).flat_map(|trace| [spread(trace), trace << 26, trace]).collect()
    }

    #[test]
    fn each_trace_is_found_in_the_batches_that_have_it_and_rarely_in_others() {
        for (batches, traces) in
            [(0, 0), (1, 0), (1, 1), (2, 3), (GROUP_BATCHES as u32, 1), (GROUP_BATCHES as u32, 300)]
        {
            let lists: Vec<Vec<u32>> = (0..batches).map(|number| of_batch(number, traces)).collect();
            let slices: Vec<&[u32]> = lists.iter().map(Vec::as_slice).collect();
            let table = TraceTable::of(&slices);
            let mut wrong = 0;
            for trace in lists.iter().flatten().copied().chain([0, 1, 7 << 26, u32::MAX]) {
                let expected: u64 =
                    (0..).zip(&lists).map(|(number, list)| u64::from(list.contains(&trace)) << number).sum();
                let found = table.batches_of(trace);
                assert_eq!(found & expected, expected, "{batches} batches, trace {trace:x}");
                wrong += (found ^ expected).count_ones();
            }
            assert_eq!(wrong, 0, "{batches} batches of {traces} traces: whole fingerprints are compared");
        }
    }
}
