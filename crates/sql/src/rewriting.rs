//! Expressions of a plan replaced by others, under the names that they had.

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::utils::merge_schema;
use datafusion::logical_expr::{Expr, LogicalPlan};

const GROUPING: &str = "grouping";

/// The plan with `rewrite` applied to every part of its expressions, the innermost first, also in subqueries. The schema is that of
/// what an expression's columns come from.
pub(crate) fn with_expressions(
    plan: LogicalPlan,
    rewrite: impl Fn(&DFSchema, Expr) -> Result<Transformed<Expr>>,
) -> Result<LogicalPlan> {
    with_expressions_over(plan, |_| (), |(), schema, expr| rewrite(schema, expr))
}

/// The same, with what `look` finds in the inputs of a node.
pub(crate) fn with_expressions_over<T>(
    plan: LogicalPlan,
    look: impl Fn(Vec<LogicalPlan>) -> T,
    rewrite: impl Fn(&T, &DFSchema, Expr) -> Result<Transformed<Expr>>,
) -> Result<LogicalPlan> {
    let node = |node: LogicalPlan| {
        let inputs = node.inputs();
        let schema = if inputs.is_empty() { node.schema().as_ref().clone() } else { merge_schema(&inputs) };
        let found = look(inputs.into_iter().cloned().collect());
        let names = NamePreserver::new(&node);
        let keeping_its_name = |expr: Expr| {
            let name = names.save(&expr);
            Ok(expr.transform_up(|expr| rewrite(&found, &schema, expr))?.update_data(|expr| name.restore(expr)))
        };
        let rewritten = node.map_expressions(|expr| match expr {
            // Names are those of what is in the sets, and `grouping` asks for one of them by what it is.
            Expr::GroupingSet(_) => expr.map_children(keeping_its_name),
            Expr::AggregateFunction(ref call) if call.func.name() == GROUPING => expr.map_children(keeping_its_name),
            expr => keeping_its_name(expr),
        })?;
        // What is above asks for the names.
        if rewritten.transformed { rewritten.map_data(LogicalPlan::recompute_schema) } else { Ok(rewritten) }
    };
    Ok(plan.transform_up_with_subqueries(node)?.data)
}
