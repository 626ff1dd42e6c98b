//! The sending side: pre-encoded requests over OTLP/gRPC, as cheaply as tonic allows, so that the server is what is
//! measured.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message;
use serde::Serialize;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use crate::data::{Request, Stream};
use crate::measure::Latencies;

/// How a stretch of a stream is sent.
#[derive(Clone)]
pub(crate) struct SendSettings {
    /// Requests on the way at once, over all connections.
    pub(crate) in_flight: usize,
    /// Wanted pace; without it, as fast as answers come.
    pub(crate) spans_per_second: Option<f64>,
    /// Send refused requests again until they are taken.
    pub(crate) retry: bool,
    /// Numbers of the stream's requests to send.
    pub(crate) requests: std::ops::Range<u64>,
    /// No request starts later than this.
    pub(crate) stop_after: Option<Duration>,
}

impl SendSettings {
    /// Everything in this range as fast as answers come, again where refused.
    pub(crate) fn closed_loop(requests: std::ops::Range<u64>) -> Self {
        Self { in_flight: 16, spans_per_second: None, retry: true, requests, stop_after: None }
    }

    /// At a fixed pace for a time, starting with this request; what is refused is not sent again.
    pub(crate) fn paced(first: u64, spans_per_second: f64, lasting: Duration) -> Self {
        Self {
            in_flight: 128,
            spans_per_second: Some(spans_per_second),
            retry: false,
            requests: first..u64::MAX,
            stop_after: Some(lasting),
        }
    }
}

/// What became of a run of requests.
#[derive(Default)]
pub(crate) struct Sent {
    pub(crate) elapsed: Duration,
    pub(crate) acknowledged_spans: u64,
    pub(crate) acknowledged_requests: u64,
    /// Spans an acknowledgement named as rejected.
    pub(crate) rejected_spans: u64,
    /// From when a request was due until its acknowledgement.
    pub(crate) ack: Latencies,
    pub(crate) refusals: BTreeMap<String, Refusals>,
    /// Numbers of the acknowledged requests.
    pub(crate) acknowledged: Vec<u64>,
    /// The first number that was not taken up.
    pub(crate) next: u64,
}

/// Refusals with one status code.
#[derive(Default, Clone, Serialize)]
pub(crate) struct Refusals {
    pub(crate) requests: u64,
    /// Those whose status carried a `google.rpc.RetryInfo`.
    pub(crate) with_retry_info: u64,
    pub(crate) message: String,
}

impl Refusals {
    fn add(&mut self, other: &Refusals) {
        self.requests += other.requests;
        self.with_retry_info += other.with_retry_info;
        if self.message.is_empty() {
            self.message.clone_from(&other.message);
        }
    }
}

impl Sent {
    fn add(&mut self, other: Sent) {
        self.acknowledged_spans += other.acknowledged_spans;
        self.acknowledged_requests += other.acknowledged_requests;
        self.rejected_spans += other.rejected_spans;
        self.ack.add(other.ack);
        for (code, refusals) in &other.refusals {
            self.refusals.entry(code.clone()).or_default().add(refusals);
        }
        self.acknowledged.extend(other.acknowledged);
    }

    pub(crate) fn spans_per_second(&self) -> f64 {
        self.acknowledged_spans as f64 / self.elapsed.as_secs_f64()
    }

    pub(crate) fn refused_requests(&self) -> u64 {
        self.refusals.values().map(|refusals| refusals.requests).sum()
    }

    fn refuse(&mut self, status: &Status) {
        let refusals = Refusals {
            requests: 1,
            with_retry_info: u64::from(has_retry_info(status)),
            message: status.message().to_owned(),
        };
        self.refusals.entry(format!("{:?}", status.code())).or_default().add(&refusals);
    }
}

/// A sender's pause before it tries a refused request again.
const RETRY_PAUSE: Duration = Duration::from_millis(50);
/// A minute of refusals: then something is wrong that waiting does not mend.
const TRIES_MAX: u32 = 1200;
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// Connections to one endpoint.
#[derive(Clone)]
pub(crate) struct Sender {
    channels: Vec<Channel>,
}

impl Sender {
    pub(crate) async fn connect(endpoint: &str, connections: usize) -> anyhow::Result<Self> {
        let endpoint = Endpoint::from_shared(endpoint.to_owned())?.tcp_nodelay(true).timeout(REQUEST_TIMEOUT);
        let mut channels = Vec::with_capacity(connections);
        for _ in 0..connections {
            channels.push(endpoint.connect().await.context("connect to the OTLP/gRPC endpoint")?);
        }
        Ok(Self { channels })
    }

    /// Sends one request by itself.
    pub(crate) async fn send_one(&self, message: impl Payload) -> Result<(), Status> {
        export(self.channels[0].clone(), message).await.map(|_| ())
    }

    /// Sends a stretch of a stream. `progress` counts acknowledged spans while it runs.
    pub(crate) async fn send(
        &self,
        stream: &Stream,
        settings: &SendSettings,
        progress: &Arc<AtomicU64>,
    ) -> anyhow::Result<Sent> {
        let begin = Instant::now();
        let shared = Arc::new(Shared {
            stream: stream.clone(),
            settings: settings.clone(),
            queue: Mutex::new(Queue { next: settings.requests.start, spans_before: 0 }),
            progress: progress.clone(),
            begin,
        });
        let workers: Vec<_> = (0..settings.in_flight)
            .map(|number| {
                let channel = self.channels[number % self.channels.len()].clone();
                tokio::spawn(work(shared.clone(), channel))
            })
            .collect();
        let mut sent = Sent::default();
        for worker in workers {
            sent.add(worker.await?);
        }
        sent.elapsed = begin.elapsed();
        sent.next = shared.queue.lock().expect("no worker panics while it holds the queue").next;
        Ok(sent)
    }
}

struct Shared {
    stream: Stream,
    settings: SendSettings,
    queue: Mutex<Queue>,
    progress: Arc<AtomicU64>,
    begin: Instant,
}

struct Queue {
    next: u64,
    spans_before: u64,
}

impl Shared {
    /// The next request, its number, and when it is due.
    fn take(&self) -> Option<(u64, Request, Instant)> {
        let mut queue = self.queue.lock().expect("no worker panics while it holds the queue");
        if queue.next >= self.settings.requests.end {
            return None;
        }
        let due = match self.settings.spans_per_second {
            Some(pace) => self.begin + Duration::from_secs_f64(queue.spans_before as f64 / pace),
            None => Instant::now(),
        };
        if self.settings.stop_after.is_some_and(|limit| due.max(Instant::now()) > self.begin + limit) {
            return None;
        }
        let number = queue.next;
        let request = self.stream.request(number);
        queue.next += 1;
        queue.spans_before += u64::from(request.spans());
        Some((number, request, due))
    }
}

async fn work(shared: Arc<Shared>, channel: Channel) -> Sent {
    let mut sent = Sent::default();
    while let Some((number, request, due)) = shared.take() {
        // A request that is late because all workers were busy counts from when it was due; one that the timer woke
        // late counts from its waking, for that is the sender's fault.
        let mut begin = due;
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
            begin = Instant::now();
        }
        let spans = u64::from(request.spans());
        for _ in 0..TRIES_MAX {
            match export(channel.clone(), request.clone()).await {
                Ok(response) => {
                    let rejected = response.partial_success.map_or(0, |partial| partial.rejected_spans.max(0) as u64);
                    sent.rejected_spans += rejected;
                    sent.acknowledged_spans += spans - rejected;
                    sent.acknowledged_requests += 1;
                    sent.acknowledged.push(number);
                    sent.ack.push(begin.elapsed());
                    shared.progress.fetch_add(spans, Ordering::Relaxed);
                    break;
                }
                Err(status) => {
                    sent.refuse(&status);
                    if !shared.settings.retry || !is_retryable(status.code()) {
                        break;
                    }
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }
    sent
}

/// The codes an OTLP sender may answer with another try (OTLP specification, "Failures").
pub(crate) fn is_retryable(code: Code) -> bool {
    matches!(
        code,
        Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
            | Code::ResourceExhausted
    )
}

fn has_retry_info(status: &Status) -> bool {
    // The type URL stands in the details as plain text; decoding them would tell no more.
    const TYPE: &[u8] = b"google.rpc.RetryInfo";
    status.details().windows(TYPE.len()).any(|window| window == TYPE)
}

async fn export(channel: Channel, message: impl Payload) -> Result<ExportTraceServiceResponse, Status> {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::from_static("/opentelemetry.proto.collector.trace.v1.TraceService/Export");
    let response = client.unary(tonic::Request::new(message), path, RawCodec(std::marker::PhantomData)).await?;
    Ok(response.into_inner())
}

/// Something that writes itself as an encoded `ExportTraceServiceRequest`.
pub(crate) trait Payload: Send + Sync + 'static {
    fn size(&self) -> usize;
    fn write(&self, out: &mut EncodeBuf<'_>);
}

impl Payload for Request {
    fn size(&self) -> usize {
        self.template().len()
    }

    fn write(&self, out: &mut EncodeBuf<'_>) {
        self.template().write(self.stamp(), out);
    }
}

impl Payload for Vec<u8> {
    fn size(&self) -> usize {
        self.len()
    }

    fn write(&self, out: &mut EncodeBuf<'_>) {
        bytes::BufMut::put_slice(out, self);
    }
}

/// Sends bytes as they are; decodes the small answer.
struct RawCodec<T>(std::marker::PhantomData<T>);

impl<T: Payload> Codec for RawCodec<T> {
    type Encode = T;
    type Decode = ExportTraceServiceResponse;
    type Encoder = Self;
    type Decoder = AnswerDecoder;

    fn encoder(&mut self) -> Self::Encoder {
        Self(std::marker::PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        AnswerDecoder
    }
}

impl<T: Payload> Encoder for RawCodec<T> {
    type Item = T;
    type Error = Status;

    fn encode(&mut self, item: T, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(item.size());
        item.write(out);
        Ok(())
    }
}

struct AnswerDecoder;

impl Decoder for AnswerDecoder {
    type Item = ExportTraceServiceResponse;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let answer = ExportTraceServiceResponse::decode(bytes);
        answer.map(Some).map_err(|error| Status::internal(format!("answer does not decode: {error}")))
    }
}
