use std::process::ExitCode;

/// Counts what the whole process has allocated: `memory_bytes_max` bounds it.
#[global_allocator]
static ALLOCATOR: tracehouse_memory::CountingAllocator = tracehouse_memory::CountingAllocator;

fn main() -> ExitCode {
    tracehouse_server::run()
}
