//! Those who go on reading what they saw once.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tracehouse_model::{Clock, Span};
use tracehouse_store::{Snapshot, SpanFile};

use super::Run;
use crate::simulation::expected::{TENANTS, read_file};
use crate::world::{hot_spans, tenant};

/// So many at a time.
const READERS_MAX: usize = 4;

/// Somebody who holds on to what a tenant's answers were made of at one moment.
pub(super) struct Reader {
    snapshot: Snapshot,
    /// What was in memory.
    hot: Vec<Span>,
    /// What was in files, those apart that could not be read.
    files: Vec<(Arc<SpanFile>, Vec<Span>)>,
    /// On the monotonic clock: nothing is deleted before that was not when it began.
    until: Duration,
    looks_left: u64,
}

impl Run {
    pub(super) fn begin_to_read(&mut self) {
        if self.readers.len() == READERS_MAX {
            return;
        }
        let of = self.chance.below(TENANTS as u64) as usize;
        let snapshot = self.store().snapshot(&tenant(of));
        let read = |file: &Arc<SpanFile>| Some((file.clone(), read_file(file).ok()?));
        let files: Vec<_> = snapshot.files.iter().filter_map(read).collect();
        self.tell(&format!("of {}, {} files", tenant(of), files.len()));
        let looks_left = 1 + self.chance.below(16);
        let until = self.clock.monotonic() + self.config.delete_grace;
        self.readers.push(Reader { hot: hot_spans(&snapshot), snapshot, files, until, looks_left });
    }

    /// Whatever somebody holds on to is there, and says what it did, until it may be deleted.
    pub(super) fn look_at_readers(&mut self) {
        let now = self.clock.monotonic();
        let mut readers = std::mem::take(&mut self.readers);
        readers.retain_mut(|reader| {
            reader.looks_left -= 1;
            if now >= reader.until {
                return false;
            }
            if reader.looks_left == 0 {
                self.look_at_last(reader);
            } else {
                reader.files.iter().for_each(|(file, _)| self.look_whether_there(file));
            }
            reader.looks_left > 0
        });
        self.readers = readers;
    }

    fn look_whether_there(&self, file: &SpanFile) {
        let path = self.store_dir().join(&file.record.path);
        let is_there = ["", ".retired", ".new"].iter().any(|suffix| {
            let mut name = path.clone().into_os_string();
            name.push(suffix);
            PathBuf::from(name).exists()
        });
        assert!(
            is_there || self.moved.contains(&path),
            "{}: {} is gone, though somebody reads it",
            self.what(),
            file.record.path
        );
    }

    fn look_at_last(&mut self, reader: &Reader) {
        let what = self.what();
        assert!(hot_spans(&reader.snapshot) == reader.hot, "{what}: what is in memory changed for a reader");
        for (file, spans) in &reader.files {
            self.look_whether_there(file);
            if self.moved.contains(&self.store_dir().join(&file.record.path)) {
                continue;
            }
            let read = read_file(file).unwrap_or_else(|error| panic!("{what}: a reader finds no file: {error:?}"));
            assert!(read == *spans, "{what}: {} changed for a reader", file.record.path);
            self.outcome.read_on += 1;
        }
    }
}
