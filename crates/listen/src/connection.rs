//! One connection, from its first byte to its end.

use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};
use tokio::task_local;
use tokio::time::Interval;
use tracing::debug;

use crate::connections::{Closing, Connection, Place, reason};
use crate::patience::Patient;
use crate::preface::{HttpVersion, read_version};
use crate::reception::Reception;
use crate::serve::Port;

const KIB: u32 = 1024;
/// One stream may send this much before the server has read any of it: a usual request arrives in one flight.
const STREAM_WINDOW_BYTES: u32 = 1024 * KIB;
const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * KIB;
/// Larger frames than HTTP/2's default of 16 KiB, so that a request of a megabyte is not read in 64 pieces. Each connection
/// may hold all but the last byte of one.
const FRAME_BYTES_MAX: u32 = 64 * KIB;
/// As many as clients expect; those that want more at once open further connections or wait.
const STREAMS_PER_CONNECTION_MAX: u32 = 128;
/// An address of 16 KiB and whatever else.
const HEADER_LIST_BYTES_MAX: u32 = 24 * KIB;
/// The longest head of a request in HTTP/1, so that a slow one does not hold more.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// What a connection of HTTP/1 reads at once. It keeps a buffer of this size, also while it is at rest.
const BUFFER_BYTES_MAX: usize = 64 * 1024;
/// What a stream may hold of an answer that the peer's window does not let go, besides one piece.
const SEND_BUFFER_BYTES_MAX: usize = 256 * 1024;
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// A client may take nothing of the bytes that wait for it for so long.
const WRITE_PATIENCE: Duration = Duration::from_secs(30);
/// A peer that was told to go may take this long to do so when it has no requests, or its place is needed.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// Serves a connection until it ends; returns why it did. `stopping` becomes true when the port stops.
pub(crate) async fn serve_connection<S>(
    stream: S,
    place: &Place,
    port: Arc<Port>,
    mut stopping: watch::Receiver<bool>,
) -> &'static str
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let connection = &place.connection;
    let mut looks = place.connections.looks();
    let stream = Patient::new(stream, WRITE_PATIENCE, connection.heard.clone());
    let (version, stream) = tokio::select! {
        biased;
        read = read_version(stream) => match read {
            Ok(Some(read)) => read,
            Ok(None) => return reason::ENDED,
            Err(_) => return reason::FAILED,
        },
        closing = connection.closing(&mut looks) => return closing.reason(),
        _ = stopping.wait_for(|stopping| *stopping) => return reason::STOPPING,
    };
    let stream = TokioIo::new(stream);
    let reception = Reception { port, connection: connection.clone() };
    match version {
        HttpVersion::Http1 => {
            converse(http1_builder().serve_connection(stream, reception), connection, looks, stopping).await
        }
        HttpVersion::Http2 => {
            connection.set_http2();
            converse(http2_builder().serve_connection(stream, reception), connection, looks, stopping).await
        }
    }
}

/// Drives a connection until it ends by itself or is to be closed.
async fn converse<C>(
    http: C,
    connection: &Connection,
    mut looks: Interval,
    mut stopping: watch::Receiver<bool>,
) -> &'static str
where
    C: GracefulConnection<Error = hyper::Error>,
{
    let mut http = pin!(http);
    let closing = tokio::select! {
        biased;
        outcome = http.as_mut() => return ended(outcome),
        closing = connection.closing(&mut looks) => closing,
        _ = stopping.wait_for(|stopping| *stopping) => Closing::Politely(reason::STOPPING),
    };
    let Closing::Politely(reason) = closing else { return closing.reason() };
    http.as_mut().graceful_shutdown();
    loop {
        tokio::select! {
            biased;
            _ = http.as_mut() => return reason,
            closing = connection.closing(&mut looks) => {
                if let Closing::AtOnce(reason) = closing {
                    return reason;
                }
            }
            () = tokio::time::sleep(FAREWELL_TIMEOUT) => {
                // A request that has come meanwhile is answered, but its peer is not waited for while others are.
                let is_in_the_way = reason == reason::MADE_ROOM && !connection.is_worked_for();
                if connection.requests() == 0 || is_in_the_way {
                    return reason;
                }
            }
        }
    }
}

fn ended(outcome: Result<(), hyper::Error>) -> &'static str {
    let Err(error) = outcome else { return reason::ENDED };
    // Mostly a client that went away.
    debug!(%error, "a connection ended early");
    let io_error = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    match io_error.map(io::Error::kind) {
        Some(io::ErrorKind::TimedOut) => reason::STALLED,
        _ => reason::FAILED,
    }
}

task_local! {
    /// Ends the task of a stream in HTTP/2.
    static STREAM_END: Arc<Notify>;
}

/// What ends the stream that the caller serves, if it is one of HTTP/2.
pub(crate) fn stream_end() -> Option<Arc<Notify>> {
    STREAM_END.try_with(Arc::clone).ok()
}

/// Spawns the tasks of HTTP/2's streams, each so that it can be ended: one whose window stays shut is waited for by hyper
/// without end.
#[derive(Clone, Copy)]
struct StreamTasks;

impl<F> Executor<F> for StreamTasks
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let end = Arc::new(Notify::new());
        tokio::spawn(STREAM_END.scope(end.clone(), async move {
            tokio::select! {
                biased;
                () = stream => {}
                // The stream is dropped, and thereby reset.
                () = end.notified() => {}
            }
        }));
    }
}

/// All ports take HTTP/1.1 and HTTP/2 (without TLS, by prior knowledge), with the same settings.
fn http1_builder() -> http1::Builder {
    let mut builder = http1::Builder::new();
    // hyper's own time for a head begins with the end of the request before, and so would end connections at rest.
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(None)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(BUFFER_BYTES_MAX);
    builder
}

fn http2_builder() -> http2::Builder<StreamTasks> {
    let mut builder = http2::Builder::new(StreamTasks);
    builder
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

#[cfg(test)]
mod tests;
