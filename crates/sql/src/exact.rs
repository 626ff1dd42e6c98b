//! Integers beside a literal with a fraction, or one too large for an integer, compared as what they are. DataFusion makes doubles of
//! both, of which integers beyond 2^53 share one with their neighbours.

use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::{BinaryExpr, Expr, ExprSchemable, LogicalPlan, Operator, lit};

use crate::rewriting::with_expressions;

/// The first number that is too large for an integer of 64 bits; minus this is the least.
const BEYOND: f64 = 9_223_372_036_854_775_808.0;

/// The plan with integers compared with integers.
pub(crate) fn with_exact_comparisons(plan: LogicalPlan) -> Result<LogicalPlan> {
    with_expressions(plan, |schema, expr| {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = &expr else { return Ok(Transformed::no(expr)) };
        let compared = match (double(left), double(right)) {
            (None, Some(number)) if is_integer(left, schema) => compared(left, *op, number),
            (Some(number), None) if is_integer(right, schema) => {
                op.swap().and_then(|swapped| compared(right, swapped, number))
            }
            _ => None,
        };
        Ok(compared.map_or(Transformed::no(expr), Transformed::yes))
    })
}

fn is_integer(expr: &Expr, schema: &DFSchema) -> bool {
    expr.get_type(schema).is_ok_and(|data_type| data_type.is_signed_integer())
}

fn double(expr: &Expr) -> Option<f64> {
    let Expr::Literal(value, _) = expr else { return None };
    match value {
        ScalarValue::Float64(number) => *number,
        _ => None,
    }
}

/// The same with an integer, or of `x` alone where it holds for all or none. `None` where it is no comparison that can be made so.
fn compared(x: &Expr, op: Operator, number: f64) -> Option<Expr> {
    let whole = match op {
        Operator::Gt | Operator::LtEq => number.floor(),
        Operator::GtEq | Operator::Lt => number.ceil(),
        Operator::Eq | Operator::NotEq => number,
        _ => return None,
    };
    let (is_above, is_below) = (whole >= BEYOND, whole < -BEYOND);
    // Null where `x` is.
    let for_all = |holds: bool| if holds { x.clone().eq(x.clone()) } else { x.clone().not_eq(x.clone()) };
    match op {
        _ if number.is_nan() => None,
        Operator::Eq | Operator::NotEq if is_above || is_below || whole.fract() != 0.0 => {
            Some(for_all(op == Operator::NotEq))
        }
        Operator::Gt | Operator::GtEq if is_above || is_below => Some(for_all(is_below)),
        Operator::Lt | Operator::LtEq if is_above || is_below => Some(for_all(is_above)),
        _ => {
            let integer = Box::new(lit(whole as i64));
            Some(Expr::BinaryExpr(BinaryExpr { left: Box::new(x.clone()), op, right: integer }))
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::col;

    use super::*;

    #[test]
    fn integers_are_compared_with_integers() {
        for (op, number, expected) in [
            (Operator::Gt, 1.5, "x > Int64(1)"),
            (Operator::GtEq, 1.5, "x >= Int64(2)"),
            (Operator::Lt, -1.5, "x < Int64(-1)"),
            (Operator::LtEq, -1.5, "x <= Int64(-2)"),
            (Operator::Eq, 1.5, "x != x"),
            (Operator::NotEq, 1.5, "x = x"),
            (Operator::Eq, 9_007_199_254_740_992.0, "x = Int64(9007199254740992)"),
            (Operator::GtEq, -BEYOND, "x >= Int64(-9223372036854775808)"),
            (Operator::Lt, BEYOND, "x = x"),
            (Operator::GtEq, f64::INFINITY, "x != x"),
            (Operator::Gt, f64::NEG_INFINITY, "x = x"),
            (Operator::LtEq, -1e300, "x != x"),
        ] {
            let found = compared(&col("x"), op, number).expect("it can be compared");
            assert_eq!(found.to_string(), expected, "x {op} {number}");
        }
        assert_eq!(compared(&col("x"), Operator::Lt, f64::NAN), None);
        assert_eq!(compared(&col("x"), Operator::Plus, 1.5), None);
    }
}
