//! Ids of spans and of their parents, where each span of a trace has its own.
//!
//! The halves of a call may share an id (`tracehouse_model`, `tree`). A join by such ids finds a span above itself, and a recursive one never ends: here the
//! callee's half has an id of its own and stands beneath the caller's, and what it called stands beneath it. Files tell by their offsets which spans are
//! such halves; those in memory are compared with each other.

use std::sync::Arc;

use parquet::errors::Result;
use tracehouse_model::{ParentRow, Placer, SeededMap, SeededSet, SpanBatch, SpanId, TraceId, derived_span_id};
use tracehouse_model::{is_callee, is_caller};
use tracehouse_scan::{Bounds, Held, no_room};
use tracehouse_spanfile::TreeIds;
use tracehouse_store::{HotBatch, HotBatches};

/// About what a span takes in the table of callers.
const BYTES_PER_CALLER: usize = 64;

/// The own id of a span and that of its parent.
type Ids = (SpanId, SpanId);

/// The ids of those spans in memory whose traces have halves of calls that share an id.
pub(crate) struct HotIds {
    /// By batch and row.
    of: SeededMap<(usize, usize), Ids>,
    _held: Held,
}

impl HotIds {
    /// Of all spans in memory.
    pub(super) fn of(hot: &HotBatches, bounds: &Bounds) -> Result<Self> {
        let hot: &[&Arc<HotBatch>] = &Vec::from_iter(hot.iter());
        let callers_in = |spans: &SpanBatch| spans.kind.iter().filter(|kind| is_caller(**kind)).count();
        let callers: usize = hot.iter().map(|batch| callers_in(&batch.spans)).sum();
        let held = bounds.held(callers * BYTES_PER_CALLER).map_err(no_room)?;
        let mut of = SeededMap::default();
        let traces = traces_with_halves(hot, callers);
        if !traces.is_empty() {
            let mut rows: SeededMap<TraceId, Vec<(usize, usize)>> = SeededMap::default();
            for (number, batch) in hot.iter().enumerate() {
                for (row, trace) in batch.spans.trace_id.iter().enumerate().filter(|(_, trace)| traces.contains(*trace))
                {
                    rows.entry(*trace).or_default().push((number, row));
                }
            }
            let mut placer = Placer::default();
            rows.into_values().for_each(|rows| place(hot, rows, &mut placer, &mut of));
        }
        Ok(Self { of, _held: held })
    }
}

/// The traces in which a callee has the id of a caller.
fn traces_with_halves(hot: &[&Arc<HotBatch>], callers: usize) -> SeededSet<TraceId> {
    let of_kind = |batch: &Arc<HotBatch>, wanted: fn(u8) -> bool, look: &mut dyn FnMut(TraceId, SpanId)| {
        let spans = &batch.spans;
        let rows = (0..spans.len()).filter(|&row| wanted(spans.kind[row]));
        rows.for_each(|row| look(spans.trace_id[row], spans.span_id[row]));
    };
    let mut known: SeededSet<(TraceId, SpanId)> = SeededSet::default();
    known.reserve(callers);
    for batch in hot {
        of_kind(batch, is_caller, &mut |trace, id| {
            known.insert((trace, id));
        });
    }
    let mut found = SeededSet::default();
    for batch in hot {
        of_kind(batch, is_callee, &mut |trace, id| {
            if known.contains(&(trace, id)) {
                found.insert(trace);
            }
        });
    }
    found
}

/// Adds the ids of the spans of one trace.
fn place(
    hot: &[&Arc<HotBatch>],
    mut rows: Vec<(usize, usize)>,
    placer: &mut Placer,
    of: &mut SeededMap<(usize, usize), Ids>,
) {
    // As files have them, so that halves get the same ids in the same order.
    rows.sort_by_key(|&(number, row)| hot[number].spans.start_unix_nanos[row]);
    let placing = |at: usize| hot[rows[at].0].spans.placing(rows[at].1);
    let mut parents = Vec::with_capacity(rows.len());
    let mut ids: Vec<SpanId> = (0..rows.len()).map(|at| placing(at).span_id).collect();
    let named: Vec<SpanId> = (0..rows.len()).map(|at| placing(at).parent_span_id).collect();
    placer.place(&ids, &named, placing, |parent| parents.push(parent));
    let mut last_beside: SeededMap<u32, SpanId> = SeededMap::default();
    for at in 0..rows.len() {
        if let ParentRow::Row(caller) = parents[at]
            && placing(caller as usize).span_id == ids[at]
        {
            let id = last_beside.entry(caller).or_insert(ids[at]);
            *id = derived_span_id(*id);
            ids[at] = *id;
        }
    }
    for (at, &(number, row)) in rows.iter().enumerate() {
        let parent = match parents[at] {
            ParentRow::Row(parent) => ids[parent as usize],
            ParentRow::Root | ParentRow::Missing => named[at],
        };
        of.insert((number, row), (ids[at], parent));
    }
}

/// Where the ids of the spans of a batch are.
#[derive(Clone, Copy)]
pub(super) enum IdsOf<'a> {
    /// In the batch: nobody asks for them.
    Batch,
    /// Spans in memory, by the number of their batch.
    Hot(&'a HotIds, usize),
    /// Spans of a file from a row on.
    File(&'a TreeIds, usize),
}

impl IdsOf<'_> {
    pub(super) fn of(&self, spans: &SpanBatch, row: usize) -> Ids {
        let sent = (spans.span_id[row], spans.parent_span_id[row]);
        match self {
            IdsOf::Batch => sent,
            IdsOf::Hot(ids, batch) => ids.of.get(&(*batch, row)).copied().unwrap_or(sent),
            IdsOf::File(ids, first) => {
                let at = first + row;
                ids.ids.get(at).copied().zip(ids.parents.get(at).copied()).unwrap_or(sent)
            }
        }
    }
}
