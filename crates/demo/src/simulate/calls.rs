//! One service calls another: client span, network, mesh proxies, server span.

use super::Simulation;
use super::spans::{Context, Failure, Open, Opening};
use super::steps::Ran;
use super::wire::{Peer, address_of, note_client_result, note_server_result};
use crate::attribute::{boolean, int, text};
use crate::fleet::{Member, MemberId};
use crate::latency::{Latency, ms, wide_ms};
use crate::problems::{COLD_START_SHARE, Injection, Problem};
use crate::shop::failures::{Fault, passed_on};
use crate::shop::scopes::Library;
use crate::shop::{Endpoint, Platform, Protocol, Service, ServiceId};
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
