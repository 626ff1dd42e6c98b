//! Counts of what some threads have allocated.

use std::sync::atomic::{AtomicIsize, AtomicU64, Ordering};

use crate::allocator::count_for;

/// So many tallies may be there at once.
pub const TALLIES_MAX: usize = 64;

/// Of threads that work for no tally.
pub(crate) const NONE: u8 = u8::MAX;

static BYTES: [AtomicIsize; TALLIES_MAX] = [const { AtomicIsize::new(0) }; TALLIES_MAX];
/// A bit for each that is in use.
static TAKEN: AtomicU64 = AtomicU64::new(0);

pub(crate) fn add(tally: u8, bytes: isize) {
    if let Some(count) = BYTES.get(usize::from(tally)) {
        count.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What the threads that work for it have allocated and not freed. What other threads free of it stays counted, and what they
/// free of others' is taken off: it is for work that keeps its memory to its own threads.
#[derive(Debug)]
pub struct Tally(u8);

impl Tally {
    /// A tally at zero; `None` if all are in use.
    pub fn begin() -> Option<Self> {
        let free = |taken: u64| (taken != u64::MAX).then(|| taken | (taken + 1));
        let before = TAKEN.fetch_update(Ordering::AcqRel, Ordering::Acquire, free).ok()?;
        let place = before.trailing_ones() as u8;
        BYTES[usize::from(place)].store(0, Ordering::Relaxed);
        Some(Self(place))
    }

    /// Counts from now on what the calling thread allocates.
    pub fn enter(&self) {
        count_for(self.0);
    }

    /// Lets the calling thread count for no tally any more. Threads leave before the tally is dropped.
    pub fn leave() {
        count_for(NONE);
    }

    /// Bytes allocated and not freed, up to [`crate::PENDING_BYTES_MAX`] more or less for each thread.
    pub fn bytes(&self) -> usize {
        BYTES[usize::from(self.0)].load(Ordering::Relaxed).max(0) as usize
    }
}

impl Drop for Tally {
    fn drop(&mut self) {
        TAKEN.fetch_and(!(1 << self.0), Ordering::AcqRel);
    }
}
