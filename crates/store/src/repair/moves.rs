//! How a repair moves files that have another's name, or lie elsewhere in the folder than the catalogue says: in another
//! hour's or tenant's folder, or in one that was renamed. The catalogue decides where they belong, since a tenant's spans
//! must not turn up at another's.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{OpenError, chain};
use crate::objects::{NEW_SUFFIX, RETIRED_SUFFIX, UNKNOWN_SUFFIX, file_path, hour_of_path, id_of_path};
use crate::repair_report::Action;
use crate::survey::{Survey, UnknownFile};
use crate::verify::{Effort, Facts, Readable};
use tracehouse_catalogue::Table;
use tracehouse_disk::DiskError;
use tracehouse_spanfile::hour_of;

use super::{Listed, Repair};

/// Stands, with a number, behind the name of a file of which there is a whole copy.
const RUIN_SUFFIX: &str = ".damaged";

/// Where a listed file belongs that is not there.
struct Home {
    path: String,
    suffix: &'static str,
}

/// A file that has another's name.
struct Move {
    /// The path, and what stands behind it.
    from: (String, &'static str),
    /// Where it belongs.
    own: String,
}

/// A misplaced file that was left where it is.
pub(super) struct Stuck {
    pub(super) path: String,
    pub(super) why: String,
}

impl Repair<'_> {
    /// Renames a file and makes that durable. Nothing is written over: what has the name already may be the only one of its content.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<(), OpenError> {
        if self.is_taken(to) {
            let source =
                io::Error::new(io::ErrorKind::AlreadyExists, "something has that name already; move it elsewhere");
            return Err(DiskError { action: "renaming a file to", path: to.to_owned(), source }.into());
        }
        if self.options.dry_run {
            self.foreseen.rename(from, to);
            return Ok(());
        }
        let [old, new] = [from, to].map(|path| path.parent().unwrap_or(path));
        self.make_folders(new)?;
        self.disk.rename(from, to)?;
        self.disk.sync_folder(new)?;
        if old != new {
            self.disk.sync_folder(old)?;
        }
        Ok(())
    }

    pub(super) fn is_taken(&self, place: &Path) -> bool {
        self.foreseen.is_taken(place)
    }

    /// Makes the folders from the store's down to one that are missing, and makes that durable.
    fn make_folders(&self, folder: &Path) -> Result<(), OpenError> {
        let missing: Vec<&Path> = folder.ancestors().take_while(|at| !at.is_dir()).collect();
        for at in missing.into_iter().rev() {
            self.disk.create_folder(at)?;
            self.disk.sync_folder(at.parent().unwrap_or(at))?;
        }
        Ok(())
    }

    /// Gives files that have another's name their own again. They all move aside first, since two may have changed places.
    pub(super) fn rename_swapped_files(&mut self) -> Result<(), OpenError> {
        let survey = self.survey()?;
        let suffix_of =
            |path: &str| survey.renamed.iter().find(|(renamed, _)| renamed == path).map_or("", |found| found.1);
        let live = survey.live.iter().map(|record| (record.path.clone(), suffix_of(&record.path)));
        let unknown = survey.unknown.iter().map(|file| (file.path.clone(), file.names.best()));
        let aside =
            survey.aside.iter().filter_map(|record| Some((record.path.clone(), self.aside_suffix(&record.path)?)));
        let retired =
            survey.retired.iter().filter_map(|record| Some((record.path.clone(), self.aside_suffix(&record.path)?)));
        let mut moves: Vec<Move> = Vec::new();
        for (path, suffix) in live.chain(unknown).chain(aside).chain(retired) {
            let (_, facts) = self.read(&path, suffix, Effort::Footer);
            let (Some(id), Some(named)) = (facts.id, id_of_path(&path)) else { continue };
            if id == named {
                continue;
            }
            let listed = self.contents.files.iter().find(|record| record.id == id).map(|record| record.path.clone());
            let own = listed.unwrap_or_else(|| path.replace(named, &id));
            moves.push(Move { from: (path, suffix), own });
        }
        let moves = self.one_for_each_place(moves);
        let left: Vec<PathBuf> = moves.iter().map(|a_move| self.place(&a_move.from.0, a_move.from.1)).collect();
        for (a_move, from) in moves.iter().zip(&left) {
            self.rename(from, &self.place(&a_move.own, UNKNOWN_SUFFIX))?;
        }
        // Where nothing is in the way comes first: what is goes to a place that stays free.
        let is_free = |a_move: &Move| self.occupants(&a_move.own).is_empty();
        let (free, taken): (Vec<_>, Vec<_>) = moves.into_iter().partition(is_free);
        for a_move in free.into_iter().chain(taken) {
            let from = self.place(&a_move.from.0, a_move.from.1);
            let aside = self.place(&a_move.own, UNKNOWN_SUFFIX);
            if self.make_way(&a_move, &left)? {
                self.rename(&aside, &self.place(&a_move.own, ""))?;
                self.report.did(Action::Rename { from, to: a_move.own });
            } else if !self.is_taken(&from) {
                // It is no more than another file with the same id.
                self.rename(&aside, &from)?;
            }
        }
        Ok(())
    }

    /// Of several copies of one file one moves, a whole one if there is one; none where something is left of an earlier repair.
    fn one_for_each_place(&self, moves: Vec<Move>) -> Vec<Move> {
        let mut of_place: BTreeMap<String, Vec<Move>> = BTreeMap::new();
        for a_move in moves {
            of_place.entry(a_move.own.clone()).or_default().push(a_move);
        }
        let is_passable = |own: &str| !self.is_taken(&self.place(own, UNKNOWN_SUFFIX));
        let of_place = of_place.into_iter().filter(|(own, _)| is_passable(own));
        let best = of_place.filter_map(|(_, mut copies)| {
            let whole = copies.iter().position(|copy| copies.len() == 1 || self.is_whole(&copy.from.0, copy.from.1));
            (!copies.is_empty()).then(|| copies.swap_remove(whole.unwrap_or(0)))
        });
        best.collect()
    }

    /// What stands where a file belongs, under its own name or as one that was set aside: what stands behind it.
    fn occupants(&self, own: &str) -> Vec<&'static str> {
        ["", RETIRED_SUFFIX].into_iter().filter(|suffix| self.is_taken(&self.place(own, suffix))).collect()
    }

    /// Moves what can't be read out of a file's place: a file with the same id to the [ruins](Self::keep_ruin) if the one that comes is
    /// whole, one that does not say which it is to a place that others have left, as it is most likely the file of that name. Returns
    /// whether the place is free.
    fn make_way(&mut self, a_move: &Move, left: &[PathBuf]) -> Result<bool, OpenError> {
        let own = &*a_move.own;
        for suffix in self.occupants(own) {
            let (readable, facts) = self.read(own, suffix, Effort::EveryPage);
            let free = left.iter().find(|place| !self.is_taken(place));
            match (readable, free) {
                (Readable::All | Readable::OutOfReach { .. }, _) => return Ok(false),
                (Readable::Nothing { .. }, Some(free)) if facts.id.is_none() => {
                    let (from, to) = (self.place(own, suffix), self.in_store(free));
                    self.rename(&from, free)?;
                    self.report.did(Action::Rename { from, to });
                }
                _ if self.is_whole(own, UNKNOWN_SUFFIX) => self.keep_ruin(own, suffix)?,
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// The path of a place inside the store's folder.
    pub(super) fn in_store(&self, place: &Path) -> String {
        place.strip_prefix(&self.paths.store).unwrap_or(place).display().to_string()
    }

    fn is_whole(&self, path: &str, suffix: &str) -> bool {
        matches!(self.read(path, suffix, Effort::EveryPage).0, Readable::All)
    }

    /// Keeps what is left of a file of which there is a whole copy, under a name that no store reads.
    fn keep_ruin(&mut self, path: &str, suffix: &str) -> Result<(), OpenError> {
        let place = self.place(path, suffix);
        let kept = self.free_name(path, RUIN_SUFFIX);
        self.rename(&place, &kept)?;
        self.report.did(Action::KeepRuin { path: path.to_owned(), kept_as: kept });
        Ok(())
    }

    /// A name that nothing has, with a number behind it.
    pub(super) fn free_name(&self, path: &str, suffix: &str) -> PathBuf {
        let numbered = |number: usize| self.place(path, &format!("{suffix}-{number}"));
        (1..).map(numbered).find(|kept| !self.is_taken(kept)).unwrap_or_else(|| numbered(0))
    }

    /// Puts whole copies of listed files, wherever they lie in the folder, into the places of these where what stands there is damaged.
    pub(super) fn put_whole_copies_in_place(&mut self) -> Result<(), OpenError> {
        let survey = self.survey()?;
        let live = survey.live.iter().map(|record| (record, ""));
        let listed = live.chain(survey.aside.iter().map(|record| (record, RETIRED_SUFFIX)));
        let homes: HashMap<&str, (&str, &'static str)> =
            listed.map(|(record, suffix)| (&*record.id, (&*record.path, suffix))).collect();
        let names_of = |file: &UnknownFile| -> Vec<(String, &'static str)> {
            file.names.all().map(|suffix| (file.path.clone(), suffix)).collect()
        };
        let unknown = survey.unknown.iter().flat_map(names_of);
        for copy in unknown.chain(survey.further.iter().cloned()) {
            let (_, facts) = self.read(&copy.0, copy.1, Effort::Footer);
            let Some(id) = facts.id.as_deref() else { continue };
            if let Some((path, suffix)) = homes.get(id).copied() {
                self.take_the_place_of_a_ruin(copy, Home { path: path.to_owned(), suffix })?;
            } else if !self.contents.files.iter().any(|record| record.id == id) {
                self.go_where_it_says(copy, &facts)?;
            }
        }
        Ok(())
    }

    /// Moves a whole file that the catalogue does not know to where it belongs by what it says of itself, if that is elsewhere and nothing
    /// is there but ruins of it.
    fn go_where_it_says(&mut self, copy: (String, &'static str), facts: &Facts) -> Result<(), OpenError> {
        let Some(own) = where_it_belongs(&copy.0, facts) else { return Ok(()) };
        let home = Home { path: own, suffix: "" };
        let (from, target) = (self.place(&copy.0, copy.1), self.place(&home.path, home.suffix));
        let is_home = copy.0 == home.path;
        if self.take_the_place_of_a_ruin(copy.clone(), Home { path: home.path.clone(), suffix: "" })? || is_home {
            return Ok(());
        }
        let suffixes = ["", NEW_SUFFIX, RETIRED_SUFFIX, UNKNOWN_SUFFIX];
        let is_empty = !suffixes.iter().any(|suffix| self.is_taken(&self.place(&home.path, suffix)));
        if is_empty && self.obstacle(&target).is_none() && self.is_whole(&copy.0, copy.1) {
            self.rename(&from, &target)?;
            self.report.did(Action::MoveBack { from, to: home.path.clone() });
        }
        Ok(())
    }

    /// Puts a copy of a file into its place, if it is whole and what stands there is not. Where nothing stands nothing is done. Returns
    /// whether it was done.
    fn take_the_place_of_a_ruin(&mut self, copy: (String, &'static str), home: Home) -> Result<bool, OpenError> {
        let id = id_of_path(&home.path).map(str::to_owned);
        let mut ruins = Vec::new();
        for suffix in ["", NEW_SUFFIX, RETIRED_SUFFIX, UNKNOWN_SUFFIX] {
            if (&*home.path, suffix) == (&*copy.0, copy.1) || !self.is_taken(&self.place(&home.path, suffix)) {
                continue;
            }
            let (readable, facts) = self.read(&home.path, suffix, Effort::EveryPage);
            let belongs_elsewhere = facts.id.is_some() && facts.id != id;
            if belongs_elsewhere || matches!(readable, Readable::All | Readable::OutOfReach { .. }) {
                return Ok(false);
            }
            ruins.push(suffix);
        }
        if ruins.is_empty() || !self.is_whole(&copy.0, copy.1) {
            return Ok(false);
        }
        for suffix in ruins {
            self.keep_ruin(&home.path, suffix)?;
        }
        let from = self.place(&copy.0, copy.1);
        self.rename(&from, &self.place(&home.path, home.suffix))?;
        self.report.did(Action::Rename { from, to: home.path.clone() });
        Ok(true)
    }

    /// Moves files back to where the catalogue lists them, if nothing is there.
    pub(super) fn move_back_misplaced_files(&mut self) -> Result<(), OpenError> {
        let survey = self.survey()?;
        self.stuck.clear();
        let mut homes = self.empty_homes(&survey);
        if homes.is_empty() {
            return Ok(());
        }
        // What a file says of itself comes before what its name says.
        let mut found: Vec<(bool, String, &UnknownFile)> = Vec::new();
        for file in &survey.unknown {
            let (readable, facts) = self.read(&file.path, file.names.best(), Effort::Footer);
            let (is_sealed, id) = (facts.id.is_some(), facts.id.or(id_of_path(&file.path).map(str::to_owned)));
            let Some(id) = id.filter(|id| homes.contains_key(id)) else { continue };
            if let Readable::OutOfReach { error } = readable {
                let why = format!("it is out of reach: {error}");
                self.stuck.insert(id, Stuck { path: file.path.clone(), why });
                continue;
            }
            found.push((!is_sealed, id, file));
        }
        found.sort_by_key(|(only_named, ..)| *only_named);
        for (_, id, file) in found {
            let Some(home) = homes.remove(&id) else { continue };
            self.stuck.remove(&id);
            self.move_back(id, file, home)?;
        }
        Ok(())
    }

    /// Moves unknown files that lie in another tenant's folder to their own tenant's. Where one can't be moved it is not adopted.
    pub(super) fn move_to_their_tenants(&mut self) -> Result<(), OpenError> {
        let survey = self.survey()?;
        for file in &survey.unknown {
            let (_, facts) = self.read(&file.path, file.names.best(), Effort::Footer);
            let (Some(id), Some(tenant), Some((place, hour))) = (facts.id, facts.tenant, &file.place) else { continue };
            let is_listed = || self.contents.files.iter().any(|record| record.id == id);
            if *place == tenant || is_listed() {
                continue;
            }
            let home = || Home { path: file_path(&tenant, &Table::SPANS, *hour, &id), suffix: file.names.best() };
            if !self.take_the_place_of_a_ruin((file.path.clone(), file.names.best()), home())? {
                let home = home();
                self.move_back(id, file, home)?;
            }
        }
        Ok(())
    }

    /// The listed files that are not where they belong, by their ids.
    fn empty_homes(&self, survey: &Survey) -> HashMap<String, Home> {
        let suffixes = ["", NEW_SUFFIX, RETIRED_SUFFIX, UNKNOWN_SUFFIX];
        let is_empty = |path: &str| !suffixes.iter().any(|suffix| self.is_taken(&self.place(path, suffix)));
        let live = survey.missing.iter().map(|record| (record, ""));
        let others = survey.aside.iter().chain(&survey.retired).map(|record| (record, RETIRED_SUFFIX));
        live.chain(others)
            .filter(|(record, _)| is_empty(&record.path))
            .map(|(record, suffix)| (record.id.clone(), Home { path: record.path.clone(), suffix }))
            .collect()
    }

    fn move_back(&mut self, id: String, file: &UnknownFile, home: Home) -> Result<(), OpenError> {
        let from = (file.path.clone(), file.names.best());
        let (place, target) = (self.place(&from.0, from.1), self.place(&home.path, home.suffix));
        let moved = match self.obstacle(&target) {
            Some(why) => Err(why),
            None => match self.rename(&place, &target) {
                // It was moved, but may come back after a power failure.
                Err(error) if target.exists() => return Err(error),
                outcome => outcome.map_err(|error| chain(&error)),
            },
        };
        match moved {
            Ok(()) => {
                self.report.did(Action::MoveBack { from: place, to: home.path.clone() });
            }
            Err(why) => {
                let why = format!("it belongs to {}, and could not be moved back: {why}", home.path);
                self.stuck.insert(id, Stuck { path: from.0, why });
            }
        }
        Ok(())
    }

    /// What stands where a file, or a folder above it, is to be.
    fn obstacle(&self, target: &Path) -> Option<String> {
        let in_the_way = |what: &Path| Some(format!("{} is in the way; move that elsewhere", what.display()));
        if self.is_taken(target) {
            return in_the_way(target);
        }
        let mut above = target.ancestors().skip(1).take_while(|at| *at != self.paths.store);
        above.find(|at| self.is_taken(at) && !at.is_dir()).and_then(in_the_way)
    }

    /// Why an unknown file is not adopted: the catalogue lists another with its id.
    pub(super) fn belongs_elsewhere(&self, path: &str, sealed_id: Option<&str>, listed: &Listed) -> Option<String> {
        let ids = [sealed_id, id_of_path(path)];
        if let Some(stuck) = ids.iter().flatten().find_map(|id| self.stuck.get(*id)).filter(|stuck| stuck.path == path)
        {
            return Some(stuck.why.clone());
        }
        ids.into_iter().flatten().find_map(|id| {
            let other = self.contents.files.iter().find(|record| record.id == id).map(|record| &record.path);
            match other {
                Some(other) => {
                    Some(format!("another file with the id {id} is listed, {other}: if this is a copy, remove it"))
                }
                None => {
                    let why = || format!("another file with the id {id} is listed: if this is a copy, remove it");
                    listed.live.contains_key(id).then(why)
                }
            }
        })
    }
}

/// Where a file belongs by what it says of itself; whose it is may be told by the folder in which it lies.
pub(super) fn where_it_belongs(path: &str, facts: &Facts) -> Option<String> {
    let tenant = facts.tenant.clone().or_else(|| hour_of_path(path).map(|(tenant, _)| tenant))?;
    Some(file_path(&tenant, &Table::SPANS, hour_of(facts.starts?.0), facts.id.as_ref()?))
}
