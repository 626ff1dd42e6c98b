//! What queries see: the spans in memory and the list of files, as one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use tracehouse_catalogue::FileRecord;
use tracehouse_model::{SpanBatch, TenantId, TraceId};

use crate::error::ReadError;
use crate::file::{FileContents, FileSource, OpenFile, TraceFilter};
use crate::log::DurableBatch;
use crate::unreadable::Unreadable;

/// Spans in memory, durable in the log and not yet in a file.
pub struct HotBatch {
    pub spans: SpanBatch,
    /// First and last log number inside.
    first_sequence: u64,
    last_sequence: u64,
    bytes: usize,
    /// Sorted 32-bit fingerprints of the traces inside: a lookup skips most batches.
    traces: Vec<u32>,
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
        Self { spans, first_sequence, last_sequence, bytes, traces }
    }

    pub fn may_contain(&self, trace: TraceId) -> bool {
        self.traces.binary_search(&fingerprint(trace)).is_ok()
    }
}

fn fingerprint(trace: TraceId) -> u32 {
    trace.hash64() as u32
}

/// A file of spans that queries may read.
pub struct SpanFile {
    pub record: FileRecord,
    pub contents: FileContents,
    filter: TraceFilter,
    opened: Mutex<Option<Arc<OpenFile>>>,
    access: Arc<FileAccess>,
}

/// How files are opened: shared by all files of a store.
pub(crate) struct FileAccess {
    pub(crate) open: Box<OpenSource>,
    /// Files with their footers in memory, oldest use first.
    pub(crate) recently_opened: Mutex<std::collections::VecDeque<Arc<SpanFile>>>,
}

type OpenSource = dyn Fn(&FileRecord) -> Result<FileSource, parquet::errors::ParquetError> + Send + Sync;

impl FileAccess {
    /// Lets go of deleted files: the disk's room is not free while they are open.
    pub(crate) fn close(&self, ids: &[String]) {
        let mut deleted = Vec::new();
        self.recently_opened.lock().retain(|file| {
            let keep = !ids.contains(&file.record.id);
            if !keep {
                deleted.push(file.clone());
            }
            keep
        });
        deleted.iter().for_each(|file| *file.opened.lock() = None);
    }
}

/// Footers of so many files are kept in memory (about half a megabyte each for a large file).
const OPEN_FILES_MAX: usize = 256;

impl SpanFile {
    pub(crate) fn new(
        record: FileRecord,
        contents: FileContents,
        filter: TraceFilter,
        access: Arc<FileAccess>,
    ) -> Arc<Self> {
        Arc::new(Self { record, contents, filter, opened: Mutex::new(None), access })
    }

    pub fn may_contain(&self, trace: TraceId) -> bool {
        self.filter.may_contain(trace)
    }

    /// The file with its footer read, from memory if it was used recently. Blocks on the disk or the network.
    pub fn open(self: &Arc<Self>) -> Result<Arc<OpenFile>, ReadError> {
        let mut opened = self.opened.lock();
        if let Some(open) = &*opened {
            return Ok(open.clone());
        }
        let source = (self.access.open)(&self.record).map_err(|source| self.read_error(source))?;
        let open = Arc::new(OpenFile::open(source).map_err(|source| self.read_error(source))?);
        *opened = Some(open.clone());
        drop(opened);
        let mut recent = self.access.recently_opened.lock();
        recent.push_back(self.clone());
        let evicted = if recent.len() > OPEN_FILES_MAX { recent.pop_front() } else { None };
        drop(recent);
        if let Some(evicted) = evicted {
            *evicted.opened.lock() = None;
        }
        Ok(open)
    }

    /// An error of reading this file, with its name.
    pub fn read_error(&self, source: parquet::errors::ParquetError) -> ReadError {
        ReadError { path: self.record.path.clone(), source }
    }
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
}

/// The moving set of hot batches and files. One lock guards both, so that no span is missed or seen twice while it moves
/// from memory to a file.
#[derive(Default)]
pub(crate) struct State {
    tenants: RwLock<Tenants>,
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

    /// Puts these files that can't be read in the place of those known so far.
    pub(crate) fn set_unreadable(&self, mut of_tenants: BTreeMap<TenantId, Vec<Unreadable>>) {
        let mut tenants = self.tenants.write();
        for (tenant, snapshot) in &mut tenants.by_id {
            snapshot.unreadable = Arc::new(of_tenants.remove(tenant).unwrap_or_default());
        }
        for (tenant, unreadable) in of_tenants {
            tenants.by_id.entry(tenant).or_default().unreadable = Arc::new(unreadable);
        }
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
    let merged = HotBatch::new(merged, first, last);
    *hot_bytes += merged.bytes;
    hot.push(Arc::new(merged));
}
