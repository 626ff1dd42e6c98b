//! The fields every span has by itself, as opposed to attributes somebody attached to it.

use std::fmt;

use crate::types::ValueType;

/// A built-in field. Old unscoped spellings (`duration`, `rootName`) are read as aliases of the scoped ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Intrinsic {
    /// `span:name`
    Name,
    /// `span:duration`: end minus start of the span.
    Duration,
    /// `span:status`
    Status,
    /// `span:statusMessage`
    StatusMessage,
    /// `span:kind`
    Kind,
    /// `span:id`, lower-case hexadecimal.
    SpanId,
    /// `span:parentID`, lower-case hexadecimal.
    ParentId,
    /// `span:childCount`: number of direct children.
    ChildCount,
    /// `trace:id`, lower-case hexadecimal.
    TraceId,
    /// `trace:duration`: latest end minus earliest start over the trace's spans.
    TraceDuration,
    /// `trace:rootName`
    TraceRootName,
    /// `trace:rootService`
    TraceRootService,
    /// `event:name`
    EventName,
    /// `event:timeSinceStart`: time of the event minus start of its span.
    EventTimeSinceStart,
    /// `link:traceID`
    LinkTraceId,
    /// `link:spanID`
    LinkSpanId,
    /// `instrumentation:name`
    InstrumentationName,
    /// `instrumentation:version`
    InstrumentationVersion,
    /// `nestedSetLeft`: the span's entry number in a depth-first walk of the trace.
    NestedSetLeft,
    /// `nestedSetRight`: the span's exit number in that walk.
    NestedSetRight,
    /// `nestedSetParent`: the parent's `nestedSetLeft`; negative for a root.
    NestedSetParent,
    /// `parent`: the parent span as such; can only be compared with `nil`.
    Parent,
}

/// One row per intrinsic: the canonical name, the accepted unscoped alias, the type of its values.
const TABLE: &[(Intrinsic, &str, Option<&str>, ValueType)] = &[
    (Intrinsic::Name, "span:name", Some("name"), ValueType::String),
    (Intrinsic::Duration, "span:duration", Some("duration"), ValueType::Duration),
    (Intrinsic::Status, "span:status", Some("status"), ValueType::Status),
    (Intrinsic::StatusMessage, "span:statusMessage", Some("statusMessage"), ValueType::String),
    (Intrinsic::Kind, "span:kind", Some("kind"), ValueType::Kind),
    (Intrinsic::SpanId, "span:id", None, ValueType::String),
    (Intrinsic::ParentId, "span:parentID", None, ValueType::String),
    (Intrinsic::ChildCount, "span:childCount", Some("childCount"), ValueType::Int),
    (Intrinsic::TraceId, "trace:id", None, ValueType::String),
    (Intrinsic::TraceDuration, "trace:duration", Some("traceDuration"), ValueType::Duration),
    (Intrinsic::TraceRootName, "trace:rootName", Some("rootName"), ValueType::String),
    (Intrinsic::TraceRootService, "trace:rootService", Some("rootServiceName"), ValueType::String),
    (Intrinsic::EventName, "event:name", None, ValueType::String),
    (Intrinsic::EventTimeSinceStart, "event:timeSinceStart", None, ValueType::Duration),
    (Intrinsic::LinkTraceId, "link:traceID", None, ValueType::String),
    (Intrinsic::LinkSpanId, "link:spanID", None, ValueType::String),
    (Intrinsic::InstrumentationName, "instrumentation:name", None, ValueType::String),
    (Intrinsic::InstrumentationVersion, "instrumentation:version", None, ValueType::String),
    (Intrinsic::NestedSetLeft, "nestedSetLeft", Some("nestedSetLeft"), ValueType::Int),
    (Intrinsic::NestedSetRight, "nestedSetRight", Some("nestedSetRight"), ValueType::Int),
    (Intrinsic::NestedSetParent, "nestedSetParent", Some("nestedSetParent"), ValueType::Int),
    (Intrinsic::Parent, "parent", Some("parent"), ValueType::Span),
];

impl Intrinsic {
    /// Every intrinsic, for completion lists and tests.
    pub fn all() -> impl Iterator<Item = Intrinsic> {
        TABLE.iter().map(|row| row.0)
    }

    /// The canonical spelling, which the printer uses.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// What answers call it, as Tempo's do: the unscoped word if Tempo knows one, else the scoped name.
    pub fn short_name(self) -> &'static str {
        match self {
            // `childCount` alone is a spelling that Tempo does not have.
            Intrinsic::ChildCount => self.name(),
            _ => self.row().2.unwrap_or(self.row().1),
        }
    }

    pub fn value_type(self) -> ValueType {
        self.row().3
    }

    /// `duration`, `rootName`, …: words that stand alone.
    pub(crate) fn from_unscoped(word: &str) -> Option<Intrinsic> {
        TABLE.iter().find(|row| row.2 == Some(word)).map(|row| row.0)
    }

    /// `span:duration`, `trace:id`, …: with the scope and the colon.
    pub(crate) fn from_scoped(name: &str) -> Option<Intrinsic> {
        TABLE.iter().find(|row| row.1 == name && name.contains(':')).map(|row| row.0)
    }

    pub(crate) fn unscoped_names() -> impl Iterator<Item = &'static str> {
        TABLE.iter().filter_map(|row| row.2)
    }

    pub(crate) fn scoped_names() -> impl Iterator<Item = &'static str> {
        TABLE.iter().map(|row| row.1).filter(|name| name.contains(':'))
    }

    fn row(self) -> &'static (Intrinsic, &'static str, Option<&'static str>, ValueType) {
        TABLE.iter().find(|row| row.0 == self).expect("every intrinsic has a row in the table")
    }
}

impl fmt::Display for Intrinsic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
