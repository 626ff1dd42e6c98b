//! What runs in the background: flushing, merging, retention, deletion.

use std::sync::Arc;
use std::time::Duration;

use tracehouse_catalogue::{Commit, RetirementReason};

use crate::compact::{Effort, compact};
use crate::error::WriteError;
use crate::file::is_damage;
use crate::flush::flush;
use crate::span_file::SpanFile;
use crate::store::Shared;

const TICK: Duration = Duration::from_millis(200);
/// After a failed flush or merge.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// How often the catalogue is told what time it is.
const CLOCK_INTERVAL: Duration = Duration::from_secs(60);

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
    let mut clock_remembered = last_compaction;
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
        if now.saturating_sub(clock_remembered) >= CLOCK_INTERVAL {
            clock_remembered = now;
            if let Err(error) = shared.remember_clock() {
                tracing::warn!(error = chain(&error), "writing down the time failed; it is tried again");
            }
        }
        shared.look_for_missing_files();
        look_after_damage(shared);
        if let Err(error) = expire(shared).and_then(|()| delete_retired(shared)) {
            tracing::warn!(error = chain(&error), "removing old files failed; it is tried again");
        }
    }
}

/// A panic over one batch or file must not end the thread that looks after all of them.
fn contained(work: impl FnOnce() -> Result<(), WriteError>) -> Result<(), WriteError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_or(Err(WriteError::Ended))
}

/// Sets aside files of which nothing can be read; those of which a part can't are named, and the catalogue remembers them.
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
                shared.remember_damage(&file.record.id, damage.rows());
            }
            None => match file.open() {
                Err(error) if is_damage(&error.source) => shared.set_damaged_file_aside(&file, &chain(&error.source)),
                _ => {}
            },
        }
    }
}

/// Retires files that are older than retention allows, and the oldest ones while all take more than the budget. Which
/// spans are old, the store's own time says: a wall clock alone deletes nothing.
pub(crate) fn expire(shared: &Shared) -> Result<(), WriteError> {
    // `None`: the store is too new for anything in it to be old.
    let oldest_kept = shared.store_clock.oldest_kept().unwrap_or(i64::MIN);
    shared.expire_absent(oldest_kept)?;
    let mut files = shared.state.all_files();
    files.sort_by_key(|file| file.record.start_max);
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
