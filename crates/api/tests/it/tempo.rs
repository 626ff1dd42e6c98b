use std::sync::Arc;

use http::StatusCode;
use serde_json::json;
use tracehouse_model::status;
use tracehouse_query::{Among, Condition, Operator, Scope};

use crate::fake::{Fake, START, TRACE};
use crate::get;

fn fake() -> Arc<Fake> {
    Arc::new(Fake::default())
}

#[tokio::test]
async fn echo_and_build() {
    assert_eq!(get(&fake(), "/api/echo").await.body, b"echo");
    let info = get(&fake(), "/api/status/buildinfo").await.json();
    assert_eq!(
        (&info["version"], &info["revision"]),
        (&json!("3.0.0"), &json!(format!("tracehouse-{}", env!("CARGO_PKG_VERSION"))))
    );
}

#[tokio::test]
async fn search_by_tags() {
    let fake = fake();
    let uri = "/api/search?tags=service.name%3Dcart%20http.url%3D%22%2Fa%20b%22%20name%3Dx%20error%3Dtrue&minDuration=100ms\
               &maxDuration=2s&limit=5&spss=10&start=1769860800&end=1769860801&unknown=1";
    let answer = get(&fake, uri).await;
    let set = json!({"spans": [{"spanID": "0202020202020202", "name": "GET /cart",
        "startTimeUnixNano": (START + 1000).to_string(), "durationNanos": "2000000",
        "attributes": [{"key": "service.name", "value": {"stringValue": "cart"}},
            {"key": "status", "value": {"stringValue": "error"}},
            {"key": "http.route", "value": {"stringValue": "/cart"}}]}], "matched": 2,
        "attributes": [{"key": "count()", "value": {"intValue": "2"}}]});
    assert_eq!(
        answer.json(),
        json!({
            "traces": [{"traceID": TRACE, "rootServiceName": "gateway", "rootTraceName": "GET /",
                "startTimeUnixNano": START.to_string(), "durationMs": 5, "spanSet": set, "spanSets": [set],
                "serviceStats": {"cart": {"spanCount": 2, "errorCount": 1}, "gateway": {"spanCount": 1}}}],
            "metrics": {"inspectedTraces": 1, "inspectedBytes": "1234", "totalBlocks": 3, "completedJobs": 4,
                "totalJobs": 4, "inspectedSpans": "1000"},
        })
    );
    let request = fake.searches.lock().pop().expect("a search was asked");
    let url = Condition::Attribute {
        scope: Scope::Either,
        key: "http.url".to_owned(),
        operator: Operator::Equal,
        value: "/a b".to_owned(),
    };
    let (service, name) = (Condition::Service("cart".to_owned()), Condition::Operation("x".to_owned()));
    assert_eq!(request.conditions, [service, url, name, Condition::Status(status::ERROR)]);
    assert_eq!(
        (request.trace_duration_nanos_min, request.trace_duration_nanos_max),
        (Some(100_000_000), Some(2_000_000_000))
    );
    assert_eq!((request.limit, request.spans_per_spanset), (5, 10));
    // The last second is meant whole.
    assert_eq!(request.start_unix_nanos, Some(START));
    assert_eq!(request.end_unix_nanos, Some(START + 2_000_000_000));
}

#[tokio::test]
async fn search_by_traceql() {
    let fake = fake();
    get(&fake, "/api/search?q=%7B%20status%20%3D%20error%20%7D&start=0&end=0").await;
    let request = fake.searches.lock().pop().expect("a search was asked");
    assert_eq!(request.traceql.as_deref(), Some("{ status = error }"));
    assert_eq!((request.limit, request.spans_per_spanset), (20, 3));
    assert_eq!((request.start_unix_nanos, request.end_unix_nanos), (None, None));
}

#[tokio::test]
async fn a_partial_search_has_jobs_left() {
    let answer = get(&Arc::new(Fake { partial: true, ..Fake::default() }), "/api/search").await;
    assert_eq!(answer.header("x-tracehouse-partial"), "2 of 3 files were read");
    let metrics = &answer.json()["metrics"];
    assert_eq!((&metrics["completedJobs"], &metrics["totalJobs"]), (&json!(2), &json!(4)));
}

/// As in Tempo a limit may be any, but no answer has more traces than some; only if it would have, it says so.
#[tokio::test]
async fn search_has_a_largest_limit() {
    let cut = "the newest 1000 of more traces, as no more are answered at once";
    let table =
        [(5000, 999, 1001, 1000, ""), (5000, 1000, 1001, 1000, cut), (1000, 1000, 1000, 1000, ""), (1, 1000, 1, 1, "")];
    for (limit, more_traces, asked, answered, partial) in table {
        let fake = Arc::new(Fake { more_traces, ..Fake::default() });
        let answer = get(&fake, &format!("/api/search?limit={limit}")).await;
        assert_eq!(answer.header("x-tracehouse-partial"), partial, "{limit} of {more_traces}");
        let body = answer.json();
        assert_eq!(body["traces"].as_array().map(Vec::len), Some(answered), "{limit} of {more_traces}");
        let whole = body["metrics"]["completedJobs"] == body["metrics"]["totalJobs"];
        assert_eq!(whole, partial.is_empty(), "{limit} of {more_traces}");
        assert_eq!(fake.searches.lock().pop().map(|request| request.limit), Some(asked));
    }
    let both = Arc::new(Fake { more_traces: 1000, partial: true, ..Fake::default() });
    let answer = get(&both, "/api/search?limit=2000").await;
    assert_eq!(answer.header("x-tracehouse-partial"), format!("2 of 3 files were read; {cut}"));
}

#[tokio::test]
async fn wrong_requests() {
    let table = [
        ("/api/search?limit=0", "from 1 to"),
        ("/api/search?limit=x", "from 1 to"),
        ("/api/search?start=now", "whole seconds"),
        ("/api/search?start=20&end=10", "after `end`"),
        ("/api/search?minDuration=5", "12.5ms"),
        ("/api/search?tags=a%3D%22open", "no end"),
        ("/api/search?tags=status%3Dbad", "error, ok or unset"),
        ("/api/search?spss=x", "spss"),
        ("/api/search?q=%7B", "at 1"),
        ("/api/search/tags?scope=body", "one of span"),
        ("/api/v2/search/tags?start=x", "whole seconds"),
        ("/api/v2/search/tag/.a/values?limit=x", "limit"),
    ];
    for (uri, words) in table {
        let answer = get(&fake(), uri).await;
        let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{uri}");
        assert!(detail.contains(words), "{uri}: {detail}");
    }
}

#[tokio::test]
async fn tags() {
    let intrinsic = get(&fake(), "/api/v2/search/tags?scope=intrinsic").await.json();
    let intrinsics = intrinsic["scopes"][0]["tags"].as_array().expect("tags");
    assert!(
        [
            "duration",
            "kind",
            "name",
            "rootServiceName",
            "status",
            "trace:id",
            "span:id",
            "span:parentID",
            "link:spanID"
        ]
        .iter()
        .all(|tag| intrinsics.contains(&json!(tag)))
    );
    let table = [
        ("/api/search/tags?scope=span", json!({"tagNames": ["http.route", "retries"]})),
        ("/api/search/tags?scope=resource&q=%7B%7D", json!({"tagNames": ["service.name"]})),
        ("/api/v2/search/tags?scope=span&limit=1", json!({"scopes": [{"name": "span", "tags": ["http.route"]}]})),
        (
            "/api/v2/search/tags",
            json!({"scopes": [{"name": "span", "tags": ["http.route", "retries"]},
                {"name": "resource", "tags": ["service.name"]}, {"name": "intrinsic", "tags": intrinsics}]}),
        ),
    ];
    for (uri, expected) in table {
        assert_eq!(get(&fake(), uri).await.json(), expected, "{uri}");
    }
    let all = get(&fake(), "/api/search/tags").await.json();
    let names = all["tagNames"].as_array().expect("names").clone();
    assert_eq!(names, ["http.route", "retries", "service.name"]);
    let only = get(&fake(), "/api/search/tags?scope=intrinsic").await.json();
    assert_eq!(only["tagNames"], intrinsic["scopes"][0]["tags"]);
}

#[tokio::test]
async fn cut_lists_say_so() {
    let partial = Arc::new(Fake { partial: true, ..Fake::default() });
    let table = [
        (&partial, "/api/search/tags", "the first 3 of more names"),
        (&partial, "/api/v2/search/tags?scope=span", "the first 2 of more names"),
        (&partial, "/api/search/tag/service.name/values", "the first 2 of more values"),
        (&partial, "/api/v2/search/tag/span.a/values", "the first 3 of more values"),
        (&partial, "/api/v2/search/tag/status/values", ""),
        (&partial, "/api/v2/search/tags?scope=intrinsic", ""),
        (&fake(), "/api/v2/search/tags?limit=1", "the first 2 of more names"),
        (&fake(), "/api/v2/search/tags?limit=2", ""),
        (&fake(), "/api/v2/search/tag/span.a/values?limit=2", "the first 2 of more values"),
        (&fake(), "/api/v2/search/tag/span.a/values?limit=3", ""),
    ];
    for (fake, uri, reason) in table {
        assert_eq!(get(fake, uri).await.header("x-tracehouse-partial"), reason, "{uri}");
    }
}

#[tokio::test]
async fn tag_values() {
    let string = |value: &str| json!({"type": "string", "value": value});
    let keyword = |value: &str| json!({"type": "keyword", "value": value});
    let services = json!({"tagValues": [string("cart"), string("gateway")]});
    let names = json!({"tagValues": [string("GET /"), string("GET /cart")]});
    let route = json!({"tagValues": [string("/cart"), json!({"type": "int", "value": "3"}), string("3")]});
    let kinds = json!({"tagValues": ["client", "consumer", "internal", "producer", "server", "unspecified"]});
    let statuses = json!({"tagValues": [keyword("error"), keyword("ok"), keyword("unset")]});
    let table = [
        ("/api/search/tag/service.name/values", json!({"tagValues": ["cart", "gateway"]}), None),
        (
            "/api/search/tag/http.route/values",
            json!({"tagValues": ["/cart", "3"]}),
            Some("values Either http.route 1000"),
        ),
        ("/api/search/tag/status/values", json!({"tagValues": ["/cart", "3"]}), Some("values Either status 1000")),
        (
            "/api/search/tag/nothing.of.kind/values",
            json!({"tagValues": []}),
            Some("values Either nothing.of.kind 1000"),
        ),
        ("/api/search/tag/kind/values", kinds, Some("values Either kind 1000")),
        (
            "/api/search/tag/root.name/values",
            json!({"tagValues": ["a trace:rootName"]}),
            Some("values of trace:rootName 1000"),
        ),
        (
            "/api/v2/search/tag/parent.span.a%22b/values",
            json!({"tagValues": [string("a parent.span.\"a\\\"b\"")]}),
            Some("values of parent.span.\"a\\\"b\" 1000"),
        ),
        (
            "/api/v2/search/tag/resource.service.name/values",
            services.clone(),
            Some("values Resource service.name 1000"),
        ),
        ("/api/v2/search/tag/.service.name/values", services, Some("values Either service.name 1000")),
        (
            "/api/v2/search/tag/rootServiceName/values",
            json!({"tagValues": [string("a trace:rootService")]}),
            Some("values of trace:rootService 1000"),
        ),
        (
            "/api/v2/search/tag/span:statusMessage/values?limit=5&q=%7B%7D",
            json!({"tagValues": [string("a span:statusMessage")]}),
            Some("values of span:statusMessage 5"),
        ),
        (
            "/api/v2/search/tag/event:name/values",
            json!({"tagValues": [string("a event:name")]}),
            Some("values of event:name 1000"),
        ),
        ("/api/v2/search/tag/span.http.route/values", route.clone(), Some("values Span http.route 1000")),
        (
            "/api/v2/search/tag/span.http.route/values?limit=2",
            json!({"tagValues": [string("/cart"), json!({"type": "int", "value": "3"})]}),
            Some("values Span http.route 2"),
        ),
        (
            "/api/v2/search/tag/resource.http.route/values?q=%7B%7D",
            route.clone(),
            Some("values Resource http.route 1000"),
        ),
        ("/api/v2/search/tag/.status/values", route.clone(), Some("values Either status 1000")),
        (
            "/api/v2/search/tag/span.ratio/values",
            json!({"tagValues": [{"type": "float", "value": "2.5"}]}),
            Some("values Span ratio 1000"),
        ),
        // Slashes may be escaped or not.
        (
            "/api/v2/search/tag/resource.app.kubernetes.io/name/values",
            route.clone(),
            Some("values Resource app.kubernetes.io/name 1000"),
        ),
        (
            "/api/v2/search/tag/resource.app.kubernetes.io%2Fname/values?limit=3",
            route.clone(),
            Some("values Resource app.kubernetes.io/name 3"),
        ),
        ("/api/search/tag/a/values/values", json!({"tagValues": ["/cart", "3"]}), Some("values Either a/values 1000")),
        ("/api/v2/search/tag/name/values", names.clone(), None),
        ("/api/v2/search/tag/span:name/values", names, None),
        ("/api/v2/search/tag/status/values", statuses, None),
        ("/api/v2/search/tag/duration/values", json!({"tagValues": []}), None),
        ("/api/v2/search/tag/trace:id/values", json!({"tagValues": []}), None),
    ];
    for (uri, expected, asked) in table {
        let fake = fake();
        assert_eq!(get(&fake, uri).await.json(), expected, "{uri}");
        if let Some(asked) = asked {
            assert_eq!(fake.asked.lock().first().map(String::as_str), Some(asked), "{uri}");
        }
    }
    for path in ["/api/search/tag/a", "/api/v2/search/tag/a/b", "/api/v2/search/tag//values"] {
        assert_eq!(get(&fake(), path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    let kinds = get(&fake(), "/api/v2/search/tag/kind/values").await.json();
    assert!(kinds["tagValues"].as_array().expect("values").contains(&keyword("server")));
}

#[tokio::test]
async fn names_are_asked_for_among_some_spans() {
    let query = "%7B%20status%20%3D%20error%20%26%26";
    let (start, end) = (Some(5_000_000_000), Some(10_000_000_000));
    let some = |end| Among {
        start_unix_nanos: start,
        end_unix_nanos: end,
        traceql: Some("{ status = error &&".into()),
        service: None,
    };
    let timed = |end| Among { start_unix_nanos: start, end_unix_nanos: end, traceql: None, service: None };
    let seconds = format!("start=5&end=9&q={query}");
    let table = [
        (format!("/api/search/tags?{seconds}"), some(end)),
        (format!("/api/v2/search/tags?scope=span&{seconds}"), some(end)),
        (format!("/api/search/tag/name/values?{seconds}"), some(end)),
        (format!("/api/search/tag/service.name/values?{seconds}"), some(end)),
        (format!("/api/v2/search/tag/span.http.route/values?{seconds}"), some(end)),
        (format!("/api/v1/attributes/keys?start=5&q={query}"), some(None)),
        (format!("/api/v1/attributes/values?key=a&start=5&q={query}"), some(None)),
        ("/api/v1/services?start=5&end=10".to_owned(), timed(end)),
        ("/api/v1/operations?start=5&end=10".to_owned(), timed(end)),
    ];
    for (uri, expected) in table {
        let fake = fake();
        assert_eq!(get(&fake, &uri).await.status, StatusCode::OK, "{uri}");
        let among = fake.among.lock();
        assert!(!among.is_empty() && among.iter().all(|asked| *asked == expected), "{uri}: {among:?}");
    }
}
