//! The catalogue against a real SQLite file.

mod changes;
mod damage;
mod flips;
mod look;
mod revisions;
mod upgrade;

use std::sync::Arc;

use tempfile::TempDir;
use tracehouse_catalogue::{FileRecord, LogPosition, SqliteCatalogue, Table, Tier};
use tracehouse_model::TenantId;

/// A record with a different value in each field.
fn file(id: &str) -> FileRecord {
    FileRecord {
        id: id.into(),
        tenant: TenantId::default(),
        path: format!("tenant=default/spans/{id}.parquet"),
        level: 4,
        table: Table::SPANS,
        tier: Tier::Hot,
        object_store: FileRecord::LOCAL.into(),
        spans: 10,
        bytes: 100,
        start_min: 1,
        start_max: 2,
        end_max: Some(5),
        created_at: 3,
        minutes: 1 << 63 | 5,
        row_groups: 7,
        tail_bytes: 8,
        lost_spans: 0,
        left_out_spans: 0,
        retired: None,
    }
}

fn position(tenant: Option<&str>, position: u64) -> LogPosition {
    let tenant = tenant.map(|name| TenantId::new(name).expect("a valid name"));
    LogPosition { log: "log".into(), tenant, position }
}

/// A folder with a catalogue in it.
struct World {
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("temporary folder") }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("catalogue.sqlite")
    }

    async fn open(&self) -> Arc<SqliteCatalogue> {
        SqliteCatalogue::open(&self.path()).await.expect("opens")
    }

    /// Runs statements past the catalogue, as a faulty disk or another program would.
    async fn meddle(&self, statements: &[&'static str]) {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(self.path());
        let pool = sqlx::SqlitePool::connect_with(options).await.expect("connects");
        for statement in statements {
            sqlx::query(*statement).execute(&pool).await.expect("the statement runs");
        }
        pool.close().await;
    }
}
