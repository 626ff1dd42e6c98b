//! Which functions may be called with `OVER`.

use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::{Expr, LogicalPlan, WindowFrameBound, WindowFunctionDefinition};

/// Aggregates whose state has a fixed size, or is bounded by `frames`. Those that gather values would give all of them anew for each row.
const AGGREGATES: [&str; 11] =
    ["count", "sum", "avg", "min", "max", "stddev", "stddev_pop", "var", "var_pop", "bool_and", "bool_or"];

/// Fails if a function is called with OVER that may not be.
pub(crate) fn check_windows(plan: &LogicalPlan) -> Result<()> {
    plan.apply_with_subqueries(|node| {
        node.apply_expressions(|expr| {
            expr.apply(|inner| {
                if let Expr::WindowFunction(call) = inner {
                    check(call)?;
                }
                Ok(TreeNodeRecursion::Continue)
            })
        })
    })?;
    Ok(())
}

/// DataFusion adds such numbers to places of rows.
fn is_beyond_all_rows(bound: &WindowFrameBound) -> bool {
    let (WindowFrameBound::Preceding(distance) | WindowFrameBound::Following(distance)) = bound else { return false };
    matches!(distance, ScalarValue::UInt64(Some(rows)) if *rows > i64::MAX as u64)
}

fn check(call: &WindowFunction) -> Result<()> {
    let frame = &call.params.window_frame;
    if [&frame.start_bound, &frame.end_bound].into_iter().any(is_beyond_all_rows) {
        return plan_err!("a frame of so many rows goes to the end; write UNBOUNDED PRECEDING or UNBOUNDED FOLLOWING");
    }
    let WindowFunctionDefinition::AggregateUDF(aggregate) = &call.fun else { return Ok(()) };
    let name = aggregate.name();
    if call.params.distinct || !AGGREGATES.contains(&name) {
        let distinct = if call.params.distinct { " of DISTINCT values" } else { "" };
        return plan_err!(
            "{name}{distinct} can't be called with OVER, as it would need too much memory; \
             use GROUP BY, or one of {}",
            AGGREGATES.join(", ")
        );
    }
    Ok(())
}
