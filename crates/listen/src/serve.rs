use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tower::ServiceExt;
use tracing::{debug, warn};

use crate::answers::{Answers, STALLED_AFTER};
use crate::connections::{Connections, IDLE_MAX, Place};
use crate::first_bytes::{Version, version};
use crate::handles::connections_per_port;
use crate::patience::Patient;
use crate::repeated::Repeated;
use crate::sites::{Sites, Verdict};

const KIB: u32 = 1024;
/// One stream may send this much before the server has read any of it: a usual request arrives in one flight.
const STREAM_WINDOW_BYTES: u32 = 1024 * KIB;
const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * KIB;
/// Larger frames than HTTP/2's default of 16 KiB, so that a request of a megabyte is not read in 64 pieces.
const FRAME_BYTES_MAX: u32 = 256 * KIB;
const STREAMS_PER_CONNECTION_MAX: u32 = 256;
const HEADER_LIST_BYTES_MAX: u32 = 32 * KIB;
/// What a connection may hold of an answer that it was given and its peer does not take.
const SEND_BUFFER_BYTES_MAX: usize = 256 * KIB as usize;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a client may take to say which protocol it speaks …
const FIRST_BYTES_TIMEOUT: Duration = Duration::from_secs(10);
/// … and to send the headers of a request.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests may take to finish after shutdown was asked for.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// A fault that repeats is told so often at most.
const QUIET_AFTER_FAULT: Duration = Duration::from_secs(10);
/// Pause after a failed `accept`, which mostly means that there are no file descriptors left.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// What a listener serves, and for whom. Ports have the same settings for connections.
pub struct Port {
    /// For metrics and the log.
    pub name: &'static str,
    pub router: Router,
    pub sites: Sites,
}

/// What the connections of a port share.
struct Shared {
    port: Port,
    builder: Builder<TokioExecutor>,
    answers: Arc<Answers>,
    connections: Arc<Connections>,
}

impl Port {
    /// Serves until `shutdown` completes, then finishes the requests in flight.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        listener.local_addr()?;
        let shared = Arc::new(Shared {
            builder: connection_builder(),
            answers: Answers::new(),
            connections: Connections::new(self.name, connections_per_port(), IDLE_MAX),
            port: self,
        });
        let watching = tokio::spawn(shared.answers.clone().keep_moving());
        let graceful = GracefulShutdown::new();
        let (stopping, _) = watch::channel(false);
        let faults = Repeated::new(QUIET_AFTER_FAULT);
        let mut shutdown = pin!(shutdown);
        loop {
            let stream = tokio::select! {
                () = &mut shutdown => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        if let Some(times) = faults.count() {
                            warn!(port = shared.port.name, %error, times, "could not accept connections");
                        }
                        tokio::time::sleep(ACCEPT_RETRY_PAUSE).await;
                        continue;
                    }
                },
            };
            let Some(place) = shared.connections.enter() else {
                if let Some(times) = faults.count() {
                    warn!(port = shared.port.name, times, "connections were refused: all there may be are busy");
                }
                continue;
            };
            let (shared, watcher) = (shared.clone(), graceful.watcher());
            let mut stopping = stopping.subscribe();
            tokio::spawn(async move {
                let begun = async {
                    tokio::select! {
                        told = version(stream, FIRST_BYTES_TIMEOUT) => told,
                        _ = place.should_close() => None,
                        _ = stopping.wait_for(|stopping| *stopping) => None,
                    }
                };
                match begun.await {
                    Some((version, stream)) => serve_connection(&shared, stream, version, place, watcher).await,
                    None => shared.connections.count("silent"),
                }
            });
        }
        drop(listener);
        stopping.send_replace(true);
        if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
            warn!("connections were still busy {} s after shutdown began", DRAIN_TIMEOUT.as_secs());
        }
        watching.abort();
        Ok(())
    }
}

async fn serve_connection(
    shared: &Arc<Shared>,
    stream: crate::first_bytes::Rewound<TcpStream>,
    version: Version,
    place: Place,
    watcher: hyper_util::server::graceful::Watcher,
) {
    if let Err(error) = stream.get_ref().set_nodelay(true) {
        debug!(%error, "could not set TCP_NODELAY");
    }
    let place = Arc::new(place);
    let stalled = Arc::new(Notify::new());
    let service = {
        let (shared, place, stalled) = (shared.clone(), place.clone(), stalled.clone());
        service_fn(move |request| answer(shared.clone(), place.clone(), stalled.clone(), request))
    };
    let stream = TokioIo::new(Patient::new(stream, STALLED_AFTER));
    let builder = match version {
        Version::Http1 => shared.builder.clone().http1_only(),
        Version::Http2 => shared.builder.clone().http2_only(),
    };
    let connection = watcher.watch(builder.serve_connection(stream, service).into_owned());
    tokio::select! {
        outcome = connection => if let Err(error) = outcome {
            // Mostly a client that went away.
            debug!(%error, "a connection ended early");
        },
        () = stalled.notified() => shared.connections.count("stalled"),
        reason = place.should_close() => debug!(reason, "a connection was closed"),
    }
}

async fn answer(
    shared: Arc<Shared>,
    place: Arc<Place>,
    stalled: Arc<Notify>,
    request: Request<Incoming>,
) -> Result<Response, Infallible> {
    let in_progress = place.begin_request();
    let (head, body) = request.into_parts();
    let mut response = match shared.port.sites.judge(&head) {
        Verdict::Answered(response) => response,
        Verdict::Allowed(reader) => {
            let request = Request::from_parts(head, Body::new(body));
            let mut response = shared.port.router.clone().oneshot(request).await?;
            if let Some(reader) = reader {
                reader.allow(response.headers_mut());
            }
            response
        }
    };
    let body = std::mem::take(response.body_mut());
    *response.body_mut() = shared.answers.watch(body, in_progress, &stalled);
    Ok(response)
}

/// All ports take HTTP/1.1 and HTTP/2 (without TLS, by prior knowledge), with the same settings.
fn connection_builder() -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_READ_TIMEOUT);
    builder
        .http2()
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
        .max_header_list_size(HEADER_LIST_BYTES_MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    builder
}
