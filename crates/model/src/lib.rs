//! What a span is, everywhere in Tracehouse.
//!
//! Entry type: [`SpanBatch`], a set of spans of one tenant held as columns over one table of strings. A receiver
//! decodes a request straight into it; the pipeline edits it; the log writes it ([`ExactBatch::encode`]); the hot set
//! keeps it; Parquet files are written from it and read back into it. No other representation of many spans exists.
//!
//! Around it: ids ([`TraceId`], [`SpanId`]), attribute values ([`AttributeValue`], [`AnyValue`]), tenants
//! ([`TenantId`], [`Tenants`]), limits ([`Limits`]), sampling thresholds ([`Threshold`]), marks on repaired spans ([`Marks`]) and the
//! [`Clock`] and [`Randomness`] traits through which time and chance enter every other crate.
//!
//! Invariants: all per-span columns of a batch have the same length; every string code is below `strings.len()`; code
//! 0 is the empty string; strings are UTF-8 (binary attribute values excepted, which are tagged so). What is written is an
//! [`ExactBatch`]: it has no string, resource or scope that is not of one of its spans.
//!
//! This crate must never know wire formats, files, async, or any other crate of the workspace.
//!
//! Tests: beside the code for the small things, `tests/it` for properties of the batch and its encoding.

mod any_value;
mod attributes;
mod batch;
mod caller;
mod clock;
mod copies;
mod encoding;
mod error_chain;
mod exact;
mod hashing;
mod ids;
mod limits;
mod log_position;
mod marks;
mod service;
mod span;
mod strings;
mod tenant;
mod threshold;
mod tree;

pub use any_value::{AnyValue, CanonicalJsonError, double_text, parse_double};
pub use attributes::{AttributeLists, AttributeValue, ValueTag};
pub use batch::{Events, Links, Resources, Scopes, SpanBatch, SpanFields};
pub use caller::{Caller, Role, Roles};
pub use clock::{Bell, BootTime, Clock, ManualClock, Randomness, SystemClock, SystemRandomness, is_set_clock};
pub use copies::{ContentHasher, CopyKey};
pub use encoding::DecodeError;
pub use error_chain::error_chain;
pub use exact::ExactBatch;
pub use hashing::{SeededEntry, SeededMap, SeededSet, SeededState};
pub use ids::{IdError, SpanId, TraceId};
pub use limits::Limits;
pub use log_position::LogPosition;
pub use marks::Marks;
pub use service::{UNKNOWN_SERVICE, shown_service_of};
pub use span::{Event, Link, Span};
pub use strings::{StringCode, StringTable};
pub use tenant::{TenantError, TenantId, Tenants};
pub use threshold::Threshold;
pub use tree::{ParentRow, Placer, Placing, PlacingRank, derived_span_id, is_callee, is_caller};

/// Span kinds as OTLP numbers them.
pub mod kind {
    pub const UNSPECIFIED: u8 = 0;
    pub const INTERNAL: u8 = 1;
    pub const SERVER: u8 = 2;
    pub const CLIENT: u8 = 3;
    pub const PRODUCER: u8 = 4;
    pub const CONSUMER: u8 = 5;

    /// Names in the order of the numbers.
    pub const NAMES: [&str; 6] = ["unspecified", "internal", "server", "client", "producer", "consumer"];

    pub fn name(kind: u8) -> &'static str {
        NAMES.get(usize::from(kind)).copied().unwrap_or("unspecified")
    }

    pub fn from_name(name: &str) -> Option<u8> {
        (0u8..).zip(NAMES).find(|(_, known)| *known == name).map(|(kind, _)| kind)
    }
}

/// Status codes as OTLP numbers them.
pub mod status {
    pub const UNSET: u8 = 0;
    pub const OK: u8 = 1;
    pub const ERROR: u8 = 2;

    pub const NAMES: [&str; 3] = ["unset", "ok", "error"];

    pub fn name(code: u8) -> &'static str {
        NAMES.get(usize::from(code)).copied().unwrap_or("unset")
    }

    pub fn from_name(name: &str) -> Option<u8> {
        (0u8..).zip(NAMES).find(|(_, known)| *known == name).map(|(code, _)| code)
    }
}
