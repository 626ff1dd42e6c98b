//! Brings catalogue and folder of a store that does not run together again.
//!
//! Nothing is deleted from the disk: files get their names back, and rows of the catalogue come and go. Each step may be
//! interrupted, and a second run finds nothing left to do. The steps, in their order:
//!
//! 1. A catalogue that SQLite can't read is kept aside and made anew of what is left of it.
//! 2. Files that lie elsewhere than the catalogue says move back, and files that changed their names get their own again.
//!    A whole copy takes the place of a damaged file, which is kept beside it. Unknown files that name another tenant than that
//!    of the folder in which they lie move to their own tenant's.
//! 3. All listed files are read. Damage is remembered, and which files they were merged from.
//! 4. Unknown files are adopted, the newest first: one that was merged into a file that is listed by then would double its
//!    spans, so it is listed as replaced. Files set aside that can be read again are taken back.
//!    Each is compared with the others of its tenant before it counts: spans inside may have been stored again meanwhile.
//!    A second copy of a file that is in its place is kept aside.
//! 5. Missing files that were merged into a listed one leave the list; so do all others if the operator says so.
//! 6. The folder gets the store's name.
//! 7. What the log lost, and nobody can bring back, counts as acknowledged.
//! 8. What the catalogue lost of what it remembers beside its files is written down anew.
//!
//! Whatever a [check](crate::check) would find afterwards the report names as left.

mod compare;
mod forgotten;
mod imagined;
mod moves;
mod open;
mod surplus;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use tracehouse_catalogue::{
    Catalogue, CatalogueContents, Commit, DamagedRow, FileRecord, Retirement, RetirementReason, Table, Tier,
};
use tracehouse_model::{Clock, Randomness, TenantId};

use crate::check::{Progress, StorePaths};
use crate::error::OpenError;
use crate::folder::{self, Marker};
use crate::foreseen::Foreseen;
use crate::held_back::HeldBack;
use crate::lost::Lost;
use crate::notes::STORE_META;
use crate::objects::{RETIRED_SUFFIX, SPOOL, UNKNOWN_SUFFIX, id_of_path, is_file_id, time_of_id, with_suffix};
use crate::repair_report::{Action, RepairReport};
use crate::shared::Shared;
use crate::survey::{self, Survey, UnknownFile};
use crate::verify::{Effort, Facts, Readable, verify};

use moves::{Stuck, where_it_belongs};
use open::{Opened, open_catalogue};
use tracehouse_disk::{Disk, what_is_no_file, what_is_no_folder};
use tracehouse_spanfile::{FileSource, NANOS_PER_HOUR};

/// What a repair may do.
#[derive(Debug, Clone, Copy, Default)]
pub struct RepairOptions {
    /// Say what would be done, and do nothing.
    pub dry_run: bool,
    /// Files that are missing are gone for good: they leave the list, and answers are whole without them.
    pub forget_missing: bool,
}

/// Repairs a store. Blocks its thread on the disk: for a command of its own.
pub async fn repair_store(
    disk: &Disk,
    paths: &StorePaths,
    options: RepairOptions,
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
    progress: Progress<'_>,
) -> Result<RepairReport, OpenError> {
    let mut report = RepairReport::default();
    let Some(Opened { catalogue, file }) = open_catalogue(&paths.catalogue, options, &mut report).await? else {
        return Ok(report);
    };
    let mut repair = Repair {
        paths,
        options,
        catalogue,
        clock,
        randomness,
        shared: None,
        disk: disk.clone(),
        progress,
        report,
        contents: CatalogueContents::default(),
        lost: Lost::default(),
        foreseen: Arc::default(),
        stuck: BTreeMap::new(),
    };
    repair.contents = repair.catalogue.load().await?;
    repair.lost = Lost::of(&repair.contents);
    let claimed = repair.refuse_another_folder()?;
    repair.put_whole_copies_in_place()?;
    repair.move_back_misplaced_files()?;
    repair.rename_swapped_files()?;
    // A file that had another's name may have stood where one belongs.
    repair.move_back_misplaced_files()?;
    repair.move_to_their_tenants()?;
    let mut survey = repair.survey()?;
    let steps = survey.live.len() + survey.unknown.len() + survey.aside.len();
    let mut listed = repair.read_live_files(&mut survey, steps).await?;
    repair.keep_further_copies_aside(&survey.further, &listed)?;
    repair.adopt_unknown_files(&mut survey, &mut listed, steps).await?;
    repair.take_back_files_set_aside(&survey, &listed, steps).await?;
    repair.drop_missing_files(&survey, &listed).await?;
    repair.leave_alone(&survey);
    (repair.progress)(steps, steps);
    if let Some(what) = what_is_no_folder(&paths.store.join(SPOOL)) {
        repair.report.left(SPOOL, format!("{what} stands there, and no folder; move that away"));
    }
    repair.claim_folder(claimed).await?;
    repair.acknowledge_losses_of_the_log().await?;
    repair.write_down_what_is_lost().await?;
    repair.name_what_is_left_of_the_log().await?;
    if let Some(file) = file {
        file.close().await;
    }
    Ok(repair.report)
}

/// Ids of files that are part of what is stored, and of those that were merged into them.
#[derive(Default)]
struct Listed {
    /// And their paths.
    live: BTreeMap<String, String>,
    /// The id of a replaced file, and the path of the one that holds its spans now.
    replaced: BTreeMap<String, String>,
    /// Of files that were adopted, or listed as set aside, by this repair.
    adopted: BTreeSet<String>,
}

impl Listed {
    fn add(&mut self, id: &str, path: &str, facts: &Facts) {
        self.live.insert(id.to_owned(), path.to_owned());
        self.replaced.extend(facts.merged_from.iter().map(|merged| (merged.clone(), path.to_owned())));
    }
}

/// Whether the folder is known to be the right one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Claimed {
    Settled,
    /// It has no name yet.
    Open,
    /// It has a name that is damaged: the listed files lie in it.
    Misnamed,
}

struct Repair<'a> {
    paths: &'a StorePaths,
    options: RepairOptions,
    /// In a dry run an imagined one.
    catalogue: Arc<dyn Catalogue>,
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
    /// The store without threads and log, once there is something to compare.
    shared: Option<Arc<Shared>>,
    disk: Disk,
    progress: Progress<'a>,
    report: RepairReport,
    contents: CatalogueContents,
    /// Before anything was done.
    lost: Lost,
    /// What a dry run would have renamed by now.
    foreseen: Arc<Foreseen>,
    /// Misplaced files that could not be moved back, by their ids.
    stuck: BTreeMap<String, Stuck>,
}

impl Repair<'_> {
    async fn commit(&self, commit: Commit) -> Result<(), OpenError> {
        Ok(self.catalogue.commit(commit).await?)
    }

    fn survey(&self) -> Result<Survey, OpenError> {
        let root = &self.paths.store;
        let listing = survey::list_all(&self.disk, root)?.with(root, &self.foreseen);
        Ok(Survey::new(self.contents.clone(), root, Some(listing)))
    }

    /// A folder of another store is left alone. One without a name, or with a damaged one, is the right one if the listed files
    /// lie in it.
    fn refuse_another_folder(&self) -> Result<Claimed, OpenError> {
        match folder::claim(&self.paths.store, &self.contents) {
            Ok(folder::Claim::Settled) => Ok(Claimed::Settled),
            Ok(_) => Ok(Claimed::Open),
            Err(OpenError::NotMounted { path, listed }) => {
                if self.options.forget_missing || !self.survey()?.too_many_missing() {
                    return Ok(Claimed::Open);
                }
                Err(OpenError::NothingToRepair { path, listed })
            }
            Err(OpenError::NameDamaged { listed, .. }) => {
                if self.options.forget_missing || !self.survey()?.too_many_missing() {
                    return Ok(Claimed::Misnamed);
                }
                let path = self.paths.store.display().to_string();
                Err(OpenError::NothingToRepair { path, listed })
            }
            // What may be another's is not taken by saying that nothing of ours is in it.
            Err(OpenError::OtherStore { path, found, expected, listed }) => match self.survey()?.too_many_missing() {
                true => Err(OpenError::NothingOfOurs { path, found, expected, listed }),
                false => Ok(Claimed::Misnamed),
            },
            Err(error) => Err(error),
        }
    }

    fn place(&self, path: &str, suffix: &str) -> PathBuf {
        with_suffix(&self.paths.store.join(path), suffix)
    }

    /// What stands behind the name of a file that was set aside; `None` if it is not there.
    fn aside_suffix(&self, path: &str) -> Option<&'static str> {
        let is_there = |place: PathBuf| self.foreseen.now_at(&place).is_some_and(|place| place.exists());
        ["", RETIRED_SUFFIX, UNKNOWN_SUFFIX].into_iter().find(|suffix| is_there(self.place(path, suffix)))
    }

    fn read(&self, path: &str, suffix: &str, effort: Effort) -> (Readable, Facts) {
        let place = self.place(path, suffix);
        verify(&|| Ok(FileSource::open_local(&self.foreseen.to_open(&place)?)?), effort)
    }

    /// Reads all listed files, remembers damage, and learns which files they were merged from.
    async fn read_live_files(&mut self, survey: &mut Survey, steps: usize) -> Result<Listed, OpenError> {
        let mut listed = Listed::default();
        let held_back = HeldBack::of(&self.contents);
        let (mut whole, mut to_compare) = (Vec::new(), Vec::new());
        for (number, record) in survey.live.iter().enumerate() {
            (self.progress)(number, steps);
            let suffix = survey.renamed.iter().find(|(path, _)| *path == record.path).map_or("", |found| found.1);
            let (readable, facts) = self.read(&record.path, suffix, Effort::EveryPage);
            if let Some(why) = is_another(&record.id, &facts) {
                self.report.left(&record.path, why);
                continue;
            }
            let Some(lost_spans) = self.remember_damage(record, readable).await? else { continue };
            if !suffix.is_empty() {
                self.report.did(Action::Rename { from: self.place(&record.path, suffix), to: record.path.clone() });
                self.rename(&self.place(&record.path, suffix), &self.place(&record.path, ""))?;
            }
            listed.add(&record.id, &record.path, &facts);
            let is_mended = lost_spans < record.lost_spans;
            let list = if is_mended || held_back.contains(&record.id) { &mut to_compare } else { &mut whole };
            list.push(FileRecord { lost_spans, ..record.clone() });
        }
        if !(to_compare.is_empty() && survey.unknown.is_empty() && survey.aside.is_empty()) {
            self.begin_to_compare(whole, survey)?;
        }
        // What can be read again counts only once it was compared.
        let meta = to_compare.iter().flat_map(|record| self.expect(record)).last().into_iter().collect();
        let lost_spans = to_compare.iter().map(|record| (record.id.clone(), record.lost_spans)).collect();
        self.commit(Commit { meta, lost_spans, ..Commit::default() }).await?;
        for record in to_compare {
            self.compare(record).await;
        }
        Ok(listed)
    }

    /// Remembers how much more of a listed file can't be read, and says how much that is by now; `None`: all of it.
    async fn remember_damage(&mut self, record: &FileRecord, found: Readable) -> Result<Option<u64>, OpenError> {
        let lost_spans = match found {
            Readable::All => 0,
            Readable::Part { lost_spans, what } => {
                self.stays_damaged(&record.path, lost_spans, record.spans, &what);
                lost_spans
            }
            Readable::Nothing { what } => {
                self.set_aside(record, &what).await?;
                return Ok(None);
            }
            Readable::OutOfReach { error } => {
                self.report.left(&record.path, format!("it is out of reach: {error}"));
                record.lost_spans
            }
        };
        if lost_spans > record.lost_spans {
            let lost = vec![(record.id.clone(), lost_spans)];
            self.commit(Commit { lost_spans: lost, ..Commit::default() }).await?;
        }
        if lost_spans != record.lost_spans {
            self.report.did(Action::RememberDamage { path: record.path.clone(), lost_spans });
        }
        Ok(Some(lost_spans))
    }

    async fn set_aside(&mut self, record: &FileRecord, what: &str) -> Result<(), OpenError> {
        let retire = vec![(record.id.clone(), RetirementReason::Damaged)];
        let retired_at = self.clock.now_unix_nanos();
        self.commit(Commit { retire, retired_at, ..Commit::default() }).await?;
        self.report.did(Action::SetAside { path: record.path.clone(), what: what.to_owned() });
        self.is_set_aside(&record.path);
        Ok(())
    }

    fn stays_damaged(&mut self, path: &str, lost_spans: u64, spans: u64, what: &str) {
        let effect = match lost_spans {
            0 => "all spans can be read, which takes longer".to_owned(),
            _ => format!("{lost_spans} of {spans} spans can't be read whole"),
        };
        let why = format!("{effect} ({what}); put an intact copy anywhere in the store's folder and repair again");
        self.report.left(path, why);
    }

    fn is_set_aside(&mut self, path: &str) {
        let why = "nothing of it can be read; put an intact copy anywhere in the store's folder and repair again";
        self.report.left(path, why.to_owned());
    }

    /// In which order unknown files are adopted. The newest comes first: what a merge wrote before what it read. Of several copies of a
    /// file the one where it belongs comes first, and what has another's name last.
    fn in_order_of_adoption(&self, mut unknown: Vec<UnknownFile>) -> Vec<UnknownFile> {
        unknown.sort_by_cached_key(|file| {
            let (_, facts) = self.read(&file.path, file.names.best(), Effort::Footer);
            let named = id_of_path(&file.path).unwrap_or_default().to_owned();
            let is_misnamed = facts.id.as_ref().is_some_and(|id| *id != named);
            let is_elsewhere = where_it_belongs(&file.path, &facts).is_some_and(|own| own != file.path);
            (is_misnamed, Reverse(named), is_elsewhere)
        });
        unknown
    }

    async fn adopt_unknown_files(
        &mut self,
        survey: &mut Survey,
        listed: &mut Listed,
        steps: usize,
    ) -> Result<(), OpenError> {
        let unknown = self.in_order_of_adoption(std::mem::take(&mut survey.unknown));
        for (number, file) in unknown.iter().enumerate() {
            (self.progress)(survey.live.len() + number, steps);
            self.adopt(file, &survey.damaged_rows, listed).await?;
        }
        for row in &survey.damaged_rows {
            let name = || row.path.clone().or(row.id.clone()).unwrap_or_else(|| "a file without a name".into());
            if unknown.iter().any(|file| is_row_of(row, file)) {
                continue;
            }
            if self.options.forget_missing {
                self.commit(Commit { drop_damaged: vec![row.row], ..Commit::default() }).await?;
                self.report.did(Action::DropRow { name: name() });
            } else {
                self.report
                    .left(&name(), "its row is damaged and no file is there; --forget-missing drops the row".into());
            }
        }
        Ok(())
    }

    async fn adopt(
        &mut self,
        file: &UnknownFile,
        damaged_rows: &[DamagedRow],
        listed: &mut Listed,
    ) -> Result<(), OpenError> {
        let path = &file.path;
        let suffix = file.names.best();
        let (readable, facts) = self.read(path, suffix, Effort::EveryPage);
        if self.keep_copies_aside(file, facts.id.as_deref(), listed)? {
            return Ok(());
        }
        if let Some(why) = self.belongs_elsewhere(path, facts.id.as_deref(), listed) {
            self.report.left(path, why);
            return Ok(());
        }
        let (Some(id), Some((tenant, hour))) = (id_of_path(path), file.place.clone()) else {
            self.report.left(path, "its name is none of ours".into());
            return Ok(());
        };
        if let Some(own) = facts.id.as_deref().filter(|own| *own != id) {
            self.report.left(path, format!("it is another file than its name says, {own}, whose place is taken"));
            return Ok(());
        }
        let replaced_by = listed.replaced.get(id).cloned();
        // A merge that was never committed: what it read is still listed.
        let of_listed = facts.merged_from.iter().any(|merged| listed.live.contains_key(merged));
        let reason = match &readable {
            Readable::OutOfReach { error } => {
                self.report.left(path, format!("it is out of reach: {error}"));
                return Ok(());
            }
            Readable::Nothing { .. } if !is_file_id(id) => {
                // Not even whose it is can be told: it may be anything, and no copy would take its place.
                let why = "nothing of it can be read, and its name is none of ours; remove it".to_owned();
                self.report.left(path, why);
                return Ok(());
            }
            _ if replaced_by.is_some() || of_listed => Some(RetirementReason::Replaced),
            Readable::Nothing { .. } => Some(RetirementReason::Damaged),
            Readable::All | Readable::Part { .. } => None,
        };
        let retired = reason.map(|reason| Retirement { at: self.clock.now_unix_nanos(), reason });
        let record = self.record_of(path, id, (tenant, hour), &readable, &facts, retired);
        let drop_damaged = damaged_rows.iter().filter(|row| is_row_of(row, file)).map(|row| row.row).collect();
        let meta = if reason.is_none() { self.expect(&record) } else { Vec::new() };
        if !listed.adopted.insert(record.id.clone()) {
            self.report.left(path, format!("another file with the id {} was found; repair once more", record.id));
            return Ok(());
        }
        self.commit(Commit { add: vec![record.clone()], drop_damaged, meta, ..Commit::default() }).await?;
        match (reason, readable) {
            (None, readable) => {
                listed.add(id, path, &facts);
                self.report.did(Action::Adopt { path: path.clone(), spans: facts.spans });
                if let Readable::Part { lost_spans, what } = readable {
                    self.stays_damaged(path, lost_spans, facts.spans, &what);
                }
                if !suffix.is_empty() {
                    self.rename(&self.place(path, suffix), &self.place(path, ""))?;
                }
                for further in file.names.all().filter(|further| *further != suffix) {
                    self.keep_copy_aside(path, further, path)?;
                }
                self.compare(record).await;
            }
            (Some(RetirementReason::Replaced), _) => {
                let by = replaced_by.unwrap_or_else(|| facts.merged_from.join(", "));
                self.report.did(Action::MarkReplaced { path: path.clone(), by });
            }
            (Some(_), readable) => {
                self.report.did(Action::SetAside { path: path.clone(), what: readable.to_string() });
                self.is_set_aside(path);
            }
        }
        Ok(())
    }

    /// The row of a file that the catalogue did not know.
    fn record_of(
        &self,
        path: &str,
        id: &str,
        (tenant, hour): (TenantId, i64),
        readable: &Readable,
        facts: &Facts,
        retired: Option<Retirement>,
    ) -> FileRecord {
        let start = hour * NANOS_PER_HOUR;
        let (start_min, start_max) = facts.starts.unwrap_or((start, start + NANOS_PER_HOUR - 1));
        FileRecord {
            id: id.to_owned(),
            tenant,
            path: path.to_owned(),
            table: Table::SPANS,
            level: u8::from(!facts.merged_from.is_empty()),
            tier: Tier::Hot,
            object_store: FileRecord::LOCAL.to_owned(),
            spans: facts.spans,
            bytes: facts.bytes,
            start_min,
            start_max,
            end_max: facts.end_max,
            created_at: time_of_id(id).unwrap_or_else(|| self.clock.now_unix_nanos()),
            minutes: FileRecord::MINUTES_UNKNOWN,
            row_groups: facts.row_groups,
            tail_bytes: facts.tail_bytes,
            lost_spans: if let Readable::Part { lost_spans, .. } = readable { *lost_spans } else { 0 },
            left_out_spans: 0,
            retired,
        }
    }

    async fn take_back_files_set_aside(
        &mut self,
        survey: &Survey,
        listed: &Listed,
        steps: usize,
    ) -> Result<(), OpenError> {
        let before = steps - survey.aside.len();
        for (number, record) in survey.aside.iter().enumerate() {
            (self.progress)(before + number, steps);
            let Some(suffix) = self.aside_suffix(&record.path) else {
                if self.options.forget_missing {
                    self.report.did(Action::Forget { path: record.path.clone(), spans: record.spans });
                    self.catalogue.forget(std::slice::from_ref(&record.id)).await?;
                } else {
                    let why = "it was set aside, and is not there any more; put it back, or if it is gone for good, --forget-missing \
                               drops it";
                    self.report.left(&record.path, why.into());
                }
                continue;
            };
            let (readable, facts) = self.read(&record.path, suffix, Effort::EveryPage);
            if let Some(why) = is_another(&record.id, &facts) {
                self.report.left(&record.path, why);
                continue;
            }
            let lost_spans = match readable {
                Readable::All => 0,
                Readable::Part { lost_spans, what } => {
                    self.stays_damaged(&record.path, lost_spans, facts.spans, &what);
                    lost_spans
                }
                unreadable => {
                    self.report.left(&record.path, unreadable.to_string());
                    continue;
                }
            };
            if let Some(by) = listed.replaced.get(&record.id) {
                self.report.left(&record.path, format!("its spans are in {by}"));
                continue;
            }
            let record = as_read(record, &facts, lost_spans);
            let meta = self.expect(&record);
            self.commit(Commit { restore: vec![record.clone()], meta, ..Commit::default() }).await?;
            self.report.did(Action::TakeBack { path: record.path.clone(), spans: facts.spans - lost_spans });
            if !suffix.is_empty() {
                self.rename(&self.place(&record.path, suffix), &self.place(&record.path, ""))?;
            }
            self.compare(record).await;
        }
        Ok(())
    }

    async fn drop_missing_files(&mut self, survey: &Survey, listed: &Listed) -> Result<(), OpenError> {
        for record in &survey.missing {
            let (path, spans) = (record.path.clone(), record.spans);
            if let Some(stuck) = self.stuck.get(&record.id) {
                self.report.left(&path, format!("it is missing here, and lies at {}", stuck.path));
                continue;
            }
            let reason = match listed.replaced.get(&record.id) {
                Some(by) => {
                    self.report.did(Action::MarkReplaced { path, by: by.clone() });
                    RetirementReason::Replaced
                }
                None if self.options.forget_missing => {
                    self.report.did(Action::Forget { path, spans });
                    RetirementReason::Expired
                }
                None => {
                    let why =
                        match self.foreseen.now_at(&self.place(&path, "")).and_then(|place| what_is_no_file(&place)) {
                            Some(what) => {
                                format!("{what} is in its place; move that away and put the file back, or if it is")
                            }
                            None => "it is missing; put it back, or if it is".to_owned(),
                        };
                    self.report
                        .left(&path, format!("{why} gone for good with its {spans} spans, --forget-missing drops it"));
                    continue;
                }
            };
            let retire = vec![(record.id.clone(), reason)];
            let retired_at = self.clock.now_unix_nanos();
            self.commit(Commit { retire, retired_at, ..Commit::default() }).await?;
            self.catalogue.forget(std::slice::from_ref(&record.id)).await?;
        }
        Ok(())
    }

    /// What this version can't judge: files of other tables, and of object stores that are not configured.
    fn leave_alone(&mut self, survey: &Survey) {
        for (path, table) in &survey.of_other_tables.unknown {
            let why = format!("this version does not know the table {table}; it is left alone");
            self.report.left(path, why);
        }
        for record in &survey.elsewhere {
            let why = format!("it lies in the object store {}, which is not configured", record.object_store);
            self.report.left(&record.path, why);
        }
    }

    /// Writes the store's name where it is missing, if the folder is the right one.
    async fn claim_folder(&mut self, claimed: Claimed) -> Result<(), OpenError> {
        let root = &self.paths.store;
        self.contents = self.catalogue.load().await?;
        if claimed == Claimed::Settled || (self.survey()?.too_many_missing() && !self.options.forget_missing) {
            return Ok(());
        }
        let named = match folder::read_marker(root)? {
            Marker::Name(name) if claimed == Claimed::Open => Some(name),
            _ => None,
        };
        let known = self.contents.meta.get(STORE_META).cloned();
        let id = named.clone().or(known).unwrap_or_else(|| folder::new_store_id(&*self.randomness));
        if named.is_none() && !self.options.dry_run {
            folder::mark(&self.disk, root, &id)?;
        }
        self.commit(Commit { meta: vec![(STORE_META.to_owned(), id)], ..Commit::default() }).await?;
        self.report.did(Action::NameStore { folder: root.clone() });
        Ok(())
    }
}

/// A file that was set aside and can be read, as it says itself: its row may have been made when nothing of it could be read.
fn as_read(record: &FileRecord, facts: &Facts, lost_spans: u64) -> FileRecord {
    let (start_min, start_max) = facts.starts.unwrap_or((record.start_min, record.start_max));
    FileRecord {
        spans: facts.spans,
        bytes: facts.bytes,
        start_min,
        start_max,
        end_max: facts.end_max,
        minutes: if record.spans == facts.spans { record.minutes } else { FileRecord::MINUTES_UNKNOWN },
        row_groups: facts.row_groups,
        tail_bytes: facts.tail_bytes,
        lost_spans,
        retired: None,
        ..record.clone()
    }
}

/// Whether a damaged row was that of a file, as far as it can be read.
fn is_row_of(row: &DamagedRow, file: &UnknownFile) -> bool {
    row.path.as_deref() == Some(&file.path) || (row.id.is_some() && row.id.as_deref() == id_of_path(&file.path))
}

/// Why what lies in a file's place is not that file, if it is another one: whole as it may be, its spans are not those that were here.
fn is_another(id: &str, found: &Facts) -> Option<String> {
    let other = found.id.as_deref().filter(|other| *other != id)?;
    Some(format!(
        "another file, {other}, was written over it: its own spans are there again once a copy of it is put in its place, and \
         are gone if there is none"
    ))
}
