//! What others than the store do to its folders.

use std::fs;
use std::path::{Path, PathBuf};

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
            .filter(|path| path.exists())
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
}
