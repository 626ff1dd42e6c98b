//! Puts traces together: from memory and files, without copies, as trees in pre-order.

use std::ops::Range;

use tracehouse_model::{CopyKey, SeededMap, SeededSet, SpanBatch, TraceId, kind, status};
use tracehouse_store::{OpenFile, Projection, ReadError, Snapshot};

use crate::bounds::Bounds;
use crate::request::{ParentRow, Trace};
use crate::whereabouts::Whereabouts;

/// From so many traces at once on it pays to know where the traces of a file stand.
const MANY_TRACES: usize = 512;

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
}

/// Reads a trace; `None` if there is no span of it. At most `spans_max` spans are returned, the true number is told.
pub(crate) fn assemble(snapshot: &Snapshot, trace_id: TraceId, spans_max: usize) -> Result<Option<Trace>, ReadError> {
    let mut gathered = SpanBatch::new();
    let mut found = 0u64;
    // Files first: of two copies the stored one stays, so that the answer does not depend on what is in memory.
    for file in snapshot.files.iter().filter(|file| file.may_contain(trace_id)) {
        let open = file.open()?;
        let parts = open.find_trace(trace_id).map_err(|source| file.read_error(source))?;
        for (row_group, rows) in parts {
            found += rows.len() as u64;
            let left = spans_max.saturating_sub(gathered.len());
            let rows = rows.start..rows.end.min(rows.start.saturating_add(left));
            if !rows.is_empty() {
                let part =
                    open.read_rows(row_group, rows, Projection::All).map_err(|source| file.read_error(source))?;
                if gathered.is_empty() { gathered = part } else { gathered.append(&part) }
            }
        }
    }
    for hot in snapshot.hot.iter().filter(|hot| hot.may_contain(trace_id)) {
        let rows: Vec<usize> = (0..hot.spans.len()).filter(|&row| hot.spans.trace_id[row] == trace_id).collect();
        found += rows.len() as u64;
        let left = spans_max.saturating_sub(gathered.len());
        gathered.append_rows(&hot.spans, rows.into_iter().take(left));
    }
    if gathered.is_empty() {
        return Ok(None);
    }
    let cut = found > gathered.len() as u64;
    let mut assembled = arrange(&gathered);
    let tree = assembled.trees.pop().expect("there are spans of one trace");
    let (spans, span_count) = (assembled.spans, found - tree.duplicates);
    Ok(Some(Trace {
        trace_id,
        parent: tree.parent,
        start_unix_nanos: tree.start_unix_nanos,
        duration_nanos: tree.duration_nanos,
        root: tree.root,
        error_count: tree.error_count,
        duplicates: tree.duplicates,
        span_count,
        partial_reason: cut.then(|| format!("{} of {span_count} spans: the limit of this request", spans.len())),
        spans,
    }))
}

/// Reads traces, which are given sorted, and gives them to `take`: all at once, or in portions if they have more spans than
/// may be in memory at once. `columns` names the columns to read of a file, `None` for all. Of a trace that is larger
/// than all memory for it, a part is read.
pub(crate) fn assemble_many(
    snapshot: &Snapshot,
    whereabouts: &Whereabouts<'_>,
    traces: &[TraceId],
    bounds: &Bounds<'_>,
    columns: impl Fn(&OpenFile) -> Option<Vec<String>>,
    mut take: impl FnMut(&Assembled),
) -> Result<(), ReadError> {
    let mut portions = vec![traces];
    while let Some(portion) = portions.pop() {
        if bounds.exceeded() {
            break;
        }
        let (found, fits) = assemble_portion(snapshot, whereabouts, portion, bounds, &columns)?;
        if fits || portion.len() == 1 {
            take(&found);
        } else {
            let (first, second) = portion.split_at(portion.len() / 2);
            portions.extend([second, first]);
        }
    }
    Ok(())
}

/// The spans of some traces, as many as may be at once, and whether these are all.
fn assemble_portion(
    snapshot: &Snapshot,
    whereabouts: &Whereabouts<'_>,
    traces: &[TraceId],
    bounds: &Bounds<'_>,
    columns: impl Fn(&OpenFile) -> Option<Vec<String>>,
) -> Result<(Assembled, bool), ReadError> {
    let spans_max = bounds.spans_at_once_max();
    let mut gathered = SpanBatch::new();
    let mut omitted = 0;
    for (number, file) in snapshot.files.iter().enumerate() {
        let inside: Vec<TraceId> = traces.iter().copied().filter(|&trace| file.may_contain(trace)).collect();
        if inside.is_empty() {
            continue;
        }
        let open = file.open()?;
        let names = columns(&open);
        let projection = names.as_deref().map_or(Projection::All, Projection::Only);
        let left = spans_max - gathered.len();
        let known = whereabouts.of_file(number, traces.len() >= MANY_TRACES);
        let (part, left_out) =
            open.read_traces(&inside, known, projection, left).map_err(|source| file.read_error(source))?;
        omitted += left_out;
        count_scanned(bounds, &open, names.as_deref(), part.len());
        if gathered.is_empty() { gathered = part } else { gathered.append(&part) }
    }
    for hot in &snapshot.hot {
        if traces.iter().any(|&trace| hot.may_contain(trace)) {
            let wanted = |row: &usize| traces.binary_search(&hot.spans.trace_id[*row]).is_ok();
            let rows: Vec<usize> = (0..hot.spans.len()).filter(wanted).collect();
            let left = spans_max - gathered.len();
            omitted += rows.len().saturating_sub(left) as u64;
            gathered.append_rows(&hot.spans, rows.into_iter().take(left));
        }
    }
    let mut assembled = arrange(&gathered);
    if let [only] = assembled.trees.as_mut_slice() {
        only.omitted = omitted;
    }
    Ok((assembled, omitted == 0))
}

fn count_scanned(bounds: &Bounds<'_>, open: &OpenFile, columns: Option<&[String]>, spans: usize) {
    let names: Option<Vec<&str>> = columns.map(|names| names.iter().map(String::as_str).collect());
    let (mut bytes, mut rows) = (0, 0);
    for row_group in 0..open.row_groups() {
        bytes += open.bytes_of(row_group, names.as_deref());
        rows += open.rows_of(row_group);
    }
    bounds.count_scanned(bytes, spans, rows);
}

/// Sorts spans into traces and those into trees.
fn arrange(gathered: &SpanBatch) -> Assembled {
    let mut rows: Vec<u32> = (0..gathered.len() as u32).collect();
    let trace_of = |row: &u32| gathered.trace_id[*row as usize];
    rows.sort_by_key(trace_of);
    let mut order: Vec<u32> = Vec::with_capacity(rows.len());
    let mut trees = Vec::new();
    for of_trace in rows.chunk_by(|one, other| trace_of(one) == trace_of(other)) {
        let kept = without_copies(gathered, of_trace);
        let tree = Tree::of(gathered, &kept);
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
            parent: tree.parent,
        });
    }
    let mut spans = SpanBatch::new();
    spans.append_rows(gathered, order.into_iter().map(|row| row as usize));
    Assembled { spans, trees }
}

/// Rows of the first copy of each span. Storage has left out the copies that it found; these are copies of long ago.
fn without_copies(spans: &SpanBatch, rows: &[u32]) -> Vec<u32> {
    /// Different spans under one key are compared each with each, so only so many are.
    const SPANS_OF_KEY_MAX: usize = 32;
    let mut seen: SeededMap<CopyKey, u32> = SeededMap::default();
    seen.reserve(rows.len());
    let mut others: SeededMap<CopyKey, Vec<u32>> = SeededMap::default();
    let first = |row: &u32| {
        let key = spans.copy_key(*row as usize);
        let is_copy = |other: &u32| spans.is_copy(*row as usize, spans, *other as usize);
        let known = *seen.entry(key).or_insert(*row);
        if known == *row {
            return true;
        }
        let others = others.entry(key).or_default();
        if is_copy(&known) || others.iter().any(is_copy) {
            return false;
        }
        if others.len() < SPANS_OF_KEY_MAX {
            others.push(*row);
        }
        true
    };
    rows.iter().copied().filter(first).collect()
}

/// Spans in pre-order, and the place in that order of each one's parent.
struct Tree {
    order: Vec<u32>,
    parent: Vec<ParentRow>,
}

impl Tree {
    fn of(spans: &SpanBatch, kept: &[u32]) -> Self {
        let mut by_id: SeededMap<u64, u32> = SeededMap::default();
        by_id.reserve(kept.len());
        for &row in kept {
            let entry = by_id.entry(spans.span_id[row as usize].as_u64()).or_insert(row);
            // A client and a server span that share an id (Zipkin): children belong to the server.
            if spans.kind[row as usize] == kind::SERVER {
                *entry = row;
            }
        }
        let parent_of = |row: u32| {
            let parent = spans.parent_span_id[row as usize];
            if parent.is_none() {
                return ParentRow::Root;
            }
            match by_id.get(&parent.as_u64()) {
                Some(&found) if found != row => ParentRow::Row(found),
                _ => ParentRow::Missing,
            }
        };
        let mut sorted: Vec<u32> = kept.to_vec();
        sorted.sort_by_key(|&row| {
            let row = row as usize;
            (spans.start_unix_nanos[row], std::cmp::Reverse(spans.duration_nanos[row]), spans.span_id[row])
        });
        let mut children: SeededMap<u32, Vec<u32>> = SeededMap::default();
        let mut tops: Vec<u32> = Vec::new();
        for &row in &sorted {
            match parent_of(row) {
                ParentRow::Row(parent) => children.entry(parent).or_default().push(row),
                ParentRow::Root | ParentRow::Missing => tops.push(row),
            }
        }
        // Roots before fragments whose parents are missing.
        tops.sort_by_key(|&row| parent_of(row) == ParentRow::Missing);
        let mut walk = Walk {
            children,
            placed: SeededSet::default(),
            order: Vec::with_capacity(kept.len()),
            parent: Vec::with_capacity(kept.len()),
        };
        for top in tops {
            walk.descend(top, parent_of(top));
        }
        // What is left are circles of parents: each is opened at its earliest span.
        for row in sorted {
            if !walk.placed.contains(&row) {
                walk.descend(row, ParentRow::Missing);
            }
        }
        Self { order: walk.order, parent: walk.parent }
    }
}

struct Walk {
    children: SeededMap<u32, Vec<u32>>,
    /// Rows that have their place.
    placed: SeededSet<u32>,
    order: Vec<u32>,
    parent: Vec<ParentRow>,
}

impl Walk {
    /// Without recursion: traces may be as deep as they are long.
    fn descend(&mut self, top: u32, parent: ParentRow) {
        let mut open = vec![(top, parent)];
        while let Some((row, parent)) = open.pop() {
            if !self.placed.insert(row) {
                continue;
            }
            let place = self.order.len() as u32;
            self.order.push(row);
            self.parent.push(parent);
            if let Some(children) = self.children.get(&row) {
                open.extend(children.iter().rev().map(|&child| (child, ParentRow::Row(place))));
            }
        }
    }
}
