//! Which files hold what: the one place that decides what is stored.
//!
//! Entry type: [`Catalogue`], with [`SqliteCatalogue`] for one machine. A file of spans exists for queries from the
//! moment a [`Commit`] names it until a later one retires it; a commit also advances the log's position, in the same
//! transaction, which is what makes storage exactly-once.
//!
//! Invariants: commits are atomic; a position never goes back; a retired file stays listed until it is forgotten, so
//! that no crash can lose track of a file on the disk.
//!
//! This crate must never know Parquet, object stores or spans: to it a file is a path with numbers.
//!
//! Tests: `tests/it`, against a real SQLite file.

mod sqlite;

use async_trait::async_trait;
use tracehouse_model::TenantId;

pub use sqlite::SqliteCatalogue;

/// Keeps the list of files and the positions of logs.
#[async_trait]
pub trait Catalogue: Send + Sync {
    /// All files, the retired ones too, and the log positions.
    async fn load(&self) -> Result<CatalogueContents, CatalogueError>;

    /// Applies a change as a whole or not at all.
    async fn commit(&self, commit: Commit) -> Result<(), CatalogueError>;

    /// Removes retired files from the list, after they were removed from the disk.
    async fn forget(&self, file_ids: &[String]) -> Result<(), CatalogueError>;
}

#[derive(Debug, Clone, Default)]
pub struct CatalogueContents {
    pub files: Vec<FileRecord>,
    pub log_positions: Vec<LogPosition>,
}

/// One file of spans.
#[derive(Debug, Clone, PartialEq)]
pub struct FileRecord {
    pub id: String,
    pub tenant: TenantId,
    /// Path inside the object store.
    pub path: String,
    /// 0 as flushed from memory; 1 and up after compaction.
    pub level: u8,
    /// How long it is kept: `hot`, `warm` or `cold`.
    pub tier: String,
    pub spans: u64,
    pub bytes: u64,
    /// First and last start of a span inside, in nanoseconds since the Unix epoch.
    pub start_min: i64,
    pub start_max: i64,
    pub created_at: i64,
    /// Opaque to the catalogue: a filter over the trace ids inside.
    pub trace_filter: Vec<u8>,
    /// Opaque to the catalogue: names that occur inside, for completion and pruning.
    pub contents: String,
    pub retired: Option<Retirement>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Retirement {
    pub at: i64,
    pub reason: RetirementReason,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetirementReason {
    /// Compaction wrote its spans into another file.
    Replaced,
    /// Older than retention allows, or the disk budget is used up.
    Expired,
    /// It could not be read; it is kept aside on the disk and never deleted.
    Damaged,
}

impl RetirementReason {
    pub fn as_str(self) -> &'static str {
        match self {
            RetirementReason::Replaced => "replaced",
            RetirementReason::Expired => "expired",
            RetirementReason::Damaged => "damaged",
        }
    }

    fn parse(text: &str) -> Self {
        match text {
            "replaced" => RetirementReason::Replaced,
            "expired" => RetirementReason::Expired,
            _ => RetirementReason::Damaged,
        }
    }
}

/// How far a log is stored in files: everything up to and including `position`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogPosition {
    pub log: String,
    /// Whose spans; `None`: everyone's.
    pub tenant: Option<TenantId>,
    pub position: u64,
}

/// One atomic change.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    pub add: Vec<FileRecord>,
    /// Ids of files that no longer answer queries, and why.
    pub retire: Vec<(String, RetirementReason)>,
    pub retired_at: i64,
    /// Log positions to move forward. A position for everyone makes those of tenants that are not ahead of it unnecessary;
    /// they go.
    pub log_positions: Vec<LogPosition>,
}

#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    #[error("opening the catalogue {path} failed; check that the folder exists, is writable and has room")]
    Open { path: String, source: sqlx::Error },
    #[error("bringing the catalogue {path} to this version's schema failed; was it written by a newer version?")]
    Migrate { path: String, source: sqlx::migrate::MigrateError },
    #[error("reading or writing the catalogue failed")]
    Query(#[from] sqlx::Error),
    #[error("the catalogue holds a file of an impossible tenant")]
    Tenant(#[from] tracehouse_model::TenantError),
    #[error("file {0} was to be retired but is not live: another process changed the catalogue")]
    NotLive(String),
    #[error(
        "the position of the log {log} was to go back from {known} to {wanted}: another process changed the catalogue, or \
         it was replaced while this one ran"
    )]
    PositionBack { log: String, known: u64, wanted: u64 },
}
