//! One service calls another: client span, network, mesh proxies, server span.

use super::Simulation;
use super::spans::{Context, Failure, Open, Opening};
use super::steps::Ran;
use crate::attribute::{boolean, int, text};
use crate::fleet::{Member, MemberId, uuid};
use crate::latency::{Latency, ms, wide_ms};
use crate::problems::{COLD_START_SHARE, Injection, Problem};
use crate::shop::failures::{Fault, passed_on};
use crate::shop::scopes::Library;
use crate::shop::{Conventions, Endpoint, Platform, Protocol, SHOP, Service, ServiceId};
use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use rand::Rng;

/// One way between two pods.
const CLUSTER_HOP: Latency = ms(0.22);
/// One way through the load balancer into a function.
const FUNCTION_HOP: Latency = ms(3.5);
/// One way from a browser or a phone.
const DESKTOP_HOP: Latency = wide_ms(16.0);
const PHONE_HOP: Latency = wide_ms(38.0);
/// What a mesh proxy adds on each side.
const PROXY_HOP: Latency = ms(0.16);
/// Loading the function's runtime and code.
const COLD_START: Latency = ms(940.0);

/// The other end of a connection, as a server sees it.
pub(super) struct Peer {
    pub address: String,
    pub user_agent: String,
}

impl Peer {
    fn of(member: &Member) -> Peer {
        Peer { address: member.address.clone(), user_agent: member.user_agent.clone() }
    }

    /// The same peer when a mesh proxy in the own pod hands its requests on.
    fn behind_proxy(&self) -> Peer {
        Peer { address: "127.0.0.6".to_owned(), user_agent: self.user_agent.clone() }
    }
}

impl Simulation<'_> {
    /// Calls `endpoint` from the process of `caller`; `attempt` counts from 0.
    pub(super) fn call(&mut self, caller: &mut Open, endpoint: &'static Endpoint, attempt: u32, now: u64) -> Ran {
        let world = self.world;
        let callee_id = world.fleet.pick(endpoint.service, now, &mut self.rng);
        let caller_member = world.fleet.member(caller.member);
        let (name, library) = client_name(endpoint);
        let mut client = self.open_child(caller, Opening { name, kind: SpanKind::Client, library, at: now });
        client.attributes(self.client_attributes(caller_member, endpoint));
        if attempt > 0 {
            client.attributes([int("retry.attempt", attempt)]);
        }
        let hop = self.hop(caller_member, endpoint);
        let ran = match caller_member.sidecar {
            Some(proxy) => self.through_outbound_proxy(&mut client, proxy, callee_id, endpoint, hop, now),
            None => {
                let arrival = now + self.draw(hop);
                self.reach(&mut client, callee_id, endpoint, arrival)
            }
        };
        let end = ran.now + self.draw(hop);
        note_client_result(&mut client, endpoint, ran.failure.as_ref(), caller_member.service.conventions);
        self.close(client, end);
        Ran { now: end, failure: ran.failure }
    }

    /// The request arrives at the callee's pod: its proxy, if there is one, then the application.
    fn reach(&mut self, client: &mut Open, callee: MemberId, endpoint: &'static Endpoint, now: u64) -> Ran {
        let world = self.world;
        let service = Service::of(endpoint.service);
        let peer = Peer::of(world.fleet.member(client.member));
        if self.rng.random_bool(service.context_lost_share) {
            return self.serve_torn(&client.context.clone(), callee, endpoint, &peer, now);
        }
        let Some(proxy) = world.fleet.member(callee).sidecar else {
            client.children += 1;
            return self.serve(&client.context.clone(), callee, endpoint, &peer, now);
        };
        client.children += 1;
        let opening = proxy_opening(endpoint, SpanKind::Server, now);
        let mut wrap = self.open_remote(proxy, &client.context.clone(), opening);
        wrap.attributes(self.proxy_attributes(endpoint, "inbound"));
        let arrival = now + self.draw(PROXY_HOP);
        wrap.children += 1;
        let ran = self.serve(&wrap.context.clone(), callee, endpoint, &peer.behind_proxy(), arrival);
        let end = ran.now + self.draw(PROXY_HOP);
        self.close_proxy(wrap, ran.failure.as_ref(), end);
        Ran { now: end, failure: ran.failure }
    }

    fn through_outbound_proxy(
        &mut self,
        client: &mut Open,
        proxy: MemberId,
        callee: MemberId,
        endpoint: &'static Endpoint,
        hop: Latency,
        now: u64,
    ) -> Ran {
        let start = now + self.draw(PROXY_HOP);
        client.children += 1;
        let opening = proxy_opening(endpoint, SpanKind::Client, start);
        let mut wrap = self.open_remote(proxy, &client.context.clone(), opening);
        wrap.attributes(self.proxy_attributes(endpoint, "outbound"));
        let arrival = start + self.draw(hop);
        let ran = self.reach(&mut wrap, callee, endpoint, arrival);
        let end = ran.now + self.draw(hop);
        self.close_proxy(wrap, ran.failure.as_ref(), end);
        Ran { now: end + self.draw(PROXY_HOP), failure: ran.failure }
    }

    fn close_proxy(&mut self, mut wrap: Open, failure: Option<&Failure>, end: u64) {
        let status = failure.map_or(200, |failure| failure.http_status);
        wrap.attributes([text("http.status_code", status.to_string())]);
        if status >= 500 {
            wrap.fail("");
        }
        self.inject(Problem::MeshDuplicate, wrap.context.trace_id, "", 1);
        self.close(wrap, end);
    }

    /// The callee ignores the caller's context: its server span begins another trace.
    fn serve_torn(
        &mut self,
        torn_from: &Context,
        callee: MemberId,
        endpoint: &'static Endpoint,
        peer: &Peer,
        now: u64,
    ) -> Ran {
        let trace_id = self.new_trace_id();
        let related = Some(torn_from.trace_id);
        let problem = Problem::LostContext;
        self.injections.push(Injection { problem, trace_id, related, detail: "", occurrences: 1 });
        let context = Context { trace_id, span_id: [0; 8], trace_state: "" };
        self.serve(&context, callee, endpoint, peer, now)
    }

    /// The server side. A context without a span begins a trace.
    pub(super) fn serve(
        &mut self,
        context: &Context,
        member_id: MemberId,
        endpoint: &'static Endpoint,
        peer: &Peer,
        now: u64,
    ) -> Ran {
        let member = self.world.fleet.member(member_id);
        let opening =
            Opening { name: endpoint.name(), kind: SpanKind::Server, library: server_library(endpoint), at: now };
        let mut open = if context.span_id == [0; 8] {
            self.open_root(member_id, context.trace_id, context.trace_state, opening)
        } else {
            self.open_remote(member_id, context, opening)
        };
        open.attributes(self.server_attributes(member, endpoint, peer));
        let ready = self.warm_up(&mut open, endpoint, now);
        let ran = self.handle(&mut open, member.service, endpoint, ready);
        note_server_result(&mut open, endpoint, &ran, member.service.conventions);
        self.close_server(open, member.service, ran.now);
        ran
    }

    /// A cold function instance loads its runtime before it handles anything.
    fn warm_up(&mut self, open: &mut Open, endpoint: &'static Endpoint, now: u64) -> u64 {
        if !matches!(endpoint.protocol, Protocol::Function { .. }) {
            return now;
        }
        let cold = self.rng.random_bool(COLD_START_SHARE);
        open.attributes([boolean("faas.coldstart", cold)]);
        if !cold {
            return now;
        }
        self.inject(Problem::ColdStart, open.context.trace_id, "", 1);
        let opening =
            Opening { name: "init".to_owned(), kind: SpanKind::Internal, library: Library::Function, at: now };
        let init = self.open_child(open, opening);
        let end = now + self.draw(COLD_START);
        self.close(init, end);
        end
    }

    fn handle(&mut self, open: &mut Open, service: &Service, endpoint: &'static Endpoint, now: u64) -> Ran {
        if let Some(fault) = self.draw_fault(endpoint) {
            let done = self.rng.random_range(1..=endpoint.steps.len().div_ceil(2));
            let ran = self.steps(open, &endpoint.steps[..done], now);
            let stalled = ran.now + u64::from(fault.stall_ms) * 1_000_000;
            let failure = ran.failure.map_or_else(|| Failure::of(fault), |failure| pass_on(service, endpoint, failure));
            return Ran { now: stalled, failure: Some(failure) };
        }
        let ran = self.steps(open, endpoint.steps, now);
        Ran { now: ran.now, failure: ran.failure.map(|failure| pass_on(service, endpoint, failure)) }
    }

    fn draw_fault(&mut self, endpoint: &'static Endpoint) -> Option<&'static Fault> {
        let mut draw: f64 = self.rng.random();
        for (share, fault) in endpoint.failures {
            if draw < *share {
                return Some(fault);
            }
            draw -= share;
        }
        None
    }

    /// Some services lose server spans on their way out; only those with children are told apart from leaves.
    fn close_server(&mut self, open: Open, service: &Service, end: u64) {
        let lossy = service.span_lost_share > 0.0 && open.children > 0 && !open.span.parent_span_id.is_empty();
        if lossy && self.rng.random_bool(service.span_lost_share) {
            self.inject(Problem::MissingParent, open.context.trace_id, "", 1);
            return;
        }
        self.close(open, end);
    }

    fn hop(&self, caller: &Member, endpoint: &Endpoint) -> Latency {
        match (caller.service.platform, &endpoint.protocol) {
            (Platform::Device, _) if caller.service.id == ServiceId::MobileApp => PHONE_HOP,
            (Platform::Device, _) => DESKTOP_HOP,
            (_, Protocol::Function { .. }) => FUNCTION_HOP,
            _ => CLUSTER_HOP,
        }
    }

    fn client_attributes(&mut self, caller: &Member, endpoint: &Endpoint) -> Vec<KeyValue> {
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

    fn server_attributes(&mut self, member: &Member, endpoint: &Endpoint, peer: &Peer) -> Vec<KeyValue> {
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

    fn proxy_attributes(&mut self, endpoint: &Endpoint, direction: &str) -> Vec<KeyValue> {
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

impl Failure {
    pub(super) fn of(fault: &'static Fault) -> Failure {
        Failure {
            http_status: fault.http_status,
            grpc_code: fault.grpc_code,
            error_type: fault.error_type.into(),
            message: fault.message.to_owned(),
            stacktrace: fault.stacktrace.to_owned(),
        }
    }
}

/// What the caller of `endpoint` gets when something behind the endpoint failed.
fn pass_on(service: &Service, endpoint: &Endpoint, cause: Failure) -> Failure {
    if cause.http_status < 500 {
        return Failure { stacktrace: String::new(), ..cause };
    }
    let cause_text = format!("{}: {}", cause.http_status, cause.message);
    let (error_type, stacktrace) = passed_on(service.language, service.name, &endpoint.name(), &cause_text);
    let (http_status, grpc_code) = match cause.http_status {
        503 => (503, 14),
        504 => (504, 4),
        _ if service.id == ServiceId::Gateway => (502, 14),
        _ => (500, 13),
    };
    Failure { http_status, grpc_code, error_type: error_type.into(), message: cause.message, stacktrace }
}

fn client_name(endpoint: &Endpoint) -> (String, Library) {
    match endpoint.protocol {
        Protocol::Http { method, .. } => (method.to_owned(), Library::HttpClient),
        Protocol::Grpc { .. } => (endpoint.name(), Library::Rpc),
        Protocol::Function { .. } => ("GET".to_owned(), Library::HttpClient),
    }
}

fn server_library(endpoint: &Endpoint) -> Library {
    match endpoint.protocol {
        Protocol::Http { .. } => Library::HttpServer,
        Protocol::Grpc { .. } => Library::Rpc,
        Protocol::Function { .. } => Library::Function,
    }
}

fn proxy_opening(endpoint: &Endpoint, kind: SpanKind, at: u64) -> Opening {
    let callee = Service::of(endpoint.service);
    let name = format!("{}:{}/*", address_of(callee, callee), callee.port);
    Opening { name, kind, library: Library::Mesh, at }
}

/// The name under which `caller` knows `callee`.
fn address_of(callee: &Service, caller: &Service) -> String {
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

fn note_client_result(client: &mut Open, endpoint: &Endpoint, failure: Option<&Failure>, conventions: Conventions) {
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
fn note_server_result(open: &mut Open, endpoint: &Endpoint, ran: &Ran, conventions: Conventions) {
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
