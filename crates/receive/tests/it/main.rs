//! The receiver from outside: requests encoded by other implementations, decoded, served and answered.

mod grpc;
mod harness;
mod http;
mod samples;
