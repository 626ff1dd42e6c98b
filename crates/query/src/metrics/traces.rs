//! Gathers from whole traces, for pipelines that no span alone decides.

use std::sync::Arc;

use parking_lot::Mutex;
use tracehouse_model::{SeededSet, SpanBatch, TraceId};
use tracehouse_scan::{Bounds, Held, each_row_group};
use tracehouse_spanfile::OpenFile;
use tracehouse_store::SpanFile;

use super::columns::gather_rows;
use super::gather::{Gathered, Place};
use super::measure::Cell;
use super::met::Met;
use super::series_plan::{Run, SeriesPlan};
use super::steps::Steps;
use crate::assemble::{Omitted, assemble_many};
use crate::candidates::{Beside, Candidates, SpanFinder};
use crate::column_eval::columns_of;
use crate::evaluate::{Evaluation, union_of};
use crate::question::Question;
use crate::row_eval::{RowExpression, TraceFacts};
use crate::services::columns_of_services;
use crate::shares::candidate_bytes_max;
use crate::whereabouts::Whereabouts;

/// Traces that one thread puts together at once.
const TRACES_AT_ONCE: usize = 2048;

pub(super) fn gather<C: Cell>(run: &Run<'_>, files: &[&Arc<SpanFile>], met: &mut Met) -> Gathered<C> {
    let traces = WholeTraces { series: run.series, steps: run.steps, question: run.question };
    let whereabouts = Whereabouts::new(run.question);
    let (candidates, _held) = traces.candidates(&whereabouts, files, met);
    gather_of(run, &whereabouts, &candidates, met)
}

/// Gathers from some traces, each with a file where it was met: by file, then by id.
pub(super) fn gather_of<C: Cell>(
    run: &Run<'_>,
    whereabouts: &Whereabouts<'_>,
    candidates: &[(u32, TraceId)],
    met: &mut Met,
) -> Gathered<C> {
    let traces = WholeTraces { series: run.series, steps: run.steps, question: run.question };
    let columns = |open: &OpenFile| Some(columns(run, open));
    let look = |spans: &SpanBatch, facts: &TraceFacts<'_>, rows: Vec<u32>, own: &mut Gathered<C>| {
        let rows = rows.into_iter().map(|row| row as usize);
        let place = |row: usize| Place::Known { trace_id: spans.trace_id[row], span_id: spans.span_id[row] };
        gather_rows(run, spans, rows, place, |field| RowExpression::new(field, spans, Some(facts)), own);
    };
    let all = traces.gather_of(whereabouts, candidates, met, || run.begin(), columns, look);
    let mut gathered = run.begin();
    all.into_iter().for_each(|own| gathered.merge(own));
    gathered
}

/// The traces of which a pipeline leaves spans.
pub(super) struct WholeTraces<'a> {
    pub(super) series: &'a SeriesPlan,
    pub(super) steps: &'a Steps,
    pub(super) question: Question<'a>,
}

impl WholeTraces<'_> {
    /// Puts traces together with the columns named (all if `None`), runs the pipeline over each and shows `look` what it
    /// leaves: the spans, what is known of their trace, and which rows are left. Each thread adds to what `begin` makes.
    pub(super) fn gather<T: Send>(
        &self,
        files: &[&Arc<SpanFile>],
        met: &mut Met,
        begin: impl Fn() -> T + Sync,
        columns: impl Fn(&OpenFile) -> Option<Vec<String>> + Sync,
        look: impl Fn(&SpanBatch, &TraceFacts<'_>, Vec<u32>, &mut T) + Sync,
    ) -> Vec<T> {
        let whereabouts = Whereabouts::new(self.question);
        let (candidates, _held) = self.candidates(&whereabouts, files, met);
        self.gather_of(&whereabouts, &candidates, met, begin, columns, look)
    }

    fn gather_of<T: Send>(
        &self,
        whereabouts: &Whereabouts<'_>,
        candidates: &[(u32, TraceId)],
        met: &mut Met,
        begin: impl Fn() -> T + Sync,
        columns: impl Fn(&OpenFile) -> Option<Vec<String>> + Sync,
        look: impl Fn(&SpanBatch, &TraceFacts<'_>, Vec<u32>, &mut T) + Sync,
    ) -> Vec<T> {
        let bounds = self.question.bounds;
        let of_files = candidates.chunk_by(|one, other| one.0 == other.0);
        let portions: Vec<&[(u32, TraceId)]> = of_files.flat_map(|of_file| of_file.chunks(TRACES_AT_ONCE)).collect();
        let omitted: Mutex<Omitted> = Mutex::default();
        let (all, done) = bounds.gather(portions.len(), begin, |portion, own| {
            let traces: Vec<TraceId> = portions[portion].iter().map(|(_, trace)| *trace).collect();
            assemble_many(self.question, whereabouts, &traces, &columns, |found| {
                for tree in &found.trees {
                    let facts = TraceFacts::of(&found.spans, tree);
                    let evaluation = Evaluation::new(&found.spans, tree, &facts);
                    let spansets = evaluation.run(&self.series.plan.stages, &self.steps.window());
                    look(&found.spans, &facts, union_of(&spansets), own);
                    omitted.lock().add(tree.omitted());
                }
            });
        });
        if done < portions.len() {
            met.partial(|| bounds.stopped(done, portions.len(), "portions of traces looked at"));
        }
        met.omitted(omitted.into_inner());
        all
    }

    /// Traces that may leave spans, each with the first file where it was met: by file, then by id, as they stand there; and
    /// the memory for them.
    fn candidates(
        &self,
        whereabouts: &Whereabouts<'_>,
        files: &[&Arc<SpanFile>],
        met: &mut Met,
    ) -> (Vec<(u32, TraceId)>, Held) {
        let Question { snapshot, bounds, reach } = self.question;
        let drivers = &self.series.plan.drivers;
        let finder = SpanFinder { filter: &drivers.span, exactly: &[], window: self.steps.window(), bounds };
        let mut in_memory = Candidates::default();
        snapshot.hot.iter().for_each(|hot| finder.look_at_memory(&hot.spans, &mut in_memory));
        let beside = Beside::new(self.question, whereabouts, &drivers.trace);
        beside.keep_possible(&mut in_memory);
        let ruled_out = if beside.rules_out_all(files.len()) { files.len() } else { 0 };
        met.inspected.files += ruled_out as u64;
        let files = &files[ruled_out..];
        let in_memory = in_memory.take_newer_than(i64::MIN);
        let listing = Listing::new(bounds);
        if !listing.has_room(in_memory.len()) {
            return listing.finish(Vec::new(), Vec::new());
        }
        let (found, done) = each_row_group(bounds, reach, files, Vec::new, |piece, own: &mut Vec<(u32, TraceId)>| {
            let elsewhere = |trace, lacks| beside.elsewhere(trace, lacks, piece.file, true);
            let matches = finder.traces_in_row_group(piece.rows(bounds), &drivers.trace, true, elsewhere)?;
            if listing.has_room(matches.len()) {
                own.extend(matches.into_iter().map(|(trace, _)| (piece.number, trace)));
            }
            Ok(())
        });
        met.read(self.question, done, files.len());
        listing.finish(in_memory, found)
    }
}

/// Lists traces that are to be put together, and takes the memory for that.
pub(super) struct Listing<'a> {
    bounds: &'a Bounds,
    held: Mutex<Held>,
}

impl<'a> Listing<'a> {
    pub(super) fn new(bounds: &'a Bounds) -> Self {
        Self { bounds, held: Mutex::new(bounds.hold()) }
    }

    /// Whether there is room for so many more; if not, the query ends.
    pub(super) fn has_room(&self, more: usize) -> bool {
        // They are gathered once more at the end.
        let (mut held, bytes) = (self.held.lock(), 2 * more * size_of::<(u32, TraceId)>());
        let too_many = held.used() + bytes > candidate_bytes_max(self.bounds);
        // More than there can be ends the query, with the same words.
        self.bounds.take(&mut held, if too_many { usize::MAX } else { bytes }).is_ok()
    }

    /// Each with the first file where it was met: by file, then by id, as they stand there.
    pub(super) fn finish(
        self,
        in_memory: Vec<(TraceId, i64)>,
        in_files: Vec<Vec<(u32, TraceId)>>,
    ) -> (Vec<(u32, TraceId)>, Held) {
        let mut traces: Vec<_> = in_memory.into_iter().map(|(trace, _)| (u32::MAX, trace)).collect();
        in_files.into_iter().for_each(|found| traces.extend(found));
        traces.sort_unstable_by_key(|&(file, trace)| (trace, file));
        traces.dedup_by_key(|(_, trace)| *trace);
        traces.sort_unstable();
        (traces, self.held.into_inner())
    }
}

fn columns(run: &Run<'_>, open: &OpenFile) -> Vec<String> {
    let by = run.series.by.iter().map(|field| &field.expression);
    let always = ["name", "kind", "sampling_threshold"].into_iter().chain(columns_of_services(open));
    let mut columns: SeededSet<String> = always.map(str::to_owned).collect();
    for expression in run.series.plan.expressions().into_iter().chain(by).chain(run.field) {
        columns.extend(columns_of(expression, open.layout()));
    }
    columns.into_iter().collect()
}
