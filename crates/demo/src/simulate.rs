//! From one arrival to the spans it causes.
//!
//! `World` holds what does not change; `Simulation` is one request on its way through the tables of `shop`.
//! Time passes only by adding drawn durations to the arrival's time: no clock is read.
//! Spans come out in the order they end, as processes export them.

mod calls;
mod clients;
mod entry;
mod messages;
mod spans;
mod steps;
mod wire;

use crate::fleet::{Fleet, MemberId};
use crate::problems::{Injection, Plan, Problem, TraceId};
use crate::randomness::{Purpose, stream};
use crate::rhythm::{Arrival, Timeline, load_at};
use crate::shop::people::{NOISY_TENANT, Shopper};
use crate::shop::scopes::Library;
use opentelemetry_proto::tonic::trace::v1::Span;
use rand::Rng;
use rand::rngs::StdRng;

/// No request makes more spans than this; the batch job stays well below.
pub const SPANS_PER_REQUEST_MAX: usize = 20_000;

/// Everything requests have in common.
pub struct World {
    pub seed: u64,
    pub timeline: Timeline,
    pub plan: Plan,
    pub fleet: Fleet,
}

/// A finished span and who recorded it with what.
pub struct Recorded {
    pub member: MemberId,
    pub library: Library,
    pub span: Span,
}

/// Everything one request left behind.
pub struct Generated {
    pub operation: &'static str,
    /// The trace the request began in.
    pub trace_id: TraceId,
    pub spans: Vec<Recorded>,
    pub injections: Vec<Injection>,
    /// The head sampler dropped the trace: there are no spans.
    pub sampled_out: bool,
}

impl World {
    pub fn new(seed: u64, timeline: Timeline) -> World {
        let plan = Plan::new(seed, &timeline);
        let fleet = Fleet::new(seed, &plan);
        World { seed, timeline, plan, fleet }
    }

    /// Simulates one request. The result depends on the world's seed and timeline and on the arrival, nothing else.
    pub fn request(&self, arrival: Arrival) -> Generated {
        let mut rng = stream(self.seed, Purpose::Request, arrival.index);
        let shopper = Shopper::draw(&mut rng);
        let charge_refused = rng.random_bool(self.plan.charges_refused_share(arrival.at));
        // Busy hours are slower, but the shop is scaled to bear them.
        let load = 0.8 + 0.2 * load_at(arrival.at);
        let simulation = Simulation {
            world: self,
            rng,
            shopper,
            load,
            charge_refused,
            spans: Vec::with_capacity(48),
            injections: Vec::new(),
        };
        simulation.run(arrival.at)
    }
}

/// One request under way.
struct Simulation<'w> {
    world: &'w World,
    rng: StdRng,
    shopper: Shopper,
    load: f64,
    /// The card provider refuses most attempts of this request.
    charge_refused: bool,
    spans: Vec<Recorded>,
    injections: Vec<Injection>,
}

impl Simulation<'_> {
    /// Counts an occurrence of `problem` in a trace.
    fn inject(&mut self, problem: Problem, trace_id: TraceId, detail: &'static str, occurrences: u64) {
        let same =
            |known: &&mut Injection| known.problem == problem && known.trace_id == trace_id && known.detail == detail;
        if let Some(known) = self.injections.iter_mut().find(same) {
            known.occurrences += occurrences;
            return;
        }
        self.injections.push(Injection { problem, trace_id, related: None, detail, occurrences });
    }

    fn is_noisy(&self) -> bool {
        self.shopper.tenant == NOISY_TENANT
    }
}
