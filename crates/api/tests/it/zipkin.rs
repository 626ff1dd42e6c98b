use std::sync::Arc;

use http::StatusCode;
use serde_json::json;
use tracehouse_model::status;
use tracehouse_query::{Condition, Scope, TextField};

use crate::fake::{Fake, START, TRACE};
use crate::{get, tag_condition};

const MICROS: i64 = START / 1000;

fn fake() -> Arc<Fake> {
    Arc::new(Fake::default())
}

#[tokio::test]
async fn names() {
    let table = [
        ("services", json!(["cart", "gateway"]), "services default"),
        ("spans?serviceName=cart", json!(["GET /", "GET /cart"]), "operations Some(\"cart\")"),
        ("autocompleteValues?key=http.route", json!(["/cart", "3"]), "values Either http.route 1000"),
    ];
    for (path, expected, asked) in table {
        for root in ["/api/v2", "/zipkin/api/v2"] {
            let fake = fake();
            assert_eq!(get(&fake, &format!("{root}/{path}")).await.json(), expected, "{path}");
            assert_eq!(*fake.asked.lock(), [asked], "{path}");
        }
    }
    assert_eq!(get(&fake(), "/api/v2/autocompleteKeys").await.json(), json!(["http.route", "retries"]));
}

/// Zipkin's user interface does not begin without it.
#[tokio::test]
async fn configuration_of_the_user_interface() {
    let answer = get(&fake(), "/zipkin/config.json").await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, "application/json"));
    let configuration = answer.json();
    assert_eq!((&configuration["searchEnabled"], &configuration["queryLimit"]), (&json!(true), &json!(10)));
    assert_eq!(configuration["dependency"]["enabled"], json!(true));
}

#[tokio::test]
async fn a_trace() {
    let spans = get(&fake(), &format!("/api/v2/trace/{TRACE}")).await.json();
    assert_eq!(
        spans[0],
        json!({"traceId": TRACE, "id": "0101010101010101", "kind": "SERVER", "name": "GET /", "timestamp": MICROS,
            "duration": 5000, "localEndpoint": {"serviceName": "gateway"},
            "tags": {"otel.scope.name": "shop", "otel.scope.version": "1.2"}})
    );
    let child = &spans[1];
    assert_eq!((&child["parentId"], &child["kind"]), (&json!("0101010101010101"), &json!("CLIENT")));
    assert_eq!((&child["timestamp"], &child["duration"]), (&json!(MICROS + 1), &json!(2000)));
    let annotation = child["annotations"][0]["value"].as_str().expect("a text");
    assert!(annotation.starts_with("{\"exception\":{"), "{annotation}");
    assert_eq!(child["annotations"][0]["timestamp"], json!(MICROS + 1));
    let expected = [
        ("string", "/cart \"quoted\"\n"),
        ("int", "9007199254740993"),
        ("double", "5"),
        ("nan", "-Infinity"),
        ("bool", "false"),
        ("bytes", "AP8="),
        ("empty", ""),
        ("array", "[\"a\",0.5,null]"),
        ("error", "out of stock"),
        ("otel.status_code", "ERROR"),
        ("w3c.tracestate", "ot=th:8"),
    ];
    for (key, value) in expected {
        assert_eq!(child["tags"][key], json!(value), "{key}");
    }
    // Ten nanoseconds, and no kind of Zipkin's.
    assert_eq!((&spans[2]["duration"], spans[2].get("kind")), (&json!(1), None));
}

#[tokio::test]
async fn many_traces() {
    let answer = get(&fake(), &format!("/zipkin/api/v2/traceMany?traceIds={TRACE},1")).await.json();
    assert_eq!((answer.as_array().map(Vec::len), &answer[0][0]["traceId"]), (Some(1), &json!(TRACE)));
    assert_eq!(get(&fake(), "/api/v2/trace/1").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn tempo_keeps_its_address() {
    let answer = get(&fake(), &format!("/api/v2/traces/{TRACE}")).await.json();
    assert!(answer["trace"]["resourceSpans"].is_array());
}

#[tokio::test]
async fn search() {
    let fake = fake();
    let uri = "/api/v2/traces?serviceName=cart&spanName=x&remoteServiceName=db&minDuration=100&maxDuration=200\
               &annotationQuery=http.route%3D%2Fcart%20and%20error%20and%20retry&endTs=10000&lookback=4000&limit=5";
    assert_eq!(get(&fake, uri).await.json()[0][0]["traceId"], TRACE);
    let request = fake.searches.lock().pop().expect("a search was asked");
    let event = |name: &str| Condition::Text { field: TextField::EventName, text: name.to_owned() };
    let has = |key: &str| [Scope::Span, Scope::Resource].map(|scope| Condition::Has { scope, key: key.to_owned() });
    let places = [Scope::Span, Scope::Resource, Scope::Event];
    assert_eq!(request.conditions.len(), 8);
    assert_eq!(request.conditions[..2], [Condition::Service("cart".to_owned()), Condition::Operation("x".to_owned())]);
    assert_eq!(
        request.conditions[3..],
        [
            Condition::DurationMin(100_000),
            Condition::DurationMax(200_999),
            Condition::Any(vec![tag_condition(&[], &places, "http.route", "/cart"), event("http.route=/cart")]),
            Condition::Any([vec![event("error"), Condition::Status(status::ERROR)], has("error").to_vec()].concat()),
            Condition::Any([vec![event("retry")], has("retry").to_vec()].concat()),
        ]
    );
    assert_eq!(request.traceql, None);
    assert_eq!((request.start_unix_nanos, request.end_unix_nanos), (Some(6_000_000_000), Some(10_001_000_000)));
    assert_eq!(request.limit, 5);
}

#[tokio::test]
async fn search_for_anything() {
    let fake = Arc::new(Fake { partial: true, ..Fake::default() });
    let answer = get(&fake, "/zipkin/api/v2/traces").await;
    assert_eq!(answer.header("x-tracehouse-partial"), "2 of 3 files were read");
    let request = fake.searches.lock().pop().expect("a search was asked");
    assert_eq!((request.conditions.len(), request.traceql, request.start_unix_nanos), (0, None, None));
    assert_eq!(request.limit, 10);
}

#[tokio::test]
async fn dependencies() {
    let links = get(&fake(), "/api/v2/dependencies?endTs=100000&lookback=40000").await.json();
    assert_eq!(links, json!([{"parent": "gateway", "child": "cart", "callCount": 1, "errorCount": 1}]));
}

#[tokio::test]
async fn wrong_requests() {
    let table = [
        ("spans", "serviceName"),
        ("traces?limit=0", "from 1 to"),
        ("traces?minDuration=1ms", "microseconds"),
        ("traces?minDuration=5&maxDuration=4", "swap"),
        ("traces?endTs=now", "milliseconds"),
        ("traceMany", "traceIds"),
        ("traceMany?traceIds=xyz", "id"),
        ("autocompleteValues", "key"),
        ("dependencies?lookback=-1", "milliseconds"),
    ];
    for (path, words) in table {
        let answer = get(&fake(), &format!("/api/v2/{path}")).await;
        let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        assert!(detail.contains(words), "{path}: {detail}");
    }
}

/// The types of a Zipkin library read what we write, in single traces and in lists of them.
#[tokio::test]
async fn a_library_of_zipkin_reads_the_answers() {
    let one: Vec<zipkin_types::Span> =
        serde_json::from_slice(&get(&fake(), &format!("/api/v2/trace/{TRACE}")).await.body).expect("a trace");
    let found: Vec<Vec<zipkin_types::Span>> =
        serde_json::from_slice(&get(&fake(), "/zipkin/api/v2/traces").await.body).expect("traces");
    for spans in [&one, &found[0]] {
        let child = &spans[1];
        assert_eq!((spans.len(), child.trace_id().to_string().as_str()), (3, TRACE));
        assert_eq!((child.name(), child.id().to_string().as_str()), (Some("GET /cart"), "0202020202020202"));
        assert_eq!(child.parent_id().map(|id| id.to_string()).as_deref(), Some("0101010101010101"));
        assert!(matches!(child.kind(), Some(zipkin_types::Kind::Client)));
        assert_eq!(child.local_endpoint().and_then(|endpoint| endpoint.service_name()), Some("cart"));
        assert_eq!(child.tags()["error"], "out of stock");
        let begin = std::time::UNIX_EPOCH + std::time::Duration::from_micros(MICROS as u64 + 1);
        assert_eq!((child.timestamp(), child.duration()), (Some(begin), Some(std::time::Duration::from_millis(2))));
        assert_eq!((child.annotations()[0].timestamp(), child.shared()), (begin, false));
    }
}
