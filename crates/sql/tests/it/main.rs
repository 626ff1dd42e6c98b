//! SQL over spans in memory, in files and in both, against answers worked out by hand; what is read; what is refused.

mod amounts;
mod answers;
mod limits;
mod page;
mod pushdown;
mod shop;
