//! Answers of version 3 that are the same over HTTP and gRPC.

use tracehouse_query::{Listing, TraceSummary};

use super::operations;
use crate::by_trace::by_trace;
use crate::dependencies::Dependencies;
use crate::proto::jaeger::{
    DependenciesResponse, Dependency, FindTraceSummariesResponse, GetOperationsResponse, GetServicesResponse,
    Operation, ServiceSummary, TraceSummary as Summary,
};

pub(super) fn services(found: Listing<String>) -> GetServicesResponse {
    GetServicesResponse { services: found.items }
}

/// Why a list is not everything, if it isn't.
pub(super) fn cut_reason<T>(found: &Listing<T>) -> Option<String> {
    let unread = found.partial_reason.clone();
    unread.or_else(|| (!found.complete).then(|| format!("the first {} of more names", found.items.len())))
}

pub(super) fn operations(found: Listing<operations::Operation>) -> GetOperationsResponse {
    let operation = |operation: operations::Operation| Operation {
        name: operation.name,
        span_kind: operation.span_kind.to_owned(),
    };
    GetOperationsResponse { operations: found.items.into_iter().map(operation).collect() }
}

pub(super) fn summaries(traces: Vec<TraceSummary>) -> FindTraceSummariesResponse {
    FindTraceSummariesResponse { summaries: by_trace(traces).into_iter().map(summary).collect() }
}

fn summary(trace: TraceSummary) -> Summary {
    let service = |share: tracehouse_query::ServiceCount| ServiceSummary {
        name: share.name,
        span_count: count(share.span_count),
        error_span_count: count(share.error_count),
    };
    let mut services: Vec<ServiceSummary> = trace.services.into_iter().map(service).collect();
    services.sort_by(|one, other| one.name.cmp(&other.name));
    let unsigned = |nanos: i64| u64::try_from(nanos).unwrap_or(0);
    Summary {
        trace_id: trace.trace_id.to_string(),
        root_service_name: trace.root_service_name,
        root_operation_name: trace.root_span_name,
        min_start_time_unix_nano: unsigned(trace.start_unix_nanos),
        max_end_time_unix_nano: unsigned(trace.start_unix_nanos.saturating_add(trace.duration_nanos)),
        span_count: count(trace.span_count),
        error_span_count: count(trace.error_count),
        orphan_span_count: count(trace.orphan_count),
        services,
    }
}

fn count(count: u64) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

pub(super) fn dependencies(found: Dependencies) -> DependenciesResponse {
    let dependency = |((parent, child), calls): ((String, String), crate::dependencies::Calls)| Dependency {
        parent,
        child,
        call_count: calls.count,
    };
    DependenciesResponse { dependencies: found.links.into_iter().map(dependency).collect() }
}
