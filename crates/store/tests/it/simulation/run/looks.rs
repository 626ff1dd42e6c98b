//! What is looked at after each event, and in the end.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracehouse_catalogue::RetirementReason;
use tracehouse_model::Clock;
use tracehouse_store::{StoreStep, UnreadableReason};

use super::Run;
use crate::simulation::expected::{MayExpire, TENANTS};
use crate::world::tenant;

impl Run {
    pub(super) fn may_expire(&mut self) -> MayExpire {
        let retention = i64::try_from(self.config.retention.as_nanos()).unwrap_or(i64::MAX);
        let for_room = self.config.disk_budget_bytes.is_some();
        if for_room {
            for file in self.catalogue.contents().files {
                let has_expired = file.retired.is_some_and(|retired| retired.reason == RetirementReason::Expired);
                if has_expired && let Some(of) = (0..TENANTS).find(|number| tenant(*number) == file.tenant) {
                    self.expected.removed(of, &file.id);
                }
            }
        }
        // A store whose first clock was wrong can't tell which of the times that it was told is right.
        let latest = self.now() + self.is_believed_ahead.unwrap_or(0);
        let before = match self.nothing_expires_until {
            Some((until, before)) if self.clock.monotonic() < until => before,
            _ => latest.saturating_sub(retention),
        };
        MayExpire { before, for_room }
    }

    pub(super) fn look(&mut self) {
        let what = self.what();
        let may_expire = self.may_expire();
        self.expected.log_is_read_again &= !self.catalogue.contents().damaged_notes.is_empty();
        let mut hot_bytes = 0;
        for number in 0..TENANTS {
            let snapshot = self.store().snapshot(&tenant(number));
            hot_bytes += snapshot.hot.iter().map(|batch| batch.spans.memory_bytes()).sum::<usize>();
            self.expected.check(&what, number, &snapshot, &may_expire, false);
        }
        // One batch of each may go beyond.
        let hot_bytes_max = 2 * self.config.hot_bytes_max + TENANTS * self.batch_bytes_max;
        assert!(hot_bytes <= hot_bytes_max, "{what}: {hot_bytes} bytes in memory");
        self.look_at_readers();
    }

    /// All is well again, and time goes on until nothing is left to do.
    pub(super) fn end(&mut self) {
        let stays_open = self.chance.one_in(2);
        self.say(if stays_open { "the end of an open store" } else { "the end" });
        // What waits is answered by the disk as it is.
        self.step(StoreStep::Log);
        let stays_open = stays_open && self.disk.has_power() && self.knows_all_files();
        if !stays_open {
            self.kill();
            self.appending.clear();
            self.readers.clear();
            self.store = None;
        }
        self.mend();
        self.set_wall_clock(0);
        self.put_back();
        if !stays_open {
            self.open();
        }
        for _ in 0..6 {
            self.clock.advance(Duration::from_secs(400));
            for step in [StoreStep::Log, StoreStep::Flush, StoreStep::Merge, StoreStep::Keep] {
                self.step(step);
                self.look();
            }
        }
        self.flush();
        self.look();
        self.merge();
        self.look();
        for _ in 0..3 {
            self.clock.advance(Duration::from_secs(400));
            self.step(StoreStep::Keep);
            self.look();
        }
        self.look_at_all();
    }

    /// A start that can't list all folders can't tell a file that was never committed from one that the catalogue forgot: the next can.
    fn knows_all_files(&self) -> bool {
        let unreadable = |number| self.store().snapshot(&tenant(number)).unreadable;
        (0..TENANTS).all(|number| unreadable(number).iter().all(|file| file.reason != UnreadableReason::Unknown))
    }

    /// In the end.
    fn look_at_all(&mut self) {
        let what = self.what();
        let may_expire = self.may_expire();
        self.expected.forget_files();
        let mut listed: BTreeSet<PathBuf> = BTreeSet::new();
        let mut bytes = 0;
        for number in 0..TENANTS {
            let snapshot = self.store().snapshot(&tenant(number));
            assert!(snapshot.hot.is_empty(), "{what}: all is in files");
            self.expected.check(&what, number, &snapshot, &may_expire, true);
            listed.extend(snapshot.files.iter().map(|file| self.store_dir().join(&file.record.path)));
            bytes += snapshot.files.iter().map(|file| file.record.bytes).sum::<u64>();
        }
        if let Some(budget) = self.config.disk_budget_bytes {
            assert!(bytes <= budget, "{what}: {bytes} bytes in files, the budget is {budget}");
        }
        // What has just expired is there for those who read it.
        let files = self.catalogue.contents().files;
        let retired = files.iter().filter(|file| file.retired.is_some());
        listed.extend(retired.map(|file| self.store_dir().join(format!("{}.retired", file.path))));
        listed.extend(self.paths_of_lost_rows());
        let found = files_below(&self.store_dir());
        if self.has_met_faults || !self.lost_rows.is_empty() {
            // Names that could not be given, and files that could not be removed, are left to the next start.
            let own_names = |paths: &BTreeSet<PathBuf>| paths.iter().map(|path| own_name(path)).collect();
            let (listed, found): (BTreeSet<PathBuf>, BTreeSet<PathBuf>) = (own_names(&listed), own_names(&found));
            assert!(listed.is_subset(&found), "{what}: of {listed:?} some are not in the folder: {found:?}");
        } else {
            assert_eq!(found, listed, "{what}: what is in the folder");
        }
    }

    /// After a flush of everything: whose spans can't be written keeps nobody else's in memory.
    pub(super) fn look_who_is_in_memory(&self) {
        if !self.is_sound || !self.disk.has_power() {
            return;
        }
        for number in (0..TENANTS).filter(|number| self.refused != Some(*number)) {
            let hot = self.store().snapshot(&tenant(number)).hot;
            assert!(hot.is_empty(), "{}: spans of {} stay in memory for another's sake", self.what(), tenant(number));
        }
    }
}

/// The path of a file without what the store puts behind its name.
fn own_name(path: &Path) -> PathBuf {
    let is_put = path.extension().is_some_and(|extension| extension == "new" || extension == "retired");
    if is_put { path.with_extension("") } else { path.to_owned() }
}

/// Files of the store's folder, apart from the one that names the store.
fn files_below(root: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the store") {
            let path = entry.expect("an entry of it").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name != "STORE_ID") {
                found.insert(path);
            }
        }
    }
    found
}
