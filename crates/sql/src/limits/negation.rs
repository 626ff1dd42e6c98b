//! `-x` as a function: of the smallest integer there is no opposite, and DataFusion's operator answers with that integer itself.

use arrow::array::ArrayRef;
use arrow::compute::kernels::numeric::neg;
use arrow::datatypes::DataType;
use datafusion::common::tree_node::Transformed;
use datafusion::common::{Result, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::rewriting::with_expressions;

/// The plan with the function in place of each operator.
pub(crate) fn with_checked_negation(plan: LogicalPlan) -> Result<LogicalPlan> {
    let negation = ScalarUDF::from(Negation::new());
    with_expressions(plan, |_, expr| {
        Ok(match expr {
            Expr::Negative(operand) => Transformed::yes(negation.call(vec![*operand])),
            other => Transformed::no(other),
        })
    })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Negation {
    signature: Signature,
}

impl Negation {
    fn new() -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Negation {
    fn name(&self) -> &str {
        "-"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        match arguments {
            [DataType::Null] => Ok(vec![DataType::Int64]),
            [operand]
                if operand.is_signed_integer()
                    || operand.is_floating()
                    || operand.is_decimal()
                    || matches!(operand, DataType::Interval(_) | DataType::Duration(_)) =>
            {
                Ok(vec![operand.clone()])
            }
            [operand] => plan_err!("there is no negative of {operand}; CAST it to a number"),
            _ => plan_err!("a minus takes one operand"),
        }
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        Ok(self.coerce_types(arguments)?.swap_remove(0))
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(operand) = call.args.first() else { return plan_err!("a minus takes one operand") };
        let values: ArrayRef = operand.to_array(call.number_rows)?;
        Ok(ColumnarValue::Array(neg(&values)?))
    }
}
