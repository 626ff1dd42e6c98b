//! CPU and disk per span, against the yardstick over the same requests.

use std::ops::Range;
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;

use super::scale::NO_MERGES;
use super::{RunArguments, r_note, send, sending, spans_held, with_server};
use crate::data::{HISTORY_SPANS_PER_SECOND, Settings, Stream};
use crate::measure::now_unix_ns;
use crate::progress::generate;
use crate::report::Row;
use crate::send::{SendSettings, Sent};
use crate::server::{Disk, Server};
use crate::yardstick::{self, Yardstick};

const FLUSHED_BAR: f64 = 1.2;
const FIRST_BAR: f64 = 1.1;
const NEXT_BAR: f64 = 0.9;
const COMPACTED_BAR: f64 = 2.0;
const DISK_BAR: f64 = 0.87;
const CONNECTIONS: usize = 4;
/// Replaced files may stay for the readers' sake; so long we wait for them to go.
const GRACE_MAX: Duration = Duration::from_secs(90);

struct Found {
    sent: Sent,
    flushed_cpu_s: f64,
    compacted_cpu_s: f64,
    store: Disk,
    /// With the log and the catalogue.
    data_directory: Disk,
    /// Whether `store` is what the files themselves take, rather than what the server says its live files take.
    store_settled: bool,
    peak_memory_mib: f64,
    spans_held: u64,
}

pub(super) async fn measure(arguments: &RunArguments, found: &mut Option<Yardstick>) -> anyhow::Result<Vec<Row>> {
    let dataset = generate(&Settings::new(arguments.seed, arguments.spans, HISTORY_SPANS_PER_SECOND));
    let stream = Stream { begin_ns: now_unix_ns() - dataset.length_ns, dataset, salt: 0 };
    let directory = tempfile::tempdir().context("make a temporary directory")?;
    let yardstick = yardstick::measure(&stream, &directory.path().join("yardstick.parquet"))?;
    eprintln!("{}", yardstick.summary());
    *found = Some(yardstick.clone());
    let measured = with_server(arguments, async |server: &Server| ingest(server, &stream).await).await?;
    let mut rows = rows(&stream, &yardstick, &measured);
    rows.extend(in_halves(arguments, &stream, &yardstick).await?);
    Ok(rows)
}

/// The first half of the spans after a start, and the second: a process that has just started has no memory yet.
async fn in_halves(arguments: &RunArguments, stream: &Stream, yardstick: &Yardstick) -> anyhow::Result<[Row; 2]> {
    let server = Server::start_with(&arguments.server, arguments.data_parent.as_deref(), &[NO_MERGES]).await?;
    let requests = stream.dataset.templates.len() as u64;
    let half = async |requests: Range<u64>| {
        let before = server.cpu_seconds()?;
        let sent = send(&server, CONNECTIONS, stream, &SendSettings::closed_loop(requests)).await?;
        server.api.admin("flush").await?;
        anyhow::Ok((server.cpu_seconds()? - before) * 1e6 / sent.acknowledged_spans as f64)
    };
    let first = half(0..requests / 2).await?;
    let next = half(requests / 2..requests).await?;
    let spans = stream.dataset.spans / 2;
    let row = |name, us, bar| {
        Row::relative(name, us, "us", yardstick.r_us(), bar).note(format!("{spans} spans, received to flushed"))
    };
    Ok([
        row("CPU per span, the first half after a start", first, FIRST_BAR),
        row("CPU per span, the other half", next, NEXT_BAR),
    ])
}

async fn ingest(server: &Server, stream: &Stream) -> anyhow::Result<Found> {
    let requests = 0..stream.dataset.templates.len() as u64;
    let before = server.cpu_seconds()?;
    let sent = send(server, CONNECTIONS, stream, &SendSettings::closed_loop(requests)).await?;
    server.api.admin("flush").await?;
    let flushed_cpu_s = server.cpu_seconds()? - before;
    server.api.admin("compact").await?;
    let compacted_cpu_s = server.cpu_seconds()? - before;
    let peak_memory_mib = server.peak_memory_mib()?;
    let (store, store_settled) = settled_store(server).await?;
    let data_directory = server.whole_disk()?;
    let spans_held = spans_held(server).await?;
    Ok(Found {
        sent,
        flushed_cpu_s,
        compacted_cpu_s,
        store,
        data_directory,
        store_settled,
        peak_memory_mib,
        spans_held,
    })
}

/// The store when only live files are left in it.
async fn settled_store(server: &Server) -> anyhow::Result<(Disk, bool)> {
    let begin = Instant::now();
    loop {
        let store = server.stored()?;
        let status = server.api.get_json("/api/v1/status").await?;
        let files = status["files"].as_u64().context("find files in /api/v1/status")?;
        if store.files == files {
            return Ok((store, true));
        }
        if begin.elapsed() > GRACE_MAX {
            let bytes = status["bytesStored"].as_u64().context("find bytesStored in /api/v1/status")?;
            return Ok((Disk { files, bytes }, false));
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

fn rows(stream: &Stream, yardstick: &Yardstick, found: &Found) -> Vec<Row> {
    let spans = stream.dataset.spans;
    let per_span_us = |seconds: f64| seconds * 1e6 / spans as f64;
    let without_sort_us = yardstick.decode_us + yardstick.write_us;
    let flushed_us = per_span_us(found.flushed_cpu_s);
    let compacted_us = per_span_us(found.compacted_cpu_s);
    let flushed = Row::relative("CPU per span, received to flushed", flushed_us, "us", yardstick.r_us(), FLUSHED_BAR)
        .note(r_note(yardstick))
        .note(format!(
            "against decode and write alone, without the sort: {:.2} x flushed, {:.2} x compacted",
            flushed_us / without_sort_us,
            compacted_us / without_sort_us
        ))
        .note(format!(
            "sent as fast as acknowledged: {:.0} spans/s, {}; peak memory {:.0} MiB",
            found.sent.spans_per_second(),
            found.sent.ack.summary(),
            found.peak_memory_mib
        ))
        .require(found.spans_held == spans, format!("{spans} spans were acknowledged, {} are held", found.spans_held))
        .detail("spans", spans)
        .detail("sending", sending(&found.sent))
        .detail("ratio_without_sort", flushed_us / without_sort_us)
        .detail("peak_memory_mib", found.peak_memory_mib);
    let compacted =
        Row::relative("CPU per span, received to compacted", compacted_us, "us", yardstick.r_us(), COMPACTED_BAR)
            .detail("ratio_without_sort", compacted_us / without_sort_us);
    let bytes = found.store.bytes as f64 / spans as f64;
    let mut disk = Row::relative("disk per span, compacted", bytes, "B", yardstick.file_bytes, DISK_BAR)
        .note(format!(
            "{} files; the whole data directory with log and catalogue: {:.1} B a span",
            found.store.files,
            found.data_directory.bytes as f64 / spans as f64
        ))
        .detail("files", Value::from(found.store.files));
    if !found.store_settled {
        disk = disk.note(format!(
            "replaced files were still there {} s after compaction; these are the server's figures of its live files",
            GRACE_MAX.as_secs()
        ));
    }
    vec![flushed, compacted, disk]
}
