//! The wall clock, read in this one place, and its readable form.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Nanoseconds since the Unix epoch.
#[allow(clippy::disallowed_methods, reason = "the demo paces real traffic; everything below it gets times passed in")]
pub fn unix_nanos() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_epoch.as_nanos()).unwrap_or(u64::MAX)
}

/// RFC 3339 in UTC with milliseconds.
pub fn rfc3339(unix_nanos: u64) -> String {
    let moment = Timestamp::from_nanosecond(i128::from(unix_nanos)).expect("the year 2554 is in the calendar");
    format!("{moment:.3}")
}
