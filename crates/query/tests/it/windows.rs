//! Ranges of time: by when spans begin, and by what overlaps them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use tracehouse_model::{AnyValue, SpanBatch, SpanFields, SpanId, TenantId, TraceId, status};
use tracehouse_query::{HistogramBuckets, MetricsRequest, SearchRequest, Selects};

use crate::shop::{NOON, Shop, many_spans, trace_id};

const SECOND: i64 = 1_000_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const YEAR: i64 = 365 * 24 * HOUR;

/// Start and duration of the spans, each of a trace of its own, in the batches in which they are stored: those of an hour together.
const SPANS: [&[(i64, i64)]; 6] = [
    // A job of two hours that ended 200 seconds before noon, and ordinary spans of its time.
    &[(NOON - 2 * HOUR - 200 * SECOND, 2 * HOUR), (NOON - 2 * HOUR - 199 * SECOND, SECOND)],
    // Spans that overlap nothing near noon: this file is not read for it.
    &[(NOON - 5 * HOUR, SECOND), (NOON - 5 * HOUR + MINUTE, 2 * MINUTE)],
    // Years long, until after noon.
    &[(NOON - YEAR, YEAR + 2 * MINUTE), (NOON - YEAR + SECOND, SECOND)],
    // At the borders of the quarter of an hour before noon, some without length or with one that can't be.
    &[
        (NOON - 15 * MINUTE, 0),
        (NOON - 15 * MINUTE - 1, 0),
        (NOON - 15 * MINUTE - 1, 1),
        (NOON - 15 * MINUTE - 1, 2),
        (NOON - 20 * MINUTE, -MINUTE),
        (NOON - 5 * MINUTE, -HOUR),
        (NOON - MINUTE, MINUTE),
        (NOON - 1, 5),
    ],
    // Its end lies beyond all times.
    &[(NOON - 8 * HOUR, i64::MAX), (NOON - 8 * HOUR + SECOND, 1)],
    // After noon.
    &[(NOON, 0), (NOON + SECOND, HOUR)],
];

fn spans() -> impl Iterator<Item = (u64, i64, i64)> {
    let all = SPANS.iter().flat_map(|spans| spans.iter());
    (1..).zip(all).map(|(number, &(start, duration))| (number, start, duration))
}

fn batches() -> Vec<SpanBatch> {
    let mut numbered = spans();
    let batch = |count: usize| {
        let mut batch = SpanBatch::new();
        let resource = batch.finish_resource(0, 0);
        let scope = batch.finish_scope(0, 0, 0, 0);
        for (number, start_unix_nanos, duration_nanos) in numbered.by_ref().take(count) {
            batch.finish_span(SpanFields {
                trace_id: trace_id(number),
                span_id: SpanId(number.to_be_bytes()),
                start_unix_nanos,
                duration_nanos,
                status_code: status::ERROR,
                resource,
                scope,
                ..SpanFields::default()
            });
        }
        batch
    };
    SPANS.iter().map(|spans| spans.len()).map(batch).collect()
}

/// What must be found, said as plainly as can be.
fn expected(range: &Range<i64>, selects: Selects) -> BTreeSet<TraceId> {
    let selected = |start: i64, duration: i64| {
        let end = i128::from(start) + i128::from(duration);
        let begins_inside = range.contains(&start);
        match selects {
            Selects::Starting => begins_inside,
            Selects::Overlapping => begins_inside || start < range.start && end > i128::from(range.start),
        }
    };
    spans().filter(|(_, start, duration)| selected(*start, *duration)).map(|(number, ..)| trace_id(number)).collect()
}

async fn check(shop: &Shop, layout: &str) {
    let ranges = [
        NOON - 15 * MINUTE..NOON,
        // Inside the job, and inside all that is longer.
        NOON - HOUR..NOON - HOUR + 1,
        NOON - YEAR + HOUR..NOON - YEAR + 2 * HOUR,
        NOON - 3 * HOUR..NOON + 2 * HOUR,
        NOON..NOON + 1,
        i64::MIN..i64::MAX,
        NOON + 3 * YEAR..i64::MAX,
    ];
    for range in ranges {
        for (query, selects) in [
            ("{ status = error }", Selects::Starting),
            ("{ status = error }", Selects::Overlapping),
            ("{ }", Selects::Overlapping),
            // Of whole traces.
            ("{ status = error } | count() > 0", Selects::Overlapping),
            ("{ trace:duration >= 0s || childCount = 0 }", Selects::Overlapping),
        ] {
            let request = SearchRequest {
                traceql: Some(query.to_owned()),
                start_unix_nanos: Some(range.start),
                end_unix_nanos: Some(range.end),
                selects,
                limit: 100,
                ..SearchRequest::default()
            };
            let answer = shop.engine.search(&TenantId::default(), request).await.expect("a valid search");
            assert_eq!(answer.partial_reason, None);
            let found: BTreeSet<TraceId> = answer.traces.iter().map(|trace| trace.trace_id).collect();
            assert_eq!(found, expected(&range, selects), "{layout}: {query} {selects:?} {range:?}");
        }
    }
}

/// How many files a search of the last quarter of an hour has in its range.
async fn files_near_noon(shop: &Shop) -> u64 {
    let request = SearchRequest {
        start_unix_nanos: Some(NOON - 15 * MINUTE),
        end_unix_nanos: Some(NOON),
        selects: Selects::Overlapping,
        limit: 100,
        ..SearchRequest::default()
    };
    let answer = shop.engine.search(&TenantId::default(), request).await.expect("a valid search");
    answer.inspected.files_total
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_selects_what_overlaps_it_wherever_it_is() {
    let shop = Shop::open().await;
    for batch in batches() {
        shop.append(batch).await;
    }
    check(&shop, "in memory").await;
    shop.store.flush().await.expect("the flush succeeds");
    check(&shop, "stored").await;
    // The job, what is years long, what ends never, and the two hours themselves: not those that neither begin nor end near it.
    assert_eq!(files_near_noon(&shop).await, 5);
    shop.store.compact().await.expect("the merge succeeds");
    check(&shop, "merged").await;
    let shop = shop.restart().await;
    assert_eq!(files_near_noon(&shop).await, 5, "the catalogue says it");
    check(&shop, "after a start").await;
}

/// Files of an earlier version are looked at until it is known when their spans end, which their pages tell.
#[tokio::test(flavor = "multi_thread")]
async fn a_catalogue_that_knows_no_ends_loses_nothing() {
    let shop = Shop::open().await;
    for batch in batches() {
        shop.append(batch).await;
    }
    shop.store.flush().await.expect("the flush succeeds");
    let shop = shop.without_ends().await;
    assert_eq!(files_near_noon(&shop).await, 6, "all that do not begin after it");
    assert_eq!(files_near_noon(&shop).await, 5, "each was opened once");
    check(&shop, "without ends").await;
}

/// How many spans begin in each step, and bytes of files that were read to know it.
async fn counted(shop: &Shop, range: &Range<i64>, step: i64) -> (i64, Vec<u64>, u64) {
    let request = MetricsRequest {
        traceql: "{ } | count_over_time()".to_owned(),
        start_unix_nanos: range.start,
        end_unix_nanos: range.end,
        step_nanos: Some(step),
        ..MetricsRequest::default()
    };
    let answer = shop.engine.metrics(&TenantId::default(), request).await.expect("a valid query");
    assert_eq!(answer.partial_reason, None);
    let counts = answer.series[0].values.iter().map(|value| value.unwrap_or(0.0) as u64).collect();
    (answer.start_unix_nanos, counts, answer.inspected.bytes)
}

/// Files whose spans begin in one step, those that lie in several, and those at the ends of the range are counted alike.
#[tokio::test(flavor = "multi_thread")]
async fn spans_count_in_the_step_in_which_they_begin() {
    let shop = Shop::open().await;
    for batch in batches() {
        shop.append(batch).await;
    }
    shop.store.flush().await.expect("the flush succeeds");
    let ranges = [
        NOON - 9 * HOUR..NOON + HOUR,
        NOON - 15 * MINUTE..NOON,
        NOON - 15 * MINUTE - 1..NOON + 1,
        NOON - 5 * HOUR + 1..NOON + SECOND,
    ];
    for range in ranges {
        for step in [SECOND, MINUTE, 7 * MINUTE, HOUR, 5 * HOUR, 20 * HOUR] {
            if (range.end - range.start) / step > 10_000 {
                continue;
            }
            let (first, counts, _) = counted(&shop, &range, step).await;
            let mut expected = vec![0; counts.len()];
            let starts = spans().map(|(_, start, _)| start).filter(|start| range.contains(start));
            starts.for_each(|start| expected[((start - first) / step) as usize] += 1);
            assert_eq!(counts, expected, "{range:?} in steps of {step}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_all_begin_in_one_step_are_not_read_for_it() {
    let shop = Shop::open().await;
    // Both files have spans of an hour.
    for batch in batches().into_iter().take(2) {
        shop.append(batch).await;
    }
    shop.store.flush().await.expect("the flush succeeds");
    let range = NOON - 9 * HOUR..NOON;
    let (_, _, of_hours) = counted(&shop, &range, HOUR).await;
    let (_, _, of_seconds) = counted(&shop, &range, 10 * SECOND).await;
    assert_eq!(of_hours, 0, "each file lies within an hour");
    assert!(of_seconds > 0);
}

/// A job that began an hour before noon, in a file of its own, and what it called since then.
fn job() -> [SpanBatch; 2] {
    let span = |batch: &mut SpanBatch, name: &str, id: u64, parent: u64, start: i64, duration: i64| {
        let resource = batch.finish_resource(0, 0);
        let scope = batch.finish_scope(0, 0, 0, 0);
        let name = batch.strings.intern(name.as_bytes());
        batch.finish_span(SpanFields {
            trace_id: trace_id(1),
            span_id: SpanId(id.to_be_bytes()),
            parent_span_id: SpanId(parent.to_be_bytes()),
            name,
            start_unix_nanos: start,
            duration_nanos: duration,
            resource,
            scope,
            ..SpanFields::default()
        });
    };
    let (mut before, mut since) = (SpanBatch::new(), SpanBatch::new());
    span(&mut before, "job", 1, 0, NOON - HOUR, 50 * MINUTE);
    span(&mut before, "early", 2, 1, NOON - 59 * MINUTE, MINUTE);
    for minute in 1..=3 {
        span(&mut since, "late", 10 + minute, 1, NOON - minute as i64 * MINUTE, SECOND);
    }
    [before, since]
}

/// Whether a trace is what a query asks for is no matter of the range, which only says what of it is answered with.
#[tokio::test(flavor = "multi_thread")]
async fn what_stands_beside_an_answer_may_lie_outside_of_the_range() {
    // The range has the three late spans.
    let cases = [
        (r#"{ name = "job" } > { name = "late" }"#, 3),
        (r#"{ name = "job" } >> { }"#, 3),
        (r#"{ } !< { name = "late" }"#, 3),
        (r#"{ name = "early" } ~ { name = "late" }"#, 3),
        (r#"{ name = "job" } &> { name = "late" }"#, 3),
        (r#"{ name = "early" } && { name = "late" }"#, 3),
        (r#"{ name = "early" } || { name = "late" }"#, 3),
        (r#"({ name = "job" } > { name = "early" }) && { name = "late" }"#, 3),
        (r#"{ } | count() = 5"#, 3),
        (r#"{ name = "late" || name = "early" } | count() > 3"#, 3),
        (r#"{ } | max(duration) > 30m"#, 3),
        (r#"{ } | by(name) | count() > 1"#, 3),
        (r#"{ trace:rootName = "job" }"#, 3),
        // What is answered with lies outside.
        (r#"{ name = "late" } < { name = "job" }"#, 0),
        (r#"{ name = "late" } ~ { name = "early" }"#, 0),
        (r#"{ name = "late" } !> { name = "job" }"#, 0),
        // It is not what is asked for.
        (r#"{ name = "late" } > { name = "late" }"#, 0),
        (r#"{ name = "nothing" } && { name = "late" }"#, 0),
        (r#"{ } | count() = 3"#, 0),
        (r#"{ } | count() > 5"#, 0),
    ];
    let shop = Shop::open().await;
    let [before, since] = job();
    shop.append(before).await;
    shop.store.flush().await.expect("the flush succeeds");
    shop.append(since).await;
    for layout in ["half in memory", "stored", "merged"] {
        match layout {
            "stored" => drop(shop.store.flush().await.expect("the flush succeeds")),
            "merged" => drop(shop.store.compact().await.expect("the merge succeeds")),
            _ => {}
        }
        for &(query, expected) in &cases {
            let what = format!("{layout}: {query}");
            let request = SearchRequest {
                traceql: Some(query.to_owned()),
                start_unix_nanos: Some(NOON - 5 * MINUTE),
                end_unix_nanos: Some(NOON),
                selects: Selects::Overlapping,
                limit: 10,
                ..SearchRequest::default()
            };
            let answer = shop.engine.search(&TenantId::default(), request).await.expect("a valid search");
            let found: u64 = answer.traces.iter().map(|trace| trace.matched_count).sum();
            assert_eq!((found, answer.partial_reason), (expected, None), "{what}");
            let request = MetricsRequest {
                traceql: format!("{query} | count_over_time()"),
                start_unix_nanos: NOON - 5 * MINUTE,
                end_unix_nanos: NOON,
                step_nanos: Some(MINUTE),
                ..MetricsRequest::default()
            };
            let answer = shop.engine.metrics(&TenantId::default(), request).await.expect("a valid query");
            let counted: f64 = answer.series.iter().flat_map(|series| series.values.iter().flatten()).sum();
            assert_eq!((counted as u64, answer.partial_reason), (expected, None), "{what}");
        }
    }
}

/// Once, the trace whose other spans were newest took the place of one whose answered span was newer.
#[tokio::test(flavor = "multi_thread")]
async fn a_limit_takes_the_traces_whose_answered_spans_are_newest() {
    let span = |batch: &mut SpanBatch, trace: u64, name: &str, id: u64, parent: u64, second: i64| {
        let resource = batch.finish_resource(0, 0);
        let scope = batch.finish_scope(0, 0, 0, 0);
        let name = batch.strings.intern(name.as_bytes());
        batch.finish_span(SpanFields {
            trace_id: trace_id(trace),
            span_id: SpanId(id.to_be_bytes()),
            parent_span_id: SpanId(parent.to_be_bytes()),
            name,
            start_unix_nanos: NOON + second * SECOND,
            duration_nanos: SECOND,
            resource,
            scope,
            ..SpanFields::default()
        });
    };
    let mut batch = SpanBatch::new();
    // Of each trace an A with an X beneath it, and an X alone: the later the trace begins, the earlier its lone X.
    for trace in 1..=60 {
        let second = trace as i64;
        span(&mut batch, trace, "A", 1, 0, second);
        span(&mut batch, trace, "X", 2, 1, 100 + second);
        span(&mut batch, trace, "X", 3, 0, 1_000 - second);
    }
    let shop = Shop::open().await;
    shop.append(batch).await;
    for layout in ["in memory", "stored"] {
        if layout == "stored" {
            shop.store.flush().await.expect("the flush succeeds");
        }
        for limit in [1, 3, 59, 60] {
            for query in [r#"{ name = "A" } > { name = "X" }"#, r#"{ name = "A" } >> { name = "X" }"#] {
                let request = SearchRequest { traceql: Some(query.to_owned()), limit, ..SearchRequest::default() };
                let answer = shop.engine.search(&TenantId::default(), request).await.expect("a valid search");
                let found: Vec<TraceId> = answer.traces.iter().map(|trace| trace.trace_id).collect();
                let newest: Vec<TraceId> = (1..=60).rev().take(limit).map(trace_id).collect();
                assert_eq!(found, newest, "{layout}: {query}, {limit}");
            }
        }
    }
}

/// Finer buckets are parts of the coarser ones, and hold the spans that they say, in memory and in files.
#[tokio::test(flavor = "multi_thread")]
async fn histograms_may_have_finer_buckets() {
    let shop = Shop::open().await;
    let (batches, spans) = many_spans(200, 21);
    for batch in batches {
        shop.append(batch).await;
    }
    let durations: Vec<f64> = spans.iter().map(|span| span.duration_nanos as f64 * 1e-9).collect();
    for layout in ["memory", "files"] {
        for (histogram, ratio) in [
            (HistogramBuckets::PowersOfTwo, 2.0),
            (HistogramBuckets::Halves, 2f64.sqrt()),
            (HistogramBuckets::Quarters, 2f64.sqrt().sqrt()),
        ] {
            let request = MetricsRequest {
                traceql: "{ } | histogram_over_time(duration) by (kind)".to_owned(),
                start_unix_nanos: NOON,
                end_unix_nanos: NOON + 1_000_000_000_000,
                histogram,
                ..MetricsRequest::default()
            };
            let answer = shop.engine.metrics(&TenantId::default(), request).await.expect("an answer");
            let mut by_bound: BTreeMap<u64, f64> = BTreeMap::new();
            for series in &answer.series {
                let bound =
                    series.labels.iter().find(|(key, _)| key == "__bucket").and_then(|(_, value)| value.clone());
                let Some(AnyValue::Double(bound)) = bound else { panic!("a bound, not {bound:?}") };
                *by_bound.entry(bound.to_bits()).or_default() += series.values[0].expect("a count");
            }
            assert_eq!(by_bound.values().sum::<f64>(), spans.len() as f64, "{layout}");
            for (bits, count) in by_bound {
                let (end, slack) = (f64::from_bits(bits), 1.0 + 1e-9);
                let inside = durations.iter().filter(|took| **took <= end * slack && **took * slack > end / ratio);
                assert_eq!(count, inside.count() as f64, "{layout}, {histogram:?}, up to {end}");
            }
        }
        shop.store.flush().await.expect("is written");
    }
}
