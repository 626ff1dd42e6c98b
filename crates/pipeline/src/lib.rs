//! What every batch passes through before anything of it is written: an ordered list of stages.
//!
//! Entry types: [`Pipeline`], and [`TenantGate`], which says whose spans may come in at all. A receiver decodes a request into a `SpanBatch`, [`Pipeline::process`] runs it through each
//! [`Stage`] in turn, and only what comes out goes to the log. A stage may edit spans in place and may refuse spans one
//! by one; the rest of the batch is kept, and the sender is told how many were refused and why ([`Processed`]).
//!
//! Invariants: nothing reaches a disk that has not passed every stage (this is why redaction belongs here); a stage sees
//! only spans that no earlier stage refused; a batch of which nothing is refused is not copied; every refused span is
//! counted in `tracehouse_pipeline_refused_spans_total`, by reason.
//!
//! This crate must never know wire formats, files, async, or where batches come from and go to. Time comes from the
//! injected `Clock`.
//!
//! Tests: beside the code.

mod stage;
mod tenants;
mod times;
mod trace_size;

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use tracehouse_model::{Clock, Limits, SpanBatch, TenantId, TraceId};

pub use stage::{Refusals, Stage};
pub use tenants::{TenantGate, TenantRefusal};
pub use times::CheckTimes;
use times::START_IN_FUTURE;
pub use trace_size::LimitTraceSize;

const REFUSED: &str = "tracehouse_pipeline_refused_spans_total";

/// The ordered stages that each batch passes.
pub struct Pipeline {
    stages: Vec<Box<dyn Stage>>,
}

/// What came out of the pipeline.
pub struct Processed {
    /// The spans that go on, in the order they came.
    pub batch: SpanBatch,
    /// How many spans were refused.
    pub rejected_spans: u64,
    /// Whether some of them begin later than this machine's clock allows, which may be the one that is wrong.
    pub of_the_future: bool,
    /// Why, in words for the sender; empty if none was refused.
    pub message: String,
}

impl Pipeline {
    /// The stages that every Tracehouse runs. `retention`: how long spans are kept.
    ///
    /// `store_clock`: by which the store judges the age of spans; it does not follow a machine's clock that was set ahead.
    pub fn new(limits: Limits, retention: Duration, clock: Arc<dyn Clock>, store_clock: Arc<dyn Clock>) -> Self {
        metrics::describe_counter!(REFUSED, "Spans refused by the pipeline, by reason");
        Self::with_stages(vec![
            Box::new(CheckTimes::new(limits.future_nanos_max, retention, clock.clone(), store_clock)),
            Box::new(LimitTraceSize::new(limits.spans_per_trace_max, clock)),
        ])
    }

    /// Any stages, in the order in which they run.
    pub fn with_stages(stages: Vec<Box<dyn Stage>>) -> Self {
        Self { stages }
    }

    /// Runs a tenant's batch through all stages. Takes well under a millisecond for a batch of which nothing is refused.
    pub fn process(&self, tenant: &TenantId, mut batch: SpanBatch) -> Processed {
        let mut rejected_spans = 0;
        let mut of_the_future = false;
        let mut message = String::new();
        for stage in &self.stages {
            let mut refusals = Refusals::default();
            stage.apply(tenant, &mut batch, &mut refusals);
            if refusals.is_empty() {
                continue;
            }
            batch = without_rows(&batch, refusals.rows());
            for (reason, count) in refusals.reasons() {
                rejected_spans += count;
                of_the_future |= reason.label == START_IN_FUTURE;
                describe(&mut message, reason, count);
                metrics::counter!(REFUSED, "reason" => reason.label).increment(count);
            }
        }
        Processed { batch, rejected_spans, of_the_future, message }
    }

    /// To be called if what came out of [`Pipeline::process`] was not kept: with the traces of its spans, one for each.
    pub fn not_kept(&self, tenant: &TenantId, traces: &[TraceId]) {
        for stage in &self.stages {
            stage.not_kept(tenant, traces);
        }
    }
}

/// Why a span is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// Short and fixed, for metrics.
    pub label: &'static str,
    /// For the sender: what is wrong and what to do.
    pub advice: String,
}

fn describe(message: &mut String, reason: &Reason, count: u64) {
    let separator = if message.is_empty() { "" } else { "; " };
    let spans = if count == 1 { "span" } else { "spans" };
    write!(message, "{separator}{count} {spans} refused: {}", reason.advice).expect("writing to a String cannot fail");
}

/// The batch without some rows, which are given in ascending order.
fn without_rows(batch: &SpanBatch, refused: &[usize]) -> SpanBatch {
    let mut refused = refused.iter().copied().peekable();
    let kept = (0..batch.len()).filter(|&row| refused.next_if_eq(&row).is_none());
    let mut rest = SpanBatch::new();
    rest.append_rows(batch, kept);
    rest
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracehouse_model::{SpanFields, SpanId, TraceId};

    /// Refuses the spans with the given names.
    struct RefuseNamed(&'static str, Reason);

    impl Stage for RefuseNamed {
        fn apply(&self, _tenant: &TenantId, batch: &mut SpanBatch, refusals: &mut Refusals) {
            for row in 0..batch.len() {
                if batch.strings.get(batch.name[row]) == self.0 {
                    refusals.refuse(row, || self.1.clone());
                }
            }
        }
    }

    fn batch(names: &[&str]) -> SpanBatch {
        let mut batch = SpanBatch::new();
        let resource = batch.finish_resource(0, 0);
        let scope = batch.finish_scope(0, 0, 0, 0);
        for (row, name) in names.iter().enumerate() {
            let name = batch.strings.intern(name.as_bytes());
            batch.finish_span(SpanFields {
                trace_id: TraceId([7; 16]),
                span_id: SpanId([row as u8 + 1; 8]),
                name,
                resource,
                scope,
                ..SpanFields::default()
            });
        }
        batch
    }

    fn names(batch: &SpanBatch) -> Vec<&str> {
        batch.name.iter().map(|&code| batch.strings.get(code)).collect()
    }

    fn refuse(name: &'static str, label: &'static str) -> Box<dyn Stage> {
        Box::new(RefuseNamed(name, Reason { label, advice: format!("{name} is not wanted") }))
    }

    #[test]
    fn refuses_rows_and_keeps_the_rest_in_order() {
        let pipeline = Pipeline::with_stages(vec![refuse("b", "b"), refuse("d", "d")]);
        let cases: &[(&[&str], &[&str], u64, &str)] = &[
            (&["a", "c"], &["a", "c"], 0, ""),
            (&[], &[], 0, ""),
            (&["b"], &[], 1, "1 span refused: b is not wanted"),
            (&["a", "b", "c", "b"], &["a", "c"], 2, "2 spans refused: b is not wanted"),
            (&["d", "b", "a"], &["a"], 2, "1 span refused: b is not wanted; 1 span refused: d is not wanted"),
        ];
        for (sent, kept, rejected, message) in cases {
            let processed = pipeline.process(&TenantId::default(), batch(sent));
            assert_eq!(names(&processed.batch), *kept, "{sent:?}");
            assert_eq!(processed.rejected_spans, *rejected, "{sent:?}");
            assert_eq!(processed.message, *message, "{sent:?}");
        }
    }

    #[test]
    fn does_not_copy_a_batch_without_refusals() {
        let pipeline = Pipeline::with_stages(vec![refuse("b", "b")]);
        let sent = batch(&["a", "c"]);
        let address = sent.trace_id.as_ptr();
        assert_eq!(pipeline.process(&TenantId::default(), sent).batch.trace_id.as_ptr(), address);
    }
}
