//! Names, attributes, events, and resources: what a node of a trace looks like on the wire.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::Event;
use opentelemetry_proto::tonic::trace::v1::{Status, status};
use rand::Rng;
use rand::rngs::SmallRng;

use super::shop::{Protocol, RARE_KEYS, SERVICES, USER_AGENTS};
use super::trace::{Node, Role};

pub(crate) fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

fn int(key: &str, value: i64) -> KeyValue {
    attribute(key, Value::IntValue(value))
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), key_strindex: 0 }
}

/// The OTLP number of a role's span kind.
pub(crate) fn kind(role: Role) -> i32 {
    match role {
        Role::Internal => 1,
        Role::HttpServer | Role::RpcServer => 2,
        Role::HttpClient | Role::RpcClient | Role::Database | Role::Cache => 3,
        Role::Producer => 4,
        Role::Consumer => 5,
    }
}

/// Instrumentation scopes of a service, by number; see [`scope_number`].
pub(crate) fn scope(service: usize, number: usize) -> InstrumentationScope {
    let language = SERVICES[service].language;
    let (library, version) = match number {
        0 => ("http", "0.62.0"),
        1 => ("rpc", "0.62.0"),
        2 => ("db", "2.18.1"),
        3 => ("messaging", "2.18.1"),
        _ => ("app", "1.4.2"),
    };
    InstrumentationScope {
        name: format!("io.opentelemetry.{language}.{library}"),
        version: version.to_owned(),
        ..Default::default()
    }
}

pub(crate) const SCOPES: usize = 5;

pub(crate) fn scope_number(role: Role) -> usize {
    match role {
        Role::HttpServer | Role::HttpClient => 0,
        Role::RpcServer | Role::RpcClient => 1,
        Role::Database | Role::Cache => 2,
        Role::Producer | Role::Consumer => 3,
        Role::Internal => 4,
    }
}

/// Fifteen attributes, as the SDKs' detectors and the Collector's Kubernetes processor set them.
pub(crate) fn resource(service: usize, instance: u8) -> Resource {
    let shop = &SERVICES[service];
    let number = service as u64 * 16 + u64::from(instance);
    let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let pod = format!("{}-{:x}-{:05x}", shop.name, (hash >> 40) & 0xff_ffff, hash & 0xf_ffff);
    let node = format!("ip-10-0-{}-{}.eu-central-1.compute.internal", number % 4, 10 + number % 9);
    let attributes = vec![
        text("service.name", shop.name),
        text("service.namespace", "shop"),
        text("service.version", format!("2.{}.{}", service % 7, number % 5)),
        text("service.instance.id", pod.clone()),
        text("deployment.environment.name", "production"),
        text("telemetry.sdk.name", "opentelemetry"),
        text("telemetry.sdk.language", shop.language),
        text("telemetry.sdk.version", "1.38.0"),
        text("host.name", node.clone()),
        text("k8s.pod.name", pod),
        text("k8s.namespace.name", "shop-production"),
        text("k8s.node.name", node),
        text("cloud.region", "eu-central-1"),
        text("container.id", format!("{:016x}{:016x}", hash, hash.rotate_left(17))),
        int("process.pid", 1 + (hash % 30_000) as i64),
    ];
    Resource { attributes, ..Default::default() }
}

/// The span's name and its 4 to 11 attributes.
pub(crate) fn describe(rng: &mut SmallRng, node: &Node) -> (String, Vec<KeyValue>) {
    let (name, mut attributes) = match node.role {
        Role::HttpServer => http_server(rng, node),
        Role::HttpClient => http_client(node),
        Role::RpcServer | Role::RpcClient => rpc(rng, node),
        Role::Database => database(rng, node),
        Role::Cache => cache(node),
        Role::Producer | Role::Consumer => messaging(rng, node),
        Role::Internal => internal(rng, node),
    };
    if node.failed {
        attributes.push(text("error.type", error_type(node)));
    }
    if attributes.len() < 11 && rng.random_bool(0.05) {
        attributes.push(rare(rng));
    }
    (name, attributes)
}

/// Method, route, and the path with ids in it, of an HTTP operation.
fn http_operation(node: &Node) -> (&'static str, &'static str, String) {
    let (method, route) =
        SERVICES[node.peer].operations[node.operation].split_once(' ').expect("HTTP operations are `METHOD /route`");
    let path = match (route.find('{'), route.find('}')) {
        (Some(open), Some(close)) => format!("{}{}{}", &route[..open], node.entity, &route[close + 1..]),
        _ => route.to_owned(),
    };
    (method, route, path)
}

fn http_status(node: &Node) -> i64 {
    match (node.failed, node.entity % 50) {
        (true, odd) => [500, 503, 502, 504][(odd % 4) as usize],
        (false, 0) => 404,
        (false, 1) => 304,
        (false, 2..6) => 201,
        (false, _) => 200,
    }
}

fn http_server(rng: &mut SmallRng, node: &Node) -> (String, Vec<KeyValue>) {
    let (method, route, path) = http_operation(node);
    let service = SERVICES[node.service].name;
    let edge = node.parent.is_none();
    let mut attributes = vec![
        text("http.request.method", method),
        text("url.path", path),
        text("http.route", route),
        int("http.response.status_code", http_status(node)),
        text("url.scheme", if edge { "https" } else { "http" }),
        text("server.address", if edge { "shop.example.com" } else { service }),
        text("network.protocol.version", if edge { "2" } else { "1.1" }),
    ];
    if edge {
        attributes.push(text("user_agent.original", USER_AGENTS[rng.random_range(0..USER_AGENTS.len())]));
        attributes.push(text(
            "client.address",
            format!("{}.{}.{}.{}", 20 + node.entity % 180, rng.random::<u8>(), rng.random::<u8>(), rng.random::<u8>()),
        ));
    } else {
        attributes.push(text("network.peer.address", pod_address(node.service, node.instance)));
    }
    if edge || rng.random_bool(0.15) {
        attributes.push(text("enduser.id", format!("u-{:07}", node.entity % 3_000_000)));
    }
    (format!("{method} {route}"), attributes)
}

fn http_client(node: &Node) -> (String, Vec<KeyValue>) {
    let (method, _, path) = http_operation(node);
    let peer = SERVICES[node.peer].name;
    let attributes = vec![
        text("http.request.method", method),
        text("url.full", format!("http://{peer}:8080{path}")),
        text("server.address", peer),
        int("server.port", 8080),
        int("http.response.status_code", http_status(node)),
        text("network.protocol.version", "1.1"),
    ];
    (method.to_owned(), attributes)
}

fn rpc(rng: &mut SmallRng, node: &Node) -> (String, Vec<KeyValue>) {
    let Protocol::Grpc(service) = SERVICES[node.peer].protocol else {
        unreachable!("RPC roles are given to gRPC only")
    };
    let method = SERVICES[node.peer].operations[node.operation];
    let mut attributes = vec![
        text("rpc.system", "grpc"),
        text("rpc.service", service),
        text("rpc.method", method),
        int("rpc.grpc.status_code", if node.failed { 14 } else { 0 }),
        text("server.address", SERVICES[node.peer].name),
        int("server.port", 9090),
    ];
    if node.role == Role::RpcServer {
        attributes.push(text("network.peer.address", pod_address(node.service, node.instance)));
        attributes.push(int("network.peer.port", rng.random_range(32_768..61_000)));
    }
    (format!("{service}/{method}"), attributes)
}

fn database(rng: &mut SmallRng, node: &Node) -> (String, Vec<KeyValue>) {
    let shop = &SERVICES[node.service];
    let table = shop.tables[node.operation / 4];
    let (operation, statement) = match node.operation % 4 {
        // The last carries a literal, as unsanitised instrumentations leave them.
        0 => (
            "SELECT",
            format!(
                "SELECT t.id, t.name, t.state, t.version, t.created_at, t.updated_at FROM {table} t WHERE t.id = ? AND t.deleted_at IS NULL"
            ),
        ),
        1 => (
            "SELECT",
            format!(
                "SELECT * FROM {table} WHERE owner_id = ? AND state <> 'archived' ORDER BY created_at DESC LIMIT 50"
            ),
        ),
        2 => (
            "UPDATE",
            format!(
                "UPDATE {table} SET state = ?, version = version + 1, updated_at = now() WHERE id = ? AND version = ?"
            ),
        ),
        _ => (
            "INSERT",
            format!(
                "INSERT INTO {table} (id, owner_id, payload, created_at) VALUES ({}, ?, ?, now()) ON CONFLICT (id) DO NOTHING",
                node.entity
            ),
        ),
    };
    let mut attributes = vec![
        text("db.system.name", shop.database),
        text("db.namespace", shop.name),
        text("db.query.text", statement),
        text("db.operation.name", operation),
        text("db.collection.name", table),
        text("server.address", format!("{}-db-{}.internal", shop.name, node.entity % 2)),
    ];
    if operation == "SELECT" {
        attributes.push(int("db.response.returned_rows", rng.random_range(0..50)));
    }
    (format!("{operation} {table}"), attributes)
}

fn cache(node: &Node) -> (String, Vec<KeyValue>) {
    let shop = &SERVICES[node.service];
    let table = shop.tables[node.operation / 4];
    let operation = ["GET", "SET", "MGET", "EXPIRE"][node.operation % 4];
    let attributes = vec![
        text("db.system.name", "redis"),
        text("db.query.text", format!("{operation} {}:{table}:{}", shop.name, node.entity)),
        text("db.operation.name", operation),
        text("server.address", "redis-main.internal"),
        int("server.port", 6379),
        int("db.redis.database_index", (node.service % 8) as i64),
    ];
    (operation.to_owned(), attributes)
}

fn messaging(rng: &mut SmallRng, node: &Node) -> (String, Vec<KeyValue>) {
    let topic = SERVICES[node.peer].topic;
    let sends = node.role == Role::Producer;
    let partition = node.entity % 12;
    let mut attributes = vec![
        text("messaging.system", "kafka"),
        text("messaging.destination.name", topic),
        text("messaging.operation.type", if sends { "send" } else { "process" }),
        text("messaging.destination.partition.id", partition.to_string()),
        int("messaging.kafka.offset", (node.entity * 7 + partition) as i64),
        int("messaging.message.body.size", rng.random_range(120..4000)),
    ];
    if sends {
        attributes.push(text("messaging.client.id", format!("producer-{}", SERVICES[node.service].name)));
    } else {
        attributes.push(text("messaging.consumer.group.name", format!("{}-consumers", SERVICES[node.service].name)));
    }
    (format!("{} {topic}", if sends { "send" } else { "process" }), attributes)
}

fn internal(rng: &mut SmallRng, node: &Node) -> (String, Vec<KeyValue>) {
    let shop = &SERVICES[node.service];
    let function = shop.functions[node.operation];
    let mut attributes = vec![
        text("code.function.name", function),
        text("code.file.path", format!("/srv/{}/src/handlers/{}", shop.name, node.operation)),
        int("code.line.number", 20 + (node.operation * 37 % 400) as i64),
        int("thread.id", rng.random_range(1..64)),
        text("thread.name", format!("{}-worker-{}", shop.name, rng.random_range(1..16))),
    ];
    match node.entity % 3 {
        0 => attributes.push(attribute("app.cache.hit", Value::BoolValue(node.entity.is_multiple_of(2)))),
        1 => attributes.push(int("app.items.count", (node.entity % 23) as i64)),
        _ => {
            attributes.push(attribute("app.amount", Value::DoubleValue((node.entity % 100_000) as f64 / 100.0)));
            attributes.push(text("enduser.id", format!("u-{:07}", node.entity % 3_000_000)));
        }
    }
    (function.to_owned(), attributes)
}

fn rare(rng: &mut SmallRng) -> KeyValue {
    let number = rng.random_range(0..RARE_KEYS.len());
    let key = RARE_KEYS[number];
    match number % 4 {
        0 => int(key, rng.random_range(0..5000)),
        1 => text(key, format!("variant-{}", rng.random_range(0..40))),
        2 => attribute(key, Value::DoubleValue(f64::from(rng.random_range(0..10_000)) / 16.0)),
        _ => {
            let values = (0..rng.random_range(1..4))
                .map(|_| AnyValue { value: Some(Value::StringValue(format!("tag-{}", rng.random_range(0..30)))) })
                .collect();
            attribute(key, Value::ArrayValue(ArrayValue { values }))
        }
    }
}

fn pod_address(service: usize, instance: u8) -> String {
    format!("10.42.{}.{}", service, 10 + instance)
}

fn error_type(node: &Node) -> &'static str {
    match node.role {
        Role::HttpServer | Role::HttpClient => "500",
        Role::RpcServer | Role::RpcClient => "UNAVAILABLE",
        Role::Database | Role::Cache => "timeout",
        Role::Producer | Role::Consumer => "shop.errors.DeliveryFailed",
        Role::Internal => "java.lang.IllegalStateException",
    }
}

pub(crate) fn status(node: &Node) -> Option<Status> {
    node.failed.then(|| Status {
        message: format!("{}: upstream request failed", error_type(node)),
        code: status::StatusCode::Error as i32,
    })
}

/// An exception on most failed spans, a log-like event on a few others.
pub(crate) fn events(rng: &mut SmallRng, node: &Node, start_ns: u64) -> Vec<Event> {
    let time_unix_nano = start_ns + node.duration_ns / 3;
    if node.failed && rng.random_bool(0.6) {
        let function = SERVICES[node.service].functions[0];
        let line = 20 + node.entity % 300;
        let attributes = vec![
            text("exception.type", error_type(node)),
            text("exception.message", format!("call for {} gave up after 3 attempts", node.entity)),
            text(
                "exception.stacktrace",
                format!(
                    "{0}: gave up\n\tat {function}(line {line})\n\tat shop.core.Retry.call(Retry.java:88)\n\tat \
                     shop.core.Dispatcher.invoke(Dispatcher.java:214)\n\tat shop.http.Handler.handle(Handler.java:57)\n\tat \
                     java.base/java.lang.Thread.run(Thread.java:1583)",
                    error_type(node)
                ),
            ),
        ];
        return vec![Event { time_unix_nano, name: "exception".to_owned(), attributes, dropped_attributes_count: 0 }];
    }
    if !rng.random_bool(0.03) {
        return Vec::new();
    }
    let attributes = vec![int("attempt", rng.random_range(1..4)), text("log.severity", "INFO")];
    vec![Event { time_unix_nano, name: "cache.miss".to_owned(), attributes, dropped_attributes_count: 0 }]
}
