//! Functions that make more bytes than they are given: left out, or bounded before each call.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, FieldRef, Float64Type};
use datafusion::common::{DataFusionError, Result, ScalarValue, exec_err};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use super::patterns::{Syntax, invoke_in_steps, matches_pattern};
use super::{Bounds, bytes_of, elements_of, too_large, widest};
use crate::watch::Watch;

/// Functions of DataFusion that are left out: a number among their arguments says how much they make, or a few long
/// texts take them minutes that nothing can interrupt.
const LEFT_OUT: [&str; 12] = [
    "repeat",
    "lpad",
    "rpad",
    "array_repeat",
    "list_repeat",
    "array_resize",
    "list_resize",
    "range",
    "generate_series",
    "levenshtein",
    // To a type of fixed size: of any size.
    "arrow_cast",
    "arrow_try_cast",
];

/// Whether a call may make much of little, so that it counts for [`super::Amounts`].
pub(crate) fn is_bounded(name: &str) -> bool {
    estimate_of(&name.to_lowercase()).is_some()
}

pub(crate) fn is_left_out(name: &str) -> bool {
    LEFT_OUT.iter().any(|left_out| left_out.eq_ignore_ascii_case(name))
}

/// Why a statement that calls such a function is refused.
pub(crate) fn left_out(name: &str) -> String {
    let name = name.to_lowercase();
    format!("there is no function {name}: it is left out here because of the memory or time that a call may need")
}

/// All of these functions that may be called, those that can make much of little bounded.
pub(crate) fn bounded_functions(functions: Vec<Arc<ScalarUDF>>, bounds: &Bounds) -> Vec<Arc<ScalarUDF>> {
    let kept = functions.into_iter().filter(|function| !is_left_out(function.name()));
    let bounded = kept.map(|function| {
        let matches = matches_pattern(function.name());
        let estimate: Estimate = match estimate_of(function.name()) {
            Some(estimate) => estimate,
            None if matches || function.name() == TIME_OF_SECONDS => |_| 0,
            None => return function,
        };
        Arc::new(ScalarUDF::from(Bounded { function, bounds: bounds.clone(), estimate, matches }))
    });
    bounded.collect()
}

/// An upper bound for the bytes that a call makes.
type Estimate = fn(&Call<'_>) -> usize;

/// The functions whose result may be much larger than their largest argument, or that copy it to give a part of it. All others
/// give numbers, one of their arguments, or a part of one.
fn estimate_of(name: &str) -> Option<Estimate> {
    let estimate: Estimate = match name {
        "encode" => |call| call.bytes(0).saturating_mul(2),
        "concat" | "overlay" | "struct" | "named_struct" | "make_array" | "map" | "array_append" | "array_prepend"
        | "array_concat" | "array_union" | "arrays_zip" => |call| call.bytes_of_all(),
        // They give a part of a list, but compare copies of all its elements.
        "array_distinct" | "array_except" | "array_intersect" | "array_sort" => |call| call.bytes_of_all(),
        "concat_ws" => |call| call.bytes_of_all().saturating_add(call.bytes(0).saturating_mul(call.args.len())),
        // A character becomes another, of at most four bytes.
        "translate" => |call| call.bytes(0).saturating_mul(4),
        "replace" => |call| call.bytes(0).saturating_add(call.characters(0).saturating_mul(call.widest(2))),
        // A replacement is put at most before each character and at the end, and each reference in it stands for a
        // part of the text, all of which do not overlap.
        "regexp_replace" => |call| {
            let replacement = call.widest(2);
            let literal = call.characters(0).saturating_mul(replacement);
            literal.saturating_add(call.bytes(0).saturating_mul(1 + replacement / 2))
        },
        // Each group of a pattern may match the whole text.
        "regexp_match" => |call| call.bytes(0).saturating_mul(1 + call.widest(1)),
        // `%c` is the longest of what stands for two characters.
        "to_char" => |call| call.bytes_of_all().saturating_mul(32),
        "string_to_array" => |call| call.characters(0).saturating_mul(24),
        "array_to_string" => |call| {
            let between = call.widest(1).saturating_add(call.widest(2)).saturating_add(24);
            call.bytes(0).saturating_add(call.elements(0).saturating_mul(between))
        },
        "array_replace" | "array_replace_n" | "array_replace_all" => {
            |call| call.bytes(0).saturating_add(call.elements(0).saturating_mul(call.widest(2)))
        }
        // They make nothing, but compare each element with each: their time is bounded.
        "array_has_all" | "array_has_any" => |call| call.elements(0).saturating_mul(call.widest_elements(1)),
        _ => return None,
    };
    Some(estimate)
}

/// Of seconds that are no whole number it makes the latest or earliest time it can where they are beyond.
const TIME_OF_SECONDS: &str = "to_timestamp";

/// Refuses seconds, of any floating-point type, that are beyond all times.
fn check_seconds(call: &ScalarFunctionArgs) -> Result<()> {
    const SECONDS_MAX: f64 = (i64::MAX / 1_000_000_000) as f64;
    let Some(seconds) = call.args.first().filter(|value| value.data_type().is_floating()) else { return Ok(()) };
    let seconds = cast(&seconds.to_array(call.number_rows)?, &DataType::Float64)?;
    // What is no number is no time either.
    let is_time = |seconds: &f64| seconds.abs() < SECONDS_MAX;
    let beyond = seconds.as_primitive::<Float64Type>().iter().flatten().find(|seconds| !is_time(seconds));
    beyond.map_or(Ok(()), |seconds| {
        exec_err!("{seconds} s is no time: times are within {SECONDS_MAX} s of 1970, from 1677 to 2262")
    })
}

/// Functions whose estimate is of the time of a whole batch: in parts they would take as long.
fn only_compares(name: &str) -> bool {
    matches!(name, "array_has_all" | "array_has_any")
}

/// The arguments of a call.
struct Call<'a> {
    args: &'a [ColumnarValue],
    /// As often as a constant is there.
    rows: usize,
}

impl Call<'_> {
    fn measured(&self, at: usize, array: fn(&dyn Array) -> usize, scalar: fn(&ScalarValue) -> usize) -> usize {
        match self.args.get(at) {
            Some(ColumnarValue::Array(values)) => array(values),
            Some(ColumnarValue::Scalar(value)) => scalar(value).saturating_mul(self.rows),
            None => 0,
        }
    }

    fn bytes(&self, at: usize) -> usize {
        self.measured(at, bytes_of, scalar_bytes)
    }

    fn bytes_of_all(&self) -> usize {
        (0..self.args.len()).fold(0, |bytes, at| bytes.saturating_add(self.bytes(at)))
    }

    /// At least as many as there are places between the characters of the texts.
    fn characters(&self, at: usize) -> usize {
        self.bytes(at).saturating_add(self.rows)
    }

    fn elements(&self, at: usize) -> usize {
        self.measured(at, elements_of, scalar_elements)
    }

    /// Bytes of the largest value.
    fn widest(&self, at: usize) -> usize {
        match self.args.get(at) {
            Some(ColumnarValue::Array(values)) => widest(values),
            Some(ColumnarValue::Scalar(value)) => scalar_bytes(value),
            None => 0,
        }
    }

    fn widest_elements(&self, at: usize) -> usize {
        match self.args.get(at) {
            Some(ColumnarValue::Array(lists)) => {
                (0..lists.len()).map(|row| elements_of(&lists.slice(row, 1))).max().unwrap_or(0)
            }
            Some(ColumnarValue::Scalar(value)) => scalar_elements(value),
            None => 0,
        }
    }
}

fn scalar_bytes(value: &ScalarValue) -> usize {
    match value.try_as_str() {
        Some(text) => text.map_or(0, str::len),
        None => value.to_array().map_or(0, |array| bytes_of(&array)),
    }
}

fn scalar_elements(value: &ScalarValue) -> usize {
    value.to_array().map_or(0, |array| elements_of(&array))
}

/// A function that is called only with as much as it may make bytes of.
#[derive(Debug)]
struct Bounded {
    function: Arc<ScalarUDF>,
    bounds: Bounds,
    estimate: Estimate,
    /// Whether it matches patterns.
    matches: bool,
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.function == other.function && self.bounds.amounts == other.bounds.amounts
    }
}

impl Eq for Bounded {}

impl Hash for Bounded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.function.hash(state);
    }
}

/// Without `simplify`, which would put the function itself in the place of this one.
impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.function.name()
    }

    fn aliases(&self) -> &[String] {
        self.function.aliases()
    }

    fn schema_name(&self, arguments: &[Expr]) -> Result<String> {
        self.function.schema_name(arguments)
    }

    fn signature(&self) -> &Signature {
        self.function.signature()
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.function.coerce_types(arguments)
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.function.return_type(arguments)
    }

    fn return_field_from_args(&self, arguments: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        self.function.return_field_from_args(arguments)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.function.documentation()
    }

    fn invoke_with_args(&self, call: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if self.name() == TIME_OF_SECONDS {
            check_seconds(&call)?;
        }
        let invoke = |call| {
            let invoke = |call| self.function.invoke_with_args(call);
            invoke_bounded(call, &self.bounds, self.name(), self.estimate, &invoke)
        };
        if self.matches { invoke_in_steps(call, &self.bounds, Syntax::Regular, &invoke) } else { invoke(call) }
    }
}

pub(super) type Invoke<'a> = dyn Fn(ScalarFunctionArgs) -> Result<ColumnarValue> + 'a;

/// The result of a call, made in as many parts as are sure to be small enough. Fails once they are too large together.
fn invoke_bounded(
    call: ScalarFunctionArgs,
    bounds: &Bounds,
    name: &str,
    estimate: Estimate,
    invoke: &Invoke<'_>,
) -> Result<ColumnarValue> {
    bounds.watch.check()?;
    let amounts = bounds.amounts;
    let constant = call.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
    let rows = if constant { amounts.rows_per_batch } else { call.number_rows };
    let bytes_max = amounts.call_bytes_max;
    if estimate(&Call { args: &call.args, rows }) <= bytes_max {
        return invoke(call);
    }
    if constant {
        // How much it is, only the call itself can tell; it makes no more than one value.
        let single = estimate(&Call { args: &call.args, rows: 1 });
        let value = if single <= bytes_max { invoke(call)? } else { return Err(too_large(name, bytes_max)) };
        let made = value.to_array(1)?;
        let repeated = widest(&made).saturating_mul(rows);
        return if repeated <= bytes_max { Ok(value) } else { Err(too_large(name, bytes_max)) };
    }
    if only_compares(name) {
        let detail = format!("{name} would compare more than {bytes_max} pairs of elements in one batch of rows");
        return Err(DataFusionError::ResourcesExhausted(detail));
    }
    let mut parts = Parts { name, watch: &bounds.watch, bytes_max, bytes: 0, arrays: Vec::new() };
    parts.add(&call, 0, rows, estimate, invoke)?;
    let arrays: Vec<&dyn Array> = parts.arrays.iter().map(|array| array.as_ref()).collect();
    Ok(ColumnarValue::Array(concat(&arrays)?))
}

/// The result of a call so far.
struct Parts<'a> {
    name: &'a str,
    watch: &'a Watch,
    bytes_max: usize,
    bytes: usize,
    arrays: Vec<ArrayRef>,
}

impl Parts<'_> {
    /// Calls with some of the rows, or with each half of them.
    fn add(
        &mut self,
        call: &ScalarFunctionArgs,
        first: usize,
        rows: usize,
        estimate: Estimate,
        invoke: &Invoke<'_>,
    ) -> Result<()> {
        let args: Vec<ColumnarValue> = call.args.iter().map(|value| part_of(value, first, rows)).collect();
        let left = self.bytes_max - self.bytes;
        if estimate(&Call { args: &args, rows }) > left {
            if rows < 2 {
                return Err(too_large(self.name, self.bytes_max));
            }
            let half = rows / 2;
            self.add(call, first, half, estimate, invoke)?;
            return self.add(call, first + half, rows - half, estimate, invoke);
        }
        self.watch.check()?;
        let made = invoke(ScalarFunctionArgs { args, number_rows: rows, ..call.clone() })?.into_array(rows)?;
        self.bytes += bytes_of(&made);
        if self.bytes > self.bytes_max {
            return Err(too_large(self.name, self.bytes_max));
        }
        self.arrays.push(made);
        Ok(())
    }
}

/// Some rows of an argument.
pub(super) fn part_of(value: &ColumnarValue, first: usize, rows: usize) -> ColumnarValue {
    match value {
        ColumnarValue::Array(values) => ColumnarValue::Array(values.slice(first, rows)),
        ColumnarValue::Scalar(value) => ColumnarValue::Scalar(value.clone()),
    }
}

/// For operators, whose result is as large as both sides together.
pub(super) fn invoke_sum(
    call: ScalarFunctionArgs,
    bounds: &Bounds,
    name: &str,
    invoke: &Invoke<'_>,
) -> Result<ColumnarValue> {
    invoke_bounded(call, bounds, name, |call| call.bytes_of_all(), invoke)
}
