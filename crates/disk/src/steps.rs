//! What is done to the disk: folders and files that only their owner can read, names that survive a power failure,
//! and errors that say which path they are about.
//!
//! A name (of a new file or folder, after a rename, after a removal) survives a power failure only once the folder that
//! holds it was synchronised. Who calls this decides when; [`Disk::sync_folder`] is the step.
//!
//! Tests put [`DiskFaults`] before every step, to make it fail or to look at the folders at that moment.

use std::fmt;
use std::fs::{self, DirBuilder, DirEntry, File, FileType, OpenOptions, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::regular::{open_new, open_regular, open_to_read};

/// Folders are their owner's alone, and so are files: spans hold what their senders put into them.
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// The rights of others than the owner.
const RIGHTS_OF_OTHERS: u32 = 0o077;

/// One step on the disk, before it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiskStep<'a> {
    CreateFolder(&'a Path),
    RemoveFolder(&'a Path),
    SyncFolder(&'a Path),
    CreateFile(&'a Path),
    Read(&'a Path),
    Write { path: &'a Path, bytes: usize },
    CutOff { path: &'a Path, from: u64 },
    SyncFile(&'a Path),
    Rename { from: &'a Path, to: &'a Path },
    RemoveFile(&'a Path),
}

/// Stands before every step of a [`Disk`].
pub trait DiskFaults: Send + Sync {
    /// An error takes the place of the step. `site`: the place in the code that asks for it, so that a test can do as if it did not.
    fn before(&self, step: DiskStep<'_>, site: &'static Location<'static>) -> io::Result<()>;

    /// How many bytes of a [`DiskStep::Write`] that fails reach the file all the same.
    fn torn(&self, bytes: usize) -> usize {
        let _ = bytes;
        0
    }
}

/// The way to the disk.
#[derive(Clone, Default)]
pub struct Disk {
    faults: Option<Arc<dyn DiskFaults>>,
}

impl fmt::Debug for Disk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Disk").field("faults", &self.faults.is_some()).finish()
    }
}

/// A step on the disk that failed.
#[derive(Debug, thiserror::Error)]
#[error("{action} {} failed; {}", path.display(), advice(source))]
pub struct DiskError {
    pub action: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

/// What a person can do about an error of the disk.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on the disk",
        io::ErrorKind::PermissionDenied => {
            "check that it belongs to the user that runs the server, who must be able to read and write it"
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "something else stands in its place: move that away"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "the file system is read-only: look for errors of the disk, then mount it anew"
        }
        io::ErrorKind::NotFound => "check that its folder is there and that the disk is mounted",
        _ => "check the disk",
    }
}

impl Disk {
    /// A disk whose steps tests watch and make fail.
    pub fn with_faults(faults: Arc<dyn DiskFaults>) -> Self {
        Self { faults: Some(faults) }
    }

    #[track_caller]
    fn step<T>(
        &self,
        action: &'static str,
        step: DiskStep<'_>,
        path: &Path,
        work: impl FnOnce() -> io::Result<T>,
    ) -> Result<T, DiskError> {
        let site = Location::caller();
        let allowed = self.faults.as_ref().map_or(Ok(()), |faults| faults.before(step, site));
        allowed.and_then(|()| work()).map_err(|source| DiskError { action, path: path.to_owned(), source })
    }

    /// Makes a folder whose parent is there. Returns whether it is new.
    pub fn create_folder(&self, path: &Path) -> Result<bool, DiskError> {
        self.step("making the folder", DiskStep::CreateFolder(path), path, || {
            match DirBuilder::new().mode(FOLDER_MODE).create(path) {
                Ok(()) => Ok(true),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(false),
                Err(error) => Err(error),
            }
        })
    }

    /// Makes a folder and the ones above it that are missing. Its name and that of the folder it is in survive a power
    /// failure afterwards, also if they were made by someone whom a crash kept from synchronising them.
    #[track_caller]
    pub fn settle_folder(&self, path: &Path) -> Result<(), DiskError> {
        /// A folder and the one that holds it may both be new: ours is one in the data folder.
        const LEVELS: usize = 2;
        let missing: Vec<&Path> = missing_folders(path).collect();
        for folder in missing.into_iter().rev() {
            self.create_folder(folder)?;
            self.sync_parent(folder)?;
        }
        for folder in path.ancestors().take(LEVELS) {
            match self.sync_parent(folder) {
                // A folder above ours that we may pass through but not read is not ours to keep.
                Err(error) if error.source.kind() == io::ErrorKind::PermissionDenied => {}
                outcome => outcome?,
            }
        }
        Ok(())
    }

    #[track_caller]
    fn sync_parent(&self, path: &Path) -> Result<(), DiskError> {
        match path.parent() {
            None => Ok(()),
            Some(parent) if parent.as_os_str().is_empty() => self.sync_folder(Path::new(".")),
            Some(parent) => self.sync_folder(parent),
        }
    }

    /// Makes the names in a folder survive a power failure.
    #[track_caller]
    pub fn sync_folder(&self, path: &Path) -> Result<(), DiskError> {
        self.step("synchronising the folder", DiskStep::SyncFolder(path), path, || {
            let folder_only = OFlags::DIRECTORY.bits().cast_signed();
            OpenOptions::new().read(true).custom_flags(folder_only).open(path)?.sync_all()
        })
    }

    /// Removes a folder if it is empty. Returns whether it is gone.
    pub fn remove_empty_folder(&self, path: &Path) -> Result<bool, DiskError> {
        self.step("removing the empty folder", DiskStep::RemoveFolder(path), path, || match fs::remove_dir(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(false),
            Err(error) => Err(error),
        })
    }

    /// Makes a file, or empties the one that has the name.
    pub fn create_file(&self, path: &Path) -> Result<DiskFile, DiskError> {
        let file = self.step("making the file", DiskStep::CreateFile(path), path, || {
            open_new(path, OpenOptions::new().create(true).write(true).truncate(true).mode(FILE_MODE))
        })?;
        Ok(DiskFile { file, path: path.to_owned(), disk: self.clone() })
    }

    pub fn open_to_write(&self, path: &Path) -> Result<DiskFile, DiskError> {
        let opened = open_regular(path, OpenOptions::new().write(true));
        let file = opened.map_err(|source| DiskError { action: "opening", path: path.to_owned(), source })?;
        Ok(DiskFile { file, path: path.to_owned(), disk: self.clone() })
    }

    /// Makes what is in a file survive a power failure, whoever wrote it, and though it may be read-only by now.
    #[track_caller]
    pub fn sync_file(&self, path: &Path) -> Result<(), DiskError> {
        self.step("synchronising", DiskStep::SyncFile(path), path, || open_to_read(path)?.sync_all())
    }

    /// Opens a file to read it in pieces.
    pub fn open_to_read(&self, path: &Path) -> Result<File, DiskError> {
        self.step("reading", DiskStep::Read(path), path, || open_to_read(path))
    }

    /// Opens a file in the caller's own way.
    pub fn open_with(&self, path: &Path, open: impl FnOnce(&Path) -> io::Result<File>) -> Result<File, DiskError> {
        self.step("reading", DiskStep::Read(path), path, || open(path))
    }

    /// The paths and kinds of all that is in a folder, in the order of their names.
    pub fn list(&self, path: &Path) -> Result<Vec<(PathBuf, FileType)>, DiskError> {
        self.step("listing the folder", DiskStep::Read(path), path, || {
            let kind_of = |entry: DirEntry| Ok((entry.path(), entry.file_type()?));
            let entries = fs::read_dir(path)?.map(|entry| entry.and_then(kind_of));
            let mut entries = entries.collect::<io::Result<Vec<_>>>()?;
            entries.sort_unstable_by(|one, other| one.0.cmp(&other.0));
            Ok(entries)
        })
    }

    /// Renames a file. What has the name already is not written over, as it may be the only one of its content.
    pub fn rename(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.step("renaming a file to", DiskStep::Rename { from, to }, to, || rename_to_free_name(from, to))
    }

    /// The same in place of a file of which nothing is needed any more.
    pub fn rename_over(&self, from: &Path, to: &Path) -> Result<(), DiskError> {
        self.step("renaming a file to", DiskStep::Rename { from, to }, to, || fs::rename(from, to))
    }

    /// Removes a file. Returns whether it was there. Who calls it knows that the file is its own: of stored files
    /// [`Objects`](crate::objects::Objects) looks what they are.
    pub fn remove_file(&self, path: &Path) -> Result<bool, DiskError> {
        self.step("removing", DiskStep::RemoveFile(path), path, || match fs::remove_file(path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        })
    }

    /// Takes the rights of others from a file or folder that an earlier version made for all to read. Returns whether
    /// there were any. Whatever else stands there is not ours: a link may lead to a device that all others need.
    pub fn make_private(&self, path: &Path) -> Result<bool, DiskError> {
        let failed = |source| DiskError { action: "taking the rights of others from", path: path.to_owned(), source };
        let found = fs::metadata(path).map_err(failed)?;
        let (is_ours, mode) = (found.is_file() || found.is_dir(), found.mode());
        if !is_ours || mode & RIGHTS_OF_OTHERS == 0 {
            return Ok(false);
        }
        fs::set_permissions(path, Permissions::from_mode(mode & !RIGHTS_OF_OTHERS & 0o7777)).map_err(failed)?;
        Ok(true)
    }
}

/// A folder and the ones above it, as far as they are not there, the lowest first.
fn missing_folders(path: &Path) -> impl Iterator<Item = &Path> {
    path.ancestors().take_while(|at| !at.as_os_str().is_empty() && !at.exists())
}

fn rename_to_free_name(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Not every file system can do both in one step.
        Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => match fs::symlink_metadata(to) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => fs::rename(from, to),
            Err(error) => Err(error),
        },
        outcome => Ok(outcome?),
    }
}

/// A folder that a running store needs. Somebody may remove it: it is made anew where a file is to be made in it, as long as the
/// folder above it is the one that it was. Where that is another, a disk is not mounted any more, and what would be written
/// there would be hidden once it is.
#[derive(Debug)]
pub struct NeededFolder {
    path: PathBuf,
    /// The disk and the number of the folder above.
    above: Option<(u64, u64)>,
}

impl NeededFolder {
    /// Makes the folder and the ones above it that are missing. A power failure may take them back.
    pub fn make(disk: &Disk, path: PathBuf) -> Result<Self, DiskError> {
        let missing: Vec<&Path> = missing_folders(&path).collect();
        for folder in missing.into_iter().rev() {
            disk.create_folder(folder)?;
        }
        Ok(Self::known(path))
    }

    /// Makes nothing.
    pub fn known(path: PathBuf) -> Self {
        let above = Self::above(&path);
        Self { path, above }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    fn above(path: &Path) -> Option<(u64, u64)> {
        let found = fs::metadata(path.parent()?).ok()?;
        Some((found.dev(), found.ino()))
    }

    /// Makes a file in it.
    #[track_caller]
    pub fn create_file(&self, disk: &Disk, path: &Path) -> Result<DiskFile, DiskError> {
        match disk.create_file(path) {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound && self.make_anew(disk)? => {
                disk.create_file(path)
            }
            outcome => outcome,
        }
    }

    /// Returns whether it was made.
    #[track_caller]
    fn make_anew(&self, disk: &Disk) -> Result<bool, DiskError> {
        if self.above.is_none() || Self::above(&self.path) != self.above {
            return Ok(false);
        }
        let is_new = disk.create_folder(&self.path)?;
        if is_new {
            tracing::warn!(path = %self.path.display(), "a folder that is needed was removed; it is made anew");
        }
        disk.sync_parent(&self.path)?;
        Ok(is_new)
    }
}

/// A file that is being written.
pub struct DiskFile {
    file: File,
    path: PathBuf,
    disk: Disk,
}

impl DiskFile {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether its path leads to it still, as far as can be told.
    pub fn is_in_its_place(&self) -> bool {
        let number_of = |found: fs::Metadata| (found.dev(), found.ino());
        match (fs::metadata(&self.path), self.file.metadata()) {
            (Ok(found), Ok(own)) => number_of(found) == number_of(own),
            (Err(error), _) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
            (Ok(_), Err(_)) => true,
        }
    }

    /// Asks the disk to keep what was written. Must not be tried again when it fails: the system may have dropped the pages.
    #[track_caller]
    pub fn sync(&self) -> Result<(), DiskError> {
        let step = DiskStep::SyncFile(&self.path);
        self.disk.step("synchronising", step, &self.path, || self.file.sync_all())
    }

    /// The same, without times and other things that are not needed to read it back.
    #[track_caller]
    pub fn sync_data(&self) -> Result<(), DiskError> {
        let step = DiskStep::SyncFile(&self.path);
        self.disk.step("synchronising", step, &self.path, || self.file.sync_data())
    }

    /// Cuts off everything from a place on, and goes on writing there.
    pub fn cut_off(&mut self, from: u64) -> Result<(), DiskError> {
        let (file, path) = (&mut self.file, &self.path);
        self.disk.step("cutting off", DiskStep::CutOff { path, from }, path, || {
            file.set_len(from)?;
            file.seek(SeekFrom::Start(from)).map(|_| ())
        })
    }

    pub fn bytes(&self) -> Result<u64, DiskError> {
        let failed = |source| DiskError { action: "looking at", path: self.path.clone(), source };
        Ok(self.file.metadata().map_err(failed)?.len())
    }

    pub fn append(&mut self, bytes: &[u8]) -> Result<(), DiskError> {
        let (file, path) = (&mut self.file, &self.path);
        let step = DiskStep::Write { path, bytes: bytes.len() };
        let written = self.disk.step("writing", step, path, || file.write_all(bytes));
        if let (Err(_), Some(faults)) = (&written, &self.disk.faults) {
            let _ = file.write_all(&bytes[..faults.torn(bytes.len()).min(bytes.len())]);
        }
        written
    }
}

impl Write for DiskFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.append(bytes).map_err(|error| error.source)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").mode() & 0o777
    }

    #[test]
    fn what_is_made_belongs_to_its_owner_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let disk = Disk::default();
        let inner = folder.path().join("a/b/c");
        disk.settle_folder(&inner).expect("can be made");
        assert_eq!([mode(&folder.path().join("a")), mode(&folder.path().join("a/b")), mode(&inner)], [0o700; 3]);
        let file = inner.join("file");
        disk.create_file(&file).expect("can be made");
        assert_eq!(mode(&file), 0o600);
        fs::set_permissions(&inner, Permissions::from_mode(0o755)).expect("ours");
        assert!(disk.make_private(&inner).expect("ours"));
        assert_eq!(mode(&inner), 0o700);
        assert!(!disk.make_private(&inner).expect("ours"));
        // Once, a link to a device took it from all other programs on the machine.
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/dev/null", &link).expect("can be made");
        let before = mode(&link);
        assert!(!disk.make_private(&link).expect("it is left alone"));
        assert_eq!(mode(&link), before);
    }

    /// The folders made, and those that were synchronised, in the order of the steps.
    #[derive(Default)]
    struct Steps(Mutex<Vec<(bool, PathBuf)>>);

    impl DiskFaults for Steps {
        fn before(&self, step: DiskStep<'_>, _: &'static Location<'static>) -> io::Result<()> {
            let mut steps = self.0.lock().expect("nobody panicked");
            match step {
                DiskStep::CreateFolder(path) => steps.push((false, path.to_owned())),
                DiskStep::SyncFolder(path) => steps.push((true, path.to_owned())),
                _ => {}
            }
            Ok(())
        }
    }

    /// Each folder that is made, and, if all are there, the lower two: somebody may have been interrupted who made them.
    #[test]
    fn names_of_settled_folders_survive_a_power_failure() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [a, b, c] = ["a", "a/b", "a/b/c"].map(|name| folder.path().join(name));
        let steps = Arc::new(Steps::default());
        let disk = Disk::with_faults(steps.clone());
        disk.settle_folder(&c).expect("can be made");
        let taken = std::mem::take(&mut *steps.0.lock().expect("nobody panicked"));
        for (made, above) in [(&a, folder.path()), (&b, &*a), (&c, &*b)] {
            let at = taken.iter().position(|step| *step == (false, made.clone())).expect("it was made");
            assert_eq!(taken[at + 1], (true, above.to_owned()), "{}", made.display());
        }
        disk.settle_folder(&c).expect("they are there");
        assert_eq!(*steps.0.lock().expect("nobody panicked"), [(true, b), (true, a)]);
    }

    #[test]
    fn errors_name_the_path_and_what_to_do() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("tenant=a");
        fs::write(&path, "in the way").expect("can be written");
        let error = Disk::default().create_folder(&path).expect_err("a file is in the way");
        let text = error.to_string();
        assert!(text.contains("tenant=a") && text.contains("move that away"), "{text}");
        let error = Disk::default().open_to_read(folder.path()).map(|_| ()).expect_err("a folder is no file");
        assert!(error.to_string().contains("move that away"), "{error}");
        assert_eq!(error.source.to_string(), "a folder stands there, and no file");
    }

    #[test]
    fn a_rename_writes_over_nothing() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [from, file, link, free] = ["from", "file", "link", "free"].map(|name| folder.path().join(name));
        fs::write(&from, "one").expect("can be written");
        fs::write(&file, "other").expect("can be written");
        std::os::unix::fs::symlink("nothing", &link).expect("can be made");
        for taken in [&file, &link] {
            let error = Disk::default().rename(&from, taken).expect_err("the name is taken");
            assert!(error.source.kind() == io::ErrorKind::AlreadyExists, "{error:?}");
        }
        assert_eq!(fs::read(&file).expect("it is there"), b"other");
        Disk::default().rename(&from, &free).expect("the name is free");
        assert_eq!(fs::read(&free).expect("it is there"), b"one");
    }
}
