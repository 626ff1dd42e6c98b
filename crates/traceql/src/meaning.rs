//! What the numbers of a metrics query are, told without looking at data.

use crate::field::{ArithmeticOp, FieldExpr};
use crate::query::{MetricsExpr, MetricsFunction};

/// What the series of a metrics query are and what is measured in them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Meaning {
    pub shape: Shape,
    pub unit: Unit,
    /// Of the bounds of a histogram's buckets.
    pub bucket_unit: Unit,
}

/// How series belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shape {
    /// Each stands for itself.
    #[default]
    Series,
    /// Each is a bucket of a histogram.
    Histogram,
    /// Each is a value of an attribute, in the selection or in the rest.
    Comparison,
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unit {
    /// Whatever the attribute holds, or what came of a calculation.
    #[default]
    Plain,
    /// Spans.
    Count,
    /// Spans in a second.
    PerSecond,
    Seconds,
}

impl Shape {
    pub const NAMES: [&str; 3] = ["series", "histogram", "comparison"];

    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

impl Unit {
    pub const NAMES: [&str; 4] = ["plain", "count", "perSecond", "seconds"];

    pub fn name(self) -> &'static str {
        Self::NAMES[self as usize]
    }

    fn of(field: &FieldExpr) -> Self {
        if field.is_duration() { Self::Seconds } else { Self::Plain }
    }
}

impl MetricsExpr {
    pub fn meaning(&self) -> Meaning {
        match self {
            MetricsExpr::Series { function, .. } => function.meaning(),
            MetricsExpr::Then { input, .. } => input.meaning(),
            MetricsExpr::Literal { .. } => Meaning::default(),
            MetricsExpr::Arithmetic { op, left, right, .. } => {
                let (left, right) = match (&**left, &**right) {
                    (MetricsExpr::Literal { .. }, series) | (series, MetricsExpr::Literal { .. }) => {
                        (series.meaning(), series.meaning())
                    }
                    (left, right) => (left.meaning(), right.meaning()),
                };
                // What is multiplied or divided is measured in something else.
                let keeps_unit = matches!(op, ArithmeticOp::Add | ArithmeticOp::Subtract) && left.unit == right.unit;
                Meaning { unit: if keeps_unit { left.unit } else { Unit::Plain }, ..left.with_shape_of(right) }
            }
        }
    }
}

impl Meaning {
    /// Series of different kinds stand for themselves when they were calculated with each other.
    fn with_shape_of(self, other: Self) -> Self {
        if (self.shape, self.bucket_unit) == (other.shape, other.bucket_unit) { self } else { Self::default() }
    }
}

impl MetricsFunction {
    fn meaning(&self) -> Meaning {
        let plain = Meaning::default();
        match self {
            MetricsFunction::Rate => Meaning { unit: Unit::PerSecond, ..plain },
            MetricsFunction::CountOverTime => Meaning { unit: Unit::Count, ..plain },
            MetricsFunction::Compare { .. } => Meaning { shape: Shape::Comparison, unit: Unit::Count, ..plain },
            MetricsFunction::HistogramOverTime(field) => {
                Meaning { shape: Shape::Histogram, unit: Unit::Count, bucket_unit: Unit::of(field) }
            }
            MetricsFunction::SumOverTime(field)
            | MetricsFunction::MinOverTime(field)
            | MetricsFunction::MaxOverTime(field)
            | MetricsFunction::AvgOverTime(field)
            | MetricsFunction::QuantileOverTime { field, .. } => Meaning { unit: Unit::of(field), ..plain },
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{QueryExpr, compile};

    #[test]
    fn queries_tell_what_their_series_are() {
        let rows: [(&str, &str, &str, &str); 17] = [
            ("{} | rate()", "series", "perSecond", "plain"),
            ("{} | rate() | topk(3)", "series", "perSecond", "plain"),
            ("{} | count_over_time() by (name)", "series", "count", "plain"),
            ("{} | avg_over_time(duration)", "series", "seconds", "plain"),
            ("{} | quantile_over_time(span:duration, .5, .9)", "series", "seconds", "plain"),
            ("{} | max_over_time(traceDuration)", "series", "seconds", "plain"),
            ("{} | sum_over_time(span.bytes)", "series", "plain", "plain"),
            ("{} | histogram_over_time(duration)", "histogram", "count", "seconds"),
            ("{} | histogram_over_time(span.bytes)", "histogram", "count", "plain"),
            ("{} | compare({ status = error })", "comparison", "count", "plain"),
            ("({} | rate()) + ({ status = error } | rate())", "series", "perSecond", "plain"),
            ("({} | rate()) / ({ status = error } | rate())", "series", "plain", "plain"),
            ("({} | rate()) - ({} | count_over_time())", "series", "plain", "plain"),
            ("({} | avg_over_time(duration)) * 1000", "series", "plain", "plain"),
            ("1 + ({} | rate())", "series", "perSecond", "plain"),
            ("({} | histogram_over_time(duration)) * 2", "histogram", "plain", "seconds"),
            ("({} | histogram_over_time(duration)) + ({} | rate())", "series", "plain", "plain"),
        ];
        for (query, shape, unit, bucket_unit) in rows {
            let QueryExpr::Metrics(expr) = compile(query).expect(query).expr else { panic!("{query}") };
            let meaning = expr.meaning();
            let told = (meaning.shape.name(), meaning.unit.name(), meaning.bucket_unit.name());
            assert_eq!(told, (shape, unit, bucket_unit), "{query}");
        }
    }
}
