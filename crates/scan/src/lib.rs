//! What every question reads stored spans with: which files, which row groups, which rows, and within what bounds.
//!
//! Entry types: [`Bounds`], what one question may use (time, threads, memory, bytes read; memory comes from a [`Pool`] that
//! all questions share); [`Reach`], how much of what the question asks for could be read; [`each_row_group`], which opens
//! files one after the other as threads get to them and closes them again; [`RowGroup`], which decides for which rows a
//! condition holds and reads columns of them.
//!
//! A language has its conditions as a [`Field`] and a [`Test`] of values. Here is decided, the same way for all languages,
//! which files and row groups a test rules out ([`may_hold`]), where a file has the field's values, and for which rows the test
//! holds ([`RowGroup::holding`]): once for each distinct value where the file numbers them. Attributes without columns of their own
//! are read once for all conditions that need them ([`RowGroup::decide_together`]), and for all fields that are asked for
//! ([`AttributesOf`]).
//!
//! The one rule for what cannot be read: it costs what it holds and nothing else. A piece of work that fails is done once
//! more over what is readable; if it fails again it is left out, named and counted, and the answer says `N of M`. No question
//! fails because of a file. An error of the machine (`EIO`, `EMFILE`, a missing file) condemns no file: it only leaves it out
//! of this answer.
//!
//! Invariants: there are at most as many open files as threads; memory is taken from the account before it is allocated,
//! wherever its size depends on what is stored or asked; a piece of work changes nothing before all it needs was read.
//!
//! This crate must never know query languages (what compares how, what a missing value means), HTTP, or how spans arrive.
//!
//! Tests: `tests/it`, over a real store; those of accounts beside their code.

mod blocks;
mod bounds;
mod by_value;
mod columns;
mod conditions;
mod effort;
mod ended;
mod fault;
mod field;
mod held;
mod keys;
mod pieces;
mod places;
mod reach;
mod rows;
mod window;

pub use bounds::{Bounds, Limits, Reading};
pub use columns::{ReadRows, selection_of, selection_of_range};
pub use conditions::{Prepared, Undecided};
pub use effort::{is_over, may_go_on};
pub use ended::EndedEarly;
pub use fault::{
    Contents, Fault, contents_of, may_contain, no_room, open, out_of_memory, read_rows, readable, row_bytes,
};
pub use field::{Field, OWN_ID, Owner, PARENT, Place, Values, ValuesOfRows};
pub use held::{Held, Reservation};
pub use keys::AttributesOf;
pub use pieces::{Done, Piece, each_row_group};
pub use places::{Places, TakenPlace};
pub use reach::{Part, Reach};
pub use rows::{Columns, RowGroup, Test, may_hold};
pub use tracehouse_memory::{Account, OutOfMemory, Pool};
pub use window::Window;
