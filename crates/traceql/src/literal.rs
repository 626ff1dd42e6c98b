//! Constant values written in a query, and how they are printed so that they read back as the same value.

use std::fmt::{self, Write};

use crate::types::ValueType;

/// A literal.
#[derive(Debug, Clone, PartialEq)]
pub enum Static {
    String(String),
    Int(i64),
    Float(f64),
    /// Nanoseconds; may be negative.
    Duration(i64),
    Bool(bool),
    /// Absence: `.foo = nil` holds where the attribute is missing.
    Nil,
    Status(Status),
    Kind(Kind),
    /// Never empty, never nested, no `nil` inside. Validation makes sure that the elements compare with each other.
    Array(Vec<Static>),
}

/// A span's status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    Unset,
    Ok,
    Error,
}

/// A span's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Unspecified,
    Internal,
    Server,
    Client,
    Producer,
    Consumer,
}

/// Words that are literals, in the order they are offered in suggestions.
const WORDS: &[(&str, Static)] = &[
    ("true", Static::Bool(true)),
    ("false", Static::Bool(false)),
    ("nil", Static::Nil),
    ("ok", Static::Status(Status::Ok)),
    ("error", Static::Status(Status::Error)),
    ("unset", Static::Status(Status::Unset)),
    ("server", Static::Kind(Kind::Server)),
    ("client", Static::Kind(Kind::Client)),
    ("internal", Static::Kind(Kind::Internal)),
    ("producer", Static::Kind(Kind::Producer)),
    ("consumer", Static::Kind(Kind::Consumer)),
    ("unspecified", Static::Kind(Kind::Unspecified)),
    ("minInt", Static::Int(i64::MIN)),
    ("maxInt", Static::Int(i64::MAX)),
];

const NANOS_PER_MICRO: u64 = 1_000;
const NANOS_PER_MILLI: u64 = 1_000_000;
const NANOS_PER_SECOND: u64 = 1_000_000_000;
const NANOS_PER_MINUTE: u64 = 60 * NANOS_PER_SECOND;
const NANOS_PER_HOUR: u64 = 60 * NANOS_PER_MINUTE;
const NANOS_PER_DAY: u64 = 24 * NANOS_PER_HOUR;

/// Units a duration literal may use. Days, weeks and years (of 365 days) are read as Prometheus reads them.
pub(crate) const DURATION_UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", NANOS_PER_MICRO),
    ("µs", NANOS_PER_MICRO),
    ("μs", NANOS_PER_MICRO),
    ("ms", NANOS_PER_MILLI),
    ("s", NANOS_PER_SECOND),
    ("m", NANOS_PER_MINUTE),
    ("h", NANOS_PER_HOUR),
    ("d", NANOS_PER_DAY),
    ("w", 7 * NANOS_PER_DAY),
    ("y", 365 * NANOS_PER_DAY),
];

impl Static {
    pub fn value_type(&self) -> ValueType {
        match self {
            Static::String(_) => ValueType::String,
            Static::Int(_) => ValueType::Int,
            Static::Float(_) => ValueType::Float,
            Static::Duration(_) => ValueType::Duration,
            Static::Bool(_) => ValueType::Bool,
            Static::Nil => ValueType::Nil,
            Static::Status(_) => ValueType::Status,
            Static::Kind(_) => ValueType::Kind,
            Static::Array(_) => ValueType::Array,
        }
    }

    /// Whether it is printed with a leading minus, which binds looser than `^`.
    pub(crate) fn is_signed_negative(&self) -> bool {
        match self {
            Static::Int(value) | Static::Duration(value) => *value < 0,
            Static::Float(value) => value.is_sign_negative(),
            _ => false,
        }
    }

    pub(crate) fn from_word(word: &str) -> Option<Static> {
        WORDS.iter().find(|row| row.0 == word).map(|row| row.1.clone())
    }

    pub(crate) fn words() -> impl Iterator<Item = &'static str> {
        WORDS.iter().map(|row| row.0)
    }
}

impl fmt::Display for Static {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Static::String(text) => write_quoted(f, text),
            Static::Int(value) => write!(f, "{value}"),
            // Debug, unlike Display, always keeps a point or an exponent: the value stays a float when read back.
            Static::Float(value) => write!(f, "{value:?}"),
            Static::Duration(nanos) => write_duration(f, *nanos),
            Static::Array(elements) => {
                f.write_char('[')?;
                for (index, element) in elements.iter().enumerate() {
                    if index > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{element}")?;
                }
                f.write_char(']')
            }
            Static::Bool(value) => write!(f, "{value}"),
            Static::Nil => f.write_str("nil"),
            Static::Status(status) => write!(f, "{status}"),
            Static::Kind(kind) => write!(f, "{kind}"),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Status::Unset => "unset",
            Status::Ok => "ok",
            Status::Error => "error",
        })
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Unspecified => "unspecified",
            Kind::Internal => "internal",
            Kind::Server => "server",
            Kind::Client => "client",
            Kind::Producer => "producer",
            Kind::Consumer => "consumer",
        })
    }
}

fn write_quoted(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    f.write_char('"')?;
    for character in text.chars() {
        match character {
            '"' => f.write_str("\\\"")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            '\t' => f.write_str("\\t")?,
            control if control.is_control() => write!(f, "\\u{:04x}", control as u32)?,
            plain => f.write_char(plain)?,
        }
    }
    f.write_char('"')
}

/// Hours, minutes and seconds above a second (`1h2m3.5s`), one unit below it (`1.5ms`); always exact.
fn write_duration(f: &mut fmt::Formatter<'_>, nanos: i64) -> fmt::Result {
    if nanos < 0 {
        f.write_char('-')?;
    }
    let magnitude = nanos.unsigned_abs();
    if magnitude == 0 {
        return f.write_str("0s");
    }
    if magnitude < NANOS_PER_SECOND {
        let (unit, name) = match magnitude {
            0..NANOS_PER_MICRO => (1, "ns"),
            NANOS_PER_MICRO..NANOS_PER_MILLI => (NANOS_PER_MICRO, "us"),
            _ => (NANOS_PER_MILLI, "ms"),
        };
        return write_decimal(f, magnitude, unit, name);
    }
    let hours = magnitude / NANOS_PER_HOUR;
    let minutes = magnitude % NANOS_PER_HOUR / NANOS_PER_MINUTE;
    let rest = magnitude % NANOS_PER_MINUTE;
    if hours > 0 {
        write!(f, "{hours}h")?;
    }
    if minutes > 0 {
        write!(f, "{minutes}m")?;
    }
    if rest > 0 { write_decimal(f, rest, NANOS_PER_SECOND, "s") } else { Ok(()) }
}

fn write_decimal(f: &mut fmt::Formatter<'_>, nanos: u64, unit: u64, name: &str) -> fmt::Result {
    write!(f, "{}", nanos / unit)?;
    let fraction = nanos % unit;
    if fraction > 0 {
        let digits = unit.ilog10() as usize;
        let padded = format!("{fraction:0digits$}");
        write!(f, ".{}", padded.trim_end_matches('0'))?;
    }
    f.write_str(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_printed_exactly() {
        let cases = [
            (0, "0s"),
            (7, "7ns"),
            (1_500, "1.5us"),
            (10_000_000, "10ms"),
            (1_000_001, "1.000001ms"),
            (3_723_500_000_000, "1h2m3.5s"),
            (3_600_000_000_000, "1h"),
            (-5_000_000_000, "-5s"),
            (i64::MIN, "-2562047h47m16.854775808s"),
        ];
        for (nanos, text) in cases {
            assert_eq!(Static::Duration(nanos).to_string(), text);
        }
    }
}
