//! Makes sure that there is a user interface to embed, so that `cargo build` works without Node, and makes Rust of the
//! messages and services in `proto/`, without protoc.

#![allow(clippy::print_stdout, reason = "this is how a build script speaks to Cargo")]

use std::path::Path;

const PLACEHOLDER: &str = "<!doctype html>
<html lang=\"en\">
<head><meta charset=\"utf-8\"><title>Tracehouse</title></head>
<body>
<h1>Tracehouse</h1>
<p>The server runs, but it was built without its user interface. Build that first, then the server again:</p>
<pre>npm --prefix ui ci
npm --prefix ui run build
cargo build --release -p tracehouse-server</pre>
<p>The API needs none of this: see <a href=\"/api/v1/openapi.json\">/api/v1/openapi.json</a>.</p>
</body>
</html>
";

/// Values of attributes are OpenTelemetry's, byte for byte.
const SHARED_TYPES: [&str; 4] = ["KeyValue", "AnyValue", "ArrayValue", "KeyValueList"];

/// Messages that also go out as JSON, which follows protobuf's JSON mapping.
const JSON_MESSAGES: [&str; 26] = [
    "SearchResponse",
    "TraceSearchMetadata",
    "ServiceStats",
    "SpanSet",
    "Span",
    "SearchMetrics",
    "SearchTagsResponse",
    "SearchTagsV2Response",
    "SearchTagsV2Scope",
    "SearchTagValuesResponse",
    "SearchTagValuesV2Response",
    "TagValue",
    "QueryRangeResponse",
    "TimeSeries",
    "Sample",
    "Exemplar",
    "QueryInstantResponse",
    "InstantSeries",
    "FindTraceSummariesResponse",
    "TraceSummary",
    "ServiceSummary",
    "GetServicesResponse",
    "GetOperationsResponse",
    "Operation",
    "DependenciesResponse",
    "Dependency",
];

const TEXT: &str = "serialize_with = \"crate::proto::json::text\"";
const DOUBLE: &str = "serialize_with = \"crate::proto::json::double\"";
const ATTRIBUTES: &str = "serialize_with = \"crate::proto::json::attributes\"";

/// Where the mapping is not that of serde: 64-bit integers are texts, some names end in `ID`, defaults are left out.
const JSON_FIELDS: [(&str, &str); 30] = [
    ("TraceSearchMetadata.trace_id", "rename = \"traceID\""),
    ("TraceSearchMetadata.start_time_unix_nano", TEXT),
    ("TraceSearchMetadata.span_set", "skip_serializing_if = \"Option::is_none\""),
    ("TraceSearchMetadata.span_sets", "skip_serializing_if = \"Vec::is_empty\""),
    ("ServiceStats.error_count", "skip_serializing_if = \"crate::proto::json::is_default\""),
    ("SpanSet.attributes", ATTRIBUTES),
    ("SpanSet.attributes", "skip_serializing_if = \"Vec::is_empty\""),
    ("Span.span_id", "rename = \"spanID\""),
    ("Span.start_time_unix_nano", TEXT),
    ("Span.duration_nanos", TEXT),
    ("Span.attributes", ATTRIBUTES),
    ("SearchMetrics.inspected_bytes", TEXT),
    ("SearchMetrics.inspected_spans", TEXT),
    ("QueryRangeResponse.status", "serialize_with = \"crate::proto::json::status\""),
    ("QueryRangeResponse.status", "skip_serializing_if = \"crate::proto::json::is_default\""),
    ("QueryRangeResponse.message", "skip_serializing_if = \"String::is_empty\""),
    ("TimeSeries.labels", ATTRIBUTES),
    ("TimeSeries.exemplars", "skip_serializing_if = \"Vec::is_empty\""),
    ("Sample.value", DOUBLE),
    ("Exemplar.value", DOUBLE),
    ("InstantSeries.value", DOUBLE),
    ("Sample.timestamp_ms", TEXT),
    ("Exemplar.labels", ATTRIBUTES),
    ("Exemplar.timestamp_ms", TEXT),
    ("InstantSeries.labels", ATTRIBUTES),
    // Grafana refuses fields here that its version doesn't know, and only newer ones know these.
    ("QueryInstantResponse.status", "skip"),
    ("QueryInstantResponse.message", "skip"),
    ("TraceSummary.min_start_time_unix_nano", TEXT),
    ("TraceSummary.max_end_time_unix_nano", TEXT),
    ("Dependency.call_count", TEXT),
];

fn main() -> std::io::Result<()> {
    user_interface()?;
    messages()
}

fn messages() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=proto");
    let compiled = protox::compile(["jaeger.proto", "tempo.proto"], ["proto"]).map_err(std::io::Error::other)?;
    let mut config = tonic_prost_build::configure()
        .btree_map(".")
        .extern_path(".opentelemetry.proto", "::opentelemetry_proto::tonic");
    for name in SHARED_TYPES {
        let ours = format!("::opentelemetry_proto::tonic::common::v1::{name}");
        config = config.extern_path(format!(".tempopb.{name}"), ours);
    }
    for name in JSON_MESSAGES {
        let json = "#[derive(serde::Serialize)] #[serde(rename_all = \"camelCase\")]";
        config = config.type_attribute(name, json);
    }
    for (field, attribute) in JSON_FIELDS {
        config = config.field_attribute(field, format!("#[serde({attribute})]"));
    }
    config.compile_fds(compiled)
}

fn user_interface() -> std::io::Result<()> {
    let build = Path::new("../../ui/build");
    let index = build.join("index.html");
    if !index.exists() {
        std::fs::create_dir_all(build)?;
        std::fs::write(&index, PLACEHOLDER)?;
    }
    println!("cargo::rerun-if-changed=../../ui/build");
    Ok(())
}
