use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use metrics::gauge;

const GAUGE: &str = "tracehouse_receive_in_flight_bytes";

/// Bytes of requests being worked on, with a maximum. Who finds no room is sent away at once and never queued: a
/// queue would only move the memory elsewhere.
#[derive(Debug)]
pub(crate) struct InFlight {
    bytes: AtomicUsize,
    bytes_max: usize,
}

/// There is no room; nothing was taken.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NoRoom;

impl InFlight {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { bytes: AtomicUsize::new(0), bytes_max })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn reserve(self: &Arc<Self>, bytes: usize) -> Result<Reservation, NoRoom> {
        let mut reservation = Reservation { in_flight: self.clone(), bytes: 0 };
        reservation.grow_to(bytes)?;
        Ok(reservation)
    }
}

/// Bytes held by one request; given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    in_flight: Arc<InFlight>,
    bytes: usize,
}

impl Reservation {
    /// Makes sure that at least `bytes` are held.
    pub(crate) fn grow_to(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let Some(more) = bytes.checked_sub(self.bytes).filter(|&more| more > 0) else { return Ok(()) };
        let bytes_max = self.in_flight.bytes_max;
        self.in_flight
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |held| {
                held.checked_add(more).filter(|&total| total <= bytes_max)
            })
            .map_err(|_| NoRoom)?;
        self.bytes = bytes;
        // Relative, as two threads may report in another order than they counted.
        gauge!(GAUGE).increment(more as f64);
        Ok(())
    }

    /// Holds exactly `bytes` from here on, even beyond the maximum: what is in memory already must be counted.
    pub(crate) fn set(&mut self, bytes: usize) {
        let held = std::mem::replace(&mut self.bytes, bytes);
        if bytes >= held {
            self.in_flight.bytes.fetch_add(bytes - held, Ordering::Relaxed);
            gauge!(GAUGE).increment((bytes - held) as f64);
        } else {
            self.in_flight.bytes.fetch_sub(held - bytes, Ordering::Relaxed);
            gauge!(GAUGE).decrement((held - bytes) as f64);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_given_back() {
        let in_flight = InFlight::new(100);
        let mut first = in_flight.reserve(60).expect("room");
        assert_eq!(in_flight.reserve(41).err(), Some(NoRoom));
        let second = in_flight.reserve(40).expect("room");
        assert_eq!(first.grow_to(61), Err(NoRoom));
        drop(second);
        assert_eq!(first.grow_to(61), Ok(()));
        assert_eq!(first.grow_to(10), Ok(()));
        assert_eq!(in_flight.bytes(), 61);
        first.set(500);
        assert_eq!(in_flight.bytes(), 500);
        drop(first);
        assert_eq!(in_flight.bytes(), 0);
    }
}
