//! What the catalogue lists and what lies in the store's folder, side by side. Opens no file.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

use tracehouse_catalogue::{CatalogueContents, DamagedRow, FileRecord, RetirementReason};
use tracehouse_model::TenantId;

use crate::disk::{Disk, DiskError};
use crate::objects::{NEW_SUFFIX, RETIRED_SUFFIX, UNKNOWN_SUFFIX, hour_of_path, id_of_path, split_suffix};
use crate::regular::what_is_no_file;

/// Up to one in so many listed files may be missing; more means that the folder is not what the catalogue describes.
const LISTED_PER_MISSING_MIN: usize = 20;

/// What stands behind the names under which one file lies in the folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Names(Vec<&'static str>);

impl Names {
    /// The one to read it under: its own before all others.
    pub(crate) fn best(&self) -> &'static str {
        let rank = |suffix: &&&'static str| {
            [RETIRED_SUFFIX, UNKNOWN_SUFFIX, NEW_SUFFIX, ""].iter().position(|known| known == *suffix)
        };
        self.0.iter().max_by_key(rank).copied().unwrap_or("")
    }
}

/// Files by the path of their own name.
type Files = HashMap<String, Names>;

/// What lies in the store's folder.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    files: Files,
    /// Folders that could not be listed, and why.
    pub(crate) unlisted: Vec<DiskError>,
}

/// A file that the catalogue does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UnknownFile {
    /// The path of its own name.
    pub(crate) path: String,
    pub(crate) names: Names,
    /// Whose it is and in which hour its spans begin, as far as the path tells.
    pub(crate) place: Option<(TenantId, i64)>,
}

/// Every file in one of its states.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) live: Vec<FileRecord>,
    /// Live files that stand under another name than their own, and what stands behind it.
    pub(crate) renamed: Vec<(String, &'static str)>,
    pub(crate) missing: Vec<FileRecord>,
    /// Live files of which nobody knows whether they are there: their folder could not be listed.
    pub(crate) out_of_reach: Vec<FileRecord>,
    /// Such folders, and why.
    pub(crate) unlisted: Vec<DiskError>,
    /// Damaged, kept aside.
    pub(crate) aside: Vec<FileRecord>,
    /// Replaced or expired; they wait for their deletion.
    pub(crate) retired: Vec<FileRecord>,
    pub(crate) unknown: Vec<UnknownFile>,
    /// Written, but never committed: their spans are elsewhere.
    pub(crate) unfinished: Vec<String>,
    pub(crate) damaged_rows: Vec<DamagedRow>,
}

/// The names of all files in a folder; one that is not there yet holds nothing, and what is no file does not count. A folder
/// inside that can't be listed costs what is in it.
pub(crate) fn list(disk: &Disk, root: &Path) -> Result<Listing, DiskError> {
    let mut listing = Listing::default();
    let mut folders = if root.is_dir() { vec![root.to_owned()] } else { Vec::new() };
    while let Some(folder) = folders.pop() {
        let inside = match disk.list(&folder) {
            Err(error) if folder != *root => {
                listing.unlisted.push(error);
                continue;
            }
            inside => inside?,
        };
        for (path, kind) in inside {
            // What a link leads to counts, if it can be told.
            let target = kind.is_symlink().then(|| fs::metadata(&path).map(|target| target.file_type()));
            let kind = target.and_then(Result::ok).unwrap_or(kind);
            if kind.is_dir() {
                folders.push(path);
                continue;
            }
            if !kind.is_file() && what_is_no_file(&path).is_some() {
                continue;
            }
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy();
            let Some((own_name, suffix)) = split_suffix(&name) else { continue };
            listing.files.entry(own_name.to_owned()).or_default().0.push(suffix);
        }
    }
    Ok(listing)
}

/// The same, for who must know of every file.
pub(crate) fn list_all(disk: &Disk, root: &Path) -> Result<Listing, DiskError> {
    let mut listing = list(disk, root)?;
    listing.unlisted.pop().map_or(Ok(listing), Err)
}

/// Takes a file of a listing to be elsewhere.
pub(crate) fn rename(listing: &mut Listing, from: (&str, &'static str), to: (&str, &'static str)) {
    let files = &mut listing.files;
    if let Some(names) = files.get_mut(from.0) {
        names.0.retain(|suffix| *suffix != from.1);
        if names.0.is_empty() {
            files.remove(from.0);
        }
    }
    files.entry(to.0.to_owned()).or_default().0.push(to.1);
}

impl Survey {
    /// Compares the catalogue with the store's folder. Without a listing (an object store) all files are taken to be there.
    pub(crate) fn new(contents: CatalogueContents, root: &Path, listing: Option<Listing>) -> Self {
        let mut survey = Self { damaged_rows: contents.damaged_rows, ..Self::default() };
        let is_remote = listing.is_none();
        let Listing { files: mut left, unlisted } = listing.unwrap_or_default();
        let is_unlisted = |record: &FileRecord| {
            let path = root.join(&record.path);
            unlisted.iter().any(|folder| path.starts_with(&folder.path))
        };
        for record in contents.files {
            let names = left.remove(&record.path);
            match record.retired.as_ref().map(|retirement| retirement.reason) {
                Some(RetirementReason::Damaged) => survey.aside.push(record),
                Some(RetirementReason::Replaced | RetirementReason::Expired) => survey.retired.push(record),
                None if names.is_none() && is_unlisted(&record) => survey.out_of_reach.push(record),
                None if names.is_none() && !is_remote => survey.missing.push(record),
                None => {
                    let stands_under = names.map_or("", |names| names.best());
                    if !stands_under.is_empty() {
                        survey.renamed.push((record.path.clone(), stands_under));
                    }
                    survey.live.push(record);
                }
            }
        }
        survey.unlisted = unlisted;
        survey.sort_strays(left);
        survey
    }

    /// A file that was never committed is told from one whose catalogue was lost by its name; but only a catalogue that
    /// knows everything else can say that it never knew a file.
    fn sort_strays(&mut self, strays: Files) {
        let is_known = self.damaged_rows.is_empty() && self.unlisted.is_empty();
        let is_whole = is_known && strays.values().all(|names| *names == Names(vec![NEW_SUFFIX]));
        let missing: HashSet<&str> = self.missing.iter().map(|record| record.id.as_str()).collect();
        for (path, names) in strays {
            // One that is listed elsewhere was committed.
            let is_listed = id_of_path(&path).is_some_and(|id| missing.contains(id));
            if is_whole && !is_listed {
                self.unfinished.push(path);
            } else {
                let place = hour_of_path(&path);
                self.unknown.push(UnknownFile { path, names, place });
            }
        }
        self.unknown.sort_unstable_by(|left, right| left.path.cmp(&right.path));
        self.unfinished.sort_unstable();
    }

    /// Whether so many files are missing that the folder can't be the right one, or not all of it.
    pub(crate) fn too_many_missing(&self) -> bool {
        let (missing, there) = (self.missing.len(), self.live.len() + self.out_of_reach.len());
        let listed = missing + there;
        missing > 0 && (missing == listed || (missing > 1 && missing * LISTED_PER_MISSING_MIN > listed))
    }
}
