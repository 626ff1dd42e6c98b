use tracehouse_query::Scope;

/// What a scope may be, for error texts.
pub(crate) const SCOPES: &str = "one of span, resource, instrumentation, event, link";

pub(crate) const NAMES: [(Scope, &str); 5] = [
    (Scope::Span, "span"),
    (Scope::Resource, "resource"),
    (Scope::Instrumentation, "instrumentation"),
    (Scope::Event, "event"),
    (Scope::Link, "link"),
];

pub(crate) fn parse_scope(name: &str) -> Option<Scope> {
    NAMES.into_iter().find(|(_, known)| *known == name).map(|(scope, _)| scope)
}

pub(crate) fn scope_name(scope: Scope) -> &'static str {
    NAMES.into_iter().find(|(known, _)| *known == scope).map_or("either", |(_, name)| name)
}
