//! Any bytes as what a stored file says of itself, its index, its names, its filter over trace ids: no panic, no more memory than
//! the bytes are worth.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracehouse_memory::{CountingAllocator, in_use_bytes, peak_bytes, restart_peak};
use tracehouse_store::any_bytes::{NAMES_BYTES_MAX, read_filter, read_index, read_names};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// A byte of JSON may be a column of a schema, nearly.
const ALLOCATED_PER_BYTE: usize = 256;
/// What names of a few bytes, compressed, may be unpacked to, and what is made of that; and what is made once.
const ALLOCATED: usize = NAMES_BYTES_MAX * ALLOCATED_PER_BYTE;

fuzz_target!(|bytes: &[u8]| {
    let before = in_use_bytes();
    restart_peak();
    read_index(bytes);
    read_names(bytes);
    read_filter(bytes);
    let peak = peak_bytes().saturating_sub(before);
    assert!(peak <= ALLOCATED + bytes.len() * ALLOCATED_PER_BYTE, "{peak} bytes for {}", bytes.len());
});
