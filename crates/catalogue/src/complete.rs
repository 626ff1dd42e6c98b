//! Statements of which all results have come.
//!
//! SQLite works on a thread of its own. If that ends in the middle of a statement, sqlx gives what came so far, as if that
//! were all: fewer rows, or a change that was never made. Worse, the next statement may wait for ever. Only the last thing
//! that a statement gives, its outcome, tells that it was carried out; so everything goes through here.

use futures::TryStreamExt;
use futures::future::BoxFuture;
use sqlx::query::Query;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteQueryResult, SqliteRow};
use sqlx::{Either, Executor, Sqlite};

/// Hands on each row of a statement. Boxed, as the compiler does not see through sqlx's streams that they may move between
/// threads.
pub(crate) fn each_row<'c>(
    connection: &'c mut SqliteConnection,
    query: Query<'c, Sqlite, SqliteArguments>,
    mut take: impl FnMut(&SqliteRow) + Send + 'c,
) -> BoxFuture<'c, Result<SqliteQueryResult, sqlx::Error>> {
    Box::pin(async move {
        let mut steps = connection.fetch_many(query);
        let mut outcome = None;
        while let Some(step) = steps.try_next().await? {
            match step {
                Either::Left(result) => outcome = Some(result),
                Either::Right(row) => take(&row),
            }
        }
        outcome.ok_or(sqlx::Error::WorkerCrashed)
    })
}

/// Carries out a change.
pub(crate) fn change<'c>(
    connection: &'c mut SqliteConnection,
    query: Query<'c, Sqlite, SqliteArguments>,
) -> BoxFuture<'c, Result<SqliteQueryResult, sqlx::Error>> {
    each_row(connection, query, |_| {})
}
