//! A stored file as queries meet it: opened when it is needed, with what was read of it kept within budgets.
//!
//! What grows with retention is not held for every file, however many there are: footers, names, filters and ids live in
//! caches of [`Budgets`] bytes, and are read again when they are needed after they had to go. Open handles are bounded in
//! number, apart from those ([`tracehouse_spanfile::Handles`]).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use parquet::errors::ParquetError;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{DefaultHashBuilder, OptionsBuilder, Weighter};
use tracehouse_catalogue::{FileRecord, LegacyDescription};
use tracehouse_model::TraceId;

use crate::describe::describe_rows;
use crate::error::{ReadError, chain};
use crate::stored_ids::StoredIds;
use tracehouse_disk::is_absent;
use tracehouse_spanfile::{
    Damage, Expected, FileContents, FileSource, Handles, KeptFile, OpenFile, Part, PartWatcher, TraceFilter, TraceRows,
    is_damage,
};

/// A file of spans that queries may read.
pub struct SpanFile {
    pub record: FileRecord,
    /// The key of what the caches hold of it: never used twice.
    number: u64,
    condition: Mutex<Condition>,
    /// Beside its rows, as far as readers met it.
    damaged_parts: Mutex<Vec<Part>>,
    /// No span inside ends later; the largest number there is as long as that is not known.
    latest_end: AtomicI64,
    access: Arc<FileAccess>,
    /// Itself, for those who look after damage.
    itself: Weak<SpanFile>,
}

/// Bytes that what was read of files may take, of each kind.
#[derive(Debug, Clone, Copy)]
struct Budgets {
    footers: u64,
    names: u64,
    filters: u64,
    ids: u64,
}

impl Budgets {
    /// Shares of a budget for all.
    fn of(bytes: u64) -> Self {
        Self { footers: bytes * 3 / 8, names: bytes / 8, filters: bytes * 3 / 8, ids: bytes / 8 }
    }
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
    open: Box<OpenSource>,
    handles: Arc<Handles>,
    footers: Kept<KeptFile>,
    names: Kept<FileContents>,
    filters: Kept<TraceFilter>,
    ids: Kept<StoredIds>,
    next_number: AtomicU64,
    /// Files of which damage was found and that nobody has looked after yet.
    suspected: Mutex<Vec<Arc<SpanFile>>>,
    /// Files of which a filter or a list was found damaged and that nobody has looked after yet.
    with_damaged_parts: Mutex<Vec<Arc<SpanFile>>>,
    /// By their numbers: files that were not there when they were to be read, and that nobody has looked for yet.
    not_found: Mutex<BTreeMap<u64, Arc<SpanFile>>>,
    legacy: Box<ReadLegacy>,
}

/// What a file of layout version 1 was described by, by its id.
type ReadLegacy = dyn Fn(&str) -> Option<LegacyDescription> + Send + Sync;
/// A source for a file, whose handle is kept under the number.
type OpenSource = dyn Fn(&FileRecord, u64, &Arc<Handles>) -> Result<FileSource, ParquetError> + Send + Sync;
/// By the file's number.
type Kept<T> = Cache<u64, Weighed<T>, ByBytes>;

/// Something kept, and what it weighed when it was put there. The cache asks again when it lets go, and a value that had
/// grown meanwhile would make it believe that it holds less than it does: it would grow without bound.
struct Weighed<T> {
    value: Arc<T>,
    bytes: u64,
}

impl<T> Weighed<T> {
    fn new(value: Arc<T>, bytes: usize) -> Self {
        Self { value, bytes: bytes as u64 + ENTRY_BYTES }
    }
}

impl<T> Clone for Weighed<T> {
    fn clone(&self) -> Self {
        Self { value: self.value.clone(), bytes: self.bytes }
    }
}

impl FileAccess {
    /// `bytes_max`: what may be kept in memory of what was read of files.
    pub(crate) fn new(
        bytes_max: u64,
        open: impl Fn(&FileRecord, u64, &Arc<Handles>) -> Result<FileSource, ParquetError> + Send + Sync + 'static,
        legacy: impl Fn(&str) -> Option<LegacyDescription> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let budgets = Budgets::of(bytes_max);
        Arc::new(Self {
            open: Box::new(open),
            handles: Arc::default(),
            footers: kept(budgets.footers),
            names: kept(budgets.names),
            filters: kept(budgets.filters),
            ids: kept(budgets.ids),
            next_number: AtomicU64::new(0),
            suspected: Mutex::default(),
            with_damaged_parts: Mutex::default(),
            not_found: Mutex::default(),
            legacy: Box::new(legacy),
        })
    }

    /// Files of which damage was found since this was last asked.
    pub(crate) fn take_suspected(&self) -> Vec<Arc<SpanFile>> {
        std::mem::take(&mut *self.suspected.lock())
    }

    /// Files of which a filter or a list was found damaged since this was last asked.
    pub(crate) fn take_with_damaged_parts(&self) -> Vec<Arc<SpanFile>> {
        std::mem::take(&mut *self.with_damaged_parts.lock())
    }

    /// Files that were not there when they were to be read since this was last asked.
    pub(crate) fn take_not_found(&self) -> Vec<Arc<SpanFile>> {
        std::mem::take(&mut *self.not_found.lock()).into_values().collect()
    }

    pub(crate) fn report_gauges(&self) {
        let of = |what: &'static str, bytes: u64| {
            metrics::gauge!("tracehouse_store_cache_bytes", "what" => what).set(bytes as f64);
        };
        of("footers", self.footers.weight());
        of("names", self.names.weight());
        of("filters", self.filters.weight());
        of("ids", self.ids.weight());
        metrics::gauge!("tracehouse_store_open_files").set(self.handles.open() as f64);
    }
}

fn kept<T>(bytes_max: u64) -> Kept<T> {
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

/// What a cache keeps under a number, made if it is not there. `memory_bytes`: what it takes.
fn keep<T, E>(
    cache: &Kept<T>,
    number: u64,
    memory_bytes: impl FnOnce(&T) -> usize,
    make: impl FnOnce() -> Result<Arc<T>, E>,
) -> Result<Arc<T>, E> {
    let made = || make().map(|value| Weighed::new(value.clone(), memory_bytes(&value)));
    cache.get_or_insert_with(&number, made).map(|kept| kept.value)
}

/// Weighs what is kept by its bytes.
#[derive(Clone)]
struct ByBytes;

/// About what an entry takes beside its value.
const ENTRY_BYTES: u64 = 96;

impl<T> Weighter<u64, Weighed<T>> for ByBytes {
    fn weight(&self, _: &u64, kept: &Weighed<T>) -> u64 {
        kept.bytes
    }
}

impl PartWatcher for SpanFile {
    fn is_damaged(&self, part: Part) {
        let mut known = self.damaged_parts.lock();
        if !known.contains(&part) {
            known.push(part);
            self.access.with_damaged_parts.lock().extend(self.itself.upgrade());
        }
    }
}

impl SpanFile {
    pub(crate) fn new(record: FileRecord, access: Arc<FileAccess>) -> Arc<Self> {
        let number = access.next_number.fetch_add(1, Ordering::Relaxed);
        let latest_end = AtomicI64::new(record.end_max.unwrap_or(i64::MAX));
        Arc::new_cyclic(|itself| Self {
            record,
            number,
            condition: Mutex::default(),
            damaged_parts: Mutex::default(),
            latest_end,
            access,
            itself: itself.clone(),
        })
    }

    /// The same file, of which nothing was read yet.
    pub(crate) fn another(&self) -> Arc<Self> {
        Self::new(self.record.clone(), self.access.clone())
    }

    /// No span inside ends later. The catalogue says so; of files that earlier versions wrote it is known once they were open.
    pub fn latest_end(&self) -> i64 {
        self.latest_end.load(Ordering::Relaxed)
    }

    /// Whether spans of a trace may be inside; wrong for few that are not. May read the file.
    ///
    /// Filters are kept as long as there is room. A question for one trace asks all files, so it must not put out of memory
    /// what others need: without room it reads the page of the filter that tells.
    pub fn may_contain(&self, trace: TraceId) -> Result<bool, ReadError> {
        let filters = &self.access.filters;
        if let Some(known) = filters.get(&self.number) {
            return Ok(known.value.may_contain(trace));
        }
        if self.record.tail_bytes > 0 {
            let open = self.open()?;
            let has_room = |bytes: u32| filters.weight() + u64::from(bytes) <= filters.capacity();
            if !open.filter_bytes().is_none_or(has_room) && !open.is_remote() {
                match open.filter_may_contain(trace) {
                    Ok(Some(may_contain)) => return Ok(may_contain),
                    Err(error) if !is_damage(&error) => return Err(self.read_error(error)),
                    // The whole is made anew from the rows.
                    _ => {}
                }
            }
        }
        Ok(self.filter()?.may_contain(trace))
    }

    /// The names that occur inside. May read the file.
    pub fn contents(&self) -> Result<Arc<FileContents>, ReadError> {
        keep(&self.access.names, self.number, FileContents::memory_bytes, || {
            let read = |open: &OpenFile| open.read_contents();
            let legacy = |legacy: &LegacyDescription| serde_json::from_str(&legacy.contents).ok();
            self.described(read, legacy, |open| {
                // A list without the names of rows that can't be read would rule the file out where they are.
                if open.unreadable_rows() > 0 {
                    return Err(ParquetError::General(
                        "the names that occur in it can't be told, nor made anew".into(),
                    ));
                }
                Ok(describe_rows(open)?.contents)
            })
        })
    }

    /// The filter over trace ids, which stays in memory: for whoever asks for many traces.
    pub(crate) fn filter(&self) -> Result<Arc<TraceFilter>, ReadError> {
        keep(&self.access.filters, self.number, TraceFilter::memory_bytes, || {
            let read = |open: &OpenFile| open.read_filter();
            let legacy = |legacy: &LegacyDescription| TraceFilter::from_bytes(&legacy.trace_filter);
            self.described(read, legacy, |_| {
                // All of its ids, or an error: without one of them the filter would hide a trace.
                let open = self.open_for_question().map_err(|error| error.source)?;
                let rows = open.trace_rows()?;
                Ok(TraceFilter::of_traces(rows.iter().flat_map(TraceRows::iter).map(|(trace, _)| trace)))
            })
        })
    }

    /// A part of what describes the file: from the file itself; for layout version 1 from the catalogue; else, as when the
    /// description is damaged, from all rows.
    fn described<T>(
        &self,
        read: impl Fn(&OpenFile) -> Result<Option<T>, ParquetError>,
        legacy: impl Fn(&LegacyDescription) -> Option<T>,
        of_rows: impl Fn(&OpenFile) -> Result<T, ParquetError>,
    ) -> Result<Arc<T>, ReadError> {
        if self.record.tail_bytes == 0
            && let Some(known) = (self.access.legacy)(&self.record.id)
            && let Some(part) = legacy(&known)
        {
            return Ok(Arc::new(part));
        }
        let open = self.open()?;
        match read(&open) {
            Ok(Some(part)) => Ok(Arc::new(part)),
            Err(error) if !is_damage(&error) => Err(self.read_error(error)),
            _ => of_rows(&open).map(Arc::new).map_err(|error| self.read_error(error)),
        }
    }

    /// What tells its spans apart, if that is in memory.
    pub(crate) fn known_ids(&self) -> Option<Arc<StoredIds>> {
        self.access.ids.get(&self.number).map(|known| known.value)
    }

    /// What tells its spans apart.
    pub(crate) fn ids(&self, open: &OpenFile) -> Result<Arc<StoredIds>, ParquetError> {
        keep(&self.access.ids, self.number, StoredIds::bytes, || StoredIds::read(open).map(Arc::new))
    }

    /// The file with its footer read, from memory if it was used recently; rows that are known to be damaged in any column come
    /// as nulls. Blocks on the disk or the network.
    pub fn open(&self) -> Result<Arc<OpenFile>, ReadError> {
        self.opened(OpenFile::around)
    }

    /// The same for a question, which need not read what is damaged: see [`OpenFile::meeting`].
    pub fn open_for_question(&self) -> Result<Arc<OpenFile>, ReadError> {
        self.opened(OpenFile::meeting)
    }

    fn opened(&self, knowing: impl Fn(&OpenFile, Arc<Damage>) -> OpenFile) -> Result<Arc<OpenFile>, ReadError> {
        let mut opened = None;
        let kept = keep(&self.access.footers, self.number, KeptFile::memory_bytes, || {
            let open = Arc::new(self.open_anew()?);
            let kept = KeptFile::of(&open);
            opened = Some(open);
            Ok(Arc::new(kept))
        })?;
        let open = opened.unwrap_or_else(|| kept.open());
        Ok(match &*self.condition.lock() {
            Condition::Checked(damage) => Arc::new(knowing(&open, damage.clone())),
            Condition::Unsuspected | Condition::Unreadable => open,
        })
    }

    fn open_anew(&self) -> Result<OpenFile, ReadError> {
        let source = (self.access.open)(&self.record, self.number, &self.access.handles);
        let source = source.map_err(|source| self.read_error(source))?;
        let expected = Expected { file_id: Some(&self.record.id), tail_bytes: self.record.tail_bytes };
        let opened = OpenFile::open(source, &expected).map(|open| open.watched_by(self.itself.clone()));
        let open = opened.map_err(|source| {
            if is_damage(&source) {
                self.suspect(Condition::Unreadable);
            }
            self.read_error(source)
        })?;
        if self.record.end_max.is_none()
            && let Some(latest_end) = open.latest_end_of_all()
        {
            self.latest_end.store(latest_end, Ordering::Relaxed);
        }
        Ok(open)
    }

    /// Reads the file anew from now on.
    fn close(&self) {
        self.access.handles.close(self.number);
        self.let_go();
    }

    /// Lets go of all that is in memory of a file that is deleted: the disk's room is not free while it is open. Who reads it
    /// reads on.
    pub(crate) fn let_go(&self) {
        self.access.footers.remove(&self.number);
        self.access.names.remove(&self.number);
        self.access.filters.remove(&self.number);
        self.access.ids.remove(&self.number);
    }

    /// To be called when reading the file failed. If its bytes are at fault, every page of it is read once, to find out
    /// what can't be read; from then on whoever opens it gets what can. Returns whether it is worth reading it again: not if the
    /// machine is at fault, if nothing of the file can be read, or if it was read again already.
    pub fn check(&self, error: &ParquetError) -> bool {
        self.note_absence(error);
        if !is_damage(error) || !matches!(*self.condition.lock(), Condition::Unsuspected) {
            return false;
        }
        // What was read wrong must not stay.
        self.close();
        let Ok(open) = self.open() else { return false };
        match open.verify() {
            Ok(damage) => {
                self.suspect(Condition::Checked(Arc::new(damage)));
                true
            }
            Err(error) => {
                tracing::warn!(
                    path = self.record.path,
                    error = chain(&error),
                    "a stored file could not be checked for damage"
                );
                false
            }
        }
    }

    /// A file that is not there, or in whose place something else is, counts as missing once it was looked for.
    fn note_absence(&self, error: &ParquetError) {
        if is_absent(error)
            && let Some(file) = self.itself.upgrade()
        {
            self.access.not_found.lock().insert(self.number, file);
        }
    }

    fn suspect(&self, found: Condition) {
        let mut condition = self.condition.lock();
        if matches!(*condition, Condition::Unsuspected) {
            *condition = found;
            self.access.suspected.lock().extend(self.itself.upgrade());
        }
    }

    /// What of it is known to be damaged beside the rows.
    pub(crate) fn damaged_parts(&self) -> Vec<Part> {
        self.damaged_parts.lock().clone()
    }

    /// Whether damage was found, or seemed to be: such a file is not merged, so that nothing of it is thrown away.
    pub(crate) fn is_suspected(&self) -> bool {
        !matches!(*self.condition.lock(), Condition::Unsuspected)
    }

    /// Of how many spans some column can't be read, as far as that is known.
    pub(crate) fn damaged_spans(&self) -> u64 {
        match &*self.condition.lock() {
            Condition::Checked(damage) => damage.rows(),
            Condition::Unsuspected | Condition::Unreadable => self.record.lost_spans,
        }
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
        self.note_absence(&source);
        ReadError { path: self.record.path.clone(), source }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    #[test]
    fn what_grows_after_it_was_kept_does_not_grow_the_cache() {
        const VALUE_BYTES: usize = 1000 - ENTRY_BYTES as usize;
        let cache: Kept<Mutex<usize>> = kept(100_000);
        for number in 0..10_000 {
            let make = || Ok::<_, Infallible>(Arc::new(Mutex::new(VALUE_BYTES)));
            let Ok(value) = keep(&cache, number, |bytes| *bytes.lock(), make);
            *value.lock() *= 5;
        }
        assert!(cache.len() <= 100, "{} values of 1000 bytes are kept", cache.len());
        assert!(cache.weight() <= 100_000);
        assert!(cache.len() > 50, "only {} are kept", cache.len());
    }
}
