//! The store from the outside: what goes in comes out, exactly once, whatever happens in between.

mod background;
mod big;
mod carried;
mod clock;
mod copies;
mod crash;
mod decider;
mod deletion;
mod disk_faults;
mod dropped_commits;
mod file_damage;
mod full_disk;
mod histories;
mod hot_index;
mod leftovers;
mod log_damage;
mod log_faults;
mod log_lost;
mod lost_rows;
mod no_files;
mod power_cut;
mod pressure;
mod removed_folders;
mod retention;
mod round_trip;
mod saved_queries;
mod shared_ids;
mod simulation;
#[path = "../../../model/tests/it/spans.rs"]
mod spans;
mod start;
mod tables;
mod two_writers;
mod world;
