//! The fields that every span has by itself, as Grafana offers them for completion.

use tracehouse_traceql::Intrinsic;

/// Where the values come from that are offered for a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Values {
    SpanNames,
    /// Those of the field itself.
    Texts(Intrinsic),
    Keywords(&'static [&'static str]),
    /// Too many or too continuous to be offered.
    NotOffered,
}

const STATUSES: Values = Values::Keywords(&["error", "ok", "unset"]);
const KINDS: Values = Values::Keywords(&["client", "consumer", "internal", "producer", "server", "unspecified"]);

/// In alphabetical order.
pub(super) const INTRINSICS: [(&str, Values); 25] = [
    ("duration", Values::NotOffered),
    ("event:name", Values::Texts(Intrinsic::EventName)),
    ("event:timeSinceStart", Values::NotOffered),
    ("instrumentation:name", Values::Texts(Intrinsic::InstrumentationName)),
    ("instrumentation:version", Values::Texts(Intrinsic::InstrumentationVersion)),
    ("kind", KINDS),
    ("link:spanID", Values::NotOffered),
    ("link:traceID", Values::NotOffered),
    ("name", Values::SpanNames),
    ("rootName", Values::Texts(Intrinsic::TraceRootName)),
    ("rootServiceName", Values::Texts(Intrinsic::TraceRootService)),
    ("span:duration", Values::NotOffered),
    ("span:id", Values::NotOffered),
    ("span:kind", KINDS),
    ("span:name", Values::SpanNames),
    ("span:parentID", Values::NotOffered),
    ("span:status", STATUSES),
    ("span:statusMessage", Values::Texts(Intrinsic::StatusMessage)),
    ("status", STATUSES),
    ("statusMessage", Values::Texts(Intrinsic::StatusMessage)),
    ("trace:duration", Values::NotOffered),
    ("trace:id", Values::NotOffered),
    ("trace:rootName", Values::Texts(Intrinsic::TraceRootName)),
    ("trace:rootService", Values::Texts(Intrinsic::TraceRootService)),
    ("traceDuration", Values::NotOffered),
];

pub(super) fn values_of(name: &str) -> Option<Values> {
    INTRINSICS.into_iter().find(|(known, _)| *known == name).map(|(_, values)| values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order() {
        assert!(INTRINSICS.iter().map(|(name, _)| name).is_sorted());
        assert_eq!(values_of("status"), Some(STATUSES));
        assert_eq!(values_of("nothing"), None);
    }
}
