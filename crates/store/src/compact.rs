//! Merges small files of one tier and one object store into larger ones, packed harder, with copies left out.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::sync::Arc;

use parquet::errors::ParquetError;
use serde::Serialize;
use tracehouse_catalogue::{Commit, FileRecord, RetirementReason};
use tracehouse_model::{SpanBatch, TenantId, TraceId};
use tracehouse_spanfile::{
    AttributeCounts, MergedStrings, OpenFile, Packing, ROWS_PER_ROW_GROUP, RowRef, SeenSpans, SpanStream, hour_of,
    is_damage,
};

use crate::choose::{Choice, Effort, MergeKey, choose};
use crate::damage_found::look_after_damage;
use crate::decide::{DECIDED_SPANS_MAX, Deciding};
use crate::error::{WriteError, chain, contained};
use crate::flush::{FileOutput, Place};
use crate::shared::Shared;
use crate::span_file::SpanFile;
use crate::troubles::Work;
use crate::twins::LeftOut;

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

/// Rows that are read of each input at a time …
const STREAM_ROWS: usize = 8192;
/// … unless those of all inputs would take more than so many bytes, as spans with long texts do.
const STREAM_BYTES: u64 = 32 * 1024 * 1024;
/// A trace that may be longer than this begins a new row group when there is no room for as much.
const ROOM_FOR_TRACE: usize = 64;
/// A row group with long or many texts has fewer rows than others: so many bytes of memory are gathered for it.
const ROW_GROUP_BYTES: usize = 48 * 1024 * 1024;

/// So often the files of one key are tried in one run without a success: each damaged file costs an attempt.
const ATTEMPTS_PER_RUN_MAX: usize = 64;

/// Merges until there is nothing left to merge. One merge that fails keeps none of the others; the error is that of the first.
pub(crate) fn compact(shared: &Shared, effort: Effort) -> Result<CompactReport, WriteError> {
    let _one_at_a_time = shared.compact_lock.lock();
    shared.resolve_commits().inspect_err(|error| shared.troubles.failed(Work::Commit, chain(error)))?;
    let mut report = CompactReport::default();
    let mut first_error = None;
    // How often in this run; what failed once waits.
    let mut attempts: BTreeMap<MergeKey, usize> = BTreeMap::new();
    loop {
        let choices = choose(&shared.state.all_files(), effort);
        forget_settled(shared, &choices);
        let mut is_done = true;
        for Choice { key, inputs } in choices {
            if shared.stopping() {
                return first_error.map_or(Ok(report), Err);
            }
            let work = Work::Merge(key.0.clone(), key.1);
            let tried = attempts.entry(key).or_default();
            if *tried >= ATTEMPTS_PER_RUN_MAX || (effort == Effort::Routine && shared.troubles.must_wait(&work)) {
                continue;
            }
            *tried += 1;
            is_done = false;
            match contained(|| merge(shared, &inputs, &mut report)) {
                Ok(()) => {
                    *tried = 0;
                    shared.troubles.succeeded(&work);
                }
                // It was set aside, so the next choice is made without it.
                Err(WriteError::Damaged { .. }) => report.damaged += 1,
                Err(error) => {
                    *tried = ATTEMPTS_PER_RUN_MAX;
                    shared.troubles.failed(work, chain(&error));
                    first_error.get_or_insert(error);
                }
            }
        }
        if is_done {
            return first_error.map_or(Ok(report), Err);
        }
    }
}

/// Merges that failed and are no longer to be done, as their files are gone or changed, are no trouble any more.
fn forget_settled(shared: &Shared, choices: &[Choice]) {
    let chosen: BTreeSet<(&TenantId, i64)> = choices.iter().map(|choice| (&choice.key.0, choice.key.1)).collect();
    shared.troubles.retain(|work| match work {
        Work::Merge(tenant, hour) => chosen.contains(&(tenant, *hour)),
        _ => true,
    });
}

fn merge(shared: &Shared, inputs: &[Arc<SpanFile>], report: &mut CompactReport) -> Result<(), WriteError> {
    let deciding = Deciding::about(shared, inputs);
    let Merged { record, duplicates, left_out } = match write_merged(shared, inputs, &LeftOut::default(), deciding) {
        Ok(merged) => merged,
        Err(error @ WriteError::Damaged { .. }) => return Err(error),
        // One expired and was deleted meanwhile: what is left is chosen anew.
        Err(_) if !shared.state.has_files(inputs) => return Ok(()),
        Err(error) => return Err(error),
    };
    let (files, spans, bytes) = record.as_ref().map_or((0, 0, 0), |record| (1, record.spans, record.bytes));
    if replace(shared, inputs, record)? {
        metrics::counter!("tracehouse_store_left_out_spans_total").increment(left_out);
        report.merges += 1;
        report.files_before += inputs.len() as u64;
        report.files_after += files;
        report.spans += spans;
        report.bytes_before += inputs.iter().map(|file| file.record.bytes).sum::<u64>();
        report.bytes_after += bytes;
        report.duplicates += duplicates;
    }
    Ok(())
}

/// A file that was written from others and is not committed yet.
pub(crate) struct Merged {
    /// `None`: all traces inside were left out.
    pub(crate) record: Option<FileRecord>,
    duplicates: u64,
    /// Spans of traces that a decider left out.
    left_out: u64,
}

/// Writes the spans of files into one, each once; `without`: rows of the first that are left out. `deciding`: who leaves out whole
/// traces.
pub(crate) fn write_merged(
    shared: &Shared,
    inputs: &[Arc<SpanFile>],
    without: &LeftOut,
    deciding: Option<Deciding<'_>>,
) -> Result<Merged, WriteError> {
    let mut counts = AttributeCounts::default();
    let mut cursors = Vec::new();
    for (number, file) in inputs.iter().enumerate() {
        let contents = file.contents().map_err(|error| leave_out(shared, file, error.source))?;
        counts.add_file(&contents, file.record.spans);
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
    let output =
        FileOutput::create(shared, &first.tenant, hour, Place::of(first), &counts, Packing::COMPACTED, merged_from)?;
    let mut merge = Merge {
        output,
        inputs,
        without,
        shared,
        gathered: Gathered::default(),
        duplicates: 0,
        deciding,
        undecided: Undecided::default(),
        last_trace: TraceId::NONE,
        written: 0,
        left_out: 0,
    };
    merge.run(cursors)?;
    let Merge { output, duplicates, written, left_out, .. } = merge;
    if written == 0 {
        return Ok(Merged { record: None, duplicates, left_out });
    }
    let left_out_before: u64 = inputs.iter().map(|file| file.record.left_out_spans).sum();
    let record = FileRecord { left_out_spans: left_out_before + left_out, ..output.finish(shared, &counts, level)? };
    Ok(Merged { record: Some(record), duplicates, left_out })
}

/// How many rows of one of so many inputs are read at a time.
fn stream_rows(file: &OpenFile, inputs: usize) -> usize {
    const ROWS_MIN: u64 = 64;
    let fitting = STREAM_BYTES / inputs as u64 / file.row_bytes();
    (fitting.max(ROWS_MIN) as usize).min(STREAM_ROWS)
}

/// Puts the merged file in the place of its inputs. Returns whether it counts: not if an input went meanwhile, as what is
/// beyond retention does, or if the catalogue does not know one any more; the others are merged anew.
fn replace(shared: &Shared, inputs: &[Arc<SpanFile>], record: Option<FileRecord>) -> Result<bool, WriteError> {
    let _no_other_change = shared.files_lock.lock();
    if !shared.state.has_files(inputs) {
        shared.discard_files(record.as_slice());
        return Ok(false);
    }
    let ids: Vec<String> = inputs.iter().map(|file| file.record.id.clone()).collect();
    let reason = if record.is_some() { RetirementReason::Replaced } else { RetirementReason::LeftOut };
    let commit = Commit {
        add: record.iter().cloned().collect(),
        retire: ids.iter().map(|id| (id.clone(), reason)).collect(),
        retired_at: shared.clock.now_unix_nanos(),
        ..Commit::default()
    };
    match shared.commit(commit) {
        Err(error) if shared.settle_not_live(&error, inputs) => return Ok(false),
        outcome => outcome?,
    }
    if let Some(record) = &record {
        tracing::debug!(files = inputs.len(), spans = record.spans, bytes = record.bytes, "merged");
        metrics::counter!("tracehouse_store_compacted_spans_total").increment(record.spans);
    }
    shared.state.change_files(record.into_iter().map(|record| shared.span_file(record)).collect(), &ids);
    shared.retire_later(inputs);
    Ok(true)
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
    /// Memory that a row of the batch takes until it is written, on average.
    row_bytes: usize,
    row: usize,
    /// Rows of the file before the batch.
    rows_before: usize,
}

impl InputCursor {
    fn open(number: usize, mut stream: SpanStream) -> Result<Self, ParquetError> {
        let batch = stream.next().transpose()?.unwrap_or_default();
        let mut cursor = Self { number, stream, batch: Arc::default(), row_bytes: 0, row: 0, rows_before: 0 };
        cursor.enter(batch);
        Ok(cursor)
    }

    fn enter(&mut self, batch: SpanBatch) {
        // A string is in its batch, in the table of all strings of the row group, and in the dictionary of its column.
        let bytes = batch.memory_bytes() + 2 * batch.strings.memory_bytes();
        self.row_bytes = bytes / batch.len().max(1);
        self.rows_before += self.batch.len();
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

/// A row of a trace that may be left out.
struct UndecidedRow {
    input: usize,
    batch: Arc<SpanBatch>,
    row: usize,
    bytes: usize,
}

/// The rows of one trace, until it is known whether they are kept.
#[derive(Default)]
struct Undecided {
    rows: Vec<UndecidedRow>,
    bytes: usize,
    /// It is too large to be held, and kept.
    is_kept: bool,
}

/// Rows of the row group that is being gathered.
#[derive(Default)]
struct Gathered {
    batches: Vec<Arc<SpanBatch>>,
    /// For each input the number among `batches` of the batch that its last row is in.
    current: Vec<Option<u32>>,
    rows: Vec<RowRef>,
    /// Memory of the rows.
    bytes: usize,
}

struct Merge<'a> {
    output: FileOutput,
    inputs: &'a [Arc<SpanFile>],
    /// Rows of the first input.
    without: &'a LeftOut,
    shared: &'a Shared,
    gathered: Gathered,
    duplicates: u64,
    /// `None`: every trace is kept.
    deciding: Option<Deciding<'a>>,
    undecided: Undecided,
    /// That of the row that was gathered last.
    last_trace: TraceId,
    written: u64,
    left_out: u64,
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
        let mut seen: SeenSpans<Arc<SpanBatch>> = SeenSpans::default();
        while let Some(HeapEntry { key, cursor }) = heap.pop() {
            if key.0 != last.0 {
                self.decide()?;
            }
            if key != last {
                // Copies begin at the same moment.
                seen.begin();
            }
            last = key;
            let input = &mut cursors[cursor];
            let (batch, row) = (&input.batch, input.row);
            let is_left_out = cursor == 0 && self.without.has(input.rows_before + row);
            if !is_left_out && seen.insert(batch, row) {
                self.take(cursor, batch, row, input.row_bytes)?;
            } else {
                self.duplicates += 1;
            }
            input.advance().map_err(|source| leave_out(self.shared, &self.inputs[input.number], source))?;
            if let Some(key) = input.key() {
                heap.push(HeapEntry { key, cursor });
            }
        }
        self.decide()?;
        self.write_row_group()
    }

    /// Takes a row that is no copy of another.
    fn take(&mut self, input: usize, batch: &Arc<SpanBatch>, row: usize, bytes: usize) -> Result<(), WriteError> {
        if self.deciding.is_none() || self.undecided.is_kept {
            return self.gather(input, batch, row, bytes);
        }
        self.undecided.bytes += bytes;
        self.undecided.rows.push(UndecidedRow { input, batch: batch.clone(), row, bytes });
        if self.undecided.rows.len() >= DECIDED_SPANS_MAX || self.undecided.bytes >= ROW_GROUP_BYTES {
            self.undecided.is_kept = true;
            let rows = std::mem::take(&mut self.undecided.rows);
            return self.keep(&rows);
        }
        Ok(())
    }

    /// All rows of a trace were taken.
    fn decide(&mut self) -> Result<(), WriteError> {
        let Undecided { rows, .. } = std::mem::take(&mut self.undecided);
        let (Some(deciding), Some(first)) = (&self.deciding, rows.first()) else { return Ok(()) };
        let spans: Vec<(&SpanBatch, usize)> = rows.iter().map(|row| (&*row.batch, row.row)).collect();
        if deciding.keeps(first.batch.trace_id[first.row], &spans) {
            return self.keep(&rows);
        }
        self.left_out += rows.len() as u64;
        Ok(())
    }

    fn keep(&mut self, rows: &[UndecidedRow]) -> Result<(), WriteError> {
        rows.iter().try_for_each(|row| self.gather(row.input, &row.batch, row.row, row.bytes))
    }

    fn gather(&mut self, input: usize, batch: &Arc<SpanBatch>, row: usize, bytes: usize) -> Result<(), WriteError> {
        let trace = batch.trace_id[row];
        let room = if trace == self.last_trace { 0 } else { ROOM_FOR_TRACE };
        if self.gathered.is_full(room) {
            self.write_row_group()?;
        }
        let number = self.gathered.number_of(input, batch);
        self.gathered.rows.push(RowRef { batch: number, row: row as u32 });
        self.gathered.bytes += bytes;
        self.last_trace = trace;
        self.written += 1;
        Ok(())
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
        match self.current[input] {
            Some(number) if Arc::ptr_eq(&self.batches[number as usize], batch) => number,
            _ => {
                let number = self.batches.len() as u32;
                self.batches.push(batch.clone());
                self.current[input] = Some(number);
                number
            }
        }
    }
}
