//! A value of a frequent key over very many large files: one that nobody has, and one that a single span has.
//!
//! There is no disk for so many files, so one is asked very often: the server makes it, and the query engine is given it
//! 8,200 times, opened by itself each time. What is read of it is in the machine's page cache then.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tracehouse_catalogue::SqliteCatalogue;
use tracehouse_model::{SystemClock, SystemRandomness, TenantId};
use tracehouse_query::{QueryEngine, QueryLimits, SearchRequest};
use tracehouse_store::{Arrived, Snapshot, Snapshots, SpanFile, Store, StoreConfig};

use super::{RunArguments, send};
use crate::data::{Settings, Stream, text};
use crate::measure::{Latencies, now_unix_ns};
use crate::progress::generate;
use crate::report::Row;
use crate::send::{SendSettings, Sender};
use crate::server::Server;

const FILES: usize = 8_200;
/// The server makes a few files of them.
const SPANS: u64 = 1_680_000;
/// Different values, as a filter is wrong about some: about each in all copies of a file alike, so that their mean counts.
const VALUES: usize = 40;
const RUNS: usize = 5;
const NOBODY_BAR_S: f64 = 1.5;
const ONE_BAR_S: f64 = 2.0;
const BYTES_BAR: f64 = 0.5;
const KEY: &str = "enduser.id";
const ONE: &str = "u-once";

/// What a store holds, with its large files many times.
struct Repeated(Snapshot);

impl Snapshots for Repeated {
    fn snapshot(&self, _: &TenantId) -> Snapshot {
        self.0.clone()
    }

    fn snapshot_as_sent(&self, _: &TenantId) -> Snapshot {
        self.0.clone()
    }

    /// Nothing comes any more.
    fn position(&self) -> u64 {
        0
    }

    fn arrived(&self, _: &TenantId, _: u64, _: u64) -> Arrived {
        Arrived::default()
    }
}

/// A server that has ended, in whose store so many spans are merged into a few files.
pub(super) async fn stored(arguments: &RunArguments, spans: u64) -> anyhow::Result<Server> {
    let mut server = Server::start(&arguments.server, arguments.data_parent.as_deref()).await?;
    let dataset = generate(&Settings::new(arguments.seed ^ 6, spans, spans as f64 / 600.0));
    let stream = Stream { dataset, salt: 0, begin_ns: now_unix_ns() - 3_600_000_000_000 };
    let requests = stream.dataset.templates.len() as u64;
    send(&server, 2, &stream, &SendSettings::closed_loop(0..requests)).await?;
    server.api.admin("flush").await?;
    server.api.admin("compact").await?;
    // In an hour of its own, so that it stays a file of its own.
    Sender::connect(&server.otlp_endpoint, 1).await?.send_one(one_span()).await.ok().context("send the one span")?;
    server.api.admin("flush").await?;
    server.stop()?;
    Ok(server)
}

/// The store of a server that has ended.
pub(super) async fn open_store(server: &Server) -> anyhow::Result<Arc<Store>> {
    let data = server.data_directory();
    let root = data.join("store");
    let objects = Arc::new(object_store::local::LocalFileSystem::new_with_prefix(&root)?);
    let catalogue = SqliteCatalogue::open(&data.join("catalogue.sqlite")).await?;
    let config = StoreConfig { log_dir: data.join("log"), ..StoreConfig::default() };
    let (clock, randomness) = (Arc::new(SystemClock::default()), Arc::new(SystemRandomness::default()));
    Ok(Store::open(config, objects, Some(root), catalogue, clock, randomness).await?)
}

fn is_large(file: &SpanFile) -> bool {
    file.record.spans > 1000
}

pub(super) fn large_files(store: &Store) -> Vec<Arc<SpanFile>> {
    let snapshot = store.snapshot(&TenantId::default());
    snapshot.files.iter().filter(|file| is_large(file)).cloned().collect()
}

pub(super) async fn measure(arguments: &RunArguments) -> anyhow::Result<Vec<Row>> {
    let server = stored(arguments, SPANS).await?;
    let (snapshot, filter_bytes) = repeated(&server).await?;
    let (files, spans) = (snapshot.files.len(), snapshot.files.iter().map(|file| file.record.spans).sum::<u64>());
    let engine =
        QueryEngine::new(Arc::new(Repeated(snapshot)), QueryLimits::default(), Arc::new(SystemClock::default()));
    let mut nobody = Vec::with_capacity(VALUES);
    for number in 0..VALUES {
        nobody.push(search_s(&engine, &format!("u-99999{number:02}"), 0).await?);
    }
    let slowest = nobody.iter().copied().fold(0.0, f64::max);
    let nobody = nobody.iter().sum::<f64>() / VALUES as f64;
    let mut one = Latencies::default();
    for _ in 0..RUNS {
        one.push(Duration::from_secs_f64(search_s(&engine, ONE, 1).await?));
    }
    let one = one.quantile_ms(0.5) / 1e3;
    let about = |row: Row, value: &str| {
        row.note(format!("`{{ span.{KEY} = \"{value}\" }}` over {spans} spans in {files} files, of which few differ"))
    };
    Ok(vec![
        about(Row::absolute("a value that nobody has, over many large files", nobody, "s", NOBODY_BAR_S), "…")
            .note(format!("the mean of {VALUES} values; the slowest took {slowest:.2} s")),
        about(Row::absolute("a value that one span has, over many large files", one, "s", ONE_BAR_S), ONE),
        Row::absolute("what the filter of values takes", filter_bytes, "B/span", BYTES_BAR),
    ])
}

/// The store of a server that has ended, with its large files so often that there are as many as are wanted, and the bytes a span of
/// their filters of values.
async fn repeated(server: &Server) -> anyhow::Result<(Snapshot, f64)> {
    let store = open_store(server).await?;
    let snapshot = store.snapshot(&TenantId::default());
    let (large, small): (Vec<_>, Vec<_>) = snapshot.files.iter().cloned().partition(|file| is_large(file));
    ensure!(!large.is_empty() && small.len() == 1, "there are {} large and {} small files", large.len(), small.len());
    let (mut bytes, mut spans) = (0, 0);
    for file in &large {
        bytes += u64::from(file.open()?.value_filter_bytes().unwrap_or(0));
        spans += file.record.spans;
    }
    let of = |files: Vec<_>| {
        let mut some = snapshot.clone();
        some.files = Arc::new(files);
        some
    };
    let times = FILES / large.len();
    let mut files = of(large).repeated(times).files.to_vec();
    files.extend(small);
    files.sort_by_key(|file| std::cmp::Reverse(file.record.start_max));
    Ok((of(files), bytes as f64 / spans as f64))
}

/// How long a search takes, in seconds, which must find so many traces.
async fn search_s(engine: &Arc<QueryEngine>, value: &str, found: usize) -> anyhow::Result<f64> {
    let request = SearchRequest {
        traceql: Some(format!("{{ span.{KEY} = \"{value}\" }}")),
        limit: 20,
        ..SearchRequest::default()
    };
    let begin = Instant::now();
    let answer = engine.search(&TenantId::default(), request).await?;
    let seconds = begin.elapsed().as_secs_f64();
    ensure!(answer.partial_reason.is_none(), "the answer is partial: {:?}", answer.partial_reason);
    ensure!(answer.traces.len() == found, "{value}: {} traces were found", answer.traces.len());
    Ok(seconds)
}

fn one_span() -> Vec<u8> {
    let end_ns = now_unix_ns() - 3 * 3_600_000_000_000;
    let span = Span {
        trace_id: rand::random::<u128>().to_be_bytes().to_vec(),
        span_id: rand::random::<u64>().to_be_bytes().to_vec(),
        name: "once".to_owned(),
        kind: 1,
        start_time_unix_nano: end_ns - 1_000_000,
        end_time_unix_nano: end_ns,
        attributes: vec![text(KEY, ONE)],
        ..Default::default()
    };
    let resource = Resource { attributes: vec![text("service.name", "bench-once")], ..Default::default() };
    let scope_spans = vec![ScopeSpans { spans: vec![span], ..Default::default() }];
    let resource_spans = vec![ResourceSpans { resource: Some(resource), scope_spans, ..Default::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}
