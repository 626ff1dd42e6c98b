//! The format of span files: Parquet, with an index, names and a filter of traces of its own in the tail, each under a checksum.
//!
//! Entry types: [`SpanFileWriter`] writes spans that [`order_spans`] has put in order; [`OpenFile`] reads rows, columns and what the file
//! says of itself ([`FileContents`]). docs/files.md describes the format for other readers; [`Layout`] knows its versions.
//!
//! Invariants: a page, index or footer that was damaged is told ([`Damage`]) and costs what it holds; nothing is allocated for what a
//! file merely claims; files of every version that was ever written are read.
//!
//! This crate must never know the log, the catalogue, tenants or who asks.
//!
//! Tests: beside the code; every bit flipped in `flips`, any bytes as the parts of the tail in `any_bytes`.

#[cfg(any(test, feature = "fuzzing"))]
pub mod any_bytes;
mod attributes_columns;
mod batches;
mod chunk;
mod contents;
mod damage;
#[cfg(test)]
mod flips;
mod footer;
mod group;
mod hour;
mod hybrid;
mod index;
mod layout;
mod numbered;
mod older;
mod order;
mod page_filters;
mod page_header;
mod pages;
mod promote;
mod read;
mod rows;
#[cfg(any(test, feature = "fuzzing"))]
pub mod sample;
mod seal;
mod shape;
mod sought;
mod source;
mod spans;
mod summary;
mod trace_filter;
mod trace_rows;
mod traces;
mod value_filter;
mod write;

pub use batches::Batches;
pub use contents::{FileContents, KeyCount, NameList};
pub use damage::{Damage, Part, PartWatcher, is_damage};
pub use footer::Expected;
pub use hour::{NANOS_PER_HOUR, hour_of};
pub use layout::column;
pub use layout::{ColumnType, Layout, PromotedAttribute};
pub use numbered::{DistinctColumn, DistinctValues, NumberedColumn, RowsOfValues};
pub use order::{OrderedSpans, PARENT_OFFSET_MAX, RowRef, SeenSpans, order_spans};
pub use promote::AttributeCounts;
pub use read::KeptFile;
pub use read::{OpenFile, Projection, StringForm};
pub use rows::TreeIds;
pub use sought::{IntsOfRows, Sought};
pub use source::{FileSource, Handles};
pub use spans::SpanStream;
pub use summary::WrittenFile;
pub use trace_filter::TraceFilter;
pub use trace_rows::TraceRows;
pub use write::{FileIdentity, MergedStrings, Packing, ROWS_PER_ROW_GROUP, SpanFileWriter};
