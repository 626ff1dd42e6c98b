//! Which changes a reader of the list has not seen yet.
//!
//! Each commit that changes something has a number, which the rows that it changed bear as well. Files that left the list
//! are listed for a while, so that their removal is seen too. Where that list does not reach back, or a row can't be
//! believed, the answer is that everything is to be loaded, which is always right.
//!
//! Numbers are those of one history. SQLite may lose the last commits when a disk damages its log, and a file may be put back
//! from a copy: then numbers are given a second time, to other changes. So each opening that may write begins a new history.

use std::collections::HashSet;

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Row, Sqlite, Transaction};

use crate::complete::{change, each_row};
use crate::rows::{FILE_COLUMNS, file_from_row, removal_checksum, revision_checksum};
use crate::{Changes, FileRecord, Revision};

/// So many removals are listed: those of days. Each takes about 60 bytes.
const REMOVALS_MAX: i64 = 10_000;

/// Larger numbers in rows of files are damage.
const NUMBER_MAX: i64 = 1 << 52;

/// The row of the table `revision`.
#[derive(Debug, Clone, Copy)]
struct State {
    history: i64,
    number: i64,
    forgotten_to: i64,
}

impl State {
    fn revision(self) -> Revision {
        Revision { history: self.history as u64, number: self.number as u64 }
    }
}

/// The last revision. `None`: it can't be told.
async fn read(connection: &mut SqliteConnection) -> Result<Option<State>, sqlx::Error> {
    let mut rows = Vec::new();
    let query = sqlx::query("SELECT history, number, forgotten_to, checksum FROM revision");
    let checked = |row: &SqliteRow| {
        let number = |column: usize| row.try_get::<i64, _>(column).ok();
        let state = State { history: number(0)?, number: number(1)?, forgotten_to: number(2)? };
        (number(3)? == checksum_of(state)).then_some(state)
    };
    each_row(connection, query, |row| rows.push(checked(row))).await?;
    Ok(if let [Some(state)] = rows[..] { Some(state) } else { None })
}

fn checksum_of(state: State) -> i64 {
    revision_checksum(state.history, state.number, state.forgotten_to)
}

async fn write(transaction: &mut Transaction<'_, Sqlite>, state: State) -> Result<(), sqlx::Error> {
    change(transaction, sqlx::query("DELETE FROM revision")).await?;
    let insert = sqlx::query("INSERT INTO revision (history, number, forgotten_to, checksum) VALUES ($1, $2, $3, $4)");
    let insert = insert.bind(state.history).bind(state.number).bind(state.forgotten_to).bind(checksum_of(state));
    change(transaction, insert).await?;
    Ok(())
}

/// The revision of everything that a transaction reads. One that can't be told is of no history, so nothing is known since.
pub(crate) async fn current(connection: &mut SqliteConnection) -> Result<Revision, sqlx::Error> {
    Ok(read(connection).await?.map_or_else(Revision::default, State::revision))
}

/// Gives the changes of this transaction a number.
pub(crate) async fn raise(transaction: &mut Transaction<'_, Sqlite>) -> Result<i64, sqlx::Error> {
    let Some(state) = read(transaction).await? else { return begin(transaction).await };
    let state = State { number: state.number + 1, ..state };
    write(transaction, state).await?;
    Ok(state.number)
}

/// The same, in a new history: whoever knew an older revision loads everything.
pub(crate) async fn begin(transaction: &mut Transaction<'_, Sqlite>) -> Result<i64, sqlx::Error> {
    let mut last = read(transaction).await?.map(|state| state.number);
    if last.is_none() {
        // A larger number than rows have, or they would seem to be new again and again.
        let largest = sqlx::query(
            "SELECT max(revision) FROM files NOT INDEXED WHERE typeof(revision) = 'integer' AND revision < $1",
        );
        each_row(transaction, largest.bind(NUMBER_MAX), |row| last = row.try_get(0).ok()).await?;
    }
    let mut history = 0;
    // 0 is that of nobody.
    let random = sqlx::query("SELECT random() | 1");
    each_row(transaction, random, |row| history = row.try_get(0).unwrap_or(0)).await?;
    let number = last.unwrap_or(0) + 1;
    change(transaction, sqlx::query("DELETE FROM removed_files")).await?;
    write(transaction, State { history, number, forgotten_to: number }).await?;
    Ok(number)
}

/// Lists files that left the list with a revision, and lets go of the oldest ones.
pub(crate) async fn remember_removed(
    transaction: &mut Transaction<'_, Sqlite>,
    ids: &[&str],
    revision: i64,
) -> Result<(), sqlx::Error> {
    for id in ids {
        // A file may be adopted by a repair after it was removed, and be removed again.
        let insert = sqlx::query("INSERT OR REPLACE INTO removed_files (id, revision, checksum) VALUES ($1, $2, $3)");
        change(transaction, insert.bind(id).bind(revision).bind(removal_checksum(id, revision))).await?;
    }
    let mut let_go_to: Option<i64> = None;
    let beyond = sqlx::query("SELECT revision FROM removed_files ORDER BY revision DESC LIMIT 1 OFFSET $1");
    each_row(transaction, beyond.bind(REMOVALS_MAX), |row| let_go_to = row.try_get(0).ok()).await?;
    if let (Some(forgotten_to), Some(state)) = (let_go_to, read(transaction).await?) {
        let delete = sqlx::query("DELETE FROM removed_files WHERE revision <= $1").bind(forgotten_to);
        change(transaction, delete).await?;
        write(transaction, State { forgotten_to: forgotten_to.max(state.forgotten_to), ..state }).await?;
    }
    Ok(())
}

/// What changed after a revision. To be called in a transaction.
pub(crate) async fn changes_since(connection: &mut SqliteConnection, known: Revision) -> Result<Changes, sqlx::Error> {
    let Some(state) = read(connection).await? else { return Ok(Changes::Everything) };
    let since = i64::try_from(known.number).unwrap_or(i64::MAX);
    if known.history != state.history as u64 || since < state.forgotten_to || since > state.number {
        return Ok(Changes::Everything);
    }
    let mut changed: Vec<FileRecord> = Vec::new();
    let mut removed: Vec<String> = Vec::new();
    let mut are_all_sound = true;
    // Rows that did not change cost SQLite a look and nobody else anything, so there is no index, which might be damaged.
    let rows = sqlx::AssertSqlSafe(format!("SELECT {FILE_COLUMNS} FROM files NOT INDEXED WHERE revision > $1"));
    each_row(connection, sqlx::query(rows).bind(since), |row| match file_from_row(row) {
        Ok(file) => changed.push(file),
        Err(_) => are_all_sound = false,
    })
    .await?;
    let rows = sqlx::query("SELECT id, revision, checksum FROM removed_files NOT INDEXED WHERE revision > $1");
    each_row(connection, rows.bind(since), |row| match removed_from_row(row) {
        Some(id) => removed.push(id),
        None => are_all_sound = false,
    })
    .await?;
    if !are_all_sound {
        return Ok(Changes::Everything);
    }
    changed.sort_unstable_by(|left, right| left.id.cmp(&right.id));
    let there: HashSet<&str> = changed.iter().map(|file| file.id.as_str()).collect();
    removed.retain(|id| !there.contains(id.as_str()));
    removed.sort_unstable();
    Ok(Changes::Since { revision: state.revision(), changed, removed })
}

fn removed_from_row(row: &SqliteRow) -> Option<String> {
    let (id, revision, checksum): (String, i64, i64) =
        (row.try_get(0).ok()?, row.try_get(1).ok()?, row.try_get(2).ok()?);
    (checksum == removal_checksum(&id, revision)).then_some(id)
}
