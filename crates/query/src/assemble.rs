//! Puts traces together: from memory and files, without copies, as trees in pre-order.

use std::ops::Range;
use std::sync::Arc;

use tracehouse_model::{ParentRow, Placer, SpanBatch, SpanId, TraceId, status};
use tracehouse_scan::{Bounds, Held, Part, may_contain, row_bytes};
use tracehouse_spanfile::{OpenFile, Projection};
use tracehouse_store::{HotBatch, HotRows, SpanFile};

use crate::copies::{Sources, WithoutCopies};
use crate::question::Question;
use crate::shares::assembled_bytes_max;
use crate::whereabouts::Whereabouts;

/// Traces that one thread puts together at once.
pub(crate) const TRACES_AT_ONCE: usize = 2048;
/// From so many traces at once on it pays to know where the traces of a file stand.
const MANY_TRACES: usize = 512;
/// Memory with which traces are put together, unless one of them is larger.
const ASSEMBLED_BYTES: usize = 64 << 20;
/// With less there is no point in going on.
const ASSEMBLED_BYTES_MIN: usize = 64 << 10;
/// Of that, the share for what is gathered: it is sorted into a copy, and takes a place in several tables.
const GATHERED_SHARE: usize = 3;
/// About what a span takes at least.
const SPAN_BYTES_MIN: usize = 128;

/// Several traces, each whole, one after the other in one batch.
pub(crate) struct Assembled {
    pub(crate) spans: SpanBatch,
    /// By trace id.
    pub(crate) trees: Vec<TraceTree>,
}

/// Where a trace stands in a batch, and how its spans hang together.
pub(crate) struct TraceTree {
    pub(crate) trace_id: TraceId,
    pub(crate) rows: Range<usize>,
    /// For each span its parent, counted from the first row of the trace.
    pub(crate) parent: Vec<ParentRow>,
    pub(crate) start_unix_nanos: i64,
    pub(crate) duration_nanos: i64,
    /// Counted from the first row of the trace.
    pub(crate) root: Option<u32>,
    pub(crate) error_count: u64,
    pub(crate) duplicates: u64,
    /// Spans that were not read: the trace is too large.
    pub(crate) omitted: u64,
    /// Whether some of the copies only look like ones in the columns that were read.
    pub(crate) unsure: bool,
}

impl TraceTree {
    pub(crate) fn omitted(&self) -> Omitted {
        let all = if self.omitted > 0 { self.rows.len() as u64 + self.omitted } else { 0 };
        Omitted { spans: self.omitted, of: all }
    }
}

/// Spans that were not looked at as their traces are too large, among all spans of such traces.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Omitted {
    spans: u64,
    of: u64,
}

impl Omitted {
    pub(crate) fn add(&mut self, other: Self) {
        self.spans += other.spans;
        self.of += other.of;
    }

    /// `None` if all were looked at.
    pub(crate) fn in_words(self) -> Option<String> {
        let Self { spans, of } = self;
        (spans > 0).then(|| format!("{spans} of {of} spans of very large traces were not looked at"))
    }
}

/// Reads traces, which are given sorted, and gives them to `take`: all at once, or in portions if they take more memory than
/// may be used at once. `columns` names the columns to read of a file, `None` for all. Of a trace that is larger
/// than all memory for it, a part is read.
pub(crate) fn assemble_many(
    question: Question<'_>,
    whereabouts: &Whereabouts<'_>,
    traces: &[TraceId],
    columns: impl Fn(&Arc<SpanFile>, &Arc<OpenFile>) -> Option<Vec<String>>,
    mut take: impl FnMut(&Assembled),
) {
    let bounds = question.bounds;
    let bytes_max = assembled_bytes_max(bounds);
    let mut portions =
        vec![Portion { traces: traces.to_vec(), bytes: ASSEMBLED_BYTES.min(bytes_max), ..Portion::default() }];
    while let Some(portion) = portions.pop() {
        if bounds.exceeded() {
            break;
        }
        let Some(held) = hold_as_much_as_there_is(bounds, portion.bytes) else { break };
        let bytes = held.used();
        let columns = |file: &Arc<SpanFile>, open: &Arc<OpenFile>| {
            if portion.read == Read::Whole { None } else { columns(file, open) }
        };
        let (mut found, fits) = assemble_portion(question, whereabouts, &portion, bytes, columns);
        let is_one = portion.traces.len() == 1;
        let is_last_try = is_one && (bytes >= bytes_max || bytes <= portion.tried);
        if !fits && is_last_try && portion.read == Read::Whole {
            portions.push(Portion { tried: 0, read: Read::Assuming, ..portion });
        } else if fits || is_last_try {
            let unsure = |tree: &TraceTree| tree.unsure && portion.read == Read::Wanted;
            let again: Vec<TraceId> =
                found.trees.iter().filter(|tree| unsure(tree)).map(|tree| tree.trace_id).collect();
            found.trees.retain(|tree| !unsure(tree));
            take(&found);
            if !again.is_empty() {
                portions.push(Portion { traces: again, read: Read::Whole, bytes, tried: 0 });
            }
        } else if is_one {
            portions.push(Portion { bytes: bytes.saturating_mul(4).min(bytes_max), tried: bytes, ..portion });
        } else {
            let mut first = portion.traces;
            let second = first.split_off(first.len() / 2);
            let read = portion.read;
            portions.extend([second, first].map(|traces| Portion { traces, bytes, tried: 0, read }));
        }
    }
}

/// The same on all threads, each with its share of the traces.
pub(crate) fn assemble_side_by_side(
    question: Question<'_>,
    whereabouts: &Whereabouts<'_>,
    traces: &[TraceId],
    columns: impl Fn(&Arc<SpanFile>, &Arc<OpenFile>) -> Option<Vec<String>> + Sync,
    take: impl Fn(&Assembled) + Sync,
) {
    let bounds = question.bounds;
    let share = traces.len().div_ceil(bounds.threads()).clamp(1, TRACES_AT_ONCE);
    let shares: Vec<&[TraceId]> = traces.chunks(share).collect();
    bounds.gather(
        shares.len(),
        || (),
        |number, ()| assemble_many(question, whereabouts, shares[number], &columns, &take),
    );
}

/// Traces that are put together at once.
#[derive(Default)]
struct Portion {
    /// By id.
    traces: Vec<TraceId>,
    bytes: usize,
    /// With what they were tried before, if they are one trace.
    tried: usize,
    read: Read,
}

/// What is read of spans.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Read {
    /// The columns that were asked for.
    #[default]
    Wanted,
    /// All, to tell copies from other spans that look like them.
    Whole,
    /// The columns that were asked for; what looks like a copy is one, as there is no room to read all of them.
    Assuming,
}

/// Memory of so many bytes, or of fewer if others hold too much; ends the query if there is next to none.
fn hold_as_much_as_there_is(bounds: &Bounds, bytes: usize) -> Option<Held> {
    let mut held = bounds.hold();
    let mut wanted = bytes;
    while wanted > ASSEMBLED_BYTES_MIN {
        if held.take(wanted).is_ok() {
            return Some(held);
        }
        wanted /= 2;
    }
    bounds.take(&mut held, bytes.min(ASSEMBLED_BYTES_MIN)).is_ok().then_some(held)
}

/// The spans of some traces, as many as fit into some memory, and whether these are all.
fn assemble_portion(
    question: Question<'_>,
    whereabouts: &Whereabouts<'_>,
    portion: &Portion,
    bytes: usize,
    columns: impl Fn(&Arc<SpanFile>, &Arc<OpenFile>) -> Option<Vec<String>>,
) -> (Assembled, bool) {
    let Question { snapshot, bounds, reach } = question;
    let traces = &*portion.traces;
    let mut sources = Sources::new(portion.read == Read::Whole);
    let bytes_max = bytes / GATHERED_SHARE;
    let mut gathered = SpanBatch::new();
    let mut omitted = 0;
    for (number, file) in snapshot.files.iter().enumerate() {
        let inside: Vec<TraceId> = traces.iter().copied().filter(|&trace| may_contain(file, trace)).collect();
        if inside.is_empty() {
            continue;
        }
        let read = reach.attempt(file, Part::Whole, file.record.spans, |open| {
            let names = columns(file, open);
            let projection = names.as_deref().map_or(Projection::All, Projection::Only);
            let left = spans_left(&gathered, bytes_max, bytes_of_span(open, names.as_deref()));
            let known = whereabouts.of_file(number, traces.len() >= MANY_TRACES);
            let (part, left_out) = open.read_traces(&inside, known, projection, left)?;
            count_scanned(bounds, open, names.as_deref(), part.len());
            Ok((part, left_out))
        });
        let Some((part, left_out)) = read else { continue };
        omitted += left_out;
        if gathered.is_empty() {
            gathered = part
        } else {
            gathered.append(&part)
        }
        sources.end_file(gathered.len());
    }
    for HotRows { batch, rows } in snapshot.hot_rows(traces) {
        let left = spans_left(&gathered, bytes_max, bytes_of_hot_span(&batch));
        omitted += rows.len().saturating_sub(left) as u64;
        gathered.append_rows(&batch.spans, rows.into_iter().take(left));
    }
    let mut assembled = arrange(&gathered, &sources);
    if let [only] = assembled.trees.as_mut_slice() {
        only.omitted = omitted;
    }
    (assembled, omitted == 0)
}

/// How many further spans have room beside those that were gathered; one in any case, or nothing would ever be read.
fn spans_left(gathered: &SpanBatch, bytes_max: usize, bytes_of_span: usize) -> usize {
    let left = bytes_max.saturating_sub(if gathered.is_empty() { 0 } else { gathered.memory_bytes() });
    (left / bytes_of_span).max(usize::from(gathered.is_empty()))
}

/// About what a span of a file takes with some columns.
fn bytes_of_span(open: &OpenFile, columns: Option<&[String]>) -> usize {
    let names: Option<Vec<&str>> = columns.map(|names| names.iter().map(String::as_str).collect());
    let of_row_groups = (0..open.row_groups()).map(|row_group| row_bytes(open, row_group, names.as_deref()));
    SPAN_BYTES_MIN + of_row_groups.max().unwrap_or(0)
}

/// About what a span in memory takes.
pub(crate) fn bytes_of_hot_span(hot: &HotBatch) -> usize {
    (hot.spans.memory_bytes() / hot.spans.len().max(1)).max(SPAN_BYTES_MIN)
}

pub(crate) fn count_scanned(bounds: &Bounds, open: &OpenFile, columns: Option<&[String]>, spans: usize) {
    let names: Option<Vec<&str>> = columns.map(|names| names.iter().map(String::as_str).collect());
    let (mut bytes, mut rows) = (0, 0);
    for row_group in 0..open.row_groups() {
        bytes += open.bytes_of(row_group, names.as_deref());
        rows += open.rows_of(row_group);
    }
    bounds.count_scanned(bytes, spans, rows);
}

/// Sorts spans into traces and those into trees.
fn arrange(gathered: &SpanBatch, sources: &Sources) -> Assembled {
    let (order, trees) = order(gathered, sources);
    let mut spans = SpanBatch::new();
    spans.append_rows(gathered, order.into_iter().map(|row| row as usize));
    Assembled { spans, trees }
}

/// The rows of spans, without copies, in the order of traces and of their trees.
pub(crate) fn order(gathered: &SpanBatch, sources: &Sources) -> (Vec<u32>, Vec<TraceTree>) {
    let mut rows: Vec<u32> = (0..gathered.len() as u32).collect();
    let trace_of = |row: &u32| gathered.trace_id[*row as usize];
    rows.sort_by_key(trace_of);
    let mut order: Vec<u32> = Vec::with_capacity(rows.len());
    let (mut trees, mut placer) = (Vec::new(), Placer::default());
    for of_trace in rows.chunk_by(|one, other| trace_of(one) == trace_of(other)) {
        let WithoutCopies { kept, unsure } = WithoutCopies::of(gathered, of_trace, sources);
        let tree = Tree::of(gathered, &kept, &mut placer);
        let begin = order.len();
        order.extend(&tree.order);
        let of_row = |row: &u32| {
            let start = gathered.start_unix_nanos[*row as usize];
            (start, start.saturating_add(gathered.duration_nanos[*row as usize]))
        };
        let start = kept.iter().map(|row| of_row(row).0).min().unwrap_or_default();
        let end = kept.iter().map(|row| of_row(row).1).max().unwrap_or(start);
        let is_error = |row: &&u32| gathered.status_code[**row as usize] == status::ERROR;
        trees.push(TraceTree {
            trace_id: trace_of(&of_trace[0]),
            rows: begin..order.len(),
            start_unix_nanos: start,
            duration_nanos: end.saturating_sub(start),
            root: tree.parent.iter().position(|parent| *parent == ParentRow::Root).map(|row| row as u32),
            error_count: kept.iter().filter(is_error).count() as u64,
            duplicates: (of_trace.len() - kept.len()) as u64,
            omitted: 0,
            unsure,
            parent: tree.parent,
        });
    }
    (order, trees)
}

/// Spans in pre-order, and the place in that order of each one's parent.
struct Tree {
    order: Vec<u32>,
    parent: Vec<ParentRow>,
}

impl Tree {
    /// Of some rows.
    fn of(spans: &SpanBatch, kept: &[u32], placer: &mut Placer) -> Self {
        let mut placed: Vec<ParentRow> = Vec::with_capacity(kept.len());
        let of_kept = |ids: &[SpanId]| -> Vec<SpanId> { kept.iter().map(|&row| ids[row as usize]).collect() };
        let (ids, parents) = (of_kept(&spans.span_id), of_kept(&spans.parent_span_id));
        placer.place(&ids, &parents, |at| spans.placing(kept[at] as usize), |parent| placed.push(parent));
        let mut sorted: Vec<u32> = (0..kept.len() as u32).collect();
        sorted.sort_by_key(|&at| {
            let row = kept[at as usize] as usize;
            let times = (spans.start_unix_nanos[row], std::cmp::Reverse(spans.duration_nanos[row]));
            (times, spans.span_id[row], spans.kind[row])
        });
        let mut walk = Walk::new(kept);
        let mut tops: Vec<u32> = Vec::new();
        for &at in &sorted {
            match placed[at as usize] {
                ParentRow::Row(parent) => walk.add_child(parent, at),
                ParentRow::Root | ParentRow::Missing => tops.push(at),
            }
        }
        // Roots before fragments whose parents are missing.
        tops.sort_by_key(|&at| placed[at as usize] == ParentRow::Missing);
        for top in tops {
            walk.descend(top, placed[top as usize]);
        }
        // What is left are circles of parents, and what stands beneath them: each circle is opened at its earliest span.
        let mut rank: Vec<usize> = Vec::new();
        for &at in &sorted {
            if !walk.done[at as usize] {
                if rank.is_empty() {
                    rank = ranks(&sorted);
                }
                walk.descend(earliest_of_circle(at, &placed, &rank), ParentRow::Missing);
            }
        }
        Self { order: walk.order, parent: walk.parent }
    }
}

/// Where each stands in an order.
fn ranks(sorted: &[u32]) -> Vec<usize> {
    let mut rank = vec![0; sorted.len()];
    sorted.iter().enumerate().for_each(|(place, &at)| rank[at as usize] = place);
    rank
}

/// The first in an order of the spans on the circle that the parents of a span lead to.
fn earliest_of_circle(from: u32, placed: &[ParentRow], rank: &[usize]) -> u32 {
    let above = |at: u32| match placed[at as usize] {
        ParentRow::Row(parent) => parent,
        ParentRow::Root | ParentRow::Missing => at,
    };
    // Who goes up twice as fast meets the other on the circle, before that has gone around it (Floyd).
    let (mut on_circle, mut fast) = (above(from), above(above(from)));
    while on_circle != fast {
        (on_circle, fast) = (above(on_circle), above(above(fast)));
    }
    let (mut earliest, mut at) = (on_circle, above(on_circle));
    while at != on_circle {
        if rank[at as usize] < rank[earliest as usize] {
            earliest = at;
        }
        at = above(at);
    }
    earliest
}

/// Goes through spans, which are numbered, from parents to children.
struct Walk<'a> {
    /// The row of each.
    rows: &'a [u32],
    /// Of each the child that was added last, and of each child the one before it.
    last_child: Vec<u32>,
    sibling_before: Vec<u32>,
    /// Which have their place.
    done: Vec<bool>,
    order: Vec<u32>,
    parent: Vec<ParentRow>,
}

impl<'a> Walk<'a> {
    const NONE: u32 = u32::MAX;

    fn new(rows: &'a [u32]) -> Self {
        let spans = rows.len();
        Self {
            rows,
            last_child: vec![Self::NONE; spans],
            sibling_before: vec![Self::NONE; spans],
            done: vec![false; spans],
            order: Vec::with_capacity(spans),
            parent: Vec::with_capacity(spans),
        }
    }

    /// Children come in their order.
    fn add_child(&mut self, parent: u32, child: u32) {
        self.sibling_before[child as usize] = self.last_child[parent as usize];
        self.last_child[parent as usize] = child;
    }

    /// Without recursion: traces may be as deep as they are long.
    fn descend(&mut self, top: u32, parent: ParentRow) {
        let mut open = vec![(top, parent)];
        while let Some((at, parent)) = open.pop() {
            if std::mem::replace(&mut self.done[at as usize], true) {
                continue;
            }
            let place = self.order.len() as u32;
            self.order.push(self.rows[at as usize]);
            self.parent.push(parent);
            let mut child = self.last_child[at as usize];
            while child != Self::NONE {
                open.push((child, ParentRow::Row(place)));
                child = self.sibling_before[child as usize];
            }
        }
    }
}
