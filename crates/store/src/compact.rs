//! Merges small files into larger ones, packed harder, with copies left out.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use parquet::errors::ParquetError;
use serde::Serialize;
use tracehouse_catalogue::{Commit, FileRecord, RetirementReason};
use tracehouse_model::{SpanBatch, TenantId, TraceId};

use crate::error::WriteError;
use crate::file::is_damage;
use crate::file::{
    AttributeCounts, MergedStrings, OpenFile, Packing, ROWS_PER_ROW_GROUP, RowRef, SeenSpans, SpanStream,
};
use crate::flush::FileOutput;
use crate::keeper::look_after_damage;
use crate::objects::hour_of;
use crate::span_file::SpanFile;
use crate::store::Shared;

/// What compaction did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CompactReport {
    pub merges: u64,
    pub files_before: u64,
    pub files_after: u64,
    pub spans: u64,
    pub bytes_before: u64,
    pub bytes_after: u64,
    pub duplicates: u64,
    /// Files that could not be read and were left as they are.
    pub damaged: u64,
}

/// Merged files hold about so many spans: large enough for dictionaries and footers to pay, small enough that a search
/// for the newest traces reads little.
const SPANS_PER_FILE: u64 = 512 * 1024;
/// Files of one size class are merged when there are so many of them.
const FILES_PER_MERGE_MIN: usize = 4;
const FILES_PER_MERGE_MAX: usize = 16;
/// Rows that are read of each input at a time …
const STREAM_ROWS: usize = 8192;
/// … unless those of all inputs would take more than so many bytes, as spans with long texts do.
const STREAM_BYTES: u64 = 32 * 1024 * 1024;
/// A trace that may be longer than this begins a new row group when there is no room for as much.
const ROOM_FOR_TRACE: usize = 64;
/// A row group with long texts has fewer rows than others: so many bytes of memory are gathered for it.
const ROW_GROUP_BYTES: usize = 48 * 1024 * 1024;

/// How much is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Where enough files of a size have gathered.
    Routine,
    /// Until nothing is left that merging would improve.
    Everything,
}

/// Merges until there is nothing left to merge.
pub(crate) fn compact(shared: &Shared, effort: Effort) -> Result<CompactReport, WriteError> {
    let _one_at_a_time = shared.compact_lock.lock();
    let mut report = CompactReport::default();
    while let Some(inputs) = choose(&shared.state.all_files(), effort) {
        if shared.stopping() {
            break;
        }
        match merge(shared, &inputs, &mut report) {
            // The next choice is made without it.
            Err(WriteError::Damaged { .. }) => report.damaged += 1,
            outcome => outcome?,
        }
    }
    Ok(report)
}

/// The next files to merge: of one tenant and hour, oldest first.
fn choose(files: &[Arc<SpanFile>], effort: Effort) -> Option<Vec<Arc<SpanFile>>> {
    let mut groups: BTreeMap<(TenantId, i64, u32), Vec<Arc<SpanFile>>> = BTreeMap::new();
    for file in files {
        let record = &file.record;
        let is_large = record.level > 0 && record.spans >= SPANS_PER_FILE / 2;
        if is_large || file.is_suspected() {
            continue;
        }
        // Files are merged with others of their size, so that a span is rewritten seldom.
        let size_class = match effort {
            Effort::Routine => (record.spans.max(1).ilog2() / 2).max(6),
            Effort::Everything => 0,
        };
        let key = (record.tenant.clone(), hour_of(record.start_min), size_class);
        groups.entry(key).or_default().push(file.clone());
    }
    groups.into_values().find_map(|mut group: Vec<Arc<SpanFile>>| {
        group.sort_by(|left, right| left.record.id.cmp(&right.record.id));
        let total: u64 = group.iter().map(|file| file.record.spans).sum();
        let worthwhile = match effort {
            Effort::Routine => group.len() >= FILES_PER_MERGE_MIN || total >= SPANS_PER_FILE,
            Effort::Everything => group.len() > 1 || group.iter().any(|file| file.record.level == 0),
        };
        if !worthwhile {
            return None;
        }
        // A file too large for its neighbours must not keep those behind it from being merged.
        (0..group.len()).find_map(|first| {
            let chosen = that_fit(&group[first..]);
            let improves = chosen.len() > 1 || chosen[0].record.level == 0;
            improves.then(|| chosen.to_vec())
        })
    })
}

/// As many files from the first on as make one of the intended size.
fn that_fit(files: &[Arc<SpanFile>]) -> &[Arc<SpanFile>] {
    let mut spans = 0;
    let fits = |file: &&Arc<SpanFile>| {
        spans += file.record.spans;
        spans == file.record.spans || spans <= SPANS_PER_FILE * 5 / 4
    };
    let count = files.iter().take(FILES_PER_MERGE_MAX).take_while(fits).count();
    &files[..count]
}

fn merge(shared: &Shared, inputs: &[Arc<SpanFile>], report: &mut CompactReport) -> Result<(), WriteError> {
    let mut counts = AttributeCounts::default();
    let mut cursors = Vec::new();
    for (number, file) in inputs.iter().enumerate() {
        counts.add_file(&file.contents.span_keys, &file.contents.resource_keys, file.record.spans);
        let cursor = file
            .open()
            .map_err(|error| error.source)
            .and_then(|open| InputCursor::open(number, open.stream(stream_rows(&open, inputs.len()))))
            .map_err(|source| leave_out(shared, file, source))?;
        cursors.push(cursor);
    }
    let first = &inputs[0].record;
    let level = inputs.iter().map(|file| file.record.level).max().unwrap_or(0).saturating_add(1);
    let hour = hour_of(first.start_min);
    let merged_from = inputs.iter().map(|file| file.record.id.clone()).collect();
    let output = FileOutput::create(shared, &first.tenant, hour, &counts, Packing::COMPACTED, merged_from)?;
    let mut merge = Merge { output, inputs, shared, gathered: Gathered::default(), duplicates: 0 };
    merge.run(cursors)?;
    let (output, duplicates) = (merge.output, merge.duplicates);
    let record = output.finish(shared, &counts, level)?;
    report.merges += 1;
    report.files_before += inputs.len() as u64;
    report.files_after += 1;
    report.spans += record.spans;
    report.bytes_before += inputs.iter().map(|file| file.record.bytes).sum::<u64>();
    report.bytes_after += record.bytes;
    report.duplicates += duplicates;
    replace(shared, inputs, record)
}

/// How many rows of one of so many inputs are read at a time.
fn stream_rows(file: &OpenFile, inputs: usize) -> usize {
    const ROWS_MIN: u64 = 64;
    let bytes_per_row = file.uncompressed_bytes() / file.rows().max(1) + 1;
    let fitting = STREAM_BYTES / inputs as u64 / bytes_per_row;
    (fitting.max(ROWS_MIN) as usize).min(STREAM_ROWS)
}

fn replace(shared: &Shared, inputs: &[Arc<SpanFile>], record: FileRecord) -> Result<(), WriteError> {
    let ids: Vec<String> = inputs.iter().map(|file| file.record.id.clone()).collect();
    let commit = Commit {
        add: vec![record.clone()],
        retire: ids.iter().map(|id| (id.clone(), RetirementReason::Replaced)).collect(),
        retired_at: shared.clock.now_unix_nanos(),
        log_position: None,
    };
    shared.commit_new_files(commit)?;
    tracing::debug!(files = inputs.len(), spans = record.spans, bytes = record.bytes, "merged");
    metrics::counter!("tracehouse_store_compacted_spans_total").increment(record.spans);
    let added = shared.describe(record).into_iter().collect();
    shared.state.change_files(added, &ids);
    shared.retire_later(inputs);
    Ok(())
}

/// A file that is damaged must not stop the others, and nothing of it may be lost to a merge: it stays as it is, and what of it
/// can be read is read.
fn leave_out(shared: &Shared, file: &Arc<SpanFile>, source: ParquetError) -> WriteError {
    if !is_damage(&source) {
        return source.into();
    }
    file.check(&source);
    look_after_damage(shared);
    WriteError::Damaged { path: file.record.path.clone(), source }
}

/// A place in one input.
struct InputCursor {
    number: usize,
    stream: SpanStream,
    batch: Arc<SpanBatch>,
    /// Memory of a row of the batch, on average.
    row_bytes: usize,
    row: usize,
}

impl InputCursor {
    fn open(number: usize, mut stream: SpanStream) -> Result<Self, ParquetError> {
        let batch = stream.next().transpose()?.unwrap_or_default();
        let mut cursor = Self { number, stream, batch: Arc::default(), row_bytes: 0, row: 0 };
        cursor.enter(batch);
        Ok(cursor)
    }

    fn enter(&mut self, batch: SpanBatch) {
        self.row_bytes = batch.memory_bytes() / batch.len().max(1);
        self.row = 0;
        self.batch = Arc::new(batch);
    }

    fn key(&self) -> Option<(TraceId, i64)> {
        (self.row < self.batch.len()).then(|| (self.batch.trace_id[self.row], self.batch.start_unix_nanos[self.row]))
    }

    fn advance(&mut self) -> Result<(), ParquetError> {
        self.row += 1;
        while self.row >= self.batch.len() {
            match self.stream.next().transpose()? {
                Some(batch) => self.enter(batch),
                None => break,
            }
        }
        Ok(())
    }
}

/// Smallest key first; ties by input, so that of two copies of a span the older stays.
struct HeapEntry {
    key: (TraceId, i64),
    cursor: usize,
}

impl PartialEq for HeapEntry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for HeapEntry {}

impl PartialOrd for HeapEntry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for HeapEntry {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.key, other.cursor).cmp(&(self.key, self.cursor))
    }
}

/// Rows of the row group that is being gathered.
#[derive(Default)]
struct Gathered {
    batches: Vec<Arc<SpanBatch>>,
    /// For each input the number of its current batch among `batches`.
    current: Vec<Option<u32>>,
    rows: Vec<RowRef>,
    /// Memory of the rows.
    bytes: usize,
}

struct Merge<'a> {
    output: FileOutput,
    inputs: &'a [Arc<SpanFile>],
    shared: &'a Shared,
    gathered: Gathered,
    duplicates: u64,
}

impl Merge<'_> {
    fn run(&mut self, mut cursors: Vec<InputCursor>) -> Result<(), WriteError> {
        self.gathered.current = vec![None; cursors.len()];
        let mut heap: BinaryHeap<HeapEntry> = cursors
            .iter()
            .enumerate()
            .filter_map(|(cursor, input)| Some(HeapEntry { key: input.key()?, cursor }))
            .collect();
        let mut last = (TraceId::NONE, i64::MIN);
        let mut seen: SeenSpans<(Arc<SpanBatch>, usize)> = SeenSpans::default();
        while let Some(HeapEntry { key, cursor }) = heap.pop() {
            if key.0 != last.0 {
                if self.gathered.is_full(ROOM_FOR_TRACE) {
                    self.write_row_group()?;
                }
            } else if self.gathered.is_full(0) {
                self.write_row_group()?;
            }
            if key != last {
                // Copies begin at the same moment.
                seen.begin();
            }
            last = key;
            let input = &mut cursors[cursor];
            let (batch, row) = (&input.batch, input.row);
            let is_copy_of = |(known, at): &(Arc<SpanBatch>, usize)| batch.is_copy(row, known, *at);
            if seen.insert(batch.copy_key(row), (batch.clone(), row), is_copy_of) {
                let number = self.gathered.number_of(cursor, batch);
                self.gathered.rows.push(RowRef { batch: number, row: row as u32 });
                self.gathered.bytes += input.row_bytes;
            } else {
                self.duplicates += 1;
            }
            let before = Arc::as_ptr(&input.batch);
            input.advance().map_err(|source| leave_out(self.shared, &self.inputs[input.number], source))?;
            if before != Arc::as_ptr(&input.batch) {
                self.gathered.current[cursor] = None;
            }
            if let Some(key) = input.key() {
                heap.push(HeapEntry { key, cursor });
            }
        }
        self.write_row_group()
    }

    fn write_row_group(&mut self) -> Result<(), WriteError> {
        let gathered = std::mem::take(&mut self.gathered);
        let batches: Vec<&SpanBatch> = gathered.batches.iter().map(Arc::as_ref).collect();
        let mut strings = MergedStrings::of(&batches);
        self.output.writer.write_row_group(&batches, &gathered.rows, &mut strings)?;
        self.gathered.current = vec![None; gathered.current.len()];
        Ok(())
    }
}

impl Gathered {
    /// Whether there is no room for so many more rows, or none at all.
    fn is_full(&self, rows: usize) -> bool {
        self.rows.len() + rows.max(1) > ROWS_PER_ROW_GROUP || self.bytes >= ROW_GROUP_BYTES
    }

    fn number_of(&mut self, input: usize, batch: &Arc<SpanBatch>) -> u32 {
        *self.current[input].get_or_insert_with(|| {
            self.batches.push(batch.clone());
            self.batches.len() as u32 - 1
        })
    }
}
