use tracehouse_model::{SpanBatch, TenantId, TraceId};

use crate::Reason;

/// One step of the pipeline.
pub trait Stage: Send + Sync {
    /// Looks at every span of the batch, all of one tenant, edits those that need it in place, and refuses those that may not go on.
    fn apply(&self, tenant: &TenantId, batch: &mut SpanBatch, refusals: &mut Refusals);

    /// Spans of these traces, one for each, went through all stages and were not kept after all; their sender may send
    /// them again. For stages that count.
    fn not_kept(&self, _tenant: &TenantId, _traces: &[TraceId]) {}
}

/// The spans that one stage refuses, by row, with reasons.
#[derive(Default)]
pub struct Refusals {
    rows: Vec<usize>,
    /// Few: a stage has a handful of reasons.
    reasons: Vec<(Reason, u64)>,
}

impl Refusals {
    /// Refuses a row. Rows are refused in ascending order, each once.
    pub fn refuse(&mut self, row: usize, reason: impl FnOnce() -> Reason) {
        assert!(self.rows.last().is_none_or(|&last| last < row), "rows are refused in ascending order");
        self.rows.push(row);
        let reason = reason();
        match self.reasons.iter_mut().find(|(known, _)| known.label == reason.label) {
            Some((_, count)) => *count += 1,
            None => self.reasons.push((reason, 1)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(crate) fn rows(&self) -> &[usize] {
        &self.rows
    }

    pub(crate) fn reasons(&self) -> impl Iterator<Item = (&Reason, u64)> {
        self.reasons.iter().map(|(reason, count)| (reason, *count))
    }
}
