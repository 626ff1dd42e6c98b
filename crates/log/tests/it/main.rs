//! The log from outside. What disks and crashes do to it is tested with a store around it, in `store/tests`.

mod feed;
#[allow(dead_code, reason = "other crates' tests need the rest of it")]
#[path = "../../../model/tests/it/spans.rs"]
mod spans;
