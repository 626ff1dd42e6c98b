//! Retention and the disk budget: which files have to go, and when. Runs on a thread of its own, so that files go while
//! others are flushed ([`crate::flusher`]) and merged ([`crate::merger`]).

use std::sync::Arc;
use std::time::Duration;

use tracehouse_catalogue::{CatalogueError, Commit, RetirementReason};

use crate::deletion::delete_retired;
use crate::error::WriteError;
use crate::span_file::SpanFile;
use crate::store::Shared;
use crate::troubles::Work;

const TICK: Duration = Duration::from_secs(1);
/// A wall clock that moved so much against the monotonic one has been set; nothing expires by it for a while.
const CLOCK_JUMP_MIN: Duration = Duration::from_secs(3600);
const CLOCK_SETTLE: Duration = Duration::from_secs(600);

/// Expires and deletes. Runs on its own thread until the store stops.
pub(crate) fn run_keeper(shared: &Shared) {
    let mut clock = ClockGuard::new(shared);
    while !shared.stopping() {
        shared.keeper_wanted.wait(TICK);
        look_after_damage(shared);
        if clock.is_trusted(shared) {
            attempt(shared, Work::Expire, || expire(shared));
        }
        attempt(shared, Work::Delete, || delete_retired(shared));
    }
}

/// Does a piece of work unless it failed a short time ago.
fn attempt(shared: &Shared, work: Work, run: impl FnOnce() -> Result<(), WriteError>) {
    if shared.troubles.must_wait(&work) {
        return;
    }
    match contained(run) {
        Ok(()) => shared.troubles.succeeded(&work),
        Err(error) => shared.troubles.failed(work, chain(&error)),
    }
}

/// A panic over one batch or file must not end the thread that looks after all of them.
pub(crate) fn contained<T>(work: impl FnOnce() -> Result<T, WriteError>) -> Result<T, WriteError> {
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
    // A merge must not put what goes here into a new file.
    let _no_other_change = shared.files_lock.lock();
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
    retire_expired(shared, &mut expired)?;
    let ids: Vec<String> = expired.iter().map(|file| file.record.id.clone()).collect();
    shared.state.change_files(Vec::new(), &ids);
    let spans: u64 = expired.iter().map(|file| file.record.spans).sum();
    metrics::counter!("tracehouse_store_expired_spans_total").increment(spans);
    tracing::info!(files = expired.len(), spans, "removed files beyond retention or the disk budget");
    shared.retire_later(&expired);
    Ok(())
}

/// Tells the catalogue. A file that it does not take for a live one must not keep all others: it is left out.
fn retire_expired(shared: &Shared, expired: &mut Vec<Arc<SpanFile>>) -> Result<(), WriteError> {
    while !expired.is_empty() {
        let ids = expired.iter().map(|file| file.record.id.clone());
        let commit = Commit {
            retire: ids.map(|id| (id, RetirementReason::Expired)).collect(),
            retired_at: shared.clock.now_unix_nanos(),
            ..Commit::default()
        };
        match shared.runtime.block_on(shared.catalogue.commit(commit)) {
            Err(CatalogueError::NotLive(id)) if expired.iter().any(|file| file.record.id == id) => {
                tracing::error!(
                    id,
                    "the catalogue does not take a file for a live one that the store does; a restart sorts it out"
                );
                expired.retain(|file| file.record.id != id);
            }
            outcome => return Ok(outcome?),
        }
    }
    Ok(())
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
