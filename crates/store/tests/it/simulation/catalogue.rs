//! A catalogue in memory, or SQLite's: a commit is durable once it is done, and its answer may be lost on the way.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tracehouse_catalogue::{
    Catalogue, CatalogueContents, CatalogueError, Changes, Commit, DamagedNote, DamagedRow, FileRecord, KnownPositions,
    LegacyDescription, LogPosition, NoteKind, Retirement, RetirementReason, Revision, SqliteCatalogue,
};

use super::chance::Chance;
use super::disk::SimulatedDisk;

pub(crate) struct SimulatedCatalogue {
    /// As SQLite had it last, if that keeps them.
    contents: Mutex<CatalogueContents>,
    sqlite: Option<Arc<SqliteCatalogue>>,
    faults: Mutex<Faults>,
    disk: Arc<SimulatedDisk>,
}

/// What damage may take from a catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The row of a file.
    File(String),
    /// Something that is remembered, by its name.
    Note(&'static str),
    /// How far the log is stored: one of the rows, by its place among them.
    Position(u64),
}

struct Faults {
    chance: Chance,
    /// One in so many calls fails, before or after it was done.
    one_in: Option<u64>,
    refuses_retirements: bool,
}

impl SimulatedCatalogue {
    pub(crate) fn new(chance: Chance, disk: Arc<SimulatedDisk>) -> Self {
        let contents = CatalogueContents { meta_names: Some(Default::default()), ..CatalogueContents::default() };
        Self {
            contents: Mutex::new(contents),
            sqlite: None,
            faults: Mutex::new(Faults { chance, one_in: None, refuses_retirements: false }),
            disk,
        }
    }

    /// One that SQLite keeps.
    pub(crate) async fn of_sqlite(sqlite: Arc<SqliteCatalogue>, chance: Chance, disk: Arc<SimulatedDisk>) -> Self {
        let contents = sqlite.load().await.expect("SQLite's catalogue can be read");
        Self { contents: Mutex::new(contents), sqlite: Some(sqlite), ..Self::new(chance, disk) }
    }

    /// Takes what SQLite has.
    async fn refresh(&self, sqlite: &SqliteCatalogue) -> Result<(), CatalogueError> {
        let contents = sqlite.load().await?;
        *self.contents.lock() = contents;
        Ok(())
    }

    pub(crate) async fn close(&self) {
        if let Some(sqlite) = &self.sqlite {
            sqlite.close().await;
        }
    }

    pub(crate) fn fail_one_in(&self, one_in: Option<u64>) {
        self.faults.lock().one_in = one_in;
    }

    /// Whether commits that retire files fail from now on.
    pub(crate) fn refuse_retirements(&self, refuses: bool) {
        self.faults.lock().refuses_retirements = refuses;
    }

    pub(crate) fn contents(&self) -> CatalogueContents {
        self.contents.lock().clone()
    }

    /// As an earlier version left it.
    pub(crate) fn forget_name_of_store(&self) {
        self.contents.lock().meta.remove("store");
    }

    /// A row is damaged from now on. Returns whether there was one; none of SQLite's is.
    pub(crate) fn lose(&self, loss: &Loss) -> bool {
        let mut contents = self.contents.lock();
        let contents = &mut *contents;
        match loss {
            _ if self.sqlite.is_some() => false,
            Loss::File(id) => {
                let lost: Vec<FileRecord> = contents.files.extract_if(.., |file| file.id == *id).collect();
                contents.damaged_rows.extend(lost.iter().map(|file| DamagedRow {
                    row: 0,
                    id: Some(file.id.clone()),
                    path: Some(file.path.clone()),
                    reason: DAMAGED.to_owned(),
                }));
                !lost.is_empty()
            }
            Loss::Note(name) => contents.meta.remove(*name).is_some(),
            Loss::Position(_) if contents.log_positions.is_empty() => false,
            Loss::Position(place) => {
                let place = *place as usize % contents.log_positions.len();
                let name = Some(name_of(&contents.log_positions.remove(place)));
                let (kind, reason) = (NoteKind::LogPosition, DAMAGED.to_owned());
                contents.damaged_notes.push(DamagedNote { kind, row: Some(0), name, reason });
                true
            }
        }
    }

    fn step(&self) -> Result<(), CatalogueError> {
        self.disk.step_elsewhere().map_err(|_| broken())?;
        let mut faults = self.faults.lock();
        let Some(one_in) = faults.one_in else { return Ok(()) };
        if faults.chance.one_in(one_in) { Err(broken()) } else { Ok(()) }
    }
}

fn broken() -> CatalogueError {
    CatalogueError::Query(sqlx::Error::WorkerCrashed)
}

#[async_trait]
impl Catalogue for SimulatedCatalogue {
    async fn load(&self) -> Result<CatalogueContents, CatalogueError> {
        self.step()?;
        Ok(self.contents())
    }

    async fn commit(&self, commit: Commit) -> Result<(), CatalogueError> {
        self.step()?;
        if !commit.retire.is_empty() && self.faults.lock().refuses_retirements {
            return Err(broken());
        }
        if let Some(sqlite) = &self.sqlite {
            let committed = sqlite.commit(commit).await;
            self.refresh(sqlite).await?;
            committed?;
        } else {
            let mut contents = self.contents.lock();
            // As a whole or not at all.
            let mut next = contents.clone();
            apply(&mut next, &commit)?;
            *contents = next;
        }
        self.step()
    }

    async fn forget(&self, file_ids: &[String]) -> Result<(), CatalogueError> {
        self.step()?;
        if let Some(sqlite) = &self.sqlite {
            sqlite.forget(file_ids).await?;
            self.refresh(sqlite).await?;
        } else {
            let mut contents = self.contents.lock();
            let before = contents.files.len();
            contents.files.retain(|file| file.retired.is_none() || !file_ids.contains(&file.id));
            contents.revision.number += u64::from(contents.files.len() < before);
        }
        self.step()
    }

    /// What changed it does not remember, as a catalogue need not.
    async fn changes_since(&self, _: Revision) -> Result<Changes, CatalogueError> {
        self.step()?;
        Ok(Changes::Everything)
    }

    async fn legacy_description(&self, _: &str) -> Result<Option<LegacyDescription>, CatalogueError> {
        Ok(None)
    }
}

fn apply(contents: &mut CatalogueContents, commit: &Commit) -> Result<(), CatalogueError> {
    assert!(commit.drop_damaged.is_empty() && commit.drop_notes.is_empty(), "a repair needs SQLite's");
    contents.revision.number += u64::from(!commit.is_empty());
    for file in &commit.add {
        assert!(contents.files.iter().all(|known| known.id != file.id), "a file is added once");
        contents.files.push(file.clone());
    }
    contents.files.sort_by(|one, other| one.id.cmp(&other.id));
    for (id, reason) in &commit.retire {
        live(contents, id)?.retired = Some(Retirement { at: commit.retired_at, reason: *reason });
    }
    for restored in &commit.restore {
        let is_aside = |file: &&mut FileRecord| {
            file.id == restored.id
                && file.retired.as_ref().is_some_and(|found| found.reason == RetirementReason::Damaged)
        };
        let file = contents.files.iter_mut().find(is_aside);
        file.ok_or_else(|| CatalogueError::NotSetAside(restored.id.clone()))?.clone_from(restored);
    }
    for (id, lost_spans) in &commit.lost_spans {
        live(contents, id)?.lost_spans = *lost_spans;
    }
    KnownPositions::of(&contents.log_positions).compare_and_move(&commit.based_on, &commit.log_positions)?;
    for position in &commit.log_positions {
        put(&mut contents.log_positions, position);
        // What is written over a damaged row is sound, and those for tenants go with one for everyone.
        let is_replaced = |name: &str| match position.tenant {
            Some(_) => name == name_of(position),
            None => name.split(' ').next() == Some(position.log.as_str()),
        };
        contents.damaged_notes.retain(|note| !note.name.as_deref().is_some_and(is_replaced));
    }
    for (name, value) in &commit.meta {
        contents.meta.insert(name.clone(), value.clone());
        contents.meta_names.get_or_insert_default().insert(name.clone());
    }
    Ok(())
}

const DAMAGED: &str = "its checksum is another";

/// Of the row of a position.
fn name_of(position: &LogPosition) -> String {
    format!("{} {}", position.log, position.tenant.as_ref().map_or("", |tenant| tenant.as_str()))
}

fn live<'a>(contents: &'a mut CatalogueContents, id: &str) -> Result<&'a mut FileRecord, CatalogueError> {
    if contents.damaged_rows.iter().any(|row| row.id.as_deref() == Some(id)) {
        return Err(CatalogueError::DamagedRow { id: id.to_owned(), reason: DAMAGED.to_owned() });
    }
    let file = contents.files.iter_mut().find(|file| file.id == id && file.retired.is_none());
    file.ok_or_else(|| CatalogueError::NotLive(id.to_owned()))
}

fn put(positions: &mut Vec<LogPosition>, to: &LogPosition) {
    positions.retain(|known| {
        let is_replaced = known.tenant == to.tenant || (to.tenant.is_none() && known.position <= to.position);
        known.log != to.log || !is_replaced
    });
    positions.push(to.clone());
}
