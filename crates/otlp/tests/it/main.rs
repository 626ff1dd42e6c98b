//! Requests encoded by other implementations and by hand, decoded; and what was encoded, decoded again.

mod encoded;
mod json;
mod json_faults;
mod leftovers;
mod oracle;
mod proportion;
mod same_spans;
mod samples;
mod wire;
