//! Which instrumentation library, in which version, a runtime uses for what.

use super::Language;

/// What kind of library recorded a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Library {
    HttpServer,
    HttpClient,
    Rpc,
    Sql,
    /// SQL through a generic driver wrapper rather than the database's own library.
    SqlGeneric,
    KeyValue,
    Document,
    Messaging,
    Function,
    Model,
    Mesh,
    /// Spans the service's own code starts; the scope is named after the service.
    Own,
}

/// What telemetry a runtime's SDK says about itself.
pub struct Sdk {
    pub language: &'static str,
    pub version: &'static str,
    pub distribution: Option<(&'static str, &'static str)>,
    pub runtime: &'static str,
    pub runtime_version: &'static str,
    pub executable: &'static str,
    pub schema_url: &'static str,
}

const fn sdk(
    language: &'static str,
    version: &'static str,
    runtime: &'static str,
    runtime_version: &'static str,
    executable: &'static str,
    schema: &'static str,
) -> Sdk {
    Sdk { language, version, distribution: None, runtime, runtime_version, executable, schema_url: schema }
}

const SCHEMA_NEW: &str = "https://opentelemetry.io/schemas/1.37.0";
const SCHEMA_MIDDLE: &str = "https://opentelemetry.io/schemas/1.34.0";
const SCHEMA_OLD: &str = "https://opentelemetry.io/schemas/1.20.0";

static BROWSER: Sdk = sdk("webjs", "2.1.0", "", "", "", "");
static SWIFT: Sdk = sdk("swift", "2.1.1", "", "", "", "");
static GO: Sdk = sdk("go", "1.38.0", "go", "go1.25.3", "/app/server", SCHEMA_NEW);
static JAVA: Sdk = Sdk {
    distribution: Some(("opentelemetry-java-instrumentation", "2.20.1")),
    ..sdk("java", "1.54.1", "OpenJDK Runtime Environment", "21.0.8+9-LTS", "/opt/java/openjdk/bin/java", SCHEMA_MIDDLE)
};
static NODE: Sdk = sdk("nodejs", "2.1.0", "nodejs", "22.20.0", "/usr/local/bin/node", SCHEMA_MIDDLE);
static PYTHON: Sdk = sdk("python", "1.37.0", "cpython", "3.13.7", "/usr/local/bin/python3.13", SCHEMA_MIDDLE);
static DOTNET: Sdk = sdk("dotnet", "1.12.0", ".NET", "9.0.9", "/usr/share/dotnet/dotnet", "");
static RUBY: Sdk = sdk("ruby", "1.9.0", "ruby", "3.4.6", "/usr/local/bin/ruby", "");
static PHP: Sdk = sdk("php", "1.0.3", "fpm-fcgi", "8.1.33", "/usr/local/sbin/php-fpm", SCHEMA_OLD);
static RUST: Sdk = sdk("rust", "0.31.0", "", "", "/usr/local/bin/shipping", "");
static ELIXIR: Sdk = sdk("erlang", "1.6.0", "BEAM", "15.2.7", "/app/erts-15.2.7/bin/beam.smp", "");

pub fn sdk_of(language: Language) -> &'static Sdk {
    match language {
        Language::Browser => &BROWSER,
        Language::Swift => &SWIFT,
        Language::Go => &GO,
        Language::Java => &JAVA,
        Language::Node => &NODE,
        Language::Python => &PYTHON,
        Language::DotNet => &DOTNET,
        Language::Ruby => &RUBY,
        Language::Php => &PHP,
        Language::Rust => &RUST,
        Language::Elixir => &ELIXIR,
    }
}

/// Name and version of the scope, or `None` where the service's own tracer is used.
pub fn scope_of(language: Language, library: Library) -> Option<(&'static str, &'static str)> {
    if library == Library::Mesh {
        return Some(("envoy", "1.35.3"));
    }
    match language {
        Language::Browser => browser(library),
        Language::Swift => (library == Library::HttpClient).then_some(("NSURLSession", "2.1.1")),
        Language::Go => go(library),
        Language::Java => java(library),
        Language::Node => node(library),
        Language::Python => python(library),
        Language::DotNet => dotnet(library),
        Language::Ruby => ruby(library),
        Language::Php => php(library),
        Language::Rust => None,
        Language::Elixir => elixir(library),
    }
}

fn browser(library: Library) -> Option<(&'static str, &'static str)> {
    match library {
        Library::HttpClient => Some(("@opentelemetry/instrumentation-fetch", "0.205.0")),
        Library::Own => Some(("@opentelemetry/instrumentation-user-interaction", "0.50.0")),
        _ => None,
    }
}

fn go(library: Library) -> Option<(&'static str, &'static str)> {
    match library {
        Library::HttpServer | Library::HttpClient => {
            Some(("go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp", "0.63.0"))
        }
        Library::Rpc => Some(("go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc", "0.63.0")),
        Library::Sql => Some(("github.com/exaring/otelpgx", "v0.9.3")),
        Library::SqlGeneric => Some(("github.com/XSAM/otelsql", "0.40.0")),
        Library::KeyValue => Some(("github.com/redis/go-redis/extra/redisotel/v9", "semver:9.14.0")),
        _ => None,
    }
}

fn java(library: Library) -> Option<(&'static str, &'static str)> {
    match library {
        Library::HttpServer => Some(("io.opentelemetry.tomcat-10.0", "2.20.1-alpha")),
        Library::HttpClient => Some(("io.opentelemetry.java-http-client", "2.20.1-alpha")),
        Library::Rpc => Some(("io.opentelemetry.grpc-1.6", "2.20.1-alpha")),
        Library::Sql => Some(("io.opentelemetry.jdbc", "2.20.1-alpha")),
        Library::KeyValue => Some(("io.opentelemetry.lettuce-5.1", "2.20.1-alpha")),
        Library::Document => Some(("io.opentelemetry.elasticsearch-rest-7.0", "2.20.1-alpha")),
        Library::Messaging => Some(("io.opentelemetry.kafka-clients-0.11", "2.20.1-alpha")),
        _ => None,
    }
}

fn node(library: Library) -> Option<(&'static str, &'static str)> {
    match library {
        Library::HttpServer | Library::HttpClient => Some(("@opentelemetry/instrumentation-http", "0.205.0")),
        Library::Rpc => Some(("@opentelemetry/instrumentation-grpc", "0.205.0")),
        Library::Sql => Some(("@opentelemetry/instrumentation-pg", "0.58.0")),
        Library::KeyValue => Some(("@opentelemetry/instrumentation-ioredis", "0.53.0")),
        Library::Messaging => Some(("@opentelemetry/instrumentation-amqplib", "0.52.0")),
        Library::Function => Some(("@opentelemetry/instrumentation-aws-lambda", "0.57.0")),
        Library::Document => Some(("@opentelemetry/instrumentation-aws-sdk", "0.60.0")),
        _ => None,
    }
}

fn python(library: Library) -> Option<(&'static str, &'static str)> {
    match library {
        Library::HttpServer => Some(("opentelemetry.instrumentation.asgi", "0.58b0")),
        Library::HttpClient => Some(("opentelemetry.instrumentation.httpx", "0.58b0")),
        Library::Rpc => Some(("opentelemetry.instrumentation.grpc", "0.58b0")),
        Library::Sql => Some(("opentelemetry.instrumentation.psycopg", "0.58b0")),
        Library::KeyValue => Some(("opentelemetry.instrumentation.redis", "0.58b0")),
        Library::Messaging => Some(("opentelemetry.instrumentation.confluent_kafka", "0.58b0")),
        Library::Model => Some(("opentelemetry.instrumentation.openai_v2", "2.1b0")),
        _ => None,
    }
}

fn dotnet(library: Library) -> Option<(&'static str, &'static str)> {
    match library {
        Library::HttpServer => Some(("Microsoft.AspNetCore", "")),
        Library::HttpClient => Some(("System.Net.Http", "")),
        Library::Rpc => Some(("OpenTelemetry.Instrumentation.GrpcNetClient", "1.12.0-beta.1")),
        Library::Sql => Some(("Npgsql", "9.0.3")),
        Library::KeyValue => Some(("OpenTelemetry.Instrumentation.StackExchangeRedis", "1.12.0-beta.1")),
        _ => None,
    }
}

fn ruby(library: Library) -> Option<(&'static str, &'static str)> {
    match library {
        Library::HttpServer => Some(("OpenTelemetry::Instrumentation::Rack", "0.27.1")),
        Library::HttpClient => Some(("OpenTelemetry::Instrumentation::Net::HTTP", "0.24.0")),
        Library::Sql => Some(("OpenTelemetry::Instrumentation::PG", "0.30.1")),
        Library::Messaging => Some(("OpenTelemetry::Instrumentation::Bunny", "0.23.0")),
        _ => None,
    }
}

fn php(library: Library) -> Option<(&'static str, &'static str)> {
    match library {
        Library::HttpServer => Some(("io.opentelemetry.contrib.php.symfony", "0.0.20")),
        Library::HttpClient => Some(("io.opentelemetry.contrib.php.guzzle", "0.0.12")),
        Library::SqlGeneric => Some(("io.opentelemetry.contrib.php.pdo", "0.0.16")),
        _ => None,
    }
}

fn elixir(library: Library) -> Option<(&'static str, &'static str)> {
    match library {
        Library::HttpServer | Library::Rpc => Some(("opentelemetry_bandit", "0.3.0")),
        Library::KeyValue => Some(("opentelemetry_redix", "0.1.1")),
        _ => None,
    }
}
