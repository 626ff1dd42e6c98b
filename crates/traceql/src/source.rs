//! Where in the query text a piece of the tree came from.

use std::fmt;
use std::ops::Range;

/// A half-open range of bytes in the query text.
///
/// Two ranges always compare equal, so trees that differ only in layout are equal trees: that is what lets
/// `parse(print(query)) == query` be a plain `==`.
#[derive(Clone, Copy, Default)]
pub struct SourceRange {
    pub start: u32,
    pub end: u32,
}

impl SourceRange {
    /// Offsets fit in 32 bits because a query is at most [`crate::QUERY_BYTES_MAX`] long.
    pub(crate) fn new(start: usize, end: usize) -> Self {
        let clamp = |offset: usize| u32::try_from(offset).unwrap_or(u32::MAX);
        SourceRange { start: clamp(start), end: clamp(end) }
    }

    /// The smallest range that covers both.
    pub(crate) fn to(self, other: SourceRange) -> Self {
        SourceRange { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    pub fn bytes(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    /// The range in UTF-16 code units, as JavaScript counts. `source` must be the text that was parsed.
    pub fn utf16(self, source: &str) -> Range<usize> {
        let offset = |byte: u32| source[..floor_boundary(source, byte as usize)].encode_utf16().count();
        offset(self.start)..offset(self.end)
    }
}

/// The last boundary of a character at or before a byte.
pub(crate) fn floor_boundary(source: &str, offset: usize) -> usize {
    let mut boundary = offset.min(source.len());
    while !source.is_char_boundary(boundary) {
        boundary -= 1;
    }
    boundary
}

impl PartialEq for SourceRange {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for SourceRange {}

impl fmt::Debug for SourceRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utf16_counts_as_javascript_does() {
        let source = "é𝄞x";
        assert_eq!(SourceRange::new(0, 2).utf16(source), 0..1);
        assert_eq!(SourceRange::new(2, 6).utf16(source), 1..3);
        assert_eq!(SourceRange::new(6, 7).utf16(source), 3..4);
        assert_eq!(SourceRange::new(3, 900).utf16(source), 1..4);
    }
}
