//! Sums, averages and variances of doubles over frames that move on. DataFusion takes away what leaves a frame, which leaves the error of
//! what was large, and what is no number for ever. Here nothing is taken away: a frame is two stacks, of which one has the moments of
//! all that is left of it ready, as a queue with a minimum is made.

use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, UInt64Type};
use datafusion::common::{Result, ScalarValue, exec_err, resources_err};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl};

use super::Difference;

/// What is worked out of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Figure {
    Sum,
    Average,
    Variance { of_sample: bool, root: bool },
}

impl Difference for Figure {
    fn accumulator(&self, original: &dyn AggregateUDFImpl, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        match self {
            Self::Variance { .. } if !args.is_distinct => {
                Ok(Box::new(Whole { figure: *self, moments: Moments::default() }))
            }
            _ => original.accumulator(args),
        }
    }

    fn frame(&self, original: &dyn AggregateUDFImpl, args: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        if args.return_field.data_type().is_floating() {
            return Ok(Box::new(Frame::new(*self)));
        }
        original.create_sliding_accumulator(args)
    }
}

/// Number, sum, mean and squared distances from it, of values that are put together as Chan, Golub and LeVeque do (1979).
#[derive(Debug, Clone, Copy, Default)]
struct Moments {
    count: f64,
    sum: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn of(value: f64) -> Self {
        // Of what is infinite or no number there is no variance.
        let squares = if value.is_finite() { 0.0 } else { f64::NAN };
        Self { count: 1.0, sum: value, mean: value, squares }
    }

    fn and(self, other: Self) -> Self {
        if self.count == 0.0 || other.count == 0.0 {
            return if self.count == 0.0 { other } else { self };
        }
        let (count, apart) = (self.count + other.count, other.mean - self.mean);
        Self {
            count,
            sum: self.sum + other.sum,
            mean: self.mean + apart * other.count / count,
            squares: self.squares + other.squares + apart * apart * self.count * other.count / count,
        }
    }
}

/// Values in the frames of all statements, of up to 32 bytes each: nobody else counts what frames take.
static VALUES: AtomicUsize = AtomicUsize::new(0);
const VALUES_MAX: usize = 1 << 22;

/// A frame: what came in since the last turn, and of what came before, for each value the moments of it and all after it.
#[derive(Debug)]
pub(super) struct Frame {
    figure: Figure,
    left: Vec<Moments>,
    new: Vec<f64>,
    of_new: Moments,
    /// How many of [`VALUES`] are its own.
    counted: usize,
}

impl Frame {
    pub(super) fn new(figure: Figure) -> Self {
        Self { figure, left: Vec::new(), new: Vec::new(), of_new: Moments::default(), counted: 0 }
    }

    fn push(&mut self, value: f64) {
        self.new.push(value);
        self.of_new = self.of_new.and(Moments::of(value));
    }

    fn pop(&mut self) {
        if self.left.is_empty() {
            self.of_new = Moments::default();
            let mut after = Moments::default();
            for value in self.new.drain(..).rev() {
                after = Moments::of(value).and(after);
                self.left.push(after);
            }
        }
        self.left.pop();
    }

    fn figure(&self) -> Option<f64> {
        self.figure.of(self.left.last().copied().unwrap_or_default().and(self.of_new))
    }
}

impl Figure {
    fn of(self, all: Moments) -> Option<f64> {
        match self {
            _ if all.count == 0.0 => None,
            Self::Sum => Some(all.sum),
            Self::Average => Some(all.sum / all.count),
            Self::Variance { of_sample, root } => {
                let divisor = if of_sample { all.count - 1.0 } else { all.count };
                let variance = (divisor > 0.0).then_some(all.squares / divisor);
                if root { variance.map(f64::sqrt) } else { variance }
            }
        }
    }
}

/// A variance of all rows. DataFusion's of a single value is zero, whatever the value is.
#[derive(Debug)]
struct Whole {
    figure: Figure,
    moments: Moments,
}

impl Accumulator for Whole {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = doubles(values)?;
        let values = values.as_primitive::<Float64Type>().iter().flatten();
        self.moments = values.fold(self.moments, |all, value| all.and(Moments::of(value)));
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.figure.of(self.moments)))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    /// As the original's: count, mean, squared distances from it.
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let Moments { count, mean, squares, .. } = self.moments;
        Ok(vec![ScalarValue::from(count as u64), ScalarValue::from(mean), ScalarValue::from(squares)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [counts, means, squares] = states else { return exec_err!("the state of a variance has three parts") };
        let counts = counts.as_primitive::<UInt64Type>().values();
        let (means, squares) =
            (means.as_primitive::<Float64Type>().values(), squares.as_primitive::<Float64Type>().values());
        for ((count, mean), squares) in counts.iter().zip(means).zip(squares) {
            // The sum is of no use to a variance.
            let other = Moments { count: *count as f64, sum: 0.0, mean: *mean, squares: *squares };
            self.moments = self.moments.and(other);
        }
        Ok(())
    }
}

fn doubles(values: &[ArrayRef]) -> Result<ArrayRef> {
    match values {
        [values] => Ok(cast(values, &DataType::Float64)?),
        _ => exec_err!("the function takes one argument"),
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        VALUES.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

impl Accumulator for Frame {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = doubles(values)?;
        let more = values.len() - values.null_count();
        self.counted += more;
        if VALUES.fetch_add(more, Ordering::Relaxed) + more > VALUES_MAX {
            return resources_err!(
                "the moving frames of all statements hold more than {VALUES_MAX} values; ask for narrower ones, or GROUP BY"
            );
        }
        values.as_primitive::<Float64Type>().iter().flatten().for_each(|value| self.push(value));
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = doubles(values)?;
        let fewer = (values.len() - values.null_count()).min(self.counted);
        self.counted -= fewer;
        VALUES.fetch_sub(fewer, Ordering::Relaxed);
        (0..fewer).for_each(|_| self.pop());
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.figure()))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.left.capacity() * size_of::<Moments>() + self.new.capacity() * size_of::<f64>()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        exec_err!("a frame is not divided")
    }

    fn merge_batch(&mut self, _: &[ArrayRef]) -> Result<()> {
        exec_err!("a frame is not divided")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Against each frame worked out by itself.
    #[test]
    fn a_frame_is_what_is_in_it() {
        let values = [1e300, 1.0, 2.0, 3.0, f64::INFINITY, 4.0, f64::NAN, 5.0, 6.5, 1e16, 1.0, 2.0, 3.0, 3.0, -7.0];
        for width in 1..6 {
            for figure in [
                Figure::Sum,
                Figure::Average,
                Figure::Variance { of_sample: true, root: true },
                Figure::Variance { of_sample: false, root: false },
            ] {
                let mut frame = Frame::new(figure);
                for at in 0..values.len() {
                    frame.push(values[at]);
                    if at >= width {
                        frame.pop();
                    }
                    let inside = &values[at.saturating_sub(width - 1)..=at];
                    let (count, sum) = (inside.len() as f64, inside.iter().sum::<f64>());
                    let mean = sum / count;
                    let squares: f64 = inside.iter().map(|value| (value - mean).powi(2)).sum();
                    let expected = match figure {
                        Figure::Sum => Some(sum),
                        Figure::Average => Some(mean),
                        Figure::Variance { of_sample: true, .. } if count < 2.0 => None,
                        Figure::Variance { of_sample: true, .. } => Some((squares / (count - 1.0)).sqrt()),
                        Figure::Variance { of_sample: false, .. } => Some(squares / count),
                    };
                    let found = frame.figure();
                    let same = match (found, expected) {
                        (Some(found), Some(expected)) if expected.is_finite() => {
                            (found - expected).abs() <= 1e-9 * expected.abs()
                        }
                        (Some(found), Some(expected)) => found == expected || !found.is_finite(),
                        (found, expected) => found == expected,
                    };
                    assert!(same, "{figure:?} of {inside:?}: {found:?}, {expected:?}");
                }
            }
        }
    }
}
