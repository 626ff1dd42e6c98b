//! The gRPC receiver, called by tonic's client with generated messages.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use prost::Message;
use tonic::codec::CompressionEncoding;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tracehouse_model::Limits;
use tracehouse_receive::{Accepted, Refusal};

use crate::harness::{STRANGER, Server};
use crate::samples::{request, span};

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

async fn client(server: &Server) -> tonic::client::Grpc<Channel> {
    let endpoint = Channel::from_shared(format!("http://{}", server.grpc)).expect("a URI");
    tonic::client::Grpc::new(endpoint.connect().await.expect("the server listens"))
}

async fn call(
    client: &mut tonic::client::Grpc<Channel>,
    path: &'static str,
    request: Request<ExportTraceServiceRequest>,
) -> Result<ExportTraceServiceResponse, Status> {
    client.ready().await.expect("connected");
    let codec = tonic_prost::ProstCodec::default();
    client.unary(request, path.parse().expect("a path"), codec).await.map(|response| response.into_inner())
}

async fn export(server: &Server, request: ExportTraceServiceRequest) -> Result<ExportTraceServiceResponse, Status> {
    call(&mut client(server).await, EXPORT, Request::new(request)).await
}

#[derive(Clone, PartialEq, prost::Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<RetryDelay>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RetryDelay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

fn retry_delay(status: &Status) -> Option<Duration> {
    let details = RpcStatus::decode(status.details()).expect("google.rpc.Status");
    let any = details.details.iter().find(|any| any.type_url == "type.googleapis.com/google.rpc.RetryInfo")?;
    assert_eq!((details.code, &details.message[..]), (status.code() as i32, status.message()));
    let delay = RetryInfo::decode(&any.value[..]).expect("google.rpc.RetryInfo").retry_delay?;
    Some(Duration::new(delay.seconds as u64, delay.nanos as u32))
}

#[tokio::test]
async fn spans_arrive_whatever_the_compression() {
    let server = Server::start(Limits::default()).await;
    let request = request((0..5000).map(span).collect());
    for compression in [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)] {
        let mut client = client(&server).await;
        if let Some(compression) = compression {
            client = client.send_compressed(compression).accept_compressed(compression);
        }
        let response = call(&mut client, EXPORT, Request::new(request.clone())).await.expect("accepted");
        assert_eq!(response, ExportTraceServiceResponse::default());
    }
    assert_eq!(server.sink.received(), vec![("default".to_owned(), 5000); 3]);
    let received = server.sink.received.lock().expect("not poisoned");
    let last = received[2].1.span(4999);
    assert_eq!((&last.name[..], &last.service_name[..], &last.scope_name[..]), ("GET /cart", "cart", "scope"));
    assert_eq!(server.state.in_flight_bytes(), 0);
}

#[tokio::test]
async fn empty_requests_succeed_without_the_sink() {
    let server = Server::start(Limits::default()).await;
    export(&server, ExportTraceServiceRequest::default()).await.expect("accepted");
    export(&server, request(Vec::new())).await.expect("accepted");
    assert_eq!(server.sink.received(), Vec::new());
}

#[tokio::test]
async fn refused_spans_are_a_partial_success() {
    let server = Server::start(Limits::default()).await;
    server.sink.answer_with(Ok(Accepted { rejected_spans: 2, message: "2 of them were odd".into() }));
    let mut spans: Vec<_> = (0..5).map(span).collect();
    spans[1].trace_id.clear();
    let partial = export(&server, request(spans)).await.expect("accepted").partial_success.expect("partial");
    assert_eq!(partial.rejected_spans, 3);
    assert!(partial.error_message.contains("trace id"), "{}", partial.error_message);
    assert!(partial.error_message.ends_with("; 2 of them were odd"), "{}", partial.error_message);
    assert_eq!(server.sink.received(), vec![("default".to_owned(), 4)]);
}

#[tokio::test]
async fn refusals_say_when_to_come_back() {
    let server = Server::start(Limits::default()).await;
    let cases = [
        (
            Refusal::Busy { retry_after: Duration::from_millis(1500), reason: "100 % busy, ünd so".into() },
            Code::ResourceExhausted,
            Some(Duration::from_millis(1500)),
        ),
        (
            Refusal::Unavailable { retry_after: Duration::from_secs(9), reason: "no disk".into() },
            Code::Unavailable,
            Some(Duration::from_secs(9)),
        ),
        (Refusal::Invalid { reason: "never".into() }, Code::InvalidArgument, None),
        (Refusal::Forbidden { reason: "too many tenants".into() }, Code::PermissionDenied, None),
    ];
    for (refusal, code, delay) in cases {
        server.sink.answer_with(Err(refusal.clone()));
        let status = export(&server, request(vec![span(0)])).await.expect_err("refused");
        let (Refusal::Busy { reason, .. }
        | Refusal::Unavailable { reason, .. }
        | Refusal::Forbidden { reason }
        | Refusal::Invalid { reason }) = refusal;
        assert_eq!((status.code(), status.message()), (code, &reason[..]));
        assert_eq!(retry_delay(&status), delay);
    }
}

#[tokio::test]
async fn no_room_means_come_back_in_a_second() {
    let server = Server::start(Limits { in_flight_bytes_max: 100_000, ..Limits::default() }).await;
    let status = export(&server, request((0..5000).map(span).collect())).await.expect_err("refused");
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(retry_delay(&status), Some(Duration::from_secs(1)));
    assert_eq!(server.state.in_flight_bytes(), 0);
    export(&server, request(vec![span(0)])).await.expect("room for a small one");
}

#[tokio::test]
async fn bombs_and_large_messages_are_refused_for_good() {
    let limits = Limits { request_bytes_max: 100_000, decompressed_bytes_max: 1_000_000, ..Limits::default() };
    let server = Server::start(limits).await;
    let large = request((0..20_000).map(span).collect());
    for compression in [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)] {
        let mut client = client(&server).await;
        let mut bomb = large.clone();
        if let Some(compression) = compression {
            client = client.send_compressed(compression);
            bomb = request(vec![span(0)]);
            bomb.resource_spans[0].schema_url = "x".repeat(50_000_000);
        }
        let status = call(&mut client, EXPORT, Request::new(bomb)).await.expect_err("refused");
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        assert!(status.details().is_empty(), "not to be tried again");
    }
    assert_eq!(server.sink.received(), Vec::new());
    assert_eq!(server.state.in_flight_bytes(), 0);
}

#[tokio::test]
async fn tenants_are_named_by_a_header() {
    let server = Server::start(Limits::default()).await;
    let cases = [
        ("team-a", Ok(())),
        ("../etc", Err(Code::InvalidArgument)),
        ("team-a|team-b", Err(Code::InvalidArgument)),
        ("team-a|team-a", Err(Code::InvalidArgument)),
        (STRANGER, Err(Code::PermissionDenied)),
    ];
    for (name, expected) in cases {
        let mut message = Request::new(request(vec![span(0)]));
        message.metadata_mut().insert("x-scope-orgid", name.parse().expect("ASCII"));
        let answer = call(&mut client(&server).await, EXPORT, message).await;
        assert_eq!(answer.map(drop).map_err(|status| status.code()), expected);
    }
    assert_eq!(server.sink.received(), vec![("team-a".to_owned(), 1)]);
}

#[tokio::test]
async fn other_services_are_unimplemented() {
    let server = Server::start(Limits::default()).await;
    let path = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
    let status = call(&mut client(&server).await, path, Request::new(request(Vec::new()))).await;
    assert_eq!(status.expect_err("refused").code(), Code::Unimplemented);
}

#[tokio::test]
async fn shutdown_finishes_what_is_in_flight() {
    let mut server = Server::start(Limits::default()).await;
    let all = server.sink.gate.available_permits();
    server.sink.gate.forget_permits(all);
    let silent = tokio::net::TcpStream::connect(server.grpc).await.expect("the server listens");
    let mut client = client(&server).await;
    let export = tokio::spawn(async move { call(&mut client, EXPORT, Request::new(request(vec![span(0)]))).await });
    while server.state.in_flight_bytes() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let handles = server.stop();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!export.is_finished());
    server.sink.gate.add_permits(1);
    export.await.expect("no panic").expect("accepted");
    for handle in handles {
        handle.await.expect("no panic").expect("served to the end");
    }
    assert!(tokio::net::TcpStream::connect(server.grpc).await.is_err());
    drop(silent);
}
