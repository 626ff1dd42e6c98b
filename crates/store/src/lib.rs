//! Keeps spans: first durable in a log and visible in memory, then in Parquet files, merged, and removed in time.
//!
//! Entry type: [`Store`]. [`Store::append`] returns when a batch is durable and visible. [`Store::snapshot`] gives queries
//! the spans in memory and the files as one, in which every span is exactly once: copies (`copies`, `hot_copies`) are
//! recognised wherever their twin lies.
//!
//! What came since a position of the log is told by [`Snapshots::arrived`] (`arrivals`).
//!
//! The way of a span: `log` (write, synchronise, acknowledge) → `state` (in memory) → `flush` (a file for each hour) →
//! `compact` (merged, packed harder) → `keeper` (expired, deleted). The format of the files is a crate of its own, `spanfile`; `objects` is where
//! they lie.
//!
//! Invariants: nothing is acknowledged before it is synchronised to the disk; one transaction of the catalogue adds
//! files *and* advances the log's position; memory and files change for queries under one lock; a file is deleted only
//! after a grace period longer than any query; a failed synchronisation ends ingest.
//!
//! This crate must never know wire formats, query languages or HTTP.
//!
//! Tests: `tests/it`, from the outside; formats beside their code.

mod absent;
mod admit;
mod arrivals;
mod carry;
mod check;
mod choose;
mod clock;
mod commits;
mod compact;
mod config;
mod copies;
mod damage_found;
mod decide;
mod decider;
mod deletion;
mod describe;
mod error;
mod flush;
mod flush_round;
mod flusher;
mod folder;
mod foreseen;
mod held_back;
mod hot_batch;
mod hot_batches;
mod hot_copies;
mod keeper;
mod log_losses;
mod lost;
mod merger;
mod not_live;
mod notes;
mod object_stores;
mod objects;
mod other_tables;
mod repair;
mod repair_report;
mod replay;
mod saved_queries;
mod share;
mod shared;
mod snapshot;
mod span_file;
mod start;
mod state;
mod store;
mod stored_ids;
mod survey;
mod trace_table;
mod troubles;
mod trust;
mod twins;
mod unreadable;
mod verify;
mod worker;
mod workers;

pub use absent::{Unreadable, UnreadableReason};
pub use arrivals::Arrived;
pub use check::{CheckReport, FileFinding, FileTrouble, Progress, StorePaths, check_store};
pub use clock::{ClockStanding, StoreClock};
pub use compact::CompactReport;
pub use config::{StoreConfig, StoreStep};
pub use decider::{Decider, WholeTrace};
pub use error::{OpenError, ReadError, WriteError};
pub use flush::FlushReport;
pub use folder::open_folder;
pub use hot_batch::HotBatch;
pub use hot_batches::HotBatches;
pub use hot_copies::HotRows;
pub use repair::{RepairOptions, repair_store};
pub use repair_report::{Action, Left, RepairReport};
pub use snapshot::{Snapshot, Snapshots};
pub use span_file::SpanFile;
pub use store::{Store, StoreStatus};
pub use tracehouse_log::{AppendError, Background, Durability};
pub use trust::trust_clock;
pub use verify::Readable;
