//! Integers beside literals with a fraction, or too large for an integer, compared as what they are. DataFusion makes doubles of both, of
//! which integers beyond 2^53 share one with their neighbours.

use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::InList;
use datafusion::logical_expr::{Between, BinaryExpr, Case, Expr, ExprSchemable, LogicalPlan, Operator, lit};

use crate::rewriting::with_expressions;

const MIN: i128 = i64::MIN as i128;
const MAX: i128 = i64::MAX as i128;

/// The plan with integers compared with integers. Nothing but literals is there twice afterwards.
pub(crate) fn with_exact_comparisons(plan: LogicalPlan) -> Result<LogicalPlan> {
    with_expressions(plan, |schema, expr| {
        let is_integer = |expr: &Expr| is_integer(expr, schema);
        let expr = beside_doubles(expr, schema);
        Ok(match expr {
            Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (number(&left), number(&right), op.swap()) {
                (None, Some(number), _) if can_be_exact(op) && is_integer(&left) => {
                    Transformed::yes(compared(*left, op, number))
                }
                (Some(number), None, Some(swapped)) if can_be_exact(swapped) && is_integer(&right) => {
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

/// A number that is no integer of 64 bits by itself, as far as integers are compared with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Number {
    /// The greatest integer that is not above it; of what is far beyond all integers of 64 bits, one that is beyond them, too.
    floor: i128,
    is_whole: bool,
}

impl Number {
    /// The least integer that is not below it.
    fn ceil(self) -> i128 {
        if self.is_whole { self.floor } else { self.floor + 1 }
    }

    /// The integer that it is.
    fn integer(self) -> Option<i64> {
        i64::try_from(self.floor).ok().filter(|_| self.is_whole)
    }

    fn negated(self) -> Self {
        Self { floor: -self.ceil(), ..self }
    }

    /// `None`: not a number.
    fn of_double(number: f64) -> Option<Self> {
        const FAR: f64 = 1e30;
        let is_whole = number.is_infinite() || number.fract() == 0.0;
        (!number.is_nan()).then(|| Self { floor: number.floor().clamp(-FAR, FAR) as i128, is_whole })
    }

    /// As it stands in a literal that was made a decimal: digits with a point between.
    fn of_digits(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.')?;
        Some(Self { floor: whole.parse().ok()?, is_whole: fraction.bytes().all(|digit| digit == b'0') })
    }
}

/// The number that a literal is, if it is a double or was made a decimal.
fn number(expr: &Expr) -> Option<Number> {
    match expr {
        Expr::Literal(ScalarValue::Float64(Some(number)), _) => Number::of_double(*number),
        Expr::Negative(inner) => number(inner).map(Number::negated),
        Expr::Cast(cast) if cast.field.data_type().is_decimal() => match cast.expr.as_ref() {
            Expr::Literal(value, _) => Number::of_digits(value.try_as_str().flatten()?),
            _ => None,
        },
        _ => None,
    }
}

/// Whether it is a literal that is a number that can be ordered, or null.
fn is_number(expr: &Expr) -> bool {
    match expr {
        Expr::Literal(value, _) if value.is_null() || value.data_type().is_signed_integer() => true,
        expr => number(expr).is_some(),
    }
}

fn can_be_exact(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom)
}

/// The same with an integer, or what holds for all or none.
fn compared(x: Expr, op: Operator, number: Number) -> Expr {
    let whole = match op {
        Operator::Gt | Operator::LtEq => i64::try_from(number.floor).ok(),
        Operator::GtEq | Operator::Lt => i64::try_from(number.ceil()).ok(),
        _ => number.integer(),
    };
    if let Some(integer) = whole {
        return Expr::BinaryExpr(BinaryExpr { left: Box::new(x), op, right: Box::new(lit(integer)) });
    }
    match op {
        Operator::IsDistinctFrom => lit(true),
        Operator::IsNotDistinctFrom => lit(false),
        Operator::NotEq => for_all(x, true),
        Operator::Gt | Operator::GtEq => for_all(x, number.floor < 0),
        Operator::Lt | Operator::LtEq => for_all(x, number.floor >= 0),
        _ => for_all(x, false),
    }
}

/// What holds for all or for none, but is null where `x` is.
fn for_all(x: Expr, holds: bool) -> Expr {
    let unknown = lit(ScalarValue::Boolean(None));
    if holds { x.is_not_null().or(unknown) } else { x.is_null().and(unknown) }
}

fn within(between: Between) -> Transformed<Expr> {
    let (low, high) = (number(&between.low), number(&between.high));
    let is_nan = |bound: &Expr| matches!(bound, Expr::Literal(ScalarValue::Float64(Some(bound)), _) if bound.is_nan());
    if (low.is_none() && high.is_none()) || is_nan(&between.low) || is_nan(&between.high) {
        return Transformed::no(Expr::Between(between));
    }
    let (low, high) = (low.map(Number::ceil), high.map(|high| high.floor));
    let is_empty = low.is_some_and(|low| low > MAX) || high.is_some_and(|high| high < MIN);
    // Out of bounds it becomes the last integer.
    let bound = |bound: Box<Expr>, whole: Option<i128>| {
        whole.map_or(bound, |whole| Box::new(lit(i64::try_from(whole.clamp(MIN, MAX)).unwrap_or_default())))
    };
    let (low, high) = if is_empty {
        (Box::new(lit(1_i64)), Box::new(lit(0_i64)))
    } else {
        (bound(between.low, low), bound(between.high, high))
    };
    Transformed::yes(Expr::Between(Between { expr: between.expr, negated: between.negated, low, high }))
}

/// Without what no integer is.
fn among(InList { expr, list, negated }: InList) -> Expr {
    let was_empty = list.is_empty();
    let exactly = |item: Expr| match number(&item) {
        Some(number) => number.integer().map(lit),
        None => Some(item),
    };
    let list: Vec<Expr> = list.into_iter().filter_map(exactly).collect();
    if list.is_empty() && !was_empty { for_all(*expr, negated) } else { Expr::InList(InList { expr, list, negated }) }
}

/// Null is equal to nothing.
fn when_equal(when: Expr) -> Expr {
    match number(&when) {
        Some(number) => lit(ScalarValue::Int64(number.integer())),
        None => when,
    }
}

#[cfg(test)]
mod tests {
    use datafusion::logical_expr::col;

    use super::*;

    const BEYOND: f64 = 9_223_372_036_854_775_808.0;

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
            assert!(can_be_exact(op));
            let exact = Number::of_double(number).expect("a number");
            assert_eq!(compared(col("x"), op, exact).to_string(), expected, "x {op} {number}");
        }
        assert_eq!(Number::of_double(f64::NAN), None);
        assert!(!can_be_exact(Operator::Plus));
        let digits = |text| Number::of_digits(text).map(|number| (number.floor, number.ceil(), number.negated().floor));
        assert_eq!(digits("9007199254740993.50"), Some((9007199254740993, 9007199254740994, -9007199254740994)));
        assert_eq!(digits("9223372036854775809.0").map(|number| number.2), Some(MIN - 1));
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
