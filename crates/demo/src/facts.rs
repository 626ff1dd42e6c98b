//! What was injected and what of it has arrived: the ledger and the facts file.
//!
//! Counts and examples cover traces of which every span was acknowledged, so whatever the file names can be
//! looked up at the receiver. Traces under way are held until then; the outbox and the queue bound their number.

use crate::batch::Contents;
use crate::clock::rfc3339;
use crate::fleet::{Fleet, RELEASED_SERVICE, RELEASED_VERSION};
use crate::options::DemoSummary;
use crate::problems::{Injection, Problem, TraceId, parameters};
use crate::shop::Service;
use crate::simulate::{Generated, World};
use anyhow::Context;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::Path;

/// Example traces listed per problem and per operation: the latest.
pub const EXAMPLES_MAX: usize = 20;
/// Version of the file's shape.
const SHAPE: u32 = 1;

/// Keeps count of everything generated, acknowledged and lost.
#[derive(Default)]
pub struct Ledger {
    under_way: HashMap<TraceId, UnderWay>,
    summary: DemoSummary,
    operations: BTreeMap<&'static str, Count>,
    services: BTreeMap<&'static str, Count>,
    problems: BTreeMap<Problem, Tally>,
}

/// A trace that is not wholly acknowledged.
#[derive(Default)]
struct UnderWay {
    operation: &'static str,
    /// The trace the request began in, as opposed to one torn off or started by a message.
    begins_request: bool,
    spans_missing: u32,
    services: BTreeMap<&'static str, Count>,
    injections: Vec<Injection>,
}

/// Spans and traces of an operation or a service. An operation's `traces` and `examples` are those its requests
/// began in; its spans include what messages and torn contexts put into other traces.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Count {
    pub traces: u64,
    pub spans: u64,
    /// Spans with the status error.
    pub error_spans: u64,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub services: BTreeSet<&'static str>,
    #[serde(skip_serializing_if = "VecDeque::is_empty")]
    pub examples: VecDeque<String>,
}

#[derive(Clone, Debug, Default)]
struct Tally {
    traces: u64,
    occurrences: u64,
    by_detail: BTreeMap<&'static str, u64>,
    examples: VecDeque<String>,
    related: VecDeque<String>,
}

impl Ledger {
    /// Notes one simulated request before its spans are sent.
    pub fn generated(&mut self, generated: &Generated, fleet: &Fleet) {
        if generated.sampled_out {
            self.summary.sampled_out += 1;
        }
        self.summary.spans_generated += generated.spans.len() as u64;
        let mut traces: BTreeMap<TraceId, UnderWay> = BTreeMap::new();
        for recorded in &generated.spans {
            let trace_id = trace_id_of(&recorded.span);
            let trace = traces.entry(trace_id).or_default();
            trace.operation = generated.operation;
            trace.begins_request = trace_id == generated.trace_id;
            trace.spans_missing += 1;
            let count = trace.services.entry(fleet.member(recorded.member).service.name).or_default();
            count.spans += 1;
            count.error_spans += u64::from(is_error(&recorded.span));
        }
        for injection in &generated.injections {
            if let Some(trace) = traces.get_mut(&injection.trace_id) {
                trace.injections.push(injection.clone());
            }
        }
        self.summary.traces_generated += traces.len() as u64;
        self.under_way.extend(traces);
    }

    /// Notes that a request was acknowledged.
    pub fn acknowledged(&mut self, contents: &Contents) {
        self.summary.requests_acknowledged += 1;
        self.summary.spans_acknowledged += contents.spans;
        for (trace_id, spans) in &contents.traces {
            let Some(trace) = self.under_way.get_mut(trace_id) else { continue };
            trace.spans_missing = trace.spans_missing.saturating_sub(*spans);
            if trace.spans_missing == 0
                && let Some(trace) = self.under_way.remove(trace_id)
            {
                self.complete(*trace_id, trace);
            }
        }
    }

    /// Notes that the receiver refused some spans of a request for good; which ones it does not say.
    pub fn partly_rejected(&mut self, contents: &Contents, spans_rejected: u64) {
        self.summary.requests_acknowledged += 1;
        self.summary.spans_rejected += spans_rejected;
        self.summary.spans_acknowledged += contents.spans.saturating_sub(spans_rejected);
        self.forget(contents);
    }

    /// Notes that a request was given up.
    pub fn abandoned(&mut self, contents: &Contents) {
        self.summary.spans_abandoned += contents.spans;
        self.forget(contents);
    }

    pub fn retried(&mut self, times: u64) {
        self.summary.requests_retried += times;
    }

    /// Notes that an acknowledged request was sent, and acknowledged, once more.
    pub fn redelivered(&mut self, contents: &Contents) {
        let tally = self.problems.entry(Problem::RedeliveredBatch).or_default();
        tally.occurrences += 1;
        tally.traces += contents.traces.len() as u64;
        *tally.by_detail.entry("spans").or_default() += contents.spans;
        if let Some(trace_id) = contents.traces.keys().next() {
            tally.example(*trace_id, None);
        }
    }

    pub fn summary(&self) -> DemoSummary {
        self.summary
    }

    fn forget(&mut self, contents: &Contents) {
        for trace_id in contents.traces.keys() {
            self.under_way.remove(trace_id);
        }
    }

    fn complete(&mut self, trace_id: TraceId, trace: UnderWay) {
        self.summary.traces_acknowledged += 1;
        let operation = self.operations.entry(trace.operation).or_default();
        if trace.begins_request {
            operation.traces += 1;
            keep_latest(&mut operation.examples, hex(&trace_id));
        }
        for (name, count) in trace.services {
            operation.spans += count.spans;
            operation.error_spans += count.error_spans;
            operation.services.insert(name);
            let service = self.services.entry(name).or_default();
            service.traces += 1;
            service.spans += count.spans;
            service.error_spans += count.error_spans;
        }
        self.tally(&trace.injections);
    }

    fn tally(&mut self, injections: &[Injection]) {
        let mut seen = BTreeSet::new();
        for injection in injections {
            let tally = self.problems.entry(injection.problem).or_default();
            tally.occurrences += injection.occurrences;
            if !injection.detail.is_empty() {
                *tally.by_detail.entry(injection.detail).or_default() += injection.occurrences;
            }
            if seen.insert(injection.problem) {
                tally.traces += 1;
                tally.example(injection.trace_id, injection.related);
            }
        }
    }

    /// The facts as they stand at `now`.
    pub fn facts(&self, world: &World, endpoint: &str, now: u64, finished: bool) -> Facts {
        Facts {
            shape: SHAPE,
            shop: "Aurora Goods",
            seed: world.seed,
            endpoint: endpoint.to_owned(),
            start: Moment::at(world.timeline.start),
            history_start: Moment::at(world.timeline.history_start()),
            written: Moment::at(now),
            finished,
            release: Release::of(world),
            totals: self.summary,
            operations: self.operations.clone(),
            services: self.services.clone(),
            problems: Problem::ALL.iter().map(|problem| self.facts_of(*problem, world)).collect(),
        }
    }

    fn facts_of(&self, problem: Problem, world: &World) -> (&'static str, ProblemFacts) {
        let description = problem.description();
        let tally = self.problems.get(&problem).cloned().unwrap_or_default();
        let facts = ProblemFacts {
            description: description.text,
            counts: description.counts,
            services: description.services,
            operations: description.operations,
            parameters: parameters(problem, &world.plan).into_iter().collect(),
            traces: tally.traces,
            occurrences: tally.occurrences,
            by_detail: tally.by_detail,
            examples: tally.examples,
            related: tally.related,
        };
        (description.key, facts)
    }
}

impl Tally {
    fn example(&mut self, trace_id: TraceId, related: Option<TraceId>) {
        keep_latest(&mut self.examples, hex(&trace_id));
        if let Some(related) = related {
            keep_latest(&mut self.related, hex(&related));
        }
    }
}

/// The facts file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Facts {
    shape: u32,
    shop: &'static str,
    seed: u64,
    endpoint: String,
    start: Moment,
    history_start: Moment,
    written: Moment,
    finished: bool,
    release: Release,
    totals: DemoSummary,
    operations: BTreeMap<&'static str, Count>,
    services: BTreeMap<&'static str, Count>,
    problems: BTreeMap<&'static str, ProblemFacts>,
}

/// One time in both forms.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Moment {
    time: String,
    /// Decimal string: JSON numbers cannot hold it.
    unix_nano: String,
}

impl Moment {
    fn at(unix_nanos: u64) -> Moment {
        Moment { time: rfc3339(unix_nanos), unix_nano: unix_nanos.to_string() }
    }
}

#[derive(Debug, Serialize)]
struct Release {
    service: &'static str,
    from: &'static str,
    to: &'static str,
    /// When the rollout begins; instances follow each other by a few seconds.
    at: Moment,
}

impl Release {
    fn of(world: &World) -> Release {
        let service = Service::of(RELEASED_SERVICE);
        let at = Moment::at(world.plan.release_at);
        Release { service: service.name, from: service.version, to: RELEASED_VERSION, at }
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ProblemFacts {
    description: &'static str,
    counts: &'static str,
    services: &'static [&'static str],
    operations: &'static [&'static str],
    parameters: BTreeMap<&'static str, String>,
    traces: u64,
    occurrences: u64,
    by_detail: BTreeMap<&'static str, u64>,
    examples: VecDeque<String>,
    #[serde(skip_serializing_if = "VecDeque::is_empty")]
    related: VecDeque<String>,
}

/// Replaces the file as a whole, so that a reader never sees half of it.
///
/// # Errors
/// When the file beside it cannot be written or renamed.
pub async fn write(facts: &Facts, path: &Path) -> anyhow::Result<()> {
    let json = serde_json::to_vec_pretty(facts).context("the facts do not serialise")?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".partial");
    tokio::fs::write(&beside, json).await.with_context(|| format!("cannot write {}", beside.display()))?;
    tokio::fs::rename(&beside, path).await.with_context(|| format!("cannot replace {}", path.display()))
}

/// The latest examples are the ones the receiver still holds.
fn keep_latest(examples: &mut VecDeque<String>, example: String) {
    if examples.len() == EXAMPLES_MAX {
        examples.pop_front();
    }
    examples.push_back(example);
}

fn trace_id_of(span: &Span) -> TraceId {
    span.trace_id.as_slice().try_into().expect("the simulation makes ids of 16 bytes")
}

fn is_error(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code == StatusCode::Error as i32)
}

fn hex(id: &[u8]) -> String {
    id.iter().map(|byte| format!("{byte:02x}")).collect()
}
