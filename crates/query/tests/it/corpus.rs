//! Every query of the corpus over fixed spans: the engine must answer as the reference does, wherever the spans lie.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use tracehouse_model::{AnyValue, Span, SpanBatch, TenantId, TraceId};
use tracehouse_query::{MetricsRequest, Order, OrderKey, SearchRequest, Selects, Series};
use tracehouse_traceql::QueryExpr;

use crate::reference::{self, ReferenceSeries, Steps};
use crate::shop::Shop;
use crate::wild::{RANGE, wild_spans};

const SECOND: i64 = 1_000_000_000;

/// Where the spans lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Layout {
    Memory,
    /// Merged, if there is more than one batch.
    Files,
    /// Three files, and the rest in memory.
    Mixed,
}

pub(crate) async fn shop(batches: &[SpanBatch], layout: Layout) -> Shop {
    let shop = Shop::open().await;
    for (number, batch) in batches.iter().enumerate() {
        shop.append(batch.clone()).await;
        let is_flushed = match layout {
            Layout::Memory => false,
            // Only what is merged has all that a merged file has.
            Layout::Files => number == 0,
            Layout::Mixed => [2, 4, 5].contains(&number),
        };
        if is_flushed {
            shop.store.flush().await.expect("the flush succeeds");
        }
    }
    if layout == Layout::Files {
        shop.store.flush().await.expect("the flush succeeds");
        shop.store.compact().await.expect("the merge succeeds");
    }
    shop
}

/// The queries of a file of the corpus: one in a line, `#` begins a comment.
fn queries(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

async fn run_corpus(file: &str, text: &str) {
    let (batches, spans) = wild_spans();
    let mut failures = Vec::new();
    let mut empty = 0;
    let queries = queries(text);
    for layout in [Layout::Memory, Layout::Files, Layout::Mixed] {
        let shop = shop(&batches, layout).await;
        for query in &queries {
            match check(&shop, &spans, query).await {
                Ok(found) => empty += usize::from(!found),
                Err(difference) => failures.push(format!("{layout:?}: {query}\n    {difference}")),
            }
        }
    }
    let count = failures.len();
    assert!(failures.is_empty(), "{file}: {count} differences\n{}", failures.join("\n"));
    assert!(5 * empty <= 3 * queries.len(), "{file}: {empty} of {} answers are empty", 3 * queries.len());
}

/// Whether there was anything in the answer; what differs, if something does.
pub(crate) async fn check(shop: &Shop, spans: &[Span], query: &str) -> Result<bool, String> {
    let compiled = tracehouse_traceql::compile(query).map_err(|error| error.render(query).to_string())?;
    match compiled.expr {
        QueryExpr::Spans(_) => {
            // A range in which all begin, and one before whose begin some do.
            let found = check_search(shop, spans, query, RANGE, Selects::Starting).await?;
            let later = RANGE.start + 5 * SECOND..RANGE.end;
            Ok(found | check_search(shop, spans, query, later, Selects::Overlapping).await?)
        }
        QueryExpr::Metrics(_) => {
            let mut found = false;
            for step in [None, Some(7 * SECOND)] {
                found |= check_metrics(shop, spans, query, &Steps { range: RANGE, step }).await?;
            }
            // A range in which traces go on that began before it.
            let later = RANGE.start + 7 * SECOND..RANGE.end;
            found |= check_metrics(shop, spans, query, &Steps { range: later, step: Some(7 * SECOND) }).await?;
            Ok(found)
        }
    }
}

type Found = BTreeMap<TraceId, Vec<(Vec<(String, Option<AnyValue>)>, BTreeSet<String>)>>;

async fn check_search(
    shop: &Shop,
    spans: &[Span],
    query: &str,
    range: Range<i64>,
    selects: Selects,
) -> Result<bool, String> {
    let request = SearchRequest {
        traceql: Some(query.to_owned()),
        start_unix_nanos: Some(range.start),
        end_unix_nanos: Some(range.end),
        selects,
        limit: 1000,
        spans_per_spanset: usize::MAX,
        ..SearchRequest::default()
    };
    let tenant = TenantId::default();
    let count = shop.engine.count(&tenant, request.clone()).await.map_err(|error| error.to_string())?;
    let longest = Order { key: OrderKey::Duration, descending: true };
    let ranked = SearchRequest { order: Some(longest), limit: 1, ..request.clone() };
    let ranked = shop.engine.search(&tenant, ranked).await.map_err(|error| error.to_string())?;
    let answer = shop.engine.search(&tenant, request).await.map_err(|error| error.to_string())?;
    let partial = [&answer.partial_reason, &count.partial_reason, &ranked.partial_reason];
    if let Some(reason) = partial.into_iter().flatten().next() {
        return Err(format!("partial: {reason}"));
    }
    let counts = (answer.traces.len() as u64, count.traces, ranked.traces_matched);
    if counts != (counts.0, counts.0, Some(counts.0)) {
        return Err(format!("found, counted, matched: {counts:?}"));
    }
    let mut found: Found = BTreeMap::new();
    for trace in answer.traces {
        let spansets = trace.spansets.into_iter().map(|spanset| {
            assert_eq!(spanset.matched_count, spanset.spans.len() as u64, "{query}");
            (spanset.by, spanset.spans.iter().map(|span| span.span_id.to_string()).collect())
        });
        found.insert(trace.trace_id, sorted(spansets.collect()));
    }
    let selected = |span: &Span| match selects {
        Selects::Starting => range.contains(&span.start_unix_nanos),
        Selects::Overlapping => {
            let end = span.start_unix_nanos.saturating_add(span.duration_nanos);
            span.start_unix_nanos < range.end && (span.start_unix_nanos >= range.start || end > range.start)
        }
    };
    let mut expected: Found = BTreeMap::new();
    for (trace, spansets) in reference::search(spans, query, &selected) {
        let spansets = spansets
            .into_iter()
            .map(|spanset| (spanset.by, spanset.spans.iter().map(|(id, _)| id.to_string()).collect()));
        expected.insert(trace, sorted(spansets.collect()));
    }
    if found == expected {
        return Ok(!expected.is_empty());
    }
    let traces = |found: &Found, other: &Found| found.keys().filter(|trace| !other.contains_key(*trace)).count();
    let different = found.iter().find(|(trace, spansets)| expected.get(*trace).is_some_and(|other| other != *spansets));
    Err(format!(
        "{} traces found, {} expected; {} too many, {} missing; first that differs: {different:?}, expected {:?}",
        found.len(),
        expected.len(),
        traces(&found, &expected),
        traces(&expected, &found),
        different.map(|(trace, _)| &expected[trace]),
    ))
}

type Spansets = Vec<(Vec<(String, Option<AnyValue>)>, BTreeSet<String>)>;

fn sorted(mut spansets: Spansets) -> Spansets {
    spansets.sort_by_key(|(by, _)| format!("{by:?}"));
    spansets
}

async fn check_metrics(shop: &Shop, spans: &[Span], query: &str, steps: &Steps) -> Result<bool, String> {
    let request = MetricsRequest {
        traceql: query.to_owned(),
        start_unix_nanos: steps.range.start,
        end_unix_nanos: steps.range.end,
        step_nanos: steps.step,
        exemplars_max: 3,
        ..MetricsRequest::default()
    };
    let answer = shop.engine.metrics(&TenantId::default(), request).await.map_err(|error| error.to_string())?;
    if let Some(reason) = answer.partial_reason {
        return Err(format!("partial: {reason}"));
    }
    if answer.start_unix_nanos != steps.first() {
        return Err(format!("begins at {}, not at {}", answer.start_unix_nanos, steps.first()));
    }
    let expected = reference::metrics(spans, query, steps);
    for series in &answer.series {
        check_series(series, &expected).map_err(|difference| format!("step {:?}: {difference}", steps.step))?;
        check_exemplars(series, spans)?;
    }
    if query.contains("compare(") {
        return check_numbers(&answer.series, &expected).map(|()| true);
    }
    for series in &expected {
        if !answer.series.iter().any(|found| reference::same(&found.labels, &series.labels)) {
            return Err(format!("step {:?}: {:?} is missing", steps.step, series.labels));
        }
    }
    Ok(!expected.is_empty())
}

/// `compare()` shows so many values of each key. Which of equally frequent ones is left open; the reference has them all.
fn check_numbers(found: &[Series], expected: &[ReferenceSeries]) -> Result<(), String> {
    const TOP_MIN: usize = 3;
    let key = |labels: &[(String, Option<AnyValue>)]| format!("{:?} {}", labels[0], labels[1].0);
    let mut counts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    found.iter().for_each(|series| counts.entry(key(&series.labels)).or_default().0 += 1);
    expected.iter().for_each(|series| counts.entry(key(&series.labels)).or_default().1 += 1);
    match counts.iter().find(|(_, (found, expected))| *found < (*expected).min(TOP_MIN)) {
        Some((key, (found, expected))) => Err(format!("{key}: {found} values, {expected} expected")),
        None => Ok(()),
    }
}

fn check_series(series: &Series, expected: &[ReferenceSeries]) -> Result<(), String> {
    let Some(reference) = expected.iter().find(|reference| reference::same(&reference.labels, &series.labels)) else {
        return Err(format!("{:?} is not expected", series.labels));
    };
    // Quantiles are those of buckets.
    let tolerance = if series.labels.iter().any(|(name, _)| name == "p") { 0.016 } else { 1e-9 };
    let close = |found: &Option<f64>, expected: &Option<f64>| match (found, expected) {
        (Some(found), Some(expected)) => {
            found == expected || (found - expected).abs() <= tolerance * expected.abs().max(1e-12)
        }
        (None, None) => true,
        _ => false,
    };
    let pairs = || series.values.iter().zip(&reference.values);
    if series.values.len() != reference.values.len() || !pairs().all(|(found, expected)| close(found, expected)) {
        return Err(format!("{:?}: {:?}, expected {:?}", series.labels, series.values, reference.values));
    }
    Ok(())
}

/// Each is a span, and belongs to its series where labels are fields of spans.
fn check_exemplars(series: &Series, spans: &[Span]) -> Result<(), String> {
    for exemplar in &series.exemplars {
        let is_it = |span: &&Span| {
            (span.trace_id, span.span_id, span.start_unix_nanos)
                == (exemplar.trace_id, exemplar.span_id, exemplar.start_unix_nanos)
        };
        // The halves of a call may share an id and a start.
        let services: Vec<&str> = spans.iter().filter(is_it).map(|span| span.service_name.as_str()).collect();
        if services.is_empty() {
            return Err(format!("{exemplar:?} is no span"));
        }
        for (_, value) in series.labels.iter().filter(|(name, _)| name == "resource.service.name") {
            let belongs = |service: &&str| *value == Some(AnyValue::String((*service).to_owned()));
            if !services.iter().any(belongs) {
                return Err(format!("{exemplar:?} does not belong to {value:?}"));
            }
        }
        for shown in &exemplar.fields {
            let is_label = |label: &&(String, Option<AnyValue>)| label.0 == shown.field;
            let Some((_, label)) = series.labels.iter().find(is_label) else { continue };
            let is_of_series = *label == Some(shown.value.clone()) || matches!(label, Some(AnyValue::Array(_)));
            if !is_of_series {
                return Err(format!("{exemplar:?} shows another value than {label:?}"));
            }
        }
    }
    Ok(())
}

macro_rules! corpus {
    ($($name:ident),*) => {$(
        #[tokio::test(flavor = "multi_thread")]
        async fn $name() {
            run_corpus(stringify!($name), include_str!(concat!("../corpus/", stringify!($name), ".txt"))).await;
        }
    )*
        /// The files of the corpus, by name.
        const CORPUS: &[(&str, &str)] = &[
            $((stringify!($name), include_str!(concat!("../corpus/", stringify!($name), ".txt")))),*
        ];

        #[test]
        fn the_corpus_is_large() {
            let files = [$(include_str!(concat!("../corpus/", stringify!($name), ".txt"))),*];
            let all: BTreeSet<&str> = files.iter().flat_map(|text| queries(text)).collect();
            assert!(all.len() >= 400, "{} queries", all.len());
        }
    };
}

corpus!(intrinsics, attributes, arithmetic, spansets, pipelines, metrics, compare);

/// What a query is, how it is printed, and how it would run over the merged files: as it was when somebody last looked at
/// it. After a change that is meant, `UPDATE_PLANS=1 cargo nextest run plans` writes the files anew.
#[tokio::test]
async fn plans() {
    let (batches, _) = wild_spans();
    let shop = shop(&batches, Layout::Files).await;
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/plans");
    for (name, text) in CORPUS {
        let mut plans = String::new();
        for query in queries(text) {
            plans.push_str(&plan(&shop, query).await);
        }
        let path = folder.join(format!("{name}.txt"));
        if std::env::var_os("UPDATE_PLANS").is_some() {
            std::fs::create_dir_all(&folder).expect("the folder can be made");
            std::fs::write(&path, &plans).expect("the file can be written");
            continue;
        }
        let known = std::fs::read_to_string(&path).unwrap_or_default();
        let different = plans.lines().zip(known.lines()).position(|(now, before)| now != before);
        let at = different.or_else(|| (plans != known).then(|| plans.lines().count().min(known.lines().count())));
        assert_eq!(at, None, "{name}: the plans differ from line {at:?} on; UPDATE_PLANS=1 writes them anew");
    }
}

async fn plan(shop: &Shop, query: &str) -> String {
    let compiled = tracehouse_traceql::compile(query).expect("a query of the corpus");
    let explained = shop.engine.explain(&TenantId::default(), query, RANGE).await.expect("a query of the corpus");
    let printed = compiled.to_string();
    assert_eq!(tracehouse_traceql::compile(&printed).expect("what is printed is a query").to_string(), printed);
    let lines: String = explained.plan.iter().map(|line| format!("    {line}\n")).collect();
    let same = if printed == query { String::new() } else { format!("  = {printed}\n") };
    format!("{query}\n{same}{lines}")
}
