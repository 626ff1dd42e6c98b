//! The receiver from outside: requests encoded by other implementations, decoded, served and answered.

mod grpc;
mod harness;
mod http;
mod json;
mod json_faults;
mod leftovers;
mod oracle;
mod proportion;
mod same_spans;
mod samples;
mod wire;
