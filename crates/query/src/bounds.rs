//! What a query may use, and work done side by side within that.

use std::ops::AddAssign;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use parquet::errors::ParquetError;
use tracehouse_store::ReadError;

/// What bounds a query besides its own limit.
pub(crate) struct Bounds<'a> {
    pub(crate) threads: usize,
    pub(crate) time_max: Duration,
    pub(crate) elapsed: &'a (dyn Fn() -> Duration + Sync),
    /// Set when nobody waits for the answer any more.
    pub(crate) cancelled: &'a AtomicBool,
}

impl Bounds<'_> {
    pub(crate) fn exceeded(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed) || (self.elapsed)() > self.time_max
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

    /// How long a query may take, in words.
    pub(crate) fn stopped(&self, done: usize, total: usize, what: &str) -> String {
        format!("stopped after {:.1} s: {done} of {total} {what}", self.time_max.as_secs_f64())
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
