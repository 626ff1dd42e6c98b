//! Ids in conditions are numbers, in whatever form a statement writes them: short or long, in small or capital digits. The columns hold the
//! long form in small digits, so that is what literals beside them become. A text that is no id stays, and is equal to none.

use std::sync::Arc;

use datafusion::catalog::default_table_source::source_as_provider;
use datafusion::catalog::view::ViewTable;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Column, Result, ScalarValue};
use datafusion::logical_expr::expr::{Exists, InList, InSubquery};
use datafusion::logical_expr::utils::grouping_set_to_exprlist;
use datafusion::logical_expr::{BinaryExpr, Case, Distinct, Expr, LogicalPlan, Operator, Subquery, TableScan};
use tracehouse_model::{SpanId, TraceId};

use crate::plan::SpansTable;
use crate::rewriting::{with_expressions, with_expressions_over};
use crate::tables;
use crate::watch::Watch;

/// Whose ids a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdKind {
    Trace,
    Span,
}

impl IdKind {
    /// Of what is no column none is known: a function of one may make anything of it.
    fn of(expr: &Expr, inputs: &[&LogicalPlan]) -> Option<Self> {
        let Expr::Column(column) = expr else { return None };
        Self::of_named(column, inputs)
    }

    fn of_named(column: &Column, inputs: &[&LogicalPlan]) -> Option<Self> {
        let holder = inputs.iter().find(|input| input.schema().has_column(column))?;
        Self::of_column(holder, holder.schema().maybe_index_of_column(column)?)
    }

    /// Follows a column of a plan, by its place, to the scan that it comes from.
    fn of_column(plan: &LogicalPlan, at: usize) -> Option<Self> {
        match plan {
            LogicalPlan::TableScan(scan) => Self::of_scan(scan, plan.schema().field(at).name()),
            LogicalPlan::SubqueryAlias(alias) => Self::of_column(&alias.input, at),
            LogicalPlan::Subquery(subquery) => Self::of_column(&subquery.subquery, at),
            // What is unnested comes from a list, which is no id.
            LogicalPlan::Unnest(unnest) => Self::of_column(&unnest.input, *unnest.dependency_indices.get(at)?),
            LogicalPlan::Distinct(Distinct::On(on)) => Self::of_made(on.select_expr.get(at)?, &on.input),
            LogicalPlan::Projection(projection) => Self::of_made(projection.expr.get(at)?, &projection.input),
            LogicalPlan::Aggregate(aggregate) => {
                let groups = grouping_set_to_exprlist(&aggregate.group_expr).ok()?;
                Self::of_made(groups.get(at)?, &aggregate.input)
            }
            // What the rows of all have in common.
            LogicalPlan::Union(union) => {
                let mut kinds = union.inputs.iter().map(|input| Self::of_column(input, at));
                let first = kinds.next()??;
                kinds.all(|kind| kind == Some(first)).then_some(first)
            }
            LogicalPlan::Filter(_)
            | LogicalPlan::Sort(_)
            | LogicalPlan::Limit(_)
            | LogicalPlan::Distinct(_)
            | LogicalPlan::Join(_)
            | LogicalPlan::Window(_) => {
                let (qualifier, field) = plan.schema().qualified_field(at);
                Self::of_named(&Column::new(qualifier.cloned(), field.name()), &plan.inputs())
            }
            _ => None,
        }
    }

    fn of_made(expr: &Expr, input: &LogicalPlan) -> Option<Self> {
        match expr {
            Expr::Alias(alias) => Self::of_made(&alias.expr, input),
            expr => Self::of(expr, &[input]),
        }
    }

    fn of_scan(scan: &TableScan, name: &str) -> Option<Self> {
        let provider = source_as_provider(&scan.source).ok()?;
        let provider = provider.as_ref() as &dyn std::any::Any;
        let is_ours = provider.is::<SpansTable>() || provider.is::<ViewTable>();
        tables::Column::id_kind(name).filter(|_| is_ours)
    }

    /// An id in the form of the columns.
    fn written(self, text: &str) -> Option<String> {
        match self {
            Self::Trace => text.parse::<TraceId>().ok().map(|id| id.to_string()),
            Self::Span => text.parse::<SpanId>().ok().map(|id| id.to_string()),
        }
    }

    fn rewritten(self, literal: Expr) -> Expr {
        let Expr::Literal(value, metadata) = &literal else { return literal };
        let text = value.try_as_str().flatten();
        match text.and_then(|text| self.written(text)) {
            Some(written) => Expr::Literal(ScalarValue::Utf8(Some(written)), metadata.clone()),
            None => literal,
        }
    }
}

fn compares(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// The plan with literals in the form of the ids that they are compared with.
pub(crate) fn with_ids(plan: LogicalPlan, watch: &Watch) -> Result<LogicalPlan> {
    with_expressions_over(plan, |inputs, _, expr| {
        watch.check()?;
        Ok(match expr {
            Expr::Exists(Exists { subquery, negated }) => {
                let subquery = with_ids_of_outside(subquery, inputs)?;
                Transformed::yes(Expr::Exists(Exists { subquery, negated }))
            }
            Expr::ScalarSubquery(subquery) => {
                Transformed::yes(Expr::ScalarSubquery(with_ids_of_outside(subquery, inputs)?))
            }
            Expr::InSubquery(InSubquery { expr, subquery, negated }) => {
                let subquery = with_ids_of_outside(subquery, inputs)?;
                Transformed::yes(Expr::InSubquery(InSubquery { expr, subquery, negated }))
            }
            other => rewritten(other, &|expr| IdKind::of(expr, inputs)),
        })
    })
}

/// The same where a subquery compares with columns of what it stands in.
fn with_ids_of_outside(subquery: Subquery, outside: &[&LogicalPlan]) -> Result<Subquery> {
    let kind_of = |expr: &Expr| match expr {
        Expr::OuterReferenceColumn(_, column) => IdKind::of_named(column, outside),
        _ => None,
    };
    let plan = Arc::unwrap_or_clone(subquery.subquery);
    let plan = with_expressions(plan, |_, expr| Ok(rewritten(expr, &kind_of)))?;
    Ok(Subquery { subquery: Arc::new(plan), ..subquery })
}

/// A comparison with literals in the form of what they are compared with.
fn rewritten(expr: Expr, kind_of: &impl Fn(&Expr) -> Option<IdKind>) -> Transformed<Expr> {
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(op) => match (kind_of(&left), kind_of(&right)) {
            (Some(kind), None) => {
                let right = Box::new(kind.rewritten(*right));
                Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right }))
            }
            (None, Some(kind)) => {
                let left = Box::new(kind.rewritten(*left));
                Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right }))
            }
            _ => Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })),
        },
        Expr::InList(InList { expr, list, negated }) => match kind_of(&expr).or_else(|| kind_of_all(&list, kind_of)) {
            Some(kind) => {
                let expr = Box::new(kind.rewritten(*expr));
                let list = list.into_iter().map(|item| kind.rewritten(item)).collect();
                Transformed::yes(Expr::InList(InList { expr, list, negated }))
            }
            None => Transformed::no(Expr::InList(InList { expr, list, negated })),
        },
        Expr::Between(mut between) => match kind_of(&between.expr) {
            Some(kind) => {
                between.low = Box::new(kind.rewritten(*between.low));
                between.high = Box::new(kind.rewritten(*between.high));
                Transformed::yes(Expr::Between(between))
            }
            None => Transformed::no(Expr::Between(between)),
        },
        Expr::Case(Case { expr: Some(expr), when_then_expr, else_expr }) => match kind_of(&expr) {
            Some(kind) => {
                let whens = when_then_expr.into_iter().map(|(when, then)| (Box::new(kind.rewritten(*when)), then));
                Transformed::yes(Expr::Case(Case { expr: Some(expr), when_then_expr: whens.collect(), else_expr }))
            }
            None => Transformed::no(Expr::Case(Case { expr: Some(expr), when_then_expr, else_expr })),
        },
        other => Transformed::no(other),
    }
}

/// What all of some expressions are.
fn kind_of_all(exprs: &[Expr], kind_of: &impl Fn(&Expr) -> Option<IdKind>) -> Option<IdKind> {
    let mut kinds = exprs.iter().map(kind_of);
    let first = kinds.next()??;
    kinds.all(|kind| kind == Some(first)).then_some(first)
}
