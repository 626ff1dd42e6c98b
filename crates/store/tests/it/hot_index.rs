//! The index of what is in memory: by it a trace is found wherever its spans lie, whatever is done to them meanwhile.

use std::collections::BTreeMap;

use tracehouse_model::{Span, TraceId};
use tracehouse_store::{Snapshot, Snapshots, Store};

use crate::spans::{Key, NOON, assert_same_spans, batch_of, by_key, plain_span};
use crate::world::{Fault, WatchedCatalogue, World, spans_of, tenant};

const TENANTS: usize = 2;
/// Batches of this size are not joined.
const SPANS: u64 = 260;
/// One in so many traces is looked for: the rounds have ten new ones each.
const TRACES_PER_LOOK: usize = 7;

/// Half of the traces go on in the next round.
fn spans_of_round(of_tenant: usize, round: u64) -> Vec<Span> {
    let first_trace = of_tenant as u128 * 1_000_000 + u128::from(round) * 10 + 1;
    let span = |number: u64| {
        plain_span(first_trace + u128::from(number % 20), round * SPANS + number + 1, 0, NOON + round as i64)
    };
    (0..SPANS).map(span).collect()
}

async fn send(store: &Store, sent: &mut [Vec<Span>; TENANTS], rounds: impl Iterator<Item = u64>) {
    for round in rounds {
        for (number, sent) in sent.iter_mut().enumerate() {
            let spans = spans_of_round(number, round);
            store.append(tenant(number), batch_of(&spans)).await.expect("the store takes it");
            sent.extend(spans);
        }
    }
}

fn by_trace(spans: &[Span]) -> BTreeMap<TraceId, BTreeMap<Key, Span>> {
    let mut traces: BTreeMap<TraceId, Vec<Span>> = BTreeMap::new();
    for span in spans {
        traces.entry(span.trace_id).or_default().push(span.clone());
    }
    traces.into_iter().map(|(trace, spans)| (trace, by_key(&spans))).collect()
}

fn found_in(snapshot: &Snapshot, trace: TraceId) -> Vec<Span> {
    let of_rows = |found: tracehouse_store::HotRows| {
        found.rows.into_iter().map(|row| found.batch.spans.span(row)).collect::<Vec<_>>()
    };
    let mut found: Vec<Span> = snapshot.hot_rows(&[trace]).into_iter().flat_map(of_rows).collect();
    for file in snapshot.files.iter() {
        let spans = file.open().expect("the file opens").read_trace(trace, usize::MAX).expect("the trace can be read");
        found.extend(spans.iter().flat_map(spans_of));
    }
    found
}

/// Each tenant has each of its traces, and none of the other's. `copies`: how often a span may be there.
fn check(what: &str, store: &Store, sent: &[Vec<Span>; TENANTS], copies: usize) {
    let traces: Vec<_> = sent.iter().map(|spans| by_trace(spans)).collect();
    for number in 0..TENANTS {
        let snapshot = store.snapshot_as_sent(&tenant(number));
        for (&trace, spans) in traces[number].iter().step_by(TRACES_PER_LOOK) {
            assert_same_spans(what, &found_in(&snapshot, trace), spans, copies);
        }
        for (&trace, spans) in traces[(number + 1) % TENANTS].iter().step_by(TRACES_PER_LOOK) {
            assert!(found_in(&snapshot, trace).is_empty(), "{what}: {} spans of another tenant", spans.len());
        }
        let wanted: Vec<TraceId> = traces[number].keys().copied().step_by(9).collect();
        let holding: Vec<usize> = snapshot.hot.holding(&wanted).into_iter().map(|(number, _)| number).collect();
        for (number, batch) in snapshot.hot.iter().enumerate() {
            let holds = batch.spans.trace_id.iter().any(|trace| wanted.binary_search(trace).is_ok());
            assert!(!holds || holding.binary_search(&number).is_ok(), "{what}: batch {number} is denied");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_is_found_by_the_index_whatever_is_done_to_its_batches() {
    let world = World::new();
    let catalogue = WatchedCatalogue::new(world.catalogue().await);
    let store = world.try_open(world.config(), catalogue.clone(), world.clock.clone()).await.expect("opens");
    let mut sent = <[Vec<Span>; TENANTS]>::default();
    send(&store, &mut sent, 0..220).await;
    assert!(store.snapshot_as_sent(&tenant(0)).hot.len() == 220, "as many as make several groups");
    check("in memory", &store, &sent, 1);
    // Known, sent again, and taken out.
    store.snapshot(&tenant(0));
    send(&store, &mut sent, (10..40).chain(200..215)).await;
    check("sent again", &store, &sent, 2);
    for number in 0..TENANTS {
        store.snapshot(&tenant(number));
    }
    check("copies were taken out", &store, &sent, 1);
    let held = [0, 1].map(|number| store.snapshot_as_sent(&tenant(number)));
    let sent_before = sent.clone();
    catalogue.fail(Fault::BeforeCommit);
    store.flush().await.expect_err("the catalogue fails");
    send(&store, &mut sent, 220..250).await;
    check("a flush failed", &store, &sent, 1);
    catalogue.fail(Fault::None);
    store.flush().await.expect("the flush succeeds");
    assert!(store.snapshot_as_sent(&tenant(0)).hot.is_empty());
    check("in files", &store, &sent, 1);
    // Their twins are in files.
    send(&store, &mut sent, (240..250).chain(250..400)).await;
    check("copies of stored spans in memory", &store, &sent, 1);
    for (number, snapshot) in held.iter().enumerate() {
        for (trace, spans) in by_trace(&sent_before[number]).into_iter().step_by(TRACES_PER_LOOK) {
            assert_same_spans("a question sees what it saw", &found_in(snapshot, trace), &spans, 1);
        }
    }
    let image = world.crash_image();
    let crashed = image.open().await;
    check("after a crash", &crashed, &sent, 1);
}
