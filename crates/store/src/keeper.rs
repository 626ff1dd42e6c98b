//! What runs in the background: flushing, merging, retention, deletion.

use std::sync::Arc;
use std::time::Duration;

use tracehouse_catalogue::{Commit, RetirementReason};

use crate::compact::{Effort, compact};
use crate::error::WriteError;
use crate::flush::flush;
use crate::span_file::SpanFile;
use crate::store::Shared;

const TICK: Duration = Duration::from_millis(200);
/// After a failed flush or merge.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// A wall clock that moved so much against the monotonic one has been set; nothing expires by it for a while.
const CLOCK_JUMP_MIN: Duration = Duration::from_secs(3600);
const CLOCK_SETTLE: Duration = Duration::from_secs(600);

/// Flushes when there is enough or when it is time. Runs on its own thread until the store stops.
pub(crate) fn run_flusher(shared: &Shared) {
    let mut last = shared.clock.monotonic();
    let mut not_before = Duration::ZERO;
    while !shared.stopping() {
        shared.flush_wanted.wait(TICK);
        let now = shared.clock.monotonic();
        let hot_bytes = shared.state.hot_bytes();
        shared.report_gauges();
        let due = hot_bytes >= shared.config.flush_bytes.min(shared.config.hot_bytes_max / 2)
            || (hot_bytes > 0 && now.saturating_sub(last) >= shared.config.flush_interval);
        if !due || now < not_before {
            if hot_bytes == 0 {
                last = now;
            }
            continue;
        }
        match contained(|| flush(shared).map(|_| ())) {
            Ok(()) => {}
            Err(error) => {
                metrics::counter!("tracehouse_store_flush_failures_total").increment(1);
                tracing::error!(
                    error = chain(&error),
                    "writing spans to files failed; they stay in memory and the log"
                );
                not_before = shared.clock.monotonic() + RETRY_AFTER;
            }
        }
        last = shared.clock.monotonic();
    }
}

/// Merges, expires and deletes. Runs on its own thread until the store stops.
pub(crate) fn run_keeper(shared: &Shared) {
    let mut last_compaction = shared.clock.monotonic();
    let mut clock = ClockGuard::new(shared);
    while !shared.stopping() {
        shared.keeper_wanted.wait(Duration::from_secs(1));
        let now = shared.clock.monotonic();
        if now.saturating_sub(last_compaction) >= shared.config.compaction_interval {
            last_compaction = now;
            if let Err(error) = contained(|| compact(shared, Effort::Routine).map(|_| ())) {
                metrics::counter!("tracehouse_store_compaction_failures_total").increment(1);
                tracing::warn!(error = chain(&error), "merging files failed; it is tried again");
            }
        }
        look_after_damage(shared);
        let expired = if clock.is_trusted(shared) { expire(shared) } else { Ok(()) };
        if let Err(error) = expired.and_then(|()| delete_retired(shared)) {
            tracing::warn!(error = chain(&error), "removing old files failed; it is tried again");
        }
    }
}

/// A panic over one batch or file must not end the thread that looks after all of them.
fn contained(work: impl FnOnce() -> Result<(), WriteError>) -> Result<(), WriteError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or(Err(WriteError::Ended))
}

/// Sets aside files of which nothing can be read, and names those of which a part can't.
pub(crate) fn look_after_damage(shared: &Shared) {
    for file in shared.access.take_suspected() {
        match file.damage() {
            Some(damage) if damage.is_none() => {
                tracing::warn!(
                    path = file.record.path,
                    "a stored file was read wrong once, yet all of it is right now"
                );
            }
            Some(damage) => {
                metrics::counter!("tracehouse_store_damaged_files_total").increment(1);
                metrics::counter!("tracehouse_store_unreadable_spans_total").increment(damage.rows());
                tracing::error!(
                    path = file.record.path,
                    spans = damage.rows(),
                    of = file.record.spans,
                    columns = damage.columns(),
                    "a stored file is damaged: these spans can't be read, the others can"
                );
            }
            None => {
                if let Err(error) = file.open() {
                    shared.set_damaged_file_aside(&file, &error.source);
                }
            }
        }
    }
}

/// Retires files that are older than retention allows, and the oldest ones while all take more than the budget.
pub(crate) fn expire(shared: &Shared) -> Result<(), WriteError> {
    let mut files = shared.state.all_files();
    files.sort_by_key(|file| file.record.start_max);
    let retention = i64::try_from(shared.config.retention.as_nanos()).unwrap_or(i64::MAX);
    let oldest_kept = shared.clock.now_unix_nanos().saturating_sub(retention);
    let mut bytes: u64 = files.iter().map(|file| file.record.bytes).sum();
    let mut expired: Vec<Arc<SpanFile>> = Vec::new();
    for file in files {
        let over_budget = shared.config.disk_budget_bytes.is_some_and(|budget| bytes > budget);
        if file.record.start_max >= oldest_kept && !over_budget {
            continue;
        }
        bytes -= file.record.bytes;
        expired.push(file);
    }
    if expired.is_empty() {
        return Ok(());
    }
    let ids: Vec<String> = expired.iter().map(|file| file.record.id.clone()).collect();
    let commit = Commit {
        retire: ids.iter().map(|id| (id.clone(), RetirementReason::Expired)).collect(),
        retired_at: shared.clock.now_unix_nanos(),
        ..Commit::default()
    };
    shared.runtime.block_on(shared.catalogue.commit(commit))?;
    shared.state.change_files(Vec::new(), &ids);
    let spans: u64 = expired.iter().map(|file| file.record.spans).sum();
    metrics::counter!("tracehouse_store_expired_spans_total").increment(spans);
    tracing::info!(files = expired.len(), spans, "removed files beyond retention or the disk budget");
    shared.retire_later(&expired);
    Ok(())
}

/// Deletes files whose grace period is over, and forgets them. A file set aside as damaged stays.
pub(crate) fn delete_retired(shared: &Shared) -> Result<(), WriteError> {
    let now = shared.clock.monotonic();
    let due: Vec<_> = {
        let mut retired = shared.retired.lock();
        let (due, later) = retired.drain(..).partition(|file| now >= file.delete_at);
        *retired = later;
        due
    };
    let mut deleted = Vec::new();
    let mut failed = None;
    for file in due {
        match shared.objects.delete(&file.path) {
            Ok(()) => deleted.push(file.id),
            Err(error) => {
                shared.retired.lock().push(file);
                failed = Some(error);
            }
        }
    }
    if !deleted.is_empty() {
        shared.access.close(&deleted);
        shared.runtime.block_on(shared.catalogue.forget(&deleted))?;
    }
    failed.map_or(Ok(()), Err)
}

/// Notices when the wall clock is set, which would make everything look expired.
struct ClockGuard {
    offset: i128,
    trusted_from: Duration,
}

impl ClockGuard {
    fn new(shared: &Shared) -> Self {
        Self { offset: Self::offset(shared), trusted_from: Duration::ZERO }
    }

    fn offset(shared: &Shared) -> i128 {
        i128::from(shared.clock.now_unix_nanos()) - shared.clock.monotonic().as_nanos() as i128
    }

    fn is_trusted(&mut self, shared: &Shared) -> bool {
        let offset = Self::offset(shared);
        if (offset - self.offset).unsigned_abs() >= CLOCK_JUMP_MIN.as_nanos() {
            self.trusted_from = shared.clock.monotonic() + CLOCK_SETTLE;
            tracing::warn!(
                jump_seconds = ((offset - self.offset) / 1_000_000_000) as i64,
                "the machine's clock was set; nothing is removed for its age in the next {} minutes",
                CLOCK_SETTLE.as_secs() / 60
            );
        }
        self.offset = offset;
        shared.clock.monotonic() >= self.trusted_from
    }
}

/// An error with all its causes.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
