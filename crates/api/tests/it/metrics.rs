use std::sync::Arc;

use http::StatusCode;
use serde_json::{Value, json};

use crate::fake::{Fake, START, TRACE};
use crate::get;

const SECOND: i64 = 1_000_000_000;

fn fake() -> Arc<Fake> {
    Arc::new(Fake::default())
}

#[tokio::test]
async fn native_metrics() {
    let fake = fake();
    let uri =
        "/api/v1/metrics?q=%7B%20%7D%20%7C%20rate()&start=2026-01-31T12:00:00Z&end=1769860845&step=15s&exemplars=5";
    let answer = get(&fake, uri).await;
    let label = |value_type: &str, value| json!([{"key": "resource.service.name", "type": value_type, "value": value}]);
    assert_eq!(
        answer.json(),
        json!({
            "startTimeUnixNano": START.to_string(), "stepNanos": 15 * SECOND, "steps": 3,
            "shape": "series", "unit": "plain", "bucketUnit": "plain",
            "series": [
                {"labels": label("string", json!("cart")), "values": [0.5, 1.5, 2.5],
                    "exemplars": [{"traceId": TRACE, "spanId": "0202020202020202",
                        "timeUnixNano": (START + 1000).to_string(), "value": 0.002}]},
                {"labels": label("empty", json!(null)), "values": [null, 1.0, 1.0], "exemplars": []},
            ],
            "complete": true, "partialReason": null,
            "weighting": {"spans": 900, "spansOfUnknownProbability": 100},
            "inspected": {"spans": 1000, "files": 2, "filesTotal": 3, "bytes": 1234}, "elapsedNanos": 0,
        })
    );
    let request = fake.metrics.lock().pop().expect("metrics were asked");
    assert_eq!(request.traceql, "{ } | rate()");
    assert_eq!((request.start_unix_nanos, request.end_unix_nanos), (START, START + 45 * SECOND));
    assert_eq!((request.step_nanos, request.exemplars_max), (Some(15 * SECOND), 5));
}

#[tokio::test]
async fn native_metrics_have_defaults() {
    let fake = fake();
    for (uri, start, end, step) in [
        // The test's clock stands at 1970.
        ("/api/v1/metrics?q=a", -3600 * SECOND, 0, Some(30 * SECOND)),
        ("/api/v1/metrics?q=a&end=1769860800&instant=true", START - 3600 * SECOND, START, None),
        ("/api/v1/metrics?q=a&end=1769860800&instant=false&step=1m", START - 3600 * SECOND, START, Some(60 * SECOND)),
    ] {
        assert_eq!(get(&fake, uri).await.status, StatusCode::OK, "{uri}");
        let request = fake.metrics.lock().pop().expect("metrics were asked");
        let asked = (request.start_unix_nanos, request.end_unix_nanos, request.step_nanos, request.exemplars_max);
        assert_eq!(asked, (start, end, step, 0), "{uri}");
    }
}

#[tokio::test]
async fn native_metrics_say_what_is_partial() {
    let partial = Arc::new(Fake { partial: true, ..Fake::default() });
    let answer = get(&partial, "/api/v1/metrics?q=a").await.json();
    assert_eq!((&answer["complete"], &answer["partialReason"]), (&json!(false), &json!("2 of 3 files were read")));
}

#[tokio::test]
async fn wrong_requests() {
    let table = [
        ("/api/v1/metrics", "`q` is missing"),
        ("/api/v1/metrics?q=a&start=20&end=10", "`start` is not before `end`"),
        ("/api/v1/metrics?q=a&start=1769860800", "without `end` the range ends now"),
        ("/api/v1/metrics?q=a&step=15", "12.5ms"),
        ("/api/v1/metrics?q=a&step=0", "longer than nothing"),
        ("/api/v1/metrics?q=a&step=-1s", "12.5ms"),
        ("/api/v1/metrics?q=a&start=0&end=11001&step=1s", "at most 11000"),
        ("/api/v1/metrics?q=a&exemplars=1001", "from 0 to 1000"),
        ("/api/v1/metrics?q=a&instant=yes", "true or false"),
        ("/api/v1/metrics?q=a&instant=true&step=1s", "leave one of them out"),
        ("/api/v1/metrics?query=a", "there is no parameter"),
        ("/api/v1/metrics?q=%7B", "at 1: expected"),
        ("/api/v1/query/check?q=a&start=1", "there is no parameter"),
        ("/api/v1/query/explain", "`q` is missing"),
        ("/api/v1/query/explain?q=%7B", "the query ends too early"),
        ("/api/v1/query/explain?q=%7B%7D&start=20&end=10", "after `end`"),
    ];
    for (uri, words) in table {
        let answer = get(&fake(), uri).await;
        let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{uri}");
        assert!(detail.contains(words), "{uri}: {detail}");
    }
}

#[tokio::test]
async fn queries_are_checked() {
    let table = [
        ("%7Bstatus=error%7D", json!({"valid": true, "kind": "spans", "printed": "{ span:status = error }"})),
        ("%7B%7D%7Crate()", json!({"valid": true, "kind": "metrics", "printed": "{ } | rate()"})),
        (
            // A text outside the BMP: two UTF-16 code units, four bytes.
            "%7B%20.a%20=%20%22%F0%9D%84%9E%22%20!%20%7D",
            json!({"valid": false, "error": {"message": "unexpected `!`, expected an operator or `}`",
                "start": 12, "end": 13, "expected": ["an operator", "`}`"], "suggestion": null}}),
        ),
        (
            "%7B%20statsu%20=%20error%20%7D",
            json!({"valid": false, "error": {
                "message": "unknown word `statsu`, expected an attribute, an intrinsic or a value",
                "start": 2, "end": 8, "expected": ["an attribute", "an intrinsic", "a value"],
                "suggestion": "did you mean `status`?"}}),
        ),
    ];
    for (query, expected) in table {
        let answer = get(&fake(), &format!("/api/v1/query/check?q={query}")).await;
        let mut found = answer.json();
        assert_eq!(answer.status, StatusCode::OK, "{query}");
        if let Some(error) = found.get_mut("error").and_then(|error| error.as_object_mut()) {
            let rendered = error.remove("rendered").expect("a rendered error");
            assert!(rendered.as_str().expect("a text").contains('^'), "{rendered}");
        }
        assert_eq!(found, expected, "{query}");
    }
    let empty = get(&fake(), "/api/v1/query/check").await;
    assert_eq!((empty.status, &empty.json()["valid"]), (StatusCode::OK, &json!(false)));
}

#[tokio::test]
async fn queries_are_explained() {
    let table = [
        ("q=%7B%7D", "explain {} -9223372036854775808..9223372036854775807"),
        ("q=%7B%7D&start=0&end=10", "explain {} 0..10000000000"),
        ("q=%7B%7D%7Crate()&end=3600", "explain {}|rate() 0..3600000000000"),
    ];
    for (parameters, asked) in table {
        let fake = fake();
        let answer = get(&fake, &format!("/api/v1/query/explain?{parameters}")).await;
        assert_eq!(
            answer.json(),
            json!({"plan": ["rate", "  scan"], "filesTotal": 3, "filesToRead": 2, "spansInMemory": 10, "spansInFiles": 990})
        );
        assert_eq!(fake.asked.lock().first().map(String::as_str), Some(asked));
    }
}

fn series_label(value: &str) -> Value {
    json!([{"key": "resource.service.name", "value": {"stringValue": value}}])
}

/// A point stands at the end of its step; one without a value is left out.
#[tokio::test]
async fn tempo_range() {
    let fake = fake();
    let uri = "/api/metrics/query_range?q=%7B%7D%7Crate()&start=1769860800&end=1769860830000000000&step=15&exemplars=1";
    let answer = get(&fake, uri).await;
    let sample = |seconds: i64, value: f64| json!({"timestampMs": (1_769_860_800 + seconds).to_string() + "000", "value": value});
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let labels = [text("trace:id", TRACE), text("span:id", "0202020202020202"), text("name", "GET /cart")];
    let exemplar = json!({"labels": labels, "value": 0.5, "timestampMs": "1769860800000"});
    assert_eq!(
        answer.json(),
        json!({
            "series": [
                {"labels": series_label("cart"), "samples": [sample(15, 0.5), sample(30, 1.5)], "exemplars": [exemplar]},
                {"labels": series_label("nil"), "samples": [sample(30, 1.0)]},
            ],
            "metrics": {"inspectedTraces": 0, "inspectedBytes": "1234", "totalBlocks": 3, "completedJobs": 4,
                "totalJobs": 4, "inspectedSpans": "1000"},
        })
    );
    let request = fake.metrics.lock().pop().expect("metrics were asked");
    assert_eq!((request.start_unix_nanos, request.end_unix_nanos), (START, START + 30 * SECOND));
    assert_eq!((request.step_nanos, request.exemplars_max), (Some(15 * SECOND), 1));
}

#[tokio::test]
async fn tempo_instant() {
    let answer = get(&fake(), "/api/metrics/query?q=%7B%7D%7Crate()&end=1769860800&since=5m&unknown=1").await;
    let metrics = json!({"inspectedTraces": 0, "inspectedBytes": "1234", "totalBlocks": 3, "completedJobs": 4,
        "totalJobs": 4, "inspectedSpans": "1000"});
    // The second series of the stand-in has no value in its first step.
    let series = json!([{"labels": series_label("cart"), "value": 0.5}]);
    assert_eq!(answer.json(), json!({"series": series, "metrics": metrics}));
}

#[tokio::test]
async fn tempo_ranges_and_steps() {
    let table = [
        ("query_range?q=a&end=1769860800&since=5m&step=30s", 300, Some(30)),
        ("query_range?query=a&end=1769860800&since=1m", 60, Some(1)),
        ("query_range?q=a&end=1769860800&step=0.5", 3600, None),
        ("query_range?q=a&end=2026-01-31T12:00:00Z&start=0", 3600, Some(15)),
        ("query?q=a&end=1769860800&since=5m", 300, None),
        ("query?query=a&end=1769860800&since=5m", 300, None),
        ("query?q=a&end=1769860800&start=1769860740", 60, None),
    ];
    for (question, length, step) in table {
        let fake = fake();
        assert_eq!(get(&fake, &format!("/api/metrics/{question}")).await.status, StatusCode::OK, "{question}");
        let request = fake.metrics.lock().pop().expect("metrics were asked");
        let range = (request.start_unix_nanos, request.end_unix_nanos);
        assert_eq!(range, (START - length * SECOND, START), "{question}");
        let step = if question.contains("0.5") { Some(SECOND / 2) } else { step.map(|step: i64| step * SECOND) };
        assert_eq!(request.step_nanos, step, "{question}");
    }
}

/// The value of an exemplar is the span's if that is what is measured, else that of the series at its time.
#[tokio::test]
async fn tempo_exemplars() {
    let table = [
        ("%7B%7D%7Crate()", "", 100, Some(0.5)),
        ("%7B%7D%7Cavg_over_time(duration)", "", 100, Some(0.002)),
        ("%7B%7D%7Crate()by(name)", "", 5, Some(0.5)),
        ("%7B%7D%7Crate()", "&exemplars=0", 100, Some(0.5)),
        ("%7B%7D%7Crate()", "&exemplars=3", 3, Some(0.5)),
        ("%7B%7D%7Crate()with(exemplars=7)", "&exemplars=3", 7, Some(0.5)),
        ("%7B%7D%7Crate()with(exemplars=false)", "&exemplars=3", 0, None),
    ];
    for (query, parameter, asked, value) in table {
        let fake = fake();
        let uri = format!("/api/metrics/query_range?q={query}&start=1769860800&end=1769860830&step=15{parameter}");
        let answer = get(&fake, &uri).await.json();
        assert_eq!(answer["series"][0]["exemplars"][0]["value"].as_f64(), value, "{query}{parameter}");
        let request = fake.metrics.lock().pop().expect("metrics were asked");
        assert_eq!(request.exemplars_max, asked, "{query}{parameter}");
    }
}

/// No step is computed in part.
#[tokio::test]
async fn tempo_ranges_begin_and_end_with_steps() {
    let fake = fake();
    get(&fake, "/api/metrics/query_range?q=a&start=1769860807&end=1769860833&step=10").await;
    let request = fake.metrics.lock().pop().expect("metrics were asked");
    assert_eq!((request.start_unix_nanos, request.end_unix_nanos), (START, START + 40 * SECOND));
    get(&fake, "/api/metrics/query?q=a&start=1769860807&end=1769860833").await;
    let request = fake.metrics.lock().pop().expect("metrics were asked");
    assert_eq!((request.start_unix_nanos, request.end_unix_nanos), (START + 7 * SECOND, START + 33 * SECOND));
}

#[tokio::test]
async fn partial_metrics_say_so_to_grafana() {
    let partial = Arc::new(Fake { partial: true, ..Fake::default() });
    let range = get(&partial, "/api/metrics/query_range?q=a&end=1769860800").await;
    assert_eq!(range.header("x-tracehouse-partial"), "2 of 3 files were read");
    let body = range.json();
    assert_eq!((&body["status"], &body["message"]), (&json!("PARTIAL"), &json!("2 of 3 files were read")));
    assert_eq!((&body["metrics"]["completedJobs"], &body["metrics"]["totalJobs"]), (&json!(2), &json!(4)));
    let instant = get(&partial, "/api/metrics/query?q=a&end=1769860800").await;
    assert_eq!(instant.header("x-tracehouse-partial"), "2 of 3 files were read");
}

#[tokio::test]
async fn wrong_requests_to_tempo() {
    let table = [
        ("query_range", "`q` is missing"),
        ("query_range?q=a&start=20&end=10", "`start` is not before `end`"),
        ("query_range?q=a&end=1769860800&step=soon", "seconds such as 15"),
        ("query_range?q=a&end=1769860800&step=0", "longer than nothing"),
        ("query_range?q=a&end=1769860800&since=1000h&step=1s", "at most 11000"),
        ("query_range?q=a&end=1769860800&exemplars=x", "exemplars"),
        ("query_range?q=%7B&end=1769860800", "at 1: expected"),
        ("query", "`q` is missing"),
        ("query?q=a&since=5", "12.5ms"),
    ];
    for (question, words) in table {
        let answer = get(&fake(), &format!("/api/metrics/{question}")).await;
        let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{question}");
        assert!(detail.contains(words), "{question}: {detail}");
    }
}
