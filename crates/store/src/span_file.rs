//! A stored file as queries meet it: opened when it is needed, with what was read of it kept within budgets.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use parquet::errors::ParquetError;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use tracehouse_catalogue::FileRecord;
use tracehouse_model::TraceId;

use crate::copies::StoredIds;
use crate::error::ReadError;
use crate::file::{FileContents, FileSource, OpenFile, TraceFilter};

/// A file of spans that queries may read.
pub struct SpanFile {
    pub record: FileRecord,
    pub contents: FileContents,
    filter: TraceFilter,
    /// The key of what the caches hold of it: never used twice.
    number: u64,
    opened: Mutex<Option<Arc<OpenFile>>>,
    access: Arc<FileAccess>,
}

/// How files are opened: shared by all files of a store.
pub(crate) struct FileAccess {
    pub(crate) open: Box<OpenSource>,
    /// Files with their footers in memory, oldest use first.
    recently_opened: Mutex<VecDeque<Arc<SpanFile>>>,
    ids: Kept<StoredIds>,
    next_number: AtomicU64,
}

type OpenSource = dyn Fn(&FileRecord) -> Result<FileSource, ParquetError> + Send + Sync;
/// By the file's number.
type Kept<T> = Cache<u64, Arc<T>, ByBytes>;

/// What the ids of files may take in memory, to be compared with those of new spans.
const IDS_BYTES_MAX: u64 = 24 << 20;

impl FileAccess {
    pub(crate) fn new(
        open: impl Fn(&FileRecord) -> Result<FileSource, ParquetError> + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self {
            open: Box::new(open),
            recently_opened: Mutex::default(),
            ids: kept(IDS_BYTES_MAX),
            next_number: AtomicU64::new(0),
        })
    }

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
        deleted.iter().for_each(|file| {
            *file.opened.lock() = None;
            self.ids.remove(&file.number);
        });
    }
}

fn kept<T>(bytes_max: u64) -> Kept<T>
where
    ByBytes: Weighter<u64, Arc<T>>,
{
    /// Of the entries that the cache prepares for: it grows as it must.
    const ENTRIES: usize = 256;
    let options = OptionsBuilder::new()
        .estimated_items_capacity(ENTRIES)
        .weight_capacity(bytes_max)
        // An entry may take a good part of the whole budget, which parts of it would not admit.
        .shards(1)
        .build()
        .expect("all that is needed is set");
    Cache::with_options(options, ByBytes, DefaultHashBuilder::default(), DefaultLifecycle::default())
}

/// Weighs what is kept by its bytes.
#[derive(Clone)]
struct ByBytes;

/// About what an entry takes beside its value.
const ENTRY_BYTES: u64 = 96;

impl Weighter<u64, Arc<StoredIds>> for ByBytes {
    fn weight(&self, _: &u64, value: &Arc<StoredIds>) -> u64 {
        value.bytes() as u64 + ENTRY_BYTES
    }
}

/// Footers of so many files are kept in memory (about half a megabyte each for a large file).
const OPEN_FILES_MAX: usize = 256;

impl SpanFile {
    /// `None` if the catalogue's description can't be read.
    pub(crate) fn new(record: FileRecord, access: Arc<FileAccess>) -> Option<Arc<Self>> {
        let filter = TraceFilter::from_bytes(&record.trace_filter)?;
        let contents = serde_json::from_str(&record.contents).ok()?;
        // The parsed forms replace the raw ones, which would only take memory.
        let record = FileRecord { trace_filter: Vec::new(), contents: String::new(), ..record };
        let number = access.next_number.fetch_add(1, Ordering::Relaxed);
        Some(Arc::new(Self { record, contents, filter, number, opened: Mutex::new(None), access }))
    }

    pub fn may_contain(&self, trace: TraceId) -> bool {
        self.filter.may_contain(trace)
    }

    /// What tells its spans apart.
    pub(crate) fn ids(&self, open: &OpenFile) -> Result<Arc<StoredIds>, ParquetError> {
        self.access.ids.get_or_insert_with(&self.number, || StoredIds::read(open).map(Arc::new))
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
    pub fn read_error(&self, source: ParquetError) -> ReadError {
        ReadError { path: self.record.path.clone(), source }
    }
}
