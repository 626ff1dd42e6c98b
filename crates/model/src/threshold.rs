/// A rejection threshold of OpenTelemetry's consistent probability sampling: a span was kept because its randomness
/// was at least this 56-bit number. Source: OpenTelemetry specification, `trace/tracestate-probability-sampling.md`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, PartialOrd, Ord)]
pub struct Threshold(u64);

impl Threshold {
    const RANGE: u64 = 1 << 56;
    const DIGITS_MAX: usize = 14;
    /// How columns hold an absent threshold, which means *unknown*, not *kept for certain*.
    pub const UNKNOWN_BITS: u64 = u64::MAX;

    pub fn new(bits: u64) -> Option<Self> {
        (bits < Self::RANGE).then_some(Self(bits))
    }

    pub fn bits(self) -> u64 {
        self.0
    }

    /// 1 to 14 hexadecimal digits, padded with zeros on the right.
    pub fn parse(digits: &str) -> Option<Self> {
        let well_formed = (1..=Self::DIGITS_MAX).contains(&digits.len())
            && digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if !well_formed {
            return None;
        }
        let bits = u64::from_str_radix(digits, 16).ok()?;
        Self::new(bits << (4 * (Self::DIGITS_MAX - digits.len())))
    }

    /// The threshold in a `tracestate` header: member `ot`, sub-key `th`.
    pub fn from_trace_state(trace_state: &str) -> Option<Self> {
        let member = trace_state.split(',').find_map(|member| member.trim().strip_prefix("ot="))?;
        if member.split(';').any(str::is_empty) {
            return None;
        }
        Self::parse(member.split(';').find_map(|pair| pair.strip_prefix("th:"))?)
    }

    /// The share of spans that a sampler with this threshold keeps.
    pub fn probability(self) -> f64 {
        (Self::RANGE - self.0) as f64 / Self::RANGE as f64
    }

    /// For how many spans this one stands.
    pub fn adjusted_count(self) -> f64 {
        1.0 / self.probability()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_of_the_specification() {
        let count = |state: &str| Threshold::from_trace_state(state).map(Threshold::adjusted_count);
        assert_eq!(count("ot=th:8"), Some(2.0));
        assert_eq!(count("vendor=1, ot=rv:00000000000001;th:e"), Some(8.0));
        assert_eq!(count("ot=th:0"), Some(1.0));
        assert_eq!(count("ot=th:ffffffffffffff"), Some((1u64 << 56) as f64));
        for unknown in ["", "ot=rv:1", "ot=th:", "ot=th:123456789012345", "ot=th:G", "ot=th:1;"] {
            assert_eq!(count(unknown), None, "{unknown}");
        }
    }
}
