//! The same questions asked of spans in memory, in flushed files and in merged files, against a slow and obvious answer.

mod allocations;
mod arrivals;
mod corpus;
mod documentation;
mod filtered;
mod keys;
mod limits;
mod memory;
mod names;
mod no_numbers;
mod pages;
mod random;
mod reference;
mod searches;
mod services;
mod several;
mod shared_ids;
mod shop;
mod together;
mod traces;
mod unreadable;
mod wild;
mod windows;
