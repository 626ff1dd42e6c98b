//! What each service answers and what it does meanwhile.

use super::stores as s;
use super::topics as t;
use super::{Endpoint, Protocol, Retry, ServiceId, Step, failures as f, people};
use crate::latency::{ms, wide_ms};
use Step::*;

const fn http(
    service: ServiceId,
    method: &'static str,
    route: &'static str,
    steps: &'static [Step],
    failures: &'static [(f64, &'static f::Fault)],
) -> Endpoint {
    Endpoint { service, protocol: Protocol::Http { method, route }, steps, failures }
}

const fn grpc(
    service: ServiceId,
    name: &'static str,
    method: &'static str,
    steps: &'static [Step],
    failures: &'static [(f64, &'static f::Fault)],
) -> Endpoint {
    Endpoint { service, protocol: Protocol::Grpc { service: name, method }, steps, failures }
}

// ---- identity ----

static SESSION_GET: Endpoint = http(
    ServiceId::Session,
    "GET",
    "/sessions/:id",
    &[Work(ms(0.3)), Query(&s::SESSION_READ), Query(&s::SESSION_TOUCH), Work(ms(0.15))],
    &[],
);

static SESSION_CREATE: Endpoint =
    http(ServiceId::Session, "POST", "/sessions", &[Work(ms(0.4)), Query(&s::SESSION_WRITE), Work(ms(0.2))], &[]);

static AUTH_VERIFY: Endpoint = http(ServiceId::Auth, "POST", "/token/introspect", &[Work(ms(0.5)), Work(ms(0.9))], &[]);

static AUTH_LOGIN: Endpoint = http(
    ServiceId::Auth,
    "POST",
    "/login",
    &[
        Work(ms(0.6)),
        Personal(&people::LOGIN_EMAIL),
        Query(&s::USER_BY_LOGIN),
        Within("VerifyPassword", &[Work(ms(88.0))]),
        Query(&s::LOGIN_AUDIT),
        Call(&SESSION_CREATE),
        Work(ms(0.4)),
    ],
    &[(0.08, &f::WRONG_PASSWORD)],
);

static AUTHENTICATE: [Step; 2] = [Call(&SESSION_GET), Work(ms(0.25))];

// ---- discovery ----

const CATALOGUE_GRPC: &str = "aurora.catalogue.v1.CatalogueService";

static CATALOGUE_GET: Endpoint = grpc(
    ServiceId::Catalogue,
    CATALOGUE_GRPC,
    "GetProduct",
    &[
        Work(ms(0.2)),
        Query(&s::PRODUCT_CACHED),
        Sometimes(
            0.35,
            &[Query(&s::PRODUCT_BY_ID), Query(&s::PRODUCT_VARIANTS), Work(ms(0.3)), Query(&s::PRODUCT_CACHE_FILL)],
        ),
        Work(ms(0.3)),
    ],
    &[(0.006, &f::NOT_FOUND)],
);

static CATALOGUE_FEATURED: Endpoint = grpc(
    ServiceId::Catalogue,
    CATALOGUE_GRPC,
    "ListFeatured",
    &[Work(ms(0.2)), Query(&s::PRODUCT_LIST), Sometimes(0.15, &[Query(&s::CATEGORY_TREE)]), Work(ms(0.6))],
    &[],
);

static CATALOGUE_MANY: Endpoint = grpc(
    ServiceId::Catalogue,
    CATALOGUE_GRPC,
    "BatchGetProducts",
    &[Work(ms(0.2)), Query(&s::PRODUCT_MANY), Work(ms(0.4))],
    &[],
);

static SEARCH_FIND: Endpoint = http(
    ServiceId::Search,
    "GET",
    "/search",
    &[
        Work(ms(0.5)),
        Within("QueryUnderstanding.rewrite", &[Work(ms(1.6))]),
        Query(&s::SEARCH_PRODUCTS),
        Within("Ranker.rerank", &[Work(ms(4.2))]),
        Work(ms(0.7)),
    ],
    &[(0.004, &f::SEARCH_TIMEOUT)],
);

static SEARCH_SUGGEST: Endpoint =
    http(ServiceId::Search, "GET", "/suggest", &[Work(ms(0.3)), Query(&s::SEARCH_SUGGEST), Work(ms(0.2))], &[]);

static RECOMMEND: Endpoint = http(
    ServiceId::Recommendation,
    "GET",
    "/recommendations",
    &[
        Work(ms(0.8)),
        Query(&s::FEATURES_READ),
        Within("candidates", &[Query(&s::FEATURES_ITEM), Work(ms(2.3))]),
        Within("rank", &[Work(ms(7.5))]),
        Work(ms(0.6)),
    ],
    &[(0.005, &f::MODEL_SHAPE)],
);

static ADS_SLOT: Endpoint =
    http(ServiceId::Ads, "GET", "/slots/{slot}", &[Work(ms(1.2)), Query(&s::CAMPAIGNS), Work(ms(0.9))], &[]);

static REVIEWS_LIST: Endpoint = http(
    ServiceId::Reviews,
    "GET",
    "/products/:product_id/reviews",
    &[
        Work(ms(1.5)),
        Query(&s::REVIEWS_PAGE),
        Query(&s::REVIEWS_AUTHORS),
        Query(&s::REVIEWS_SUMMARY),
        Within("render_collection", &[Work(ms(3.4))]),
    ],
    &[(0.005, &f::TEMPLATE_NIL)],
);

static IMAGE_DERIVE: Endpoint = Endpoint {
    service: ServiceId::ImageResizer,
    protocol: Protocol::Function { name: "image-resizer" },
    steps: &[
        Work(ms(1.1)),
        External(&s::IMAGE_READ),
        Within("sharp.resize", &[Work(wide_ms(46.0))]),
        External(&s::IMAGE_WRITE),
    ],
    failures: &[(0.006, &f::IMAGE_MEMORY)],
};

static ASSISTANT_REPLY: Endpoint = http(
    ServiceId::Assistant,
    "POST",
    "/v1/messages",
    &[
        Work(ms(1.3)),
        Within(
            "invoke_agent shop-assistant",
            &[
                Chat(&s::CHAT_MODEL),
                Within("execute_tool search_products", &[Call(&SEARCH_FIND)]),
                Sometimes(0.4, &[Within("execute_tool check_stock", &[Call(&STOCK_GET)])]),
                Chat(&s::CHAT_MODEL),
            ],
        ),
        Work(ms(0.9)),
    ],
    &[],
);

// ---- ordering ----

static PRICE_QUOTE: Endpoint = grpc(
    ServiceId::Pricing,
    "aurora.pricing.v1.PricingService",
    "GetQuote",
    &[
        Work(ms(0.25)),
        Query(&s::PRICE_RULES),
        Sometimes(0.3, &[Query(&s::CURRENCY_RATES)]),
        Within("applyRules", &[Work(ms(0.5))]),
        Work(ms(0.2)),
    ],
    &[],
);

static CART_GET: Endpoint = http(
    ServiceId::Cart,
    "GET",
    "/carts/{cartId}",
    &[Work(ms(0.4)), Query(&s::CART_READ), Work(ms(0.4))],
    &[(0.002, &f::CACHE_TIMEOUT)],
);

static CART_ADD: Endpoint = http(
    ServiceId::Cart,
    "POST",
    "/carts/{cartId}/items",
    &[Work(ms(0.5)), Query(&s::CART_READ), Call(&CATALOGUE_MANY), Query(&s::CART_WRITE), Work(ms(0.3))],
    &[],
);

static CART_EMPTY: Endpoint =
    http(ServiceId::Cart, "DELETE", "/carts/{cartId}", &[Work(ms(0.3)), Query(&s::CART_DELETE)], &[]);

static TAX_QUOTE: Endpoint = http(
    ServiceId::Tax,
    "POST",
    "/quotes",
    &[Work(ms(1.4)), Sometimes(0.25, &[External(&s::VAT_RATES)]), Work(ms(1.1))],
    &[],
);

static FRAUD_SCORE: Endpoint = grpc(
    ServiceId::Fraud,
    "aurora.risk.v1.RiskService",
    "ScoreOrder",
    &[Work(ms(0.6)), Query(&s::FEATURES_READ), Within("model.predict", &[Work(ms(11.0))]), Work(ms(0.3))],
    &[],
);

static PAYMENT_CHARGE: Endpoint = grpc(
    ServiceId::Payment,
    "aurora.payment.v1.PaymentService",
    "Charge",
    &[
        Work(ms(0.6)),
        Personal(&people::CARD_NUMBER),
        Query(&s::PAYMENT_INTENT),
        ExternalRetrying(&s::CARD_CHARGE, Retry { attempts_max: 2, backoff: ms(25.0) }),
        Query(&s::PAYMENT_CAPTURE),
        Work(ms(0.4)),
    ],
    &[(0.02, &f::CARD_DECLINED)],
);

static CHECKOUT_PLACE: Endpoint = grpc(
    ServiceId::Checkout,
    "aurora.checkout.v1.CheckoutService",
    "PlaceOrder",
    &[
        Work(ms(0.6)),
        Call(&CART_GET),
        Within(
            "OrderPreparation.prepare",
            &[
                Parallel(&[Call(&CATALOGUE_MANY), Call(&PRICE_QUOTE), Call(&SHIPPING_QUOTE)]),
                Call(&TAX_QUOTE),
                Work(ms(0.5)),
            ],
        ),
        Call(&STOCK_RESERVE),
        Call(&FRAUD_SCORE),
        Wait("HikariDataSource.getConnection", 0.3, wide_ms(9.0)),
        Within(
            "OrderRepository.save",
            &[Query(&s::ORDER_INSERT), Query(&s::ORDER_LINES_INSERT), Query(&s::OUTBOX_INSERT), Work(ms(2.2))],
        ),
        CallRetrying(&PAYMENT_CHARGE, Retry { attempts_max: 6, backoff: ms(60.0) }),
        Query(&s::ORDER_STATUS),
        Publish(&t::ORDERS, 1, 2),
        Tolerate(&[Parallel(&[Call(&CART_EMPTY), Call(&NOTIFY_ORDER)])]),
        Note("order placed"),
        Work(ms(0.5)),
    ],
    &[],
);

static ORDERS_LIST: Endpoint = http(
    ServiceId::Orders,
    "GET",
    "customers/<customer_id>/orders/",
    &[
        Work(ms(2.1)),
        Query(&s::ORDER_LIST),
        QueryPerRow(&s::ORDER_LINES_OF_ONE, 14, 44),
        Within("OrderSerializer.to_representation", &[Work(ms(6.0))]),
    ],
    &[],
);

// ---- fulfilment ----

const INVENTORY_GRPC: &str = "aurora.inventory.v1.InventoryService";

static STOCK_GET: Endpoint = grpc(
    ServiceId::Inventory,
    INVENTORY_GRPC,
    "GetAvailability",
    &[Work(ms(0.3)), Query(&s::STOCK_LEVELS), Work(ms(0.3))],
    &[],
);

static STOCK_RESERVE: Endpoint = grpc(
    ServiceId::Inventory,
    INVENTORY_GRPC,
    "Reserve",
    &[
        Work(ms(0.4)),
        Wait("AgroalDataSource.getConnection", 0.2, wide_ms(5.0)),
        Within(
            "ReservationService.reserve",
            &[Query(&s::STOCK_LOCK), Work(ms(0.4)), Query(&s::STOCK_RESERVE), Work(ms(1.6))],
        ),
        Work(ms(0.2)),
    ],
    &[(0.012, &f::STOCK_CONFLICT)],
);

static SHIPPING_QUOTE: Endpoint = http(
    ServiceId::Shipping,
    "POST",
    "/quote",
    &[Work(ms(0.2)), Query(&s::SHIPPING_RATES), Sometimes(0.4, &[External(&s::CARRIER_QUOTE)]), Work(ms(0.15))],
    &[],
);

static SHIPPING_CREATE: Endpoint = http(
    ServiceId::Shipping,
    "POST",
    "/shipments",
    &[Work(ms(0.2)), External(&s::CARRIER_LABEL), Query(&s::SHIPMENT_INSERT), Work(ms(0.15))],
    &[],
);

static NOTIFY_ORDER: Endpoint = http(
    ServiceId::Notification,
    "POST",
    "/notifications",
    &[Work(ms(0.5)), Publish(&t::OUTBOUND_MAIL, 1, 1), Sometimes(0.3, &[External(&s::PUSH_RELAY)]), Work(ms(0.2))],
    &[],
);

/// What the order processor does with one message.
pub static PROCESS_ORDER: [Step; 4] = [Work(ms(1.1)), Work(ms(1.8)), Call(&SHIPPING_CREATE), Work(ms(0.8))];

/// What the loyalty consumer does with one batch.
pub static AWARD_POINTS: [Step; 3] = [Work(ms(0.9)), Query(&s::POINTS_INSERT), Work(ms(0.4))];

/// What the mail worker does with one message.
pub static SEND_MAIL: [Step; 4] = [
    Personal(&people::MAIL_RECIPIENT),
    Within("render order_confirmation.html.erb", &[Work(ms(12.0))]),
    ExternalRetrying(&s::MAIL_RELAY, Retry { attempts_max: 3, backoff: ms(200.0) }),
    Work(ms(0.5)),
];

// ---- gateway ----

const GATEWAY: ServiceId = ServiceId::Gateway;

pub static API_HOME: Endpoint = http(
    GATEWAY,
    "GET",
    "/api/home",
    &[
        Sequence(&AUTHENTICATE),
        Parallel(&[Call(&CATALOGUE_FEATURED), Tolerate(&[Call(&RECOMMEND)]), Tolerate(&[Call(&ADS_SLOT)])]),
        Work(ms(0.9)),
    ],
    &[],
);

pub static API_PRODUCT: Endpoint = http(
    GATEWAY,
    "GET",
    "/api/products/{productId}",
    &[
        Sequence(&AUTHENTICATE),
        Call(&CATALOGUE_GET),
        Parallel(&[
            Call(&PRICE_QUOTE),
            Call(&STOCK_GET),
            Tolerate(&[Call(&REVIEWS_LIST)]),
            Tolerate(&[Call(&RECOMMEND)]),
            Sometimes(0.25, &[Tolerate(&[Call(&IMAGE_DERIVE)])]),
        ]),
        Sometimes(0.4, &[Tolerate(&[Call(&ADS_SLOT)])]),
        Work(ms(1.1)),
    ],
    &[],
);

pub static API_SEARCH: Endpoint = http(
    GATEWAY,
    "GET",
    "/api/search",
    &[Sequence(&AUTHENTICATE), Call(&SEARCH_FIND), Parallel(&[Call(&PRICE_QUOTE), Call(&STOCK_GET)]), Work(ms(0.9))],
    &[(0.006, &f::RATE_LIMITED)],
);

pub static API_SUGGEST: Endpoint =
    http(GATEWAY, "GET", "/api/suggest", &[Work(ms(0.2)), Call(&SEARCH_SUGGEST), Work(ms(0.2))], &[]);

pub static API_CART_ADD: Endpoint = http(
    GATEWAY,
    "POST",
    "/api/cart/items",
    &[Sequence(&AUTHENTICATE), Call(&STOCK_GET), Call(&CART_ADD), Work(ms(0.4))],
    &[],
);

pub static API_CART: Endpoint = http(
    GATEWAY,
    "GET",
    "/api/cart",
    &[Sequence(&AUTHENTICATE), Call(&CART_GET), Parallel(&[Call(&CATALOGUE_MANY), Call(&PRICE_QUOTE)]), Work(ms(0.5))],
    &[],
);

pub static API_CHECKOUT: Endpoint = http(
    GATEWAY,
    "POST",
    "/api/checkout",
    &[Sequence(&AUTHENTICATE), Call(&AUTH_VERIFY), Call(&CHECKOUT_PLACE), Work(ms(0.6))],
    &[],
);

pub static API_LOGIN: Endpoint =
    http(GATEWAY, "POST", "/api/login", &[Work(ms(0.4)), Call(&AUTH_LOGIN), Work(ms(0.3))], &[]);

pub static API_ORDERS: Endpoint =
    http(GATEWAY, "GET", "/api/account/orders", &[Sequence(&AUTHENTICATE), Call(&ORDERS_LIST), Work(ms(0.6))], &[]);

pub static API_ASSISTANT: Endpoint = http(
    GATEWAY,
    "POST",
    "/api/assistant/messages",
    &[Sequence(&AUTHENTICATE), Call(&ASSISTANT_REPLY), Work(ms(0.5))],
    &[],
);
