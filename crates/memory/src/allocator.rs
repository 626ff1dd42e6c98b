//! The allocator of the process, and its counts.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicIsize, Ordering};

use mimalloc::MiMalloc;

use crate::tally;

/// A thread counts for itself until this many bytes have come together, so that most calls touch nothing that threads
/// share: an allocation costs a nanosecond more.
pub const PENDING_BYTES_MAX: usize = 32 << 10;

/// May be below zero for a moment: one thread's frees may be counted before another's allocations.
static IN_USE_BYTES: AtomicIsize = AtomicIsize::new(0);
static PEAK_BYTES: AtomicIsize = AtomicIsize::new(0);

/// Mimalloc, and a count of what it was asked for. Mimalloc returns memory to the system sooner and splits it less than the
/// C library's allocator, but holds somewhat more from the system than is counted here.
pub struct CountingAllocator;

/// What a thread has not added to the counts of all yet.
struct Pending {
    bytes: Cell<isize>,
    /// The tally that the thread works for.
    tally: Cell<u8>,
}

impl Drop for Pending {
    /// What a thread leaves behind counts too, or the counts would be off by a little more with each thread.
    fn drop(&mut self) {
        publish(self.bytes.get(), self.tally.get());
    }
}

thread_local! {
    static PENDING: Pending = const { Pending { bytes: Cell::new(0), tally: Cell::new(tally::NONE) } };
}

#[inline]
fn count(bytes: isize) {
    let counted = PENDING.try_with(|pending| {
        let together = pending.bytes.get() + bytes;
        if together.unsigned_abs() < PENDING_BYTES_MAX {
            pending.bytes.set(together);
        } else {
            pending.bytes.set(0);
            publish(together, pending.tally.get());
        }
    });
    // The thread is about to end: nothing is kept for later.
    if counted.is_err() {
        publish(bytes, tally::NONE);
    }
}

#[cold]
fn publish(bytes: isize, of: u8) {
    let now = IN_USE_BYTES.fetch_add(bytes, Ordering::Relaxed) + bytes;
    if now > PEAK_BYTES.load(Ordering::Relaxed) {
        PEAK_BYTES.fetch_max(now, Ordering::Relaxed);
    }
    tally::add(of, bytes);
}

/// Lets this thread count for a tally from now on.
pub(crate) fn count_for(tally: u8) {
    // A thread that is about to end counts for nobody.
    let _ = PENDING.try_with(|pending| {
        publish(pending.bytes.take(), pending.tally.replace(tally));
    });
}

// Sizes are below isize::MAX: `Layout` says so.
#[allow(unsafe_code, reason = "an allocator is unsafe to implement; every call goes to mimalloc as it came")]
unsafe impl GlobalAlloc for CountingAllocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `GlobalAlloc`.
        let block = unsafe { MiMalloc.alloc(layout) };
        if !block.is_null() {
            count(layout.size() as isize);
        }
        block
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        let block = unsafe { MiMalloc.alloc_zeroed(layout) };
        if !block.is_null() {
            count(layout.size() as isize);
        }
        block
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { MiMalloc.dealloc(block, layout) };
        count(-(layout.size() as isize));
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: as above.
        let moved = unsafe { MiMalloc.realloc(block, layout, new_size) };
        if !moved.is_null() {
            count(new_size as isize - layout.size() as isize);
        }
        moved
    }
}

/// Bytes that are allocated now, up to [`PENDING_BYTES_MAX`] more or less for each thread. 0 in a process with another
/// allocator.
pub fn in_use_bytes() -> usize {
    IN_USE_BYTES.load(Ordering::Relaxed).max(0) as usize
}

/// The most bytes that were ever allocated at once, or since [`restart_peak`].
pub fn peak_bytes() -> usize {
    PEAK_BYTES.load(Ordering::Relaxed).max(0) as usize
}

/// Lets the peak begin anew, at what is in use now.
pub fn restart_peak() {
    PEAK_BYTES.store(IN_USE_BYTES.load(Ordering::Relaxed), Ordering::Relaxed);
}
