use super::entry::LogEntry;

/// Where acknowledged spans are kept until they stand in files. A Kafka topic can take the place of the local segments.
pub(crate) trait SpanLog: Send + Sync {
    /// Queues a batch. Its `done` is told what became of it.
    fn submit(&self, entry: LogEntry);

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

    /// Whether a segment was removed or the log failed since the last call. How far it has come is to be remembered then: should the
    /// process be killed, nothing else tells what is gone.
    fn take_news(&self) -> bool;

    /// Writes what is queued, then ends.
    fn stop(&self);
}
