//! Looks at all traces that match: finds those that come first in an order, or counts them.
//!
//! What is longest is known only once all were put together, so each is, and what they are as a whole decides.

use tracehouse_scan::{Bounds, Held, Reservation};
use tracehouse_spanfile::OpenFile;

use crate::met::{Met, matching_files};
use crate::question::Question;
use crate::request::{Inspected, Order, SearchAnswer, TraceCount, TraceSummary};
use crate::summary::{Summaries, bytes_of};
use crate::whereabouts::Whereabouts;
use crate::whole_traces::{Left, WholeTraces};

pub(crate) fn ranked(
    question: Question<'_>,
    traces: &WholeTraces<'_>,
    summaries: Summaries<'_>,
    order: Order,
) -> SearchAnswer {
    let mut met = Met::nothing(question.bounds);
    let files = matching_files(&traces.finder, question, &mut met);
    let found = traces.gather(
        &files,
        &mut met,
        || First::none(question.bounds, order, summaries.request.limit),
        |open| Some(summaries.columns(open)),
        |left, first| {
            if let Some(summary) = summaries.of(left) {
                first.add(summary);
            }
        },
    );
    let mut first = First::none(question.bounds, order, summaries.request.limit);
    let mut memory = Vec::new();
    for one in found {
        first.matched += one.matched;
        first.traces.extend(one.traces);
        memory.push(Reservation::of(one.held));
    }
    first.keep();
    let partial_reason = met.partial_reason(question);
    SearchAnswer {
        traces: first.traces,
        traces_matched: Some(first.matched),
        inspected: Inspected { bytes: question.bounds.scanned_bytes(), ..met.inspected },
        partial_reason,
        memory: Reservation::together(memory),
    }
}

pub(crate) fn counted(question: Question<'_>, traces: &WholeTraces<'_>, summaries: Summaries<'_>) -> TraceCount {
    let mut met = Met::nothing(question.bounds);
    let files = matching_files(&traces.finder, question, &mut met);
    let count = if summaries.need_whole_traces() {
        let columns = |open: &OpenFile| Some(summaries.columns(open));
        let count = |left: &Left<'_>, count: &mut u64| *count += u64::from(summaries.include(left));
        traces.gather(&files, &mut met, || 0, columns, count).into_iter().sum()
    } else {
        let whereabouts = Whereabouts::new(question);
        let (found, _held) = traces.candidates(&whereabouts, &files, &mut met);
        found.len() as u64
    };
    let partial_reason = met.partial_reason(question);
    let inspected = Inspected { bytes: question.bounds.scanned_bytes(), ..met.inspected };
    TraceCount { traces: count, inspected, partial_reason }
}

/// The traces that come first among those that were looked at.
struct First<'a> {
    bounds: &'a Bounds,
    order: Order,
    limit: usize,
    /// At most twice as many as are asked for.
    traces: Vec<TraceSummary>,
    matched: u64,
    held: Held,
}

impl<'a> First<'a> {
    fn none(bounds: &'a Bounds, order: Order, limit: usize) -> Self {
        Self { bounds, order, limit, traces: Vec::new(), matched: 0, held: bounds.hold() }
    }

    fn add(&mut self, trace: TraceSummary) {
        if self.bounds.take(&mut self.held, bytes_of(&trace)).is_ok() {
            self.matched += 1;
            self.traces.push(trace);
        }
        if self.traces.len() >= 2 * self.limit {
            let dropped = self.keep();
            self.held.give_back(dropped);
        }
    }

    /// Drops what comes after the limit; gives how many bytes that took.
    fn keep(&mut self) -> usize {
        self.traces.sort_by(|left, right| self.order.compare(left, right));
        let dropped = self.traces.split_off(self.limit.min(self.traces.len()));
        dropped.iter().map(bytes_of).sum()
    }
}
