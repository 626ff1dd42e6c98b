//! Requests that are small as sent and would be large in memory, or much work for nothing.

use tracehouse_model::Limits;
use tracehouse_otlp::{DecodeError, Decoded, Excess, json, protobuf};

const MIB: usize = 1024 * 1024;
/// A request of this size is decoded whole; one of a tenth could not show what grows.
const REQUEST_BYTES: usize = 16 * MIB;

fn varint(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A length-delimited field.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2][..], &varint(content.len()), content].concat()
}

/// The part as often as it fits.
fn filled(part: &[u8], bytes: usize) -> Vec<u8> {
    part.repeat(bytes / part.len())
}

fn span(fields: &[u8]) -> Vec<u8> {
    let start = [&[0x39][..], &[7; 8]].concat();
    field(2, &[field(1, &[1; 16]), field(2, &[2; 8]), start, fields.to_vec()].concat())
}

fn in_resource(content: &[u8]) -> Vec<u8> {
    field(1, content)
}

fn in_scope(content: &[u8]) -> Vec<u8> {
    in_resource(&field(2, content))
}

fn in_span(content: &[u8]) -> Vec<u8> {
    in_scope(&span(content))
}

/// The smallest parts of each kind, as often as they fit into a request.
fn protobuf_requests() -> Vec<(&'static str, Vec<u8>)> {
    let array = |number| field(9, &field(2, &field(number, &filled(&field(1, &[]), REQUEST_BYTES / 2))));
    vec![
        ("resources", filled(&in_resource(&[]), REQUEST_BYTES)),
        ("scopes", in_resource(&filled(&field(2, &[]), REQUEST_BYTES))),
        ("scopes with an empty scope", in_resource(&filled(&field(2, &field(1, &[])), REQUEST_BYTES))),
        ("spans", in_scope(&filled(&field(2, &[]), REQUEST_BYTES))),
        ("attributes", in_span(&filled(&field(9, &[]), REQUEST_BYTES))),
        ("events", in_span(&filled(&field(11, &[]), REQUEST_BYTES))),
        ("links", in_span(&filled(&field(13, &[]), REQUEST_BYTES))),
        ("elements", in_span(&array(5))),
        ("entries", in_span(&array(6))),
        (
            "resource attributes",
            in_resource(&[field(1, &filled(&field(1, &[]), REQUEST_BYTES)), field(2, &span(&[]))].concat()),
        ),
        (
            "spans with many small links",
            in_scope(&filled(&span(&field(13, &field(3, b"s")).repeat(1024)), REQUEST_BYTES)),
        ),
        ("spans with many small events", in_scope(&filled(&span(&field(11, &[0x20, 1]).repeat(1024)), REQUEST_BYTES))),
        ("spans with nothing but ids", in_scope(&filled(&span(&[]), REQUEST_BYTES))),
    ]
}

fn json_requests() -> Vec<(&'static str, Vec<u8>)> {
    let ids = r#""traceId":"01010101010101010101010101010101","spanId":"0202020202020202","startTimeUnixNano":"7""#;
    let list = |part: &str| format!("{part},").repeat(REQUEST_BYTES / (part.len() + 1)) + part;
    let request = |resources: &str| format!(r#"{{"resourceSpans":[{resources}]}}"#).into_bytes();
    let in_resource = |scopes: &str| request(&format!(r#"{{"scopeSpans":[{scopes}]}}"#));
    let in_scope = |spans: &str| in_resource(&format!(r#"{{"spans":[{spans}]}}"#));
    let in_span = |fields: &str| in_scope(&format!("{{{ids},{fields}}}"));
    vec![
        ("resources", request(&list("{}"))),
        ("scopes", in_resource(&list("{}"))),
        ("spans", in_scope(&list("{}"))),
        ("attributes", in_span(&format!(r#""attributes":[{}]"#, list("{}")))),
        ("events", in_span(&format!(r#""events":[{}]"#, list("{}")))),
        ("links", in_span(&format!(r#""links":[{}]"#, list("{}")))),
        ("wrong spans", in_scope(&list("0"))),
        ("wrong attributes", in_span(&format!(r#""attributes":[{}]"#, list("0")))),
        ("wrong events", in_span(&format!(r#""events":[{}]"#, list("0")))),
        ("elements", in_span(&format!(r#""attributes":[{{"value":{{"arrayValue":{{"values":[{}]}}}}}}]"#, list("{}")))),
    ]
}

fn check(what: &str, decoded: Result<Decoded, DecodeError>, limits: &Limits) {
    /// Vectors double when they grow.
    const SPARE: usize = 2;
    match decoded {
        Ok(Decoded { batch, .. }) => {
            let bytes_max = SPARE * 2 * limits.decompressed_bytes_max + MIB;
            assert!(batch.memory_bytes() <= bytes_max, "{what}: {} MiB", batch.memory_bytes() / MIB);
            let rows = batch.len().min(1);
            assert!(batch.resources.service_name.len() <= rows && batch.scopes.name.len() <= rows, "{what}");
        }
        Err(DecodeError::Excess(_)) => {}
        Err(error) => panic!("{what}: {error}"),
    }
}

#[test]
fn many_small_parts_stay_in_proportion() {
    let limits = Limits { decompressed_bytes_max: REQUEST_BYTES, ..Limits::default() };
    for (what, request) in protobuf_requests() {
        check(what, protobuf::decode_export_request(&request, &limits), &limits);
    }
    for (what, request) in json_requests() {
        check(what, json::decode_export_request(&request, &limits), &limits);
    }
}

/// Parts of two bytes: the request is given up after some of them.
#[test]
fn parts_that_hold_nothing_end_the_request() {
    let empty = |number, bytes| filled(&field(number, &[]), bytes);
    let requests = [
        in_resource(&empty(2, REQUEST_BYTES)),
        empty(1, REQUEST_BYTES),
        in_scope(&empty(2, REQUEST_BYTES)),
        in_span(&empty(9, REQUEST_BYTES)),
        in_span(&empty(11, REQUEST_BYTES)),
        in_span(&empty(13, REQUEST_BYTES)),
    ];
    for request in requests {
        let refused = protobuf::decode_export_request(&request, &Limits::default());
        assert!(matches!(refused, Err(DecodeError::Excess(Excess::Parts { .. }))));
    }
    for (what, request) in json_requests() {
        // Of an array the first elements are the value, and the rest is passed over.
        if what != "elements" {
            let refused = json::decode_export_request(&request, &Limits::default());
            assert!(matches!(refused, Err(DecodeError::Excess(Excess::Parts { .. }))), "{what}");
        }
    }
}

/// Links of five bytes take forty in memory.
#[test]
fn spans_that_take_too_much_memory_are_refused_with_the_limit() {
    let limits = Limits { decompressed_bytes_max: MIB, ..Limits::default() };
    let spans = filled(&span(&field(13, &field(3, b"s")).repeat(1024)), MIB);
    let refused = protobuf::decode_export_request(&in_scope(&spans), &limits).map(|_| ()).expect_err("refused");
    assert!(refused.to_string().contains("more than 2097152 bytes in memory; send smaller batches"), "{refused}");
}
