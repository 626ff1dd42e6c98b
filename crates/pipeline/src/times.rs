use std::sync::Arc;

use tracehouse_model::{Clock, SpanBatch};

use crate::{Reason, Refusals, Stage};

/// Refuses spans whose start cannot be true: they would be filed under a time at which nobody looks for them, and one
/// span in the year 2150 would never be old enough to be deleted.
pub struct CheckTimes {
    future_nanos_max: i64,
    clock: Arc<dyn Clock>,
}

impl CheckTimes {
    /// 2000-01-01T00:00:00Z. An earlier start is a zero or a wrong unit (seconds or milliseconds taken for nanoseconds).
    const EARLIEST_UNIX_NANOS: i64 = 946_684_800 * 1_000_000_000;

    /// `future_nanos_max`: how far ahead of the clock a span may begin, in nanoseconds.
    pub fn new(future_nanos_max: i64, clock: Arc<dyn Clock>) -> Self {
        Self { future_nanos_max, clock }
    }

    fn too_early() -> Reason {
        Reason {
            label: "start_too_early",
            advice: "the start is before the year 2000; times must be nanoseconds since 1970".to_owned(),
        }
    }

    fn too_late(&self) -> Reason {
        let hours = self.future_nanos_max as f64 / 3.6e12;
        Reason {
            label: "start_in_future",
            advice: format!(
                "the start is more than {hours} h ahead of this server's clock; check the sender's clock, or raise \
                 limits.future_max"
            ),
        }
    }
}

impl Stage for CheckTimes {
    fn apply(&self, batch: &mut SpanBatch, refusals: &mut Refusals) {
        let latest = self.clock.now_unix_nanos().saturating_add(self.future_nanos_max);
        let allowed = Self::EARLIEST_UNIX_NANOS..=latest;
        for (row, start) in batch.start_unix_nanos.iter().enumerate() {
            if allowed.contains(start) {
                continue;
            }
            if *start > latest {
                refusals.refuse(row, || self.too_late());
            } else {
                refusals.refuse(row, Self::too_early);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Pipeline;
    use std::time::Duration;
    use tracehouse_model::{Limits, ManualClock, SpanFields, SpanId, TraceId};

    const NOW: i64 = 1_800_000_000 * 1_000_000_000;
    const HOUR: i64 = 3_600 * 1_000_000_000;

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
        let pipeline = Pipeline::new(limits, Arc::new(ManualClock::at_unix_nanos(NOW)));
        let earliest = CheckTimes::EARLIEST_UNIX_NANOS;
        let cases: &[(&[i64], &[i64], &[&str])] = &[
            (&[NOW, earliest, NOW + HOUR], &[NOW, earliest, NOW + HOUR], &[]),
            (&[NOW + HOUR + 1, NOW], &[NOW], &["1 span refused", "more than 1 h ahead", "limits.future_max"]),
            (&[0, NOW, earliest - 1], &[NOW], &["2 spans refused", "before the year 2000"]),
            (&[i64::MIN, i64::MAX], &[], &["1 span refused: the start is before", "; 1 span refused"]),
        ];
        for (sent, kept, words) in cases {
            let processed = pipeline.process(batch(sent));
            assert_eq!(processed.batch.start_unix_nanos, *kept, "{sent:?}");
            assert_eq!(processed.rejected_spans as usize, sent.len() - kept.len(), "{sent:?}");
            for word in *words {
                assert!(processed.message.contains(word), "{sent:?}: {}", processed.message);
            }
        }
    }

    #[test]
    fn follows_the_clock() {
        let clock = Arc::new(ManualClock::at_unix_nanos(NOW));
        let limits = Limits { future_nanos_max: 0, ..Limits::default() };
        let pipeline = Pipeline::new(limits, clock.clone());
        assert_eq!(pipeline.process(batch(&[NOW + 1])).rejected_spans, 1);
        clock.advance(Duration::from_nanos(1));
        assert_eq!(pipeline.process(batch(&[NOW + 1])).rejected_spans, 0);
    }
}
