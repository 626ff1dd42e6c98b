//! What a span is about beside its name: the route or host that was called, the table, the topic.
//!
//! The names of client spans often say only how something was called (`GET`, `SELECT`). What was called stands in attributes, under
//! names that OpenTelemetry's semantic conventions give them (HTTP, database, messaging, RPC, functions), or gave them before.

use std::borrow::Cow;

use tracehouse_model::{AttributeValue, SpanBatch, StringCode};

/// The attributes that say it, the newer name before the older.
pub(crate) const TARGET_KEYS: [&str; KEYS] = [
    "db.query.summary",
    "db.operation.name",
    "db.operation",
    "db.collection.name",
    "db.sql.table",
    "db.mongodb.collection",
    "db.namespace",
    "db.name",
    "db.query.text",
    "db.statement",
    "messaging.destination.name",
    "messaging.destination",
    "rpc.service",
    "rpc.method",
    "http.route",
    "url.template",
    "url.path",
    "http.target",
    "url.full",
    "http.url",
    "faas.invoked_name",
    "server.address",
    "net.peer.name",
    "peer.service",
];

const KEYS: usize = 24;

/// Longer ones are cut: they stand in a line.
const CHARACTERS_MAX: usize = 120;

/// The attributes of a batch that say what its spans are about.
pub struct Targets<'a> {
    spans: &'a SpanBatch,
    /// Of [`TARGET_KEYS`]; `None` if the batch has no such key.
    codes: [Option<StringCode>; KEYS],
}

impl<'a> Targets<'a> {
    pub fn new(spans: &'a SpanBatch) -> Self {
        Self { spans, codes: TARGET_KEYS.map(|key| spans.strings.find(key.as_bytes())) }
    }

    /// What a span is about, unless its name says so already.
    pub fn of(&self, row: usize) -> Option<String> {
        if self.codes.iter().all(Option::is_none) {
            return None;
        }
        let name = self.spans.strings.get(self.spans.name[row]);
        let target = target(|keys| keys.iter().find_map(|key| self.text(row, key)))?;
        let is_new = |word: &str| !name.contains(word);
        target.split_whitespace().any(is_new).then(|| without(name, &target)).filter(|target| !target.is_empty())
    }

    fn text(&self, row: usize, key: &str) -> Option<&'a str> {
        let code = self.codes[TARGET_KEYS.iter().position(|known| *known == key)?]?;
        match self.spans.attributes.get(row, code)? {
            AttributeValue::String(text) if text != 0 => Some(self.spans.strings.get(text)),
            _ => None,
        }
    }
}

/// Takes the value of the first attribute of a list that a span has.
fn target<'a>(of: impl Fn(&[&str]) -> Option<&'a str>) -> Option<String> {
    let target = database(&of)
        .or_else(|| of(&["messaging.destination.name", "messaging.destination"]).map(Cow::Borrowed))
        .or_else(|| both(of(&["rpc.service"]), of(&["rpc.method"]), "/"))
        .or_else(|| http(&of))
        .or_else(|| of(&["faas.invoked_name", "peer.service", "server.address", "net.peer.name"]).map(Cow::Borrowed))?;
    Some(in_a_line(&target))
}

/// `SELECT orders`, or the beginning of the statement.
fn database<'a>(of: &impl Fn(&[&str]) -> Option<&'a str>) -> Option<Cow<'a, str>> {
    let summary = || of(&["db.query.summary"]).map(Cow::Borrowed);
    let operation = of(&["db.operation.name", "db.operation"]);
    let collection = of(&["db.collection.name", "db.sql.table", "db.mongodb.collection"]);
    let named = || collection.and_then(|collection| both(operation, Some(collection), " "));
    let statement = || of(&["db.query.text", "db.statement"]).map(Cow::Borrowed);
    summary().or_else(named).or_else(statement).or_else(|| both(operation, of(&["db.namespace", "db.name"]), " "))
}

/// The route; else where it was called, and the path without what follows it, which may name anybody.
fn http<'a>(of: &impl Fn(&[&str]) -> Option<&'a str>) -> Option<Cow<'a, str>> {
    let url = of(&["url.full", "http.url"]).map(|url| url.split_once("://").map_or(url, |(_, rest)| rest));
    let (host, path) = url.map_or((None, None), |url| match url.find(['/', '?', '#']) {
        Some(at) => (Some(&url[..at]), Some(&url[at..])),
        None => (Some(url), None),
    });
    // A user's name and password may stand before it.
    let host = host.map(|host| host.rsplit_once('@').map_or(host, |(_, host)| host));
    let route = of(&["http.route", "url.template"]);
    let path = route.or_else(|| of(&["url.path", "http.target"])).or(path);
    let path = path.map(|path| path.split(['?', '#']).next().unwrap_or_default());
    let host = of(&["server.address", "net.peer.name"]).or(host);
    match path.filter(|path| !path.is_empty()) {
        Some(path) => both(host, Some(path), ""),
        None => url.and(host).map(Cow::Borrowed),
    }
}

fn both<'a>(first: Option<&'a str>, second: Option<&'a str>, between: &str) -> Option<Cow<'a, str>> {
    match (first, second) {
        (Some(first), Some(second)) => Some(Cow::Owned(format!("{first}{between}{second}"))),
        (Some(only), None) | (None, Some(only)) => Some(Cow::Borrowed(only)),
        (None, None) => None,
    }
}

/// Without line breaks, and not endless.
fn in_a_line(text: &str) -> String {
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if let Some((end, _)) = line.char_indices().nth(CHARACTERS_MAX) {
            line.truncate(end);
            line.push('…');
            break;
        }
    }
    line
}

/// A target that goes on where the name ends is shown without what the name says: `GET`, of `GET /cart`.
fn without(name: &str, target: &str) -> String {
    target.strip_prefix(name).filter(|rest| rest.starts_with(' ')).unwrap_or(target).trim_start().to_owned()
}

#[cfg(test)]
mod tests {
    use tracehouse_model::{AnyValue, SpanFields, SpanId, TraceId};

    use super::*;

    fn shown(name: &str, attributes: &[(&str, &str)]) -> Option<String> {
        let mut spans = SpanBatch::default();
        let fields = SpanFields { trace_id: TraceId([1; 16]), span_id: SpanId([1; 8]), name, ..SpanFields::default() };
        let mut builder = spans.span(fields);
        for (key, value) in attributes {
            builder.attribute(key, &AnyValue::String((*value).to_owned()));
        }
        builder.finish();
        Targets::new(&spans).of(0)
    }

    #[test]
    fn spans_are_about_what_they_call() {
        let cases: [(&str, &[(&str, &str)], Option<&str>); 16] = [
            ("GET", &[], None),
            ("GET", &[("http.request.method", "GET")], None),
            ("GET", &[("server.address", "cart"), ("url.full", "http://cart:80/items/7?user=me")], Some("cart/items/7")),
            ("GET", &[("http.url", "https://me:secret@cart/items")], Some("cart/items")),
            ("GET", &[("url.full", "http://cart?user=me")], Some("cart")),
            ("GET", &[("server.address", "cart")], Some("cart")),
            ("GET /cart", &[("http.route", "/cart")], None),
            ("GET", &[("http.route", "/cart/{id}"), ("url.path", "/cart/7")], Some("/cart/{id}")),
            ("SELECT", &[("db.operation.name", "SELECT"), ("db.collection.name", "orders")], Some("orders")),
            ("SELECT orders", &[("db.operation.name", "SELECT"), ("db.collection.name", "orders")], None),
            ("query", &[("db.statement", "SELECT *\n  FROM   orders")], Some("SELECT * FROM orders")),
            ("redis", &[("db.operation", "GET"), ("db.namespace", "0")], Some("GET 0")),
            ("publish", &[("messaging.destination.name", "orders"), ("server.address", "kafka")], Some("orders")),
            ("call", &[("rpc.service", "Cart"), ("rpc.method", "Add")], Some("Cart/Add")),
            ("Cart/Add", &[("rpc.service", "Cart"), ("rpc.method", "Add")], None),
            ("invoke", &[("faas.invoked_name", "resize")], Some("resize")),
        ];
        for (name, attributes, expected) in cases {
            assert_eq!(shown(name, attributes).as_deref(), expected, "{name} {attributes:?}");
        }
    }

    #[test]
    fn a_long_statement_is_cut() {
        let found = shown("query", &[("db.query.text", &"é ".repeat(1000))]).expect("a statement");
        assert_eq!((found.chars().count(), found.ends_with('…')), (CHARACTERS_MAX + 1, true));
    }
}
