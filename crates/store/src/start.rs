//! How a store starts: whose folder is it, which files are there, what does the log hold.
//!
//! A start opens no file and condemns none. It compares the names in the folder with the catalogue's list, refuses to go on
//! when they don't belong together, and otherwise names what is missing or unknown, at every start. Nothing is changed
//! before it is clear that catalogue and folder belong together.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object_store::ObjectStore;
use tracehouse_catalogue::{Catalogue, CatalogueError, Commit, KnownPositions};
use tracehouse_disk::Disk;
use tracehouse_model::{Clock, Randomness, TenantId};

use crate::clock::StoreClock;
use crate::config::StoreConfig;
use crate::error::{OpenError, chain};
use crate::folder::{self, Claim};
use crate::held_back::HeldBack;
use crate::log_losses::Losses;
use crate::lost::Lost;
use crate::notes::{CLOCK_META, STORE_META};
use crate::object_stores::ObjectStores;
use crate::objects::{Objects, SPOOL};
use crate::shared::Shared;
use crate::survey::{self, Survey};
use tracehouse_log::{LOG_META, LogMark, Positions};

/// So many missing files, and tenants whose files are missing, are named when a start is refused.
const NAMED_MAX: usize = 5;

/// What a store is made of.
pub(crate) struct Parts {
    pub(crate) config: StoreConfig,
    pub(crate) objects: Arc<dyn ObjectStore>,
    pub(crate) local_root: Option<PathBuf>,
    pub(crate) catalogue: Arc<dyn Catalogue>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) randomness: Arc<dyn Randomness>,
}

/// Starts all but the threads. Blocks on the disk and on the runtime.
pub(crate) fn start(parts: Parts, runtime: tokio::runtime::Handle) -> Result<Arc<Shared>, OpenError> {
    let Parts { config, objects, local_root, catalogue, clock, randomness } = parts;
    let contents = runtime.block_on(catalogue.load())?;
    let claim = local_root.as_ref().map_or(Ok(Claim::Settled), |root| folder::claim(root, &contents))?;
    let positions = Positions::new(&contents.log_positions, contents.are_positions_lost());
    let known_positions = KnownPositions::of(&contents.log_positions);
    let mut lost = Lost::of(&contents);
    let mark = contents.meta.get(LOG_META).and_then(|mark| LogMark::parse(mark));
    let losses = Losses::of(&contents);
    let held_back = HeldBack::of(&contents);
    let store_clock = StoreClock::of_catalogue(clock.clone(), config.retention, &contents);
    let listing = local_root.as_deref().map(|root| survey::list(&config.disk, root)).transpose()?;
    let mut survey = Survey::new(contents, local_root.as_deref().unwrap_or(Path::new("")), listing);
    if survey.live.is_empty() && !survey.out_of_reach.is_empty() {
        // Nothing that is stored can be read.
        return Err(survey.unlisted.swap_remove(0).into());
    }
    refuse_if_many_are_missing(&survey, local_root.as_deref())?;

    // Catalogue and folder belong together: from here on things are changed.
    let mut meta: Vec<_> = lost.to_remember().into_iter().collect();
    if let Some(root) = &local_root {
        meta.extend(settle(&config.disk, root, claim, &*randomness)?);
    }
    // What is lost is noted before anything takes its place.
    runtime.block_on(catalogue.commit(Commit { meta, ..Commit::default() }))?;
    lost.is_remembered();
    // Before anything is made in it, as the spool is where files are not local.
    config.disk.settle_folder(&config.log_dir)?;
    config.disk.make_private(&config.log_dir)?;
    let spool = local_root.as_ref().map_or_else(|| config.log_dir.join("spool"), |root| root.join(SPOOL));
    let local = Objects::new(objects, local_root, spool, runtime.clone(), config.disk.clone())?;
    let objects = ObjectStores::new(local);
    let shared = Shared::new(config, Arc::new(objects), catalogue, clock, store_clock, randomness, runtime);
    *shared.positions.lock() = known_positions;
    shared.take_in(&mut survey, &held_back, lost)?;
    shared.remember_clock()?;
    shared.recover_log(&positions, mark, losses)?;
    // Before anything is acknowledged.
    shared.remember_clock()?;
    Ok(Arc::new(shared))
}

fn refuse_if_many_are_missing(survey: &Survey, root: Option<&Path>) -> Result<(), OpenError> {
    let Some(root) = root.filter(|_| survey.too_many_missing()) else { return Ok(()) };
    let head: Vec<&str> = survey.missing.iter().take(NAMED_MAX).map(|record| record.path.as_str()).collect();
    Err(OpenError::FilesMissing {
        path: root.display().to_string(),
        missing: survey.missing.len(),
        listed: survey.missing.len() + survey.live.len() + survey.out_of_reach.len(),
        tenants: missing_by_tenant(survey),
        head: head.join(", "),
    })
}

/// Whose files are missing, those who lack most first: often the disk or the folder of one tenant is all that is away.
fn missing_by_tenant(survey: &Survey) -> String {
    let mut tenants: BTreeMap<&TenantId, (usize, usize)> = BTreeMap::new();
    for record in &survey.missing {
        tenants.entry(&record.tenant).or_default().0 += 1;
    }
    for record in survey.live.iter().chain(&survey.out_of_reach) {
        tenants.entry(&record.tenant).or_default().1 += 1;
    }
    let mut tenants: Vec<_> = tenants.into_iter().filter(|(_, (missing, _))| *missing > 0).collect();
    tenants.sort_by_key(|(_, (missing, _))| Reverse(*missing));
    let named = tenants.iter().take(NAMED_MAX).map(|(tenant, (missing, there))| {
        let listed = missing + there;
        format!("{missing} of {listed} of tenant {tenant}")
    });
    let mut named: Vec<String> = named.collect();
    if tenants.len() > NAMED_MAX {
        named.push(format!("and those of {} other tenants", tenants.len() - NAMED_MAX));
    }
    named.join(", ")
}

/// Writes the store's name into the folder if it is not there; returns what the catalogue has to remember.
fn settle(
    disk: &Disk,
    root: &Path,
    claim: Claim,
    randomness: &dyn Randomness,
) -> Result<Vec<(String, String)>, OpenError> {
    let id = match claim {
        Claim::Settled => return Ok(Vec::new()),
        Claim::Remember(id) => id,
        Claim::Mark(known) => {
            let id = known.unwrap_or_else(|| folder::new_store_id(randomness));
            folder::mark(disk, root, &id)?;
            id
        }
    };
    Ok(vec![(STORE_META.to_owned(), id)])
}

impl Shared {
    /// Makes the files of a survey visible, or the reason why they are not. `held_back`: the files that are to be compared
    /// first.
    fn take_in(&self, survey: &mut Survey, held_back: &HeldBack, lost: Lost) -> Result<(), OpenError> {
        for path in &survey.unfinished {
            let deleted = self.objects.local().delete(path);
            deleted.map_err(|source| OpenError::Unfinished { path: path.clone(), source: Box::new(source) })?;
        }
        if !survey.unfinished.is_empty() {
            let files = survey.unfinished.len();
            tracing::info!(files, "removed files that a crash left before they were committed");
        }
        for (path, suffix) in &survey.renamed {
            if let Err(error) = self.objects.local().reveal(path, suffix) {
                tracing::warn!(%error, path, "giving a stored file its name failed; the next start tries again");
            }
        }
        let retired = std::mem::take(&mut survey.retired);
        for record in retired {
            // No query of an earlier run is left, but another process may read the folder.
            self.objects.hide(&record);
            self.schedule_deletion(record);
        }
        for error in &survey.unlisted {
            tracing::error!(error = chain(error), "the files in a folder of the store are not shown");
        }
        let mut absent = self.hold_back_at_start(survey, held_back)?;
        absent.lost = lost;
        let live = std::mem::take(&mut survey.live).into_iter().map(|record| self.span_file(record)).collect();
        self.state.change_files(live, &[]);
        self.state.set_other_tables(&absent.of_other_tables.listed);
        absent.tell();
        if !absent.held_back.is_empty() {
            self.merger_wanted.ring();
        }
        self.set_absent(absent);
        Ok(())
    }

    /// Lets the catalogue remember what time it is, and how far the log has come.
    pub(crate) fn remember_clock(&self) -> Result<(), CatalogueError> {
        self.remember(false)
    }

    /// The same, when the operator has confirmed the clock: should the catalogue have lost the time, it is known again.
    pub(crate) fn remember_trusted_clock(&self) -> Result<(), CatalogueError> {
        let mut lost = self.absent.lock().lost.clone();
        lost.find_clock();
        let mut meta = vec![(CLOCK_META.to_owned(), self.store_clock.to_remember())];
        meta.extend(lost.to_remember());
        self.runtime.block_on(self.catalogue.commit(Commit { meta, ..Commit::default() }))?;
        lost.is_remembered();
        self.absent.lock().lost = lost;
        Ok(())
    }

    /// The same, when the log has ended.
    pub(crate) fn remember_end(&self) -> Result<(), CatalogueError> {
        self.remember(true)
    }

    fn remember(&self, is_last: bool) -> Result<(), CatalogueError> {
        if self.another_writes.get().is_some() {
            // What is remembered there is the other's.
            return Ok(());
        }
        let mut meta = vec![(CLOCK_META.to_owned(), self.store_clock.to_remember())];
        if let Some(log) = self.started_log() {
            let mark = LogMark { reached: self.state.last_sequence(), bytes: log.disk_bytes(), is_last };
            meta.push((LOG_META.to_owned(), mark.to_string()));
        }
        self.runtime.block_on(self.catalogue.commit(Commit { meta, ..Commit::default() }))
    }
}
