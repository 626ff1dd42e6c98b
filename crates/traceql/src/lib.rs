//! TraceQL: the query language of Grafana Tempo, read, checked and printed.
//! It must never know what spans are stored as, nor any file, clock, thread or network: it is about texts alone.
//!
//! # Use
//! [`compile`] turns text into a checked [`Query`]; it is [`parse`] (is it TraceQL?) and [`validate`] (can it mean
//! anything?). Errors are [`ParseError`]s that know the place, what stood there, what was expected and what was
//! probably meant. `Display` of every part of the tree prints a canonical form that parses back to the same tree.
//! [`conditions_of_unfinished`] reads what can be read of a query that somebody is still typing, and [`MetricsExpr::meaning`] tells
//! what the numbers of a metrics query are.
//!
//! # How it works
//! `lexer` → `parse` (recursive descent with operator precedence) → `query`/`field` (the tree) → `types` (checks).
//! Whatever the query says, every loop and recursion is bounded by the constants below.
//!
//! # What the language means
//! The language is Tempo 3.0's, and metrics arithmetic from 3.1. Engines must agree with this:
//!
//! - `.foo` is the span's attribute `foo`, or the resource's if the span has none. `span.foo`, `resource.foo`,
//!   `event.foo`, `link.foo`, `instrumentation.foo` look in one place; `parent.` before any of them looks at the
//!   parent span.
//! - A comparison with an attribute that is missing, or whose value is of an incomparable type, is **false** – that of
//!   `!=` and `!~` too. Absence is tested with `= nil`, presence with `!= nil`.
//! - An attribute alone as a condition, or as an operand of `&&` and `||`, means `= true`.
//! - Integers, floats and durations (as nanoseconds) compare and calculate with each other. Strings are ordered by
//!   their bytes. Booleans, statuses and kinds know only `=` and `!=`.
//! - An attribute that holds an array satisfies `=` and `=~` if **any** element does, `!=` and `!~` if **all** do, that
//!   is if none equals or matches. An array written in the query works the same way from the other side:
//!   `.a = ["x", "y"]` holds for either, `.a != ["x", "y"]` for neither. (Literal arrays go beyond Tempo's grammar.)
//! - A span has many events and links: a comparison with a field of theirs, `!=` and `!~` too, holds if it holds for any
//!   of them. A span without any has no such field.
//! - Regular expressions are Go's, match whole values, and `.` matches newlines: see [`compile_pattern`].
//! - `&&` and `||` are **one** level of precedence, read from left to right, as in Tempo: `a || b && c` is
//!   `(a || b) && c`. The printer always shows the parentheses.
//! - Integers divide as integers, whatever has a duration in it as a fraction. Dividing by zero gives no value, so the
//!   comparison around it is false.
//! - Between spansets, `&&` and `||` give the spans of both sides; structural operators give those of the right side,
//!   and those with `&` in front (`&>>`) those of both.
//! - Unscoped intrinsics are aliases: `duration` is `span:duration`, `rootServiceName` is `trace:rootService`.
//!
//! # What pipelines mean
//! - A pipeline works on one trace at a time. It begins with one spanset: all spans of the trace that begin in the
//!   range of times. A filter keeps of each spanset the spans for which it holds; empty spansets vanish. Only parents,
//!   structure and the fields of the trace as a whole (`trace:duration`, `trace:rootName`, …) look outside the range.
//! - `A && B` gives nothing unless both sides found spans. `A > B` gives the spans of B whose parent is in A, `>>` those
//!   that have an ancestor there, `<` and `<<` the parents and ancestors of spans in A, `~` those with the same parent
//!   id as *another* span of A. `!>` gives the spans of B that stand in the relation to none of A, which may be empty;
//!   `&>` the related spans of both sides. The spansets of a nested pipeline are united.
//! - The parent is found by its id; of several spans with one id the one of kind server is the parent. The root is the
//!   first span without a parent id: the earliest, then the longest.
//! - `by()` splits each spanset by a value, a missing one included; `coalesce()` makes one spanset of all. Aggregates
//!   take the spans on which the field is a number; without any there is no value, and the comparison is false. A
//!   pipeline inside a scalar starts anew from all spans of the trace in the range.
//! - Metrics count each span of the resulting spansets once. No spans at all are a rate or count of 0, if there is no
//!   `by()`. Series of two queries are joined by equal labels; one that is not grouped goes with every series of the other.
//!
//! # What it must never know
//! Data, storage, time, I/O. It depends on `regex` and on nothing of ours.
//!
//! # Tests
//! `tests/corpus/*.txt` holds queries with the printed form or the rendered error (`UPDATE_GOLDEN=1` rewrites them);
//! `tests/it/` runs them, and checks that random trees survive printing. The fuzz target is `fuzz/fuzz_targets/traceql.rs`.

mod error;
mod field;
mod intrinsic;
mod lexer;
mod literal;
mod meaning;
mod parse;
mod partial;
mod pattern;
mod print;
mod query;
mod source;
mod suggest;
mod token;
mod types;

pub use error::{ErrorKind, ParseError};
pub use field::{ArithmeticOp, Attribute, AttributeScope, ComparisonOp, FieldExpr, LogicalOp};
pub use intrinsic::Intrinsic;
pub use literal::{Kind, Static, Status};
pub use meaning::{Meaning, Shape, Unit};
pub use parse::parse;
pub use partial::conditions_of_unfinished;
pub use pattern::{PatternError, compile_pattern};
pub use query::{
    AggregateFunction, Hint, MetricsExpr, MetricsFunction, Pipeline, Query, QueryExpr, Relation, ScalarExpr,
    SecondStage, SpansetExpr, SpansetOp, Stage, StructuralMode,
};
pub use source::SourceRange;
pub use types::{ValueType, validate};

/// Longest query accepted, in bytes.
pub const QUERY_BYTES_MAX: usize = 64 * 1024;
/// Most levels a query's tree may have, so that it can be walked recursively. Chains of `&&` or `||` inside braces
/// are one level, however long.
pub const DEPTH_MAX: usize = 64;
/// Most stages of one pipeline besides filters: each costs a pass over the spans of every trace.
pub const STAGES_MAX: usize = 64;
/// Most quantiles of one `quantile_over_time()`: each is a line of every series.
pub const QUANTILES_MAX: usize = 32;
/// Most regular expressions in one query.
pub const PATTERNS_MAX: usize = 16;
/// Most memory one regular expression may take when compiled, in bytes: enough for an alternation of a thousand names,
/// which is what dashboards make of a list with everything chosen.
pub const PATTERN_COMPILED_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Most memory one regular expression may use for its cache when matching, in bytes per thread.
pub const PATTERN_CACHE_BYTES_MAX: usize = 1024 * 1024;
/// Most levels of groups in one regular expression.
pub const PATTERN_NESTING_MAX: u32 = 64;

/// Reads a query and checks that it can mean something.
pub fn compile(source: &str) -> Result<Query, ParseError> {
    let query = parse(source)?;
    validate(&query)?;
    Ok(query)
}
