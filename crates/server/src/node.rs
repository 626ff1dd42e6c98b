//! One process's roles while they run: what the start of each makes, and how each is stopped.

use std::future::Future;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use futures::future::BoxFuture;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tracehouse_api::ApiState;
use tracehouse_catalogue::{Catalogue, SqliteCatalogue};
use tracehouse_listen::{AllowedHeaders, OriginPattern, Port, Sites};
use tracehouse_memory::Pool;
use tracehouse_model::{Clock, Randomness, SystemClock, SystemRandomness, TenantId};
use tracehouse_pipeline::{Pipeline, TenantGate};
use tracehouse_query::QueryEngine;
use tracehouse_receive::{ReceiverState, grpc_router, http_router};
use tracehouse_sql::SqlEngine;
use tracehouse_store::Store;

use crate::config::Config;
use crate::data_dir::DataDir;
use crate::front::Front;
use crate::process_metrics;
use crate::roles::{ROLES, Start};
use crate::serve::Runtimes;
use crate::sink::StoreSink;

/// How long answers in the making may take to finish after a stop was asked for.
const API_DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
const PROCESS_METRICS_INTERVAL: Duration = Duration::from_secs(5);

pub(crate) struct Node<'a> {
    config: Config,
    runtimes: &'a Runtimes,
    prometheus: PrometheusHandle,
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
    data_dir: DataDir,
    front: Front,
    /// Bound before anything else is done, so that a port in use is said at once.
    otlp: Option<OtlpListeners>,
    catalogue: Option<Arc<dyn Catalogue>>,
    store: Option<Arc<Store>>,
    running: bool,
    /// What to print for people: a name and an address.
    addresses: Vec<(&'static str, SocketAddr)>,
    /// How to stop what was started, in the order in which it was started.
    stops: Vec<(&'static str, BoxFuture<'static, ()>)>,
    failures: mpsc::UnboundedReceiver<anyhow::Error>,
    failed: mpsc::UnboundedSender<anyhow::Error>,
}

struct OtlpListeners {
    grpc: TcpListener,
    http: TcpListener,
}

impl<'a> Node<'a> {
    /// Takes what only one process can have, the folder and the ports, and starts nothing yet but the front.
    pub(crate) fn new(config: Config, runtimes: &'a Runtimes, prometheus: PrometheusHandle) -> anyhow::Result<Self> {
        let data_dir = DataDir::take(&config.data_dir)?;
        let (failed, failures) = mpsc::unbounded_channel();
        let mut node = Self {
            config,
            runtimes,
            prometheus,
            clock: Arc::new(SystemClock::default()),
            randomness: Arc::new(SystemRandomness::default()),
            data_dir,
            front: Front::default(),
            otlp: None,
            catalogue: None,
            store: None,
            running: false,
            addresses: Vec::new(),
            stops: Vec::new(),
            failures,
            failed,
        };
        node.bind()?;
        Ok(node)
    }

    fn bind(&mut self) -> anyhow::Result<()> {
        let api = bind(&self.runtimes.query, self.config.listen, "listen")?;
        self.addresses.push(("UI and APIs", api.local_addr()?));
        if self.runs("gateway") {
            let grpc = bind(&self.runtimes.ingest, self.config.otlp.grpc, "otlp.grpc")?;
            let http = bind(&self.runtimes.ingest, self.config.otlp.http, "otlp.http")?;
            self.addresses.push(("OTLP/gRPC", grpc.local_addr()?));
            self.addresses.push(("OTLP/HTTP", http.local_addr()?));
            self.otlp = Some(OtlpListeners { grpc, http });
        }
        let front = self.front.clone();
        let sites = self.sites(&api, &[])?;
        let stop = self.spawn("API", &self.runtimes.query, |shutdown| front.serve(api, sites, shutdown));
        let stop = async move {
            if tokio::time::timeout(API_DRAIN_TIMEOUT, stop).await.is_err() {
                tracing::warn!("responses were still being sent {} s after the stop", API_DRAIN_TIMEOUT.as_secs());
            }
        };
        self.stops.push(("api", Box::pin(stop)));
        Ok(())
    }

    /// Starts the configured roles in the order of the table.
    pub(crate) async fn start(&mut self) -> anyhow::Result<()> {
        self.watch_process();
        for role in ROLES {
            if let (true, Start::Step(step)) = (self.runs(role.name), &role.start) {
                tracing::debug!(role = role.name, "starting");
                step(self).await.with_context(|| format!("starting the role {} failed", role.name))?;
            }
        }
        self.running = true;
        Ok(())
    }

    /// Whether everything is started.
    pub(crate) fn is_running(&self) -> bool {
        self.running
    }

    /// Completes when a part that should run until the stop has ended.
    pub(crate) async fn failure(&mut self) -> anyhow::Error {
        self.failures.recv().await.expect("the node holds a sender itself")
    }

    /// Stops what was started, the last first.
    pub(crate) async fn stop(&mut self) {
        while let Some((name, stop)) = self.stops.pop() {
            tracing::debug!(part = name, "stopping");
            stop.await;
        }
    }

    /// Says where to look.
    pub(crate) fn print_banner(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "Tracehouse {} is running", env!("CARGO_PKG_VERSION"))?;
        for (name, address) in &self.addresses {
            writeln!(out, "  {name:<12} http://{address}")?;
        }
        writeln!(out, "  {:<12} {}", "data", self.data_dir.path().display())?;
        out.flush()
    }

    pub(crate) async fn start_catalogue(&mut self) -> anyhow::Result<()> {
        let catalogue = SqliteCatalogue::open(&self.data_dir.store_paths().catalogue).await?;
        if let Some(unchecked) = catalogue.unchecked() {
            tracing::warn!("{unchecked}");
        }
        self.catalogue = Some(catalogue.clone());
        // The last of all, as answers in the making may still ask it. Without it a stop may leave a part in a file beside it.
        self.stops.insert(0, ("catalogue", Box::pin(async move { catalogue.close().await })));
        Ok(())
    }

    /// Starts the store, and with it the write-ahead log and the keeper.
    pub(crate) async fn start_store(&mut self) -> anyhow::Result<()> {
        let paths = self.data_dir.store_paths();
        let catalogue = self.catalogue.clone().context("the catalogue is not open")?;
        let config = self.config.store.store_config(paths.log);
        let objects = tracehouse_store::open_folder(&config.disk, &paths.store, &*catalogue).await?;
        let store =
            Store::open(config, objects, Some(paths.store), catalogue, self.clock.clone(), self.randomness.clone())
                .await?;
        self.store = Some(store.clone());
        let stop = async move {
            if let Err(error) = store.shutdown().await {
                let error = anyhow::Error::new(error);
                tracing::error!(
                    "writing what is in memory to files failed: {error:#}; the write-ahead log keeps it for the next start"
                );
            }
        };
        self.stops.push(("store", Box::pin(stop)));
        Ok(())
    }

    /// Starts the queries and opens the front to the APIs and the user interface.
    pub(crate) async fn start_query(&mut self) -> anyhow::Result<()> {
        let store = self.store.clone().context("the store is not open")?;
        let limits = self.config.query.limits();
        let memory = Pool::new(limits.memory_bytes_max);
        let engine = QueryEngine::with_pool(store.clone(), limits, memory.clone(), self.clock.clone());
        let sql = SqlEngine::with_pool(store.clone(), self.config.query.sql.limits(), &memory, self.clock.clone())?;
        let state = ApiState::new(engine, sql, store, self.prometheus.clone(), self.clock.clone(), TenantId::default());
        self.front.open(tracehouse_api::router(state));
        Ok(())
    }

    /// Starts the receivers.
    pub(crate) async fn start_gateway(&mut self) -> anyhow::Result<()> {
        let limits = self.config.limits.limits();
        let store = self.store.clone().context("the store is not open")?;
        let retention = self.config.store.retention.0;
        let pipeline = Pipeline::new(limits.clone(), retention, store.clock().latest(), store.clock());
        let tenants = self.tenant_gate(store.clone())?;
        let sink = Arc::new(StoreSink::new(tenants, pipeline, store));
        let state = ReceiverState::new(sink, limits, self.clock.clone());
        let OtlpListeners { grpc, http } = self.otlp.take().context("the receivers' ports are not bound")?;
        let ingest = &self.runtimes.ingest;
        let sites = |listener: &TcpListener| self.sites(listener, &self.config.otlp.browser_origins);
        let of_grpc = Port { name: "otlp_grpc", router: grpc_router(state.clone()), sites: sites(&grpc)? };
        let of_http = Port { name: "otlp_http", router: http_router(state), sites: sites(&http)? };
        let grpc = self.spawn("OTLP/gRPC receiver", ingest, |stop| of_grpc.serve(grpc, stop));
        let http = self.spawn("OTLP/HTTP receiver", ingest, |stop| of_http.serve(http, stop));
        let both = async move {
            futures::future::join(grpc, http).await;
        };
        self.stops.push(("gateway", Box::pin(both)));
        Ok(())
    }

    fn tenant_gate(&self, store: Arc<Store>) -> anyhow::Result<TenantGate> {
        let configured = self.config.tenants.iter().map(|name| TenantId::new(name)).collect::<Result<Vec<_>, _>>()?;
        let tenants_max = self.config.limits.tenants_max;
        Ok(TenantGate::new(configured, tenants_max, move || store.tenants(), self.clock.clone()))
    }

    /// Whose pages may use a port: those of origins configured for all ports and of further ones.
    fn sites(&self, listener: &TcpListener, further_origins: &[String]) -> anyhow::Result<Sites> {
        let http = &self.config.http;
        let origins = http.allowed_origins.iter().chain(further_origins).map(|text| OriginPattern::new(text));
        Ok(Sites {
            is_loopback: listener.local_addr()?.ip().is_loopback(),
            host_names: http.host_names.clone(),
            allowed_origins: origins.collect::<Result<_, _>>().context("http.allowed_origins, otlp.browser_origins")?,
            allowed_headers: AllowedHeaders::new(&http.allowed_headers).context("http.allowed_headers")?,
        })
    }

    fn runs(&self, role: &str) -> bool {
        self.config.roles.iter().any(|name| name == role)
    }

    /// Runs a server until the returned future is awaited; one that ends before is a failure of the process.
    fn spawn<S, F>(&self, name: &'static str, runtime: &Runtime, serve: S) -> impl Future<Output = ()> + Send + 'static
    where
        S: FnOnce(BoxFuture<'static, ()>) -> F,
        F: Future<Output = io::Result<()>> + Send + 'static,
    {
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown: BoxFuture<'static, ()> = Box::pin(async move {
            // A dropped sender means the same as a message.
            let _ = stopped.await;
        });
        let server = serve(shutdown);
        let failed = self.failed.clone();
        let task: JoinHandle<()> = runtime.spawn(async move {
            if let Err(error) = server.await {
                // The receiver is gone only if the process is stopping anyway.
                let _ = failed.send(anyhow!(error).context(format!("the {name} ended")));
            }
        });
        async move {
            drop(stop);
            if let Err(error) = task.await {
                tracing::error!(%error, "the {name} ended badly");
            }
        }
    }

    /// Keeps the metrics about the process fresh.
    fn watch_process(&self) {
        process_metrics::describe();
        let prometheus = self.prometheus.clone();
        self.runtimes.background.spawn(async move {
            let mut ticks = tokio::time::interval(PROCESS_METRICS_INTERVAL);
            loop {
                ticks.tick().await;
                process_metrics::record();
                prometheus.run_upkeep();
            }
        });
    }
}

/// Binds on the runtime that will serve, and says what to change if that fails.
fn bind(runtime: &Runtime, address: SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    let _context = runtime.enter();
    let listener = std::net::TcpListener::bind(address).map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => {
            anyhow!("{address} is in use by another program; stop it, or set {key} to another address")
        }
        _ => anyhow!(error).context(format!("{key}: {address} cannot be bound")),
    })?;
    listener.set_nonblocking(true).context("setting up a port failed")?;
    TcpListener::from_std(listener).context("setting up a port failed")
}
