//! Who decides which traces are kept, and what it is shown of them: see [`crate::decide`].

use std::fmt;
use std::time::Duration;

use tracehouse_model::{SpanBatch, TenantId, TraceId};

/// Decides which traces a merge keeps. The same trace may be asked about again, by later merges, with the spans that are left of it.
pub trait Decider: fmt::Debug + Send + Sync {
    /// Whether the spans of a trace in the merged files are kept. May be called by threads that merge, and should take microseconds.
    fn keeps(&self, trace: &WholeTrace<'_>) -> bool;

    /// Files are looked into for further spans of a trace if they hold spans that begin so near those of the merged files.
    fn reach(&self) -> Duration {
        Duration::from_secs(3600)
    }
}

/// All that the store has of a trace.
#[derive(Clone, Copy)]
pub struct WholeTrace<'a> {
    pub tenant: &'a TenantId,
    pub id: TraceId,
    pub(crate) spans: &'a [(&'a SpanBatch, usize)],
}

impl<'a> WholeTrace<'a> {
    /// Batches, and the row of a span in each; in no order. Spans that were sent twice may be among them twice.
    pub fn spans(&self) -> impl Iterator<Item = (&'a SpanBatch, usize)> {
        self.spans.iter().copied()
    }
}
