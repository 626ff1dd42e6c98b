//! The other side of a call, as its span's attributes tell.

use std::net::IpAddr;

use serde::Serialize;
use tracehouse_model::{AnyValue, SpanBatch, kind};
use tracehouse_query::{Condition, Operator, Scope};

use crate::whole::attributes;

const PEER_SERVICE: &str = "peer.service";
/// The server, on the span of who calls it. On the span of the server these name the server itself.
const SERVER_ADDRESS: [&str; 2] = ["server.address", "net.peer.name"];
const SERVER_PORT: [&str; 1] = ["server.port"];
/// The peer on the network.
const PEER_ADDRESS: [&str; 3] = ["network.peer.address", "net.sock.peer.addr", "net.peer.ip"];
const PEER_PORT: [&str; 3] = ["network.peer.port", "net.sock.peer.port", "net.peer.port"];
/// Kinds of spans of who calls.
const CALLING: [u8; 2] = [kind::CLIENT, kind::PRODUCER];

#[derive(Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Endpoint {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) service_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ipv4: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ipv6: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<u16>,
}

/// `peer.service`, else the server that a client calls, and the peer's address and port on the network. Names of
/// attributes are those of the semantic conventions, the present ones first, then the ones before them.
pub(super) fn remote_endpoint(spans: &SpanBatch, row: usize) -> Option<Endpoint> {
    let value = |key: &str| attributes(spans, &spans.attributes, row).find(|(known, _)| *known == key).map(|(_, v)| v);
    let text = |keys: &[&str]| {
        let texts = keys.iter().filter_map(|key| value(key)).filter_map(|value| match value {
            AnyValue::String(text) if !text.is_empty() => Some(text),
            _ => None,
        });
        texts.into_iter().next()
    };
    let port = |keys: &[&str]| {
        keys.iter().filter_map(|key| value(key)).find_map(|value| match value {
            AnyValue::Int(port) => u16::try_from(port).ok().filter(|port| *port > 0),
            AnyValue::String(text) => text.parse().ok().filter(|port| *port > 0),
            _ => None,
        })
    };
    let mut endpoint = Endpoint { service_name: text(&[PEER_SERVICE]), ..Endpoint::default() };
    let mut address = |text: String, port: Option<u16>| {
        match text.parse() {
            Ok(IpAddr::V4(address)) => endpoint.ipv4 = Some(address.to_string()),
            Ok(IpAddr::V6(address)) => endpoint.ipv6 = Some(address.to_string()),
            Err(_) if endpoint.service_name.is_none() => endpoint.service_name = Some(text),
            Err(_) => {}
        }
        endpoint.port = endpoint.port.or(port);
    };
    if CALLING.contains(&spans.kind[row])
        && let Some(server) = text(&SERVER_ADDRESS)
    {
        address(server, port(&SERVER_PORT));
    }
    if let Some(peer) = text(&PEER_ADDRESS) {
        address(peer, port(&PEER_PORT));
    }
    (endpoint != Endpoint::default()).then_some(endpoint)
}

/// What holds for the spans whose remote endpoint has this name of a service.
pub(super) fn remote_service_condition(name: &str) -> Condition {
    let shown = |key: &str| Condition::ShownAs { scope: Scope::Span, key: key.to_owned(), text: name.to_owned() };
    if name.parse::<IpAddr>().is_ok() {
        // Shown as an address, unless it is called a service.
        return shown(PEER_SERVICE);
    }
    let of_server = Condition::All(vec![
        Condition::Any(CALLING.map(Condition::Kind).to_vec()),
        Condition::Any(SERVER_ADDRESS.map(shown).to_vec()),
    ]);
    let of_peer = Condition::Any(PEER_ADDRESS.map(shown).to_vec());
    let unnamed = Condition::Not(Box::new(has_text(PEER_SERVICE)));
    Condition::Any(vec![shown(PEER_SERVICE), Condition::All(vec![unnamed, Condition::Any(vec![of_server, of_peer])])])
}

/// The attribute is there with a text that is not empty.
fn has_text(key: &str) -> Condition {
    let (operator, value) = (Operator::Matches, "(?s).+".to_owned());
    Condition::Attribute { scope: Scope::Span, key: key.to_owned(), operator, value }
}

/// The attributes that may name a remote endpoint, and for each what holds for the spans where it may, in TraceQL.
pub(super) fn remote_service_sources() -> impl Iterator<Item = (&'static str, &'static str)> {
    const UNNAMED: &str = r#"&& !(span.peer.service =~ "(?s).+")"#;
    const UNNAMED_AND_CALLING: &str = r#"&& !(span.peer.service =~ "(?s).+") && (kind = client || kind = producer)"#;
    let of_server = SERVER_ADDRESS.map(|key| (key, UNNAMED_AND_CALLING));
    [(PEER_SERVICE, "")].into_iter().chain(of_server).chain(PEER_ADDRESS.map(|key| (key, UNNAMED)))
}

/// Whether a value of such an attribute is shown as the name of a service.
pub(super) fn is_service_name(value: &str) -> bool {
    !value.is_empty() && value.parse::<IpAddr>().is_err()
}

/// The service that made a span.
pub(super) fn local_endpoint(spans: &SpanBatch, row: usize) -> Option<Endpoint> {
    let service = spans.strings.get(spans.service_name(row));
    (!service.is_empty()).then(|| Endpoint { service_name: Some(service.to_owned()), ..Endpoint::default() })
}
