//! What the catalogue lost of what it remembers beside its files: it is found out again, or the safe side is written down. And
//! what the log lost, which the catalogue remembers until a repair.

use tracehouse_catalogue::{Commit, KnownPositions, Table};

use crate::absent::Absent;
use crate::check::findings_of_log;
use crate::clock::StoreClock;
use crate::config::StoreConfig;
use crate::error::OpenError;
use crate::held_back::to_remember;
use crate::log_losses::{LOSSES_META, Losses};
use crate::lost::{Lost, is_lost};
use crate::notes::{CLOCK_META, HELD_BACK_META, STORE_META};
use crate::repair_report::Action;
use crate::saved_queries;
use tracehouse_log::{LOG_META, LogFinding, LogMark, Positions, all_adopted, inspect, stored};

use super::Repair;

impl Repair<'_> {
    /// Comes last: by then files were compared, and the folder has its name.
    pub(super) async fn write_down_what_is_lost(&mut self) -> Result<(), OpenError> {
        if self.lost.count() == 0 {
            return Ok(());
        }
        // Some of it was written meanwhile, perhaps into the row that was damaged.
        self.contents = self.catalogue.load().await?;
        if !self.options.dry_run && is_lost(&self.contents, STORE_META) {
            let why = "the store's name is lost, and the folder is not known to be the right one";
            self.report.left("the catalogue", why.to_owned());
            return Ok(());
        }
        let (positions, mark, log) = self.inspect_log()?;
        let reached = log.told.max(positions.highest()).max(mark.map_or(0, |mark| mark.reached));
        let mut commit = Commit { meta: self.assumed(&log, reached), ..Commit::default() };
        commit.meta.push(Lost::to_forget());
        let rows = self.contents.damaged_notes.iter().filter_map(|note| Some((note.kind, note.row?)));
        commit.drop_notes = rows.collect();
        if self.contents.are_positions_lost() {
            // A log begins with what was not stored; all that it repeats counts, as nobody knows better.
            let first = log.first.filter(|_| positions.all() == 0);
            commit.log_positions.extend(first.map(|first| stored(None, first.saturating_sub(1))));
            commit.log_positions.push(all_adopted(reached));
        }
        commit.based_on = KnownPositions::of(&self.contents.log_positions).basis_of(&commit.log_positions);
        self.commit(commit).await?;
        let findings = self.lost.findings(None).into_iter();
        self.report.actions.extend(findings.map(|finding| Action::Remember { finding }));
        Ok(())
    }

    /// The operator is told of all that the log lost, and knows of it from now on. Comes before the catalogue forgets that it
    /// lost something itself.
    pub(super) async fn acknowledge_losses_of_the_log(&mut self) -> Result<(), OpenError> {
        self.contents = self.catalogue.load().await?;
        let (_, _, mut log) = self.inspect_log()?;
        // What can't be read now may be there.
        if log.segments.iter().any(|segment| segment.fault.is_some()) {
            log = LogFinding::default();
        }
        let mut losses = Losses::of(&self.contents);
        let findings = losses.acknowledge(&log, self.clock.now_unix_nanos());
        if findings.is_empty() {
            return Ok(());
        }
        self.commit(Commit { meta: vec![losses.to_remember()], ..Commit::default() }).await?;
        self.report.actions.extend(findings.into_iter().map(|finding| Action::Acknowledge { finding }));
        Ok(())
    }

    /// What a check would say of the log again: nothing mends it.
    pub(super) async fn name_what_is_left_of_the_log(&mut self) -> Result<(), OpenError> {
        self.contents = self.catalogue.load().await?;
        for finding in findings_of_log(self.paths, &self.contents)? {
            self.report.left("write-ahead log", finding);
        }
        Ok(())
    }

    fn inspect_log(&self) -> Result<(Positions, Option<LogMark>, LogFinding), OpenError> {
        let positions = Positions::new(&self.contents.log_positions, self.contents.are_positions_lost());
        let mark = self.contents.meta.get(LOG_META).and_then(|mark| LogMark::parse(mark));
        let log = inspect(&self.paths.log, &positions, mark)
            .map_err(|source| OpenError::Folder { path: self.paths.log.display().to_string(), source })?;
        Ok((positions, mark, log))
    }

    /// What takes the place of what is lost still.
    fn assumed(&self, log: &LogFinding, reached: u64) -> Vec<(String, String)> {
        let mut meta = Vec::new();
        if is_lost(&self.contents, CLOCK_META) {
            let retention = StoreConfig::default().retention;
            let clock = StoreClock::of_catalogue(self.clock.clone(), retention, &self.contents);
            meta.push((CLOCK_META.to_owned(), clock.to_remember()));
        }
        if is_lost(&self.contents, LOG_META) {
            let mark = LogMark { reached, bytes: log.bytes, is_last: true };
            meta.push((LOG_META.to_owned(), mark.to_string()));
        }
        if is_lost(&self.contents, LOSSES_META) {
            meta.push(Losses::default().to_remember());
        }
        if is_lost(&self.contents, HELD_BACK_META) {
            // Nothing is there to be compared; what is missing is when it comes back.
            let live =
                self.contents.files.iter().filter(|record| record.retired.is_none() && record.table == Table::SPANS);
            let mut absent = Absent::default();
            absent.missing.extend(live.cloned());
            meta.push(to_remember(&absent, None));
        }
        meta.extend(saved_queries::lost(&self.contents));
        meta
    }
}
