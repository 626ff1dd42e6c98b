//! Any bytes as an OTLP request in protobuf: no panic, a batch that holds together, and agreement with the generated
//! decoder on what is readable and on how many spans there are.
#![no_main]

use libfuzzer_sys::fuzz_target;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message;
use tracehouse_model::{Limits, SpanBatch};
use tracehouse_otlp::{DecodeError, Decoded, WireError, protobuf};

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
    if let Ok(decoded) = protobuf::decode_export_request(bytes, &narrow) {
        check(&decoded);
    }
    let ours = protobuf::decode_export_request(bytes, &Limits::default());
    if let Ok(decoded) = &ours {
        check(decoded);
    }
    let Ok(oracle) = ExportTraceServiceRequest::decode(bytes) else { return };
    let scopes = oracle.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
    let spans: usize = scopes.map(|scope| scope.spans.len()).sum();
    match ours {
        Ok(decoded) => assert_eq!(decoded.batch.len() as u64 + decoded.rejected.count(), spans as u64),
        // Groups, which no OTLP message has, are refused.
        Err(DecodeError::Protobuf(WireError::WireType)) => {}
        Err(error) => panic!("the generated decoder reads it: {error}"),
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
