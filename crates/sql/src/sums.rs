//! `sum` of integers. DataFusion adds them up in 64 bits and goes on with what is left of a sum that doesn't fit. Here they are added
//! up in 128 bits, and a sum that doesn't fit is refused.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType, FieldRef};
use datafusion::common::{Result, ScalarValue, exec_datafusion_err};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::utils::AggregateOrderSensitivity;
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, EmitTo, GroupsAccumulator, ReversedUDAF,
    SetMonotonicity, Signature,
};

use crate::frames::{Figure, Frame};

/// To take the place of DataFusion's.
pub(crate) fn sum() -> AggregateUDF {
    AggregateUDF::from(Sum { original: sum_udaf() })
}

/// Of integers while they are added up.
const WIDE: DataType = DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0);

#[derive(Debug, PartialEq, Eq, Hash)]
struct Sum {
    original: Arc<AggregateUDF>,
}

impl Sum {
    fn original(&self) -> &dyn AggregateUDFImpl {
        &**self.original.inner()
    }
}

fn wide(field: &FieldRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(WIDE))
}

fn widened(values: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
    values.iter().map(|values| Ok(cast(values, &WIDE)?)).collect()
}

fn narrowed(sums: &dyn Array, data_type: &DataType) -> Result<ArrayRef> {
    let exactly = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(sums, data_type, &exactly)
        .map_err(|_| exec_datafusion_err!("a sum of integers is beyond 64 bits; ask for sum(CAST(… AS DOUBLE))"))
}

impl AggregateUDFImpl for Sum {
    fn name(&self) -> &str {
        self.original.name()
    }

    fn signature(&self) -> &Signature {
        self.original.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> Result<DataType> {
        self.original().return_type(arguments)
    }

    fn accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if !args.return_field.data_type().is_integer() {
            return self.original().accumulator(args);
        }
        let data_type = args.return_field.data_type().clone();
        let sums = self.original().accumulator(AccumulatorArgs { return_field: wide(&args.return_field), ..args })?;
        Ok(Box::new(Wide { sums, data_type }))
    }

    fn state_fields(&self, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let is_integer = args.return_field.data_type().is_integer();
        let return_field = if is_integer { wide(&args.return_field) } else { args.return_field.clone() };
        self.original().state_fields(StateFieldsArgs { return_field, ..args })
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs<'_>) -> bool {
        self.original().groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        if !args.return_field.data_type().is_integer() {
            return self.original().create_groups_accumulator(args);
        }
        let data_type = args.return_field.data_type().clone();
        let return_field = wide(&args.return_field);
        let sums = self.original().create_groups_accumulator(AccumulatorArgs { return_field, ..args })?;
        Ok(Box::new(Wide { sums, data_type }))
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if args.return_field.data_type().is_floating() {
            return Ok(Box::new(Frame::new(Figure::Sum)));
        }
        // Of distinct values no frame may be asked for.
        if args.is_distinct || !args.return_field.data_type().is_integer() {
            return self.original().create_sliding_accumulator(args);
        }
        let data_type = args.return_field.data_type().clone();
        let return_field = wide(&args.return_field);
        let sums = self.original().create_sliding_accumulator(AccumulatorArgs { return_field, ..args })?;
        Ok(Box::new(Wide { sums, data_type }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.original().order_sensitivity()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.original().reverse_expr()
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.original().set_monotonicity(data_type)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.original().documentation()
    }
}

/// Adds up integers in 128 bits.
#[derive(Debug)]
struct Wide<A> {
    sums: A,
    /// Of the integers.
    data_type: DataType,
}

impl Accumulator for Wide<Box<dyn Accumulator>> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.sums.update_batch(&widened(values)?)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let sum = self.sums.evaluate()?.to_array()?;
        ScalarValue::try_from_array(&narrowed(&sum, &self.data_type)?, 0)
    }

    fn size(&self) -> usize {
        self.sums.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.sums.state()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.sums.merge_batch(states)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.sums.retract_batch(&widened(values)?)
    }

    fn supports_retract_batch(&self) -> bool {
        self.sums.supports_retract_batch()
    }
}

impl GroupsAccumulator for Wide<Box<dyn GroupsAccumulator>> {
    fn update_batch(
        &mut self,
        values: &[ArrayRef],
        groups: &[usize],
        filter: Option<&BooleanArray>,
        groups_total: usize,
    ) -> Result<()> {
        self.sums.update_batch(&widened(values)?, groups, filter, groups_total)
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        narrowed(&self.sums.evaluate(emit_to)?, &self.data_type)
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        self.sums.state(emit_to)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], groups_total: usize) -> Result<()> {
        self.sums.merge_batch(states, groups, groups_total)
    }

    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        self.sums.convert_to_state(&widened(values)?, filter)
    }

    fn size(&self) -> usize {
        self.sums.size()
    }
}
