//! Files of tables that this version does not know: a later one wrote them. They are left alone, wherever they are met.

use tracehouse_catalogue::{FileRecord, Table};
use tracehouse_model::TenantId;

/// The table whose file lies at a path, if its layout is the one of ours and the table is none that this version knows.
pub(crate) fn other_table_of_path(path: &str) -> Option<Table> {
    let mut parts = path.split('/');
    TenantId::new(parts.next()?.strip_prefix("tenant=")?).ok()?;
    let table = Table::new(parts.next()?)?;
    let is_of_layout = parts.next()?.starts_with("date=");
    (is_of_layout && table != Table::SPANS).then_some(table)
}

/// Such files of a store.
#[derive(Debug, Default)]
pub(crate) struct OfOtherTables {
    /// Those that count.
    pub(crate) listed: Vec<FileRecord>,
    /// Paths of others in the store's folder, and their tables.
    pub(crate) unknown: Vec<(String, Table)>,
}

impl OfOtherTables {
    /// What the operator is told.
    pub(crate) fn trouble(&self) -> Option<String> {
        let mut tables: Vec<&Table> = self.listed.iter().map(|record| &record.table).collect();
        tables.extend(self.unknown.iter().map(|(_, table)| table));
        let files = tables.len();
        tables.sort_unstable();
        tables.dedup();
        let names: Vec<&str> = tables.into_iter().map(Table::as_str).collect();
        (files > 0).then(|| {
            format!(
                "files of tables that this version does not know, which a later one wrote, are left alone: {files} ({})",
                names.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_tells_another_table() {
        let table = |path: &str| other_table_of_path(path).map(|table| table.as_str().to_owned());
        assert_eq!(table("tenant=a/rollups/date=2025-06-01/hour=12/x.parquet").as_deref(), Some("rollups"));
        for other in ["tenant=a/spans/date=2025-06-01/hour=12/x.parquet", "tenant=a/rollups/x.parquet", "x.parquet"] {
            assert_eq!(table(other), None, "{other}");
        }
    }
}
