//! Operators planned as functions: those that make more bytes than they are given, or match patterns (`||`, `@>`, `~`, `LIKE`, and lists
//! and maps), so that they are bounded, and arithmetic of integers and decimals, so that a result that doesn't fit is refused. DataFusion's
//! own goes on with what is left of it.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, Field, Schema};
use datafusion::common::utils::list_ndims;
use datafusion::common::{DFSchema, Result, plan_datafusion_err, plan_err};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::Bounds;
use super::functions::invoke_sum;
use super::patterns::{Syntax, invoke_in_steps};

/// Stands before DataFusion's own planners, which would take its functions without bounds.
#[derive(Debug)]
pub(crate) struct BoundedOperators {
    functions: HashMap<String, Arc<ScalarUDF>>,
}

/// Operators that are planned as functions of their own.
const OPERATORS: [Operator; 12] = [
    Operator::Plus,
    Operator::Minus,
    Operator::Multiply,
    Operator::StringConcat,
    Operator::RegexMatch,
    Operator::RegexIMatch,
    Operator::RegexNotMatch,
    Operator::RegexNotIMatch,
    Operator::LikeMatch,
    Operator::ILikeMatch,
    Operator::NotLikeMatch,
    Operator::NotILikeMatch,
];

fn matching(op: &BinaryOperator) -> Option<Operator> {
    Some(match op {
        BinaryOperator::PGRegexMatch => Operator::RegexMatch,
        BinaryOperator::PGRegexIMatch => Operator::RegexIMatch,
        BinaryOperator::PGRegexNotMatch => Operator::RegexNotMatch,
        BinaryOperator::PGRegexNotIMatch => Operator::RegexNotIMatch,
        BinaryOperator::PGLikeMatch => Operator::LikeMatch,
        BinaryOperator::PGILikeMatch => Operator::ILikeMatch,
        BinaryOperator::PGNotLikeMatch => Operator::NotLikeMatch,
        BinaryOperator::PGNotILikeMatch => Operator::NotILikeMatch,
        _ => return None,
    })
}

fn arithmetic(op: &BinaryOperator) -> Option<Operator> {
    Some(match op {
        BinaryOperator::Plus => Operator::Plus,
        BinaryOperator::Minus => Operator::Minus,
        BinaryOperator::Multiply => Operator::Multiply,
        _ => return None,
    })
}

impl BoundedOperators {
    pub(crate) fn new(functions: &[Arc<ScalarUDF>], bounds: &Bounds) -> Self {
        let own = OPERATORS.map(|operator| Arc::new(ScalarUDF::from(Operation::new(operator, bounds.clone()))));
        let all = functions.iter().chain(&own).map(|function| (function.name().to_owned(), function.clone()));
        Self { functions: all.collect() }
    }

    fn call(&self, name: &str, arguments: Vec<Expr>) -> Result<Expr> {
        let function = self.functions.get(name).ok_or_else(|| plan_datafusion_err!("there is no function {name}"))?;
        Ok(function.call(arguments))
    }
}

impl ExprPlanner for BoundedOperators {
    fn plan_binary_op(&self, raw: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let dimensions =
            |expr: &Expr| Ok::<u64, datafusion::common::DataFusionError>(list_ndims(&expr.get_type(schema)?));
        if let Some(operator) = matching(&raw.op) {
            return Ok(PlannerResult::Planned(self.call(name_of(operator), vec![raw.left, raw.right])?));
        }
        let is_exact = |one: &Expr| {
            let data_type = one.get_type(schema)?;
            Ok::<bool, datafusion::common::DataFusionError>(data_type.is_integer() || data_type.is_decimal())
        };
        if let Some(operator) = arithmetic(&raw.op)
            && is_exact(&raw.left)?
            && is_exact(&raw.right)?
        {
            return Ok(PlannerResult::Planned(self.call(name_of(operator), vec![raw.left, raw.right])?));
        }
        let (name, arguments) = match raw.op {
            BinaryOperator::StringConcat => {
                let (left, right) = (dimensions(&raw.left)?, dimensions(&raw.right)?);
                let name = match left.cmp(&right) {
                    _ if left + right == 0 => name_of(Operator::StringConcat),
                    std::cmp::Ordering::Equal => "array_concat",
                    std::cmp::Ordering::Greater => "array_append",
                    std::cmp::Ordering::Less => "array_prepend",
                };
                (name, vec![raw.left, raw.right])
            }
            BinaryOperator::AtArrow if dimensions(&raw.left)? > 0 && dimensions(&raw.right)? > 0 => {
                ("array_has_all", vec![raw.left, raw.right])
            }
            BinaryOperator::ArrowAt if dimensions(&raw.left)? > 0 && dimensions(&raw.right)? > 0 => {
                ("array_has_all", vec![raw.right, raw.left])
            }
            _ => return Ok(PlannerResult::Original(raw)),
        };
        Ok(PlannerResult::Planned(self.call(name, arguments)?))
    }

    fn plan_array_literal(&self, elements: Vec<Expr>, _: &DFSchema) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(self.call("make_array", elements)?))
    }

    fn plan_overlay(&self, arguments: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        Ok(PlannerResult::Planned(self.call("overlay", arguments)?))
    }

    fn plan_make_map(&self, arguments: Vec<Expr>) -> Result<PlannerResult<Vec<Expr>>> {
        if !arguments.len().is_multiple_of(2) {
            return plan_err!("a map takes a value for each key");
        }
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        for (at, argument) in arguments.into_iter().enumerate() {
            if at % 2 == 0 { keys.push(argument) } else { values.push(argument) }
        }
        let lists = vec![self.call("make_array", keys)?, self.call("make_array", values)?];
        Ok(PlannerResult::Planned(self.call("map", lists)?))
    }
}

/// The name of an operator as a function, as it is written where that is possible.
fn name_of(operator: Operator) -> &'static str {
    match operator {
        Operator::Plus => "+",
        Operator::Minus => "-",
        Operator::Multiply => "*",
        Operator::StringConcat => "||",
        Operator::RegexMatch => "~",
        Operator::RegexIMatch => "~*",
        Operator::RegexNotMatch => "!~",
        Operator::RegexNotIMatch => "!~*",
        Operator::LikeMatch => "LIKE",
        Operator::ILikeMatch => "ILIKE",
        Operator::NotLikeMatch => "NOT LIKE",
        _ => "NOT ILIKE",
    }
}

/// An operator over two values. `left || right` is null if one of them is; `concat` leaves nulls out.
#[derive(Debug)]
struct Operation {
    operator: Operator,
    bounds: Bounds,
    signature: Signature,
}

impl PartialEq for Operation {
    fn eq(&self, other: &Self) -> bool {
        self.operator == other.operator && self.bounds.amounts == other.bounds.amounts
    }
}

impl Eq for Operation {}

impl Hash for Operation {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.operator, self.bounds.amounts).hash(state);
    }
}

impl Operation {
    fn new(operator: Operator, bounds: Bounds) -> Self {
        Self { operator, bounds, signature: Signature::user_defined(Volatility::Immutable) }
    }

    fn coercer<'a>(&'a self, left: &'a DataType, right: &'a DataType) -> BinaryTypeCoercer<'a> {
        BinaryTypeCoercer::new(left, &self.operator, right)
    }
}

fn both<T>(values: &[T]) -> Result<[&T; 2]> {
    match values {
        [left, right] => Ok([left, right]),
        _ => plan_err!("the operator takes two values"),
    }
}

impl ScalarUDFImpl for Operation {
    fn name(&self) -> &str {
        name_of(self.operator)
    }

    /// As the operator would name its column.
    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        let [left, right] = both(arguments)?;
        Ok(format!("{} {} {}", left.schema_name(), self.name(), right.schema_name()))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let [left, right] = both(arguments)?;
        let (left, right) = self.coercer(left, right).get_input_types()?;
        Ok(vec![left, right])
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let [left, right] = both(arguments)?;
        self.coercer(left, right).get_result_type()
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let invoke = |call| evaluate(self.operator, &call);
        let syntax = match self.operator {
            Operator::Plus | Operator::Minus | Operator::Multiply => return evaluate(self.operator, &call),
            Operator::StringConcat => return invoke_sum(call, &self.bounds, self.name(), &invoke),
            Operator::RegexMatch | Operator::RegexIMatch | Operator::RegexNotMatch | Operator::RegexNotIMatch => {
                Syntax::Regular
            }
            _ => Syntax::Wildcards,
        };
        invoke_in_steps(call, &self.bounds, syntax, &invoke)
    }
}

/// DataFusion's own operator. A constant on the right stays one: a pattern is made ready only once.
fn evaluate(operator: Operator, call: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let [left, right] = both(&call.args)?;
    let constant = call.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
    let rows = if constant { 1 } else { call.number_rows };
    let mut columns: Vec<ArrayRef> = Vec::new();
    let mut operand = |value: &ColumnarValue| -> Result<Arc<dyn PhysicalExpr>> {
        Ok(match value {
            ColumnarValue::Scalar(value) if !constant => Arc::new(Literal::new(value.clone())),
            value => {
                columns.push(value.to_array(rows)?);
                Arc::new(Column::new(&(columns.len() - 1).to_string(), columns.len() - 1))
            }
        })
    };
    let (left, right) = (operand(left)?, operand(right)?);
    let field = |(at, column): (usize, &ArrayRef)| Field::new(at.to_string(), column.data_type().clone(), true);
    let schema = Arc::new(Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>()));
    let operation = BinaryExpr::new(left, operator, right).with_fail_on_overflow(true);
    let made = operation.evaluate(&RecordBatch::try_new(schema, columns)?)?;
    if let ColumnarValue::Array(made) = &made {
        // Of the digits that there are, not the bits: what has one more is shown without its last.
        match made.data_type() {
            DataType::Decimal128(precision, _) => {
                made.as_primitive::<Decimal128Type>().validate_decimal_precision(*precision)?;
            }
            DataType::Decimal256(precision, _) => {
                made.as_primitive::<Decimal256Type>().validate_decimal_precision(*precision)?;
            }
            _ => {}
        }
    }
    match made {
        ColumnarValue::Array(values) if constant => {
            Ok(ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&values, 0)?))
        }
        values => Ok(values),
    }
}
