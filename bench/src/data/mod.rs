//! The spans that are measured: a shop's traffic, made from a seed, encoded once, sent as often as wanted.
//!
//! Traces begin at random times and overlap; each service's instances export their own spans in batches, in the order
//! in which spans end, as the SDKs' batch processors do. So one request holds pieces of many traces, and one trace is
//! spread over many requests.

mod shop;
mod span;
mod template;
mod trace;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::Link;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

pub(crate) use span::text;
pub(crate) use template::{Stamp, Template};
use trace::{Node, Role};

/// What to make.
pub(crate) struct Settings {
    pub(crate) seed: u64,
    pub(crate) spans: u64,
    /// How fast time passes in the data.
    pub(crate) spans_per_second: f64,
    /// Puts every span into one trace, as a runaway batch job does.
    pub(crate) single_trace: bool,
}

impl Settings {
    pub(crate) fn new(seed: u64, spans: u64, spans_per_second: f64) -> Self {
        Self { seed, spans, spans_per_second, single_trace: false }
    }
}

/// Encoded requests in the order of their sending, and what is known of their content.
pub(crate) struct Dataset {
    pub(crate) templates: Vec<Template>,
    pub(crate) spans: u64,
    pub(crate) bytes: u64,
    /// From the first trace's start to the last request, in nanoseconds.
    pub(crate) length_ns: u64,
    pub(crate) traces: Vec<TraceFacts>,
    pub(crate) searches: Vec<SearchFacts>,
}

pub(crate) struct TraceFacts {
    pub(crate) trace_id: u128,
    pub(crate) spans: u32,
}

/// A span that is in the data, to be searched for.
#[derive(Clone)]
pub(crate) struct SearchFacts {
    pub(crate) service: &'static str,
    pub(crate) duration_ns: u64,
    pub(crate) key: String,
    pub(crate) value: String,
}

/// How fast time passes in data that is not sent at a pace of its own.
pub(crate) const HISTORY_SPANS_PER_SECOND: f64 = 20_000.0;

const SPANS_PER_REQUEST: usize = 512;
/// The batch processors' patience.
const EXPORT_DELAY_NS: u64 = 5_000_000_000;
/// Average size of a generated trace, which sets the pace at which traces begin.
const SPANS_PER_TRACE: f64 = 32.0;
/// Times in templates count from here, because a time of zero has no place on the wire.
const EPOCH_NS: u64 = 1_000_000_000;
const SEARCH_SAMPLE_SHARE: f64 = 0.001;
const GIANT_TRACE_ID: u128 = 0x6a1b_70f3_9c24_4d8e_a5d0_1177_3be4_92c6;
const GIANT_ROOT_ID: u64 = 0x51a7_e9d2_0b36_c84f;

impl Dataset {
    pub(crate) fn generate(settings: &Settings) -> Self {
        let mut generator = Generator {
            rng: SmallRng::seed_from_u64(settings.seed),
            exporters: Exporters::default(),
            pending: BinaryHeap::new(),
            sequence: 0,
            traces: Vec::new(),
            searches: Vec::new(),
        };
        let mut made = 0;
        let mut now_ns = EPOCH_NS;
        while made < settings.spans {
            // Exponential gaps: traces begin independently of each other.
            let gap = -(1.0 - generator.rng.random::<f64>()).ln() * SPANS_PER_TRACE / settings.spans_per_second;
            now_ns += (gap * 1e9) as u64;
            generator.export_until(now_ns);
            let mut nodes = trace::grow(&mut generator.rng);
            nodes.truncate((settings.spans - made) as usize);
            made += nodes.len() as u64;
            generator.begin_trace(&nodes, now_ns, settings.single_trace);
        }
        generator.export_until(u64::MAX);
        let mut templates = generator.exporters.finish();
        templates.sort_by_key(|template| template.due_ns);
        let length_ns = templates.last().map_or(0, |last| last.due_ns);
        let spans = templates.iter().map(|template| u64::from(template.spans)).sum();
        let bytes = templates.iter().map(|template| template.len() as u64).sum();
        Self { templates, spans, bytes, length_ns, traces: generator.traces, searches: generator.searches }
    }
}

struct Generator {
    rng: SmallRng,
    exporters: Exporters,
    /// Spans that have begun, by their end; the sequence number keeps the order total.
    pending: BinaryHeap<Reverse<(u64, u64, PendingSpan)>>,
    sequence: u64,
    traces: Vec<TraceFacts>,
    searches: Vec<SearchFacts>,
}

/// Compared by nothing: the end and the sequence number before it decide.
struct PendingSpan {
    service: usize,
    instance: u8,
    scope: usize,
    span: Box<Span>,
}

impl PartialEq for PendingSpan {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl Eq for PendingSpan {}
impl PartialOrd for PendingSpan {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for PendingSpan {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

impl Generator {
    fn begin_trace(&mut self, nodes: &[Node], begin_ns: u64, single_trace: bool) {
        let trace_id = if single_trace { GIANT_TRACE_ID } else { self.rng.random() };
        let mut ids: Vec<u64> = (0..nodes.len()).map(|_| self.rng.random()).collect();
        let is_giants_root = single_trace && self.traces.is_empty();
        if is_giants_root {
            ids[0] = GIANT_ROOT_ID;
        }
        let foreign_parent = (single_trace && !is_giants_root).then_some(GIANT_ROOT_ID);
        self.traces.push(TraceFacts { trace_id, spans: nodes.len() as u32 });
        for (node, &id) in nodes.iter().zip(&ids) {
            let parent = node.parent.map(|parent| ids[parent as usize]).or(foreign_parent);
            let span = self.span(node, trace_id, id, parent, begin_ns);
            self.sequence += 1;
            let end_ns = span.end_time_unix_nano;
            let pending = PendingSpan {
                service: node.service,
                instance: node.instance,
                scope: span::scope_number(node.role),
                span: Box::new(span),
            };
            self.pending.push(Reverse((end_ns, self.sequence, pending)));
        }
    }

    fn span(&mut self, node: &Node, trace_id: u128, id: u64, parent: Option<u64>, begin_ns: u64) -> Span {
        let (name, attributes) = span::describe(&mut self.rng, node);
        let start_ns = begin_ns + node.start_ns;
        let trace_id = trace_id.to_be_bytes().to_vec();
        let parent_span_id = parent.map(|parent| parent.to_be_bytes().to_vec()).unwrap_or_default();
        // Consumers of a batch link to their producer as well.
        let links = if node.role == Role::Consumer && self.rng.random_bool(0.3) {
            vec![Link { trace_id: trace_id.clone(), span_id: parent_span_id.clone(), flags: 1, ..Default::default() }]
        } else {
            Vec::new()
        };
        if self.rng.random_bool(SEARCH_SAMPLE_SHARE) {
            let number = self.rng.random_range(0..attributes.len());
            if let Some(value) = printed(attributes[number].value.as_ref().and_then(|value| value.value.as_ref())) {
                let (service, key) = (shop::SERVICES[node.service].name, attributes[number].key.clone());
                self.searches.push(SearchFacts { service, duration_ns: node.duration_ns, key, value });
            }
        }
        Span {
            trace_id,
            span_id: id.to_be_bytes().to_vec(),
            parent_span_id,
            // Sampled, and whether the parent is remote is known.
            flags: 0x101,
            name,
            kind: span::kind(node.role),
            start_time_unix_nano: start_ns,
            end_time_unix_nano: start_ns + node.duration_ns,
            attributes,
            events: span::events(&mut self.rng, node, start_ns),
            links,
            status: span::status(node),
            ..Default::default()
        }
    }

    /// Hands every span that ends before this time to its exporter.
    fn export_until(&mut self, until_ns: u64) {
        while self.pending.peek().is_some_and(|Reverse((end_ns, _, _))| *end_ns < until_ns) {
            let Some(Reverse((end_ns, _, pending))) = self.pending.pop() else { return };
            self.exporters.take(end_ns, pending);
        }
    }
}

/// As a query parameter carries it; values that are hard to write there are left out.
fn printed(value: Option<&Value>) -> Option<String> {
    match value? {
        Value::StringValue(text) => Some(text.clone()),
        Value::IntValue(number) => Some(number.to_string()),
        Value::BoolValue(truth) => Some(truth.to_string()),
        _ => None,
    }
}

/// One batch per instance of a service.
#[derive(Default)]
struct Exporters {
    open: HashMap<(usize, u8), Batch>,
    done: Vec<Template>,
}

struct Batch {
    first_ns: u64,
    spans: Vec<(usize, Box<Span>)>,
}

impl Exporters {
    fn take(&mut self, end_ns: u64, pending: PendingSpan) {
        let key = (pending.service, pending.instance);
        let batch = self.open.entry(key).or_insert_with(|| Batch { first_ns: end_ns, spans: Vec::new() });
        batch.spans.push((pending.scope, pending.span));
        if batch.spans.len() >= SPANS_PER_REQUEST || end_ns - batch.first_ns > EXPORT_DELAY_NS {
            let spans = std::mem::take(&mut batch.spans);
            self.open.remove(&key);
            self.done.push(encode(key, spans, end_ns));
        }
    }

    fn finish(mut self) -> Vec<Template> {
        let mut rest: Vec<_> = self.open.drain().collect();
        rest.sort_by_key(|(key, _)| *key);
        for (key, batch) in rest {
            let due_ns = batch.spans.last().map_or(0, |(_, span)| span.end_time_unix_nano);
            self.done.push(encode(key, batch.spans, due_ns));
        }
        self.done
    }
}

fn encode((service, instance): (usize, u8), spans: Vec<(usize, Box<Span>)>, due_ns: u64) -> Template {
    let mut by_scope: Vec<Vec<Span>> = (0..span::SCOPES).map(|_| Vec::new()).collect();
    for (scope, span) in spans {
        by_scope[scope].push(*span);
    }
    let scope_spans = by_scope
        .into_iter()
        .enumerate()
        .filter(|(_, spans)| !spans.is_empty())
        .map(|(number, spans)| ScopeSpans {
            scope: Some(span::scope(service, number)),
            spans,
            schema_url: "https://opentelemetry.io/schemas/1.37.0".to_owned(),
        })
        .collect();
    let resource_spans = vec![ResourceSpans {
        resource: Some(span::resource(service, instance)),
        scope_spans,
        schema_url: "https://opentelemetry.io/schemas/1.37.0".to_owned(),
    }];
    Template::new(ExportTraceServiceRequest { resource_spans }.encode_to_vec(), due_ns)
}

/// An endless run of requests over a dataset, each with fresh ids, starting at a chosen time.
#[derive(Clone)]
pub(crate) struct Stream {
    pub(crate) dataset: Arc<Dataset>,
    /// Streams of different salt have different ids.
    pub(crate) salt: u64,
    /// The time at which the data begins, nanoseconds since 1970.
    pub(crate) begin_ns: u64,
}

/// One request to send.
#[derive(Clone)]
pub(crate) struct Request {
    dataset: Arc<Dataset>,
    template: usize,
    stamp: Stamp,
}

impl Stream {
    /// The stamp of a round: one pass over the whole dataset.
    pub(crate) fn stamp(&self, round: u64) -> Stamp {
        Stamp::new(self.salt, round, self.begin_ns + round * self.dataset.length_ns - EPOCH_NS)
    }

    pub(crate) fn request(&self, number: u64) -> Request {
        let templates = self.dataset.templates.len() as u64;
        let stamp = self.stamp(number / templates);
        Request { dataset: self.dataset.clone(), template: (number % templates) as usize, stamp }
    }

    /// How many requests hold this many spans, or the fewest that hold more.
    pub(crate) fn requests_for_spans(&self, spans: u64) -> u64 {
        let rounds = spans / self.dataset.spans;
        let mut left = (spans % self.dataset.spans) as i64;
        let rest = self.dataset.templates.iter().take_while(|template| {
            let wanted = left > 0;
            left -= i64::from(template.spans);
            wanted
        });
        rounds * self.dataset.templates.len() as u64 + rest.count() as u64
    }
}

impl Request {
    pub(crate) fn template(&self) -> &Template {
        &self.dataset.templates[self.template]
    }

    pub(crate) fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    pub(crate) fn spans(&self) -> u32 {
        self.template().spans
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn decode(request: &Request) -> ExportTraceServiceRequest {
        let mut bytes = Vec::new();
        request.template().write(request.stamp(), &mut bytes);
        ExportTraceServiceRequest::decode(bytes.as_slice()).expect("a stamped request decodes")
    }

    fn spans(dataset: &Arc<Dataset>, round: u64) -> Vec<Span> {
        let stream = Stream { dataset: dataset.clone(), salt: 0, begin_ns: EPOCH_NS };
        let templates = dataset.templates.len() as u64;
        (round * templates..(round + 1) * templates)
            .flat_map(|number| decode(&stream.request(number)).resource_spans)
            .flat_map(|resource| resource.scope_spans)
            .flat_map(|scope| scope.spans)
            .collect()
    }

    #[test]
    fn data_is_as_large_and_as_deep_as_promised() {
        let dataset = Arc::new(Dataset::generate(&Settings::new(1, 40_000, 20_000.0)));
        assert_eq!(dataset.spans, 40_000);
        let size = dataset.bytes as f64 / dataset.spans as f64;
        assert!((320.0..350.0).contains(&size), "{size} bytes a span");
        let per_trace = dataset.spans as f64 / dataset.traces.len() as f64;
        assert!((28.0..36.0).contains(&per_trace), "{per_trace} spans a trace");
        let attributes: Vec<usize> = spans(&dataset, 0).iter().map(|span| span.attributes.len()).collect();
        assert!(attributes.iter().all(|count| (4..=11).contains(count)));
    }

    #[test]
    fn every_round_has_its_own_ids_and_the_same_trees() {
        let dataset = Arc::new(Dataset::generate(&Settings::new(2, 5_000, 20_000.0)));
        let (first, second) = (spans(&dataset, 0), spans(&dataset, 1));
        let ids: HashSet<&[u8]> = first.iter().map(|span| span.span_id.as_slice()).collect();
        assert_eq!(ids.len(), first.len());
        assert!(second.iter().all(|span| !ids.contains(span.span_id.as_slice())));
        let second_ids: HashSet<&[u8]> = second.iter().map(|span| span.span_id.as_slice()).collect();
        for (before, after) in first.iter().zip(&second) {
            assert_eq!(before.attributes, after.attributes);
            assert_eq!(after.start_time_unix_nano - before.start_time_unix_nano, dataset.length_ns);
            assert!(after.parent_span_id.is_empty() || second_ids.contains(after.parent_span_id.as_slice()));
        }
    }

    #[test]
    fn a_giant_trace_is_one_tree() {
        let settings = Settings { single_trace: true, ..Settings::new(3, 3_000, 20_000.0) };
        let all = spans(&Arc::new(Dataset::generate(&settings)), 0);
        assert!(all.iter().all(|span| span.trace_id == all[0].trace_id));
        assert_eq!(all.iter().filter(|span| span.parent_span_id.is_empty()).count(), 1);
    }
}
