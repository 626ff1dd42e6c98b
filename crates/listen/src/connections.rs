//! The connections of a port: how many there are, what each is doing, and which one has to go when there is no room.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;

/// A connection without a request for so long is closed: twice what exporters wait at most between two requests.
pub(crate) const IDLE_MAX: Duration = Duration::from_secs(600);

/// The connections of a port.
pub(crate) struct Connections {
    port: &'static str,
    places: usize,
    idle_max: Duration,
    open: Mutex<Vec<Arc<Connection>>>,
    begin: Instant,
}

/// One connection, as others see it.
pub(crate) struct Connection {
    /// When it last began or ended a request, or opened; in milliseconds since the port did.
    active_at: AtomicU64,
    /// Requests whose answers are not all written.
    requests: AtomicUsize,
    close: Notify,
}

/// A place among the connections of a port, given back when this is dropped.
pub(crate) struct Place {
    connections: Arc<Connections>,
    pub(crate) connection: Arc<Connection>,
}

impl Connections {
    pub(crate) fn new(port: &'static str, places: usize, idle_max: Duration) -> Arc<Self> {
        Arc::new(Self { port, places, idle_max, open: Mutex::default(), begin: Instant::now() })
    }

    /// A place for a new connection. If all are taken, the connection that has been idle longest is told to close; if none is idle
    /// there is no place.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Place> {
        let mut open = self.open.lock();
        if open.len() >= self.places {
            let idle = open.iter().enumerate().filter(|(_, one)| one.requests.load(Ordering::Relaxed) == 0);
            let longest = idle.min_by_key(|(_, one)| one.active_at.load(Ordering::Relaxed)).map(|(at, _)| at);
            let Some(longest) = longest else {
                self.count("refused");
                return None;
            };
            // Its place is free at once; its handle is when its task sees this.
            open.swap_remove(longest).close.notify_one();
            self.count("made_room");
        }
        let connection = Arc::new(Connection {
            active_at: AtomicU64::new(self.now()),
            requests: AtomicUsize::new(0),
            close: Notify::new(),
        });
        open.push(connection.clone());
        self.report(open.len());
        Some(Place { connections: self.clone(), connection })
    }

    fn now(&self) -> u64 {
        self.begin.elapsed().as_millis() as u64
    }

    fn report(&self, open: usize) {
        metrics::gauge!("tracehouse_connections_open", "port" => self.port).set(open as f64);
    }

    /// Counts a connection that was ended or refused.
    pub(crate) fn count(&self, reason: &'static str) {
        metrics::counter!("tracehouse_connections_ended_total", "port" => self.port, "reason" => reason).increment(1);
    }
}

impl Place {
    pub(crate) fn begin_request(&self) -> Request {
        self.connection.requests.fetch_add(1, Ordering::Relaxed);
        self.connection.active_at.store(self.connections.now(), Ordering::Relaxed);
        Request { connections: self.connections.clone(), connection: self.connection.clone() }
    }

    /// Completes when the connection should be closed for another, or because it has been idle for too long.
    pub(crate) async fn should_close(&self) -> &'static str {
        loop {
            let idle_max = self.connections.idle_max;
            let left = idle_max.saturating_sub(self.idle());
            tokio::select! {
                () = self.connection.close.notified() => return "made_room",
                () = tokio::time::sleep(left.max(idle_max / 100)) => {}
            }
            if self.idle() >= idle_max {
                self.connections.count("idle");
                return "idle";
            }
        }
    }

    fn idle(&self) -> Duration {
        if self.connection.requests.load(Ordering::Relaxed) > 0 {
            return Duration::ZERO;
        }
        let since = self.connection.active_at.load(Ordering::Relaxed);
        Duration::from_millis(self.connections.now().saturating_sub(since))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.connections.open.lock();
        open.retain(|one| !Arc::ptr_eq(one, &self.connection));
        self.connections.report(open.len());
    }
}

/// A request whose answer is being made or written. Dropped when all of it was given away.
pub(crate) struct Request {
    connections: Arc<Connections>,
    connection: Arc<Connection>,
}

impl Drop for Request {
    fn drop(&mut self) {
        self.connection.active_at.store(self.connections.now(), Ordering::Relaxed);
        self.connection.requests.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_longest_idle_makes_room() {
        let connections = Connections::new("test", 2, IDLE_MAX);
        let first = connections.enter().expect("there is room");
        tokio::time::sleep(Duration::from_millis(5)).await;
        let second = connections.enter().expect("there is room");
        let request = first.begin_request();
        let third = connections.enter().expect("the second goes");
        assert_eq!(second.should_close().await, "made_room");
        let _requests = [request, third.begin_request()];
        assert!(connections.enter().is_none(), "both are busy");
        drop(second);
        drop(first);
        assert!(connections.enter().is_some());
    }

    #[tokio::test]
    async fn idle_connections_are_closed_and_busy_ones_are_not() {
        let connections = Connections::new("test", 2, Duration::from_millis(100));
        let place = connections.enter().expect("there is room");
        let request = place.begin_request();
        tokio::select! {
            _ = place.should_close() => panic!("it is busy"),
            () = tokio::time::sleep(Duration::from_millis(300)) => {}
        }
        drop(request);
        assert_eq!(place.should_close().await, "idle");
    }
}
