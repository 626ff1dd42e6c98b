use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqliteLockingMode, SqlitePool, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{Connection, Row, Sqlite, Transaction};

use crate::complete::{change, each_row};
use crate::regular::{JOURNAL_ENDING, WAL_ENDING, beside, refuse_what_is_no_file};
use crate::rows::{
    FILE_COLUMNS, META_COLUMNS, POSITION_COLUMNS, file_checksum, file_from_row, position_checksum, position_from_row,
    unchecked_file_from_row,
};
use crate::schema::{self, Version};
use crate::standing::Standing;
use crate::{
    Catalogue, CatalogueContents, CatalogueError, Changes, Commit, FileRecord, KnownPositions, LegacyDescription,
    LogPosition, NoteKind, Retirement, RetirementReason, Revision, header, names, revisions,
};

impl CatalogueError {
    /// Whether SQLite could not make its files where the catalogue lies.
    fn is_of_the_place(&self) -> bool {
        let (Self::Open { source, .. } | Self::ReadOnly(source) | Self::Query(source)) = self else { return false };
        primary_code(source).is_some_and(|code| [CODE_READ_ONLY, CODE_CAN_NOT_OPEN].contains(&code))
    }
}

/// The catalogue in one SQLite file.
pub struct SqliteCatalogue {
    shown_path: String,
    /// One connection: SQLite has one writer anyway.
    writer: SqlitePool,
    /// Reads do not wait for a writer that waits for the disk.
    readers: SqlitePool,
    /// Whether it was too large to be looked through when it was opened.
    is_unchecked: AtomicBool,
    /// The file that it writes to. `None`: it only reads.
    standing: Option<Standing>,
}

/// One of the ways to files that SQLite brings along: <https://www.sqlite.org/vfs.html>.
const VFS_WITHOUT_LOCKS: &str = "unix-none";
/// What SQLite says if the disk is full.
pub(crate) const CODE_FULL: i64 = 13;
/// What SQLite says if it may only read.
pub(crate) const CODE_READ_ONLY: i64 = 8;
/// What SQLite says if it can't open or make one of its files.
const CODE_CAN_NOT_OPEN: i64 = 14;
/// What SQLite says of a file that it can't make sense of: SQLITE_CORRUPT and SQLITE_NOTADB.
const DAMAGE_CODES: [i64; 2] = [11, 26];
/// What SQLite says if the machine or another process is at fault, and not the file: SQLITE_PERM, BUSY, LOCKED, NOMEM, READONLY,
/// INTERRUPT, IOERR, FULL, CANTOPEN, PROTOCOL, NOLFS, AUTH.
const OUTER_CODES: [i64; 12] = [3, 5, 6, 7, CODE_READ_ONLY, 9, 10, CODE_FULL, CODE_CAN_NOT_OPEN, 15, 22, 23];

impl SqliteCatalogue {
    const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
    const READERS_MAX: u32 = 2;
    /// Rows that SQLite's thread may be ahead of ours: with few the two wait for each other all the time, which on a busy
    /// machine makes reading 20,000 rows take 400 ms instead of 60.
    const ROW_BUFFER: usize = 8192;
    /// So long the connections may take to close.
    const CLOSE_WAIT_MAX: Duration = Duration::from_secs(15);
    /// A larger file is not looked through at each start: that would take longer than people want to wait.
    const CHECKED_BYTES_MAX: u64 = 64 * 1024 * 1024;

    /// Opens or creates the file, looks whether SQLite finds it sound, and brings its schema up to date.
    pub async fn open(path: &Path) -> Result<Arc<Self>, CatalogueError> {
        let looked_at = Self::look(path).await?;
        let catalogue = Self::connect(path, Access::Write).await?;
        match catalogue.bring_up_to_date(path, looked_at).await {
            Ok(()) => Ok(Arc::new(catalogue)),
            Err(error) => {
                catalogue.close().await;
                Err(error)
            }
        }
    }

    async fn bring_up_to_date(&self, path: &Path, looked_at: Option<Version>) -> Result<(), CatalogueError> {
        let version = match looked_at {
            Some(version) => version,
            None => self.sound_version(path).await?,
        };
        self.is_unchecked.store(is_too_large(path), Ordering::Relaxed);
        if version != Version::Current {
            schema::migrate(&self.writer).await.map_err(|error| self.first_error(error))?;
        }
        self.complete_checksums().await.map_err(|error| self.first_error(error))?;
        self.begin_history().await.map_err(|error| self.first_error(error))
    }

    /// Opens a file that is there, to read it only. It must have this version's schema, and nobody may write to it meanwhile. It
    /// may lie where nothing can be written.
    pub async fn open_read_only(path: &Path) -> Result<Arc<Self>, CatalogueError> {
        if ![WAL_ENDING, JOURNAL_ENDING].iter().any(|ending| beside(path, ending).exists()) {
            return Self::open_to_read(path, Access::Unchanged).await;
        }
        match Self::open_to_read(path, Access::Read).await {
            Err(error) if error.is_of_the_place() => Self::open_to_read(path, Access::Alone).await,
            outcome => outcome,
        }
    }

    async fn open_to_read(path: &Path, access: Access) -> Result<Arc<Self>, CatalogueError> {
        let catalogue = Self::connect(path, access).await?;
        match catalogue.sound_version(path).await {
            Ok(Version::Current) => Ok(Arc::new(catalogue)),
            outcome => {
                catalogue.close().await;
                let path = path.to_owned();
                Err(match outcome {
                    Err(error) => error,
                    Ok(Version::New) => CatalogueError::Empty { path },
                    Ok(_) => CatalogueError::Outdated { path },
                })
            }
        }
    }

    /// What the catalogue is, found out without a connection that may write: when one ends, which may be after its refusal,
    /// SQLite removes files beside the catalogue by their names, and by then those may be a new catalogue's. `None`: it
    /// can't be told so; there is none yet, or something must be written first.
    async fn look(path: &Path) -> Result<Option<Version>, CatalogueError> {
        let looked = match Self::connect(path, Access::Read).await {
            Ok(catalogue) => {
                let version = catalogue.sound_version(path).await;
                catalogue.close().await;
                version
            }
            Err(error) => Err(error),
        };
        match looked {
            Ok(version) => Ok(Some(version)),
            Err(
                error @ (CatalogueError::Damaged { .. } | CatalogueError::NoFile { .. } | CatalogueError::Newer { .. }),
            ) => Err(error),
            Err(_) => Ok(None),
        }
    }

    /// What the catalogue is, if it is one that this version can use.
    async fn sound_version(&self, path: &Path) -> Result<Version, CatalogueError> {
        // Before any statement that names a table.
        let version = schema::version(&self.writer).await.map_err(|error| self.first_error(error))?;
        match version {
            Version::Damaged(finding) => Err(self.damaged(finding)),
            Version::Newer(version) => Err(CatalogueError::Newer { path: path.to_owned(), version }),
            version => self.quick_check(path).await.map(|()| version),
        }
    }

    async fn connect(path: &Path, access: Access) -> Result<Self, CatalogueError> {
        refuse_what_is_no_file(path)?;
        let shown_path = path.display().to_string();
        let unreadable = |source| CatalogueError::Open { path: shown_path.clone(), source: sqlx::Error::Io(source) };
        if let Some(finding) = header::fault(path).map_err(unreadable)? {
            return Err(CatalogueError::Damaged { path: shown_path, finding });
        }
        let options = SqliteConnectOptions::new().filename(path).busy_timeout(Self::BUSY_TIMEOUT);
        let options = match access {
            Access::Write | Access::Read => options,
            Access::Unchanged => options.immutable(true),
            Access::Alone => options.vfs(VFS_WITHOUT_LOCKS).locking_mode(SqliteLockingMode::Exclusive),
        };
        let writing = match access {
            Access::Read | Access::Unchanged | Access::Alone => options.clone().read_only(true),
            Access::Write => options
                .clone()
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                // The log is cut off once a commit returns, so a commit must survive a power failure.
                .synchronous(SqliteSynchronous::Full),
        };
        let opened = pool(1).connect_with(writing).await;
        let writer = opened.map_err(|source| match finding_at_first(&source) {
            Some(finding) => CatalogueError::Damaged { path: shown_path.clone(), finding },
            None => match CatalogueError::from(source) {
                CatalogueError::Query(source) => CatalogueError::Open { path: shown_path.clone(), source },
                said => said,
            },
        })?;
        let reading = options.create_if_missing(false).read_only(true).row_buffer_size(Self::ROW_BUFFER);
        let readers = pool(Self::READERS_MAX).connect_lazy_with(reading);
        let standing = (access == Access::Write).then(|| Standing::of(path)).transpose().map_err(unreadable)?;
        Ok(Self { shown_path, writer, readers, is_unchecked: AtomicBool::new(false), standing })
    }

    /// A failed read or change, or one that shows that the file is damaged.
    fn error(&self, source: sqlx::Error) -> CatalogueError {
        match finding_of_damage(&source) {
            Some(finding) => self.damaged(finding),
            None => source.into(),
        }
    }

    /// The same for what reads everything that is there. It fails only if the machine is at fault, or the file is damaged.
    fn first_error(&self, source: sqlx::Error) -> CatalogueError {
        match finding_at_first(&source) {
            Some(finding) => self.damaged(finding),
            None => source.into(),
        }
    }

    fn damaged(&self, finding: String) -> CatalogueError {
        CatalogueError::Damaged { path: self.shown_path.clone(), finding: finding.replace('\n', " ") }
    }

    async fn quick_check(&self, path: &Path) -> Result<(), CatalogueError> {
        if is_too_large(path) { Ok(()) } else { self.check("PRAGMA quick_check(1)").await }
    }

    /// What nobody looked at when the catalogue was opened, as it is large, and what to do about it.
    pub fn unchecked(&self) -> Option<String> {
        let limit = Self::CHECKED_BYTES_MAX / (1024 * 1024);
        self.is_unchecked.load(Ordering::Relaxed).then(|| {
            format!(
                "the catalogue {} is larger than {limit} MiB, so this start did not look through all of it: each row is checked \
                 when it is read, and its indexes when they are used; `tracehouse store check` looks through everything",
                self.shown_path
            )
        })
    }

    /// Looks whether SQLite finds the whole file sound, its indexes too. Takes time in proportion to its size.
    pub async fn full_check(&self) -> Result<(), CatalogueError> {
        self.check("PRAGMA integrity_check(1)").await
    }

    async fn check(&self, pragma: &'static str) -> Result<(), CatalogueError> {
        let asked = async {
            let mut finding = None;
            let take = |row: &SqliteRow| finding = row.try_get::<String, _>(0).ok();
            each_row(&mut *self.writer.acquire().await?, sqlx::query(pragma), take).await?;
            Ok(finding)
        };
        match asked.await.map_err(|error| self.first_error(error))? {
            Some(finding) if finding == "ok" => Ok(()),
            finding => Err(self.damaged(finding.unwrap_or_else(|| "SQLite finds it malformed".into()))),
        }
    }

    /// Builds the indexes anew from the rows.
    pub async fn reindex(&self) -> Result<(), CatalogueError> {
        let asked = async { change(&mut *self.writer.acquire().await?, sqlx::query("REINDEX")).await };
        asked.await.map(|_| ()).map_err(|error| self.error(error))
    }

    /// Adds a position without a checksum: it stands for those that could not be saved of a damaged catalogue.
    pub(crate) async fn put_lost_position(&self) -> Result<(), CatalogueError> {
        let put = "INSERT OR IGNORE INTO log_positions (log, tenant, position) VALUES ('lost', '', 0)";
        let asked = async { change(&mut *self.writer.acquire().await?, sqlx::query(put)).await };
        asked.await.map(|_| ()).map_err(|error| self.error(error))
    }

    /// Closes the connections: afterwards the file holds everything. A connection whose thread has ended is not waited for.
    pub async fn close(&self) {
        let closed = async {
            self.readers.close().await;
            self.writer.close().await;
        };
        // Nothing that was committed is lost if it takes longer: the next start reads it from the file beside the catalogue.
        let _ = tokio::time::timeout(Self::CLOSE_WAIT_MAX, closed).await;
    }

    /// Gives the rows that a migration copied their checksums, once: SQL can't work them out. Later a row without one is
    /// damaged, be it that nothing says any more that this was done.
    async fn complete_checksums(&self) -> Result<(), sqlx::Error> {
        let mut is_done = false;
        for done in [
            "SELECT 1 FROM meta NOT INDEXED LIMIT 1",
            "SELECT 1 FROM files NOT INDEXED WHERE checksum IS NOT NULL LIMIT 1",
            "SELECT 1 FROM log_positions NOT INDEXED WHERE checksum IS NOT NULL LIMIT 1",
        ] {
            each_row(&mut *self.writer.acquire().await?, sqlx::query(done), |_| is_done = true).await?;
        }
        if is_done {
            return Ok(());
        }
        let mut transaction = self.begin_to_write().await?;
        let unchecked = format!("SELECT {FILE_COLUMNS} FROM files WHERE checksum IS NULL");
        let mut checksums = Vec::new();
        each_row(&mut transaction, sqlx::query(sqlx::AssertSqlSafe(unchecked)), |row| {
            // One that has no meaning stays without, and is reported when it is loaded.
            let file = unchecked_file_from_row(row).ok();
            checksums.extend(file.and_then(|file| Some((row.try_get::<i64, _>(0).ok()?, file_checksum(&file, 0)))));
        })
        .await?;
        for (row, checksum) in checksums {
            let update = sqlx::query("UPDATE files SET checksum = $1 WHERE rowid = $2").bind(checksum).bind(row);
            change(&mut transaction, update).await?;
        }
        let mut positions = Vec::new();
        each_row(&mut transaction, sqlx::query("SELECT log, tenant, position FROM log_positions"), |row| {
            positions.extend((|| Some((row.try_get(0).ok()?, row.try_get(1).ok()?, row.try_get(2).ok()?)))());
        })
        .await?;
        for (log, tenant, position) in positions {
            let (log, tenant): (String, String) = (log, tenant);
            put_position(&mut transaction, &log, &tenant, position).await?;
        }
        names::put(&mut transaction, names::NAMES, names::WITHOUT_NAMES).await?;
        transaction.commit().await
    }

    /// A transaction that writes from its beginning on: one that reads first can't wait for another writer, as SQLite refuses it.
    async fn begin_to_write(&self) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
        // Never within another: sqlx refuses a statement of ours there.
        self.writer.begin_with("BEGIN IMMEDIATE").await
    }

    /// Nothing that was known of the file before holds for certain: it may be an older copy.
    async fn begin_history(&self) -> Result<(), sqlx::Error> {
        let mut transaction = self.begin_to_write().await?;
        revisions::begin(&mut transaction).await?;
        transaction.commit().await
    }

    async fn commit_in(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        commit: &Commit,
    ) -> Result<(), CatalogueError> {
        if commit.is_empty() {
            return Ok(());
        }
        // Which file a damaged row was that of, nobody can tell for certain.
        let revision = match commit.drop_damaged.is_empty() {
            true => revisions::raise(transaction).await?,
            false => revisions::begin(transaction).await?,
        };
        for row in &commit.drop_damaged {
            change(transaction, sqlx::query("DELETE FROM files WHERE rowid = $1").bind(row)).await?;
        }
        for (kind, row) in &commit.drop_notes {
            let statement = match kind {
                NoteKind::Meta => "DELETE FROM meta WHERE rowid = $1",
                NoteKind::LogPosition => "DELETE FROM log_positions WHERE rowid = $1",
            };
            change(transaction, sqlx::query(statement).bind(row)).await?;
        }
        for file in &commit.add {
            insert_file(transaction, file, revision).await?;
        }
        for (id, reason) in &commit.retire {
            let mut file = live_file(transaction, id).await?;
            file.retired = Some(Retirement { at: commit.retired_at, reason: *reason });
            update_file(transaction, &file, revision).await?;
        }
        for file in &commit.restore {
            let known = file_by_id(transaction, &file.id).await?;
            let is_aside = |file: &FileRecord| {
                file.retired.as_ref().is_some_and(|retirement| retirement.reason == RetirementReason::Damaged)
            };
            known.filter(is_aside).ok_or_else(|| CatalogueError::NotSetAside(file.id.clone()))?;
            change(transaction, sqlx::query("DELETE FROM files WHERE id = $1").bind(&file.id)).await?;
            insert_file(transaction, file, revision).await?;
        }
        for (id, lost_spans) in &commit.lost_spans {
            let mut file = live_file(transaction, id).await?;
            file.lost_spans = *lost_spans;
            update_file(transaction, &file, revision).await?;
        }
        move_positions(transaction, &commit.log_positions, &commit.based_on).await?;
        for (name, value) in &commit.meta {
            names::put(transaction, name, value).await?;
        }
        if !commit.meta.is_empty() {
            names::add(transaction, commit.meta.iter().map(|(name, _)| name.as_str())).await?;
        }
        Ok(())
    }
}

impl SqliteCatalogue {
    /// A transaction that may write, of files that still stand where the next start looks for them.
    async fn begin_in_place(&self) -> Result<Transaction<'_, Sqlite>, CatalogueError> {
        // Before as well, as a connection that has to be made anew would make a new file.
        self.refuse_if_moved()?;
        let transaction = self.begin_to_write().await.map_err(|error| self.error(error))?;
        self.refuse_if_moved()?;
        match self.standing.as_ref().is_none_or(Standing::has_its_log) {
            true => Ok(transaction),
            false => Err(self.moved()),
        }
    }

    fn refuse_if_moved(&self) -> Result<(), CatalogueError> {
        if self.standing.as_ref().is_none_or(Standing::is_in_place) { Ok(()) } else { Err(self.moved()) }
    }

    fn moved(&self) -> CatalogueError {
        CatalogueError::Moved { path: self.shown_path.clone() }
    }

    async fn read_all(&self) -> Result<CatalogueContents, sqlx::Error> {
        let mut contents = CatalogueContents::default();
        // One transaction, so that the parts fit together.
        let mut transaction = self.readers.begin().await?;
        contents.revision = revisions::current(&mut transaction).await?;
        let files = sqlx::AssertSqlSafe(format!("SELECT {FILE_COLUMNS} FROM files"));
        each_row(&mut transaction, sqlx::query(files), |row| match file_from_row(row) {
            Ok(file) => contents.files.push(file),
            Err(damaged) => contents.damaged_rows.push(damaged),
        })
        .await?;
        contents.files.sort_unstable_by(|left, right| left.id.cmp(&right.id));
        // Past the indexes, which may be damaged as well.
        let positions = format!("SELECT {POSITION_COLUMNS} FROM log_positions NOT INDEXED ORDER BY log, tenant");
        each_row(&mut transaction, sqlx::query(sqlx::AssertSqlSafe(positions)), |row| match position_from_row(row) {
            Ok(position) => contents.log_positions.push(position),
            Err(damaged) => contents.damaged_notes.push(damaged),
        })
        .await?;
        let meta = sqlx::AssertSqlSafe(format!("SELECT {META_COLUMNS} FROM meta NOT INDEXED"));
        each_row(&mut transaction, sqlx::query(meta), |row| names::take(&mut contents, row)).await?;
        names::complete(&mut contents);
        Ok(contents)
    }

    /// As much as is needed to tell what is remembered under a name, or that it is lost.
    async fn read_note(&self, name: &str) -> Result<CatalogueContents, sqlx::Error> {
        let mut contents = CatalogueContents::default();
        let select = format!("SELECT {META_COLUMNS} FROM meta NOT INDEXED WHERE name IN ($1, $2)");
        let select = sqlx::query(sqlx::AssertSqlSafe(select)).bind(name.to_owned()).bind(names::NAMES);
        each_row(&mut *self.readers.acquire().await?, select, |row| names::take(&mut contents, row)).await?;
        names::complete(&mut contents);
        Ok(contents)
    }

    async fn read_changes(&self, revision: Revision) -> Result<Changes, sqlx::Error> {
        // One transaction, so that the parts fit together.
        revisions::changes_since(&mut *self.readers.begin().await?, revision).await
    }

    async fn read_description(&self, file_id: &str) -> Result<Option<LegacyDescription>, sqlx::Error> {
        let query = sqlx::query("SELECT trace_filter, contents FROM described_files WHERE id = $1").bind(file_id);
        let mut described = None;
        let describe =
            |row: &SqliteRow| Ok(LegacyDescription { trace_filter: row.try_get(0)?, contents: row.try_get(1)? });
        each_row(&mut *self.readers.acquire().await?, query, |row| described = Some(describe(row))).await?;
        described.transpose()
    }

    async fn forget_files(mut transaction: Transaction<'_, Sqlite>, file_ids: &[String]) -> Result<(), sqlx::Error> {
        let mut removed: Vec<&str> = Vec::new();
        for id in file_ids {
            let retired = sqlx::query("DELETE FROM files WHERE id = $1 AND retired_at IS NOT NULL").bind(id);
            if change(&mut transaction, retired).await?.rows_affected() > 0 {
                let description = sqlx::query("DELETE FROM described_files WHERE id = $1").bind(id);
                change(&mut transaction, description).await?;
                removed.push(id);
            }
        }
        if !removed.is_empty() {
            let revision = revisions::raise(&mut transaction).await?;
            revisions::remember_removed(&mut transaction, &removed, revision).await?;
        }
        transaction.commit().await
    }
}

#[async_trait]
impl Catalogue for SqliteCatalogue {
    async fn load(&self) -> Result<CatalogueContents, CatalogueError> {
        self.read_all().await.map_err(|error| self.first_error(error))
    }

    async fn commit(&self, commit: Commit) -> Result<(), CatalogueError> {
        let mut transaction = self.begin_in_place().await?;
        match self.commit_in(&mut transaction, &commit).await {
            Ok(()) => transaction.commit().await.map_err(|error| self.error(error)),
            Err(CatalogueError::Query(source)) => Err(self.error(source)),
            Err(error) => Err(error),
        }
    }

    async fn forget(&self, file_ids: &[String]) -> Result<(), CatalogueError> {
        let transaction = self.begin_in_place().await?;
        Self::forget_files(transaction, file_ids).await.map_err(|error| self.error(error))
    }

    async fn remembered(&self, name: &str) -> Result<Option<String>, CatalogueError> {
        self.read_note(name).await.map_err(|error| self.error(error))?.remembered(name)
    }

    async fn changes_since(&self, revision: Revision) -> Result<Changes, CatalogueError> {
        self.read_changes(revision).await.map_err(|error| self.error(error))
    }

    async fn legacy_description(&self, file_id: &str) -> Result<Option<LegacyDescription>, CatalogueError> {
        self.read_description(file_id).await.map_err(|error| self.error(error))
    }
}

/// What a connection may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Write,
    /// Read beside others that may write. For these SQLite keeps an index of its write-ahead log in a file beside the
    /// catalogue, which it makes if it is not there.
    Read,
    /// Read a file that holds everything and that nobody changes.
    Unchanged,
    /// Read a file and the write-ahead log beside it where nothing can be written. SQLite has the index of the log in memory only
    /// for who is alone, so it is told so; and the lock that would prove it needs a file that may be written, so there is none.
    Alone,
}

/// Whether a start leaves out the look through the whole file.
fn is_too_large(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.len() > SqliteCatalogue::CHECKED_BYTES_MAX)
}

/// Connections that stay. The task by which sqlx closes old ones looks at a count of idle connections that two threads may let
/// wrap around; it then goes round without an end and keeps a processor busy.
///
/// Those apart that sqlx takes for being in a transaction when they are given back: SQLite has ended that by itself, as it does when a
/// commit finds no room. sqlx then begins the next one as a savepoint within it; should that be given up, it stays open, and later
/// commits stand in it, seen by this connection alone and gone when the process is killed.
fn pool(connections_max: u32) -> SqlitePoolOptions {
    let options = SqlitePoolOptions::new().max_connections(connections_max).idle_timeout(None).max_lifetime(None);
    options.after_release(|connection, _| {
        Box::pin(async move {
            // What was given up is rolled back behind this.
            connection.ping().await?;
            Ok(!connection.is_in_transaction())
        })
    })
}

/// What SQLite says if an error means that the file is damaged.
fn finding_of_damage(error: &sqlx::Error) -> Option<String> {
    let is_damage = DAMAGE_CODES.contains(&primary_code(error)?);
    is_damage.then(|| error.as_database_error().map_or_else(String::new, |error| error.message().to_owned()))
}

/// The same while everything is read for the first time. Our statements are right, so a name that SQLite does not know, a
/// value that can't be read, or a thread that ended over one, comes from the file.
fn finding_at_first(error: &sqlx::Error) -> Option<String> {
    let is_outer = match error {
        sqlx::Error::Database(_) => primary_code(error).is_none_or(|code| OUTER_CODES.contains(&code)),
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::Configuration(_) => {
            true
        }
        _ => false,
    };
    let said = || error.as_database_error().map_or_else(|| error.to_string(), |error| error.message().to_owned());
    (!is_outer).then(said)
}

/// What kind of error SQLite gave; `None` if it is not SQLite's.
pub(crate) fn primary_code(error: &sqlx::Error) -> Option<i64> {
    let code: i64 = error.as_database_error()?.code()?.parse().ok()?;
    // Extended codes have the plain one in their lowest byte.
    Some(code & 0xff)
}

async fn insert_file(
    transaction: &mut Transaction<'_, Sqlite>,
    file: &FileRecord,
    revision: i64,
) -> Result<(), CatalogueError> {
    let tenant = sqlx::query("INSERT INTO tenants (name, created_at) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING");
    change(transaction, tenant.bind(file.tenant.as_str()).bind(file.created_at)).await?;
    let insert = sqlx::query(
        "INSERT INTO files (id, tenant, path, level, tier, spans, bytes, start_min, start_max, created_at, minutes, \
         row_groups, tail_bytes, lost_spans, retired_at, retired_reason, checksum, end_max, revision, \
         table_name, object_store, left_out_spans) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)",
    )
    .bind(&file.id)
    .bind(file.tenant.as_str())
    .bind(&file.path)
    .bind(i64::from(file.level))
    .bind(file.tier.as_str())
    .bind(file.spans as i64)
    .bind(file.bytes as i64)
    .bind(file.start_min)
    .bind(file.start_max)
    .bind(file.created_at)
    .bind(file.minutes as i64)
    .bind(i64::from(file.row_groups))
    .bind(i64::from(file.tail_bytes))
    .bind(file.lost_spans as i64)
    .bind(file.retired.as_ref().map(|retirement| retirement.at))
    .bind(file.retired.as_ref().map(|retirement| retirement.reason.as_str()))
    .bind(file_checksum(file, revision))
    .bind(file.end_max)
    .bind(revision)
    .bind(file.table.as_str())
    .bind(&file.object_store)
    .bind(file.left_out_spans as i64);
    change(transaction, insert).await?;
    Ok(())
}

async fn file_by_id(transaction: &mut Transaction<'_, Sqlite>, id: &str) -> Result<Option<FileRecord>, CatalogueError> {
    let damaged = |reason: String| CatalogueError::DamagedRow { id: id.to_owned(), reason };
    let mut checked = None;
    let query = sqlx::AssertSqlSafe(format!("SELECT {FILE_COLUMNS} FROM files WHERE id = $1"));
    each_row(transaction, sqlx::query(query).bind(id), |row| checked = Some(file_from_row(row))).await?;
    if checked.is_none() {
        let mut is_there = false;
        let past_indexes = sqlx::query("SELECT 1 FROM files NOT INDEXED WHERE id = $1").bind(id);
        each_row(transaction, past_indexes, |_| is_there = true).await?;
        if is_there {
            return Err(damaged("no index leads to it".into()));
        }
    }
    checked.transpose().map_err(|row| damaged(row.reason))
}

async fn live_file(transaction: &mut Transaction<'_, Sqlite>, id: &str) -> Result<FileRecord, CatalogueError> {
    let file = file_by_id(transaction, id).await?.filter(|file| file.retired.is_none());
    file.ok_or_else(|| CatalogueError::NotLive(id.to_owned()))
}

/// Writes what may change of a file.
async fn update_file(
    transaction: &mut Transaction<'_, Sqlite>,
    file: &FileRecord,
    revision: i64,
) -> Result<(), CatalogueError> {
    let update = sqlx::query(
        "UPDATE files SET lost_spans = $1, retired_at = $2, retired_reason = $3, checksum = $4, revision = $5 WHERE id = $6",
    )
    .bind(file.lost_spans as i64)
    .bind(file.retired.as_ref().map(|retirement| retirement.at))
    .bind(file.retired.as_ref().map(|retirement| retirement.reason.as_str()))
    .bind(file_checksum(file, revision))
    .bind(revision)
    .bind(&file.id);
    change(transaction, update).await?;
    Ok(())
}

/// Moves positions for a writer that knows where they are.
async fn move_positions(
    transaction: &mut Transaction<'_, Sqlite>,
    moves: &[LogPosition],
    based_on: &[LogPosition],
) -> Result<(), CatalogueError> {
    let (mut known, mut are_all_sound) = (Vec::new(), true);
    for to in moves {
        let tenant = to.tenant.as_ref().map(|tenant| tenant.as_str());
        let query = sqlx::query(
            "SELECT rowid, log, tenant, position, checksum FROM log_positions \
             WHERE log = $1 AND ($2 IS NULL OR tenant = $2 OR tenant = '')",
        );
        let take = |row: &SqliteRow| match position_from_row(row) {
            Ok(position) => known.push(position),
            Err(_) => are_all_sound = false,
        };
        each_row(transaction, query.bind(&to.log).bind(tenant), take).await?;
    }
    // Where a disk changed one, the writer is the only one who knows.
    let mut known = KnownPositions::of(if are_all_sound { &known } else { based_on });
    known.compare_and_move(based_on, moves)?;
    for to in moves {
        let tenant = to.tenant.as_ref().map_or("", |tenant| tenant.as_str());
        put_position(transaction, &to.log, tenant, to.position as i64).await?;
        if to.tenant.is_none() {
            let delete = sqlx::query("DELETE FROM log_positions WHERE log = $1 AND tenant <> '' AND position <= $2");
            change(transaction, delete.bind(&to.log).bind(to.position as i64)).await?;
        }
    }
    Ok(())
}

async fn put_position(
    transaction: &mut Transaction<'_, Sqlite>,
    log: &str,
    tenant: &str,
    position: i64,
) -> Result<(), sqlx::Error> {
    let put = sqlx::query(
        "INSERT INTO log_positions (log, tenant, position, checksum) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (log, tenant) DO UPDATE SET position = excluded.position, checksum = excluded.checksum",
    )
    .bind(log)
    .bind(tenant)
    .bind(position)
    .bind(position_checksum(log, tenant, position));
    change(transaction, put).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tracehouse_model::TenantId;

    use super::*;
    use crate::{Table, Tier};

    /// Nothing here takes so long: it waits for something that never comes.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn file(number: usize) -> FileRecord {
        FileRecord {
            id: format!("{number:012x}-{number:016x}"),
            tenant: TenantId::default(),
            path: format!("tenant=default/{number}.parquet"),
            level: 0,
            table: Table::SPANS,
            tier: Tier::Hot,
            object_store: FileRecord::LOCAL.into(),
            spans: 1,
            bytes: 1,
            start_min: 0,
            start_max: 0,
            end_max: Some(0),
            created_at: 0,
            minutes: FileRecord::MINUTES_UNKNOWN,
            row_groups: 1,
            tail_bytes: 1,
            lost_spans: 0,
            left_out_spans: 0,
            retired: None,
        }
    }

    fn adding(files: std::ops::Range<usize>) -> Commit {
        Commit { add: files.map(file).collect(), ..Commit::default() }
    }

    /// SQLite says the same if the disk is full: that it is, and nothing of the commit stays.
    #[tokio::test]
    async fn a_full_disk_is_told_and_can_be_read() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let catalogue = SqliteCatalogue::open(&folder.path().join("catalogue.sqlite")).await.expect("it opens");
        catalogue.commit(adding(0..3)).await.expect("there is room");
        // As many pages as there are.
        let pages: i64 = sqlx::query("PRAGMA page_count").fetch_one(&catalogue.writer).await.expect("a number").get(0);
        let limit = |pages: i64| sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
        sqlx::query(limit(pages)).execute(&catalogue.writer).await.expect("it can be set");
        let error = catalogue.commit(adding(3..2000)).await.expect_err("there is no room");
        assert!(matches!(&error, CatalogueError::NoRoom(_)), "{error:?}");
        assert!(error.to_string().contains("make some"), "{error}");
        assert_eq!(catalogue.load().await.expect("it can be read").files.len(), 3, "all of a commit or nothing");
        sqlx::query(limit(1 << 20)).execute(&catalogue.writer).await.expect("it can be set");
        catalogue.commit(adding(3..2000)).await.expect("there is room again");
        assert_eq!(catalogue.load().await.expect("it can be read").files.len(), 2000);
    }

    /// SQLite ends a transaction by itself when there is no room, and sqlx takes it for open; the next one that is given up then began
    /// and left one open for good, in which all later commits stood until the process was killed.
    #[tokio::test]
    async fn what_is_committed_after_the_disk_was_full_survives_a_kill() {
        for full in 1..4 {
            let folder = tempfile::tempdir().expect("a temporary folder");
            let path = folder.path().join("catalogue.sqlite");
            let catalogue = SqliteCatalogue::open(&path).await.expect("it opens");
            catalogue.commit(adding(0..3)).await.expect("there is room");
            for _ in 0..full {
                let pages: i64 =
                    sqlx::query("PRAGMA page_count").fetch_one(&catalogue.writer).await.expect("a number").get(0);
                let limit = |pages: i64| sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
                sqlx::query(limit(pages)).execute(&catalogue.writer).await.expect("it can be set");
                catalogue.commit(adding(3..2000)).await.expect_err("there is no room");
                sqlx::query(limit(1 << 20)).execute(&catalogue.writer).await.expect("it can be set");
                let unknown = Commit { retire: vec![("none".into(), RetirementReason::Expired)], ..Commit::default() };
                assert!(matches!(catalogue.commit(unknown).await, Err(CatalogueError::NotLive(_))));
            }
            catalogue.commit(adding(3..5)).await.expect("there is room again");
            let killed = tempfile::tempdir().expect("a temporary folder");
            for entry in std::fs::read_dir(folder.path()).expect("its folder") {
                let from = entry.expect("an entry of it").path();
                std::fs::copy(&from, killed.path().join(from.file_name().expect("a name"))).expect("can be copied");
            }
            let found = SqliteCatalogue::open(&killed.path().join("catalogue.sqlite")).await.expect("it opens");
            assert_eq!(found.load().await.expect("it can be read").files.len(), 5, "full {full} times");
        }
    }

    /// Past the look at what the file says of itself, as if that changed later.
    #[tokio::test]
    async fn a_thread_that_ended_is_an_error_and_not_waited_for() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("catalogue.sqlite");
        let catalogue = SqliteCatalogue::open(&path).await.expect("it opens");
        catalogue.commit(adding(0..3)).await.expect("there is room");
        catalogue.close().await;
        let mut bytes = std::fs::read(&path).expect("it is there");
        let declared = b"start_min      BIGINT";
        let found = bytes.windows(declared.len()).enumerate().filter(|(_, window)| window == declared);
        let places: Vec<usize> = found.map(|(at, _)| at).collect();
        for at in places {
            // A declared type that is no text: sqlx panics over it.
            bytes[at + declared.len() - 3] ^= 0x80;
        }
        std::fs::write(&path, bytes).expect("it can be written");
        let bypassed = async {
            let catalogue = SqliteCatalogue::connect(&path, Access::Write).await.expect("nothing was read yet");
            let retire = vec![(file(0).id, RetirementReason::Expired)];
            (catalogue.load().await, catalogue.commit(Commit { retire, ..Commit::default() }).await)
        };
        let (loaded, changed) = tokio::time::timeout(PATIENCE, bypassed).await.expect("it ends");
        assert!(matches!(&loaded, Err(CatalogueError::Damaged { .. })), "{loaded:?}");
        assert!(matches!(&changed, Err(CatalogueError::Query(sqlx::Error::WorkerCrashed))), "{changed:?}");
    }

    #[tokio::test]
    async fn a_catalogue_that_may_only_be_read_says_what_to_look_at() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("catalogue.sqlite");
        let catalogue = SqliteCatalogue::open(&path).await.expect("it opens");
        catalogue.commit(adding(0..3)).await.expect("there is room");
        catalogue.close().await;
        let catalogue = SqliteCatalogue::open_read_only(&path).await.expect("it opens");
        let error = catalogue.commit(adding(3..4)).await.expect_err("it may only be read");
        assert!(matches!(&error, CatalogueError::ReadOnly(_)), "{error:?}");
        assert!(error.to_string().contains("check owner and rights of catalogue.sqlite"), "{error}");
        assert_eq!(catalogue.load().await.expect("it can be read").files.len(), 3);
    }
}
