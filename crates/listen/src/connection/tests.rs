use std::net::Ipv4Addr;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use axum::routing::{get, post};
use h2::client::SendRequest;
use h2::{RecvStream, SendStream};
use http::StatusCode;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::*;
use crate::begun::SharedByRequests;
use crate::connections::Connections;
use crate::sites::Sites;
use crate::unread::Shared;

const MIB: usize = 1024 * 1024;
/// Larger than half of what a port has for itself, so that only one has room there.
const LARGE: usize = 9 * MIB;
static LARGE_ANSWER: [u8; LARGE] = [0; LARGE];
const PIECE: usize = 64 * 1024;
const PIPE_BYTES: usize = 16 * 1024;
const DEFAULT_WINDOW: u32 = 65_535;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// After these many looks an answer is ended of which nothing was taken: the first finds that it waits.
const LOOKS_UNTIL_ENDED: usize = 7;

/// A port that connections reach by pipes, and whose time is moved by hand.
struct Harness {
    connections: Arc<Connections>,
    port: Arc<Port>,
    stopping: watch::Receiver<bool>,
    _stop: watch::Sender<bool>,
}

struct Client {
    requests: SendRequest<Bytes>,
    served: JoinHandle<&'static str>,
}

impl Harness {
    fn new() -> Self {
        Self::with(Connections::for_tests(64, Shared::new(2 * LARGE)))
    }

    /// With as much room for requests as a port has for itself.
    fn with_little_room_for_requests() -> Self {
        Self::with(Connections::with_requests(SharedByRequests::new(0)))
    }

    fn with(connections: Arc<Connections>) -> Self {
        let router = Router::new()
            .route("/large", get(async || Bytes::from_static(&LARGE_ANSWER)))
            .route("/piece", get(async || Bytes::from(vec![7; PIECE])))
            .route("/small", get(async || "small"))
            .route("/compressed", get(compressed))
            .route("/endless", get(async || Body::new(Endless)))
            .route("/echo", post(echo))
            .route("/never", get(async || std::future::pending::<()>().await));
        let port = Arc::new(Port { name: "test", router, sites: Sites::default() });
        let (stop, stopping) = watch::channel(false);
        Self { connections, port, stopping, _stop: stop }
    }

    /// A connection, and why it ended.
    fn connect(&self) -> (DuplexStream, JoinHandle<&'static str>) {
        let (near, far) = duplex(PIPE_BYTES);
        let place = self.connections.enter(Ipv4Addr::LOCALHOST.into());
        let (port, stopping) = (self.port.clone(), self.stopping.clone());
        let served = tokio::spawn(async move { serve_connection(near, &place, port, stopping).await });
        (far, served)
    }

    /// A client whose streams each let so many bytes of an answer through.
    async fn http2(&self, window_bytes: u32) -> Client {
        let (stream, served) = self.connect();
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window_bytes);
        let (requests, connection) = builder.handshake(stream).await.expect("the server speaks HTTP/2");
        tokio::spawn(connection);
        Client { requests, served }
    }

    fn look(&self, times: usize) {
        for _ in 0..times {
            self.connections.look_at_all();
        }
    }

    fn held(&self) -> usize {
        self.connections.room.held()
    }

    /// Lets all tasks run until something is so.
    async fn until(&self, condition: impl Fn() -> bool) {
        while !condition() {
            tokio::task::yield_now().await;
        }
    }

    /// Until so many bytes of bodies have come since the last look, and the server waits for more.
    async fn until_peers_owe(&self, came: usize) {
        self.until(|| self.connections.moved_bytes() >= came && self.connections.working() == 0).await;
    }
}

impl Client {
    async fn begin(
        &mut self,
        request: http::request::Builder,
        ends: bool,
    ) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
        let request = request.body(()).expect("a request");
        let mut ready = self.requests.clone().ready().await.expect("the connection lives");
        ready.send_request(request, ends).expect("the connection lives")
    }

    async fn ask(&mut self, path: &str) -> http::Response<RecvStream> {
        let request = http::Request::get(format!("http://localhost{path}"));
        self.begin(request, true).await.0.await.expect("the head of an answer needs no window")
    }

    async fn ask_or_reset(&mut self, path: &str) -> Result<(), h2::Error> {
        let request = http::Request::get(format!("http://localhost{path}"));
        self.begin(request, true).await.0.await.map(drop)
    }

    async fn ask_and_read(&mut self, path: &str) -> usize {
        read(self.ask(path).await.into_body()).await.expect("the answer is whole")
    }
}

/// Parts without end and without a length.
struct Endless;

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&LARGE_ANSWER[..MIB])))))
    }
}

/// What was long before it was compressed.
async fn compressed() -> Response {
    let mut response = Response::new(Body::from(vec![7; PIECE]));
    response.extensions_mut().insert(SizeHint::with_exact(LARGE as u64));
    response
}

async fn echo(request: Request) -> Response {
    match request.into_body().collect().await {
        Ok(body) => Response::new(Body::from(body.to_bytes())),
        Err(error) => {
            let mut response = Response::new(Body::from(error.to_string()));
            *response.status_mut() = StatusCode::BAD_REQUEST;
            response
        }
    }
}

/// What is read until the end of a stream, its window being opened as a well-behaved client does.
async fn read(mut body: RecvStream) -> Result<usize, h2::Error> {
    let mut bytes = 0;
    while let Some(piece) = body.data().await {
        let piece = piece?;
        bytes += piece.len();
        body.flow_control().release_capacity(piece.len())?;
    }
    Ok(bytes)
}

/// Takes what the window lets through; returns how the stream ended.
async fn read_without_opening(mut body: RecvStream) -> Result<(), h2::Error> {
    while let Some(piece) = body.data().await {
        piece?;
    }
    Ok(())
}

fn posted() -> http::request::Builder {
    http::Request::post("http://localhost/echo").header("content-type", "application/json")
}

const REQUEST: &[u8] = b"GET /small HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// A request whose connection is at rest afterwards.
async fn ask_over_http1(harness: &Harness, stream: &mut DuplexStream) {
    stream.write_all(REQUEST).await.expect("the connection lives");
    let mut answer = Vec::new();
    while !answer.ends_with(b"small") {
        assert!(stream.read_buf(&mut answer).await.expect("the connection lives") > 0);
    }
    harness.until(|| harness.connections.requests() == 0).await;
}

const HALF_POST: &[u8] =
    b"POST /echo HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n[1";

#[tokio::test]
async fn a_body_that_stops_halfway_is_answered_with_408() {
    let harness = Harness::new();
    let (mut stream, served) = harness.connect();
    stream.write_all(HALF_POST).await.expect("the pipe has room");
    harness.until_peers_owe(2).await;
    harness.look(5);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("the answer comes");
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert!(answer.contains("connection: close") && answer.contains("send it again"), "{answer}");
    assert_eq!(served.await.expect("it does not panic"), reason::ENDED);
}

#[tokio::test]
async fn a_body_that_stops_halfway_ends_its_stream_and_not_its_connection() {
    let harness = Harness::new();
    let mut client = harness.http2(DEFAULT_WINDOW).await;
    let (half, mut body) = client.begin(posted(), false).await;
    body.send_data(Bytes::from_static(b"[1"), false).expect("the stream is open");
    harness.until_peers_owe(2).await;
    harness.look(5);
    assert!(half.await.is_err_and(|error| error.is_reset()), "the stream was reset");
    assert_eq!(client.ask_and_read("/small").await, 5);
}

#[tokio::test]
async fn a_body_that_comes_slowly_is_waited_for() {
    let harness = Harness::new();
    let (mut stream, _served) = harness.connect();
    stream.write_all(HALF_POST).await.expect("the pipe has room");
    harness.until_peers_owe(2).await;
    for _ in 0..20 {
        harness.look(1);
        stream.write_all(b",").await.expect("the pipe has room");
        harness.until_peers_owe(1).await;
    }
    stream.write_all(&[b','; 78]).await.expect("the pipe has room");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("the answer comes");
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 200");
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_is_not_waited_for_for_ever() {
    let harness = Harness::new();
    let (mut stream, served) = harness.connect();
    stream.write_all(HALF_POST).await.expect("the pipe has room");
    let mut looks = 0;
    while !served.is_finished() {
        harness.until(|| harness.connections.moved_bytes() > 0 || served.is_finished()).await;
        harness.look(1);
        looks += 1;
        // It fails when the connection has just been closed.
        stream.write_all(b",").await.ok();
    }
    assert!(looks > 20, "it ended after {looks} looks");
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.expect("the answer came");
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 408");
}

#[tokio::test]
async fn a_connection_without_a_whole_request_is_closed() {
    let http2_without_request = [PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    let table: [&[u8]; 7] = [
        b"",
        b"P",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r",
        PREFACE,
        &http2_without_request,
        b"GET /small HTTP/1.1\r\nhost: loc",
        b"GET",
    ];
    for sent in table {
        let harness = Harness::new();
        let (mut stream, served) = harness.connect();
        stream.write_all(sent).await.expect("the pipe has room");
        harness.look(5);
        assert!(!harness.connections.any_is_closing(), "{sent:?}");
        harness.look(1);
        assert_eq!(served.await.expect("it does not panic"), reason::SILENT, "{sent:?}");
    }
}

#[tokio::test]
async fn a_second_request_may_come_late_but_then_has_to_come_whole() {
    let harness = Harness::new();
    let (mut stream, served) = harness.connect();
    for _ in 0..3 {
        ask_over_http1(&harness, &mut stream).await;
        harness.look(100);
        assert!(!harness.connections.any_is_closing());
    }
    stream.write_all(&REQUEST[..10]).await.expect("the connection lives");
    harness.until(|| harness.connections.any_was_heard()).await;
    harness.look(6);
    assert_eq!(served.await.expect("it does not panic"), reason::SILENT);
}

#[tokio::test]
async fn who_is_asked_to_go_does_not_stay_by_beginning_a_request() {
    let harness = Harness::new();
    let (mut stream, served) = harness.connect();
    ask_over_http1(&harness, &mut stream).await;
    // It is not read before the connection is asked to go.
    stream.write_all(HALF_POST).await.expect("the pipe has room");
    assert_eq!(harness.connections.make_room(), 1);
    assert_eq!(served.await.expect("it does not panic"), reason::MADE_ROOM);
}

#[tokio::test]
async fn a_request_that_comes_when_its_connection_is_asked_to_go_is_answered() {
    let harness = Harness::new();
    let (mut stream, served) = harness.connect();
    ask_over_http1(&harness, &mut stream).await;
    stream.write_all(REQUEST).await.expect("the pipe has room");
    assert_eq!(harness.connections.make_room(), 1);
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("the answer comes");
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("small"), "{answer}");
    assert_eq!(served.await.expect("it does not panic"), reason::MADE_ROOM);
}

#[tokio::test]
async fn a_head_that_does_not_end_is_refused() {
    let harness = Harness::new();
    let (stream, _served) = harness.connect();
    let (mut read, mut write) = tokio::io::split(stream);
    let sender = tokio::spawn(async move {
        let line = [b"x-filler: ".as_slice(), &[b'x'; 1000], b"\r\n"].concat();
        write.write_all(b"GET /small HTTP/1.1\r\nhost: localhost\r\n").await.expect("the connection is new");
        // Until the server has had enough.
        while write.write_all(&line).await.is_ok() {}
    });
    let mut answer = String::new();
    read.read_to_string(&mut answer).await.ok();
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
    sender.await.expect("it does not panic");
}

#[tokio::test]
async fn an_answer_that_is_not_taken_ends_its_stream_and_gives_its_memory_back() {
    // No window at all; one byte, for which a whole piece leaves the body; more than a piece. Then what is short, at its end.
    let cases =
        [("/large", 0), ("/large", 1), ("/large", 100_000), ("/piece", 1), ("/piece", 65_000), ("/endless", 1000)];
    for (path, window_bytes) in cases {
        let harness = Harness::new();
        let mut client = harness.http2(window_bytes).await;
        let response = client.ask(path).await;
        assert!(harness.held() >= PIECE, "{} bytes are counted of {path}", harness.held());
        let reading = tokio::spawn(read_without_opening(response.into_body()));
        // What the window lets through is taken first.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        harness.look(LOOKS_UNTIL_ENDED);
        let ended = reading.await.expect("it does not panic");
        assert!(ended.is_err_and(|error| error.is_reset()), "{path}: the stream was reset");
        harness.until(|| harness.held() == 0).await;
        assert_eq!(client.ask("/never-routed").await.status(), StatusCode::NOT_FOUND, "the connection goes on");
    }
}

#[tokio::test]
async fn a_short_answer_that_is_not_taken_ends_its_connection() {
    let harness = Harness::new();
    let mut client = harness.http2(0).await;
    let _unread = client.ask("/small").await;
    harness.look(LOOKS_UNTIL_ENDED + 3);
    assert_eq!(client.served.await.expect("it does not panic"), reason::STALLED);
    harness.until(|| harness.held() == 0).await;
}

#[tokio::test]
async fn an_answer_that_is_taken_slowly_comes_whole() {
    let harness = Harness::new();
    let mut client = harness.http2(20_000).await;
    let mut body = client.ask("/large").await.into_body();
    let mut bytes = 0;
    while let Some(piece) = body.data().await {
        let piece = piece.expect("the answer goes on");
        bytes += piece.len();
        if bytes % 7 == 0 {
            harness.look(1);
        }
        body.flow_control().release_capacity(piece.len()).expect("it was taken");
    }
    assert_eq!(bytes, LARGE);
    drop(body);
    harness.until(|| harness.held() == 0).await;
}

#[tokio::test]
async fn an_answer_over_http1_comes_whole_and_is_given_back() {
    let harness = Harness::new();
    let (mut stream, _served) = harness.connect();
    for path in ["/large", "/piece", "/small"] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("the connection lives");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("the answer comes"));
        }
        let head = String::from_utf8(head).expect("a head is ASCII");
        let length = head.split_once("content-length: ").expect("its length is told").1;
        let length = length.lines().next().and_then(|length| length.parse().ok()).expect("a number");
        stream.read_exact(&mut vec![0; length]).await.expect("the answer comes");
        harness.until(|| harness.held() == 0).await;
    }
}

#[tokio::test]
async fn answers_that_are_not_read_hold_no_more_than_they_may() {
    for path in ["/large", "/compressed"] {
        let harness = Harness::new();
        let mut client = harness.http2(0).await;
        let mut unread = Vec::new();
        for _ in 0..6 {
            unread.push(client.ask(path).await);
        }
        let statuses: Vec<u16> = unread.iter().map(|answer| answer.status().as_u16()).collect();
        // One has room on the port, two in what is shared.
        assert_eq!(statuses, [200, 200, 200, 503, 503, 503], "{path}");
        assert!(unread[3].headers().contains_key("retry-after"));
        assert!(harness.held() < 3 * LARGE + PIECE, "{path}: {}", harness.held());
        unread.clear();
        harness.until(|| harness.held() < PIECE).await;
        assert_eq!(client.ask(path).await.status(), StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn room_is_made_by_who_is_waited_for_and_never_by_who_is_worked_for() {
    let harness = Harness::new();
    let mut working = harness.http2(DEFAULT_WINDOW).await;
    let (pending, _) = working.begin(http::Request::get("http://localhost/never"), true).await;
    let mut used = harness.http2(DEFAULT_WINDOW).await;
    used.ask_and_read("/small").await;
    let (mut half, half_served) = harness.connect();
    half.write_all(HALF_POST).await.expect("the pipe has room");
    harness.until(|| harness.connections.working() == 1 && harness.connections.moved_bytes() >= 2).await;
    for served in [half_served, used.served] {
        assert_eq!(harness.connections.make_room(), 1);
        assert_eq!(served.await.expect("it does not panic"), reason::MADE_ROOM);
    }
    assert_eq!(harness.connections.make_room(), 0);
    assert!(!working.served.is_finished());
    drop(pending);
}

#[tokio::test]
async fn half_requests_give_room_to_whole_ones() {
    let harness = Harness::with_little_room_for_requests();
    let mut crowds = Vec::new();
    let mut half = Vec::new();
    for _ in 0..8 {
        let mut crowd = harness.http2(DEFAULT_WINDOW).await;
        for _ in 0..STREAMS_PER_CONNECTION_MAX {
            half.push(crowd.begin(posted(), false).await);
        }
        harness.until(|| harness.connections.requests() > half.len() / 2 && harness.connections.working() == 0).await;
        crowds.push(crowd);
    }
    let mut client = harness.http2(DEFAULT_WINDOW).await;
    for _ in 0..100 {
        assert_eq!(client.ask_and_read("/small").await, 5);
        let (answer, mut body) = client.begin(posted(), false).await;
        body.send_data(Bytes::from_static(b"[1]"), true).expect("the stream is open");
        assert_eq!(read(answer.await.expect("it is answered").into_body()).await.expect("it is whole"), 3);
    }
    assert!(harness.connections.requests() < half.len());
    drop((half, crowds, client));
    harness.until(|| harness.connections.request_room.held() == 0).await;
}

#[tokio::test]
async fn without_room_for_a_request_it_is_refused_and_may_be_sent_again() {
    let harness = Harness::with_little_room_for_requests();
    let mut working = Vec::new();
    let mut pending = Vec::new();
    let refused = loop {
        let mut client = harness.http2(DEFAULT_WINDOW).await;
        for _ in 1..STREAMS_PER_CONNECTION_MAX {
            pending.push(client.begin(http::Request::get("http://localhost/never"), true).await.0);
        }
        let ended = client.ask_or_reset("/small").await;
        working.push(client);
        if let Err(error) = ended {
            break error;
        }
    };
    assert_eq!(refused.reason(), Some(h2::Reason::REFUSED_STREAM));
    let (mut stream, _served) = harness.connect();
    stream.write_all(REQUEST).await.expect("the pipe has room");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("the answer comes"));
    }
    let head = String::from_utf8(head).expect("a head is ASCII");
    assert!(head.starts_with("HTTP/1.1 503") && head.contains("retry-after"), "{head}");
    drop((pending, working));
    harness.until(|| harness.connections.request_room.held() == 0).await;
    ask_over_http1(&harness, &mut stream).await;
}

#[tokio::test]
async fn every_answer_says_that_it_depends_on_who_asks() {
    let harness = Harness::new();
    for (header, status) in [("accept: */*", "200"), ("origin: https://evil.example", "403")] {
        let (mut stream, _served) = harness.connect();
        let request = format!("GET /small HTTP/1.1\r\nhost: localhost\r\n{header}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("the pipe has room");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("the answer comes");
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{header}: {answer}");
        assert!(answer.contains("vary: origin"), "{header}: {answer}");
    }
}

#[tokio::test]
async fn who_sent_a_body_that_was_not_read_is_told_that_the_connection_ends() {
    let json = "content-type: application/json\r\ncontent-length: 3\r\n";
    let text = "content-type: text/plain\r\ncontent-length: 3\r\n";
    let nothing = "content-type: application/json\r\ncontent-length: 0\r\n";
    let cases = [
        ("/echo", json, "200", false),
        ("/elsewhere", json, "404", true),
        ("/elsewhere", nothing, "404", false),
        ("/echo", text, "415", true),
    ];
    for (path, headers, status, ends) in cases {
        let harness = Harness::new();
        let (mut stream, _served) = harness.connect();
        let request = format!("POST {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.expect("the pipe has room");
        if !headers.contains("length: 0") {
            stream.write_all(b"[1]").await.expect("the pipe has room");
        }
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("the answer comes"));
        }
        let head = String::from_utf8(head).expect("a head is ASCII");
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{path} {headers}: {head}");
        assert_eq!(head.contains("connection: close"), ends, "{path} {headers}: {head}");
    }
}
