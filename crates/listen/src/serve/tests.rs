use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::*;

const CONNECTIONS_MAX: usize = 32;

struct Server {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

impl Server {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let router = Router::new().route("/", get(async || "here"));
        let port = Port { name: "test", router, sites: Sites::default() };
        let (stop, stopped) = oneshot::channel();
        let stopped = async move {
            stopped.await.ok();
        };
        let served = tokio::spawn(async move { port.serve_with(listener, CONNECTIONS_MAX, stopped).await });
        Self { address, stop, served }
    }

    async fn connect(&self, sent: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.expect("the port is open");
        stream.write_all(sent).await.expect("the connection is new");
        stream
    }
}

/// One question on a connection that stays.
async fn ask(stream: &mut TcpStream) {
    stream.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("the connection lives");
    let mut answer = Vec::new();
    while !answer.ends_with(b"here") {
        assert!(stream.read_buf(&mut answer).await.expect("the connection lives") > 0, "it was closed");
    }
}

#[tokio::test]
async fn a_port_full_of_half_open_connections_serves_old_and_new_ones() {
    let server = Server::start().await;
    let mut old = server.connect(b"").await;
    ask(&mut old).await;
    let begun: [&[u8]; 6] = [
        b"",
        b"P",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\n",
        b"\x16\x03\x01",
        b"POST / HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n[",
    ];
    let mut half_open = Vec::new();
    for round in 0..10 * CONNECTIONS_MAX {
        half_open.push(server.connect(begun[round % begun.len()]).await);
        if round % CONNECTIONS_MAX == 0 {
            ask(&mut old).await;
            ask(&mut server.connect(b"").await).await;
        }
    }
    ask(&mut old).await;
}

#[tokio::test]
async fn a_port_stops_although_connections_stay_open() {
    let server = Server::start().await;
    let mut used = server.connect(b"").await;
    ask(&mut used).await;
    let _silent = server.connect(b"P").await;
    let _http2 = server.connect(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00").await;
    server.stop.send(()).expect("the server runs");
    server.served.await.expect("it stops well");
    assert_eq!(used.read(&mut [0]).await.expect("it is closed well"), 0);
}
