//! The ledger and the facts file.

use crate::{START, traffic};
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use tracehouse_demo::batch::{Batch, Outbox};
use tracehouse_demo::facts::{EXAMPLES_MAX, Ledger, write};
use tracehouse_demo::problems::Problem;
use tracehouse_demo::simulate::{Generated, World};

const MINUTE: Duration = Duration::from_secs(60);

fn batches(world: &World, requests: Vec<Generated>) -> Vec<Batch> {
    let mut outbox = Outbox::default();
    for request in requests {
        outbox.put(request.spans);
    }
    std::iter::from_fn(|| outbox.take_due(u64::MAX, 1, &world.fleet)).collect()
}

fn json(ledger: &Ledger, world: &World) -> Value {
    serde_json::to_value(ledger.facts(world, "http://127.0.0.1:4317", START, false)).expect("facts serialise")
}

#[test]
fn facts_count_what_was_generated_and_acknowledged() {
    let (world, requests) = traffic(42, 5 * MINUTE);
    let mut occurrences: BTreeMap<&str, u64> = BTreeMap::new();
    let mut ledger = Ledger::default();
    let mut spans = 0;
    for request in &requests {
        ledger.generated(request, &world.fleet);
        spans += request.spans.len() as u64;
        for injection in &request.injections {
            *occurrences.entry(injection.problem.description().key).or_default() += injection.occurrences;
        }
    }
    let before = json(&ledger, &world);
    assert_eq!(before["problems"]["n_plus_one"]["occurrences"], 0, "nothing counts before it is acknowledged");
    for batch in batches(&world, requests) {
        ledger.acknowledged(&batch.contents);
    }

    let facts = json(&ledger, &world);
    assert_eq!(facts["totals"]["spansGenerated"], spans);
    assert_eq!(facts["totals"]["spansAcknowledged"], spans);
    assert_eq!(facts["totals"]["tracesAcknowledged"], facts["totals"]["tracesGenerated"]);
    for problem in Problem::ALL {
        let key = problem.description().key;
        let expected = occurrences.get(key).copied().unwrap_or(0);
        assert_eq!(facts["problems"][key]["occurrences"], expected, "{key}");
        let examples = facts["problems"][key]["examples"].as_array().expect("examples are a list");
        assert!(examples.len() <= EXAMPLES_MAX);
        assert_eq!(examples.is_empty(), expected == 0, "{key} has examples if it occurred");
    }
    let of_services: u64 = facts["services"]
        .as_object()
        .expect("services are a map")
        .values()
        .map(|count| count["spans"].as_u64().expect("spans are a number"))
        .sum();
    assert_eq!(of_services, spans);
    let torn = &facts["problems"]["lost_context"];
    assert_eq!(torn["examples"].as_array().map(Vec::len), torn["related"].as_array().map(Vec::len));
}

#[test]
fn a_trace_counts_only_when_all_of_it_is_acknowledged() {
    let (world, mut requests) = traffic(1, MINUTE);
    requests.retain(|request| request.operation == "order history" && !request.sampled_out);
    requests.truncate(1);
    let mut ledger = Ledger::default();
    ledger.generated(&requests[0], &world.fleet);
    let late = requests[0].spans.split_off(3);
    let rest = Generated { spans: late, injections: Vec::new(), ..requests[0] };

    for batch in batches(&world, requests) {
        ledger.acknowledged(&batch.contents);
    }
    assert_eq!(json(&ledger, &world)["problems"]["n_plus_one"]["traces"], 0);
    for batch in batches(&world, vec![rest]) {
        ledger.acknowledged(&batch.contents);
    }
    assert_eq!(json(&ledger, &world)["problems"]["n_plus_one"]["traces"], 1);
}

#[test]
fn what_was_given_up_or_refused_is_no_fact() {
    type Fate = fn(&mut Ledger, &Batch);
    // (fate, field of the totals that counts it)
    let fates: [(Fate, &str); 2] = [
        (|ledger, batch| ledger.abandoned(&batch.contents), "spansAbandoned"),
        (|ledger, batch| ledger.partly_rejected(&batch.contents, batch.contents.spans), "spansRejected"),
    ];
    for (fate, field) in fates {
        let (world, mut requests) = traffic(1, MINUTE);
        requests.truncate(200);
        let mut ledger = Ledger::default();
        requests.iter().for_each(|request| ledger.generated(request, &world.fleet));
        batches(&world, requests).iter().for_each(|batch| fate(&mut ledger, batch));
        let facts = json(&ledger, &world);
        assert_eq!(facts["totals"][field], facts["totals"]["spansGenerated"]);
        assert_eq!(facts["totals"]["tracesAcknowledged"], 0);
        assert_eq!(facts["totals"]["spansAcknowledged"], 0);
        assert_eq!(facts["services"], serde_json::json!({}));
    }
}

#[tokio::test]
async fn the_file_is_replaced_as_a_whole() {
    let (world, _) = traffic(1, MINUTE);
    let directory = tempfile::tempdir().expect("a temporary directory can be made");
    let path = directory.path().join("facts.json");
    let ledger = Ledger::default();
    for finished in [false, true] {
        write(&ledger.facts(&world, "e", START, finished), &path).await.expect("the file can be written");
        let text = std::fs::read_to_string(&path).expect("the file is there");
        let facts: Value = serde_json::from_str(&text).expect("the file is JSON");
        assert_eq!(facts["finished"], finished);
        assert_eq!(facts["release"]["service"], "pricing");
        assert_eq!(facts["start"]["unixNano"], START.to_string());
    }
    assert_eq!(std::fs::read_dir(directory.path()).expect("the directory is readable").count(), 1);
}
