//! What is gathered of the spans of one series in one step, and what is computed from it.

use std::collections::BTreeSet;

use tracehouse_scan::Held;

use super::quantiles::{Bucket, Distribution, Histogram};
use super::room::Room;

/// What a metrics function gathers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Measure {
    /// Weighted spans; divided by the seconds of a step for a rate.
    Count,
    Sum,
    Min,
    Max,
    Average,
    /// With so many buckets for each power of two: 1, 2 or 4.
    Histogram {
        per_octave: i32,
    },
    Quantiles(Vec<f64>),
}

/// What is gathered of one series in one step. `Default` is nothing yet, and takes no memory beside the cell.
pub(crate) trait Cell: Default + Clone + Send {
    /// Whether cells are so large that spans are better added series by series than in the order in which they lie.
    const LARGE: bool = false;
    /// Whether no spans at all give zeros rather than nothing.
    const ZERO_OF_NOTHING: bool = false;

    /// Adds a value; false, and nothing is added, if there is no room for it.
    fn add(&mut self, value: f64, weight: f64, room: &mut Room) -> bool;
    /// Adds what another cell has; false, and a part of it may be missing, if there is no room for it.
    fn merge(&mut self, other: &Self, room: &mut Room) -> bool;
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
    fn add(&mut self, _: f64, weight: f64, _: &mut Room) -> bool {
        self.0 += weight;
        true
    }

    fn merge(&mut self, other: &Self, _: &mut Room) -> bool {
        self.0 += other.0;
        true
    }
}

impl Cell for Sum {
    #[inline]
    fn add(&mut self, value: f64, weight: f64, _: &mut Room) -> bool {
        self.weight += weight;
        self.sum += weight * value;
        true
    }

    fn merge(&mut self, other: &Self, _: &mut Room) -> bool {
        self.weight += other.weight;
        self.sum += other.sum;
        true
    }
}

impl Cell for Smallest {
    #[inline]
    fn add(&mut self, value: f64, _: f64, _: &mut Room) -> bool {
        self.0 = Some(self.0.map_or(value, |known| known.min(value)));
        true
    }

    fn merge(&mut self, other: &Self, room: &mut Room) -> bool {
        other.0.into_iter().all(|value| self.add(value, 1.0, room))
    }
}

impl Cell for Largest {
    #[inline]
    fn add(&mut self, value: f64, _: f64, _: &mut Room) -> bool {
        self.0 = Some(self.0.map_or(value, |known| known.max(value)));
        true
    }

    fn merge(&mut self, other: &Self, room: &mut Room) -> bool {
        other.0.into_iter().all(|value| self.add(value, 1.0, room))
    }
}

/// Most steps of a series have no spans: those take the room of a pointer.
pub(crate) type DistributionCell = Option<Box<Distribution>>;

impl Cell for DistributionCell {
    const LARGE: bool = true;

    #[inline]
    fn add(&mut self, value: f64, weight: f64, room: &mut Room) -> bool {
        if self.is_none() && !room.take(size_of::<Distribution>()) {
            return false;
        }
        self.get_or_insert_default().add(value, weight, room)
    }

    fn merge(&mut self, other: &Self, room: &mut Room) -> bool {
        let Some(other) = other else { return true };
        if self.is_none() && !room.take(size_of::<Distribution>()) {
            return false;
        }
        self.get_or_insert_default().merge(other, room)
    }

    fn heap_bytes(&self) -> usize {
        self.as_ref().map_or(0, |distribution| size_of::<Distribution>() + distribution.memory_bytes())
    }
}

impl Cell for Histogram {
    const LARGE: bool = true;

    #[inline]
    fn add(&mut self, value: f64, weight: f64, room: &mut Room) -> bool {
        Histogram::add(self, value, weight, room)
    }

    fn merge(&mut self, other: &Self, room: &mut Room) -> bool {
        Histogram::merge(self, other, room)
    }

    fn heap_bytes(&self) -> usize {
        self.memory_bytes()
    }
}

/// A further label and the values of the steps: one line of an answer.
pub(crate) type Line = (Option<(String, f64)>, Vec<Option<f64>>);

/// The lines of one series, as they are made.
pub(crate) struct Lines<'a> {
    made: Vec<Line>,
    /// What the answer takes.
    held: &'a mut Held,
    label_bytes: usize,
    fits: bool,
}

/// About what a line takes beside its points and labels.
const LINE_BYTES: usize = 192;

impl<'a> Lines<'a> {
    /// `label_bytes`: what the labels that all lines share take in each.
    pub(crate) fn new(held: &'a mut Held, label_bytes: usize) -> Self {
        Self { made: Vec::new(), held, label_bytes, fits: true }
    }

    /// Makes a line of so many points, if there is room for it and for those before it.
    pub(crate) fn push(
        &mut self,
        points: usize,
        label: Option<(&str, f64)>,
        values: impl FnOnce() -> Vec<Option<f64>>,
    ) {
        let bytes = points * size_of::<Option<f64>>() + self.label_bytes + LINE_BYTES;
        self.fits = self.fits && self.held.take(bytes).is_ok();
        if self.fits {
            self.made.push((label.map(|(name, value)| (name.to_owned(), value)), values()));
        }
    }

    /// All of them; `None` if there was no room for one.
    pub(crate) fn finish(self) -> Option<Vec<Line>> {
        self.fits.then_some(self.made)
    }
}

/// Values of histograms: a line for each bucket that occurred, labelled by its upper bound.
pub(crate) fn histogram_lines(cells: &[Histogram], per_octave: i32, scale: f64, lines: &mut Lines<'_>) {
    let buckets: BTreeSet<Bucket> =
        cells.iter().flat_map(|cell| cell.buckets(per_octave).map(|(bucket, _)| bucket)).collect();
    for bucket in buckets {
        let weight = |cell: &Histogram| {
            let of_bucket = cell.buckets(per_octave).filter(|(known, _)| *known == bucket).map(|(_, weight)| weight);
            of_bucket.reduce(|sum, weight| sum + weight)
        };
        let label = ("__bucket", bucket.bound() * scale);
        lines.push(cells.len(), Some(label), || cells.iter().map(weight).collect());
    }
}

/// Values of quantiles: a line for each.
pub(crate) fn quantile_lines(cells: &mut [DistributionCell], quantiles: &[f64], scale: f64, lines: &mut Lines<'_>) {
    for quantile in quantiles {
        lines.push(cells.len(), Some(("p", *quantile)), || {
            let value = |cell: &mut DistributionCell| Some(cell.as_mut()?.quantile(*quantile)? * scale);
            cells.iter_mut().map(value).collect()
        });
    }
}
