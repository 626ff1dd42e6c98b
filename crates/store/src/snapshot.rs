//! What queries see at one moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracehouse_model::{SpanBatch, TenantId, TraceId};

use crate::absent::Unreadable;
use crate::span_file::SpanFile;

/// Spans in memory, durable in the log and not yet in a file.
pub struct HotBatch {
    pub spans: SpanBatch,
    /// First and last log number inside.
    pub(crate) first_sequence: u64,
    pub(crate) last_sequence: u64,
    pub(crate) bytes: usize,
    /// Sorted 32-bit fingerprints of the traces inside: a lookup skips most batches.
    traces: Vec<u32>,
    /// Whether copies of spans that were there before have been taken out: done before a query first sees the batch.
    without_copies: AtomicBool,
}

impl HotBatch {
    pub(crate) fn new(mut spans: SpanBatch, first_sequence: u64, last_sequence: u64) -> Self {
        spans.seal();
        let mut traces: Vec<u32> = Vec::new();
        let mut last = None;
        for &trace in &spans.trace_id {
            if last != Some(trace) {
                traces.push(fingerprint(trace));
                last = Some(trace);
            }
        }
        traces.sort_unstable();
        traces.dedup();
        let bytes = spans.memory_bytes() + 4 * traces.capacity();
        let without_copies = AtomicBool::new(false);
        Self { spans, first_sequence, last_sequence, bytes, traces, without_copies }
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

    pub fn may_contain(&self, trace: TraceId) -> bool {
        self.traces.binary_search(&fingerprint(trace)).is_ok()
    }
}

fn fingerprint(trace: TraceId) -> u32 {
    trace.hash64() as u32
}

/// Whoever has spans that can be asked for.
pub trait Snapshots: Send + Sync {
    /// All spans of a tenant at this moment, each once. May read files to tell copies, so not for the threads of a runtime.
    fn snapshot(&self, tenant: &TenantId) -> Snapshot;

    /// The same with copies of others among the spans in memory: for questions about whole traces, which take these with
    /// [`Snapshot::hot_rows`].
    fn snapshot_as_sent(&self, tenant: &TenantId) -> Snapshot;
}

/// All spans of a tenant at one moment. Holding it keeps what it names readable.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// In order of arrival.
    pub hot: Vec<Arc<HotBatch>>,
    /// By last span start, newest first.
    pub files: Arc<Vec<Arc<SpanFile>>>,
    /// Files that can't be read, without which answers over their times are partial.
    pub unreadable: Arc<Vec<Unreadable>>,
    /// When it was taken, for whoever looks for copies.
    pub(crate) taken_unix_nanos: i64,
}

impl Snapshot {
    /// The same with each file so many times, each opened by itself: what very many files cost, without the disk for them.
    pub fn repeated(&self, times: usize) -> Self {
        let files = self.files.iter().flat_map(|file| std::iter::repeat_with(|| file.another()).take(times));
        Self { files: Arc::new(files.collect()), ..self.clone() }
    }
}
