use std::sync::Arc;

use tokio::sync::Semaphore;
use tracehouse_model::{Clock, Limits};

use crate::in_flight::InFlight;
use crate::sink::SpanSink;

/// What all receivers of a process share: the sink, the limits, and the count of bytes in flight. Cheap to clone.
#[derive(Clone)]
pub struct ReceiverState {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) sink: Arc<dyn SpanSink>,
    pub(crate) limits: Limits,
    pub(crate) in_flight: Arc<InFlight>,
    /// Large requests are decoded on blocking threads, this many at once.
    pub(crate) large_decodes: Semaphore,
    /// Bodies that wait for room, of which a piece is in memory that does not count yet.
    pub(crate) waiting_for_room: Semaphore,
}

/// So many bodies wait for room at once; others are sent away.
const WAITING_FOR_ROOM_MAX: usize = 256;

impl ReceiverState {
    pub fn new(sink: Arc<dyn SpanSink>, limits: Limits, clock: Arc<dyn Clock>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let in_flight = InFlight::new(limits.in_flight_bytes_max, clock);
        let (large_decodes, waiting_for_room) = (Semaphore::new(cores), Semaphore::new(WAITING_FOR_ROOM_MAX));
        let shared = Shared { sink, limits, in_flight, large_decodes, waiting_for_room };
        Self { shared: Arc::new(shared) }
    }

    /// Bytes of requests being worked on now.
    pub fn in_flight_bytes(&self) -> usize {
        self.shared.in_flight.bytes()
    }
}
