//! The shop as data: services, endpoints, the steps an endpoint takes, what it stores and where, how it fails.
//!
//! Nothing here acts. `simulate` walks these tables; `fleet` turns services into running instances.
//! References between tables are Rust references, so a misspelt endpoint does not compile.

pub mod endpoints;
pub mod failures;
pub mod operations;
pub mod people;
pub mod scopes;
pub mod services;
pub mod stores;
pub mod topics;

use crate::latency::Latency;

/// Name of the fictional shop, as it appears in namespaces and addresses.
pub const SHOP: &str = "aurora-goods";

/// Every service, in the order of [`services::SERVICES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ServiceId {
    Web,
    MobileApp,
    Gateway,
    Session,
    Auth,
    Catalogue,
    Search,
    Recommendation,
    Ads,
    Reviews,
    Cart,
    Pricing,
    Inventory,
    Checkout,
    Payment,
    Tax,
    Shipping,
    Fraud,
    Orders,
    OrderProcessor,
    Loyalty,
    Notification,
    Email,
    ImageResizer,
    Assistant,
    Settlement,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Browser,
    Swift,
    Go,
    Java,
    Node,
    Python,
    DotNet,
    Ruby,
    Php,
    Rust,
    Elixir,
}

/// Where the instances of a service run; decides most of the resource attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// In people's browsers and phones.
    Device,
    Kubernetes,
    Lambda,
}

/// Which generation of the semantic conventions a service's instrumentation speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Conventions {
    /// `http.request.method`, `db.system.name`, `server.address`.
    Stable,
    /// `http.method`, `db.system`, `net.peer.name`: what old agents still send.
    Old,
}

/// One service of the shop. Shares are probabilities between 0 and 1.
pub struct Service {
    pub id: ServiceId,
    pub name: &'static str,
    pub namespace: &'static str,
    pub language: Language,
    pub platform: Platform,
    pub version: &'static str,
    pub instances: u8,
    pub port: u16,
    pub conventions: Conventions,
    /// A mesh proxy stands before (and behind) every instance and sends spans of its own.
    pub sidecar: bool,
    /// Share of requests whose `traceparent` this service ignores.
    pub context_lost_share: f64,
    /// Share of server spans that never leave the process.
    pub span_lost_share: f64,
}

/// How an endpoint is called.
pub enum Protocol {
    Http { method: &'static str, route: &'static str },
    Grpc { service: &'static str, method: &'static str },
    Function { name: &'static str },
}

/// Something a service answers.
pub struct Endpoint {
    pub service: ServiceId,
    pub protocol: Protocol,
    pub steps: &'static [Step],
    /// Ways this endpoint fails by itself, each with its share of requests.
    pub failures: &'static [(f64, &'static failures::Fault)],
}

/// What a span's owner does while the span is open, in order.
pub enum Step {
    /// Time passes without a span of its own.
    Work(Latency),
    /// An internal span around more steps.
    Within(&'static str, &'static [Step]),
    /// Waiting for a thread or a connection, as an internal span; only a share of requests has to wait.
    Wait(&'static str, f64, Latency),
    Call(&'static Endpoint),
    /// A call that is tried again after a failure.
    CallRetrying(&'static Endpoint, Retry),
    Query(&'static stores::Query),
    /// The same query once per row of an earlier result: N+1. Bounds of the row count.
    QueryPerRow(&'static stores::Query, u32, u32),
    /// A request to a third party that sends no spans.
    External(&'static stores::External),
    ExternalRetrying(&'static stores::External, Retry),
    Parallel(&'static [Step]),
    Sequence(&'static [Step]),
    Sometimes(f64, &'static [Step]),
    Repeat(u32, u32, &'static [Step]),
    /// A failure inside is noted as an event and survived.
    Tolerate(&'static [Step]),
    /// Sends between the two bounds of messages; consumers run later.
    Publish(&'static topics::Topic, u32, u32),
    /// A conversation turn with a language model.
    Chat(&'static stores::Model),
    /// Puts personal data into an attribute of the current span, for a share of requests.
    Personal(&'static people::PersonalAttribute),
    /// A span event without attributes.
    Note(&'static str),
}

/// How often and how fast something is tried again.
#[derive(Clone, Copy)]
pub struct Retry {
    /// All attempts, the first included.
    pub attempts_max: u32,
    /// Wait before the second attempt; doubles each time.
    pub backoff: Latency,
}

impl Service {
    pub fn of(id: ServiceId) -> &'static Service {
        &services::SERVICES[id as usize]
    }
}

impl Endpoint {
    /// The low-cardinality name, which is also the name of the server span.
    pub fn name(&self) -> String {
        match self.protocol {
            Protocol::Http { method, route } => format!("{method} {route}"),
            Protocol::Grpc { service, method } => format!("{service}/{method}"),
            Protocol::Function { name } => name.to_owned(),
        }
    }
}
