use std::sync::Arc;
use std::time::Duration;

use tracehouse_model::{Clock, SpanBatch, TenantId};

use crate::{Reason, Refusals, Stage};

/// Of the spans that begin later than the clock allows.
pub(crate) const START_IN_FUTURE: &str = "start_in_future";

/// Refuses spans whose start cannot be true: they would be filed under a time at which nobody looks for them, and one
/// span in the year 2150 would never be old enough to be deleted. Refuses as well spans older than what is kept: they would
/// be acknowledged and then deleted.
pub struct CheckTimes {
    future_nanos_max: i64,
    retention_nanos: i64,
    clock: Arc<dyn Clock>,
    /// By which spans grow old.
    store_clock: Arc<dyn Clock>,
}

impl CheckTimes {
    /// 2000-01-01T00:00:00Z. An earlier start is a zero or a wrong unit (seconds or milliseconds taken for nanoseconds).
    const EARLIEST_UNIX_NANOS: i64 = 946_684_800 * 1_000_000_000;

    /// `future_nanos_max`: how far ahead of the clock a span may begin, in nanoseconds. `retention`: how long spans are kept.
    pub fn new(future_nanos_max: i64, retention: Duration, clock: Arc<dyn Clock>, store_clock: Arc<dyn Clock>) -> Self {
        let retention_nanos = i64::try_from(retention.as_nanos()).unwrap_or(i64::MAX);
        Self { future_nanos_max, retention_nanos, clock, store_clock }
    }

    fn too_early() -> Reason {
        Reason {
            label: "start_too_early",
            advice: "the start is before the year 2000; times must be nanoseconds since 1970".to_owned(),
        }
    }

    fn older_than_retention(&self) -> Reason {
        Reason {
            label: "older_than_retention",
            advice: format!(
                "the start is more than {} h before this server's clock, which is as long as spans are kept; check the \
                 sender's clock, or raise store.retention",
                hours(self.retention_nanos)
            ),
        }
    }

    fn too_late(&self) -> Reason {
        Reason {
            label: START_IN_FUTURE,
            advice: format!(
                "the start is more than {} h ahead of this server's clock; check the sender's clock and this server's, \
                 either of which may be wrong, or raise limits.future_max",
                hours(self.future_nanos_max)
            ),
        }
    }
}

impl Stage for CheckTimes {
    fn apply(&self, _tenant: &TenantId, batch: &mut SpanBatch, refusals: &mut Refusals) {
        let latest = self.clock.now_unix_nanos().saturating_add(self.future_nanos_max);
        let oldest = self.store_clock.now_unix_nanos().saturating_sub(self.retention_nanos);
        let oldest = oldest.max(Self::EARLIEST_UNIX_NANOS);
        let allowed = oldest..=latest;
        for (row, start) in batch.start_unix_nanos.iter().enumerate() {
            if allowed.contains(start) {
                continue;
            }
            if *start > latest {
                refusals.refuse(row, || self.too_late());
            } else if *start < Self::EARLIEST_UNIX_NANOS {
                refusals.refuse(row, Self::too_early);
            } else {
                refusals.refuse(row, || self.older_than_retention());
            }
        }
    }
}

fn hours(nanos: i64) -> f64 {
    nanos as f64 / 3.6e12
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pipeline;
    use tracehouse_model::{Limits, ManualClock, SpanFields, SpanId, TraceId};

    const NOW: i64 = 1_800_000_000 * 1_000_000_000;
    const HOUR: i64 = 3_600 * 1_000_000_000;
    /// Longer than any date is away.
    const FOR_EVER: Duration = Duration::from_secs(u64::MAX);

    fn pipeline_by(limits: Limits, retention: Duration, clock: Arc<ManualClock>) -> Pipeline {
        Pipeline::new(limits, retention, clock.clone(), clock)
    }

    fn batch(starts: &[i64]) -> SpanBatch {
        let mut batch = SpanBatch::new();
        let resource = batch.finish_resource(0, 0);
        let scope = batch.finish_scope(0, 0, 0, 0);
        for start in starts {
            batch.finish_span(SpanFields {
                trace_id: TraceId([7; 16]),
                span_id: SpanId([1; 8]),
                start_unix_nanos: *start,
                resource,
                scope,
                ..SpanFields::default()
            });
        }
        batch
    }

    #[test]
    fn refuses_impossible_starts_one_by_one() {
        let limits = Limits { future_nanos_max: HOUR, ..Limits::default() };
        let pipeline = pipeline_by(limits, FOR_EVER, Arc::new(ManualClock::at_unix_nanos(NOW)));
        let earliest = CheckTimes::EARLIEST_UNIX_NANOS;
        let cases: &[(&[i64], &[i64], &[&str])] = &[
            (&[NOW, earliest, NOW + HOUR], &[NOW, earliest, NOW + HOUR], &[]),
            (
                &[NOW + HOUR + 1, NOW],
                &[NOW],
                &["1 span refused", "more than 1 h ahead", "and this server's", "limits.future_max"],
            ),
            (&[0, NOW, earliest - 1], &[NOW], &["2 spans refused", "before the year 2000"]),
            (&[i64::MIN, i64::MAX], &[], &["1 span refused: the start is before", "; 1 span refused"]),
        ];
        for (sent, kept, words) in cases {
            let processed = pipeline.process(&TenantId::default(), batch(sent));
            assert_eq!(processed.batch.start_unix_nanos, *kept, "{sent:?}");
            assert_eq!(processed.rejected_spans as usize, sent.len() - kept.len(), "{sent:?}");
            assert_eq!(processed.of_the_future, sent.iter().any(|start| *start > NOW + HOUR), "{sent:?}");
            for word in *words {
                assert!(processed.message.contains(word), "{sent:?}: {}", processed.message);
            }
        }
    }

    #[test]
    fn follows_the_clock() {
        let clock = Arc::new(ManualClock::at_unix_nanos(NOW));
        let limits = Limits { future_nanos_max: 0, ..Limits::default() };
        let pipeline = pipeline_by(limits, FOR_EVER, clock.clone());
        assert_eq!(pipeline.process(&TenantId::default(), batch(&[NOW + 1])).rejected_spans, 1);
        clock.advance(Duration::from_nanos(1));
        assert_eq!(pipeline.process(&TenantId::default(), batch(&[NOW + 1])).rejected_spans, 0);
    }

    #[test]
    fn refuses_what_is_older_than_what_is_kept() {
        let clock = Arc::new(ManualClock::at_unix_nanos(NOW));
        let pipeline = pipeline_by(Limits::default(), Duration::from_secs(2 * 3_600), clock.clone());
        let oldest = NOW - 2 * HOUR;
        let sent = || batch(&[NOW, oldest, oldest - 1, 0]);
        let processed = pipeline.process(&TenantId::default(), sent());
        assert_eq!(processed.batch.start_unix_nanos, [NOW, oldest]);
        for words in ["1 span refused: the start is more than 2 h before", "store.retention", "before the year 2000"] {
            assert!(processed.message.contains(words), "{}", processed.message);
        }
        clock.advance(Duration::from_nanos(1));
        assert_eq!(pipeline.process(&TenantId::default(), sent()).batch.start_unix_nanos, [NOW]);
    }
}
