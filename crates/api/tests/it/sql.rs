use std::sync::Arc;

use arrow::ipc::reader::StreamReader;
use axum::body::Body;
use http::{Request, StatusCode};
use serde_json::json;

use crate::fake::Fake;
use crate::{Answer, send};

async fn post(fake: &Arc<Fake>, accept: &str, body: &str) -> Answer {
    let request = Request::post("/api/v1/sql").header("accept", accept).body(Body::from(body.to_owned()));
    send(fake, request.expect("a request")).await
}

const ARROW: &str = "application/vnd.apache.arrow.stream";
const QUERY: &str = r#"{"query":"SELECT service, spans"}"#;

#[tokio::test]
async fn rows_as_json() {
    let fake = Arc::new(Fake { partial: true, ..Fake::default() });
    let answer = post(&fake, "*/*", QUERY).await;
    assert_eq!(answer.status, StatusCode::OK);
    let expected = json!({
        "columns": [{ "name": "service", "type": "text" }, { "name": "spans", "type": "bigint" }],
        "rows": [["cart", 3]],
        "complete": false,
        "partialReason": "1 of at least 2 rows",
        "elapsedNanos": 5,
    });
    assert_eq!(answer.json(), expected);
    post(&fake, "*/*", r#"{"query":"SELECT 1","limit":7}"#).await;
    assert_eq!(*fake.asked.lock(), ["sql default SELECT service, spans 10000", "sql default SELECT 1 7"]);
}

#[tokio::test]
async fn rows_as_a_stream_of_arrow() {
    let fake = Arc::new(Fake { partial: true, ..Fake::default() });
    let answer = post(&fake, ARROW, r#"{"query":"SELECT 1","limit":1000000}"#).await;
    assert_eq!((answer.status, answer.header("content-type")), (StatusCode::OK, ARROW));
    assert_eq!(answer.header("x-tracehouse-partial-reason"), "1 of at least 2 rows");
    let reader = StreamReader::try_new(answer.body.as_slice(), None).expect("a stream of Arrow");
    assert_eq!(reader.schema().metadata()["tracehouse.partial_reason"], "1 of at least 2 rows");
    let rows: usize = reader.map(|batch| batch.expect("a batch").num_rows()).sum();
    assert_eq!(rows, 1);
}

#[tokio::test]
async fn what_is_wrong_is_explained() {
    let fake = Arc::default();
    for (body, expected) in [
        ("", "the body is expected"),
        ("SELECT 1", "the body is expected"),
        (r#"{"query":"SELECT 1","rows":3}"#, "unknown field `rows`"),
        (r#"{"query":"SELECT 1","limit":100001}"#, "at most 100000"),
        (r#"{"query":"DELETE FROM spans"}"#, "only questions"),
    ] {
        let answer = post(&fake, "application/json", body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{body}");
        let detail = answer.json()["detail"].to_string();
        assert!(detail.contains(expected), "{body}: {detail}");
    }
    let busy = post(&Arc::new(Fake { busy: true, ..Fake::default() }), "*/*", QUERY).await;
    assert_eq!((busy.status, busy.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, "1"));
}
