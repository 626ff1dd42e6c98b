//! What is written of a request holds no text that none of its spans keeps.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue, KeyValueList};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::{Event, Link};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use prost::Message;
use tracehouse_model::Limits;
use tracehouse_otlp::{Decoded, json, protobuf};

use crate::oracle::request;
use crate::samples::{attribute, span, text};

/// Stands in everything that must not be kept.
const SECRET: &str = "s3cret-of-nobody";

/// A way in which text comes in and is not kept.
#[derive(Debug, Clone, Copy)]
enum Way {
    RefusedForItsTraceId,
    RefusedForItsSpanId,
    RefusedForItsParent,
    RefusedForItsStart,
    RefusedForItsEnd,
    FirstOfARepeatedKey,
    CutValue,
    CutBytes,
    CutArray,
    TooManyAttributes,
    NestedTooDeep,
    TooManyEvents,
    TooManyLinks,
    ResourceWithoutSpans,
    ScopeWithoutSpans,
    ResourceOfRefusedSpans,
    UnknownField,
}

const WAYS: [Way; 17] = [
    Way::RefusedForItsTraceId,
    Way::RefusedForItsSpanId,
    Way::RefusedForItsParent,
    Way::RefusedForItsStart,
    Way::RefusedForItsEnd,
    Way::FirstOfARepeatedKey,
    Way::CutValue,
    Way::CutBytes,
    Way::CutArray,
    Way::TooManyAttributes,
    Way::NestedTooDeep,
    Way::TooManyEvents,
    Way::TooManyLinks,
    Way::ResourceWithoutSpans,
    Way::ScopeWithoutSpans,
    Way::ResourceOfRefusedSpans,
    Way::UnknownField,
];

/// Narrow enough for every way, wide enough for [`SECRET`] to be found if it were kept.
fn limits() -> Limits {
    Limits {
        attribute_value_bytes_max: 256,
        attributes_per_span_max: 8,
        events_per_span_max: 4,
        links_per_span_max: 4,
        value_depth_max: 4,
        ..Limits::default()
    }
}

/// Text in all places of a span.
fn secretive(number: u64) -> Span {
    let secret = format!("{SECRET} {number}");
    let attributes = vec![attribute(&secret, text(&secret)), attribute("in", nested(&secret, 1))];
    Span {
        name: secret.clone(),
        trace_state: secret.clone(),
        status: Some(Status { message: secret.clone(), code: 2 }),
        events: vec![Event { name: secret.clone(), attributes: attributes.clone(), ..Event::default() }],
        links: vec![Link { trace_state: secret, attributes: attributes.clone(), ..Link::default() }],
        attributes,
        ..span(number)
    }
}

fn nested(secret: &str, depth: usize) -> Value {
    let inner = if depth > 1 { nested(secret, depth - 1) } else { text(secret) };
    let values =
        vec![KeyValue { key: secret.into(), value: Some(AnyValue { value: Some(inner) }), ..Default::default() }];
    Value::KvlistValue(KeyValueList { values })
}

impl Way {
    fn add_to(self, request: &mut ExportTraceServiceRequest, number: u64) {
        let long = format!("{}{SECRET}", "x".repeat(256));
        let hidden = |change: fn(&mut Span)| {
            let mut made = secretive(number);
            change(&mut made);
            made
        };
        let with_attributes = |attributes: Vec<KeyValue>| Span { attributes, ..span(number) };
        let made = match self {
            Self::RefusedForItsTraceId => hidden(|span| span.trace_id = vec![0; 16]),
            Self::RefusedForItsSpanId => hidden(|span| span.span_id = vec![1; 7]),
            Self::RefusedForItsParent => hidden(|span| span.parent_span_id = vec![1; 9]),
            Self::RefusedForItsStart => hidden(|span| span.start_time_unix_nano = 0),
            Self::RefusedForItsEnd => hidden(|span| span.end_time_unix_nano = u64::MAX),
            Self::FirstOfARepeatedKey => with_attributes(vec![
                attribute("key", text(SECRET)),
                attribute("other", text("stays")),
                attribute("key", nested(SECRET, 1)),
                attribute("key", Value::BytesValue(SECRET.into())),
                attribute("key", Value::IntValue(1)),
            ]),
            Self::CutValue => with_attributes(vec![attribute("cut", text(&long))]),
            Self::CutBytes => with_attributes(vec![attribute("cut", Value::BytesValue(long.into()))]),
            Self::CutArray => {
                let element = |text: &str| AnyValue { value: Some(Value::StringValue(text.into())) };
                let mut values = vec![element("stays"); 100];
                values.push(element(SECRET));
                with_attributes(vec![attribute("cut", Value::ArrayValue(ArrayValue { values }))])
            }
            Self::TooManyAttributes => with_attributes(
                (0..20).map(|at| attribute(&format!("{}{at}", if at < 8 { "" } else { SECRET }), text("v"))).collect(),
            ),
            Self::NestedTooDeep => with_attributes(vec![attribute(SECRET, nested(SECRET, 9))]),
            Self::TooManyEvents => {
                let event =
                    |at: usize| Event { name: if at < 4 { "e".into() } else { SECRET.into() }, ..Event::default() };
                Span { events: (0..9).map(event).collect(), ..span(number) }
            }
            Self::TooManyLinks => {
                let state = |at: usize| if at < 4 { "l".into() } else { SECRET.into() };
                let link = |at: usize| Link { span_id: vec![1; 8], trace_state: state(at), ..Link::default() };
                Span { links: (0..9).map(link).collect(), ..span(number) }
            }
            Self::ResourceWithoutSpans => return request.resource_spans.push(secret_owners(Vec::new())),
            Self::ResourceOfRefusedSpans => {
                let refused = Span { span_id: Vec::new(), ..secretive(number) };
                return request.resource_spans.push(secret_owners(vec![refused]));
            }
            Self::ScopeWithoutSpans => {
                let Some(resource) = request.resource_spans.first_mut() else { return };
                return resource.scope_spans.extend(secret_owners(Vec::new()).scope_spans);
            }
            // Added to the encoded request.
            Self::UnknownField => return,
        };
        request.resource_spans.push(crate::samples::request(vec![made]).resource_spans.remove(0));
    }
}

fn secret_owners(spans: Vec<Span>) -> ResourceSpans {
    let attributes = vec![attribute(SECRET, text(SECRET)), attribute("service.name", text(SECRET))];
    let scope = InstrumentationScope {
        name: SECRET.into(),
        version: SECRET.into(),
        attributes: attributes.clone(),
        ..InstrumentationScope::default()
    };
    ResourceSpans {
        resource: Some(Resource { attributes, ..Resource::default() }),
        scope_spans: vec![ScopeSpans { scope: Some(scope), spans, schema_url: SECRET.into() }],
        schema_url: SECRET.into(),
    }
}

/// Both encodings, each with fields that OTLP does not know.
fn encodings(request: &ExportTraceServiceRequest, unknown: bool) -> (Vec<u8>, Vec<u8>) {
    let mut bytes = request.encode_to_vec();
    let mut tree = serde_json::to_value(request).expect("serialisable");
    if unknown {
        bytes.extend_from_slice(&[0x7a, SECRET.len() as u8]);
        bytes.extend_from_slice(SECRET.as_bytes());
        tree["unknown"] = serde_json::json!({ SECRET: [SECRET] });
        for resource in tree["resourceSpans"].as_array_mut().into_iter().flatten() {
            resource["unknown"] = SECRET.into();
        }
    }
    (bytes, serde_json::to_vec(&tree).expect("serialisable"))
}

fn written(decoded: Decoded) -> Vec<u8> {
    let mut encoded = Vec::new();
    decoded.batch.into_exact().encode(&mut encoded);
    encoded
}

fn holds_secret(bytes: &[u8]) -> bool {
    bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_not_kept_is_not_written(mut request in request(), ways in vec(select(&WAYS[..]), 1..6)) {
        (0..).zip(&ways).for_each(|(number, way)| way.add_to(&mut request, number));
        let unknown = ways.iter().any(|way| matches!(way, Way::UnknownField));
        let (bytes, text) = encodings(&request, unknown);
        let decoded = protobuf::decode_export_request(&bytes, &limits()).expect("protobuf");
        prop_assert!(!holds_secret(&written(decoded)), "protobuf: {ways:?}");
        let decoded = json::decode_export_request(&text, &limits()).expect("JSON");
        prop_assert!(!holds_secret(&written(decoded)), "JSON: {ways:?}");
    }
}

/// Each way by itself, beside a span that is kept: the ways do what their names say.
#[test]
fn each_way_is_one() {
    for way in WAYS {
        let mut request = crate::samples::request(vec![span(99)]);
        way.add_to(&mut request, 0);
        let (bytes, text) = encodings(&request, matches!(way, Way::UnknownField));
        assert!(holds_secret(&bytes), "{way:?} has nothing to hide");
        for decoded in [
            protobuf::decode_export_request(&bytes, &limits()).expect("protobuf"),
            json::decode_export_request(&text, &limits()).expect("JSON"),
        ] {
            assert!(!decoded.batch.is_empty(), "{way:?}");
            assert!(!holds_secret(&written(decoded)), "{way:?}");
        }
    }
}

/// A singular field that comes twice: the last wins, and the first is not kept.
#[test]
fn the_first_of_a_field_that_comes_twice_is_not_written() {
    let field = |number: u8, content: &[u8]| [&[number << 3 | 2, content.len() as u8][..], content].concat();
    let secret = field(5, SECRET.as_bytes());
    let span = [secret, span(0).encode_to_vec()].concat();
    let request = field(1, &field(2, &field(2, &span)));
    let decoded = protobuf::decode_export_request(&request, &Limits::default()).expect("readable");
    assert_eq!(decoded.batch.len(), 1);
    assert!(!holds_secret(&written(decoded)));
}
