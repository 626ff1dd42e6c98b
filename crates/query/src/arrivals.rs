//! Finds traces of which matching spans came lately: what a live tail shows.
//!
//! Where a span alone decides, a trace is found when such a span comes. Else it is found when any span of it comes, if it matches as a
//! whole then. Those of which a span came last are looked at first.

use tracehouse_model::{SeededSet, TraceId};
use tracehouse_scan::Reservation;
use tracehouse_store::Arrived;

use crate::assemble::Omitted;
use crate::plan::Plan;
use crate::question::Question;
use crate::request::{Arrivals, Inspected, SearchAnswer, SearchRequest};
use crate::row_eval::RowExpression;
use crate::search::{Lines, finder};
use crate::shown::all_hold;
use crate::summary::{Summaries, bytes_of};
use crate::whereabouts::Whereabouts;

/// So many traces are put together at most to see whether they match.
const PUT_TOGETHER_MAX: usize = 2_000;
/// Between looks at the time.
const ROWS_PER_CHECK: usize = 4096;

pub(crate) fn arrivals(
    question: Question<'_>,
    plan: &Plan,
    request: &SearchRequest,
    arrived: &Arrived,
    after: u64,
    position: u64,
) -> Arrivals {
    let summaries = Summaries { plan, request };
    let whole = summaries.need_whole_traces();
    let (touched, inspected) = touched(question, plan, request, arrived, whole);
    let known = known_before(question, plan, request, &touched, after, whole);
    let looked_at = if whole { PUT_TOGETHER_MAX } else { request.limit }.min(touched.len());
    let whereabouts = Whereabouts::new(question);
    let lines = Lines { question, whereabouts: &whereabouts, summaries, finder: &finder(question, plan, request) };
    let (mut found, mut omitted) = (SearchAnswer::default(), Omitted::default());
    let (mut held, mut matched, mut begun) = (question.bounds.hold(), 0, 0);
    let settled = lines.of(&touched[..looked_at]);
    let done = settled.len();
    for (summary, left_out) in settled {
        omitted.add(left_out);
        let Some(summary) = summary else { continue };
        matched += 1;
        begun += usize::from(!known.contains(&summary.trace_id));
        if found.traces.len() < request.limit {
            if question.bounds.take(&mut held, bytes_of(&summary)).is_err() {
                break;
            }
            found.traces.push(summary);
        }
    }
    let of = |what: &str| format!("{looked_at} of {} traces {what}", touched.len());
    let cut = || (whole && looked_at < touched.len()).then(|| of("with new spans were put together"));
    let stopped =
        || question.bounds.exceeded().then(|| question.bounds.stopped(done, looked_at, "traces put together"));
    let missed = || arrived.may_be_more.then(|| MISSED.to_owned());
    let left_out = || omitted.in_words();
    found.partial_reason =
        question.reach.partial_reason().or_else(missed).or_else(stopped).or_else(cut).or_else(left_out);
    found.traces_matched = Some(if whole { matched } else { touched.len() } as u64);
    found.inspected = Inspected { spans: inspected, bytes: question.bounds.scanned_bytes(), ..Inspected::default() };
    found.memory = Reservation::of(held);
    let arrived = arrived.batches.iter().map(|(_, rows)| rows.len() as u64).sum();
    let begun = if whole { begun } else { touched.len() - known.len() };
    Arrivals { found, traces_begun: begun as u64, spans_arrived: arrived, position }
}

const MISSED: &str = "spans that came since the position went to files before they were looked at; a search finds them";

/// Those of the traces of which a matching span, or where a span alone does not decide any, came up to a position and is in memory.
fn known_before(
    question: Question<'_>,
    plan: &Plan,
    request: &SearchRequest,
    traces: &[TraceId],
    position: u64,
    whole: bool,
) -> SeededSet<TraceId> {
    let finder = finder(question, plan, request);
    let mut unknown: SeededSet<TraceId> = traces.iter().copied().collect();
    let mut known = SeededSet::default();
    for (_, batch) in question.snapshot.hot.holding(traces) {
        if question.bounds.exceeded() {
            break;
        }
        let filter = RowExpression::new(finder.filter, &batch.spans, None);
        for row in batch.rows_up_to(position) {
            let trace = batch.spans.trace_id[row];
            let is_match = || whole || filter.holds(row) && all_hold(finder.exactly, &batch.spans, row);
            if unknown.contains(&trace) && is_match() {
                unknown.remove(&trace);
                known.insert(trace);
            }
        }
    }
    known
}

/// Traces that may be found, the last first; and how many spans were looked at.
fn touched(
    question: Question<'_>,
    plan: &Plan,
    request: &SearchRequest,
    arrived: &Arrived,
    whole: bool,
) -> (Vec<TraceId>, u64) {
    let finder = finder(question, plan, request);
    let (mut seen, mut traces, mut inspected) = (SeededSet::<TraceId>::default(), Vec::new(), 0);
    for (batch, rows) in arrived.batches.iter().rev() {
        let spans = &batch.spans;
        let filter = RowExpression::new(finder.filter, spans, None);
        for row in rows.clone().rev() {
            if inspected % ROWS_PER_CHECK == 0 && question.bounds.exceeded() {
                return (traces, inspected as u64);
            }
            inspected += 1;
            let trace = spans.trace_id[row];
            let is_found = || whole || filter.holds(row) && all_hold(finder.exactly, spans, row);
            if !seen.contains(&trace) && is_found() {
                seen.insert(trace);
                traces.push(trace);
            }
        }
    }
    (traces, inspected as u64)
}
