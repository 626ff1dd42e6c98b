//! What a query may use, and work done side by side within that.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use parquet::arrow::arrow_reader::RowSelection;
use parquet::errors::ParquetError;
use tracehouse_store::{Batches, OpenFile, ReadError, StringForm};

use crate::engine::QueryLimits;

/// About what a span takes in memory with the columns that a query needs.
const SPAN_BYTES: usize = 256;

/// What bounds a query besides its own limit.
pub(crate) struct Bounds<'a> {
    pub(crate) threads: usize,
    time_max: Duration,
    memory_bytes_max: usize,
    scanned_bytes_max: u64,
    elapsed: &'a (dyn Fn() -> Duration + Sync),
    /// Set when nobody waits for the answer any more.
    cancelled: &'a AtomicBool,
    scanned_bytes: AtomicU64,
    /// Which bound was met first; 0 is none.
    met: AtomicU8,
}

const TIME: u8 = 1;
const SCANNED: u8 = 2;
const MEMORY: u8 = 3;

impl<'a> Bounds<'a> {
    pub(crate) fn new(
        limits: &QueryLimits,
        elapsed: &'a (dyn Fn() -> Duration + Sync),
        cancelled: &'a AtomicBool,
    ) -> Self {
        Self {
            threads: limits.threads_per_search.max(1),
            time_max: limits.time_max,
            memory_bytes_max: limits.memory_bytes_max,
            scanned_bytes_max: limits.scanned_bytes_max,
            elapsed,
            cancelled,
            scanned_bytes: AtomicU64::new(0),
            met: AtomicU8::new(0),
        }
    }

    /// Whether the query should end with what it has.
    pub(crate) fn exceeded(&self) -> bool {
        if (self.elapsed)() > self.time_max {
            self.meet(TIME);
        }
        self.met.load(Ordering::Relaxed) != 0 || self.cancelled()
    }

    /// Whether nobody waits for the answer any more.
    pub(crate) fn cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn meet(&self, bound: u8) {
        // The first one counts, so it does not matter if there was one already.
        let _ = self.met.compare_exchange(0, bound, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// What the cells of series may take in one thread.
    pub(crate) fn cell_bytes_max(&self) -> usize {
        self.memory_bytes_max / 2 / self.threads
    }

    /// How many points the series of one function may have.
    pub(crate) fn points_max(&self) -> usize {
        self.memory_bytes_max / 8 / size_of::<Option<f64>>()
    }

    /// How many points there may be, in words.
    pub(crate) fn too_many_points(&self, made: usize, total: usize, what: &str) -> String {
        let most = self.points_max();
        format!("{made} of {total} {what}: all have more than {most} points; choose a longer step or a narrower query")
    }

    /// How many spans one thread may put together at once.
    pub(crate) fn spans_at_once_max(&self) -> usize {
        (self.memory_bytes_max / 4 / self.threads / SPAN_BYTES).max(1)
    }

    /// What knowing where traces stand may take.
    pub(crate) fn whereabouts_bytes_max(&self) -> usize {
        self.memory_bytes_max / 8
    }

    /// Ends the query if its candidates, which take so many bytes now, are too many.
    pub(crate) fn hold_candidates(&self, bytes: usize) {
        if bytes > self.memory_bytes_max / 4 {
            self.meet(MEMORY);
        }
    }

    /// Reads columns of a row group as [`OpenFile::scan`] does, and counts their bytes.
    pub(crate) fn scan(
        &self,
        open: &OpenFile,
        row_group: usize,
        columns: &[&str],
        selection: Option<RowSelection>,
        form: StringForm,
    ) -> Result<Batches, ParquetError> {
        let rows = open.rows_of(row_group).max(1);
        let selected = selection.as_ref().map_or(rows, RowSelection::row_count);
        self.count_scanned(open.bytes_of(row_group, Some(columns)), selected, rows);
        open.scan(row_group, columns, selection, form, selected.max(1))
    }

    /// Counts a part of some bytes as read.
    pub(crate) fn count_scanned(&self, bytes: u64, part: usize, whole: usize) {
        let read = (u128::from(bytes) * part as u128 / whole.max(1) as u128) as u64;
        if self.scanned_bytes.fetch_add(read, Ordering::Relaxed) + read > self.scanned_bytes_max {
            self.meet(SCANNED);
        }
    }

    /// Bytes of columns that were read, as they are in files.
    pub(crate) fn scanned_bytes(&self) -> u64 {
        self.scanned_bytes.load(Ordering::Relaxed)
    }

    /// Does so many pieces of work, several at once, until the time is up; gives the sum of what they give.
    pub(crate) fn side_by_side<T: AddAssign + Default + Send>(
        &self,
        pieces: usize,
        work: impl Fn(usize) -> Result<T, ParquetError> + Sync,
    ) -> Result<T, ParquetError> {
        let (next, sum) = (AtomicUsize::new(0), Mutex::new(T::default()));
        let some = || {
            loop {
                let piece = next.fetch_add(1, Ordering::Relaxed);
                if piece >= pieces || self.exceeded() {
                    return Ok(());
                }
                let done = work(piece)?;
                *sum.lock() += done;
            }
        };
        self.on_threads(pieces, some, || ParquetError::General("a part of the query panicked".into()))?;
        Ok(sum.into_inner())
    }

    /// Does so many pieces of work, several at once, until the time is up. Each thread adds to something of its own, which
    /// `begin` makes; gives all of them, and how many pieces were done.
    pub(crate) fn gather<T: Send>(
        &self,
        pieces: usize,
        begin: impl Fn() -> T + Sync,
        work: impl Fn(usize, &mut T) -> Result<(), ReadError> + Sync,
    ) -> Result<(Vec<T>, usize), ReadError> {
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let all = Mutex::new(Vec::new());
        let some = || {
            let mut own = begin();
            loop {
                let piece = next.fetch_add(1, Ordering::Relaxed);
                if piece >= pieces || self.exceeded() {
                    break;
                }
                work(piece, &mut own)?;
                // What was ended in the middle is not done.
                if self.exceeded() {
                    break;
                }
                done.fetch_add(1, Ordering::Relaxed);
            }
            all.lock().push(own);
            Ok(())
        };
        self.on_threads(pieces, some, || ReadError {
            path: String::new(),
            source: ParquetError::General("a part of the query panicked".into()),
        })?;
        Ok((all.into_inner(), done.into_inner()))
    }

    /// Why a query ended early and how far it came, in words.
    pub(crate) fn stopped(&self, done: usize, total: usize, what: &str) -> String {
        let bound = match self.met.load(Ordering::Relaxed) {
            SCANNED => format!("after reading {}", size(self.scanned_bytes_max)),
            MEMORY => format!("at {} of memory", size(self.memory_bytes_max as u64)),
            _ => format!("after {:.1} s", self.time_max.as_secs_f64()),
        };
        format!("stopped {bound}: {done} of {total} {what}; ask for a shorter time range or a narrower query")
    }

    /// Runs the same function on as many threads as there are, or as there are pieces of work.
    pub(crate) fn on_threads<E: Send>(
        &self,
        pieces: usize,
        work: impl Fn() -> Result<(), E> + Sync,
        panicked: impl Fn() -> E,
    ) -> Result<(), E> {
        let helpers = self.threads.min(pieces).saturating_sub(1);
        std::thread::scope(|scope| {
            let handles: Vec<_> = (0..helpers).map(|_| scope.spawn(&work)).collect();
            let mut outcome = work();
            for handle in handles {
                outcome = outcome.and(handle.join().unwrap_or_else(|_| Err(panicked())));
            }
            outcome
        })
    }
}

fn size(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    if bytes < MIB { format!("{bytes} B") } else { format!("{} MiB", bytes / MIB) }
}
