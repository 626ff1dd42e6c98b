//! From finished spans to export requests: wait until a span is due, then pack by resource and scope.

use crate::fleet::{Fleet, MemberId};
use crate::problems::TraceId;
use crate::rhythm::SECOND;
use crate::shop::scopes::{Library, scope_of, sdk_of};
use crate::simulate::Recorded;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans};
use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};

/// Spans per export request, as the SDKs' batch processors have it.
pub const SPANS_PER_REQUEST: usize = 512;
/// Processes export at this interval, so the parts of a trace arrive at different times.
const EXPORT_INTERVAL: u64 = SECOND;

/// One export request and what is in it.
pub struct Batch {
    /// Counts requests from 0.
    pub number: u64,
    pub request: ExportTraceServiceRequest,
    pub contents: Contents,
}

/// How many spans of which trace a request holds.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    pub spans: u64,
    pub traces: BTreeMap<TraceId, u32>,
}

/// Spans that have ended in the simulation and wait for their process to export them.
#[derive(Default)]
pub struct Outbox {
    waiting: BinaryHeap<Reverse<Waiting>>,
    sequence: u64,
    batches: u64,
}

impl Outbox {
    pub fn put(&mut self, spans: Vec<Recorded>) {
        for recorded in spans {
            let due = (recorded.span.end_time_unix_nano / EXPORT_INTERVAL + 1) * EXPORT_INTERVAL;
            self.waiting.push(Reverse(Waiting { due, sequence: self.sequence, recorded }));
            self.sequence += 1;
        }
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The next request of spans due at `now`, or `None` if fewer than `spans_min` are.
    pub fn take_due(&mut self, now: u64, spans_min: usize, fleet: &Fleet) -> Option<Batch> {
        let mut spans = Vec::new();
        while spans.len() < SPANS_PER_REQUEST {
            match self.waiting.peek() {
                Some(Reverse(next)) if next.due <= now => {}
                _ => break,
            }
            let Some(Reverse(waiting)) = self.waiting.pop() else { break };
            spans.push(waiting);
        }
        if spans.is_empty() || spans.len() < spans_min {
            self.waiting.extend(spans.into_iter().map(Reverse));
            return None;
        }
        let number = self.batches;
        self.batches += 1;
        Some(pack(number, spans.into_iter().map(|waiting| waiting.recorded), fleet))
    }
}

/// Groups spans by resource and scope into one request.
pub fn pack(number: u64, spans: impl Iterator<Item = Recorded>, fleet: &Fleet) -> Batch {
    let mut groups: BTreeMap<(MemberId, u8), (Library, ScopeSpans)> = BTreeMap::new();
    let mut contents = Contents::default();
    for Recorded { member, library, span } in spans {
        let trace_id = span.trace_id.as_slice().try_into().expect("the simulation makes ids of 16 bytes");
        *contents.traces.entry(trace_id).or_default() += 1;
        contents.spans += 1;
        let (_, group) = groups.entry((member, library as u8)).or_insert_with(|| (library, ScopeSpans::default()));
        group.spans.push(span);
    }
    let mut request = ExportTraceServiceRequest::default();
    let mut last = None;
    for ((member, _), (library, mut group)) in groups {
        let service = fleet.member(member).service;
        group.scope = Some(scope(member, library, fleet));
        if last != Some(member) {
            request.resource_spans.push(ResourceSpans {
                resource: Some(fleet.member(member).resource.clone()),
                schema_url: sdk_of(service.language).schema_url.to_owned(),
                ..Default::default()
            });
            last = Some(member);
        }
        let resource = request.resource_spans.last_mut().expect("a resource was pushed for the first group");
        resource.scope_spans.push(group);
    }
    Batch { number, request, contents }
}

fn scope(member: MemberId, library: Library, fleet: &Fleet) -> InstrumentationScope {
    let service = fleet.member(member).service;
    let (name, version) = match scope_of(service.language, library) {
        Some((name, version)) => (name.to_owned(), version),
        None => (format!("aurora.{}", service.name), service.version),
    };
    InstrumentationScope { name, version: version.to_owned(), ..Default::default() }
}

/// Ordered by due time, then by the order of creation, so that packing is deterministic.
struct Waiting {
    due: u64,
    sequence: u64,
    recorded: Recorded,
}

impl Waiting {
    fn key(&self) -> (u64, u64) {
        (self.due, self.sequence)
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Waiting {}
