//! Fits the scan into DataFusion: tables, execution plan, filters, and rules for calls of `attr` and for the size of
//! batches.

mod attribute_rule;
mod checkpoint;
mod exec;
mod guard;
mod guard_rule;
mod predicate;
mod string_compaction;
mod table;

pub(crate) use attribute_rule::ReadAttributesAsColumns;
pub(crate) use checkpoint::{Checkpoint, watched, with_checkpoints};
pub(crate) use guard_rule::GuardBatches;
pub(crate) use predicate::{Condition, Predicate, Ranges};
pub(crate) use table::SpansTable;
