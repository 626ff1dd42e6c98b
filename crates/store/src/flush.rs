//! Writes spans from memory into files. `flush_round` decides whose, and commits them.

use std::collections::BTreeMap;
use std::io::BufWriter;
use std::ops::Range;
use std::sync::Arc;

use serde::Serialize;
use tracehouse_catalogue::{FileRecord, Table, Tier};
use tracehouse_model::{SeededSet, SpanBatch, TenantId};

use crate::copies::{StoredCopies, TraceGroup};
use crate::error::{WriteError, contained};
use crate::hot_batch::HotBatch;
use crate::objects::{SpooledFile, file_id, file_path};
use crate::shared::Shared;
use tracehouse_disk::DiskFile;
use tracehouse_spanfile::{
    AttributeCounts, FileIdentity, MergedStrings, OrderedSpans, Packing, ROWS_PER_ROW_GROUP, RowRef, SpanFileWriter,
    WrittenFile, hour_of, order_spans,
};

/// What a flush did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct FlushReport {
    pub spans: u64,
    pub files: u64,
    pub bytes: u64,
    /// Copies of spans that were left out.
    pub duplicates: u64,
    /// Tenants whose spans wait for the next flush, as this one has made files enough.
    #[serde(skip)]
    pub tenants_left: usize,
}

impl FlushReport {
    pub(crate) fn add(&mut self, other: &Self) {
        self.spans += other.spans;
        self.files += other.files;
        self.bytes += other.bytes;
        self.duplicates += other.duplicates;
    }
}

/// Writes a tenant's spans to files, and says which. If that fails the files that are written already are removed again.
pub(crate) fn write_tenant(
    shared: &Shared,
    tenant: &TenantId,
    hot: &[Arc<HotBatch>],
    report: &mut FlushReport,
) -> Result<Vec<FileRecord>, WriteError> {
    let mut records = Vec::new();
    let written = contained(|| write_files(shared, tenant, hot, report, &mut records));
    written.inspect_err(|_| shared.discard_files(&records))?;
    Ok(records)
}

fn write_files(
    shared: &Shared,
    tenant: &TenantId,
    hot: &[Arc<HotBatch>],
    report: &mut FlushReport,
    records: &mut Vec<FileRecord>,
) -> Result<(), WriteError> {
    let batches: Vec<&SpanBatch> = hot.iter().map(|batch| &batch.spans).collect();
    let rows =
        (0u32..).zip(&batches).flat_map(|(batch, spans)| (0..spans.len() as u32).map(move |row| RowRef { batch, row }));
    let mut ordered = order_spans(&batches, rows);
    leave_out_stored(shared, tenant, &batches, &mut ordered)?;
    report.duplicates += ordered.duplicates;
    let mut strings = MergedStrings::of(&batches);
    let mut counts = AttributeCounts::default();
    batches.iter().for_each(|batch| counts.add_batch(batch));
    for (hour, traces) in by_hour(&ordered) {
        let record = write_file(shared, tenant, hour, &batches, &ordered, &traces, &mut strings, &counts)?;
        report.spans += record.spans;
        report.bytes += record.bytes;
        report.files += 1;
        records.push(record);
    }
    Ok(())
}

/// Leaves out spans whose twins are in files. A file that can't be looked into now is held back until it was compared.
fn leave_out_stored(
    shared: &Shared,
    tenant: &TenantId,
    batches: &[&SpanBatch],
    ordered: &mut OrderedSpans,
) -> Result<(), WriteError> {
    loop {
        let snapshot = shared.state.snapshot(tenant);
        let starts = batches.iter().flat_map(|batch| batch.start_unix_nanos.iter().copied());
        let stored = StoredCopies::new(&snapshot.files, batches, starts, shared.clock.now_unix_nanos());
        let trace_of = |rows: &[RowRef]| batches[rows[0].batch as usize].trace_id[rows[0].row as usize];
        let group_of = |spans: Range<usize>| {
            let (rows, starts) = (&ordered.rows[spans.clone()], &ordered.starts_unix_nanos[spans]);
            TraceGroup::new(trace_of(rows), rows, starts.iter().copied())
        };
        let all = ordered.trace_starts.windows(2).map(|trace| trace[0]..trace[1]);
        let groups: Vec<TraceGroup<'_>> = all
            .filter(|spans| !stored.is_needless() && !spans.is_empty())
            .map(group_of)
            .filter(|group| stored.may_hold_any(group))
            .collect();
        let found = stored.find(&groups);
        if !found.copies.is_empty() {
            let copies: SeededSet<RowRef> = found.copies.into_iter().collect();
            ordered.leave_out(|at| copies.contains(at));
        }
        // With fewer files each time: one that a merge took away meanwhile is no longer among them either.
        if found.unread.is_empty() {
            return Ok(());
        }
        shared.hold_back(&found.unread)?;
    }
}

/// Spans (as ranges among the ordered ones, each of one trace) by the hour in which they begin. A span's own start decides,
/// not its trace's: a copy then belongs to the hour of its twin.
fn by_hour(ordered: &OrderedSpans) -> BTreeMap<i64, Vec<Range<usize>>> {
    let mut hours: BTreeMap<i64, Vec<Range<usize>>> = BTreeMap::new();
    for trace in ordered.trace_starts.windows(2) {
        let mut begin = trace[0];
        let starts = &ordered.starts_unix_nanos[trace[0]..trace[1]];
        for spans in starts.chunk_by(|left, right| hour_of(*left) == hour_of(*right)) {
            hours.entry(hour_of(spans[0])).or_default().push(begin..begin + spans.len());
            begin += spans.len();
        }
    }
    hours
}

#[allow(clippy::too_many_arguments)]
fn write_file(
    shared: &Shared,
    tenant: &TenantId,
    hour: i64,
    batches: &[&SpanBatch],
    ordered: &OrderedSpans,
    traces: &[Range<usize>],
    strings: &mut MergedStrings,
    counts: &AttributeCounts,
) -> Result<FileRecord, WriteError> {
    let mut output =
        FileOutput::create(shared, tenant, hour, Place::of_new_spans(), counts, Packing::FLUSH, Vec::new())?;
    let mut rows: Vec<RowRef> = Vec::with_capacity(ROWS_PER_ROW_GROUP);
    for trace in traces {
        let spans = &ordered.rows[trace.clone()];
        if rows.len() + spans.len() > ROWS_PER_ROW_GROUP && !rows.is_empty() {
            output.writer.write_row_group(batches, &rows, strings)?;
            rows.clear();
        }
        let mut spans = spans;
        while spans.len() > ROWS_PER_ROW_GROUP {
            let (part, rest) = spans.split_at(ROWS_PER_ROW_GROUP);
            output.writer.write_row_group(batches, part, strings)?;
            spans = rest;
        }
        rows.extend_from_slice(spans);
    }
    output.writer.write_row_group(batches, &rows, strings)?;
    output.finish(shared, counts, 0)
}

/// Where a file of spans is kept, and for how long.
pub(crate) struct Place {
    tier: Tier,
    object_store: String,
}

impl Place {
    fn of_new_spans() -> Self {
        Self { tier: Tier::Hot, object_store: FileRecord::LOCAL.to_owned() }
    }

    /// The same as that of another file.
    pub(crate) fn of(record: &FileRecord) -> Self {
        Self { tier: record.tier, object_store: record.object_store.clone() }
    }
}

/// A file on its way into the store.
pub(crate) struct FileOutput {
    pub(crate) writer: SpanFileWriter<BufWriter<DiskFile>>,
    spooled: SpooledFile,
    id: String,
    path: String,
    tenant: TenantId,
    place: Place,
}

impl FileOutput {
    pub(crate) fn create(
        shared: &Shared,
        tenant: &TenantId,
        hour: i64,
        place: Place,
        counts: &AttributeCounts,
        packing: Packing,
        merged_from: Vec<String>,
    ) -> Result<Self, WriteError> {
        const BUFFER_BYTES: usize = 1024 * 1024;
        let id = file_id(shared.clock.now_unix_nanos(), &*shared.randomness);
        let (spooled, file) = shared.objects.local().spool(&id)?;
        let sink = BufWriter::with_capacity(BUFFER_BYTES, file);
        let identity = FileIdentity { id: &id, tenant: tenant.as_str(), merged_from };
        let writer = SpanFileWriter::new(sink, counts.layout(), packing, identity)?;
        let path = file_path(tenant, &Table::SPANS, hour, &id);
        Ok(Self { writer, spooled, id, path, tenant: tenant.clone(), place })
    }

    /// Completes the file and moves it into the store.
    pub(crate) fn finish(self, shared: &Shared, counts: &AttributeCounts, level: u8) -> Result<FileRecord, WriteError> {
        let (sink, written): (_, WrittenFile) = self.writer.finish(counts)?;
        let file = sink.into_inner().map_err(|error| error.into_error())?;
        file.sync()?;
        let bytes = file.bytes()?;
        shared.objects.needed(&self.place.object_store)?.publish(&self.spooled, &self.path)?;
        Ok(FileRecord {
            id: self.id,
            tenant: self.tenant,
            path: self.path,
            table: Table::SPANS,
            level,
            tier: self.place.tier,
            object_store: self.place.object_store,
            spans: written.spans,
            bytes,
            start_min: written.start_min,
            start_max: written.start_max,
            end_max: Some(written.end_max),
            created_at: shared.clock.now_unix_nanos(),
            minutes: written.minutes,
            row_groups: written.row_groups,
            tail_bytes: written.tail_bytes,
            lost_spans: 0,
            left_out_spans: 0,
            retired: None,
        })
    }
}
