//! Rows of SQLite as records, each with a checksum over its values: a database that was written to by a failing disk may
//! still give rows, with other values in them.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;
use tracehouse_model::TenantId;

use crate::{DamagedNote, DamagedRow, FileRecord, LogPosition, NoteKind, Retirement, RetirementReason, Table, Tier};

/// The columns in the order in which [`position_from_row`] reads them.
pub(crate) const POSITION_COLUMNS: &str = "rowid, log, tenant, position, checksum";
/// The columns in the order in which [`meta_from_row`] reads them.
pub(crate) const META_COLUMNS: &str = "rowid, name, value, checksum";

/// The columns of a file in the order in which [`file_from_row`] reads them.
pub(crate) const FILE_COLUMNS: &str = "rowid, id, tenant, path, level, tier, spans, bytes, start_min, start_max, \
     created_at, minutes, row_groups, tail_bytes, lost_spans, retired_at, retired_reason, checksum, end_max, revision, \
     table_name, object_store, left_out_spans";
/// The same of catalogues that earlier versions wrote last.
pub(crate) const FILE_COLUMNS_WITHOUT_REVISIONS: &str = "rowid, id, tenant, path, level, tier, spans, bytes, start_min, \
     start_max, created_at, minutes, row_groups, tail_bytes, lost_spans, retired_at, retired_reason, checksum, end_max, 0, \
     'spans', 'local', 0";
pub(crate) const FILE_COLUMNS_WITHOUT_ENDS: &str = "rowid, id, tenant, path, level, tier, spans, bytes, start_min, \
     start_max, created_at, minutes, row_groups, tail_bytes, lost_spans, retired_at, retired_reason, checksum, NULL, 0, \
     'spans', 'local', 0";

/// The values of a row in one unambiguous form.
struct Canonical(u32);

impl Canonical {
    fn of(table: &str) -> Self {
        let mut canonical = Self(0);
        canonical.text(table);
        canonical
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0 = crc32c::crc32c_append(self.0, bytes);
    }

    fn number(&mut self, number: i64) {
        self.bytes(&number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as i64);
        self.bytes(text.as_bytes());
    }
}

/// CRC-32C of the values of a file's row, which a revision changed last.
pub(crate) fn file_checksum(file: &FileRecord, revision: i64) -> i64 {
    let mut canonical = Canonical::of("files");
    for text in [&file.id, file.tenant.as_str(), &file.path, file.tier.as_str()] {
        canonical.text(text);
    }
    for number in [
        i64::from(file.level),
        file.spans as i64,
        file.bytes as i64,
        file.start_min,
        file.start_max,
        file.created_at,
        file.minutes as i64,
        i64::from(file.row_groups),
        i64::from(file.tail_bytes),
        file.lost_spans as i64,
    ] {
        canonical.number(number);
    }
    if let Some(retirement) = &file.retired {
        canonical.number(retirement.at);
        canonical.text(retirement.reason.as_str());
    }
    // Rows of earlier versions have no such value, and a checksum over the others.
    if let Some(end_max) = file.end_max {
        canonical.text("end_max");
        canonical.number(end_max);
    }
    // What they have without having been told, too.
    if revision != 0 {
        canonical.text("revision");
        canonical.number(revision);
    }
    if file.table != Table::SPANS {
        canonical.text("table");
        canonical.text(file.table.as_str());
    }
    if file.object_store != FileRecord::LOCAL {
        canonical.text("object_store");
        canonical.text(&file.object_store);
    }
    if file.left_out_spans != 0 {
        canonical.text("left_out_spans");
        canonical.number(file.left_out_spans as i64);
    }
    i64::from(canonical.0)
}

/// CRC-32C of the values of a log's position.
pub(crate) fn position_checksum(log: &str, tenant: &str, position: i64) -> i64 {
    let mut canonical = Canonical::of("log_positions");
    canonical.text(log);
    canonical.text(tenant);
    canonical.number(position);
    i64::from(canonical.0)
}

/// CRC-32C of the last revision.
pub(crate) fn revision_checksum(history: i64, number: i64, forgotten_to: i64) -> i64 {
    let mut canonical = Canonical::of("revision");
    [history, number, forgotten_to].into_iter().for_each(|value| canonical.number(value));
    i64::from(canonical.0)
}

/// CRC-32C of a file's removal from the list.
pub(crate) fn removal_checksum(id: &str, revision: i64) -> i64 {
    let mut canonical = Canonical::of("removed_files");
    canonical.text(id);
    canonical.number(revision);
    i64::from(canonical.0)
}

/// CRC-32C of something remembered.
pub(crate) fn meta_checksum(name: &str, value: &str) -> i64 {
    let mut canonical = Canonical::of("meta");
    canonical.text(name);
    canonical.text(value);
    i64::from(canonical.0)
}

/// A file out of a row of [`FILE_COLUMNS`], if the row can be believed.
pub(crate) fn file_from_row(row: &SqliteRow) -> Result<FileRecord, DamagedRow> {
    let damaged = |reason: String| DamagedRow {
        row: row.try_get(0).unwrap_or_default(),
        id: row.try_get(1).ok(),
        path: row.try_get(3).ok(),
        reason,
    };
    let file = unchecked_file_from_row(row).map_err(|error| damaged(error.to_string()))?;
    let revision = row.try_get(19).map_err(|error| damaged(error.to_string()))?;
    match row.try_get::<Option<i64>, _>(17) {
        Ok(Some(checksum)) if checksum == file_checksum(&file, revision) => Ok(file),
        _ => Err(damaged("its checksum does not match".into())),
    }
}

/// Why a row has no meaning.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RowFault {
    #[error("a value can't be read: {0}")]
    Value(#[from] sqlx::Error),
    #[error("{0}")]
    Tenant(#[from] tracehouse_model::TenantError),
    #[error("a number is out of range")]
    Number(#[from] std::num::TryFromIntError),
    #[error("its table has no name that a table may have")]
    Table,
    #[error("its tier is none that is known")]
    Tier,
    #[error("it is retired for no known reason")]
    Reason,
}

/// The same without looking at the checksum, for rows that have none yet.
pub(crate) fn unchecked_file_from_row(row: &SqliteRow) -> Result<FileRecord, RowFault> {
    let number = |column: usize| row.try_get::<i64, _>(column);
    let retired_at: Option<i64> = row.try_get(15)?;
    let retired = match (retired_at, row.try_get::<Option<&str>, _>(16)?) {
        (None, None) => None,
        (Some(at), Some(reason)) => {
            Some(Retirement { at, reason: RetirementReason::parse(reason).ok_or(RowFault::Reason)? })
        }
        _ => return Err(RowFault::Reason),
    };
    Ok(FileRecord {
        id: row.try_get(1)?,
        tenant: TenantId::new(row.try_get(2)?)?,
        path: row.try_get(3)?,
        level: number(4)?.try_into()?,
        table: Table::new(row.try_get(20)?).ok_or(RowFault::Table)?,
        tier: Tier::parse(row.try_get(5)?).ok_or(RowFault::Tier)?,
        object_store: row.try_get(21)?,
        spans: number(6)?.try_into()?,
        bytes: number(7)?.try_into()?,
        start_min: number(8)?,
        start_max: number(9)?,
        end_max: row.try_get(18)?,
        created_at: number(10)?,
        minutes: number(11)? as u64,
        row_groups: number(12)?.try_into()?,
        tail_bytes: number(13)?.try_into()?,
        lost_spans: number(14)?.try_into()?,
        left_out_spans: number(22)?.try_into()?,
        retired,
    })
}

/// A log's position out of a row of [`POSITION_COLUMNS`], if the row can be believed. A position that is not known makes the
/// log be read again, and what is stored already be recognised.
pub(crate) fn position_from_row(row: &SqliteRow) -> Result<LogPosition, DamagedNote> {
    let checked = || {
        let (log, tenant): (String, String) = (row.try_get(1).ok()?, row.try_get(2).ok()?);
        let (position, checksum): (i64, i64) = (row.try_get(3).ok()?, row.try_get(4).ok()?);
        if checksum != position_checksum(&log, &tenant, position) {
            return None;
        }
        let tenant = if tenant.is_empty() { None } else { Some(TenantId::new(&tenant).ok()?) };
        Some(LogPosition { log, tenant, position: position.try_into().ok()? })
    };
    checked().ok_or_else(|| damaged_note(NoteKind::LogPosition, row))
}

/// A name and its value out of a row of [`META_COLUMNS`], if the row can be believed.
pub(crate) fn meta_from_row(row: &SqliteRow) -> Result<(String, String), DamagedNote> {
    let checked = || {
        let (name, value): (String, String) = (row.try_get(1).ok()?, row.try_get(2).ok()?);
        (row.try_get::<i64, _>(3).ok()? == meta_checksum(&name, &value)).then_some((name, value))
    };
    checked().ok_or_else(|| damaged_note(NoteKind::Meta, row))
}

fn damaged_note(kind: NoteKind, row: &SqliteRow) -> DamagedNote {
    let reason = "its checksum does not match, or a value can't be read".to_owned();
    DamagedNote { kind, row: row.try_get(0).ok(), name: row.try_get(1).ok(), reason }
}
