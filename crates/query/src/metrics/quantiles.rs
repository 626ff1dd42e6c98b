//! Distributions in bounded memory.

use super::room::Room;

/// Counts of numbers in buckets of equal relative width: each power of two in 64 parts, so that the middle of a bucket is
/// at most 0.8 % off. Buckets are the leading bits of the numbers themselves, which order like them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Distribution {
    /// Powers of two that occurred, with the weights in their parts.
    octaves: Vec<(u16, Box<[f64; PARTS]>)>,
    total: f64,
    min: f64,
    max: f64,
}

const PARTS: usize = 64;
const PART_BITS: u32 = PARTS.ilog2();
const MANTISSA_BITS: u32 = 52;

impl Distribution {
    /// Adds a value; false, and nothing is added, if there is no room for it.
    #[inline]
    pub(crate) fn add(&mut self, value: f64, weight: f64, room: &mut Room) -> bool {
        let (octave, part) = bucket_of(value);
        let Some(parts) = self.octave(octave, room) else { return false };
        parts[part] += weight;
        if self.total == 0.0 {
            (self.min, self.max) = (value, value);
        }
        self.min = self.min.min(value);
        self.max = self.max.max(value);
        self.total += weight;
        true
    }

    #[inline]
    fn octave(&mut self, octave: u16, room: &mut Room) -> Option<&mut [f64; PARTS]> {
        let at = match self.octaves.iter().position(|(known, _)| *known == octave) {
            Some(at) => at,
            None => {
                if !room.take(size_of::<[f64; PARTS]>()) || !room.reserve_one(&mut self.octaves) {
                    return None;
                }
                self.octaves.push((octave, Box::new([0.0; PARTS])));
                self.octaves.len() - 1
            }
        };
        Some(&mut self.octaves[at].1)
    }

    /// Adds what another one has; false, and a part of it may be missing, if there is no room for it.
    pub(crate) fn merge(&mut self, other: &Self, room: &mut Room) -> bool {
        if other.total == 0.0 {
            return true;
        }
        if self.total == 0.0 {
            (self.min, self.max) = (other.min, other.max);
        }
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        for (octave, parts) in &other.octaves {
            let Some(own) = self.octave(*octave, room) else { return false };
            own.iter_mut().zip(parts.iter()).for_each(|(own, more)| *own += more);
            self.total += parts.iter().sum::<f64>();
        }
        true
    }

    /// The value below or at which the share `quantile` of the weight lies (nearest rank); `None` if there is nothing.
    pub(crate) fn quantile(&mut self, quantile: f64) -> Option<f64> {
        if self.total == 0.0 {
            return None;
        }
        self.octaves.sort_unstable_by_key(|(octave, _)| *octave);
        let wanted = quantile * self.total;
        let mut passed = 0.0;
        for (octave, parts) in &self.octaves {
            // Parts of negative numbers stand in the order of their distance from zero, as bits of numbers do.
            for part in 0..PARTS {
                passed += parts[part];
                if parts[part] > 0.0 && passed >= wanted * (1.0 - 1e-12) {
                    return Some(middle_of(*octave, part).clamp(self.min, self.max));
                }
            }
        }
        Some(self.max)
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.octaves.len() * size_of::<[f64; PARTS]>() + self.octaves.capacity() * size_of::<(u16, usize)>()
    }
}

/// Sign, exponent and the first bits of the mantissa, in an order that is that of the numbers.
fn bucket_of(value: f64) -> (u16, usize) {
    let bits = value.to_bits();
    // Negative numbers are turned round, so that the one with the largest distance from zero comes first.
    let ordered = if value.is_sign_negative() { !bits } else { bits | (1 << 63) };
    let bucket = ordered >> (MANTISSA_BITS - PART_BITS);
    ((bucket >> PART_BITS) as u16, bucket as usize % PARTS)
}

fn middle_of(octave: u16, part: usize) -> f64 {
    let bucket = (u64::from(octave) << PART_BITS) | part as u64;
    let half = 1 << (MANTISSA_BITS - PART_BITS - 1);
    let ordered = (bucket << (MANTISSA_BITS - PART_BITS)) | half;
    let bits = if ordered >> 63 == 1 { ordered & !(1 << 63) } else { !ordered };
    let middle = f64::from_bits(bits);
    match middle {
        // The bucket of infinity holds nothing else.
        middle if middle.is_nan() => f64::INFINITY.copysign(middle),
        // That of zero holds numbers that nothing measures beside it.
        middle if middle.abs() < f64::MIN_POSITIVE / PARTS as f64 => 0.0,
        middle => middle,
    }
}

/// Weights in buckets whose upper bounds are powers of two to the quarter; what is not positive counts in the bucket of 0.
///
/// The bounds do not depend on the values, so that histograms of any spans can be added up, and four buckets are one of a
/// histogram whose bounds are powers of two.
#[derive(Debug, Clone, Default)]
pub(crate) struct Histogram {
    not_positive: f64,
    /// Of buckets that follow each other.
    weights: Vec<f64>,
    /// The number of the first: bucket `n` ends with `2^(n / 4)`.
    first: i32,
}

/// Buckets of a histogram for each power of two.
pub(crate) const BUCKETS_PER_OCTAVE: i32 = 4;
/// Where they end in an octave, as shares of where that begins: `2^(1/4)`, `2^(1/2)`, `2^(3/4)`.
const ENDS_IN_OCTAVE: [f64; 3] = [1.189_207_115_002_721, std::f64::consts::SQRT_2, 1.681_792_830_507_429];
/// A list of buckets that has to grow has room for so many more.
const MORE_BUCKETS: usize = 8;

impl Histogram {
    /// Adds a value; false, and nothing is added, if there is no room for it.
    #[inline]
    pub(crate) fn add(&mut self, value: f64, weight: f64, room: &mut Room) -> bool {
        if value <= 0.0 {
            self.not_positive += weight;
            return true;
        }
        self.add_to(number_of(value), weight, room)
    }

    #[inline]
    fn add_to(&mut self, number: i32, weight: f64, room: &mut Room) -> bool {
        let at = number.wrapping_sub(self.first);
        if at < 0 || at as usize >= self.weights.len() {
            return self.add_outside(number, weight, room);
        }
        self.weights[at as usize] += weight;
        true
    }

    #[cold]
    fn add_outside(&mut self, number: i32, weight: f64, room: &mut Room) -> bool {
        if self.weights.is_empty() {
            self.first = number;
        }
        let first = self.first.min(number);
        let before = (self.first - first) as usize;
        let count = (before + self.weights.len()).max((number - first) as usize + 1);
        if count > self.weights.capacity() && !room.grow(&mut self.weights, count + MORE_BUCKETS) {
            return false;
        }
        self.weights.splice(0..0, std::iter::repeat_n(0.0, before));
        self.weights.resize(count, 0.0);
        self.first = first;
        self.weights[(number - first) as usize] += weight;
        true
    }

    /// Adds what another one has; false, and a part of it may be missing, if there is no room for it.
    pub(crate) fn merge(&mut self, other: &Self, room: &mut Room) -> bool {
        self.not_positive += other.not_positive;
        let mut weights = (other.first..).zip(&other.weights).filter(|(_, weight)| **weight != 0.0);
        weights.all(|(number, weight)| self.add_to(number, *weight, room))
    }

    /// The weights, by upper bound of their buckets, of which so many (1, 2 or 4) are an octave; without buckets that are empty.
    pub(crate) fn buckets(&self, per_octave: i32) -> impl Iterator<Item = (Bucket, f64)> {
        let together = BUCKETS_PER_OCTAVE / per_octave;
        let not_positive = std::iter::once((Bucket::NOT_POSITIVE, self.not_positive));
        let bucket = move |number: i32| Bucket(together * (number + together - 1).div_euclid(together));
        let positive = (self.first..).zip(&self.weights).map(move |(number, weight)| (bucket(number), *weight));
        not_positive.chain(positive).filter(|(_, weight)| *weight != 0.0)
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.weights.capacity() * size_of::<f64>()
    }
}

/// A bucket of a histogram, by the number of its end. They are in the order of their values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Bucket(i32);

impl Bucket {
    const NOT_POSITIVE: Self = Self(i32::MIN);

    /// The upper bound.
    pub(crate) fn bound(self) -> f64 {
        if self == Self::NOT_POSITIVE {
            return 0.0;
        }
        let octave = 2f64.powi(self.0.div_euclid(BUCKETS_PER_OCTAVE));
        match self.0.rem_euclid(BUCKETS_PER_OCTAVE) {
            0 => octave,
            part => octave * ENDS_IN_OCTAVE[part as usize - 1],
        }
    }
}

/// The number of the first bucket that ends with a positive number or above it.
#[inline]
fn number_of(value: f64) -> i32 {
    // Exact for powers of two, which a logarithm would not promise to be.
    let (bits, mantissa) = (value.to_bits(), (1 << MANTISSA_BITS) - 1);
    let exponent = ((bits >> MANTISSA_BITS) & 0x7ff) as i32 - 1023;
    let in_octave = f64::from_bits((bits & mantissa) | 1f64.to_bits());
    let part = if bits & mantissa == 0 { 0 } else { 1 + ENDS_IN_OCTAVE.iter().filter(|end| in_octave > **end).count() };
    BUCKETS_PER_OCTAVE * exponent + part as i32
}

#[cfg(test)]
mod tests {
    use tracehouse_scan::Pool;

    use super::*;

    fn room() -> Room {
        Room::new(tracehouse_scan::Held::of(&Pool::new(1 << 20)), usize::MAX)
    }

    #[test]
    fn a_distribution_says_what_it_takes() {
        let pool = Pool::new(1 << 20);
        let mut room = Room::new(tracehouse_scan::Held::of(&pool), 4 * 1024);
        let mut distribution = Distribution::default();
        let added = (0..2000).filter(|&power| distribution.add(2f64.powi(power - 1000), 1.0, &mut room)).count();
        assert!((1..2000).contains(&added), "{added}");
        assert!(distribution.memory_bytes() <= 4 * 1024, "{}", distribution.memory_bytes());
        assert!(distribution.quantile(0.0).expect("there are values") < 2f64.powi(-999));
    }

    #[test]
    fn quantiles_are_close_to_the_true_ones() {
        let mut distribution = Distribution::default();
        let values: Vec<f64> = (-500..2000).map(|n| f64::from(n) * 1.7 + 0.3).collect();
        assert!(values.iter().all(|value| distribution.add(*value, 1.0, &mut room())));
        for quantile in [0.0, 0.01, 0.1, 0.2, 0.5, 0.9, 0.99, 1.0] {
            let rank = ((quantile * values.len() as f64).ceil() as usize).max(1) - 1;
            let (found, exact) = (distribution.quantile(quantile).expect("there are values"), values[rank]);
            assert!((found - exact).abs() <= exact.abs() / 100.0, "{quantile}: {found} for {exact}");
        }
    }

    #[test]
    fn one_value_is_its_own_quantile() {
        let mut distribution = Distribution::default();
        assert!(distribution.add(0.123_456_789, 3.0, &mut room()));
        assert_eq!(distribution.quantile(0.5), Some(0.123_456_789));
        assert_eq!(Distribution::default().quantile(0.5), None);
    }

    #[test]
    fn zero_is_zero() {
        let mut distribution = Distribution::default();
        assert!([0.0, 0.0, -0.0, 5.0, 7.0].iter().all(|value| distribution.add(*value, 1.0, &mut room())));
        assert_eq!(distribution.quantile(0.5), Some(0.0));
        assert_eq!(distribution.quantile(0.0), Some(0.0));
    }

    #[test]
    fn weights_move_quantiles() {
        let mut distribution = Distribution::default();
        assert!(distribution.add(1.0, 1.0, &mut room()) && distribution.add(1000.0, 9.0, &mut room()));
        assert!(distribution.quantile(0.5).expect("there are values") > 990.0);
    }

    fn histogram(values: impl IntoIterator<Item = f64>) -> Histogram {
        let mut histogram = Histogram::default();
        values.into_iter().for_each(|value| assert!(histogram.add(value, 1.0, &mut room())));
        histogram
    }

    #[test]
    fn powers_of_two_are_their_own_bounds() {
        for (value, bound) in [
            (1.0, 1.0),
            (1.5, 2.0),
            (2.0, 2.0),
            (0.3, 0.5),
            (1e9, 1_073_741_824.0),
            (0.0, 0.0),
            (-3.0, 0.0),
            (f64::MIN_POSITIVE, f64::MIN_POSITIVE),
        ] {
            let found: Vec<_> =
                histogram([value]).buckets(1).map(|(bucket, weight)| (bucket.bound(), weight)).collect();
            assert_eq!(found, [(bound, 1.0)], "{value}");
        }
    }

    #[test]
    fn buckets_of_a_finer_histogram_are_parts_of_those_of_a_coarser_one() {
        let random = tracehouse_model::SystemRandomness::from_seed(3);
        let next = || tracehouse_model::Randomness::next_u64(&random);
        let values: Vec<f64> =
            (0..2_000).map(|_| (next() % 1_000_000) as f64 * 10f64.powi((next() % 9) as i32 - 4)).collect();
        // In two parts, to be added up.
        let mut all = histogram(values[..700].iter().copied());
        assert!(all.merge(&histogram(values[700..].iter().copied()), &mut room()));
        for per_octave in [1, 2, 4] {
            let ratio = 2f64.powf(1.0 / f64::from(per_octave)) * (1.0 + 1e-12);
            let mut expected: Vec<(f64, f64)> = Vec::new();
            let mut buckets: Vec<(f64, f64)> = Vec::new();
            for (bucket, weight) in all.buckets(per_octave) {
                match buckets.last_mut() {
                    Some((bound, sum)) if *bound == bucket.bound() => *sum += weight,
                    _ => buckets.push((bucket.bound(), weight)),
                }
            }
            for (bound, _) in &buckets {
                let inside = |value: &&f64| **value <= *bound && (**value > bound / ratio || *bound == 0.0);
                expected.push((*bound, values.iter().filter(inside).count() as f64));
            }
            assert_eq!(buckets.iter().map(|(_, weight)| weight).sum::<f64>(), values.len() as f64);
            assert_eq!(buckets, expected, "{per_octave}");
        }
    }

    #[test]
    fn a_histogram_takes_no_more_than_there_is() {
        let pool = Pool::new(1 << 20);
        let mut room = Room::new(tracehouse_scan::Held::of(&pool), 4 * 1024);
        let mut histogram = Histogram::default();
        let added = (0..2000).filter(|&power| histogram.add(2f64.powi(power - 1000), 1.0, &mut room)).count();
        assert!((1..2000).contains(&added), "{added}");
        assert!(histogram.memory_bytes() <= 4 * 1024);
        assert_eq!(histogram.buckets(4).map(|(_, weight)| weight).sum::<f64>(), added as f64);
    }
}
