//! A sink that remembers, and servers on free ports.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tracehouse_listen::{Port, Sites};
use tracehouse_model::{Caller, Limits, ManualClock, SpanBatch, TenantId};
use tracehouse_receive::{Accepted, ReceiverState, Refusal, SpanSink, grpc_router, http_router};

/// The tenant of which nothing is taken.
pub(crate) const STRANGER: &str = "stranger";

pub(crate) struct FakeSink {
    pub(crate) answer: Mutex<Result<Accepted, Refusal>>,
    pub(crate) received: Mutex<Vec<(TenantId, SpanBatch)>>,
    /// One permit lets one batch through.
    pub(crate) gate: Semaphore,
}

#[async_trait]
impl SpanSink for FakeSink {
    fn check(&self, caller: &Caller) -> Result<(), Refusal> {
        let tenant = caller.tenant().expect("one tenant sends");
        let forbidden = || Refusal::Forbidden { reason: format!("the tenant {tenant} is not known here") };
        if tenant.as_str() == STRANGER { Err(forbidden()) } else { Ok(()) }
    }

    async fn accept(&self, caller: &Caller, batch: SpanBatch) -> Result<Accepted, Refusal> {
        self.gate.acquire().await.expect("never closed").forget();
        self.received.lock().expect("not poisoned").push((caller.tenant().expect("one tenant sends").clone(), batch));
        self.answer.lock().expect("not poisoned").clone()
    }
}

impl FakeSink {
    pub(crate) fn answer_with(&self, answer: Result<Accepted, Refusal>) {
        *self.answer.lock().expect("not poisoned") = answer;
    }

    /// Tenant and number of spans of each batch so far.
    pub(crate) fn received(&self) -> Vec<(String, usize)> {
        let received = self.received.lock().expect("not poisoned");
        received.iter().map(|(tenant, batch)| (tenant.to_string(), batch.len())).collect()
    }
}

pub(crate) struct Server {
    pub(crate) sink: Arc<FakeSink>,
    pub(crate) state: ReceiverState,
    pub(crate) grpc: SocketAddr,
    pub(crate) http: SocketAddr,
    shutdown: Vec<(oneshot::Sender<()>, JoinHandle<std::io::Result<()>>)>,
}

impl Server {
    pub(crate) async fn start(limits: Limits) -> Self {
        let gate = Semaphore::new(Semaphore::MAX_PERMITS);
        let answer = Mutex::new(Ok(Accepted::default()));
        let sink = Arc::new(FakeSink { answer, received: Mutex::default(), gate });
        let state = ReceiverState::new(sink.clone(), limits, Arc::new(ManualClock::default()));
        let port = |router| Port { name: "test", router, sites: Sites::default() };
        let mut shutdown = Vec::new();
        let stopper = || {
            let (sender, receiver) = oneshot::channel();
            (sender, async move {
                receiver.await.ok();
            })
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let grpc = listener.local_addr().expect("bound");
        let (sender, stopped) = stopper();
        shutdown.push((sender, tokio::spawn(port(grpc_router(state.clone())).serve(listener, stopped))));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let http = listener.local_addr().expect("bound");
        let (sender, stopped) = stopper();
        shutdown.push((sender, tokio::spawn(port(http_router(state.clone())).serve(listener, stopped))));
        Self { sink, state, grpc, http, shutdown }
    }

    /// Asks both servers to stop; they have when the handles end.
    pub(crate) fn stop(&mut self) -> Vec<JoinHandle<std::io::Result<()>>> {
        let stop = |(sender, handle): (oneshot::Sender<()>, _)| {
            sender.send(()).ok();
            handle
        };
        self.shutdown.drain(..).map(stop).collect()
    }
}
