//! What rows are ordered or divided by becomes a column before. DataFusion 55 asks of a plan whether its order is the one that is needed,
//! and can't tell that of a comparison of something calculated (`ORDER BY length(name) > 3`): it loses the order on the way, as it doesn't
//! know between which numbers a function's results are.

use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result};
use datafusion::logical_expr::expr::Sort as SortKey;
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::{Aggregate, Distinct, DistinctOn, Expr, LogicalPlan, LogicalPlanBuilder, Sort, Window};

/// Begins the name of such a column.
const NAME: &str = "__tracehouse_key_";

/// The plan with columns in place of keys that are calculated.
pub(crate) fn with_keys_as_columns(plan: LogicalPlan) -> Result<LogicalPlan> {
    let mut keys = Keys { made: 0, above: Vec::new() };
    Ok(plan.transform_up_with_subqueries(|node| keys.node(node))?.data)
}

struct Keys {
    /// In the whole plan.
    made: usize,
    /// Those of the node that is looked at.
    above: Vec<Expr>,
}

impl Keys {
    fn node(&mut self, node: LogicalPlan) -> Result<Transformed<LogicalPlan>> {
        match node {
            LogicalPlan::Sort(sort) => self.sort(sort),
            LogicalPlan::Window(window) => self.window(window),
            LogicalPlan::Aggregate(aggregate) => self.aggregate(aggregate),
            LogicalPlan::Distinct(Distinct::On(on)) => self.distinct_on(on),
            node => Ok(Transformed::no(node)),
        }
    }

    fn sort(&mut self, sort: Sort) -> Result<Transformed<LogicalPlan>> {
        let expr = self.in_order(sort.expr.clone());
        if self.above.is_empty() {
            return Ok(Transformed::no(LogicalPlan::Sort(sort)));
        }
        let columns = columns_of(&sort.input);
        let input = self.below(&sort.input)?;
        let sorted = LogicalPlan::Sort(Sort { expr, input: input.into(), fetch: sort.fetch });
        Ok(Transformed::yes(LogicalPlanBuilder::from(sorted).project(columns)?.build()?))
    }

    fn window(&mut self, window: Window) -> Result<Transformed<LogicalPlan>> {
        let names = NamePreserver::new_for_projection();
        let exprs: Vec<Expr> = window
            .window_expr
            .iter()
            .map(|expr| {
                let name = names.save(expr);
                let Expr::WindowFunction(mut function) = bare(expr.clone()) else { return expr.clone() };
                let parts = std::mem::take(&mut function.params.partition_by);
                function.params.partition_by = parts.into_iter().map(|part| self.column_of(part)).collect();
                function.params.order_by = self.in_order(std::mem::take(&mut function.params.order_by));
                name.restore(Expr::WindowFunction(function))
            })
            .collect();
        if self.above.is_empty() {
            return Ok(Transformed::no(LogicalPlan::Window(window)));
        }
        let columns: Vec<Expr> = window.schema.columns().into_iter().map(Expr::Column).collect();
        let input = self.below(&window.input)?;
        Ok(Transformed::yes(LogicalPlanBuilder::from(input).window(exprs)?.project(columns)?.build()?))
    }

    fn aggregate(&mut self, aggregate: Aggregate) -> Result<Transformed<LogicalPlan>> {
        let names = NamePreserver::new_for_projection();
        let exprs: Vec<Expr> = aggregate
            .aggr_expr
            .iter()
            .map(|expr| {
                let name = names.save(expr);
                let Expr::AggregateFunction(mut function) = bare(expr.clone()) else { return expr.clone() };
                // What is ordered by must stay what is aggregated.
                if function.params.distinct {
                    return expr.clone();
                }
                function.params.order_by = self.in_order(std::mem::take(&mut function.params.order_by));
                name.restore(Expr::AggregateFunction(function))
            })
            .collect();
        if self.above.is_empty() {
            return Ok(Transformed::no(LogicalPlan::Aggregate(aggregate)));
        }
        let input = self.below(&aggregate.input)?;
        let again = Aggregate::try_new(input.into(), aggregate.group_expr, exprs)?;
        Ok(Transformed::yes(LogicalPlan::Aggregate(again)))
    }

    fn distinct_on(&mut self, on: DistinctOn) -> Result<Transformed<LogicalPlan>> {
        let keys = on.on_expr.iter().map(|key| self.column_of(key.clone())).collect();
        let order = on.sort_expr.clone().map(|keys| self.in_order(keys));
        if self.above.is_empty() {
            return Ok(Transformed::no(LogicalPlan::Distinct(Distinct::On(on))));
        }
        let input = self.below(&on.input)?;
        let again = DistinctOn::try_new(keys, on.select_expr, order, input.into())?;
        Ok(Transformed::yes(LogicalPlan::Distinct(Distinct::On(again))))
    }

    fn in_order(&mut self, keys: Vec<SortKey>) -> Vec<SortKey> {
        keys.into_iter().map(|key| SortKey { expr: self.column_of(key.expr), ..key }).collect()
    }

    /// The column that a key becomes; the key itself if it is a column, or one call over columns, whose order DataFusion knows.
    fn column_of(&mut self, key: Expr) -> Expr {
        let key = bare(key);
        let is_simple = |expr: &Expr| matches!(expr, Expr::Column(_) | Expr::Literal(..));
        let stays = match &key {
            Expr::ScalarFunction(call) => call.args.iter().all(is_simple),
            other => is_simple(other),
        };
        if stays || key.contains_outer() || key.is_volatile() {
            return key;
        }
        let is_made = |made: &&Expr| matches!(made, Expr::Alias(alias) if *alias.expr == key);
        if let Some(Expr::Alias(made)) = self.above.iter().find(is_made) {
            return Expr::Column(Column::new_unqualified(made.name.clone()));
        }
        let name = format!("{NAME}{}", self.made);
        self.made += 1;
        self.above.push(key.alias(name.clone()));
        Expr::Column(Column::new_unqualified(name))
    }

    /// The input with the keys beside its columns.
    fn below(&mut self, input: &LogicalPlan) -> Result<LogicalPlan> {
        let columns = columns_of(input).into_iter().chain(std::mem::take(&mut self.above));
        LogicalPlanBuilder::from(input.clone()).project(columns)?.build()
    }
}

fn columns_of(plan: &LogicalPlan) -> Vec<Expr> {
    plan.schema().columns().into_iter().map(Expr::Column).collect()
}

/// An expression without the names that it was given.
fn bare(mut expr: Expr) -> Expr {
    while let Expr::Alias(alias) = expr {
        expr = *alias.expr;
    }
    expr
}
