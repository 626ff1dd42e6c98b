//! What the writer of a log shares with whoever holds it and whoever follows it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tracehouse_disk::Disk;
use tracehouse_model::error_chain;

use crate::segment::SegmentName;

pub(crate) struct Shared {
    pub(crate) disk: Disk,
    pub(crate) queued_bytes: AtomicUsize,
    pub(crate) disk_bytes: AtomicU64,
    pub(crate) failure: Mutex<Option<String>>,
    /// When, on the monotonic clock, the disk last had no room for a record; `None` once it has taken one.
    pub(crate) last_out_of_room: Mutex<Option<Duration>>,
    /// Something was met that the next start may not be able to tell.
    pub(crate) has_news: AtomicBool,
    /// The number of the last record that was acknowledged.
    pub(crate) acknowledged: AtomicU64,
    /// Nothing up to this number need be kept.
    pub(crate) released: AtomicU64,
    pub(crate) segments: Mutex<Segments>,
}

impl Shared {
    pub(crate) fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Acquire)
    }

    /// Removes finished segments of which nothing need be kept. Returns how many bytes the current one has.
    pub(crate) fn remove_released(&self) -> u64 {
        let up_to = self.released.load(Ordering::Acquire);
        let mut segments = self.segments.lock();
        segments.finished.retain(|segment| {
            if segment.last_sequence > up_to {
                return true;
            }
            if let Err(error) = self.disk.remove_file(&segment.path) {
                tracing::warn!(
                    error = error_chain(&error),
                    "removing a finished log segment failed; it is tried again"
                );
                return true;
            }
            self.disk_bytes.fetch_sub(segment.bytes, Ordering::Relaxed);
            false
        });
        let finished: u64 = segments.finished.iter().map(|segment| segment.bytes).sum();
        self.disk_bytes.load(Ordering::Relaxed).saturating_sub(finished)
    }
}

/// What the log lies in.
pub(crate) struct Segments {
    /// In the order of their numbers.
    pub(crate) finished: Vec<Finished>,
    /// To which records are added.
    pub(crate) current: PathBuf,
}

impl Segments {
    /// The segment that has a record of this number, or the next one that is left, and the number that it begins with.
    pub(crate) fn holding(&self, sequence: u64) -> (PathBuf, u64) {
        let finished = self.finished.iter().find(|segment| segment.last_sequence >= sequence);
        let path = finished.map_or(&self.current, |segment| &segment.path);
        (path.clone(), SegmentName::of(path).map_or(0, |name| name.first_sequence))
    }
}

/// A segment to which nothing is added any more.
pub(crate) struct Finished {
    pub(crate) path: PathBuf,
    pub(crate) last_sequence: u64,
    pub(crate) bytes: u64,
}
