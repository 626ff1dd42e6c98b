//! What the catalogue loses, as damage would make it.

use std::path::PathBuf;

use tracehouse_model::Clock;
use tracehouse_store::UnreadableReason;

use super::Run;
use crate::simulation::catalogue::Loss;
use crate::simulation::expected::TENANTS;
use crate::world::tenant;

/// A file whose row the catalogue lost.
pub(super) struct LostRow {
    pub(super) id: String,
    pub(super) of: usize,
    /// Inside the store's folder.
    pub(super) path: String,
}

impl Run {
    /// The row of a file is damaged while the store runs.
    pub(super) fn lose_row(&mut self) {
        // One that a merge replaced, though its answer is still to come, is needed no more.
        let listed = self.catalogue.contents().files;
        let is_live = |id: &str| listed.iter().any(|file| file.id == id && file.retired.is_none());
        let is_plain = |path: &str| self.store_dir().join(path).exists();
        let mut files: Vec<LostRow> = Vec::new();
        for of in 0..TENANTS {
            let live = self.store().snapshot(&tenant(of)).files;
            let live = live.iter().filter(|file| self.expected.knows_file(&file.record.id));
            let live = live.filter(|file| is_plain(&file.record.path) && is_live(&file.record.id));
            files.extend(live.map(|file| LostRow { id: file.record.id.clone(), of, path: file.record.path.clone() }));
        }
        if files.is_empty() {
            return;
        }
        let lost = files.swap_remove(self.chance.below(files.len() as u64) as usize);
        if self.catalogue.lose(&Loss::File(lost.id.clone())) {
            self.tell(&format!("the row of {} is damaged", lost.path));
            self.expected.row_lost(lost.of, &lost.id);
            self.lost_rows.push(lost);
            self.has_lost_rows = true;
        }
    }

    /// Something else is damaged before a process begins.
    pub(super) fn lose_note(&mut self) {
        let losses =
            [Loss::Note("held-back"), Loss::Note("clock"), Loss::Note("store"), Loss::Position(0), Loss::Position(1)];
        let loss = &losses[self.chance.below(losses.len() as u64) as usize];
        self.tell(&format!("{loss:?} is damaged"));
        self.end_process();
        if !self.disk.has_power() || self.chance.one_in(2) {
            self.mend();
        }
        let is_lost = self.catalogue.lose(loss);
        if is_lost {
            self.has_lost_rows = true;
            match loss {
                Loss::Note("clock") => self.time_is_lost(),
                // What has expired may stand in the log, which is read again.
                Loss::Position(_) => self.expected.may_return(),
                _ => {}
            }
        }
        // Otherwise it is mended perhaps by a start that fails.
        let is_to_be_told = is_lost && self.is_sound;
        self.open();
        if is_to_be_told {
            let troubles = self.store().troubles();
            let is_told = troubles.iter().any(|trouble| trouble.contains("the catalogue lost"));
            assert!(is_told, "{}: nobody is told: {troubles:?}", self.what());
        }
    }

    /// Nothing is old before the store has run for as long as the retention; from then on it goes by what the newest file tells.
    fn time_is_lost(&mut self) {
        let before = self.may_expire().before;
        self.nothing_expires_until = Some((self.clock.monotonic().saturating_add(self.config.retention), before));
        self.is_believed_ahead = Some(self.is_believed_ahead.unwrap_or(0).max(self.furthest_ahead));
    }

    /// What the catalogue does not know any more is named where a start meets it.
    pub(super) fn look_at_lost_rows(&self) {
        if !self.is_sound || self.disk.has_unlisted() {
            return;
        }
        for LostRow { of, path, .. } in &self.lost_rows {
            let unreadable = self.store().snapshot(&tenant(*of)).unreadable;
            let is_named = unreadable.iter().any(|file| file.path == *path && file.reason == UnreadableReason::Unknown);
            assert!(is_named, "{}: {path} is not named: {unreadable:?}", self.what());
        }
    }

    pub(super) fn paths_of_lost_rows(&self) -> impl Iterator<Item = PathBuf> {
        self.lost_rows.iter().map(|lost| self.store_dir().join(&lost.path))
    }
}
