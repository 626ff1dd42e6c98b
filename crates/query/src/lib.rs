//! Answers about stored spans: one trace, a search, names for completion.
//!
//! Entry type: [`QueryEngine`]. It takes one snapshot of the hot set and the files from the store, evaluates conditions
//! column by column, newest files first, and assembles traces. Work runs on its own threads, bounded in number.
//!
//! Invariants: an answer that does not cover everything says so (`partial_reason`, `N of M`); the same question on the
//! same data has the same answer, newest first.
//!
//! This crate must never know HTTP, JSON or how spans arrive.
//!
//! Tests: `tests/it`, against a slow and obvious evaluation of the same questions.

mod assemble;
mod bounds;
mod candidates;
mod column_eval;
mod compile;
mod engine;
mod error;
mod evaluate;
mod explain;
mod metrics;
mod names;
mod plan;
mod request;
mod row_eval;
mod search;
mod value;

pub use engine::{QueryEngine, QueryLimits};
pub use error::QueryError;
pub use request::{
    AttributeKey, AttributeValueSeen, Condition, Exemplar, Explanation, Inspected, Listing, MatchedSpan,
    MatchedSpanset, MetricsAnswer, MetricsRequest, Operator, ParentRow, Scope, SearchAnswer, SearchRequest, Series,
    ServiceCount, Trace, TraceSummary, Weighting,
};
