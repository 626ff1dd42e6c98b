//! SQL over spans: read-only statements against the tables `spans`, `traces`, `events` and `links` of one tenant.
//!
//! Entry type: [`SqlEngine`]. A statement is parsed and checked (`statement`), planned and optimised by Apache
//! DataFusion, and run over one snapshot of the store on threads of the engine's own (`engine`). The tables are read by
//! our own scan: `tables` says which columns there are, `plan` fits the scan into DataFusion, `scan` reads memory and
//! files.
//!
//! How `attr('http.route')` is fast: the parser's tree is rewritten to `attr(attributes, resource_attributes,
//! 'http.route')`, a function over two columns that exist, right wherever it is evaluated but slow, as those two are
//! texts of JSON. DataFusion moves such a call down to the scan, where `plan::attribute_rule` replaces it by a column that
//! only the scan knows, and that is read from the attribute's own column in the files. Filters come to the scan whole:
//! it decides them column by column and reads the other columns only for the rows that are left.
//!
//! What bounds a statement: `size` refuses one whose plan would be too large, before anything is planned; rows that are
//! gathered take their memory from the pool of all queries; `limits` bounds what one call of a function makes of one batch and
//! how long it computes, and `plan::guard` what operators give to each other. Between its steps everything asks the
//! statement's `watch` whether to go on: rules of the planner, scans, operators, calls. The watch knows the time, whether anybody
//! waits, and what the statement's threads have allocated by the allocator's count. Each statement has threads of its own, so
//! that one whose time is up while it computes holds up no other.
//!
//! Invariants: nothing is written, and nothing but the tenant's spans can be read; memory, time, threads and the size
//! of an answer are bounded; an answer that is not whole says so.
//!
//! This crate must never know HTTP, Arrow Flight, or how spans arrive.
//!
//! Tests: `tests/it` runs SQL over memory, files and both, against answers worked out by hand.

mod aggregates;
mod answer;
mod engine;
mod error;
mod exact;
mod functions;
mod ids;
mod keys;
mod limits;
mod plan;
mod rewriting;
mod scan;
mod size;
mod statement;
mod tables;
mod threads;
mod watch;

pub use engine::{SqlAnswer, SqlEngine, SqlLimits, SqlRequest};
pub use error::SqlError;
pub use scan::Scanned;
pub use tables::TABLES;
