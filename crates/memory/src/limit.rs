//! How much the process may have allocated.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::allocator::in_use_bytes;
use crate::group::memory_bytes_in;

/// The share of its memory that a process allocates: the rest is for what the allocator holds beyond that, for stacks, for
/// the system's tables, and for pages of files.
const LIMIT_PERCENT: u64 = 60;

/// None until one is set.
static LIMIT_BYTES: AtomicUsize = AtomicUsize::new(usize::MAX);

/// What the process may have allocated if nothing else is configured: 60 % of what its memory group, or else the machine, has;
/// 0 if the system does not tell.
pub fn default_limit_bytes() -> u64 {
    memory_bytes_in(Path::new("/")).unwrap_or(0) / 100 * LIMIT_PERCENT
}

/// Sets what the process may have allocated; 0 is no limit.
pub fn set_limit_bytes(bytes: u64) {
    let limit = if bytes == 0 { usize::MAX } else { usize::try_from(bytes).unwrap_or(usize::MAX) };
    LIMIT_BYTES.store(limit, Ordering::Relaxed);
}

/// What the process may have allocated; `usize::MAX` if there is no limit.
pub fn limit_bytes() -> usize {
    LIMIT_BYTES.load(Ordering::Relaxed)
}

/// Whether the process has allocated more than it may. Work that can be ended should end.
pub fn over_limit() -> bool {
    !has_room_for(0)
}

/// Whether the process may allocate so many bytes more.
pub fn has_room_for(bytes: usize) -> bool {
    in_use_bytes().saturating_add(bytes) <= limit_bytes()
}
