//! A receiver that answers by a script.

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tonic::body::Body;
use tonic::codegen::http;
use tonic::server::{Grpc, UnaryService};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

pub(crate) type Answer = Result<ExportTraceServiceResponse, Status>;

/// What the receiver got, and how it answers next; when the script is used up it acknowledges.
#[derive(Clone, Default)]
pub(crate) struct Receiver {
    script: Arc<Mutex<VecDeque<Answer>>>,
    requests: Arc<Mutex<Vec<Received>>>,
}

#[derive(Clone)]
pub(crate) struct Received {
    pub(crate) tenant: Option<String>,
    pub(crate) request: ExportTraceServiceRequest,
}

impl Receiver {
    pub(crate) fn with_script(script: Vec<Answer>) -> Receiver {
        Receiver { script: Arc::new(Mutex::new(script.into())), ..Default::default() }
    }

    pub(crate) fn received(&self) -> Vec<Received> {
        self.requests.lock().expect("the receiver does not panic").clone()
    }

    /// Serves on a free port until the test ends; returns the endpoint.
    pub(crate) async fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port exists");
        let address = listener.local_addr().expect("a bound socket has an address");
        let receiver = self.clone();
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(receiver.clone().serve(connection));
            }
        });
        format!("http://{address}")
    }

    async fn serve(self, connection: TcpStream) {
        let service = service_fn(move |request: http::Request<Incoming>| {
            let receiver = self.clone();
            async move {
                let mut grpc = Grpc::new(ProstCodec::default());
                Ok::<_, Infallible>(grpc.unary(Export(receiver), request.map(Body::new)).await)
            }
        });
        let served = Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(connection), service).await;
        // A client that goes away ends its connection with an error; the test decides by what was received.
        drop(served);
    }

    fn answer(&self, request: Request<ExportTraceServiceRequest>) -> Answer {
        let tenant = request.metadata().get("x-scope-orgid").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let received = Received { tenant, request: request.into_inner() };
        self.requests.lock().expect("the receiver does not panic").push(received);
        let next = self.script.lock().expect("the receiver does not panic").pop_front();
        next.unwrap_or_else(|| Ok(ExportTraceServiceResponse::default()))
    }
}

struct Export(Receiver);

impl UnaryService<ExportTraceServiceRequest> for Export {
    type Response = ExportTraceServiceResponse;
    type Future = Pin<Box<dyn Future<Output = Result<Response<ExportTraceServiceResponse>, Status>> + Send>>;

    fn call(&mut self, request: Request<ExportTraceServiceRequest>) -> Self::Future {
        let receiver = self.0.clone();
        Box::pin(async move { receiver.answer(request).map(Response::new) })
    }
}
