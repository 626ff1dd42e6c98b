//! Answers about stored spans: one trace, a search, time series, names for completion.
//!
//! Entry type: [`QueryEngine`]. It takes one snapshot of the hot set and the files from the store. TraceQL is compiled to a
//! plan (`compile`, `plan`). A search (`search`) looks for traces with a span that drives the plan, column by column and newest
//! files first (`candidates`, `column_eval`), puts them together (`assemble`) and runs the plan over each (`evaluate`); asked for an
//! order or a count it looks at all that match (`ranked`, `whole_traces`); what came lately is found in memory (`arrivals`). Time
//! series (`metrics`) come from columns where a span alone decides, else from whole traces. One trace, or one span of it, is
//! read by its id (`trace`). What interfaces show of spans as texts is
//! decided by `shown`, what calls are about by `target` (`targets_told` for what a search found). Work runs on its own threads; files are read, and threads, time, memory and bytes bounded, by
//! the crate `scan`; `shares` says how one question divides its memory.
//!
//! Invariants: an answer that does not cover everything says so (`partial_reason`, `N of M`); no question fails because a
//! file can't be read; what all questions hold, answers that were not sent yet included, stays below one limit; the same
//! question on the same data has the same answer, newest first.
//!
//! This crate must never know HTTP, JSON or how spans arrive.
//!
//! Tests: `tests/it`, against a slow and obvious evaluation of the same questions; `tests/corpus` has queries and their plans.

mod answer_text;
mod arrivals;
mod assemble;
mod attribute_values;
mod candidates;
mod column_eval;
mod compile;
mod conditions;
mod copies;
mod drivers;
mod engine;
mod error;
mod evaluate;
mod explain;
mod groups;
mod halves;
mod known_values;
mod mask;
mod met;
mod metrics;
mod names;
mod operations;
mod order;
mod plan;
mod question;
mod ranked;
mod request;
mod row_eval;
mod search;
mod seen_values;
mod services;
mod shares;
mod shown;
mod stored_values;
mod structure;
mod summary;
mod target;
mod targets_told;
mod together;
mod trace;
mod value;
mod whereabouts;
mod whole_traces;

pub use engine::{QueryEngine, QueryLimits};
pub use error::QueryError;
pub use request::{
    Among, Arrivals, AttributeKey, AttributeValueSeen, Condition, Exemplar, Explanation, HistogramBuckets, Inspected,
    Listing, MatchedSpan, MatchedSpanset, MetricsAnswer, MetricsRequest, Operation, Operator, Order, OrderKey, Scope,
    SearchAnswer, SearchRequest, Selects, Series, ServiceCount, ShownValue, TextField, Trace, TraceCount, TraceDetail,
    TraceSummary, Weighting,
};
pub use target::Targets;
pub use together::{TENANT_KEY, Together};
pub use tracehouse_model::ParentRow;
pub use tracehouse_scan::{Pool, Reservation};
