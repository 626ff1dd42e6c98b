//! The HTTP receiver, spoken to in bytes.

use std::io::Write;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tracehouse_model::Limits;
use tracehouse_receive::Refusal;

use crate::harness::{STRANGER, Server};
use crate::samples::{request, span};

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (known, value) = line.split_once(": ")?;
            known.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

async fn send(server: &Server, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    let mut stream = TcpStream::connect(server.http).await.expect("the server listens");
    let mut bytes = request.into_bytes();
    bytes.extend_from_slice(body);
    // A server that has refused may stop reading.
    stream.write_all(&bytes).await.ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.ok();
    let split = answer.windows(4).position(|window| window == b"\r\n\r\n").expect("the end of the head");
    let head = String::from_utf8(answer[..split].to_vec()).expect("ASCII");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head, body: answer[split + 4..].to_vec() }
}

async fn post(server: &Server, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    send(server, "POST", "/v1/traces", headers, body).await
}

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json");

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).expect("in memory");
    encoder.finish().expect("in memory")
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).expect("in memory")
}

#[tokio::test]
async fn spans_arrive_in_either_encoding_and_any_compression() {
    let server = Server::start(Limits::default()).await;
    let request = request((0..2000).map(span).collect());
    let protobuf = request.encode_to_vec();
    let json = serde_json::to_vec(&request).expect("serialisable");
    for (content_type, body) in [(PROTOBUF, protobuf), (JSON, json)] {
        for (encoding, body) in
            [("identity", body.clone()), ("gzip", gzip(&body)), ("zstd", zstd(&body)), ("", body.clone())]
        {
            let answer = post(&server, &[content_type, ("content-encoding", encoding)], &body).await;
            assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
            assert_eq!(answer.header("content-type"), Some(content_type.1));
            let expected: &[u8] = if content_type == JSON { b"{}" } else { b"" };
            assert_eq!(answer.body, expected);
        }
    }
    assert_eq!(server.sink.received(), vec![("default".to_owned(), 2000); 8]);
    assert_eq!(server.state.in_flight_bytes(), 0);
}

/// What is wrong in JSON costs no more than it must, however the request is compressed.
#[tokio::test]
async fn what_is_wrong_in_json_is_told_beside_what_is_kept() {
    let server = Server::start(Limits::default()).await;
    let span = |members: &str| {
        let ids = r#""traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174""#;
        format!(r#"{{{ids},"startTimeUnixNano":"1","endTimeUnixNano":2,{members}}}"#)
    };
    let spans = [
        span(r#""name":"\ud83c","kind":2.0"#),
        span(r#""kind":[]"#),
        span(r#""attributes":[{"key":"k","value":{"intValue":"x"}}]"#),
    ];
    let text = format!("\u{feff}{{\"resourceSpans\":[{{\"scopeSpans\":[{{\"spans\":[{}]}}]}}]}}", spans.join(","));
    for (encoding, body) in
        [("identity", text.clone().into_bytes()), ("gzip", gzip(text.as_bytes())), ("zstd", zstd(text.as_bytes()))]
    {
        let answer = post(&server, &[JSON, ("content-encoding", encoding)], &body).await;
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        let partial: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(partial["partialSuccess"]["rejectedSpans"], "1");
        assert_eq!(
            partial["partialSuccess"]["errorMessage"],
            "1 span refused because a field has a wrong value (first: span 1 of the request, where kind is an array, not \
             the number or name of a span kind); 1 attribute left out because of a wrong value (first: \"k\" of span 2 of \
             the request, where intValue is a string, not an integer in the range of its field)"
        );
    }
    assert_eq!(server.sink.received(), vec![("default".to_owned(), 2); 3]);
    // Nothing is refused, and yet something is told.
    let text = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{}]}}]}}]}}"#, spans[2]);
    let answer = post(&server, &[JSON], text.as_bytes()).await;
    let partial: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(partial["partialSuccess"]["rejectedSpans"], "0");
    assert!(partial["partialSuccess"]["errorMessage"].as_str().is_some_and(|message| message.contains("intValue")));
}

#[tokio::test]
async fn empty_bodies_succeed() {
    let server = Server::start(Limits::default()).await;
    for content_type in [PROTOBUF, JSON, ("content-type", "application/json; charset=utf-8")] {
        assert_eq!(post(&server, &[content_type], b"").await.status, 200);
    }
    assert_eq!(post(&server, &[JSON], b"{}").await.status, 200);
    assert_eq!(server.sink.received(), Vec::new());
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let limits = Limits { request_bytes_max: 100_000, decompressed_bytes_max: 1_000_000, ..Limits::default() };
    let server = Server::start(limits).await;
    let bomb = vec![0; 10_000_000];
    let (gzip_bomb, zstd_bomb, large) = (gzip(&bomb), zstd(&bomb), vec![0; 200_000]);
    let gzipped = ("content-encoding", "gzip");
    type Case<'a> = (u16, &'a [(&'a str, &'a str)], &'a [u8]);
    let cases: [Case; 12] = [
        (415, &[], b""),
        (415, &[("content-type", "application/xml")], b"{}"),
        (415, &[JSON, ("content-encoding", "br")], b"{}"),
        (400, &[JSON], b"{"),
        (400, &[PROTOBUF], b"\x0a\x05"),
        (400, &[JSON, gzipped], b"{}"),
        (400, &[PROTOBUF, ("content-encoding", "zstd")], b"{}"),
        (413, &[PROTOBUF], &large),
        (413, &[PROTOBUF, gzipped], &gzip_bomb),
        (413, &[JSON, ("content-encoding", "zstd")], &zstd_bomb),
        (400, &[JSON, ("x-scope-orgid", "a/b")], b"{}"),
        (403, &[JSON, ("x-scope-orgid", STRANGER)], b"{}"),
    ];
    for (status, headers, body) in cases {
        let answer = post(&server, headers, body).await;
        assert_eq!(answer.status, status, "{headers:?} {}", String::from_utf8_lossy(&answer.body));
        let content_type = if headers.contains(&PROTOBUF) && status != 415 { PROTOBUF } else { JSON };
        assert_eq!(answer.header("content-type"), Some(content_type.1), "{headers:?}");
        if content_type == JSON {
            let problem: serde_json::Value = serde_json::from_slice(&answer.body).expect("google.rpc.Status");
            assert!(problem["code"].is_i64() && problem["message"].is_string(), "{problem}");
        }
    }
    assert_eq!(send(&server, "GET", "/v1/traces", &[], b"").await.status, 405);
    assert_eq!(send(&server, "POST", "/v1/logs", &[JSON], b"{}").await.status, 404);
    assert_eq!(server.state.in_flight_bytes(), 0);
}

#[tokio::test]
async fn partial_success_and_refusals() {
    let server = Server::start(Limits::default()).await;
    let mut spans: Vec<_> = (0..2).map(span).collect();
    spans[1].span_id = vec![0; 8];
    let request = request(spans);
    let answer = post(&server, &[PROTOBUF], &request.encode_to_vec()).await;
    let partial = ExportTraceServiceResponse::decode(&answer.body[..]).expect("protobuf").partial_success;
    assert_eq!(partial.expect("partial").rejected_spans, 1);
    let json = serde_json::to_vec(&request).expect("serialisable");
    let answer = post(&server, &[JSON], &json).await;
    let partial: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(partial["partialSuccess"]["rejectedSpans"], "1");

    let cases = [
        (Refusal::Busy { retry_after: Duration::from_millis(1500), reason: "busy".into() }, 429, Some("2")),
        (Refusal::Unavailable { retry_after: Duration::ZERO, reason: "no disk".into() }, 503, Some("1")),
        (Refusal::Invalid { reason: "never".into() }, 400, None),
        (Refusal::Forbidden { reason: "too many tenants".into() }, 403, None),
    ];
    for (refusal, status, retry_after) in cases {
        server.sink.answer_with(Err(refusal));
        let answer = post(&server, &[JSON], &json).await;
        assert_eq!((answer.status, answer.header("retry-after")), (status, retry_after));
    }
}

#[tokio::test]
async fn who_announces_much_takes_little_room() {
    let server = Server::start(Limits::default()).await;
    let mut stream = TcpStream::connect(server.http).await.expect("the server listens");
    let head = b"POST /v1/traces HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: 16000000\r\n\r\n{";
    stream.write_all(head).await.expect("sent");
    while server.state.in_flight_bytes() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(server.state.in_flight_bytes() <= 1024 * 1024);
    drop(stream);
    while server.state.in_flight_bytes() > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// A sender that is refused by the head of its request, whose body comes a little later, keeps its connection.
#[tokio::test]
async fn a_refusal_before_a_small_body_keeps_the_connection() {
    let server = Server::start(Limits::default()).await;
    let mut stream = TcpStream::connect(server.http).await.expect("the server listens");
    for (tenant, status) in [(STRANGER, "403"), (STRANGER, "403"), ("known", "200")] {
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\nx-scope-orgid: {tenant}\r\n\
             content-length: 2\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("sent");
        // The server has read the head by now; if it has not, this tests nothing.
        tokio::time::sleep(Duration::from_millis(30)).await;
        stream.write_all(b"{}").await.expect("sent");
        let mut answer = vec![0; 4096];
        let bytes = stream.read(&mut answer).await.expect("an answer");
        let answer = String::from_utf8_lossy(&answer[..bytes]);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{tenant}: {answer:?}");
    }
}
