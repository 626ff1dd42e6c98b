#![no_main]
//! A whole file with other bytes in some places.

use std::cell::OnceCell;

use libfuzzer_sys::fuzz_target;
use tracehouse_spanfile::sample::Sample;

thread_local! {
    static SAMPLE: OnceCell<Sample> = const { OnceCell::new() };
}

fuzz_target!(|patches: &[u8]| {
    SAMPLE.with(|sample| {
        let path = std::env::temp_dir().join(format!("tracehouse-fuzz-{}.parquet", std::process::id()));
        sample.get_or_init(|| Sample::write(&path)).read_patched(patches);
    });
});
