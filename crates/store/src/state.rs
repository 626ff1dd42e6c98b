//! What queries see: the spans in memory and the list of files, as one.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, RwLock};
use tracehouse_model::{SpanBatch, TenantId, TraceId};

use crate::hot_copies::HotCopies;
use crate::log::DurableBatch;
use crate::span_file::SpanFile;

/// Spans in memory, durable in the log and not yet in a file.
pub struct HotBatch {
    pub spans: SpanBatch,
    /// First and last log number inside.
    first_sequence: u64,
    last_sequence: u64,
    bytes: usize,
    /// Sorted 32-bit fingerprints of the traces inside: a lookup skips most batches.
    traces: Vec<u32>,
    /// Whether copies of spans that were there before have been taken out: done before a query first sees the batch.
    without_copies: AtomicBool,
}

impl HotBatch {
    fn new(mut spans: SpanBatch, first_sequence: u64, last_sequence: u64) -> Self {
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

/// All spans of a tenant at one moment. Holding it keeps what it names readable.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// In order of arrival.
    pub hot: Vec<Arc<HotBatch>>,
    /// By last span start, newest first.
    pub files: Arc<Vec<Arc<SpanFile>>>,
}

/// The moving set of hot batches and files. One lock guards both, so that no span is missed or seen twice while it moves
/// from memory to a file.
#[derive(Default)]
pub(crate) struct State {
    tenants: RwLock<Tenants>,
    /// For each tenant that was asked about, what finds copies among its spans in memory.
    hot_copies: Mutex<HashMap<TenantId, Arc<Mutex<HotCopies>>>>,
}

#[derive(Default)]
struct Tenants {
    by_id: HashMap<TenantId, Snapshot>,
    hot_bytes: usize,
    hot_spans: u64,
    last_sequence: u64,
    /// Batches up to here are being written to files and must stay as they are.
    flushing_up_to: u64,
}

/// So many small batches in a row are made one: each costs a few kilobytes beside its spans.
const SMALL_BATCHES_MAX: usize = 32;
const SMALL_BATCH_SPANS: usize = 256;

impl State {
    pub(crate) fn snapshot(&self, tenant: &TenantId) -> Snapshot {
        self.tenants.read().by_id.get(tenant).cloned().unwrap_or_default()
    }

    /// All spans of a tenant at this moment, each once: copies of others are taken out of what is in memory. May read files.
    pub(crate) fn snapshot_without_copies(&self, tenant: &TenantId, now_unix_nanos: i64) -> Snapshot {
        let all_known = |snapshot: &Snapshot| snapshot.hot.iter().all(|batch| batch.is_without_copies());
        let snapshot = self.snapshot(tenant);
        if all_known(&snapshot) {
            return snapshot;
        }
        let copies = self.hot_copies.lock().entry(tenant.clone()).or_default().clone();
        // One at a time for each tenant: what one has found the next need not look for.
        let mut copies = copies.lock();
        let mut snapshot = self.snapshot(tenant);
        if all_known(&snapshot) {
            return snapshot;
        }
        let replaced = copies.take_out(&mut snapshot, now_unix_nanos);
        self.replace_hot(tenant, &replaced);
        snapshot
    }

    /// Puts batches in the place of others. One that is no longer in memory needs no replacement.
    fn replace_hot(&self, tenant: &TenantId, replaced: &[(Arc<HotBatch>, Arc<HotBatch>)]) {
        if replaced.is_empty() {
            return;
        }
        let mut tenants = self.tenants.write();
        let tenants = &mut *tenants;
        let Some(snapshot) = tenants.by_id.get_mut(tenant) else { return };
        for (old, new) in replaced {
            if let Some(place) = snapshot.hot.iter_mut().find(|batch| Arc::ptr_eq(batch, old)) {
                tenants.hot_bytes = tenants.hot_bytes - old.bytes + new.bytes;
                tenants.hot_spans -= (old.spans.len() - new.spans.len()) as u64;
                *place = new.clone();
            }
        }
    }

    pub(crate) fn hot_bytes(&self) -> usize {
        self.tenants.read().hot_bytes
    }

    pub(crate) fn hot_spans(&self) -> u64 {
        self.tenants.read().hot_spans
    }

    /// Makes durable batches visible.
    pub(crate) fn add_hot(&self, batches: Vec<DurableBatch>) {
        let ready: Vec<(TenantId, HotBatch)> = batches
            .into_iter()
            .map(|batch| (batch.tenant, HotBatch::new(batch.spans, batch.sequence, batch.sequence)))
            .collect();
        let mut tenants = self.tenants.write();
        let tenants = &mut *tenants;
        for (tenant, batch) in ready {
            tenants.hot_bytes += batch.bytes;
            tenants.hot_spans += batch.spans.len() as u64;
            tenants.last_sequence = tenants.last_sequence.max(batch.last_sequence);
            let hot = &mut tenants.by_id.entry(tenant).or_default().hot;
            hot.push(Arc::new(batch));
            merge_small(hot, tenants.flushing_up_to, &mut tenants.hot_bytes);
        }
    }

    /// Takes everything that is in memory now, to be written to files. Ends with [`State::flushed`] or
    /// [`State::flush_failed`].
    pub(crate) fn begin_flush(&self) -> FlushSet {
        let mut tenants = self.tenants.write();
        tenants.flushing_up_to = tenants.last_sequence;
        let hot = |snapshot: &Snapshot| snapshot.hot.clone();
        let tenants_with_hot =
            tenants.by_id.iter().filter(|(_, snapshot)| !snapshot.hot.is_empty()).map(|(id, s)| (id.clone(), hot(s)));
        FlushSet { up_to: tenants.last_sequence, tenants: tenants_with_hot.collect() }
    }

    /// Replaces the batches of a flush by the files that hold their spans.
    pub(crate) fn flushed(&self, up_to: u64, files: Vec<Arc<SpanFile>>) {
        let mut tenants = self.tenants.write();
        for snapshot in tenants.by_id.values_mut() {
            snapshot.hot.retain(|batch| batch.last_sequence > up_to);
        }
        tenants.change_files(files, &[]);
        tenants.recount();
    }

    pub(crate) fn flush_failed(&self) {
        self.tenants.write().flushing_up_to = 0;
    }

    /// Adds files and takes others away, at once.
    pub(crate) fn change_files(&self, add: Vec<Arc<SpanFile>>, remove: &[String]) {
        self.tenants.write().change_files(add, remove);
    }

    pub(crate) fn all_files(&self) -> Vec<Arc<SpanFile>> {
        self.tenants.read().by_id.values().flat_map(|snapshot| snapshot.files.iter().cloned()).collect()
    }
}

impl Tenants {
    fn change_files(&mut self, add: Vec<Arc<SpanFile>>, remove: &[String]) {
        for snapshot in self.by_id.values_mut() {
            if snapshot.files.iter().any(|file| remove.contains(&file.record.id)) {
                Arc::make_mut(&mut snapshot.files).retain(|file| !remove.contains(&file.record.id));
            }
        }
        for file in add {
            let snapshot = self.by_id.entry(file.record.tenant.clone()).or_default();
            let files = Arc::make_mut(&mut snapshot.files);
            files.push(file);
            files.sort_by(|left, right| {
                (right.record.start_max, &left.record.id).cmp(&(left.record.start_max, &right.record.id))
            });
        }
    }

    fn recount(&mut self) {
        let hot = || self.by_id.values().flat_map(|snapshot| &snapshot.hot);
        self.hot_bytes = hot().map(|batch| batch.bytes).sum();
        self.hot_spans = hot().map(|batch| batch.spans.len() as u64).sum();
    }
}

/// What a flush writes: each tenant's batches, and the log number up to which these are all.
pub(crate) struct FlushSet {
    pub(crate) up_to: u64,
    pub(crate) tenants: Vec<(TenantId, Vec<Arc<HotBatch>>)>,
}

fn merge_small(hot: &mut Vec<Arc<HotBatch>>, flushing_up_to: u64, hot_bytes: &mut usize) {
    let is_small =
        |batch: &&Arc<HotBatch>| batch.spans.len() < SMALL_BATCH_SPANS && batch.first_sequence > flushing_up_to;
    let small = hot.iter().rev().take_while(is_small).count();
    if small < SMALL_BATCHES_MAX {
        return;
    }
    let batches = hot.split_off(hot.len() - small);
    let (first, last) = (batches[0].first_sequence, batches[small - 1].last_sequence);
    let mut merged = SpanBatch::new();
    for batch in &batches {
        merged.append(&batch.spans);
        *hot_bytes -= batch.bytes;
    }
    let all_without_copies = batches.iter().all(|batch| batch.is_without_copies());
    let merged = HotBatch::new(merged, first, last);
    if all_without_copies {
        merged.set_without_copies();
    }
    *hot_bytes += merged.bytes;
    hot.push(Arc::new(merged));
}
