//! Integers beside literals with a fraction, or too large for an integer, compared as what they are. DataFusion makes doubles of both, of
//! which integers beyond 2^53 share one with their neighbours.

use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Between, BinaryExpr, Case, Expr, ExprSchemable, LogicalPlan, Operator, lit};

use crate::rewriting::with_expressions;

/// The first number that is too large for an integer of 64 bits; minus this is the least.
const BEYOND: f64 = 9_223_372_036_854_775_808.0;

/// The plan with integers compared with integers. Nothing but literals is there twice afterwards.
pub(crate) fn with_exact_comparisons(plan: LogicalPlan) -> Result<LogicalPlan> {
    with_expressions(plan, |schema, expr| {
        let is_integer = |expr: &Expr| is_integer(expr, schema);
        let expr = beside_doubles(expr, schema);
        Ok(match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (double(&left), double(&right), op.swap()) {
                (None, Some(number), _) if can_be_exact(op, number) && is_integer(&left) => {
                    Transformed::yes(compared(*left, op, number))
                }
                (Some(number), None, Some(swapped)) if can_be_exact(swapped, number) && is_integer(&right) => {
                    Transformed::yes(compared(*right, swapped, number))
                }
                _ => Transformed::no(Expr::BinaryExpr(BinaryExpr { left, op, right })),
            },
            Expr::Between(between) if is_integer(&between.expr) => within(between),
            Expr::InList(list) if list.list.iter().all(is_number) && is_integer(&list.expr) => {
                Transformed::yes(among(list))
            }
            Expr::Case(Case { expr: Some(expr), when_then_expr, else_expr })
                if when_then_expr.iter().all(|(when, _)| is_number(when)) && is_integer(&expr) =>
            {
                let whens = when_then_expr.into_iter().map(|(when, then)| (Box::new(when_equal(*when)), then));
                Transformed::yes(Expr::Case(Case { expr: Some(expr), when_then_expr: whens.collect(), else_expr }))
            }
            other => Transformed::no(other),
        })
    })
}

/// Decimals that literals became are doubles again beside doubles, of which not all can be decimals.
fn beside_doubles(expr: Expr, schema: &DFSchema) -> Expr {
    let is_double = |expr: &Expr| expr.get_type(schema).is_ok_and(|data_type| data_type.is_floating());
    let boxed = |expr: Box<Expr>| Box::new(as_double(*expr));
    match expr {
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_double(&left) => {
            Expr::BinaryExpr(BinaryExpr { left, op, right: boxed(right) })
        }
        Expr::BinaryExpr(BinaryExpr { left, op, right }) if is_double(&right) => {
            Expr::BinaryExpr(BinaryExpr { left: boxed(left), op, right })
        }
        Expr::Between(Between { expr, negated, low, high }) if is_double(&expr) => {
            Expr::Between(Between { expr, negated, low: boxed(low), high: boxed(high) })
        }
        Expr::InList(InList { expr, list, negated }) if is_double(&expr) => {
            Expr::InList(InList { expr, list: list.into_iter().map(as_double).collect(), negated })
        }
        Expr::Case(Case { expr: Some(expr), when_then_expr, else_expr }) if is_double(&expr) => {
            let when_then_expr = when_then_expr.into_iter().map(|(when, then)| (boxed(when), then)).collect();
            Expr::Case(Case { expr: Some(expr), when_then_expr, else_expr })
        }
        other => other,
    }
}

fn as_double(expr: Expr) -> Expr {
    match &expr {
        Expr::Negative(inner) => Expr::Negative(Box::new(as_double(inner.as_ref().clone()))),
        Expr::Cast(cast) if cast.field.data_type().is_decimal() => match cast.expr.as_ref() {
            Expr::Literal(value, _) => {
                let number = value.try_as_str().flatten().and_then(|text| text.parse::<f64>().ok());
                number.map_or(expr, lit)
            }
            _ => expr,
        },
        _ => expr,
    }
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

/// Whether it is a literal that is a number that can be ordered, or null.
fn is_number(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(ScalarValue::Float64(number), _) => number.is_none_or(|number| !number.is_nan()),
        Expr::Literal(value, _) => value.is_null() || value.data_type().is_signed_integer(),
        _ => false,
    }
}

fn can_be_exact(op: Operator, number: f64) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom) && !number.is_nan()
}

/// The integer that a number is.
fn integer(number: f64) -> Option<i64> {
    (number.fract() == 0.0 && (-BEYOND..BEYOND).contains(&number)).then_some(number as i64)
}

/// The same with an integer, or what holds for all or none.
fn compared(x: Expr, op: Operator, number: f64) -> Expr {
    let whole = match op {
        Operator::Gt | Operator::LtEq => number.floor(),
        Operator::GtEq | Operator::Lt => number.ceil(),
        _ => number,
    };
    if let Some(integer) = integer(whole) {
        return Expr::BinaryExpr(BinaryExpr { left: Box::new(x), op, right: Box::new(lit(integer)) });
    }
    match op {
        Operator::IsDistinctFrom => lit(true),
        Operator::IsNotDistinctFrom => lit(false),
        Operator::NotEq => for_all(x, true),
        Operator::Gt | Operator::GtEq => for_all(x, number < 0.0),
        Operator::Lt | Operator::LtEq => for_all(x, number > 0.0),
        _ => for_all(x, false),
    }
}

/// What holds for all or for none, but is null where `x` is.
fn for_all(x: Expr, holds: bool) -> Expr {
    let unknown = lit(ScalarValue::Boolean(None));
    if holds { x.is_not_null().or(unknown) } else { x.is_null().and(unknown) }
}

fn within(between: Between) -> Transformed<Expr> {
    let (low, high) = (double(&between.low), double(&between.high));
    let is_nan = |bound: Option<f64>| bound.is_some_and(f64::is_nan);
    if (low.is_none() && high.is_none()) || is_nan(low) || is_nan(high) {
        return Transformed::no(Expr::Between(between));
    }
    let is_empty = low.is_some_and(|low| low >= BEYOND) || high.is_some_and(|high| high < -BEYOND);
    // Out of bounds it becomes the last integer.
    let bound = |bound: Box<Expr>, whole: Option<f64>| whole.map_or(bound, |whole| Box::new(lit(whole as i64)));
    let (low, high) = if is_empty {
        (Box::new(lit(1_i64)), Box::new(lit(0_i64)))
    } else {
        (bound(between.low, low.map(f64::ceil)), bound(between.high, high.map(f64::floor)))
    };
    Transformed::yes(Expr::Between(Between { expr: between.expr, negated: between.negated, low, high }))
}

/// Without what no integer is.
fn among(InList { expr, list, negated }: InList) -> Expr {
    let was_empty = list.is_empty();
    let exactly = |item: Expr| match double(&item) {
        Some(number) => integer(number).map(lit),
        None => Some(item),
    };
    let list: Vec<Expr> = list.into_iter().filter_map(exactly).collect();
    if list.is_empty() && !was_empty { for_all(*expr, negated) } else { Expr::InList(InList { expr, list, negated }) }
}

/// Null is equal to nothing.
fn when_equal(when: Expr) -> Expr {
    match double(&when) {
        Some(number) => lit(ScalarValue::Int64(integer(number))),
        None => when,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::col;

    use super::*;

    #[test]
    fn integers_are_compared_with_integers() {
        let (none, all) = ("x IS NULL AND Boolean(NULL)", "x IS NOT NULL OR Boolean(NULL)");
        for (op, number, expected) in [
            (Operator::Gt, 1.5, "x > Int64(1)"),
            (Operator::GtEq, 1.5, "x >= Int64(2)"),
            (Operator::Lt, -1.5, "x < Int64(-1)"),
            (Operator::LtEq, -1.5, "x <= Int64(-2)"),
            (Operator::Eq, 1.5, none),
            (Operator::NotEq, 1.5, all),
            (Operator::Eq, 9_007_199_254_740_992.0, "x = Int64(9007199254740992)"),
            (Operator::GtEq, -BEYOND, "x >= Int64(-9223372036854775808)"),
            (Operator::Lt, BEYOND, all),
            (Operator::GtEq, f64::INFINITY, none),
            (Operator::Gt, f64::NEG_INFINITY, all),
            (Operator::LtEq, -1e300, none),
            (Operator::IsDistinctFrom, 0.5, "Boolean(true)"),
            (Operator::IsNotDistinctFrom, 2.0, "x IS NOT DISTINCT FROM Int64(2)"),
        ] {
            assert!(can_be_exact(op, number));
            assert_eq!(compared(col("x"), op, number).to_string(), expected, "x {op} {number}");
        }
        assert!(!can_be_exact(Operator::Lt, f64::NAN));
        assert!(!can_be_exact(Operator::Plus, 1.5));
    }

    #[test]
    fn bounds_and_lists_are_of_integers() {
        for (low, high, expected) in [
            (1.5, 3.5, "x BETWEEN Int64(2) AND Int64(3)"),
            (-1e300, 2.0, "x BETWEEN Int64(-9223372036854775808) AND Int64(2)"),
            (BEYOND, 1e300, "x BETWEEN Int64(1) AND Int64(0)"),
            (f64::NAN, 1.0, "x BETWEEN Float64(NaN) AND Float64(1)"),
        ] {
            let Expr::Between(between) = col("x").between(lit(low), lit(high)) else { panic!("a range") };
            assert_eq!(within(between).data.to_string(), expected);
        }
        for (list, expected) in [
            (vec![lit(1.5), lit(2.0), lit(3_i64)], "x NOT IN ([Int64(2), Int64(3)])"),
            (vec![lit(1.5)], "x IS NOT NULL OR Boolean(NULL)"),
        ] {
            let Expr::InList(list) = col("x").in_list(list, true) else { panic!("a list") };
            assert_eq!(among(list).to_string(), expected);
        }
    }
}
