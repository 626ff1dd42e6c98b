//! What was encoded is decoded to the same spans, in protobuf and in JSON.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use proptest::prelude::*;
use prost::Message;
use tracehouse_model::{Limits, Marks, Span, SpanBatch};
use tracehouse_otlp::encode::json::{Form, resource_spans as to_json};
use tracehouse_otlp::encode::resource_spans;
use tracehouse_otlp::{json, json_writer, protobuf};

use crate::oracle::request;

/// The spans in words, sorted, as encoding groups them by resource. What was repaired when it came in needs no repair again, so
/// its marks are left out.
fn spans(batch: &SpanBatch) -> Vec<String> {
    let in_words = |row| format!("{:#?}", Span { marks: Marks::default(), ..batch.span(row) });
    let mut spans: Vec<String> = (0..batch.len()).map(in_words).collect();
    spans.sort();
    spans
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_encoded_is_decoded_to_the_same_spans(request in request()) {
        let limits = Limits::default();
        let kept = protobuf::decode_export_request(&request.encode_to_vec(), &limits).expect("protobuf").batch;
        let encoded = ExportTraceServiceRequest { resource_spans: resource_spans(&kept).collect() };
        let again = protobuf::decode_export_request(&encoded.encode_to_vec(), &limits).expect("protobuf");
        prop_assert_eq!(again.rejected.count(), 0);
        prop_assert_eq!(spans(&again.batch), spans(&kept));
        let mut text = b"{\"resourceSpans\":".to_vec();
        json_writer::array(&mut text, &encoded.resource_spans, |out, message| to_json(out, Form::Otlp, message));
        text.push(b'}');
        let again = json::decode_export_request(&text, &limits).expect("JSON");
        prop_assert_eq!(again.rejected.count(), 0);
        prop_assert_eq!(spans(&again.batch), spans(&kept));
    }
}
