//! Fits the scan into DataFusion: tables, execution plan, filters, and rules for calls of `attr` and for joins.

mod attribute_rule;
mod exec;
mod predicate;
mod table;
mod yield_rule;

pub(crate) use attribute_rule::ReadAttributesAsColumns;
pub(crate) use predicate::{Condition, Predicate, Ranges};
pub(crate) use table::SpansTable;
pub(crate) use yield_rule::JoinsGiveWay;
