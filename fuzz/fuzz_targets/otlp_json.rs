//! Any text as an OTLP request in JSON: no panic, no overflow of the stack, a batch that holds together.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tracehouse_model::{Limits, SpanBatch};
use tracehouse_receive::{Decoded, json};

fuzz_target!(|bytes: &[u8]| {
    let narrow = Limits {
        attribute_value_bytes_max: 7,
        attributes_per_span_max: 3,
        events_per_span_max: 2,
        links_per_span_max: 2,
        name_bytes_max: 5,
        value_depth_max: 2,
        ..Limits::default()
    };
    let decoded = [&narrow, &Limits::default()].map(|limits| json::decode_export_request(bytes, limits).ok());
    // What is over a limit is not looked at, so narrow limits may read more, never less.
    assert!(decoded[0].is_some() || decoded[1].is_none());
    decoded.iter().flatten().for_each(check);
});

fn check(decoded: &Decoded) {
    let mut encoded = Vec::new();
    decoded.batch.clone().into_exact().encode(&mut encoded);
    assert!(SpanBatch::decode(&encoded).is_ok(), "the batch contradicts itself");
    for row in 0..decoded.batch.len() {
        let span = decoded.batch.span(row);
        assert!(!span.trace_id.is_none() && !span.span_id.is_none());
        assert!(span.start_unix_nanos > 0 && span.duration_nanos >= 0);
    }
    assert_eq!(decoded.rejected.count() == 0, decoded.rejected.message().is_empty());
}
