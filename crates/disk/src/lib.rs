//! The way to the disk: the one way to open a file ([`open_regular`], [`open_to_read`]), and every step that changes what is on a disk
//! ([`Disk`]), each of which tests can make fail.
//!
//! Invariants: what is opened is a file; nothing waits for a pipe or a device; folders and files are their owner's alone; an error says
//! which path it is about and what a person can do.
//!
//! This crate must never know what is in the files.
//!
//! Tests: beside the code; what the store makes of failing steps is tested there.

mod regular;
mod steps;

pub use regular::{
    NoFile, is_absent, open_again, open_new, open_regular, open_to_read, what_is_no_file, what_is_no_folder,
    what_reading_tells,
};
pub use steps::{Disk, DiskError, DiskFaults, DiskFile, DiskStep, NeededFolder};
