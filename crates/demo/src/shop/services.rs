//! The table of services.

use super::{Conventions, Language, Platform, Service, ServiceId};

const fn service(
    id: ServiceId,
    name: &'static str,
    namespace: &'static str,
    language: Language,
    version: &'static str,
    instances: u8,
    port: u16,
) -> Service {
    Service {
        id,
        name,
        namespace,
        language,
        platform: Platform::Kubernetes,
        version,
        instances,
        port,
        conventions: Conventions::Stable,
        sidecar: false,
        context_lost_share: 0.0,
        span_lost_share: 0.0,
    }
}

use Language::{Browser, DotNet, Elixir, Go, Java, Node, Php, Python, Ruby, Rust, Swift};
use ServiceId as Id;

/// All services, indexed by [`ServiceId`].
pub static SERVICES: [Service; 26] = [
    Service { platform: Platform::Device, ..service(Id::Web, "web", "storefront", Browser, "2025.46.2", 14, 443) },
    Service {
        platform: Platform::Device,
        ..service(Id::MobileApp, "mobile-app", "storefront", Swift, "8.3.0", 8, 443)
    },
    service(Id::Gateway, "gateway", "storefront", Go, "4.12.0", 4, 8080),
    service(Id::Session, "session", "identity", Elixir, "2.6.1", 3, 4000),
    service(Id::Auth, "auth", "identity", DotNet, "5.1.3", 2, 8080),
    Service { span_lost_share: 0.008, ..service(Id::Catalogue, "catalogue", "discovery", Go, "7.4.0", 3, 9090) },
    service(Id::Search, "search", "discovery", Java, "3.20.5", 3, 8080),
    service(Id::Recommendation, "recommendation", "discovery", Python, "1.31.0", 3, 8000),
    Service {
        conventions: Conventions::Old,
        context_lost_share: 0.2,
        ..service(Id::Ads, "ads", "marketing", Php, "0.9.14", 2, 8080)
    },
    service(Id::Reviews, "reviews", "discovery", Ruby, "2.2.7", 2, 3000),
    Service { sidecar: true, ..service(Id::Cart, "cart", "ordering", DotNet, "6.0.2", 3, 8080) },
    service(Id::Pricing, "pricing", "ordering", Go, "3.8.1", 3, 9090),
    service(Id::Inventory, "inventory", "fulfilment", Java, "4.4.1", 3, 9090),
    service(Id::Checkout, "checkout", "ordering", Java, "9.1.0", 3, 9090),
    service(Id::Payment, "payment", "ordering", Node, "5.7.2", 3, 50051),
    Service { conventions: Conventions::Old, ..service(Id::Tax, "tax", "ordering", Php, "1.4.8", 2, 8080) },
    service(Id::Shipping, "shipping", "fulfilment", Rust, "0.18.3", 3, 8080),
    service(Id::Fraud, "fraud-detection", "risk", Python, "2.9.0", 2, 50051),
    service(Id::Orders, "orders", "ordering", Python, "3.3.4", 2, 8000),
    service(Id::OrderProcessor, "order-processor", "fulfilment", Java, "2.15.0", 3, 8080),
    service(Id::Loyalty, "loyalty", "marketing", Python, "1.2.0", 2, 8000),
    service(Id::Notification, "notification", "messaging", Node, "3.0.9", 2, 8080),
    service(Id::Email, "email", "messaging", Ruby, "1.8.2", 2, 3000),
    Service {
        platform: Platform::Lambda,
        ..service(Id::ImageResizer, "image-resizer", "media", Node, "1.5.0", 6, 443)
    },
    service(Id::Assistant, "assistant", "discovery", Python, "0.6.0", 2, 8000),
    service(Id::Settlement, "settlement", "finance", Java, "1.11.0", 1, 8080),
];
