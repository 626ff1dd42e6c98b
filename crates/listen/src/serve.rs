//! One port: accepts connections, keeps room for more, stops.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use metrics::{Unit, counter, describe_counter, describe_gauge};
use rustix::io::Errno;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tracing::{debug, warn};

use crate::begun::SharedByRequests;
use crate::connection::serve_connection;
use crate::connections::{Connections, LOOK_INTERVAL};
use crate::handles::connections_per_port;
use crate::repeated::Repeated;
use crate::sites::Sites;
use crate::unread::Shared;

/// How long requests may take to finish after shutdown was asked for.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// A fault that repeats is told so often at most.
const QUIET_AFTER_FAULT: Duration = Duration::from_secs(10);
/// Pause after a failed `accept`, which mostly means that there are no file handles left.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Pause when a connection was asked to close for it.
const ROOM_PAUSE: Duration = Duration::from_millis(10);
/// When all places are taken by connections that the server works for, how long until it is looked again.
const ROOM_RETRY_PAUSE: Duration = Duration::from_millis(100);

/// What a listener serves, and for whom. Ports have the same settings for connections.
pub struct Port {
    /// For metrics and the log.
    pub name: &'static str,
    pub router: Router,
    pub sites: Sites,
}

impl Port {
    /// Serves until `shutdown` completes, then finishes the requests in flight. Fails only if the listener is none.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        listener.local_addr()?;
        describe();
        let connections_max = connections_per_port();
        self.serve_with(listener, connections_max, shutdown).await;
        Ok(())
    }

    async fn serve_with(self, listener: TcpListener, connections_max: usize, shutdown: impl Future<Output = ()>) {
        let port = Arc::new(self);
        let (answers, requests) = (Shared::of_process(), SharedByRequests::of_process());
        let connections = Connections::new(port.name, connections_max, LOOK_INTERVAL, answers, requests);
        let places = Arc::new(Semaphore::new(connections_max));
        let (stop, stopping) = watch::channel(false);
        let faults = Repeated::new(QUIET_AFTER_FAULT);
        let mut shutdown = pin!(shutdown);
        loop {
            connections.keep_room(places.available_permits());
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                accepted = accept(&listener, &places, &connections) => accepted,
            };
            match accepted {
                Ok(accepted) => spawn_connection(accepted, &connections, port.clone(), stopping.clone()),
                // The client went away before it was accepted.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    note_fault(&faults, &error, port.name);
                    let is_room_made = is_shortage(&error) && connections.make_room() > 0;
                    tokio::time::sleep(if is_room_made { ROOM_PAUSE } else { ACCEPT_RETRY_PAUSE }).await;
                }
            }
        }
        drop(listener);
        stop.send_replace(true);
        let all = u32::try_from(connections_max).unwrap_or(u32::MAX);
        if tokio::time::timeout(DRAIN_TIMEOUT, places.acquire_many(all)).await.is_err() {
            let seconds = DRAIN_TIMEOUT.as_secs();
            warn!(port = port.name, "connections were still busy {seconds} s after shutdown began");
        }
    }
}

/// A connection and its place.
struct Accepted {
    stream: TcpStream,
    address: SocketAddr,
    permit: OwnedSemaphorePermit,
}

/// Waits for a place, then for a connection. Who connects meanwhile waits in the kernel's queue.
async fn accept(listener: &TcpListener, places: &Arc<Semaphore>, connections: &Connections) -> io::Result<Accepted> {
    let permit = loop {
        let permit = places.clone().acquire_owned();
        match tokio::time::timeout(ROOM_RETRY_PAUSE, permit).await {
            Ok(permit) => break permit.expect("the semaphore is never closed"),
            Err(_) => connections.keep_room(0),
        };
    };
    let (stream, address) = listener.accept().await?;
    Ok(Accepted { stream, address, permit })
}

fn spawn_connection(
    accepted: Accepted,
    connections: &Arc<Connections>,
    port: Arc<Port>,
    stopping: watch::Receiver<bool>,
) {
    let Accepted { stream, address, permit } = accepted;
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "could not set TCP_NODELAY");
    }
    let place = connections.enter(address.ip());
    tokio::spawn(async move {
        let reason = serve_connection(stream, &place, port, stopping).await;
        place.connections.count_ended(reason);
        drop((place, permit));
    });
}

/// Whether closing connections helps.
fn is_shortage(error: &io::Error) -> bool {
    let shortages = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    Errno::from_io_error(error).is_some_and(|errno| shortages.contains(&errno))
}

fn note_fault(faults: &Repeated, error: &io::Error, port: &'static str) {
    counter!("tracehouse_connections_not_accepted_total", "port" => port).increment(1);
    if let Some(times) = faults.count() {
        warn!(port, times, %error, "could not accept connections; `times` counts this since it was last said");
    }
}

fn describe() {
    describe_gauge!("tracehouse_connections_open", "Open connections, by port");
    describe_counter!("tracehouse_connections_ended_total", "Connections that ended, by port and reason");
    describe_counter!("tracehouse_connections_not_accepted_total", "Connections that could not be accepted, by port");
    describe_counter!(
        "tracehouse_requests_ended_total",
        "Requests that were refused or ended for what their clients left undone, by port and reason"
    );
    describe_gauge!(
        "tracehouse_requests_begun_bytes",
        Unit::Bytes,
        "Memory of requests that are not answered as a whole, besides their bodies and answers"
    );
    describe_gauge!(
        "tracehouse_answers_waiting_bytes",
        Unit::Bytes,
        "Memory of answers that their clients have not taken as a whole"
    );
}

#[cfg(test)]
mod tests;
