//! The injected problems: what they are, where and when they happen, and the record of each occurrence.

use crate::fleet::SKEWED_HOST;
use crate::randomness::{Purpose, stream};
use crate::rhythm::{SECOND, Timeline};
use crate::shop::people;
use rand::Rng;

pub type TraceId = [u8; 16];

/// Everything that is wrong with the shop, on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Problem {
    SlowRelease,
    NPlusOne,
    RetryStorm,
    ColdStart,
    LostContext,
    ClockSkew,
    MeshDuplicate,
    PersonalData,
    NoisyTenant,
    MissingParent,
    RedeliveredBatch,
    HeadSampled,
}

/// The static half of what the facts file says about a problem.
pub struct Description {
    pub problem: Problem,
    pub key: &'static str,
    pub text: &'static str,
    /// What one occurrence is.
    pub counts: &'static str,
    pub services: &'static [&'static str],
    pub operations: &'static [&'static str],
}

impl Problem {
    pub const ALL: [Problem; 12] = [
        Problem::SlowRelease,
        Problem::NPlusOne,
        Problem::RetryStorm,
        Problem::ColdStart,
        Problem::LostContext,
        Problem::ClockSkew,
        Problem::MeshDuplicate,
        Problem::PersonalData,
        Problem::NoisyTenant,
        Problem::MissingParent,
        Problem::RedeliveredBatch,
        Problem::HeadSampled,
    ];

    pub fn description(self) -> &'static Description {
        &DESCRIPTIONS[self as usize]
    }
}

const fn of(
    problem: Problem,
    key: &'static str,
    text: &'static str,
    counts: &'static str,
    services: &'static [&'static str],
    operations: &'static [&'static str],
) -> Description {
    Description { problem, key, text, counts, services, operations }
}

/// In the order of [`Problem::ALL`].
static DESCRIPTIONS: [Description; Problem::ALL.len()] = [
    of(
        Problem::SlowRelease,
        "slow_release",
        "The new release of pricing asks for price rules with a condition that defeats the index.",
        "slow queries by the new version",
        &["pricing"],
        &["aurora.pricing.v1.PricingService/GetQuote", "SELECT price_rule"],
    ),
    of(
        Problem::NPlusOne,
        "n_plus_one",
        "The order history asks for the lines of each order one by one.",
        "repeated queries",
        &["orders"],
        &["GET customers/<customer_id>/orders/", "SELECT order_line"],
    ),
    of(
        Problem::RetryStorm,
        "retry_storm",
        "While the card provider refuses, checkout repeats its call to payment, which repeats its own call.",
        "attempts beyond the first by checkout",
        &["checkout", "payment"],
        &["aurora.payment.v1.PaymentService/Charge", "POST"],
    ),
    of(
        Problem::ColdStart,
        "cold_start",
        "Instances of the image function start from nothing and load their runtime first.",
        "cold invocations",
        &["image-resizer"],
        &["image-resizer"],
    ),
    of(
        Problem::LostContext,
        "lost_context",
        "ads ignores the incoming traceparent now and then; its server span becomes the root of another trace. \
                 `examples` are those new traces, `related` the traces they were torn from.",
        "torn requests",
        &["ads"],
        &["GET /slots/{slot}"],
    ),
    of(
        Problem::ClockSkew,
        "clock_skew",
        "The clock of one host is off by a constant.",
        "spans recorded on that host",
        &["inventory", "shipping"],
        &[],
    ),
    of(
        Problem::MeshDuplicate,
        "mesh_duplicate",
        "Each instance of cart has a mesh proxy that records a span around the application's own.",
        "proxy spans",
        &["cart"],
        &["GET /carts/{cartId}", "POST /carts/{cartId}/items", "DELETE /carts/{cartId}"],
    ),
    of(
        Problem::PersonalData,
        "personal_data",
        "E-mail addresses and card numbers in attributes.",
        "attributes with personal data, by key in `byDetail`",
        &["auth", "payment", "email"],
        &["POST /login", "aurora.payment.v1.PaymentService/Charge", "process email.outbound"],
    ),
    of(
        Problem::NoisyTenant,
        "noisy_tenant",
        "One tenant, seen in `tenant.id`, makes more load than all others in its class.",
        "requests of that tenant",
        &["gateway", "search"],
        &["GET /api/search", "GET /api/products/{productId}"],
    ),
    of(
        Problem::MissingParent,
        "missing_parent",
        "Some server spans of catalogue are never exported; their children name a parent nobody has.",
        "lost spans",
        &["catalogue"],
        &[
            "aurora.catalogue.v1.CatalogueService/GetProduct",
            "aurora.catalogue.v1.CatalogueService/ListFeatured",
            "aurora.catalogue.v1.CatalogueService/BatchGetProducts",
        ],
    ),
    of(
        Problem::RedeliveredBatch,
        "redelivered_batch",
        "Some export requests are sent a second time after they were acknowledged.",
        "requests sent twice",
        &[],
        &[],
    ),
    of(
        Problem::HeadSampled,
        "head_sampled",
        "The mobile app keeps half of its traces and says so: tracestate `ot=th:8`.",
        "kept traces; `sampledOut` in `totals` has those dropped",
        &["mobile-app"],
        &[],
    ),
];

/// One problem's occurrences in one trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Injection {
    pub problem: Problem,
    pub trace_id: TraceId,
    /// Another trace concerned, as for torn ones.
    pub related: Option<TraceId>,
    /// What distinguishes occurrences within a problem, such as the attribute key; may be empty.
    pub detail: &'static str,
    pub occurrences: u64,
}

/// The cold share of the image function's invocations.
pub const COLD_START_SHARE: f64 = 0.12;
/// Share of export requests sent twice.
pub const REDELIVERY_SHARE: f64 = 0.01;
/// A retry storm is at least this many attempts.
pub const STORM_ATTEMPTS_MIN: u32 = 4;
/// The random part of a trace id from which the mobile app keeps a trace: half of them.
pub const HEAD_SAMPLING_THRESHOLD: u64 = 1 << 55;
/// What the mobile app puts into `tracestate`.
pub const HEAD_SAMPLING_STATE: &str = "ot=th:8";

/// The card provider refuses for this long …
const INCIDENT_LENGTH: u64 = 150 * SECOND;
/// … once in each of these.
const INCIDENT_PERIOD: u64 = 1_500 * SECOND;
/// The first incident in live traffic begins this long after its start.
const INCIDENT_AFTER: std::ops::Range<u64> = 40 * SECOND..120 * SECOND;
/// Share of charges whose attempts mostly fail, within an incident and at other times.
const CHARGES_REFUSED_IN_INCIDENT: f64 = 0.7;
const CHARGES_REFUSED_OTHERWISE: f64 = 0.1;
/// How likely one attempt of such a charge fails.
pub const REFUSED_ATTEMPT_SHARE: f64 = 0.95;
/// Without history or a duration, the release happens this long after the start.
const RELEASE_AFTER: u64 = 180 * SECOND;

/// When the problems that have a time happen; depends on the seed and the timeline only.
#[derive(Clone, Debug)]
pub struct Plan {
    /// When the slow release begins to roll out, nanoseconds since the epoch.
    pub release_at: u64,
    /// Offset of the skewed host's clock; positive is ahead.
    pub skew_nanos: i64,
    /// Start of the first incident of the card provider in live traffic; others follow and precede by the period.
    pub incident_at: u64,
}

impl Plan {
    pub fn new(seed: u64, timeline: &Timeline) -> Plan {
        let mut rng = stream(seed, Purpose::Plan, 0);
        let magnitude = rng.random_range(1_200_000_000..3_600_000_000_i64);
        let skew_nanos = if rng.random_bool(0.5) { magnitude } else { -magnitude };
        let incident_at = timeline.start + rng.random_range(INCIDENT_AFTER);
        Plan { release_at: release_at(timeline), skew_nanos, incident_at }
    }

    pub fn in_incident(&self, at: u64) -> bool {
        let since = i128::from(at) - i128::from(self.incident_at);
        since.rem_euclid(i128::from(INCIDENT_PERIOD)) < i128::from(INCIDENT_LENGTH)
    }

    /// Share of charges that run into the provider's refusals at `at`.
    pub fn charges_refused_share(&self, at: u64) -> f64 {
        if self.in_incident(at) { CHARGES_REFUSED_IN_INCIDENT } else { CHARGES_REFUSED_OTHERWISE }
    }
}

/// In the last quarter of a history; else halfway through a limited run; else a little after the start.
fn release_at(timeline: &Timeline) -> u64 {
    if timeline.history > 0 {
        return timeline.start - timeline.history / 4;
    }
    timeline.end.map_or(timeline.start + RELEASE_AFTER, |end| timeline.start + (end - timeline.start) / 2)
}

/// The constant facts of a problem that are not counts, as pairs for the facts file.
pub fn parameters(problem: Problem, plan: &Plan) -> Vec<(&'static str, String)> {
    match problem {
        Problem::ClockSkew => vec![("host.name", SKEWED_HOST.to_owned()), ("skewNanos", plan.skew_nanos.to_string())],
        Problem::RetryStorm => vec![
            ("incidentUnixNano", plan.incident_at.to_string()),
            ("incidentNanos", INCIDENT_LENGTH.to_string()),
            ("incidentPeriodNanos", INCIDENT_PERIOD.to_string()),
        ],
        Problem::NoisyTenant => vec![("tenant.id", people::NOISY_TENANT.to_owned())],
        Problem::HeadSampled => vec![("tracestate", HEAD_SAMPLING_STATE.to_owned())],
        _ => Vec::new(),
    }
}
