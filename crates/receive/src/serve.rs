use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tracing::{debug, warn};

use crate::grpc::grpc_router;
use crate::http::http_router;
use crate::patience::Patient;
use crate::state::ReceiverState;

const KIB: u32 = 1024;
/// One stream may send this much before the server has read any of it: a usual request arrives in one flight.
const STREAM_WINDOW_BYTES: u32 = 1024 * KIB;
const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * KIB;
/// Larger frames than HTTP/2's default of 16 KiB, so that a request of a megabyte is not read in 64 pieces.
const FRAME_BYTES_MAX: u32 = 256 * KIB;
const STREAMS_PER_CONNECTION_MAX: u32 = 256;
const HEADER_LIST_BYTES_MAX: u32 = 32 * KIB;
const CONNECTIONS_MAX: usize = 4096;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take nothing of an answer that waits for it.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// How long requests may take to finish after shutdown was asked for.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed `accept`, which mostly means that there are no file descriptors left.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Serves OTLP/gRPC until `shutdown` completes, then finishes the requests in flight.
pub async fn serve_grpc(
    listener: TcpListener,
    state: ReceiverState,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    serve_router(listener, grpc_router(state), shutdown).await
}

/// Serves OTLP/HTTP until `shutdown` completes, then finishes the requests in flight.
pub async fn serve_http(
    listener: TcpListener,
    state: ReceiverState,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    serve_router(listener, http_router(state), shutdown).await
}

/// Serves any router until `shutdown` completes, then finishes the requests in flight: HTTP/1.1 and HTTP/2, connections
/// that are bounded in number, and in how long they may be silent or read nothing.
pub async fn serve_router(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) -> io::Result<()> {
    listener.local_addr()?;
    let builder = Arc::new(connection_builder());
    let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    let (stopping, _) = watch::channel(false);
    let mut shutdown = pin!(shutdown);
    loop {
        let accept = async {
            let permit = connections.clone().acquire_owned().await.expect("the semaphore is never closed");
            (permit, listener.accept().await)
        };
        let (permit, stream) = tokio::select! {
            () = &mut shutdown => break,
            (permit, accepted) = accept => match accepted {
                Ok((stream, _)) => (permit, stream),
                Err(error) => {
                    warn!(%error, "could not accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY_PAUSE).await;
                    continue;
                }
            },
        };
        let (builder, router, watcher) = (builder.clone(), router.clone(), graceful.watcher());
        let mut stopping = stopping.subscribe();
        tokio::spawn(async move {
            if speaks(&stream, &mut stopping).await {
                serve_connection(stream, &builder, router, watcher).await;
            }
            drop(permit);
        });
    }
    drop(listener);
    stopping.send_replace(true);
    if tokio::time::timeout(DRAIN_TIMEOUT, graceful.shutdown()).await.is_err() {
        warn!("connections were still busy {} s after shutdown began", DRAIN_TIMEOUT.as_secs());
    }
    Ok(())
}

/// Waits for the first byte of a connection. hyper would wait for ever to learn which version of HTTP it is.
async fn speaks(stream: &TcpStream, stopping: &mut watch::Receiver<bool>) -> bool {
    let mut byte = [0];
    tokio::select! {
        first = tokio::time::timeout(HEADER_READ_TIMEOUT, stream.peek(&mut byte)) => matches!(first, Ok(Ok(1))),
        _ = stopping.wait_for(|stopping| *stopping) => false,
    }
}

async fn serve_connection(
    stream: TcpStream,
    builder: &Builder<TokioExecutor>,
    router: Router,
    watcher: hyper_util::server::graceful::Watcher,
) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "could not set TCP_NODELAY");
    }
    let stream = TokioIo::new(Patient::new(stream, WRITE_TIMEOUT));
    let connection = builder.serve_connection(stream, TowerToHyperService::new(router)).into_owned();
    if let Err(error) = watcher.watch(connection).await {
        // Mostly a client that went away.
        debug!(%error, "a connection ended early");
    }
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
        .keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT);
    builder
}
