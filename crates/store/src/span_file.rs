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
use crate::file::{Damage, Expected, FileContents, FileSource, OpenFile, TraceFilter, is_damage};

/// A file of spans that queries may read.
pub struct SpanFile {
    pub record: FileRecord,
    pub contents: FileContents,
    filter: TraceFilter,
    /// The key of what the caches hold of it: never used twice.
    number: u64,
    opened: Mutex<Option<Arc<OpenFile>>>,
    condition: Mutex<Condition>,
    access: Arc<FileAccess>,
}

/// What is known of how well a file can be read.
#[derive(Default)]
enum Condition {
    /// Nothing has failed yet.
    #[default]
    Unsuspected,
    /// Every page was read: these can't be, all others can. Not a row for a file whose pages turned out to be right.
    Checked(Arc<Damage>),
    /// Its footer can't be read, and so nothing of it.
    Unreadable,
}

/// How files are opened: shared by all files of a store.
pub(crate) struct FileAccess {
    pub(crate) open: Box<OpenSource>,
    /// Files with their footers in memory, oldest use first.
    recently_opened: Mutex<VecDeque<Arc<SpanFile>>>,
    ids: Kept<StoredIds>,
    next_number: AtomicU64,
    /// Files of which damage was found and that nobody has looked after yet.
    suspected: Mutex<Vec<Arc<SpanFile>>>,
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
            suspected: Mutex::default(),
        })
    }

    /// Files of which damage was found since this was last asked.
    pub(crate) fn take_suspected(&self) -> Vec<Arc<SpanFile>> {
        std::mem::take(&mut *self.suspected.lock())
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
        let (opened, condition) = (Mutex::new(None), Mutex::default());
        Some(Arc::new(Self { record, contents, filter, number, opened, condition, access }))
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
        let expected = Expected { file_id: Some(&self.record.id), tail_bytes: 0 };
        let open = OpenFile::open(source, &expected).inspect_err(|error| {
            if is_damage(error) {
                self.suspect(Condition::Unreadable);
            }
        });
        let open = Arc::new(open.map_err(|source| self.read_error(source))?);
        if let Condition::Checked(damage) = &*self.condition.lock() {
            open.set_damage(damage.clone());
        }
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

    /// To be called when reading the file failed. If its bytes are at fault, every page of it is read once, to find out
    /// what can't be read; from then on whoever opens it gets what can. Returns whether it is worth reading it again: not if the
    /// machine is at fault, if nothing of the file can be read, or if it was read again already.
    pub fn check(self: &Arc<Self>, error: &ParquetError) -> bool {
        if !is_damage(error) || !matches!(*self.condition.lock(), Condition::Unsuspected) {
            return false;
        }
        // Also lets go of a footer that was read wrong.
        *self.opened.lock() = None;
        self.access.ids.remove(&self.number);
        let Ok(open) = self.open() else { return false };
        match open.verify() {
            Ok(damage) => {
                let damage = Arc::new(damage);
                open.set_damage(damage.clone());
                self.suspect(Condition::Checked(damage));
                true
            }
            Err(error) => {
                tracing::warn!(path = self.record.path, %error, "a stored file could not be checked for damage");
                false
            }
        }
    }

    fn suspect(self: &Arc<Self>, found: Condition) {
        let mut condition = self.condition.lock();
        if matches!(*condition, Condition::Unsuspected) {
            *condition = found;
            self.access.suspected.lock().push(self.clone());
        }
    }

    /// Whether damage was found, or seemed to be: such a file is not merged, so that nothing of it is thrown away.
    pub(crate) fn is_suspected(&self) -> bool {
        !matches!(*self.condition.lock(), Condition::Unsuspected)
    }

    /// What can't be read of it, as far as that is known; `None` if nothing of it can.
    pub(crate) fn damage(&self) -> Option<Arc<Damage>> {
        match &*self.condition.lock() {
            Condition::Unsuspected => Some(Arc::default()),
            Condition::Checked(damage) => Some(damage.clone()),
            Condition::Unreadable => None,
        }
    }

    /// An error of reading this file, with its name.
    pub fn read_error(&self, source: ParquetError) -> ReadError {
        ReadError { path: self.record.path.clone(), source }
    }
}
