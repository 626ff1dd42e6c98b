//! The list of what must be remembered: a row of `meta` that has been written once is there for good, so that one which is
//! gone can be told from one that never was. The list is a row of `meta` itself.
//!
//! The row is older than the list: at first it said only that all rows have their checksum, which it still says by being there.

use std::collections::BTreeSet;

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, Sqlite, Transaction};

use crate::complete::{change, each_row};
use crate::rows::{META_COLUMNS, meta_checksum, meta_from_row};
use crate::{CatalogueContents, DamagedNote, NoteKind};

/// The name of the row. It is set once all rows of an older schema have their checksum.
pub(crate) const NAMES: &str = "checksums";
/// With what its value begins. An earlier version wrote nothing else.
pub(crate) const WITHOUT_NAMES: &str = "done";
/// Its value in a catalogue that was made anew while the list could not be read.
pub(crate) const LOST: &str = "lost";

const LOST_REASON: &str = "it was lost when the catalogue was made anew";

/// `None`: it is no list.
fn names_in(value: &str) -> Option<BTreeSet<String>> {
    let names: BTreeSet<String> = value.strip_prefix(WITHOUT_NAMES)?.split_whitespace().map(str::to_owned).collect();
    (!names.is_empty()).then_some(names)
}

/// Takes a row of [`META_COLUMNS`] into the contents.
pub(crate) fn take(contents: &mut CatalogueContents, row: &SqliteRow) {
    match meta_from_row(row) {
        Ok((name, value)) if name == NAMES && value == LOST => {
            contents.damaged_notes.push(DamagedNote {
                kind: NoteKind::Meta,
                row: row.try_get(0).ok(),
                name: Some(name),
                reason: LOST_REASON.to_owned(),
            });
        }
        Ok((name, value)) => drop(contents.meta.insert(name, value)),
        Err(damaged) => contents.damaged_notes.push(damaged),
    }
}

/// Once all rows were taken: compares them with the list, which is none of the things remembered.
pub(crate) fn complete(contents: &mut CatalogueContents) {
    let missing = |name: &str| DamagedNote {
        kind: NoteKind::Meta,
        row: None,
        name: Some(name.to_owned()),
        reason: "it is not there".to_owned(),
    };
    let is_told = |notes: &[DamagedNote], name: &str| notes.iter().any(|note| note.name.as_deref() == Some(name));
    let list = contents.meta.remove(NAMES);
    contents.meta_names = list.as_deref().and_then(names_in);
    let notes = &mut contents.damaged_notes;
    if list.is_none() && !is_told(notes, NAMES) {
        notes.push(missing(NAMES));
    }
    for name in contents.meta_names.iter().flatten() {
        if !contents.meta.contains_key(name) && !is_told(notes, name) {
            notes.push(missing(name));
        }
    }
}

/// Adds names to the list. One that is damaged or an earlier version's is made anew of what is there.
pub(crate) async fn add(
    transaction: &mut Transaction<'_, Sqlite>,
    new: impl Iterator<Item = &str> + Send,
) -> Result<(), sqlx::Error> {
    let mut contents = CatalogueContents::default();
    let all = sqlx::AssertSqlSafe(format!("SELECT {META_COLUMNS} FROM meta NOT INDEXED"));
    each_row(transaction, sqlx::query(all), |row| take(&mut contents, row)).await?;
    if contents.damaged_notes.iter().any(|note| note.reason == LOST_REASON) {
        return Ok(());
    }
    let list = contents.meta.remove(NAMES);
    let known = list.as_deref().and_then(names_in);
    let mut names = known.clone().unwrap_or_else(|| contents.meta.into_keys().collect());
    names.extend(new.filter(|name| *name != NAMES).map(str::to_owned));
    if known.as_ref() == Some(&names) || names.is_empty() {
        return Ok(());
    }
    let words: Vec<&str> = [WITHOUT_NAMES].into_iter().chain(names.iter().map(String::as_str)).collect();
    put(transaction, NAMES, &words.join(" ")).await
}

/// Writes one row of `meta`.
pub(crate) async fn put(transaction: &mut Transaction<'_, Sqlite>, name: &str, value: &str) -> Result<(), sqlx::Error> {
    let put = sqlx::query(
        "INSERT INTO meta (name, value, checksum) VALUES ($1, $2, $3) \
         ON CONFLICT (name) DO UPDATE SET value = excluded.value, checksum = excluded.checksum",
    )
    .bind(name)
    .bind(value)
    .bind(meta_checksum(name, value));
    change(transaction, put).await?;
    Ok(())
}
