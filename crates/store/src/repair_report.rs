//! What a repair did, for people and programs.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

/// What was done, or in a dry run would be, and what needs the operator.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RepairReport {
    pub actions: Vec<Action>,
    pub left: Vec<Left>,
}

impl RepairReport {
    pub(crate) fn did(&mut self, action: Action) {
        self.actions.push(action);
    }

    pub(crate) fn left(&mut self, path: &str, why: String) {
        self.left.push(Left { path: path.to_owned(), why });
    }
}

/// A file that a repair left as it is, though something is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Left {
    pub path: String,
    pub why: String,
}

/// A step of a repair. Paths are inside the store's folder unless they are absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "camelCase")]
pub enum Action {
    /// The catalogue could not be read; it was kept aside and made anew of so many rows.
    RebuildCatalogue {
        finding: String,
        kept_as: Option<PathBuf>,
        files: usize,
    },
    Reindex {
        finding: String,
    },
    /// The folder got the store's name.
    NameStore {
        folder: PathBuf,
    },
    Rename {
        from: PathBuf,
        to: String,
    },
    /// It is damaged, and a whole copy of it takes its place.
    KeepRuin {
        path: String,
        kept_as: PathBuf,
    },
    /// It is the same as a stored file that is in its place.
    KeepCopy {
        path: String,
        of: String,
        kept_as: PathBuf,
    },
    /// It lay elsewhere than the catalogue says, or in another tenant's folder than it says itself, and was moved back.
    MoveBack {
        from: PathBuf,
        to: String,
    },
    RememberDamage {
        path: String,
        lost_spans: u64,
    },
    SetAside {
        path: String,
        what: String,
    },
    TakeBack {
        path: String,
        spans: u64,
    },
    Adopt {
        path: String,
        spans: u64,
    },
    /// So many of its spans are in another file too: it was written anew without them.
    LeaveOutCopies {
        path: String,
        spans: u64,
    },
    /// Its spans are in another file.
    MarkReplaced {
        path: String,
        by: String,
    },
    /// It is missing and left the list.
    Forget {
        path: String,
        spans: u64,
    },
    DropRow {
        name: String,
    },
    /// The log had lost something, which stays named no longer.
    Acknowledge {
        finding: String,
    },
    /// The catalogue had lost what it remembers beside its files; it is known again, or its safe side is.
    Remember {
        finding: String,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RebuildCatalogue { finding, kept_as: Some(kept_as), files } => write!(
                formatter,
                "rebuild the catalogue ({finding}): {files} files saved, the damaged one is kept as {}",
                kept_as.display()
            ),
            Self::RebuildCatalogue { finding, .. } => {
                write!(formatter, "rebuild the catalogue ({finding}); what else there is to do shows afterwards")
            }
            Self::Reindex { finding } => write!(formatter, "rebuild the catalogue's indexes ({finding})"),
            Self::NameStore { folder } => write!(formatter, "write the store's name into {}", folder.display()),
            Self::Rename { from, to } => write!(formatter, "rename {} to {to}", from.display()),
            Self::KeepRuin { path, kept_as } => {
                write!(formatter, "keep the damaged {path} as {}: there is a whole copy of it", kept_as.display())
            }
            Self::KeepCopy { path, of, kept_as } => {
                write!(formatter, "keep {path} as {}: it is a second copy of {of}", kept_as.display())
            }
            Self::MoveBack { from, to } => write!(formatter, "move {} back to {to}", from.display()),
            Self::RememberDamage { path, lost_spans: 0 } => {
                write!(formatter, "remember that all spans of {path} can be read again")
            }
            Self::RememberDamage { path, lost_spans } => {
                write!(formatter, "remember that {lost_spans} spans of {path} can't be read")
            }
            Self::SetAside { path, what } => write!(formatter, "set {path} aside: {what}"),
            Self::TakeBack { path, spans } => write!(formatter, "take back {path} with {spans} spans"),
            Self::Adopt { path, spans } => write!(formatter, "adopt {path} with {spans} spans"),
            Self::LeaveOutCopies { path, spans } => {
                write!(formatter, "leave out {spans} spans of {path} that another file holds too")
            }
            Self::MarkReplaced { path, by } => write!(formatter, "mark {path} as replaced: its spans are in {by}"),
            Self::Forget { path, spans } => write!(formatter, "forget the missing {path} with {spans} spans"),
            Self::Remember { finding } => write!(formatter, "write down anew what is lost: {finding}"),
            Self::Acknowledge { finding } => write!(formatter, "acknowledge what the log lost: {finding}"),
            Self::DropRow { name } => write!(formatter, "drop the damaged row of {name}"),
        }
    }
}
