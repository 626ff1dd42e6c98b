//! Rules that change nothing: between any two of DataFusion's they look at the plan, and at whether to go on.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{Expr, LogicalPlan};
use datafusion::optimizer::{AnalyzerRule, ApplyOrder, OptimizerConfig, OptimizerRule};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;

use crate::watch::Watch;

/// Most nodes of a plan, each as often as it would be walked over. More than a statement may ask for by its text, as rules add
/// some.
const NODES_MAX: u64 = 20_000;
/// Most parts of its expressions.
const EXPRESSIONS_MAX: u64 = 200_000;

/// A place between two rules.
#[derive(Debug)]
pub(crate) struct Checkpoint {
    watch: Arc<Watch>,
}

impl Checkpoint {
    pub(crate) fn new(watch: Arc<Watch>) -> Arc<Self> {
        Arc::new(Self { watch })
    }

    /// Fails if a plan is too large, or the statement must not go on.
    pub(crate) fn pass(&self, plan: &LogicalPlan) -> Result<()> {
        self.watch.check()?;
        let size = Sizes::default().of(plan);
        if size.nodes > NODES_MAX || size.expressions > EXPRESSIONS_MAX {
            return plan_err!(
                "the statement is too large: its plan has {} nodes and {} parts of expressions; at most {NODES_MAX} and \
                 {EXPRESSIONS_MAX} can be worked on; name tables, subqueries and computed columns less often",
                size.nodes,
                size.expressions
            );
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Size {
    nodes: u64,
    expressions: u64,
}

impl Size {
    fn add(&mut self, other: Size) {
        self.nodes = self.nodes.saturating_add(other.nodes);
        self.expressions = self.expressions.saturating_add(other.expressions);
    }
}

/// Sizes of plans that others share, by their addresses. A plan is measured as the tree that rules walk over, but each part
/// of it that is shared only once.
#[derive(Default)]
struct Sizes(HashMap<*const LogicalPlan, Size>);

impl Sizes {
    fn of(&mut self, plan: &LogicalPlan) -> Size {
        let mut size = Size { nodes: 1, expressions: 0 };
        for input in plan.inputs() {
            size.add(self.of_shared(input));
        }
        let counted = plan.apply_expressions(|expr| {
            expr.apply(|part| {
                size.expressions = size.expressions.saturating_add(1);
                if let Some(subquery) = subquery_of(part) {
                    size.add(self.of_shared(subquery));
                }
                Ok(TreeNodeRecursion::Continue)
            })
        });
        debug_assert!(counted.is_ok(), "counting never fails");
        size
    }

    fn of_shared(&mut self, plan: &LogicalPlan) -> Size {
        let address: *const LogicalPlan = plan;
        if let Some(known) = self.0.get(&address) {
            return *known;
        }
        let size = self.of(plan);
        self.0.insert(address, size);
        size
    }
}

fn subquery_of(expr: &Expr) -> Option<&LogicalPlan> {
    match expr {
        Expr::Exists(exists) => Some(&exists.subquery.subquery),
        Expr::InSubquery(within) => Some(&within.subquery.subquery),
        Expr::SetComparison(comparison) => Some(&comparison.subquery.subquery),
        Expr::ScalarSubquery(subquery) => Some(&subquery.subquery),
        _ => None,
    }
}

impl AnalyzerRule for Checkpoint {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        self.pass(&plan)?;
        Ok(plan)
    }

    fn name(&self) -> &str {
        "checkpoint"
    }
}

impl OptimizerRule for Checkpoint {
    fn name(&self) -> &str {
        "checkpoint"
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        self.pass(&plan)?;
        Ok(Transformed::no(plan))
    }
}

impl PhysicalOptimizerRule for Checkpoint {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        self.watch.check()?;
        Ok(plan)
    }

    fn name(&self) -> &str {
        "checkpoint"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// One of DataFusion's rules. Most are called once for each node, and before each call the watch is asked.
#[derive(Debug)]
struct Watched {
    rule: Arc<dyn OptimizerRule + Send + Sync>,
    watch: Arc<Watch>,
}

impl OptimizerRule for Watched {
    fn name(&self) -> &str {
        self.rule.name()
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        self.rule.apply_order()
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        self.watch.check()?;
        self.rule.rewrite(plan, config)
    }
}

/// Rules with a checkpoint before each and after the last.
pub(crate) fn with_checkpoints<R: ?Sized>(rules: Vec<Arc<R>>, checkpoint: impl Fn() -> Arc<R>) -> Vec<Arc<R>> {
    let mut all: Vec<Arc<R>> = rules.into_iter().flat_map(|rule| [checkpoint(), rule]).collect();
    all.push(checkpoint());
    all
}

/// Rules that ask the watch at each node.
pub(crate) fn watched(
    rules: Vec<Arc<dyn OptimizerRule + Send + Sync>>,
    watch: &Arc<Watch>,
) -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let watched = |rule| Arc::new(Watched { rule, watch: watch.clone() }) as Arc<dyn OptimizerRule + Send + Sync>;
    rules.into_iter().map(watched).collect()
}
