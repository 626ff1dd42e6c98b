//! What others than the store do to its folders.

use std::fs;
use std::path::{Path, PathBuf};

use tracehouse_store::UnreadableReason;

use super::Run;
use crate::simulation::disk::parent;
use crate::simulation::expected::TENANTS;
use crate::world::tenant;

impl Run {
    fn away_path(&self, path: &Path) -> PathBuf {
        let relative = path.strip_prefix(self.folder.path()).expect("a file of the store");
        self.folder.path().join("away").join(relative)
    }

    /// Somebody moves a file out of the store's folder.
    pub(super) fn move_away(&mut self) {
        if !self.disk.has_power() {
            return;
        }
        let live: Vec<PathBuf> = (0..TENANTS)
            .flat_map(|number| self.store().snapshot(&tenant(number)).files.to_vec())
            .map(|file| self.store_dir().join(&file.record.path))
            .filter(|path| path.exists() && self.paths_of_lost_rows().all(|lost| lost != *path))
            .collect();
        if live.is_empty() {
            return;
        }
        let path = live[self.chance.below(live.len() as u64) as usize].clone();
        let away = self.away_path(&path);
        fs::create_dir_all(parent(&away)).expect("a folder can be made");
        self.disk.moved_by_hand(&path);
        fs::rename(&path, away).expect("a file can be moved");
        self.tell(&format!("{} is moved away", path.display()));
        self.outcome.moved += 1;
        self.moved.insert(path.clone());
        self.away.push(path);
    }

    /// All files are where they were, those apart that the store has given up meanwhile.
    pub(super) fn put_back(&mut self) {
        for path in std::mem::take(&mut self.away) {
            let is_known = self.catalogue.contents().files.iter().any(|file| path.ends_with(&file.path));
            if is_known {
                self.tell(&format!("{} is put back", path.display()));
                fs::create_dir_all(parent(&path)).expect("a folder can be made");
                fs::rename(self.away_path(&path), &path).expect("a file can be moved");
            }
        }
    }

    /// Somebody removes the log's folder, or some of its segments.
    pub(super) fn remove_log(&mut self) {
        let folder = self.config.log_dir.clone();
        let segments: Vec<PathBuf> = paths_in(&folder).into_iter().filter(|path| path.is_file()).collect();
        if !self.disk.has_power() || segments.is_empty() {
            return;
        }
        let removed = match self.chance.below(3) {
            0 => vec![folder.clone()],
            1 => segments,
            _ => vec![segments[self.chance.below(segments.len() as u64) as usize].clone()],
        };
        for path in removed {
            self.remove(&path);
        }
        self.has_lost_log = true;
        // Of a segment that goes on.
        self.is_news_to_come |= paths_in(&folder).is_empty();
        self.expected.log_removed();
    }

    /// Somebody removes the folder in which files are written.
    pub(super) fn remove_spool(&mut self) {
        if self.disk.has_power() {
            self.remove(&self.store_dir().join(".spool"));
        }
    }

    /// The next process begins while a tenant's folder can't be listed.
    pub(super) fn open_with_one_unlisted(&mut self, of: usize) {
        self.end_process();
        if !self.disk.has_power() || self.chance.one_in(2) {
            self.mend();
        }
        self.disk.unlist(Some(self.tenant_dir(of)));
        self.open();
        self.disk.unlist(None);
        for number in (0..TENANTS).filter(|number| *number != of) {
            let unreadable = self.store().snapshot(&tenant(number)).unreadable;
            let is_reachable = unreadable.iter().all(|file| file.reason != UnreadableReason::OutOfReach);
            assert!(is_reachable || !self.is_sound, "{}: {} is affected: {unreadable:?}", self.what(), tenant(number));
        }
    }

    fn remove(&self, path: &Path) {
        self.tell(&format!("{} is removed", path.display()));
        self.disk.moved_by_hand(path);
        // It may have been removed before.
        let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    }

    /// The process ends that has in memory what somebody removed from the log.
    pub(super) fn lose_what_was_in_removed_log(&mut self) {
        if self.has_lost_log {
            for number in 0..TENANTS {
                let snapshot = self.store().snapshot(&tenant(number));
                self.expected.process_ends(&self.what(), number, &snapshot);
            }
        }
    }

    /// What is gone of the log is told, unless nothing was written after it.
    pub(super) fn look_whether_loss_is_told(&mut self) {
        let Some(batch) = self.expected.take_lost_batch() else { return };
        let troubles = self.store().troubles();
        let is_told = troubles.iter().any(|trouble| trouble.contains("log") && trouble.contains("lost"));
        assert!(is_told, "{}: nobody is told that batch {batch} was lost: {troubles:?}", self.what());
    }
}

/// In an order of their own.
pub(super) fn paths_in(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry of it").path()).collect();
    paths.sort();
    paths
}
