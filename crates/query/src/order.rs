//! In which order a search finds traces.

use std::cmp::Ordering;

use crate::request::{Order, OrderKey, TraceSummary};

/// The order of the newest traces in an answer.
pub(crate) fn newest_first(left: &TraceSummary, right: &TraceSummary) -> Ordering {
    (right.start_unix_nanos, left.trace_id).cmp(&(left.start_unix_nanos, right.trace_id))
}

/// The order in which a limit takes traces.
pub(crate) fn newest_match_first(left: &TraceSummary, right: &TraceSummary) -> Ordering {
    (right.newest_match_unix_nanos, left.trace_id).cmp(&(left.newest_match_unix_nanos, right.trace_id))
}

impl Order {
    /// The order of traces in an answer. Of equals the newest comes first.
    pub(crate) fn compare(self, left: &TraceSummary, right: &TraceSummary) -> Ordering {
        let ascending = match self.key {
            OrderKey::Start => left.start_unix_nanos.cmp(&right.start_unix_nanos),
            OrderKey::Root => root(left).cmp(&root(right)),
            OrderKey::Duration => left.duration_nanos.cmp(&right.duration_nanos),
            OrderKey::Spans => left.span_count.cmp(&right.span_count),
            OrderKey::Errors => left.error_count.cmp(&right.error_count),
        };
        let wanted = if self.descending { ascending.reverse() } else { ascending };
        wanted.then_with(|| newest_first(left, right))
    }
}

fn root(trace: &TraceSummary) -> (&str, &str) {
    (&trace.root_service_name, &trace.root_span_name)
}
