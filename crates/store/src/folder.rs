//! Whose folder it is: a file in it names the store, and the catalogue knows that name too. A folder without it, while the
//! catalogue lists files, is one where a disk is not mounted; with another name it belongs to another catalogue.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use tracehouse_catalogue::{Catalogue, CatalogueContents};
use tracehouse_model::Randomness;

use crate::disk::{Disk, DiskError};
use crate::error::OpenError;
use crate::regular::open_to_read;

/// The file in the store's folder that names the store.
pub(crate) const MARKER: &str = "STORE_ID";
/// More than a name takes is not read.
const MARKER_BYTES_MAX: u64 = 256;
/// What the catalogue remembers the store's name under.
pub(crate) const STORE_META: &str = "store";

/// What a start has to write down before it goes on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Folder and catalogue know each other.
    Settled,
    /// The folder names a store that the catalogue does not know yet.
    Remember(String),
    /// The folder has no name yet; the catalogue may know one.
    Mark(Option<String>),
}

/// The store's folder as an object store. The folder is made if it is a new one; if it is missing or another's, nothing
/// is changed and the error says so.
pub async fn open_folder(root: &Path, catalogue: &dyn Catalogue) -> Result<Arc<dyn ObjectStore>, OpenError> {
    let contents = catalogue.load().await?;
    claim(root, &contents)?;
    Disk::default().settle_folder(root)?;
    let failed = |source| OpenError::Folder { path: root.display().to_string(), source };
    let objects = LocalFileSystem::new_with_prefix(root).map_err(|error| failed(io::Error::other(error)))?;
    Ok(Arc::new(objects))
}

/// Decides whether a folder is that of a catalogue. Changes nothing.
pub(crate) fn claim(root: &Path, contents: &CatalogueContents) -> Result<Claim, OpenError> {
    let marker = read_marker(root)?;
    let known = contents.meta.get(STORE_META).cloned();
    let listed = contents.files.len() + contents.damaged_rows.len();
    let path = root.display().to_string();
    match (marker, known) {
        (Some(marker), Some(known)) if marker == known => Ok(Claim::Settled),
        (Some(marker), Some(known)) if listed > 0 => {
            Err(OpenError::OtherStore { path, found: marker, expected: known, listed })
        }
        (Some(marker), _) => Ok(Claim::Remember(marker)),
        (None, Some(_)) if listed > 0 => Err(OpenError::NotMounted { path, listed }),
        // An older version wrote no name.
        (None, None) if listed > 0 && !root.is_dir() => Err(OpenError::NotMounted { path, listed }),
        (None, known) => Ok(Claim::Mark(known)),
    }
}

pub(crate) fn read_marker(root: &Path) -> Result<Option<String>, DiskError> {
    let path = root.join(MARKER);
    let read = |file: File| io::read_to_string(file.take(MARKER_BYTES_MAX));
    match open_to_read(&path).and_then(read) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(source) => Err(DiskError { action: "reading", path, source }),
    }
}

/// Writes the store's name into its folder, which is made if it is missing; afterwards both survive a power failure.
pub(crate) fn mark(disk: &Disk, root: &Path, id: &str) -> Result<(), DiskError> {
    disk.settle_folder(root)?;
    let new = root.join(format!("{MARKER}.new"));
    let mut file = disk.create_file(&new)?;
    file.append(format!("{id}\n").as_bytes())?;
    file.sync()?;
    disk.rename(&new, &root.join(MARKER))?;
    disk.sync_folder(root)
}

/// A name that no other store has.
pub(crate) fn new_store_id(randomness: &dyn Randomness) -> String {
    format!("{:016x}{:016x}", randomness.next_u64(), randomness.next_u64())
}
