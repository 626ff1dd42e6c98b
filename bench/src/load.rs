//! The parts that can be run by hand: a pure sender, and the yardstick alone.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use anyhow::Context;

use crate::data::{HISTORY_SPANS_PER_SECOND, Settings, Stream};
use crate::measure::{now_unix_ns, process_cpu};
use crate::progress::{Ticker, generate};
use crate::send::{SendSettings, Sender};
use crate::yardstick;

#[derive(clap::Args)]
pub(crate) struct LoadArguments {
    /// Where the server receives OTLP/gRPC.
    #[arg(long, default_value = "http://127.0.0.1:4317")]
    endpoint: String,
    /// Spans per second; 0 sends as fast as answers come, again where refused.
    #[arg(long, default_value_t = 0.0)]
    rate: f64,
    /// How long to send.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Stop after about this many spans.
    #[arg(long)]
    spans: Option<u64>,
    /// Distinct spans made before sending; further ones get new ids and times.
    #[arg(long, default_value_t = 1_000_000)]
    distinct: u64,
    #[arg(long, default_value_t = 4)]
    connections: usize,
    /// Requests on the way at once.
    #[arg(long, default_value_t = 16)]
    in_flight: usize,
    /// Runs of different salt send different ids.
    #[arg(long)]
    salt: Option<u64>,
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

#[derive(clap::Args)]
pub(crate) struct YardstickArguments {
    #[arg(long, default_value_t = 2_000_000)]
    spans: u64,
    #[arg(long, default_value_t = 42)]
    seed: u64,
    /// How many of the file's largest columns to list.
    #[arg(long, default_value_t = 0)]
    columns: usize,
}

pub(crate) async fn load(arguments: &LoadArguments) -> anyhow::Result<()> {
    let paced = arguments.rate > 0.0;
    let pace = if paced { arguments.rate } else { HISTORY_SPANS_PER_SECOND };
    let dataset = generate(&Settings::new(arguments.seed, arguments.distinct, pace));
    let now_ns = now_unix_ns();
    let salt = arguments.salt.unwrap_or(now_ns);
    let history_ns = if paced { 0 } else { dataset.length_ns };
    let stream = Stream { dataset, salt, begin_ns: now_ns - history_ns };
    let end = arguments.spans.map_or(u64::MAX, |spans| stream.requests_for_spans(spans));
    let settings = SendSettings {
        in_flight: arguments.in_flight,
        spans_per_second: paced.then_some(arguments.rate),
        retry: !paced,
        requests: 0..end,
        stop_after: Some(Duration::from_secs(arguments.seconds)),
    };
    let sender = Sender::connect(&arguments.endpoint, arguments.connections).await?;
    let progress = Arc::new(AtomicU64::new(0));
    let ticker = Ticker::start(progress.clone());
    let cpu_before = process_cpu();
    let sent = sender.send(&stream, &settings, &progress).await?;
    let cpu = process_cpu() - cpu_before;
    drop(ticker);
    println!(
        "acknowledged {} spans in {} requests in {:.2} s: {:.0} spans/s, {:.0} requests/s; sender's CPU {:.3} us a span",
        sent.acknowledged_spans,
        sent.acknowledged_requests,
        sent.elapsed.as_secs_f64(),
        sent.spans_per_second(),
        sent.acknowledged_requests as f64 / sent.elapsed.as_secs_f64(),
        cpu.as_secs_f64() * 1e6 / sent.acknowledged_spans.max(1) as f64
    );
    println!("ack latency: {}", sent.ack.summary());
    if sent.rejected_spans > 0 {
        println!("rejected in partial success: {} spans", sent.rejected_spans);
    }
    for (code, refusals) in &sent.refusals {
        println!(
            "refused with {code}: {} requests, {} of them with RetryInfo; first: {}",
            refusals.requests, refusals.with_retry_info, refusals.message
        );
    }
    Ok(())
}

pub(crate) fn yardstick(arguments: &YardstickArguments) -> anyhow::Result<()> {
    let dataset = generate(&Settings::new(arguments.seed, arguments.spans, HISTORY_SPANS_PER_SECOND));
    let stream = Stream { begin_ns: now_unix_ns() - dataset.length_ns, dataset, salt: 0 };
    let directory = tempfile::tempdir().context("make a temporary directory")?;
    let yardstick = yardstick::measure(&stream, &directory.path().join("yardstick.parquet"))?;
    println!("{}", yardstick.summary());
    for (name, bytes) in yardstick.columns.iter().take(arguments.columns) {
        println!("  {bytes:6.3} B a span  {name}");
    }
    Ok(())
}
