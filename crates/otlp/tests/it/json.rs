//! What JSON may look like beyond what one serialiser writes.

use tracehouse_model::{AnyValue, Limits, Marks, Span};
use tracehouse_otlp::json;

/// The one span of a request that has these members besides ids and times.
fn span_with(members: &str) -> Span {
    let text = format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{
            "traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174",
            "startTimeUnixNano":"1000","endTimeUnixNano":1500,{members}}}]}}]}}]}}"#
    );
    let decoded = json::decode_export_request(text.as_bytes(), &Limits::default()).expect("readable");
    assert_eq!(decoded.batch.len(), 1, "{}", decoded.rejected.message());
    decoded.batch.span(0)
}

fn value_of(value: &str) -> AnyValue {
    let span = span_with(&format!(r#""attributes":[{{"key":"k","value":{value}}}]"#));
    assert_eq!(span.attributes.len(), 1);
    span.attributes[0].1.clone()
}

#[test]
fn the_example_of_the_specification() {
    let text = include_bytes!("../data/trace.json");
    let decoded = json::decode_export_request(text, &Limits::default()).expect("readable");
    let span = decoded.batch.span(0);
    let string = |text: &str| AnyValue::String(text.into());
    assert_eq!(span.trace_id.to_string(), "5b8efff798038103d269b633813fc60c");
    assert_eq!(span.span_id.to_string(), "eee19b7ec3c1b174");
    assert_eq!(span.parent_span_id.to_string(), "eee19b7ec3c1b173");
    assert_eq!((&span.name[..], &span.service_name[..], span.kind), ("I'm a server span", "my.service", 2));
    assert_eq!((span.start_unix_nanos, span.duration_nanos), (1_544_712_660_000_000_000, 1_000_000_000));
    assert_eq!(span.attributes, vec![("my.span.attr".into(), string("some value"))]);
    assert_eq!((&span.scope_name[..], &span.scope_version[..]), ("my.library", "1.0.0"));
    assert_eq!(span.scope_attributes, vec![("my.scope.attribute".into(), string("some scope attribute"))]);
}

#[test]
fn values_in_every_form() {
    let string = |text: &str| AnyValue::String(text.into());
    let cases = [
        (r#"{"stringValue":"a\n\u00e9"}"#, string("a\né")),
        (r#"{"intValue":"-9223372036854775808"}"#, AnyValue::Int(i64::MIN)),
        (r#"{"intValue":7}"#, AnyValue::Int(7)),
        (r#"{"intValue":1e3}"#, AnyValue::Int(1000)),
        (r#"{"int_value":"7"}"#, AnyValue::Int(7)),
        (r#"{"doubleValue":1}"#, AnyValue::Double(1.0)),
        (r#"{"doubleValue":"Infinity"}"#, AnyValue::Double(f64::INFINITY)),
        (r#"{"doubleValue":"-Infinity"}"#, AnyValue::Double(f64::NEG_INFINITY)),
        (r#"{"doubleValue":0.1}"#, AnyValue::Double(0.1)),
        (r#"{"doubleValue":"0.5"}"#, AnyValue::Double(0.5)),
        (r#"{"boolValue":false}"#, AnyValue::Bool(false)),
        (r#"{"boolValue":"true"}"#, AnyValue::Bool(true)),
        (r#"{"bytesValue":"/+8="}"#, AnyValue::Bytes(vec![0xff, 0xef])),
        (r#"{"bytesValue":"_-8"}"#, AnyValue::Bytes(vec![0xff, 0xef])),
        (r#"{"arrayValue":{"values":[{"intValue":"1"},{},null]}}"#, {
            AnyValue::Array(vec![AnyValue::Int(1), AnyValue::Empty, AnyValue::Empty])
        }),
        (r#"{"arrayValue":{}}"#, AnyValue::Array(Vec::new())),
        (r#"{"arrayValue":null,"stringValue":"x"}"#, string("x")),
        (r#"{"stringValue":"x","arrayValue":null,"intValue":null}"#, string("x")),
        (r#"{"kvlistValue":{"values":[{"value":{"boolValue":true},"key":"b"}]}}"#, {
            AnyValue::KeyValueList(vec![("b".into(), AnyValue::Bool(true))])
        }),
        (r#"{"somethingNew":{"a":[1,2]}}"#, AnyValue::Empty),
        ("null", AnyValue::Empty),
        ("{}", AnyValue::Empty),
    ];
    for (text, expected) in cases {
        assert_eq!(value_of(text), expected, "{text}");
    }
    assert!(matches!(value_of(r#"{"doubleValue":"NaN"}"#), AnyValue::Double(value) if value.is_nan()));
}

#[test]
fn enums_by_number_and_name() {
    let cases = [
        ("2", 2, Marks::default()),
        (r#""3""#, 3, Marks::default()),
        (r#""SPAN_KIND_SERVER""#, 2, Marks::default()),
        ("null", 0, Marks::default()),
        ("77", 0, Marks::UNKNOWN_ENUM),
        (r#""SPAN_KIND_NEW""#, 0, Marks::UNKNOWN_ENUM),
    ];
    for (text, kind, marks) in cases {
        let span = span_with(&format!(r#""kind":{text}"#));
        assert_eq!((span.kind, span.marks), (kind, marks), "{text}");
    }
    let span = span_with(r#""status":{"code":"STATUS_CODE_ERROR","message":"no"}"#);
    assert_eq!((span.status_code, &span.status_message[..]), (2, "no"));
}

#[test]
fn members_in_any_order_of_either_spelling_and_null() {
    let text = r#"{"new":1,"resource_spans":[{"schema_url":"u","scope_spans":[{"spans":[
            {"end_time_unix_nano":"1500","start_time_unix_nano":1000,"span_id":"EEE19B7EC3C1B174",
             "trace_id":"5b8efff798038103d269b633813fc60c","parent_span_id":null,"trace_state":"ot=th:8","flags":257,
             "dropped_attributes_count":"3","attributes":null,"events":[null,{"name":"e","time_unix_nano":"5"}],
             "links":[{"span_id":"eee19b7ec3c1b174"}],"status":null,"name":null}],"scope":{"name":"s"}}],
         "resource":{"attributes":[{"value":{"stringValue":"cart"},"key":"service.name"}]}}]}"#;
    let decoded = json::decode_export_request(text.as_bytes(), &Limits::default()).expect("readable");
    let span = decoded.batch.span(0);
    assert_eq!((&span.service_name[..], &span.scope_name[..], &span.resource_schema_url[..]), ("cart", "s", "u"));
    assert_eq!((span.flags, span.dropped_attributes, span.duration_nanos), (257, 3, 500));
    assert_eq!(span.sampling_threshold.map(|threshold| threshold.adjusted_count()), Some(2.0));
    assert_eq!((span.events.len(), span.dropped_events, span.events[0].time_unix_nanos), (1, 1, 5));
    assert_eq!(span.links.len(), 1);
}

#[test]
fn wrong_ids_refuse_the_span_and_wrong_json_the_request() {
    for id in ["", "00000000000000000000000000000000", "xyz", "5b8e", "5b8efff798038103d269b633813fc60c0"] {
        let text = format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"{id}","spanId":"eee19b7ec3c1b174","startTimeUnixNano":1}},null]}}]}}]}}"#
        );
        let decoded = json::decode_export_request(text.as_bytes(), &Limits::default()).expect("readable");
        assert_eq!((decoded.batch.len(), decoded.rejected.count()), (0, 2), "{id}");
    }
    let deep = format!(r#"{{"resourceSpans":{}"#, "[".repeat(100_000));
    let wrong = [
        "",
        "[]",
        "{} {}",
        r#"{"resourceSpans":{}}"#,
        r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"unfinished]}]}]}"#,
        r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"name":"a" "kind":1}]}]}]}"#,
        &deep,
    ];
    for text in wrong {
        assert!(json::decode_export_request(text.as_bytes(), &Limits::default()).is_err(), "{text:.100}");
    }
}

#[test]
fn values_nested_too_deep_are_dropped_and_long_ones_cut() {
    let limits = Limits { value_depth_max: 20, attribute_value_bytes_max: 50, ..Limits::default() };
    for (depth, kept) in [(1, true), (20, true), (21, false), (30, false)] {
        let value = format!("{}{}", r#"{"arrayValue":{"values":["#.repeat(depth), "]}}".repeat(depth));
        let text = format!(
            r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"5b8efff798038103d269b633813fc60c",
                "spanId":"eee19b7ec3c1b174","startTimeUnixNano":1,"endTimeUnixNano":2,
                "attributes":[{{"key":"k","value":{value}}},{{"key":"l","value":{{"arrayValue":{{"values":[{}{{}}]}}}}}}]}}]}}]}}]}}"#,
            r#"{"stringValue":"0123456789"},"#.repeat(100)
        );
        let decoded = json::decode_export_request(text.as_bytes(), &limits).expect("readable");
        let span = decoded.batch.span(0);
        assert_eq!(span.attributes[0].0 == "k", kept, "{depth}");
        assert_eq!(span.dropped_attributes, u32::from(!kept));
        let (_, AnyValue::Array(elements)) = &span.attributes[usize::from(kept)] else { panic!("an array") };
        assert!((1..5).contains(&elements.len()), "{elements:?}");
        assert!(span.marks.contains(Marks::VALUE_CUT));
        assert_eq!(span.marks.contains(Marks::OVER_LIMIT), !kept);
    }
}
