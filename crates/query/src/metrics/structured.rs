//! Gathers from columns for pipelines of relations between spans ([`crate::structure`]); only traces that do not lie in one row
//! group as a whole are put together.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanBufferBuilder};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::Int32Type;
use parquet::errors::Result;
use tracehouse_model::TraceId;
use tracehouse_scan::{Held, Piece, Window, each_row_group};
use tracehouse_spanfile::{TraceRows, column};
use tracehouse_store::SpanFile;

use super::columns::{Rows, gather_of_row_group};
use super::gather::Gathered;
use super::measure::Cell;
use super::met::Met;
use super::series_plan::Run;
use super::traces::{self, Listing};
use crate::candidates::{Candidates, Scan};
use crate::compile::Expression;
use crate::drivers::TraceDriver;
use crate::plan::SpansetNode;
use crate::question::Question;
use crate::structure::{Kin, any_of};
use crate::whereabouts::Whereabouts;

/// Where the traces of all files stand is read at once if the range selects one file in so many.
const SHARE_OF_ALL_FILES: usize = 4;

/// `None`: the pipeline is none of those, or there is no memory to know where all traces stand.
pub(super) fn gather<C: Cell>(run: &Run<'_>, files: &[&Arc<SpanFile>], met: &mut Met) -> Option<Gathered<C>> {
    let node = run.series.structure()?;
    let Question { bounds, reach, snapshot } = run.question;
    let whereabouts = Whereabouts::new(run.question);
    let apart = Apart::of(run.question, &whereabouts, files)?;
    let structured = Structured { run, node, apart };
    let listing = Listing::new(bounds);
    let mut in_memory = Candidates::default();
    let scan = structured.scan(&run.series.plan.drivers.span, run.steps.window());
    snapshot.hot.iter().for_each(|hot| scan.look_at_memory(&hot.spans, &mut in_memory));
    let in_memory = in_memory.take_newer_than(i64::MIN);
    let mut gathered = run.begin();
    if !listing.has_room(in_memory.len()) {
        return Some(gathered);
    }
    let begin = || (run.begin(), Vec::new());
    let (all, done) = each_row_group(bounds, reach, files, begin, |piece, (gathered, others)| {
        let found = structured.gather_row_group(piece, gathered)?;
        if listing.has_room(found.len()) {
            others.extend(found);
        }
        Ok(())
    });
    met.read(run.question, done, files.len());
    let (all, others): (Vec<Gathered<C>>, Vec<_>) = all.into_iter().unzip();
    all.into_iter().for_each(|own| gathered.merge(own));
    let (traces, _held) = listing.finish(in_memory, others);
    gathered.merge(traces::gather_of(run, &whereabouts, &traces, met));
    Some(gathered)
}

/// Which traces do not lie in one row group as a whole.
struct Apart<'a> {
    whereabouts: &'a Whereabouts<'a>,
    /// Numbers in the snapshot of the files that are read.
    numbers: Vec<usize>,
    /// Traces of several row groups, sorted.
    several: Vec<TraceId>,
    /// Traces with spans in memory, sorted.
    in_memory: Vec<TraceId>,
    /// Numbers of files of which it is not known yet which traces they hold.
    unknown: Vec<usize>,
    _held: Held,
}

impl<'a> Apart<'a> {
    fn of(question: Question<'a>, whereabouts: &'a Whereabouts<'a>, files: &[&Arc<SpanFile>]) -> Option<Self> {
        let Question { bounds, snapshot, .. } = question;
        let mut held = bounds.hold();
        let hot_spans: usize = snapshot.hot.iter().map(|hot| hot.spans.len()).sum();
        held.take(hot_spans * size_of::<TraceId>()).ok()?;
        let mut in_memory: Vec<TraceId> = Vec::with_capacity(hot_spans);
        snapshot.hot.iter().for_each(|hot| in_memory.extend(&hot.spans.trace_id));
        in_memory.sort_unstable();
        in_memory.dedup();
        // Both in the same order.
        let mut wanted = files.iter().peekable();
        let is_wanted = |file: &Arc<SpanFile>| wanted.next_if(|next| Arc::ptr_eq(next, file)).is_some();
        let (numbers, others): (Vec<usize>, Vec<usize>) = partition(snapshot.files.iter().map(is_wanted));
        let reads_all = files.len() * SHARE_OF_ALL_FILES >= snapshot.files.len();
        let (several, unknown) = if reads_all {
            (whereabouts.in_several(&Vec::from_iter(0..snapshot.files.len()))?, Vec::new())
        } else {
            (whereabouts.in_several(&numbers)?, others)
        };
        Some(Self { whereabouts, numbers, several, in_memory, unknown, _held: held })
    }

    fn rows_of(&self, piece: &Piece<'_>) -> Option<&TraceRows> {
        self.whereabouts.of_file(self.numbers[piece.number as usize], false)?.get(piece.row_group)
    }

    /// Whether a trace may lie elsewhere, too.
    fn has(&self, trace: TraceId) -> bool {
        self.several.binary_search(&trace).is_ok()
            || self.in_memory.binary_search(&trace).is_ok()
            || self.whereabouts.in_any(trace, self.unknown.iter().copied(), None, true)
    }
}

/// The numbers of those that are, and of the others.
fn partition(are: impl Iterator<Item = bool>) -> (Vec<usize>, Vec<usize>) {
    let (yes, no): (Vec<_>, Vec<_>) = are.enumerate().partition(|(_, is)| *is);
    let numbers = |of: Vec<(usize, bool)>| of.into_iter().map(|(number, _)| number).collect();
    (numbers(yes), numbers(no))
}

struct Structured<'a> {
    run: &'a Run<'a>,
    node: &'a SpansetNode,
    apart: Apart<'a>,
}

impl<'a> Structured<'a> {
    fn scan<'s>(&'s self, filter: &'s Expression, window: Window) -> Scan<'s> {
        Scan { filter, exactly: &[], window, bounds: self.run.question.bounds }
    }

    /// Gathers from the traces that lie in a row group as a whole. Gives the others that may have spans of the answer in it.
    fn gather_row_group<C: Cell>(&self, piece: &Piece<'_>, gathered: &mut Gathered<C>) -> Result<Vec<(u32, TraceId)>> {
        let bounds = self.run.question.bounds;
        let row_group = piece.rows(bounds);
        let matching = |filter, window| self.scan(filter, window).matching_rows(row_group);
        let possible = matching(&self.run.series.plan.drivers.span, self.run.steps.window())?;
        if possible.count_set_bits() == 0 {
            return Ok(Vec::new());
        }
        let Some(traces) = self.apart.rows_of(piece).filter(|_| piece.open.readable(piece.row_group).is_none()) else {
            // Which spans are lost is not known to the columns of the others.
            let scan = self.scan(&self.run.series.plan.drivers.span, self.run.steps.window());
            let found = scan.traces_in_row_group(row_group, &TraceDriver::NONE, true, |_, _| true)?;
            return Ok(found.into_iter().map(|(trace, _)| (piece.number, trace)).collect());
        };
        let all = Rows::new(row_group, BooleanBuffer::new_set(row_group.rows()));
        let _kin = all.hold(row_group.rows() * Kin::BYTES_PER_ROW)?;
        let offsets = all.column(column::PARENT_OFFSET)?;
        let (kin, untold) = Kin::of(traces, offsets.as_primitive::<Int32Type>());
        // What a span stands beneath may lie outside of the range.
        let always = || Window::starting(i64::MIN..i64::MAX);
        let left = kin.left_by(self.node, &mut |filter| matching(filter, always()))?;
        let mut wanted = BooleanBufferBuilder::new(left.len());
        wanted.append_buffer(&(&left & &possible));
        let mut others = Vec::new();
        let mut untold = untold.into_iter().peekable();
        for (trace, rows) in traces.iter() {
            let is_untold = untold.next_if(|range| range.start == rows.start).is_some();
            if any_of(&possible, &rows) && (is_untold || self.apart.has(trace)) {
                rows.for_each(|row| wanted.set_bit(row, false));
                others.push((piece.number, trace));
            }
        }
        gather_of_row_group(self.run, piece, wanted.finish(), gathered)?;
        Ok(others)
    }
}
