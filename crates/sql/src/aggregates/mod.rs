//! Aggregates that take the place of DataFusion's where its own answer wrongly: `extremes`, `sums`, and `frames` that move on. Each
//! says only where it differs; everything else is the original's. None gives a `NaN` or a zero a sign.

mod extremes;
mod frames;
mod sums;

use std::borrow::Cow;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::all_default_aggregate_functions;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, EmitTo, GroupsAccumulator, ReversedUDAF,
    SetMonotonicity, Signature, StatisticsArgs,
};

use crate::limits::without_signs;

use extremes::Extreme;
use frames::Figure;
use sums::Sum;

/// All of them.
pub(crate) fn aggregates() -> Vec<AggregateUDF> {
    all_default_aggregate_functions().into_iter().filter_map(better).collect()
}

/// What takes the place of an aggregate; `None` where it stays.
fn better(original: Arc<AggregateUDF>) -> Option<AggregateUDF> {
    let variance = |of_sample, root| Figure::Variance { of_sample, root };
    Some(match original.name() {
        "min" | "max" => instead_of(original, Extreme),
        "sum" => instead_of(original, Sum),
        "avg" => instead_of(original, Figure::Average),
        "var" => instead_of(original, variance(true, false)),
        "var_pop" => instead_of(original, variance(false, false)),
        "stddev" => instead_of(original, variance(true, true)),
        "stddev_pop" => instead_of(original, variance(false, true)),
        "median" | "approx_median" | "covar_samp" | "covar_pop" | "corr" => instead_of(original, Signs),
        name if name.contains("percentile") || name.starts_with("regr_") => instead_of(original, Signs),
        _ => return None,
    })
}

/// One that differs in the signs alone, as all do.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Signs;

impl Difference for Signs {}

/// Where an aggregate differs from its original.
trait Difference: Debug + Eq + Hash + Send + Sync + 'static {
    /// What is gathered of all rows.
    fn accumulator(&self, original: &dyn AggregateUDFImpl, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        original.accumulator(args)
    }

    /// What is gathered of all rows, on the way from one thread to another.
    fn state_fields(&self, original: &dyn AggregateUDFImpl, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        original.state_fields(args)
    }

    /// What is gathered of the rows of each group.
    fn groups(&self, original: &dyn AggregateUDFImpl, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        original.create_groups_accumulator(args)
    }

    /// What is gathered of a frame that moves on from row to row.
    fn frame(&self, original: &dyn AggregateUDFImpl, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        original.create_sliding_accumulator(args)
    }
}

fn instead_of<D: Difference>(original: Arc<AggregateUDF>, difference: D) -> AggregateUDF {
    AggregateUDF::from(Aggregate { original, difference })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Aggregate<D: Difference> {
    original: Arc<AggregateUDF>,
    difference: D,
}

impl<D: Difference> Aggregate<D> {
    fn original(&self) -> &dyn AggregateUDFImpl {
        &**self.original.inner()
    }
}

impl<D: Difference> AggregateUDFImpl for Aggregate<D> {
    fn name(&self) -> &str {
        self.original.name()
    }

    fn aliases(&self) -> &[String] {
        self.original.aliases()
    }

    fn signature(&self) -> &Signature {
        self.original.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.original().return_type(arguments)
    }

    fn return_field(&self, arguments: &[FieldRef]) -> Result<FieldRef> {
        self.original().return_field(arguments)
    }

    fn is_nullable(&self) -> bool {
        self.original().is_nullable()
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.original().default_value(data_type)
    }

    fn supports_within_group_clause(&self) -> bool {
        self.original().supports_within_group_clause()
    }

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.original().coerce_types(arguments)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let is_float = args.return_field.data_type().is_floating();
        let gathered = self.difference.accumulator(self.original(), args)?;
        Ok(if is_float { Box::new(Converted { gathered, conversion: NoSigns }) } else { gathered })
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        self.difference.state_fields(self.original(), args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.original().groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let is_float = args.return_field.data_type().is_floating();
        let gathered = self.difference.groups(self.original(), args)?;
        Ok(if is_float { Box::new(Converted { gathered, conversion: NoSigns }) } else { gathered })
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let is_float = args.return_field.data_type().is_floating();
        let gathered = self.difference.frame(self.original(), args)?;
        Ok(if is_float { Box::new(Converted { gathered, conversion: NoSigns }) } else { gathered })
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.original().order_sensitivity()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.original().reverse_expr()
    }

    fn is_descending(&self) -> Option<bool> {
        self.original().is_descending()
    }

    fn value_from_stats(&self, statistics: &StatisticsArgs<'_>) -> Option<ScalarValue> {
        self.original().value_from_stats(statistics)
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.original().set_monotonicity(data_type)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.original().documentation()
    }
}

/// What values are made on the way into another's hands, and what comes of them on the way out. Each way nothing, unless it is said.
trait Conversion: Debug + Send + Sync + 'static {
    fn values<'v>(&self, values: &'v [ArrayRef]) -> Result<Cow<'v, [ArrayRef]>> {
        Ok(values.into())
    }

    fn result(&self, result: ArrayRef) -> Result<ArrayRef> {
        Ok(result)
    }

    /// What was gathered so far, as threads pass it on.
    fn state_in<'v>(&self, state: &'v [ArrayRef]) -> Result<Cow<'v, [ArrayRef]>> {
        Ok(state.into())
    }

    fn state_out(&self, state: Vec<ArrayRef>) -> Result<Vec<ArrayRef>> {
        Ok(state)
    }
}

/// See [`without_signs`].
#[derive(Debug)]
struct NoSigns;

impl Conversion for NoSigns {
    fn result(&self, result: ArrayRef) -> Result<ArrayRef> {
        Ok(without_signs(&result))
    }
}

/// Another gathers; what it is given and what it gives is converted.
#[derive(Debug)]
struct Converted<A, C> {
    gathered: A,
    conversion: C,
}

impl<C: Conversion> Accumulator for Converted<Box<dyn Accumulator>, C> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.gathered.update_batch(&self.conversion.values(values)?)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let result = self.conversion.result(self.gathered.evaluate()?.to_array()?)?;
        ScalarValue::try_from_array(&result, 0)
    }

    fn size(&self) -> usize {
        self.gathered.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let state: Vec<ArrayRef> = self.gathered.state()?.iter().map(ScalarValue::to_array).collect::<Result<_>>()?;
        self.conversion.state_out(state)?.iter().map(|part| ScalarValue::try_from_array(part, 0)).collect()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.gathered.merge_batch(&self.conversion.state_in(states)?)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.gathered.retract_batch(&self.conversion.values(values)?)
    }

    fn supports_retract_batch(&self) -> bool {
        self.gathered.supports_retract_batch()
    }
}

impl<C: Conversion> GroupsAccumulator for Converted<Box<dyn GroupsAccumulator>, C> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        groups_total: usize,
    ) -> Result<()> {
        self.gathered.update_batch(&self.conversion.values(values)?, groups, filter, groups_total)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        self.conversion.result(self.gathered.evaluate(emit_to)?)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.conversion.state_out(self.gathered.state(emit_to)?)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], groups_total: usize) -> Result<()> {
        self.gathered.merge_batch(&self.conversion.state_in(states)?, groups, groups_total)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let values = self.conversion.values(values)?;
        self.conversion.state_out(self.gathered.convert_to_state(&values, filter)?)
    }

    fn size(&self) -> usize {
        self.gathered.size()
    }
}
