//! Reads a table from memory and files: only the columns that are needed, most of them only for rows that are wanted.

mod file;
mod own_ids;
mod sources;
mod spans;
mod values;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::common::{DataFusionError, Result};
use parking_lot::Mutex;
use parquet::errors::ParquetError;
use tracehouse_scan::{Bounds, Reach, out_of_memory};
use tracehouse_store::{HotBatch, Snapshot, SpanFile};

use crate::plan::{Predicate, Ranges};
use crate::scan::file::FileScan;
use crate::scan::own_ids::{HotIds, IdsOf};
pub(crate) use crate::scan::spans::LongTexts;
use crate::scan::spans::SpanRows;
use crate::tables::{Column, Table};
use crate::watch::Watch;

pub(crate) use values::ValueBuilder;

/// Most rows that are looked at in one step.
pub(crate) const ROWS_PER_STEP: usize = 8 * 1024;

/// About the most bytes of the texts of one batch: what one row has beyond them is in one all the same.
pub(crate) const STEP_BYTES_MAX: usize = 16 << 20;

/// What is read, once for all partitions.
pub(crate) struct Scan {
    pub(crate) table: Table,
    pub(crate) columns: Vec<Column>,
    pub(crate) schema: SchemaRef,
    pub(crate) predicate: Predicate,
    /// The filters as a person reads them.
    pub(crate) filters: Vec<String>,
    pub(crate) snapshot: Snapshot,
    pub(crate) partitions: usize,
    /// Rows that are looked at in one step, and the most of one batch.
    pub(crate) rows_per_step: usize,
    /// Each partition may stop after so many rows.
    pub(crate) rows_max: Option<usize>,
    pub(crate) report: Arc<ScanReport>,
    pub(crate) reach: Arc<Reach>,
    pub(crate) watch: Arc<Watch>,
    pub(crate) long_texts: LongTexts,
    /// The ids of spans in memory, once they were asked for.
    pub(crate) hot_ids: OnceLock<HotIds>,
}

impl Scan {
    /// What a scan with a predicate asks for.
    pub(crate) fn reach_of(snapshot: &Snapshot, predicate: &Predicate) -> Arc<Reach> {
        let matters = |first: i64, last: i64| {
            predicate.may_hold(&Ranges { start_time: Some((first, last)), duration_nanos: None })
        };
        Arc::new(Reach::of_matching(snapshot, matters))
    }

    /// Whether ids of spans or of their parents are asked for.
    pub(super) fn needs_ids(&self) -> bool {
        let looked_at = self.predicate.conditions.iter().flat_map(|condition| &condition.columns);
        self.columns.iter().chain(looked_at).any(|column| matches!(column, Column::SpanId | Column::ParentSpanId))
    }

    /// The ids of the spans of a batch in memory.
    fn ids_of_hot(&self, number: usize) -> Result<IdsOf<'_>> {
        if !self.needs_ids() {
            return Ok(IdsOf::Batch);
        }
        if let Some(ids) = self.hot_ids.get() {
            return Ok(IdsOf::Hot(ids, number));
        }
        let ids = HotIds::of(&self.snapshot.hot, self.watch.bounds());
        let ids = ids.map_err(|error| match ScanError::from(error) {
            ScanError::File(error) => DataFusionError::External(Box::new(error)),
            ScanError::Statement(error) => error,
        })?;
        Ok(IdsOf::Hot(self.hot_ids.get_or_init(|| ids), number))
    }

    /// How often rows write out their attributes: for the columns that are wanted, and for those that filters look at.
    pub(crate) fn long_texts_of(columns: &[Column], predicate: &Predicate) -> LongTexts {
        let looked_at = predicate.conditions.iter().flat_map(|condition| &condition.columns);
        LongTexts::of(columns.iter().chain(looked_at))
    }
}

impl std::fmt::Debug for Scan {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Scan").field("table", &self.table).field("columns", &self.columns).finish()
    }
}

/// What the scans of a statement have read, counted while they run.
#[derive(Debug, Default)]
pub(crate) struct ScanReport {
    files: AtomicUsize,
    row_groups: AtomicUsize,
    spans_hot: AtomicU64,
    /// How much of what they ask for the scans could read, each by itself.
    reaches: Mutex<Vec<Arc<Reach>>>,
}

/// What the scans of a statement have read. A table that is named twice is scanned, and counted, twice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scanned {
    /// Files in which the filters had to be looked at span by span.
    pub files: usize,
    pub row_groups: usize,
    /// Spans in memory that were looked at.
    pub spans_hot: u64,
    /// Bytes of columns that were read, as they are in files.
    pub bytes: u64,
    /// What could not be read, with `N of M` and a reason, for each table that lacks something.
    pub unreadable: Vec<String>,
}

impl ScanReport {
    pub(crate) fn so_far(&self, bounds: &Bounds) -> Scanned {
        // A table that is named twice lacks the same twice.
        let reasons: BTreeSet<String> = self.reaches.lock().iter().filter_map(|reach| reach.partial_reason()).collect();
        Scanned {
            files: self.files.load(Ordering::Relaxed),
            row_groups: self.row_groups.load(Ordering::Relaxed),
            spans_hot: self.spans_hot.load(Ordering::Relaxed),
            bytes: bounds.scanned_bytes(),
            unreadable: reasons.into_iter().collect(),
        }
    }
}

/// What one step of a scan gives.
pub(crate) enum Step {
    Batch(RecordBatch),
    /// No rows this time; there may be more.
    Nothing,
    End,
}

/// Why a scan does not go on.
pub(super) enum ScanError {
    /// A file can't be read: the others can.
    File(ParquetError),
    /// The statement fails, as by a division by zero.
    Statement(DataFusionError),
}

pub(super) type ScanResult<T> = std::result::Result<T, ScanError>;

impl From<ParquetError> for ScanError {
    fn from(error: ParquetError) -> Self {
        match out_of_memory(&error) {
            // The statement has none left. Nothing is wrong with the file.
            Some(out_of_memory) => {
                ScanError::Statement(DataFusionError::ResourcesExhausted(format!("the scan: {out_of_memory}")))
            }
            None => ScanError::File(error),
        }
    }
}

impl From<DataFusionError> for ScanError {
    fn from(error: DataFusionError) -> Self {
        ScanError::Statement(error)
    }
}

/// One partition of a scan: every so many-th batch in memory and row group.
pub(crate) struct Scanner {
    scan: Arc<Scan>,
    partition: usize,
    hot: std::vec::IntoIter<(usize, Arc<HotBatch>)>,
    files: std::vec::IntoIter<(usize, Arc<SpanFile>)>,
    current: Option<Unit>,
    rows_left: usize,
}

enum Unit {
    Hot { number: usize, batch: Arc<HotBatch>, next_row: usize },
    File(Box<FileScan>),
}

impl Scanner {
    pub(crate) fn new(scan: Arc<Scan>, partition: usize) -> Self {
        // Newest first, as with files: a statement with a limit then sees the newest spans.
        let hot = match &scan.predicate.traces {
            Some(traces) => scan.snapshot.hot.holding(traces),
            None => scan.snapshot.hot.iter().enumerate().collect(),
        };
        let hot = hot.into_iter().rev().skip(partition).step_by(scan.partitions);
        let hot: Vec<_> = hot.map(|(number, batch)| (number, batch.clone())).collect();
        let files: Vec<_> = scan.snapshot.files.iter().cloned().enumerate().collect();
        let rows_left = scan.rows_max.unwrap_or(usize::MAX);
        if partition == 0 {
            scan.report.reaches.lock().push(scan.reach.clone());
        }
        Self { scan, partition, hot: hot.into_iter(), files: files.into_iter(), current: None, rows_left }
    }

    /// Does a bounded piece of work. Blocks on the disk or the network.
    pub(crate) fn step(&mut self) -> Result<Step> {
        self.scan.watch.check()?;
        if self.rows_left == 0 {
            return Ok(Step::End);
        }
        let Some(unit) = &mut self.current else { return self.begin_next() };
        let batch = match unit {
            Unit::Hot { number, batch, next_row } => {
                let rows = *next_row..batch.spans.len().min(*next_row + self.scan.rows_per_step);
                if rows.is_empty() {
                    self.current = None;
                    return Ok(Step::Nothing);
                }
                let fitting =
                    self.scan.long_texts.spans_that_fit(self.scan.table, &batch.spans, rows.clone(), STEP_BYTES_MAX);
                let rows = rows.start..rows.start + fitting;
                *next_row = rows.end;
                self.scan.report.spans_hot.fetch_add(rows.len() as u64, Ordering::Relaxed);
                let ids = self.scan.ids_of_hot(*number)?;
                let mut rows = SpanRows::new(self.scan.table, &batch.spans, ids, rows);
                rows.retain(&self.scan.predicate.conditions)?;
                self.scan.batch_of(&rows)?
            }
            Unit::File(file) => match file.step(&self.scan)? {
                Some(batch) => batch,
                None => {
                    self.current = None;
                    return Ok(Step::Nothing);
                }
            },
        };
        if batch.num_rows() == 0 {
            return Ok(Step::Nothing);
        }
        let batch = batch.slice(0, batch.num_rows().min(self.rows_left));
        self.rows_left -= batch.num_rows();
        Ok(Step::Batch(batch))
    }

    fn begin_next(&mut self) -> Result<Step> {
        if let Some((number, batch)) = self.hot.next() {
            self.current = Some(Unit::Hot { number, batch, next_row: 0 });
            return Ok(Step::Nothing);
        }
        let Some((number, file)) = self.files.next() else { return Ok(Step::End) };
        if !file::may_match(&self.scan, &file)? {
            return Ok(Step::Nothing);
        }
        // Row groups of consecutive files go to different partitions, as most files have only one.
        let first = (self.partition + self.scan.partitions - number % self.scan.partitions) % self.scan.partitions;
        if let Some(open) = self.scan.reach.open(&file)
            && first < open.row_groups()
        {
            if first == 0 {
                self.scan.report.files.fetch_add(1, Ordering::Relaxed);
            }
            self.current = Some(Unit::File(Box::new(FileScan::new(file, open, first))));
        }
        Ok(Step::Nothing)
    }
}

impl ScanReport {
    pub(super) fn count_row_group(&self) {
        self.row_groups.fetch_add(1, Ordering::Relaxed);
    }
}

impl Scan {
    fn batch_of(&self, rows: &SpanRows<'_>) -> Result<RecordBatch> {
        self.batch(self.columns.iter().map(|column| rows.column(column)).collect(), rows.len())
    }

    pub(super) fn batch(&self, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}
