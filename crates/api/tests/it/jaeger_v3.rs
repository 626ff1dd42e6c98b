//! Version 3 of Jaeger's interface, over HTTP and by a real gRPC client over a socket.

use std::sync::Arc;

use axum::body::Body;
use http::{Request, StatusCode};
use opentelemetry_proto::tonic::trace::v1::TracesData;
use serde_json::{Value, json};
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tracehouse_api::proto::jaeger::query_service_client::QueryServiceClient;
use tracehouse_api::proto::jaeger::{
    FindTraceSummariesRequest, FindTracesRequest, GetDependenciesRequest, GetOperationsRequest, GetServicesRequest,
    GetTraceRequest, Operation, TraceQueryParameters,
};
use tracehouse_model::status;
use tracehouse_query::{Condition, SearchRequest};

use crate::fake::{Fake, START, TRACE};
use crate::grpc::{all, served};
use crate::jaeger::PLACES;
use crate::{get, send, tag_condition};

const SECOND: i64 = 1_000_000_000;
const RANGE: &str = "query.startTimeMin=2026-01-31T12:00:00Z&query.startTimeMax=2026-01-31T13:00:00.5Z";

fn fake() -> Arc<Fake> {
    Arc::new(Fake::default())
}

async fn client(fake: &Arc<Fake>) -> QueryServiceClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", served(fake).await)).expect("an address");
    QueryServiceClient::new(endpoint.connect().await.expect("the server listens"))
}

fn summaries() -> Value {
    json!({"summaries": [{
        "traceId": TRACE,
        "rootServiceName": "gateway",
        "rootOperationName": "GET /",
        "minStartTimeUnixNano": START.to_string(),
        "maxEndTimeUnixNano": (START + 5_000_000).to_string(),
        "spanCount": 3,
        "errorSpanCount": 1,
        "orphanSpanCount": 1,
        "services": [
            {"name": "cart", "spanCount": 2, "errorSpanCount": 1},
            {"name": "gateway", "spanCount": 1, "errorSpanCount": 0},
        ],
    }]})
}

/// What every form of the same search must ask the engine.
fn assert_asked(fake: &Fake) {
    let SearchRequest { conditions, start_unix_nanos, end_unix_nanos, limit, .. } =
        fake.searches.lock().pop().expect("a search was asked");
    let expected = [
        Condition::Service("cart".to_owned()),
        Condition::Operation("GET /".to_owned()),
        Condition::DurationMin(1_000_000),
        Condition::DurationMax(2 * SECOND + 999),
        tag_condition(&[Condition::Status(status::ERROR)], &PLACES, "error", "true"),
        tag_condition(&[], &PLACES, "http.route", "/cart"),
    ];
    assert_eq!(conditions, expected);
    let end = START + 3600 * SECOND + SECOND / 2;
    assert_eq!((start_unix_nanos, end_unix_nanos, limit), (Some(START), Some(end), 7));
}

#[tokio::test]
async fn names() {
    let table = [
        ("/api/v3/services", json!({"services": ["cart", "gateway"]})),
        ("/jaeger/api/v3/services", json!({"services": ["cart", "gateway"]})),
        (
            "/api/v3/operations?service=cart&span_kind=server",
            json!({"operations": [{"name": "GET /", "spanKind": "server"}]}),
        ),
        (
            "/api/v3/dependencies?startTime=2026-01-31T12:00:00Z&end_time=2026-01-31T13:00:00Z",
            json!({"dependencies": [{"parent": "gateway", "child": "cart", "callCount": "1"}]}),
        ),
    ];
    for (uri, expected) in table {
        assert_eq!(get(&fake(), uri).await.json(), expected, "{uri}");
    }
}

#[tokio::test]
async fn a_trace_is_otlp() {
    let answer = get(&fake(), &format!("/api/v3/traces/{TRACE}")).await.json();
    let resources = answer["result"]["resourceSpans"].as_array().expect("resources");
    assert_eq!(resources.len(), 2);
    let child = &resources[1]["scopeSpans"][0]["spans"][0];
    assert_eq!((&child["traceId"], &child["spanId"]), (&json!(TRACE), &json!("0202020202020202")));
    assert_eq!((&child["parentSpanId"], &child["kind"]), (&json!("0101010101010101"), &json!(3)));
    assert_eq!(child["status"], json!({"message": "out of stock", "code": 2}));
    assert_eq!(child["startTimeUnixNano"], (START + 1000).to_string());
    assert_eq!(child["links"][0]["spanId"], "0808080808080808");
    let in_base64 = get(&fake(), "/api/v3/traces/W47%2F95gDgQPSabYzgT%2FGDA==").await.json();
    assert_eq!(in_base64, answer);
}

#[tokio::test]
async fn searches_in_every_form() {
    let fake = fake();
    let attributes = "%7B%22error%22%3A%22true%22%2C%22http.route%22%3A%22%2Fcart%22%7D";
    let camel = format!(
        "query.serviceName=cart&query.operationName=GET%20/&query.attributes={attributes}&{RANGE}\
         &query.durationMin=1ms&query.durationMax=2s&query.searchDepth=7&query.rawTraces=true&unknown=1"
    );
    let snake = format!(
        "query.service_name=cart&query.operation_name=GET%20/&query.attributes={attributes}\
         &query.start_time_min=2026-01-31T14:00:00+02:00&query.start_time_max=2026-01-31T13:00:00.5Z\
         &query.duration_min=1ms&query.duration_max=2s&query.num_traces=7"
    );
    for parameters in [&camel, &snake] {
        let traces = get(&fake, &format!("/api/v3/traces?{parameters}")).await.json();
        assert!(traces["result"]["resourceSpans"].is_array(), "{traces}");
        assert_asked(&fake);
        assert_eq!(get(&fake, &format!("/api/v3/trace-summaries?{parameters}")).await.json(), summaries());
        assert_asked(&fake);
    }

    let body = json!({"query": {
        "serviceName": "cart",
        "operation_name": "GET /",
        "attributes": {"error": "true", "http.route": "/cart"},
        "startTimeMin": "2026-01-31T12:00:00Z",
        "startTimeMax": "2026-01-31T13:00:00.5Z",
        "durationMin": "0.001s",
        "durationMax": "2s",
        "searchDepth": 7,
        "filter": null,
    }});
    let request = Request::post("/api/v3/trace-summaries").body(Body::from(body.to_string())).expect("a request");
    assert_eq!(send(&fake, request).await.json(), summaries());
    assert_asked(&fake);
    let request = Request::post("/jaeger/api/v3/traces").body(Body::from(body.to_string())).expect("a request");
    assert!(send(&fake, request).await.json()["result"]["resourceSpans"].is_array());
    assert_asked(&fake);
}

fn query() -> Option<TraceQueryParameters> {
    let time = |nanos: i64| {
        let (seconds, nanos) = (nanos.div_euclid(SECOND), (nanos.rem_euclid(SECOND)) as i32);
        Some(prost_types::Timestamp { seconds, nanos })
    };
    Some(TraceQueryParameters {
        service_name: "cart".to_owned(),
        operation_name: "GET /".to_owned(),
        attributes: [("error", "true"), ("http.route", "/cart")].map(|(k, v)| (k.to_owned(), v.to_owned())).into(),
        start_time_min: time(START),
        start_time_max: time(START + 3600 * SECOND + SECOND / 2),
        duration_min: Some(prost_types::Duration { seconds: 0, nanos: 1_000_000 }),
        duration_max: Some(prost_types::Duration { seconds: 2, nanos: 0 }),
        search_depth: 7,
        ..TraceQueryParameters::default()
    })
}

#[tokio::test]
async fn searches_over_grpc() {
    let fake = fake();
    let mut client = client(&fake).await;
    let traces = all(client.find_traces(FindTracesRequest { query: query() }).await).await.expect("traces");
    assert_eq!(spans_of(&traces), 3);
    assert_asked(&fake);
    let answer = all(client.find_trace_summaries(FindTraceSummariesRequest { query: query() }).await).await;
    let answer = answer.expect("summaries");
    assert_eq!(serde_json::to_value(&answer[0]).expect("JSON"), summaries());
    assert_asked(&fake);
}

fn spans_of(messages: &[TracesData]) -> usize {
    let scopes = messages.iter().flat_map(|message| &message.resource_spans).flat_map(|spans| &spans.scope_spans);
    scopes.map(|scope| scope.spans.len()).sum()
}

#[tokio::test]
async fn a_large_trace_comes_in_pieces() {
    let fake = Arc::new(Fake { more_spans: 10_000, ..Fake::default() });
    let asked = GetTraceRequest { trace_id: TRACE.to_owned(), ..GetTraceRequest::default() };
    let messages = all(client(&fake).await.get_trace(asked).await).await.expect("a trace");
    assert_eq!((spans_of(&messages), messages.len()), (10_003, 4));
}

#[tokio::test]
async fn names_over_grpc() {
    let mut client = client(&fake()).await;
    let services = client.get_services(GetServicesRequest {}).await.expect("services").into_inner();
    assert_eq!(services.services, ["cart", "gateway"]);
    let asked = GetOperationsRequest { service: "cart".to_owned(), span_kind: "server".to_owned() };
    let operations = client.get_operations(asked).await.expect("operations").into_inner().operations;
    let named = |operation: &Operation| (operation.name.clone(), operation.span_kind.clone());
    assert_eq!(operations.iter().map(named).collect::<Vec<_>>(), [("GET /".to_owned(), "server".to_owned())]);
    let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let asked = GetDependenciesRequest { start_time: time(1), end_time: time(2) };
    let links = client.get_dependencies(asked).await.expect("dependencies").into_inner().dependencies;
    assert_eq!((links[0].parent.as_str(), links[0].child.as_str(), links[0].call_count), ("gateway", "cart", 1));
}

#[tokio::test]
async fn partial_answers_say_so() {
    let fake = Arc::new(Fake { partial: true, ..Fake::default() });
    let reason = "2 of 3 files were read";
    for path in ["traces", "trace-summaries"] {
        let answer = get(&fake, &format!("/api/v3/{path}?{RANGE}")).await;
        assert_eq!((answer.status, answer.header("x-tracehouse-partial")), (StatusCode::OK, reason));
    }
    let names = get(&fake, "/api/v3/services").await;
    assert_eq!(names.header("x-tracehouse-partial"), "the first 2 of more names");
    let answer = client(&fake).await.find_traces(FindTracesRequest { query: query() }).await.expect("traces");
    assert_eq!(answer.metadata().get("x-tracehouse-partial").expect("a reason"), reason);
}

#[tokio::test]
async fn wrong_requests() {
    let table = [
        ("traces", "required"),
        ("traces?query.startTimeMin=2026-01-31T12:00:00Z", "required"),
        ("traces?query.startTimeMin=2026-01-31T12:00:00Z&query.startTimeMax=2026-01-31T12:00:00Z", "before its end"),
        ("traces?query.startTimeMin=x&query.startTimeMax=2026-01-31T12:00:00Z", "RFC 3339"),
        (&format!("traces?{RANGE}&query.searchDepth=0"), "from 1 to"),
        (&format!("traces?{RANGE}&query.durationMin=2s&query.durationMax=1s"), "swap"),
        (&format!("traces?{RANGE}&query.attributes=a"), "JSON object"),
        (&format!("trace-summaries?{RANGE}&query.filter=%7B%7D"), "not supported"),
        ("traces/xyz", "id"),
        ("operations?spanKind=x", "one of internal"),
        ("dependencies?startTime=2026-01-31T12:00:00Z", "required"),
    ];
    for (path, words) in table {
        let answer = get(&fake(), &format!("/api/v3/{path}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        let error = &answer.json()["error"];
        assert_eq!((&error["httpCode"], &error["grpcCode"]), (&json!(400), &json!(3)), "{path}");
        assert!(error["message"].as_str().is_some_and(|message| message.contains(words)), "{path}: {error}");
    }
    let unknown = get(&fake(), "/api/v3/traces/1").await;
    assert_eq!((unknown.status, &unknown.json()["error"]["grpcCode"]), (StatusCode::NOT_FOUND, &json!(5)));
    let request = Request::post("/api/v3/traces").body(Body::from("x")).expect("a request");
    assert_eq!(send(&fake(), request).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn wrong_calls() {
    let mut client = client(&fake()).await;
    let mut find = async |query| all(client.find_traces(FindTracesRequest { query }).await).await.map_err(|e| e.code());
    let with = |change: fn(&mut TraceQueryParameters)| {
        let mut query = query().expect("a query");
        change(&mut query);
        Some(query)
    };
    assert_eq!(find(None).await, Err(Code::InvalidArgument));
    assert_eq!(find(with(|query| query.start_time_max = None)).await, Err(Code::InvalidArgument));
    assert_eq!(find(with(|query| query.search_depth = -1)).await, Err(Code::InvalidArgument));
    assert_eq!(find(with(|query| query.filter = vec![0x0a, 0])).await, Err(Code::InvalidArgument));
    assert_eq!(find(with(|query| query.search_depth = 0)).await.map(|traces| traces.len()), Ok(2));
    let get = |trace_id: &str| GetTraceRequest { trace_id: trace_id.to_owned(), ..GetTraceRequest::default() };
    let code = all(client.get_trace(get("1")).await).await.expect_err("unknown").code();
    assert_eq!(code, Code::NotFound);
    let code = all(client.get_trace(get("x")).await).await.expect_err("no id").code();
    assert_eq!(code, Code::InvalidArgument);
}
