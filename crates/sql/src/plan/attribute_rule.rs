//! Turns calls of `attr` over a scan into columns of that scan.

use std::sync::Arc;

use datafusion::catalog::default_table_source::{provider_as_source, source_as_provider};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column as ColumnName, Result};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::logical_plan::TableScanBuilder;
use datafusion::logical_expr::{Expr, LogicalPlan, TableScan};
use datafusion::optimizer::{ApplyOrder, OptimizerConfig, OptimizerRule};

use super::table::SpansTable;
use crate::functions::AttributeFunction;
use crate::tables::Column;

/// The rule. DataFusion moves the calls down first (`ExtractLeafExpressions`, `PushDownLeafProjections`), as
/// `AttributeFunction::placement` asks it to; columns that nobody needs any more are
/// dropped afterwards (`OptimizeProjections`).
#[derive(Debug)]
pub(crate) struct ReadAttributesAsColumns;

impl OptimizerRule for ReadAttributesAsColumns {
    fn name(&self) -> &str {
        "read_attributes_as_columns"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if !matches!(plan, LogicalPlan::Projection(_) | LogicalPlan::Filter(_)) {
            return Ok(Transformed::no(plan));
        }
        let [LogicalPlan::TableScan(scan)] = plan.inputs().as_slice() else { return Ok(Transformed::no(plan)) };
        let Some(scan) = with_attributes(scan, &plan.expressions())? else { return Ok(Transformed::no(plan)) };
        let table = scan.table_name.clone();
        let names = NamePreserver::new(&plan);
        let expressions = plan.expressions().into_iter().map(|expr| {
            let name = names.save(&expr);
            let replaced = expr.transform_up(|expr| {
                Ok(match AttributeFunction::column_of(&expr) {
                    Some(attribute) => {
                        let name = Column::Attribute(attribute).name();
                        Transformed::yes(Expr::Column(ColumnName::new(Some(table.clone()), name)))
                    }
                    None => Transformed::no(expr),
                })
            })?;
            Ok(name.restore(replaced.data))
        });
        let expressions = expressions.collect::<Result<Vec<_>>>()?;
        Ok(Transformed::yes(plan.with_new_exprs(expressions, vec![LogicalPlan::TableScan(scan)])?))
    }
}

/// The scan with a column for each call in the expressions; `None` if there is none, or it is not a scan of ours.
fn with_attributes(scan: &TableScan, expressions: &[Expr]) -> Result<Option<TableScan>> {
    let mut wanted = Vec::new();
    for expr in expressions {
        expr.apply(|expr| {
            wanted.extend(AttributeFunction::column_of(expr));
            Ok(datafusion::common::tree_node::TreeNodeRecursion::Continue)
        })?;
    }
    if wanted.is_empty() {
        return Ok(None);
    }
    let Ok(provider) = source_as_provider(&scan.source) else { return Ok(None) };
    let Some(table) = (provider.as_ref() as &dyn std::any::Any).downcast_ref::<SpansTable>() else { return Ok(None) };
    let mut table = table.clone();
    let mut projection = scan.projection.clone().unwrap_or_else(|| (0..table.columns.len()).collect());
    for attribute in wanted {
        let at = table.add_attribute(attribute);
        if !projection.contains(&at) {
            projection.push(at);
        }
    }
    let source = provider_as_source(Arc::new(table));
    let scan = TableScanBuilder::new(scan.table_name.clone(), source)
        .with_projection(Some(projection))
        .with_filters(scan.filters.clone())
        .with_fetch(scan.fetch)
        .build()?;
    Ok(Some(scan))
}
