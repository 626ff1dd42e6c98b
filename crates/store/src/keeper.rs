//! Retention and the disk budget: which files have to go, and when. Runs on a thread of its own, so that files go while
//! others are flushed ([`crate::flusher`]) and merged ([`crate::merger`]).

use std::sync::Arc;
use std::time::Duration;

use tracehouse_catalogue::{Commit, FileRecord, RetirementReason, Tier};
use tracehouse_model::Bell;

use crate::damage_found::look_after_damage;
use crate::deletion::delete_retired;
use crate::error::{WriteError, chain, contained};
use crate::shared::Shared;
use crate::span_file::SpanFile;
use crate::troubles::Work;
use crate::worker::Worker;

/// How often the catalogue is told what time it is.
const CLOCK_INTERVAL: Duration = Duration::from_secs(60);

/// Expires and deletes.
pub(crate) struct Keeper {
    /// When the catalogue was told the time last, on the monotonic clock.
    clock_remembered: Duration,
    /// Until the catalogue knows.
    log_has_news: bool,
}

impl Worker for Keeper {
    const NAME: &'static str = "keeper";
    const TICK: Duration = Duration::from_secs(1);

    fn new(begin: Duration) -> Self {
        Self { clock_remembered: begin, log_has_news: false }
    }

    fn wanted(shared: &Shared) -> &Bell {
        &shared.keeper_wanted
    }

    fn round(&mut self, shared: &Shared) {
        let now = shared.clock.monotonic();
        self.log_has_news |= shared.started_log().is_some_and(|log| log.take_news());
        if self.log_has_news || now.saturating_sub(self.clock_remembered) >= CLOCK_INTERVAL {
            self.clock_remembered = now;
            attempt(shared, Work::RememberClock, || {
                shared.remember_clock()?;
                self.log_has_news = false;
                Ok(())
            });
        }
        shared.look_for_files_not_found();
        shared.look_for_missing_files();
        look_after_damage(shared);
        attempt(shared, Work::Expire, || expire(shared));
        attempt(shared, Work::Delete, || delete_retired(shared));
        metrics::counter!("tracehouse_store_keeper_rounds_total").increment(1);
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

/// Retires files of spans that are older than retention allows, and the oldest ones while all that are kept hot on the local disk take
/// more than its budget. Which spans are old, the store's own time says: a wall clock alone deletes nothing.
pub(crate) fn expire(shared: &Shared) -> Result<(), WriteError> {
    // What a merge did, though nobody heard of it, is judged as it stands now.
    shared.resolve_commits()?;
    // A merge must not put what goes here into a new file.
    let _no_other_change = shared.files_lock.lock();
    // `None`: the store is too new for anything in it to be old.
    let oldest_kept = shared.store_clock.oldest_kept().unwrap_or(i64::MIN);
    shared.expire_absent(oldest_kept)?;
    let mut files = shared.state.all_files();
    files.sort_by_key(|file| file.record.start_max);
    let has_budget = |file: &SpanFile| file.record.tier == Tier::Hot && file.record.object_store == FileRecord::LOCAL;
    let mut bytes: u64 = files.iter().filter(|file| has_budget(file)).map(|file| file.record.bytes).sum();
    let mut expired: Vec<Arc<SpanFile>> = Vec::new();
    for file in files {
        let over_budget = has_budget(&file) && shared.config.disk_budget_bytes.is_some_and(|budget| bytes > budget);
        if file.record.start_max >= oldest_kept && !over_budget {
            continue;
        }
        bytes -= if has_budget(&file) { file.record.bytes } else { 0 };
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
        let Err(error) = shared.runtime.block_on(shared.catalogue.commit(commit)).map_err(WriteError::from) else {
            return Ok(());
        };
        if !shared.settle_not_live(&error, expired) {
            return Err(error);
        }
        expired.retain(|file| shared.state.has_files(std::slice::from_ref(file)));
    }
    Ok(())
}
