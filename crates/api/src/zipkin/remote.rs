//! The other side of a call, as its span's attributes tell.

use std::net::IpAddr;

use serde::Serialize;
use tracehouse_model::{AnyValue, SpanBatch, kind};

use crate::whole::attributes;

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
    let mut endpoint = Endpoint { service_name: text(&["peer.service"]), ..Endpoint::default() };
    let mut address = |text: String, port: Option<u16>| {
        match text.parse() {
            Ok(IpAddr::V4(address)) => endpoint.ipv4 = Some(address.to_string()),
            Ok(IpAddr::V6(address)) => endpoint.ipv6 = Some(address.to_string()),
            Err(_) if endpoint.service_name.is_none() => endpoint.service_name = Some(text),
            Err(_) => {}
        }
        endpoint.port = endpoint.port.or(port);
    };
    // On the span of a server these name the server itself.
    if matches!(spans.kind[row], kind::CLIENT | kind::PRODUCER)
        && let Some(server) = text(&["server.address", "net.peer.name"])
    {
        address(server, port(&["server.port"]));
    }
    if let Some(peer) = text(&["network.peer.address", "net.sock.peer.addr", "net.peer.ip"]) {
        address(peer, port(&["network.peer.port", "net.sock.peer.port", "net.peer.port"]));
    }
    (endpoint != Endpoint::default()).then_some(endpoint)
}

/// The service that made a span.
pub(super) fn local_endpoint(spans: &SpanBatch, row: usize) -> Option<Endpoint> {
    let service = spans.strings.get(spans.service_name(row));
    (!service.is_empty()).then(|| Endpoint { service_name: Some(service.to_owned()), ..Endpoint::default() })
}
