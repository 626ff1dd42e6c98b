//! For clients that know a trace by its id alone: what several tenants have of one trace is one line of a list.

use std::cmp::Reverse;

use tracehouse_model::{SeededMap, TraceId};
use tracehouse_query::{ServiceCount, TraceSummary};

/// The same traces, each once, newest first. Spansets stay as each tenant has them; what is counted is added up.
pub(crate) fn by_trace(traces: Vec<TraceSummary>) -> Vec<TraceSummary> {
    let count = traces.len();
    let mut places: SeededMap<TraceId, usize> = SeededMap::default();
    let mut all: Vec<TraceSummary> = Vec::with_capacity(count);
    for trace in traces {
        if trace.tenant.is_none() {
            all.push(trace);
            continue;
        }
        let place = *places.entry(trace.trace_id).or_insert(all.len());
        match all.get_mut(place) {
            Some(known) => join(known, trace),
            None => all.push(trace),
        }
    }
    // A trace begins with its first part, which may be older than the others.
    if all.len() < count {
        all.sort_by_key(|trace| (Reverse(trace.start_unix_nanos), trace.trace_id));
    }
    all
}

fn join(into: &mut TraceSummary, other: TraceSummary) {
    let end = |trace: &TraceSummary| trace.start_unix_nanos.saturating_add(trace.duration_nanos);
    let latest_end = end(into).max(end(&other));
    // A half of a trace without its root is named after its first span.
    if (other.root_missing, other.start_unix_nanos) < (into.root_missing, into.start_unix_nanos) {
        into.root_missing = other.root_missing;
        into.root_service_name = other.root_service_name;
        into.root_span_name = other.root_span_name;
        into.root_target = other.root_target;
    }
    into.start_unix_nanos = into.start_unix_nanos.min(other.start_unix_nanos);
    into.duration_nanos = latest_end.saturating_sub(into.start_unix_nanos);
    into.span_count += other.span_count;
    into.error_count += other.error_count;
    // Those whose parent is another tenant's are among them: that takes the whole trace to know.
    into.orphan_count += other.orphan_count;
    into.matched_count += other.matched_count;
    into.spansets.extend(other.spansets);
    for service in other.services {
        match into.services.iter_mut().find(|known| known.name == service.name) {
            Some(ServiceCount { span_count, error_count, .. }) => {
                *span_count += service.span_count;
                *error_count += service.error_count;
            }
            None => into.services.push(service),
        }
    }
    into.services.sort_by_key(|service| Reverse(service.span_count));
}
