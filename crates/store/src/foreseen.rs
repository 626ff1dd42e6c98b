//! Renames that a dry run of a repair only foresees. A repair looks at the store's folder through them, so a dry run takes the same
//! steps as a real one, which foresees nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

/// The names that would be others: where what would be there lies now; `None`: nothing would be there.
#[derive(Debug, Default)]
pub(crate) struct Foreseen {
    changed: Mutex<BTreeMap<PathBuf, Option<PathBuf>>>,
}

impl Foreseen {
    /// Where that lies now which would have a name. `None`: nothing would.
    pub(crate) fn now_at(&self, path: &Path) -> Option<PathBuf> {
        self.changed.lock().get(path).cloned().unwrap_or_else(|| Some(path.to_owned()))
    }

    /// The same for who opens it.
    pub(crate) fn to_open(&self, path: &Path) -> io::Result<PathBuf> {
        self.now_at(path).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Whether something would have a name, be it a link that leads nowhere.
    pub(crate) fn is_taken(&self, path: &Path) -> bool {
        self.now_at(path).is_some_and(|path| fs::symlink_metadata(path).is_ok())
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) {
        let lies_at = self.now_at(from);
        let mut changed = self.changed.lock();
        changed.insert(from.to_owned(), None);
        changed.insert(to.to_owned(), lies_at);
    }

    /// All names that would be others, and whether something would be there.
    pub(crate) fn changed(&self) -> Vec<(PathBuf, Option<PathBuf>)> {
        self.changed.lock().iter().map(|(path, now_at)| (path.clone(), now_at.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_followed_over_several_renames() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let [one, other, third] = ["one", "other", "third"].map(|name| folder.path().join(name));
        for path in [&one, &other] {
            fs::write(path, "").expect("it can be written");
        }
        let foreseen = Foreseen::default();
        assert!(foreseen.is_taken(&one) && !foreseen.is_taken(&third) && foreseen.changed().is_empty());
        // They change their names.
        for (from, to) in [(&one, &third), (&other, &one), (&third, &other)] {
            foreseen.rename(from, to);
        }
        assert_eq!(foreseen.now_at(&one), Some(other.clone()));
        assert_eq!(foreseen.now_at(&other), Some(one.clone()));
        assert!(!foreseen.is_taken(&third) && foreseen.to_open(&third).is_err());
        assert!(one.exists() && other.exists() && !third.exists(), "nothing is done");
    }
}
