//! Parquet files of spans: their columns, how they are written and read.

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
mod hybrid;
mod index;
mod layout;
mod numbered;
mod older;
mod order;
mod page_header;
mod pages;
mod promote;
mod read;
mod rows;
mod seal;
mod shape;
mod source;
mod spans;
mod summary;
mod trace_filter;
mod trace_rows;
mod traces;
mod write;

pub use batches::Batches;
pub use contents::{FileContents, KeyCount, NameList};
pub use damage::{Damage, is_damage};
pub(crate) use footer::Expected;
pub(crate) use layout::column;
pub use layout::{ColumnType, Layout, PromotedAttribute};
pub use numbered::{DistinctColumn, DistinctValues, NumberedColumn};
pub(crate) use order::{OrderedSpans, RowRef, SeenSpans, order_spans};
pub(crate) use promote::AttributeCounts;
pub(crate) use read::KeptFile;
pub use read::{OpenFile, Projection, StringForm};
pub use rows::TreeIds;
pub(crate) use source::{FileSource, Handles};
pub(crate) use spans::SpanStream;
pub(crate) use summary::WrittenFile;
pub(crate) use trace_filter::TraceFilter;
pub use trace_rows::TraceRows;
pub(crate) use write::{FileIdentity, MergedStrings, Packing, ROWS_PER_ROW_GROUP, SpanFileWriter};
