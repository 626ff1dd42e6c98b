//! Repeats spans in the log that could not be written to files for long, so that the segments they stand in can be let go.
//!
//! The new records are durable first, and count from one commit on that at the same moment makes the old ones not count:
//! `log/positions.rs` says why a crash at any point leaves exactly one of the two.

use std::sync::Arc;

use tracehouse_catalogue::Commit;
use tracehouse_model::{SpanBatch, TenantId};

use crate::error::WriteError;
use crate::hot_batch::HotBatch;
use crate::shared::Shared;
use tracehouse_log::AppendError;
use tracehouse_log::{LogEntry, RecordKind, SpanLog, adopted, stored};

/// Repeats all spans that a tenant has in memory. `up_to` is the log's number up to which `batches` are all of them; the
/// caller keeps flushes from going on meanwhile.
pub(crate) fn carry_forward(
    shared: &Shared,
    log: &dyn SpanLog,
    tenant: &TenantId,
    batches: &[Arc<HotBatch>],
    up_to: u64,
) -> Result<(), WriteError> {
    let mut first = u64::MAX;
    let mut last = 0;
    for batch in batches {
        let mut spans = SpanBatch::new();
        spans.append(&batch.spans);
        let sequence = append(log, tenant, spans)?;
        first = first.min(sequence);
        last = last.max(sequence);
    }
    if last == 0 {
        return Ok(());
    }
    let commit =
        Commit { log_positions: vec![stored(Some(tenant), up_to), adopted(tenant, last)], ..Commit::default() };
    shared.commit(commit)?;
    shared.state.carried_forward(tenant, up_to, first);
    metrics::counter!("tracehouse_log_carried_records_total").increment(batches.len() as u64);
    tracing::warn!(%tenant, records = batches.len(), "repeated spans in the log that can't be written to files, to let go of older segments");
    Ok(())
}

/// Waits until the record is durable; returns its number.
fn append(log: &dyn SpanLog, tenant: &TenantId, spans: SpanBatch) -> Result<u64, WriteError> {
    let (done, outcome) = tokio::sync::oneshot::channel();
    log.submit(LogEntry::new(tenant.clone(), RecordKind::Carried, spans, done));
    log.write_queued();
    let ended = || AppendError::Failed { reason: "the log ended while spans were repeated".into() };
    Ok(outcome.blocking_recv().unwrap_or_else(|_| Err(ended()))?)
}
