//! Far more senders than the server can serve, none of whom waits after a refusal: memory stays bounded, refusals ask to come back, and nothing that was
//! acknowledged is missing afterwards.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context;
use http::StatusCode;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;

use super::{RunArguments, send, sending, spans_held, with_server};
use crate::data::{HISTORY_SPANS_PER_SECOND, Settings, Stream};
use crate::measure::now_unix_ns;
use crate::progress::generate;
use crate::report::Row;
use crate::send::{SendSettings, Sent};
use crate::server::Server;

/// Twice what ordinary traffic may take: in-flight requests and full queues need room, but it has an end.
const BAR_MIB: f64 = 1200.0;
const CALIBRATION: Duration = Duration::from_secs(10);
const LASTING: Duration = Duration::from_secs(20);
const CONNECTIONS: usize = 64;
/// The bar is set at five times what the server can take; this many requests are always on the way, which is sixty-four
/// times what the calm senders have, and each refusal is followed by the next request at once.
const IN_FLIGHT: usize = 1024;
const DISTINCT_SPANS: u64 = 1_000_000;
const SAMPLED_TRACES: usize = 300;
const RETRYABLE: [&str; 2] = ["ResourceExhausted", "Unavailable"];

pub(super) async fn measure(arguments: &RunArguments) -> anyhow::Result<Vec<Row>> {
    let dataset = generate(&Settings::new(arguments.seed ^ 6, DISTINCT_SPANS, HISTORY_SPANS_PER_SECOND));
    with_server(arguments, async |server: &Server| {
        let stream = Stream { begin_ns: now_unix_ns() - dataset.length_ns, dataset, salt: 0 };
        let calm = SendSettings { stop_after: Some(CALIBRATION), ..SendSettings::closed_loop(0..u64::MAX) };
        let calm = send(server, 4, &stream, &calm).await?;
        let calm_peak_mib = server.peak_memory_mib()?;
        eprintln!("  takes {:.0} spans/s of senders who wait; now without waiting", calm.spans_per_second());
        let storm = SendSettings {
            in_flight: IN_FLIGHT,
            spans_per_second: None,
            retry: false,
            requests: calm.next..u64::MAX,
            stop_after: Some(LASTING),
        };
        let storm = send(server, CONNECTIONS, &stream, &storm).await?;
        let peak_mib = server.peak_memory_mib()?;
        server.api.admin("flush").await?;
        server.api.admin("compact").await?;
        let held = spans_held(server).await?;
        let missing = missing(server, &stream, &calm, &storm, arguments.seed).await?;
        Ok(vec![row(&calm, &storm, calm_peak_mib, peak_mib, held, &missing)])
    })
    .await
}

fn row(calm: &Sent, storm: &Sent, calm_peak_mib: f64, peak_mib: f64, held: u64, missing: &[String]) -> Row {
    let acknowledged = calm.acknowledged_spans + storm.acknowledged_spans;
    let impolite: Vec<String> = storm
        .refusals
        .iter()
        .filter(|(code, refusals)| !RETRYABLE.contains(&code.as_str()) || refusals.with_retry_info < refusals.requests)
        .map(|(code, refusals)| {
            format!(
                "{code}: {} requests, {} with RetryInfo: {}",
                refusals.requests, refusals.with_retry_info, refusals.message
            )
        })
        .collect();
    // A request that ended without a verdict may or may not have been kept, as OTLP has it.
    let undecided: u64 = storm
        .refusals
        .iter()
        .filter(|(_, refusals)| refusals.with_retry_info < refusals.requests)
        .map(|(_, refusals)| refusals.requests - refusals.with_retry_info)
        .sum();
    let attempted = storm.acknowledged_requests + storm.refused_requests();
    Row::absolute("peak memory in overload", peak_mib, "MiB", BAR_MIB)
        .note(format!(
            "took {:.0} spans/s of 16 senders who wait ({calm_peak_mib:.0} MiB), then {:.0} spans/s of {IN_FLIGHT} who do \
             not: {attempted} requests tried in {:.1} s, {} refused, {:.1} times what it took before and {:.1} times what \
             it took meanwhile; {}",
            calm.spans_per_second(),
            storm.spans_per_second(),
            storm.elapsed.as_secs_f64(),
            storm.refused_requests(),
            attempted as f64 / storm.elapsed.as_secs_f64()
                / (calm.acknowledged_requests as f64 / calm.elapsed.as_secs_f64()),
            attempted as f64 / storm.acknowledged_requests as f64,
            storm.ack.summary()
        ))
        .note(format!("{acknowledged} spans were acknowledged, {held} are held"))
        .require(impolite.is_empty(), format!("refusals that do not ask to come back: {}", impolite.join("; ")))
        .require(held >= acknowledged, "acknowledged spans are missing")
        .require(held <= acknowledged || undecided > 0, "more spans are held than were acknowledged")
        .require(
            missing.is_empty(),
            format!("{} sampled traces are wrong, first: {:?}", missing.len(), missing.first()),
        )
        .detail("calm", sending(calm))
        .detail("storm", sending(storm))
        .detail("attempted_requests", attempted)
        .detail("calm_peak_mib", calm_peak_mib)
        .detail("acknowledged_spans", acknowledged)
        .detail("held_spans", held)
}

/// Compares sampled traces with what was acknowledged of them, span by span.
async fn missing(
    server: &Server,
    stream: &Stream,
    calm: &Sent,
    storm: &Sent,
    seed: u64,
) -> anyhow::Result<Vec<String>> {
    let acknowledged: Vec<u64> = calm.acknowledged.iter().chain(&storm.acknowledged).copied().collect();
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut expected: HashMap<u128, u64> = HashMap::new();
    for _ in 0..SAMPLED_TRACES {
        let request = stream.request(acknowledged[rng.random_range(0..acknowledged.len())]);
        let number = rng.random_range(0..request.spans() as usize);
        let original = request.template().trace_ids().nth(number).context("a request has as many ids as spans")?;
        expected.insert(request.stamp().trace_id(original), 0);
    }
    for number in acknowledged {
        let request = stream.request(number);
        for original in request.template().trace_ids() {
            if let Some(spans) = expected.get_mut(&request.stamp().trace_id(original)) {
                *spans += 1;
            }
        }
    }
    // What a request without a verdict brought may be there as well: only too few is wrong here.
    let mut wrong = Vec::new();
    for (id, spans) in expected {
        let id = format!("{id:032x}");
        let (status, body) = server.api.get(&format!("/api/v1/traces/{id}")).await?;
        let trace: Value = serde_json::from_slice(&body).unwrap_or_default();
        let found = trace["spanCount"].as_u64().unwrap_or_default();
        if status != StatusCode::OK || found < spans {
            wrong.push(format!("{id}: {status}, {found} of {spans} spans"));
        }
    }
    Ok(wrong)
}
