//! Who shops: tenants, customers, what they look for, and the personal data that leaks into attributes.
//!
//! All personal data is made up: reserved example domains (RFC 2606), card networks' test numbers,
//! documentation address blocks (RFC 5737).

use rand::Rng;
use rand::seq::IndexedRandom;

/// The white-label shop that makes much more load than any other.
pub const NOISY_TENANT: &str = "polar-outlet";
/// Share of all requests that come from [`NOISY_TENANT`].
pub const NOISY_TENANT_SHARE: f64 = 0.38;

const TENANTS: [(&str, u32); 9] = [
    ("aurora-de", 30),
    ("aurora-fr", 18),
    ("aurora-se", 14),
    ("aurora-nl", 11),
    ("fjordhome", 9),
    ("lumen-living", 7),
    ("kiln-and-oak", 5),
    ("nightsky-gifts", 4),
    ("tundra-kids", 2),
];

const CURRENCIES: [&str; 4] = ["EUR", "SEK", "CHF", "GBP"];
const SEARCHES: [&str; 14] = [
    "wool blanket",
    "linen duvet",
    "enamel mug",
    "oak cutting board",
    "beeswax candle",
    "rain jacket kids",
    "merino socks",
    "desk lamp brass",
    "cast iron pan",
    "tea towel",
    "hiking backpack 30l",
    "ceramic vase",
    "felt slippers 42",
    "thermos",
];
const SLUGS: [&str; 10] = [
    "polar-wool-blanket",
    "fjord-linen-duvet",
    "ember-enamel-mug",
    "grove-oak-board",
    "hive-beeswax-candle",
    "drizzle-rain-jacket",
    "summit-merino-socks",
    "dusk-brass-lamp",
    "forge-iron-pan",
    "loom-tea-towel",
];
const FIRST_NAMES: [&str; 12] =
    ["mara", "jonas", "elif", "tomasz", "ines", "anders", "chloe", "davide", "priya", "lukas", "noor", "freya"];
const LAST_NAMES: [&str; 10] =
    ["lindqvist", "berger", "kaya", "nowak", "moreau", "hansen", "rossi", "iyer", "vogel", "de-wit"];
const MAIL_DOMAINS: [&str; 3] = ["example.com", "example.org", "example.net"];
const TEST_CARDS: [&str; 5] =
    ["4111 1111 1111 1111", "4242424242424242", "5555555555554444", "378282246310005", "6011111111111117"];

/// What kind of personal data an attribute holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Personal {
    Email,
    CardNumber,
}

/// An attribute that ought not to exist.
pub struct PersonalAttribute {
    pub key: &'static str,
    pub kind: Personal,
    pub share: f64,
}

pub static LOGIN_EMAIL: PersonalAttribute = PersonalAttribute { key: "user.email", kind: Personal::Email, share: 0.35 };
pub static MAIL_RECIPIENT: PersonalAttribute =
    PersonalAttribute { key: "email.recipient", kind: Personal::Email, share: 0.5 };
pub static CARD_NUMBER: PersonalAttribute =
    PersonalAttribute { key: "payment.card_number", kind: Personal::CardNumber, share: 0.3 };

/// How a request enters the shop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    Browser,
    MobileApp,
    /// A tenant's own program, without spans of its own.
    ApiClient,
}

/// The person (or program) behind one request.
pub struct Shopper {
    pub tenant: &'static str,
    pub entry: Entry,
    pub user_id: String,
    pub session_id: String,
    pub client_address: String,
    pub currency: &'static str,
    pub product_id: u32,
    pub product_slug: &'static str,
    pub search: &'static str,
    pub order_id: String,
    pub email: String,
    pub card_number: &'static str,
}

impl Shopper {
    pub fn draw(rng: &mut impl Rng) -> Shopper {
        let tenant = draw_tenant(rng);
        let first = pick(&FIRST_NAMES, rng);
        let last = pick(&LAST_NAMES, rng);
        let domain = pick(&MAIL_DOMAINS, rng);
        Shopper {
            tenant,
            entry: draw_entry(tenant, rng),
            user_id: format!("u-{:06}", skewed_below(240_000, rng)),
            session_id: format!("{:032x}", rng.random::<u128>()),
            client_address: format!("198.51.100.{}", rng.random_range(1..255)),
            currency: pick(&CURRENCIES, rng),
            product_id: 10_000 + skewed_below(8_000, rng),
            product_slug: pick(&SLUGS, rng),
            search: pick(&SEARCHES, rng),
            order_id: format!("AG-{:08}", rng.random_range(10_000_000..99_999_999)),
            email: format!("{first}.{last}@{domain}"),
            card_number: pick(&TEST_CARDS, rng),
        }
    }
}

fn draw_tenant(rng: &mut impl Rng) -> &'static str {
    if rng.random_bool(NOISY_TENANT_SHARE) {
        return NOISY_TENANT;
    }
    TENANTS.choose_weighted(rng, |(_, weight)| *weight).expect("the tenants have positive weights").0
}

fn draw_entry(tenant: &str, rng: &mut impl Rng) -> Entry {
    let (api_client, mobile) = if tenant == NOISY_TENANT { (0.7, 0.05) } else { (0.04, 0.26) };
    match rng.random::<f64>() {
        x if x < api_client => Entry::ApiClient,
        x if x < api_client + mobile => Entry::MobileApp,
        _ => Entry::Browser,
    }
}

/// Favours small numbers, as popular products and busy customers do.
fn skewed_below(end: u32, rng: &mut impl Rng) -> u32 {
    let unit: f64 = rng.random();
    (unit * unit * unit * f64::from(end)) as u32
}

fn pick<T: Copy>(choices: &[T], rng: &mut impl Rng) -> T {
    *choices.choose(rng).expect("the table is not empty")
}
