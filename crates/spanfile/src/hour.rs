//! Files are made of spans of one hour each.

pub const NANOS_PER_HOUR: i64 = 3_600_000_000_000;

/// The hour in which a moment lies, as a number since the epoch.
pub fn hour_of(unix_nanos: i64) -> i64 {
    unix_nanos.div_euclid(NANOS_PER_HOUR)
}
