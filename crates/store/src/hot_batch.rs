//! One batch in memory.

use std::sync::atomic::{AtomicBool, Ordering};

use tracehouse_model::SpanBatch;

use crate::trace_table::BYTES_PER_SPAN_MAX;

/// Spans in memory, durable in the log and not yet in a file.
pub struct HotBatch {
    pub spans: SpanBatch,
    /// First and last log number inside.
    pub(crate) first_sequence: u64,
    pub(crate) last_sequence: u64,
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
        Self { spans, first_sequence, last_sequence, bytes, without_copies }
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
        let mut spans = SpanBatch::new();
        spans.append_rows(&self.spans, rows);
        Self::new(spans, self.first_sequence, self.last_sequence)
    }
}
