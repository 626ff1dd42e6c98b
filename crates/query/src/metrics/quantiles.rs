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

/// Weights in buckets whose upper bounds are powers of two; what is not positive counts in the bucket of 0.
#[derive(Debug, Clone, Default)]
pub(crate) struct PowerHistogram {
    /// Exponent of the upper bound, `i32::MIN` for 0.
    pub(crate) buckets: Vec<(i32, f64)>,
}

impl PowerHistogram {
    /// Adds a value; false, and nothing is added, if there is no room for it.
    #[inline]
    pub(crate) fn add(&mut self, value: f64, weight: f64, room: &mut Room) -> bool {
        self.add_to(exponent_above(value), weight, room)
    }

    fn add_to(&mut self, exponent: i32, weight: f64, room: &mut Room) -> bool {
        if let Some((_, sum)) = self.buckets.iter_mut().find(|(known, _)| *known == exponent) {
            *sum += weight;
        } else if room.reserve_one(&mut self.buckets) {
            self.buckets.push((exponent, weight));
        } else {
            return false;
        }
        true
    }

    /// Adds what another one has; false, and a part of it may be missing, if there is no room for it.
    pub(crate) fn merge(&mut self, other: &Self, room: &mut Room) -> bool {
        other.buckets.iter().all(|(exponent, weight)| self.add_to(*exponent, *weight, room))
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        self.buckets.capacity() * size_of::<(i32, f64)>()
    }
}

/// The exponent of the smallest power of two that is not below a number; `i32::MIN` if the number is not positive.
fn exponent_above(value: f64) -> i32 {
    if value <= 0.0 {
        return i32::MIN;
    }
    // Exact for powers of two, which a logarithm would not promise to be.
    let bits = value.to_bits();
    let exponent = ((bits >> MANTISSA_BITS) & 0x7ff) as i32 - 1023;
    if bits & ((1 << MANTISSA_BITS) - 1) == 0 { exponent } else { exponent + 1 }
}

/// The upper bound of a bucket.
pub(crate) fn bound_of(exponent: i32) -> f64 {
    if exponent == i32::MIN { 0.0 } else { 2f64.powi(exponent) }
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

    #[test]
    fn powers_of_two_are_their_own_bounds() {
        for (value, bound) in
            [(1.0, 1.0), (1.5, 2.0), (2.0, 2.0), (0.3, 0.5), (1e9, 1_073_741_824.0), (0.0, 0.0), (-3.0, 0.0)]
        {
            assert_eq!(bound_of(exponent_above(value)), bound, "{value}");
        }
    }
}
