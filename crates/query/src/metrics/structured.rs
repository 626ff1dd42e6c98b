//! Gathers from columns for pipelines of relations between spans ([`crate::structure`]).
//!
//! A trace that lies in one row group is done with it. Of one in several, the ids of its rows and what they satisfy are kept, and joined
//! at the end. Only traces of which this does not tell the tree are put together: with spans in memory or in files that are not read,
//! with ids that several spans share, with circles of parents.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{AsArray, BooleanBufferBuilder};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::Int32Type;
use parking_lot::Mutex;
use parquet::errors::Result;
use tracehouse_model::{ParentRow, Placer, Placing, SpanId, TraceId};
use tracehouse_scan::{Held, Piece, Window, each_row_group};
use tracehouse_spanfile::{TraceRows, column};
use tracehouse_store::SpanFile;

use super::columns::{Rows, gather_of_row_group};
use super::gather::Gathered;
use super::measure::Cell;
use super::series_plan::Run;
use super::traces;
use crate::candidates::{Candidates, SpanFinder};
use crate::compile::Expression;
use crate::drivers::TraceDriver;
use crate::met::Met;
use crate::plan::SpansetNode;
use crate::question::Question;
use crate::shares::parts_bytes_max;
use crate::structure::{CONDITIONS_MAX, Kin, NO_PARENT, any_of, parents_by_offsets};
use crate::whereabouts::Whereabouts;
use crate::whole_traces::Listing;

/// Where the traces of all files stand is read at once if the range selects one file in so many.
const SHARE_OF_ALL_FILES: usize = 4;

/// `None`: the pipeline is none of those, or there is no memory to know where all traces stand.
pub(super) fn gather<C: Cell>(run: &Run<'_>, files: &[&Arc<SpanFile>], met: &mut Met) -> Option<Gathered<C>> {
    let node = run.series.structure()?;
    let Question { bounds, reach, snapshot } = run.question;
    let whereabouts = Whereabouts::new(run.question);
    let standing = Standing::of(run.question, &whereabouts, files)?;
    let structured = Structured { run, node, standing, held: Mutex::new(bounds.hold()) };
    let listing = Listing::new(bounds);
    let mut in_memory = Candidates::default();
    let finder = structured.finder(&run.series.plan.drivers.span, run.steps.window());
    snapshot.hot.iter().for_each(|hot| finder.look_at_memory(&hot.spans, &mut in_memory));
    let in_memory = in_memory.take_newer_than(i64::MIN);
    let mut gathered = run.begin();
    if !listing.has_room(in_memory.len()) {
        return Some(gathered);
    }
    let begin = || (run.begin(), Found::default());
    let (all, done) = each_row_group(bounds, reach, files, begin, |piece, (gathered, found)| {
        let more = structured.gather_row_group(piece, gathered)?;
        if listing.has_room(more.others.len()) {
            found.others.extend(more.others);
        }
        found.parts.extend(more.parts);
        Ok(())
    });
    met.read(run.question, done, files.len());
    let (mut others, mut parts) = (Vec::new(), Vec::new());
    for (own, found) in all {
        gathered.merge(own);
        others.push(found.others);
        parts.push(found.parts);
    }
    let Joined { wanted, untold } = structured.join(parts.concat(), &others);
    if listing.has_room(untold.len()) {
        others.push(untold);
    }
    structured.gather_wanted(files, &wanted, met, &mut gathered);
    let (traces, _held) = listing.finish(in_memory, others);
    gathered.merge(traces::gather_of(run, &whereabouts, &traces, met));
    Some(gathered)
}

/// Where traces stand.
struct Standing<'a> {
    whereabouts: &'a Whereabouts<'a>,
    /// Numbers in the snapshot of the files that are read.
    numbers: Vec<usize>,
    /// Traces of several row groups, sorted, and whether they have spans in memory or in files that are not read, too.
    several: Vec<(TraceId, bool)>,
    /// Traces with spans in memory, sorted.
    in_memory: Vec<TraceId>,
    /// Numbers of files of which it is not known yet which traces they hold.
    unknown: Vec<usize>,
    _held: Held,
}

enum Stands {
    InOneRowGroup,
    /// In several that are read; which of these traces it is.
    InSeveral(u32),
    Elsewhere,
}

impl<'a> Standing<'a> {
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
        let (numbers, others) = partition(snapshot.files.iter().map(is_wanted));
        let reads_all = files.len() * SHARE_OF_ALL_FILES >= snapshot.files.len();
        let several = if reads_all {
            whereabouts.in_several(&Vec::from_iter(0..snapshot.files.len()))?
        } else {
            whereabouts.in_several(&numbers)?
        };
        let is_elsewhere = |trace: &TraceId| {
            // After the end of the time nothing of this counts.
            in_memory.binary_search(trace).is_ok()
                || whereabouts.ended()
                || whereabouts.in_any(*trace, others.iter().copied(), None, true)
        };
        let several = several.into_iter().map(|trace| (trace, is_elsewhere(&trace))).collect();
        let unknown = if reads_all { Vec::new() } else { others };
        Some(Self { whereabouts, numbers, several, in_memory, unknown, _held: held })
    }

    fn rows_of(&self, piece: &Piece<'_>) -> Option<&TraceRows> {
        self.whereabouts.of_file(self.numbers[piece.number as usize], false)?.get(piece.row_group)
    }

    fn number_of(&self, trace: TraceId) -> Option<usize> {
        self.several.binary_search_by_key(&trace, |(trace, _)| *trace).ok()
    }

    fn of_trace(&self, trace: TraceId) -> Stands {
        match self.number_of(trace) {
            Some(number) if self.several[number].1 => Stands::Elsewhere,
            Some(number) => Stands::InSeveral(number as u32),
            None if self.in_memory.binary_search(&trace).is_ok() => Stands::Elsewhere,
            None if self.whereabouts.ended() => Stands::Elsewhere,
            None if self.whereabouts.in_any(trace, self.unknown.iter().copied(), None, true) => Stands::Elsewhere,
            None => Stands::InOneRowGroup,
        }
    }
}

/// The numbers of those that are, and of the others.
fn partition(are: impl Iterator<Item = bool>) -> (Vec<usize>, Vec<usize>) {
    let (yes, no): (Vec<_>, Vec<_>) = are.enumerate().partition(|(_, is)| *is);
    let numbers = |of: Vec<(usize, bool)>| of.into_iter().map(|(number, _)| number).collect();
    (numbers(yes), numbers(no))
}

/// What a row group has of traces that do not stand in it alone.
#[derive(Default)]
struct Found {
    /// Traces that are to be put together.
    others: Vec<(u32, TraceId)>,
    parts: Vec<PartRow>,
}

/// A row of a trace that stands in several row groups.
#[derive(Clone, Copy)]
struct PartRow {
    /// Which trace.
    several: u32,
    file: u32,
    row_group: u32,
    row: u32,
    id: SpanId,
    parent: SpanId,
    /// Which conditions it satisfies, a bit for each.
    holds: u32,
}

/// The bit that is set if it may be in the answer.
const POSSIBLE: u32 = 1 << CONDITIONS_MAX;

/// What was worked out of traces in several row groups.
struct Joined {
    /// Rows of the answer: by file, row group and row.
    wanted: Vec<PartRow>,
    /// Traces whose trees ids alone don't tell.
    untold: Vec<(u32, TraceId)>,
}

struct Structured<'a> {
    run: &'a Run<'a>,
    node: &'a SpansetNode,
    standing: Standing<'a>,
    /// For parts of traces.
    held: Mutex<Held>,
}

impl<'a> Structured<'a> {
    fn finder<'s>(&'s self, filter: &'s Expression, window: Window) -> SpanFinder<'s> {
        SpanFinder { filter, exactly: &[], window, bounds: self.run.question.bounds }
    }

    /// Gathers from the traces that stand in a row group as a whole.
    fn gather_row_group<C: Cell>(&self, piece: &Piece<'_>, gathered: &mut Gathered<C>) -> Result<Found> {
        let row_group = piece.rows(self.run.question.bounds);
        let driver = || self.finder(&self.run.series.plan.drivers.span, self.run.steps.window());
        let possible = driver().matching_rows(row_group)?;
        let of_file = |trace| (piece.number, trace);
        let traces = self.standing.rows_of(piece);
        let all_can_be_read = piece.open.readable(piece.row_group).is_none();
        let Some(traces) = traces.filter(|traces| all_can_be_read && traces.is_whole()) else {
            // What is lost is not known to the columns of what is left.
            let here = driver().traces_in_row_group(row_group, &TraceDriver::NONE, true, |_, _| true)?;
            let several = traces.into_iter().flat_map(TraceRows::iter).map(|(trace, _)| trace);
            let several = several.filter(|trace| self.standing.number_of(*trace).is_some());
            let others = here.into_iter().map(|(trace, _)| trace).chain(several).map(of_file).collect();
            return Ok(Found { others, parts: Vec::new() });
        };
        let is_several = |trace| matches!(self.standing.of_trace(trace), Stands::InSeveral(_));
        let none_is_possible = possible.count_set_bits() == 0;
        if none_is_possible && (self.standing.several.is_empty() || !traces.iter().any(|(trace, _)| is_several(trace)))
        {
            return Ok(Found::default());
        }
        let all = Rows::new(row_group, BooleanBuffer::new_set(row_group.rows()));
        let _kin = all.hold(row_group.rows() * Kin::BYTES_PER_ROW)?;
        let offsets = all.column(column::PARENT_OFFSET)?;
        let begins = traces.iter().map(|(_, rows)| rows.start as u32).collect();
        let (kin, untold) = Kin::of(begins, parents_by_offsets(offsets.as_primitive::<Int32Type>()));
        // What a span stands beneath may lie outside of the range.
        let always = || Window::starting(i64::MIN..i64::MAX);
        let mut conditions = Vec::new();
        let left = kin.left_by(self.node, &mut |filter| {
            let rows = self.finder(filter, always()).matching_rows(row_group)?;
            conditions.push(rows.clone());
            Ok(rows)
        })?;
        let mut wanted = BooleanBufferBuilder::new(left.len());
        wanted.append_buffer(&(&left & &possible));
        let (mut others, mut parts) = (Vec::new(), Vec::new());
        let mut untold = untold.into_iter().peekable();
        for (trace, rows) in traces.iter() {
            let is_untold = untold.next_if(|range| range.start == rows.start).is_some();
            let number = if self.standing.several.is_empty() { None } else { self.standing.number_of(trace) };
            if number.is_none() && !any_of(&possible, &rows) {
                continue;
            }
            match self.standing.of_trace(trace) {
                Stands::InOneRowGroup if !is_untold => continue,
                Stands::InSeveral(several) => parts.push((several, rows.clone())),
                Stands::InOneRowGroup => others.push(of_file(trace)),
                Stands::Elsewhere if any_of(&possible, &rows) => others.push(of_file(trace)),
                Stands::Elsewhere => {}
            }
            rows.for_each(|row| wanted.set_bit(row, false));
        }
        let parts = if parts.is_empty() {
            Vec::new()
        } else if self.has_room(parts.iter().map(|(_, rows)| rows.len()).sum()) {
            self.parts(piece, &parts, &conditions, &possible)?
        } else {
            others.extend(parts.iter().map(|(several, _)| of_file(self.standing.several[*several as usize].0)));
            Vec::new()
        };
        gather_of_row_group(self.run, piece.number, row_group, wanted.finish(), gathered)?;
        Ok(Found { others, parts })
    }

    fn has_room(&self, rows: usize) -> bool {
        let bounds = self.run.question.bounds;
        // They are copied once to join them.
        let (mut held, bytes) = (self.held.lock(), rows * (2 * size_of::<PartRow>() + Kin::BYTES_PER_ROW));
        held.used() + bytes <= parts_bytes_max(bounds) && held.take(bytes).is_ok()
    }

    fn parts(
        &self,
        piece: &Piece<'_>,
        parts: &[(u32, Range<usize>)],
        conditions: &[BooleanBuffer],
        possible: &BooleanBuffer,
    ) -> Result<Vec<PartRow>> {
        let row_group = piece.rows(self.run.question.bounds);
        let (ids, _held) = row_group.named_ids()?;
        let holds = |row: usize| {
            let bits = conditions.iter().enumerate().filter(|(_, rows)| rows.value(row)).map(|(number, _)| 1 << number);
            bits.chain(possible.value(row).then_some(POSSIBLE)).fold(0, |holds, bit: u32| holds | bit)
        };
        let rows = parts.iter().flat_map(|(several, rows)| rows.clone().map(|row| (*several, row)));
        let part = |(several, row): (u32, usize)| PartRow {
            several,
            file: piece.number,
            row_group: piece.row_group as u32,
            row: row as u32,
            id: ids.ids[row],
            parent: ids.parents[row],
            holds: holds(row),
        };
        Ok(rows.map(part).collect())
    }

    /// Works out traces of several row groups. `others`: traces that are put together anyway.
    fn join(&self, mut rows: Vec<PartRow>, others: &[Vec<(u32, TraceId)>]) -> Joined {
        let mut left_out = vec![false; self.standing.several.len()];
        for number in others.iter().flatten().filter_map(|(_, trace)| self.standing.number_of(*trace)) {
            left_out[number] = true;
        }
        rows.retain(|row| !left_out[row.several as usize]);
        rows.sort_unstable_by_key(|row| (row.several, row.file, row.row_group, row.row));
        let (mut begins, mut parents, mut untold) = (Vec::new(), Vec::with_capacity(rows.len()), Vec::new());
        let mut placer = Placer::default();
        for trace in rows.chunk_by(|one, other| one.several == other.several) {
            let begin = parents.len() as u32;
            begins.push(begin);
            let ids: Vec<SpanId> = trace.iter().map(|row| row.id).collect();
            let named: Vec<SpanId> = trace.iter().map(|row| row.parent).collect();
            // Of spans that share an id this does not tell which comes first: such traces are put together.
            let nothing = |row: usize| Placing {
                span_id: ids[row],
                parent_span_id: named[row],
                kind: 0,
                start_unix_nanos: 0,
                duration_nanos: 0,
            };
            placer.place(&ids, &named, nothing, |parent| {
                parents.push(if let ParentRow::Row(row) = parent { begin + row } else { NO_PARENT });
            });
            if placer.sharing().next().is_some() {
                untold.push(begin as usize..parents.len());
            }
        }
        let (kin, circles) = Kin::of(begins, parents);
        untold.extend(circles);
        let mut next_bit = 1;
        let left = kin.left_by(self.node, &mut |_| {
            let bit = next_bit;
            next_bit <<= 1;
            Ok(BooleanBuffer::collect_bool(rows.len(), |row| rows[row].holds & bit != 0))
        });
        // Nothing is read for it.
        let left = left.unwrap_or_else(|_| BooleanBuffer::new_unset(rows.len()));
        let mut is_told = vec![true; rows.len()];
        untold.iter().for_each(|trace| is_told[trace.clone()].fill(false));
        let untold = untold.into_iter().filter_map(|trace| {
            let first = rows[trace].iter().find(|row| row.holds & POSSIBLE != 0)?;
            Some((first.file, self.standing.several[first.several as usize].0))
        });
        let untold = untold.collect();
        let mut of_answer = (0..rows.len()).map(|row| left.value(row) && is_told[row]).collect::<Vec<_>>().into_iter();
        rows.retain(|row| of_answer.next() == Some(true) && row.holds & POSSIBLE != 0);
        rows.sort_unstable_by_key(|row| (row.file, row.row_group, row.row));
        Joined { wanted: rows, untold }
    }

    /// Gathers from rows that are known to be in the answer.
    fn gather_wanted<C: Cell>(
        &self,
        files: &[&Arc<SpanFile>],
        wanted: &[PartRow],
        met: &mut Met,
        gathered: &mut Gathered<C>,
    ) {
        let Question { bounds, reach, .. } = self.run.question;
        let numbers: Vec<u32> = wanted.chunk_by(|one, other| one.file == other.file).map(|rows| rows[0].file).collect();
        let read: Vec<&Arc<SpanFile>> = numbers.iter().map(|number| files[*number as usize]).collect();
        let (all, done) = each_row_group(
            bounds,
            reach,
            &read,
            || self.run.begin(),
            |piece, own| {
                let place = (numbers[piece.number as usize], piece.row_group as u32);
                let begin = wanted.partition_point(|row| (row.file, row.row_group) < place);
                let rows = wanted[begin..].iter().take_while(|row| (row.file, row.row_group) == place);
                let mut mask = BooleanBufferBuilder::new(piece.open.rows_of(piece.row_group));
                mask.append_n(piece.open.rows_of(piece.row_group), false);
                rows.for_each(|row| mask.set_bit(row.row as usize, true));
                let mask = mask.finish();
                let readable = piece.rows(bounds).readable();
                gather_of_row_group(self.run, place.0, piece.rows(bounds), &mask & &readable, own)
            },
        );
        if !done.all {
            met.partial(|| bounds.stopped(done.files, read.len(), "files looked at again"));
        }
        all.into_iter().for_each(|own| gathered.merge(own));
    }
}
