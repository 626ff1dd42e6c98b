//! Trace by id, and search, over twenty million stored spans.

use std::collections::HashMap;
use std::time::Instant;

use anyhow::{Context, bail};
use http::StatusCode;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use super::{RunArguments, send, sending, spans_held, traceql, with_server};
use crate::data::{HISTORY_SPANS_PER_SECOND, SearchFacts, Settings, Stream};
use crate::http::escape;
use crate::measure::{Latencies, now_unix_ns};
use crate::progress::generate;
use crate::report::Row;
use crate::send::{SendSettings, Sent};
use crate::server::Server;

const BY_ID_P50_BAR_MS: f64 = 3.0;
const BY_ID_P99_BAR_MS: f64 = 10.0;
const SEARCH_P50_BAR_MS: f64 = 30.0;
const SEARCH_P99_BAR_MS: f64 = 150.0;
const LOOKUPS: usize = 1000;
const UNKNOWN_LOOKUPS: usize = 200;
const SEARCHES: usize = 300;
const CONNECTIONS: usize = 4;
/// Distinct spans; they are sent again with other ids and later times until there are enough.
const DISTINCT_SPANS_MAX: u64 = 2_000_000;
/// A search's smallest duration, as a share of the duration of a span known to match.
const DURATION_SHARE: f64 = 0.8;

pub(super) async fn measure(arguments: &RunArguments) -> anyhow::Result<Vec<Row>> {
    let distinct = DISTINCT_SPANS_MAX.min(arguments.query_spans);
    let dataset = generate(&Settings::new(arguments.seed ^ 3, distinct, HISTORY_SPANS_PER_SECOND));
    let rounds = arguments.query_spans / distinct;
    let stream = Stream { begin_ns: now_unix_ns() - rounds * dataset.length_ns, dataset, salt: 0 };
    with_server(arguments, async |server: &Server| {
        let requests = 0..rounds * stream.dataset.templates.len() as u64;
        let sent = send(server, CONNECTIONS, &stream, &SendSettings::closed_loop(requests)).await?;
        eprintln!("  flushing and compacting");
        let begin = Instant::now();
        server.api.admin("flush").await?;
        server.api.admin("compact").await?;
        let compaction_s = begin.elapsed().as_secs_f64();
        let mut rng = SmallRng::seed_from_u64(arguments.seed);
        let [p50, p99] = by_id(server, &stream, rounds, &mut rng).await?;
        let titled = with_targets(server, &stream, rounds, &mut rng).await?;
        let held = spans_held(server).await?;
        let store = server.stored()?;
        let wanted = rounds * stream.dataset.spans;
        let p50 = p50
            .note(stored(held, &sent, compaction_s, store.bytes, store.files))
            .require(held == wanted, format!("{wanted} spans were acknowledged, {held} are held"))
            .detail("spans", held)
            .detail("sending", sending(&sent))
            .detail("flush_and_compaction_s", compaction_s);
        let mut rows = vec![p50, p99, titled];
        rows.extend(search(server, &stream, &mut rng).await?);
        rows.extend(traceql::measure(server, &stream, rounds, &arguments.python).await?);
        Ok(rows)
    })
    .await
}

fn stored(held: u64, sent: &Sent, compaction_s: f64, bytes: u64, files: u64) -> String {
    format!(
        "over {held} spans, sent at {:.0} spans/s, then flushed and compacted in {compaction_s:.1} s; {files} files, {:.1} B \
         a span",
        sent.spans_per_second(),
        bytes as f64 / held as f64
    )
}

async fn by_id(server: &Server, stream: &Stream, rounds: u64, rng: &mut SmallRng) -> anyhow::Result<[Row; 2]> {
    let mut known = Latencies::default();
    let mut wrong = Vec::new();
    for _ in 0..LOOKUPS {
        let facts = &stream.dataset.traces[rng.random_range(0..stream.dataset.traces.len())];
        let id = format!("{:032x}", stream.stamp(rng.random_range(0..rounds)).trace_id(facts.trace_id));
        let begin = Instant::now();
        let (status, body) = server.api.get(&format!("/api/v1/traces/{id}")).await?;
        known.push(begin.elapsed());
        let trace: Value = serde_json::from_slice(&body).unwrap_or_default();
        let spans = trace["spanCount"].as_u64();
        let listed = trace["spans"]["id"].as_array().map(|ids| ids.len() as u64);
        if status != StatusCode::OK || spans != Some(facts.spans.into()) || listed != spans {
            wrong.push(format!("{id}: {status}, spanCount {spans:?}, {listed:?} listed of {}", facts.spans));
        }
    }
    let mut unknown = Latencies::default();
    for _ in 0..UNKNOWN_LOOKUPS {
        let id = format!("{:032x}", rng.random::<u128>());
        let begin = Instant::now();
        let (status, _) = server.api.get(&format!("/api/v1/traces/{id}")).await?;
        unknown.push(begin.elapsed());
        if status != StatusCode::NOT_FOUND {
            wrong.push(format!("{id}, which was never sent: {status}"));
        }
    }
    let p50 = Row::absolute("trace by id, p50", known.quantile_ms(0.5), "ms", BY_ID_P50_BAR_MS)
        .note(format!("known ids: {}; unknown ids: {}", known.summary(), unknown.summary()))
        .require(wrong.is_empty(), format!("{} wrong answers, first: {:?}", wrong.len(), wrong.first()))
        .detail("unknown_p50_ms", unknown.quantile_ms(0.5))
        .detail("unknown_p99_ms", unknown.quantile_ms(0.99));
    let p99 = Row::absolute("trace by id, p99", known.quantile_ms(0.99), "ms", BY_ID_P99_BAR_MS);
    Ok([p50, p99])
}

/// The same as the page of a trace asks: with what calls are about.
async fn with_targets(server: &Server, stream: &Stream, rounds: u64, rng: &mut SmallRng) -> anyhow::Result<Row> {
    let mut latencies = Latencies::default();
    let mut told = 0u64;
    for _ in 0..LOOKUPS {
        let facts = &stream.dataset.traces[rng.random_range(0..stream.dataset.traces.len())];
        let id = stream.stamp(rng.random_range(0..rounds)).trace_id(facts.trace_id);
        let begin = Instant::now();
        let (status, body) = server.api.get(&format!("/api/v1/traces/{id:032x}?targets=true")).await?;
        latencies.push(begin.elapsed());
        let trace: Value = serde_json::from_slice(&body).unwrap_or_default();
        told += u64::from(status == StatusCode::OK && trace["targets"].is_array());
    }
    let row =
        Row::absolute("trace by id with what calls are about, p50", latencies.quantile_ms(0.5), "ms", BY_ID_P50_BAR_MS);
    let few = format!("{told} of {LOOKUPS} traces say what their calls are about");
    Ok(row.note(latencies.summary()).require(told * 2 > LOOKUPS as u64, few))
}

async fn search(server: &Server, stream: &Stream, rng: &mut SmallRng) -> anyhow::Result<[Row; 2]> {
    let facts = &stream.dataset.searches;
    if facts.is_empty() {
        bail!("too few spans to know any to search for");
    }
    let mut latencies = Latencies::default();
    let mut by_key: HashMap<&str, Latencies> = HashMap::new();
    let mut slowest_first: Vec<(f64, String)> = Vec::new();
    let mut wrong = Vec::new();
    let mut partial = 0;
    let mut traces_found = 0;
    for _ in 0..SEARCHES {
        let wanted = &facts[rng.random_range(0..facts.len())];
        let path = search_path(wanted);
        let begin = Instant::now();
        let answer = server.api.get_json(&path).await?;
        let latency = begin.elapsed();
        latencies.push(latency);
        by_key.entry(&wanted.key).or_default().push(latency);
        partial += u32::from(answer["complete"] != true);
        match starts(&answer) {
            Ok(starts) if !starts.is_empty() && starts.is_sorted_by(|a, b| a >= b) => traces_found += starts.len(),
            Ok(starts) => wrong.push(format!("{path}: {} traces, newest first or not", starts.len())),
            Err(error) => wrong.push(format!("{path}: {error:#}")),
        }
        slowest_first.push((latency.as_secs_f64() * 1000.0, path));
    }
    slowest_first.sort_by(|a, b| b.0.total_cmp(&a.0));
    let examples = slowest_first.iter().take(5).map(|(ms, path)| format!("{path} {ms:.0} ms"));
    let examples: Vec<String> = examples.collect();
    let mut slowest: Vec<(f64, &str)> = by_key.iter().map(|(key, times)| (times.quantile_ms(0.5), *key)).collect();
    slowest.sort_by(|a, b| b.0.total_cmp(&a.0));
    let named: Vec<String> = slowest.iter().take(4).map(|(ms, key)| format!("{key} {ms:.1} ms")).collect();
    let name = "search on service, duration, one attribute, p50";
    let p50 = Row::absolute(name, latencies.quantile_ms(0.5), "ms", SEARCH_P50_BAR_MS)
        .note(format!("{}; slowest keys (p50): {}", latencies.summary(), named.join(", ")))
        .note(format!("{:.1} traces found on average of 20 asked for", traces_found as f64 / SEARCHES as f64))
        .require(partial == 0, format!("{partial} answers were partial"))
        .require(wrong.is_empty(), format!("{} wrong answers, first: {:?}", wrong.len(), wrong.first()))
        .detail("p99_ms", latencies.quantile_ms(0.99))
        .detail("by_key_p50_ms", json!(slowest.iter().map(|(ms, key)| (*key, *ms)).collect::<HashMap<_, _>>()));
    let name = "the same, p99: conditions that are each frequent and together rare";
    let p99 = Row::absolute(name, latencies.quantile_ms(0.99), "ms", SEARCH_P99_BAR_MS)
        .note(format!("slowest: {}", examples.join(", ")));
    Ok([p50, p99])
}

fn search_path(wanted: &SearchFacts) -> String {
    let duration_us = (wanted.duration_ns as f64 * DURATION_SHARE / 1000.0) as u64;
    let attribute = escape(&format!("{}={}", wanted.key, wanted.value));
    format!("/api/v1/search?service={}&minDuration={duration_us}us&attr={attribute}&limit=20", wanted.service)
}

/// When the traces of an answer start, in the answer's order.
fn starts(answer: &Value) -> anyhow::Result<Vec<u64>> {
    let traces = answer["traces"].as_array().context("find the traces")?;
    traces
        .iter()
        .map(|trace| trace["startTimeUnixNano"].as_str().and_then(|ns| ns.parse().ok()).context("find a trace's start"))
        .collect()
}
