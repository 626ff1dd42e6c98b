//! The index of a file in few bytes, as it is kept in memory while nobody reads the file.
//!
//! Most numbers of an index are small or follow from those before them. Of each chunk those are kept that are not as expected,
//! as the difference, seven bits a byte (LEB128); checksums and ids are kept as they are. That is a third of the bytes, taken
//! apart again in a microsecond or two. The layout is left out, as the shape of the file says the same.

use bytes::Bytes;

use super::{
    CHUNK_BYTES, FileIndex, PAGE_BYTES, ROW_GROUP_BYTES, SECTIONS_BEGIN, TRACE_RANGE_BYTES, head_bytes, magic, put,
    u32_at, u64_at,
};

/// See the module's documentation.
pub(crate) struct PackedIndex(Box<[u8]>);

impl PackedIndex {
    pub(crate) fn of(index: &FileIndex) -> Self {
        let bytes = &index.bytes;
        let mut out = Vec::with_capacity(bytes.len() / 2);
        let counts = [index.row_groups(), index.leaves, index.pages.len() / PAGE_BYTES];
        let lengths = [index.trace_ranges.len() / TRACE_RANGE_BYTES, index.texts.len(), index.merged_from.len()];
        for count in counts.into_iter().chain(lengths) {
            push(&mut out, count as u64);
        }
        push(&mut out, u64::from(index.flags));
        out.extend_from_slice(&bytes[SECTIONS_BEGIN..head_bytes(index.flags)]);
        for number in bytes[index.row_groups.clone()].chunks_exact(4) {
            push(&mut out, u64::from(u32_at(number, 0)));
        }
        let (mut before, rows) = (Chunk::default(), |at: usize| index.rows_of(at / index.leaves.max(1)) as u64);
        for (at, chunk) in bytes[index.chunks.clone()].chunks_exact(CHUNK_BYTES).enumerate() {
            let mut chunk = Chunk::read(chunk);
            chunk.pack(&before, rows(at), &mut out);
            before = chunk;
        }
        let mut first_row = 0;
        for page in bytes[index.pages.clone()].chunks_exact(PAGE_BYTES) {
            push(&mut out, u64::from(u32_at(page, 0)));
            push_signed(&mut out, i64::from(u32_at(page, 4)) - first_row);
            out.extend_from_slice(&page[8..]);
            first_row = i64::from(u32_at(page, 4));
        }
        for part in [&index.trace_ranges, &index.texts, &index.merged_from] {
            out.extend_from_slice(&bytes[part.clone()]);
        }
        Self(out.into())
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn unpack(&self) -> FileIndex {
        let mut packed = Packed(&self.0);
        let [row_groups, leaves, pages, trace_ranges, texts, merged_from, flags] =
            std::array::from_fn(|_| packed.next() as u32);
        let chunks = row_groups as usize * leaves as usize;
        let in_order = [row_groups, leaves, pages, trace_ranges, texts, 0, merged_from, flags];
        let numbers = row_groups as usize * ROW_GROUP_BYTES + chunks * CHUNK_BYTES + pages as usize * PAGE_BYTES;
        let mut out = Vec::with_capacity(head_bytes(flags) + numbers + packed.0.len());
        out.extend_from_slice(&magic(flags));
        put(&mut out, &in_order);
        out.extend_from_slice(packed.take(head_bytes(flags) - SECTIONS_BEGIN));
        let begin = out.len();
        for _ in 0..2 * row_groups {
            put(&mut out, &[packed.next() as u32]);
        }
        let mut before = Chunk::default();
        for chunk in 0..chunks {
            let rows = u32_at(&out, begin + chunk / leaves as usize * ROW_GROUP_BYTES);
            before = Chunk::unpack(&before, u64::from(rows), &mut packed);
            out.extend_from_slice(&before.bytes());
        }
        let (mut first_row, begin) = (0, out.len());
        out.resize(begin + pages as usize * PAGE_BYTES, 0);
        for page in out[begin..].chunks_exact_mut(PAGE_BYTES) {
            let bytes = packed.next();
            first_row += packed.next_signed();
            let numbers = bytes & u64::from(u32::MAX) | (first_row as u64) << 32;
            let (at, checksum) = page.split_at_mut(8);
            at.copy_from_slice(&numbers.to_le_bytes());
            checksum.copy_from_slice(packed.take(4));
        }
        // Trace ranges, texts and ids as they are.
        out.extend_from_slice(packed.0);
        FileIndex::of_bytes(Bytes::from(out)).expect("an index that was taken apart before")
    }
}

/// The numbers of a chunk.
#[derive(Default)]
struct Chunk {
    offset: u64,
    stored_bytes: u64,
    uncompressed_bytes: u64,
    text_bytes: u64,
    positions: u64,
    range: [u64; 2],
    first_page: u32,
    flags: u32,
    /// How many pages the chunk before has, which this one is expected to have, too.
    pages_before: u32,
}

/// Which numbers of a chunk are not what is expected, and follow.
mod given {
    pub(super) const OFFSET: u8 = 1;
    pub(super) const UNCOMPRESSED_BYTES: u8 = 2;
    pub(super) const TEXT_BYTES: u8 = 4;
    pub(super) const POSITIONS: u8 = 8;
    pub(super) const RANGE: u8 = 16;
    pub(super) const FIRST_PAGE: u8 = 32;
    pub(super) const FLAGS: u8 = 64;
}

/// That they are not known is the largest number.
const TEXT_BYTES_UNKNOWN: u64 = u64::MAX;

impl Chunk {
    fn read(bytes: &[u8]) -> Self {
        let number = |at: usize| u64_at(bytes, 8 * at);
        Self {
            offset: number(0),
            stored_bytes: number(1),
            uncompressed_bytes: number(2),
            text_bytes: number(3),
            positions: number(4),
            range: [number(5), number(6)],
            first_page: u32_at(bytes, CHUNK_BYTES - 8),
            flags: u32_at(bytes, CHUNK_BYTES - 4),
            pages_before: 0,
        }
    }

    fn bytes(&self) -> [u8; CHUNK_BYTES] {
        let [min, max] = self.range;
        let last = u64::from(self.first_page) | u64::from(self.flags) << 32;
        let numbers =
            [self.offset, self.stored_bytes, self.uncompressed_bytes, self.text_bytes, self.positions, min, max, last];
        let mut bytes = [0; CHUNK_BYTES];
        bytes.chunks_exact_mut(8).zip(numbers).for_each(|(at, number)| at.copy_from_slice(&number.to_le_bytes()));
        bytes
    }

    /// What a chunk is expected to be, from the one before it and the rows of its row group.
    fn after(before: &Self, rows: u64) -> Self {
        Self {
            offset: before.offset.wrapping_add(before.stored_bytes),
            text_bytes: TEXT_BYTES_UNKNOWN,
            positions: rows,
            first_page: before.first_page.wrapping_add(before.pages_before),
            flags: before.flags,
            ..Self::default()
        }
    }

    /// Writes where it differs from what is expected. Afterwards it can be the one before the next.
    fn pack(&mut self, before: &Self, rows: u64, out: &mut Vec<u8>) {
        let expected = Self::after(before, rows);
        let at = out.len();
        out.push(0);
        push(out, self.stored_bytes);
        let mut given = 0;
        let mut differs = |bit: u8, differs: bool| {
            given |= if differs { bit } else { 0 };
            differs
        };
        if differs(given::OFFSET, self.offset != expected.offset) {
            push_signed(out, self.offset.wrapping_sub(expected.offset) as i64);
        }
        if differs(given::UNCOMPRESSED_BYTES, self.uncompressed_bytes != self.stored_bytes) {
            push_signed(out, self.uncompressed_bytes.wrapping_sub(self.stored_bytes) as i64);
        }
        if differs(given::TEXT_BYTES, self.text_bytes != expected.text_bytes) {
            push(out, self.text_bytes);
        }
        if differs(given::POSITIONS, self.positions != expected.positions) {
            push_signed(out, self.positions.wrapping_sub(expected.positions) as i64);
        }
        if differs(given::RANGE, self.range != expected.range) {
            push_signed(out, self.range[0] as i64);
            push_signed(out, self.range[1].wrapping_sub(self.range[0]) as i64);
        }
        if differs(given::FIRST_PAGE, self.first_page != expected.first_page) {
            push_signed(out, i64::from(self.first_page) - i64::from(expected.first_page));
        }
        if differs(given::FLAGS, self.flags != expected.flags) {
            push(out, u64::from(self.flags));
        }
        out[at] = given;
        self.pages_before = self.first_page.wrapping_sub(before.first_page);
    }

    #[inline]
    fn unpack(before: &Self, rows: u64, packed: &mut Packed<'_>) -> Self {
        let mut chunk = Self::after(before, rows);
        let given = packed.byte();
        chunk.stored_bytes = packed.next();
        chunk.uncompressed_bytes = chunk.stored_bytes;
        if given & given::OFFSET != 0 {
            chunk.offset = chunk.offset.wrapping_add(packed.next_signed() as u64);
        }
        if given & given::UNCOMPRESSED_BYTES != 0 {
            chunk.uncompressed_bytes = chunk.stored_bytes.wrapping_add(packed.next_signed() as u64);
        }
        if given & given::TEXT_BYTES != 0 {
            chunk.text_bytes = packed.next();
        }
        if given & given::POSITIONS != 0 {
            chunk.positions = rows.wrapping_add(packed.next_signed() as u64);
        }
        if given & given::RANGE != 0 {
            let min = packed.next_signed() as u64;
            chunk.range = [min, min.wrapping_add(packed.next_signed() as u64)];
        }
        if given & given::FIRST_PAGE != 0 {
            chunk.first_page = (i64::from(chunk.first_page) + packed.next_signed()) as u32;
        }
        if given & given::FLAGS != 0 {
            chunk.flags = packed.next() as u32;
        }
        chunk.pages_before = chunk.first_page.wrapping_sub(before.first_page);
        chunk
    }
}

fn push(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Small numbers of either sign become small ones.
fn push_signed(out: &mut Vec<u8>, number: i64) {
    push(out, (number << 1 ^ number >> 63) as u64);
}

/// Eight groups of seven bits, each in a byte, moved together: first within pairs of bytes, then within fours, then all.
#[inline]
fn without_gaps(groups: u64) -> u64 {
    let pairs = groups & 0x007f_007f_007f_007f | (groups & 0x7f00_7f00_7f00_7f00) >> 1;
    let fours = pairs & 0x0000_3fff_0000_3fff | (pairs & 0x3fff_0000_3fff_0000) >> 2;
    fours & 0x0fff_ffff | (fours & 0x0fff_ffff_0000_0000) >> 4
}

/// What is left to unpack.
struct Packed<'a>(&'a [u8]);

impl<'a> Packed<'a> {
    #[inline]
    fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *byte
    }

    /// A number of up to eight bytes, as nearly all are, is put together without looking at each.
    #[inline]
    fn next(&mut self) -> u64 {
        const LAST: u64 = 0x8080_8080_8080_8080;
        if let Some(eight) = self.0.first_chunk() {
            let eight = u64::from_le_bytes(*eight);
            let last = !eight & LAST;
            if last != 0 {
                let bits = last.trailing_zeros() + 1;
                self.0 = &self.0[bits as usize / 8..];
                return without_gaps(eight & (u64::MAX >> (64 - bits)) & !LAST);
            }
        }
        self.next_slowly()
    }

    fn next_slowly(&mut self) -> u64 {
        let (mut number, mut shift) = (0, 0);
        while let [byte, rest @ ..] = self.0 {
            self.0 = rest;
            number |= u64::from(byte & 0x7f).unbounded_shl(shift);
            if *byte < 0x80 {
                break;
            }
            shift += 7;
        }
        number
    }

    #[inline]
    fn next_signed(&mut self) -> i64 {
        let number = self.next();
        (number >> 1) as i64 ^ -((number & 1) as i64)
    }

    fn take(&mut self, bytes: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(bytes);
        self.0 = rest;
        taken
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{ChunkEntry, Described, IndexWriter, PageEntry, Section, ValueFilterPlace, ValueRange};
    use super::*;

    const LAYOUT: &str = "{\"left out\":true}";

    fn page() -> impl Strategy<Value = PageEntry> {
        (any::<u32>(), any::<u32>(), any::<u32>()).prop_map(|(bytes, first_row, crc32c)| PageEntry {
            bytes,
            first_row,
            crc32c,
        })
    }

    fn chunk() -> impl Strategy<Value = ChunkEntry> {
        let range = prop_oneof![
            Just(ValueRange::Unknown),
            (any::<i64>(), any::<i64>()).prop_map(|(min, max)| ValueRange::Ints(min, max)),
            ".{0,9}".prop_map(|text| ValueRange::OneText(text.into_bytes())),
        ];
        let numbers = (any::<u64>(), any::<u64>(), any::<Option<u64>>(), any::<u64>());
        let lists = (prop::collection::vec(page(), 0..5), prop::collection::vec(any::<[u8; 32]>(), 0..3));
        (numbers, any::<[bool; 2]>(), range, lists).prop_map(
            |(numbers, [is_compressed, has_dictionary], range, lists)| {
                let (offset, uncompressed_bytes, text_bytes, positions) = numbers;
                let (pages, trace_ranges) = lists;
                ChunkEntry {
                    offset,
                    uncompressed_bytes,
                    text_bytes,
                    positions,
                    is_compressed,
                    has_dictionary,
                    range,
                    pages,
                    trace_ranges,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn numbers_of_every_length_come_back(numbers in prop::collection::vec((any::<u64>(), 0u32..64), 0..40)) {
            let numbers: Vec<u64> = numbers.into_iter().map(|(number, shift)| number >> shift).collect();
            let mut out = Vec::new();
            numbers.iter().for_each(|&number| push(&mut out, number));
            let mut packed = Packed(&out);
            for number in numbers {
                prop_assert_eq!(packed.next(), number);
            }
            prop_assert!(packed.0.is_empty());
        }

        /// Whatever the numbers are, they come back: only the layout is gone.
        #[test]
        fn what_is_packed_comes_back(
            groups in prop::collection::vec((any::<u32>(), prop::collection::vec(chunk(), 3)), 0..4),
            with_filter in any::<bool>(),
        ) {
            let mut writer = IndexWriter::default();
            for (rows, chunks) in &groups {
                writer.begin_row_group(*rows as usize)?;
                chunks.iter().try_for_each(|chunk| writer.add_chunk(chunk))?;
            }
            let section = |offset| Section { offset, bytes: 7, crc32c: 0xfedc_ba98 };
            let described = Described {
                layout: LAYOUT,
                trace_filter: section(u64::MAX),
                names: section(1),
                merged_from: &["one".to_owned()],
                has_checksums: true,
                has_filter_pages: true,
                alone: &[false, true, false],
                value_filter: with_filter
                    .then(|| ValueFilterPlace { section: section(9), columns: &[true, true, false] }),
            };
            let index = FileIndex::read(&writer.finish(&described)?)?;
            let unpacked = PackedIndex::of(&index).unpack();
            let without_layout = [&index.bytes[..index.layout.start], &index.bytes[index.layout.end..]].concat();
            let count_of_layout = 8 + 4 * 5..8 + 4 * 6;
            let mut expected = without_layout;
            expected[count_of_layout].fill(0);
            prop_assert_eq!(unpacked.bytes.as_ref(), expected.as_slice());
        }
    }

    #[test]
    fn a_usual_index_takes_a_third() -> parquet::errors::Result<()> {
        let mut writer = IndexWriter::default();
        writer.begin_row_group(4_000)?;
        for leaf in 0..100u64 {
            let page =
                |at: u32| PageEntry { bytes: 700 + at, first_row: 2_000 * at, crc32c: 0x9e37_79b9u32.wrapping_mul(at) };
            writer.add_chunk(&ChunkEntry {
                offset: 4 + leaf * 1_401,
                uncompressed_bytes: 16_000,
                text_bytes: (leaf % 2 == 0).then_some(40_000),
                positions: 4_000,
                is_compressed: true,
                has_dictionary: true,
                range: ValueRange::Unknown,
                pages: vec![page(0), page(1)],
                trace_ranges: Vec::new(),
            })?;
        }
        let described = Described {
            layout: "",
            trace_filter: Section::default(),
            names: Section::default(),
            merged_from: &[],
            has_checksums: true,
            has_filter_pages: true,
            alone: &[],
            value_filter: None,
        };
        let index = FileIndex::read(&writer.finish(&described)?)?;
        let packed = PackedIndex::of(&index).memory_bytes();
        assert!(packed * 3 < index.bytes.len(), "{packed} of {}", index.bytes.len());
        Ok(())
    }
}
