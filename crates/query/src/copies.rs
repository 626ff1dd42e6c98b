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
    /// What looks the same may be different in columns that were not read.
    ByWhatIsKnown,
}

/// The rows of a trace without copies.
pub(crate) struct WithoutCopies {
    /// Of each span the first.
    pub(crate) kept: Vec<u32>,
    /// Whether some were left out that look like copies as far as was read.
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
                    Relation::ByWhatIsKnown if looks_the_same(other) => {
                        unsure = true;
                        return false;
                    }
                    Relation::ByContent | Relation::ByWhatIsKnown => {}
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
