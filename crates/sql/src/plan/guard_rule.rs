//! Puts guards around what can make large batches of small ones.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, plan_err};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::execution_plan::{ChildrenPropertiesMode, ReplaceChildrenOptions};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::unnest::UnnestExec;

use super::exec::SpansExec;
use super::guard::{Guard, GuardExec};
use crate::watch::Watch;

/// Most columns between two operators: every batch has all of them.
const COLUMNS_MAX: usize = 1_000;

/// The last of the rules: it hides operators from those that look for them.
#[derive(Debug)]
pub(crate) struct GuardBatches {
    watch: Arc<Watch>,
}

impl GuardBatches {
    pub(crate) fn new(watch: Arc<Watch>) -> Self {
        Self { watch }
    }
}

impl PhysicalOptimizerRule for GuardBatches {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(plan.transform_up(|node| Ok(Transformed::yes(self.guarded(node)?)))?.data)
    }

    fn name(&self) -> &str {
        "guard_batches"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

impl GuardBatches {
    fn guarded(&self, node: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = node.schema().fields().len();
        if columns > COLUMNS_MAX {
            return plan_err!("{columns} columns are too many; at most {COLUMNS_MAX} can be read or made at once");
        }
        if node.children().is_empty() && node.downcast_ref::<SpansExec>().is_none() {
            return Ok(self.over(node, Guard::Given));
        }
        let name = node.name().to_owned();
        if name.contains("Join") {
            let views_are_copied = matches!(name.as_str(), "CrossJoinExec" | "NestedLoopJoinExec");
            let join = self.with_guarded_inputs(node, 0, &Guard::Repeated { views_are_copied })?;
            // Joins whose inputs are in memory never wait: without giving way they could not be interrupted.
            return Ok(self.over(Arc::new(CooperativeExec::new(join)), Guard::Joined));
        }
        if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
            let computes = projection.expr().iter().any(|made| made.expr.downcast_ref::<Column>().is_none());
            return Ok(if computes { self.over(node, Guard::Made) } else { node });
        }
        if let Some(unnest) = node.downcast_ref::<UnnestExec>() {
            let lists =
                unnest.list_column_indices().iter().map(|list| (list.index_in_input_schema, list.depth)).collect();
            return Ok(self.over(self.with_guarded_inputs(node, 0, &Guard::Unnested { lists })?, Guard::Made));
        }
        if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
            let sets = aggregate.group_expr().groups().len();
            return if sets > 1 { self.with_guarded_inputs(node, 0, &Guard::IntoSets { sets }) } else { Ok(node) };
        }
        match name.as_str() {
            "WindowAggExec" | "BoundedWindowAggExec" => {
                let all_rows_at_once = name == "WindowAggExec";
                let guard = Guard::IntoWindows { texts: windows_with_texts(&node), all_rows_at_once };
                let windows = self.with_guarded_inputs(node, 0, &guard)?;
                Ok(self.over(windows, if all_rows_at_once { Guard::Windowed } else { Guard::Made }))
            }
            // The first input is what the subqueries are used in.
            "ScalarSubqueryExec" => self.with_guarded_inputs(node, 1, &Guard::Repeated { views_are_copied: true }),
            _ => Ok(node),
        }
    }

    fn over(&self, node: Arc<dyn ExecutionPlan>, guard: Guard) -> Arc<dyn ExecutionPlan> {
        Arc::new(GuardExec::new(node, guard, self.watch.clone()))
    }

    /// The node with a guard before each input, from the `first` on.
    fn with_guarded_inputs(
        &self,
        node: Arc<dyn ExecutionPlan>,
        first: usize,
        guard: &Guard,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let inputs = node.children().into_iter().cloned().enumerate();
        let inputs =
            inputs.map(|(at, input)| if at < first { input } else { self.over(input, guard.clone()) }).collect();
        node.replace_children(inputs, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Keep))
    }
}

/// How many columns of texts or lists windows add to their input.
fn windows_with_texts(node: &Arc<dyn ExecutionPlan>) -> usize {
    let inputs: usize = node.children().iter().map(|input| input.schema().fields().len()).sum();
    let is_fixed = |data_type: &DataType| data_type.is_primitive() || *data_type == DataType::Boolean;
    node.schema().fields().iter().skip(inputs).filter(|field| !is_fixed(field.data_type())).count()
}
