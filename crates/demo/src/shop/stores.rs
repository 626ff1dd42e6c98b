//! What services talk to without getting spans back: databases, caches, third parties, a language model.

use super::failures::{self, Fault};
use super::scopes::Library;
use crate::latency::{Latency, ms, wide_ms};

/// A database or cache server.
pub struct Store {
    /// Well-known value of `db.system.name`.
    pub system: &'static str,
    pub address: &'static str,
    pub port: u16,
    pub namespace: &'static str,
    pub library: Library,
}

/// One statement a service sends to a store.
pub struct Query {
    pub store: &'static Store,
    pub operation: &'static str,
    /// Table, index or key space; empty where there is none.
    pub collection: &'static str,
    pub text: &'static str,
    pub latency: Latency,
    /// The latency with the slow release of the calling service.
    pub latency_after_release: Option<Latency>,
    /// Most rows returned; 0 for statements that return none.
    pub rows_max: u32,
}

/// A request to someone else's API.
pub struct External {
    pub method: &'static str,
    pub host: &'static str,
    pub path: &'static str,
    pub latency: Latency,
    pub failure_share: f64,
    pub fault: &'static Fault,
    /// Fails together with the payment provider's incidents.
    pub in_payment_incident: bool,
}

/// A hosted language model.
pub struct Model {
    pub provider: &'static str,
    pub host: &'static str,
    pub name: &'static str,
    pub answer: Latency,
}

const fn store(
    system: &'static str,
    address: &'static str,
    port: u16,
    namespace: &'static str,
    library: Library,
) -> Store {
    Store { system, address, port, namespace, library }
}

static CATALOGUE_DB: Store = store("postgresql", "catalogue-db-ro.aurora.internal", 5432, "catalogue", Library::Sql);
static PRICING_DB: Store = store("mysql", "pricing-db.aurora.internal", 3306, "pricing", Library::SqlGeneric);
static INVENTORY_DB: Store = store("postgresql", "inventory-db.aurora.internal", 5432, "stock", Library::Sql);
static CHECKOUT_DB: Store = store("postgresql", "orders-db.aurora.internal", 5432, "orders", Library::Sql);
static ORDERS_DB: Store = store("postgresql", "orders-db-ro.aurora.internal", 5432, "orders", Library::Sql);
static PAYMENT_DB: Store = store("postgresql", "payment-db.aurora.internal", 5432, "ledger", Library::Sql);
static IDENTITY_DB: Store = store("postgresql", "identity-db.aurora.internal", 5432, "identity", Library::Sql);
static REVIEWS_DB: Store = store("postgresql", "reviews-db.aurora.internal", 5432, "reviews_production", Library::Sql);
static LOYALTY_DB: Store = store("postgresql", "loyalty-db.aurora.internal", 5432, "loyalty", Library::Sql);
static ADS_DB: Store = store("mysql", "campaigns-db.aurora.internal", 3306, "campaigns", Library::SqlGeneric);
static SHIPPING_DB: Store = store("mongodb", "shipping-mongo.aurora.internal", 27017, "shipping", Library::Document);
static SEARCH_INDEX: Store =
    store("elasticsearch", "search-es.aurora.internal", 9200, "aurora-search", Library::Document);
static SESSION_CACHE: Store = store("redis", "session-redis.aurora.internal", 6379, "0", Library::KeyValue);
static CART_CACHE: Store = store("redis", "cart-redis.aurora.internal", 6379, "2", Library::KeyValue);
static FEATURE_CACHE: Store = store("redis", "feature-redis.aurora.internal", 6379, "1", Library::KeyValue);
static CATALOGUE_CACHE: Store = store("redis", "catalogue-redis.aurora.internal", 6379, "0", Library::KeyValue);

const fn query(
    store: &'static Store,
    operation: &'static str,
    collection: &'static str,
    text: &'static str,
    latency: Latency,
    rows_max: u32,
) -> Query {
    Query { store, operation, collection, text, latency, latency_after_release: None, rows_max }
}

pub static SESSION_READ: Query = query(&SESSION_CACHE, "GET", "", "GET session:?", ms(0.45), 0);
pub static SESSION_TOUCH: Query = query(&SESSION_CACHE, "EXPIRE", "", "EXPIRE session:? ?", ms(0.35), 0);
pub static SESSION_WRITE: Query = query(&SESSION_CACHE, "SETEX", "", "SETEX session:? ? ?", ms(0.5), 0);
pub static CART_READ: Query = query(&CART_CACHE, "HGETALL", "", "HGETALL cart:?", ms(0.6), 0);
pub static CART_WRITE: Query = query(&CART_CACHE, "HSET", "", "HSET cart:? ? ?", ms(0.55), 0);
pub static CART_DELETE: Query = query(&CART_CACHE, "DEL", "", "DEL cart:?", ms(0.45), 0);
pub static FEATURES_READ: Query = query(&FEATURE_CACHE, "HMGET", "", "HMGET features:user:? ? ? ? ?", ms(0.7), 0);
pub static FEATURES_ITEM: Query =
    query(&FEATURE_CACHE, "MGET", "", "MGET embedding:item:? embedding:item:?", ms(1.1), 0);
pub static PRODUCT_CACHED: Query = query(&CATALOGUE_CACHE, "GET", "", "GET product:v3:?", ms(0.5), 0);
pub static PRODUCT_CACHE_FILL: Query = query(&CATALOGUE_CACHE, "SETEX", "", "SETEX product:v3:? 300 ?", ms(0.5), 0);

pub static PRODUCT_BY_ID: Query = query(
    &CATALOGUE_DB,
    "SELECT",
    "product",
    "SELECT id, sku, title, description, brand_id, media, updated_at FROM product WHERE id = $1 AND deleted_at IS NULL",
    ms(2.1),
    1,
);
pub static PRODUCT_VARIANTS: Query = query(
    &CATALOGUE_DB,
    "SELECT",
    "product_variant",
    "SELECT id, colour, size, barcode FROM product_variant WHERE product_id = $1 ORDER BY position",
    ms(1.8),
    12,
);
pub static PRODUCT_LIST: Query = query(
    &CATALOGUE_DB,
    "SELECT",
    "product",
    "SELECT id, sku, title, media FROM product WHERE featured AND deleted_at IS NULL ORDER BY featured_rank LIMIT $1",
    ms(4.6),
    24,
);
pub static PRODUCT_MANY: Query = query(
    &CATALOGUE_DB,
    "SELECT",
    "product",
    "SELECT id, sku, title, weight_g, tax_class FROM product WHERE id = ANY($1)",
    ms(3.2),
    9,
);
pub static CATEGORY_TREE: Query = query(
    &CATALOGUE_DB,
    "SELECT",
    "category",
    "WITH RECURSIVE tree AS (SELECT id, parent_id, slug, 0 AS depth FROM category WHERE parent_id IS NULL UNION ALL \
     SELECT c.id, c.parent_id, c.slug, t.depth + 1 FROM category c JOIN tree t ON c.parent_id = t.id) \
     SELECT id, parent_id, slug, depth FROM tree",
    ms(5.4),
    180,
);

/// The statement the slow release makes slow: the new condition keeps the planner from using the index.
pub static PRICE_RULES: Query = Query {
    latency_after_release: Some(ms(240.0)),
    ..query(
        &PRICING_DB,
        "SELECT",
        "price_rule",
        "SELECT id, kind, amount, currency, valid_from, valid_until FROM price_rule \
         WHERE sku IN (?) AND market = ? AND ? BETWEEN valid_from AND valid_until ORDER BY priority",
        ms(3.4),
        14,
    )
};
pub static CURRENCY_RATES: Query = query(
    &PRICING_DB,
    "SELECT",
    "currency_rate",
    "SELECT rate FROM currency_rate WHERE base = ? AND quote = ? ORDER BY fetched_at DESC LIMIT 1",
    ms(1.1),
    1,
);

pub static STOCK_LEVELS: Query = query(
    &INVENTORY_DB,
    "SELECT",
    "stock_level",
    "select s.warehouse_id, s.on_hand, s.reserved from stock_level s where s.sku = any (?)",
    ms(2.4),
    20,
);
pub static STOCK_LOCK: Query = query(
    &INVENTORY_DB,
    "SELECT",
    "stock_level",
    "select s.sku, s.on_hand, s.reserved from stock_level s where s.sku = any (?) and s.warehouse_id = ? for update",
    wide_ms(6.5),
    9,
);
pub static STOCK_RESERVE: Query = query(
    &INVENTORY_DB,
    "UPDATE",
    "stock_level",
    "update stock_level set reserved = reserved + ?, version = version + 1 where sku = ? and warehouse_id = ? and version = ?",
    ms(2.7),
    0,
);

pub static ORDER_INSERT: Query = query(
    &CHECKOUT_DB,
    "INSERT",
    "customer_order",
    "insert into customer_order (id, customer_id, tenant_id, currency, total_minor, status, placed_at) values (?, ?, ?, ?, ?, ?, ?)",
    ms(2.9),
    0,
);
pub static ORDER_LINES_INSERT: Query = query(
    &CHECKOUT_DB,
    "INSERT",
    "order_line",
    "insert into order_line (order_id, position, sku, quantity, unit_minor) select * from unnest(?, ?, ?, ?, ?)",
    ms(3.6),
    0,
);
pub static OUTBOX_INSERT: Query = query(
    &CHECKOUT_DB,
    "INSERT",
    "outbox",
    "insert into outbox (id, topic, key, payload, created_at) values (?, ?, ?, ?, ?)",
    ms(1.5),
    0,
);
pub static ORDER_STATUS: Query = query(
    &CHECKOUT_DB,
    "UPDATE",
    "customer_order",
    "update customer_order set status = ?, updated_at = now() where id = ?",
    ms(2.3),
    0,
);

pub static ORDER_LIST: Query = query(
    &ORDERS_DB,
    "SELECT",
    "customer_order",
    "SELECT \"customer_order\".\"id\", \"customer_order\".\"placed_at\", \"customer_order\".\"total_minor\" \
     FROM \"customer_order\" WHERE \"customer_order\".\"customer_id\" = %s ORDER BY \"customer_order\".\"placed_at\" DESC LIMIT 50",
    ms(6.8),
    50,
);
/// Asked once per order of the page: the N+1.
pub static ORDER_LINES_OF_ONE: Query = query(
    &ORDERS_DB,
    "SELECT",
    "order_line",
    "SELECT \"order_line\".\"id\", \"order_line\".\"sku\", \"order_line\".\"quantity\", \"order_line\".\"unit_minor\" \
     FROM \"order_line\" WHERE \"order_line\".\"order_id\" = %s",
    ms(5.2),
    6,
);

pub static PAYMENT_INTENT: Query = query(
    &PAYMENT_DB,
    "INSERT",
    "payment_intent",
    "INSERT INTO payment_intent (id, order_id, amount_minor, currency, idempotency_key) VALUES ($1, $2, $3, $4, $5) \
     ON CONFLICT (idempotency_key) DO NOTHING RETURNING id",
    ms(2.5),
    1,
);
pub static PAYMENT_CAPTURE: Query = query(
    &PAYMENT_DB,
    "UPDATE",
    "payment_intent",
    "UPDATE payment_intent SET state = $2, provider_reference = $3 WHERE id = $1",
    ms(2.2),
    0,
);
pub static PAYMENT_UNSETTLED: Query = query(
    &PAYMENT_DB,
    "SELECT",
    "payment_intent",
    "SELECT id, amount_minor, currency FROM payment_intent WHERE merchant_id = $1 AND state = 'captured' AND settled_at IS NULL",
    ms(9.0),
    400,
);

pub static USER_BY_LOGIN: Query = query(
    &IDENTITY_DB,
    "SELECT",
    "account",
    "SELECT id, password_hash, locked_until, mfa FROM account WHERE login_hash = @p0",
    ms(1.9),
    1,
);
pub static LOGIN_AUDIT: Query = query(
    &IDENTITY_DB,
    "INSERT",
    "login_audit",
    "INSERT INTO login_audit (account_id, at, outcome, ip_prefix) VALUES (@p0, @p1, @p2, @p3)",
    ms(1.8),
    0,
);

pub static REVIEWS_PAGE: Query = query(
    &REVIEWS_DB,
    "SELECT",
    "reviews",
    "SELECT \"reviews\".* FROM \"reviews\" WHERE \"reviews\".\"product_id\" = $1 AND \"reviews\".\"state\" = $2 \
     ORDER BY \"reviews\".\"helpful_count\" DESC LIMIT $3",
    ms(4.1),
    10,
);
pub static REVIEWS_AUTHORS: Query = query(
    &REVIEWS_DB,
    "SELECT",
    "authors",
    "SELECT \"authors\".* FROM \"authors\" WHERE \"authors\".\"id\" IN ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
    ms(1.7),
    10,
);
pub static REVIEWS_SUMMARY: Query = query(
    &REVIEWS_DB,
    "SELECT",
    "rating_summaries",
    "SELECT \"rating_summaries\".* FROM \"rating_summaries\" WHERE \"rating_summaries\".\"product_id\" = $1 LIMIT $2",
    ms(1.1),
    1,
);

pub static CAMPAIGNS: Query = query(
    &ADS_DB,
    "SELECT",
    "campaign",
    "SELECT c.id, c.creative_url, c.bid FROM campaign c JOIN placement p ON p.campaign_id = c.id \
     WHERE p.slot = :slot AND c.active = 1 ORDER BY c.bid DESC LIMIT 5",
    wide_ms(4.4),
    5,
);

pub static SHIPPING_RATES: Query = query(
    &SHIPPING_DB,
    "find",
    "carrier_rates",
    "{\"find\":\"carrier_rates\",\"filter\":{\"zone\":\"?\",\"weight_g\":{\"$gte\":\"?\"}}}",
    ms(2.8),
    6,
);
pub static SHIPMENT_INSERT: Query = query(
    &SHIPPING_DB,
    "insert",
    "shipments",
    "{\"insert\":\"shipments\",\"documents\":[{\"order_id\":\"?\",\"carrier\":\"?\",\"parcels\":\"?\"}]}",
    ms(3.3),
    0,
);

pub static SEARCH_PRODUCTS: Query = query(
    &SEARCH_INDEX,
    "search",
    "products-v12",
    "{\"query\":{\"bool\":{\"must\":[{\"multi_match\":{\"query\":\"?\",\"fields\":[\"title^3\",\"brand^2\",\"description\"]}}],\
     \"filter\":[{\"term\":{\"market\":\"?\"}}]}},\"aggs\":{\"brand\":{\"terms\":{\"field\":\"?\"}}},\"size\":\"?\"}",
    wide_ms(24.0),
    48,
);
pub static SEARCH_SUGGEST: Query = query(
    &SEARCH_INDEX,
    "search",
    "suggest-v4",
    "{\"suggest\":{\"title\":{\"prefix\":\"?\",\"completion\":{\"field\":\"?\",\"size\":\"?\"}}}}",
    ms(4.5),
    8,
);

pub static POINTS_INSERT: Query = query(
    &LOYALTY_DB,
    "INSERT",
    "points_entry",
    "INSERT INTO points_entry (member_id, order_id, points) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
    ms(2.6),
    0,
);

pub static SETTLEMENT_MERCHANTS: Query = query(
    &PAYMENT_DB,
    "SELECT",
    "merchant",
    "select m.id, m.payout_iban_ref, m.schedule from merchant m where m.active and m.next_settlement <= ?",
    ms(38.0),
    70,
);
pub static SETTLEMENT_MARK: Query = query(
    &PAYMENT_DB,
    "UPDATE",
    "payment_intent",
    "update payment_intent set settled_at = ?, settlement_id = ? where id = any (?)",
    ms(5.5),
    0,
);
pub static SETTLEMENT_INSERT: Query = query(
    &PAYMENT_DB,
    "INSERT",
    "settlement",
    "insert into settlement (id, merchant_id, total_minor, currency, entries) values (?, ?, ?, ?, ?)",
    ms(3.1),
    0,
);

const fn external(method: &'static str, host: &'static str, path: &'static str, latency: Latency) -> External {
    External {
        method,
        host,
        path,
        latency,
        failure_share: 0.002,
        fault: &failures::THIRD_PARTY_DOWN,
        in_payment_incident: false,
    }
}

pub static CARD_CHARGE: External = External {
    failure_share: 0.006,
    fault: &failures::PROVIDER_OVERLOADED,
    in_payment_incident: true,
    ..external("POST", "api.cardbridge.example", "/v2/charges", wide_ms(145.0))
};
pub static PAYOUT: External = external("POST", "api.cardbridge.example", "/v2/payouts", ms(120.0));
pub static VAT_RATES: External = external("GET", "rates.vatservice.example", "/v1/rates/DE", wide_ms(42.0));
pub static CARRIER_QUOTE: External = external("POST", "api.nordparcel.example", "/quotes", wide_ms(75.0));
pub static CARRIER_LABEL: External = external("POST", "api.nordparcel.example", "/shipments", wide_ms(180.0));
pub static MAIL_RELAY: External = external("POST", "relay.postbote.example", "/v3/messages", wide_ms(95.0));
pub static PUSH_RELAY: External = external("POST", "push.postbote.example", "/v1/notifications", wide_ms(60.0));
pub static IMAGE_READ: External =
    external("GET", "aurora-media-original.s3.eu-central-1.amazonaws.com", "/p/original.jpg", wide_ms(28.0));
pub static IMAGE_WRITE: External =
    external("PUT", "aurora-media-derived.s3.eu-central-1.amazonaws.com", "/p/derived.webp", wide_ms(34.0));
pub static SCRIPT_BUNDLE: External =
    external("GET", "cdn.aurora-goods.example", "/assets/storefront.8f3c1a.js", wide_ms(48.0));

pub static CHAT_MODEL: Model =
    Model { provider: "mistral_ai", host: "api.mistral.ai", name: "mistral-small-2506", answer: wide_ms(900.0) };
