//! One trace of 500,000 spans among normal traffic: whom does it hurt, and can it be opened?

use std::time::{Duration, Instant};

use anyhow::bail;
use serde_json::{Value, json};

use super::{RunArguments, send, sending, with_server};
use crate::data::{Settings, Stream};
use crate::measure::now_unix_ns;
use crate::progress::generate;
use crate::report::Row;
use crate::send::SendSettings;
use crate::server::Server;

const RATIO_BAR: f64 = 2.0;
const GIANT_SPANS: u64 = 500_000;
/// The giant's own pace, so that it lasts as long as each phase.
const GIANT_SPANS_PER_SECOND: f64 = 20_000.0;
const NORMAL_SPANS_PER_SECOND: f64 = 20_000.0;
const WARM_UP: Duration = Duration::from_secs(5);
const PHASE: Duration = Duration::from_secs(25);
const CONNECTIONS: usize = 4;

pub(super) async fn measure(arguments: &RunArguments) -> anyhow::Result<Vec<Row>> {
    let seconds = (WARM_UP + PHASE + PHASE).as_secs_f64();
    let distinct = (NORMAL_SPANS_PER_SECOND * seconds) as u64;
    let normal = generate(&Settings::new(arguments.seed ^ 4, distinct, NORMAL_SPANS_PER_SECOND));
    let giant = generate(&Settings {
        single_trace: true,
        ..Settings::new(arguments.seed ^ 5, GIANT_SPANS, GIANT_SPANS_PER_SECOND)
    });
    let giant_id = format!("{:032x}", giant.traces[0].trace_id);
    with_server(arguments, async |server: &Server| {
        let stream = Stream { dataset: normal, salt: 0, begin_ns: now_unix_ns() };
        let paced = |first, lasting| SendSettings::paced(first, NORMAL_SPANS_PER_SECOND, lasting);
        let warm_up = send(server, CONNECTIONS, &stream, &paced(0, WARM_UP)).await?;
        let without = send(server, CONNECTIONS, &stream, &paced(warm_up.next, PHASE)).await?;
        let giant_stream = Stream { salt: 0, begin_ns: now_unix_ns(), dataset: giant };
        let giant_settings = SendSettings {
            spans_per_second: Some(GIANT_SPANS_PER_SECOND),
            in_flight: 32,
            ..SendSettings::closed_loop(0..giant_stream.dataset.templates.len() as u64)
        };
        let with_settings = paced(without.next, PHASE);
        let (with, giant_sent) = tokio::join!(
            send(server, CONNECTIONS, &stream, &with_settings),
            send(server, 1, &giant_stream, &giant_settings)
        );
        let (with, giant_sent) = (with?, giant_sent?);
        let hot = open(server, &giant_id).await?;
        server.api.admin("flush").await?;
        server.api.admin("compact").await?;
        let stored = open(server, &giant_id).await?;
        let p99 = |sent: &crate::send::Sent| sent.ack.quantile_ms(0.99);
        let row = Row::relative("others' p99 ack beside a giant trace", p99(&with), "ms", p99(&without), RATIO_BAR)
            .note(format!("without it: {}; with it: {}", without.ack.summary(), with.ack.summary()))
            .note(format!(
                "the giant of {} spans was taken in {:.1} s and opens in {:.0} ms ({:.1} MB) from memory and {:.0} ms from \
                 files; refused meanwhile: {} requests of others, {} of the giant's",
                giant_sent.acknowledged_spans,
                giant_sent.elapsed.as_secs_f64(),
                hot.ms,
                hot.bytes as f64 / 1e6,
                stored.ms,
                with.refused_requests(),
                giant_sent.refused_requests()
            ))
            .require(with.refused_requests() == 0, "others were refused")
            .require(hot.is_whole(), format!("from memory it has {} spans", hot.spans))
            .require(stored.is_whole(), format!("from files it has {} spans", stored.spans))
            .detail("without", sending(&without))
            .detail("with", sending(&with))
            .detail("giant", sending(&giant_sent))
            .detail("opens_hot", hot.json())
            .detail("opens_stored", stored.json());
        Ok(vec![row])
    })
    .await
}

struct Opened {
    spans: u64,
    returned: u64,
    ms: f64,
    bytes: usize,
}

impl Opened {
    fn is_whole(&self) -> bool {
        self.spans == GIANT_SPANS && self.returned > 0
    }

    fn json(&self) -> Value {
        json!({ "span_count": self.spans, "returned": self.returned, "ms": self.ms, "bytes": self.bytes })
    }
}

async fn open(server: &Server, id: &str) -> anyhow::Result<Opened> {
    let begin = Instant::now();
    let (status, body) = server.api.get(&format!("/api/v1/traces/{id}")).await?;
    let ms = begin.elapsed().as_secs_f64() * 1e3;
    if !status.is_success() {
        bail!("the giant trace does not open: {status}: {}", String::from_utf8_lossy(&body));
    }
    let trace: Value = serde_json::from_slice(&body)?;
    let number = |key: &str| trace[key].as_u64().unwrap_or_default();
    Ok(Opened { spans: number("spanCount"), returned: number("returned"), ms, bytes: body.len() })
}
