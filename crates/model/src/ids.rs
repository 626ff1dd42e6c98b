use std::fmt;
use std::str::FromStr;

use bytemuck::{Pod, Zeroable};

/// A W3C trace id: 16 bytes, all zero is invalid.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Pod, Zeroable)]
#[repr(transparent)]
pub struct TraceId(pub [u8; 16]);

/// A W3C span id: 8 bytes, all zero means *none*.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Pod, Zeroable)]
#[repr(transparent)]
pub struct SpanId(pub [u8; 8]);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}: expected 1 to {digits} hexadecimal digits, not all zero")]
pub struct IdError {
    pub text: String,
    pub what: &'static str,
    pub digits: usize,
}

impl TraceId {
    pub const NONE: TraceId = TraceId([0; 16]);

    pub fn is_none(self) -> bool {
        self.0 == [0; 16]
    }

    pub fn as_u128(self) -> u128 {
        u128::from_be_bytes(self.0)
    }

    /// The 64 bits that filters and fingerprints are made from. Trace ids are random in their low bytes at least
    /// (W3C Trace Context level 2), and some SDKs leave the high bytes zero, so both halves are mixed.
    pub fn hash64(self) -> u64 {
        let bits = self.as_u128();
        let folded = (bits as u64) ^ ((bits >> 64) as u64).rotate_left(32);
        // The finaliser of SplitMix64 (Steele, Lea, Flood 2014): ids made by counters must spread as well.
        let mut mixed = folded.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl SpanId {
    pub const NONE: SpanId = SpanId([0; 8]);

    pub fn is_none(self) -> bool {
        self.0 == [0; 8]
    }

    pub fn as_u64(self) -> u64 {
        u64::from_be_bytes(self.0)
    }
}

/// Accepts fewer digits than the full width, as Jaeger and Tempo do: leading zeros are often left out.
fn parse_padded<const N: usize>(text: &str, what: &'static str) -> Result<[u8; N], IdError> {
    let error = || IdError { text: text.chars().take(64).collect(), what, digits: 2 * N };
    if text.is_empty() || text.len() > 2 * N || !text.is_ascii() {
        return Err(error());
    }
    let padded = format!("{text:0>width$}", width = 2 * N);
    let mut bytes = [0; N];
    hex::decode_to_slice(padded, &mut bytes).map_err(|_| error())?;
    if bytes == [0; N] {
        return Err(error());
    }
    Ok(bytes)
}

impl FromStr for TraceId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        parse_padded(text, "a trace id").map(TraceId)
    }
}

impl FromStr for SpanId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        parse_padded(text, "a span id").map(SpanId)
    }
}

macro_rules! hex_format {
    ($id:ty, $digits:literal) => {
        impl fmt::Display for $id {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                let mut digits = [0; $digits];
                hex::encode_to_slice(self.0, &mut digits).map_err(|_| fmt::Error)?;
                formatter.write_str(std::str::from_utf8(&digits).map_err(|_| fmt::Error)?)
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, formatter)
            }
        }
    };
}

hex_format!(TraceId, 32);
hex_format!(SpanId, 16);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_parse_and_print() {
        let full = "5b8efff798038103d269b633813fc60c";
        assert_eq!(full.parse::<TraceId>().expect("valid").to_string(), full);
        assert_eq!("abc".parse::<SpanId>().expect("valid").to_string(), "0000000000000abc");
        for wrong in ["", "0", "xyz", "00000000000000000", "é"] {
            assert!(wrong.parse::<SpanId>().is_err(), "{wrong}");
        }
    }
}
