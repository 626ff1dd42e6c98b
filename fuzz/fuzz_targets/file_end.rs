#![no_main]
//! What a file says of itself: its index, its names, its filter over trace ids.

use libfuzzer_sys::fuzz_target;
use tracehouse_spanfile::any_bytes::{read_filter, read_index, read_names};

fuzz_target!(|bytes: &[u8]| {
    read_index(bytes);
    read_names(bytes);
    read_filter(bytes);
});
