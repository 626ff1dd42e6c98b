//! A table of one tenant over one snapshot.

use std::fmt;
use std::sync::{Arc, OnceLock};

use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use tracehouse_store::Snapshot;

use super::exec::SpansExec;
use super::predicate::Predicate;
use crate::scan::{ROWS_PER_STEP, Scan, ScanReport};
use crate::tables::{AttributeColumn, Column, Table};
use crate::watch::Watch;

/// A table, with the columns for attributes that a statement asks for behind those that everybody sees.
#[derive(Clone)]
pub(crate) struct SpansTable {
    table: Table,
    snapshot: Snapshot,
    report: Arc<ScanReport>,
    watch: Arc<Watch>,
    pub(super) columns: Vec<Column>,
}

impl SpansTable {
    pub(crate) fn new(table: Table, snapshot: Snapshot, report: Arc<ScanReport>, watch: Arc<Watch>) -> Self {
        Self { table, snapshot, report, watch, columns: table.columns() }
    }

    /// The place of a column for an attribute, which is added if it is new.
    pub(super) fn add_attribute(&mut self, attribute: AttributeColumn) -> usize {
        let column = Column::Attribute(attribute);
        let known = self.columns.iter().position(|known| *known == column);
        known.unwrap_or_else(|| {
            self.columns.push(column);
            self.columns.len() - 1
        })
    }
}

impl fmt::Debug for SpansTable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.table.name())
    }
}

#[async_trait]
impl TableProvider for SpansTable {
    fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.columns.iter().map(Column::field).collect::<Vec<_>>()))
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| {
            if filter.is_volatile() || filter.contains_outer() || filter.contains_scalar_subquery() {
                TableProviderFilterPushDown::Unsupported
            } else {
                TableProviderFilterPushDown::Exact
            }
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns: Vec<Column> = match projection {
            Some(places) => places.iter().map(|&place| self.columns[place].clone()).collect(),
            None => self.columns.clone(),
        };
        let predicate = Predicate::new(filters, &self.columns, session)?;
        let scan = Scan {
            table: self.table,
            long_texts: Scan::long_texts_of(&columns, &predicate),
            reach: Scan::reach_of(&self.snapshot, &predicate),
            predicate,
            filters: filters.iter().map(ToString::to_string).collect(),
            schema: Arc::new(Schema::new(columns.iter().map(Column::field).collect::<Vec<_>>())),
            columns,
            snapshot: self.snapshot.clone(),
            partitions: session.config_options().execution.target_partitions.max(1),
            rows_per_step: session.config_options().execution.batch_size.get().min(ROWS_PER_STEP),
            rows_max: limit,
            report: self.report.clone(),
            watch: self.watch.clone(),
            hot_ids: OnceLock::new(),
        };
        Ok(Arc::new(SpansExec::new(Arc::new(scan))))
    }
}
