//! Files that are part of what is stored and can't be read now: missing, set aside, or unknown to the catalogue. Answers
//! over their times are partial. None of them is condemned for it: a missing file that comes back is read again, an unknown
//! one waits for `tracehouse store repair`, and one that was set aside counts as long as retention would have kept it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tracehouse_catalogue::{Commit, DamagedRow, FileRecord, RetirementReason};
use tracehouse_model::TenantId;
use tracehouse_spanfile::NANOS_PER_HOUR;

use crate::error::WriteError;
use crate::keeper::chain;
use crate::lost::Lost;
use crate::span_file::SpanFile;
use crate::store::Shared;
use crate::survey::{Survey, UnknownFile};

/// How often missing files are looked for.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// So many files of a kind are named; of the rest the number is told.
const NAMED_MAX: usize = 20;

/// A file that an answer over its times would need, and can't have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Inside the store's folder.
    pub path: String,
    /// How many spans nobody can read now; 0 if that is not known.
    pub spans: u64,
    /// First and last start of a span inside, in nanoseconds since the Unix epoch; an hour if no more is known.
    pub start_min: i64,
    pub start_max: i64,
    /// No span inside ends later; `None`: not known.
    pub end_max: Option<i64>,
    pub reason: UnreadableReason,
}

/// Why a file can't be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnreadableReason {
    /// The catalogue lists it, and it is not in its folder.
    Missing,
    /// It is in its folder, and the catalogue does not list it.
    Unknown,
    /// It is damaged and was set aside.
    SetAside,
    /// It was out of reach, and was not compared with the other files since: spans in it may have been sent again.
    HeldBack,
    /// The folder in which the catalogue lists it can't be listed.
    OutOfReach,
}

impl fmt::Display for UnreadableReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Missing => "missing",
            Self::Unknown => "unknown to the catalogue",
            Self::SetAside => "damaged and set aside",
            Self::OutOfReach => "in a folder that can't be listed",
            Self::HeldBack => "not compared with the others yet, after it was out of reach",
        })
    }
}

/// All such files of a store.
#[derive(Debug, Default)]
pub(crate) struct Absent {
    pub(crate) missing: Vec<FileRecord>,
    /// In folders that could not be listed.
    pub(crate) out_of_reach: Vec<FileRecord>,
    /// There again, but not compared with the files that were written meanwhile: see [`crate::held_back`].
    pub(crate) held_back: Vec<FileRecord>,
    aside: Vec<FileRecord>,
    unknown: Vec<UnknownFile>,
    damaged_rows: Vec<DamagedRow>,
    /// What else the catalogue does not know any more.
    pub(crate) lost: Lost,
    /// When missing files are looked for again, on the monotonic clock.
    look_at: Duration,
}

impl Absent {
    /// Takes these files out of a survey.
    pub(crate) fn of(survey: &mut Survey) -> Self {
        Self {
            missing: std::mem::take(&mut survey.missing),
            out_of_reach: std::mem::take(&mut survey.out_of_reach),
            held_back: Vec::new(),
            aside: std::mem::take(&mut survey.aside),
            unknown: std::mem::take(&mut survey.unknown),
            damaged_rows: std::mem::take(&mut survey.damaged_rows),
            lost: Lost::default(),
            look_at: Duration::ZERO,
        }
    }

    /// Missing files are not looked for at once.
    pub(crate) fn look_after(&mut self, now: Duration) {
        self.look_at = now + LOOK_INTERVAL;
    }

    pub(crate) fn by_tenant(&self) -> BTreeMap<TenantId, Vec<Unreadable>> {
        let mut tenants: BTreeMap<TenantId, Vec<Unreadable>> = BTreeMap::new();
        let listed = self.missing.iter().map(|record| (record, UnreadableReason::Missing));
        let aside = self.aside.iter().map(|record| (record, UnreadableReason::SetAside));
        let held_back = self.held_back.iter().map(|record| (record, UnreadableReason::HeldBack));
        let out_of_reach = self.out_of_reach.iter().map(|record| (record, UnreadableReason::OutOfReach));
        for (record, reason) in listed.chain(aside).chain(held_back).chain(out_of_reach) {
            let (path, spans) = (record.path.clone(), record.spans);
            let (start_min, start_max, end_max) = (record.start_min, record.start_max, record.end_max);
            let file = Unreadable { path, spans, start_min, start_max, end_max, reason };
            tenants.entry(record.tenant.clone()).or_default().push(file);
        }
        for file in &self.unknown {
            // One that lies where no file of ours does is named, but nobody asks for its times.
            let Some((tenant, hour)) = &file.place else { continue };
            let start_min = hour * NANOS_PER_HOUR;
            tenants.entry(tenant.clone()).or_default().push(Unreadable {
                path: file.path.clone(),
                spans: 0,
                start_min,
                start_max: start_min + NANOS_PER_HOUR - 1,
                end_max: None,
                reason: UnreadableReason::Unknown,
            });
        }
        tenants
    }

    pub(crate) fn report_gauges(&self) {
        metrics::gauge!("tracehouse_store_missing_files").set(self.missing.len() as f64);
        metrics::gauge!("tracehouse_store_out_of_reach_files").set(self.out_of_reach.len() as f64);
        metrics::gauge!("tracehouse_store_held_back_files").set(self.held_back.len() as f64);
        metrics::gauge!("tracehouse_store_set_aside_files").set(self.aside.len() as f64);
        metrics::gauge!("tracehouse_store_unknown_files").set(self.unknown.len() as f64);
        metrics::gauge!("tracehouse_catalogue_damaged_rows").set((self.damaged_rows.len() + self.lost.count()) as f64);
    }

    /// Names the files in the log, as every start does.
    pub(crate) fn tell(&self) {
        tell_missing(self.missing.iter());
        for file in self.unknown.iter().take(NAMED_MAX) {
            tracing::error!(path = file.path, "the catalogue does not know a stored file: its spans are not shown");
        }
        for record in self.aside.iter().take(NAMED_MAX) {
            tracing::warn!(
                path = record.path,
                spans = record.spans,
                "a stored file is damaged and set aside: its spans are not shown"
            );
        }
        for row in self.damaged_rows.iter().take(NAMED_MAX) {
            let (id, path) = (row.id.as_deref(), row.path.as_deref());
            tracing::error!(id, path, reason = row.reason, "a row of the catalogue is damaged: its file is not shown");
        }
        self.troubles().iter().for_each(|trouble| tracing::error!("{trouble}"));
    }

    /// What is wrong, and what to do about it.
    pub(crate) fn troubles(&self) -> Vec<String> {
        const REPAIR: &str = "stop the server and run `tracehouse store repair`";
        let mut troubles = Vec::new();
        if !self.missing.is_empty() {
            troubles.push(format!(
                "{} that the catalogue lists {} missing; put back what was there, or {REPAIR} --forget-missing",
                files(self.missing.len()),
                are(self.missing.len())
            ));
        }
        if !self.out_of_reach.is_empty() {
            let count = self.out_of_reach.len();
            let lie = if count == 1 { "lies" } else { "lie" };
            troubles.push(format!(
                "{} {lie} in folders that can't be listed, which the server's log names; let the server's user own and read \
                 them",
                files(count)
            ));
        }
        if !self.unknown.is_empty() {
            troubles.push(format!(
                "{} {} unknown to the catalogue, which may have been lost or restored from an older copy; to have \
                 the spans again, {REPAIR}",
                files(self.unknown.len()),
                are(self.unknown.len())
            ));
        }
        if !self.damaged_rows.is_empty() {
            let count = self.damaged_rows.len();
            let rows = if count == 1 { "row" } else { "rows" };
            troubles.push(format!("{count} {rows} of the catalogue {} damaged; {REPAIR}", are(count)));
        }
        troubles.extend(self.lost.findings().into_iter().map(|finding| format!("{finding}; {REPAIR}")));
        if !self.aside.is_empty() {
            let count = self.aside.len();
            troubles.push(format!("{} {} damaged and set aside; the spans are not shown", files(count), are(count)));
        }
        troubles
    }
}

/// Names missing files in the log.
fn tell_missing<'a>(records: impl Iterator<Item = &'a FileRecord>) {
    for record in records.take(NAMED_MAX) {
        tracing::error!(
            path = record.path,
            spans = record.spans,
            "a stored file is missing, or something else is in its place; it is read again if it comes back"
        );
    }
}

fn are(count: usize) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

fn files(count: usize) -> String {
    if count == 1 { "1 stored file".to_owned() } else { format!("{count} stored files") }
}

impl Shared {
    /// Puts files that can't be read in the place of those known so far.
    pub(crate) fn set_absent(&self, absent: Absent) {
        let mut known = self.absent.lock();
        *known = absent;
        self.publish_absent(&known);
    }

    pub(crate) fn publish_absent(&self, absent: &Absent) {
        absent.report_gauges();
        self.state.set_unreadable(absent.by_tenant());
    }

    /// A file was set aside while the store runs.
    pub(crate) fn add_set_aside(&self, record: FileRecord) {
        let mut absent = self.absent.lock();
        absent.held_back.retain(|held_back| held_back.id != record.id);
        absent.aside.push(record);
        self.publish_absent(&absent);
    }

    /// Files that were not there when they were to be read count as missing from now on, if they are still not there.
    /// Called again and again by the keeper.
    pub(crate) fn look_for_files_not_found(&self) {
        let not_found = self.access.take_not_found();
        if not_found.is_empty() {
            return;
        }
        let is_gone = |file: &Arc<SpanFile>| !self.objects.is_there(&file.record.path);
        let gone: Vec<Arc<SpanFile>> = not_found.into_iter().filter(is_gone).collect();
        // The catalogue is told first, so that they are compared when they come back, also after a restart.
        match self.hold_back_untold(&gone) {
            Ok(gone) => tell_missing(gone.iter()),
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(error, "a stored file is missing, which could not be noted; it is tried again");
                return;
            }
        }
        for file in &gone {
            file.let_go();
            self.is_missing_again(&file.record.id);
        }
    }

    /// Looks whether missing files came back: they are compared with the others before they count. Called again and again by
    /// the keeper.
    pub(crate) fn look_for_missing_files(&self) {
        let mut absent = self.absent.lock();
        let now = self.clock.monotonic();
        if (absent.missing.is_empty() && absent.out_of_reach.is_empty()) || now < absent.look_at {
            return;
        }
        absent.look_after(now);
        let is_there = |record: &mut FileRecord| self.objects.is_there(&record.path);
        let mut back: Vec<FileRecord> = absent.missing.extract_if(.., is_there).collect();
        back.extend(absent.out_of_reach.extract_if(.., is_there));
        if back.is_empty() {
            return;
        }
        for record in &back {
            tracing::info!(path = record.path, "a stored file that was missing is there again");
        }
        absent.held_back.extend(back);
        self.publish_absent(&absent);
        self.merger_wanted.ring();
    }

    /// Lets go of files that retention would not have kept until now. Unknown ones stay on the disk: nothing here deletes
    /// what the catalogue does not know.
    pub(crate) fn expire_absent(&self, oldest_kept: i64) -> Result<(), WriteError> {
        let mut absent = self.absent.lock();
        let is_old = |record: &FileRecord| record.start_max < oldest_kept;
        let is_old_place = |file: &UnknownFile| {
            file.place.as_ref().is_some_and(|(_, hour)| (hour + 1) * NANOS_PER_HOUR <= oldest_kept)
        };
        let listed = absent.missing.iter().chain(&absent.held_back).chain(&absent.out_of_reach);
        let missing: Vec<FileRecord> = listed.filter(|record| is_old(record)).cloned().collect();
        let aside: Vec<FileRecord> = absent.aside.iter().filter(|record| is_old(record)).cloned().collect();
        let unknown = absent.unknown.len();
        absent.unknown.retain(|file| !is_old_place(file));
        if missing.is_empty() && aside.is_empty() && absent.unknown.len() == unknown {
            return Ok(());
        }
        if !missing.is_empty() {
            let commit = Commit {
                retire: missing.iter().map(|record| (record.id.clone(), RetirementReason::Expired)).collect(),
                retired_at: self.clock.now_unix_nanos(),
                ..Commit::default()
            };
            self.runtime.block_on(self.catalogue.commit(commit))?;
        }
        absent.missing.retain(|record| !is_old(record));
        absent.held_back.retain(|record| !is_old(record));
        absent.out_of_reach.retain(|record| !is_old(record));
        absent.aside.retain(|record| !is_old(record));
        for record in missing.into_iter().chain(aside) {
            self.schedule_deletion(record.id, record.path);
        }
        self.publish_absent(&absent);
        Ok(())
    }
}
