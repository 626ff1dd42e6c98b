//! Where requests begin: a browser, an app, a tenant's program, or a schedule.

use super::spans::{Context, Opening};
use super::wire::Peer;
use super::{Generated, Simulation};
use crate::attribute::text;
use crate::latency::ms;
use crate::problems::{HEAD_SAMPLING_STATE, HEAD_SAMPLING_THRESHOLD, Problem, TraceId};
use crate::shop::operations::{OPERATIONS, Operation, Trigger};
use crate::shop::people::Entry;
use crate::shop::scopes::Library;
use crate::shop::{Endpoint, SHOP, ServiceId, Step};
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use rand::seq::IndexedRandom;

impl Simulation<'_> {
    /// Simulates the request that arrives at `at`.
    pub(super) fn run(mut self, at: u64) -> Generated {
        let operation = self.choose_operation();
        let trace_id = self.new_trace_id();
        let sampled_out = match operation.trigger {
            Trigger::Job { service, name, steps } => {
                self.job(trace_id, service, name, steps, at);
                false
            }
            Trigger::Visit { page, screen, api, also } => match self.shopper.entry {
                Entry::MobileApp if random_part(trace_id) < HEAD_SAMPLING_THRESHOLD => true,
                Entry::MobileApp => {
                    self.visit(trace_id, screen, api, also, at);
                    self.inject(Problem::HeadSampled, trace_id, "", 1);
                    false
                }
                Entry::Browser => {
                    self.visit(trace_id, page, api, also, at);
                    false
                }
                Entry::ApiClient => {
                    self.api_request(trace_id, api, at);
                    false
                }
            },
        };
        if self.is_noisy() && !sampled_out && matches!(operation.trigger, Trigger::Visit { .. }) {
            self.inject(Problem::NoisyTenant, trace_id, "", 1);
        }
        Generated { operation: operation.name, trace_id, spans: self.spans, injections: self.injections, sampled_out }
    }

    fn choose_operation(&mut self) -> &'static Operation {
        let noisy = self.is_noisy();
        let weight = |operation: &Operation| if noisy { operation.weight_noisy } else { operation.weight };
        OPERATIONS.choose_weighted(&mut self.rng, weight).expect("the operations have positive weights")
    }

    /// A person does something on a page or a screen; the front end asks the gateway.
    fn visit(&mut self, trace_id: TraceId, name: &'static str, api: &'static Endpoint, also: &'static [Step], at: u64) {
        let mobile = self.shopper.entry == Entry::MobileApp;
        let service = if mobile { ServiceId::MobileApp } else { ServiceId::Web };
        let trace_state = if mobile { HEAD_SAMPLING_STATE } else { "" };
        let member = self.world.fleet.pick(service, at, &mut self.rng);
        let opening = Opening { name: name.to_owned(), kind: SpanKind::Internal, library: Library::Own, at };
        let mut open = self.open_root(member, trace_id, trace_state, opening);
        open.attributes([
            text("session.id", self.shopper.session_id.clone()),
            text("enduser.id", self.shopper.user_id.clone()),
            text("tenant.id", self.shopper.tenant),
        ]);
        if mobile {
            open.attributes([text("app.screen.name", name.trim_start_matches("Screen ").trim_start_matches("Tap "))]);
        } else {
            open.attributes([text("url.full", format!("https://www.{SHOP}.example/p/{}", self.shopper.product_slug))]);
        }
        let prepared = at + self.draw(ms(6.0));
        let loaded = self.steps(&mut open, also, prepared).now;
        let answered = self.call(&mut open, api, 0, loaded);
        if let Some(failure) = &answered.failure
            && failure.http_status >= 500
        {
            open.event("error shown", answered.now, vec![text("error.message", failure.message.clone())]);
            open.fail("request failed");
        }
        let rendered = answered.now + self.draw(ms(18.0));
        self.close(open, rendered);
    }

    /// A tenant's program calls the gateway; its own side is not instrumented.
    fn api_request(&mut self, trace_id: TraceId, api: &'static Endpoint, at: u64) {
        let member = self.world.fleet.pick(ServiceId::Gateway, at, &mut self.rng);
        let user_agent = if self.is_noisy() { "polar-sync/3.2 python-requests/2.32.5" } else { "okhttp/5.1.0" };
        let peer = Peer { address: self.shopper.client_address.clone(), user_agent: user_agent.to_owned() };
        let context = Context { trace_id, span_id: [0; 8], trace_state: "" };
        self.serve(&context, member, api, &peer, at);
    }

    fn job(&mut self, trace_id: TraceId, service: ServiceId, name: &'static str, steps: &'static [Step], at: u64) {
        let member = self.world.fleet.pick(service, at, &mut self.rng);
        let opening = Opening { name: name.to_owned(), kind: SpanKind::Internal, library: Library::Own, at };
        let mut open = self.open_root(member, trace_id, "", opening);
        let hour = at / 3_600_000_000_000 % 24;
        // By night the schedule starts it; by day someone repeats it for a few merchants' sake.
        let trigger = if (1..5).contains(&hour) { "schedule" } else { "manual" };
        open.attributes([text("job.name", name), text("job.trigger", trigger)]);
        let ran = self.steps(&mut open, steps, at);
        self.close(open, ran.now);
    }
}

/// The part of a trace id that consistent sampling compares: its low 56 bits.
fn random_part(trace_id: TraceId) -> u64 {
    let low: [u8; 8] = trace_id[8..].try_into().expect("a trace id has 16 bytes");
    u64::from_be_bytes(low) & ((1 << 56) - 1)
}
