//! Takes copies out of the spans in memory before a query sees them.
//!
//! Whoever counts spans has each batch looked at once, when it is first asked for: the keys of its spans are looked up among
//! those of all batches before it, and its traces among those of the files ([`crate::copies`]). A tenant that nobody asks
//! about costs nothing; what is flushed is looked at by the flush. Whoever reads whole traces has only their spans looked
//! at ([`Snapshot::hot_rows`]): a trace that has just come in is found without a look at all that came with it.

use std::hash::BuildHasher;
use std::sync::Arc;

use tracehouse_model::{ContentHasher, CopyKey, SeededMap, SeededSet, SeededState, SpanBatch, TraceId};
use tracehouse_spanfile::RowRef;

use crate::copies::{Found, StoredCopies, TraceGroup};
use crate::hot_batch::HotBatch;
use crate::hot_batches::HotBatches;
use crate::snapshot::Snapshot;
use crate::span_file::SpanFile;

/// Which spans of a tenant are in memory.
#[derive(Default)]
pub(crate) struct HotCopies {
    /// Hashes of trace and key of every span that was looked at. A hash that is here already is a suspicion, no proof.
    keys: SeededSet<u64>,
    hasher: SeededState,
    /// The log's number of the oldest batch in memory when the keys were last gathered: spans leave memory by flushes.
    oldest_sequence: u64,
}

/// What [`HotCopies::take_out`] did.
#[derive(Default)]
pub(crate) struct TakenOut {
    /// The batches that changed, old and new.
    pub(crate) replaced: Vec<(Arc<HotBatch>, Arc<HotBatch>)>,
    /// Files that the machine could not read, so that they may hold twins.
    pub(crate) unread: Vec<Arc<SpanFile>>,
}

impl HotCopies {
    /// Takes copies out of the batches of a snapshot that were not looked at yet.
    pub(crate) fn take_out(&mut self, snapshot: &mut Snapshot, now_unix_nanos: i64) -> TakenOut {
        self.forget_flushed(snapshot);
        let mut taken_out = TakenOut::default();
        let batches: Vec<Arc<HotBatch>> = snapshot.hot.iter().cloned().collect();
        for (number, batch) in batches.into_iter().enumerate() {
            if batch.is_without_copies() {
                continue;
            }
            let mut is_copy = vec![false; batch.spans.len()];
            self.mark_in_memory(&snapshot.hot, number, &batch.spans, &mut is_copy);
            let unread = mark_stored(snapshot, &batch.spans, now_unix_nanos, &mut is_copy);
            // What could not be compared with all files is looked at again.
            let is_known = unread.is_empty();
            taken_out.unread.extend(unread);
            let copies = is_copy.iter().filter(|copy| **copy).count();
            let kept = match copies {
                0 => batch.clone(),
                _ => Arc::new(batch.only((0..is_copy.len()).filter(|&row| !is_copy[row]))),
            };
            if is_known {
                kept.set_without_copies();
            }
            if copies > 0 {
                snapshot.hot.replace(&batch, &kept);
                taken_out.replaced.push((batch, kept));
            }
        }
        snapshot.hot.retain(|batch| !batch.spans.is_empty());
        taken_out
    }

    /// Nothing is known of batches in memory any more.
    pub(crate) fn forget(&mut self) {
        self.keys.clear();
    }

    fn forget_flushed(&mut self, snapshot: &Snapshot) {
        let oldest = snapshot.hot.iter().next().map_or(0, |batch| batch.first_sequence());
        if oldest == self.oldest_sequence {
            return;
        }
        self.oldest_sequence = oldest;
        self.keys.clear();
        for batch in snapshot.hot.iter().filter(|batch| batch.is_without_copies()) {
            for row in 0..batch.spans.len() {
                let key = self.hash(&batch.spans, row);
                self.keys.insert(key);
            }
        }
    }

    fn hash(&self, spans: &SpanBatch, row: usize) -> u64 {
        self.hasher.hash_one((spans.trace_id[row], spans.copy_key(row)))
    }

    /// Marks spans of a batch, which has a number, with a twin in earlier batches, or before them in their own.
    fn mark_in_memory(&mut self, hot: &HotBatches, number: usize, spans: &SpanBatch, is_copy: &mut [bool]) {
        let mut suspected = SuspectedSpans::default();
        for row in 0..spans.len() {
            let key = self.hash(spans, row);
            if !self.keys.insert(key) {
                suspected.add(spans, row);
            }
        }
        if suspected.keys.is_empty() {
            return;
        }
        let traces: SeededSet<TraceId> = suspected.keys.iter().map(|(trace, _)| *trace).collect();
        let holding = hot.holding(&Vec::from_iter(traces.iter().copied()));
        for (_, batch) in holding.into_iter().take_while(|(other, _)| *other < number) {
            let rows = (0..batch.spans.len()).filter(|&row| traces.contains(&batch.spans.trace_id[row]));
            rows.for_each(|row| suspected.meet(spans, &batch.spans, row, 0, is_copy));
        }
        let rows = (0..spans.len()).filter(|&row| traces.contains(&spans.trace_id[row]));
        rows.for_each(|row| suspected.meet(spans, spans, row, row + 1, is_copy));
    }
}

/// Spans of a batch that may have a twin.
#[derive(Default)]
struct SuspectedSpans {
    keys: SeededSet<(TraceId, CopyKey)>,
    /// Rows that no twin was found of yet, ascending, by a hash of their content.
    by_content: SeededMap<u64, Vec<usize>>,
    hasher: ContentHasher,
}

impl SuspectedSpans {
    fn add(&mut self, spans: &SpanBatch, row: usize) {
        self.keys.insert((spans.trace_id[row], spans.copy_key(row)));
        self.by_content.entry(self.hasher.hash(spans, row)).or_default().push(row);
    }

    /// Marks the copies of a span among the rows from `begin` on.
    fn meet(&mut self, spans: &SpanBatch, other: &SpanBatch, other_row: usize, begin: usize, is_copy: &mut [bool]) {
        if !self.keys.contains(&(other.trace_id[other_row], other.copy_key(other_row))) {
            return;
        }
        let Some(rows) = self.by_content.get_mut(&self.hasher.hash(other, other_row)) else { return };
        let behind = rows.partition_point(|row| *row < begin);
        for row in rows.split_off(behind) {
            match spans.is_copy(row, other, other_row) {
                true => is_copy[row] = true,
                false => rows.push(row),
            }
        }
    }
}

/// Some rows of a batch in memory.
pub struct HotRows {
    pub batch: Arc<HotBatch>,
    /// Ascending.
    pub rows: Vec<usize>,
}

impl Snapshot {
    /// The rows of the spans in memory that belong to some traces, which are given sorted, without those that have a twin in a
    /// file. Twins in memory are left, for whoever puts traces together finds them. May read files.
    pub fn hot_rows(&self, traces: &[TraceId]) -> Vec<HotRows> {
        let rows_of = |batch: &Arc<HotBatch>| {
            let is_wanted = |row: &usize| traces.binary_search(&batch.spans.trace_id[*row]).is_ok();
            HotRows { batch: batch.clone(), rows: (0..batch.spans.len()).filter(is_wanted).collect() }
        };
        let mut found: Vec<HotRows> = self.hot.holding(traces).into_iter().map(|(_, batch)| rows_of(batch)).collect();
        // Together: a trace stands in many batches, and each file that may hold its twins is looked at once.
        let unknown: Vec<usize> = (0..found.len()).filter(|&at| !found[at].batch.is_without_copies()).collect();
        let batches: Vec<&SpanBatch> = unknown.iter().map(|&at| &found[at].batch.spans).collect();
        let row_refs = (0..)
            .zip(&unknown)
            .flat_map(|(batch, &at)| found[at].rows.iter().map(move |&row| RowRef { batch, row: row as u32 }));
        // Answers say of what can't be read, or doesn't count, that it is missing.
        let copies = stored_twins(self, &batches, &Vec::from_iter(row_refs), self.taken_unix_nanos).copies;
        let copies: SeededSet<RowRef> = copies.into_iter().collect();
        for (batch, at) in (0..).zip(unknown).filter(|_| !copies.is_empty()) {
            found[at].rows.retain(|&row| !copies.contains(&RowRef { batch, row: row as u32 }));
        }
        found.retain(|found| !found.rows.is_empty());
        found
    }
}

/// Marks spans with a twin in a file. Returns files that could not be looked into.
fn mark_stored(
    snapshot: &Snapshot,
    spans: &SpanBatch,
    now_unix_nanos: i64,
    is_copy: &mut [bool],
) -> Vec<Arc<SpanFile>> {
    let rows: Vec<RowRef> = (0..spans.len() as u32).map(|row| RowRef { batch: 0, row }).collect();
    let found = stored_twins(snapshot, &[spans], &rows, now_unix_nanos);
    for copy in found.copies {
        is_copy[copy.row as usize] = true;
    }
    found.unread
}

/// Looks for those of some rows that have a twin in a file.
fn stored_twins(snapshot: &Snapshot, batches: &[&SpanBatch], rows: &[RowRef], now_unix_nanos: i64) -> Found {
    let start_of = |at: &RowRef| batches[at.batch as usize].start_unix_nanos[at.row as usize];
    let starts = rows.iter().map(start_of);
    let stored = StoredCopies::new(&snapshot.files, batches, starts, now_unix_nanos);
    let mut rows_of: SeededMap<TraceId, Option<Vec<RowRef>>> = SeededMap::default();
    let looked_for = if stored.is_needless() { &[][..] } else { rows };
    for &at in looked_for {
        let trace = batches[at.batch as usize].trace_id[at.row as usize];
        let of_trace = rows_of.entry(trace).or_insert_with(|| stored.may_hold(trace).then(Vec::new));
        if let Some(of_trace) = of_trace {
            of_trace.push(at);
        }
    }
    let met = rows_of.iter().filter_map(|(&trace, rows)| Some((trace, rows.as_deref()?)));
    let groups: Vec<TraceGroup<'_>> =
        met.map(|(trace, rows)| TraceGroup::new(trace, rows, rows.iter().map(start_of))).collect();
    stored.find(&groups)
}
