//! How much memory the process has, and who may take how much of it.
//!
//! [`CountingAllocator`] is the process's allocator: it counts every byte that is allocated, so that [`in_use_bytes`] and
//! [`over_limit`] do not depend on anybody's good will. A [`Pool`] is what all queries together may hold, an [`Account`] one
//! query's part of it; an account refuses to grow when its pool has no room, and when the process is over its limit. A
//! [`Tally`] counts what the threads of one piece of work have allocated.
//!
//! Where the limit comes from: [`default_limit_bytes`] reads what the memory group of the process, or the machine, has.
//!
//! Invariants: no more than [`PENDING_BYTES_MAX`] for each thread is missing from the counts; nothing is lost from them
//! when a thread ends; the allocator allocates nothing itself.
//!
//! This crate must never know what the memory is used for.
//!
//! Tests: `tests/it` has the allocator as that of its own process; the others are beside their code.

mod allocator;
mod group;
mod limit;
mod pool;
mod tally;

pub use allocator::{CountingAllocator, PENDING_BYTES_MAX, in_use_bytes, peak_bytes, restart_peak};
pub use group::memory_bytes_in;
pub use limit::{default_limit_bytes, has_room_for, limit_bytes, over_limit, set_limit_bytes};
pub use pool::{Account, OutOfMemory, Pool, Whose};
pub use tally::{TALLIES_MAX, Tally};
