//! What a span is about beside its name: the route or host that was called, the table, the topic.
//!
//! The names of client spans often say only how something was called (`GET`, `SELECT`). What was called stands in attributes, under
//! names that OpenTelemetry's semantic conventions give them (HTTP, database, messaging, RPC, functions), or gave them before.

use std::borrow::Cow;

use tracehouse_model::{AttributeValue, SeededMap, SpanBatch, StringCode, kind};

/// The attributes that say it. Of those with one meaning the newer name comes first.
pub(crate) const TARGET_KEYS: [&str; 24] = [
    "db.query.summary",
    "db.operation.name",
    "db.operation",
    "db.collection.name",
    "db.sql.table",
    "db.mongodb.collection",
    "db.query.text",
    "db.statement",
    "db.namespace",
    "db.name",
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
    "peer.service",
    "server.address",
    "net.peer.name",
];
// Where each meaning begins and ends among them.
const SUMMARY: Meaning = 0..1;
const OPERATION: Meaning = 1..3;
const COLLECTION: Meaning = 3..6;
const STATEMENT: Meaning = 6..8;
const NAMESPACE: Meaning = 8..10;
const DESTINATION: Meaning = 10..12;
const RPC_SERVICE: Meaning = 12..13;
const RPC_METHOD: Meaning = 13..14;
const PATH: Meaning = 14..18;
const URL: Meaning = 18..20;
const OTHER_PLACE: Meaning = 20..24;
const HOST: Meaning = 22..24;
type Meaning = std::ops::Range<usize>;

/// Longer ones are cut: they stand in a line.
const CHARACTERS_MAX: usize = 120;

/// What the spans of a batch are about: distinct texts, numbered from 0 in order of appearance.
pub struct Targets<'a> {
    spans: &'a SpanBatch,
    /// The places of keys in [`TARGET_KEYS`].
    keys: SeededMap<StringCode, usize>,
    texts: Vec<String>,
    known: SeededMap<(StringCode, Parts), Option<u32>>,
}

/// Of what a target is made. Missing parts are 0, the empty text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Parts {
    joined: Joined,
    first: StringCode,
    second: StringCode,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Joined {
    BySpace,
    BySlash,
    /// A host and a path.
    Directly,
    /// The host of a URL, and a path.
    HostOfUrl,
    /// A host, or else that of the URL, and the URL's path.
    PathOfUrl,
}

impl<'a> Targets<'a> {
    pub fn new(spans: &'a SpanBatch) -> Self {
        let place = |(place, key): (usize, &&str)| Some((spans.strings.find(key.as_bytes())?, place));
        let keys = TARGET_KEYS.iter().enumerate().filter_map(place).collect();
        Self { spans, keys, texts: Vec::new(), known: SeededMap::default() }
    }

    /// All that were met.
    pub fn texts(&self) -> &[String] {
        &self.texts
    }

    /// What a span is about; `None` if that is not known, or its name says it already.
    pub fn text(&mut self, row: usize) -> Option<&str> {
        let number = self.number(row)?;
        self.texts.get(number as usize).map(String::as_str)
    }

    /// The number of what a span is about; `None` if that is not known, or its name says it already.
    pub fn number(&mut self, row: usize) -> Option<u32> {
        if self.keys.is_empty() {
            return None;
        }
        let mut values: [StringCode; TARGET_KEYS.len()] = [0; TARGET_KEYS.len()];
        for (key, value) in self.spans.attributes.of(row) {
            if let (Some(place), AttributeValue::String(text)) = (self.keys.get(&key), value) {
                values[*place] = text;
            }
        }
        if self.spans.kind[row] == kind::SERVER {
            // Where it was called is where it is.
            values[HOST].fill(0);
            let has_path = values[PATH].iter().any(|path| *path != 0);
            values[URL].iter_mut().filter(|_| has_path).for_each(|url| *url = 0);
        }
        let (name, parts) = (self.spans.name[row], parts(&values)?);
        let (spans, texts) = (self.spans, &mut self.texts);
        *self.known.entry((name, parts)).or_insert_with(|| {
            let text = text(spans, spans.strings.get(name), parts)?;
            texts.push(text);
            Some(texts.len() as u32 - 1)
        })
    }
}

fn parts(values: &[StringCode; TARGET_KEYS.len()]) -> Option<Parts> {
    let of = |meaning: Meaning| values[meaning].iter().copied().find(|text| *text != 0).unwrap_or(0);
    let joined = |joined, first, second| (first != 0 || second != 0).then_some(Parts { joined, first, second });
    let alone = |meaning| joined(Joined::BySpace, of(meaning), 0);
    let database = || {
        let of_collection = || joined(Joined::BySpace, of(OPERATION), of(COLLECTION)).filter(|parts| parts.second != 0);
        let of_namespace = || joined(Joined::BySpace, of(OPERATION), of(NAMESPACE));
        alone(SUMMARY).or_else(of_collection).or_else(|| alone(STATEMENT)).or_else(of_namespace)
    };
    let http = || match (of(HOST), of(PATH), of(URL)) {
        (_, 0, 0) => None,
        (host, 0, url) => joined(Joined::PathOfUrl, host, url),
        (0, path, url) => joined(Joined::HostOfUrl, url, path),
        (host, path, _) => joined(Joined::Directly, host, path),
    };
    let rpc = || joined(Joined::BySlash, of(RPC_SERVICE), of(RPC_METHOD));
    database().or_else(|| alone(DESTINATION)).or_else(rpc).or_else(http).or_else(|| alone(OTHER_PLACE))
}

/// `None` if the name of the span says it already.
fn text(spans: &SpanBatch, name: &str, parts: Parts) -> Option<String> {
    let (first, second) = (spans.strings.get(parts.first), spans.strings.get(parts.second));
    let between = |between: &str| match (first, second) {
        ("", only) | (only, "") => Cow::Borrowed(only),
        _ => Cow::Owned(format!("{first}{between}{second}")),
    };
    let joined = match parts.joined {
        Joined::BySpace => between(" "),
        Joined::BySlash => between("/"),
        Joined::Directly => Cow::Owned(format!("{first}{}", without_query(second))),
        Joined::HostOfUrl => Cow::Owned(format!("{}{}", host_and_path(first).0, without_query(second))),
        Joined::PathOfUrl => {
            let (host, path) = host_and_path(second);
            Cow::Owned(format!("{}{path}", if first.is_empty() { host } else { first }))
        }
    };
    let line = in_a_line(&joined);
    let rest = line.strip_prefix(name).and_then(|rest| rest.strip_prefix(' ')).unwrap_or(&line);
    rest.split(' ').any(|word| !name.contains(word)).then(|| rest.to_owned())
}

/// What follows the path may name anybody.
fn without_query(path: &str) -> &str {
    path.split(['?', '#']).next().unwrap_or_default()
}

fn host_and_path(url: &str) -> (&str, &str) {
    let url = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (host, path) = url.split_at(url.find(['/', '?', '#']).unwrap_or(url.len()));
    // A user's name and password may stand before the host.
    (host.rsplit_once('@').map_or(host, |(_, host)| host), without_query(path))
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

#[cfg(test)]
mod tests {
    use tracehouse_model::{SpanFields, SpanId, TraceId};

    use super::*;

    fn shown(name: &str, attributes: &[(&str, &str)]) -> Option<String> {
        shown_of(kind::CLIENT, name, attributes)
    }

    fn shown_of(kind: u8, name: &str, attributes: &[(&str, &str)]) -> Option<String> {
        let mut spans = SpanBatch::new();
        let resource = spans.finish_resource(0, 0);
        let scope = spans.finish_scope(0, 0, 0, 0);
        for (key, value) in attributes {
            let (key, value) = (spans.strings.intern_str(key), spans.strings.intern_str(value));
            spans.attributes.push(key, AttributeValue::String(value));
        }
        let name = spans.strings.intern_str(name);
        let (trace_id, span_id) = (TraceId([1; 16]), SpanId([1; 8]));
        spans.finish_span(SpanFields { trace_id, span_id, name, kind, resource, scope, ..SpanFields::default() });
        let mut targets = Targets::new(&spans);
        let number = targets.number(0)?;
        assert_eq!(targets.number(0), Some(number), "the same again");
        targets.texts().get(number as usize).cloned()
    }

    type Case = (&'static str, &'static [(&'static str, &'static str)], Option<&'static str>);

    #[test]
    fn spans_are_about_what_they_call() {
        let cases: [Case; 16] = [
            ("GET", &[], None),
            ("GET", &[("http.request.method", "GET")], None),
            (
                "GET",
                &[("server.address", "cart"), ("url.full", "http://cart:80/items/7?user=me")],
                Some("cart/items/7"),
            ),
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
    fn a_server_is_where_it_was_called() {
        let attributes = [("server.address", "cart"), ("url.full", "http://cart/7"), ("http.route", "/{id}")];
        assert_eq!(shown_of(kind::SERVER, "GET", &attributes).as_deref(), Some("/{id}"));
        assert_eq!(shown_of(kind::SERVER, "GET /{id}", &attributes), None);
    }

    #[test]
    fn a_long_statement_is_cut() {
        let found = shown("query", &[("db.query.text", &"é ".repeat(1000))]).expect("a statement");
        assert_eq!((found.chars().count(), found.ends_with('…')), (CHARACTERS_MAX + 1, true));
    }
}
