//! Reads a whole file to learn what of it can be read. Only what is wrong with the bytes counts against a file; an error of
//! the machine, a disk that fails once or too many open files, says nothing about it.

use parquet::errors::ParquetError;
use serde::Serialize;
use tracehouse_model::TenantId;
use tracehouse_spanfile::{Damage, FileSource, OpenFile, Part, column, is_damage};

use crate::error::chain;

/// How much of a file is read to judge it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    /// Its end, without which nothing can be read.
    Footer,
    EveryPage,
}

/// What can be read of a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "camelCase")]
pub enum Readable {
    All,
    /// Of so many spans at least one column can't be read.
    Part {
        lost_spans: u64,
        what: String,
    },
    /// Its footer is damaged, without which nothing can be read.
    Nothing {
        what: String,
    },
    /// An error of the machine, which says nothing about the file.
    OutOfReach {
        error: String,
    },
}

/// What a file says of itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) bytes: u64,
    pub(crate) spans: u64,
    /// First and last start of a span inside.
    pub(crate) starts: Option<(i64, i64)>,
    /// No span inside ends later.
    pub(crate) end_max: Option<i64>,
    pub(crate) row_groups: u32,
    pub(crate) tail_bytes: u32,
    /// Files of layout version 1 don't know their id, …
    pub(crate) id: Option<String>,
    /// … those of earlier versions of Tracehouse not whose spans they hold, …
    pub(crate) tenant: Option<TenantId>,
    /// … and those of layout version 1 not which files they were merged from.
    pub(crate) merged_from: Vec<String>,
}

/// Reads a file and judges it. What is found wrong was read twice: see [`OpenFile::open`] and [`OpenFile::verify`].
pub(crate) fn verify(open: &dyn Fn() -> Result<FileSource, ParquetError>, effort: Effort) -> (Readable, Facts) {
    let (file, tenant) = match open().and_then(OpenFile::open_unknown) {
        Ok(opened) => opened,
        Err(error) => return (unreadable(&error), Facts::default()),
    };
    let facts = facts_of(&file, tenant.as_deref());
    if effort == Effort::Footer {
        return (Readable::All, facts);
    }
    let readable = match file.verify().and_then(|damage| Ok((damage, file.damaged_parts()?))) {
        Ok((damage, parts)) if damage.is_none() && parts.is_empty() => Readable::All,
        // A page of one column may hold a value of every row: questions that need other columns are answered.
        Ok((damage, parts)) => Readable::Part { lost_spans: damage.rows(), what: in_words(&damage, &parts) },
        Err(error) => unreadable(&error),
    };
    (readable, facts)
}

fn in_words(damage: &Damage, parts: &[Part]) -> String {
    let columns = (!damage.is_none()).then(|| format!("in the columns {}", damage.columns()));
    columns.into_iter().chain(parts.iter().map(Part::to_string)).collect::<Vec<_>>().join(", ")
}

fn unreadable(error: &ParquetError) -> Readable {
    let text = chain(error);
    if is_damage(error) { Readable::Nothing { what: text } } else { Readable::OutOfReach { error: text } }
}

fn facts_of(file: &OpenFile, tenant: Option<&str>) -> Facts {
    let ranges: Option<Vec<(i64, i64)>> =
        (0..file.row_groups()).map(|row_group| file.int_range(row_group, column::START_TIME)).collect();
    let starts = ranges.and_then(|ranges| {
        Some((ranges.iter().map(|range| range.0).min()?, ranges.iter().map(|range| range.1).max()?))
    });
    Facts {
        bytes: file.bytes(),
        spans: file.rows(),
        starts,
        end_max: file.latest_end_of_all(),
        row_groups: u32::try_from(file.row_groups()).unwrap_or(0),
        tail_bytes: file.tail_bytes(),
        id: file.file_id().map(str::to_owned),
        tenant: tenant.and_then(|name| TenantId::new(name).ok()),
        merged_from: file.merged_from().unwrap_or_default(),
    }
}
