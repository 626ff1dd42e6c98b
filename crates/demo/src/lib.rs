//! A simulated shop, "Aurora Goods", that sends real OTLP/gRPC with known problems in it.
//!
//! Entry: [`run`] with [`DemoOptions`]; the binary's `tracehouse demo` is a thin shell around it.
//!
//! Data flow: `rhythm` says when requests arrive; `simulate` turns each into spans by walking the tables of `shop`
//! on the instances of `fleet`, with the troubles of `problems`; `batch` packs what is due into export requests;
//! `send` delivers them; `facts` keeps the books and writes what was injected. `drive` holds the loop.
//!
//! Invariants:
//! - Generation is pure: the spans of a request depend on the seed, the timeline and the arrival alone. Only
//!   `clock` reads the time, and only `drive` asks it.
//! - Within a trace every parent exists, children lie within their parents (consumers of messages excepted), and
//!   ids are unique; exceptions to the first two are injected and counted.
//! - The facts name only traces of which every span was acknowledged.
//! - Personal data is made up from reserved domains and test card numbers.
//!
//! It must never know how the receiver stores or answers: it speaks OTLP and nothing else of Tracehouse.
//!
//! Tests: `tests/it`.

pub mod attribute;
pub mod batch;
pub mod clock;
mod drive;
pub mod facts;
pub mod fleet;
pub mod latency;
pub mod options;
pub mod problems;
pub mod randomness;
pub mod rhythm;
pub mod send;
pub mod shop;
pub mod simulate;

pub use drive::run;
pub use options::{DemoOptions, DemoSummary};
