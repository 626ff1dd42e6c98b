//! How a repair compares files that come back, or that the catalogue did not know, with the others of their tenant: spans
//! inside may have been stored again while nobody knew of them. It does what a running store does with a file that was out
//! of reach ([`crate::held_back`]), on a store without threads and without a log.

use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use tracehouse_catalogue::FileRecord;

use crate::clock::StoreClock;
use crate::config::StoreConfig;
use crate::error::{OpenError, chain};
use crate::held_back::{LetIn, foresee, let_in};
use crate::object_stores::ObjectStores;
use crate::objects::{Objects, SPOOL};
use crate::repair_report::Action;
use crate::shared::Shared;
use crate::survey::Survey;

use super::Repair;

impl Repair<'_> {
    /// Makes the listed files known that can be read, those apart that are to be compared.
    pub(super) fn begin_to_compare(&mut self, live: Vec<FileRecord>, survey: &Survey) -> Result<(), OpenError> {
        let root = self.paths.store.clone();
        let failed = |source| OpenError::Folder { path: root.display().to_string(), source };
        let store = LocalFileSystem::new_with_prefix(&root).map_err(|error| failed(std::io::Error::other(error)))?;
        let (store, runtime): (Arc<dyn ObjectStore>, _) = (Arc::new(store), tokio::runtime::Handle::current());
        let objects = if self.options.dry_run {
            Objects::to_read(store, root, runtime.clone(), self.foreseen.clone())
        } else {
            Objects::new(store, Some(root.clone()), root.join(SPOOL), runtime.clone(), self.disk.clone())?
        };
        let objects = ObjectStores::new(objects);
        let config = StoreConfig { log_dir: self.paths.log.clone(), ..StoreConfig::default() };
        let store_clock = StoreClock::of_catalogue(self.clock.clone(), config.retention, &self.contents);
        let (clock, randomness) = (self.clock.clone(), self.randomness.clone());
        let shared =
            Shared::new(config, Arc::new(objects), self.catalogue.clone(), clock, store_clock, randomness, runtime);
        shared.state.change_files(live.into_iter().map(|record| shared.span_file(record)).collect(), &[]);
        shared.absent.lock().missing.clone_from(&survey.missing);
        self.shared = Some(Arc::new(shared));
        Ok(())
    }

    /// What a commit that lets a file count has to remember until the file was compared.
    pub(super) fn expect(&self, record: &FileRecord) -> Vec<(String, String)> {
        self.shared.iter().map(|shared| shared.expect(record.clone())).collect()
    }

    /// Compares a file with the others. One that can't be compared now does not count before the server has done it.
    pub(super) async fn compare(&mut self, record: FileRecord) {
        let Some(shared) = self.shared.clone() else { return };
        let work = if self.options.dry_run { foresee } else { let_in };
        let path = record.path.clone();
        let compared = tokio::task::spawn_blocking(move || work(&shared, &record)).await;
        let why = match compared {
            Ok(Ok(LetIn { left_out })) => {
                let actions = left_out.into_iter().map(|(path, spans)| Action::LeaveOutCopies { path, spans });
                self.report.actions.extend(actions);
                return;
            }
            Ok(Err(error)) => chain(&error),
            Err(error) => chain(&error),
        };
        self.report
            .left(&path, format!("it could not be compared with the others, which the server tries again: {why}"));
    }
}
