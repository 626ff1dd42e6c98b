/// What one request, span or trace may hold, and all together. Exceeding a limit is always counted and always said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest request as sent, in bytes.
    pub request_bytes_max: usize,
    /// Largest request after decompression, in bytes.
    pub decompressed_bytes_max: usize,
    /// A longer attribute value is cut (at a character) and the span marked.
    pub attribute_value_bytes_max: usize,
    /// Further attributes of a span are dropped and added to its dropped count.
    pub attributes_per_span_max: usize,
    /// Further events (and, apart, links) of a span are dropped and added to its dropped counts.
    pub events_per_span_max: usize,
    pub links_per_span_max: usize,
    /// Longest span name, status message, trace state or attribute key, in bytes.
    pub name_bytes_max: usize,
    /// Deepest nesting of arrays and key-value lists inside a value; an attribute nested deeper is dropped and counted.
    pub value_depth_max: usize,
    /// Further spans of a trace are refused.
    pub spans_per_trace_max: usize,
    /// Spans of further tenants are refused, unless the tenants are configured.
    pub tenants_max: usize,
    /// Bytes of requests being worked on at once; above it senders are asked to come back. One tenant may hold half of it
    /// while others send.
    pub in_flight_bytes_max: usize,
    /// A span may not begin further in the future than this, in nanoseconds.
    pub future_nanos_max: i64,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            request_bytes_max: 16 * MIB,
            decompressed_bytes_max: 64 * MIB,
            attribute_value_bytes_max: 16 * 1024,
            attributes_per_span_max: 256,
            events_per_span_max: 1024,
            links_per_span_max: 1024,
            name_bytes_max: 4096,
            value_depth_max: 16,
            spans_per_trace_max: 1_000_000,
            tenants_max: 1_000,
            in_flight_bytes_max: 96 * MIB,
            future_nanos_max: 24 * 3600 * 1_000_000_000,
        }
    }
}
