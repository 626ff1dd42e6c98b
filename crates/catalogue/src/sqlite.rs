use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{Row, Sqlite, Transaction};
use tracehouse_model::TenantId;

use crate::{
    Catalogue, CatalogueContents, CatalogueError, Commit, FileRecord, LogPosition, Retirement, RetirementReason,
};

static MIGRATIONS: sqlx::migrate::Migrator = sqlx::migrate!("./migrations");

/// The catalogue in one SQLite file.
pub struct SqliteCatalogue {
    pool: SqlitePool,
}

impl SqliteCatalogue {
    const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

    /// Opens or creates the file and brings its schema up to date.
    pub async fn open(path: &Path) -> Result<Arc<Self>, CatalogueError> {
        let shown = path.display().to_string();
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            // The log is cut off once a commit returns, so a commit must survive a power failure.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Self::BUSY_TIMEOUT);
        // One connection: SQLite has one writer anyway, and reads happen only at start.
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect_with(options)
            .await
            .map_err(|source| CatalogueError::Open { path: shown.clone(), source })?;
        MIGRATIONS.run(&pool).await.map_err(|source| CatalogueError::Migrate { path: shown, source })?;
        Ok(Arc::new(Self { pool }))
    }
}

#[async_trait]
impl Catalogue for SqliteCatalogue {
    async fn load(&self) -> Result<CatalogueContents, CatalogueError> {
        let rows = sqlx::query("SELECT * FROM files ORDER BY id").fetch_all(&self.pool).await?;
        let files = rows.iter().map(file_from_row).collect::<Result<_, _>>()?;
        let positions = sqlx::query("SELECT log, position FROM log_positions").fetch_all(&self.pool).await?;
        let log_positions = positions.iter().map(position_from_row).collect::<Result<_, _>>()?;
        Ok(CatalogueContents { files, log_positions })
    }

    async fn commit(&self, commit: Commit) -> Result<(), CatalogueError> {
        let mut transaction = self.pool.begin().await?;
        for file in &commit.add {
            insert_file(&mut transaction, file).await?;
        }
        for (id, reason) in &commit.retire {
            let done = sqlx::query(
                "UPDATE files SET retired_at = $1, retired_reason = $2 WHERE id = $3 AND retired_at IS NULL",
            )
            .bind(commit.retired_at)
            .bind(reason.as_str())
            .bind(id)
            .execute(&mut *transaction)
            .await?;
            if done.rows_affected() != 1 {
                return Err(CatalogueError::NotLive(id.clone()));
            }
        }
        for position in &commit.log_positions {
            move_position(&mut transaction, position).await?;
        }
        transaction.commit().await?;
        Ok(())
    }

    async fn forget(&self, file_ids: &[String]) -> Result<(), CatalogueError> {
        let mut transaction = self.pool.begin().await?;
        for id in file_ids {
            sqlx::query("DELETE FROM files WHERE id = $1 AND retired_at IS NOT NULL")
                .bind(id)
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// What stands between the names of a log and of a tenant; no tenant's name has one.
const TENANT_SEPARATOR: char = '/';

/// The name under which a position is kept.
fn position_name(log: &str, tenant: Option<&TenantId>) -> String {
    tenant.map_or_else(|| log.to_owned(), |tenant| format!("{log}{TENANT_SEPARATOR}{tenant}"))
}

fn position_from_row(row: &SqliteRow) -> Result<LogPosition, CatalogueError> {
    let name: String = row.try_get("log")?;
    let position = row.try_get::<i64, _>("position")? as u64;
    let (log, tenant) = match name.split_once(TENANT_SEPARATOR) {
        Some((log, tenant)) => (log.to_owned(), Some(TenantId::new(tenant)?)),
        None => (name, None),
    };
    Ok(LogPosition { log, tenant, position })
}

async fn move_position(transaction: &mut Transaction<'_, Sqlite>, to: &LogPosition) -> Result<(), CatalogueError> {
    let name = position_name(&to.log, to.tenant.as_ref());
    let known: Option<i64> = sqlx::query("SELECT max(position) AS known FROM log_positions WHERE log IN ($1, $2)")
        .bind(&to.log)
        .bind(&name)
        .fetch_one(&mut **transaction)
        .await?
        .try_get("known")?;
    let known = known.unwrap_or(0) as u64;
    if to.position < known {
        return Err(CatalogueError::PositionBack { log: to.log.clone(), known, wanted: to.position });
    }
    sqlx::query(
        "INSERT INTO log_positions (log, position) VALUES ($1, $2) \
         ON CONFLICT (log) DO UPDATE SET position = excluded.position",
    )
    .bind(&name)
    .bind(to.position as i64)
    .execute(&mut **transaction)
    .await?;
    if to.tenant.is_none() {
        sqlx::query("DELETE FROM log_positions WHERE log LIKE $1 AND position <= $2")
            .bind(format!("{}{TENANT_SEPARATOR}%", to.log))
            .bind(to.position as i64)
            .execute(&mut **transaction)
            .await?;
    }
    Ok(())
}

async fn insert_file(transaction: &mut Transaction<'_, Sqlite>, file: &FileRecord) -> Result<(), CatalogueError> {
    sqlx::query("INSERT INTO tenants (name, created_at) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
        .bind(file.tenant.as_str())
        .bind(file.created_at)
        .execute(&mut **transaction)
        .await?;
    sqlx::query(
        "INSERT INTO files (id, tenant, path, level, tier, spans, bytes, start_min, start_max, created_at, \
         trace_filter, contents) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
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
    .bind(&file.trace_filter)
    .bind(&file.contents)
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

fn file_from_row(row: &SqliteRow) -> Result<FileRecord, CatalogueError> {
    let retired_at: Option<i64> = row.try_get("retired_at")?;
    let retired_reason: Option<String> = row.try_get("retired_reason")?;
    Ok(FileRecord {
        id: row.try_get("id")?,
        tenant: TenantId::new(row.try_get("tenant")?)?,
        path: row.try_get("path")?,
        level: row.try_get::<i64, _>("level")? as u8,
        tier: row.try_get("tier")?,
        spans: row.try_get::<i64, _>("spans")? as u64,
        bytes: row.try_get::<i64, _>("bytes")? as u64,
        start_min: row.try_get("start_min")?,
        start_max: row.try_get("start_max")?,
        created_at: row.try_get("created_at")?,
        trace_filter: row.try_get("trace_filter")?,
        contents: row.try_get("contents")?,
        retired: retired_at.map(|at| Retirement {
            at,
            reason: RetirementReason::parse(retired_reason.as_deref().unwrap_or_default()),
        }),
    })
}
