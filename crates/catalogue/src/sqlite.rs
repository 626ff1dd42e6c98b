use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::TryStreamExt;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Row, Sqlite, Transaction};

use crate::regular::refuse_what_is_no_file;
use crate::rows::{
    FILE_COLUMNS, file_checksum, file_from_row, meta_checksum, meta_from_row, position_checksum, position_from_row,
    unchecked_file_from_row,
};
use crate::{
    Catalogue, CatalogueContents, CatalogueError, Commit, FileRecord, LegacyDescription, LogPosition, Retirement,
    RetirementReason,
};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// The catalogue in one SQLite file.
pub struct SqliteCatalogue {
    shown_path: String,
    /// One connection: SQLite has one writer anyway.
    writer: SqlitePool,
    /// Reads do not wait for a writer that waits for the disk.
    readers: SqlitePool,
}

/// What SQLite says if the disk is full.
pub(crate) const CODE_FULL: i64 = 13;
/// What SQLite says if it may only read.
pub(crate) const CODE_READ_ONLY: i64 = 8;
/// What SQLite says of a file that it can't make sense of: SQLITE_CORRUPT and SQLITE_NOTADB.
const DAMAGE_CODES: [i64; 2] = [11, 26];
/// Set in `meta` once all rows of an older schema have their checksum.
const CHECKSUMS_DONE: &str = "checksums";

impl SqliteCatalogue {
    const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
    const READERS_MAX: u32 = 2;
    /// Rows that SQLite's thread may be ahead of ours: with few the two wait for each other all the time, which on a busy
    /// machine makes reading 20,000 rows take 400 ms instead of 60.
    const ROW_BUFFER: usize = 8192;
    /// A larger file is not looked through at each start: that would take longer than people want to wait.
    const CHECKED_BYTES_MAX: u64 = 64 * 1024 * 1024;

    /// Opens or creates the file, looks whether SQLite finds it sound, and brings its schema up to date.
    pub async fn open(path: &Path) -> Result<Arc<Self>, CatalogueError> {
        let catalogue = Self::connect(path, false).await?;
        catalogue.quick_check(path).await?;
        let migrated = MIGRATIONS.run(&catalogue.writer).await;
        migrated.map_err(|source| CatalogueError::Migrate { path: catalogue.shown_path.clone(), source })?;
        catalogue.complete_checksums().await?;
        Ok(Arc::new(catalogue))
    }

    /// Opens a file that is there, to read it only. It must have this version's schema.
    pub async fn open_read_only(path: &Path) -> Result<Arc<Self>, CatalogueError> {
        let catalogue = Self::connect(path, true).await?;
        catalogue.quick_check(path).await?;
        let applied = sqlx::query("SELECT max(version) FROM _sqlx_migrations").fetch_optional(&catalogue.readers).await;
        let version: Option<i64> = applied.ok().flatten().and_then(|row| row.try_get(0).ok());
        if version != MIGRATIONS.iter().map(|migration| migration.version).max() {
            return Err(CatalogueError::Outdated { path: path.to_owned() });
        }
        Ok(Arc::new(catalogue))
    }

    async fn connect(path: &Path, read_only: bool) -> Result<Self, CatalogueError> {
        refuse_what_is_no_file(path)?;
        let shown_path = path.display().to_string();
        let options = SqliteConnectOptions::new().filename(path).busy_timeout(Self::BUSY_TIMEOUT);
        let writing = if read_only {
            options.clone().read_only(true)
        } else {
            options
                .clone()
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                // The log is cut off once a commit returns, so a commit must survive a power failure.
                .synchronous(SqliteSynchronous::Full)
        };
        let opened = pool(1).connect_with(writing).await;
        let writer = opened.map_err(|source| match finding_of_damage(&source) {
            Some(finding) => CatalogueError::Damaged { path: shown_path.clone(), finding },
            None => match CatalogueError::from(source) {
                CatalogueError::Query(source) => CatalogueError::Open { path: shown_path.clone(), source },
                said => said,
            },
        })?;
        let reading = options.create_if_missing(false).read_only(true).row_buffer_size(Self::ROW_BUFFER);
        let readers = pool(Self::READERS_MAX).connect_lazy_with(reading);
        Ok(Self { shown_path, writer, readers })
    }

    /// A failed read, or one that shows that the file is damaged.
    pub(crate) fn error(&self, source: sqlx::Error) -> CatalogueError {
        match finding_of_damage(&source) {
            Some(finding) => CatalogueError::Damaged { path: self.shown_path.clone(), finding },
            None => source.into(),
        }
    }

    async fn quick_check(&self, path: &Path) -> Result<(), CatalogueError> {
        let is_large = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > Self::CHECKED_BYTES_MAX);
        if is_large { Ok(()) } else { self.check("PRAGMA quick_check(1)").await }
    }

    /// Looks whether SQLite finds the whole file sound, its indexes too. Takes time in proportion to its size.
    pub async fn full_check(&self) -> Result<(), CatalogueError> {
        self.check("PRAGMA integrity_check(1)").await
    }

    async fn check(&self, pragma: &'static str) -> Result<(), CatalogueError> {
        let row = sqlx::query(pragma).fetch_one(&self.writer).await.map_err(|error| self.error(error))?;
        let finding: String = row.try_get(0)?;
        if finding == "ok" {
            return Ok(());
        }
        Err(CatalogueError::Damaged { path: self.shown_path.clone(), finding: finding.replace('\n', " ") })
    }

    /// Builds the indexes anew from the rows.
    pub async fn reindex(&self) -> Result<(), CatalogueError> {
        sqlx::query("REINDEX").execute(&self.writer).await.map_err(|error| self.error(error))?;
        Ok(())
    }

    /// Closes the connections: afterwards the file holds everything.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }

    /// Gives the rows that a migration copied their checksums, once: SQL can't work them out.
    async fn complete_checksums(&self) -> Result<(), CatalogueError> {
        let done = sqlx::query("SELECT 1 FROM meta WHERE name = $1").bind(CHECKSUMS_DONE);
        if done.fetch_optional(&self.writer).await.map_err(|error| self.error(error))?.is_some() {
            return Ok(());
        }
        let mut transaction = self.writer.begin().await?;
        let unchecked = format!("SELECT {FILE_COLUMNS} FROM files WHERE checksum IS NULL");
        for row in sqlx::query(sqlx::AssertSqlSafe(unchecked)).fetch_all(&mut *transaction).await? {
            // One that has no meaning stays without, and is reported when it is loaded.
            let Ok(file) = unchecked_file_from_row(&row) else { continue };
            sqlx::query("UPDATE files SET checksum = $1 WHERE rowid = $2")
                .bind(file_checksum(&file))
                .bind(row.try_get::<i64, _>(0)?)
                .execute(&mut *transaction)
                .await?;
        }
        for row in sqlx::query("SELECT log, tenant, position FROM log_positions").fetch_all(&mut *transaction).await? {
            let (log, tenant, position): (String, String, i64) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            put_position(&mut transaction, &log, &tenant, position).await?;
        }
        put_meta(&mut transaction, CHECKSUMS_DONE, "done").await?;
        transaction.commit().await?;
        Ok(())
    }

    async fn commit_in(
        &self,
        transaction: &mut Transaction<'_, Sqlite>,
        commit: &Commit,
    ) -> Result<(), CatalogueError> {
        for row in &commit.drop_damaged {
            sqlx::query("DELETE FROM files WHERE rowid = $1").bind(row).execute(&mut **transaction).await?;
        }
        for file in &commit.add {
            insert_file(transaction, file).await?;
        }
        for (id, reason) in &commit.retire {
            let mut file = live_file(transaction, id).await?;
            file.retired = Some(Retirement { at: commit.retired_at, reason: *reason });
            update_file(transaction, &file).await?;
        }
        for id in &commit.restore {
            let file = file_by_id(transaction, id).await?;
            let is_aside = |file: &FileRecord| {
                file.retired.as_ref().is_some_and(|retirement| retirement.reason == RetirementReason::Damaged)
            };
            let mut file = file.filter(is_aside).ok_or_else(|| CatalogueError::NotSetAside(id.clone()))?;
            file.retired = None;
            update_file(transaction, &file).await?;
        }
        for (id, lost_spans) in &commit.lost_spans {
            let mut file = live_file(transaction, id).await?;
            file.lost_spans = *lost_spans;
            update_file(transaction, &file).await?;
        }
        for position in &commit.log_positions {
            move_position(transaction, position).await?;
        }
        for (name, value) in &commit.meta {
            put_meta(transaction, name, value).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl Catalogue for SqliteCatalogue {
    async fn load(&self) -> Result<CatalogueContents, CatalogueError> {
        let mut contents = CatalogueContents::default();
        // One transaction, so that the parts fit together.
        let mut transaction = self.readers.begin().await.map_err(|error| self.error(error))?;
        let query = format!("SELECT {FILE_COLUMNS} FROM files");
        let mut rows = sqlx::query(sqlx::AssertSqlSafe(query)).fetch(&mut *transaction);
        while let Some(row) = rows.try_next().await.map_err(|error| self.error(error))? {
            match file_from_row(&row) {
                Ok(file) => contents.files.push(file),
                Err(damaged) => contents.damaged_rows.push(damaged),
            }
        }
        drop(rows);
        contents.files.sort_unstable_by(|left, right| left.id.cmp(&right.id));
        let positions = sqlx::query("SELECT log, tenant, position, checksum FROM log_positions ORDER BY log, tenant")
            .fetch_all(&mut *transaction)
            .await
            .map_err(|error| self.error(error))?;
        contents.log_positions = positions.iter().filter_map(position_from_row).collect();
        let meta = sqlx::query("SELECT name, value, checksum FROM meta").fetch_all(&mut *transaction).await;
        let meta = meta.map_err(|error| self.error(error))?;
        contents.meta = meta.iter().filter_map(meta_from_row).collect();
        contents.meta.remove(CHECKSUMS_DONE);
        Ok(contents)
    }

    async fn commit(&self, commit: Commit) -> Result<(), CatalogueError> {
        let mut transaction = self.writer.begin().await.map_err(|error| self.error(error))?;
        match self.commit_in(&mut transaction, &commit).await {
            Ok(()) => transaction.commit().await.map_err(|error| self.error(error)),
            Err(CatalogueError::Query(source)) => Err(self.error(source)),
            Err(error) => Err(error),
        }
    }

    async fn forget(&self, file_ids: &[String]) -> Result<(), CatalogueError> {
        let mut transaction = self.writer.begin().await.map_err(|error| self.error(error))?;
        for id in file_ids {
            let deleted = sqlx::query("DELETE FROM files WHERE id = $1 AND retired_at IS NOT NULL").bind(id);
            let deleted = deleted.execute(&mut *transaction).await.map_err(|error| self.error(error))?;
            if deleted.rows_affected() > 0 {
                let description = sqlx::query("DELETE FROM described_files WHERE id = $1").bind(id);
                description.execute(&mut *transaction).await.map_err(|error| self.error(error))?;
            }
        }
        transaction.commit().await.map_err(|error| self.error(error))
    }

    async fn legacy_description(&self, file_id: &str) -> Result<Option<LegacyDescription>, CatalogueError> {
        let row = sqlx::query("SELECT trace_filter, contents FROM described_files WHERE id = $1")
            .bind(file_id)
            .fetch_optional(&self.readers)
            .await
            .map_err(|error| self.error(error))?;
        let describe = |row: sqlx::sqlite::SqliteRow| {
            Ok(LegacyDescription { trace_filter: row.try_get(0)?, contents: row.try_get(1)? })
        };
        row.map(describe).transpose().map_err(|error| self.error(error))
    }
}

/// Connections that stay. The task by which sqlx closes old ones looks at a count of idle connections that two threads may let
/// wrap around; it then goes round without an end and keeps a processor busy.
fn pool(connections_max: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new().max_connections(connections_max).idle_timeout(None).max_lifetime(None)
}

/// What SQLite says if an error means that the file is damaged.
fn finding_of_damage(error: &sqlx::Error) -> Option<String> {
    let is_damage = DAMAGE_CODES.contains(&primary_code(error)?);
    is_damage.then(|| error.as_database_error().map_or_else(String::new, |error| error.message().to_owned()))
}

/// What kind of error SQLite gave; `None` if it is not SQLite's.
pub(crate) fn primary_code(error: &sqlx::Error) -> Option<i64> {
    let code: i64 = error.as_database_error()?.code()?.parse().ok()?;
    // Extended codes have the plain one in their lowest byte.
    Some(code & 0xff)
}

async fn insert_file(transaction: &mut Transaction<'_, Sqlite>, file: &FileRecord) -> Result<(), CatalogueError> {
    sqlx::query("INSERT INTO tenants (name, created_at) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
        .bind(file.tenant.as_str())
        .bind(file.created_at)
        .execute(&mut **transaction)
        .await?;
    sqlx::query(
        "INSERT INTO files (id, tenant, path, level, tier, spans, bytes, start_min, start_max, created_at, minutes, \
         row_groups, tail_bytes, lost_spans, retired_at, retired_reason, checksum) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)",
    )
    .bind(&file.id)
    .bind(file.tenant.as_str())
    .bind(&file.path)
    .bind(i64::from(file.level))
    .bind(&file.tier)
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
    .bind(file_checksum(file))
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn file_by_id(transaction: &mut Transaction<'_, Sqlite>, id: &str) -> Result<Option<FileRecord>, CatalogueError> {
    let query = format!("SELECT {FILE_COLUMNS} FROM files WHERE id = $1");
    let row = sqlx::query(sqlx::AssertSqlSafe(query)).bind(id).fetch_optional(&mut **transaction).await?;
    let checked = row.map(|row| file_from_row(&row)).transpose();
    checked.map_err(|damaged| CatalogueError::DamagedRow { id: id.to_owned(), reason: damaged.reason })
}

async fn live_file(transaction: &mut Transaction<'_, Sqlite>, id: &str) -> Result<FileRecord, CatalogueError> {
    let file = file_by_id(transaction, id).await?.filter(|file| file.retired.is_none());
    file.ok_or_else(|| CatalogueError::NotLive(id.to_owned()))
}

/// Writes what may change of a file.
async fn update_file(transaction: &mut Transaction<'_, Sqlite>, file: &FileRecord) -> Result<(), CatalogueError> {
    sqlx::query("UPDATE files SET lost_spans = $1, retired_at = $2, retired_reason = $3, checksum = $4 WHERE id = $5")
        .bind(file.lost_spans as i64)
        .bind(file.retired.as_ref().map(|retirement| retirement.at))
        .bind(file.retired.as_ref().map(|retirement| retirement.reason.as_str()))
        .bind(file_checksum(file))
        .bind(&file.id)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

async fn move_position(transaction: &mut Transaction<'_, Sqlite>, to: &LogPosition) -> Result<(), CatalogueError> {
    let tenant = to.tenant.as_ref().map_or("", |tenant| tenant.as_str());
    let known = sqlx::query(
        "SELECT log, tenant, position, checksum FROM log_positions WHERE log = $1 AND (tenant = $2 OR tenant = '')",
    )
    .bind(&to.log)
    .bind(tenant)
    .fetch_all(&mut **transaction)
    .await?;
    let known = known.iter().filter_map(position_from_row).map(|known| known.position).max().unwrap_or(0);
    if to.position < known {
        return Err(CatalogueError::PositionBack { log: to.log.clone(), known, wanted: to.position });
    }
    put_position(transaction, &to.log, tenant, to.position as i64).await?;
    if to.tenant.is_none() {
        sqlx::query("DELETE FROM log_positions WHERE log = $1 AND tenant <> '' AND position <= $2")
            .bind(&to.log)
            .bind(to.position as i64)
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}

async fn put_position(
    transaction: &mut Transaction<'_, Sqlite>,
    log: &str,
    tenant: &str,
    position: i64,
) -> Result<(), CatalogueError> {
    sqlx::query(
        "INSERT INTO log_positions (log, tenant, position, checksum) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (log, tenant) DO UPDATE SET position = excluded.position, checksum = excluded.checksum",
    )
    .bind(log)
    .bind(tenant)
    .bind(position)
    .bind(position_checksum(log, tenant, position))
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn put_meta(transaction: &mut Transaction<'_, Sqlite>, name: &str, value: &str) -> Result<(), CatalogueError> {
    sqlx::query(
        "INSERT INTO meta (name, value, checksum) VALUES ($1, $2, $3) \
         ON CONFLICT (name) DO UPDATE SET value = excluded.value, checksum = excluded.checksum",
    )
    .bind(name)
    .bind(value)
    .bind(meta_checksum(name, value))
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tracehouse_model::TenantId;

    use super::*;

    fn file(number: usize) -> FileRecord {
        FileRecord {
            id: format!("{number:012x}-{number:016x}"),
            tenant: TenantId::default(),
            path: format!("tenant=default/{number}.parquet"),
            level: 0,
            tier: "hot".into(),
            spans: 1,
            bytes: 1,
            start_min: 0,
            start_max: 0,
            created_at: 0,
            minutes: FileRecord::MINUTES_UNKNOWN,
            row_groups: 1,
            tail_bytes: 1,
            lost_spans: 0,
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
