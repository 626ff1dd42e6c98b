//! What is wrong in JSON costs no more than it must, and is told.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use prost::Message;
use tracehouse_model::{AnyValue, Limits, Marks, Span};
use tracehouse_otlp::{Decoded, RejectReason, json, protobuf};

use crate::same_spans::{assert_good_ones_are_kept_beside, assert_same_in_protobuf};

/// Where a value of a span is to be found.
type Found<T> = fn(&Span) -> T;

const IDS_AND_TIMES: &str = r#""traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","startTimeUnixNano":"1000","endTimeUnixNano":"1500""#;

fn decode(text: &[u8]) -> Decoded {
    json::decode_export_request(text, &Limits::default()).expect("readable")
}

fn in_scope(spans: &[u8]) -> Vec<u8> {
    [&br#"{"resourceSpans":[{"scopeSpans":[{"spans":["#[..], spans, b"]}]}]}"].concat()
}

/// A span with these members, and one after it that nothing is wrong with.
fn beside_a_good_one(members: &[u8]) -> Vec<u8> {
    let ids = IDS_AND_TIMES.as_bytes();
    in_scope(&[b"{", ids, b",", members, b"},{", ids, br#","name":"good"}"#].concat())
}

fn span_with(members: &[u8]) -> Span {
    let decoded = decode(&beside_a_good_one(members));
    let text = String::from_utf8_lossy(members);
    assert_eq!((decoded.batch.len(), decoded.rejected.message()), (2, String::new()), "{text}");
    decoded.batch.span(0)
}

#[test]
fn texts_are_repaired_wherever_they_stand() {
    let wrong: [(&[u8], &str); 6] = [
        (br"\ud83c", "\u{fffd}"),
        (br"a\udf55\ud83cb", "a\u{fffd}\u{fffd}b"),
        (br"\ud83c\ud83c\udf55", "\u{fffd}🍕"),
        (b"caf\xe9", "caf\u{fffd}"),
        (b"\xed\xa0\xbc", "\u{fffd}\u{fffd}\u{fffd}"),
        (b"\xf0\x9f\x8d\\n\xff", "\u{fffd}\n\u{fffd}"),
    ];
    for (text, repaired) in wrong {
        // What stands for TEXT in each place, and where it is to be found.
        let places: [(&str, Found<String>); 12] = [
            (r#""name":"TEXT""#, |span| span.name.clone()),
            (r#""traceState":"TEXT""#, |span| span.trace_state.clone()),
            (r#""status":{"message":"TEXT"}"#, |span| span.status_message.clone()),
            (r#""attributes":[{"key":"TEXT"}]"#, |span| span.attributes[0].0.clone()),
            (r#""attributes":[{"value":{"stringValue":"TEXT"}}]"#, |span| string(&span.attributes[0].1)),
            (r#""attributes":[{"value":{"arrayValue":{"values":[{"stringValue":"TEXT"}]}}}]"#, |span| {
                let AnyValue::Array(values) = &span.attributes[0].1 else { panic!("an array") };
                string(&values[0])
            }),
            (r#""attributes":[{"value":{"kvlistValue":{"values":[{"key":"TEXT"}]}}}]"#, |span| {
                let AnyValue::KeyValueList(entries) = &span.attributes[0].1 else { panic!("a list") };
                entries[0].0.clone()
            }),
            (r#""events":[{"name":"TEXT"}]"#, |span| span.events[0].name.clone()),
            (r#""events":[{"attributes":[{"key":"TEXT"}]}]"#, |span| span.events[0].attributes[0].0.clone()),
            (r#""links":[{"traceState":"TEXT"}]"#, |span| span.links[0].trace_state.clone()),
            (r#""links":[{"attributes":[{"value":{"stringValue":"TEXT"}}]}]"#, |span| {
                string(&span.links[0].attributes[0].1)
            }),
            (r#""TEXT":{"TEXT":["TEXT"]},"name":"TEXT""#, |span| span.name.clone()),
        ];
        for (members, found) in places {
            let span = span_with(&with_text(members, text));
            assert_eq!(found(&span), repaired, "{members}");
            assert_eq!(span.marks, Marks::INVALID_UTF8, "{members}");
        }
    }
    // What was not kept leaves no mark.
    let span = span_with(br#""\ud83c":"\ud83c","attributes":[{"\ud83c":1,"key":"k"}]"#);
    assert_eq!(span.marks, Marks::default());
}

fn string(value: &AnyValue) -> String {
    let AnyValue::String(text) = value else { panic!("{value:?} is no string") };
    text.clone()
}

fn with_text(members: &str, text: &[u8]) -> Vec<u8> {
    members.split("TEXT").map(str::as_bytes).collect::<Vec<_>>().join(text)
}

#[test]
fn texts_of_resources_and_scopes_are_repaired() {
    let text = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"TEXT"}}]},
        "scopeSpans":[{"scope":{"name":"TEXT","version":"TEXT"},"spans":[{IDS}],"schemaUrl":"TEXT"}],"schemaUrl":"TEXT"}]}"#;
    let decoded = decode(&with_text(&text.replace("IDS", IDS_AND_TIMES), br"\ud83c"));
    let span = decoded.batch.span(0);
    for text in
        [&span.service_name, &span.scope_name, &span.scope_version, &span.scope_schema_url, &span.resource_schema_url]
    {
        assert_eq!(text, "\u{fffd}");
    }
    assert_eq!(span.marks, Marks::INVALID_UTF8);
}

#[test]
fn numbers_in_every_form() {
    let cases: [(&str, Found<i64>, i64); 14] = [
        (r#""kind":2.0"#, |span| span.kind.into(), 2),
        (r#""kind":"2""#, |span| span.kind.into(), 2),
        (r#""kind":0.2e1"#, |span| span.kind.into(), 2),
        (r#""kind":"SPAN_KIND_SERVER""#, |span| span.kind.into(), 2),
        (r#""kind":null"#, |span| span.kind.into(), 0),
        (r#""status":{"code":2.0}"#, |span| span.status_code.into(), 2),
        (r#""status":{"code":"STATUS_CODE_ERROR"}"#, |span| span.status_code.into(), 2),
        (r#""endTimeUnixNano":1544712660000000001"#, |span| span.duration_nanos, 1_544_712_659_999_999_001),
        (r#""endTimeUnixNano":1544712660000000001.0"#, |span| span.duration_nanos, 1_544_712_659_999_999_001),
        (r#""endTimeUnixNano":"1.54471266e18""#, |span| span.duration_nanos, 1_544_712_659_999_999_000),
        (r#""flags":"257""#, |span| span.flags.into(), 257),
        (r#""flags":257.00"#, |span| span.flags.into(), 257),
        (r#""droppedAttributesCount":3e0"#, |span| span.dropped_attributes.into(), 3),
        (r#""events":[{"timeUnixNano":5.0}]"#, |span| span.events[0].time_unix_nanos, 5),
    ];
    for (members, found, expected) in cases {
        assert_eq!(found(&span_with(members.as_bytes())), expected, "{members}");
    }
}

#[test]
fn a_wrong_value_costs_its_attribute() {
    let values = [
        r#"{"value":5}"#,
        r#"{"value":"text"}"#,
        r#"{"value":[]}"#,
        r#"{"key":5}"#,
        "5",
        r#""text""#,
        "[]",
        "true",
        r#"{"value":{"stringValue":5}}"#,
        r#"{"value":{"stringValue":{}}}"#,
        r#"{"value":{"intValue":"x"}}"#,
        r#"{"value":{"intValue":1.5}}"#,
        r#"{"value":{"intValue":9223372036854775808}}"#,
        r#"{"value":{"intValue":"\ud83c"}}"#,
        r#"{"value":{"doubleValue":"x"}}"#,
        r#"{"value":{"doubleValue":1e999}}"#,
        r#"{"value":{"boolValue":"maybe"}}"#,
        r#"{"value":{"boolValue":1}}"#,
        r#"{"value":{"bytesValue":"§"}}"#,
        r#"{"value":{"arrayValue":5}}"#,
        r#"{"value":{"arrayValue":{"values":{}}}}"#,
        r#"{"value":{"arrayValue":{"values":[5]}}}"#,
        r#"{"value":{"arrayValue":{"values":[{"intValue":"x"}]}}}"#,
        r#"{"value":{"kvlistValue":{"values":[{"value":{"kvlistValue":{"values":[5]}}}]}}}"#,
    ];
    for wrong in values {
        let lists = format!(r#"[{wrong},{{"key":"good","value":{{"intValue":"7"}}}}]"#);
        let members = format!(
            r#""attributes":{lists},"events":[{{"name":"e","attributes":{lists}}}],"links":[{{"attributes":{lists}}}]"#
        );
        let decoded = decode(&beside_a_good_one(members.as_bytes()));
        let good = vec![("good".to_owned(), AnyValue::Int(7))];
        let span = decoded.batch.span(0);
        assert_eq!(decoded.batch.len(), 2, "{wrong}");
        assert_eq!((&span.attributes, span.dropped_attributes), (&good, 1), "{wrong}");
        assert_eq!((&span.events[0].attributes, span.events[0].dropped_attributes), (&good, 1), "{wrong}");
        assert_eq!((&span.links[0].attributes, span.links[0].dropped_attributes), (&good, 1), "{wrong}");
        assert_eq!((decoded.rejected.count(), decoded.rejected.wrong_attributes()), (0, 3), "{wrong}");
        let message = decoded.rejected.message();
        assert!(message.starts_with("3 attributes left out because of a wrong value (first: \""), "{message}");
        assert_same_in_protobuf(&decoded);
    }
    let decoded = decode(&beside_a_good_one(br#""attributes":[{"key":"a\nb","value":{"intValue":"x"}}]"#));
    assert_eq!(
        decoded.rejected.message(),
        "1 attribute left out because of a wrong value (first: \"a\\nb\" of span 0 of the request, where intValue is a \
         string, not an integer in the range of its field)"
    );
}

#[test]
fn a_wrong_field_costs_its_span() {
    let fields = [
        r#""kind":1.5"#,
        r#""kind":{}"#,
        r#""kind":"1.5""#,
        r#""kind":"server""#,
        r#""kind":"STATUS_CODE_ERROR""#,
        r#""status":{"code":"x"}"#,
        r#""name":5"#,
        r#""name":[]"#,
        r#""traceId":5"#,
        r#""spanId":{}"#,
        r#""parentSpanId":true"#,
        r#""startTimeUnixNano":-1"#,
        r#""startTimeUnixNano":1.5"#,
        r#""endTimeUnixNano":"soon""#,
        r#""endTimeUnixNano":18446744073709551616"#,
        r#""traceState":{}"#,
        r#""flags":4294967296"#,
        r#""droppedAttributesCount":-1"#,
        r#""attributes":5"#,
        r#""attributes":{}"#,
        r#""status":5"#,
        r#""status":[]"#,
        r#""status":{"code":[]}"#,
        r#""status":{"message":5}"#,
        r#""events":{}"#,
        r#""events":[5]"#,
        r#""events":[{"timeUnixNano":"x"}]"#,
        r#""links":"x""#,
        r#""links":[[]]"#,
        r#""links":[{"flags":"x"}]"#,
    ];
    for field in fields {
        let decoded = decode(&beside_a_good_one(field.as_bytes()));
        assert_eq!(decoded.batch.len(), 1, "{field}");
        assert_eq!(decoded.batch.span(0).name, "good", "{field}");
        let reasons: Vec<_> = decoded.rejected.by_reason().collect();
        assert_eq!(reasons, [(RejectReason::Field, 1)], "{field}");
        let message = decoded.rejected.message();
        let expected = "1 span refused because a field has a wrong value (first: span 0 of the request, where ";
        assert!(message.starts_with(expected), "{message}");
    }
    for element in ["5", "[]", r#""text""#, "true"] {
        let decoded = decode(&in_scope(format!(r#"{element},{{{IDS_AND_TIMES}}}"#).as_bytes()));
        assert_eq!((decoded.batch.len(), decoded.rejected.count()), (1, 1), "{element}");
    }
    let decoded = decode(&beside_a_good_one(br#""events":[{},{"name":"e","timeUnixNano":"x","attributes":[5]}]"#));
    assert_eq!(
        decoded.rejected.message(),
        "1 span refused because a field has a wrong value (first: span 0 of the request, where events.timeUnixNano is a \
         string, not an integer in the range of its field)",
        "the attribute is not told of beside its span"
    );
}

#[test]
fn a_wrong_field_of_a_resource_or_scope_is_told() {
    let text = format!(
        r#"{{"resourceSpans":[{{}},{{"resource":{{"droppedAttributesCount":"x","attributes":[{{"key":"k","value":5}}]}},
            "scopeSpans":[{{"scope":{{"name":5,"version":"1"}},"spans":[{{{IDS_AND_TIMES}}}]}}],"schemaUrl":{{}}}}]}}"#
    );
    let decoded = decode(text.as_bytes());
    let span = decoded.batch.span(0);
    assert_eq!((&span.scope_name[..], &span.scope_version[..], span.resource_dropped_attributes), ("", "1", 1));
    assert_eq!(decoded.rejected.count(), 0);
    assert_eq!(
        decoded.rejected.message(),
        "1 attribute left out because of a wrong value (first: \"k\" of the resource of span 0 of the request, where value \
         is a number, not an object); 2 fields of resources or scopes left out because of a wrong value (first: the scope \
         of span 0 of the request, where name is a number, not a string)"
    );
}

#[test]
fn a_wrong_shape_above_the_spans_refuses_the_request() {
    let in_resource = |member: &str| format!(r#"{{"resourceSpans":[{{{member}}}]}}"#);
    let in_scope = |member: &str| in_resource(&format!(r#""scopeSpans":[{{{member}}}]"#));
    let cases = [
        "[]".to_owned(),
        "5".to_owned(),
        r#"{"resourceSpans":{}}"#.to_owned(),
        r#"{"resourceSpans":[5]}"#.to_owned(),
        in_resource(r#""resource":[]"#),
        in_resource(r#""resource":{"attributes":{}}"#),
        in_resource(r#""scopeSpans":5"#),
        in_resource(r#""scopeSpans":[[]]"#),
        in_scope(r#""scope":5"#),
        in_scope(r#""scope":{"attributes":5}"#),
        in_scope(r#""spans":{}"#),
    ];
    for text in cases {
        let refused = json::decode_export_request(text.as_bytes(), &Limits::default()).map(|_| ());
        assert!(refused.is_err(), "{text}");
    }
    let refused = json::decode_export_request(in_scope(r#""spans":{}"#).as_bytes(), &Limits::default());
    assert_eq!(
        refused.map(|_| ()).expect_err("refused").to_string(),
        "the request is not an ExportTraceServiceRequest in JSON: spans is an object, not an array, at byte 42"
    );
}

#[test]
fn a_byte_order_mark_is_skipped() {
    let text = beside_a_good_one(br#""name":"first""#);
    let decoded = decode(&[b"\xef\xbb\xbf", &text[..]].concat());
    assert_eq!(decoded.batch.len(), 2);
}

/// Of a single value the last counts, lists go on, messages are merged.
#[test]
fn fields_that_come_twice() {
    let members = r#""name":"first","name":"last","attributes":[{"key":"a"}],"attributes":[{"key":"b"}],
        "status":{"code":2},"status":{"message":"m"},"events":[{"name":"e"}],"events":[{"name":"f"}]"#;
    let span = span_with(members.as_bytes());
    let keys: Vec<_> = span.attributes.iter().map(|(key, _)| &key[..]).collect();
    assert_eq!((&span.name[..], keys, span.events.len()), ("last", vec!["a", "b"], 2));
    assert_eq!((span.status_code, &span.status_message[..]), (2, "m"));
    let text = format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{{IDS_AND_TIMES}}}],"spans":[{{{IDS_AND_TIMES}}}],
            "scope":{{"name":"s"}},"scope":{{"version":"1"}}}}],"scopeSpans":[{{"spans":[{{{IDS_AND_TIMES}}}]}}]}}],
            "resourceSpans":[{{"scopeSpans":[{{"spans":[{{{IDS_AND_TIMES}}}]}}]}}]}}"#
    );
    let decoded = decode(text.as_bytes());
    assert_eq!(decoded.batch.len(), 4);
    for row in 0..2 {
        let span = decoded.batch.span(row);
        assert_eq!((&span.scope_name[..], &span.scope_version[..]), ("s", "1"));
    }
}

/// What is refused or left out for a wrong value is not written.
#[test]
fn nothing_of_what_is_wrong_is_written() {
    const SECRET: &str = "s3cret-of-nobody";
    let cases = [
        r#""name":"SECRET","kind":{}"#,
        r#""traceState":"SECRET","status":{"message":"SECRET","code":"SECRET"},"flags":"SECRET""#,
        r#""attributes":[{"key":"SECRET","value":{"stringValue":"SECRET","intValue":"SECRET"}}]"#,
        r#""attributes":[{"key":"k","value":{"arrayValue":{"values":[{"stringValue":"SECRET"},{"boolValue":"SECRET"}]}}}]"#,
        r#""events":[{"name":"SECRET","attributes":[{"key":"SECRET","value":{"stringValue":"SECRET"}}]},5]"#,
        r#""links":[{"traceState":"SECRET","flags":"SECRET"}]"#,
        r#""attributes":"SECRET""#,
    ];
    for members in cases {
        let decoded = decode(&beside_a_good_one(&with_text(&members.replace("SECRET", "TEXT"), SECRET.as_bytes())));
        assert!(!decoded.rejected.message().is_empty(), "{members}");
        let mut written = Vec::new();
        decoded.batch.into_exact().encode(&mut written);
        assert!(!written.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()), "{members}");
    }
}

/// Names of fields, so that what is made at random is looked at.
const NAMES: [&str; 24] = [
    "traceId",
    "spanId",
    "parentSpanId",
    "traceState",
    "name",
    "kind",
    "startTimeUnixNano",
    "endTimeUnixNano",
    "attributes",
    "events",
    "links",
    "status",
    "flags",
    "droppedAttributesCount",
    "key",
    "value",
    "values",
    "stringValue",
    "intValue",
    "doubleValue",
    "boolValue",
    "bytesValue",
    "arrayValue",
    "kvlistValue",
];

/// Any value in JSON, of which texts are not always UTF-8, nor pairs of surrogates whole.
fn any_json() -> impl Strategy<Value = Vec<u8>> {
    let texts = prop_oneof![
        Just(br"\ud83c".to_vec()),
        Just(b"\xff".to_vec()),
        Just(b"5b8efff798038103d269b633813fc60c".to_vec()),
        Just(b"eee19b7ec3c1b174".to_vec()),
        "[0-9]{1,21}".prop_map(String::into_bytes),
        "[a-zA-Z é]{0,8}".prop_map(String::into_bytes),
        any::<String>().prop_map(|text| {
            let quoted = serde_json::to_string(&text).expect("serialisable");
            quoted.as_bytes()[1..quoted.len() - 1].to_vec()
        }),
    ];
    let text = texts.prop_map(|text| [b"\"", &text[..], b"\""].concat());
    let leaf = prop_oneof![
        4 => text,
        1 => any::<i64>().prop_map(|value| value.to_string().into_bytes()),
        1 => any::<f64>().prop_filter("finite", |value| value.is_finite()).prop_map(|value| format!("{value:e}").into_bytes()),
        1 => (0..6).prop_map(|value| format!("{value}.0").into_bytes()),
        1 => prop_oneof![Just("null"), Just("true"), Just("false")].prop_map(|text| text.as_bytes().to_vec()),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        let name = prop_oneof![9 => proptest::sample::select(&NAMES[..]), 1 => Just("other")];
        let member =
            (name, inner.clone()).prop_map(|(name, value)| [b"\"", name.as_bytes(), b"\":", &value[..]].concat());
        let list = |open: &'static [u8], close: &'static [u8]| {
            move |parts: Vec<Vec<u8>>| [open, &parts.join(&b','), close].concat()
        };
        prop_oneof![vec(inner, 0..5).prop_map(list(b"[", b"]")), vec(member, 0..8).prop_map(list(b"{", b"}"))]
    })
}

/// A span with ids and times, and any values in other fields: mostly of the right shape.
fn any_span() -> impl Strategy<Value = Vec<u8>> {
    let list =
        |strategy| vec(strategy, 0..4).prop_map(|parts: Vec<Vec<u8>>| [b"[", &parts.join(&b',')[..], b"]"].concat());
    let attribute = (any_json(), proptest::sample::select(&NAMES[17..]))
        .prop_map(|(value, name)| [&br#"{"key":"k","value":{""#[..], name.as_bytes(), b"\":", &value, b"}}"].concat());
    let attributes = list(attribute.boxed());
    let member = (proptest::sample::select(&NAMES[..14]), any_json())
        .prop_map(|(name, value)| [b",\"", name.as_bytes(), b"\":", &value[..]].concat());
    (attributes, option::weighted(0.5, member)).prop_map(|(attributes, member)| {
        let before = format!(r#"{{{IDS_AND_TIMES},"attributes":"#);
        [before.as_bytes(), &attributes, &member.unwrap_or_default(), b"}"].concat()
    })
}

/// Eight bytes that are UTF-8, and eight that are not. No id or number holds the first by chance.
const RIGHT: &[u8] = "ÿÿÿÿ".as_bytes();
const WRONG: &[u8] = b"\xc3\xff\xed\xa0\xbc\xf0\x9f\xc3";

/// Makes every text that has [`RIGHT`] in it wrong, in either encoding.
fn spoil(mut bytes: Vec<u8>) -> Vec<u8> {
    let places: Vec<_> =
        bytes.windows(RIGHT.len()).enumerate().filter(|(_, it)| *it == RIGHT).map(|(at, _)| at).collect();
    for at in places {
        bytes[at..at + WRONG.len()].copy_from_slice(WRONG);
    }
    bytes
}

/// The same wrong texts in many places of a request.
fn with_wrong_texts(mut request: ExportTraceServiceRequest, every: usize) -> ExportTraceServiceRequest {
    let mut number = 0;
    let mut spoiled = |text: &mut String| {
        number += 1;
        if number % every == 0 {
            text.push_str("ÿÿÿÿ");
        }
    };
    for resource in &mut request.resource_spans {
        spoiled(&mut resource.schema_url);
        for scope in &mut resource.scope_spans {
            spoiled(&mut scope.schema_url);
            scope.scope.iter_mut().for_each(|scope| spoiled(&mut scope.name));
            for span in &mut scope.spans {
                spoiled(&mut span.name);
                spoiled(&mut span.trace_state);
                span.attributes.iter_mut().for_each(|attribute| spoiled(&mut attribute.key));
                span.events.iter_mut().for_each(|event| spoiled(&mut event.name));
                span.status.iter_mut().for_each(|status| spoiled(&mut status.message));
            }
        }
    }
    request
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn good_ones_are_kept_beside_any_value(value in prop_oneof![any_json(), any_span()]) {
        assert_good_ones_are_kept_beside(&value);
    }

    /// Texts that are not UTF-8 are repaired, and the spans marked, as those in protobuf are.
    #[test]
    fn both_decoders_repair_alike(request in crate::oracle::request(), every in 1usize..5) {
        let request = with_wrong_texts(request, every);
        let limits = Limits::default();
        let sent = protobuf::decode_export_request(&spoil(request.encode_to_vec()), &limits).expect("protobuf");
        let text = spoil(serde_json::to_vec(&request).expect("serialisable"));
        let read = json::decode_export_request(&text, &limits).expect("JSON");
        let spans = |decoded: &Decoded| (0..decoded.batch.len()).map(|row| decoded.batch.span(row)).collect::<Vec<_>>();
        prop_assert_eq!(spans(&read), spans(&sent));
        prop_assert_eq!(read.rejected, sent.rejected);
        assert_same_in_protobuf(&decode(&text));
    }
}
