//! Where files of spans lie: their names, how they come into the store and leave it.
//!
//! # Power failures
//!
//! A file on a local disk has one of three names in its life: `x.parquet.new` (written, its commit is still to come),
//! `x.parquet` (it counts) and `x.parquet.retired` (it no longer counts). The catalogue alone decides what counts; names are
//! for engines that read the folder with a glob. A rename or removal whose folder was not synchronised may be undone by a
//! power failure. For each step what a start then finds:
//!
//! - *publish* synchronises the file, the folders above it, and its own folder after it got its `.new` name. So a file that a
//!   commit names is on the disk whole, and a failure before the commit leaves a `.new` file that the catalogue does not know:
//!   a start removes it, its spans are in the log or in the files it was merged from.
//! - *confirm* (`.new` to the plain name, after the commit) is not synchronised: undone, the file is `.new` again, the
//!   catalogue lists it, and a start confirms it again.
//! - *hide* (the plain name to `.retired`, after the commit that retires it) is not synchronised: undone, the file has its
//!   plain name, the catalogue says that it is retired, and a start hides it again.
//! - *delete durably* removes files and synchronises their folders, and only then does the catalogue forget them. Undone, the
//!   file is there again under any of its names and the catalogue still calls it retired: a start deletes it again. The other
//!   order would bring it back as a file that no catalogue knows.
//! - *discard* (of a file whose commit failed) is not synchronised: undone, the file is `.new` and unknown, as after publish.
//! - A folder is removed once it is empty. Undone, there is an empty folder. It is made again by the next publish, which
//!   holds the same lock, so that a folder does not vanish between its making and the file that it is made for.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, WriteMultipart};
use parking_lot::Mutex;
use parquet::errors::ParquetError;
use tracehouse_catalogue::{FileRecord, Table};
use tracehouse_model::{Randomness, TenantId};

use crate::error::{WriteError, chain};
use crate::foreseen::Foreseen;
use crate::verify::{Effort, Readable, verify};
use tracehouse_disk::{Disk, DiskError, DiskFile, NeededFolder, open_to_read, what_is_no_file};
use tracehouse_spanfile::{FileSource, Handles, NANOS_PER_HOUR};

/// An object store, with a shortcut for the usual case that it is a local folder.
pub(crate) struct Objects {
    store: Arc<dyn ObjectStore>,
    /// Set if the store is a local folder: files are then renamed into place and read without copies.
    local_root: Option<PathBuf>,
    spool: NeededFolder,
    runtime: tokio::runtime::Handle,
    disk: Disk,
    /// Folders that survive a power failure, as far as this process knows. Also the lock between those who make folders and
    /// put files into them, and those who remove empty ones.
    durable_folders: Mutex<HashSet<PathBuf>>,
    /// Under which names a dry run sees the files; empty for all others.
    foreseen: Arc<Foreseen>,
}

/// So many folders are remembered as durable; synchronising one again costs little.
const DURABLE_FOLDERS_MAX: usize = 4096;

/// A file that is being written. Unless it is published it is gone when this is: on a full disk a half-written file must
/// not take the room that the next attempt needs.
pub(crate) struct SpooledFile {
    path: PathBuf,
    disk: Disk,
}

impl SpooledFile {
    pub(crate) fn path(&self) -> &FsPath {
        &self.path
    }
}

impl Drop for SpooledFile {
    fn drop(&mut self) {
        if let Err(error) = self.disk.remove_file(&self.path) {
            tracing::warn!(error = chain(&error), "removing a half-written file failed");
        }
    }
}

/// What stands behind the name of a local file that `*.parquet` must not match.
const FILE_SUFFIX: &str = ".parquet";
/// Written, but not known to be committed: after a crash the catalogue decides whether it counts.
pub(crate) const NEW_SUFFIX: &str = ".new";
/// No longer counts: it leaves the disk after the grace period.
pub(crate) const RETIRED_SUFFIX: &str = ".retired";
/// What an earlier version put behind the names of files that the catalogue did not know.
pub(crate) const UNKNOWN_SUFFIX: &str = ".unknown";

/// The folder inside the store's in which files are written before they have their names.
pub(crate) const SPOOL: &str = ".spool";
/// What is behind such a file's name.
const SPOOLED_SUFFIX: &str = ".tmp";

impl Objects {
    pub(crate) fn new(
        store: Arc<dyn ObjectStore>,
        local_root: Option<PathBuf>,
        spool: PathBuf,
        runtime: tokio::runtime::Handle,
        disk: Disk,
    ) -> Result<Self, DiskError> {
        if let Some(root) = &local_root {
            disk.make_private(root)?;
        }
        let spool = NeededFolder::make(&disk, spool)?;
        // What a crash left half written was never named by the catalogue.
        for (path, _) in disk.list(spool.path())? {
            // Whatever else is there is not ours: the folder may be a link to another.
            if path.to_string_lossy().ends_with(SPOOLED_SUFFIX) {
                disk.remove_file(&path)?;
            }
        }
        let (durable_folders, foreseen) = (Mutex::default(), Arc::default());
        Ok(Self { store, local_root, spool, runtime, disk, durable_folders, foreseen })
    }

    /// For who only reads: nothing is made or removed.
    pub(crate) fn to_read(
        store: Arc<dyn ObjectStore>,
        local_root: PathBuf,
        runtime: tokio::runtime::Handle,
        foreseen: Arc<Foreseen>,
    ) -> Self {
        let spool = NeededFolder::known(local_root.join(SPOOL));
        let (disk, durable_folders) = (Disk::default(), Mutex::default());
        Self { store, local_root: Some(local_root), spool, runtime, disk, durable_folders, foreseen }
    }

    /// Begins a file that has no name in the store yet.
    pub(crate) fn spool(&self, id: &str) -> Result<(SpooledFile, DiskFile), DiskError> {
        let path = self.spool.path().join(format!("{id}{SPOOLED_SUFFIX}"));
        let spooled = SpooledFile { path, disk: self.disk.clone() };
        let file = self.spool.create_file(&self.disk, spooled.path())?;
        Ok((spooled, file))
    }

    /// Moves a finished, synchronised file into the store. Afterwards it survives a power failure, and it can be opened;
    /// it gets its own name when it is [confirmed](Self::confirm).
    pub(crate) fn publish(&self, spooled: &SpooledFile, path: &str) -> Result<(), WriteError> {
        let Some(root) = &self.local_root else {
            return self.runtime.block_on(self.upload(spooled.path(), path));
        };
        let target = root.join(path);
        let folder = target.parent().unwrap_or(root);
        let new = with_suffix(&target, NEW_SUFFIX);
        {
            let mut durable = self.durable_folders.lock();
            self.create_folders(root, folder, &mut durable)?;
            self.disk.rename(spooled.path(), &new).inspect_err(|_| {
                // Somebody else may have removed a folder: the next attempt makes it again.
                durable.clear();
            })?;
        }
        if let Err(error) = self.disk.sync_folder(folder) {
            let _ = self.disk.remove_file(&new);
            return Err(error.into());
        }
        Ok(())
    }

    /// Makes the folders from the root down to one. Each is synchronised into the one above it, also if it is there already:
    /// who made it may have been interrupted before that.
    fn create_folders(&self, root: &FsPath, folder: &FsPath, durable: &mut HashSet<PathBuf>) -> Result<(), DiskError> {
        let below_root = folder.ancestors().take_while(|at| *at != root);
        let missing: Vec<&FsPath> = below_root.take_while(|at| !durable.contains(*at)).collect();
        for at in missing.into_iter().rev() {
            let is_new = self.disk.create_folder(at)?;
            if let Err(error) = self.disk.sync_folder(at.parent().unwrap_or(root)) {
                // A second synchronisation may succeed for what the first one lost; a second making is written again.
                if is_new {
                    let _ = self.disk.remove_empty_folder(at);
                }
                return Err(error);
            }
            if durable.len() >= DURABLE_FOLDERS_MAX {
                durable.clear();
            }
            durable.insert(at.to_owned());
        }
        Ok(())
    }

    async fn upload(&self, spooled: &FsPath, path: &str) -> Result<(), WriteError> {
        const PART_BYTES: usize = 8 * 1024 * 1024;
        const PARTS_IN_FLIGHT_MAX: usize = 4;
        let upload = self.store.put_multipart(&Path::from(path)).await?;
        let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
        let mut file = open_to_read(spooled)?;
        let mut part = vec![0; PART_BYTES];
        loop {
            let length = io::Read::read(&mut file, &mut part)?;
            if length == 0 {
                break;
            }
            upload.wait_for_capacity(PARTS_IN_FLIGHT_MAX).await?;
            upload.write(&part[..length]);
        }
        upload.finish().await?;
        Ok(())
    }

    /// A source for a file, whose handle is kept under a number among the open ones.
    pub(crate) fn open(
        &self,
        record: &FileRecord,
        number: u64,
        handles: &Arc<Handles>,
    ) -> Result<FileSource, ParquetError> {
        match &self.local_root {
            Some(root) => {
                let (path, foreseen, disk) = (root.join(&record.path), self.foreseen.clone(), self.disk.clone());
                let open = move |open: fn(&FsPath) -> io::Result<File>| {
                    let open = |path: &FsPath| disk.open_with(path, open).map_err(|error| error.source);
                    let open_as = |suffix| foreseen.to_open(&with_suffix(&path, suffix)).and_then(|path| open(&path));
                    // A query that began before a merge may open the file after it.
                    let missing = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
                    open_as("")
                        .or_else(|error| if missing(&error) { open_as(RETIRED_SUFFIX) } else { Err(error) })
                        .or_else(|error| if missing(&error) { open_as(NEW_SUFFIX) } else { Err(error) })
                };
                Ok(FileSource::pooled(number, handles, open)?)
            }
            None => Ok(FileSource::Remote {
                objects: self.store.clone(),
                path: Path::from(record.path.as_str()),
                length: record.bytes,
                runtime: self.runtime.clone(),
            }),
        }
    }

    /// Gives a committed file its own name, from where on an engine that reads the folder with a glob sees it. A crash
    /// before this leaves it to the next start.
    pub(crate) fn confirm(&self, path: &str) {
        let Some(root) = &self.local_root else { return };
        let path = root.join(path);
        match self.disk.rename(&with_suffix(&path, NEW_SUFFIX), &path) {
            Err(error) if error.source.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(
                    error = chain(&error),
                    "giving a stored file its name failed; the next start tries again"
                );
            }
            _ => {}
        }
    }

    /// Takes a file out of `*.parquet`, so that an engine that reads the folder with a glob does not count its spans twice. What has
    /// its name and is another file stays, and nothing is written over: should something have the name for files that no longer
    /// count, the one for those that don't count yet does as well.
    /// On an object store it stays where it is until it is deleted: renaming there is copying.
    pub(crate) fn hide(&self, path: &str) {
        let Some(root) = &self.local_root else { return };
        let path = root.join(path);
        let hidden = is_another(&self.disk, &path, &path).and_then(|is_another| {
            if is_another {
                return Ok(());
            }
            match self.disk.rename(&path, &with_suffix(&path, RETIRED_SUFFIX)) {
                Err(error) if error.source.kind() == io::ErrorKind::AlreadyExists => {
                    self.disk.rename(&path, &with_suffix(&path, NEW_SUFFIX))
                }
                outcome => outcome,
            }
        });
        match hidden {
            Err(error) if error.source.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(error = chain(&error), "hiding a file that no longer counts failed");
            }
            _ => {}
        }
    }

    /// Deletes a file that does not count. One that is already gone is no error, and what has its name and is another stays.
    pub(crate) fn delete(&self, path: &str) -> Result<(), WriteError> {
        match &self.local_root {
            Some(root) => Ok(self.remove_names(&root.join(path)).map(drop)?),
            None => self.delete_object(&Path::from(path)),
        }
    }

    fn delete_object(&self, path: &Path) -> Result<(), WriteError> {
        let length = match self.runtime.block_on(self.store.head(path)) {
            Err(object_store::Error::NotFound { .. }) => return Ok(()),
            found => found?.size,
        };
        let (objects, runtime) = (self.store.clone(), self.runtime.clone());
        let source = FileSource::Remote { objects, path: path.clone(), length, runtime };
        if says_it_is_another(&|| Ok(source.clone()), path.as_ref()).map_err(io::Error::other)? {
            return Ok(());
        }
        match self.runtime.block_on(self.store.delete(path)) {
            Err(object_store::Error::NotFound { .. }) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes retired files; afterwards they do not come back after a power failure. What became of each, in their order.
    pub(crate) fn delete_durably(&self, paths: &[&str]) -> Vec<Deletion> {
        let Some(root) = &self.local_root else {
            let deletion = |path| Deletion { was_there: true, outcome: self.delete(path) };
            return paths.iter().map(|path| deletion(path)).collect();
        };
        let mut deletions: Vec<Deletion> = Vec::with_capacity(paths.len());
        let mut in_folders: BTreeMap<PathBuf, Vec<usize>> = BTreeMap::new();
        for (number, path) in paths.iter().enumerate() {
            let path = root.join(path);
            let removed = self.remove_names(&path);
            let was_there = matches!(removed, Ok(true));
            deletions.push(Deletion { was_there, outcome: removed.map(drop).map_err(WriteError::from) });
            in_folders.entry(path.parent().unwrap_or(root).to_owned()).or_default().push(number);
        }
        for (folder, numbers) in in_folders {
            match self.disk.sync_folder(&folder) {
                Ok(()) => self.remove_empty_folders(root, &folder),
                // Somebody removed the folder with all that was in it.
                Err(error) if error.source.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(error = chain(&error), "making deletions durable failed");
                    for number in numbers {
                        let source = io::Error::new(error.source.kind(), error.source.to_string());
                        let failed = DiskError { action: error.action, path: error.path.clone(), source };
                        deletions[number].outcome = Err(failed.into());
                    }
                }
            }
        }
        deletions
    }

    /// What has the name and is another file stays. Whether there was one to remove.
    fn remove_names(&self, path: &FsPath) -> Result<bool, DiskError> {
        let mut was_there = false;
        for suffix in [RETIRED_SUFFIX, NEW_SUFFIX, ""] {
            let place = with_suffix(path, suffix);
            if !is_another(&self.disk, &place, path)? {
                was_there |= self.disk.remove_file(&place)?;
            }
        }
        Ok(was_there)
    }

    /// Removes a folder and the ones above it, up to the root, that are empty. One that is kept from it costs nothing.
    fn remove_empty_folders(&self, root: &FsPath, folder: &FsPath) {
        for at in folder.ancestors().take_while(|at| *at != root) {
            let mut durable = self.durable_folders.lock();
            if !matches!(self.disk.remove_empty_folder(at), Ok(true)) {
                return;
            }
            durable.remove(at);
        }
    }

    /// Bytes free on the disk of a local store.
    pub(crate) fn free_bytes(&self) -> Option<u64> {
        free_bytes(self.local_root.as_deref().unwrap_or(self.spool.path()))
    }

    /// Gives a live file its own name again, whatever stands behind its name now. Undone by a power failure, the next start
    /// does it again.
    pub(crate) fn reveal(&self, path: &str, suffix: &str) -> Result<(), DiskError> {
        let Some(root) = &self.local_root else { return Ok(()) };
        let path = root.join(path);
        self.disk.rename(&with_suffix(&path, suffix), &path)
    }

    /// Whether a local file is there, under any of its names, even if it can't be read now. One in a folder out of reach counts as
    /// one that is not, and so does what is no file.
    pub(crate) fn is_there(&self, path: &str) -> bool {
        let Some(root) = &self.local_root else { return true };
        let path = root.join(path);
        let is_file = |path: PathBuf| fs::symlink_metadata(&path).is_ok() && what_is_no_file(&path).is_none();
        ["", RETIRED_SUFFIX, NEW_SUFFIX].iter().any(|suffix| is_file(with_suffix(&path, suffix)))
    }
}

/// The name of a stored file without what [`Objects`] puts behind it, and that.
pub(crate) fn split_suffix(name: &str) -> Option<(&str, &'static str)> {
    let end = name.rfind(FILE_SUFFIX)? + FILE_SUFFIX.len();
    let (own_name, found) = name.split_at(end);
    let suffix = ["", NEW_SUFFIX, RETIRED_SUFFIX, UNKNOWN_SUFFIX].into_iter().find(|suffix| *suffix == found)?;
    Some((own_name, suffix))
}

pub(crate) fn free_bytes(path: &FsPath) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some(disk.f_bavail * disk.f_frsize)
}

pub(crate) fn with_suffix(path: &FsPath, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A moment for people, to the minute.
pub(crate) fn minute_in_words(unix_nanos: i64) -> String {
    utc(unix_nanos).strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// A name that no other file has, sorted by time of writing.
pub(crate) fn file_id(now_unix_nanos: i64, randomness: &dyn Randomness) -> String {
    format!("{:012x}-{:016x}", now_unix_nanos / 1_000_000, randomness.next_u64())
}

/// Whether [`file_id`] makes such names.
pub(crate) fn is_file_id(id: &str) -> bool {
    let is_hex = |part: &str, digits: usize| {
        part.len() == digits && part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    id.split_once('-').is_some_and(|(time, chance)| is_hex(time, 12) && is_hex(chance, 16))
}

/// When [`file_id`] made an id, in nanoseconds since the Unix epoch.
pub(crate) fn time_of_id(id: &str) -> Option<i64> {
    let millis = i64::from_str_radix(id.split('-').next()?, 16).ok()?;
    millis.checked_mul(1_000_000)
}

/// The id that [`file_path`] put into a path.
pub(crate) fn id_of_path(path: &str) -> Option<&str> {
    path.rsplit('/').next()?.strip_suffix(FILE_SUFFIX)
}

/// `tenant=…/spans/date=…/hour=…/id.parquet`, with the table's name in the place of `spans`.
pub(crate) fn file_path(tenant: &TenantId, table: &Table, hour: i64, id: &str) -> String {
    let folders = utc(hour.saturating_mul(NANOS_PER_HOUR)).strftime("date=%Y-%m-%d/hour=%H");
    format!("tenant={tenant}/{table}/{folders}/{id}.parquet")
}

/// Whether [`file_path`] gives a folder this name that is so many folders below the store's.
pub(crate) fn is_folder_of_layout(depth: usize, name: &str) -> bool {
    match depth {
        1 => name.starts_with("tenant="),
        2 => name == Table::SPANS.as_str(),
        3 => name.starts_with("date="),
        4 => name.starts_with("hour="),
        _ => false,
    }
}

/// The tenant and the hour that [`file_path`] put into the path of a file of spans.
pub(crate) fn hour_of_path(path: &str) -> Option<(TenantId, i64)> {
    let mut parts = path.split('/');
    let tenant = TenantId::new(parts.next()?.strip_prefix("tenant=")?).ok()?;
    (parts.next()? == Table::SPANS.as_str()).then_some(())?;
    let date = Date::strptime("%Y-%m-%d", parts.next()?.strip_prefix("date=")?).ok()?;
    let hour: i8 = parts.next()?.strip_prefix("hour=")?.parse().ok()?;
    let begin = DateTime::from_parts(date, Time::new(hour, 0, 0, 0).ok()?);
    Some((tenant, TimeZone::UTC.to_timestamp(begin).ok()?.as_second() / 3600))
}

fn utc(unix_nanos: i64) -> DateTime {
    let moment = Timestamp::from_nanosecond(i128::from(unix_nanos));
    TimeZone::UTC.to_datetime(moment.expect("64 bits of nanoseconds lie within the calendar"))
}

/// What became of a file that was to be deleted.
pub(crate) struct Deletion {
    /// There was one to remove.
    pub(crate) was_there: bool,
    pub(crate) outcome: Result<(), WriteError>,
}

/// Whether a local file says that it is another than the one whose name it has.
fn is_another(disk: &Disk, place: &FsPath, path: &FsPath) -> Result<bool, DiskError> {
    let failed =
        |source| DiskError { action: "reading, before it is renamed or deleted,", path: place.to_owned(), source };
    match fs::symlink_metadata(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        found => found.map_err(failed)?,
    };
    if what_is_no_file(place).is_some() {
        return Ok(false);
    }
    let open = || Ok(FileSource::of_file(disk.open_to_read(place).map_err(|error| error.source)?)?);
    says_it_is_another(&open, &path.to_string_lossy()).map_err(|error| failed(io::Error::other(error)))
}

/// Whether a file says that it is another than the one whose name it has: somebody gave it that name, and its spans may be nowhere else.
/// An error of the machine tells nothing: then it is tried again later.
fn says_it_is_another(open: &dyn Fn() -> Result<FileSource, ParquetError>, path: &str) -> Result<bool, String> {
    let (readable, facts) = verify(open, Effort::Footer);
    if let Readable::OutOfReach { error } = readable {
        return Err(error);
    }
    let is_another = facts.id.is_some_and(|id| id_of_path(path) != Some(&*id));
    if is_another {
        metrics::counter!("tracehouse_store_deletions_refused_total").increment(1);
        tracing::error!(
            path,
            "a file has the name of one that was to be deleted, and is another: it stays; `tracehouse store repair` gives it its name back"
        );
    }
    Ok(is_another)
}

#[cfg(test)]
mod tests {
    use tracehouse_spanfile::hour_of;

    use super::*;

    #[test]
    fn paths_name_day_and_hour() {
        let hour = hour_of(1_544_712_660_000_000_000);
        let path = file_path(&TenantId::default(), &Table::SPANS, hour, "x");
        assert_eq!(path, "tenant=default/spans/date=2018-12-13/hour=14/x.parquet");
        assert_eq!(hour_of_path(&path), Some((TenantId::default(), hour)));
        for wrong in ["date=2018-13-01/hour=14", "date=2018-02-29/hour=14", "date=2018-12-13/hour=24", "date=x/hour=14"]
        {
            assert_eq!(hour_of_path(&format!("tenant=a/spans/{wrong}/x.parquet")), None, "{wrong}");
        }
        assert_eq!(minute_in_words(1_544_712_660_000_000_000), "2018-12-13 14:51 UTC");
        for (hour, day) in [
            (-1, "date=1969-12-31/hour=23"),
            (0, "date=1970-01-01/hour=00"),
            (19_782 * 24, "date=2024-02-29/hour=00"),
            (-2_562_047, "date=1677-09-21/hour=01"),
        ] {
            let path = file_path(&TenantId::default(), &Table::SPANS, hour, "x");
            assert_eq!(path, format!("tenant=default/spans/{day}/x.parquet"));
            assert_eq!(hour_of_path(&path), Some((TenantId::default(), hour)));
        }
    }
}
