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
mod inspect;
mod losses;
mod pieces;
mod positions;
mod recover;
mod scan;
mod segment;
mod writer;

use std::time::Duration;

use tracehouse_model::{SpanBatch, TenantId};

use crate::error::AppendError;

pub(crate) use continuity::{LOG_META, LogMark};
pub(crate) use inspect::{LogFinding, SegmentFinding, inspect};
pub(crate) use losses::{LOSSES_META, Losses};
pub(crate) use positions::{Positions, adopted, all_adopted, is_stored, stored};
pub(crate) use recover::{DAMAGED_FOLDER, Recovered, recover};
pub(crate) use segment::RecordKind;
pub(crate) use writer::{LogSettings, SegmentedLog};

/// When an append counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// After the disk has confirmed it: nothing acknowledged is lost in a power failure.
    Fsync,
    /// After the operating system has it; the disk is synchronised at this interval. A crash of Tracehouse loses nothing,
    /// a crash of the machine loses what was acknowledged since.
    Interval(Duration),
}

/// Is told the number of a record once it is durable *and* visible, or why it is not.
pub(crate) type Done = tokio::sync::oneshot::Sender<Result<u64, AppendError>>;

/// A batch on its way into the log.
pub(crate) struct LogEntry {
    pub(crate) tenant: TenantId,
    pub(crate) kind: RecordKind,
    pub(crate) spans: SpanBatch,
    /// The record's body, encoded by the caller's thread: see [`segment::encode_body`].
    pub(crate) body: Vec<u8>,
    pub(crate) body_crc: u32,
    pub(crate) done: Done,
}

impl LogEntry {
    pub(crate) fn new(tenant: TenantId, kind: RecordKind, spans: SpanBatch, done: Done) -> Self {
        let exact = spans.into_exact();
        let body = segment::encode_body(&tenant, kind, &exact);
        let body_crc = crc32c::crc32c(&body);
        Self { tenant, kind, spans: exact.into_spans(), body, body_crc, done }
    }
}

/// A batch that is durable and now has to become visible to queries, if it is a new one.
pub(crate) struct DurableBatch {
    pub(crate) sequence: u64,
    pub(crate) tenant: TenantId,
    pub(crate) kind: RecordKind,
    pub(crate) spans: SpanBatch,
}

/// Where acknowledged spans are kept until they stand in files. A Kafka topic can take the place of the local segments.
pub(crate) trait SpanLog: Send + Sync {
    /// Queues a batch. Its `done` is told what became of it.
    fn submit(&self, entry: LogEntry);

    /// Writes what is queued, on this thread, where no thread does ([`Background::Called`](crate::Background::Called)).
    fn write_queued(&self);

    /// Everything up to and including this number is stored in files, or further on in the log, and need not be kept.
    fn release(&self, up_to: u64);

    /// Bytes waiting to be written.
    fn queued_bytes(&self) -> usize;

    /// Bytes on the disk.
    fn disk_bytes(&self) -> u64;

    /// Why the log accepts nothing any more, if it doesn't.
    fn failure(&self) -> Option<String>;

    /// Whether a segment was removed or the log failed since the last call. How far it has come is to be remembered then: should the
    /// process be killed, nothing else tells what is gone.
    fn take_news(&self) -> bool;

    /// Writes what is queued, then ends.
    fn stop(&self);
}
