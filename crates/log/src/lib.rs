//! The write-ahead log: what makes an acknowledged span durable.
//!
//! Entry types: the trait [`SpanLog`], to which batches are submitted and from which they are fed; [`SegmentedLog`], the log in
//! files of one folder; [`recover`], which brings back after a start what was durable.
//!
//! A record is one batch of one tenant. Records are numbered from 1 in the order they become durable. How far they are stored
//! in files is told by whoever stores them, for each tenant and for everyone ([`Positions`]). Everything after them is replayed
//! at a start.
//!
//! `segment` is the format, `pieces` reads a segment piece by piece, `parts` finds the records in it, `feed` reads on behind a
//! position while the log is written, `recover` reads the log after a start, `inspect` reads it without changing it,
//! `continuity` tells what is missing, `writer` appends to it.
//!
//! Invariants: a record is acknowledged, visible and fed only once the disk has it; a failed synchronisation is never tried
//! again; numbers are given once; a record whose checksum is wrong is never returned.
//!
//! This crate must never know the catalogue, files of spans, queries or wire formats.
//!
//! Tests: formats beside their code; with a store around it and disks that fail in `store/tests`.

mod continuity;
mod entry;
mod error;
mod feed;
mod inspect;
mod parts;
mod pieces;
mod positions;
mod recover;
mod segment;
mod settings;
mod shared;
mod span_log;
mod writer;

pub use continuity::{EndLost, LOG_META, LogMark, LostRecords};
pub use entry::{DurableBatch, LogEntry};
pub use error::{AppendError, FeedError};
pub use inspect::{LogFinding, SegmentFinding, inspect};
pub use positions::{Positions, adopted, all_adopted, is_stored, stored};
pub use recover::{DAMAGED_FOLDER, Finding, RecordAtFault, Recovered, recover};
pub use segment::RecordKind;
pub use settings::{Background, Durability, LogSettings};
pub use span_log::{SpanFeed, SpanLog};
pub use writer::SegmentedLog;
