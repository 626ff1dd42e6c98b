//! One thread writes the log: it takes all batches that wait, writes them, asks the disk once, then acknowledges all.

use std::io;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use tracehouse_disk::{DiskError, DiskFile};
use tracehouse_model::{Bell, Clock, error_chain};

use crate::entry::{DurableBatch, LogEntry};
use crate::error::AppendError;
use crate::feed::Feed;
use crate::recover::Recovered;
use crate::segment::{self, Header, MAGIC, RecordKind, SegmentName};
use crate::settings::{Background, Durability, LogSettings};
use crate::shared::{Finished, Segments, Shared};
use crate::span_log::{SpanFeed, SpanLog};

/// A segment may be so many times as large as intended while the next one can't be begun; then nothing more is taken.
const OVERSIZE_MAX: u64 = 4;
/// So much is written before the disk is asked.
const GROUP_BYTES_MAX: usize = 16 * 1024 * 1024;
const RETRY_AFTER_DISK_FULL: Duration = Duration::from_secs(5);
/// Senders that were refused for lack of room come back within this time, if any are left.
const OUT_OF_ROOM_FOR: Duration = Duration::from_secs(60);

/// A segment of which nothing is needed any more is left once it holds this part of what it may.
const LEFT_WITH_PART: u64 = 64;

type OnDurable = Box<dyn FnMut(Vec<DurableBatch>) + Send>;

/// The log in files of one folder.
pub struct SegmentedLog {
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    sender: Mutex<Option<Sender<Order>>>,
    /// Something was sent.
    sent: Bell,
    /// See [`LEFT_WITH_PART`].
    left_with_bytes: u64,
    worker: Worker,
}

/// What the writer is asked to do.
enum Order {
    Write(Box<LogEntry>),
    /// Nothing of what was written is needed any more: to go on in a new segment, so that the disk has its room back.
    BeginAnew,
}

/// Who writes.
enum Worker {
    Thread(Mutex<Option<JoinHandle<()>>>),
    Called(Box<Mutex<Writer>>),
}

impl SegmentedLog {
    /// Continues a recovered log in a new segment. `on_durable` makes batches visible; it is called in order.
    pub fn start(settings: LogSettings, recovered: &Recovered, on_durable: OnDurable) -> Result<Self, DiskError> {
        let folder = settings.folder.path().to_owned();
        let failed = |source| DiskError { action: "continuing the log in", path: folder.clone(), source };
        let mut finished = Vec::new();
        for (path, last_sequence) in &recovered.segments {
            let bytes = std::fs::metadata(path).map_err(failed)?.len();
            finished.push(Finished { path: path.clone(), last_sequence: *last_sequence, bytes });
        }
        let segment = Segment::create(&settings, recovered.last_sequence + 1)?;
        let disk_bytes = segment.bytes + finished.iter().map(|segment| segment.bytes).sum::<u64>();
        let shared = Arc::new(Shared {
            disk: settings.disk.clone(),
            queued_bytes: AtomicUsize::new(0),
            disk_bytes: AtomicU64::new(disk_bytes),
            failure: Mutex::new(None),
            last_out_of_room: Mutex::default(),
            has_news: AtomicBool::new(false),
            acknowledged: AtomicU64::new(recovered.last_sequence),
            released: AtomicU64::new(0),
            segments: Mutex::new(Segments { finished, current: segment.file.path().to_owned() }),
        });
        let (sender, receiver) = channel();
        // What comes back after a power failure is removed by the next start: no record in it counts, as the catalogue's position says,
        // or there is none, as what was cut off its end was synchronised.
        for path in &recovered.needless {
            settings.disk.remove_file(path)?;
        }
        let (background, clock, sent) = (settings.background, settings.clock.clone(), Bell::default());
        let left_with_bytes = (settings.segment_bytes_max / LEFT_WITH_PART).max(MAGIC.len() as u64 + 1);
        let mut writer = Writer {
            segment,
            next_sequence: recovered.last_sequence + 1,
            is_new: true,
            last_sync: settings.clock.monotonic(),
            settings,
            shared: shared.clone(),
            on_durable,
            receiver,
            sent: sent.clone(),
        };
        let worker = match background {
            Background::Called => Worker::Called(Box::new(Mutex::new(writer))),
            Background::Threads => {
                let run = move || {
                    if std::panic::catch_unwind(AssertUnwindSafe(|| writer.run())).is_err() {
                        writer.fail(&"its thread panicked");
                    }
                };
                let thread = std::thread::Builder::new().name("log".into()).spawn(run).map_err(failed)?;
                Worker::Thread(Mutex::new(Some(thread)))
            }
        };
        Ok(Self { shared, clock, sender: Mutex::new(Some(sender)), sent, left_with_bytes, worker })
    }
}

impl SpanLog for SegmentedLog {
    fn submit(&self, entry: LogEntry) {
        let bytes = entry.body.len();
        {
            // Let go before the bell rings: who is woken must see that a stopped log has no sender left.
            let sender = self.sender.lock().clone();
            let Some(sender) = sender else {
                let _ = entry.done.send(Err(AppendError::ShuttingDown));
                return;
            };
            self.shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
            if let Err(refused) = sender.send(Order::Write(Box::new(entry))) {
                self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
                let reason = self.failure().unwrap_or_else(|| "the log's thread has ended".into());
                refused.0.refuse(reason);
            }
        }
        self.sent.ring();
    }

    fn feed(&self, position: u64) -> Box<dyn SpanFeed> {
        Box::new(Feed::new(self.shared.clone(), position))
    }

    fn write_queued(&self) {
        if let Worker::Called(writer) = &self.worker {
            writer.lock().write_queued();
        }
    }

    fn release(&self, up_to: u64) {
        self.shared.released.fetch_max(up_to, Ordering::AcqRel);
        let current_bytes = self.shared.remove_released();
        if up_to < self.shared.acknowledged() || current_bytes < self.left_with_bytes {
            return;
        }
        // Otherwise a disk that is full would keep senders, and with them the next segment, waiting for ever.
        let sender = self.sender.lock().clone();
        if sender.is_some_and(|sender| sender.send(Order::BeginAnew).is_ok()) {
            self.sent.ring();
        }
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

    fn is_out_of_room(&self) -> bool {
        let now = self.clock.monotonic();
        self.shared.last_out_of_room.lock().is_some_and(|last| now.saturating_sub(last) < OUT_OF_ROOM_FOR)
    }

    fn take_news(&self) -> bool {
        self.shared.has_news.swap(false, Ordering::Relaxed)
    }

    fn stop(&self) {
        self.sender.lock().take();
        self.sent.ring();
        match &self.worker {
            Worker::Called(writer) => {
                let mut writer = writer.lock();
                writer.write_queued();
                writer.end();
            }
            Worker::Thread(thread) => {
                if let Some(thread) = thread.lock().take()
                    && thread.join().is_err()
                {
                    tracing::error!("the log's thread panicked");
                }
            }
        }
    }
}

impl Order {
    fn refuse(self, reason: String) {
        if let Self::Write(entry) = self {
            let _ = entry.done.send(Err(AppendError::Failed { reason }));
        }
    }
}

struct Segment {
    file: DiskFile,
    /// Of its headers: see [`segment`].
    salt: u64,
    bytes: u64,
}

impl Segment {
    fn create(settings: &LogSettings, first_sequence: u64) -> Result<Self, DiskError> {
        let salt = settings.randomness.next_u64();
        let path = SegmentName { first_sequence, salt: Some(salt) }.path_in(settings.folder.path());
        Self::begin(settings, &path, salt).inspect_err(|_| {
            // Left behind it would claim to begin with a number that the current segment goes on to use. If it can't be
            // removed it is empty, and a start passes over empty segments.
            let _ = settings.disk.remove_file(&path);
        })
    }

    fn begin(settings: &LogSettings, path: &Path, salt: u64) -> Result<Self, DiskError> {
        let mut file = settings.folder.create_file(&settings.disk, path)?;
        file.append(MAGIC)?;
        // Without this the file itself may be missing after a power failure.
        settings.disk.sync_folder(settings.folder.path())?;
        Ok(Self { file, salt, bytes: MAGIC.len() as u64 })
    }
}

struct Writer {
    settings: LogSettings,
    segment: Segment,
    next_sequence: u64,
    /// Nothing was written since the start: what the first records are in may be emptied before the catalogue knows of them.
    is_new: bool,
    last_sync: Duration,
    shared: Arc<Shared>,
    on_durable: OnDurable,
    receiver: Receiver<Order>,
    /// Rings when something was sent.
    sent: Bell,
}

impl Writer {
    fn run(&mut self) {
        while let Some(group) = self.next_group() {
            if !self.write_group(group) {
                break;
            }
        }
        self.end();
    }

    /// Writes what waits, without waiting for more.
    fn write_queued(&mut self) {
        while self.shared.failure.lock().is_none() {
            match self.receiver.try_recv() {
                Ok(Order::Write(first)) => {
                    let group = self.group_of(*first);
                    self.write_group(group);
                }
                Ok(Order::BeginAnew) => self.begin_anew(),
                Err(_) => {
                    let is_synchronised = self.sync_if_due();
                    if let Err(error) = is_synchronised {
                        self.fail(&error);
                    }
                    return;
                }
            }
        }
        self.refuse_queued();
    }

    /// Whoever comes later is told by the closed channel's error; see `submit`.
    fn refuse_queued(&self) {
        while let Ok(order) = self.receiver.try_recv() {
            order.refuse(self.shared.failure.lock().clone().unwrap_or_default());
        }
    }

    fn end(&mut self) {
        self.refuse_queued();
        let has_failed = self.shared.failure.lock().is_some();
        if !has_failed && let Err(error) = self.segment.file.sync_data() {
            tracing::error!(error = error_chain(&error), "synchronising the log at the end failed");
        }
    }

    /// Waits for a batch, then takes all that wait with it. `None` when no more will come.
    fn next_group(&mut self) -> Option<Vec<LogEntry>> {
        loop {
            match self.next_order()? {
                Order::Write(first) => return Some(self.group_of(*first)),
                Order::BeginAnew => self.begin_anew(),
            }
        }
    }

    fn next_order(&mut self) -> Option<Order> {
        let Durability::Interval(interval) = self.settings.durability else { return self.receiver.recv().ok() };
        loop {
            match self.receiver.try_recv() {
                Ok(order) => return Some(order),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => {}
            }
            self.settings.clock.wait(&self.sent, self.last_sync.saturating_add(interval));
            if let Err(error) = self.sync_if_due() {
                self.fail(&error);
                return None;
            }
        }
    }

    /// A batch and those that wait with it.
    fn group_of(&self, first: LogEntry) -> Vec<LogEntry> {
        let mut bytes = first.body.len();
        let mut group = vec![first];
        while bytes < GROUP_BYTES_MAX {
            let entry = match self.receiver.try_recv() {
                Ok(Order::Write(entry)) => *entry,
                // What follows is needed.
                Ok(Order::BeginAnew) => continue,
                Err(_) => break,
            };
            bytes += entry.body.len();
            group.push(entry);
        }
        group
    }

    /// Returns whether the log can go on.
    fn write_group(&mut self, group: Vec<LogEntry>) -> bool {
        let bytes: usize = group.iter().map(|entry| entry.body.len()).sum();
        let outcome = match self.be_in_place().and_then(|()| self.has_room().map_err(Failure::Fatal)) {
            Ok(true) => match self.write_records(&group) {
                Ok(()) => self.make_durable(&group).map_err(Failure::Fatal),
                Err(error) => Err(self.take_back(error)),
            },
            Ok(false) => Err(Failure::DiskFull),
            Err(failure) => Err(failure),
        };
        self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        metrics::histogram!("tracehouse_log_group_batches").record(group.len() as f64);
        match outcome {
            Ok(()) => {
                if self.shared.last_out_of_room.lock().take().is_some() {
                    tracing::info!("the disk has room for the log again; spans are accepted");
                }
                self.publish(group);
                self.roll_if_full().map_err(|error| self.fail(&error)).is_ok()
            }
            Err(Failure::DiskFull) => {
                metrics::counter!("tracehouse_log_disk_full_total").increment(1);
                if self.shared.last_out_of_room.lock().replace(self.settings.clock.monotonic()).is_none() {
                    tracing::error!("the disk has no room for the log; spans are refused until it has");
                }
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

    /// Goes on in a new segment if somebody removed the current one, or the folder that holds it: what would be written to it
    /// would be gone with this process. What was in it is in memory, and soon in files.
    fn be_in_place(&mut self) -> Result<(), Failure> {
        if self.segment.file.is_in_its_place() {
            return Ok(());
        }
        metrics::counter!("tracehouse_log_removed_segments_total").increment(1);
        self.shared.has_news.store(true, Ordering::Relaxed);
        let path = self.segment.file.path().to_owned();
        tracing::error!(path = %path.display(), "a segment of the log was removed while it was written; the log goes on in a new one");
        match Segment::create(&self.settings, self.next_sequence) {
            Ok(next) => self.replace_segment(next),
            Err(error) if is_full(&error) => return Err(Failure::DiskFull),
            Err(error) => return Err(Failure::Fatal(error)),
        }
        Ok(())
    }

    fn replace_segment(&mut self, next: Segment) {
        self.shared.disk_bytes.fetch_add(next.bytes, Ordering::Relaxed);
        let full = std::mem::replace(&mut self.segment, next);
        let path = full.file.path().to_owned();
        let last_sequence = self.next_sequence - 1;
        let mut segments = self.shared.segments.lock();
        segments.finished.push(Finished { path, last_sequence, bytes: full.bytes });
        segments.current = self.segment.file.path().to_owned();
    }

    /// Whether the segment may grow: it is far too large only if the next one could not be begun for long.
    fn has_room(&mut self) -> Result<bool, DiskError> {
        let bytes_max = OVERSIZE_MAX.saturating_mul(self.settings.segment_bytes_max);
        if self.segment.bytes >= bytes_max {
            self.roll_if_full()?;
        }
        Ok(self.segment.bytes < bytes_max)
    }

    fn write_records(&mut self, group: &[LogEntry]) -> Result<(), DiskError> {
        const SMALL: usize = 64 * 1024;
        let mut buffer = Vec::new();
        for (sequence, entry) in (self.next_sequence..).zip(group) {
            let header = Header { sequence, body_bytes: entry.body.len(), body_crc: entry.body_crc };
            buffer.extend_from_slice(&header.encode(self.segment.salt));
            if entry.body.len() <= SMALL {
                buffer.extend_from_slice(&entry.body);
                if buffer.len() < SMALL {
                    continue;
                }
            }
            self.segment.file.append(&buffer)?;
            buffer.clear();
            if entry.body.len() > SMALL {
                self.segment.file.append(&entry.body)?;
            }
        }
        self.segment.file.append(&buffer)
    }

    fn make_durable(&mut self, group: &[LogEntry]) -> Result<(), DiskError> {
        // Those that a carried record repeats may have been durable for long, and are let go after it.
        let must_be = group.iter().any(|entry| entry.kind == RecordKind::Carried);
        if must_be || self.settings.durability == Durability::Fsync { self.sync() } else { self.sync_if_due() }
    }

    /// With [`Durability::Interval`].
    fn sync_if_due(&mut self) -> Result<(), DiskError> {
        match self.settings.durability {
            Durability::Interval(interval) if self.settings.clock.monotonic() - self.last_sync >= interval => {
                self.sync()
            }
            _ => Ok(()),
        }
    }

    /// A failed synchronisation is never tried again: the system may have dropped the pages, and a second call would
    /// report success for data that is gone.
    fn sync(&mut self) -> Result<(), DiskError> {
        let begin = self.settings.clock.monotonic();
        self.segment.file.sync_data()?;
        self.last_sync = self.settings.clock.monotonic();
        metrics::histogram!("tracehouse_log_sync_seconds").record((self.last_sync - begin).as_secs_f64());
        Ok(())
    }

    fn take_back(&mut self, error: DiskError) -> Failure {
        if !is_full(&error) {
            return Failure::Fatal(error);
        }
        match self.segment.file.cut_off(self.segment.bytes) {
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
            let sequence = self.next_sequence;
            batches.push(DurableBatch { sequence, tenant: entry.tenant, kind: entry.kind, spans: entry.spans });
            waiting.push((entry.done, sequence));
            self.next_sequence += 1;
        }
        if std::mem::take(&mut self.is_new) {
            self.shared.has_news.store(true, Ordering::Relaxed);
        }
        (self.on_durable)(batches);
        self.shared.acknowledged.store(self.next_sequence - 1, Ordering::Release);
        for (done, sequence) in waiting {
            // A sender that has gone away does not mind; its spans are kept all the same.
            let _ = done.send(Ok(sequence));
        }
    }

    /// Ends ingest; returns what senders are told.
    fn fail(&self, error: &dyn std::fmt::Display) -> String {
        let reason = format!("the log can't be written any more ({error}); restart after mending the disk");
        tracing::error!(%error, "the log failed: no more spans are accepted until a restart");
        *self.shared.failure.lock() = Some(reason.clone());
        self.shared.has_news.store(true, Ordering::Relaxed);
        reason
    }

    /// Goes on in a new segment if nothing of the current one is needed any more, and removes that.
    fn begin_anew(&mut self) {
        if self.shared.released.load(Ordering::Acquire) + 1 < self.next_sequence {
            return;
        }
        if !self.segment.file.is_in_its_place() {
            // What is to be told of that is told when there is something to write.
            return;
        }
        match Segment::create(&self.settings, self.next_sequence) {
            Ok(next) => {
                self.replace_segment(next);
                self.shared.remove_released();
            }
            Err(error) => self.could_not_begin(&error),
        }
    }

    fn could_not_begin(&self, error: &DiskError) {
        metrics::counter!("tracehouse_log_segment_failures_total").increment(1);
        tracing::warn!(error = error_chain(error), "beginning a new log segment failed; the current one goes on");
    }

    /// Begins a new segment when the current one is full. If that fails the current one goes on growing for a while, and a
    /// later group tries again. An error is one after which the log can't go on.
    fn roll_if_full(&mut self) -> Result<(), DiskError> {
        if self.segment.bytes < self.settings.segment_bytes_max {
            return Ok(());
        }
        if let Durability::Interval(_) = self.settings.durability {
            self.sync()?;
        }
        match Segment::create(&self.settings, self.next_sequence) {
            Ok(next) => self.replace_segment(next),
            Err(error) => self.could_not_begin(&error),
        }
        Ok(())
    }
}

fn is_full(error: &DiskError) -> bool {
    matches!(error.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

enum Failure {
    DiskFull,
    Fatal(DiskError),
}
