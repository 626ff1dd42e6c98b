//! What goes in comes out: from memory, from files, from merged files, after a restart.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;
use tracehouse_model::{Span, TraceId};
use tracehouse_spanfile::{DistinctValues, OpenFile, StringForm};
use tracehouse_store::{Snapshot, Store};

use crate::histories::{History, Step, TENANTS, histories};
use crate::spans::{Key, assert_same_spans, batch_of, key_of};
use crate::world::{World, all_spans, hot_spans, spans_of, tenant};

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_span_comes_back_as_it_was_sent(history in histories()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        runtime.block_on(replay(&history));
    }
}

async fn replay(history: &History) {
    let world = World::new();
    let store = world.open().await;
    let mut sent: Vec<(usize, &[Span])> = Vec::new();
    let mut deliveries = 1;
    for step in &history.steps {
        match step {
            Step::Append { tenant: number, spans } => {
                store.append(tenant(*number), batch_of(spans)).await.expect("the store takes it");
                sent.push((*number, spans));
            }
            Step::Redeliver(which) if !sent.is_empty() => {
                let (number, spans) = sent[which.index(sent.len())];
                store.append(tenant(number), batch_of(spans)).await.expect("the store takes it");
                deliveries += 1;
            }
            Step::Redeliver(_) => {}
            Step::Flush => {
                store.flush().await.expect("the flush succeeds");
            }
        }
    }
    check(&store, history, "in memory and files", deliveries);
    store.flush().await.expect("the flush succeeds");
    for number in 0..TENANTS {
        assert!(store.snapshot(&tenant(number)).hot.is_empty(), "nothing is left in memory");
    }
    check(&store, history, "in files", deliveries);
    store.compact().await.expect("the merge succeeds");
    check(&store, history, "merged", 1);
    store.shutdown().await.expect("the store stops");
    drop(store);
    let store = world.open().await;
    check(&store, history, "after a restart", 1);
    store.shutdown().await.expect("the store stops");
}

fn check(store: &Store, history: &History, when: &str, deliveries: usize) {
    for number in 0..TENANTS {
        let expected = history.expected(number);
        let snapshot = store.snapshot(&tenant(number));
        let what = format!("tenant {number}, {when}");
        assert_same_spans(&what, &all_spans(&snapshot), &expected, deliveries);
        check_traces(&what, &snapshot, &expected);
        check_numbered_columns(&snapshot);
    }
}

/// Columns as the file numbers their values say the same as their arrays.
fn check_numbered_columns(snapshot: &Snapshot) {
    for file in snapshot.files.iter() {
        let open = file.open().expect("the file opens");
        let layout = open.layout();
        let span = layout.span.iter().map(|attribute| layout.span_column_name(&attribute.key));
        let resource = layout.resource.iter().map(|attribute| layout.resource_column_name(&attribute.key));
        let fixed = ["name", "kind", "status", "status_message", "trace_state", "sampling_threshold"];
        for column in fixed.map(str::to_owned).into_iter().chain(span).chain(resource) {
            for row_group in 0..open.row_groups() {
                check_numbered_column(&open, row_group, &column);
            }
        }
    }
}

fn check_numbered_column(open: &OpenFile, row_group: usize, column: &str) {
    let rows = open.rows_of(row_group);
    let mut batches = open.scan(row_group, &[column], None, StringForm::View, rows).expect("the column can be read");
    let array = batches.next().expect("there are rows").expect("the column can be read").column(0).clone();
    let present = open.present(row_group, column).expect("the column can be read");
    let is_present = |row: usize| present.as_ref().is_none_or(|present| present.value(row));
    assert!((0..rows).all(|row| is_present(row) == array.is_valid(row)), "{column}: rows that have a value");
    let Some(numbered) = open.numbered(row_group, column).expect("the column can be read") else { return };
    assert_eq!(numbered.present, present, "{column}");
    let mut numbers = numbered.numbers.iter().map(|number| *number as usize);
    for row in (0..rows).filter(|row| is_present(*row)) {
        let number = numbers.next().expect("a number for each value");
        match &numbered.values {
            DistinctValues::Texts(texts) => assert_eq!(texts[number], array.as_string_view().value(row), "{column}"),
            DistinctValues::Ints(ints) => {
                assert_eq!(ints[number], array.as_primitive::<Int64Type>().value(row), "{column}");
            }
        }
    }
    assert_eq!(numbers.next(), None, "{column}");
}

/// The same by looking each trace up, and one that is not there.
fn check_traces(what: &str, snapshot: &Snapshot, expected: &BTreeMap<Key, Span>) {
    let mut traces: BTreeMap<TraceId, BTreeMap<Key, Span>> = BTreeMap::new();
    for span in expected.values() {
        traces.entry(span.trace_id).or_default().insert(key_of(span), span.clone());
    }
    for absent in [TraceId([0; 16]), TraceId([7; 16])] {
        assert!(found_in(snapshot, absent).is_empty(), "{what}: a trace that nobody sent");
    }
    for (trace, spans) in traces {
        assert_same_spans(what, &found_in(snapshot, trace), &spans, usize::MAX);
    }
}

fn found_in(snapshot: &Snapshot, trace: TraceId) -> Vec<Span> {
    let mut found: Vec<Span> = hot_spans(snapshot).into_iter().filter(|span| span.trace_id == trace).collect();
    let in_hot = found.len();
    let holding = snapshot.hot.holding(&[trace]);
    let promised: usize =
        holding.iter().map(|(_, hot)| hot.spans.trace_id.iter().filter(|id| **id == trace).count()).sum();
    assert_eq!(promised, in_hot, "the index of what is in memory denies a batch");
    assert!(in_hot == 0 || snapshot.hot.may_hold(trace), "the index of what is in memory denies a trace");
    for file in snapshot.files.iter() {
        let spans = file.open().expect("the file opens").read_trace(trace, usize::MAX).expect("the trace can be read");
        assert!(
            spans.is_none() || file.may_contain(trace).expect("the file can be read"),
            "a file's filter denies a trace it holds"
        );
        found.extend(spans.iter().flat_map(spans_of));
    }
    found
}
