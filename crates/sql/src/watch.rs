//! One statement while it runs: its time, whether anybody waits for it, and its memory.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use std::time::Duration;

use datafusion::common::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryLimit, MemoryPool, MemoryReservation};
use parking_lot::Mutex;
use tokio::time::Instant;
use tracehouse_memory::{Account, OutOfMemory, Pool, Tally, limit_bytes, over_limit};
use tracehouse_model::Clock;
use tracehouse_scan::{Bounds, Held, Limits};

/// What a statement may allocate beside what its operators ask for: its plan, and the batches that are on their way.
const UNASKED_BYTES_MAX: usize = 16 << 20;

/// Asked by everything that works for a statement, between any two steps, whether to go on.
///
/// Operators ask for memory before they gather rows. What they do not ask for is seen by the allocator's count of the
/// statement's threads, and taken from the same pool.
#[derive(Debug)]
pub(crate) struct Watch {
    ends: Instant,
    /// Its scans look at this too.
    stopped: Arc<AtomicBool>,
    pool: Pool,
    /// What operators asked for.
    asked: Mutex<Account>,
    /// What its scans may use; the pool of it counts what they hold.
    bounds: Bounds,
    scan_pool: Pool,
    /// What was taken for the answer, which has it for longer than the statement runs.
    answer_bytes: AtomicUsize,
    /// What was allocated all the same.
    unasked: Mutex<Account>,
    /// `None` if too many are counted already.
    tally: Option<Tally>,
}

/// Why a statement does not go on, though nothing is wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Stopped {
    #[error("its time is up")]
    TimeIsUp,
    #[error("nobody waits for it any more")]
    NobodyWaits,
}

impl Stopped {
    /// Why an error ended a statement, if it is no real one.
    pub(crate) fn of(error: &DataFusionError) -> Option<Stopped> {
        match error.find_root() {
            DataFusionError::External(inner) => inner.downcast_ref::<Stopped>().copied(),
            _ => None,
        }
    }
}

impl Watch {
    pub(crate) fn new(pool: &Pool, ends: Instant, clock: Arc<dyn Clock>) -> Self {
        // Its time is looked at here, between the steps of a scan.
        let limits = Limits { threads: 1, time_max: Duration::MAX, scanned_bytes_max: u64::MAX };
        let (scan_pool, stopped) = (pool.share(pool.bytes_max()), Arc::<AtomicBool>::default());
        Self {
            bounds: Bounds::new(limits, scan_pool.clone(), clock, stopped.clone()),
            scan_pool,
            ends,
            stopped,
            pool: pool.clone(),
            asked: Mutex::new(pool.account()),
            answer_bytes: AtomicUsize::new(0),
            unasked: Mutex::new(pool.account()),
            tally: Tally::begin(),
        }
    }

    /// An error if the statement must not go on.
    pub(crate) fn check(&self) -> Result<()> {
        if self.stopped.load(Ordering::Relaxed) {
            return Err(DataFusionError::External(Box::new(Stopped::NobodyWaits)));
        }
        if Instant::now() >= self.ends {
            return Err(DataFusionError::External(Box::new(Stopped::TimeIsUp)));
        }
        if over_limit() {
            let most = limit_bytes();
            let detail = format!("the server has allocated more than its {most} bytes; try again in a moment");
            return Err(DataFusionError::ResourcesExhausted(detail));
        }
        self.count_unasked()
    }

    /// Lets the statement end at its next step.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Time until it ends.
    pub(crate) fn time_left(&self) -> Duration {
        self.ends.saturating_duration_since(Instant::now())
    }

    /// Called by each thread of the statement as it begins.
    pub(crate) fn enter(&self) {
        if let Some(tally) = &self.tally {
            tally.enter();
        }
    }

    /// Called by each thread of the statement as it ends.
    pub(crate) fn leave() {
        Tally::leave();
    }

    /// What its scans may use.
    pub(crate) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    /// For the answer, which outlives the statement.
    pub(crate) fn hold_answer(&self) -> Held {
        Held::of(&self.pool)
    }

    /// Takes memory for a part of the answer, before it is allocated.
    pub(crate) fn take_for_answer(&self, held: &mut Held, bytes: usize) -> std::result::Result<(), OutOfMemory> {
        held.take(bytes)?;
        self.answer_bytes.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }

    /// What it has allocated, or asked for.
    pub(crate) fn bytes(&self) -> usize {
        self.asked.lock().bytes() + self.scan_pool.bytes_taken() + self.unasked.lock().bytes()
    }

    fn count_unasked(&self) -> Result<()> {
        let Some(tally) = &self.tally else { return Ok(()) };
        let for_answer = self.answer_bytes.load(Ordering::Relaxed);
        let asked = self.asked.lock().bytes() + self.scan_pool.bytes_taken() + for_answer;
        let free = asked + UNASKED_BYTES_MAX;
        let unasked = tally.bytes().saturating_sub(free);
        let grown = self.unasked.lock().try_resize(unasked);
        grown.map_err(|error| {
            DataFusionError::ResourcesExhausted(format!("it has allocated {} bytes: {error}", tally.bytes()))
        })
    }
}

impl fmt::Display for Watch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} of {} bytes", self.bytes(), self.pool.bytes_max())
    }
}

impl MemoryPool for Watch {
    fn name(&self) -> &str {
        "statement"
    }

    fn grow(&self, _: &MemoryReservation, additional: usize) {
        self.asked.lock().grow(additional);
    }

    fn shrink(&self, _: &MemoryReservation, shrink: usize) {
        self.asked.lock().shrink(shrink);
    }

    fn try_grow(&self, reservation: &MemoryReservation, additional: usize) -> Result<()> {
        self.asked.lock().try_grow(additional).map_err(|error| {
            let consumer = reservation.consumer().name();
            DataFusionError::ResourcesExhausted(format!("{consumer}: {error}"))
        })
    }

    fn reserved(&self) -> usize {
        self.asked.lock().bytes()
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(self.pool.bytes_max())
    }
}
