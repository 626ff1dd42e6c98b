//! The write-ahead log: what makes an acknowledged span durable.
//!
//! A record is one batch of one tenant. Records are numbered from 1 in the order they become durable. How far they are stored
//! in files is told by the catalogue's positions, for each tenant and for everyone ([`Positions`]). Everything after them is
//! replayed at start.
//!
//! `segment` is the format, `pieces` reads a segment piece by piece, `scan` finds the records in it, `recover` reads the log
//! after a start, `inspect` reads it without changing it, `continuity` tells what is missing, `losses` remembers that, `writer`
//! appends to it.

mod continuity;
mod entry;
mod inspect;
mod losses;
mod pieces;
mod positions;
mod recover;
mod scan;
mod segment;
mod span_log;
mod writer;

pub(crate) use continuity::{LOG_META, LogMark};
pub(crate) use entry::{DurableBatch, LogEntry};
pub(crate) use inspect::{LogFinding, SegmentFinding, inspect};
pub(crate) use losses::{LOSSES_META, Losses};
pub(crate) use positions::{Positions, adopted, all_adopted, is_stored, stored};
pub(crate) use recover::{DAMAGED_FOLDER, Finding, RecordAtFault, Recovered, recover};
pub(crate) use segment::RecordKind;
pub(crate) use span_log::SpanLog;
pub(crate) use writer::{LogSettings, SegmentedLog};
