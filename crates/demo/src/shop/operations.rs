//! What people and schedules set off, and how often.

use super::{Endpoint, ServiceId, Step, endpoints as e, stores as s};
use crate::latency::ms;

/// How often each operation occurs among the others.
pub struct Operation {
    pub name: &'static str,
    pub weight: u32,
    /// The weight for the tenant that makes too much load.
    pub weight_noisy: u32,
    pub trigger: Trigger,
}

pub enum Trigger {
    /// A person's action in a browser or an app, or a tenant's program calling `api` directly.
    Visit { page: &'static str, screen: &'static str, api: &'static Endpoint, also: &'static [Step] },
    /// A scheduled job.
    Job { service: ServiceId, name: &'static str, steps: &'static [Step] },
}

const fn visit(
    name: &'static str,
    weight: u32,
    weight_noisy: u32,
    page: &'static str,
    screen: &'static str,
    api: &'static Endpoint,
    also: &'static [Step],
) -> Operation {
    Operation { name, weight, weight_noisy, trigger: Trigger::Visit { page, screen, api, also } }
}

/// All operations; a weight of 10,000 is about a tenth of the traffic.
pub static OPERATIONS: [Operation; 11] = [
    visit(
        "browse home",
        17_000,
        6_000,
        "Navigation: /",
        "Screen Home",
        &e::API_HOME,
        &[Step::Sometimes(0.5, &[Step::External(&s::SCRIPT_BUNDLE)])],
    ),
    visit(
        "view product",
        28_000,
        30_000,
        "Navigation: /p/:slug",
        "Screen ProductDetail",
        &e::API_PRODUCT,
        &[Step::Sometimes(0.2, &[Step::External(&s::SCRIPT_BUNDLE)])],
    ),
    visit("search", 15_000, 48_000, "Navigation: /search", "Screen SearchResults", &e::API_SEARCH, &[]),
    visit("suggest", 10_000, 4_000, "Input search", "Screen Search", &e::API_SUGGEST, &[]),
    visit("add to cart", 9_000, 5_000, "Click add-to-cart", "Tap AddToCart", &e::API_CART_ADD, &[]),
    visit("view cart", 6_000, 2_000, "Navigation: /cart", "Screen Cart", &e::API_CART, &[]),
    visit("checkout", 7_000, 4_000, "Click place-order", "Tap PlaceOrder", &e::API_CHECKOUT, &[]),
    visit("login", 4_000, 500, "Submit login", "Tap SignIn", &e::API_LOGIN, &[]),
    visit("order history", 3_000, 1_000, "Navigation: /account/orders", "Screen Orders", &e::API_ORDERS, &[]),
    visit("ask assistant", 1_500, 100, "Submit assistant", "Tap AskAssistant", &e::API_ASSISTANT, &[]),
    Operation {
        name: "settlement",
        weight: 22,
        weight_noisy: 22,
        trigger: Trigger::Job { service: ServiceId::Settlement, name: "settlementJob", steps: &SETTLEMENT_JOB },
    },
];

/// The nightly batch: some dozens of merchants, each in chunks; a few thousand spans in one trace.
static SETTLEMENT_JOB: [Step; 4] = [
    Step::Work(ms(14.0)),
    Step::Query(&s::SETTLEMENT_MERCHANTS),
    Step::Repeat(45, 70, &[Step::Within("settleMerchant", &SETTLE_MERCHANT)]),
    Step::Work(ms(20.0)),
];

static SETTLE_MERCHANT: [Step; 4] = [
    Step::Work(ms(0.6)),
    Step::Repeat(9, 18, &[Step::Within("settlementStep.chunk", &SETTLE_CHUNK)]),
    Step::Query(&s::SETTLEMENT_INSERT),
    Step::Tolerate(&[Step::External(&s::PAYOUT)]),
];

static SETTLE_CHUNK: [Step; 4] = [
    Step::Query(&s::PAYMENT_UNSETTLED),
    Step::Within("ItemProcessor.process", &[Step::Work(ms(1.2))]),
    Step::Query(&s::SETTLEMENT_MARK),
    Step::Work(ms(0.3)),
];
