//! Puts a trace together: from memory and files, without copies, as a tree in pre-order.

use rustc_hash::FxHashMap;
use tracehouse_model::{SpanBatch, TraceId, kind};
use tracehouse_store::{OpenFile, Projection, ReadError, Snapshot};

use crate::request::{ParentRow, Trace};

/// Reads a trace; `None` if there is no span of it. At most `spans_max` spans are returned, the true number is told.
pub(crate) fn assemble(snapshot: &Snapshot, trace_id: TraceId, spans_max: usize) -> Result<Option<Trace>, ReadError> {
    assemble_columns(snapshot, trace_id, spans_max, |_| None)
}

/// The same with only some columns of stored spans: `columns` names those of a file, `None` means all.
pub(crate) fn assemble_columns(
    snapshot: &Snapshot,
    trace_id: TraceId,
    spans_max: usize,
    columns: impl Fn(&OpenFile) -> Option<Vec<String>>,
) -> Result<Option<Trace>, ReadError> {
    let mut gathered = SpanBatch::new();
    let mut found = 0u64;
    // Files first: of two copies the stored one stays, so that the answer does not depend on what is in memory.
    for file in snapshot.files.iter().filter(|file| file.may_contain(trace_id)) {
        let open = file.open()?;
        let names = columns(&open);
        let projection = names.as_deref().map_or(Projection::All, Projection::Only);
        let parts = open.find_trace(trace_id).map_err(|source| file.read_error(source))?;
        for (row_group, rows) in parts {
            found += rows.len() as u64;
            let left = spans_max.saturating_sub(gathered.len());
            let rows = rows.start..rows.end.min(rows.start.saturating_add(left));
            if !rows.is_empty() {
                let part = open.read_rows(row_group, rows, projection).map_err(|source| file.read_error(source))?;
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
    Ok(Some(arrange(&gathered, trace_id, found)))
}

fn arrange(gathered: &SpanBatch, trace_id: TraceId, found: u64) -> Trace {
    let kept = without_copies(gathered);
    let duplicates = (gathered.len() - kept.len()) as u64;
    let cut = found > gathered.len() as u64;
    let span_count = found - duplicates;
    let tree = Tree::of(gathered, &kept);
    let mut spans = SpanBatch::new();
    spans.append_rows(gathered, tree.order.iter().map(|&row| row as usize));
    let start = spans.start_unix_nanos.iter().copied().min().unwrap_or_default();
    let ends =
        spans.start_unix_nanos.iter().zip(&spans.duration_nanos).map(|(start, took)| start.saturating_add(*took));
    let end = ends.max().unwrap_or(start);
    let root = tree.parent.iter().position(|parent| *parent == ParentRow::Root).map(|row| row as u32);
    Trace {
        trace_id,
        parent: tree.parent,
        start_unix_nanos: start,
        duration_nanos: end.saturating_sub(start),
        root,
        error_count: spans.status_code.iter().filter(|&&code| code == tracehouse_model::status::ERROR).count() as u64,
        duplicates,
        span_count,
        partial_reason: cut.then(|| format!("{} of {span_count} spans: the limit of this request", spans.len())),
        spans,
    }
}

/// Rows of the first copy of each span.
fn without_copies(spans: &SpanBatch) -> Vec<u32> {
    let mut seen: FxHashMap<(u64, u8), ()> = FxHashMap::default();
    seen.reserve(spans.len());
    (0..spans.len() as u32)
        .filter(|&row| {
            let key = (spans.span_id[row as usize].as_u64(), spans.kind[row as usize]);
            seen.insert(key, ()).is_none()
        })
        .collect()
}

/// Spans in pre-order, and the place in that order of each one's parent.
struct Tree {
    order: Vec<u32>,
    parent: Vec<ParentRow>,
}

impl Tree {
    fn of(spans: &SpanBatch, kept: &[u32]) -> Self {
        let mut by_id: FxHashMap<u64, u32> = FxHashMap::default();
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
        let mut children: FxHashMap<u32, Vec<u32>> = FxHashMap::default();
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
            place: vec![u32::MAX; spans.len()],
            order: Vec::with_capacity(kept.len()),
            parent: Vec::with_capacity(kept.len()),
        };
        for top in tops {
            walk.descend(top, parent_of(top));
        }
        // What is left are circles of parents: each is opened at its earliest span.
        for row in sorted {
            if walk.place[row as usize] == u32::MAX {
                walk.descend(row, ParentRow::Missing);
            }
        }
        Self { order: walk.order, parent: walk.parent }
    }
}

struct Walk {
    children: FxHashMap<u32, Vec<u32>>,
    /// For each row its place in the order, or `u32::MAX`.
    place: Vec<u32>,
    order: Vec<u32>,
    parent: Vec<ParentRow>,
}

impl Walk {
    /// Without recursion: traces may be as deep as they are long.
    fn descend(&mut self, top: u32, parent: ParentRow) {
        let mut open = vec![(top, parent)];
        while let Some((row, parent)) = open.pop() {
            if self.place[row as usize] != u32::MAX {
                continue;
            }
            let place = self.order.len() as u32;
            self.place[row as usize] = place;
            self.order.push(row);
            self.parent.push(parent);
            if let Some(children) = self.children.get(&row) {
                open.extend(children.iter().rev().map(|&child| (child, ParentRow::Row(place))));
            }
        }
    }
}
