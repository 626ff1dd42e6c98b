//! The rows of the table. Each group starts a server of its own, so that none inherits another's memory or files.

mod encoder;
mod giant;
mod ingest;
mod latency;
mod memory;
mod overload;
mod query;
mod scale;
mod traceql;
mod values;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::Context;
use serde_json::{Value, json};

use crate::data::Stream;
use crate::progress::Ticker;
use crate::report::{Report, machine};
use crate::send::{SendSettings, Sender, Sent};
use crate::server::Server;
use crate::yardstick::Yardstick;

/// A group of rows that are measured together.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Group {
    /// CPU and disk per span, against the yardstick.
    Ingest,
    /// Acknowledged to searchable.
    Latency,
    /// Trace by id and search over many stored spans.
    Query,
    /// One trace of 500,000 spans among normal traffic.
    Giant,
    /// Far more than the server can take.
    Overload,
    /// Peak memory at a steady pace.
    Memory,
    /// Seven days in very many files: start, memory, open files.
    Scale,
    /// What very many files cost a time series.
    ManyFiles,
    /// One value of a frequent key, in very many large files.
    Values,
    /// The own Parquet encoder, against the library's.
    Encoder,
}

#[derive(clap::Args)]
pub(crate) struct RunArguments {
    /// Also write the result to this file, as JSON.
    #[arg(long)]
    pub(crate) json: Option<PathBuf>,
    /// Which groups to measure.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_values_t = [Group::Ingest, Group::Latency, Group::Memory, Group::Giant, Group::Overload, Group::Query, Group::Scale, Group::ManyFiles, Group::Values, Group::Encoder]
    )]
    rows: Vec<Group>,
    /// Spans for the yardstick and the ingest rows.
    #[arg(long, default_value_t = 2_000_000)]
    spans: u64,
    /// Stored spans for the query rows.
    #[arg(long, default_value_t = 20_000_000)]
    query_spans: u64,
    /// Files for the rows over seven days.
    #[arg(long, default_value_t = 20_000)]
    files: u64,
    /// The server to measure; the one built beside the bench by default.
    #[arg(long, default_value_os_t = beside_this_program("tracehouse"))]
    pub(crate) server: PathBuf,
    /// A Python that has DuckDB, for the rows that are compared with it.
    #[arg(long, default_value = "python3")]
    pub(super) python: PathBuf,
    /// Where the servers' data directories are made; the system's temporary directory by default.
    #[arg(long)]
    data_parent: Option<PathBuf>,
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

/// A program in the folder of this one, wherever the target directory is.
fn beside_this_program(name: &str) -> PathBuf {
    std::env::current_exe().map_or_else(|_| PathBuf::from(name), |program| program.with_file_name(name))
}

/// The pace at which latency and memory are measured.
const STEADY_SPANS_PER_SECOND: f64 = 50_000.0;

pub(crate) async fn run(arguments: &RunArguments) -> Report {
    let mut report =
        Report { machine: machine(&arguments.server), yardstick: None, rows: Vec::new(), errors: Vec::new() };
    for group in &arguments.rows {
        let name = clap::ValueEnum::to_possible_value(group).map_or(String::new(), |value| value.get_name().to_owned());
        eprintln!("== {name}");
        let rows = match group {
            Group::Ingest => ingest::measure(arguments, &mut report.yardstick).await,
            Group::Latency => latency::measure(arguments).await,
            Group::Query => query::measure(arguments).await,
            Group::Giant => giant::measure(arguments).await,
            Group::Overload => overload::measure(arguments).await,
            Group::Memory => memory::measure(arguments).await,
            Group::Scale => scale::start_and_memory(arguments).await,
            Group::ManyFiles => scale::many_files(arguments).await.map(|row| vec![row]),
            Group::Values => values::measure(arguments).await,
            Group::Encoder => encoder::measure(arguments).await.map(|row| vec![row]),
        };
        match rows {
            Ok(rows) => report.rows.extend(rows),
            Err(error) => {
                eprintln!("{name} failed: {error:#}");
                report.errors.push(format!("{name}: {error:#}"));
            }
        }
    }
    report
}

/// Starts a server for a piece of work; if that fails, the error shows the end of the server's log.
async fn with_server<T>(
    arguments: &RunArguments,
    work: impl AsyncFnOnce(&Server) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let server = Server::start(&arguments.server, arguments.data_parent.as_deref()).await?;
    match work(&server).await {
        Ok(done) => Ok(done),
        Err(error) => Err(error.context(format!("the server's last words:\n{}\n", server.log_tail()))),
    }
}

/// Sends a stretch over connections of its own, with progress on standard error.
async fn send(server: &Server, connections: usize, stream: &Stream, settings: &SendSettings) -> anyhow::Result<Sent> {
    let sender = Sender::connect(&server.otlp_endpoint, connections).await?;
    let progress = Arc::new(AtomicU64::new(0));
    let _ticker = Ticker::start(progress.clone());
    sender.send(stream, settings, &progress).await
}

/// How many spans the server says it has, in files and in memory.
async fn spans_held(server: &Server) -> anyhow::Result<u64> {
    let status = server.api.get_json("/api/v1/status").await?;
    let count = |key: &str| status[key].as_u64().with_context(|| format!("find {key} in /api/v1/status"));
    Ok(count("spansStored")? + count("spansHot")?)
}

/// What any sending is worth recording of.
fn sending(sent: &Sent) -> Value {
    json!({
        "seconds": sent.elapsed.as_secs_f64(),
        "spans_per_second": sent.spans_per_second(),
        "acknowledged_spans": sent.acknowledged_spans,
        "rejected_spans": sent.rejected_spans,
        "ack_ms": { "p50": sent.ack.quantile_ms(0.5), "p99": sent.ack.quantile_ms(0.99), "max": sent.ack.quantile_ms(1.0) },
        "refusals": sent.refusals,
    })
}

/// R of this run and its parts, in words.
fn r_note(yardstick: &Yardstick) -> String {
    format!(
        "R = {:.3} us: decode {:.3}, sort {:.3}, write {:.3} ({:.0} B of OTLP a span)",
        yardstick.r_us(),
        yardstick.decode_us,
        yardstick.sort_us,
        yardstick.write_us,
        yardstick.request_bytes
    )
}
