//! The receiver from outside: requests encoded by other implementations, decoded, served and answered.

mod grpc;
mod harness;
mod http;
mod json;
mod leftovers;
mod oracle;
mod proportion;
mod samples;
mod wire;
