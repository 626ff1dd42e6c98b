//! Spans out: as messages, and those as JSON.

pub mod json;
mod messages;

pub use messages::{key_value, proto_value, resource_spans};
