//! `sum` of integers and of decimals of the largest precision. DataFusion adds them up in as many bits as they have, and goes on with
//! what is left of a sum that doesn't fit. Here they are added up in twice as many bits, and a sum that doesn't fit is refused.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::compute::{CastOptions, cast, cast_with_options};
use arrow::datatypes::{DECIMAL128_MAX_PRECISION, DECIMAL256_MAX_PRECISION, DataType, FieldRef};
use datafusion::common::{Result, exec_datafusion_err, plan_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, GroupsAccumulator};

use super::frames::{Figure, Frame};
use super::{Conversion, Converted, Difference};

#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Sum;

/// In what a sum is gathered, and what it is at the end. `None` where the original does as well: a sum of decimals has room for ten
/// more digits than they have, unless that is more than there are.
#[derive(Debug, Clone)]
struct Widths {
    wide: DataType,
    narrow: DataType,
}

impl Widths {
    fn of(field: &FieldRef, arguments: &[FieldRef]) -> Result<Option<Self>> {
        let narrow = field.data_type().clone();
        let wide = match narrow {
            DataType::Int64 | DataType::UInt64 => DataType::Decimal128(DECIMAL128_MAX_PRECISION, 0),
            DataType::Decimal128(DECIMAL128_MAX_PRECISION, scale) => {
                DataType::Decimal256(DECIMAL256_MAX_PRECISION, scale)
            }
            // There are no more bits, and no room for more digits.
            DataType::Decimal256(..) if arguments.iter().any(is_widest) => {
                return plan_err!(
                    "a sum of decimals of more than 66 digits may not fit; ask for sum(CAST(… AS DOUBLE))"
                );
            }
            _ => return Ok(None),
        };
        Ok(Some(Self { wide, narrow }))
    }

    fn field(&self, field: &FieldRef) -> FieldRef {
        Arc::new(field.as_ref().clone().with_data_type(self.wide.clone()))
    }
}

/// Decimals of so many digits that a sum of them has no room for ten more.
fn is_widest(field: &FieldRef) -> bool {
    const SUM_DIGITS: u8 = 10;
    matches!(field.data_type(), DataType::Decimal256(digits, _) if *digits > DECIMAL256_MAX_PRECISION - SUM_DIGITS)
}

impl Conversion for Widths {
    fn values<'v>(&self, values: &'v [ArrayRef]) -> Result<Cow<'v, [ArrayRef]>> {
        let wide = values.iter().map(|values| Ok(cast(values, &self.wide)?));
        Ok(wide.collect::<Result<Vec<_>>>()?.into())
    }

    fn result(&self, sums: ArrayRef) -> Result<ArrayRef> {
        let exactly = CastOptions { safe: false, ..CastOptions::default() };
        cast_with_options(&sums, &self.narrow, &exactly).map_err(|_| {
            let beyond =
                if self.narrow.is_integer() { "integers is beyond 64 bits" } else { "decimals is beyond 38 digits" };
            exec_datafusion_err!("a sum of {beyond}; ask for sum(CAST(… AS DOUBLE))")
        })
    }
}

impl Difference for Sum {
    fn accumulator(&self, original: &dyn AggregateUDFImpl, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        let Some(widths) = Widths::of(&args.return_field, args.expr_fields)? else { return original.accumulator(args) };
        let return_field = widths.field(&args.return_field);
        let gathered = original.accumulator(AccumulatorArgs { return_field, ..args })?;
        Ok(Box::new(Converted { gathered, conversion: widths }))
    }

    fn state_fields(&self, original: &dyn AggregateUDFImpl, args: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let return_field = match Widths::of(&args.return_field, args.input_fields)? {
            Some(widths) => widths.field(&args.return_field),
            None => args.return_field.clone(),
        };
        original.state_fields(StateFieldsArgs { return_field, ..args })
    }

    fn groups(&self, original: &dyn AggregateUDFImpl, args: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let Some(widths) = Widths::of(&args.return_field, args.expr_fields)? else {
            return original.create_groups_accumulator(args);
        };
        let return_field = widths.field(&args.return_field);
        let gathered = original.create_groups_accumulator(AccumulatorArgs { return_field, ..args })?;
        Ok(Box::new(Converted { gathered, conversion: widths }))
    }

    fn frame(&self, original: &dyn AggregateUDFImpl, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if args.return_field.data_type().is_floating() {
            return Ok(Box::new(Frame::new(Figure::Sum)));
        }
        // Of distinct values no frame may be asked for.
        let Some(widths) = Widths::of(&args.return_field, args.expr_fields)?.filter(|_| !args.is_distinct) else {
            return original.create_sliding_accumulator(args);
        };
        let return_field = widths.field(&args.return_field);
        let gathered = original.create_sliding_accumulator(AccumulatorArgs { return_field, ..args })?;
        Ok(Box::new(Converted { gathered, conversion: widths }))
    }
}
