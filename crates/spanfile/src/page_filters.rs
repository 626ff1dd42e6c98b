//! Which pages of a column may hold a text, where texts are so many that they are written row by row: a question for one of them reads a
//! few of these pages, and not the column.
//!
//! A chunk of such a column has a Bloom filter over the texts of each of its pages. All of them together stand behind the row group, and
//! the index says where:
//!
//! ```text
//! count         of pages, u32
//! ends          of the filter of each page, counted in bytes from the first one, u32 each
//! filters       one after the other
//! ```
//!
//! Texts are hashed as for the filter of values ([`super::value_filter`]).

/// About 1 in 7 pages is read in vain: twice the bits would save less time than reading them takes.
const BITS_PER_TEXT: usize = 4;
/// Bits that a text sets, the best number for so many bits.
const BITS_SET: u64 = 3;
/// Filters take at most one byte for so many of the pages: short texts that compress well are read as fast as found.
const SHARE_MAX: usize = 16;
const NUMBER_BYTES: usize = size_of::<u32>();

/// Gathers the filters of a chunk while its pages are written.
#[derive(Default)]
pub(super) struct PageFiltersWriter {
    ends: Vec<u32>,
    filters: Vec<u8>,
}

impl PageFiltersWriter {
    /// Adds a page with the hashes of its different texts.
    pub(super) fn add_page(&mut self, hashes: &[u64]) {
        let begin = self.filters.len();
        self.filters.resize(begin + (hashes.len() * BITS_PER_TEXT).div_ceil(8), 0);
        let filter = &mut self.filters[begin..];
        for hash in hashes {
            for bit in bits_of(*hash, filter.len()) {
                filter[bit / 8] |= 1 << (bit % 8);
            }
        }
        self.ends.push(self.filters.len() as u32);
    }

    /// As they are stored; `None` if they are not worth it beside pages of so many bytes.
    pub(super) fn finish(self, pages_bytes: usize) -> Option<Vec<u8>> {
        let mut bytes = (self.ends.len() as u32).to_le_bytes().to_vec();
        self.ends.iter().for_each(|end| bytes.extend_from_slice(&end.to_le_bytes()));
        bytes.extend_from_slice(&self.filters);
        (self.ends.len() > 1 && bytes.len() <= pages_bytes / SHARE_MAX).then_some(bytes)
    }
}

/// The filters of a chunk, as they are stored.
pub(super) struct PageFilters<'a> {
    ends: &'a [[u8; NUMBER_BYTES]],
    filters: &'a [u8],
}

impl<'a> PageFilters<'a> {
    /// `None`: they contradict themselves, or are not those of so many pages.
    pub(super) fn of(bytes: &'a [u8], pages: usize) -> Option<Self> {
        let (count, rest) = bytes.split_first_chunk()?;
        let (ends, filters) = rest.split_at_checked(pages.checked_mul(NUMBER_BYTES)?)?;
        let (ends, _) = ends.as_chunks();
        (u32::from_le_bytes(*count) as usize == pages).then_some(Self { ends, filters })
    }

    /// Whether a page may hold a text of this hash. What is wrong rules nothing out.
    pub(super) fn may_hold(&self, page: usize, hash: u64) -> bool {
        let end = |page: usize| u32::from_le_bytes(self.ends[page]) as usize;
        let begin = if page == 0 { 0 } else { end(page - 1) };
        let Some(filter) = self.filters.get(begin..end(page)) else { return true };
        !filter.is_empty() && bits_of(hash, filter.len()).all(|bit| filter[bit / 8] & 1 << (bit % 8) != 0)
    }
}

/// The bits of a hash in a filter of so many bytes, which are some.
fn bits_of(hash: u64, bytes: usize) -> impl Iterator<Item = usize> {
    // Two halves stand for any number of hashes: Kirsch and Mitzenmacher, "Less hashing, same performance" (2006).
    let (first, step) = (hash as u32, (hash >> 32) as u32 | 1);
    let bits = 8 * bytes as u64;
    (0..BITS_SET as u32).map(move |number| {
        let number = first.wrapping_add(number.wrapping_mul(step));
        ((u64::from(number) * bits) >> 32) as usize
    })
}

#[cfg(test)]
mod tests {
    use twox_hash::XxHash64;

    use super::*;

    fn hash(number: u32) -> u64 {
        XxHash64::oneshot(7, &number.to_le_bytes())
    }

    #[test]
    fn a_page_that_holds_a_text_is_found_and_most_others_are_not() {
        const TEXTS: u32 = 700;
        const PAGES: u32 = 40;
        let mut writer = PageFiltersWriter::default();
        for page in 0..PAGES {
            let hashes: Vec<u64> = (page * TEXTS..(page + 1) * TEXTS).map(hash).collect();
            writer.add_page(&hashes);
        }
        writer.add_page(&[]);
        let stored = writer.finish(1 << 20).expect("they are worth it");
        let pages = PAGES as usize + 1;
        let filters = PageFilters::of(&stored, pages).expect("they are right");
        let filters = &filters;
        let may = |text: u32| (0..pages).filter(move |page| filters.may_hold(*page, hash(text)));
        assert!((0..PAGES * TEXTS).all(|text| may(text).any(|page| page as u32 == text / TEXTS)));
        let in_vain: usize =
            (0..1000).map(|text| may(PAGES * TEXTS + text).filter(|page| *page + 1 < pages).count()).sum();
        let share = in_vain as f64 / 1000.0 / f64::from(PAGES);
        assert!((0.1..0.2).contains(&share), "{share} of the pages are read in vain");
    }

    #[test]
    fn they_are_left_out_where_they_save_little() {
        let filters = |pages: u64| {
            let mut writer = PageFiltersWriter::default();
            (0..pages).for_each(|page| writer.add_page(&[page; 100]));
            writer
        };
        assert!(filters(2).finish(10_000).is_some());
        assert!(filters(2).finish(1_000).is_none(), "the pages are hardly larger");
        assert!(filters(1).finish(10_000).is_none(), "there is one page");
    }

    #[test]
    fn what_is_wrong_is_noticed_or_rules_nothing_out() {
        let mut writer = PageFiltersWriter::default();
        (0..3).for_each(|page| writer.add_page(&[hash(page), hash(page + 10)]));
        let stored = writer.finish(1 << 20).expect("they are worth it");
        assert!(PageFilters::of(&stored, 2).is_none(), "those of other pages");
        for length in 0..stored.len() {
            let Some(filters) = PageFilters::of(&stored[..length], 3) else { continue };
            (0..3).for_each(|page| assert!(filters.may_hold(page, hash(page as u32))));
        }
        let mut wrong = stored.clone();
        wrong[4..16].fill(0xff);
        let filters = PageFilters::of(&wrong, 3).expect("the number of pages is right");
        assert!(filters.may_hold(1, hash(1)) && filters.may_hold(2, hash(2)));
    }
}
