//! Which of the spans that were gathered for some traces are copies of one another.
//!
//! The store has left out the copies that it found (`tracehouse_store`, `copies`): in a file each span is once, and spans in
//! memory have no twin in a file. What is left are copies that lie in two files, from long ago, and copies in memory.

use tracehouse_model::{ContentHasher, CopyKey, SeededMap, SpanBatch};

/// Where gathered spans come from: those of one file follow each other, then those in memory.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    /// After the last row of each file.
    file_ends: Vec<u32>,
    /// Whether all columns were read of files: without them, spans may look like copies that are none.
    pub(crate) whole: bool,
}

impl Sources {
    pub(crate) fn new(whole: bool) -> Self {
        Self { file_ends: Vec::new(), whole }
    }

    /// The rows up to here that belong to no file yet are of one.
    pub(crate) fn end_file(&mut self, rows: usize) {
        self.file_ends.push(rows as u32);
    }

    /// The number of a row's file; as many as there are files for spans in memory.
    fn of(&self, row: u32) -> usize {
        self.file_ends.partition_point(|end| *end <= row)
    }

    fn relation(&self, row: u32, other: u32) -> Relation {
        let (one, other, memory) = (self.of(row), self.of(other), self.file_ends.len());
        match (one == memory, other == memory) {
            (true, true) => Relation::ByContent,
            (false, false) if one != other && self.whole => Relation::ByContent,
            (false, false) if one != other => Relation::ByWhatIsKnown,
            _ => Relation::NoCopies,
        }
    }
}

enum Relation {
    /// The store has looked already.
    NoCopies,
    ByContent,
    /// What looks the same may be different in columns that were not read, and the other way round.
    ByWhatIsKnown,
}

/// The rows of a trace without copies.
pub(crate) struct WithoutCopies {
    /// Of each span the first.
    pub(crate) kept: Vec<u32>,
    /// Whether what was not read may show that others are copies.
    pub(crate) unsure: bool,
}

impl WithoutCopies {
    pub(crate) fn of(spans: &SpanBatch, rows: &[u32], sources: &Sources) -> Self {
        let mut seen: SeededMap<CopyKey, u32> = SeededMap::default();
        seen.reserve(rows.len());
        let mut others: SeededMap<u64, Vec<u32>> = SeededMap::default();
        let hasher = ContentHasher::default();
        let mut unsure = false;
        let kept = rows.iter().copied().filter(|&row| {
            let first = *seen.entry(spans.copy_key(row as usize)).or_insert(row);
            if first == row {
                return true;
            }
            let others = others.entry(hasher.hash(spans, row as usize)).or_default();
            let looks_the_same = |other: u32| spans.is_copy(row as usize, spans, other as usize);
            for other in [first].into_iter().chain(others.iter().copied()) {
                match sources.relation(row, other) {
                    Relation::NoCopies => {}
                    Relation::ByContent if looks_the_same(other) => return false,
                    // Files differ in what has to be read of them: what differs here may be the same as well.
                    Relation::ByWhatIsKnown => {
                        unsure = true;
                        if looks_the_same(other) {
                            return false;
                        }
                    }
                    Relation::ByContent => {}
                }
            }
            // What counts is from where one like this has come, so one of each source is enough.
            if !others.iter().any(|&other| sources.of(other) == sources.of(row)) {
                others.push(row);
            }
            true
        });
        Self { kept: kept.collect(), unsure }
    }
}

#[cfg(test)]
mod tests {
    use tracehouse_model::{AttributeValue, SpanFields, SpanId, TraceId};

    use super::*;

    /// A span twice, of two files: of the second an attribute was read, of the first it was not.
    fn read_in_part() -> SpanBatch {
        let mut spans = SpanBatch::new();
        let key = spans.strings.intern_str("key");
        let (resource, scope) = (spans.finish_resource(0, 0), spans.finish_scope(0, 0, 0, 0));
        for is_read in [false, true] {
            if is_read {
                spans.attributes.push(key, AttributeValue::Bool(true));
            }
            let (trace_id, span_id) = (TraceId([1; 16]), SpanId([2; 8]));
            spans.finish_span(SpanFields { trace_id, span_id, resource, scope, ..SpanFields::default() });
        }
        spans
    }

    #[test]
    fn what_was_read_in_part_may_be_a_copy_though_it_looks_different() {
        let spans = read_in_part();
        for (whole, expected) in [(false, true), (true, false)] {
            let mut sources = Sources::new(whole);
            (1..=2).for_each(|rows| sources.end_file(rows));
            let found = WithoutCopies::of(&spans, &[0, 1], &sources);
            assert_eq!((found.kept, found.unsure), (vec![0, 1], expected));
        }
    }
}
