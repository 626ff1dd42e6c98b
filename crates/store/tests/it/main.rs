//! The store from the outside: what goes in comes out, exactly once, whatever happens in between.

mod big;
mod copies;
mod crash;
mod file_damage;
mod full_disk;
mod histories;
mod log_damage;
mod pressure;
mod retention;
mod round_trip;
#[path = "../../../model/tests/it/spans.rs"]
mod spans;
mod world;
