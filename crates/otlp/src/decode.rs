//! Requests in, straight into a batch. Both decoders only read: `builder` decides what is cut, dropped, repaired or refused, so
//! that they can't differ. What takes much work or memory out of proportion to its size is refused whole ([`Excess`]). What JSON
//! alone can do wrong, a value that its field can't have, costs its attribute or its span (`json`).

mod builder;
mod decoded;
pub mod json;
mod nested;
pub mod protobuf;

pub use decoded::{DecodeError, Decoded, Excess, RejectReason, Rejections, WireError};

/// Larger requests are refused whatever the limits say: the strings of a batch must stay below 4 GiB, and text may
/// grow six-fold when it becomes JSON.
pub const REQUEST_BYTES_CEILING: usize = 512 * 1024 * 1024;
