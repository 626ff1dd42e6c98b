//! Whole-crate tests: the golden corpus, the printing property, and the limits.

mod corpus;
mod limits;
mod round_trip;
mod tree;
