//! Aggregates that take the place of DataFusion's where its own answer wrongly: `extremes`, `sums`, and `frames` that move on. Each
//! says only where it differs; everything else is the original's.

mod extremes;
mod frames;
mod sums;

use std::fmt::Debug;
use std::hash::Hash;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray};
use arrow::datatypes::{DataType, FieldRef};
use datafusion::common::{Result, ScalarValue};
use datafusion::functions_aggregate::average::avg_udaf;
use datafusion::functions_aggregate::min_max::{max_udaf, min_udaf};
use datafusion::functions_aggregate::stddev::{stddev_pop_udaf, stddev_udaf};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::functions_aggregate::variance::{var_pop_udaf, var_samp_udaf};
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
pub(crate) fn aggregates() -> [AggregateUDF; 8] {
    [
        instead_of(min_udaf(), Extreme),
        instead_of(max_udaf(), Extreme),
        instead_of(sum_udaf(), Sum),
        instead_of(avg_udaf(), Figure::Average),
        instead_of(var_samp_udaf(), Figure::Variance { of_sample: true, root: false }),
        instead_of(var_pop_udaf(), Figure::Variance { of_sample: false, root: false }),
        instead_of(stddev_udaf(), Figure::Variance { of_sample: true, root: true }),
        instead_of(stddev_pop_udaf(), Figure::Variance { of_sample: false, root: true }),
    ]
}

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

    fn coerce_types(&self, arguments: &[DataType]) -> Result<Vec<DataType>> {
        self.original().coerce_types(arguments)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(OneNan(self.difference.accumulator(self.original(), args)?)))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        self.difference.state_fields(self.original(), args)
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.original().groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(OneNan(self.difference.groups(self.original(), args)?)))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(OneNan(self.difference.frame(self.original(), args)?)))
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

/// Gathers what another gathers, and gives a `NaN` or zero that comes of it no sign: see [`without_signs`].
#[derive(Debug)]
struct OneNan<A>(A);

impl Accumulator for OneNan<Box<dyn Accumulator>> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.update_batch(values)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let value = self.0.evaluate()?;
        if !value.data_type().is_floating() {
            return Ok(value);
        }
        ScalarValue::try_from_array(&without_signs(&value.to_array()?), 0)
    }

    fn size(&self) -> usize {
        self.0.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.0.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.0.merge_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.0.retract_batch(values)
    }

    fn supports_retract_batch(&self) -> bool {
        self.0.supports_retract_batch()
    }
}

impl GroupsAccumulator for OneNan<Box<dyn GroupsAccumulator>> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        groups_total: usize,
    ) -> Result<()> {
        self.0.update_batch(values, groups, filter, groups_total)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        Ok(without_signs(&self.0.evaluate(emit_to)?))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.0.state(emit_to)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], groups_total: usize) -> Result<()> {
        self.0.merge_batch(states, groups, groups_total)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        self.0.convert_to_state(values, filter)
    }

    fn size(&self) -> usize {
        self.0.size()
    }
}
