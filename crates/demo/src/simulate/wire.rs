//! What both ends of a call say about it in attributes, in the generation of conventions each speaks.

use super::Simulation;
use super::spans::{Failure, Open};
use super::steps::Ran;
use crate::attribute::{int, text};
use crate::fleet::{Member, uuid};
use crate::shop::{Conventions, Endpoint, Platform, Protocol, SHOP, Service, ServiceId};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use rand::Rng;

/// The other end of a connection, as a server sees it.
pub(super) struct Peer {
    pub address: String,
    pub user_agent: String,
}

impl Peer {
    pub(super) fn of(member: &Member) -> Peer {
        Peer { address: member.address.clone(), user_agent: member.user_agent.clone() }
    }

    /// The same peer when a mesh proxy in the own pod hands its requests on.
    pub(super) fn behind_proxy(&self) -> Peer {
        Peer { address: "127.0.0.6".to_owned(), user_agent: self.user_agent.clone() }
    }
}

impl Simulation<'_> {
    pub(super) fn client_attributes(&mut self, caller: &Member, endpoint: &Endpoint) -> Vec<KeyValue> {
        let callee = Service::of(endpoint.service);
        let address = address_of(callee, caller.service);
        match endpoint.protocol {
            Protocol::Grpc { service, method } => vec![
                text("rpc.system", "grpc"),
                text("rpc.service", service),
                text("rpc.method", method),
                text("server.address", address),
                int("server.port", callee.port),
            ],
            Protocol::Http { method, route } => {
                let scheme = if callee.id == ServiceId::Gateway { "https" } else { "http" };
                let port = if scheme == "https" { 443 } else { callee.port };
                let authority = if scheme == "https" { address.clone() } else { format!("{address}:{port}") };
                let url = format!("{scheme}://{authority}{}", self.path_and_query(route));
                http_client_attributes(caller.service.conventions, method, &url, &address, port)
            }
            Protocol::Function { name } => {
                let url = format!("https://{address}/derive?id={}&w=640&f=webp", self.shopper.product_id);
                let mut attributes = http_client_attributes(caller.service.conventions, "GET", &url, &address, 443);
                attributes.extend([
                    text("faas.invoked_name", name),
                    text("faas.invoked_provider", "aws"),
                    text("faas.invoked_region", "eu-central-1"),
                ]);
                attributes
            }
        }
    }

    pub(super) fn server_attributes(&mut self, member: &Member, endpoint: &Endpoint, peer: &Peer) -> Vec<KeyValue> {
        let mut attributes = match endpoint.protocol {
            Protocol::Grpc { service, method } => vec![
                text("rpc.system", "grpc"),
                text("rpc.service", service),
                text("rpc.method", method),
                text("server.address", member.address.clone()),
                int("server.port", member.service.port),
                text("network.peer.address", peer.address.clone()),
                int("network.peer.port", self.rng.random_range(32_768..60_999_i64)),
            ],
            Protocol::Http { method, route } => self.http_server_attributes(member, method, route, peer),
            Protocol::Function { .. } => {
                vec![text("faas.trigger", "http"), text("faas.invocation_id", uuid(&mut self.rng))]
            }
        };
        attributes.push(text("tenant.id", self.shopper.tenant));
        attributes
    }

    fn http_server_attributes(&mut self, member: &Member, method: &str, route: &str, peer: &Peer) -> Vec<KeyValue> {
        let target = self.path_and_query(route);
        let (path, query) = target.split_once('?').map_or((target.as_str(), ""), |(path, query)| (path, query));
        if member.service.conventions == Conventions::Old {
            return vec![
                text("http.method", method),
                text("http.route", route),
                text("http.scheme", "http"),
                text("http.target", target),
                text("http.flavor", "1.1"),
                text("net.host.name", address_of(member.service, member.service)),
                int("net.host.port", member.service.port),
                text("net.peer.ip", peer.address.clone()),
                text("http.user_agent", peer.user_agent.clone()),
            ];
        }
        let mut attributes = vec![
            text("http.request.method", method),
            text("http.route", route),
            text("url.scheme", if member.service.id == ServiceId::Gateway { "https" } else { "http" }),
            text("url.path", path),
            text("network.protocol.version", "1.1"),
            text("network.peer.address", peer.address.clone()),
            int("network.peer.port", self.rng.random_range(32_768..60_999_i64)),
            text("server.address", address_of(member.service, member.service)),
            text("user_agent.original", peer.user_agent.clone()),
        ];
        if !query.is_empty() {
            attributes.push(text("url.query", query));
        }
        if method == "POST" {
            attributes.push(int("http.request.body.size", self.rng.random_range(120..2_400_i64)));
        }
        if member.service.id == ServiceId::Gateway {
            attributes.extend([
                text("client.address", self.shopper.client_address.clone()),
                text("enduser.id", self.shopper.user_id.clone()),
                text("session.id", self.shopper.session_id.clone()),
            ]);
        }
        attributes
    }

    pub(super) fn proxy_attributes(&mut self, endpoint: &Endpoint, direction: &str) -> Vec<KeyValue> {
        let callee = Service::of(endpoint.service);
        let address = address_of(callee, callee);
        let (method, route) = match endpoint.protocol {
            Protocol::Http { method, route } => (method, self.path_and_query(route)),
            Protocol::Grpc { service, method } => ("POST", format!("/{service}/{method}")),
            Protocol::Function { .. } => ("GET", "/derive".to_owned()),
        };
        vec![
            text("component", "proxy"),
            text("http.method", method),
            text("http.url", format!("http://{address}:{}{route}", callee.port)),
            text("http.protocol", "HTTP/1.1"),
            text("upstream_cluster", format!("{direction}|{}||{address}", callee.port)),
            text("upstream_cluster.name", format!("{direction}|{}||{address};", callee.port)),
            text("guid:x-request-id", uuid(&mut self.rng)),
            text("request_size", self.rng.random_range(0..900).to_string()),
            text("response_size", self.rng.random_range(40..6_000).to_string()),
            text("response_flags", "-"),
            text("user_agent", "Go-http-client/1.1"),
            text("istio.mesh_id", "aurora-mesh"),
            text("istio.canonical_service", callee.name),
        ]
    }

    /// The concrete path behind a route template in any framework's notation.
    fn path_and_query(&self, route: &str) -> String {
        let shopper = &self.shopper;
        let segments: Vec<String> = route
            .trim_start_matches('/')
            .split('/')
            .map(|segment| match segment {
                "{productId}" | ":product_id" => format!("{}-{}", shopper.product_id, shopper.product_slug),
                "{cartId}" => shopper.session_id[..12].to_owned(),
                ":id" => shopper.session_id.clone(),
                "<customer_id>" => shopper.user_id.clone(),
                "{slot}" => "product-rail".to_owned(),
                literal => literal.to_owned(),
            })
            .collect();
        let path = format!("/{}", segments.join("/"));
        match segments.last().map(String::as_str) {
            Some("search") => format!("{path}?q={}&market=eu&page=1", shopper.search.replace(' ', "+")),
            Some("suggest") => format!("{path}?q={}", &shopper.search[..4]),
            Some("recommendations") => format!("{path}?user={}&n=12", shopper.user_id),
            _ => path,
        }
    }
}

/// The name under which `caller` knows `callee`.
pub(super) fn address_of(callee: &Service, caller: &Service) -> String {
    match callee.platform {
        Platform::Lambda => format!("img.{SHOP}.example"),
        _ if caller.platform == Platform::Device => format!("www.{SHOP}.example"),
        _ if callee.id == ServiceId::Gateway => format!("www.{SHOP}.example"),
        _ => format!("{}.{}.svc.cluster.local", callee.name, callee.namespace),
    }
}

pub(super) fn http_client_attributes(
    conventions: Conventions,
    method: &str,
    url: &str,
    address: &str,
    port: u16,
) -> Vec<KeyValue> {
    match conventions {
        Conventions::Old => vec![
            text("http.method", method),
            text("http.url", url),
            text("net.peer.name", address),
            int("net.peer.port", port),
        ],
        Conventions::Stable => vec![
            text("http.request.method", method),
            text("url.full", url),
            text("server.address", address),
            int("server.port", port),
            text("network.protocol.version", "1.1"),
        ],
    }
}

/// The attribute that holds an HTTP status.
pub(super) fn status_attribute(conventions: Conventions, status: u16) -> KeyValue {
    match conventions {
        Conventions::Old => int("http.status_code", status),
        Conventions::Stable => int("http.response.status_code", status),
    }
}

pub(super) fn note_client_result(
    client: &mut Open,
    endpoint: &Endpoint,
    failure: Option<&Failure>,
    conventions: Conventions,
) {
    match endpoint.protocol {
        Protocol::Grpc { .. } => {
            client.attributes([int("rpc.grpc.status_code", failure.map_or(0, |failure| failure.grpc_code))]);
            if let Some(failure) = failure {
                client.attributes([text("error.type", grpc_code_name(failure.grpc_code))]);
                client.fail(failure.message.clone());
            }
        }
        _ => {
            let status = failure.map_or(success_status(endpoint), |failure| failure.http_status);
            client.attributes([status_attribute(conventions, status)]);
            if failure.is_some() {
                client.attributes([text("error.type", status.to_string())]);
                client.fail("");
            }
        }
    }
}

/// Server spans are failed by what is the server's fault: 5xx, and the gRPC codes the conventions list.
pub(super) fn note_server_result(open: &mut Open, endpoint: &Endpoint, ran: &Ran, conventions: Conventions) {
    let failure = ran.failure.as_ref();
    let own_fault = match endpoint.protocol {
        Protocol::Grpc { .. } => {
            open.attributes([int("rpc.grpc.status_code", failure.map_or(0, |failure| failure.grpc_code))]);
            failure.is_some_and(|failure| matches!(failure.grpc_code, 2 | 4 | 12 | 13 | 14 | 15))
        }
        Protocol::Http { .. } => {
            let status = failure.map_or(success_status(endpoint), |failure| failure.http_status);
            open.attributes([status_attribute(conventions, status)]);
            status >= 500
        }
        Protocol::Function { .. } => failure.is_some(),
    };
    let Some(failure) = failure.filter(|_| own_fault) else { return };
    open.exception(failure, ran.now);
    open.attributes([text("error.type", failure.error_type.clone())]);
    open.fail(failure.message.clone());
}

fn success_status(endpoint: &Endpoint) -> u16 {
    match endpoint.protocol {
        Protocol::Http { method: "POST", route } if route.ends_with("items") || route.ends_with("shipments") => 201,
        Protocol::Http { method: "POST", route: "/notifications" } => 202,
        Protocol::Http { method: "DELETE", .. } => 204,
        _ => 200,
    }
}

fn grpc_code_name(code: u8) -> &'static str {
    match code {
        2 => "UNKNOWN",
        4 => "DEADLINE_EXCEEDED",
        5 => "NOT_FOUND",
        8 => "RESOURCE_EXHAUSTED",
        9 => "FAILED_PRECONDITION",
        13 => "INTERNAL",
        14 => "UNAVAILABLE",
        16 => "UNAUTHENTICATED",
        _ => "OTHER",
    }
}
