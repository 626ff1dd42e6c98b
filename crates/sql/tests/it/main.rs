//! SQL over spans in memory, in files and in both, against answers worked out by hand; what is read; what is refused.

mod amounts;
mod answers;
mod doubles;
mod growth;
mod hidden;
mod ids;
mod integers;
mod keys;
mod languages;
mod limits;
mod page;
mod pushdown;
mod shared_ids;
mod shop;

/// Counts what statements allocate.
#[global_allocator]
static ALLOCATOR: tracehouse_memory::CountingAllocator = tracehouse_memory::CountingAllocator;
