//! From the acknowledgement of a span until a search finds it, while the server takes 50,000 spans a second; and how long its trace takes
//! by id meanwhile, with and without a search beside it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use http::StatusCode;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tokio::sync::Mutex;

use super::{RunArguments, STEADY_SPANS_PER_SECOND, send, sending, with_server};
use crate::data::{Settings, Stream, text};
use crate::http::{Api, escape};
use crate::measure::{Latencies, now_unix_ns};
use crate::progress::generate;
use crate::report::Row;
use crate::send::{SendSettings, Sender};
use crate::server::Server;

const BAR_S: f64 = 1.0;
const LASTING: Duration = Duration::from_secs(40);
/// Probing begins when the server has warmed up.
const WARM_UP: Duration = Duration::from_secs(5);
/// Of two probes one is looked for by id alone.
const PROBES: u32 = 600;
const PROBE_PERIOD: Duration = Duration::from_millis(55);
const POLL_PAUSE: Duration = Duration::from_millis(5);
/// A probe not found by then counts as this late.
const PATIENCE: Duration = Duration::from_secs(15);
const CONNECTIONS: usize = 4;
/// At this share of the wanted pace the row still speaks of that pace.
const PACE_SHARE_MIN: f64 = 0.98;

#[derive(Default)]
struct Found {
    by_search: Latencies,
    /// While a search looks for the same.
    by_id_beside: Latencies,
    by_id: Latencies,
    by_both: Latencies,
    never: u32,
    refused: u32,
}

pub(super) async fn measure(arguments: &RunArguments) -> anyhow::Result<Vec<Row>> {
    let distinct = (STEADY_SPANS_PER_SECOND * LASTING.as_secs_f64()) as u64;
    let dataset = generate(&Settings::new(arguments.seed ^ 1, distinct, STEADY_SPANS_PER_SECOND));
    with_server(arguments, async |server: &Server| {
        let stream = Stream { dataset, salt: 0, begin_ns: now_unix_ns() };
        let settings = SendSettings::paced(0, STEADY_SPANS_PER_SECOND, LASTING);
        let (sent, found) = tokio::join!(send(server, CONNECTIONS, &stream, &settings), probe(server));
        let (sent, found) = (sent?, found?);
        let seconds = |latencies: &Latencies, share| latencies.quantile_ms(share) / 1e3;
        let pace = sent.spans_per_second();
        let row = Row::absolute("acknowledged to searchable, p99", seconds(&found.by_both, 0.99), "s", BAR_S)
            .note(format!("by search: {}; by id at once: {}", found.by_search.summary(), found.by_id_beside.summary()))
            .note(format!("at {pace:.0} spans/s; acknowledgements: {}", sent.ack.summary()))
            .require(
                pace > STEADY_SPANS_PER_SECOND * PACE_SHARE_MIN,
                format!("the server took only {pace:.0} spans/s ({} requests refused)", sent.refused_requests()),
            )
            .require(found.never == 0, format!("{} probes were not found within {PATIENCE:?}", found.never))
            .detail("sending", sending(&sent))
            .detail("probes", found.by_both.len())
            .detail("probes_refused", found.refused)
            .detail("by_search_p50_ms", found.by_search.quantile_ms(0.5))
            .detail("by_search_p99_ms", found.by_search.quantile_ms(0.99))
            .detail("by_id_beside_a_search_p50_ms", found.by_id_beside.quantile_ms(0.5))
            .detail("by_id_beside_a_search_p99_ms", found.by_id_beside.quantile_ms(0.99));
        // The first look comes at once, while the senders are busy.
        let by_id = |name, share, bar_ms| Row::absolute(name, found.by_id.quantile_ms(share), "ms", bar_ms);
        let beside = format!("while a search over memory looks for the same: {}", found.by_id_beside.summary());
        let p50 = by_id("trace by id from memory, p50", 0.5, 1.0).note(found.by_id.summary()).note(beside);
        Ok(vec![row, p50, by_id("trace by id from memory, p99", 0.99, 5.0)])
    })
    .await
}

async fn probe(server: &Server) -> anyhow::Result<Found> {
    tokio::time::sleep(WARM_UP).await;
    let sender = Sender::connect(&server.otlp_endpoint, 1).await?;
    let found = Arc::new(Mutex::new(Found::default()));
    let mut searches = Vec::new();
    let mut ticks = tokio::time::interval(PROBE_PERIOD);
    for number in 0..PROBES {
        ticks.tick().await;
        let (trace_id, name) = (rand::random::<u128>(), format!("probe-{number}"));
        if sender.send_one(probe_request(trace_id, &name)).await.is_err() {
            found.lock().await.refused += 1;
            continue;
        }
        if number % 2 == 0 {
            searches.push(tokio::spawn(find(server.api.clone(), trace_id, name, found.clone())));
        } else {
            searches.push(tokio::spawn(find_by_id(server.api.clone(), trace_id, found.clone())));
        }
    }
    for search in searches {
        search.await??;
    }
    let found = Arc::into_inner(found).context("every search has ended")?;
    Ok(found.into_inner())
}

fn probe_request(trace_id: u128, name: &str) -> Vec<u8> {
    let end_ns = now_unix_ns();
    let span = Span {
        trace_id: trace_id.to_be_bytes().to_vec(),
        span_id: rand::random::<u64>().to_be_bytes().to_vec(),
        name: "probe".to_owned(),
        kind: 1,
        start_time_unix_nano: end_ns - 1_000_000,
        end_time_unix_nano: end_ns,
        attributes: vec![text("bench.probe", name)],
        ..Default::default()
    };
    let resource = Resource { attributes: vec![text("service.name", "bench-probe")], ..Default::default() };
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..Default::default() }];
    let resource_spans = vec![ResourceSpans { resource: Some(resource), scope_spans, ..Default::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

async fn find_by_id(api: Api, trace_id: u128, found: Arc<Mutex<Found>>) -> anyhow::Result<()> {
    let id = format!("{trace_id:032x}");
    let by_id = poll(&api, Instant::now(), &format!("/api/v1/traces/{id}"), &id).await?;
    let mut found = found.lock().await;
    found.by_id.push(by_id);
    found.never += u32::from(by_id >= PATIENCE);
    Ok(())
}

async fn find(api: Api, trace_id: u128, name: String, found: Arc<Mutex<Found>>) -> anyhow::Result<()> {
    let acknowledged = Instant::now();
    let id = format!("{trace_id:032x}");
    let search = format!("/api/v1/search?limit=1&attr={}", escape(&format!("bench.probe={name}")));
    let by_id = format!("/api/v1/traces/{id}");
    let (by_search, by_id) =
        tokio::join!(poll(&api, acknowledged, &search, &id), poll(&api, acknowledged, &by_id, &id));
    let (by_search, by_id) = (by_search?, by_id?);
    let mut found = found.lock().await;
    let slower = by_search.max(by_id);
    found.by_search.push(by_search);
    found.by_id_beside.push(by_id);
    found.by_both.push(slower);
    found.never += u32::from(slower >= PATIENCE);
    Ok(())
}

/// How long after `begin` an answer named the trace, at most [`PATIENCE`].
async fn poll(api: &Api, begin: Instant, path: &str, trace_id: &str) -> anyhow::Result<Duration> {
    while begin.elapsed() < PATIENCE {
        let (status, body) = api.get(path).await?;
        let text = String::from_utf8_lossy(&body);
        match status {
            StatusCode::OK if text.contains(trace_id) => return Ok(begin.elapsed()),
            StatusCode::OK | StatusCode::NOT_FOUND => tokio::time::sleep(POLL_PAUSE).await,
            _ => bail!("GET {path}: {status}: {text}"),
        }
    }
    Ok(PATIENCE)
}
