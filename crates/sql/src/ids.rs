//! Ids in conditions are numbers, in whatever form a statement writes them: short or long, in small or capital digits. The columns hold the
//! long form in small digits, so that is what literals beside them become. A text that is no id stays, and is equal to none.

use std::collections::HashMap;

use arrow::datatypes::Field;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{BinaryExpr, Case, Expr, ExprSchemable, LogicalPlan, Operator};
use tracehouse_model::{SpanId, TraceId};

use crate::rewriting::with_expressions;

/// Stands with a column, and with whatever is named after it, whose texts are ids.
const KIND_OF_ID: &str = "tracehouse:id";

/// Whose ids a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IdKind {
    Trace,
    Span,
}

impl IdKind {
    fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Span => "span",
        }
    }

    /// Remembers it with a column.
    pub(crate) fn mark(self, field: Field) -> Field {
        field.with_metadata(HashMap::from([(KIND_OF_ID.to_owned(), self.name().to_owned())]))
    }

    fn of(expr: &Expr, schema: &DFSchema) -> Option<Self> {
        // What is no column has no id for a value: a function of one may make anything of it.
        let (Expr::Column(_) | Expr::OuterReferenceColumn(..)) = expr else { return None };
        let (_, field) = expr.to_field(schema).ok()?;
        let kind = field.metadata().get(KIND_OF_ID)?;
        [Self::Trace, Self::Span].into_iter().find(|known| known.name() == kind)
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
pub(crate) fn with_ids(plan: LogicalPlan) -> Result<LogicalPlan> {
    with_expressions(plan, |schema, expr| {
        Ok(match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) if compares(op) => {
                match (IdKind::of(&left, schema), IdKind::of(&right, schema)) {
                    (Some(kind), None) => {
                        let right = Box::new(kind.rewritten(*right));
                        Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right }))
                    }
                    (None, Some(kind)) => {
                        let left = Box::new(kind.rewritten(*left));
                        Transformed::yes(Expr::BinaryExpr(BinaryExpr { left, op, right }))
                    }
                    _ => Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })),
                }
            }
            Expr::InList(InList { expr, list, negated }) => match IdKind::of(&expr, schema) {
                Some(kind) => {
                    let list = list.into_iter().map(|item| kind.rewritten(item)).collect();
                    Transformed::yes(Expr::InList(InList { expr, list, negated }))
                }
                None => Transformed::no(Expr::InList(InList { expr, list, negated })),
            },
            Expr::Between(mut between) => match IdKind::of(&between.expr, schema) {
                Some(kind) => {
                    between.low = Box::new(kind.rewritten(*between.low));
                    between.high = Box::new(kind.rewritten(*between.high));
                    Transformed::yes(Expr::Between(between))
                }
                None => Transformed::no(Expr::Between(between)),
            },
            Expr::Case(Case { expr: Some(expr), when_then_expr, else_expr }) => match IdKind::of(&expr, schema) {
                Some(kind) => {
                    let when_then_expr = when_then_expr
                        .into_iter()
                        .map(|(when, then)| (Box::new(kind.rewritten(*when)), then))
                        .collect();
                    Transformed::yes(Expr::Case(Case { expr: Some(expr), when_then_expr, else_expr }))
                }
                None => Transformed::no(Expr::Case(Case { expr: Some(expr), when_then_expr, else_expr })),
            },
            other => Transformed::no(other),
        })
    })
}
