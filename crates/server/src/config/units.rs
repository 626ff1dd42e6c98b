//! Sizes and durations as people write them: `64MiB`, `12h`, `1m30s`. A bare number has no unit and is refused.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A number of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Size(pub u64);

/// A length of time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Period(pub Duration);

/// A text that is not a size or a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    #[error("{0:?} is not a size; write for example 512KiB, 64MiB or 20GB")]
    Size(String),
    #[error("{0:?} is not a duration; write for example 250ms, 90s, 12h or 7d")]
    Period(String),
}

const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// In nanoseconds, largest first.
const PERIOD_UNITS: [(&str, u64); 7] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("ns", 1),
];

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = || UnitError::Size(text.to_owned());
        let (number, unit, rest) = number_and_unit(text.trim()).ok_or_else(error)?;
        let (_, bytes) = SIZE_UNITS.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit)).ok_or_else(error)?;
        if !rest.is_empty() {
            return Err(error());
        }
        scale(number, *bytes).map(Size).ok_or_else(error)
    }
}

impl FromStr for Period {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let error = || UnitError::Period(text.to_owned());
        let mut rest = text.trim();
        let mut nanos = 0u64;
        if rest.is_empty() {
            return Err(error());
        }
        while !rest.is_empty() {
            let (number, unit, further) = number_and_unit(rest).ok_or_else(error)?;
            let unit = if unit == "µs" { "us" } else { unit };
            let (_, unit_nanos) = PERIOD_UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(error)?;
            nanos = scale(number, *unit_nanos).and_then(|part| nanos.checked_add(part)).ok_or_else(error)?;
            rest = further.trim_start();
        }
        Ok(Period(Duration::from_nanos(nanos)))
    }
}

/// Splits `12.5ms rest` into its number, its unit and what follows.
fn number_and_unit(text: &str) -> Option<(&str, &str, &str)> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_')?;
    let (number, after) = text.split_at(unit_at);
    let after = after.trim_start();
    let end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
    let (unit, rest) = after.split_at(end);
    (!number.is_empty() && !unit.is_empty()).then_some((number, unit, rest))
}

/// `number` times `unit`, exact for whole numbers; `None` if it is no number or too large.
fn scale(number: &str, unit: u64) -> Option<u64> {
    let number = number.replace('_', "");
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(unit);
    }
    let product = number.parse::<f64>().ok()? * unit as f64;
    (product.is_finite() && product < u64::MAX as f64).then_some(product.round() as u64)
}

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = SIZE_UNITS.iter().filter(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes));
        let (unit, bytes) = exact.min_by_key(|(_, bytes)| self.0 / bytes).unwrap_or(&("B", 1));
        write!(formatter, "{}{unit}", self.0 / bytes)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX);
        if rest == 0 {
            return formatter.write_str("0s");
        }
        for (unit, nanos) in PERIOD_UNITS {
            if rest >= nanos {
                write!(formatter, "{}{unit}", rest / nanos)?;
                rest %= nanos;
            }
        }
        Ok(())
    }
}

macro_rules! written_as_text {
    ($type:ident, $name:literal, $description:literal, $pattern:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = AnyScalar::deserialize(deserializer)?;
                text.0.parse().map_err(serde::de::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $description, "pattern": $pattern })
            }
        }
    };
}

written_as_text!(
    Size,
    "Size",
    "A number of bytes with its unit: B, kB, KiB, MB, MiB, GB, GiB, TB or TiB.",
    r"^[0-9][0-9_]*(\.[0-9]+)? *[A-Za-z]+$"
);
written_as_text!(
    Period,
    "Period",
    "A length of time with its unit or units: ns, us, ms, s, m, h or d, for example 1m30s.",
    r"^([0-9][0-9_]*(\.[0-9]+)? *[a-z]+ *)+$"
);

/// A text, or a number taken as the text it was, so that a forgotten unit gets our message and not a type error.
struct AnyScalar(String);

impl<'de> Deserialize<'de> for AnyScalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;

        impl serde::de::Visitor<'_> for Visitor {
            type Value = AnyScalar;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a number with its unit")
            }

            fn visit_str<E>(self, text: &str) -> Result<AnyScalar, E> {
                Ok(AnyScalar(text.to_owned()))
            }

            fn visit_u64<E>(self, number: u64) -> Result<AnyScalar, E> {
                Ok(AnyScalar(number.to_string()))
            }

            fn visit_i64<E>(self, number: i64) -> Result<AnyScalar, E> {
                Ok(AnyScalar(number.to_string()))
            }

            fn visit_f64<E>(self, number: f64) -> Result<AnyScalar, E> {
                Ok(AnyScalar(number.to_string()))
            }
        }

        deserializer.deserialize_any(Visitor)
    }
}
