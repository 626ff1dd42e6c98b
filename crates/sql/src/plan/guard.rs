//! A node that looks at every batch that passes, and ends the statement where one is too large.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::DataType;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{Result, Statistics, internal_err};
use datafusion::execution::TaskContext;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::execution_plan::{CardinalityEffect, ReplaceChildrenOptions};
use datafusion::physical_plan::statistics::{ChildStats, StatisticsArgs};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, PlanProperties, SendableRecordBatchStream,
};
use futures::{StreamExt, stream};

use super::string_compaction::compact_strings;
use crate::limits::{BATCH_BYTES_MAX, bytes_of, bytes_of_batch, elements_of, too_large, widest};
use crate::watch::Watch;

/// What is looked at.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Guard {
    /// What comes from where there is nothing to make it of: whether to go on.
    Given,
    /// What an operator has made.
    Made,
    /// What a join has made.
    Joined,
    /// What windows have made: all rows at once, which are divided.
    Windowed,
    /// What goes into an operator that may repeat each value in all rows of a batch. Texts in views are shared by the
    /// rows, if `views_are_copied` does not say otherwise.
    Repeated { views_are_copied: bool },
    /// What lists are unnested of: in which columns, and how deep.
    Unnested { lists: Vec<(usize, usize)> },
    /// What goes into an aggregation that takes each row into so many sets of groups, all rows of a batch before it accounts for
    /// the new groups: batches are divided, so that there are no more of these than rows in a batch.
    IntoSets { sets: usize },
    /// What goes into windows that give so many texts or lists for each row.
    IntoWindows { texts: usize, all_rows_at_once: bool },
}

#[derive(Debug, Clone)]
pub(super) struct GuardExec {
    input: Arc<dyn ExecutionPlan>,
    guard: Guard,
    watch: Arc<Watch>,
    properties: Arc<PlanProperties>,
}

impl GuardExec {
    pub(super) fn new(input: Arc<dyn ExecutionPlan>, guard: Guard, watch: Arc<Watch>) -> Self {
        let properties = input.properties().clone();
        Self { input, guard, watch, properties }
    }
}

impl DisplayAs for GuardExec {
    fn fmt_as(&self, _: DisplayFormatType, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "GuardExec: bytes_max={BATCH_BYTES_MAX}")
    }
}

impl ExecutionPlan for GuardExec {
    fn name(&self) -> &'static str {
        "GuardExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn maintains_input_order(&self) -> Vec<bool> {
        vec![true]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::new(input, self.guard.clone(), self.watch.clone()))),
            _ => internal_err!("a guard has one child"),
        }
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match (children.pop(), children.is_empty()) {
            (Some(input), true) => Ok(Arc::new(Self::new(input, self.guard.clone(), self.watch.clone()))),
            _ => internal_err!("a guard has one child"),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let rows_per_batch = context.session_config().batch_size();
        let reservation = MemoryConsumer::new("windows").register(context.memory_pool());
        let mut seen = Seen { guard: self.guard.clone(), rows_per_batch, widest: 0, bytes: 0, rows: 0, reservation };
        let input = self.input.execute(partition, context)?;
        let watch = self.watch.clone();
        let rows_max = match self.guard {
            Guard::Windowed => rows_per_batch,
            Guard::IntoSets { sets } => (rows_per_batch / sets).max(1),
            _ => usize::MAX,
        };
        let guarded = input.map(move |batch| {
            watch.check()?;
            seen.look_at(batch?)
        });
        let guarded = guarded.flat_map(move |batch| stream::iter(divided(batch, rows_max)));
        Ok(Box::pin(RecordBatchStreamAdapter::new(self.schema(), guarded)))
    }

    fn child_stats_requests(&self, partition: Option<usize>) -> Vec<ChildStats> {
        vec![ChildStats::At(partition)]
    }

    fn statistics_from_inputs(&self, inputs: &[Arc<Statistics>], _: &StatisticsArgs) -> Result<Arc<Statistics>> {
        Ok(inputs[0].clone())
    }

    fn cardinality_effect(&self) -> CardinalityEffect {
        CardinalityEffect::Equal
    }
}

fn divided(batch: Result<RecordBatch>, rows_max: usize) -> impl Iterator<Item = Result<RecordBatch>> {
    let (batch, error) = match batch {
        Ok(batch) => (Some(batch), None),
        Err(error) => (None, Some(Err(error))),
    };
    let slices = batch.into_iter().flat_map(move |batch| {
        let rows = batch.num_rows();
        (0..rows).step_by(rows_max).map(move |first| Ok(batch.slice(first, rows_max.min(rows - first))))
    });
    slices.chain(error)
}

/// A guard at work in one partition, and what it has seen there.
struct Seen {
    guard: Guard,
    rows_per_batch: usize,
    /// Bytes of the largest row.
    widest: usize,
    bytes: usize,
    rows: usize,
    /// What windows keep: they take nothing from the pool themselves. Given back when the stream is dropped.
    reservation: MemoryReservation,
}

impl Seen {
    fn look_at(&mut self, batch: RecordBatch) -> Result<RecordBatch> {
        match self.guard {
            Guard::Made => at_most("the result of an expression", bytes_of_batch(&batch))?,
            Guard::Joined => {
                at_most("the rows that a join gives", bytes_of_batch(&batch))?;
                return compact_strings(batch);
            }
            Guard::Windowed | Guard::Given | Guard::IntoSets { .. } => {}
            Guard::Repeated { views_are_copied } => {
                let repeated = widest_row(&batch, views_are_copied).saturating_mul(self.rows_per_batch);
                at_most("a large text or list, repeated in each row,", repeated)?;
            }
            Guard::Unnested { ref lists } => {
                let rows = |&(at, depth): &(usize, usize)| {
                    let list = batch.column(at);
                    if depth > 1 { bytes_of(list) } else { elements_of(list) }
                };
                let rows: usize = lists.iter().map(rows).sum();
                let is_list = |at: usize| lists.iter().any(|&(list, _)| list == at);
                let others = batch.columns().iter().enumerate().filter(|&(at, _)| !is_list(at));
                let width: usize = others.map(|(_, column)| column_width(column.as_ref(), false)).sum();
                at_most("what is next to an unnested list", rows.saturating_mul(width))?;
            }
            Guard::IntoWindows { texts, all_rows_at_once } => {
                self.look_before_windows(&batch, texts, all_rows_at_once)?
            }
        }
        Ok(batch)
    }

    fn look_before_windows(&mut self, batch: &RecordBatch, texts: usize, all_rows_at_once: bool) -> Result<()> {
        if texts > 0 {
            self.widest = self.widest.max(widest_row(batch, true));
        }
        if !all_rows_at_once {
            return at_most("what windows give", self.widest.saturating_mul(texts).saturating_mul(batch.num_rows()));
        }
        self.bytes += bytes_of_batch(batch);
        self.rows += batch.num_rows();
        let given = self.widest.saturating_mul(texts).saturating_mul(self.rows);
        self.reservation.try_resize(self.bytes.saturating_add(given))
    }
}

fn at_most(what: &str, bytes: usize) -> Result<()> {
    if bytes <= BATCH_BYTES_MAX { Ok(()) } else { Err(too_large(what, BATCH_BYTES_MAX)) }
}

fn widest_row(batch: &RecordBatch, views_are_copied: bool) -> usize {
    batch.columns().iter().map(|column| column_width(column.as_ref(), views_are_copied)).sum()
}

fn column_width(column: &dyn Array, views_are_copied: bool) -> usize {
    match column.data_type() {
        DataType::Utf8View | DataType::BinaryView if !views_are_copied => size_of::<u128>(),
        _ => widest(column),
    }
}
