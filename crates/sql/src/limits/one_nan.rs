//! One `NaN` and one zero. Arithmetic gives a `NaN` a sign, which processors choose; DataFusion orders such a `NaN` below all numbers, and
//! in windows `-0` below `0`. So what is calculated loses both signs before anything is compared, ordered or grouped by it.

use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray};
use arrow::datatypes::{ArrowNativeTypeOp, DataType, Field, FieldRef, Float32Type, Float64Type};
use datafusion::common::tree_node::Transformed;
use datafusion::common::{DFSchema, Result, ScalarValue, internal_err, plan_err};
use datafusion::logical_expr::{
    Cast, ColumnarValue, Expr, ExprSchemable, LogicalPlan, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, TryCast, Volatility,
};

use crate::functions::functions;
use crate::rewriting::with_expressions;

const NAME: &str = "one_nan";

/// The plan with everything in it that calculates a floating-point number inside this function.
pub(crate) fn with_one_nan(plan: LogicalPlan) -> Result<LogicalPlan> {
    let function = Arc::new(ScalarUDF::from(OneNan::new()));
    // Numbers of spans have lost their signs already, and are to reach the scan as they are.
    let ours: Vec<String> = functions().iter().map(|function| function.name().to_owned()).collect();
    with_expressions(plan, |schema, expr| wrapped(&function, &ours, schema, expr))
}

fn wrapped(function: &Arc<ScalarUDF>, ours: &[String], schema: &DFSchema, expr: Expr) -> Result<Transformed<Expr>> {
    let calculates = match &expr {
        Expr::Literal(value, _) if value.data_type().is_floating() => return literal_without_signs(expr),
        Expr::BinaryExpr(binary) => binary.op.is_numerical_operators(),
        Expr::ScalarFunction(call) => call.func.name() != NAME && !ours.iter().any(|name| name == call.func.name()),
        Expr::Negative(_) => true,
        // Whole numbers have no sign to lose; a text may, and what is too small for a narrower type becomes a zero with one.
        Expr::Cast(Cast { expr, .. }) | Expr::TryCast(TryCast { expr, .. }) => {
            expr.get_type(schema).is_ok_and(|data_type| !data_type.is_integer() && !data_type.is_decimal())
        }
        _ => false,
    };
    // What has no type here has none for the analyser either, which says why.
    let is_float = || expr.get_type(schema).is_ok_and(|data_type| data_type.is_floating());
    Ok(if calculates && is_float() { Transformed::yes(function.call(vec![expr])) } else { Transformed::no(expr) })
}

fn literal_without_signs(expr: Expr) -> Result<Transformed<Expr>> {
    let Expr::Literal(value, metadata) = &expr else { return Ok(Transformed::no(expr)) };
    let without = ScalarValue::try_from_array(&without_signs(&value.to_array()?), 0)?;
    // Two zeros are one to `==` of scalars or not, as they like; what is written is what counts.
    if without.to_string() == value.to_string() {
        return Ok(Transformed::no(expr));
    }
    Ok(Transformed::yes(Expr::Literal(without, metadata.clone())))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct OneNan {
    signature: Signature,
}

impl OneNan {
    fn new() -> Self {
        Self { signature: Signature::any(1, Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for OneNan {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        internal_err!("its field is asked for")
    }

    /// As it comes in, also in whether it may be null.
    fn return_field_from_args(&self, call: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        match call.arg_fields {
            [field] => Ok(Arc::new(Field::new(NAME, field.data_type().clone(), field.is_nullable()))),
            _ => plan_err!("one number has one NaN"),
        }
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(value) = call.args.first() else { return plan_err!("one number has one NaN") };
        Ok(match value {
            ColumnarValue::Array(values) => ColumnarValue::Array(without_signs(values)),
            ColumnarValue::Scalar(value) => {
                ColumnarValue::Scalar(ScalarValue::try_from_array(&without_signs(&value.to_array()?), 0)?)
            }
        })
    }
}

/// Of `NaN` and zero.
pub(crate) fn without_signs(values: &ArrayRef) -> ArrayRef {
    match values.data_type() {
        DataType::Float64 => positive::<Float64Type>(values, f64::NAN, |number| number.is_nan()),
        DataType::Float32 => positive::<Float32Type>(values, f32::NAN, |number| number.is_nan()),
        _ => values.clone(),
    }
}

fn positive<T: ArrowPrimitiveType>(values: &ArrayRef, nan: T::Native, is_nan: fn(T::Native) -> bool) -> ArrayRef {
    // Zero of either sign and 0 make 0.
    let one = |number: T::Native| if is_nan(number) { nan } else { number.add_wrapping(T::Native::ZERO) };
    Arc::new(values.as_primitive::<T>().unary::<_, T>(one))
}

#[cfg(test)]
mod tests {
    use arrow::array::Float64Array;

    use super::*;

    #[test]
    fn signs_of_nan_and_zero_go_and_others_stay() {
        let values = [f64::NAN, -f64::NAN, -0.0, 0.0, -1.5, f64::NEG_INFINITY, 5e-324];
        let array: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
        let found = without_signs(&array);
        let bits: Vec<u64> = found.as_primitive::<Float64Type>().values().iter().map(|value| value.to_bits()).collect();
        let expected = [f64::NAN, f64::NAN, 0.0, 0.0, -1.5, f64::NEG_INFINITY, 5e-324];
        assert_eq!(bits, expected.map(f64::to_bits));
    }
}
