use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tracehouse_model::{Clock, SpanBatch, TenantId, TraceId};

use crate::{Reason, Refusals, Stage};

/// Refuses further spans of a trace that has had its share, so that one runaway trace cannot take the place of all
/// others.
///
/// An exact count of each trace would need memory for each. Instead the counts are kept in a count-min sketch (Cormode
/// and Muthukrishnan, 2005) of fixed size, which never counts too few, and too many only by what shares a cell in every
/// row: about a thousand at 100 million spans an hour, against limits of a million. The counts begin anew every hour, so
/// a trace that goes on for longer may have its share in each. A trace is one of a tenant: another tenant's spans under the
/// same id are another trace's.
pub struct LimitTraceSize {
    spans_per_trace_max: u32,
    clock: Arc<dyn Clock>,
    /// By chance, so that no sender can choose traces that share cells with another's.
    seeds: RandomState,
    rows: [Box<[AtomicU32]>; 2],
    /// On the monotonic clock, in nanoseconds.
    counts_until_nanos: AtomicU64,
}

/// 512 KiB a row.
const CELLS_BITS: u32 = 17;
const COUNTS_NANOS: u64 = 3_600 * 1_000_000_000;

impl LimitTraceSize {
    pub fn new(spans_per_trace_max: usize, clock: Arc<dyn Clock>) -> Self {
        let cells = || (0..1u32 << CELLS_BITS).map(|_| AtomicU32::new(0)).collect();
        Self {
            spans_per_trace_max: u32::try_from(spans_per_trace_max).unwrap_or(u32::MAX),
            counts_until_nanos: AtomicU64::new(monotonic_nanos(&*clock).saturating_add(COUNTS_NANOS)),
            clock,
            seeds: RandomState::new(),
            rows: [cells(), cells()],
        }
    }

    /// Two factors of the hash, of their own for each tenant.
    fn factors(&self, tenant: &TenantId) -> [u64; 2] {
        [0u8, 1].map(|number| self.seeds.hash_one((number, tenant)))
    }

    /// The cells of a trace, one in each row.
    fn cells(&self, factors: [u64; 2], trace: TraceId) -> [&AtomicU32; 2] {
        let id = u128::from_ne_bytes(trace.0);
        let (high, low) = ((id >> 64) as u64, id as u64);
        // One multiplication mixes all bits; both halves of the product together depend on all of the id.
        let product = u128::from(high ^ factors[0]) * u128::from(low ^ factors[1]);
        let hash = (product >> 64) as u64 ^ product as u64;
        let cell = |shift: u32| (hash >> shift) as usize & ((1 << CELLS_BITS) - 1);
        [&self.rows[0][cell(0)], &self.rows[1][cell(32)]]
    }

    fn begin_anew_when_due(&self) {
        let now = monotonic_nanos(&*self.clock);
        let until = self.counts_until_nanos.load(Ordering::Relaxed);
        let next = now.saturating_add(COUNTS_NANOS);
        let due = now >= until;
        if due && self.counts_until_nanos.compare_exchange(until, next, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            self.rows.iter().flatten().for_each(|cell| cell.store(0, Ordering::Relaxed));
        }
    }

    fn too_large(&self) -> Reason {
        Reason {
            label: "trace_too_large",
            advice: format!(
                "their trace has more than {} spans; begin a new trace for each unit of work, or raise \
                 limits.spans_per_trace_max",
                self.spans_per_trace_max
            ),
        }
    }
}

impl Stage for LimitTraceSize {
    fn apply(&self, tenant: &TenantId, batch: &mut SpanBatch, refusals: &mut Refusals) {
        self.begin_anew_when_due();
        let factors = self.factors(tenant);
        for (row, trace) in batch.trace_id.iter().enumerate() {
            // A count that comes to its end stays there, far above any limit, rather than begin at 0 again.
            let count = |cell: &AtomicU32| match cell.fetch_add(1, Ordering::Relaxed) {
                u32::MAX => {
                    cell.store(u32::MAX, Ordering::Relaxed);
                    u32::MAX
                }
                before => before,
            };
            let [first, second] = self.cells(factors, *trace).map(count);
            if first.min(second) >= self.spans_per_trace_max {
                refusals.refuse(row, || self.too_large());
            }
        }
    }

    fn not_kept(&self, tenant: &TenantId, traces: &[TraceId]) {
        let factors = self.factors(tenant);
        for trace in traces {
            for cell in self.cells(factors, *trace) {
                // The counts may have begun anew in between.
                let _ = cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |count| count.checked_sub(1));
            }
        }
    }
}

fn monotonic_nanos(clock: &dyn Clock) -> u64 {
    u64::try_from(clock.monotonic().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pipeline;
    use std::time::Duration;
    use tracehouse_model::{ManualClock, SpanFields, SpanId};

    fn batch(traces: &[u64]) -> SpanBatch {
        let mut batch = SpanBatch::new();
        let resource = batch.finish_resource(0, 0);
        let scope = batch.finish_scope(0, 0, 0, 0);
        for trace in traces {
            batch.finish_span(SpanFields {
                trace_id: trace_id(*trace),
                span_id: SpanId([1; 8]),
                resource,
                scope,
                ..SpanFields::default()
            });
        }
        batch
    }

    fn trace_id(number: u64) -> TraceId {
        TraceId((u128::from(number) << 64 | u128::from(number)).to_be_bytes())
    }

    fn pipeline(spans_per_trace_max: usize) -> (Pipeline, Arc<ManualClock>) {
        let clock = Arc::new(ManualClock::default());
        let stage = LimitTraceSize::new(spans_per_trace_max, clock.clone());
        (Pipeline::with_stages(vec![Box::new(stage)]), clock)
    }

    #[test]
    fn a_trace_has_its_share_and_no_more() {
        let (pipeline, clock) = pipeline(3);
        assert_eq!(pipeline.process(&TenantId::default(), batch(&[1, 2, 1, 1])).rejected_spans, 0);
        let processed = pipeline.process(&TenantId::default(), batch(&[1, 2, 1, 3]));
        assert_eq!(processed.batch.trace_id, [trace_id(2), trace_id(3)]);
        assert_eq!(processed.rejected_spans, 2);
        assert!(processed.message.contains("more than 3 spans"), "{}", processed.message);
        assert!(processed.message.contains("limits.spans_per_trace_max"), "{}", processed.message);
        clock.advance(Duration::from_secs(3_600));
        assert_eq!(pipeline.process(&TenantId::default(), batch(&[1, 1, 1])).rejected_spans, 0);
        assert_eq!(pipeline.process(&TenantId::default(), batch(&[1])).rejected_spans, 1);
    }

    #[test]
    fn what_was_not_kept_does_not_count() {
        let (pipeline, _) = pipeline(2);
        for _ in 0..5 {
            assert_eq!(pipeline.process(&TenantId::default(), batch(&[1, 1])).rejected_spans, 0);
            pipeline.not_kept(&TenantId::default(), &[trace_id(1), trace_id(1)]);
        }
        pipeline.not_kept(&TenantId::default(), &[trace_id(1)]);
        assert_eq!(pipeline.process(&TenantId::default(), batch(&[1, 1, 1])).rejected_spans, 1);
    }

    #[test]
    fn a_stranger_cannot_use_up_the_share_of_a_trace() {
        let (pipeline, _) = pipeline(3);
        let stranger = TenantId::new("stranger").expect("a valid name");
        assert_eq!(pipeline.process(&stranger, batch(&[1, 1, 1, 1, 1])).rejected_spans, 2);
        assert_eq!(pipeline.process(&TenantId::default(), batch(&[1, 1, 1])).rejected_spans, 0);
        // Nor give it back.
        pipeline.not_kept(&stranger, &[trace_id(1), trace_id(1)]);
        assert_eq!(pipeline.process(&TenantId::default(), batch(&[1])).rejected_spans, 1);
    }

    #[test]
    fn traces_do_not_pay_for_each_other() {
        let (pipeline, _) = pipeline(100);
        // About 20 spans a cell in each row, which would be a fifth of the limit if all were one trace.
        for round in 0..26 {
            let traces: Vec<u64> = (0..100_000u64).map(|trace| round * 100_000 + trace).collect();
            assert_eq!(pipeline.process(&TenantId::default(), batch(&traces)).rejected_spans, 0, "round {round}");
        }
    }
}
