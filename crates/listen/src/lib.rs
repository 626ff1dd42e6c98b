//! The connections of every port, and who may use them.
//!
//! Entry type: [`Port`], whose [`Port::serve`] answers with a router on a listener until it is told to stop: HTTP/1.1 and
//! HTTP/2, without TLS. The way of a connection: [`connections`] gives it a place or makes room for it; [`first_bytes`]
//! tells which protocol it speaks; [`patience`] ends it if its peer takes nothing; [`answers`] ends it if an answer waits
//! too long to be read, or too much waits; [`sites`] refuses requests that a page of another site made.
//!
//! Invariants: whatever a peer does or leaves undone ends in bounded time; a port that is full closes the connection that
//! has been idle longest before it refuses a new one; connections never take the file handles that the store needs; a
//! fault that repeats is written to the log once with a count.
//!
//! This crate must never know what is asked or answered, nor any other crate of the workspace.
//!
//! Tests: beside the code; `tests/e2e/test_connections.py` and `test_other_sites.py` of the repository with real sockets.

mod answers;
mod connections;
mod first_bytes;
mod handles;
mod patience;
mod repeated;
mod serve;
mod sites;

pub use handles::raise_handle_limit;
pub use serve::Port;
pub use sites::{OriginPattern, PatternError, Sites};
