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
    Ok(plan.transform_up_with_subqueries(|node| rewrite_node(node, &rewrite))?.data)
}

/// The same, with the inputs of the node in which an expression stands.
pub(crate) fn with_expressions_over(
    plan: LogicalPlan,
    rewrite: impl Fn(&[&LogicalPlan], &DFSchema, Expr) -> Result<Transformed<Expr>>,
) -> Result<LogicalPlan> {
    let node = |node: LogicalPlan| {
        let before = node.clone();
        let inputs = before.inputs();
        rewrite_node(node, &|schema: &DFSchema, expr| rewrite(&inputs, schema, expr))
    };
    Ok(plan.transform_up_with_subqueries(node)?.data)
}

fn rewrite_node(
    node: LogicalPlan,
    rewrite: &impl Fn(&DFSchema, Expr) -> Result<Transformed<Expr>>,
) -> Result<Transformed<LogicalPlan>> {
    let inputs = node.inputs();
    let schema = if inputs.is_empty() { node.schema().as_ref().clone() } else { merge_schema(&inputs) };
    let names = NamePreserver::new(&node);
    let keeping_its_name = |expr: Expr| {
        let name = names.save(&expr);
        Ok(expr.transform_up(|expr| rewrite(&schema, expr))?.update_data(|expr| name.restore(expr)))
    };
    let rewritten = node.map_expressions(|expr| match expr {
        // Names are those of what is in the sets, and `grouping` asks for one of them by what it is.
        Expr::GroupingSet(_) => expr.map_children(keeping_its_name),
        Expr::AggregateFunction(ref call) if call.func.name() == GROUPING => expr.map_children(keeping_its_name),
        expr => keeping_its_name(expr),
    })?;
    // What is above asks for the names.
    if rewritten.transformed { rewritten.map_data(LogicalPlan::recompute_schema) } else { Ok(rewritten) }
}
