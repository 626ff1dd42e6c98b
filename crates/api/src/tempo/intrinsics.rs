//! The fields that every span has by itself, as Grafana offers them for completion.

use tracehouse_traceql::Intrinsic;

/// Where the values come from that are offered for a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Values {
    SpanNames,
    /// Those of the field itself.
    OfField(Intrinsic),
    Keywords(&'static [&'static str]),
    /// Too many or too continuous to be offered.
    NotOffered,
}

const STATUSES: Values = Values::Keywords(&["error", "ok", "unset"]);
const KINDS: Values = Values::Keywords(&["client", "consumer", "internal", "producer", "server", "unspecified"]);

/// In alphabetical order.
pub(super) const INTRINSICS: [(&str, Values); 25] = [
    ("duration", Values::NotOffered),
    ("event:name", Values::OfField(Intrinsic::EventName)),
    ("event:timeSinceStart", Values::NotOffered),
    ("instrumentation:name", Values::OfField(Intrinsic::InstrumentationName)),
    ("instrumentation:version", Values::OfField(Intrinsic::InstrumentationVersion)),
    ("kind", KINDS),
    ("link:spanID", Values::NotOffered),
    ("link:traceID", Values::NotOffered),
    ("name", Values::SpanNames),
    ("rootName", Values::OfField(Intrinsic::TraceRootName)),
    ("rootServiceName", Values::OfField(Intrinsic::TraceRootService)),
    ("span:duration", Values::NotOffered),
    ("span:id", Values::NotOffered),
    ("span:kind", KINDS),
    ("span:name", Values::SpanNames),
    ("span:parentID", Values::NotOffered),
    ("span:status", STATUSES),
    ("span:statusMessage", Values::OfField(Intrinsic::StatusMessage)),
    ("status", STATUSES),
    ("statusMessage", Values::OfField(Intrinsic::StatusMessage)),
    ("trace:duration", Values::NotOffered),
    ("trace:id", Values::NotOffered),
    ("trace:rootName", Values::OfField(Intrinsic::TraceRootName)),
    ("trace:rootService", Values::OfField(Intrinsic::TraceRootService)),
    ("traceDuration", Values::NotOffered),
];

/// Fields that are not listed, as in Tempo, but have values.
const UNLISTED: [(&str, Values); 4] = [
    ("childCount", Values::OfField(Intrinsic::ChildCount)),
    ("root.name", Values::OfField(Intrinsic::TraceRootName)),
    ("root.service.name", Values::OfField(Intrinsic::TraceRootService)),
    ("span:childCount", Values::OfField(Intrinsic::ChildCount)),
];

pub(super) fn values_of(name: &str) -> Option<Values> {
    let mut all = INTRINSICS.into_iter().chain(UNLISTED);
    all.find(|(known, _)| *known == name).map(|(_, values)| values)
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
