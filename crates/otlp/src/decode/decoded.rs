use std::fmt::{self, Write};

use tracehouse_model::SpanBatch;

/// What a request held.
#[derive(Default)]
pub struct Decoded {
    pub batch: SpanBatch,
    pub rejected: Rejections,
    /// Attribute values, names and other texts that were longer than the limit and were cut.
    pub values_cut: u64,
}

/// The request cannot be read; nothing of it was taken. The sender must not send it again.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    #[error("the request is not an ExportTraceServiceRequest in protobuf: {0}")]
    Protobuf(#[from] WireError),
    #[error("the request is not an ExportTraceServiceRequest in JSON: {0}")]
    Json(String),
    #[error("the request has {0} bytes, more than can be decoded at once")]
    TooLarge(usize),
    #[error("the request is out of proportion: {0}")]
    Excess(#[from] Excess),
}

/// How a readable request, small enough as it came, would take too much work or memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Excess {
    #[error("more than {parts_max} of its parts hold nothing that is kept")]
    Parts { parts_max: u32 },
    #[error("its spans take more than {bytes_max} bytes in memory; send smaller batches")]
    Memory { bytes_max: usize },
}

/// How bytes fail to be a protobuf message. Source: <https://protobuf.dev/programming-guides/encoding/>.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    #[error("it ends in the middle of a field")]
    Truncated,
    #[error("a varint is longer than 10 bytes")]
    Varint,
    #[error("a field has number 0 or a number above the maximum")]
    FieldNumber,
    #[error("a field has a wire type that does not exist or is a group")]
    WireType,
    /// Which, [`DecodeError::Excess`] says: this type stays one byte, as every field that is read returns it.
    #[error("it holds more than a request may")]
    Excess,
}

impl From<Excess> for WireError {
    fn from(_: Excess) -> Self {
        Self::Excess
    }
}

/// Why a single span was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RejectReason {
    TraceId,
    SpanId,
    ParentSpanId,
    NoStart,
    TimeRange,
    /// In JSON: a value that its field can't have.
    Field,
}

impl RejectReason {
    pub const ALL: [RejectReason; 6] =
        [Self::TraceId, Self::SpanId, Self::ParentSpanId, Self::NoStart, Self::TimeRange, Self::Field];

    /// The value of the `reason` label of metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::TraceId => "trace_id",
            Self::SpanId => "span_id",
            Self::ParentSpanId => "parent_span_id",
            Self::NoStart => "no_start",
            Self::TimeRange => "time_range",
            Self::Field => "field",
        }
    }

    fn explanation(self) -> &'static str {
        match self {
            Self::TraceId => "the trace id is not 16 bytes or is all zero",
            Self::SpanId => "the span id is not 8 bytes or is all zero",
            Self::ParentSpanId => "the parent span id is neither absent nor 8 bytes",
            Self::NoStart => "the start time is missing",
            Self::TimeRange => "a time is later than the year 2262",
            Self::Field => "a field has a wrong value",
        }
    }
}

/// A value that its field can't have; what it is, is not said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) field: &'static str,
    pub(crate) found: &'static str,
    pub(crate) expected: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, found, expected } = self;
        write!(formatter, "{field} is {found}, not {expected}")
    }
}

/// The spans of a request that were refused, by reason, and what was left out of those that were kept because it had a wrong
/// value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rejections {
    counts: [u64; RejectReason::ALL.len()],
    first: [u64; RejectReason::ALL.len()],
    first_fault: Option<Fault>,
    attributes: LeftOut,
    owner_fields: LeftOut,
}

/// How many things of a kind were left out, and words for the first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    pub(crate) count: u64,
    pub(crate) first: String,
}

impl LeftOut {
    /// Only of the first one words are made.
    pub(crate) fn add(&mut self, words: impl FnOnce() -> String) {
        if self.count == 0 {
            self.first = words();
        }
        self.count += 1;
    }

    fn append(&mut self, other: LeftOut) {
        if self.count == 0 {
            self.first = other.first;
        }
        self.count += other.count;
    }
}

impl Rejections {
    /// `position` is the number of the span in the request, from 0.
    pub fn add(&mut self, reason: RejectReason, position: u64) {
        let at = reason as usize;
        if self.counts[at] == 0 {
            self.first[at] = position;
        }
        self.counts[at] += 1;
    }

    pub(crate) fn add_fault(&mut self, fault: &Fault, position: u64) {
        self.first_fault.get_or_insert(*fault);
        self.add(RejectReason::Field, position);
    }

    pub(crate) fn add_attributes(&mut self, left_out: LeftOut) {
        self.attributes.append(left_out);
    }

    /// Adds a wrong value of a resource or a scope; `words` name it.
    pub(crate) fn add_owner_field(&mut self, words: impl FnOnce() -> String) {
        self.owner_fields.add(words);
    }

    /// How many spans were refused.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    pub fn by_reason(&self) -> impl Iterator<Item = (RejectReason, u64)> + '_ {
        RejectReason::ALL.into_iter().zip(self.counts).filter(|(_, count)| *count > 0)
    }

    /// How many attributes of spans that were kept were left out because their values were wrong.
    pub fn wrong_attributes(&self) -> u64 {
        self.attributes.count
    }

    /// How many fields of resources and scopes were left out because their values were wrong.
    pub fn wrong_owner_fields(&self) -> u64 {
        self.owner_fields.count
    }

    /// Words for the sender; empty if nothing was refused or left out.
    pub fn message(&self) -> String {
        let mut parts = Vec::new();
        for (reason, count) in self.by_reason() {
            let (explanation, first) = (reason.explanation(), self.first[reason as usize]);
            let mut part = format!(
                "{count} {} refused because {explanation} (first: span {first} of the request",
                if count == 1 { "span" } else { "spans" }
            );
            if let (RejectReason::Field, Some(fault)) = (reason, &self.first_fault) {
                write!(part, ", where {fault}").expect("writing to a String cannot fail");
            }
            parts.push(part + ")");
        }
        let owner_fields = ["field of a resource or scope", "fields of resources or scopes"];
        for (left_out, words) in [(&self.attributes, ["attribute", "attributes"]), (&self.owner_fields, owner_fields)] {
            let LeftOut { count, first } = left_out;
            if *count > 0 {
                let [one, many] = words;
                let what = if *count == 1 { one } else { many };
                parts.push(format!("{count} {what} left out because of a wrong value (first: {first})"));
            }
        }
        parts.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_names_each_reason_once() {
        let mut rejections = Rejections::default();
        assert_eq!(rejections.message(), "");
        rejections.add(RejectReason::NoStart, 7);
        rejections.add(RejectReason::TraceId, 2);
        rejections.add(RejectReason::TraceId, 9);
        assert_eq!(rejections.count(), 3);
        assert_eq!(
            rejections.message(),
            "2 spans refused because the trace id is not 16 bytes or is all zero (first: span 2 of the request); \
             1 span refused because the start time is missing (first: span 7 of the request)"
        );
    }
}
