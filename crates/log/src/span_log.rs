use crate::entry::{DurableBatch, LogEntry};
use crate::error::FeedError;

/// Where acknowledged spans are kept until they stand in files: one partition, whose records have numbers of their own. The local
/// segments are one; so can each partition of a Kafka topic be.
pub trait SpanLog: Send + Sync {
    /// Queues a batch. Its `done` is told what became of it.
    fn submit(&self, entry: LogEntry);

    /// Follows the log from the record behind this position on.
    fn feed(&self, position: u64) -> Box<dyn SpanFeed>;

    /// Writes what is queued, on this thread, where no thread does ([`Background::Called`](crate::Background::Called)).
    fn write_queued(&self);

    /// Everything up to and including this number is stored in files, or further on in the log, and need not be kept.
    fn release(&self, up_to: u64);

    /// Bytes waiting to be written.
    fn queued_bytes(&self) -> usize;

    /// Bytes on the disk.
    fn disk_bytes(&self) -> u64;

    /// Why the log accepts nothing any more, if it doesn't.
    fn failure(&self) -> Option<String>;

    /// Whether spans are refused as the disk has no room for them: so it was a moment ago, and it has taken none since.
    fn is_out_of_room(&self) -> bool;

    /// Whether a segment was removed or the log failed since the last call. How far it has come is to be remembered then: should the
    /// process be killed, nothing else tells what is gone.
    fn take_news(&self) -> bool;

    /// Writes what is queued, then ends.
    fn stop(&self);
}

/// Reads a log's records in the order of their numbers, also while more are written. Whoever follows a log keeps the position
/// together with what came of the records, and goes on behind it.
pub trait SpanFeed: Send {
    /// The number of the last record that was read or passed over.
    fn position(&self) -> u64;

    /// The next record that is acknowledged. `None`: there is none yet. After an error the position is where it was.
    fn next_batch(&mut self) -> Result<Option<DurableBatch>, FeedError>;

    /// Passes over records up to and including this one, such as those that are gone.
    fn pass_over(&mut self, up_to: u64);
}
