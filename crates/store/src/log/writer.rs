//! One thread writes the log: it takes all batches that wait, writes them, asks the disk once, then acknowledges all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tracehouse_model::Clock;

use super::segment::{self, MAGIC};
use super::{Durability, DurableBatch, LogEntry, Recovered, SpanLog};
use crate::error::AppendError;

/// A new segment is begun when the current one is this large.
const SEGMENT_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// So much is written before the disk is asked.
const GROUP_BYTES_MAX: usize = 16 * 1024 * 1024;
const RETRY_AFTER_DISK_FULL: Duration = Duration::from_secs(5);

type OnDurable = Box<dyn FnMut(Vec<DurableBatch>) + Send>;

/// The log in files of one folder.
pub(crate) struct SegmentedLog {
    shared: Arc<Shared>,
    sender: Mutex<Option<Sender<LogEntry>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    queued_bytes: AtomicUsize,
    disk_bytes: AtomicU64,
    failure: Mutex<Option<String>>,
    /// Finished segments: path, last number inside, bytes.
    finished: Mutex<Vec<(PathBuf, u64, u64)>>,
}

impl SegmentedLog {
    /// Continues a recovered log in a new segment. `on_durable` makes batches visible; it is called in order.
    pub(crate) fn start(
        folder: &Path,
        recovered: &Recovered,
        durability: Durability,
        clock: Arc<dyn Clock>,
        on_durable: OnDurable,
    ) -> io::Result<Self> {
        let mut finished = Vec::new();
        let mut disk_bytes = 0;
        for (path, last_sequence) in &recovered.segments {
            let bytes = fs::metadata(path)?.len();
            disk_bytes += bytes;
            finished.push((path.clone(), *last_sequence, bytes));
        }
        let shared = Arc::new(Shared {
            queued_bytes: AtomicUsize::new(0),
            disk_bytes: AtomicU64::new(disk_bytes),
            failure: Mutex::new(None),
            finished: Mutex::new(finished),
        });
        let (sender, receiver) = channel();
        let segment = Segment::create(folder, recovered.last_sequence + 1)?;
        let writer = Writer {
            folder: folder.to_owned(),
            segment,
            next_sequence: recovered.last_sequence + 1,
            durability,
            last_sync: clock.monotonic(),
            clock,
            shared: shared.clone(),
            on_durable,
        };
        let thread = std::thread::Builder::new().name("log".into()).spawn(move || writer.run(&receiver))?;
        Ok(Self { shared, sender: Mutex::new(Some(sender)), thread: Mutex::new(Some(thread)) })
    }
}

impl SpanLog for SegmentedLog {
    fn submit(&self, entry: LogEntry) {
        let bytes = entry.body.len();
        let sender = self.sender.lock().clone();
        let Some(sender) = sender else {
            let _ = entry.done.send(Err(AppendError::ShuttingDown));
            return;
        };
        self.shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        if let Err(refused) = sender.send(entry) {
            self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            let reason = self.failure().unwrap_or_else(|| "the log's thread has ended".into());
            let _ = refused.0.done.send(Err(AppendError::Failed { reason }));
        }
    }

    fn release(&self, up_to: u64) {
        let mut finished = self.shared.finished.lock();
        finished.retain(|(path, last_sequence, bytes)| {
            if *last_sequence > up_to {
                return true;
            }
            if let Err(error) = fs::remove_file(path) {
                tracing::warn!(%error, path = %path.display(), "removing a finished log segment failed");
            }
            self.shared.disk_bytes.fetch_sub(*bytes, Ordering::Relaxed);
            false
        });
    }

    fn queued_bytes(&self) -> usize {
        self.shared.queued_bytes.load(Ordering::Relaxed)
    }

    fn disk_bytes(&self) -> u64 {
        self.shared.disk_bytes.load(Ordering::Relaxed)
    }

    fn failure(&self) -> Option<String> {
        self.shared.failure.lock().clone()
    }

    fn stop(&self) {
        self.sender.lock().take();
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the log's thread panicked");
        }
    }
}

struct Segment {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl Segment {
    fn create(folder: &Path, first_sequence: u64) -> io::Result<Self> {
        let path = segment::path(folder, first_sequence);
        let mut file = OpenOptions::new().create(true).write(true).truncate(true).open(&path)?;
        file.write_all(MAGIC)?;
        file.sync_all()?;
        // Without this the file itself may be missing after a power failure.
        File::open(folder)?.sync_all()?;
        Ok(Self { file, path, bytes: MAGIC.len() as u64 })
    }

    /// Takes back a write that the disk had no room for.
    fn rewind(&mut self) -> io::Result<()> {
        self.file.set_len(self.bytes)?;
        self.file.seek(SeekFrom::Start(self.bytes))?;
        Ok(())
    }
}

struct Writer {
    folder: PathBuf,
    segment: Segment,
    next_sequence: u64,
    durability: Durability,
    clock: Arc<dyn Clock>,
    last_sync: Duration,
    shared: Arc<Shared>,
    on_durable: OnDurable,
}

impl Writer {
    fn run(mut self, receiver: &Receiver<LogEntry>) {
        while let Some(group) = self.next_group(receiver) {
            if !self.write_group(group) {
                break;
            }
        }
        // Whoever still waits is told by the closed channel's error; see `submit`.
        while let Ok(entry) = receiver.try_recv() {
            let reason = self.shared.failure.lock().clone().unwrap_or_default();
            let _ = entry.done.send(Err(AppendError::Failed { reason }));
        }
        if let Err(error) = self.segment.file.sync_data() {
            tracing::error!(%error, "synchronising the log at the end failed");
        }
    }

    /// Waits for a batch, then takes all that wait with it. `None` when no more will come.
    fn next_group(&mut self, receiver: &Receiver<LogEntry>) -> Option<Vec<LogEntry>> {
        let first = match self.durability {
            Durability::Fsync => receiver.recv().ok()?,
            Durability::Interval(interval) => loop {
                match receiver.recv_timeout(interval) {
                    Ok(entry) => break entry,
                    Err(RecvTimeoutError::Disconnected) => return None,
                    Err(RecvTimeoutError::Timeout) => {
                        if let Err(error) = self.sync() {
                            self.fail(&error);
                            return None;
                        }
                    }
                }
            },
        };
        let mut bytes = first.body.len();
        let mut group = vec![first];
        while bytes < GROUP_BYTES_MAX {
            let Ok(entry) = receiver.try_recv() else { break };
            bytes += entry.body.len();
            group.push(entry);
        }
        Some(group)
    }

    /// Returns whether the log can go on.
    fn write_group(&mut self, group: Vec<LogEntry>) -> bool {
        let bytes: usize = group.iter().map(|entry| entry.body.len()).sum();
        let outcome = match self.write_records(&group) {
            Ok(()) => self.make_durable().map_err(Failure::Fatal),
            Err(error) => Err(self.take_back(error)),
        };
        self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        metrics::histogram!("tracehouse_log_group_batches").record(group.len() as f64);
        match outcome {
            Ok(()) => {
                self.publish(group);
                self.segment.bytes < SEGMENT_BYTES_MAX || self.roll()
            }
            Err(Failure::DiskFull) => {
                metrics::counter!("tracehouse_log_disk_full_total").increment(1);
                for entry in group {
                    let reason = "the disk is full".to_owned();
                    let _ = entry.done.send(Err(AppendError::DiskFull { retry_after: RETRY_AFTER_DISK_FULL, reason }));
                }
                true
            }
            Err(Failure::Fatal(error)) => {
                let reason = self.fail(&error);
                for entry in group {
                    let _ = entry.done.send(Err(AppendError::Failed { reason: reason.clone() }));
                }
                false
            }
        }
    }

    fn write_records(&mut self, group: &[LogEntry]) -> io::Result<()> {
        const SMALL: usize = 64 * 1024;
        let mut buffer = Vec::new();
        for (sequence, entry) in (self.next_sequence..).zip(group) {
            buffer.extend_from_slice(&segment::encode_header(entry.body.len(), entry.body_crc, sequence));
            if entry.body.len() <= SMALL {
                buffer.extend_from_slice(&entry.body);
                if buffer.len() < SMALL {
                    continue;
                }
            }
            self.segment.file.write_all(&buffer)?;
            buffer.clear();
            if entry.body.len() > SMALL {
                self.segment.file.write_all(&entry.body)?;
            }
        }
        self.segment.file.write_all(&buffer)
    }

    fn make_durable(&mut self) -> io::Result<()> {
        match self.durability {
            Durability::Fsync => self.sync(),
            Durability::Interval(interval) if self.clock.monotonic() - self.last_sync >= interval => self.sync(),
            Durability::Interval(_) => Ok(()),
        }
    }

    /// A failed synchronisation is never tried again: the system may have dropped the pages, and a second call would
    /// report success for data that is gone.
    fn sync(&mut self) -> io::Result<()> {
        let begin = self.clock.monotonic();
        self.segment.file.sync_data()?;
        self.last_sync = self.clock.monotonic();
        metrics::histogram!("tracehouse_log_sync_seconds").record((self.last_sync - begin).as_secs_f64());
        Ok(())
    }

    fn take_back(&mut self, error: io::Error) -> Failure {
        let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
        if !full {
            return Failure::Fatal(error);
        }
        match self.segment.rewind() {
            Ok(()) => Failure::DiskFull,
            Err(error) => Failure::Fatal(error),
        }
    }

    fn publish(&mut self, group: Vec<LogEntry>) {
        let mut batches = Vec::with_capacity(group.len());
        let mut waiting = Vec::with_capacity(group.len());
        for entry in group {
            let written = (segment::HEADER_BYTES + entry.body.len()) as u64;
            self.segment.bytes += written;
            self.shared.disk_bytes.fetch_add(written, Ordering::Relaxed);
            batches.push(DurableBatch { sequence: self.next_sequence, tenant: entry.tenant, spans: entry.spans });
            waiting.push(entry.done);
            self.next_sequence += 1;
        }
        (self.on_durable)(batches);
        for done in waiting {
            // A sender that has gone away does not mind; its spans are kept all the same.
            let _ = done.send(Ok(()));
        }
    }

    /// Ends ingest; returns what senders are told.
    fn fail(&self, error: &io::Error) -> String {
        let reason = format!("the log can't be written any more ({error}); restart after mending the disk");
        tracing::error!(%error, "the log failed: no more spans are accepted until a restart");
        *self.shared.failure.lock() = Some(reason.clone());
        reason
    }

    /// Begins a new segment. If that fails the current one goes on growing, and the next group tries again. Returns
    /// whether the log can go on.
    fn roll(&mut self) -> bool {
        if let Durability::Interval(_) = self.durability
            && let Err(error) = self.sync()
        {
            self.fail(&error);
            return false;
        }
        match Segment::create(&self.folder, self.next_sequence) {
            Ok(next) => {
                let full = std::mem::replace(&mut self.segment, next);
                self.shared.finished.lock().push((full.path, self.next_sequence - 1, full.bytes));
            }
            Err(error) => tracing::warn!(%error, "beginning a new log segment failed; the current one goes on"),
        }
        true
    }
}

enum Failure {
    DiskFull,
    Fatal(io::Error),
}
