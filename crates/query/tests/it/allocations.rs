//! Counts what this process allocates, so that tests can say how much a question took.

use tracehouse_memory::{CountingAllocator, in_use_bytes, peak_bytes, restart_peak};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// What some work gives, and how many bytes it held at once at most. Other tests in the same process would be counted too:
/// each test runs in a process of its own.
pub(crate) async fn peak_of<T>(work: impl Future<Output = T>) -> (T, usize) {
    let before = in_use_bytes();
    restart_peak();
    let done = work.await;
    (done, peak_bytes().saturating_sub(before))
}
