//! Queries that people save under a name.

use std::sync::Arc;

use axum::body::Body;
use http::{Method, Request, StatusCode};
use serde_json::{Value, json};

use crate::fake::Fake;
use crate::{Answer, app, get, get_with, send, send_to};

const SAVED: &str = "/api/v1/saved-queries";

fn request(method: Method, name: &str, headers: &[(&str, &str)], body: &Value) -> Request<Body> {
    let name: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let request =
        Request::builder().method(method).uri(format!("{SAVED}/{name}")).header("host", "traces.example:3200");
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    request.body(Body::from(body.to_string())).expect("a request")
}

async fn put(fake: &Arc<Fake>, name: &str, address: &str) -> Answer {
    send(fake, request(Method::PUT, name, &[], &json!({ "description": "why", "address": address }))).await
}

async fn names(fake: &Arc<Fake>, tenant: &str) -> Vec<String> {
    let listed = get_with(fake, SAVED, &[("x-scope-orgid", tenant)]).await.json();
    let queries = listed["queries"].as_array().expect("a list");
    queries.iter().map(|query| query["name"].as_str().expect("a name").to_owned()).collect()
}

#[tokio::test]
async fn queries_are_saved_replaced_and_removed() {
    let fake = Arc::new(Fake::default());
    assert_eq!(get(&fake, SAVED).await.json(), json!({ "queries": [], "limit": 500 }));
    for name in ["slow checkouts", "errors / by service", "Größe \u{1f50e}"] {
        assert_eq!(put(&fake, name, "/query?q=%7B%7D").await.status, StatusCode::OK, "{name}");
    }
    let replaced = put(&fake, "slow checkouts", "/?service=checkout").await;
    assert_eq!(
        replaced.json(),
        json!({ "name": "slow checkouts", "description": "why", "address": "/?service=checkout", "savedTimeUnixNano": "0" })
    );
    assert_eq!(names(&fake, "default").await, ["Größe \u{1f50e}", "errors / by service", "slow checkouts"]);
    assert_eq!(get(&fake, SAVED).await.json()["queries"][2], replaced.json());

    let only_new = request(Method::PUT, "slow checkouts", &[("if-none-match", "*")], &json!({ "address": "/" }));
    let exists = send(&fake, only_new).await;
    assert_eq!(exists.status, StatusCode::PRECONDITION_FAILED);
    assert!(exists.json()["detail"].as_str().is_some_and(|detail| detail.contains("choose another name")));

    let remove = || request(Method::DELETE, "errors / by service", &[], &json!({}));
    assert_eq!(send(&fake, remove()).await.status, StatusCode::NO_CONTENT);
    assert_eq!(send(&fake, remove()).await.status, StatusCode::NOT_FOUND);
    assert_eq!(names(&fake, "default").await, ["Größe \u{1f50e}", "slow checkouts"]);
}

#[tokio::test]
async fn each_tenant_has_its_own() {
    let fake = Arc::new(Fake::default());
    let of =
        |tenant: &'static str| request(Method::PUT, "mine", &[("x-scope-orgid", tenant)], &json!({ "address": "/" }));
    assert_eq!(send(&fake, of("one")).await.status, StatusCode::OK);
    assert_eq!(names(&fake, "one").await, ["mine"]);
    assert!(names(&fake, "two").await.is_empty() && names(&fake, "default").await.is_empty());
    assert_eq!(send(&fake, of("one|two")).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(get_with(&fake, SAVED, &[("x-scope-orgid", "one|two")]).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn what_nobody_could_use_is_refused() {
    let fake = Arc::new(Fake::default());
    let long = "x".repeat(101);
    for name in [" ", " begins", "ends ", "a\nline", "\u{7f}", "\u{200b}", "\u{feff}\u{2060}", "a\u{202e}b", &long] {
        let refused = put(&fake, name, "/").await;
        assert_eq!(
            (refused.status, &refused.json()["parameter"]),
            (StatusCode::BAD_REQUEST, &json!("name")),
            "{name:?}"
        );
    }
    let long = format!("/query?q={}", "x".repeat(8192));
    let elsewhere = [
        "https://elsewhere.example/",
        "//elsewhere.example",
        "/\\elsewhere.example",
        "/..//elsewhere.example",
        "/%2E.//elsewhere.example",
        "/query//elsewhere.example",
        "/./\\elsewhere.example",
        "javascript:alert(1)",
        "",
    ];
    for address in elsewhere.into_iter().chain(["/query?q={ }", "/\tquery", "/größe", long.as_str()]) {
        let refused = put(&fake, "name", address).await;
        assert_eq!(
            (refused.status, &refused.json()["parameter"]),
            (StatusCode::BAD_REQUEST, &json!("address")),
            "{address}"
        );
    }
    let long = json!({ "address": "/", "description": "ü".repeat(1001) });
    let refused = send(&fake, request(Method::PUT, "name", &[], &long)).await;
    assert_eq!((refused.status, &refused.json()["parameter"]), (StatusCode::BAD_REQUEST, &json!("description")));
    for description in ["\0", "a\u{202e}b"] {
        let refused =
            send(&fake, request(Method::PUT, "name", &[], &json!({ "address": "/", "description": description })))
                .await;
        assert_eq!((refused.status, &refused.json()["parameter"]), (StatusCode::BAD_REQUEST, &json!("description")));
    }
    let no_text = Request::put(format!("{SAVED}/%ff"))
        .header("host", "traces.example:3200")
        .body(Body::from(r#"{"address":"/"}"#))
        .expect("a request");
    let refused = send(&fake, no_text).await;
    assert_eq!((refused.status, &refused.json()["title"]), (StatusCode::BAD_REQUEST, &json!("The query is wrong")));
    for body in [json!({}), json!([]), json!(["", "/"]), json!({ "address": "/", "more": 1 }), json!({ "address": 1 })]
    {
        assert_eq!(
            send(&fake, request(Method::PUT, "name", &[], &body)).await.status,
            StatusCode::BAD_REQUEST,
            "{body}"
        );
    }
    assert!(fake.saved_queries.lock().is_empty());
}

#[tokio::test]
async fn only_pages_of_this_server_may_save() {
    let fake = Arc::new(Fake::default());
    let by = |origin: &'static str| request(Method::PUT, "name", &[("origin", origin)], &json!({ "address": "/" }));
    for origin in ["https://elsewhere.example", "http://traces.example:3201", "null", "http://traces.example:3200.evil"]
    {
        assert_eq!(send(&fake, by(origin)).await.status, StatusCode::FORBIDDEN, "{origin}");
    }
    assert_eq!(send(&fake, by("http://traces.example:3200")).await.status, StatusCode::OK);
    // Behind a proxy, which gives the server another name, browsers tell by this.
    for (site, status) in [
        ("same-origin", StatusCode::OK),
        ("none", StatusCode::OK),
        ("same-site", StatusCode::FORBIDDEN),
        ("cross-site", StatusCode::FORBIDDEN),
    ] {
        let headers = [("origin", "https://traces.example"), ("sec-fetch-site", site)];
        let saved = send(&fake, request(Method::PUT, "name", &headers, &json!({ "address": "/" }))).await;
        assert_eq!(saved.status, status, "{site}");
    }
    let removed = request(Method::DELETE, "name", &[("origin", "null")], &json!({}));
    assert_eq!(send(&fake, removed).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn those_who_save_at_once_lose_nothing() {
    let (fake, mut tasks) = (Arc::new(Fake::default()), tokio::task::JoinSet::new());
    let app = app(&fake);
    for number in 0..40 {
        let save = request(Method::PUT, &format!("query {number}"), &[], &json!({ "address": "/" }));
        tasks.spawn(send_to(app.clone(), save));
    }
    assert!(tasks.join_all().await.iter().all(|answer| answer.status == StatusCode::OK));
    assert_eq!(names(&fake, "default").await.len(), 40);
}

#[tokio::test]
async fn there_is_an_end_to_them() {
    let fake = Arc::new(Fake::default());
    let long = format!("/query?q={}", "x".repeat(8000));
    let mut saved = 0;
    let refused = loop {
        let answer = put(&fake, &format!("query {saved}"), &long).await;
        if answer.status != StatusCode::OK {
            break answer;
        }
        saved += 1;
    };
    assert!((60..70).contains(&saved), "{saved} of 8 KiB each are in 512 KiB");
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(refused.json()["detail"].as_str().is_some_and(|detail| detail.contains("remove some")));
    assert_eq!(names(&fake, "default").await.len(), saved);
}

#[tokio::test]
async fn a_catalogue_that_fails_is_told() {
    let fake = Arc::new(Fake { not_ready: true, ..Fake::default() });
    let failed = put(&fake, "name", "/").await;
    assert_eq!(failed.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(failed.json()["detail"].as_str().is_some_and(|detail| detail.contains("the disk is full")));
    fake.saved_queries.lock().insert(tracehouse_model::TenantId::default(), "[{".to_owned());
    assert_eq!(get(&fake, SAVED).await.status, StatusCode::INTERNAL_SERVER_ERROR);
}
