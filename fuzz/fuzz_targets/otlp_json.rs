//! Any text as an OTLP request in JSON: no panic, no overflow of the stack, a batch that holds together, whose spans the
//! protobuf decoder reads alike. And any JSON in the place of a span or an attribute: good ones beside it are kept.
#![no_main]

#[path = "../../crates/otlp/tests/it/same_spans.rs"]
mod same_spans;

use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;
use tracehouse_model::{Limits, SpanBatch};
use tracehouse_otlp::{Decoded, json};

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
    // Another reader's word on what is JSON; it does not look into texts, as ours does not.
    let is_json = serde_json::from_slice::<IgnoredAny>(bytes).is_ok();
    if let Some(decoded) = &decoded[1] {
        assert!(is_json || bytes.starts_with(b"\xef\xbb\xbf"), "what was read is no JSON");
        same_spans::assert_same_in_protobuf(decoded);
    }
    if is_json {
        same_spans::assert_good_ones_are_kept_beside(bytes);
    }
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
    let refused = decoded.rejected.count() + decoded.rejected.wrong_attributes() + decoded.rejected.wrong_owner_fields();
    assert_eq!(refused == 0, decoded.rejected.message().is_empty(), "what is left out is told, and nothing else");
}
