//! What of a file can't be read.

use std::collections::BTreeSet;
use std::error::Error;
use std::ops::Range;
use std::sync::Arc;
use std::{fmt, io};

use arrow::array::BooleanBufferBuilder;
use arrow::buffer::BooleanBuffer;
use parking_lot::Mutex;
use parquet::errors::ParquetError;
use tracehouse_disk::NoFile;

/// The bytes of a file are not those that were written. Says so in a [`ParquetError`].
#[derive(Debug, thiserror::Error)]
#[error("damaged: {what}")]
pub(crate) struct Damaged {
    what: String,
}

impl Damaged {
    pub(crate) fn error(what: impl fmt::Display) -> ParquetError {
        ParquetError::External(Box::new(Self { what: what.to_string() }))
    }
}

/// Whether the bytes of a file are at fault, and not the way to them: too many open files, an error of the disk, a folder that is
/// not mounted, something else in the file's place or a broken connection may pass, and must never condemn a file.
pub fn is_damage(error: &ParquetError) -> bool {
    match error {
        ParquetError::External(cause) => !is_of_machine(&**cause, 0),
        // A later version of Tracehouse wrote it.
        ParquetError::NYI(_) => false,
        _ => true,
    }
}

/// Readers wrap errors of other readers in their own.
fn is_of_machine(error: &(dyn Error + 'static), depth: usize) -> bool {
    const DEPTH_MAX: usize = 16;
    let is_of_machine_inside = |inner: Option<&(dyn Error + 'static)>| {
        depth < DEPTH_MAX && inner.is_some_and(|inner| is_of_machine(inner, depth + 1))
    };
    let is_of_later_version = matches!(error.downcast_ref(), Some(ParquetError::NYI(_)));
    if is_of_later_version || error.is::<object_store::Error>() || error.is::<NoFile>() {
        return true;
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        let inner = error.get_ref().map(|inner| inner as &(dyn Error + 'static));
        return error.raw_os_error().is_some() || is_of_machine_inside(inner);
    }
    is_of_machine_inside(error.source())
}

/// What tells of a file's rows in short. If it is damaged the rows tell the same, which takes longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// By which other programs know what kind of file it is.
    Mark,
    TraceFilter,
    Names,
    ValueFilter,
    PageFilters,
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Mark => "the mark at its beginning",
            Self::TraceFilter => "the filter over trace ids",
            Self::Names => "the list of names",
            Self::ValueFilter => "the filter of values",
            Self::PageFilters => "the filters over pages of texts",
        })
    }
}

/// Is told what of a file turned out to be damaged, whoever met it.
pub trait PartWatcher: Send + Sync {
    fn is_damaged(&self, part: Part);
}

/// Which rows of a file can't be read, and in which columns: found out by reading every page of it.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Damage {
    /// Those of the pages that can't be read.
    pub(crate) pages: Vec<DamagedPage>,
    rows_of_row_groups: Vec<usize>,
    row_groups: Vec<Option<BooleanBuffer>>,
}

/// The rows of a page that can't be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DamagedPage {
    pub(crate) row_group: usize,
    pub(crate) leaf: usize,
    pub(crate) column: String,
    /// All rows of the row group for a dictionary, which all other pages of its column need.
    pub(crate) rows: Range<usize>,
}

impl DamagedPage {
    /// Its row group and leaf.
    fn place(&self) -> (usize, usize) {
        (self.row_group, self.leaf)
    }
}

impl Damage {
    pub(crate) fn of(pages: Vec<DamagedPage>, rows_of_row_groups: &[usize]) -> Self {
        let row_groups = rows_of_row_groups.iter().enumerate().map(|(row_group, &rows)| {
            let of_this = || pages.iter().filter(move |page| page.row_group == row_group);
            of_this().next()?;
            let mut readable = BooleanBufferBuilder::new(rows);
            readable.append_n(rows, true);
            of_this().flat_map(|page| page.rows.clone()).for_each(|row| readable.set_bit(row, false));
            Some(readable.finish())
        });
        Self { row_groups: row_groups.collect(), rows_of_row_groups: rows_of_row_groups.to_vec(), pages }
    }

    pub fn is_none(&self) -> bool {
        self.pages.is_empty()
    }

    /// How many rows can't be read.
    pub fn rows(&self) -> u64 {
        let lost = |readable: &BooleanBuffer| (readable.len() - readable.count_set_bits()) as u64;
        self.row_groups.iter().flatten().map(lost).sum()
    }

    /// The rows of a row group of which everything can be read; `None`: all.
    pub fn readable(&self, row_group: usize) -> Option<&BooleanBuffer> {
        self.row_groups.get(row_group)?.as_ref()
    }

    /// In which columns, in words.
    pub fn columns(&self) -> String {
        const SHOWN_MAX: usize = 5;
        let mut names: Vec<&str> = self.pages.iter().map(|page| page.column.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        let more = names.len().saturating_sub(SHOWN_MAX);
        names.truncate(SHOWN_MAX);
        let shown = names.join(", ");
        if more > 0 { format!("{shown} and {more} more") } else { shown }
    }
}

/// How a reader goes on in a file with damage: around what it has met of it.
///
/// A row is lost to a question only if a page is damaged that the question reads. So a reader that knows of damage reads on
/// as if there was none, and remembers the columns that it was asked for; once reading has failed it is replaced by one that
/// reads around those, which leaves out their damaged rows.
pub(crate) struct Around {
    damage: Arc<Damage>,
    /// The part of it that is left out.
    avoided: Arc<Damage>,
    /// Row groups and leaves with damage that were asked for and are not avoided.
    met: Mutex<BTreeSet<(usize, usize)>>,
}

impl Around {
    /// All damage is avoided, whatever is asked for.
    pub(crate) fn all(damage: Arc<Damage>) -> Self {
        Self { avoided: damage.clone(), damage, met: Mutex::default() }
    }

    /// Nothing is avoided yet.
    pub(crate) fn none(damage: Arc<Damage>) -> Self {
        Self { avoided: Arc::default(), damage, met: Mutex::default() }
    }

    /// The same with what was met avoided too; `None` if nothing was.
    pub(crate) fn what_was_met(&self) -> Option<Self> {
        let met = self.met.lock();
        if met.is_empty() {
            return None;
        }
        let is_avoided = |page: &&DamagedPage| self.avoided.pages.contains(page) || met.contains(&page.place());
        let pages = self.damage.pages.iter().filter(is_avoided).cloned().collect();
        let avoided = Arc::new(Damage::of(pages, &self.damage.rows_of_row_groups));
        Some(Self { damage: self.damage.clone(), avoided, met: Mutex::default() })
    }

    pub(crate) fn avoided(&self) -> &Damage {
        &self.avoided
    }

    /// Leaves of a row group are about to be read.
    pub(crate) fn meet(&self, row_group: usize, leaves: impl IntoIterator<Item = usize>) {
        if Arc::ptr_eq(&self.damage, &self.avoided) {
            return;
        }
        let leaves: BTreeSet<usize> = leaves.into_iter().collect();
        let of_those = |page: &&DamagedPage| page.row_group == row_group && leaves.contains(&page.leaf);
        let met = self.damage.pages.iter().filter(of_those).filter(|page| !self.avoided.pages.contains(page));
        self.met.lock().extend(met.map(DamagedPage::place));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_machine_are_no_damage_however_they_are_wrapped() {
        const EIO: i32 = 5;
        const EMFILE: i32 = 24;
        for code in [EIO, EMFILE] {
            let plain = ParquetError::from(io::Error::from_raw_os_error(code));
            assert!(!is_damage(&plain), "{plain}");
            let wrapped = ParquetError::from(io::Error::other(plain));
            assert!(!is_damage(&wrapped), "{wrapped}");
        }
        let remote = object_store::Error::NotImplemented { operation: "get".into(), implementer: "a test".into() };
        assert!(!is_damage(&ParquetError::External(Box::new(remote))));
        assert!(!is_damage(&ParquetError::NYI("a later version".into())));
        assert!(is_damage(&ParquetError::from(io::Error::from(io::ErrorKind::UnexpectedEof))));
        assert!(is_damage(&Damaged::error("a page")));
    }
}
