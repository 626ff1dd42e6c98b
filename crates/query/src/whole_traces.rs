//! Runs a pipeline over every trace of which it may leave spans, put together side by side.

use std::sync::Arc;

use parking_lot::Mutex;
use tracehouse_model::{SpanBatch, TraceId};
use tracehouse_scan::{Bounds, Held, Window, each_row_group};
use tracehouse_spanfile::OpenFile;
use tracehouse_store::SpanFile;

use crate::assemble::{Omitted, TRACES_AT_ONCE, TraceTree, assemble_many};
use crate::candidates::{Beside, Candidates, SpanFinder};
use crate::drivers::TraceDriver;
use crate::evaluate::{Evaluation, Spanset, union_of};
use crate::met::Met;
use crate::plan::Plan;
use crate::question::Question;
use crate::request::Condition;
use crate::row_eval::TraceFacts;
use crate::shares::candidate_bytes_max;
use crate::shown::all_hold;
use crate::whereabouts::Whereabouts;

/// What a pipeline leaves of a trace.
pub(crate) struct Left<'a> {
    pub(crate) spans: &'a SpanBatch,
    pub(crate) tree: &'a TraceTree,
    pub(crate) facts: TraceFacts<'a>,
    /// None is empty.
    pub(crate) spansets: Vec<Spanset>,
}

impl<'a> Left<'a> {
    /// Of a trace that stands in a batch, the spans that a window selects and that satisfy the conditions as well.
    pub(crate) fn of(
        spans: &'a SpanBatch,
        tree: &'a TraceTree,
        plan: &Plan,
        window: &Window,
        exactly: &[Condition],
    ) -> Self {
        let facts = TraceFacts::of(spans, tree);
        let mut spansets = Evaluation::new(spans, tree, &facts).run(&plan.stages, window);
        for spanset in &mut spansets {
            spanset.rows.retain(|&row| all_hold(exactly, spans, row as usize));
        }
        spansets.retain(|spanset| !spanset.rows.is_empty());
        Self { spans, tree, facts, spansets }
    }

    /// The spans, each once, ascending.
    pub(crate) fn rows(&self) -> Vec<u32> {
        union_of(&self.spansets)
    }
}

/// The traces of which a pipeline leaves spans.
pub(crate) struct WholeTraces<'a> {
    pub(crate) plan: &'a Plan,
    /// What a trace in question has; the plan's own driver, or a tighter one.
    pub(crate) driver: &'a TraceDriver,
    /// Finds spans that drive the plan.
    pub(crate) finder: SpanFinder<'a>,
    pub(crate) question: Question<'a>,
}

impl<'a> WholeTraces<'a> {
    pub(crate) fn of_plan(plan: &'a Plan, window: Window, question: Question<'a>) -> Self {
        let finder = SpanFinder { filter: &plan.drivers.span, exactly: &[], window, bounds: question.bounds };
        Self { plan, driver: &plan.drivers.trace, finder, question }
    }

    /// Puts traces together with the columns named (all if `None`), runs the pipeline over each and shows `look` what it
    /// leaves. Each thread adds to what `begin` makes.
    pub(crate) fn gather<T: Send>(
        &self,
        files: &[&Arc<SpanFile>],
        met: &mut Met,
        begin: impl Fn() -> T + Sync,
        columns: impl Fn(&OpenFile) -> Option<Vec<String>> + Sync,
        look: impl Fn(&Left<'_>, &mut T) + Sync,
    ) -> Vec<T> {
        let whereabouts = Whereabouts::new(self.question);
        let (candidates, _held) = self.candidates(&whereabouts, files, met);
        self.gather_of(&whereabouts, &candidates, met, begin, columns, look)
    }

    /// The same of some traces, each with a file where it was met: by file, then by id.
    pub(crate) fn gather_of<T: Send>(
        &self,
        whereabouts: &Whereabouts<'_>,
        candidates: &[(u32, TraceId)],
        met: &mut Met,
        begin: impl Fn() -> T + Sync,
        columns: impl Fn(&OpenFile) -> Option<Vec<String>> + Sync,
        look: impl Fn(&Left<'_>, &mut T) + Sync,
    ) -> Vec<T> {
        let bounds = self.question.bounds;
        let of_files = candidates.chunk_by(|one, other| one.0 == other.0);
        let portions: Vec<&[(u32, TraceId)]> = of_files.flat_map(|of_file| of_file.chunks(TRACES_AT_ONCE)).collect();
        let omitted: Mutex<Omitted> = Mutex::default();
        let (all, done) = bounds.gather(portions.len(), begin, |portion, own| {
            let traces: Vec<TraceId> = portions[portion].iter().map(|(_, trace)| *trace).collect();
            let columns = |_: &Arc<SpanFile>, open: &Arc<OpenFile>| columns(open);
            assemble_many(self.question, whereabouts, &traces, columns, |found| {
                for tree in &found.trees {
                    let (window, exactly) = (&self.finder.window, self.finder.exactly);
                    look(&Left::of(&found.spans, tree, self.plan, window, exactly), own);
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
    pub(crate) fn candidates(
        &self,
        whereabouts: &Whereabouts<'_>,
        files: &[&Arc<SpanFile>],
        met: &mut Met,
    ) -> (Vec<(u32, TraceId)>, Held) {
        let Question { snapshot, bounds, reach } = self.question;
        let mut in_memory = Candidates::default();
        snapshot.hot.iter().for_each(|hot| self.finder.look_at_memory(&hot.spans, &mut in_memory));
        let beside = Beside::new(self.question, whereabouts, self.driver);
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
            let matches = self.finder.traces_in_row_group(piece.rows(bounds), self.driver, true, elsewhere)?;
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
pub(crate) struct Listing<'a> {
    bounds: &'a Bounds,
    held: Mutex<Held>,
}

impl<'a> Listing<'a> {
    pub(crate) fn new(bounds: &'a Bounds) -> Self {
        Self { bounds, held: Mutex::new(bounds.hold()) }
    }

    /// Whether there is room for so many more; if not, the query ends.
    pub(crate) fn has_room(&self, more: usize) -> bool {
        // They are gathered once more at the end.
        let (mut held, bytes) = (self.held.lock(), 2 * more * size_of::<(u32, TraceId)>());
        let too_many = held.used() + bytes > candidate_bytes_max(self.bounds);
        // More than there can be ends the query, with the same words.
        self.bounds.take(&mut held, if too_many { usize::MAX } else { bytes }).is_ok()
    }

    /// Each with the first file where it was met: by file, then by id, as they stand there.
    pub(crate) fn finish(
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
