//! Tempo's streaming interface, asked by a real client over a socket.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use tokio::net::TcpListener;
use tonic::codec::CompressionEncoding;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming};
use tracehouse_api::proto::tempopb::streaming_querier_client::StreamingQuerierClient;
use tracehouse_api::proto::tempopb::{
    PartialStatus, QueryInstantRequest, QueryRangeRequest, SearchRequest, SearchTagValuesRequest, SearchTagsRequest,
    TagValue,
};
use tracehouse_query::{Condition, Operator, Scope};

use crate::app;
use crate::fake::{Fake, START, TRACE};

const SECOND: i64 = 1_000_000_000;

pub(crate) async fn served(fake: &Arc<Fake>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let app = app(fake);
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

async fn client(fake: &Arc<Fake>) -> StreamingQuerierClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", served(fake).await)).expect("an address");
    StreamingQuerierClient::new(endpoint.connect().await.expect("the server listens"))
}

fn fake() -> Arc<Fake> {
    Arc::new(Fake::default())
}

/// The messages of a stream.
pub(crate) async fn all<T>(answer: Result<Response<Streaming<T>>, Status>) -> Result<Vec<T>, Status> {
    let mut stream = answer?.into_inner();
    let mut messages = Vec::new();
    while let Some(message) = stream.message().await? {
        messages.push(message);
    }
    Ok(messages)
}

async fn only<T>(answer: Result<Response<Streaming<T>>, Status>) -> T {
    let mut messages = all(answer).await.expect("an answer");
    assert_eq!(messages.len(), 1);
    messages.pop().expect("one message")
}

fn text(attribute: &KeyValue) -> (&str, &str) {
    match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(Value::StringValue(text)) => (&attribute.key, text),
        other => panic!("{} is not a text: {other:?}", attribute.key),
    }
}

#[tokio::test]
async fn searches() {
    let fake = fake();
    let asked = SearchRequest {
        tags: [("http.url".to_owned(), "/a b".to_owned())].into(),
        min_duration_ms: 100,
        limit: 5,
        start: 1_769_860_800,
        end: 1_769_860_801,
        query: "{ status = error }".to_owned(),
        spans_per_span_set: 10,
        ..SearchRequest::default()
    };
    let answer = only(client(&fake).await.search(asked).await).await;
    let trace = &answer.traces[0];
    assert_eq!((trace.trace_id.as_str(), trace.start_time_unix_nano), (TRACE, START as u64));
    assert_eq!(trace.span_sets[0].matched, 2);
    let attributes: Vec<_> = trace.span_sets[0].spans[0].attributes.iter().map(text).collect();
    assert_eq!(attributes, [("service.name", "cart"), ("status", "error"), ("http.route", "/cart")]);
    assert_eq!(trace.service_stats["cart"].span_count, 2);
    assert_eq!(answer.metrics.expect("metrics").completed_jobs, 4);

    let request = fake.searches.lock().pop().expect("a search was asked");
    let url = Condition::Attribute {
        scope: Scope::Either,
        key: "http.url".to_owned(),
        operator: Operator::Equal,
        value: "/a b".to_owned(),
    };
    assert_eq!((request.conditions, request.traceql.as_deref()), (vec![url], Some("{ status = error }")));
    let range = (request.start_unix_nanos, request.end_unix_nanos);
    assert_eq!(range, (Some(START), Some(START + 2 * SECOND)));
    assert_eq!((request.limit, request.spans_per_spanset), (5, 10));
    assert_eq!((request.trace_duration_nanos_min, request.trace_duration_nanos_max), (Some(100_000_000), None));
}

#[tokio::test]
async fn tags_and_their_values() {
    let mut client = client(&fake()).await;
    let of_spans = || SearchTagsRequest { scope: "span".to_owned(), ..SearchTagsRequest::default() };
    assert_eq!(only(client.search_tags(of_spans()).await).await.tag_names, ["http.route", "retries"]);
    let scopes = only(client.search_tags_v2(of_spans()).await).await.scopes;
    assert_eq!((scopes[0].name.as_str(), scopes[0].tags.len()), ("span", 2));
    let route = || SearchTagValuesRequest {
        tag_name: "span.http.route".to_owned(),
        query: "{ }".to_owned(),
        start: 1,
        end: 2,
        max_tag_values: 2,
    };
    assert_eq!(only(client.search_tag_values(route()).await).await.tag_values, ["/cart", "3"]);
    let value = |value_type: &str, value: &str| TagValue { r#type: value_type.to_owned(), value: value.to_owned() };
    let values = only(client.search_tag_values_v2(route()).await).await.tag_values;
    assert_eq!(values, [value("string", "/cart"), value("int", "3")]);
}

#[tokio::test]
async fn metrics() {
    let fake = Arc::new(Fake { partial: true, ..Fake::default() });
    let mut client = client(&fake).await;
    let asked = QueryRangeRequest {
        query: "{ } | rate()".to_owned(),
        start: START as u64,
        end: (START + 30 * SECOND) as u64,
        step: 15 * SECOND as u64,
        exemplars: 1,
    };
    let answer = only(client.metrics_query_range(asked).await).await;
    assert_eq!(answer.series.iter().map(|series| text(&series.labels[0]).1).collect::<Vec<_>>(), ["cart", "nil"]);
    let samples = answer.series[1].samples.iter().map(|sample| (sample.timestamp_ms, sample.value));
    assert_eq!(samples.collect::<Vec<_>>(), [(START / 1_000_000 + 30_000, 1.0)]);
    assert_eq!(text(&answer.series[0].exemplars[0].labels[0]), ("trace:id", TRACE));
    assert_eq!((answer.status(), answer.message.as_str()), (PartialStatus::Partial, "2 of 3 files were read"));

    // Seconds are taken too.
    let asked = QueryInstantRequest { query: "{ } | rate()".to_owned(), start: 1_769_860_800, end: 1_769_860_860 };
    let answer = only(client.metrics_query_instant(asked).await).await;
    assert_eq!(answer.series.iter().map(|series| series.value).collect::<Vec<_>>(), [0.5]);
    let request = fake.metrics.lock().pop().expect("metrics were asked");
    assert_eq!((request.start_unix_nanos, request.end_unix_nanos), (START, START + 60 * SECOND));
    assert_eq!(request.step_nanos, None);
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let mut asked = client(&fake()).await;
    let search = |query: &str| SearchRequest { query: query.to_owned(), ..SearchRequest::default() };
    let range = |query: &str, start, end| QueryRangeRequest {
        query: query.to_owned(),
        start,
        end,
        ..QueryRangeRequest::default()
    };
    let table = [
        (all(asked.search(search("{")).await).await.map(drop), "at 1: expected"),
        (all(asked.metrics_query_range(range("{", 1, 2)).await).await.map(drop), "at 1: expected"),
        (all(asked.metrics_query_range(range("", 1, 2)).await).await.map(drop), "`query` is missing"),
        (all(asked.metrics_query_range(range("{ }", 2, 1)).await).await.map(drop), "not before `end`"),
    ];
    for (answer, words) in table {
        let status = answer.expect_err(words);
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(status.message().contains(words), "{status}");
    }
    let mut tenant = Request::new(search("{ }"));
    tenant.metadata_mut().insert("x-scope-orgid", "../x".parse().expect("ASCII"));
    assert_eq!(asked.search(tenant).await.expect_err("a wrong tenant").code(), Code::InvalidArgument);
    let busy = Arc::new(Fake { busy: true, ..Fake::default() });
    let services = SearchTagValuesRequest { tag_name: "service.name".to_owned(), ..SearchTagValuesRequest::default() };
    let status = client(&busy).await.search_tag_values(services).await.expect_err("it is busy");
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn questions_and_answers_may_be_compressed() {
    let fake = Arc::new(Fake { more_traces: 500, ..Fake::default() });
    let asked = || SearchRequest { query: "{ status = error }".to_owned(), limit: 500, ..SearchRequest::default() };
    let plain = client(&fake).await.search(asked()).await.expect("an answer");
    assert_eq!(plain.metadata().get("grpc-encoding"), None);
    let plain = only(Ok(plain)).await;
    for (encoding, name) in [(CompressionEncoding::Gzip, "gzip"), (CompressionEncoding::Zstd, "zstd")] {
        let mut client = client(&fake).await.send_compressed(encoding).accept_compressed(encoding);
        let answer = client.search(asked()).await.expect("an answer");
        assert_eq!(answer.metadata().get("grpc-encoding").and_then(|name| name.to_str().ok()), Some(name));
        assert_eq!(only(Ok(answer)).await, plain, "{name}");
        // What is small on the wire may be large behind it.
        let large = SearchRequest { query: " ".repeat(1 << 20), ..SearchRequest::default() };
        let status = client.search(large).await.expect_err("too large");
        assert!(matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted), "{status}");
    }
}

/// Grafana names the tenant twice when it streams.
#[tokio::test]
async fn tenants_are_apart() {
    for (tenants, expected) in [
        (&["acme-1"][..], Ok("values Either service.name 1000 of acme-1")),
        (&["acme-1", "acme-1"], Ok("values Either service.name 1000 of acme-1")),
        (&["acme-1|acme-2", "acme-1|acme-2"], Ok("values Either service.name 1000 of acme-1|acme-2")),
        (&["acme-1", "acme-2"], Err(Code::InvalidArgument)),
        (&["acme-1|../x"], Err(Code::InvalidArgument)),
    ] {
        let fake = fake();
        let mut asked = Request::new(SearchTagValuesRequest {
            tag_name: "service.name".to_owned(),
            ..SearchTagValuesRequest::default()
        });
        for tenant in tenants {
            asked.metadata_mut().append("x-scope-orgid", tenant.parse().expect("ASCII"));
        }
        let answer = all(client(&fake).await.search_tag_values(asked).await).await.map_err(|status| status.code());
        assert_eq!(answer.map(|_| fake.asked.lock()[0].clone()), expected.map(str::to_owned), "{tenants:?}");
    }
}

#[tokio::test]
async fn partial_answers_say_so() {
    fn reason<T>(answer: Result<Response<Streaming<T>>, Status>) -> String {
        let answer = answer.expect("an answer");
        let reason = answer.metadata().get("x-tracehouse-partial").expect("a reason");
        reason.to_str().expect("ASCII").to_owned()
    }
    let fake = Arc::new(Fake { partial: true, more_traces: 2000, ..Fake::default() });
    let mut client = client(&fake).await;
    let search = |limit| SearchRequest { limit, ..SearchRequest::default() };
    let range = QueryRangeRequest { query: "{ } | rate()".to_owned(), end: 7200, ..QueryRangeRequest::default() };
    let instant = QueryInstantRequest { query: "{ } | rate()".to_owned(), start: 1, end: 7200 };
    let values = || SearchTagValuesRequest { tag_name: "span.a".to_owned(), ..SearchTagValuesRequest::default() };
    let read = "2 of 3 files were read";
    assert_eq!(reason(client.search(search(5)).await), read);
    let cut = "the newest 1000 of more traces, as no more are answered at once";
    assert_eq!(reason(client.search(search(5000)).await), format!("{read}; {cut}"));
    assert_eq!(reason(client.metrics_query_range(range).await), read);
    assert_eq!(reason(client.metrics_query_instant(instant).await), read);
    assert_eq!(reason(client.search_tags(SearchTagsRequest::default()).await), "the first 3 of more names");
    assert_eq!(reason(client.search_tags_v2(SearchTagsRequest::default()).await), "the first 3 of more names");
    assert_eq!(reason(client.search_tag_values(values()).await), "the first 3 of more values");
    assert_eq!(reason(client.search_tag_values_v2(values()).await), "the first 3 of more values");
}

/// A question that nobody waits for any more is dropped, and with it the work for it.
#[tokio::test]
async fn a_client_that_goes_away_cancels() {
    let fake = Arc::new(Fake { never_answers: true, ..Fake::default() });
    let mut client = client(&fake).await;
    let asked = QueryRangeRequest { query: "{ } | rate()".to_owned(), end: 7200, ..QueryRangeRequest::default() };
    let call = tokio::spawn(async move { client.metrics_query_range(asked).await.map(drop) });
    let becomes = async |wanted: usize| {
        while fake.running.load(Ordering::SeqCst) != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    becomes(1).await;
    call.abort();
    becomes(0).await;
}

#[tokio::test]
async fn unknown_methods_are_unimplemented() {
    let address = served(&fake()).await;
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    let mut grpc = tonic::client::Grpc::new(endpoint.connect().await.expect("the server listens"));
    grpc.ready().await.expect("the server is ready");
    let path = http::uri::PathAndQuery::from_static("/tempopb.StreamingQuerier/Nothing");
    let codec = tonic_prost::ProstCodec::<SearchRequest, SearchRequest>::default();
    let status = grpc.unary(Request::new(SearchRequest::default()), path, codec).await.expect_err("no such method");
    assert_eq!(status.code(), Code::Unimplemented);
}
