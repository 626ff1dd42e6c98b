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
