//! Saves what is left of a damaged catalogue.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use futures::TryStreamExt;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};

use crate::rows::{FILE_COLUMNS, file_from_row, meta_from_row, position_from_row};
use crate::{Catalogue, CatalogueContents, CatalogueError, Commit, FileRecord, SqliteCatalogue};

/// What became of a damaged catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebuilt {
    /// Where the damaged one lies now.
    pub kept_as: PathBuf,
    /// Rows that could be read and believed.
    pub files: usize,
    pub log_positions: usize,
}

/// Keeps a damaged catalogue aside and makes a new one of the rows that can still be read and believed. The descriptions
/// of files of layout version 1 are not saved: such files are described anew by their rows.
pub async fn rebuild(path: &Path) -> Result<Rebuilt, CatalogueError> {
    let saved = save(path).await;
    let kept_as = keep_aside(path)?;
    let catalogue = SqliteCatalogue::open(path).await?;
    let rebuilt = Rebuilt { kept_as, files: saved.files.len(), log_positions: saved.log_positions.len() };
    let commit = Commit {
        add: saved.files,
        log_positions: saved.log_positions,
        meta: saved.meta.into_iter().collect(),
        ..Commit::default()
    };
    catalogue.commit(commit).await?;
    catalogue.close().await;
    Ok(rebuilt)
}

/// Everything that can be read. Whatever can't is left out: the stored files tell it again.
async fn save(path: &Path) -> CatalogueContents {
    let mut saved = CatalogueContents::default();
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    let Ok(pool) = SqlitePoolOptions::new().max_connections(1).connect_with(options).await else { return saved };
    let mut files: BTreeMap<String, FileRecord> = BTreeMap::new();
    // A damaged page ends a scan; from the other end as much again may be read.
    for order in ["ASC", "DESC"] {
        let query = format!("SELECT {FILE_COLUMNS} FROM files ORDER BY rowid {order}");
        let mut rows = sqlx::query(sqlx::AssertSqlSafe(query)).fetch(&pool);
        while let Ok(Some(row)) = rows.try_next().await {
            files.extend(file_from_row(&row).ok().map(|file| (file.id.clone(), file)));
        }
    }
    let mut paths = std::collections::HashSet::new();
    saved.files = files.into_values().filter(|file| paths.insert(file.path.clone())).collect();
    let positions = "SELECT log, tenant, position, checksum FROM log_positions";
    saved.log_positions = rows_of(&pool, positions, position_from_row).await;
    // Those for everyone come first: a tenant's own may be ahead of it.
    saved.log_positions.sort_by_key(|position| position.tenant.is_some());
    saved.meta = rows_of(&pool, "SELECT name, value, checksum FROM meta", meta_from_row).await.into_iter().collect();
    pool.close().await;
    saved
}

async fn rows_of<T>(
    pool: &SqlitePool,
    query: &'static str,
    parse: fn(&sqlx::sqlite::SqliteRow) -> Option<T>,
) -> Vec<T> {
    let mut found = Vec::new();
    let mut rows = sqlx::query(query).fetch(pool);
    while let Ok(Some(row)) = rows.try_next().await {
        found.extend(parse(&row));
    }
    found
}

/// Renames the catalogue and what SQLite keeps beside it; returns the new name.
fn keep_aside(path: &Path) -> Result<PathBuf, CatalogueError> {
    let with_end = |base: &Path, end: &str| {
        let mut name = base.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    let free = (1u32..).map(|number| with_end(path, &format!(".damaged-{number}"))).find(|name| !name.exists());
    let kept = free.expect("some number is free");
    for end in ["", "-wal", "-shm"] {
        match std::fs::rename(with_end(path, end), with_end(&kept, end)) {
            Err(error) if end.is_empty() || error.kind() != std::io::ErrorKind::NotFound => {
                return Err(CatalogueError::KeepAside { path: path.to_owned(), source: error });
            }
            _ => {}
        }
    }
    Ok(kept)
}
