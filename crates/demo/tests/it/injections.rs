//! What the simulation says it injected is what the spans show.

use crate::{ten_minutes, text_of};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use std::collections::BTreeMap;
use tracehouse_demo::problems::{HEAD_SAMPLING_THRESHOLD, Problem, STORM_ATTEMPTS_MIN};
use tracehouse_demo::shop::people::NOISY_TENANT;
use tracehouse_demo::shop::scopes::Library;
use tracehouse_demo::simulate::{Generated, Recorded, World};

fn injected(request: &Generated, problem: Problem) -> u64 {
    request.injections.iter().filter(|i| i.problem == problem).map(|i| i.occurrences).sum()
}

fn spans_where(request: &Generated, matches: impl Fn(&Recorded) -> bool) -> u64 {
    request.spans.iter().filter(|recorded| matches(recorded)).count() as u64
}

fn service<'w>(world: &'w World, recorded: &Recorded) -> &'w str {
    world.fleet.member(recorded.member).service.name
}

fn attribute_text<'r>(recorded: &'r Recorded, key: &str) -> Option<&'r str> {
    recorded.span.attributes.iter().find(|attribute| attribute.key == key).and_then(text_of)
}

fn is_cold(recorded: &Recorded) -> bool {
    recorded.span.attributes.iter().any(|attribute| {
        let value = attribute.value.as_ref().and_then(|value| value.value.as_ref());
        attribute.key == "faas.coldstart" && value == Some(&Value::BoolValue(true))
    })
}

/// Attempts beyond the first wherever checkout called payment often enough for a storm.
fn storm_attempts(world: &World, request: &Generated) -> u64 {
    let mut attempts: BTreeMap<&[u8], u64> = BTreeMap::new();
    for recorded in &request.spans {
        let charge = recorded.span.name.ends_with("PaymentService/Charge")
            && recorded.span.kind == SpanKind::Client as i32
            && service(world, recorded) == "checkout";
        if charge {
            *attempts.entry(&recorded.span.parent_span_id).or_default() += 1;
        }
    }
    attempts.values().filter(|attempts| **attempts >= u64::from(STORM_ATTEMPTS_MIN)).map(|attempts| attempts - 1).sum()
}

fn personal_values(request: &Generated) -> u64 {
    let keys = ["user.email", "email.recipient", "payment.card_number"];
    request
        .spans
        .iter()
        .flat_map(|recorded| &recorded.span.attributes)
        .filter(|attribute| keys.contains(&attribute.key.as_str()))
        .count() as u64
}

#[test]
fn injections_are_what_the_spans_show() {
    let (world, requests) = ten_minutes();
    type Count = fn(&World, &Generated) -> u64;
    let counts: [(Problem, Count); 10] = [
        (Problem::SlowRelease, |world, request| {
            spans_where(request, |r| r.span.name == "SELECT price_rule" && world.fleet.member(r.member).slow_release)
        }),
        (Problem::NPlusOne, |_, request| spans_where(request, |r| r.span.name == "SELECT order_line")),
        (Problem::RetryStorm, storm_attempts),
        (Problem::ColdStart, |_, request| spans_where(request, is_cold)),
        (Problem::LostContext, |world, request| {
            spans_where(request, |r| service(world, r) == "ads" && r.span.parent_span_id.is_empty())
        }),
        (Problem::ClockSkew, |world, request| spans_where(request, |r| world.fleet.member(r.member).skew_nanos != 0)),
        (Problem::MeshDuplicate, |_, request| spans_where(request, |r| r.library == Library::Mesh)),
        (Problem::PersonalData, |_, request| personal_values(request)),
        (Problem::NoisyTenant, |_, request| {
            u64::from(spans_where(request, |r| attribute_text(r, "tenant.id") == Some(NOISY_TENANT)) > 0)
        }),
        (Problem::HeadSampled, |_, request| {
            spans_where(request, |r| r.span.trace_state == "ot=th:8" && r.span.parent_span_id.is_empty())
        }),
    ];
    for (problem, shown) in counts {
        let mut total = 0;
        for request in requests {
            let expected = injected(request, problem);
            assert_eq!(shown(world, request), expected, "{problem:?} in a {}", request.operation);
            total += expected;
        }
        assert!(total > 0, "{problem:?} occurs");
    }
}

#[test]
fn personal_data_is_nowhere_else() {
    let (world, requests) = ten_minutes();
    let resources = world.fleet.members().iter().flat_map(|member| &member.resource.attributes);
    let spans = requests.iter().flat_map(|request| &request.spans);
    let of_spans = spans.clone().flat_map(|recorded| &recorded.span.attributes);
    let of_events = spans.flat_map(|recorded| &recorded.span.events).flat_map(|event| &event.attributes);
    for attribute in resources.chain(of_spans).chain(of_events) {
        let known = ["user.email", "email.recipient"].contains(&attribute.key.as_str());
        let email = text_of(attribute).is_some_and(|text| text.contains("@example."));
        assert_eq!(email, known, "{}", attribute.key);
    }
}

#[test]
fn the_release_slows_one_query_from_its_time_on() {
    let (world, requests) = ten_minutes();
    let (mut before, mut after) = (Vec::new(), Vec::new());
    for recorded in requests.iter().flat_map(|request| &request.spans) {
        if recorded.span.name != "SELECT price_rule" {
            continue;
        }
        let slow = world.fleet.member(recorded.member).slow_release;
        assert!(!slow || recorded.span.start_time_unix_nano >= world.plan.release_at);
        let duration = recorded.span.end_time_unix_nano - recorded.span.start_time_unix_nano;
        if slow { after.push(duration) } else { before.push(duration) }
    }
    before.sort_unstable();
    after.sort_unstable();
    assert!(before.len() > 500 && after.len() > 500);
    assert!(after[after.len() / 2] > 20 * before[before.len() / 2]);
}

#[test]
fn head_sampling_is_consistent() {
    let (_, requests) = ten_minutes();
    let (mut kept, mut dropped) = (0_u32, 0_u32);
    for request in requests {
        if request.sampled_out {
            assert!(request.spans.is_empty());
            dropped += 1;
        }
        if injected(request, Problem::HeadSampled) == 0 {
            continue;
        }
        kept += 1;
        let mut low = [0_u8; 8];
        low[1..].copy_from_slice(&request.trace_id[9..]);
        assert!(u64::from_be_bytes(low) >= HEAD_SAMPLING_THRESHOLD);
        for recorded in request.spans.iter().filter(|r| r.span.trace_id == request.trace_id) {
            assert_eq!(recorded.span.trace_state, "ot=th:8");
        }
    }
    let share = f64::from(kept) / f64::from(kept + dropped);
    assert!((0.45..0.55).contains(&share), "half is kept, not {share}");
}

#[test]
fn torn_traces_name_the_trace_they_come_from() {
    let (_, requests) = ten_minutes();
    for request in requests {
        for injection in request.injections.iter().filter(|i| i.problem == Problem::LostContext) {
            let related = injection.related.expect("a torn trace was torn from one");
            assert!(request.spans.iter().any(|r| r.span.trace_id == related));
            assert!(request.spans.iter().any(|r| r.span.trace_id == injection.trace_id));
        }
    }
}

#[test]
fn problems_stand_at_their_place_in_the_table() {
    for problem in Problem::ALL {
        assert_eq!(problem.description().problem, problem);
    }
}
