//! `min` and `max` of floating-point numbers in groups. DataFusion begins with the largest finite number there, which an infinite
//! minimum or maximum is beyond, and lets what is no number win or not as it comes. Here, as for whole columns, the order is total:
//! `NaN` is above infinity.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type};
use datafusion::common::Result;
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{AggregateUDFImpl, GroupsAccumulator};

use super::{Conversion, Converted, Difference};

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Extreme;

impl Difference for Extreme {
    fn groups(&self, original: &dyn AggregateUDFImpl, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let data_type = args.return_field.data_type().clone();
        if !data_type.is_floating() {
            return original.create_groups_accumulator(args);
        }
        let return_field = Arc::new(args.return_field.as_ref().clone().with_data_type(DataType::Int64));
        let places = original.create_groups_accumulator(AccumulatorArgs { return_field, ..args })?;
        Ok(Box::new(Converted { gathered: places, conversion: ByPlace { data_type } }))
    }
}

/// Numbers are gathered by their places in the total order, which are integers.
#[derive(Debug)]
struct ByPlace {
    /// Of the numbers.
    data_type: DataType,
}

impl Conversion for ByPlace {
    fn values<'v>(&self, values: &'v [ArrayRef]) -> Result<Cow<'v, [ArrayRef]>> {
        let place = |values: &ArrayRef| -> Result<ArrayRef> {
            let doubles = cast(values, &DataType::Float64)?;
            let places: Int64Array = doubles.as_primitive::<Float64Type>().unary(place_of);
            Ok(Arc::new(places))
        };
        Ok(values.iter().map(place).collect::<Result<Vec<_>>>()?.into())
    }

    fn result(&self, places: ArrayRef) -> Result<ArrayRef> {
        let doubles: Float64Array = places.as_primitive::<Int64Type>().unary(number_at);
        Ok(cast(&doubles, &self.data_type)?)
    }

    /// The state of one is the extreme so far.
    fn state_in<'v>(&self, state: &'v [ArrayRef]) -> Result<Cow<'v, [ArrayRef]>> {
        self.values(state)
    }

    fn state_out(&self, state: Vec<ArrayRef>) -> Result<Vec<ArrayRef>> {
        state.into_iter().map(|places| self.result(places)).collect()
    }
}

/// The place of a number in the order of [`f64::total_cmp`].
fn place_of(number: f64) -> i64 {
    ordered(number.to_bits() as i64)
}

fn number_at(place: i64) -> f64 {
    f64::from_bits(ordered(place) as u64)
}

/// Bits of a number as its place, and the other way round: below zero larger bits are smaller numbers.
fn ordered(bits: i64) -> i64 {
    if bits < 0 { bits ^ i64::MAX } else { bits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_in_the_order_of_the_numbers() {
        let ordered = [-f64::NAN, f64::NEG_INFINITY, f64::MIN, -1.5, -0.0, 0.0, 5e-324, 2.0, f64::INFINITY, f64::NAN];
        assert!(ordered.is_sorted_by(|one, other| place_of(*one) < place_of(*other)));
        for number in ordered {
            assert_eq!(number_at(place_of(number)).to_bits(), number.to_bits());
        }
    }
}
