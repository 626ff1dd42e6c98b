//! What no encoder of generated structs would write, but a receiver must read: fields in any order, more than once,
//! unknown, wrong; and what limits do.

use tracehouse_model::{AnyValue, Limits, Marks, Span};
use tracehouse_otlp::{DecodeError, Decoded, WireError, protobuf};

use crate::samples::{attribute, request, span, text};

/// Encodes a length-delimited field.
fn field(number: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = vec![number << 3 | 2];
    let mut length = content.len();
    while length >= 0x80 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend_from_slice(content);
    bytes
}

fn fixed64(number: u8, value: u64) -> Vec<u8> {
    [&[number << 3 | 1][..], &value.to_le_bytes()].concat()
}

fn key_value(key: &str, value: &[u8]) -> Vec<u8> {
    [field(1, key.as_bytes()), field(2, value)].concat()
}

/// Ids and times of a span that is not refused.
fn fixed_fields() -> Vec<u8> {
    [field(1, &[1; 16]), field(2, &[2; 8]), fixed64(7, 1000), fixed64(8, 1500)].concat()
}

/// A request with one span that has these fields as well.
fn request_with(span_fields: &[u8]) -> Vec<u8> {
    field(1, &field(2, &field(2, &[&fixed_fields(), span_fields].concat())))
}

fn decode(bytes: &[u8]) -> Result<Decoded, DecodeError> {
    protobuf::decode_export_request(bytes, &Limits::default())
}

fn only_span(bytes: &[u8]) -> Span {
    let decoded = decode(bytes).expect("readable");
    assert_eq!((decoded.batch.len(), decoded.rejected.count()), (1, 0), "{}", decoded.rejected.message());
    decoded.batch.span(0)
}

fn only_span_within(span: opentelemetry_proto::tonic::trace::v1::Span, limits: &Limits) -> (Span, u64) {
    let bytes = prost::Message::encode_to_vec(&request(vec![span]));
    let decoded = protobuf::decode_export_request(&bytes, limits).expect("readable");
    (decoded.batch.span(0), decoded.values_cut)
}

#[test]
fn spans_may_come_before_their_resource_and_scope() {
    let spans = field(2, &fixed_fields());
    let scope_spans = [spans, field(3, b"scope-url"), field(1, &field(1, b"a scope"))].concat();
    let resource = field(1, &key_value("service.name", &field(1, b"cart")));
    let resource_spans = [field(2, &scope_spans), field(3, b"url"), field(1, &resource)].concat();
    let span = only_span(&field(1, &resource_spans));
    assert_eq!((&span.service_name[..], &span.resource_schema_url[..]), ("cart", "url"));
    assert_eq!((&span.scope_name[..], &span.scope_schema_url[..]), ("a scope", "scope-url"));
}

#[test]
fn of_a_singular_field_the_last_wins_and_messages_are_merged() {
    let status_code = field(15, &[0x18, 2]);
    let status_message = field(15, &field(2, b"late"));
    let value_twice = [field(1, b"k"), field(2, &field(1, b"first")), field(2, &[0x18, 7])].concat();
    let two_alternatives = key_value("o", &[field(1, b"text"), vec![0x10, 1]].concat());
    let fields = [
        field(5, b"first"),
        field(5, b"second"),
        status_code,
        status_message,
        field(9, &value_twice),
        field(9, &two_alternatives),
    ];
    let span = only_span(&request_with(&fields.concat()));
    assert_eq!((&span.name[..], span.status_code, &span.status_message[..]), ("second", 2, "late"));
    assert_eq!(span.attributes, vec![("k".into(), AnyValue::Int(7)), ("o".into(), AnyValue::Bool(true))]);
}

#[test]
fn unknown_fields_are_passed_over() {
    let unknown = [
        vec![0x8a, 0x01, 0x02, 9, 9],                   // field 17, two bytes
        vec![0xd0, 0x7f, 0x80, 0x01],                   // field 2042, a varint
        vec![0xfd, 0xff, 0xff, 0xff, 0x0f, 1, 2, 3, 4], // the largest field number, fixed32
        fixed64(5, 9),                                  // the name as fixed64
        field(6, b"the kind as a string"),
    ];
    let span = only_span(&request_with(&unknown.concat()));
    assert_eq!((&span.name[..], span.kind), ("", 0));
}

#[test]
fn broken_messages_are_refused_whole() {
    let cases: [(&[u8], WireError); 6] = [
        (&[0x0a], WireError::Truncated),
        (&[0x0a, 0x05, 0x00], WireError::Truncated),
        (&[0x0b, 0x0c], WireError::WireType),
        (&[0x0f], WireError::WireType),
        (&[0x00, 0x00], WireError::FieldNumber),
        (&[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], WireError::Varint),
    ];
    for (bytes, expected) in cases {
        match decode(bytes) {
            Err(DecodeError::Protobuf(error)) => assert_eq!(error, expected, "{bytes:x?}"),
            _ => panic!("{bytes:x?} should be refused"),
        }
    }
    assert_eq!(decode(&[]).expect("empty is a request").batch.len(), 0);
}

#[test]
fn wrong_utf8_is_replaced_and_marked() {
    let wrong = b"caf\xe9";
    let nested = field(5, &field(1, &field(1, wrong)));
    let fields = [
        field(5, wrong),
        field(9, &key_value("nested", &nested)),
        field(9, &key_value("binary", &field(7, wrong))),
        field(9, &key_value("text", &field(1, wrong))),
        field(9, &[field(1, wrong), field(2, &field(1, b"ok"))].concat()),
    ];
    let span = only_span(&request_with(&fields.concat()));
    assert_eq!(span.name, "caf\u{fffd}");
    let text = AnyValue::String("caf\u{fffd}".into());
    let expected = [
        ("nested", AnyValue::Array(vec![text.clone()])),
        ("binary", AnyValue::Bytes(wrong.to_vec())),
        ("text", text),
        ("caf\u{fffd}", AnyValue::String("ok".into())),
    ];
    assert_eq!(span.attributes, expected.map(|(key, value)| (key.to_owned(), value)));
    assert_eq!(span.marks, Marks::INVALID_UTF8);
}

#[test]
fn doubles_that_json_lacks_arrive() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.0] {
        let nested = field(5, &field(1, &fixed64(4, value.to_bits())));
        let fields = [field(9, &key_value("top", &fixed64(4, value.to_bits()))), field(9, &key_value("in", &nested))];
        let span = only_span(&request_with(&fields.concat()));
        let [(_, AnyValue::Double(top)), (_, AnyValue::Array(elements))] = &span.attributes[..] else {
            panic!("{:?}", span.attributes)
        };
        let [AnyValue::Double(element)] = elements[..] else { panic!("{elements:?}") };
        assert_eq!((top.to_bits(), element.is_nan()), (value.to_bits(), value.is_nan()));
        assert!(value.is_nan() || element.to_bits() == value.to_bits());
    }
}

#[test]
fn times_and_ids_are_repaired_or_refused() {
    let cases: [(&[u8], Result<Marks, &str>); 11] = [
        (&fixed64(8, 999), Ok(Marks::END_BEFORE_START)),
        (&fixed64(8, 0), Ok(Marks::NO_END)),
        (&fixed64(8, 1 << 63), Err("2262")),
        (&fixed64(7, 1 << 63), Err("2262")),
        (&fixed64(7, 0), Err("start time")),
        (&field(4, &[2; 8]), Ok(Marks::OWN_PARENT)),
        (&field(4, &[0; 8]), Ok(Marks::default())),
        (&field(4, &[2; 7]), Err("parent span id")),
        (&field(2, &[0; 8]), Err("span id is not 8 bytes")),
        (&field(1, &[1; 15]), Err("trace id is not 16 bytes")),
        (&[0x30, 0x06], Ok(Marks::UNKNOWN_ENUM)),
    ];
    for (fields, expected) in cases {
        let decoded = decode(&request_with(fields)).expect("readable");
        match expected {
            Ok(marks) => {
                let span = decoded.batch.span(0);
                assert_eq!((span.marks, span.kind), (marks, 0), "{fields:x?}");
                assert_eq!(span.parent_span_id.as_u64(), 0);
                let ends_well = marks == Marks::OWN_PARENT || marks == Marks::default() || marks == Marks::UNKNOWN_ENUM;
                assert_eq!(span.duration_nanos, if ends_well { 500 } else { 0 });
            }
            Err(words) => {
                assert!(decoded.batch.is_empty() && decoded.rejected.count() == 1, "{fields:x?}");
                assert!(decoded.rejected.message().contains(words), "{}", decoded.rejected.message());
            }
        }
    }
}

#[test]
fn refused_spans_leave_nothing_behind() {
    let mut spans: Vec<_> = (0..3).map(span).collect();
    let event = opentelemetry_proto::tonic::trace::v1::span::Event {
        name: "exception".into(),
        attributes: vec![attribute("a", text("b"))],
        ..Default::default()
    };
    for span in &mut spans {
        span.events = vec![event.clone(), event.clone()];
    }
    spans[1].span_id.clear();
    let decoded = decode(&prost::Message::encode_to_vec(&request(spans))).expect("readable");
    assert_eq!(decoded.batch.len(), 2);
    for row in 0..2 {
        let span = decoded.batch.span(row);
        assert_eq!((span.attributes.len(), span.events.len(), span.events[1].attributes.len()), (1, 2, 1));
    }
}

#[test]
fn long_values_are_cut_at_a_character() {
    let limits = Limits { attribute_value_bytes_max: 5, name_bytes_max: 4, ..Limits::default() };
    let mut sent = span(0);
    sent.attributes = vec![
        attribute("k", text("12345")),
        attribute("cut", text("1234é")),
        attribute("longkey", opentelemetry_proto::tonic::common::v1::any_value::Value::BytesValue(vec![7; 6])),
    ];
    sent.name = "ééé".into();
    let (span, values_cut) = only_span_within(sent, &limits);
    assert_eq!(span.name, "éé");
    let expected = [
        ("k", AnyValue::String("12345".into())),
        ("cut", AnyValue::String("1234".into())),
        ("long", AnyValue::Bytes(vec![7; 5])),
    ];
    assert_eq!(span.attributes, expected.map(|(key, value)| (key.to_owned(), value)));
    assert_eq!(span.marks, Marks::VALUE_CUT);
    // The span's name, one value, the bytes and their key; the resource's key and the scope's name as well.
    assert_eq!(values_cut, 6);
}

#[test]
fn more_than_the_limits_is_dropped_and_counted() {
    let limits = Limits {
        attributes_per_span_max: 2,
        events_per_span_max: 1,
        links_per_span_max: 1,
        value_depth_max: 1,
        ..Limits::default()
    };
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue as Sent, ArrayValue};
    use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
    let array = |value| Value::ArrayValue(ArrayValue { values: vec![Sent { value: Some(value) }] });
    let keys = |keys: &[&str]| keys.iter().map(|key| attribute(key, text("v"))).collect::<Vec<_>>();
    let mut sent = span(0);
    sent.attributes = keys(&["a", "b", "c", "d"]);
    sent.attributes[0] = attribute("a", array(array(text("deep"))));
    let event = Event { name: "e".into(), attributes: keys(&["a", "b", "c"]), ..Event::default() };
    sent.events = vec![event.clone(), Event::default(), event];
    let link = Link { span_id: vec![1; 8], ..Link::default() };
    sent.links = vec![Link::default(), link.clone(), link];
    sent.dropped_links_count = u32::MAX - 1;
    let (span, _) = only_span_within(sent, &limits);
    assert_eq!(span.attributes.iter().map(|(key, _)| &key[..]).collect::<Vec<_>>(), ["b", "c"]);
    // One nested too deep, one too many.
    assert_eq!(span.dropped_attributes, 2);
    assert_eq!((span.events.len(), span.events[0].attributes.len(), span.events[0].dropped_attributes), (1, 2, 1));
    assert_eq!((span.dropped_events, span.links.len(), span.dropped_links), (2, 1, u32::MAX));
    assert_eq!(span.marks, Marks::OVER_LIMIT);
}

#[test]
fn what_is_noticed_about_a_resource_is_marked_on_its_spans() {
    let limits = Limits { name_bytes_max: 12, ..Limits::default() };
    let mut two = request(vec![span(0)]);
    two.resource_spans.push(two.resource_spans[0].clone());
    two.resource_spans[0].schema_url = "https://schema.example".into();
    let bytes = prost::Message::encode_to_vec(&two);
    let decoded = protobuf::decode_export_request(&bytes, &limits).expect("readable");
    assert_eq!([0, 1].map(|row| decoded.batch.span(row).marks), [Marks::VALUE_CUT, Marks::default()]);
}

#[test]
fn nested_values_are_shortened_element_by_element() {
    use opentelemetry_proto::tonic::common::v1::any_value::Value;
    use opentelemetry_proto::tonic::common::v1::{AnyValue as Sent, ArrayValue};
    let limits = Limits { attribute_value_bytes_max: 30, ..Limits::default() };
    for element in [text("0123456789"), text("\u{1}\u{1}"), Value::IntValue(1)] {
        let values = vec![Sent { value: Some(element) }; 1_000];
        let mut sent = span(0);
        sent.attributes = vec![attribute("k", Value::ArrayValue(ArrayValue { values }))];
        let (span, values_cut) = only_span_within(sent, &limits);
        let [(_, AnyValue::Array(kept))] = &span.attributes[..] else { panic!("{:?}", span.attributes) };
        assert!((1..16).contains(&kept.len()), "{kept:?}");
        assert!(span.attributes[0].1.to_canonical_json().len() <= 30);
        assert_eq!((span.marks, values_cut), (Marks::VALUE_CUT, 1));
    }
}
