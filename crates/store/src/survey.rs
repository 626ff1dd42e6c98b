//! What the catalogue lists and what lies in the store's folder, side by side. Opens no file.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use tracehouse_catalogue::{CatalogueContents, DamagedRow, FileRecord, Retirement, RetirementReason, Table};
use tracehouse_disk::{Disk, DiskError, what_is_no_file};
use tracehouse_model::TenantId;

use crate::foreseen::Foreseen;
use crate::object_stores::is_configured;
use crate::objects::{
    NEW_SUFFIX, RETIRED_SUFFIX, UNKNOWN_SUFFIX, hour_of_path, id_of_path, is_folder_of_layout, split_suffix,
};
use crate::other_tables::{OfOtherTables, other_table_of_path};

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

    /// In an order of their own, as folders list them in any.
    fn add(&mut self, suffix: &'static str) {
        self.0.push(suffix);
        self.0.sort_unstable();
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().copied()
    }
}

/// Files by the path of their own name.
type Files = BTreeMap<String, Names>;

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

impl UnknownFile {
    /// One that has its own name, in its own folder.
    pub(crate) fn in_its_place(path: &str) -> Self {
        Self { path: path.to_owned(), names: Names(vec![""]), place: hour_of_path(path) }
    }
}

/// Every file in one of its states.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    pub(crate) live: Vec<FileRecord>,
    /// Live files that stand under another name than their own, and what stands behind it.
    pub(crate) renamed: Vec<(String, &'static str)>,
    /// Of live files and damaged ones that lie under several names those that are not their own, and what stands behind each.
    pub(crate) further: Vec<(String, &'static str)>,
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
    /// Live and damaged files in object stores that are not configured.
    pub(crate) elsewhere: Vec<FileRecord>,
    pub(crate) of_other_tables: OfOtherTables,
}

/// So many folders below the store's are looked into: files lie in the fourth, and a little deeper if someone moved them.
const DEPTH_MAX: usize = 8;

/// A folder that is still to be listed.
struct Folder {
    path: PathBuf,
    /// How many folders it is below the store's.
    depth: usize,
    /// What is behind a link belongs to the store only as far as it has our names: a link may lead to anything, such as the
    /// root of all.
    is_behind_link: bool,
}

impl Folder {
    fn inside(&self, path: PathBuf, is_link: bool) -> Self {
        Self { path, depth: self.depth + 1, is_behind_link: self.is_behind_link || is_link }
    }

    /// Whether files of ours may lie in it. An operator may have put the folder of a tenant, or of a day, on another disk.
    fn may_be_ours(&self) -> bool {
        let name = self.path.file_name().unwrap_or_default().to_string_lossy();
        self.depth <= DEPTH_MAX && (!self.is_behind_link || is_folder_of_layout(self.depth, &name))
    }
}

/// The names of all files in a folder; one that is not there yet holds nothing, and what is no file does not count. A folder
/// inside that can't be listed costs what is in it. Links may lead in circles, so each folder is listed once, however
/// many ways lead there; those without links come first.
pub(crate) fn list(disk: &Disk, root: &Path) -> Result<Listing, DiskError> {
    let mut listing = Listing::default();
    let mut folders = Vec::new();
    if root.is_dir() {
        folders.push(Folder { path: root.to_owned(), depth: 0, is_behind_link: false });
    }
    let mut links: BTreeMap<PathBuf, Folder> = BTreeMap::new();
    let mut visited = HashSet::new();
    while let Some(folder) = folders.pop().or_else(|| links.pop_first().map(|(_, folder)| folder)) {
        if fs::metadata(&folder.path).is_ok_and(|found| !visited.insert((found.dev(), found.ino()))) {
            continue;
        }
        let inside = match disk.list(&folder.path) {
            Err(error) if folder.depth > 0 => {
                listing.unlisted.push(error);
                continue;
            }
            inside => inside?,
        };
        for (path, kind) in inside {
            // What a link leads to counts, if it can be told.
            let target = kind.is_symlink().then(|| fs::metadata(&path).map(|target| target.file_type()));
            let found = target.and_then(Result::ok).unwrap_or(kind);
            if found.is_dir() {
                let below = folder.inside(path, kind.is_symlink());
                match below.may_be_ours() {
                    true if kind.is_symlink() => drop(links.insert(below.path.clone(), below)),
                    true => folders.push(below),
                    false => {}
                }
            } else if found.is_file() || what_is_no_file(&path).is_none() {
                let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy();
                let Some((own_name, suffix)) = split_suffix(&name) else { continue };
                listing.files.entry(own_name.to_owned()).or_default().add(suffix);
            }
        }
    }
    Ok(listing)
}

/// The same, for who must know of every file.
pub(crate) fn list_all(disk: &Disk, root: &Path) -> Result<Listing, DiskError> {
    let mut listing = list(disk, root)?;
    listing.unlisted.pop().map_or(Ok(listing), Err)
}

impl Listing {
    /// Takes the files to have the names that a dry run foresees.
    pub(crate) fn with(mut self, root: &Path, foreseen: &Foreseen) -> Self {
        for (path, now_at) in foreseen.changed() {
            let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy();
            let Some((own_name, suffix)) = split_suffix(&name) else { continue };
            let names = self.files.entry(own_name.to_owned()).or_default();
            names.0.retain(|known| *known != suffix);
            if now_at.is_some_and(|place| place.exists() && what_is_no_file(&place).is_none()) {
                names.add(suffix);
            }
        }
        self.files.retain(|_, names| !names.0.is_empty());
        self
    }
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
            let waits_for_deletion = record.retired.as_ref().is_some_and(is_to_be_deleted);
            if !is_configured(&record.object_store) {
                // What is to be deleted there waits.
                survey.elsewhere.extend((record.table == Table::SPANS && !waits_for_deletion).then_some(record));
                continue;
            }
            let names = left.remove(&record.path);
            if record.table != Table::SPANS && !waits_for_deletion {
                survey.of_other_tables.listed.push(record);
                continue;
            }
            if !waits_for_deletion {
                let several = names.iter().filter(|names| names.all().count() > 1);
                let further = several.flat_map(|names| names.all().filter(|suffix| !suffix.is_empty()));
                survey.further.extend(further.map(|suffix| (record.path.clone(), suffix)));
            }
            match record.retired.as_ref().map(|retirement| retirement.reason) {
                Some(RetirementReason::Damaged) => survey.aside.push(record),
                Some(RetirementReason::Replaced | RetirementReason::Expired | RetirementReason::LeftOut) => {
                    survey.retired.push(record);
                }
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
        let of_spans = || strays.iter().filter(|(path, _)| other_table_of_path(path).is_none());
        let is_whole = is_known && of_spans().all(|(_, names)| *names == Names(vec![NEW_SUFFIX]));
        let missing: HashSet<&str> = self.missing.iter().map(|record| record.id.as_str()).collect();
        for (path, names) in strays {
            if let Some(table) = other_table_of_path(&path) {
                self.of_other_tables.unknown.push((path, table));
                continue;
            }
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

fn is_to_be_deleted(retired: &Retirement) -> bool {
    retired.reason != RetirementReason::Damaged
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    const HOUR: &str = "tenant=a/spans/date=2025-06-01/hour=12";

    fn names(root: &Path) -> Vec<String> {
        let listing = list(&Disk::default(), root).expect("it can be listed");
        assert!(listing.unlisted.is_empty());
        let mut names: Vec<String> = listing.files.into_keys().collect();
        names.sort();
        names
    }

    fn put(path: PathBuf) {
        fs::create_dir_all(path.parent().expect("a folder")).expect("can be made");
        fs::write(path, "").expect("can be written");
    }

    /// Before, two links that led upwards were walked for ever, and one to everything on the machine was walked entirely.
    #[test]
    fn links_that_lead_in_circles_or_elsewhere_are_no_part_of_the_store() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().join("store");
        let file = format!("{HOUR}/x.parquet");
        put(root.join(&file));
        put(folder.path().join("elsewhere/spans/date=2025-06-01/y.parquet"));
        for (name, target) in [("up", ".."), ("up-too", ".."), ("all", "/"), ("processes", "/proc")] {
            symlink(target, root.join(name)).expect("can be made");
        }
        // With names of ours.
        let inside = root.join("tenant=a/spans");
        for (place, target) in [
            (root.join("tenant=b"), "tenant=a"),
            (root.join("tenant=c"), "/"),
            (root.join("tenant=d"), "."),
            (inside.join("date=2025-06-02"), ".."),
            (inside.join("date=2025-06-03"), "../../.."),
            (inside.join("date=2025-06-01/hour=13"), "."),
        ] {
            symlink(target, place).expect("can be made");
        }
        assert_eq!(names(&root), [file]);
    }

    #[test]
    fn folders_on_another_disk_are_part_of_the_store() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (root, other) = (folder.path().join("store"), folder.path().join("disk"));
        put(other.join("tenant-a/spans/date=2025-06-01/hour=12/x.parquet"));
        put(other.join("tenant-a/other/y.parquet"));
        put(other.join("day/hour=12/z.parquet.retired"));
        fs::create_dir_all(root.join("tenant=b/spans")).expect("can be made");
        symlink(other.join("tenant-a"), root.join("tenant=a")).expect("can be made");
        symlink(other.join("day"), root.join("tenant=b/spans/date=2025-06-01")).expect("can be made");
        let expected = [format!("{HOUR}/x.parquet"), "tenant=b/spans/date=2025-06-01/hour=12/z.parquet".to_owned()];
        assert_eq!(names(&root), expected);
    }

    #[test]
    fn moved_files_are_found_a_little_deeper_and_in_any_folder() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let found = format!("kept/of/last/week/{HOUR}/x.parquet");
        put(folder.path().join(&found));
        put(folder.path().join(format!("too/deep/kept/of/last/week/{HOUR}/y.parquet")));
        put(folder.path().join("z.parquet"));
        assert_eq!(names(folder.path()), [found, "z.parquet".to_owned()]);
    }
}
