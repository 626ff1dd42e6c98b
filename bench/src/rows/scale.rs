//! Seven days in very many files: how the server starts with them, what it holds in memory, how many it has open, and what
//! the number of files costs a time series.
//!
//! Files are made as they are in life, by flushes, only that each flush brings spans of all hours of seven days and so writes
//! a file for each hour. The server does not merge meanwhile; merging then makes the same rows a few files.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::Value;

use super::{RunArguments, send};
use crate::data::{Settings, Stream};
use crate::http::escape;
use crate::measure::{Latencies, now_unix_ns};
use crate::report::Row;
use crate::send::SendSettings;
use crate::server::Server;

const HOURS: u64 = 7 * 24;
const HOUR_S: f64 = 3600.0;
const CONNECTIONS: usize = 2;
/// Never, as far as a bench is concerned.
pub(super) const NO_MERGES: (&str, &str) = ("TRACEHOUSE_STORE__COMPACTION_INTERVAL", "1000h");
/// Spans of the start row: files are small, as only their number counts there.
const SPANS_PER_SMALL_FILE: u64 = 60;
/// Files and spans of the row that compares many files with few.
const FILES_COMPARED: u64 = 10_000;
const SPANS_PER_FILE_COMPARED: u64 = 4_000;
const RUNS: usize = 5;
const TRACES: usize = 1000;

const START_BAR_S: f64 = 2.0;
const MEMORY_BAR_MIB: f64 = 400.0;
const OPEN_FILES_BAR: f64 = 256.0;
const MANY_FILES_BAR: f64 = 1.3;
const SERIES: &str = "{ status = error } | rate() by (resource.service.name)";

/// Sends seven days of spans so often that so many files come of it.
async fn fill(server: &Server, arguments: &RunArguments, files: u64, spans_per_file: u64) -> anyhow::Result<Stream> {
    let spans = HOURS * spans_per_file;
    let dataset =
        crate::progress::generate(&Settings::new(arguments.seed ^ 5, spans, spans as f64 / (HOURS as f64 * HOUR_S)));
    let begin_ns = now_unix_ns() - (HOURS * 3_600 - 1_800) * 1_000_000_000;
    let mut stream = Stream { dataset, salt: 0, begin_ns };
    let requests = stream.dataset.templates.len() as u64;
    // Few spans don't reach every hour, so that the rounds can't be counted beforehand.
    while server.stored()?.files < files {
        send(server, CONNECTIONS, &stream, &SendSettings::closed_loop(0..requests)).await?;
        server.api.admin("flush").await?;
        stream.salt += 1;
    }
    Ok(stream)
}

fn series_path(stream: &Stream) -> String {
    let (start, end) = (stream.begin_ns, now_unix_ns());
    format!("/api/v1/metrics?q={}&start={start}&end={end}&step=1h", escape(SERIES))
}

pub(super) async fn start_and_memory(arguments: &RunArguments) -> anyhow::Result<Vec<Row>> {
    let mut server = Server::start_with(&arguments.server, arguments.data_parent.as_deref(), &[NO_MERGES]).await?;
    let stream = fill(&server, arguments, arguments.files, SPANS_PER_SMALL_FILE).await?;
    let files = server.stored()?.files;
    let started = server.restart().await?;
    let at_start_mib = server.memory_mib()?;
    let search = format!("/api/v1/search?q={}&limit=1000", escape("{ status = error }"));
    let found = server.api.get_json(&search).await?;
    let after_search_mib = server.memory_mib()?;
    let (answer, open_files) = watching_open_files(&server, &series_path(&stream)).await?;
    ensure!(answer["complete"] == true, "the series is partial: {}", answer["partialReason"]);
    let after_series_mib = server.memory_mib()?;
    let ids: Vec<&str> =
        found["traces"].as_array().into_iter().flatten().filter_map(|t| t["traceId"].as_str()).collect();
    ensure!(!ids.is_empty(), "the search found no trace");
    let mut latencies = Latencies::default();
    for id in ids.iter().cycle().take(TRACES) {
        let begin = Instant::now();
        server.api.get_json(&format!("/api/v1/traces/{id}")).await?;
        latencies.push(begin.elapsed());
    }
    let memory_mib = server.memory_mib()?;
    let name_files = |row: Row| row.note(format!("{files} files of seven days"));
    Ok(vec![
        name_files(Row::absolute("start with many files", started.as_secs_f64(), "s", START_BAR_S)),
        name_files(Row::absolute("memory with many files", memory_mib, "MiB", MEMORY_BAR_MIB)).note(format!(
            "{at_start_mib:.0} MiB after the start, {after_search_mib:.0} after a search, {after_series_mib:.0} after a series \
             over everything, then {TRACES} traces by id: {}",
            latencies.summary()
        )),
        name_files(Row::absolute("open files during a series over all", open_files as f64, "files", OPEN_FILES_BAR)),
    ])
}

/// An answer, and the most files of the store that were open meanwhile.
async fn watching_open_files(server: &Server, path: &str) -> anyhow::Result<(Value, usize)> {
    let (done, most) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                most.fetch_max(server.open_files(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let answer =
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(server.api.get_json(path)));
        done.store(true, Ordering::Relaxed);
        answer
    })
    .map(|answer| (answer, most.into_inner()))
}

pub(super) async fn many_files(arguments: &RunArguments) -> anyhow::Result<Row> {
    let server = Server::start_with(&arguments.server, arguments.data_parent.as_deref(), &[NO_MERGES]).await?;
    let stream = fill(&server, arguments, FILES_COMPARED, SPANS_PER_FILE_COMPARED).await?;
    let path = series_path(&stream);
    let many = server.stored()?.files;
    let of_many = middle_s(&server, &path).await?;
    server.api.admin("compact").await?;
    let few = server.api.get_json("/api/v1/status").await?["files"].as_u64().context("find files in the status")?;
    let of_few = middle_s(&server, &path).await?;
    let spans = stream.salt * HOURS * SPANS_PER_FILE_COMPARED;
    Ok(Row::relative("a series over seven days in many files", of_many, "s", of_few, MANY_FILES_BAR)
        .note(format!("`{SERIES}` over {spans} spans in {many} files, against the same rows in {few} files")))
}

/// The middle of some runs, in seconds.
async fn middle_s(server: &Server, path: &str) -> anyhow::Result<f64> {
    let mut latencies = Latencies::default();
    for run in 0..=RUNS {
        let begin = Instant::now();
        let answer = server.api.get_json(path).await?;
        ensure!(answer["complete"] == true, "the series is partial: {}", answer["partialReason"]);
        // The first warms up.
        if run > 0 {
            latencies.push(begin.elapsed());
        }
    }
    Ok(latencies.quantile_ms(0.5) / 1000.0)
}
