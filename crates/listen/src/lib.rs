//! The connections of every port, and who may use them.
//!
//! Entry type: [`Port`], whose [`Port::serve`] answers with a router on a listener until it is told to stop: HTTP/1.1 and
//! HTTP/2, without TLS. The way of a connection: [`serve`] accepts it, [`connections`] gives it a place and makes room when
//! there are few, [`preface`] tells which protocol it speaks, [`connection`] drives it. The way of a request on it:
//! [`reception`] has [`sites`] judge it (by [`origin_pattern`] where a browser asks for a page) and [`exchange`] record it until the last byte of its answer is written;
//! [`request_body`] is what the router reads, [`answer_body`] what it gives, counted by [`unread`]; what requests hold besides is
//! counted by [`begun`], which makes room among them.
//!
//! Invariants: whatever a peer does or leaves undone ends in bounded time, and ends nothing but the request it concerns where
//! the protocol allows that; what peers have not taken of their answers is bounded for each connection, each port and the
//! process before it is made, and so is what requests hold that wait for them; a port with few places left closes
//! connections whose peers owe something or are at rest, never one that the server works for; connections never take the
//! file handles that the store needs; a fault that repeats is written to the log once with a count.
//!
//! One contract with routers: who compresses an answer puts the [`SizeHint`](http_body::SizeHint) it had before among the
//! response's extensions, so that what is in memory is counted and not what is sent.
//!
//! This crate must never know what is asked or answered, nor any other crate of the workspace.
//!
//! Tests: beside the code, with time that tests move by hand (looks); `tests/e2e/test_connections.py` and
//! `test_other_sites.py` of the repository with real sockets.

mod answer_body;
mod begun;
mod connection;
mod connections;
mod exchange;
mod handles;
mod origin_pattern;
mod patience;
mod preface;
mod reception;
mod refusal;
mod repeated;
mod request_body;
mod serve;
mod sites;
mod unread;

pub use handles::raise_handle_limit;
pub use origin_pattern::{OriginPattern, PatternError};
pub use serve::Port;
pub use sites::{AllowedHeaders, AllowedHeadersError, Sites};
