use std::process::ExitCode;

/// Returns memory to the system sooner and splits it less than the C library's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    tracehouse_server::run()
}
