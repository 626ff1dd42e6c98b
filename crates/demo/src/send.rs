//! OTLP/gRPC out: connect with patience, export, retry what may be retried.
//!
//! The client is a dozen lines over tonic's generic one, so that the message types are all this crate takes from
//! `opentelemetry-proto`.

use crate::randomness::{Purpose, stream};
use anyhow::{Context, anyhow};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use prost::Message;
use rand::Rng;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

const EXPORT_PATH: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
/// How long to wait for the endpoint to come up.
pub const CONNECT_WAIT_MAX: Duration = Duration::from_secs(30);
const CONNECT_POLL: Duration = Duration::from_millis(250);
const CONNECT_REPORT: Duration = Duration::from_secs(5);
const EXPORT_TIMEOUT: Duration = Duration::from_secs(20);
const BACKOFF_FIRST: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// A request is given up after this long, as the Collector's exporters do.
const RETRY_TIME_MAX: Duration = Duration::from_secs(300);

/// Sends requests to one endpoint as one tenant.
#[derive(Clone)]
pub struct Exporter {
    grpc: Grpc<Channel>,
    tenant: Option<MetadataValue<Ascii>>,
}

/// What became of one request.
#[derive(Debug)]
pub enum Delivery {
    /// Durable at the receiver, but for `spans_rejected` it refused for good.
    Acknowledged { spans_rejected: u64, message: String },
    /// Not acknowledged: a final error, or the time for retries ran out.
    Abandoned(Status),
}

/// A delivery and how often it had to be tried again.
#[derive(Debug)]
pub struct Delivered {
    pub delivery: Delivery,
    pub retries: u64,
}

impl Exporter {
    /// Waits up to `wait_max` for the endpoint to answer.
    ///
    /// # Errors
    /// A malformed endpoint or tenant at once; an endpoint that stays silent after `wait_max`.
    pub async fn connect(endpoint: &str, tenant: Option<&str>, wait_max: Duration) -> anyhow::Result<Exporter> {
        let tenant = tenant
            .map(|tenant| tenant.parse().with_context(|| format!("`{tenant}` cannot be a tenant's name")))
            .transpose()?;
        let target = Endpoint::from_shared(endpoint.to_owned())
            .with_context(|| format!("`{endpoint}` is not an endpoint; write it like http://127.0.0.1:4317"))?
            .connect_timeout(Duration::from_secs(2))
            .timeout(EXPORT_TIMEOUT);
        let channel = wait_for(&target, endpoint, wait_max).await?;
        Ok(Exporter { grpc: Grpc::new(channel), tenant })
    }

    /// Sends one request until it is acknowledged, refused for good, or out of time.
    ///
    /// `seed` and `number` decide the jitter between attempts.
    pub async fn deliver(&self, request: &ExportTraceServiceRequest, seed: u64, number: u64) -> Delivered {
        let mut rng = stream(seed, Purpose::Delivery, number);
        let begun = Instant::now();
        let mut backoff = BACKOFF_FIRST;
        let mut retries = 0;
        loop {
            let status = match self.export(request.clone()).await {
                Ok(response) => return Delivered { delivery: acknowledged(response), retries },
                Err(status) => status,
            };
            if !is_retryable(&status) || begun.elapsed() > RETRY_TIME_MAX {
                return Delivered { delivery: Delivery::Abandoned(status), retries };
            }
            retries += 1;
            let pause = retry_delay(&status).unwrap_or_else(|| backoff.mul_f64(rng.random_range(0.5..1.0)));
            tracing::debug!(code = ?status.code(), message = status.message(), ?pause, "export will be retried");
            sleep(pause.min(BACKOFF_MAX)).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    async fn export(&self, request: ExportTraceServiceRequest) -> Result<ExportTraceServiceResponse, Status> {
        let mut grpc = self.grpc.clone();
        grpc.ready().await.map_err(|error| Status::unavailable(format!("the endpoint is not ready: {error}")))?;
        let mut request = Request::new(request);
        if let Some(tenant) = &self.tenant {
            request.metadata_mut().insert("x-scope-orgid", tenant.clone());
        }
        let path = PathAndQuery::from_static(EXPORT_PATH);
        let codec: ProstCodec<ExportTraceServiceRequest, ExportTraceServiceResponse> = ProstCodec::default();
        Ok(grpc.unary(request, path, codec).await?.into_inner())
    }
}

async fn wait_for(target: &Endpoint, name: &str, wait_max: Duration) -> anyhow::Result<Channel> {
    let begun = Instant::now();
    let mut reported = None::<Instant>;
    loop {
        let error = match target.connect().await {
            Ok(channel) => return Ok(channel),
            Err(error) => error,
        };
        if begun.elapsed() >= wait_max {
            return Err(anyhow!(error)).with_context(|| {
                format!(
                    "no OTLP/gRPC endpoint answered at {name} within {} s; start one with `tracehouse serve`, \
                     or name another with --endpoint",
                    wait_max.as_secs()
                )
            });
        }
        if reported.is_none_or(|at| at.elapsed() >= CONNECT_REPORT) {
            tracing::info!(endpoint = name, waited_s = begun.elapsed().as_secs(), "waiting for the endpoint");
            reported = Some(Instant::now());
        }
        sleep(CONNECT_POLL).await;
    }
}

fn acknowledged(response: ExportTraceServiceResponse) -> Delivery {
    let partial = response.partial_success.unwrap_or_default();
    Delivery::Acknowledged {
        spans_rejected: u64::try_from(partial.rejected_spans).unwrap_or(0),
        message: partial.error_message,
    }
}

/// The codes the OTLP specification calls retryable. It wants `RetryInfo` with RESOURCE_EXHAUSTED; a receiver
/// that forgets it is retried all the same. A broken connection surfaces as UNKNOWN or INTERNAL with a transport source.
fn is_retryable(status: &Status) -> bool {
    let by_code = matches!(
        status.code(),
        Code::Cancelled
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
    );
    by_code || std::error::Error::source(status).is_some()
}

/// The delay a `google.rpc.RetryInfo` in the status details asks for.
fn retry_delay(status: &Status) -> Option<Duration> {
    let details = RpcStatus::decode(status.details()).ok()?;
    let info = details.details.iter().find(|any| any.type_url.ends_with("google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(info.value.as_slice()).ok()?.retry_delay?;
    let seconds = Duration::from_secs(u64::try_from(delay.seconds).ok()?);
    Some(seconds + Duration::from_nanos(u64::try_from(delay.nanos).ok()?))
}

/// `google.rpc.Status` as far as it is needed.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<RpcAny>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct RpcAny {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<RpcDuration>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct RpcDuration {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}
