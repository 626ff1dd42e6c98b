use std::sync::Arc;

use axum::body::Body;
use http::{Request, StatusCode};
use http_body::SizeHint;
use serde_json::{Value, json};
use tower::ServiceExt;
use tracehouse_model::{kind, status};
use tracehouse_query::{Condition, Operator, Order, OrderKey, Scope};

use crate::fake::{Fake, START, TRACE};
use crate::{app, get, get_with, send};

fn fake() -> Arc<Fake> {
    Arc::new(Fake::default())
}

#[tokio::test]
async fn names() {
    let table = [
        ("/api/v1/services", json!({"services": [{"name": "cart"}, {"name": "gateway"}], "complete": true})),
        (
            "/api/v1/services?start=2026-01-31T12:00:00Z&end=1769860801",
            json!({"services": [{"name": "cart"}, {"name": "gateway"}], "complete": true}),
        ),
        ("/api/v1/operations?service=cart", json!({"operations": ["GET /", "GET /cart"], "complete": true})),
        (
            "/api/v1/attributes/keys?scope=resource",
            json!({"keys": [{"scope": "resource", "key": "service.name"}], "complete": true}),
        ),
        (
            "/api/v1/attributes/values?scope=span&key=http.route&limit=5",
            json!({"values": [{"type": "string", "value": "/cart"}, {"type": "int", "value": "3"},
                {"type": "string", "value": "3"}], "complete": true}),
        ),
    ];
    for (uri, expected) in table {
        let answer = get(&fake(), uri).await;
        assert_eq!((answer.status, answer.json()), (StatusCode::OK, expected), "{uri}");
        assert_eq!(answer.header("content-type"), "application/json");
    }
}

/// Every wrong parameter is refused with words that name it.
#[tokio::test]
async fn wrong_requests() {
    let table = [
        ("/api/v1/services?sevice=cart", "sevice"),
        ("/api/v1/search?servce=", "servce"),
        ("/api/v1/services?start=yesterday", "RFC 3339"),
        ("/api/v1/services?start=1769860800000", "nanoseconds"),
        ("/api/v1/services?start=20&end=10", "after `end`"),
        ("/api/v1/services?start=1&start=2", "twice"),
        ("/api/v1/attributes/keys?scope=body", "one of span"),
        ("/api/v1/attributes/values?scope=span", "`key` is missing"),
        ("/api/v1/attributes/values?key=a&limit=10001", "from 1 to 10000"),
        ("/api/v1/search?limit=0", "from 1 to 1000"),
        ("/api/v1/search?limit=1001", "from 1 to 1000"),
        ("/api/v1/search?limit=ten", "\"ten\""),
        ("/api/v1/search?limit=-1", "`limit`"),
        ("/api/v1/search?sort=newest", "start, root, duration"),
        ("/api/v1/search?sort=--spans", "start, root, duration"),
        ("/api/v1/search/count?limit=5", "limit"),
        ("/api/v1/search/count?sort=spans", "sort"),
        ("/api/v1/tail?start=2026-01-31T12:00:00Z", "start"),
        ("/api/v1/tail?after=yesterday", "the position of an answer"),
        ("/api/v1/tail?after=-1", "the position of an answer"),
        ("/api/v1/tail?q=%7B", "at 1: expected"),
        ("/api/v1/metrics?q=%7B%7D%7Crate()&buckets=3", "1, 2 or 4"),
        ("/api/v1/search?status=failed", "error, ok or unset"),
        ("/api/v1/search?kind=web", "server, client"),
        ("/api/v1/search?minDuration=5", "12.5ms"),
        ("/api/v1/search?minDuration=2s&maxDuration=1s", "above `maxDuration`"),
        ("/api/v1/search?attr=http.route", "an operator"),
        ("/api/v1/search?attr==x", "a key"),
        ("/api/v1/search?q=%7B", "at 1: expected"),
        ("/api/v1/search?tags=a", "tags"),
        ("/api/v1/traces/xyz", "not a trace id"),
        ("/api/v1/traces/0", "not all zero"),
        ("/api/v1/traces/5b8efff798038103d269b633813fc60c?limit=0", "from 1 to"),
        ("/api/v1/traces/1/spans/00000000000000001", "not a span id"),
        ("/api/v1/traces/1/find", "`q` is missing"),
        ("/api/v1/status?verbose=1", "takes none"),
    ];
    for (uri, words) in table {
        let answer = get(&fake(), uri).await;
        let problem = answer.json();
        let detail = problem["detail"].as_str().expect("a detail");
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{uri}: {detail}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(problem["status"], 400);
        assert!(problem["title"].is_string() && problem["type"].is_string());
        assert!(detail.contains(words), "{uri}: {detail}");
    }
    let many = format!("/api/v1/search?{}", "attr=a=1&".repeat(33));
    assert_eq!(get(&fake(), &many).await.status, StatusCode::BAD_REQUEST);
    let long = format!("/api/v1/services?start={}", "1".repeat(20_000));
    assert_eq!(get(&fake(), &long).await.status, StatusCode::URI_TOO_LONG);
}

#[tokio::test]
async fn tenants() {
    let fake = fake();
    for (header, status, asked) in [
        ("acme-1", StatusCode::OK, Some("services acme-1")),
        ("acme-1, acme-1", StatusCode::OK, Some("services acme-1")),
        ("", StatusCode::OK, Some("services default")),
        ("b|a", StatusCode::OK, Some("services b|a")),
        ("a|a", StatusCode::OK, Some("services a")),
        ("a|b, a|b", StatusCode::OK, Some("services a|b")),
        ("a|", StatusCode::BAD_REQUEST, None),
        ("a|b, b|a", StatusCode::BAD_REQUEST, None),
        ("../x", StatusCode::BAD_REQUEST, None),
    ] {
        fake.asked.lock().clear();
        let answer = get_with(&fake, "/api/v1/services", &[("X-Scope-OrgID", header)]).await;
        assert_eq!(answer.status, status, "{header:?}");
        assert_eq!(fake.asked.lock().first().map(String::as_str), asked, "{header:?}");
    }
    for (second, status) in [("a", StatusCode::OK), ("b", StatusCode::BAD_REQUEST)] {
        let twice = [("x-scope-orgid", "a"), ("x-scope-orgid", second)];
        assert_eq!(get_with(&fake, "/api/v1/services", &twice).await.status, status);
    }
    let other = get_with(&fake, &format!("/api/v1/traces/{TRACE}"), &[("X-Scope-OrgID", "acme")]).await;
    assert_eq!(other.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn search_asks_and_answers() {
    let fake = fake();
    let uri = "/api/v1/search?service=cart&operation=GET+%2Fcart&status=error&kind=client&minDuration=12.5ms&maxDuration=2s\
               &attr=http.route%3D%2Fcart&attr=span.retries%3E%3D3&attr=resource.host.name%3D~web.*&q=%7B%20true%20%7D\
               &start=2026-01-31T12:00:00Z&end=1769860801.5&limit=7&operation=";
    let answer = get(&fake, uri).await;
    assert_eq!(
        answer.json(),
        json!({
            "traces": [{
                "traceId": TRACE, "rootServiceName": "gateway", "rootSpanName": "GET /",
                "startTimeUnixNano": START.to_string(), "durationNanos": 5_000_000, "spanCount": 3, "errorCount": 1,
                "rootMissing": false,
                "services": [{"name": "cart", "spanCount": 2, "errorCount": 1},
                    {"name": "gateway", "spanCount": 1, "errorCount": 0}],
                "matchedCount": 2,
                "spansets": [{"by": [], "aggregates": [{"key": "count()", "type": "int", "value": "2"}], "matchedCount": 2, "spans": [{"spanId": "0202020202020202", "name": "GET /cart",
                    "serviceName": "cart", "startTimeUnixNano": (START + 1000).to_string(), "durationNanos": 2_000_000,
                    "status": "error", "fields": [{"key": "span.http.route", "type": "string", "value": "/cart"}]}]}],
            }],
            "tracesMatched": 1, "complete": true, "partialReason": null,
            "inspected": {"spans": 1000, "files": 2, "filesTotal": 3, "bytes": 1234}, "elapsedNanos": 0,
        })
    );
    let request = fake.searches.lock().pop().expect("a search was asked");
    let attribute = |scope, key: &str, operator, value: &str| Condition::Attribute {
        scope,
        key: key.to_owned(),
        operator,
        value: value.to_owned(),
    };
    assert_eq!(
        request.conditions,
        [
            Condition::Service("cart".to_owned()),
            Condition::Operation("GET /cart".to_owned()),
            Condition::Status(status::ERROR),
            Condition::Kind(kind::CLIENT),
            Condition::DurationMin(12_500_000),
            Condition::DurationMax(2_000_000_000),
            attribute(Scope::Either, "http.route", Operator::Equal, "/cart"),
            attribute(Scope::Span, "retries", Operator::GreaterOrEqual, "3"),
            attribute(Scope::Resource, "host.name", Operator::Matches, "web.*"),
        ]
    );
    assert_eq!(request.traceql.as_deref(), Some("{ true }"));
    assert_eq!(request.start_unix_nanos, Some(START));
    assert_eq!(request.end_unix_nanos, Some(START + 1_500_000_000));
    assert_eq!((request.limit, request.spans_per_spanset), (7, 3));

    get(&fake, "/api/v1/search").await;
    let request = fake.searches.lock().pop().expect("a search was asked");
    assert_eq!((request.limit, request.conditions.len(), request.start_unix_nanos), (20, 0, None));
    assert_eq!(request.order, None);

    for (sort, key, descending) in [
        ("start", OrderKey::Start, false),
        ("-start", OrderKey::Start, true),
        ("root", OrderKey::Root, false),
        ("-duration", OrderKey::Duration, true),
        ("spans", OrderKey::Spans, false),
        ("-errors", OrderKey::Errors, true),
    ] {
        get(&fake, &format!("/api/v1/search?sort={sort}")).await;
        let request = fake.searches.lock().pop().expect("a search was asked");
        assert_eq!(request.order, Some(Order { key, descending }), "{sort}");
    }
}

#[tokio::test]
async fn traces_are_counted() {
    let fake = fake();
    let body = get(&fake, "/api/v1/search/count?service=cart&start=2026-01-31T12:00:00Z").await.json();
    let inspected = json!({"spans": 1000, "files": 2, "filesTotal": 3, "bytes": 1234});
    let expected =
        json!({"traces": 1, "complete": true, "partialReason": null, "inspected": inspected, "elapsedNanos": 0});
    assert_eq!(body, expected);
    let request = fake.searches.lock().pop().expect("a count was asked");
    assert_eq!((request.conditions, request.start_unix_nanos), (vec![Condition::Service("cart".into())], Some(START)));
    let partial = Arc::new(Fake { partial: true, ..Fake::default() });
    let body = get(&partial, "/api/v1/search/count").await.json();
    assert_eq!((&body["complete"], &body["partialReason"]), (&json!(false), &json!("2 of 3 files were read")));
}

#[tokio::test]
async fn a_tail_goes_on_from_its_position() {
    let fake = fake();
    let first = get(&fake, "/api/v1/tail?service=cart").await.json();
    let nothing = json!({
        "traces": [], "tracesMatched": 0, "tracesBegun": 0, "spansArrived": 12, "position": "107", "complete": true, "partialReason": null,
        "elapsedNanos": 0,
    });
    assert_eq!(first, nothing);
    let request = fake.searches.lock().pop().expect("it was asked");
    assert_eq!((request.conditions, request.limit), (vec![Condition::Service("cart".into())], 20));
    let next = get(&fake, "/api/v1/tail?service=cart&after=107&limit=5").await.json();
    assert_eq!((&next["position"], &next["tracesMatched"]), (&json!("114"), &json!(1)));
    assert_eq!(next["traces"], get(&fake, "/api/v1/search").await.json()["traces"]);
    let partial = Arc::new(Fake { partial: true, ..Fake::default() });
    let body = get(&partial, "/api/v1/tail").await.json();
    assert_eq!((&body["complete"], &body["partialReason"]), (&json!(false), &json!("2 of 3 files were read")));
}

#[tokio::test]
async fn a_partial_search_says_so() {
    let fake = Arc::new(Fake { partial: true, ..Fake::default() });
    let body = get(&fake, "/api/v1/search").await.json();
    assert_eq!((&body["complete"], &body["partialReason"]), (&json!(false), &json!("2 of 3 files were read")));
}

fn compact_trace() -> Value {
    json!({
        "traceId": TRACE, "spanCount": 3, "returned": 3, "complete": true, "partialReason": null,
        "startTimeUnixNano": START.to_string(), "durationNanos": 5_000_000,
        "rootServiceName": "gateway", "rootSpanName": "GET /", "errorCount": 1, "duplicates": 1,
        "services": ["gateway", "cart"], "names": ["GET /", "GET /cart", "orphan"],
        "spans": {
            "id": ["0101010101010101", "0202020202020202", "0303030303030303"],
            "parent": [-1, 0, -2], "parentId": ["", "", "0909090909090909"],
            "start": [0, 1000, 3000], "duration": [5_000_000, 2_000_000, 10],
            "service": [0, 1, 1], "name": [0, 1, 2], "kind": [2, 3, 1], "status": [0, 2, 0],
            "events": [0, 1, 0], "links": [0, 1, 0], "exception": [0, 1, 0],
        },
    })
}

#[tokio::test]
async fn a_trace_as_columns() {
    let fake = fake();
    assert_eq!(get(&fake, &format!("/api/v1/traces/{TRACE}")).await.json(), compact_trace());
    // Leading zeros and the case of digits don't matter.
    assert_eq!(get(&fake, &format!("/api/v1/traces/{}", TRACE.to_uppercase())).await.json(), compact_trace());

    let cut = get(&fake, &format!("/api/v1/traces/{TRACE}?limit=2")).await.json();
    assert_eq!((&cut["spanCount"], &cut["returned"]), (&json!(3), &json!(2)));
    assert_eq!((&cut["complete"], &cut["partialReason"]), (&json!(false), &json!("2 of 3 spans are shown")));
    assert_eq!(cut["spans"]["id"].as_array().map(Vec::len), Some(2));
    assert!(cut["spans"].get("parentId").is_none());

    let unknown = get(&fake, "/api/v1/traces/abc").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert!(unknown.json()["detail"].as_str().expect("a detail").contains("00000000000000000000000000000abc"));
}

#[tokio::test]
async fn a_large_trace_is_compressed() {
    let fake = Arc::new(Fake { more_spans: 20_000, ..Fake::default() });
    let uri = format!("/api/v1/traces/{TRACE}");
    let plain = get(&fake, &uri).await;
    assert_eq!(plain.header("content-encoding"), "");
    assert_eq!(plain.json()["returned"], 20_003);
    let packed = get_with(&fake, &uri, &[("accept-encoding", "br, gzip;q=0.8")]).await;
    assert_eq!((packed.header("content-encoding"), packed.header("vary")), ("gzip", "accept-encoding"));
    assert!(packed.body.len() * 4 < plain.body.len(), "{} of {}", packed.body.len(), plain.body.len());
    let refused = get_with(&fake, &uri, &[("accept-encoding", "gzip;q=0")]).await;
    assert_eq!(refused.body, plain.body);
}

#[tokio::test]
async fn a_span_in_full() {
    let answer = get(&fake(), &format!("/api/v1/traces/{TRACE}/spans/0202020202020202")).await;
    let attributes = json!([
        {"key": "string", "type": "string", "value": "/cart \"quoted\"\n"},
        {"key": "text.empty", "type": "string", "value": ""},
        {"key": "int", "type": "int", "value": "9007199254740993"},
        {"key": "double", "type": "double", "value": 5.0},
        {"key": "nan", "type": "double", "value": "-Infinity"},
        {"key": "bool", "type": "bool", "value": false},
        {"key": "bytes", "type": "bytes", "value": "AP8="},
        {"key": "empty", "type": "empty", "value": null},
        {"key": "array", "type": "array", "value": ["a", 0.5, null]},
        {"key": "kvlist", "type": "kvlist", "value": {"deep": i64::MAX, "bytes": {"$bytes": "AQID"}}},
    ]);
    assert_eq!(
        answer.json(),
        json!({
            "traceId": TRACE, "spanId": "0202020202020202", "parentSpanId": "0101010101010101", "name": "GET /cart",
            "serviceName": "cart", "kind": "client", "status": {"code": "error", "message": "out of stock"},
            "startTimeUnixNano": (START + 1000).to_string(), "durationNanos": 2_000_000, "attributes": attributes,
            "resource": {"attributes": [{"key": "service.name", "type": "string", "value": "cart"}],
                "schemaUrl": "https://example.org/resource", "droppedAttributesCount": 7},
            "scope": {"name": "shop", "version": "1.2",
                "attributes": [{"key": "scope.key", "type": "bool", "value": true}],
                "schemaUrl": "https://example.org/schema", "droppedAttributesCount": 4},
            "events": [{"timeUnixNano": (START + 1500).to_string(), "name": "exception", "attributes": attributes,
                "droppedAttributesCount": 11}],
            "links": [{"traceId": "07070707070707070707070707070707", "spanId": "0808080808080808",
                "traceState": "ot=th:8", "flags": 257, "attributes": attributes, "droppedAttributesCount": 12}],
            "traceState": "ot=th:8", "flags": 769, "droppedAttributesCount": 1, "droppedEventsCount": 2,
            "droppedLinksCount": 3, "adjustedCount": 2.0, "marks": ["value_cut"],
        })
    );
    let root = get(&fake(), &format!("/api/v1/traces/{TRACE}/spans/0101010101010101")).await.json();
    assert_eq!((&root["parentSpanId"], &root["adjustedCount"]), (&json!(""), &Value::Null));
    let unknown = get(&fake(), &format!("/api/v1/traces/{TRACE}/spans/5")).await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn find_looks_everywhere() {
    let table = [
        ("orphan", json!([2])),
        ("ORPHAN", json!([2])),
        ("cart", json!([1, 2])),
        ("get", json!([0, 1])),
        ("03030303", json!([2])),
        ("out of stock", json!([1])),
        ("9007199", json!([1])),
        ("text.empty", json!([1])),
        ("exception", json!([1])),
        ("deep", json!([1])),
        ("scope.key", json!([0, 1, 2])),
        ("nowhere", json!([])),
    ];
    for (text, indices) in table {
        let uri = format!("/api/v1/traces/{TRACE}/find?q={}", text.replace(' ', "%20"));
        let total = indices.as_array().map_or(0, Vec::len);
        assert_eq!(get(&fake(), &uri).await.json(), json!({"indices": indices, "total": total}), "{text}");
    }
}

#[tokio::test]
async fn status_health_and_tasks() {
    let fake = fake();
    assert_eq!(
        get(&fake, "/api/v1/status").await.json(),
        json!({"version": env!("CARGO_PKG_VERSION"), "tenant": "default", "spansStored": 2, "spansHot": 1, "files": 3,
            "bytesStored": 4, "uptimeNanos": 0, "ingestSpansPerSecond": 0.0, "troubles": []})
    );
    assert_eq!(get(&fake, "/healthz").await.status, StatusCode::OK);
    for path in ["/readyz", "/ready"] {
        assert_eq!((get(&fake, path).await.status, get(&fake, path).await.body), (StatusCode::OK, b"ready\n".to_vec()));
    }
    // Whether or not it is ready, and not the page of the user interface.
    assert_eq!(get(&fake, "/status/services").await.body, b"query: Running\n");
    assert!(get(&fake, "/metrics").await.header("content-type").starts_with("text/plain; version=0.0.4"));
    let troubled = Arc::new(Fake { not_ready: true, ..Fake::default() });
    for path in ["/readyz", "/ready"] {
        let not_ready = get(&troubled, path).await;
        assert_eq!((not_ready.status, not_ready.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "5"));
    }

    let post = |path: &str| Request::post(path).body(Body::empty()).expect("a request");
    let flushed = send(&fake, post("/api/v1/admin/flush")).await;
    assert_eq!(
        (flushed.status, flushed.json()),
        (StatusCode::OK, json!({"spans": 5, "files": 1, "bytes": 400, "duplicates": 2}))
    );
    let compacted = send(&fake, post("/api/v1/admin/compact")).await.json();
    assert_eq!((&compacted["filesBefore"], &compacted["filesAfter"]), (&json!(2), &json!(1)));
    let failed = send(&troubled, post("/api/v1/admin/compact")).await;
    let troubles = get(&troubled, "/api/v1/status").await.json()["troubles"].clone();
    assert_eq!(troubles, json!(["1 stored file is missing"]));
    let trusted = send(&fake, post("/api/v1/admin/trust-clock")).await;
    assert_eq!((trusted.status, trusted.json()), (StatusCode::OK, json!({"troubles": []})));
    let not_trusted = send(&troubled, post("/api/v1/admin/trust-clock")).await;
    assert_eq!(not_trusted.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(failed.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(failed.json()["detail"].as_str().expect("a detail").contains("the disk is full"));
    // To a server without TLS browsers say no more than the origin.
    for (header, value) in [("sec-fetch-site", "cross-site"), ("origin", "https://shop.example"), ("origin", "null")] {
        for task in ["flush", "compact", "trust-clock", "%66lush"] {
            let from_elsewhere = Request::post(format!("/api/v1/admin/{task}")).header(header, value);
            let refused = send(&fake, from_elsewhere.body(Body::empty()).expect("a request")).await;
            assert!(
                matches!(refused.status, StatusCode::FORBIDDEN | StatusCode::NOT_FOUND),
                "{task}: {}",
                refused.status
            );
        }
    }
}

#[tokio::test]
async fn failures_are_problems() {
    let busy = Arc::new(Fake { busy: true, ..Fake::default() });
    let answer = get(&busy, "/api/v1/services").await;
    assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
    let table = [
        ("GET", "/api", StatusCode::NOT_FOUND),
        ("GET", "/api/v1/nothing", StatusCode::NOT_FOUND),
        ("GET", "/api/v1/traces/", StatusCode::NOT_FOUND),
        ("GET", "/api/v1/admin/flush", StatusCode::METHOD_NOT_ALLOWED),
        ("POST", "/api/v1/search", StatusCode::METHOD_NOT_ALLOWED),
        ("POST", "/somewhere", StatusCode::METHOD_NOT_ALLOWED),
        ("GET", "/api/v1/traces/%ff", StatusCode::NOT_FOUND),
    ];
    for (method, uri, status) in table {
        let request = Request::builder().method(method).uri(uri).body(Body::empty()).expect("a request");
        let answer = send(&fake(), request).await;
        assert_eq!(answer.status, status, "{method} {uri}");
        assert_eq!(answer.header("content-type"), "application/problem+json", "{method} {uri}");
        assert!(answer.json()["detail"].is_string());
    }
    let panicked = get_with(&fake(), "/api/v1/services", &[("x-scope-orgid", "panic")]).await;
    assert_eq!(panicked.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(panicked.header("content-type"), "application/problem+json");
}

/// Who may ask from a browser is decided where connections come in; no answer says otherwise.
#[tokio::test]
async fn no_answer_lets_another_site_read() {
    let document = get(&fake(), "/api/v1/openapi.json").await.json();
    let described = document["paths"].as_object().expect("paths");
    let mut asked: Vec<(String, String)> = described
        .iter()
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().expect("methods").keys();
            methods.map(move |method| (method.to_uppercase(), path.replace(['{', '}'], "")))
        })
        .collect();
    let of_others =
        ["/api/search", "/api/echo", "/api/v3/services", "/jaeger/api/services", "/zipkin/api/v2/services", "/"];
    asked.extend(of_others.map(|path| ("GET".to_owned(), path.to_owned())));
    for (method, path) in asked {
        for method in [method.as_str(), "OPTIONS"] {
            let request = Request::builder().method(method).uri(&path).header("origin", "https://elsewhere.example");
            let request = request.header("access-control-request-method", "POST");
            let answer = send(&fake(), request.body(Body::empty()).expect("a request")).await;
            assert_eq!(answer.header("access-control-allow-origin"), "", "{method} {path}");
        }
    }
}

/// Clients, the web interface among them, are made from the file: what changes in it changes for them.
#[test]
fn the_description_is_the_one_that_clients_are_made_from() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    let described = format!("{}\n", tracehouse_api::openapi_json());
    if std::env::var_os("UPDATE_OPENAPI").is_some() {
        std::fs::write(path, &described).expect("it can be written");
    }
    let known = std::fs::read_to_string(path).expect("it is there");
    assert!(
        known == described,
        "the API has changed: run this test with UPDATE_OPENAPI=1 and look at what that changes"
    );
}

/// Every route is described, and the description refers to nothing that is not there.
#[tokio::test]
async fn the_description_is_whole() {
    let answer = get(&fake(), "/api/v1/openapi.json").await;
    let document = answer.json();
    let paths: Vec<&String> = document["paths"].as_object().expect("paths").keys().collect();
    let expected = [
        "/api/v1/admin/compact",
        "/api/v1/admin/flush",
        "/api/v1/admin/trust-clock",
        "/api/v1/attributes/keys",
        "/api/v1/attributes/values",
        "/api/v1/metrics",
        "/api/v1/operations",
        "/api/v1/query/check",
        "/api/v1/query/explain",
        "/api/v1/saved-queries",
        "/api/v1/saved-queries/{name}",
        "/api/v1/search",
        "/api/v1/search/count",
        "/api/v1/services",
        "/api/v1/sql",
        "/api/v1/status",
        "/api/v1/tail",
        "/api/v1/traces/{traceId}",
        "/api/v1/traces/{traceId}/find",
        "/api/v1/traces/{traceId}/spans/{spanId}",
    ];
    assert_eq!(paths, expected);
    let text = String::from_utf8(answer.body).expect("UTF-8");
    for reference in text.split("\"$ref\": \"#/components/schemas/").skip(1) {
        let name = reference.split('"').next().expect("a name");
        assert!(document["components"]["schemas"].get(name).is_some(), "{name}");
    }
    let compact = &document["components"]["schemas"]["CompactTrace"]["properties"];
    let written = compact_trace();
    for field in written.as_object().expect("an object").keys() {
        assert!(compact.get(field).is_some(), "{field} is not described");
    }
}

/// Who counts what answers hold in memory sees only the compressed answer.
#[tokio::test]
async fn a_compressed_answer_says_how_long_it_was() {
    let uri = "/api/v1/search?limit=100";
    let plain = get(&fake(), uri).await;
    let request = Request::get(uri).header("accept-encoding", "gzip").body(Body::empty()).expect("a request");
    let response = app(&fake()).oneshot(request).await.expect("routers don't fail");
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let told = response.extensions().get::<SizeHint>().and_then(SizeHint::exact);
    assert_eq!(told, Some(plain.body.len() as u64));
}
