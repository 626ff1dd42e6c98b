//! Tells what the traces and spans that a search found are about ([`Targets`]).
//!
//! It is told of those alone that the answer holds: a search may look at many more, and needs fewer columns for that.

use std::sync::Arc;

use parking_lot::Mutex;
use tracehouse_model::{SeededMap, SpanId, TraceId};
use tracehouse_scan::{Contents, Held, Reservation};
use tracehouse_spanfile::OpenFile;
use tracehouse_store::SpanFile;
use tracehouse_traceql::AttributeScope;

use crate::assemble::{Assembled, assemble_side_by_side};
use crate::column_eval::field_of;
use crate::question::Question;
use crate::request::{MatchedSpan, SearchAnswer, TraceSummary};
use crate::summary::first_of;
use crate::target::{TARGET_KEYS, Targets};
use crate::whereabouts::Whereabouts;

/// What is read of a file beside ids, parents and times.
const COLUMNS: [&str; 2] = ["name", "kind"];

/// About what a text takes in a table.
const ENTRY_BYTES: usize = 128;

/// What was found of a trace.
#[derive(Default)]
struct Told {
    first: Option<String>,
    spans: SeededMap<(SpanId, i64), String>,
}

/// Adds to what a search found what it is about. If time or memory end before all is known, the answer says so.
pub(crate) fn add_targets(question: Question<'_>, answer: &mut SearchAnswer) {
    let (mut told, held) = told(question, &answer.traces);
    let (known, all) = (told.len(), answer.traces.len());
    let in_words = || (known < all).then(|| format!("what calls are about is known for {known} of {all} traces"));
    answer.partial_reason = answer.partial_reason.take().or_else(|| question.reach.partial_reason()).or_else(in_words);
    for trace in &mut answer.traces {
        let Some(of_trace) = told.get_mut(&trace.trace_id) else { continue };
        trace.root_target = of_trace.first.take();
        for span in trace.spansets.iter_mut().flat_map(|spanset| &mut spanset.spans) {
            span.target = of_trace.spans.get(&id_of(span)).cloned();
        }
    }
    answer.memory = Reservation::together([std::mem::take(&mut answer.memory), Reservation::of(held)]);
}

fn told(question: Question<'_>, found: &[TraceSummary]) -> (SeededMap<TraceId, Told>, Held) {
    let wanted: SeededMap<TraceId, &TraceSummary> = found.iter().map(|trace| (trace.trace_id, trace)).collect();
    let mut traces: Vec<TraceId> = wanted.keys().copied().collect();
    traces.sort_unstable();
    let (told, held) = (Mutex::<SeededMap<TraceId, Told>>::default(), Mutex::new(question.bounds.hold()));
    let whereabouts = Whereabouts::new(question);
    let columns = |file: &Arc<SpanFile>, open: &Arc<OpenFile>| Some(target_columns(file, open));
    assemble_side_by_side(question, &whereabouts, &traces, columns, |found| {
        for (trace, of_trace) in told_of(found, &wanted) {
            // Until they are written into the answer they are there twice.
            let texts = of_trace.spans.values().chain(&of_trace.first).map(|text| 2 * text.len() + ENTRY_BYTES);
            if question.bounds.take(&mut held.lock(), ENTRY_BYTES + texts.sum::<usize>()).is_err() {
                return;
            }
            told.lock().insert(trace, of_trace);
        }
    });
    (told.into_inner(), held.into_inner())
}

fn id_of(span: &MatchedSpan) -> (SpanId, i64) {
    (span.span_id, span.start_unix_nanos)
}

fn told_of(found: &Assembled, wanted: &SeededMap<TraceId, &TraceSummary>) -> Vec<(TraceId, Told)> {
    let spans = &found.spans;
    let mut targets = Targets::new(spans);
    let mut told = Vec::with_capacity(found.trees.len());
    for tree in &found.trees {
        let Some(summary) = wanted.get(&tree.trace_id) else { continue };
        let mut of_trace =
            Told { first: targets.text(first_of(spans, tree)).map(str::to_owned), spans: SeededMap::default() };
        let of_spansets = summary.spansets.iter().flat_map(|spanset| &spanset.spans);
        let mut of_answer: Vec<_> = of_spansets.map(id_of).collect();
        of_answer.sort_unstable();
        for row in tree.rows.clone() {
            let id = (spans.span_id[row], spans.start_unix_nanos[row]);
            if of_answer.binary_search(&id).is_ok()
                && let Some(text) = targets.text(row)
            {
                of_trace.spans.insert(id, text.to_owned());
            }
        }
        told.push((tree.trace_id, of_trace));
    }
    told
}

/// The columns of a file that say what its spans are about.
pub(crate) fn target_columns(file: &Arc<SpanFile>, open: &Arc<OpenFile>) -> Vec<String> {
    let contents = Contents::of_open(file, open);
    let fields = TARGET_KEYS.iter().filter_map(|key| field_of(AttributeScope::Span, key));
    let places = fields.flat_map(|field| field.places(&contents, open.layout())).map(|place| place.column);
    let mut columns: Vec<String> = COLUMNS.into_iter().map(str::to_owned).chain(places).collect();
    columns.sort_unstable();
    columns.dedup();
    columns
}
