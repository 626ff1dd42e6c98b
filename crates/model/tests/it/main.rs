//! Properties of the batch: what is encoded, appended or picked out is what was put in.

mod batches;
mod encoding;
mod exact;
#[allow(dead_code, reason = "the store's tests use the rest of it")]
mod spans;
