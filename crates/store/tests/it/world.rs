//! A store in a temporary folder, with a clock that the test moves and a catalogue that can be made to fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use parquet::errors::ParquetError;
use tempfile::TempDir;
use tracehouse_catalogue::{
    Catalogue, CatalogueContents, CatalogueError, Changes, Commit, FileRecord, LegacyDescription, Revision,
    SqliteCatalogue,
};
use tracehouse_model::{Clock, ManualClock, Span, SpanBatch, SystemRandomness, TenantId};
use tracehouse_spanfile::Projection;
use tracehouse_store::{OpenError, Snapshot, SpanFile, Store, StoreConfig, StorePaths, open_folder};

use crate::spans::NOON;

/// The folders of a store. Dropping it deletes them.
pub(crate) struct World {
    folder: TempDir,
    pub(crate) clock: Arc<ManualClock>,
    opened: AtomicU64,
    catalogues: Mutex<Vec<Arc<SqliteCatalogue>>>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::in_folder(tempfile::tempdir().expect("a temporary folder"))
    }

    pub(crate) fn in_folder(folder: TempDir) -> Self {
        Self {
            folder,
            clock: Arc::new(ManualClock::at_unix_nanos(NOON)),
            opened: AtomicU64::new(0),
            catalogues: Mutex::default(),
        }
    }

    /// With a copy of a data directory that an older version left.
    pub(crate) fn with_data(data: &str) -> Self {
        let world = Self::new();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join(data);
        copy_folder(&from, world.path());
        world
    }

    /// With other random numbers than other worlds.
    pub(crate) fn of_seed(seed: u64) -> Self {
        let world = Self::new();
        world.opened.store(seed << 8, Ordering::SeqCst);
        world
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn store_dir(&self) -> PathBuf {
        self.path().join("store")
    }

    pub(crate) fn log_dir(&self) -> PathBuf {
        self.path().join("log")
    }

    pub(crate) fn paths(&self) -> StorePaths {
        StorePaths { store: self.store_dir(), log: self.log_dir(), catalogue: self.path().join("catalogue.sqlite") }
    }

    /// Runs statements past the catalogue, as a faulty disk or another program would; afterwards one file holds everything.
    pub(crate) async fn meddle(&self, statements: &[&str]) {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.paths().catalogue);
        let pool = sqlx::SqlitePool::connect_with(options).await.expect("connects");
        for statement in statements.iter().chain(&["PRAGMA wal_checkpoint(TRUNCATE)"]) {
            sqlx::query(sqlx::AssertSqlSafe(*statement)).execute(&pool).await.expect("the statement runs");
        }
        pool.close().await;
    }

    /// Afterwards one file holds everything.
    pub(crate) async fn close_catalogues(&self) {
        let opened = std::mem::take(&mut *self.catalogues.lock());
        for catalogue in opened {
            catalogue.close().await;
        }
    }

    /// Removes the catalogue, as a disk may lose it. Nobody has it open then: what SQLite writes at the end of a connection
    /// would come after what a test puts in its place.
    pub(crate) async fn lose_catalogue(&self) {
        self.close_catalogues().await;
        for name in ["catalogue.sqlite", "catalogue.sqlite-wal", "catalogue.sqlite-shm"] {
            let _ = fs::remove_file(self.path().join(name));
        }
    }

    /// Makes a new catalogue of the one that is there, with other files in it. No store may be open.
    pub(crate) async fn change_files(&self, change: impl FnOnce(Vec<FileRecord>) -> Vec<FileRecord>) {
        let CatalogueContents { files, log_positions, meta, .. } =
            self.catalogue().await.load().await.expect("it can be read");
        self.lose_catalogue().await;
        let (add, meta) = (change(files), meta.into_iter().collect());
        let commit = Commit { add, log_positions, meta, ..Commit::default() };
        self.catalogue().await.commit(commit).await.expect("it takes them");
        self.close_catalogues().await;
    }

    /// Nothing happens by itself: flushes and merges only when asked for.
    pub(crate) fn config(&self) -> StoreConfig {
        StoreConfig {
            log_dir: self.log_dir(),
            flush_interval: Duration::from_secs(1 << 30),
            compaction_interval: Duration::from_secs(1 << 30),
            retention: Duration::from_secs(1 << 33),
            disk_free_bytes_min: 0,
            ..StoreConfig::default()
        }
    }

    pub(crate) async fn catalogue(&self) -> Arc<SqliteCatalogue> {
        let opened = SqliteCatalogue::open(&self.path().join("catalogue.sqlite")).await;
        let catalogue = opened.expect("the catalogue opens");
        self.catalogues.lock().push(catalogue.clone());
        catalogue
    }

    pub(crate) async fn open(&self) -> Arc<Store> {
        self.open_with(self.config()).await
    }

    pub(crate) async fn open_with(&self, config: StoreConfig) -> Arc<Store> {
        let catalogue = self.catalogue().await;
        self.try_open(config, catalogue, self.clock.clone()).await.expect("the store opens")
    }

    pub(crate) async fn try_open(
        &self,
        config: StoreConfig,
        catalogue: Arc<dyn Catalogue>,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Store>, OpenError> {
        let root = self.store_dir();
        let objects = open_folder(&config.disk, &root, &*catalogue).await?;
        let seed = self.opened.fetch_add(1, Ordering::SeqCst) << 32;
        let randomness = Arc::new(SystemRandomness::from_seed(seed));
        Store::open(config, objects, Some(root), catalogue, clock, randomness).await
    }

    /// The folders as a power failure at this moment would leave them. To be called while nothing writes to the
    /// catalogue; the log and the files may change meanwhile.
    pub(crate) fn crash_image(&self) -> World {
        let image = World::new();
        // The log first: what a flush then takes out of it is in the catalogue and the files that are copied later.
        copy_folder(&self.log_dir(), &image.log_dir());
        for file in ["catalogue.sqlite", "catalogue.sqlite-wal"] {
            let from = self.path().join(file);
            if from.exists() {
                fs::copy(from, image.path().join(file)).expect("the catalogue can be copied");
            }
        }
        copy_folder(&self.store_dir(), &image.store_dir());
        image.clock.jump_wall_clock(self.clock.now_unix_nanos() - NOON);
        // Another file of this world must not get the name of one that the image has.
        image.opened.store(self.opened.load(Ordering::SeqCst) + 1, Ordering::SeqCst);
        image
    }

    /// Paths below the store's folder whose names end so, sorted.
    pub(crate) fn files_ending_with(&self, end: &str) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.store_dir()];
        while let Some(folder) = folders.pop() {
            let entries = match fs::read_dir(&folder) {
                // The last file in it was deleted meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && folder != self.store_dir() => continue,
                entries => entries.expect("a folder of the store"),
            };
            for entry in entries {
                let path = entry.expect("an entry of it").path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.to_string_lossy().ends_with(end) {
                    found.push(path);
                }
            }
        }
        found.sort();
        found
    }

    pub(crate) fn segments(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = fs::read_dir(self.log_dir())
            .expect("the folder of the log")
            .map(|entry| entry.expect("an entry of it").path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "wal"))
            .collect();
        found.sort();
        found
    }
}

/// A world whose store has lived for so long until noon: in a new one nothing is old yet.
pub(crate) async fn world_that_lived(config: impl Fn(&World) -> StoreConfig, age: Duration) -> World {
    let world = World::new();
    world.clock.jump_wall_clock(-(age.as_nanos() as i64));
    let store = world.open_with(config(&world)).await;
    world.clock.advance(age);
    store.shutdown().await.expect("the store stops");
    world
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder can be made");
    let Ok(entries) = fs::read_dir(from) else { return };
    for entry in entries {
        let path = entry.expect("an entry").path();
        let target = to.join(path.file_name().expect("entries have names"));
        if path.is_dir() {
            copy_folder(&path, &target);
        } else if let Err(error) = fs::copy(&path, &target) {
            // Files come and go while they are copied, and get their names.
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "copying {path:?}");
            let _ = fs::remove_file(&target);
            if path.extension().is_some_and(|extension| extension == "new") {
                let _ = fs::copy(path.with_extension(""), target.with_extension(""));
            }
        }
    }
}

pub(crate) fn tenant(number: usize) -> TenantId {
    TenantId::new(["default", "team-a", "Team_B"][number]).expect("a valid name")
}

pub(crate) async fn append(store: &Store, spans: SpanBatch) {
    store.append(TenantId::default(), spans).await.expect("the store takes it");
}

pub(crate) fn hot_spans(snapshot: &Snapshot) -> Vec<Span> {
    snapshot.hot.iter().flat_map(|batch| spans_of(&batch.spans)).collect()
}

pub(crate) fn spans_of(batch: &SpanBatch) -> Vec<Span> {
    (0..batch.len()).map(|row| batch.span(row)).collect()
}

/// Waits until a background thread has done what the test expects. The threads look what there is to do, though no time passes.
pub(crate) async fn until(world: &World, what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if holds() {
            return;
        }
        world.clock.wake();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("in half a minute not: {what}");
}

/// The same, while the world's time goes on: what is done later waits for it.
pub(crate) async fn until_in_time(world: &World, what: &str, mut holds: impl FnMut() -> bool) {
    until(world, what, || {
        world.clock.advance(Duration::from_secs(20));
        holds()
    })
    .await;
}

/// Waits until so many files are left of those that count and those that no longer do. A file leaves the answers before it
/// is hidden, so that none is hidden yet says nothing.
pub(crate) async fn until_deleted(world: &World, left: usize) {
    until_in_time(world, "the files are deleted", || {
        // In this order a file that is hidden meanwhile is counted twice, and never overlooked.
        let live = world.files_ending_with(".parquet").len();
        live + world.files_ending_with(".retired").len() == left
    })
    .await;
}

/// Waits until the log has let go of all that is in files: its own thread begins the next segment, then removes the old ones.
pub(crate) async fn until_log_is_trimmed(world: &World) {
    until(world, "only the segment that is being written is left", || world.segments().len() == 1).await;
}

/// All spans of a file, in its order.
pub(crate) fn file_spans(file: &Arc<SpanFile>) -> Vec<Span> {
    let open = file.open().expect("the file opens");
    let mut spans = Vec::new();
    for row_group in 0..open.row_groups() {
        let rows = open.read_rows(row_group, 0..open.rows_of(row_group), Projection::All).expect("rows can be read");
        spans.extend(spans_of(&rows));
    }
    spans
}

/// The spans of a file of which some can't be read: after the first failure it is checked for damage, and what is left is read.
pub(crate) fn readable_spans(file: &Arc<SpanFile>) -> Vec<Span> {
    let read = || -> Result<Vec<Span>, ParquetError> {
        let open = file.open().map_err(|error| error.source)?;
        let mut spans = Vec::new();
        for row_group in 0..open.row_groups() {
            let rows = open.read_rows(row_group, 0..open.rows_of(row_group), Projection::All)?;
            let readable = open.readable(row_group);
            let is_readable = |row: &usize| readable.is_none_or(|readable| readable.value(*row));
            spans.extend((0..rows.len()).filter(is_readable).map(|row| rows.span(row)));
        }
        Ok(spans)
    };
    read().or_else(|error| if file.check(&error) { read() } else { Err(error) }).unwrap_or_default()
}

/// All spans of a snapshot, wherever they are.
pub(crate) fn all_spans(snapshot: &Snapshot) -> Vec<Span> {
    let mut spans = hot_spans(snapshot);
    spans.extend(snapshot.files.iter().flat_map(file_spans));
    spans
}

/// A catalogue that can be made to fail, and that calls the test around every commit.
pub(crate) struct WatchedCatalogue {
    inner: Arc<SqliteCatalogue>,
    fault: Mutex<Fault>,
    watcher: Mutex<Option<Watcher>>,
    /// Who holds this for writing sees a catalogue that does not change.
    pub(crate) still: tokio::sync::RwLock<()>,
}

type Watcher = Box<dyn FnMut(Moment, &Commit) + Send>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    BeforeCommit,
    AfterCommit,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Commits change nothing and report an error.
    BeforeCommit,
    /// Commits are done but report an error, as when a connection breaks before the answer.
    AfterCommit,
    /// The same, and nothing can be read either, so that nobody can tell.
    AfterCommitUnheard,
}

impl WatchedCatalogue {
    pub(crate) fn new(inner: Arc<SqliteCatalogue>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            fault: Mutex::new(Fault::None),
            watcher: Mutex::default(),
            still: tokio::sync::RwLock::default(),
        })
    }

    pub(crate) fn fail(&self, fault: Fault) {
        *self.fault.lock() = fault;
    }

    pub(crate) fn watch(&self, watcher: impl FnMut(Moment, &Commit) + Send + 'static) {
        *self.watcher.lock() = Some(Box::new(watcher));
    }

    fn tell(&self, moment: Moment, commit: &Commit) {
        if let Some(watcher) = &mut *self.watcher.lock() {
            watcher(moment, commit);
        }
    }
}

fn broken() -> CatalogueError {
    CatalogueError::NotLive("made to fail by the test".into())
}

#[async_trait]
impl Catalogue for WatchedCatalogue {
    async fn load(&self) -> Result<CatalogueContents, CatalogueError> {
        if *self.fault.lock() == Fault::AfterCommitUnheard {
            return Err(broken());
        }
        self.inner.load().await
    }

    async fn commit(&self, commit: Commit) -> Result<(), CatalogueError> {
        let _still = self.still.read().await;
        let fault = *self.fault.lock();
        self.tell(Moment::BeforeCommit, &commit);
        if fault == Fault::BeforeCommit {
            return Err(broken());
        }
        self.inner.commit(commit.clone()).await?;
        self.tell(Moment::AfterCommit, &commit);
        if fault == Fault::None { Ok(()) } else { Err(broken()) }
    }

    async fn forget(&self, file_ids: &[String]) -> Result<(), CatalogueError> {
        let _still = self.still.read().await;
        self.inner.forget(file_ids).await
    }

    async fn changes_since(&self, revision: Revision) -> Result<Changes, CatalogueError> {
        self.inner.changes_since(revision).await
    }

    async fn legacy_description(&self, file_id: &str) -> Result<Option<LegacyDescription>, CatalogueError> {
        self.inner.legacy_description(file_id).await
    }
}
