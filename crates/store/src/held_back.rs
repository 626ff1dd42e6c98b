//! Files that could not be read for a while. Spans inside may have been sent again meanwhile, and were written a second time
//! as nobody could tell; so such a file does not count again before it was compared with the others of its tenant. Where both
//! hold the same spans one is written anew without them ([`crate::twins`]).
//!
//! Who is held back: a file that is missing at a start, from when it comes back; and one that a flush or a query could not look
//! into for copies. The catalogue remembers their ids, so that a restart in between makes no difference. They are compared
//! by the thread that merges. A file that is both missing and on the catalogue's list costs nothing until it is back. If the
//! catalogue lost that list, all files are compared.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use tracehouse_catalogue::{CatalogueContents, CatalogueError, Commit, FileRecord, RetirementReason};
use tracehouse_spanfile::is_damage;

use crate::absent::Absent;
use crate::compact::write_merged;
use crate::damage_found::look_after_damage;
use crate::error::{WriteError, chain, contained};
use crate::notes::HELD_BACK_META;
use crate::shared::Shared;
use crate::span_file::SpanFile;
use crate::survey::Survey;
use crate::troubles::Work;
use crate::twins::{CompareError, Rewrite, untangle};

/// So often a comparison begins anew as another file could not be read: each time without that one.
const ATTEMPTS_MAX: usize = 64;

/// What came of letting a file in.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct LetIn {
    /// Files that were written anew without spans that others hold, and how many those were.
    pub(crate) left_out: Vec<(String, u64)>,
}

impl LetIn {
    fn of(rewrites: &[Rewrite]) -> Self {
        let of_file = |rewrite: &Rewrite| (rewrite.file.record.path.clone(), rewrite.without.rows());
        Self { left_out: rewrites.iter().map(of_file).collect() }
    }
}

/// The files that the catalogue remembers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HeldBack {
    /// It was never told.
    Never,
    /// What it remembered is lost: it may be any.
    Any,
    Ids(HashSet<String>),
}

impl HeldBack {
    pub(crate) fn of(contents: &CatalogueContents) -> Self {
        match contents.meta.get(HELD_BACK_META) {
            Some(ids) => Self::Ids(ids.split_whitespace().map(str::to_owned).collect()),
            None if contents.is_lost(HELD_BACK_META) => Self::Any,
            None => Self::Never,
        }
    }

    /// Whether a file must be compared before it counts.
    pub(crate) fn contains(&self, id: &str) -> bool {
        match self {
            Self::Never => false,
            Self::Any => true,
            Self::Ids(ids) => ids.contains(id),
        }
    }
}

/// What the catalogue has to remember when one file is compared.
pub(crate) fn to_remember(absent: &Absent, compared: Option<&str>) -> (String, String) {
    let files = absent.missing.iter().chain(&absent.out_of_reach).chain(&absent.elsewhere).chain(&absent.held_back);
    let ids = files.map(|record| record.id.as_str()).filter(|id| Some(*id) != compared);
    (HELD_BACK_META.to_owned(), ids.collect::<Vec<_>>().join(" "))
}

/// Compares all files that are held back, those apart that failed a short time ago.
pub(crate) fn compare_held_back(shared: &Shared) {
    let unread = std::mem::take(&mut *shared.unread.lock());
    if let Err(error) = shared.hold_back(&unread) {
        tracing::warn!(error = chain(&error), "holding back a file that can't be read failed; it is tried again");
        shared.hold_back_soon(unread);
    }
    let held_back = shared.absent.lock().held_back.clone();
    let work_of = |record: &FileRecord| Work::Compare(record.tenant.clone(), record.id.clone());
    let all: BTreeSet<Work> = held_back.iter().map(work_of).collect();
    shared.troubles.retain(|work| !matches!(work, Work::Compare(..)) || all.contains(work));
    for record in held_back {
        let work = work_of(&record);
        if shared.stopping() || shared.troubles.must_wait(&work) {
            continue;
        }
        match contained(|| let_in(shared, &record)) {
            Ok(_) => shared.troubles.succeeded(&work),
            Err(error) => shared.troubles.failed(work, chain(&error)),
        }
    }
}

/// Lets a file that is held back count again, after it was compared with the others of its tenant.
pub(crate) fn let_in(shared: &Shared, record: &FileRecord) -> Result<LetIn, WriteError> {
    // Neither a merge nor a flush may write meanwhile what was not compared with this file.
    let _no_merge = shared.compact_lock.lock();
    let _no_flush = shared.flush_lock.lock();
    shared.resolve_commits()?;
    if !shared.is_held_back(&record.id) {
        return Ok(LetIn::default());
    }
    if !shared.objects.is_there(record) {
        shared.is_missing_again(&record.id);
        return Ok(LetIn::default());
    }
    let file = shared.span_file(record.clone());
    let rewrites = compare(shared, &file)?;
    if file.damage().is_none() {
        // Nothing of it can be read: it is set aside, which ends its being held back.
        look_after_damage(shared);
        return Ok(LetIn::default());
    }
    let counts = !rewrites.iter().any(|rewrite| rewrite.file.record.id == record.id);
    let written = write_anew(shared, &rewrites)?;
    let outcome = LetIn::of(&rewrites);
    let replaced: Vec<Arc<SpanFile>> = rewrites.into_iter().map(|rewrite| rewrite.file).collect();
    commit(shared, &file, written, &replaced, counts)?;
    Ok(outcome)
}

/// What [`let_in`] would do. Changes nothing but what this process knows.
pub(crate) fn foresee(shared: &Shared, record: &FileRecord) -> Result<LetIn, WriteError> {
    let file = shared.span_file(record.clone());
    let others = shared.state.snapshot(&record.tenant).files;
    // What can't be read can't be foreseen.
    let rewrites = untangle(&file, &others).unwrap_or_default();
    shared.state.let_in(&record.tenant, vec![file], &[]);
    Ok(LetIn::of(&rewrites))
}

/// What has to be written anew. Another file that can't be read is held back itself.
fn compare(shared: &Shared, file: &Arc<SpanFile>) -> Result<Vec<Rewrite>, WriteError> {
    // Also if there is nothing to compare it with: one that can't be read does not count.
    if let Err(error) = file.open()
        && !is_damage(&error.source)
    {
        return Err(error.source.into());
    }
    for _ in 0..ATTEMPTS_MAX {
        let others = shared.state.snapshot(&file.record.tenant).files;
        match untangle(file, &others) {
            Ok(rewrites) => return Ok(rewrites),
            Err(CompareError::Itself(error)) => return Err(error.into()),
            Err(CompareError::Others(unread)) => shared.hold_back(&unread)?,
        }
    }
    Err(std::io::Error::other("too many other files can't be read").into())
}

fn write_anew(shared: &Shared, rewrites: &[Rewrite]) -> Result<Vec<FileRecord>, WriteError> {
    let mut written = Vec::new();
    for Rewrite { file, without } in rewrites.iter().filter(|rewrite| !rewrite.without.is_all()) {
        match write_merged(shared, std::slice::from_ref(file), without, None) {
            Ok(merged) => written.extend(merged.record),
            Err(error) => {
                shared.discard_files(&written);
                return Err(error);
            }
        }
    }
    Ok(written)
}

/// Puts what was written in the place of what it was written from, and lets the file count, if it was not itself written anew.
fn commit(
    shared: &Shared,
    file: &Arc<SpanFile>,
    written: Vec<FileRecord>,
    replaced: &[Arc<SpanFile>],
    counts: bool,
) -> Result<(), WriteError> {
    let _no_other_change = shared.files_lock.lock();
    let id = &file.record.id;
    let others: Vec<Arc<SpanFile>> = replaced.iter().filter(|other| other.record.id != *id).cloned().collect();
    if !shared.is_held_back(id) || !shared.state.has_files(&others) {
        // Retention took one: what is left is compared anew.
        shared.discard_files(&written);
        return Ok(());
    }
    let ids: Vec<String> = replaced.iter().map(|file| file.record.id.clone()).collect();
    let commit = Commit {
        add: written.clone(),
        retire: ids.iter().map(|id| (id.clone(), RetirementReason::Replaced)).collect(),
        retired_at: shared.clock.now_unix_nanos(),
        meta: vec![to_remember(&shared.absent.lock(), Some(id))],
        ..Commit::default()
    };
    match shared.commit(commit) {
        // What is left is compared anew.
        Err(error) if shared.settle_not_live(&error, replaced) => return Ok(()),
        outcome => outcome?,
    }
    let mut files: Vec<Arc<SpanFile>> = written.into_iter().map(|record| shared.span_file(record)).collect();
    files.extend(counts.then(|| file.clone()));
    shared.state.let_in(&file.record.tenant, files, &ids);
    shared.retire_later(replaced);
    let mut absent = shared.absent.lock();
    absent.held_back.retain(|held_back| held_back.id != *id);
    shared.publish_absent(&absent);
    tracing::info!(path = file.record.path, written_anew = replaced.len(), "a stored file counts again");
    Ok(())
}

impl Shared {
    /// Takes files that can't be read now out of what is counted until they were compared with what is written meanwhile. The
    /// catalogue knows before anything is written.
    pub(crate) fn hold_back(&self, files: &[Arc<SpanFile>]) -> Result<(), WriteError> {
        for record in self.hold_back_untold(files)? {
            tracing::warn!(
                path = record.path,
                "a stored file can't be read now: it does not count until it was compared with what comes in meanwhile"
            );
        }
        Ok(())
    }

    /// The same for whoever tells why; gives those that counted until now.
    pub(crate) fn hold_back_untold(&self, files: &[Arc<SpanFile>]) -> Result<Vec<FileRecord>, WriteError> {
        if files.is_empty() {
            return Ok(Vec::new());
        }
        let _no_other_change = self.files_lock.lock();
        let by_id: BTreeMap<&str, &Arc<SpanFile>> = files.iter().map(|file| (file.record.id.as_str(), file)).collect();
        let is_live = |file: &&Arc<SpanFile>| self.state.has_files(std::slice::from_ref(*file));
        let live: Vec<&Arc<SpanFile>> = by_id.into_values().filter(is_live).collect();
        let mut absent = self.absent.lock();
        let known = absent.held_back.len();
        absent.held_back.extend(live.iter().map(|file| file.record.clone()));
        let commit = Commit { meta: vec![to_remember(&absent, None)], ..Commit::default() };
        if let Err(error) = self.runtime.block_on(self.catalogue.commit(commit)) {
            absent.held_back.truncate(known);
            return Err(error.into());
        }
        let ids: Vec<String> = live.iter().map(|file| file.record.id.clone()).collect();
        // At once: no question may see them neither among the files nor among those that are missing.
        absent.report_gauges();
        self.state.change_files_and_unreadable(Vec::new(), &ids, absent.by_tenant());
        self.merger_wanted.ring();
        Ok(live.into_iter().map(|file| file.record.clone()).collect())
    }

    /// The same, by the thread that merges: for whoever must not wait for the catalogue.
    pub(crate) fn hold_back_soon(&self, files: Vec<Arc<SpanFile>>) {
        if files.is_empty() {
            return;
        }
        let mut unread = self.unread.lock();
        for file in files {
            if !unread.iter().any(|known| Arc::ptr_eq(known, &file)) {
                unread.push(file);
            }
        }
        self.merger_wanted.ring();
    }

    /// Holds back at a start what the catalogue remembers, and lets it remember what is missing.
    pub(crate) fn hold_back_at_start(&self, survey: &mut Survey, known: &HeldBack) -> Result<Absent, CatalogueError> {
        let held_back: Vec<FileRecord> = survey.live.extract_if(.., |record| known.contains(&record.id)).collect();
        let mut absent = Absent::of(survey);
        absent.held_back = held_back;
        absent.look_after(self.clock.monotonic());
        let meta = to_remember(&absent, None);
        // Also that there are none: once it is written, its loss can be told.
        if HeldBack::Ids(meta.1.split_whitespace().map(str::to_owned).collect()) != *known {
            let commit = Commit { meta: vec![meta], ..Commit::default() };
            self.runtime.block_on(self.catalogue.commit(commit))?;
        }
        Ok(absent)
    }

    /// A file that the next commit adds is to be compared before it counts. Returns what that commit has to remember.
    pub(crate) fn expect(&self, record: FileRecord) -> (String, String) {
        let mut absent = self.absent.lock();
        absent.held_back.push(record);
        to_remember(&absent, None)
    }

    fn is_held_back(&self, id: &str) -> bool {
        self.absent.lock().held_back.iter().any(|record| record.id == id)
    }

    pub(crate) fn is_missing_again(&self, id: &str) {
        let mut absent = self.absent.lock();
        let gone: Vec<FileRecord> = absent.held_back.extract_if(.., |record| record.id == id).collect();
        absent.missing.extend(gone);
        self.publish_absent(&absent);
    }

    /// These no longer count, whether or not they were compared.
    pub(crate) fn let_go_of_held_back(&self, retired: &HashSet<String>) {
        let mut absent = self.absent.lock();
        let gone: Vec<FileRecord> = absent.held_back.extract_if(.., |record| retired.contains(&record.id)).collect();
        if gone.is_empty() {
            return;
        }
        self.publish_absent(&absent);
        for record in gone {
            self.objects.hide(&record);
            self.schedule_deletion(record);
        }
    }
}
