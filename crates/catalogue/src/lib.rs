//! Which files hold what: the one place that decides what is stored.
//!
//! Entry type: [`Catalogue`], with [`SqliteCatalogue`] for one machine. A file of spans exists for queries from the
//! moment a [`Commit`] names it until a later one retires it; a commit also advances the log's positions, in the same
//! transaction, which is what makes storage exactly-once.
//!
//! Files describe themselves. What is here of a file is small and read as a whole at a start; descriptions of files that an
//! older version wrote are read one by one ([`Catalogue::legacy_description`]).
//!
//! Invariants: commits are atomic; a position moves only forward, and only for who
//! knows where it is (`positions`); a retired file stays
//! listed until it is forgotten, so that no crash can lose track of a file on the disk; every row has a checksum, and one
//! that does not match is reported as a [`DamagedRow`] or a [`DamagedNote`], never used and never an error for the others. A
//! row of what is remembered that has been written once must be there: its absence is reported as well.
//!
//! The modules: `sqlite` runs the statements, `complete` sees that all of their results come, `header` and `schema` look
//! whether the file describes itself as it should, `rows` turns rows into records and checks them, `names` keeps the list
//! of what must be remembered, `revisions` tells what changed since when, `rebuild` saves what is left of a damaged catalogue.
//!
//! This crate must never know Parquet, object stores or spans: to it a file is a path with numbers.
//!
//! Tests: `tests/it`, against a real SQLite file.

mod complete;
mod header;
mod names;
mod place;
mod positions;
mod rebuild;
mod regular;
mod revisions;
mod rows;
mod schema;
mod sqlite;
mod standing;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use async_trait::async_trait;
pub use tracehouse_model::LogPosition;
use tracehouse_model::TenantId;

pub use place::{Table, Tier};
pub use positions::KnownPositions;
pub use rebuild::{Rebuilt, rebuild};
pub use sqlite::SqliteCatalogue;

/// Keeps the list of files and the positions of logs.
#[async_trait]
pub trait Catalogue: Send + Sync {
    /// All files, the retired ones too, the log positions, and what else is remembered.
    async fn load(&self) -> Result<CatalogueContents, CatalogueError>;

    /// Applies a change as a whole or not at all.
    async fn commit(&self, commit: Commit) -> Result<(), CatalogueError>;

    /// Removes retired files from the list, after they were removed from the disk.
    async fn forget(&self, file_ids: &[String]) -> Result<(), CatalogueError>;

    /// What changed in the list of files after a revision, which an earlier answer or [`Catalogue::load`] gave.
    async fn changes_since(&self, revision: Revision) -> Result<Changes, CatalogueError>;

    /// What is remembered under a name now: see [`Commit::meta`].
    async fn remembered(&self, name: &str) -> Result<Option<String>, CatalogueError> {
        self.load().await?.remembered(name)
    }

    /// What a file was described by whose layout (version 1) has no place for it. `None` for files that describe themselves.
    async fn legacy_description(&self, file_id: &str) -> Result<Option<LegacyDescription>, CatalogueError>;
}

#[derive(Debug, Clone, Default)]
pub struct CatalogueContents {
    /// Of all this.
    pub revision: Revision,
    pub files: Vec<FileRecord>,
    /// Rows that can't be believed: the catalogue does not know these files, or not any more.
    pub damaged_rows: Vec<DamagedRow>,
    pub log_positions: Vec<LogPosition>,
    /// What is remembered beside the files, by name: see [`Commit::meta`].
    pub meta: BTreeMap<String, String>,
    /// Positions and what is remembered, as far as it can't be believed or is not there any more.
    pub damaged_notes: Vec<DamagedNote>,
    /// Under which names something must be remembered. `None`: nobody knows, as an earlier version did not write it down, or
    /// it is damaged.
    pub meta_names: Option<BTreeSet<String>>,
}

impl CatalogueContents {
    /// Whether something was, or may have been, remembered under a name, and is not known any more.
    pub fn is_lost(&self, name: &str) -> bool {
        let may_be_lost = || self.damaged_notes.iter().any(|note| note.kind == NoteKind::Meta);
        let must_be_there = self.meta_names.as_ref().map_or_else(may_be_lost, |names| names.contains(name));
        must_be_there && !self.meta.contains_key(name)
    }

    /// What is remembered under a name, if nothing of that may be lost.
    pub(crate) fn remembered(mut self, name: &str) -> Result<Option<String>, CatalogueError> {
        match self.meta.remove(name) {
            None if self.is_lost(name) => Err(CatalogueError::Forgotten { name: name.to_owned() }),
            known => Ok(known),
        }
    }

    /// Whether a log's position was, or may have been, known, and is not any more.
    pub fn are_positions_lost(&self) -> bool {
        self.damaged_notes.iter().any(|note| note.kind == NoteKind::LogPosition)
    }
}

/// Which commit the list of files stands at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Revision {
    /// Numbers of one history can be compared with each other, and no others. 0: none.
    pub history: u64,
    /// Each commit that changes something raises it by one.
    pub number: u64,
}

/// What changed in the list of files after a [`Revision`].
#[derive(Debug, Clone, PartialEq)]
pub enum Changes {
    Since {
        /// What the list stands at with these changes.
        revision: Revision,
        /// Files that were added, and those of which something changed, such as that they were retired. By id.
        changed: Vec<FileRecord>,
        /// Ids of files that left the list, also of ones that came meanwhile.
        removed: Vec<String>,
    },
    /// Nobody knows any more, or something is damaged: [`Catalogue::load`] gives everything.
    Everything,
}

impl Changes {
    /// Brings what is known of the files up to date. Returns whether that could be done: not if everything is to be loaded.
    pub fn apply_to(self, revision: &mut Revision, files: &mut BTreeMap<String, FileRecord>) -> bool {
        let Self::Since { revision: new, changed, removed } = self else { return false };
        removed.iter().for_each(|id| drop(files.remove(id)));
        files.extend(changed.into_iter().map(|file| (file.id.clone(), file)));
        *revision = new;
        true
    }
}

/// One file, of spans or of another table.
#[derive(Debug, Clone, PartialEq)]
pub struct FileRecord {
    pub id: String,
    pub tenant: TenantId,
    /// Path inside the object store.
    pub path: String,
    /// What it holds rows of.
    pub table: Table,
    /// 0 as flushed from memory; 1 and up after compaction.
    pub level: u8,
    /// How long it is kept.
    pub tier: Tier,
    /// The name of the object store that holds it.
    pub object_store: String,
    /// Rows, if it is of another table.
    pub spans: u64,
    pub bytes: u64,
    /// First and last start of a span inside, in nanoseconds since the Unix epoch.
    pub start_min: i64,
    pub start_max: i64,
    /// No span inside ends later, in nanoseconds since the Unix epoch. `None`: not known, as an earlier version wrote the row.
    pub end_max: Option<i64>,
    pub created_at: i64,
    /// Bit i: a span begins in minute i of the hour of `start_min`. [`FileRecord::MINUTES_UNKNOWN`]: any, or in other hours
    /// too.
    pub minutes: u64,
    /// 0 if unknown.
    pub row_groups: u32,
    /// How many bytes at the file's end are read to open it. 0 if unknown.
    pub tail_bytes: u32,
    /// Spans inside that nobody can read any more.
    pub lost_spans: u64,
    /// Spans of whole traces that were left out on purpose when it was merged, or when those were that it was merged from.
    pub left_out_spans: u64,
    pub retired: Option<Retirement>,
}

impl FileRecord {
    /// Of [`FileRecord::object_store`]: the folder of the data directory, or what the configuration puts in its place.
    pub const LOCAL: &str = "local";
    /// Of [`FileRecord::minutes`].
    pub const MINUTES_UNKNOWN: u64 = u64::MAX;
}

/// What a file of layout version 1 was described by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LegacyDescription {
    /// Opaque to the catalogue: a filter over the trace ids inside.
    pub trace_filter: Vec<u8>,
    /// Opaque to the catalogue: names that occur inside.
    pub contents: String,
}

/// A row of the list of files that can't be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedRow {
    /// To drop it: see [`Commit::drop_damaged`].
    pub row: i64,
    /// As far as they can be read, and perhaps wrong.
    pub id: Option<String>,
    pub path: Option<String>,
    pub reason: String,
}

/// A row that is none of a file, and can't be believed or is not there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DamagedNote {
    pub kind: NoteKind,
    /// To drop it: see [`Commit::drop_notes`]. `None`: it is not there.
    pub row: Option<i64>,
    /// As far as it can be read, and perhaps wrong: the name of what is remembered, or of the log.
    pub name: Option<String>,
    pub reason: String,
}

/// What a [`DamagedNote`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoteKind {
    /// See [`Commit::meta`].
    Meta,
    LogPosition,
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
    /// Compaction left out all of its spans on purpose.
    LeftOut,
    /// Nothing of it could be read. It is kept aside on the disk as long as retention would have kept it.
    Damaged,
}

impl RetirementReason {
    pub fn as_str(self) -> &'static str {
        match self {
            RetirementReason::Replaced => "replaced",
            RetirementReason::Expired => "expired",
            RetirementReason::LeftOut => "left out",
            RetirementReason::Damaged => "damaged",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [RetirementReason::Replaced, RetirementReason::Expired, RetirementReason::LeftOut, RetirementReason::Damaged]
            .into_iter()
            .find(|reason| reason.as_str() == text)
    }
}

/// One atomic change.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    pub add: Vec<FileRecord>,
    /// Ids of files that no longer answer queries, and why.
    pub retire: Vec<(String, RetirementReason)>,
    pub retired_at: i64,
    /// Files set aside as damaged that answer queries again, as they are now: what their rows say may be of when nothing of them
    /// could be read.
    pub restore: Vec<FileRecord>,
    /// Ids of live files and how many of their spans nobody can read any more.
    pub lost_spans: Vec<(String, u64)>,
    /// Rows of [`DamagedRow`]s that leave the list.
    pub drop_damaged: Vec<i64>,
    /// Rows of [`DamagedNote`]s that go, before anything is put in their place.
    pub drop_notes: Vec<(NoteKind, i64)>,
    /// Log positions to move forward, by a writer that knows where they are: see [`Commit::based_on`]. A position for everyone makes those of tenants that are not ahead of it unnecessary;
    /// they go.
    pub log_positions: Vec<LogPosition>,
    /// Where the writer believes the positions to be that it moves, as [`KnownPositions::basis_of`] gives them; those that are not
    /// listed are at 0. If they are elsewhere nothing is changed, and the error is [`CatalogueError::PositionMoved`].
    pub based_on: Vec<LogPosition>,
    /// What is remembered beside the files: names and their new values.
    pub meta: Vec<(String, String)>,
}

impl Commit {
    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        let Self { add, retire, restore, lost_spans, drop_damaged, drop_notes, log_positions, meta, .. } = self;
        let are_files_same = add.is_empty() && retire.is_empty() && restore.is_empty() && lost_spans.is_empty();
        let are_rows_same = drop_damaged.is_empty() && drop_notes.is_empty();
        are_files_same && are_rows_same && log_positions.is_empty() && meta.is_empty()
    }
}

/// Why the catalogue could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    #[error(
        "opening the catalogue {path} failed; check that the folder exists, is writable, has room, and lies on no disk that is \
         mounted read-only"
    )]
    Open { path: String, source: sqlx::Error },
    #[error(
        "the catalogue {path} was written by a newer version of Tracehouse (schema {version}); nothing was changed. Run that \
         version again, or a later one"
    )]
    Newer { path: PathBuf, version: i64 },
    #[error(
        "the catalogue {path} is damaged ({finding}); nothing was changed. Stop the server and run `tracehouse store repair`: \
         it keeps the damaged catalogue aside, saves what can be read of it and lists the stored files anew"
    )]
    Damaged { path: String, finding: String },
    #[error(
        "{what} stands at {path}, and no file of the catalogue; nothing was changed. Move that away and put the file back. If \
         there is none any more, `tracehouse store repair` lists the stored files anew"
    )]
    NoFile { path: PathBuf, what: &'static str },
    #[error("the catalogue {path} is of an older version; start the server once, or run `tracehouse store repair`")]
    Outdated { path: PathBuf },
    #[error(
        "the catalogue {path} is empty: nothing was written to it yet, or what was stood in {path}-wal, which is gone. If you have that \
         file, put it back; otherwise `tracehouse store repair` lists the stored files anew"
    )]
    Empty { path: PathBuf },
    #[error(
        "the catalogue {path}, or {path}-wal beside it, was removed, renamed, replaced or emptied while the server runs; nothing was written to it. \
         Put back the very files that were there, and it goes on. If they are gone, restart the server: what it acknowledged is in the \
         stored files and in the log, and the start says how to go on"
    )]
    Moved { path: String },
    #[error("the disk has no room for the catalogue; make some, a few MiB are enough to start")]
    NoRoom(#[source] sqlx::Error),
    #[error(
        "the catalogue can't be written; check owner and rights of catalogue.sqlite, catalogue.sqlite-wal and \
         catalogue.sqlite-shm in the data directory, and whether the disk is mounted read-only"
    )]
    ReadOnly(#[source] sqlx::Error),
    #[error("reading or writing the catalogue failed")]
    Query(#[source] sqlx::Error),
    #[error("keeping the damaged catalogue {path} aside failed")]
    KeepAside { path: PathBuf, source: std::io::Error },
    #[error("file {0} was to be changed but is not live: another process changed the catalogue")]
    NotLive(String),
    #[error("file {0} was to be restored but is not one set aside: another process changed the catalogue")]
    NotSetAside(String),
    #[error(
        "the catalogue lost what it remembered as {name}, as a row is damaged or gone; stop the server and run `tracehouse store repair`"
    )]
    Forgotten { name: String },
    #[error("the row of file {id} is damaged ({reason}); stop the server and run `tracehouse store repair`")]
    DamagedRow { id: String, reason: String },
    #[error(
        "the log {log} is stored up to {known} for {whose} by the catalogue, and this process left it at {expected}: another process \
         writes the same catalogue, or it was replaced while this one ran. Nothing was changed. Stop both, give each its own data \
         directory, and start this one with the catalogue that belongs to its log",
        whose = tenant.as_ref().map_or("everyone", |tenant| tenant.as_str())
    )]
    PositionMoved { log: String, tenant: Option<TenantId>, expected: u64, known: u64 },
    #[error(
        "the position of the log {log} was to go back from {known} to {wanted}: another process changed the catalogue, or \
         it was replaced while this one ran"
    )]
    PositionBack { log: String, known: u64, wanted: u64 },
}

impl From<sqlx::Error> for CatalogueError {
    fn from(source: sqlx::Error) -> Self {
        match sqlite::primary_code(&source) {
            Some(sqlite::CODE_FULL) => Self::NoRoom(source),
            Some(sqlite::CODE_READ_ONLY) => Self::ReadOnly(source),
            _ => Self::Query(source),
        }
    }
}
