//! Searches: the answer is compared with a look at every span.

use std::collections::BTreeMap;

use tracehouse_model::{AnyValue, Span, TenantId, TraceId, kind, status};
use tracehouse_query::{
    Condition, Operator, Order, OrderKey, Scope, SearchRequest, Targets, TraceDetail, TraceSummary,
};

use crate::shop::{NOON, Shop, many_spans};

type Holds = fn(&Span) -> bool;

fn find<'a>(attributes: &'a [(String, AnyValue)], key: &str) -> Option<&'a AnyValue> {
    attributes.iter().find(|(known, _)| known == key).map(|(_, value)| value)
}

fn own<'a>(span: &'a Span, key: &str) -> Option<&'a AnyValue> {
    find(&span.attributes, key)
}

fn own_text<'a>(span: &'a Span, key: &str) -> Option<&'a str> {
    if let Some(AnyValue::String(text)) = own(span, key) { Some(text) } else { None }
}

fn own_number(span: &Span, key: &str) -> Option<f64> {
    match own(span, key)? {
        AnyValue::Int(value) => Some(*value as f64),
        AnyValue::Double(value) => Some(*value),
        _ => None,
    }
}

fn tags(span: &Span) -> Option<Vec<&str>> {
    let AnyValue::Array(tags) = own(span, "tags")? else { return None };
    Some(
        tags.iter().filter_map(|tag| if let AnyValue::String(tag) = tag { Some(tag.as_str()) } else { None }).collect(),
    )
}

/// Queries, and what they mean.
const QUERIES: &[(&str, Holds)] = &[
    ("{ }", |_| true),
    ("{ false }", |_| false),
    (r#"{ resource.service.name = "cart" }"#, |span| span.service_name == "cart"),
    (r#"{ resource.service.name != "cart" }"#, |span| span.service_name != "cart"),
    (r#"{ resource.service.name =~ "c.*" }"#, |span| span.service_name.starts_with('c')),
    (r#"{ resource.service.name !~ "c.*" }"#, |span| !span.service_name.starts_with('c')),
    (r#"{ resource.service.name = "nobody" }"#, |_| false),
    (r#"{ resource.k8s.pod.name = "pod-2" }"#, |span| {
        find(&span.resource_attributes, "k8s.pod.name") == Some(&AnyValue::String("pod-2".into()))
    }),
    (r#"{ name = "SELECT" }"#, |span| span.name == "SELECT"),
    (r#"{ name =~ ".*cart" }"#, |span| span.name.ends_with("cart")),
    ("{ status = error }", |span| span.status_code == status::ERROR),
    ("{ status != error }", |span| span.status_code != status::ERROR),
    ("{ kind = client }", |span| span.kind == kind::CLIENT),
    (r#"{ statusMessage = "deadline exceeded" }"#, |span| span.status_message == "deadline exceeded"),
    (r#"{ statusMessage = "" }"#, |span| span.status_message.is_empty()),
    ("{ duration > 700ms }", |span| span.duration_nanos > 700_000_000),
    ("{ duration <= 3ms }", |span| span.duration_nanos <= 3_000_000),
    ("{ 700ms < duration }", |span| span.duration_nanos > 700_000_000),
    ("{ duration > 0.5 }", |span| span.duration_nanos as f64 > 0.5),
    (r#"{ span.http.route = "/route/3" }"#, |span| own_text(span, "http.route") == Some("/route/3")),
    ("{ span.http.status = 404 }", |span| own_number(span, "http.status") == Some(404.0)),
    ("{ span.http.status >= 404 }", |span| own_number(span, "http.status").is_some_and(|value| value >= 404.0)),
    ("{ span.http.status != 200 }", |span| own_number(span, "http.status").is_some_and(|value| value != 200.0)),
    ("{ span.http.status = nil }", |span| own(span, "http.status").is_none()),
    ("{ span.http.status != nil }", |span| own(span, "http.status").is_some()),
    (r#"{ span.http.status = "404" }"#, |_| false),
    (r#"{ span.code = "7" }"#, |span| own_text(span, "code") == Some("7")),
    ("{ span.code = 7 }", |span| own_number(span, "code") == Some(7.0)),
    ("{ span.code > 7 }", |span| own_number(span, "code").is_some_and(|value| value > 7.0)),
    ("{ span.code = true }", |span| own(span, "code") == Some(&AnyValue::Bool(true))),
    ("{ span.code }", |span| own(span, "code") == Some(&AnyValue::Bool(true))),
    ("{ span.ratio < 2.5 }", |span| own_number(span, "ratio").is_some_and(|value| value < 2.5)),
    ("{ span.cache.hit = false }", |span| own(span, "cache.hit") == Some(&AnyValue::Bool(false))),
    ("{ !(span.cache.hit = false) }", |span| own(span, "cache.hit") != Some(&AnyValue::Bool(false))),
    (r#"{ .both = "from resource" }"#, |span| own(span, "both").is_none()),
    (r#"{ .both = "from span" }"#, |span| own_text(span, "both") == Some("from span")),
    (r#"{ resource.both = "from resource" }"#, |_| true),
    (r#"{ .k8s.pod.name =~ "pod-[01]" }"#, |span| {
        find(&span.resource_attributes, "k8s.pod.name")
            .is_some_and(|pod| [AnyValue::String("pod-0".into()), AnyValue::String("pod-1".into())].contains(pod))
    }),
    (r#"{ span.rare.key = "needle" }"#, |span| own(span, "rare.key").is_some()),
    (r#"{ span.no.such.key = "x" }"#, |_| false),
    (r#"{ span.tags = "b" }"#, |span| tags(span).is_some_and(|tags| tags.contains(&"b"))),
    (r#"{ span.tags != "b" }"#, |span| tags(span).is_some_and(|tags| !tags.contains(&"b"))),
    ("{ instrumentation.scope.level = 2 }", |span| {
        find(&span.scope_attributes, "scope.level") == Some(&AnyValue::Int(2))
    }),
    (r#"{ instrumentation:name = "http" }"#, |_| true),
    (r#"{ event:name = "exception" }"#, |span| !span.events.is_empty()),
    (r#"{ event.exception.type = "Timeout" }"#, |span| {
        span.events
            .iter()
            .any(|event| find(&event.attributes, "exception.type") == Some(&AnyValue::String("Timeout".into())))
    }),
    (r#"{ resource.service.name = "cart" && status = error && duration > 200ms }"#, |span| {
        span.service_name == "cart" && span.status_code == status::ERROR && span.duration_nanos > 200_000_000
    }),
    (r#"{ name = "SELECT" || kind = server }"#, |span| span.name == "SELECT" || span.kind == kind::SERVER),
    (r#"{ (name = "SELECT" || span.http.status = 500) && !(status = ok) }"#, |span| {
        (span.name == "SELECT" || own_number(span, "http.status") == Some(500.0)) && span.status_code != status::OK
    }),
    ("{ duration / 2 > 400ms }", |span| span.duration_nanos / 2 > 400_000_000),
    ("{ parent = nil }", |span| span.parent_span_id.is_none()),
];

fn request(traceql: &str) -> SearchRequest {
    SearchRequest { traceql: Some(traceql.into()), limit: 1000, spans_per_spanset: 3, ..SearchRequest::default() }
}

async fn ask(shop: &Shop, request: SearchRequest) -> BTreeMap<TraceId, u64> {
    let answer = shop.engine.search(&TenantId::default(), request).await.expect("a valid search");
    assert_eq!(answer.partial_reason, None);
    answer.traces.into_iter().map(|trace| (trace.trace_id, trace.matched_count)).collect()
}

fn expected(spans: &[Span], holds: impl Fn(&Span) -> bool) -> BTreeMap<TraceId, u64> {
    let mut traces = BTreeMap::new();
    for span in spans.iter().filter(|span| holds(span)) {
        *traces.entry(span.trace_id).or_default() += 1;
    }
    traces
}

#[tokio::test(flavor = "multi_thread")]
async fn every_query_has_the_same_answer_at_every_stage() {
    let shop = Shop::open().await;
    let (batches, spans) = many_spans(700, 11);
    let half = batches.len() / 2;
    for (number, batch) in batches.into_iter().enumerate() {
        if number == half {
            shop.store.flush().await.expect("flushes");
        }
        shop.append(batch).await;
    }
    for stage in ["half in memory", "in two files", "merged"] {
        match stage {
            "in two files" => _ = shop.store.flush().await.expect("flushes"),
            "merged" => _ = shop.store.compact().await.expect("merges"),
            _ => {}
        }
        for (query, holds) in QUERIES {
            let found = ask(&shop, request(query)).await;
            assert_eq!(found, expected(&spans, holds), "{query}, {stage}");
        }
    }
}

/// A search tells of spans what their traces tell of them.
#[tokio::test(flavor = "multi_thread")]
async fn found_spans_are_about_what_their_traces_say() {
    let shop = Shop::open().await;
    let (batches, _) = many_spans(40, 13);
    let half = batches.len() / 2;
    for (number, batch) in batches.into_iter().enumerate() {
        if number == half {
            shop.store.flush().await.expect("flushes");
        }
        shop.append(batch).await;
    }
    let tenant = TenantId::default();
    for stage in ["half in memory", "in two files", "merged"] {
        match stage {
            "in two files" => _ = shop.store.flush().await.expect("flushes"),
            "merged" => _ = shop.store.compact().await.expect("merges"),
            _ => {}
        }
        for order in [None, Some(Order { key: OrderKey::Duration, descending: true })] {
            let request = SearchRequest { order, spans_per_spanset: 100, targets: true, ..request("{ } | by(kind)") };
            let found = shop.engine.search(&tenant, request.clone()).await.expect("a valid search");
            assert_eq!((found.partial_reason, found.traces.len()), (None, 40), "{stage}");
            let (mut told, mut roots) = (0, 0);
            for summary in found.traces {
                let detail = TraceDetail::OutlineWithTargets;
                let trace = shop.engine.trace(&tenant, summary.trace_id, usize::MAX, detail).await;
                let trace = trace.expect("it can be read").expect("it is there");
                let mut targets = Targets::new(&trace.spans);
                let mut target = |row: usize| targets.text(row).map(str::to_owned);
                assert_eq!(summary.root_target, target(0), "{stage}");
                roots += usize::from(summary.root_target.is_some());
                for span in summary.spansets.iter().flat_map(|spanset| &spanset.spans) {
                    let row =
                        trace.spans.span_id.iter().position(|id| *id == span.span_id).expect("it is in its trace");
                    assert_eq!(span.target, target(row), "{stage}: {}", span.name);
                    told += usize::from(span.target.is_some());
                }
            }
            assert!(told > 0 && roots > 0, "{stage}: {told} spans, {roots} roots are about something");
            let request = SearchRequest { targets: false, ..request };
            let found = shop.engine.search(&tenant, request).await.expect("a valid search");
            let spans = found.traces.iter().flat_map(|trace| &trace.spansets).flat_map(|spanset| &spanset.spans);
            assert!(spans.into_iter().all(|span| span.target.is_none()), "nobody asked");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn conditions_of_a_form_mean_what_they_say() {
    let shop = Shop::open().await;
    let (batches, spans) = many_spans(200, 12);
    for batch in batches {
        shop.append(batch).await;
    }
    shop.store.flush().await.expect("flushes");
    let attribute = |key: &str, operator, value: &str| Condition::Attribute {
        scope: Scope::Either,
        key: key.into(),
        operator,
        value: value.into(),
    };
    let cases: Vec<(Vec<Condition>, Holds)> = vec![
        (vec![Condition::Service("cart".into()), Condition::Status(status::ERROR)], |span| {
            span.service_name == "cart" && span.status_code == status::ERROR
        }),
        (vec![Condition::DurationMin(1_000_000), Condition::DurationMax(500_000_000)], |span| {
            (1_000_000..=500_000_000).contains(&span.duration_nanos)
        }),
        (vec![Condition::Operation("GET /".into()), Condition::Kind(kind::SERVER)], |span| {
            span.name == "GET /" && span.kind == kind::SERVER
        }),
        // A person who writes 7 means the number and the text.
        (vec![attribute("code", Operator::Equal, "7")], |span| {
            own_text(span, "code") == Some("7") || own_number(span, "code") == Some(7.0)
        }),
        (vec![attribute("code", Operator::Equal, "true")], |span| {
            own_text(span, "code") == Some("true") || own(span, "code") == Some(&AnyValue::Bool(true))
        }),
        (vec![attribute("http.status", Operator::GreaterOrEqual, "404")], |span| {
            own_number(span, "http.status").is_some_and(|value| value >= 404.0)
        }),
        (vec![attribute("http.route", Operator::Matches, "/route/1.?")], |span| {
            own_text(span, "http.route").is_some_and(|route| route.starts_with("/route/1") && route.len() <= 9)
        }),
    ];
    for (conditions, holds) in cases {
        let request =
            SearchRequest { conditions: conditions.clone(), limit: 1000, spans_per_spanset: 1, ..Default::default() };
        assert_eq!(ask(&shop, request).await, expected(&spans, holds), "{conditions:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_come_first_and_time_bounds_hold() {
    let shop = Shop::open().await;
    let (batches, spans) = many_spans(300, 13);
    for batch in batches {
        shop.append(batch).await;
        shop.store.flush().await.expect("flushes");
    }
    let mut starts: Vec<i64> =
        spans.iter().filter(|span| span.parent_span_id.is_none()).map(|span| span.start_unix_nanos).collect();
    starts.sort_unstable();
    starts.reverse();
    let newest = SearchRequest { limit: 7, ..SearchRequest::default() };
    let answer = shop.engine.search(&TenantId::default(), newest.clone()).await.expect("a valid search");
    let found: Vec<i64> = answer.traces.iter().map(|trace| trace.start_unix_nanos).collect();
    assert_eq!(found, starts[..7]);
    assert!(answer.inspected.files < answer.inspected.files_total, "older files are not read");
    let (start, end) = (NOON + 100_000_000, NOON + 110_000_000);
    let bounded = SearchRequest {
        start_unix_nanos: Some(start),
        end_unix_nanos: Some(end),
        limit: 1000,
        ..SearchRequest::default()
    };
    let within = |span: &Span| (start..end).contains(&span.start_unix_nanos);
    assert_eq!(ask(&shop, bounded).await, expected(&spans, within));
    let wrong = SearchRequest { limit: 0, ..newest };
    assert!(shop.engine.search(&TenantId::default(), wrong).await.is_err());
}

/// What a trace is ranked by: as texts or as a number.
fn rank(key: OrderKey, trace: &TraceSummary) -> (&str, &str, i64) {
    match key {
        OrderKey::Start => ("", "", trace.start_unix_nanos),
        OrderKey::Root => (&trace.root_service_name, &trace.root_span_name, 0),
        OrderKey::Duration => ("", "", trace.duration_nanos),
        OrderKey::Spans => ("", "", trace.span_count as i64),
        OrderKey::Errors => ("", "", trace.error_count as i64),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_order_ranks_all_that_match() {
    let shop = Shop::open().await;
    let (batches, _) = many_spans(300, 14);
    let half = batches.len() / 2;
    for (number, batch) in batches.into_iter().enumerate() {
        if number == half {
            shop.store.flush().await.expect("flushes");
        }
        shop.append(batch).await;
    }
    let keys = [OrderKey::Start, OrderKey::Root, OrderKey::Duration, OrderKey::Spans, OrderKey::Errors];
    let shown = Condition::ShownAs { scope: Scope::Either, key: "code".into(), text: "7".into() };
    let part = SearchRequest {
        start_unix_nanos: Some(NOON + 100_000_000),
        end_unix_nanos: Some(NOON + 200_000_000),
        ..request("{ status = error }")
    };
    let long = SearchRequest { trace_duration_nanos_min: Some(700_000_000), ..request("{ }") };
    let requests = [
        request("{ }"),
        request("{ false }"),
        request("{ duration > 200ms } | count() > 1"),
        request("{ kind = server } >> { status = error }"),
        SearchRequest { conditions: vec![shown], ..request("{ }") },
        part,
        long,
    ];
    for stage in ["half in memory", "in two files", "merged"] {
        match stage {
            "in two files" => _ = shop.store.flush().await.expect("flushes"),
            "merged" => _ = shop.store.compact().await.expect("merges"),
            _ => {}
        }
        for request in &requests {
            let case = format!("{request:?}, {stage}");
            let tenant = TenantId::default();
            let newest = shop.engine.search(&tenant, request.clone()).await.expect("a valid search");
            let all = newest.traces.len();
            assert_eq!(newest.traces_matched, Some(all as u64), "{case}");
            let count = shop.engine.count(&tenant, request.clone()).await.expect("a valid search");
            assert_eq!((count.traces, count.partial_reason), (all as u64, None), "{case}");
            for (key, descending) in keys.into_iter().flat_map(|key| [(key, true), (key, false)]) {
                let order = Order { key, descending };
                let mut expected: Vec<&TraceSummary> = newest.traces.iter().collect();
                // They are newest first, which is how equals stay.
                expected.sort_by(|one, other| {
                    let ascending = rank(key, one).cmp(&rank(key, other));
                    if descending { ascending.reverse() } else { ascending }
                });
                for limit in [1, 7, 1000] {
                    let ranked = SearchRequest { order: Some(order), limit, ..request.clone() };
                    let found = shop.engine.search(&tenant, ranked).await.expect("a valid search");
                    let told = |trace: &TraceSummary| (trace.trace_id, trace.matched_count, trace.spansets.clone());
                    let expected: Vec<_> = expected.iter().take(limit).map(|trace| told(trace)).collect();
                    let case = format!("{order:?}, {case}");
                    assert_eq!(found.traces.iter().map(told).collect::<Vec<_>>(), expected, "{case}");
                    assert_eq!((found.traces_matched, found.partial_reason), (Some(all as u64), None), "{case}");
                }
            }
        }
    }
    let some = SearchRequest { limit: 3, ..request("{ }") };
    let found = shop.engine.search(&TenantId::default(), some).await.expect("a valid search");
    assert_eq!(found.traces_matched, None, "the newest are found without looking at the others");
}

#[tokio::test(flavor = "multi_thread")]
async fn spansets_carry_what_they_were_compared_by() {
    let shop = Shop::open().await;
    let (batches, spans) = many_spans(60, 3);
    for batch in batches {
        shop.append(batch).await;
    }
    let traceql = "{ status = error } | count() > 1 | max(duration) - min(.ratio) > 0 | count() < 99";
    let request = SearchRequest { traceql: Some(traceql.to_owned()), limit: 100, ..SearchRequest::default() };
    let answer = shop.engine.search(&TenantId::default(), request).await.expect("a valid search");
    assert!(answer.traces.len() > 3, "{}", answer.traces.len());
    for trace in answer.traces {
        let failed = spans.iter().filter(|span| span.trace_id == trace.trace_id && span.status_code == status::ERROR);
        let failed: Vec<&Span> = failed.collect();
        let longest = failed.iter().map(|span| span.duration_nanos).max().expect("there are some");
        let ratios = failed.iter().filter_map(|span| own_number(span, "ratio"));
        let expected = [
            ("count()", AnyValue::Int(failed.len() as i64)),
            ("max(duration)", AnyValue::String(tracehouse_traceql::Static::Duration(longest).to_string())),
            ("min(.ratio)", AnyValue::Double(ratios.fold(f64::INFINITY, f64::min))),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(trace.spansets[0].aggregates, expected);
    }
}
