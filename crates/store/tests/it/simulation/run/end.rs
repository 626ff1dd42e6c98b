//! The end of a run: all is well again, and nothing may be left.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tracehouse_catalogue::FileRecord;
use tracehouse_spanfile::hour_of;
use tracehouse_store::{SpanFile, StoreStep, UnreadableReason};

use super::Run;
use super::others::paths_in;
use crate::simulation::disk::SEGMENT_BEGIN_BYTES;
use crate::simulation::expected::{TENANTS, read_file};
use crate::world::tenant;

impl Run {
    /// All is well again, and time goes on until nothing is left to do.
    pub(super) fn end(&mut self) {
        let stays_open = self.chance.one_in(2);
        self.say(if stays_open { "the end of an open store" } else { "the end" });
        // What waits is answered by the disk as it is.
        self.step(StoreStep::Log);
        // Who looks may read files, and the power fail amid that.
        let stays_open = stays_open && self.knows_all_files() && self.disk.has_power();
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
            snapshot.files.iter().for_each(|file| self.look_at_place(file));
            listed.extend(snapshot.files.iter().map(|file| self.store_dir().join(&file.record.path)));
            bytes += snapshot.files.iter().map(|file| file.record.bytes).sum::<u64>();
        }
        if let Some(budget) = self.config.disk_budget_bytes {
            assert!(bytes <= budget, "{what}: {bytes} bytes in files, the budget is {budget}");
        }
        self.look_at_folder(listed);
        self.look_at_log();
        self.look_at_troubles();
    }

    /// A file lies in the folder of its tenant and of the hour in which all its spans begin.
    fn look_at_place(&self, file: &SpanFile) {
        let FileRecord { path, tenant, start_min, start_max, .. } = &file.record;
        let spans = read_file(file).unwrap_or_else(|error| panic!("{}: {path}: {error}", self.what()));
        let starts = || spans.iter().map(|span| span.start_unix_nanos);
        let (first, last) = (starts().min(), starts().max());
        assert_eq!((first, last), (Some(*start_min), Some(*start_max)), "{}: {path}", self.what());
        let hour = hour_of(*start_min);
        let folder = format!("/hour={:02}/", hour.rem_euclid(24));
        let is_in_place = path.starts_with(&format!("tenant={tenant}/spans/date=")) && path.contains(&folder);
        assert!(is_in_place && hour_of(*start_max) == hour, "{}: {path}: {first:?} to {last:?}", self.what());
    }

    /// `listed`: what counts.
    fn look_at_folder(&self, mut listed: BTreeSet<PathBuf>) {
        let what = self.what();
        // What has just expired is there for those who read it; or it was deleted, and a kill kept the catalogue from being told.
        let files = self.catalogue.contents().files;
        let retired = files.iter().filter(|file| file.retired.is_some());
        let retired = retired.map(|file| self.store_dir().join(format!("{}.retired", file.path)));
        listed.extend(retired.filter(|path| path.exists()));
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

    /// Of the log there is the segment that goes on, and no more.
    fn look_at_log(&self) {
        if self.store().troubles().iter().any(|trouble| trouble.contains("the log can't be written"))
            || self.has_lost_log
        {
            return;
        }
        let segments: Vec<PathBuf> = paths_in(&self.config.log_dir)
            .into_iter()
            .filter(|path| path.extension().is_some_and(|it| it == "wal"))
            .collect();
        let lengths = segments.iter().map(|path| fs::metadata(path).expect("it is there").len());
        let (bytes, told): (u64, u64) = (lengths.sum(), self.store().status(&tenant(0)).log_bytes);
        if self.has_met_faults {
            // One that could neither be begun nor be removed stays, empty, until the next start.
            let of_empty = (segments.len() as u64 - 1) * SEGMENT_BEGIN_BYTES;
            assert!(
                (told..=told + of_empty).contains(&bytes),
                "{}: {told} of {bytes} bytes, {segments:?}",
                self.what()
            );
        } else {
            assert_eq!((segments.len(), told), (1, bytes), "{}: {segments:?}", self.what());
        }
    }

    /// Nothing is wrong any more, but for what somebody has to acknowledge or confirm.
    fn look_at_troubles(&self) {
        let is_left = |trouble: &&String| {
            let is_cut_off = trouble.starts_with("at this start") || trouble.starts_with("the folder damaged");
            let is_of_clock = trouble.starts_with("the machine's clock") && self.was_clock_wrong;
            let is_of_log = trouble.contains("the log can't be written") && self.has_met_faults;
            !(is_cut_off || is_of_clock || is_of_log)
        };
        let troubles = self.store().troubles();
        let left: Vec<&String> = troubles.iter().filter(is_left).collect();
        let may_be_lost = self.has_lost_log || self.expected.has_lost_some || self.disk.has_torn_log();
        let must_be_none = !may_be_lost && !self.has_lost_rows;
        assert!(left.is_empty() || !must_be_none, "{}: {left:#?}", self.what());
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
