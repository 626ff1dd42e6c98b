//! Operators that make more bytes than they are given, planned as bounded functions: `||`, `@>`, and lists and maps.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::utils::list_ndims;
use datafusion::common::{DFSchema, Result, plan_datafusion_err, plan_err};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExprSchemable, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use super::Bounds;
use super::functions::invoke_sum;

/// Stands before DataFusion's own planners, which would take its functions without bounds.
#[derive(Debug)]
pub(crate) struct BoundedOperators {
    functions: HashMap<String, Arc<ScalarUDF>>,
}

impl BoundedOperators {
    pub(crate) fn new(functions: &[Arc<ScalarUDF>], bounds: &Bounds) -> Self {
        let text = Arc::new(ScalarUDF::from(TextConcat::new(bounds.clone())));
        let all = functions.iter().chain([&text]).map(|function| (function.name().to_owned(), function.clone()));
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
        let (name, arguments) = match raw.op {
            BinaryOperator::StringConcat => {
                let (left, right) = (dimensions(&raw.left)?, dimensions(&raw.right)?);
                let name = match left.cmp(&right) {
                    _ if left + right == 0 => TEXT_CONCAT,
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

const TEXT_CONCAT: &str = "||";

/// `left || right` of texts, null if one of them is; `concat` leaves nulls out.
#[derive(Debug)]
struct TextConcat {
    bounds: Bounds,
    signature: Signature,
}

impl PartialEq for TextConcat {
    fn eq(&self, other: &Self) -> bool {
        self.bounds.amounts == other.bounds.amounts
    }
}

impl Eq for TextConcat {}

impl Hash for TextConcat {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bounds.amounts.hash(state);
    }
}

impl TextConcat {
    fn new(bounds: Bounds) -> Self {
        Self { bounds, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

fn both<T>(values: &[T]) -> Result<[&T; 2]> {
    match values {
        [left, right] => Ok([left, right]),
        _ => plan_err!("|| takes two texts"),
    }
}

impl ScalarUDFImpl for TextConcat {
    fn name(&self) -> &str {
        TEXT_CONCAT
    }

    /// As the operator would name its column.
    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        let [left, right] = both(arguments)?;
        Ok(format!("{} || {}", left.schema_name(), right.schema_name()))
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        let [left, right] = both(arguments)?;
        let (left, right) = BinaryTypeCoercer::new(left, &Operator::StringConcat, right).get_input_types()?;
        Ok(vec![left, right])
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        let [left, right] = both(arguments)?;
        BinaryTypeCoercer::new(left, &Operator::StringConcat, right).get_result_type()
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        invoke_sum(call, &self.bounds, self.name(), &|call| concat_texts(&call))
    }
}

fn concat_texts(call: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let constant = call.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
    let rows = if constant { 1 } else { call.number_rows };
    let columns = call.args.iter().map(|value| value.to_array(rows)).collect::<Result<Vec<_>>>()?;
    let field =
        |(at, column): (usize, &arrow::array::ArrayRef)| Field::new(at.to_string(), column.data_type().clone(), true);
    let schema = Arc::new(Schema::new(columns.iter().enumerate().map(field).collect::<Vec<_>>()));
    let (left, right) = (Arc::new(Column::new("0", 0)), Arc::new(Column::new("1", 1)));
    let texts =
        BinaryExpr::new(left, Operator::StringConcat, right).evaluate(&RecordBatch::try_new(schema, columns)?)?;
    match texts {
        ColumnarValue::Array(texts) if constant => {
            Ok(ColumnarValue::Scalar(datafusion::common::ScalarValue::try_from_array(&texts, 0)?))
        }
        texts => Ok(texts),
    }
}
