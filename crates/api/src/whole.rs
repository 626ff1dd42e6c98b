//! Searches whose answers are whole traces, as Jaeger and Zipkin have them.

use tracehouse_model::{AttributeLists, Caller, SeededSet, SpanBatch, TraceId};
use tracehouse_query::{QueryError, Reservation, SearchRequest, Trace, TraceDetail};

use crate::native::unknown_trace;
use crate::problem::Problem;
use crate::state::ApiState;
use crate::unique_ids::{Halves, make_unique};

/// More spans of all traces of an answer are left out, and the answer says so.
pub(crate) const SPANS_MAX: usize = 200_000;

#[derive(Default)]
pub(crate) struct Whole {
    /// In the order of the search or of the request.
    pub(crate) traces: Vec<Trace>,
    pub(crate) unknown: Vec<TraceId>,
    /// Why this is not everything, with `N of M`; empty if it is.
    pub(crate) partial: Vec<String>,
}

impl Whole {
    /// For clients that take two spans with one id for one.
    pub(crate) fn with_unique_ids(mut self, halves: Halves) -> Self {
        self.traces.iter_mut().for_each(|trace| make_unique(trace, halves));
        self
    }

    pub(crate) fn spans(&self) -> usize {
        self.traces.iter().map(|trace| trace.spans.len()).sum()
    }

    /// The memory for all of them.
    pub(crate) fn memory(&self) -> Vec<Reservation> {
        self.traces.iter().map(|trace| trace.memory.clone()).collect()
    }

    pub(crate) fn partial_reason(&self) -> Option<String> {
        (!self.partial.is_empty()).then(|| self.partial.join("; "))
    }
}

/// The traces that a search finds, each with all its spans.
pub(crate) async fn search(state: &ApiState, caller: &Caller, request: SearchRequest) -> Result<Whole, QueryError> {
    let found = state.answers.search(caller, SearchRequest { spans_per_spanset: 1, ..request }).await?;
    // What several tenants have of a trace is read as one.
    let mut seen: SeededSet<TraceId> = SeededSet::default();
    let ids = found.traces.iter().map(|trace| trace.trace_id).filter(|id| seen.insert(*id));
    let ids: Vec<TraceId> = ids.collect();
    let mut whole = by_ids(state, caller, &ids).await?;
    // What retention removed between the search and now is not missing.
    whole.unknown.clear();
    whole.partial.extend(found.partial_reason);
    Ok(whole)
}

/// The traces with these ids.
pub(crate) async fn by_ids(state: &ApiState, caller: &Caller, ids: &[TraceId]) -> Result<Whole, QueryError> {
    let mut whole = Whole::default();
    let mut spans_left = SPANS_MAX;
    // What keeps one trace from being whole often keeps many.
    let mut of_traces: Vec<(String, Vec<TraceId>)> = Vec::new();
    let mut is_cut = |id: TraceId, reason: String| match of_traces.iter_mut().find(|(known, _)| *known == reason) {
        Some((_, traces)) => traces.push(id),
        None => of_traces.push((reason, vec![id])),
    };
    for (at, id) in ids.iter().enumerate() {
        if spans_left == 0 {
            whole.partial.push(format!("{at} of {} traces, which have {SPANS_MAX} spans", ids.len()));
            break;
        }
        match state.answers.trace(caller, *id, spans_left, TraceDetail::Whole).await {
            Err(QueryError::Unreadable(reason)) => {
                whole.unknown.push(*id);
                is_cut(*id, reason);
            }
            // The traces before this one hold the memory: it is waited for in vain.
            Err(QueryError::Memory) if at > 0 => {
                whole.partial.push(format!("{at} of {} traces: the memory for queries is used up", ids.len()));
                break;
            }
            Err(error) => return Err(error),
            Ok(None) => whole.unknown.push(*id),
            Ok(Some(trace)) if trace.spans.is_empty() => whole.unknown.push(*id),
            Ok(Some(mut trace)) => {
                trace.spans.name_services();
                spans_left -= trace.spans.len().min(spans_left);
                cut_reason(&trace).into_iter().for_each(|reason| is_cut(*id, reason));
                whole.traces.push(trace);
            }
        }
    }
    whole.partial.extend(of_traces.into_iter().map(|(reason, traces)| match traces.as_slice() {
        [only] => format!("trace {only}: {reason}"),
        several => format!("{} of {} traces, {} among them: {reason}", several.len(), ids.len(), several[0]),
    }));
    Ok(whole)
}

/// The trace with this id. If it is not there the problem says whether it may be in what can't be read.
pub(crate) async fn by_id(state: &ApiState, caller: &Caller, id: TraceId) -> Result<Whole, Problem> {
    let whole = by_ids(state, caller, &[id]).await?;
    match whole.partial_reason() {
        _ if whole.unknown.is_empty() => Ok(whole),
        Some(reason) => Err(QueryError::Unreadable(reason).into()),
        None => Err(unknown_trace(id)),
    }
}

/// Why a trace is not whole, if it isn't.
pub(crate) fn cut_reason(trace: &Trace) -> Option<String> {
    let returned = trace.spans.len() as u64;
    let cut = || (returned < trace.span_count).then(|| format!("{returned} of {} spans", trace.span_count));
    trace.partial_reason.clone().or_else(cut)
}

/// Attributes of one owner as text and value.
pub(crate) fn attributes<'a>(
    spans: &'a SpanBatch,
    lists: &'a AttributeLists,
    owner: usize,
) -> impl Iterator<Item = (&'a str, tracehouse_model::AnyValue)> {
    lists.of(owner).map(|(key, value)| (spans.strings.get(key), value.resolve(&spans.strings)))
}
