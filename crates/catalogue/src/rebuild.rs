//! Saves what is left of a damaged catalogue.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};

use crate::complete::each_row;
use crate::rows::{
    FILE_COLUMNS, FILE_COLUMNS_WITHOUT_ENDS, FILE_COLUMNS_WITHOUT_REVISIONS, META_COLUMNS, POSITION_COLUMNS,
    file_from_row, meta_from_row, position_from_row,
};
use crate::{Catalogue, CatalogueContents, CatalogueError, Commit, FileRecord, SqliteCatalogue, names};

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
    let Saved { contents: saved, are_positions_lost } = save(path).await;
    let kept_as = keep_aside(path)?;
    let catalogue = SqliteCatalogue::open(path).await?;
    let rebuilt = Rebuilt { kept_as, files: saved.files.len(), log_positions: saved.log_positions.len() };
    if are_positions_lost {
        catalogue.put_lost_position().await?;
    }
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

struct Saved {
    contents: CatalogueContents,
    are_positions_lost: bool,
}

/// Everything that can be read. Whatever can't is left out: the stored files tell it again. Of what is remembered the list of
/// names tells what is lost, or that this is not known either.
async fn save(path: &Path) -> Saved {
    let mut saved = CatalogueContents::default();
    let mut files: BTreeMap<String, FileRecord> = BTreeMap::new();
    // A damaged page ends a scan; from the other end as much again may be read.
    let columns = [FILE_COLUMNS, FILE_COLUMNS_WITHOUT_REVISIONS, FILE_COLUMNS_WITHOUT_ENDS];
    for (columns, order) in columns.into_iter().flat_map(|columns| ["ASC", "DESC"].map(|order| (columns, order))) {
        let query = format!("SELECT {columns} FROM files ORDER BY rowid {order}");
        read_some(path, query, |row| files.extend(file_from_row(row).ok().map(|file| (file.id.clone(), file)))).await;
    }
    let mut paths = HashSet::new();
    saved.files = files.into_values().filter(|file| paths.insert(file.path.clone())).collect();
    let mut are_positions_lost = false;
    let positions = format!("SELECT {POSITION_COLUMNS} FROM log_positions NOT INDEXED");
    let is_whole = read_some(path, positions, |row| match position_from_row(row) {
        Ok(position) => saved.log_positions.push(position),
        Err(_) => are_positions_lost = true,
    })
    .await;
    are_positions_lost |= !is_whole;
    // Those for everyone come first: a tenant's own may be ahead of it.
    saved.log_positions.sort_by_key(|position| position.tenant.is_some());
    let meta = format!("SELECT {META_COLUMNS} FROM meta NOT INDEXED");
    let mut is_damaged = false;
    let is_whole = read_some(path, meta, |row| match meta_from_row(row) {
        Ok((name, value)) => drop(saved.meta.insert(name, value)),
        Err(_) => is_damaged = true,
    })
    .await;
    let has_list = saved.meta.get(names::NAMES).is_some_and(|list| list != names::WITHOUT_NAMES);
    if !has_list && (is_damaged || !is_whole) {
        saved.meta.insert(names::NAMES.to_owned(), names::LOST.to_owned());
    }
    Saved { contents: saved, are_positions_lost }
}

/// Hands on the rows that come before something damaged, and says whether those are all. A connection of its own for each
/// statement: what one meets may end the thread behind it.
async fn read_some(path: &Path, query: String, take: impl FnMut(&SqliteRow) + Send) -> bool {
    let options = SqliteConnectOptions::new().filename(path).read_only(true);
    match options.connect().await {
        Ok(mut connection) => each_row(&mut connection, sqlx::query(sqlx::AssertSqlSafe(query)), take).await.is_ok(),
        Err(_) => false,
    }
}

/// Renames the catalogue and what SQLite keeps beside it; returns the new name.
fn keep_aside(path: &Path) -> Result<PathBuf, CatalogueError> {
    let with_end = |base: &Path, end: &str| {
        let mut name = base.as_os_str().to_owned();
        name.push(end);
        PathBuf::from(name)
    };
    const ENDS: [&str; 4] = ["", "-wal", "-shm", "-journal"];
    // Nothing is written over: what is left of an earlier one, or a link that leads nowhere, is somebody's.
    let is_free = |name: &PathBuf| ENDS.iter().all(|end| std::fs::symlink_metadata(with_end(name, end)).is_err());
    let free = (1u32..).map(|number| with_end(path, &format!(".damaged-{number}"))).find(is_free);
    let kept = free.expect("some number is free");
    for end in ENDS {
        match std::fs::rename(with_end(path, end), with_end(&kept, end)) {
            Err(error) if end.is_empty() || error.kind() != std::io::ErrorKind::NotFound => {
                return Err(CatalogueError::KeepAside { path: path.to_owned(), source: error });
            }
            _ => {}
        }
    }
    Ok(kept)
}
