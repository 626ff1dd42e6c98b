//! What a question may use, and work done side by side within that.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arrow::array::RecordBatch;
use parking_lot::{Condvar, Mutex};
use parquet::arrow::arrow_reader::RowSelection;
use parquet::errors::ParquetError;
use tracehouse_model::Clock;

use crate::effort::{self, Effort};
use crate::ended::EndedEarly;
use crate::fault::no_room;
use crate::held::Held;
use tracehouse_memory::{OutOfMemory, Pool};
use tracehouse_spanfile::{Batches, OpenFile, StringForm};

/// Bounds of one question. Memory is bounded by the [`Pool`].
#[derive(Debug, Clone)]
pub struct Limits {
    /// Threads that work for the question at once.
    pub threads: usize,
    /// A question that takes longer answers with what it has, and says so.
    pub time_max: Duration,
    /// A question that reads more of the files answers with what it has, and says so.
    pub scanned_bytes_max: u64,
}

/// What one question may use, and has used. All threads that work for it share this.
pub struct Bounds {
    limits: Limits,
    pool: Pool,
    clock: Arc<dyn Clock>,
    begin: Duration,
    /// Set when nobody waits for the answer any more.
    cancelled: Arc<AtomicBool>,
    scanned_bytes: AtomicU64,
    /// Which bound was met first; 0 is none.
    met: AtomicU8,
}

impl fmt::Debug for Bounds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Bounds").field("limits", &self.limits).finish_non_exhaustive()
    }
}

const TIME: u8 = 1;
const SCANNED: u8 = 2;
const MEMORY: u8 = 3;

/// How long a question waits for memory that others hold, and how often it looks.
const WAIT_MAX: Duration = Duration::from_secs(5);
const WAIT_STEP: Duration = Duration::from_millis(5);

impl Bounds {
    /// Begins to count the time.
    pub fn new(limits: Limits, pool: Pool, clock: Arc<dyn Clock>, cancelled: Arc<AtomicBool>) -> Self {
        let begin = clock.monotonic();
        let limits = Limits { threads: limits.threads.max(1), ..limits };
        Self { limits, pool, clock, begin, cancelled, scanned_bytes: AtomicU64::new(0), met: AtomicU8::new(0) }
    }

    /// Threads that work for the question at once.
    pub fn threads(&self) -> usize {
        self.limits.threads
    }

    /// Whether the question should end with what it has.
    pub fn exceeded(&self) -> bool {
        self.out_of_time() || self.met.load(Ordering::Relaxed) != 0
    }

    /// Whether the time is over, or nobody waits any more: to be asked within what may take long, and what was not finished
    /// is dropped.
    pub fn out_of_time(&self) -> bool {
        let is_over = self.clock.monotonic().saturating_sub(self.begin) > self.limits.time_max;
        if is_over {
            self.meet(TIME);
        }
        is_over || self.cancelled()
    }

    /// Whether nobody waits for the answer any more.
    pub fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Why the question ends with what it has, if it does.
    pub fn ended_early(&self) -> Option<EndedEarly> {
        match self.met.load(Ordering::Relaxed) {
            _ if self.cancelled() => Some(EndedEarly::Left),
            TIME => Some(EndedEarly::Time),
            SCANNED => Some(EndedEarly::BytesRead),
            MEMORY => Some(EndedEarly::Memory),
            _ => None,
        }
    }

    fn meet(&self, bound: u8) {
        // The first one counts, so it does not matter if there was one already.
        let _ = self.met.compare_exchange(0, bound, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// What all questions may hold together, in bytes.
    pub fn memory_bytes_max(&self) -> usize {
        self.pool.bytes_max()
    }

    /// Memory of which nothing is taken yet.
    pub fn hold(&self) -> Held {
        Held::of(&self.pool)
    }

    /// Takes memory without which the question can't go on: if there is none it ends with what it has.
    pub fn take(&self, held: &mut Held, bytes: usize) -> Result<(), OutOfMemory> {
        held.take(bytes).inspect_err(|_| self.meet(MEMORY))
    }

    /// The same for memory that is held until the end of some work.
    pub fn held(&self, bytes: usize) -> Result<Held, OutOfMemory> {
        let mut held = self.hold();
        self.take(&mut held, bytes)?;
        Ok(held)
    }

    /// Waits a while for memory that other questions hold; there may be less to be had afterwards. To be called by who holds
    /// nothing: two that wait for each other would both get nothing.
    pub fn wait_for(&self, bytes: usize) -> Result<Held, OutOfMemory> {
        let mut held = self.hold();
        let (mutex, nothing_happens) = (Mutex::new(()), Condvar::new());
        for _ in 0..WAIT_MAX.as_millis() / WAIT_STEP.as_millis() {
            if held.take(bytes).is_ok() {
                return Ok(held);
            }
            if bytes > self.pool.bytes_max() || self.exceeded() {
                break;
            }
            nothing_happens.wait_for(&mut mutex.lock(), WAIT_STEP);
        }
        held.take(bytes).map(|()| held)
    }

    /// Reads columns of a row group as [`OpenFile::scan`] does, all selected rows in one batch. Counts bytes and memory.
    pub fn scan(
        &self,
        open: &OpenFile,
        row_group: usize,
        columns: &[&str],
        selection: Option<RowSelection>,
        form: StringForm,
    ) -> Result<Reading, ParquetError> {
        self.scan_in_batches(open, row_group, columns, selection, form, usize::MAX)
    }

    /// The same in batches of at most so many rows. One batch is counted as held; more must not be kept.
    pub fn scan_in_batches(
        &self,
        open: &OpenFile,
        row_group: usize,
        columns: &[&str],
        selection: Option<RowSelection>,
        form: StringForm,
        batch_rows: usize,
    ) -> Result<Reading, ParquetError> {
        let rows = open.rows_of(row_group).max(1);
        let selected = selection.as_ref().map_or(rows, RowSelection::row_count);
        self.count_scanned(open.bytes_of(row_group, Some(columns)), selected, rows);
        let batch_rows = batch_rows.min(selected).max(1);
        let bytes = share(open.bytes_in_memory(row_group, Some(columns)), batch_rows, rows);
        let held = self.held(bytes).map_err(no_room)?;
        let batches = open.scan(row_group, columns, selection, form, batch_rows)?;
        Ok(Reading { batches, held })
    }

    /// Counts a part of some bytes as read.
    pub fn count_scanned(&self, bytes: u64, part: usize, whole: usize) {
        let read = (u128::from(bytes) * part as u128 / whole.max(1) as u128) as u64;
        if self.scanned_bytes.fetch_add(read, Ordering::Relaxed) + read > self.limits.scanned_bytes_max {
            self.meet(SCANNED);
        }
    }

    /// Bytes of columns that were read, as they are in files.
    pub fn scanned_bytes(&self) -> u64 {
        self.scanned_bytes.load(Ordering::Relaxed)
    }

    /// Does so many pieces of work, several at once, until a bound is met. Each thread adds to something of its own, which
    /// `begin` makes; gives all of them, and how many pieces were done.
    pub fn gather<T: Send>(
        &self,
        pieces: usize,
        begin: impl Fn() -> T + Sync,
        work: impl Fn(usize, &mut T) + Sync,
    ) -> (Vec<T>, usize) {
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let all = Mutex::new(Vec::new());
        self.on_threads(pieces, || {
            let mut own = begin();
            loop {
                let piece = next.fetch_add(1, Ordering::Relaxed);
                if piece >= pieces || self.exceeded() {
                    break;
                }
                work(piece, &mut own);
                // What was ended in the middle is not done.
                if self.exceeded() {
                    break;
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
            all.lock().push(own);
        });
        (all.into_inner(), done.into_inner())
    }

    /// Why a question ended early and how far it came, in words.
    pub fn stopped(&self, done: usize, total: usize, what: &str) -> String {
        let bound = match self.met.load(Ordering::Relaxed) {
            SCANNED => format!("after reading {}", size(self.limits.scanned_bytes_max)),
            MEMORY => format!("at {} of memory", size(self.pool.bytes_max() as u64)),
            _ => format!("after {:.1} s", self.limits.time_max.as_secs_f64()),
        };
        format!("stopped {bound}: {done} of {total} {what}; ask for a shorter time range or a narrower query")
    }

    /// Runs a function whose calculations end when the time is over: see [`crate::may_go_on`].
    pub fn counted<T>(&self, work: impl FnOnce() -> T) -> T {
        let end = self.begin.saturating_add(self.limits.time_max);
        let (clock, cancelled) = (self.clock.clone(), self.cancelled.clone());
        effort::counted(Effort { clock, end, cancelled, steps: 0, is_over: false }, work)
    }

    /// Runs the same function on as many threads as there are, or as there are pieces of work. A panic in one of them goes
    /// on in the caller, after all have ended.
    pub fn on_threads(&self, pieces: usize, work: impl Fn() + Sync) {
        let helpers = self.limits.threads.min(pieces).saturating_sub(1);
        std::thread::scope(|scope| {
            (0..helpers).for_each(|_| {
                scope.spawn(|| self.counted(&work));
            });
            self.counted(&work);
        });
    }
}

/// A part of some bytes.
pub(crate) fn share(bytes: u64, part: usize, whole: usize) -> usize {
    usize::try_from(u128::from(bytes) * part as u128 / whole.max(1) as u128).unwrap_or(usize::MAX)
}

/// Columns that are being read, with the memory for them: it goes back when this is dropped.
pub struct Reading {
    batches: Batches,
    held: Held,
}

impl Reading {
    /// What was read, if it is one batch, with the memory that it takes; `None` if there are no rows.
    pub fn only_batch(mut self) -> Result<Option<(RecordBatch, Held)>, ParquetError> {
        let Some(batch) = self.next().transpose()? else { return Ok(None) };
        match self.next() {
            None => Ok(Some((batch, self.held))),
            Some(_) => Err(ParquetError::General("there are more rows than the row group has".into())),
        }
    }
}

impl Iterator for Reading {
    type Item = Result<RecordBatch, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.batches.next().map(|batch| batch.map_err(ParquetError::from))
    }
}

fn size(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    if bytes < MIB { format!("{bytes} B") } else { format!("{} MiB", bytes / MIB) }
}
