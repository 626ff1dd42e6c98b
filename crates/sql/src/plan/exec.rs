//! The scan as a node of a physical plan.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, Statistics, internal_err};
use datafusion::execution::TaskContext;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, ReplaceChildrenOptions};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, SendableRecordBatchStream,
};
use futures::stream;

use crate::scan::{Scan, Scanner, Step};
use crate::tables::{Column, Table};

#[derive(Debug)]
pub(super) struct SpansExec {
    scan: Arc<Scan>,
    properties: Arc<PlanProperties>,
}

impl SpansExec {
    pub(super) fn new(scan: Arc<Scan>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(scan.schema.clone()),
            Partitioning::UnknownPartitioning(scan.partitions),
            EmissionType::Incremental,
            Boundedness::Bounded,
        );
        Self { scan, properties: Arc::new(properties) }
    }
}

impl DisplayAs for SpansExec {
    fn fmt_as(&self, _: DisplayFormatType, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scan = &self.scan;
        let columns: Vec<String> = scan.columns.iter().map(Column::name).collect();
        write!(formatter, "SpansExec: table={}, columns=[{}]", scan.table.name(), columns.join(", "))?;
        if !scan.filters.is_empty() {
            write!(formatter, ", filters=[{}]", scan.filters.join(" AND "))?;
        }
        if let Some(traces) = &scan.predicate.traces {
            write!(formatter, ", traces looked up={}", traces.len())?;
        }
        if let Some(limit) = scan.rows_max {
            write!(formatter, ", limit={limit}")?;
        }
        write!(formatter, ", files={}", scan.snapshot.files.len())
    }
}

impl ExecutionPlan for SpansExec {
    fn name(&self) -> &'static str {
        "SpansExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("a scan has no children") }
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        if children.is_empty() { Ok(self) } else { internal_err!("a scan has no children") }
    }

    fn execute(&self, partition: usize, _: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let scanner = Scanner::new(self.scan.clone(), partition);
        let batches = stream::try_unfold(scanner, next_batch);
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.scan.schema.clone(), batches)))
    }

    /// About the number of spans. Never the exact one, from which DataFusion would answer `count(*)` without a scan: it is the scan
    /// that meets what can't be read, and says so.
    fn statistics_from_inputs(&self, _: &[Arc<Statistics>], args: &StatisticsArgs) -> Result<Arc<Statistics>> {
        let scan = &self.scan;
        let mut statistics = Statistics::new_unknown(&scan.schema);
        if args.partition().is_none() && scan.table == Table::Spans {
            let hot: usize = scan.snapshot.hot.iter().map(|hot| hot.spans.len()).sum();
            let stored: u64 = scan.snapshot.files.iter().map(|file| file.record.spans).sum();
            statistics.num_rows = Precision::Inexact(hot + stored as usize);
        }
        Ok(Arc::new(statistics))
    }
}

/// Scans on, on a thread that may block, until there is a batch. Between the steps the scan can be dropped.
async fn next_batch(mut scanner: Scanner) -> Result<Option<(RecordBatch, Scanner)>> {
    loop {
        let (step, after) = tokio::task::spawn_blocking(move || (scanner.step(), scanner))
            .await
            .map_err(|error| DataFusionError::External(Box::new(error)))?;
        scanner = after;
        match step? {
            Step::Batch(batch) => return Ok(Some((batch, scanner))),
            Step::Nothing => {}
            Step::End => return Ok(None),
        }
    }
}
