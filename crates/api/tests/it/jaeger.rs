use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};
use tracehouse_model::{kind, status};
use tracehouse_query::{Condition, Scope};

use crate::fake::{Fake, START, TRACE};
use crate::{get, get_with, tag_condition};

const MICROS: i64 = START / 1000;
/// Where Jaeger's tags are looked for.
pub(crate) const PLACES: [Scope; 5] = [Scope::Span, Scope::Resource, Scope::Instrumentation, Scope::Event, Scope::Link];

fn fake() -> Arc<Fake> {
    Arc::new(Fake::default())
}

fn tag<'a>(tags: &'a Value, key: &str) -> &'a Value {
    let found = tags.as_array().expect("tags").iter().find(|tag| tag["key"] == key);
    found.unwrap_or_else(|| panic!("no tag {key} in {tags}"))
}

#[tokio::test]
async fn names() {
    let table = [
        ("/api/services", json!(["cart", "gateway"])),
        ("/jaeger/api/services", json!(["cart", "gateway"])),
        ("/api/services/a%20b/operations", json!(["GET /", "GET /cart"])),
        (
            "/api/operations?service=cart",
            json!([
                {"name": "GET /", "spanKind": "client"},
                {"name": "GET /", "spanKind": "server"},
                {"name": "GET /cart", "spanKind": ""},
            ]),
        ),
        ("/api/operations?service=cart&spanKind=server", json!([{"name": "GET /", "spanKind": "server"}])),
        ("/api/operations?service=cart&spanKind=consumer", json!([])),
    ];
    for (uri, data) in table {
        let total = data.as_array().map_or(0, Vec::len);
        let expected = json!({"data": data, "total": total, "limit": 0, "offset": 0, "errors": null});
        assert_eq!(get(&fake(), uri).await.json(), expected, "{uri}");
    }
}

#[tokio::test]
async fn answers_for_people() {
    let trace = format!("/jaeger/api/traces/{TRACE}");
    let paths =
        ["/api/services", "/api/services/a/operations", "/api/operations?service=a", &trace, "/api/traces?limit=1"];
    for path in paths {
        let joined = if path.contains('?') { '&' } else { '?' };
        let compact = get(&fake(), path).await;
        for (value, pretty) in [("true", true), ("1", true), ("false", false), ("", false)] {
            let answer = get(&fake(), &format!("{path}{joined}prettyPrint={value}")).await;
            assert_eq!(answer.json(), compact.json(), "{path} {value}");
            assert_eq!(answer.body.starts_with(b"{\n    \"data\": [\n        "), pretty, "{path} {value}");
        }
    }
}

#[tokio::test]
async fn a_trace() {
    let uri = format!("/jaeger/api/traces/{TRACE}");
    let answer = get(&fake(), &uri).await.json();
    assert_eq!((&answer["total"], &answer["errors"]), (&json!(1), &Value::Null));
    let trace = &answer["data"][0];
    assert_eq!((&trace["traceID"], &trace["warnings"]), (&json!(TRACE), &Value::Null));
    // The cart's resource came twice.
    assert_eq!(trace["processes"]["p1"], json!({"serviceName": "gateway", "tags": []}));
    assert_eq!(trace["processes"]["p2"], json!({"serviceName": "cart", "tags": []}));
    assert_eq!(trace["processes"].as_object().map(serde_json::Map::len), Some(2));
    let [root, child, orphan] = [0, 1, 2].map(|at| &trace["spans"][at]);
    assert_eq!((&root["references"], &root["processID"]), (&json!([]), &json!("p1")));
    assert_eq!((&root["startTime"], &root["duration"]), (&json!(MICROS), &json!(5000)));
    assert_eq!((&orphan["duration"], &orphan["processID"]), (&json!(0), &json!("p2")));
    assert_eq!(
        child["references"],
        json!([
            {"refType": "CHILD_OF", "traceID": TRACE, "spanID": "0101010101010101"},
            {"refType": "FOLLOWS_FROM", "traceID": "07".repeat(16), "spanID": "0808080808080808"},
        ])
    );
    assert_eq!(
        (&child["spanID"], &child["operationName"], &child["startTime"]),
        (&json!("0202020202020202"), &json!("GET /cart"), &json!(MICROS + 1))
    );
    let expected = [
        ("int", "int64", json!("9007199254740993")),
        ("double", "float64", json!(5.0)),
        ("nan", "string", json!("-Infinity")),
        ("bool", "bool", json!(false)),
        ("bytes", "binary", json!("AP8=")),
        ("array", "string", json!("[\"a\",0.5,null]")),
        ("span.kind", "string", json!("client")),
        ("otel.scope.name", "string", json!("shop")),
        ("otel.scope.version", "string", json!("1.2")),
        ("otel.status_code", "string", json!("ERROR")),
        ("otel.status_description", "string", json!("out of stock")),
        ("w3c.tracestate", "string", json!("ot=th:8")),
        ("error", "bool", json!(true)),
    ];
    for (key, tag_type, value) in expected {
        assert_eq!(*tag(&child["tags"], key), json!({"key": key, "type": tag_type, "value": value}));
    }
    let log = &child["logs"][0];
    assert_eq!(log["timestamp"], json!(MICROS + 1));
    assert_eq!(*tag(&log["fields"], "event"), json!({"key": "event", "type": "string", "value": "exception"}));
    assert_eq!(*tag(&log["fields"], "bool"), json!({"key": "bool", "type": "bool", "value": false}));
}

#[tokio::test]
async fn unknown_traces() {
    let answer = get(&fake(), "/jaeger/api/traces/1").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
    assert_eq!((&answer.json()["data"], &answer.json()["errors"][0]["code"]), (&Value::Null, &json!(404)));
    let both = get(&fake(), &format!("/api/traces?traceID={TRACE}&traceID=1")).await;
    let (status, both) = (both.status, both.json());
    assert_eq!((status, &both["total"]), (StatusCode::OK, &json!(1)));
    let expected = json!([{"code": 404, "msg": "trace not found", "traceID": format!("{:032x}", 1)}]);
    assert_eq!(both["errors"], expected);
}

#[tokio::test]
async fn tempo_keeps_its_address() {
    assert!(get(&fake(), &format!("/api/traces/{TRACE}")).await.json()["batches"].is_array());
}

#[tokio::test]
async fn search() {
    let fake = fake();
    let uri = "/api/traces?service=cart&operation=x&tags=%7B%22http.route%22%3A%22%2Fcart%22%2C%22error%22%3A%22true%22%7D\
               &tag=span.kind:server&start=1000&end=2000&lookback=custom&minDuration=1ms&maxDuration=2s&limit=5";
    let answer = get(&fake, uri).await.json();
    assert_eq!(answer["data"][0]["traceID"], TRACE);
    let request = fake.searches.lock().pop().expect("a search was asked");
    assert_eq!(
        request.conditions,
        [
            Condition::Service("cart".to_owned()),
            Condition::Operation("x".to_owned()),
            Condition::DurationMin(1_000_000),
            Condition::DurationMax(2_000_000_999),
            tag_condition(&[Condition::Status(status::ERROR)], &PLACES, "error", "true"),
            tag_condition(&[], &PLACES, "http.route", "/cart"),
            tag_condition(&[Condition::Kind(kind::SERVER)], &PLACES, "span.kind", "server"),
        ]
    );
    assert_eq!((request.start_unix_nanos, request.end_unix_nanos), (Some(1_000_000), Some(2_000_000)));
    assert_eq!(request.limit, 5);
}

#[tokio::test]
async fn search_for_anything_looks_back() {
    let fake = fake();
    assert_eq!(get(&fake, "/jaeger/api/traces?end=7200000000&lookback=1h").await.status, StatusCode::OK);
    let request = fake.searches.lock().pop().expect("a search was asked");
    assert_eq!((request.conditions.len(), request.limit), (0, 100));
    assert_eq!(request.start_unix_nanos, Some(3_600_000_000_000));
}

#[tokio::test]
async fn partial_answers_say_so() {
    let partial = Arc::new(Fake { partial: true, ..Fake::default() });
    let errors = &get(&partial, "/api/traces").await.json()["errors"];
    assert_eq!(*errors, json!([{"code": 206, "msg": "not everything: 2 of 3 files were read"}]));
    let many = Arc::new(Fake { more_spans: 200_000, ..Fake::default() });
    let answer = get(&many, &format!("/jaeger/api/traces/{TRACE}")).await.json();
    assert_eq!(answer["data"][0]["warnings"], json!(["this trace is not whole: 200000 of 200003 spans"]));
}

#[tokio::test]
async fn dependencies() {
    let fake = fake();
    let expected = json!({"data": [{"parent": "gateway", "child": "cart", "callCount": 1}], "total": 1, "limit": 0,
        "offset": 0, "errors": null});
    assert_eq!(get(&fake, "/api/dependencies?endTs=100000&lookback=40000").await.json(), expected);
    // Grafana shows nothing at all if there is an error.
    let partial = Arc::new(Fake { partial: true, ..Fake::default() });
    let answer = get(&partial, "/jaeger/api/dependencies?endTs=100000&lookback=40000").await;
    assert_eq!((answer.json(), answer.header("x-tracehouse-partial")), (expected, "2 of 3 files were read"));
    let request = fake.searches.lock().pop().expect("a search was asked");
    assert_eq!((request.start_unix_nanos, request.end_unix_nanos), (Some(60_000_000_000), Some(100_001_000_000)));
}

/// Grafana's data sources offer zstd and can't read it; older ones can't read any encoding where names are listed.
#[tokio::test]
async fn compression_is_what_grafana_reads() {
    let table = [
        ("/jaeger/api/services", ""),
        ("/jaeger/api/services/cart/operations", ""),
        ("/jaeger/api/v3/services", ""),
        ("/api/v3/operations?service=cart", ""),
        ("/jaeger/api/traces", "gzip"),
        ("/api/search", "gzip"),
        ("/api/v2/search/tags", "gzip"),
        ("/api/v2/traces", "gzip"),
        ("/api/v1/search", "zstd"),
    ];
    for (uri, encoding) in table {
        let answer = get_with(&fake(), uri, &[("accept-encoding", "gzip, deflate, br, zstd")]).await;
        assert_eq!((answer.status, answer.header("content-encoding")), (StatusCode::OK, encoding), "{uri}");
    }
}

/// Never the page of the user interface.
#[tokio::test]
async fn unknown_addresses() {
    let form = |body: Value| match (&body["error"]["httpCode"], &body["errors"][0]["code"], &body["status"]) {
        (Value::Number(code), _, _) => ("v3", code.as_u64()),
        (_, Value::Number(code), _) => ("classic", code.as_u64()),
        (_, _, code) => ("problem", code.as_u64()),
    };
    let table = [
        ("/jaeger/api/nothing", "classic", 404),
        ("/jaeger/search", "classic", 404),
        ("/jaeger/api/traces/1/2", "classic", 404),
        ("/jaeger/api/metrics/nothing", "classic", 404),
        ("/jaeger/api/metrics/latencies?service=cart", "classic", 501),
        ("/jaeger/api/metrics/calls", "classic", 501),
        ("/jaeger/api/metrics/errors", "classic", 501),
        ("/jaeger/api/metrics/minstep", "classic", 501),
        ("/jaeger/api/v3/nothing", "v3", 404),
        ("/zipkin/api/v2/nothing", "problem", 404),
        ("/zipkin/traces/1", "problem", 404),
    ];
    for (uri, expected, code) in table {
        let answer = get(&fake(), uri).await;
        assert_eq!(u64::from(answer.status.as_u16()), code, "{uri}");
        assert_eq!(form(answer.json()), (expected, Some(code)), "{uri}");
    }
}

#[tokio::test]
async fn wrong_requests() {
    let table = [
        ("/api/traces?start=x", "microseconds"),
        ("/api/traces?limit=0", "from 1 to"),
        ("/api/traces?tags=a", "JSON object"),
        ("/api/traces?tag=a", "a colon"),
        ("/api/traces?minDuration=5", "12.5ms"),
        ("/api/traces?lookback=week", "2d"),
        ("/api/traces?traceID=xyz", "id"),
        ("/api/operations?spanKind=x", "one of internal"),
        ("/api/dependencies?endTs=x", "milliseconds"),
    ];
    for (uri, words) in table {
        let answer = get(&fake(), uri).await;
        let msg = answer.json()["errors"][0]["msg"].as_str().unwrap_or_default().to_owned();
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{uri}");
        assert!(msg.contains(words), "{uri}: {msg}");
    }
}
