//! Files that are part of what is stored and can't be read now: missing, set aside, or unknown to the catalogue. Answers
//! over their times are partial. None of them is condemned for it: a missing file that comes back is read again, an unknown
//! one waits for `tracehouse store repair`, and one that was set aside counts as long as retention would have kept it.

use std::sync::Arc;

use tracehouse_catalogue::{Commit, FileRecord, RetirementReason};
use tracehouse_spanfile::NANOS_PER_HOUR;

use crate::absent::{Absent, tell_missing};
use crate::error::{WriteError, chain};
use crate::not_live::not_live;
use crate::shared::Shared;
use crate::span_file::SpanFile;
use crate::survey::UnknownFile;

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
        let is_gone = |file: &Arc<SpanFile>| !self.objects.is_there(&file.record);
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
        let is_there = |record: &mut FileRecord| self.objects.is_there(record);
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
        let known = self.retire_absent(missing)?;
        absent.missing.retain(|record| !is_old(record));
        absent.held_back.retain(|record| !is_old(record));
        absent.out_of_reach.retain(|record| !is_old(record));
        absent.aside.retain(|record| !is_old(record));
        for record in known.into_iter().chain(aside) {
            self.schedule_deletion(record);
        }
        self.publish_absent(&absent);
        Ok(())
    }

    /// Tells the catalogue that files which can't be read have expired. One that it does not take for live must not keep the others: it
    /// is left out of those that this returns, and nothing deletes it.
    fn retire_absent(&self, mut expired: Vec<FileRecord>) -> Result<Vec<FileRecord>, WriteError> {
        while !expired.is_empty() {
            let commit = Commit {
                retire: expired.iter().map(|record| (record.id.clone(), RetirementReason::Expired)).collect(),
                retired_at: self.clock.now_unix_nanos(),
                ..Commit::default()
            };
            let Err(error) = self.runtime.block_on(self.catalogue.commit(commit)) else { break };
            let Some(at) = not_live(&error).and_then(|id| expired.iter().position(|record| record.id == id)) else {
                return Err(error.into());
            };
            tracing::error!(path = expired[at].path, error = chain(&error), "an expired file is left as it is");
            expired.swap_remove(at);
        }
        Ok(expired)
    }
}
