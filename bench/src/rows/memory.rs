//! Peak memory at 50,000 spans a second for a minute.

use std::time::Duration;

use super::{RunArguments, STEADY_SPANS_PER_SECOND, send, sending, with_server};
use crate::data::{Settings, Stream};
use crate::measure::now_unix_ns;
use crate::progress::generate;
use crate::report::Row;
use crate::send::SendSettings;
use crate::server::Server;

const BAR_MIB: f64 = 600.0;
const LASTING: Duration = Duration::from_secs(60);
const CONNECTIONS: usize = 4;
const PACE_SHARE_MIN: f64 = 0.98;

pub(super) async fn measure(arguments: &RunArguments) -> anyhow::Result<Vec<Row>> {
    let distinct = (STEADY_SPANS_PER_SECOND * LASTING.as_secs_f64()) as u64;
    let dataset = generate(&Settings::new(arguments.seed ^ 2, distinct, STEADY_SPANS_PER_SECOND));
    with_server(arguments, async |server: &Server| {
        let at_start_mib = server.memory_mib()?;
        let stream = Stream { dataset, salt: 0, begin_ns: now_unix_ns() };
        let cpu_before = server.cpu_seconds()?;
        let settings = SendSettings::paced(0, STEADY_SPANS_PER_SECOND, LASTING);
        let sent = send(server, CONNECTIONS, &stream, &settings).await?;
        let cpu_seconds = server.cpu_seconds()? - cpu_before;
        let peak_mib = server.peak_memory_mib()?;
        server.api.admin("flush").await?;
        server.api.admin("compact").await?;
        let after_compaction_mib = server.peak_memory_mib()?;
        let pace = sent.spans_per_second();
        let cores = cpu_seconds / sent.elapsed.as_secs_f64();
        let row = Row::absolute("peak memory at 50,000 spans/s", peak_mib, "MiB", BAR_MIB)
            .note(format!(
                "{at_start_mib:.0} MiB at the start; peak {after_compaction_mib:.0} MiB after a flush and a compaction"
            ))
            .note(format!("at {pace:.0} spans/s on {cores:.2} cores; acknowledgements: {}", sent.ack.summary()))
            .require(
                pace > STEADY_SPANS_PER_SECOND * PACE_SHARE_MIN,
                format!("the server took only {pace:.0} spans/s ({} requests refused)", sent.refused_requests()),
            )
            .detail("sending", sending(&sent))
            .detail("cores", cores)
            .detail("at_start_mib", at_start_mib)
            .detail("after_compaction_mib", after_compaction_mib);
        Ok(vec![row])
    })
    .await
}
