//! Properties of the generated traces.

use crate::{START, ten_minutes, text_of};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Duration;
use tracehouse_demo::batch::{Outbox, SPANS_PER_REQUEST};
use tracehouse_demo::problems::Problem;
use tracehouse_demo::rhythm::{Arrivals, Timeline};
use tracehouse_demo::shop::services::SERVICES;
use tracehouse_demo::simulate::{Generated, World};

/// All requests of a minute, encoded as they would be sent.
fn encoded_minute(seed: u64) -> Vec<Vec<u8>> {
    let timeline = Timeline::new(START, Duration::from_secs(600), Some(Duration::from_secs(60)), 20.0);
    let world = World::new(seed, timeline);
    let mut outbox = Outbox::default();
    for arrival in Arrivals::new(seed, timeline) {
        outbox.put(world.request(arrival).spans);
    }
    std::iter::from_fn(|| outbox.take_due(u64::MAX, 1, &world.fleet))
        .map(|batch| {
            assert!(batch.contents.spans as usize <= SPANS_PER_REQUEST);
            batch.request.encode_to_vec()
        })
        .collect()
}

#[test]
fn a_seed_decides_every_byte() {
    let first = encoded_minute(7);
    assert!(first.len() > 20, "a minute fills some requests");
    assert!(first == encoded_minute(7), "the same seed gives the same bytes");
    assert!(first != encoded_minute(8), "another seed gives others");
}

#[test]
fn a_request_does_not_depend_on_those_before_it() {
    let (world, requests) = ten_minutes();
    let arrivals: Vec<_> = Arrivals::new(world.seed, world.timeline).collect();
    for index in [0, 17, 4_000] {
        let alone = world.request(arrivals[index]);
        let spans = |generated: &Generated| -> Vec<Span> { generated.spans.iter().map(|r| r.span.clone()).collect() };
        assert_eq!(spans(&alone), spans(&requests[index]));
    }
}

#[test]
fn parents_exist_unless_they_were_lost_on_purpose() {
    let (_, requests) = ten_minutes();
    let mut span_ids = HashSet::new();
    for request in requests {
        let known: HashSet<_> = request.spans.iter().map(|r| (&r.span.trace_id, &r.span.span_id)).collect();
        let missing: HashSet<_> = request
            .spans
            .iter()
            .map(|r| (&r.span.trace_id, &r.span.parent_span_id))
            .filter(|(trace_id, parent)| !parent.is_empty() && !known.contains(&(*trace_id, *parent)))
            .collect();
        let lost: u64 =
            request.injections.iter().filter(|i| i.problem == Problem::MissingParent).map(|i| i.occurrences).sum();
        assert_eq!(missing.len() as u64, lost, "in a {}", request.operation);
        for recorded in &request.spans {
            assert_eq!(recorded.span.trace_id.len(), 16);
            assert_eq!(recorded.span.span_id.len(), 8);
            assert!(span_ids.insert(recorded.span.span_id.clone()), "span ids are unique");
        }
    }
}

#[test]
fn children_lie_within_their_parents_unless_a_clock_is_off() {
    let (world, requests) = ten_minutes();
    let mut checked = 0_u64;
    for request in requests {
        let by_id: HashMap<_, _> = request.spans.iter().map(|r| (r.span.span_id.as_slice(), r)).collect();
        for child in &request.spans {
            assert!(child.span.start_time_unix_nano < child.span.end_time_unix_nano, "{} takes time", child.span.name);
            let Some(parent) = by_id.get(child.span.parent_span_id.as_slice()) else { continue };
            let skewed = [child.member, parent.member].iter().any(|id| world.fleet.member(*id).skew_nanos != 0);
            let in_queue = child.span.kind == SpanKind::Consumer as i32;
            if in_queue && !skewed {
                assert!(child.span.start_time_unix_nano >= parent.span.end_time_unix_nano);
            } else if !skewed {
                let within = child.span.start_time_unix_nano >= parent.span.start_time_unix_nano
                    && child.span.end_time_unix_nano <= parent.span.end_time_unix_nano;
                assert!(within, "{} lies within {}", child.span.name, parent.span.name);
                checked += 1;
            }
            for event in &child.span.events {
                let times = child.span.start_time_unix_nano..=child.span.end_time_unix_nano;
                assert!(times.contains(&event.time_unix_nano), "{} during {}", event.name, child.span.name);
            }
        }
    }
    assert!(checked > 100_000);
}

#[test]
fn the_shop_is_all_there() {
    let (world, requests) = ten_minutes();
    for (index, service) in SERVICES.iter().enumerate() {
        assert_eq!(service.id as usize, index, "{} stands at its place in the table", service.name);
    }
    let seen: BTreeSet<_> =
        requests.iter().flat_map(|r| &r.spans).map(|r| world.fleet.member(r.member).service.name).collect();
    let all: BTreeSet<_> = SERVICES.iter().map(|service| service.name).collect();
    assert_eq!(seen, all, "every service sends spans");
    let kinds: BTreeSet<_> = requests.iter().flat_map(|r| &r.spans).map(|r| r.span.kind).collect();
    assert_eq!(kinds, BTreeSet::from([1, 2, 3, 4, 5]), "every kind of span occurs");
    assert!(requests.iter().flat_map(|r| &r.spans).any(|r| !r.span.links.is_empty()), "links occur");
}

#[test]
fn operations_have_the_sizes_they_should() {
    let (_, requests) = ten_minutes();
    let mut sizes: BTreeMap<_, Vec<usize>> = BTreeMap::new();
    for request in requests {
        let storm = request.injections.iter().any(|injection| injection.problem == Problem::RetryStorm);
        if storm || request.sampled_out {
            continue;
        }
        let spans = request.spans.iter().filter(|recorded| recorded.span.trace_id == request.trace_id).count();
        sizes.entry(request.operation).or_default().push(spans);
    }
    // (operation, bounds of the median number of spans)
    let expected = [
        ("browse home", 12..=30),
        ("view product", 20..=45),
        ("search", 12..=30),
        ("suggest", 4..=8),
        ("add to cart", 12..=25),
        ("view cart", 12..=25),
        ("checkout", 45..=70),
        ("login", 6..=14),
        ("order history", 25..=60),
        ("ask assistant", 14..=30),
        ("settlement", 2_000..=6_000),
    ];
    for (operation, bounds) in expected {
        let sizes = sizes.get_mut(operation).expect("every operation occurs within ten minutes");
        sizes.sort_unstable();
        let median = sizes[sizes.len() / 2];
        assert!(bounds.contains(&median), "{operation} has {median} spans");
    }
}

#[test]
fn exceptions_carry_stack_traces_of_their_language() {
    let (_, requests) = ten_minutes();
    let mut styles = BTreeSet::new();
    for event in requests.iter().flat_map(|r| &r.spans).flat_map(|r| &r.span.events) {
        if event.name != "exception" {
            continue;
        }
        let trace = event
            .attributes
            .iter()
            .find(|attribute| attribute.key == "exception.stacktrace")
            .and_then(text_of)
            .expect("every exception has a stack trace");
        assert!(trace.lines().count() > 3, "{trace}");
        let marks = [("\tat ", "java"), ("Traceback (most", "python"), ("goroutine ", "go"), ("node:internal", "node")];
        styles.extend(marks.iter().filter(|(mark, _)| trace.contains(mark)).map(|(_, style)| *style));
    }
    assert_eq!(styles, BTreeSet::from(["go", "java", "node", "python"]));
}

#[test]
fn latencies_have_a_long_tail() {
    let (_, requests) = ten_minutes();
    let mut durations: Vec<u64> = requests
        .iter()
        .flat_map(|request| &request.spans)
        .filter(|recorded| recorded.span.name == "SELECT stock_level")
        .map(|recorded| recorded.span.end_time_unix_nano - recorded.span.start_time_unix_nano)
        .collect();
    durations.sort_unstable();
    let quantile = |share: f64| durations[(durations.len() as f64 * share) as usize] as f64;
    assert!(quantile(0.99) > 1.8 * quantile(0.5), "p99 is far above the median");
    assert!(quantile(0.999) > 1.5 * quantile(0.99), "and the tail goes on");
}
