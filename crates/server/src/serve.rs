//! `tracehouse serve`: starts the roles, waits for a signal, stops them.

use std::io;
use std::time::Duration;

use anyhow::{Context, bail};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracehouse_model::{Clock, SystemClock};

use crate::cli::ServeOptions;
use crate::config::{self, Config};
use crate::node::Node;
use crate::{environment, logging};

/// A stop takes at most this long; what is not in files by then is in the write-ahead log.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// What threads still do after the stop is given up after this long.
const THREADS_TIMEOUT: Duration = Duration::from_secs(1);
/// The exit code of a process that a second signal ended: 128 + SIGINT, as shells have it.
const EXIT_INTERRUPTED: i32 = 130;

/// The threads of a process, apart from those that the store and the queries have of their own. Apart from each other,
/// so that many queries do not delay acknowledgements, and much ingest does not delay answers.
pub(crate) struct Runtimes {
    /// Receives, decodes, acknowledges.
    pub(crate) ingest: Runtime,
    /// Serves the APIs and the user interface.
    pub(crate) query: Runtime,
    /// Catalogue, signals, the process's own figures.
    pub(crate) background: Runtime,
}

impl Runtimes {
    fn new(config: &Config) -> anyhow::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let runtime = |name: &str, threads: usize| {
            let threads = if threads == 0 { cores } else { threads };
            let mut builder = Builder::new_multi_thread();
            builder.enable_all().worker_threads(threads).thread_name(name).build().context("starting threads failed")
        };
        Ok(Self {
            ingest: runtime("ingest", config.threads.ingest)?,
            query: runtime("query", config.threads.query)?,
            background: runtime("background", 1)?,
        })
    }

    fn shut_down(self) {
        for runtime in [self.ingest, self.query, self.background] {
            runtime.shutdown_timeout(THREADS_TIMEOUT);
        }
    }
}

/// Runs until a signal asks to stop; returns when all is stopped.
pub(crate) fn serve(options: &ServeOptions) -> anyhow::Result<()> {
    let loaded = config::load(&options.layers(environment()))?;
    logging::install(&loaded.config.log)?;
    let handles = tracehouse_listen::raise_handle_limit();
    tracing::debug!(handles, "file handles");
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let memory_bytes_max = loaded.config.memory_bytes_max.map(|size| size.0);
    tracehouse_memory::set_limit_bytes(memory_bytes_max.unwrap_or_else(tracehouse_memory::default_limit_bytes));
    let prometheus = install_metrics()?;
    let runtimes = Runtimes::new(&loaded.config)?;
    let outcome = runtimes.background.block_on(run(loaded.config, &runtimes, prometheus));
    runtimes.shut_down();
    outcome
}

/// Histograms have fixed buckets, which can be added up over processes, as quantiles cannot.
fn install_metrics() -> anyhow::Result<PrometheusHandle> {
    /// From a fast fdatasync to a slow query.
    const SECONDS: [f64; 15] =
        [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];
    const COUNTS: [f64; 8] = [1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0, 1024.0];
    PrometheusBuilder::new()
        .set_buckets(&COUNTS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS))
        .and_then(PrometheusBuilder::install_recorder)
        .context("installing the metrics failed")
}

async fn run(config: Config, runtimes: &Runtimes, prometheus: PrometheusHandle) -> anyhow::Result<()> {
    let clock = SystemClock::default();
    if clock.now_unix_nanos() == 0 {
        // Neither HTTP's dates nor the names of files know such times.
        bail!("this machine's clock shows a time before 1970; set it, then start the server");
    }
    let mut signals = Signals::new()?;
    let mut node = Node::new(config, runtimes, prometheus)?;
    let started = tokio::select! {
        started = node.start() => started,
        () = signals.next() => Ok(()),
    };
    let outcome = match started {
        Ok(()) if node.is_running() => {
            node.print_banner(&mut io::stdout().lock()).context("writing to standard output failed")?;
            tokio::select! {
                () = signals.next() => Ok(()),
                failure = node.failure() => Err(failure),
            }
        }
        other => other,
    };
    tracing::info!("stopping");
    tokio::select! {
        () = node.stop() => tracing::info!("stopped"),
        () = tokio::time::sleep(STOP_TIMEOUT) => {
            tracing::warn!("stopping takes longer than {} s: ending now; the write-ahead log keeps what is not in files", STOP_TIMEOUT.as_secs());
        }
        () = signals.next() => {
            tracing::warn!("second signal: ending now; the write-ahead log keeps what is not in files");
            std::process::exit(EXIT_INTERRUPTED);
        }
    }
    outcome
}

/// Completes when a signal asks the process to stop.
pub(crate) async fn stop_asked() -> anyhow::Result<()> {
    Signals::new()?.next().await;
    Ok(())
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("signals can't be received");
        Ok(Self { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
