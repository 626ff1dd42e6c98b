//! Which texts may be in the columns of a file: a question for one value of a key that many spans have reads a page of this
//! filter, and not the column.
//!
//! It is a split-block Bloom filter as that over trace ids ([`super::trace_filter`]), over hashes of a column's name and a text of it.
//! It takes four bits for five spans at most, so that columns with the most different texts are left out where there are too many;
//! the index of the file says which columns are in.

use std::collections::{BTreeMap, BTreeSet};

use twox_hash::XxHash64;

use super::trace_filter::{FilterPages, TraceFilter};

/// Bits for each text, as long as there is room: about 1 in 400 lookups is in vain.
const BITS_PER_TEXT_MAX: usize = 14;
/// With fewer it would say little: about 1 in 6 lookups is in vain.
const BITS_PER_TEXT_MIN: usize = 5;
/// So much is a third of a percent of a file.
const BITS_MAX_OF_FIVE_SPANS: usize = 4;
/// While a file is written as many hashes may wait for each row, and some in any case: how many rows will come, and how many texts
/// come again in them, nobody knows.
const HASHES_PER_ROW_MAX: usize = 2;
const HASHES_ALWAYS: usize = 64 * 1024;

/// What a text of a column counts as in the filter: XXH64, as in Apache Parquet's `BloomFilter.md`, seeded by that of the name.
pub(super) struct ColumnHash(u64);

impl ColumnHash {
    pub(super) fn of(column_name: &str) -> Self {
        Self(XxHash64::oneshot(0, column_name.as_bytes()))
    }

    pub(super) fn of_text(&self, text: &[u8]) -> u64 {
        XxHash64::oneshot(self.0, text)
    }
}

/// Gathers the texts of the columns of a file while the file is written.
#[derive(Default)]
pub(super) struct ColumnTexts {
    by_leaf: BTreeMap<usize, Vec<u64>>,
    /// Columns with too many different texts.
    left_out: BTreeSet<usize>,
    rows: usize,
}

/// A filter to be written.
pub(super) struct ValueFilter {
    pub(super) pages: Vec<u8>,
    /// For each leaf of the file whether its texts are in.
    pub(super) columns: Vec<bool>,
}

impl ColumnTexts {
    /// Adds the hashes of a column's texts in one row group.
    pub(super) fn add(&mut self, leaf: usize, hashes: Vec<u64>) {
        if !self.left_out.contains(&leaf) {
            self.by_leaf.entry(leaf).or_default().extend(hashes);
        }
    }

    pub(super) fn end_row_group(&mut self, rows: usize) {
        self.rows += rows;
        self.bound(self.rows.saturating_mul(HASHES_PER_ROW_MAX).max(HASHES_ALWAYS));
    }

    /// The filter of a file with so many leaves; `None` if there is nothing for it.
    pub(super) fn finish(mut self, leaves: usize) -> Option<ValueFilter> {
        let bits_max = self.rows.saturating_mul(BITS_MAX_OF_FIVE_SPANS) / 5;
        self.bound(bits_max / BITS_PER_TEXT_MIN);
        let mut columns = vec![false; leaves];
        self.by_leaf.keys().for_each(|leaf| columns[*leaf] = true);
        let hashes: Vec<u64> = self.by_leaf.into_values().flatten().collect();
        if hashes.is_empty() {
            return None;
        }
        let bits = bits_max.min(hashes.len() * BITS_PER_TEXT_MAX);
        Some(ValueFilter { pages: FilterPages::pack(&TraceFilter::of_hashes(&hashes, bits)), columns })
    }

    /// Leaves out the columns with the most texts until all others have at most so many.
    fn bound(&mut self, hashes_max: usize) {
        let all = |by_leaf: &BTreeMap<usize, Vec<u64>>| by_leaf.values().map(Vec::len).sum::<usize>();
        if all(&self.by_leaf) <= hashes_max {
            return;
        }
        for hashes in self.by_leaf.values_mut() {
            hashes.sort_unstable();
            hashes.dedup();
        }
        while all(&self.by_leaf) > hashes_max {
            let longest = self.by_leaf.iter().max_by_key(|(_, hashes)| hashes.len()).map(|(leaf, _)| *leaf);
            let Some(longest) = longest else { return };
            self.by_leaf.remove(&longest);
            self.left_out.insert(longest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_a_tenth_of_a_byte_a_span_and_leaves_out_what_has_the_most_texts() {
        const ROWS: usize = 100_000;
        let of = |column: &str, number: usize| ColumnHash::of(column).of_text(number.to_string().as_bytes());
        let mut texts = ColumnTexts::default();
        for row_group in 0..4 {
            texts.add(3, (0..20_000).map(|number| of("user", number)).collect());
            texts.add(5, (0..ROWS).map(|number| of("request", row_group * ROWS + number)).collect());
            texts.add(7, vec![of("country", row_group)]);
            texts.end_row_group(ROWS);
        }
        let filter = texts.finish(8).expect("there are texts");
        assert_eq!(filter.columns, [false, false, false, true, false, false, false, true]);
        assert!(filter.pages.len() <= 4 * ROWS / 10 + 32 + 4 * 11, "{} bytes", filter.pages.len());
        let blocks = FilterPages::unpack(&filter.pages).expect("pages");
        assert!((0..20_000).all(|number| blocks.may_contain_hash(of("user", number))));
        let wrong = (0..100_000).filter(|&number| blocks.may_contain_hash(of("user", 20_000 + number))).count();
        assert!(wrong < 1_000, "{wrong} of 100,000 lookups in vain");
        assert!(ColumnTexts::default().finish(3).is_none());
    }
}
