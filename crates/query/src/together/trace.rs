//! The spans that several tenants have of one trace, as one tree: a parent may be another tenant's span.

use tracehouse_model::{SpanBatch, TenantId};
use tracehouse_scan::{Held, Reservation};

use super::{Reasons, TENANT_KEY};
use crate::answer_text::TextEstimate;
use crate::assemble::order;
use crate::copies::Sources;
use crate::request::{Trace, TraceDetail};
use crate::trace::{COPIES, CUT_BY_ANSWER, CUT_BY_LIMIT, CUT_BY_MEMORY, Summary, TABLE_BYTES_PER_SPAN};

/// How traces are put together.
pub(super) struct Joining {
    pub(super) detail: TraceDetail,
    /// At most so many spans.
    pub(super) spans_max: usize,
    /// At most as many spans as make a text of this size.
    pub(super) answer_bytes_max: usize,
}

impl Joining {
    /// One trace of what each tenant has of it, which is at least one span.
    pub(super) fn join(&self, mut parts: Vec<(TenantId, Trace)>, mut reasons: Reasons) -> Trace {
        let tenants: Vec<TenantId> = parts.iter().map(|(tenant, _)| tenant.clone()).collect();
        for (tenant, trace) in &mut parts {
            trace.spans.put_on_resources(TENANT_KEY, tenant.as_str());
            reasons.add(tenant, trace.partial_reason.take());
        }
        let mut parts: Vec<Trace> = parts.into_iter().map(|(_, trace)| trace).collect();
        let (joined, cut) = match parts.pop() {
            Some(only) if parts.is_empty() => (only, None),
            last => self.join_several(parts.into_iter().chain(last).collect()),
        };
        reasons.0.extend(cut);
        Trace { tenants, partial_reason: reasons.in_words(), ..joined }
    }

    /// The trace, and why it has not all spans of its parts, if it hasn't.
    fn join_several(&self, mut parts: Vec<Trace>) -> (Trace, Option<String>) {
        let (span_count, duplicates) =
            parts.iter().fold((0, 0), |(spans, copies), part| (spans + part.span_count, copies + part.duplicates));
        let trace_id = parts[0].trace_id;
        let memory = parts.iter_mut().map(|part| std::mem::take(&mut part.memory));
        let mut held = Reservation::together(memory).into_held();
        let share = share_with_room(&parts, held.as_mut());
        let mut cut = (share < 1.0).then_some(CUT_BY_MEMORY);
        let mut gathered = SpanBatch::new();
        for part in parts {
            let rows = ((part.spans.len() as f64 * share).ceil() as usize).min(part.spans.len());
            gathered.append_rows(&part.spans, 0..rows);
        }
        // What two tenants hold is no copy, as each names its own; within one there are none left.
        let mut sources = Sources::new(true);
        sources.end_file(gathered.len());
        let (mut order, mut trees) = order(&gathered, &sources);
        let mut tree = trees.pop().expect("there are spans of one trace");
        let (kept, text_bytes, cut_here) = self.kept_of(&gathered, &order);
        cut = cut_here.or(cut);
        order.truncate(kept);
        tree.parent.truncate(kept);
        let Summary { start_unix_nanos, duration_nanos, error_count } = Summary::of(&gathered, &order);
        let mut spans = SpanBatch::new();
        spans.append_rows(&gathered, order.into_iter().map(|row| row as usize));
        if let Some(held) = &mut held {
            held.give_back(held.used().saturating_sub(spans.memory_bytes() + text_bytes));
        }
        let joined = Trace {
            trace_id,
            parent: tree.parent,
            start_unix_nanos,
            duration_nanos,
            root: tree.root.filter(|root| (*root as usize) < kept),
            error_count,
            duplicates,
            span_count,
            partial_reason: None,
            tenants: Vec::new(),
            memory: held.map(Reservation::of).unwrap_or_default(),
            spans,
        };
        (joined, cut.map(|why| format!("{kept} of {span_count} spans: {why}")))
    }

    /// How many spans, in their order, the answer may have, how long their text is about, and what ended them.
    fn kept_of(&self, gathered: &SpanBatch, order: &[u32]) -> (usize, usize, Option<&'static str>) {
        let most = order.len().min(self.spans_max);
        let cut = (most < order.len()).then_some(CUT_BY_LIMIT);
        if self.detail == TraceDetail::Texts {
            return (most, 0, cut);
        }
        let mut estimate = TextEstimate::new(gathered, self.detail);
        let mut bytes = 0usize;
        for (kept, &row) in order[..most].iter().enumerate() {
            let of_span = estimate.bytes_of(row as usize);
            if kept > 0 && bytes.saturating_add(of_span) > self.answer_bytes_max {
                return (kept, bytes, Some(CUT_BY_ANSWER));
            }
            bytes += of_span;
        }
        (most, bytes, cut)
    }
}

/// Which share of the spans, of each part the first, there is memory for beside the parts themselves.
fn share_with_room(parts: &[Trace], held: Option<&mut Held>) -> f64 {
    /// With less of them there is no point in looking for room.
    const SHARE_MIN: f64 = 1.0 / 1024.0;
    let Some(held) = held else { return 1.0 };
    let bytes: usize =
        parts.iter().map(|part| COPIES * part.spans.memory_bytes() + TABLE_BYTES_PER_SPAN * part.spans.len()).sum();
    let mut share = 1.0;
    while share > SHARE_MIN && held.take((bytes as f64 * share) as usize).is_err() {
        share /= 2.0;
    }
    share
}
