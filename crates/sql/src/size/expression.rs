//! How many parts expressions have.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    CaseWhen, Expr, Function, NamedWindowExpr, Query, Value, Visit, Visitor, WindowType,
};

use super::amount::{Amount, check_expressions};
use super::query::Sizes;
use super::relation::{Scope, last};
use super::visible::{Parts, Visible, key};
use crate::error::SqlError;

/// Aggregates and functions over windows that give a number or a truth value. Whatever they are of, what is computed from
/// them is not written out beyond them, and has no type that could grow.
const GIVE_NUMBERS: [&str; 27] = [
    "count",
    "sum",
    "avg",
    "mean",
    "stddev",
    "stddev_pop",
    "stddev_samp",
    "var",
    "var_pop",
    "var_samp",
    "var_population",
    "var_sample",
    "covar",
    "covar_pop",
    "covar_samp",
    "corr",
    "approx_distinct",
    "bool_and",
    "bool_or",
    "row_number",
    "rank",
    "dense_rank",
    "percent_rank",
    "cume_dist",
    "ntile",
    "approx_percentile_cont",
    "grouping",
];

/// Functions that DataFusion writes out with an argument twice.
const WRITTEN_TWICE: [&str; 8] = ["coalesce", "nvl", "ifnull", "nvl2", "nullif", "sum", "date_part", "date_trunc"];
/// `x > ALL (…)` becomes a choice by several subqueries.
const COMPARISON_WITH_ALL: u64 = 4;
/// A condition of CASE stands in each of its alternatives, where these are truth values.
const CASE_OF_CONDITIONS: u64 = 4;
/// An expression, or several together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sized {
    pub(super) parts: Parts,
    /// Of the subqueries in it.
    pub(super) queries: Amount,
}

impl Sized {
    const NOTHING: Sized = Sized {
        parts: Parts { planned: 0, written_out: 0 },
        queries: Amount { relations: 0, expressions: 0, fields: 0 },
    };

    fn add(&mut self, other: Sized) {
        self.add_parts(other.parts);
        self.queries.add(other.queries);
    }

    fn add_parts(&mut self, parts: Parts) {
        self.parts.planned = self.parts.planned.saturating_add(parts.planned);
        self.parts.written_out = self.parts.written_out.saturating_add(parts.written_out);
    }

    fn times(self, factor: u64) -> Sized {
        let parts = Parts {
            planned: self.parts.planned.saturating_mul(factor),
            written_out: self.parts.written_out.saturating_mul(factor),
        };
        Sized { parts, queries: self.queries.times(factor) }
    }

    /// As it is planned.
    pub(super) fn amount(&self) -> Amount {
        let mut amount = self.queries;
        amount.add_expressions(self.parts.planned);
        amount
    }

    /// As it is once columns are written out.
    pub(super) fn amount_written_out(&self) -> Amount {
        let mut amount = self.queries;
        amount.add_expressions(self.parts.written_out);
        amount
    }
}

/// Walks over expressions, from the innermost outward.
struct Sizer<'a> {
    sizes: &'a Sizes,
    scope: &'a Scope<'a>,
    visible: &'a Visible<'a>,
    /// What was found so far in each expression around the place, the outermost first; at the bottom, all together.
    around: Vec<Sized>,
    /// In how many subqueries the place is: those are counted by themselves.
    subqueries: usize,
}

impl Sizes {
    /// The parts of all expressions in something.
    pub(super) fn expressions(
        &self,
        of: &impl Visit,
        scope: &Scope<'_>,
        visible: &Visible<'_>,
    ) -> Result<Sized, SqlError> {
        let mut sizer = Sizer { sizes: self, scope, visible, around: vec![Sized::NOTHING], subqueries: 0 };
        if let ControlFlow::Break(error) = of.visit(&mut sizer) {
            return Err(error);
        }
        let all = sizer.around.pop().unwrap_or(Sized::NOTHING);
        check_expressions(all.parts.written_out)?;
        all.amount().check()?;
        Ok(all)
    }

    /// The parts of a window that has a name.
    pub(super) fn window(
        &self,
        window: &NamedWindowExpr,
        scope: &Scope<'_>,
        visible: &Visible<'_>,
    ) -> Result<Parts, SqlError> {
        match window {
            NamedWindowExpr::NamedWindow(other) => Ok(visible.window(other).unwrap_or(Parts::ONE)),
            NamedWindowExpr::WindowSpec(spec) => {
                let mut sized = self.expressions(spec, scope, visible)?;
                if let Some(other) = spec.window_name.as_ref().and_then(|name| visible.window(name)) {
                    sized.add_parts(other);
                }
                Ok(sized.parts)
            }
        }
    }

    /// What an expression is, of which the operands have been found.
    fn sized(&self, expr: &Expr, operands: Sized, visible: &Visible<'_>) -> Sized {
        let mut sized = match expr {
            Expr::Between { .. } => operands.times(2),
            Expr::Extract { .. } => operands.times(2),
            Expr::Case { conditions, else_result, .. } if may_be_condition(conditions, else_result.as_deref()) => {
                operands.times(CASE_OF_CONDITIONS)
            }
            Expr::AnyOp { .. } | Expr::AllOp { .. } => operands.times(COMPARISON_WITH_ALL),
            Expr::Function(call) => return self.sized_call(call, operands, visible),
            Expr::Identifier(name) => Sized { parts: visible.parts_of(std::slice::from_ref(name)), ..operands },
            Expr::CompoundIdentifier(name) => Sized { parts: visible.parts_of(name), ..operands },
            _ => operands,
        };
        if !matches!(expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Nested(_)) {
            sized.add_parts(Parts::ONE);
        }
        sized
    }

    fn sized_call(&self, call: &Function, operands: Sized, visible: &Visible<'_>) -> Sized {
        let name = last(&call.name).map(key).unwrap_or_default();
        let mut sized = if WRITTEN_TWICE.contains(&name.as_str()) { operands.times(2) } else { operands };
        sized.add_parts(Parts::ONE);
        if name == "unnest" {
            sized.add_parts(Parts { planned: self.arguments_max, written_out: self.arguments_max });
        }
        let window = match &call.over {
            Some(WindowType::NamedWindow(name)) => visible.window(name),
            Some(WindowType::WindowSpec(spec)) => spec.window_name.as_ref().and_then(|name| visible.window(name)),
            None => None,
        };
        if let Some(window) = window {
            sized.add_parts(window);
        }
        if GIVE_NUMBERS.contains(&name.as_str()) {
            sized.parts.written_out = 1;
        }
        sized
    }
}

impl Visitor for Sizer<'_> {
    type Break = SqlError;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<SqlError> {
        self.subqueries += 1;
        if self.subqueries > 1 {
            return ControlFlow::Continue(());
        }
        match self.sizes.query(query, self.scope, Some(self.visible)) {
            Ok(relation) => {
                if let Some(around) = self.around.last_mut() {
                    // Written out with the expression wherever that is.
                    let written_out = relation.amount.expressions.saturating_add(relation.amount.relations);
                    around.add(Sized { parts: Parts { planned: 1, written_out }, queries: relation.amount });
                }
                ControlFlow::Continue(())
            }
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<SqlError> {
        self.subqueries -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, _: &Expr) -> ControlFlow<SqlError> {
        if self.subqueries == 0 {
            self.around.push(Sized::NOTHING);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<SqlError> {
        if self.subqueries > 0 {
            return ControlFlow::Continue(());
        }
        let operands = self.around.pop().unwrap_or(Sized::NOTHING);
        let sized = self.sizes.sized(expr, operands, self.visible);
        if let Some(around) = self.around.last_mut() {
            around.add(sized);
        }
        ControlFlow::Continue(())
    }
}

/// Whether a choice may be among truth values: not if one alternative is a text or a number.
fn may_be_condition(conditions: &[CaseWhen], else_result: Option<&Expr>) -> bool {
    let is_other =
        |result: &Expr| matches!(result, Expr::Value(value) if !matches!(value.value, Value::Boolean(_) | Value::Null));
    !conditions.iter().map(|when| &when.result).chain(else_result).any(is_other)
}
