//! The receiver from outside: requests encoded by other implementations, decoded, served and answered.

mod grpc;
mod harness;
mod http;
#[path = "../../../otlp/tests/it/samples.rs"]
mod samples;
