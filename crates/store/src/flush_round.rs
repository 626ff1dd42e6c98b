//! A flush: tenant by tenant, so that one whose spans can't be written keeps nobody else's in memory.
//!
//! What a tenant's flush made is committed together with the tenant's position in the log, in one transaction with those of
//! other small tenants. A tenant that fails keeps its spans in memory and in the log, and is tried again after a while
//! ([`crate::troubles`]). When its records keep too much of the log from being let go, they are repeated further on
//! ([`crate::carry`]).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::error::Error;
use std::sync::Arc;
use std::{io, iter};

use tracehouse_catalogue::{Commit, FileRecord};
use tracehouse_model::{SeededSet, TenantId};
use tracehouse_spanfile::hour_of;

use crate::carry::carry_forward;
use crate::error::{WriteError, chain};
use crate::flush::{FlushReport, write_tenant};
use crate::hot_batch::HotBatch;
use crate::shared::Shared;
use crate::state::{State, TenantToFlush};
use crate::troubles::Work;
use tracehouse_log::stored;

/// Tenants that are committed together: so many, …
const TENANTS_PER_COMMIT_MAX: usize = 64;
/// … with so many bytes in memory and with spans of so many hours, each of which makes a file, if there is more than one.
const BYTES_PER_COMMIT_MAX: usize = 8 * 1024 * 1024;
const FILES_PER_COMMIT_MAX: usize = 256;
/// A flush that has made so many files leaves the other tenants to the next, which begins at once: what came in meanwhile is not to
/// wait for senders whose spans are of all hours.
const FILES_PER_FLUSH_MAX: u64 = 512;

/// Whose spans are flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those of all tenants.
    All,
    /// Those of tenants that do not wait after a failure.
    Due,
}

/// Writes what is in memory to files, commits them together with the log's positions, and lets the log go. An error tells of
/// the first that failed; the others are done.
pub(crate) fn flush(shared: &Shared, which: Which) -> Result<FlushReport, WriteError> {
    let _one_at_a_time = shared.flush_lock.lock();
    shared.resolve_commits().inspect_err(|error| shared.troubles.failed(Work::Commit, chain(error)))?;
    let mut set = shared.state.begin_flush();
    let _ends_with_this = EndOfFlush(&shared.state);
    let has_spans = |tenant: &TenantId| set.tenants.iter().any(|other| other.tenant == *tenant);
    shared.troubles.retain(|work| match work {
        Work::Flush(tenant) | Work::Carry(tenant) => has_spans(tenant),
        _ => true,
    });
    // Who makes few files is not to wait for who makes many, nor the many small ones for the few large ones.
    set.tenants.sort_by_cached_key(|due| (hours_of(due), due.bytes, due.tenant.clone()));
    let waits = |tenant: &TenantId| which == Which::Due && shared.troubles.must_wait(&Work::Flush(tenant.clone()));
    let (waiting, mut due): (Vec<_>, Vec<_>) = set.tenants.into_iter().partition(|due| waits(&due.tenant));
    let mut round = Round {
        shared,
        up_to: set.up_to,
        report: FlushReport::default(),
        not_stored: BTreeMap::new(),
        first_error: None,
    };
    waiting.into_iter().for_each(|waiting| round.keep(waiting));
    if which == Which::Due {
        round.leave(due.iter_mut().filter_map(|due| later_batches(due, shared.config.flush_files_max)).collect());
    }
    let mut groups = groups(due).into_iter();
    while let Some(group) = groups.next() {
        round.write_group(group, groups.len() == 0)?;
        if which == Which::Due && round.report.files >= FILES_PER_FLUSH_MAX {
            round.leave(groups.by_ref().flatten().collect());
        }
    }
    round.let_log_go()?;
    round.carry_if_needed();
    round.finish()
}

/// Whether the disk had no room for something.
fn is_of_room(error: &(dyn Error + 'static)) -> bool {
    let is_full = |error: &io::Error| matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    iter::successors(Some(error), |&error| error.source())
        .any(|error| error.downcast_ref::<io::Error>().is_some_and(is_full))
}

/// Batches may be joined again.
struct EndOfFlush<'a>(&'a State);

impl Drop for EndOfFlush<'_> {
    fn drop(&mut self) {
        self.0.end_flush();
    }
}

/// The hours in which spans begin: so many files they make.
#[derive(Default)]
struct Hours {
    all: SeededSet<i64>,
    last: Option<i64>,
}

impl Hours {
    fn add(&mut self, batch: &HotBatch) {
        for &start in &batch.spans.start_unix_nanos {
            let hour = hour_of(start);
            if self.last != Some(hour) {
                self.all.insert(hour);
                self.last = Some(hour);
            }
        }
    }
}

fn hours_of(due: &TenantToFlush) -> usize {
    let mut hours = Hours::default();
    due.batches.iter().for_each(|batch| hours.add(batch));
    hours.all.len()
}

/// Takes out the batches with which a tenant would make too many files.
fn later_batches(due: &mut TenantToFlush, files_max: usize) -> Option<TenantToFlush> {
    let mut hours = Hours::default();
    let too_many = |batch: &Arc<HotBatch>| {
        hours.add(batch);
        hours.all.len() > files_max
    };
    let first = due.batches.iter().position(too_many)?.max(1);
    let up_to = due.batches[first - 1].last_sequence;
    let may_be_cut = !due.is_carried && due.batches[first..].iter().all(|batch| batch.first_sequence() > up_to);
    if !may_be_cut || first == due.batches.len() {
        return None;
    }
    let batches = due.batches.split_off(first);
    let bytes: usize = batches.iter().map(|batch| batch.bytes).sum();
    let later = TenantToFlush { tenant: due.tenant.clone(), batches, bytes, ..*due };
    (due.up_to, due.bytes) = (up_to, due.bytes.saturating_sub(bytes));
    Some(later)
}

/// Tenants that are committed together, in their order.
fn groups(tenants: Vec<TenantToFlush>) -> Vec<Vec<TenantToFlush>> {
    let mut groups: Vec<Vec<TenantToFlush>> = Vec::new();
    let (mut bytes, mut files) = (0, 0);
    for tenant in tenants {
        let hours = hours_of(&tenant);
        (bytes, files) = (bytes + tenant.bytes, files + hours);
        let has_room = |group: &Vec<TenantToFlush>| {
            group.len() < TENANTS_PER_COMMIT_MAX && bytes <= BYTES_PER_COMMIT_MAX && files <= FILES_PER_COMMIT_MAX
        };
        match groups.last_mut() {
            Some(group) if has_room(group) => group.push(tenant),
            _ => {
                (bytes, files) = (tenant.bytes, hours);
                groups.push(vec![tenant]);
            }
        }
    }
    groups
}

struct Round<'a> {
    shared: &'a Shared,
    /// The number up to which the log's records are in memory.
    up_to: u64,
    report: FlushReport,
    /// Tenants that wait, failed or were left, each with all of its batches that are in no file.
    not_stored: BTreeMap<TenantId, TenantToFlush>,
    first_error: Option<WriteError>,
}

impl Round<'_> {
    /// Fails if nothing can be committed: then it would fail for the others too.
    fn write_group(&mut self, group: Vec<TenantToFlush>, is_last: bool) -> Result<(), WriteError> {
        let mut written: Vec<FileRecord> = Vec::new();
        let mut done: Vec<(TenantId, u64)> = Vec::new();
        let mut report = FlushReport::default();
        for tenant in group {
            match write_tenant(self.shared, &tenant.tenant, &tenant.batches, &mut report) {
                Ok(records) => {
                    written.extend(records);
                    done.push((tenant.tenant, tenant.up_to));
                }
                Err(error) => self.failed(tenant, error),
            }
        }
        if done.is_empty() {
            return Ok(());
        }
        // With the last group everyone's spans are stored, if none failed.
        let log_positions = if is_last && self.not_stored.is_empty() {
            vec![stored(None, self.up_to)]
        } else {
            done.iter().map(|(tenant, up_to)| stored(Some(tenant), *up_to)).collect()
        };
        let commit = Commit { add: written.clone(), log_positions, ..Commit::default() };
        self.commit(commit)?;
        let files = written.into_iter().map(|record| self.shared.span_file(record)).collect();
        self.shared.state.flushed(done.iter().map(|(tenant, up_to)| (tenant, *up_to)), files);
        done.into_iter().for_each(|(tenant, _)| self.shared.troubles.succeeded(&Work::Flush(tenant)));
        self.report.add(&report);
        Ok(())
    }

    /// The next flush writes these, and begins at once.
    fn leave(&mut self, tenants: Vec<TenantToFlush>) {
        self.report.tenants_left += tenants.len();
        tenants.into_iter().for_each(|tenant| self.keep(tenant));
    }

    fn keep(&mut self, kept: TenantToFlush) {
        match self.not_stored.entry(kept.tenant.clone()) {
            Entry::Vacant(place) => {
                place.insert(kept);
            }
            // Later batches were left before these.
            Entry::Occupied(mut later) => {
                let later = later.get_mut();
                later.bytes += kept.bytes;
                later.batches.splice(0..0, kept.batches);
            }
        }
    }

    fn failed(&mut self, tenant: TenantToFlush, error: WriteError) {
        let work = Work::Flush(tenant.tenant.clone());
        let error = WriteError::Tenant { tenant: tenant.tenant.clone(), source: Box::new(error) };
        let room = if is_of_room(&error) { self.shared.room_in_words(tenant.bytes) } else { String::new() };
        self.shared.troubles.failed(work, format!("{}{room}", chain(&error)));
        self.first_error.get_or_insert(error);
        self.keep(tenant);
    }

    fn commit(&self, commit: Commit) -> Result<(), WriteError> {
        self.shared.commit(commit).inspect_err(|error| self.shared.troubles.failed(Work::Commit, chain(error)))?;
        self.shared.troubles.succeeded(&Work::Commit);
        Ok(())
    }

    /// Lets go of what the log need not keep any more, after the catalogue was told: the log would look as if it had lost that.
    fn let_log_go(&self) -> Result<(), WriteError> {
        let position = stored(None, self.shared.state.stored_up_to().min(self.up_to));
        let is_known = self.shared.positions.lock().reach(&position);
        let up_to = position.position;
        if is_known {
            // What could not be written down before was, or need not be.
            self.shared.troubles.succeeded(&Work::Commit);
        } else {
            self.commit(Commit { log_positions: vec![position], ..Commit::default() })?;
        }
        if let Some(log) = self.shared.started_log() {
            log.release(up_to);
        }
        Ok(())
    }

    /// Tenants that can't be stored must not make the log grow without bound.
    fn carry_if_needed(&self) {
        let Some(log) = self.shared.started_log() else { return };
        let bytes_max = self.shared.config.log_bytes_before_carrying() + self.shared.state.hot_bytes() as u64;
        if self.not_stored.is_empty() || log.disk_bytes() <= bytes_max {
            return;
        }
        for TenantToFlush { tenant, batches, .. } in self.not_stored.values() {
            let work = Work::Carry(tenant.clone());
            if self.shared.troubles.must_wait(&work) {
                continue;
            }
            match carry_forward(self.shared, log, tenant, batches, self.up_to) {
                Ok(()) => self.shared.troubles.succeeded(&work),
                Err(error) => self.shared.troubles.failed(work, chain(&error)),
            }
        }
        // What fails here has told so, and is tried again by the next flush.
        let _ = self.let_log_go();
    }

    fn finish(self) -> Result<FlushReport, WriteError> {
        let report = &self.report;
        metrics::counter!("tracehouse_store_flushed_spans_total").increment(report.spans);
        metrics::counter!("tracehouse_store_duplicate_spans_total").increment(report.duplicates);
        tracing::debug!(spans = report.spans, files = report.files, bytes = report.bytes, "flushed");
        self.first_error.map_or(Ok(self.report), Err)
    }
}
