//! What is gathered of the spans of one series in one step, and what is computed from it.

use super::quantiles::{Distribution, PowerHistogram, bound_of};

/// What a metrics function gathers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Measure {
    /// Weighted spans; divided by the seconds of a step for a rate.
    Count,
    Sum,
    Min,
    Max,
    Average,
    Histogram,
    Quantiles(Vec<f64>),
}

/// What is gathered of one series in one step. `Default` is nothing yet.
pub(crate) trait Cell: Default + Clone + Send {
    /// Whether cells are so large that spans are better added series by series than in the order in which they lie.
    const LARGE: bool = false;
    /// Whether no spans at all give zeros rather than nothing.
    const ZERO_OF_NOTHING: bool = false;

    fn add(&mut self, value: f64, weight: f64);
    fn merge(&mut self, other: &Self);
    /// Memory beside the cell itself.
    fn heap_bytes(&self) -> usize {
        0
    }
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Sum {
    pub(crate) weight: f64,
    /// Of weight times value.
    pub(crate) sum: f64,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Count(pub(crate) f64);

#[derive(Debug, Clone, Default)]
pub(crate) struct Smallest(pub(crate) Option<f64>);

#[derive(Debug, Clone, Default)]
pub(crate) struct Largest(pub(crate) Option<f64>);

impl Cell for Count {
    const ZERO_OF_NOTHING: bool = true;

    #[inline]
    fn add(&mut self, _: f64, weight: f64) {
        self.0 += weight;
    }

    fn merge(&mut self, other: &Self) {
        self.0 += other.0;
    }
}

impl Cell for Sum {
    #[inline]
    fn add(&mut self, value: f64, weight: f64) {
        self.weight += weight;
        self.sum += weight * value;
    }

    fn merge(&mut self, other: &Self) {
        self.weight += other.weight;
        self.sum += other.sum;
    }
}

impl Cell for Smallest {
    #[inline]
    fn add(&mut self, value: f64, _: f64) {
        self.0 = Some(self.0.map_or(value, |known| known.min(value)));
    }

    fn merge(&mut self, other: &Self) {
        other.0.into_iter().for_each(|value| self.add(value, 1.0));
    }
}

impl Cell for Largest {
    #[inline]
    fn add(&mut self, value: f64, _: f64) {
        self.0 = Some(self.0.map_or(value, |known| known.max(value)));
    }

    fn merge(&mut self, other: &Self) {
        other.0.into_iter().for_each(|value| self.add(value, 1.0));
    }
}

impl Cell for Distribution {
    const LARGE: bool = true;

    #[inline]
    fn add(&mut self, value: f64, weight: f64) {
        Distribution::add(self, value, weight);
    }

    fn merge(&mut self, other: &Self) {
        Distribution::merge(self, other);
    }

    fn heap_bytes(&self) -> usize {
        self.memory_bytes()
    }
}

impl Cell for PowerHistogram {
    const LARGE: bool = true;

    #[inline]
    fn add(&mut self, value: f64, weight: f64) {
        PowerHistogram::add(self, value, weight);
    }

    fn merge(&mut self, other: &Self) {
        PowerHistogram::merge(self, other);
    }

    fn heap_bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<(i32, f64)>()
    }
}

/// A further label and the values of the steps: one line of an answer.
pub(crate) type Line = (Option<(String, f64)>, Vec<Option<f64>>);

/// Values of histograms: a line for each bucket that occurred, labelled by its upper bound.
pub(crate) fn histogram_lines(cells: &[PowerHistogram], scale: f64) -> Vec<Line> {
    let mut exponents: Vec<i32> =
        cells.iter().flat_map(|cell| cell.buckets.iter().map(|(exponent, _)| *exponent)).collect();
    exponents.sort_unstable();
    exponents.dedup();
    let line = |exponent: i32| {
        let weight = |cell: &PowerHistogram| {
            cell.buckets.iter().find(|(known, _)| *known == exponent).map(|(_, weight)| *weight)
        };
        let label = ("__bucket".to_owned(), bound_of(exponent) * scale);
        (Some(label), cells.iter().map(weight).collect())
    };
    exponents.into_iter().map(line).collect()
}

/// Values of quantiles: a line for each.
pub(crate) fn quantile_lines(cells: &mut [Distribution], quantiles: &[f64], scale: f64) -> Vec<Line> {
    let line = |quantile: &f64| {
        let values = cells.iter_mut().map(|cell| cell.quantile(*quantile).map(|value| value * scale)).collect();
        (Some(("p".to_owned(), *quantile)), values)
    };
    quantiles.iter().map(line).collect()
}
