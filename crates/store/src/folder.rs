//! Whose folder it is: a file in it names the store, and the catalogue knows that name too. A folder without it, while the
//! catalogue lists files, is one where a disk is not mounted; with another name it belongs to another catalogue.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use tracehouse_catalogue::{Catalogue, CatalogueContents, FileRecord};
use tracehouse_disk::{Disk, DiskError, open_to_read};
use tracehouse_model::Randomness;

use crate::error::OpenError;
use crate::notes::{MARKER, STORE_META};

/// More than a name takes is not read.
const MARKER_BYTES_MAX: u64 = 256;
/// So many hexadecimal digits a name has.
const NAME_DIGITS: usize = 32;

/// What stands in the file that names the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Marker {
    /// There is no such file.
    Missing,
    /// None that [`new_store_id`] makes.
    Damaged,
    Name(String),
}

/// What a start has to write down before it goes on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// Folder and catalogue know each other.
    Settled,
    /// The folder names a store that the catalogue does not know yet.
    Remember(String),
    /// The folder has no name that can be read; the catalogue may know one.
    Mark(Option<String>),
}

/// The store's folder as an object store. The folder is made if it is a new one, and survives a power failure; if it is missing or another's, nothing
/// is changed and the error says so.
pub async fn open_folder(
    disk: &Disk,
    root: &Path,
    catalogue: &dyn Catalogue,
) -> Result<Arc<dyn ObjectStore>, OpenError> {
    let contents = catalogue.load().await?;
    claim(root, &contents)?;
    disk.settle_folder(root)?;
    let failed = |source| OpenError::Folder { path: root.display().to_string(), source };
    let objects = LocalFileSystem::new_with_prefix(root).map_err(|error| failed(io::Error::other(error)))?;
    Ok(Arc::new(objects))
}

/// Decides whether a folder is that of a catalogue. Changes nothing.
pub(crate) fn claim(root: &Path, contents: &CatalogueContents) -> Result<Claim, OpenError> {
    let marker = read_marker(root)?;
    let known = contents.meta.get(STORE_META).cloned();
    let here = contents.files.iter().filter(|record| record.object_store == FileRecord::LOCAL);
    let listed = here.count() + contents.damaged_rows.len();
    let path = root.display().to_string();
    match (marker, known) {
        (Marker::Name(found), Some(known)) if found == known => Ok(Claim::Settled),
        (Marker::Name(found), Some(expected)) if listed > 0 => {
            Err(OpenError::OtherStore { path, found, expected, listed })
        }
        (Marker::Name(found), _) => Ok(Claim::Remember(found)),
        (Marker::Damaged, Some(_)) if listed > 0 => Err(OpenError::NameDamaged { path: root.join(MARKER), listed }),
        (Marker::Damaged, known) => Ok(Claim::Mark(known)),
        (Marker::Missing, Some(_)) if listed > 0 => Err(OpenError::NotMounted { path, listed }),
        // An older version wrote no name.
        (Marker::Missing, None) if listed > 0 && !root.is_dir() => Err(OpenError::NotMounted { path, listed }),
        (Marker::Missing, known) => Ok(Claim::Mark(known)),
    }
}

pub(crate) fn read_marker(root: &Path) -> Result<Marker, DiskError> {
    let path = root.join(MARKER);
    let mut bytes = Vec::new();
    match open_to_read(&path).and_then(|file| file.take(MARKER_BYTES_MAX).read_to_end(&mut bytes)) {
        Ok(_) => Ok(marker_of(&bytes)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(Marker::Missing)
        }
        Err(source) => Err(DiskError { action: "reading", path, source }),
    }
}

fn marker_of(bytes: &[u8]) -> Marker {
    let is_digit = |character: char| character.is_ascii_digit() || ('a'..='f').contains(&character);
    match str::from_utf8(bytes).map(str::trim) {
        Ok(name) if name.len() == NAME_DIGITS && name.chars().all(is_digit) => Marker::Name(name.to_owned()),
        _ => Marker::Damaged,
    }
}

/// Writes the store's name into its folder, for good.
pub(crate) fn mark(disk: &Disk, root: &Path, id: &str) -> Result<(), DiskError> {
    let new = root.join(format!("{MARKER}.new"));
    let mut file = disk.create_file(&new)?;
    file.append(format!("{id}\n").as_bytes())?;
    file.sync()?;
    // Over what is left of a damaged name, of which nothing can be told.
    disk.rename_over(&new, &root.join(MARKER))?;
    disk.sync_folder(root)
}

/// A name that no other store has.
pub(crate) fn new_store_id(randomness: &dyn Randomness) -> String {
    format!("{:016x}{:016x}", randomness.next_u64(), randomness.next_u64())
}

#[cfg(test)]
mod tests {
    use tracehouse_model::SystemRandomness;

    use super::*;

    #[test]
    fn one_bit_makes_no_name_of_the_same_store() {
        let name = new_store_id(&SystemRandomness::from_seed(1));
        let sound = format!("{name}\n").into_bytes();
        assert_eq!(marker_of(&sound), Marker::Name(name.clone()));
        for (at, bit) in (0..name.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut flipped = sound.clone();
            flipped[at] ^= 1 << bit;
            match marker_of(&flipped) {
                Marker::Damaged => {}
                // It may be another's.
                Marker::Name(other) => assert_ne!(other, name),
                Marker::Missing => panic!("something is there"),
            }
        }
        for damaged in [&b""[..], b"\n", b"another", &[0; 33], &sound[1..]] {
            assert_eq!(marker_of(damaged), Marker::Damaged, "{damaged:?}");
        }
    }
}
