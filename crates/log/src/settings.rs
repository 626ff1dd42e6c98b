use std::sync::Arc;
use std::time::Duration;

use tracehouse_disk::{Disk, NeededFolder};
use tracehouse_model::{Clock, Randomness};

/// What a log works with.
pub struct LogSettings {
    pub folder: NeededFolder,
    pub durability: Durability,
    /// A new segment is begun when the current one has so many bytes.
    pub segment_bytes_max: u64,
    pub disk: Disk,
    pub clock: Arc<dyn Clock>,
    pub randomness: Arc<dyn Randomness>,
    pub background: Background,
}

/// When an append counts as durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// After the disk has confirmed it: nothing acknowledged is lost in a power failure.
    Fsync,
    /// After the operating system has it; the disk is synchronised at this interval. A crash of Tracehouse loses nothing,
    /// a crash of the machine loses what was acknowledged since.
    Interval(Duration),
}

/// Who does the work that nobody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Background {
    /// Threads, each at its time.
    Threads,
    /// Whoever calls a step of it: a simulation, in an order of its own.
    Called,
}
