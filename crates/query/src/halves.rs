//! Halves of calls that share an id, among spans that are looked at one by one, without their traces.
//!
//! What such a half names as its parent is not what it stands beneath: that is the other half (`tracehouse_model`, `tree`). Files tell by their offsets
//! which spans are such halves; those in memory are compared with each other. Halves in different places are known only to who puts their trace together.

use tracehouse_model::{SeededSet, SpanBatch, SpanId, TraceId, is_callee, is_caller};
use tracehouse_store::{HotBatch, HotBatches};

use crate::compile::Expression;

/// The callers among the spans in memory.
pub(crate) struct HotCallers(SeededSet<(TraceId, SpanId)>);

impl HotCallers {
    /// `None` if nobody asks for parents.
    pub(crate) fn for_expressions(hot: &HotBatches, expressions: &[&Expression]) -> Option<Self> {
        expressions.iter().any(|expression| expression.mentions_parent).then(|| {
            let of_batch = |batch: &HotBatch| {
                let spans = &batch.spans;
                let callers = (0..spans.len()).filter(|&row| is_caller(spans.kind[row]));
                callers.map(|row| (spans.trace_id[row], spans.span_id[row])).collect::<Vec<_>>()
            };
            Self(hot.iter().flat_map(|batch| of_batch(batch)).collect())
        })
    }

    /// Whether a span in memory is the callee's half of a call whose other half has its id.
    pub(crate) fn has_half(&self, spans: &SpanBatch, row: usize) -> bool {
        is_callee(spans.kind[row]) && self.0.contains(&(spans.trace_id[row], spans.span_id[row]))
    }
}
