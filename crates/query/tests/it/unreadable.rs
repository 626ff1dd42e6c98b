//! What can't be read costs what it holds and nothing else: every question has an answer, which says `N of M`.

use std::path::{Path, PathBuf};

use tracehouse_model::{Span, TenantId};
use tracehouse_query::{Among, MetricsRequest, QueryError, Scope, SearchRequest, TraceDetail};

use crate::shop::{NOON, Shop, many_spans};

/// What may happen to a file.
type Fault = (&'static str, fn(&Path));

const FAULTS: [Fault; 3] = [
    ("missing", |path| std::fs::remove_file(path).expect("it is there")),
    ("its footer is overwritten", |path| {
        change(path, |bytes| bytes.iter_mut().rev().take(64).for_each(|byte| *byte ^= 1))
    }),
    ("its pages are overwritten", |path| {
        change(path, |bytes| {
            // Before the indexes and the footer.
            let pages = bytes.len() / 2;
            bytes[4..pages].iter_mut().for_each(|byte| *byte = !*byte);
        });
    }),
];

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).expect("it is there");
    change(&mut bytes);
    std::fs::write(path, bytes).expect("it can be written");
}

/// A shop with two files of which nothing was asked yet, the path of one, its spans and those of the other.
async fn two_files() -> (Shop, PathBuf, Vec<Span>, Vec<Span>) {
    let shop = Shop::open().await;
    let (batches, spans) = many_spans(200, 5);
    let half = batches.len() / 2;
    let mut path = PathBuf::new();
    let first: usize = batches[..half].iter().map(tracehouse_model::SpanBatch::len).sum();
    for (number, batch) in batches.into_iter().enumerate() {
        if number == half {
            shop.store.flush().await.expect("flushes");
            path = shop.files().swap_remove(0);
        }
        shop.append(batch).await;
    }
    shop.store.flush().await.expect("flushes");
    let (first, second) = spans.split_at(first);
    // What was open stays readable.
    let shop = shop.restart().await;
    (shop, path, first.to_vec(), second.to_vec())
}

fn assert_said(what: &str, reason: Option<&str>) {
    let reason = reason.unwrap_or_else(|| panic!("{what}: the answer says that it is whole"));
    let words = reason.contains(" spans could not be read, in 1 of 2 files") && reason.contains(".parquet");
    assert!(words, "{what}: {reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_question_is_answered_from_what_can_be_read() {
    for (fault, apply) in FAULTS {
        let (shop, path, first, second) = two_files().await;
        assert_eq!(shop.files().len(), 2);
        apply(&path);
        series(fault, &shop, second.len() as u64).await;
        searches(fault, &shop, &second).await;
        by_id(fault, &shop, &first, &second).await;
        names(fault, &shop).await;
    }
}

async fn series(fault: &str, shop: &Shop, readable: u64) {
    let every = "{ } | count_over_time() by (resource.service.name)";
    let traces = "{ } >> { } || { } | count_over_time()";
    for query in
        [every, traces, "{ } | compare({ status = error })", "{ } | quantile_over_time(duration, .9) by (name)"]
    {
        let request = MetricsRequest {
            traceql: query.to_owned(),
            start_unix_nanos: NOON - 1,
            end_unix_nanos: NOON + 3_600_000_000_000,
            exemplars_max: 3,
            ..MetricsRequest::default()
        };
        let answer = shop.engine.metrics(&TenantId::default(), request).await.expect("an answer");
        assert_said(&format!("{fault}: {query}"), answer.partial_reason.as_deref());
        assert_eq!(answer.weighting.spans, readable, "{fault}: {query}");
        assert!(!answer.series.is_empty(), "{fault}: {query}");
    }
}

async fn searches(fault: &str, shop: &Shop, readable: &[Span]) {
    let mut traces: Vec<_> = readable.iter().map(|span| span.trace_id).collect();
    traces.sort_unstable();
    traces.dedup();
    for query in ["{ }", "{ } >> { } || { }", "{ name != \"none\" } | count() > 0"] {
        let request = SearchRequest { traceql: Some(query.to_owned()), limit: 1000, ..SearchRequest::default() };
        let answer = shop.engine.search(&TenantId::default(), request).await.expect("an answer");
        assert_said(&format!("{fault}: {query}"), answer.partial_reason.as_deref());
        let mut found: Vec<_> = answer.traces.iter().map(|trace| trace.trace_id).collect();
        found.sort_unstable();
        assert_eq!(found, traces, "{fault}: {query}");
    }
}

async fn by_id(fault: &str, shop: &Shop, lost: &[Span], readable: &[Span]) {
    let tenant = TenantId::default();
    for detail in [TraceDetail::Whole, TraceDetail::Outline, TraceDetail::OutlineWithTargets] {
        let trace = shop.engine.trace(&tenant, readable[0].trace_id, 1000, detail).await.expect("an answer");
        // It lies in the other file. A file that is gone may have had spans of it too.
        let reason = trace.expect("it is there").partial_reason;
        assert!(reason.is_none() || fault != "its pages are overwritten", "{fault}: {reason:?}");
        if reason.is_some() {
            assert_said(fault, reason.as_deref());
        }
        // Spans of one trace may be in both files here; one that is in the lost file alone is not simply unknown.
        let only_lost = lost.iter().find(|span| !readable.iter().any(|other| other.trace_id == span.trace_id));
        let id = only_lost.expect("there is one").trace_id;
        let outcome = shop.engine.trace(&tenant, id, 1000, detail).await;
        let Err(QueryError::Unreadable(reason)) = outcome else { panic!("{fault}: it is said to be unknown") };
        assert_said(fault, Some(&reason));
    }
    let span = shop.engine.span(&tenant, readable[0].trace_id, readable[0].span_id).await.expect("an answer");
    assert_eq!(span.expect("it is there").span_id, readable[0].span_id, "{fault}");
    let outcome = shop.engine.span(&tenant, lost[0].trace_id, lost[0].span_id).await;
    assert!(matches!(outcome, Err(QueryError::Unreadable(_))), "{fault}");
}

async fn names(fault: &str, shop: &Shop) {
    let (tenant, everywhere) = (TenantId::default(), Among::default());
    let values = shop.engine.attribute_values(&tenant, Scope::Span, "http.route", 1000, &everywhere).await;
    let values = values.expect("an answer");
    assert_said(fault, values.partial_reason.as_deref());
    assert!(!values.complete && values.items.len() > 5, "{fault}");
    let among = Among { traceql: Some("{ duration > 0s }".to_owned()), ..Among::default() };
    let keys = shop.engine.attribute_keys(&tenant, None, &among).await.expect("an answer");
    assert_said(fault, keys.partial_reason.as_deref());
    assert!(!keys.complete && !keys.items.is_empty(), "{fault}");
    let names = shop.engine.operations(&tenant, None, &among).await.expect("an answer");
    assert!(!names.complete && !names.items.is_empty(), "{fault}");
    let explained = shop.engine.explain(&tenant, "{ name = \"GET /\" }", 0..i64::MAX).await.expect("an answer");
    assert_eq!(explained.files_total, 2, "{fault}");
}

/// How many spans are said to be unreadable, of how many.
fn said(reason: Option<&str>) -> (u64, u64) {
    let Some(reason) = reason else { return (0, 0) };
    let mut numbers = reason.split(' ').filter_map(|word| word.parse().ok());
    (numbers.next().expect("N of M"), numbers.next().expect("N of M"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_page_costs_its_rows_and_no_others() {
    const PLACES: usize = 12;
    let mut found = 0;
    for place in 1..PLACES {
        let shop = Shop::open().await;
        let (batches, spans) = many_spans(2000, 6);
        for batch in batches {
            shop.append(batch).await;
        }
        shop.store.flush().await.expect("flushes");
        let total = spans.len() as u64;
        change(&shop.files()[0], |bytes| {
            let at = bytes.len() / 2 * place / PLACES;
            bytes[at] ^= 0x10;
        });
        // The first one looks at all columns.
        for query in [
            "{ } | compare({ status = error })",
            "{ } | count_over_time() by (name)",
            // From whole traces, and from columns.
            "{ } ~ { } || { } | rate()",
            "{ } >> { } || { } | rate()",
        ] {
            let request = MetricsRequest {
                traceql: query.to_owned(),
                start_unix_nanos: NOON - 1,
                end_unix_nanos: NOON + 3_600_000_000_000,
                ..MetricsRequest::default()
            };
            let answer = shop.engine.metrics(&TenantId::default(), request).await.expect("an answer");
            let (lost, of) = said(answer.partial_reason.as_deref());
            assert_eq!(answer.weighting.spans + lost, total, "{place}: {query}: {:?}", answer.partial_reason);
            assert!(lost < total, "{place}: {query}: what is whole is read: {:?}", answer.partial_reason);
            assert!(lost == 0 || of == total, "{place}: {query}: {:?}", answer.partial_reason);
            found += usize::from(lost > 0);
        }
    }
    assert!(found > PLACES / 2, "the damage is met and remembered: {found}");
}

/// A question, and what an answer to it says, with why it is partial.
type Asked = (&'static str, String, Option<String>);

/// Asks questions that read different columns, each of all that is there.
async fn ask(shop: &Shop, number: usize) -> Asked {
    const SERIES: [&str; 5] = [
        "{ } | count_over_time()",
        "{ } | sum_over_time(duration) by (kind)",
        "{ status = error } | count_over_time() by (name)",
        "{ span.http.route != nil } | count_over_time() by (span.http.route)",
        "{ kind = server } >> { status = error } | count_over_time()",
    ];
    let tenant = TenantId::default();
    if let Some(query) = SERIES.get(number) {
        let request = MetricsRequest {
            traceql: (*query).to_owned(),
            start_unix_nanos: NOON - 1,
            end_unix_nanos: NOON + 3_600_000_000_000,
            ..MetricsRequest::default()
        };
        let answer = shop.engine.metrics(&tenant, request).await.expect("an answer");
        return (query, format!("{:?}", answer.series), answer.partial_reason);
    }
    const SEARCHES: [&str; 3] = ["{ duration > 900ms }", "{ event.exception.type = \"Timeout\" }", "{ } > { }"];
    if let Some(query) = SEARCHES.get(number - SERIES.len()) {
        let request = SearchRequest { traceql: Some((*query).to_owned()), limit: 1500, ..SearchRequest::default() };
        let answer = shop.engine.search(&tenant, request).await.expect("an answer");
        let mut found: Vec<_> = answer.traces.iter().map(|trace| format!("{trace:?}")).collect();
        found.sort_unstable();
        return (query, format!("{found:?}"), answer.partial_reason);
    }
    let values = shop.engine.attribute_values(&tenant, Scope::Span, "http.route", 1000, &Among::default()).await;
    let values = values.expect("an answer");
    ("values of http.route", format!("{:?}", values.items), values.partial_reason)
}

const QUESTIONS: usize = 9;

/// A row is lost to the questions that need what is damaged of it, whatever was asked before them, and to no others.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_does_not_depend_on_what_was_asked_before() {
    const PLACES: usize = 12;
    let mut shop = Shop::open().await;
    for batch in many_spans(1500, 8).0 {
        shop.append(batch).await;
    }
    shop.store.flush().await.expect("flushes");
    let path = shop.files()[0].clone();
    let intact = std::fs::read(&path).expect("it is there");
    let mut whole = Vec::new();
    for number in 0..QUESTIONS {
        let (question, answer, reason) = ask(&shop, number).await;
        assert_eq!(reason, None, "{question}");
        whole.push(answer);
    }
    let (mut partial, mut whole_beside_damage) = (0, 0);
    for place in 1..PLACES {
        change(&path, |bytes| {
            bytes.clone_from(&intact);
            let at = bytes.len() / 2 * place / PLACES;
            bytes[at] ^= 0x10;
        });
        let mut alone = Vec::new();
        for number in 0..QUESTIONS {
            // What was found out before is not remembered.
            shop = shop.restart().await;
            alone.push(ask(&shop, number).await);
        }
        shop = shop.restart().await;
        let forwards: Vec<usize> = (0..QUESTIONS).collect();
        for number in forwards.iter().chain(forwards.iter().rev()).copied() {
            let (question, answer, reason) = ask(&shop, number).await;
            assert_eq!((question, &answer, &reason), (alone[number].0, &alone[number].1, &alone[number].2), "{place}");
            match reason {
                None => assert_eq!(answer, whole[number], "{place}: {question}"),
                Some(_) => partial += 1,
            }
        }
        let is_partial = alone.iter().any(|(_, _, reason)| reason.is_some());
        whole_beside_damage += alone.iter().filter(|(_, _, reason)| is_partial && reason.is_none()).count();
    }
    assert!(partial > PLACES && whole_beside_damage > PLACES, "{partial}, {whole_beside_damage}");
}

/// What lies beneath a span may stand in a file of other times, which counts among those that there are once it can't be read.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_other_times_counts_among_those_that_were_asked() {
    const HOUR: i64 = 3_600_000_000_000;
    let shop = Shop::open().await;
    let (batches, spans) = many_spans(100, 9);
    for hours_later in [0, 2] {
        for mut batch in batches.clone() {
            batch.start_unix_nanos.iter_mut().for_each(|start| *start += hours_later * HOUR);
            shop.append(batch).await;
        }
        shop.store.flush().await.expect("flushes");
    }
    let later = shop.files().into_iter().max().expect("each hour has one");
    FAULTS[2].1(&later);
    let shop = shop.restart().await;
    let request = MetricsRequest {
        traceql: "{ } >> { } | count_over_time()".to_owned(),
        start_unix_nanos: NOON - 1,
        end_unix_nanos: NOON + HOUR,
        ..MetricsRequest::default()
    };
    let answer = shop.engine.metrics(&TenantId::default(), request).await.expect("an answer");
    let (lost, of) = said(answer.partial_reason.as_deref());
    assert_eq!((lost, of), (spans.len() as u64, 2 * spans.len() as u64), "{:?}", answer.partial_reason);
    assert_said("two hours later", answer.partial_reason.as_deref());
}

/// What rules files out is made anew where it can't be read, and then from all rows or not at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_trace_is_not_said_to_be_unknown_where_filter_and_rows_are_damaged() {
    const SECTIONS_BYTES: usize = 2500;
    let mut shop = Shop::open().await;
    let (batches, spans) = many_spans(1500, 10);
    for batch in batches {
        shop.append(batch).await;
    }
    shop.store.flush().await.expect("flushes");
    let path = shop.files()[0].clone();
    let intact = std::fs::read(&path).expect("it is there");
    let tenant = TenantId::default();
    let tail_bytes = shop.store.snapshot(&tenant).files[0].open().expect("it opens").tail_bytes() as usize;
    let (mut lost, mut found) = (0, 0);
    for place in 1..10 {
        change(&path, |bytes| {
            bytes.clone_from(&intact);
            let sections = bytes.len() - tail_bytes - SECTIONS_BYTES..bytes.len() - tail_bytes;
            bytes[sections].iter_mut().step_by(100).for_each(|byte| *byte ^= 4);
            let at = bytes.len() / 20 * place;
            bytes[at] ^= 0x10;
        });
        shop = shop.restart().await;
        // This one meets the damage.
        ask(&shop, 2).await;
        for span in spans.iter().step_by(60) {
            match shop.engine.trace(&tenant, span.trace_id, 1000, TraceDetail::Whole).await {
                Ok(Some(trace)) => found += usize::from(trace.partial_reason.is_none()),
                Err(QueryError::Unreadable(_)) => lost += 1,
                other => panic!("{place}: {:?}", other.map(|trace| trace.is_some())),
            }
        }
        for service in ["cart", "checkout"] {
            let traceql = Some(format!("{{ resource.service.name = \"{service}\" }}"));
            let request = SearchRequest { traceql, limit: 1500, ..SearchRequest::default() };
            let answer = shop.engine.search(&tenant, request).await.expect("an answer");
            let mut all: Vec<_> =
                spans.iter().filter(|span| span.service_name == service).map(|span| span.trace_id).collect();
            all.dedup();
            assert!(answer.partial_reason.is_some() || answer.traces.len() == all.len(), "{place}: {service}");
        }
    }
    assert!(lost > 10 && found > 10, "{lost} lost, {found} found");
}

/// When the spans that are found began says nothing of those that are not.
#[tokio::test(flavor = "multi_thread")]
async fn a_trace_is_not_whole_while_a_file_of_other_times_is_gone() {
    const HOUR: i64 = 3_600_000_000_000;
    for (fault, apply) in &FAULTS[..2] {
        let shop = Shop::open().await;
        let (batches, spans) = many_spans(20, 9);
        for hours_later in [0, 2] {
            for mut batch in batches.clone() {
                batch.start_unix_nanos.iter_mut().for_each(|start| *start += hours_later * HOUR);
                shop.append(batch).await;
            }
            shop.store.flush().await.expect("flushes");
        }
        apply(&shop.files().into_iter().max().expect("each hour has one"));
        let mut shop = shop.restart().await;
        // Also once it is known that the file can't be read.
        for _ in 0..2 {
            let (tenant, id) = (TenantId::default(), spans[0].trace_id);
            let trace = shop.engine.trace(&tenant, id, 1000, TraceDetail::Whole).await.expect("an answer");
            let trace = trace.expect("its first spans are there");
            assert_said(fault, trace.partial_reason.as_deref());
            shop = shop.restart().await;
        }
    }
}
