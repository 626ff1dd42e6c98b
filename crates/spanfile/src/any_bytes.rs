//! What files say of themselves, read from bytes of any origin, for tests and for who fuzzes. In a file a seal and checksums
//! cover these bytes, so that damage alone does not come so far. Whatever they are, nothing panics, and what is allocated is
//! bounded by how many they are.

use tracehouse_model::TraceId;

use super::contents::{FileContents, NameList};
use super::index::{FileIndex, PackedIndex};
use super::pages::decompress;
use super::promote::AttributeCounts;
use super::shape::Shape;
use super::trace_filter::FilterPages;

/// Names are decompressed if they take no more than this.
pub const NAMES_BYTES_MAX: usize = 64 * 1024;

/// Takes bytes for the index of a file: all that can be asked of it, also after it was kept packed. False if they are none.
pub fn read_index(bytes: &[u8]) -> bool {
    let Ok(index) = FileIndex::read(bytes) else { return false };
    let unpacked = PackedIndex::of(&index).unpack();
    assert_eq!(index.trace_filter(), unpacked.trace_filter());
    assert_eq!(index.names(), unpacked.names());
    assert_eq!(index.has_filter_pages(), unpacked.has_filter_pages());
    assert_eq!(index.value_filter(), unpacked.value_filter());
    assert_eq!(index.merged_from().ok(), unpacked.merged_from().ok());
    assert_eq!((index.row_groups(), index.leaves()), (unpacked.row_groups(), unpacked.leaves()));
    for row_group in 0..index.row_groups() {
        assert_eq!(index.rows_of(row_group), unpacked.rows_of(row_group));
        (0..index.leaves()).for_each(|leaf| compare_chunk(&index, &unpacked, row_group, leaf));
        if index.leaves() > 0
            && let Ok(pages) = index.trace_pages(row_group)
        {
            pages.for_each(|(rows, min, max)| assert!(rows.start <= rows.end && min.len() == max.len()));
        }
    }
    if let Ok(layout) = index.layout()
        && let Ok(shape) = Shape::of(layout)
    {
        assert!(shape.leaves() > 0, "the fixed columns");
    }
    true
}

fn compare_chunk(index: &FileIndex, unpacked: &FileIndex, row_group: usize, leaf: usize) {
    let [one, other] = [index, unpacked].map(|index| index.chunk(row_group, leaf));
    assert_eq!(one.byte_range(), other.byte_range());
    assert_eq!(one.uncompressed_bytes(), other.uncompressed_bytes());
    assert_eq!(one.text_bytes(), other.text_bytes());
    assert_eq!(one.positions(), other.positions());
    assert_eq!(one.is_compressed(), other.is_compressed());
    assert_eq!(one.is_alone(), other.is_alone());
    assert_eq!(one.is_filtered(), other.is_filtered());
    assert_eq!(one.int_range(), other.int_range());
    assert_eq!(one.one_text(), other.one_text());
    assert_eq!(one.places().ok(), other.places().ok());
}

/// Takes bytes for the names of a file, as they are or compressed, and merges files that say so. False if they are none.
pub fn read_names(bytes: &[u8]) -> bool {
    if let Ok(unpacked) = decompress(bytes, NAMES_BYTES_MAX, "the list of names") {
        return read_names_of_json(&unpacked);
    }
    read_names_of_json(bytes)
}

fn read_names_of_json(json: &[u8]) -> bool {
    let Ok(contents) = serde_json::from_slice::<FileContents>(json) else { return false };
    contents.memory_bytes();
    contents.lists_all_keys();
    let mut counts = AttributeCounts::default();
    for _ in 0..2 {
        counts.add_file(&contents, u64::MAX / 2);
    }
    let (layout, (keys, is_cut)) = (counts.layout(), counts.span_keys());
    for promoted in &layout.span {
        assert!(contents.may_have(NameList::SpanKeys, &promoted.key));
    }
    assert!(is_cut || keys.len() <= contents.span_keys.len());
    assert!(layout.schema().is_ok(), "it can be written");
    true
}

/// Takes bytes for the filter over trace ids. False if they are none.
pub fn read_filter(bytes: &[u8]) -> bool {
    let Some(filter) = FilterPages::unpack(bytes) else { return false };
    let trace = TraceId([7; 16]);
    let (page, lookup) = FilterPages::of_length(bytes.len()).expect("so many bytes are pages").page_of(trace.hash64());
    if let Some(block) = lookup.block_in(&bytes[page]) {
        assert_eq!(lookup.is_in(&block), filter.may_contain(trace));
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &[u8] = include_bytes!("../../../fuzz/corpus/file_end/seed-index");
    const NAMES: [&[u8]; 2] = [
        include_bytes!("../../../fuzz/corpus/file_end/seed-names"),
        include_bytes!("../../../fuzz/corpus/file_end/seed-names-compressed"),
    ];
    const FILTER: &[u8] = include_bytes!("../../../fuzz/corpus/file_end/seed-filter");

    /// Every byte of the seeds made another: some are still read, and nothing panics.
    #[test]
    fn wrong_bytes_are_refused_or_read() {
        type Reader = fn(&[u8]) -> bool;
        let readers: [(&str, &[u8], Reader); 4] = [
            ("index", INDEX, read_index),
            ("names", NAMES[0], read_names),
            ("names, compressed", NAMES[1], read_names),
            ("filter", FILTER, read_filter),
        ];
        for (what, seed, read) in readers {
            assert!(read(seed), "{what}: the seed is whole");
            let mut taken = 0;
            for at in 0..seed.len() {
                read(&seed[..at]);
                for other in [0, 1, 0x7f, 0x80, 0xff, seed[at].wrapping_add(1)] {
                    let mut wrong = seed.to_vec();
                    wrong[at] = other;
                    taken += usize::from(read(&wrong));
                }
            }
            assert!(taken > 0, "{what}: not every byte decides");
        }
    }
}
