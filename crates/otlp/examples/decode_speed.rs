//! How long decoding takes for a span, against the generated decoder on the same requests in the same run.
//!
//! `cargo run --release -p tracehouse-otlp --example decode_speed [-- protobuf]`

use std::io::Write;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};
use prost::Message;
use tracehouse_model::{Clock, Limits, SystemClock};
use tracehouse_otlp::{json, protobuf};

const REQUESTS: usize = 200;
const SPANS_PER_REQUEST: usize = 1000;
const ROUNDS: usize = 7;

/// The same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn text(key: &str, value: String) -> KeyValue {
    attribute(key, Value::StringValue(value))
}

fn span(random: &mut Random) -> Span {
    const ROUTES: [&str; 6] =
        ["/api/cart", "/api/cart/{id}", "/api/products/{id}", "/api/checkout", "/health", "/api/orders/{id}/items"];
    let route = ROUTES[random.below(6) as usize];
    let mut attributes = match random.below(3) {
        0 => vec![
            text("http.request.method", "GET".into()),
            text("http.route", route.into()),
            attribute("http.response.status_code", Value::IntValue(200)),
            text("url.path", format!("/api/products/{}", random.below(5000))),
            text("url.scheme", "https".into()),
            text("server.address", format!("10.0.{}.{}", random.below(4), random.below(250))),
            attribute("server.port", Value::IntValue(8443)),
            text("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64)".into()),
            text("client.address", format!("192.0.2.{}", random.below(250))),
            text("network.protocol.version", "1.1".into()),
            text("enduser.id", format!("user-{:06}", random.below(100_000))),
        ],
        1 => vec![
            text("db.system.name", "postgresql".into()),
            text("db.namespace", "shop".into()),
            text("db.operation.name", "SELECT".into()),
            text("db.query.text", "SELECT id, name, price FROM products WHERE id = $1".into()),
            text("server.address", "db-1.internal".into()),
            attribute("db.response.returned_rows", Value::IntValue(random.below(50) as i64)),
        ],
        _ => vec![
            text("rpc.system", "grpc".into()),
            text("rpc.service", "shop.Cart".into()),
            text("rpc.method", "AddItem".into()),
            attribute("rpc.grpc.status_code", Value::IntValue(0)),
        ],
    };
    attributes.truncate(11);
    let start = 1_700_000_000_000_000_000 + random.below(1_000_000_000_000);
    Span {
        trace_id: [random.next().to_be_bytes(), random.next().to_be_bytes()].concat(),
        span_id: random.next().to_be_bytes().to_vec(),
        parent_span_id: random.next().to_be_bytes().to_vec(),
        name: format!("GET {route}"),
        kind: 1 + random.below(5) as i32,
        start_time_unix_nano: start,
        end_time_unix_nano: start + random.below(100_000_000),
        attributes,
        flags: 257,
        status: (random.below(20) == 0).then(|| Status { code: 2, message: "deadline exceeded".into() }),
        ..Span::default()
    }
}

fn request(random: &mut Random) -> ExportTraceServiceRequest {
    let mut attributes = vec![text("service.name", format!("service-{}", random.below(20)))];
    attributes.extend((1..15).map(|at| text(&format!("resource.attribute.{at}"), format!("value of {at}"))));
    let scope_spans = (0..2)
        .map(|_| ScopeSpans {
            scope: Some(InstrumentationScope { name: "io.shop.instrumentation".into(), ..Default::default() }),
            spans: (0..SPANS_PER_REQUEST / 2).map(|_| span(random)).collect(),
            ..ScopeSpans::default()
        })
        .collect();
    let resource = Some(Resource { attributes, ..Resource::default() });
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }],
    }
}

/// The best of some rounds over all requests, in microseconds for a span.
fn best(requests: &[Vec<u8>], mut decode: impl FnMut(&[u8])) -> f64 {
    let clock = SystemClock::default();
    let round = |_| {
        let start = clock.monotonic();
        requests.iter().for_each(|request| decode(request));
        (clock.monotonic() - start).as_secs_f64() * 1e6 / (REQUESTS * SPANS_PER_REQUEST) as f64
    };
    (0..ROUNDS).map(round).fold(f64::INFINITY, f64::min)
}

fn main() -> std::io::Result<()> {
    let mut random = Random(42);
    let requests: Vec<_> = (0..REQUESTS).map(|_| request(&mut random)).collect();
    let bytes: Vec<_> = requests.iter().map(Message::encode_to_vec).collect();
    let texts: Vec<_> = requests.iter().map(|request| serde_json::to_vec(request).unwrap_or_default()).collect();
    let limits = Limits::default();
    let per_span = |requests: &[Vec<u8>]| requests.iter().map(Vec::len).sum::<usize>() / (REQUESTS * SPANS_PER_REQUEST);
    let mut out = std::io::stdout();
    let ours = best(&bytes, |request| {
        std::hint::black_box(protobuf::decode_export_request(request, &limits).is_ok());
    });
    writeln!(out, "protobuf, {} B a span: {ours:.3} us a span", per_span(&bytes))?;
    let exact = best(&bytes, |request| {
        std::hint::black_box(protobuf::decode_export_request(request, &limits).map(|it| it.batch.into_exact()).is_ok());
    });
    writeln!(out, "and made exact:       {exact:.3} us a span")?;
    if std::env::args().nth(1).is_some_and(|only| only == "protobuf") {
        // For a profiler.
        return Ok(());
    }
    let generated = best(&bytes, |request| {
        std::hint::black_box(ExportTraceServiceRequest::decode(request).is_ok());
    });
    writeln!(out, "generated structs:    {generated:.3} us a span; ours takes {:.2} of it", ours / generated)?;
    let json = best(&texts, |request| {
        std::hint::black_box(json::decode_export_request(request, &limits).is_ok());
    });
    writeln!(out, "JSON, {} B a span:     {json:.3} us a span", per_span(&texts))
}
