//! One batch in memory.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use tracehouse_model::SpanBatch;

use crate::trace_table::BYTES_PER_SPAN_MAX;

/// Spans in memory, durable in the log and not yet in a file.
pub struct HotBatch {
    pub spans: SpanBatch,
    /// First and last log number inside.
    pub(crate) first_sequence: u64,
    pub(crate) last_sequence: u64,
    /// If there are several numbers: up to which row the spans of each and of those before it go.
    ends: Vec<(u64, u32)>,
    /// What it takes in memory, with its part of the index.
    pub(crate) bytes: usize,
    /// Whether copies of spans that were there before have been taken out: done before a query first sees the batch.
    without_copies: AtomicBool,
}

impl HotBatch {
    pub(crate) fn new(mut spans: SpanBatch, first_sequence: u64, last_sequence: u64) -> Self {
        spans.seal();
        let bytes = spans.memory_bytes() + BYTES_PER_SPAN_MAX * spans.len();
        let without_copies = AtomicBool::new(false);
        Self { spans, first_sequence, last_sequence, ends: Vec::new(), bytes, without_copies }
    }

    /// Batches that follow each other, as one.
    pub(crate) fn joined<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Option<Self> {
        let (mut spans, mut ends, mut first_sequence) = (SpanBatch::new(), Vec::new(), None);
        for part in parts {
            first_sequence.get_or_insert(part.first_sequence);
            let before = spans.len() as u32;
            ends.extend(part.ends.iter().map(|(sequence, rows)| (*sequence, before + rows)));
            spans.append(&part.spans);
            if part.ends.is_empty() {
                ends.push((part.last_sequence, spans.len() as u32));
            }
        }
        let last_sequence = ends.last()?.0;
        let joined = Self::new(spans, first_sequence?, last_sequence);
        Some(Self { bytes: joined.bytes + size_of_val(&*ends), ends, ..joined })
    }

    /// The rows that came up to a position.
    pub fn rows_up_to(&self, position: u64) -> Range<usize> {
        self.rows_of(0, position)
    }

    /// The rows that came after a number of the log, up to another.
    pub(crate) fn rows_of(&self, after: u64, up_to: u64) -> Range<usize> {
        let end = |sequence: u64| match self.ends.partition_point(|(number, _)| *number <= sequence) {
            _ if sequence >= self.last_sequence => self.spans.len(),
            0 => 0,
            numbers => self.ends[numbers - 1].1 as usize,
        };
        end(after)..end(up_to)
    }

    pub(crate) fn first_sequence(&self) -> u64 {
        self.first_sequence
    }

    pub(crate) fn is_without_copies(&self) -> bool {
        self.without_copies.load(Ordering::Acquire)
    }

    pub(crate) fn set_without_copies(&self) {
        self.without_copies.store(true, Ordering::Release);
    }

    pub(crate) fn set_unknown(&self) {
        self.without_copies.store(false, Ordering::Release);
    }

    /// The batch with some of its rows alone, which are given in order.
    pub(crate) fn only(&self, rows: impl IntoIterator<Item = usize>) -> Self {
        let (mut spans, rows) = (SpanBatch::new(), Vec::from_iter(rows));
        let before = |row: u32| rows.partition_point(|kept| *kept < row as usize) as u32;
        let ends: Vec<_> = self.ends.iter().map(|(sequence, end)| (*sequence, before(*end))).collect();
        spans.append_rows(&self.spans, rows);
        let only = Self::new(spans, self.first_sequence, self.last_sequence);
        Self { bytes: only.bytes + size_of_val(&*ends), ends, ..only }
    }
}
