//! SQL functions over attributes and durations.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ExpressionPlacement, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use tracehouse_model::AnyValue;

use crate::scan::ValueBuilder;
use crate::tables::{ATTRIBUTES, AttributeColumn, AttributeScope, AttributeType, RESOURCE_ATTRIBUTES};

/// Every function of ours.
pub(crate) fn functions() -> Vec<Arc<ScalarUDF>> {
    let attributes = AttributeFunction::ALL.into_iter().map(|function| Arc::new(ScalarUDF::from(function)));
    let durations = [DurationFunction::new("seconds", 1e9), DurationFunction::new("millis", 1e6)];
    attributes.chain(durations.into_iter().map(|function| Arc::new(ScalarUDF::from(function)))).collect()
}

/// `attr` and its like: over the columns of JSON that hold the attributes, and the key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct AttributeFunction {
    name: &'static str,
    pub(crate) scope: AttributeScope,
    pub(crate) value_type: AttributeType,
}

/// What a call's last argument must be.
const KEY_WANTED: &str = "takes the key of an attribute as a text: attr('http.route')";

impl AttributeFunction {
    const ALL: [AttributeFunction; 6] = [
        Self::new("attr", AttributeScope::Any, AttributeType::Text),
        Self::new("attr_int", AttributeScope::Any, AttributeType::Int),
        Self::new("attr_float", AttributeScope::Any, AttributeType::Float),
        Self::new("attr_bool", AttributeScope::Any, AttributeType::Bool),
        Self::new("span_attr", AttributeScope::Span, AttributeType::Text),
        Self::new("resource_attr", AttributeScope::Resource, AttributeType::Text),
    ];

    const fn new(name: &'static str, scope: AttributeScope, value_type: AttributeType) -> Self {
        Self { name, scope, value_type }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|function| function.name.eq_ignore_ascii_case(name))
    }

    /// The columns that a call is evaluated over, in the order of its arguments.
    pub(crate) fn columns(&self) -> &'static [&'static str] {
        match self.scope {
            AttributeScope::Any => &[ATTRIBUTES, RESOURCE_ATTRIBUTES],
            AttributeScope::Span => &[ATTRIBUTES],
            AttributeScope::Resource => &[RESOURCE_ATTRIBUTES],
        }
    }

    /// The column of a scan that a call stands for, if its arguments are that scan's columns and a key.
    pub(crate) fn column_of(expr: &Expr) -> Option<AttributeColumn> {
        let Expr::ScalarFunction(call) = expr else { return None };
        let function = (call.func.inner().as_ref() as &dyn std::any::Any).downcast_ref::<Self>()?;
        let (key, columns) = call.args.split_last()?;
        let named = |(expr, name): (&Expr, &&str)| matches!(expr, Expr::Column(column) if column.name == **name);
        let matching = columns.len() == function.columns().len() && columns.iter().zip(function.columns()).all(named);
        let Expr::Literal(key, _) = key else { return None };
        let key = key.try_as_str().flatten().filter(|_| matching)?;
        Some(AttributeColumn { scope: function.scope, value_type: function.value_type, key: key.into() })
    }
}

impl ScalarUDFImpl for AttributeFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        static ANY_TWO: std::sync::LazyLock<Signature> =
            std::sync::LazyLock::new(|| Signature::any(2, Volatility::Immutable));
        static ANY_THREE: std::sync::LazyLock<Signature> =
            std::sync::LazyLock::new(|| Signature::any(3, Volatility::Immutable));
        if self.columns().len() == 1 { &ANY_TWO } else { &ANY_THREE }
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        if arguments.iter().all(|argument| argument.is_string() || argument.is_null()) {
            return Ok(self.value_type.data_type());
        }
        plan_err!("{} {KEY_WANTED}", self.name)
    }

    fn placement(&self, arguments: &[ExpressionPlacement]) -> ExpressionPlacement {
        let Some((key, columns)) = arguments.split_last() else { return ExpressionPlacement::KeepInPlace };
        let of_a_scan = columns.iter().all(|column| *column == ExpressionPlacement::Column);
        if of_a_scan && *key == ExpressionPlacement::Literal {
            ExpressionPlacement::MoveTowardsLeafNodes
        } else {
            ExpressionPlacement::KeepInPlace
        }
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some((ColumnarValue::Scalar(key), columns)) = call.args.split_last() else {
            return exec_err!("{} {KEY_WANTED}", self.name);
        };
        let Some(key) = key.try_as_str().flatten() else { return exec_err!("{} {KEY_WANTED}", self.name) };
        let texts = |column: &ColumnarValue| -> Result<ArrayRef> {
            Ok(cast(&column.to_array(call.number_rows)?, &DataType::Utf8View)?)
        };
        let columns = columns.iter().map(texts).collect::<Result<Vec<_>>>()?;
        let mut values = ValueBuilder::new(self.value_type);
        for row in 0..call.number_rows {
            let jsons = columns.iter().filter(|column| column.is_valid(row));
            let found = jsons.filter_map(|column| lookup(column.as_string_view().value(row), key));
            values.push_first(found);
        }
        Ok(ColumnarValue::Array(values.finish()))
    }
}

/// The value of a key in a JSON object.
pub(crate) fn lookup(json: &str, key: &str) -> Option<AnyValue> {
    let Ok(AnyValue::KeyValueList(entries)) = AnyValue::from_canonical_json(json) else { return None };
    entries.into_iter().find(|(known, _)| known == key).map(|(_, value)| value)
}

/// Nanoseconds in a larger unit.
#[derive(PartialEq, Eq, Hash)]
struct DurationFunction {
    name: &'static str,
    /// Nanoseconds of the unit, as bits: floats have no equality.
    unit_bits: u64,
    signature: Signature,
}

impl DurationFunction {
    fn new(name: &'static str, unit_nanos: f64) -> Self {
        let signature = Signature::exact(vec![DataType::Int64], Volatility::Immutable);
        Self { name, unit_bits: unit_nanos.to_bits(), signature }
    }
}

impl fmt::Debug for DurationFunction {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)
    }
}

impl ScalarUDFImpl for DurationFunction {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let unit = f64::from_bits(self.unit_bits);
        match call.args.as_slice() {
            [ColumnarValue::Scalar(ScalarValue::Int64(nanos))] => {
                Ok(ColumnarValue::Scalar(ScalarValue::Float64(nanos.map(|nanos| nanos as f64 / unit))))
            }
            [ColumnarValue::Array(nanos)] if nanos.data_type() == &DataType::Int64 => {
                let converted: Float64Array = nanos.as_primitive::<Int64Type>().unary(|nanos| nanos as f64 / unit);
                Ok(ColumnarValue::Array(Arc::new(converted)))
            }
            _ => exec_err!("{} takes a number of nanoseconds", self.name),
        }
    }
}
