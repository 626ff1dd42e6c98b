//! What a catalogue says of its own tables, compared byte by byte with what the migrations make.
//!
//! SQLite believes the text in which a file describes its tables. A disk that changed one letter of it gives a column another
//! name, or one that is no text, which ends the thread of sqlx that meets it. So the text is read as plain bytes before any
//! statement that names a table, and a catalogue is used only if the text is the one that some number of this version's
//! migrations makes, and if its list of migrations says so too.

use std::sync::OnceLock;

use futures::future::BoxFuture;
use sqlx::migrate::{Migrate, MigrateError, Migration, Migrator};
use sqlx::sqlite::{SqliteConnection, SqlitePool, SqliteRow};
use sqlx::{Connection, Row};

use crate::complete::each_row;

static MIGRATIONS: Migrator = sqlx::migrate!("./migrations");
/// The table in which sqlx lists the migrations that it ran.
const MIGRATIONS_TABLE: &str = "_sqlx_migrations";
/// Every value as bytes: as text sqlx would decode it, and of a column it would ask for the declared type.
const SCHEMA: &str = "SELECT CAST(type AS BLOB), CAST(name AS BLOB), CAST(tbl_name AS BLOB), CAST(sql AS BLOB) \
     FROM sqlite_schema ORDER BY rowid";
/// The same of what is only read once the description of the table was found to be right. Without an order: the index
/// may be damaged.
const APPLIED: &str = "SELECT CAST(version AS BLOB), checksum, CAST(success AS BLOB) FROM _sqlx_migrations";
/// What `ANALYZE` makes, if an operator runs it.
const STATISTICS: &[u8] = b"sqlite_stat";

/// One row of `sqlite_schema`: type, name, table and SQL.
type Item = [Option<Vec<u8>>; 4];

/// What a catalogue is, by its description of itself.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Version {
    /// There is nothing in it yet, or what a first start made before it was interrupted.
    New,
    /// So many of this version's migrations made it, but not all.
    Older(usize),
    Current,
    /// All of this version's migrations made it, and further ones up to this.
    Newer(i64),
    Damaged(String),
}

/// Finds out what a catalogue is. Changes nothing.
pub(crate) async fn version(pool: &SqlitePool) -> Result<Version, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let found = items(&mut connection).await?;
    if found.is_empty() {
        let mut pages = 0;
        each_row(&mut connection, sqlx::query("PRAGMA page_count"), |row| pages = row.try_get(0).unwrap_or(i64::MAX))
            .await?;
        let is_empty = pages <= 1;
        return Ok(if is_empty { Version::New } else { Version::Damaged("it describes no tables".into()) });
    }
    let expected = expected().await?;
    // The first holds the table of migrations alone.
    if let Some(missing) = expected[0].iter().find(|item| !found.contains(item)) {
        return Ok(Version::Damaged(format!("its description of {} is changed", name_of(missing))));
    }
    let mut applied = Vec::new();
    each_row(&mut connection, sqlx::query(APPLIED), |row| applied.push(Applied::of(row))).await?;
    Ok(judge(expected, &found, &applied))
}

/// Brings an empty or older catalogue up to date.
pub(crate) async fn migrate(pool: &SqlitePool) -> Result<(), sqlx::Error> {
    let mut connection = pool.acquire().await?;
    run(None, &mut connection).await.map_err(|error| match error {
        MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => source,
        other => other.into(),
    })
}

/// Runs the migrations up to one of them, or all. Boxed, as the compiler does not see through sqlx's future that it may move
/// between threads.
fn run(target: Option<i64>, connection: &mut SqliteConnection) -> BoxFuture<'_, Result<(), MigrateError>> {
    Box::pin(MIGRATIONS.run_direct(target, connection, false))
}

/// A row of the list of migrations, as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Applied {
    version: Option<Vec<u8>>,
    checksum: Option<Vec<u8>>,
    success: Option<Vec<u8>>,
}

impl Applied {
    fn of(row: &SqliteRow) -> Self {
        let value = |column| row.try_get(column).ok();
        Self { version: value(0), checksum: value(1), success: value(2) }
    }

    /// What sqlx writes of a migration that went well.
    fn expected(migration: &Migration) -> Self {
        Self {
            version: Some(migration.version.to_string().into_bytes()),
            checksum: Some(migration.checksum.to_vec()),
            success: Some(b"1".to_vec()),
        }
    }

    fn number(&self) -> Option<i64> {
        str::from_utf8(self.version.as_ref()?).ok()?.parse().ok()
    }
}

fn judge(expected: &[Vec<Item>], found: &[Item], applied: &[Applied]) -> Version {
    let known: Vec<Applied> = MIGRATIONS.iter().map(Applied::expected).collect();
    let last = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
    let all_known = known.iter().all(|migration| applied.contains(migration));
    let further: Vec<i64> = applied.iter().filter(|row| !known.contains(row)).filter_map(Applied::number).collect();
    if all_known && !further.is_empty() && further.len() + known.len() == applied.len() {
        // One changed bit adds no row, so this is no damage.
        return match further.iter().copied().min() {
            Some(first) if first > last => Version::Newer(further.into_iter().max().unwrap_or(first)),
            _ => Version::Damaged("its list of migrations is changed".into()),
        };
    }
    let count = applied.len();
    if count > known.len() || !known[..count].iter().all(|migration| applied.contains(migration)) {
        return Version::Damaged("its list of migrations is changed".into());
    }
    let wanted = &expected[count];
    if let Some(changed) = wanted.iter().find(|item| !found.contains(item)) {
        return Version::Damaged(format!("its description of {} is changed", name_of(changed)));
    }
    if let Some(strange) = found.iter().find(|item| !wanted.contains(item)) {
        return Version::Damaged(format!("it describes {}, which is not part of it", name_of(strange)));
    }
    match count {
        0 => Version::New,
        count if count < known.len() => Version::Older(count),
        _ => Version::Current,
    }
}

fn name_of(item: &Item) -> String {
    item[1].as_deref().map_or_else(|| "something without a name".into(), |name| name.escape_ascii().to_string())
}

async fn items(connection: &mut SqliteConnection) -> Result<Vec<Item>, sqlx::Error> {
    let mut items = Vec::new();
    let take = |row: &SqliteRow| items.push([0, 1, 2, 3].map(|column| row.try_get(column).ok()));
    each_row(connection, sqlx::query(SCHEMA), take).await?;
    items.retain(|[_, name, ..]: &Item| !name.as_ref().is_some_and(|name| name.starts_with(STATISTICS)));
    Ok(items)
}

/// What sqlx's own table alone, and after it each further migration, leaves as the description.
async fn expected() -> Result<&'static [Vec<Item>], sqlx::Error> {
    static EXPECTED: OnceLock<Vec<Vec<Item>>> = OnceLock::new();
    if let Some(expected) = EXPECTED.get() {
        return Ok(expected);
    }
    let mut connection = SqliteConnection::connect("sqlite::memory:").await?;
    connection.ensure_migrations_table(MIGRATIONS_TABLE).await?;
    let mut made = vec![items(&mut connection).await?];
    for migration in MIGRATIONS.iter() {
        run(Some(migration.version), &mut connection).await?;
        made.push(items(&mut connection).await?);
    }
    connection.close().await?;
    Ok(EXPECTED.get_or_init(|| made))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A description that SQLite words otherwise one day must not make damaged catalogues of all that are there: then the
    /// former one has to be known as well.
    #[tokio::test]
    async fn the_description_is_the_one_of_all_catalogues_so_far() {
        let expected = expected().await.expect("it can be made in memory");
        let mut text = String::new();
        for (count, items) in expected.iter().enumerate() {
            text += &format!("after {count} migrations\n");
            for [kind, name, table, sql] in items {
                let shown = |value: &Option<Vec<u8>>| String::from_utf8(value.clone().unwrap_or_default());
                let [kind, name, table, sql] =
                    [kind, name, table, sql].map(|value| shown(value).expect("what is ours is text"));
                text += &format!("{kind} {name} of {table}\n{sql}\n");
            }
        }
        assert_eq!(text, include_str!("../tests/data/schema.txt"));
    }

    fn rows(count: usize) -> Vec<Applied> {
        MIGRATIONS.iter().take(count).map(Applied::expected).collect()
    }

    fn row(version: i64) -> Applied {
        let text = |text: String| Some(text.into_bytes());
        Applied { version: text(version.to_string()), checksum: text("abc".into()), success: text("1".into()) }
    }

    #[tokio::test]
    async fn a_newer_version_is_told_from_damage() {
        let expected = expected().await.expect("it can be made in memory");
        let known = expected.len() - 1;
        let changed = "its list of migrations is changed";
        let judged = |found: usize, applied: Vec<Applied>| judge(expected, &expected[found], &applied);
        assert_eq!(judged(0, rows(0)), Version::New);
        assert_eq!(judged(1, rows(1)), Version::Older(1));
        assert_eq!(judged(known, rows(known)), Version::Current);
        assert_eq!(judged(known, [rows(known), vec![row(8), row(9)]].concat()), Version::Newer(9));
        // The number of a row changed, with all its other values in place or not.
        let renumbered = Applied { version: Some(b"130".to_vec()), ..rows(known)[known - 1].clone() };
        for last in [renumbered, row(8)] {
            let applied = [rows(known - 1), vec![last]].concat();
            assert_eq!(judged(known, applied), Version::Damaged(changed.into()));
        }
        assert_eq!(judged(known, [rows(known), vec![row(-3)]].concat()), Version::Damaged(changed.into()));
        assert!(matches!(judged(known, rows(known - 1)), Version::Damaged(_)), "a row is missing");
        assert!(matches!(judged(known - 1, rows(known)), Version::Damaged(_)), "tables are missing");
    }
}
