use std::path::PathBuf;
use std::time::Duration;

use tracehouse_server::config::{Config, ConfigError, Durability, Layers, Loaded, Period, Size, load, schema, show};

/// A file in a temporary folder, kept as long as it is used.
struct File {
    path: PathBuf,
    _folder: tempfile::TempDir,
}

impl File {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let path = folder.path().join("tracehouse.yaml");
        std::fs::write(&path, text).expect("the folder can be written to");
        Self { path, _folder: folder }
    }
}

fn load_with(
    yaml: &str,
    environment: &[(&str, &str)],
    flags: &[(&'static str, &'static str, &str)],
) -> Result<Loaded, ConfigError> {
    let file = File::new(yaml);
    load(&Layers {
        file: Some(file.path.clone()),
        environment: environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        flags: flags.iter().map(|(key, flag, value)| (*key, *flag, (*value).to_owned())).collect(),
    })
}

fn words(error: &ConfigError) -> String {
    use std::error::Error;
    let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
    format!("{error}{source}")
}

#[test]
fn every_key_is_optional() {
    for yaml in ["", "# nothing\n", "store:\n", "{}", "otlp:\n  # grpc: x\nlimits: {}\n"] {
        let loaded = load_with(yaml, &[], &[]).unwrap_or_else(|error| panic!("{yaml:?}: {}", words(&error)));
        assert_eq!(loaded.config, Config::default(), "{yaml:?}");
        assert!(loaded.sources.is_empty(), "{yaml:?}");
    }
}

#[test]
fn values_are_read() {
    let yaml = "
data_dir: /var/lib/tracehouse
listen: '[::1]:9000'
otlp: { grpc: 0.0.0.0:1, browser_origins: ['*'] }
limits:
  attribute_value_bytes_max: 4KiB
  attributes_per_span_max: 7
  future_max: 1h30m
store:
  durability: interval
  retention: 14d
  disk_budget: 20GB
log: { format: json, level: 'info,tracehouse_store=debug' }
threads: { ingest: 3 }
";
    let config = load_with(yaml, &[], &[]).expect("the file is right").config;
    assert_eq!(config.data_dir, PathBuf::from("/var/lib/tracehouse"));
    assert_eq!(config.listen.to_string(), "[::1]:9000");
    assert_eq!(config.otlp.grpc.port(), 1);
    assert_eq!(config.otlp.browser_origins, ["*"]);
    let limits = config.limits.limits();
    assert_eq!(limits.attribute_value_bytes_max, 4096);
    assert_eq!(limits.attributes_per_span_max, 7);
    assert_eq!(limits.future_nanos_max, 5_400_000_000_000);
    assert_eq!(config.store.durability, Durability::Interval);
    assert_eq!(config.store.retention, Period(Duration::from_secs(14 * 86_400)));
    assert_eq!(config.store.disk_budget, Some(Size(20_000_000_000)));
    assert_eq!(config.threads.ingest, 3);
    assert_eq!(config.otlp.http, Config::default().otlp.http);
}

#[test]
fn mistakes_are_named() {
    let cases: &[(&str, &[&str])] = &[
        ("store: { retenton: 1d }", &["tracehouse.yaml: unknown key store.retenton; did you mean store.retention?"]),
        ("retention: 1d", &["unknown key retention; did you mean store.retention?"]),
        ("stroe: { retention: 1d }", &["unknown key stroe; did you mean store?"]),
        ("otlp: { gprc: 1 }", &["unknown key otlp.gprc; did you mean otlp.grpc?"]),
        ("otlp: { completely_else: 1 }", &["unknown key otlp.completely_else"]),
        ("7: x", &["unknown key 7"]),
        ("store: { retention: 10 }", &["store.retention: \"10\" is not a duration; write for example"]),
        ("store: { retention: soon }", &["store.retention: \"soon\" is not a duration"]),
        ("limits: { request_bytes_max: 16 }", &["limits.request_bytes_max: \"16\" is not a size; write for example"]),
        ("limits: { attributes_per_span_max: many }", &["limits.attributes_per_span_max: ", "many"]),
        ("listen: 3200", &["listen: "]),
        ("store: 5", &["store: expected a section with keys such as compaction_interval"]),
        ("- a\n- b\n", &["the file: expected a section with keys such as data_dir, http, limits"]),
        ("log: { level: 'a=b=c' }", &["log.level: ", "is not a log level"]),
        ("log: { format: xml }", &["log.format: ", "text", "json"]),
        ("roles: [gateway]", &["roles: gateway needs wal"]),
        ("store: { flush_interval: 0s }", &["store.flush_interval: 0s is too short; the shortest is 10ms"]),
        ("store: [", &["tracehouse.yaml: not YAML"]),
        ("listen: 127.0.0.1:1\nlisten: 127.0.0.1:2\n", &["not YAML: ", "duplicate"]),
        ("tenants: [team-a, a/b]", &["tenants: \"a/b\" is not a tenant"]),
        ("http: { allowed_origins: ['*', shop.example] }", &["http.allowed_origins: \"shop.example\" is no origin"]),
        (
            "http: { allowed_origins: ['https://shop.*'] }",
            &["http.allowed_origins: \"https://shop.*\"", "write its end"],
        ),
        ("http: { allowed_headers: ['a b'] }", &["http.allowed_headers: \"a b\" is no name of a header"]),
        ("otlp: { browser_origins: ['https://a/'] }", &["otlp.browser_origins: \"https://a/\" is no origin"]),
        ("limits: { decompressed_bytes_max: 1GiB }", &["limits.decompressed_bytes_max (1GiB) is above"]),
    ];
    for (yaml, expected) in cases {
        let error = load_with(yaml, &[], &[]).map(|_| ()).expect_err(yaml);
        for part in *expected {
            assert!(words(&error).contains(part), "{yaml:?}: {}", words(&error));
        }
    }
}

/// Before, they were taken, and nothing worked, or the key had no effect.
#[test]
fn senseless_values_are_refused() {
    const SIZES: [&str; 13] = [
        "memory_bytes_max",
        "limits.request_bytes_max",
        "limits.decompressed_bytes_max",
        "limits.attribute_value_bytes_max",
        "limits.name_bytes_max",
        "limits.in_flight_bytes_max",
        "store.hot_bytes_max",
        "store.flush_bytes",
        "store.disk_budget",
        "query.memory_bytes_max",
        "query.scanned_bytes_max",
        "query.sql.memory_bytes_max",
        "query.sql.answer_bytes_max",
    ];
    const PERIODS: [&str; 8] = [
        "limits.future_max",
        "store.retention",
        "store.delete_grace",
        "store.sync_interval",
        "store.flush_interval",
        "store.compaction_interval",
        "query.time_max",
        "query.sql.time_max",
    ];
    const NUMBERS: [&str; 5] = [
        "limits.spans_per_trace_max",
        "limits.tenants_max",
        "query.at_once_max",
        "query.sql.at_once_max",
        "query.sql.rows_max",
    ];
    let of = |keys: &[&'static str], values: &[&'static str]| -> Vec<(&'static str, &'static str)> {
        keys.iter().flat_map(|key| values.iter().map(|value| (*key, *value))).collect()
    };
    let mut cases = of(&SIZES, &["0B", "-1MiB", "5", "''"]);
    cases.extend(of(&PERIODS, &["0s", "-5m", "5", "''"]));
    cases.extend(of(&NUMBERS, &["0", "-1", "1.5", "''"]));
    cases.extend(of(&["threads.ingest", "threads.query"], &["-1", "1000000"]));
    cases.extend(of(&["query.at_once_max", "query.sql.at_once_max"], &["18446744073709551615"]));
    cases.extend(of(&["data_dir"], &["''"]));
    cases.extend(of(&["otlp.http"], &["'127.0.0.1:4317'", "'127.0.0.1:3200'", "'localhost'", "'127.0.0.1:70000'"]));
    cases.extend(of(&["tenants"], &["['']", "[a b]", "['../x']"]));
    cases.extend(of(&["roles"], &["[]", "[nothing]"]));
    for (key, value) in cases {
        let sections: Vec<&str> = key.split('.').collect();
        let ends = "}".repeat(sections.len() - 1);
        let yaml = format!("{}: {value}{ends}", sections.join(": {"));
        let error = load_with(&yaml, &[], &[]).map(|_| ()).expect_err(&yaml);
        assert!(words(&error).contains(key), "{yaml:?}: {}", words(&error));
    }
    let error = load_with("store: { hot_bytes_max: 1MiB, flush_bytes: 2MiB }", &[], &[]).map(|_| ());
    let error = words(&error.expect_err("nothing would be flushed"));
    assert!(error.contains("store.flush_bytes (2MiB) is above store.hot_bytes_max (1MiB)"), "{error}");
}

#[test]
fn host_names_are_names() {
    let cases = [
        ("https://traces.team", "write traces.team"),
        ("traces.team:3200", "write traces.team"),
        ("traces.team/", "write traces.team"),
        ("traces.team.", "write traces.team"),
        (" traces.team", "write traces.team"),
        ("*", "without scheme, port or *"),
        ("*.team", "without scheme, port or *"),
        ("", "such as traces.example"),
        ("a..b", "such as traces.example"),
        ("träces.team", "such as traces.example"),
    ];
    for (name, advice) in cases {
        let yaml = format!("http: {{ host_names: ['{name}'] }}");
        let error = load_with(&yaml, &[], &[]).map(|_| ()).expect_err(name);
        let error = words(&error);
        assert!(error.contains(&format!("http.host_names: {name:?}")) && error.contains(advice), "{error}");
    }
    for name in ["traces.team", "TRACES", "a_b-1.team", "10.1.2.3", "::1", "[::1]"] {
        load_with(&format!("http: {{ host_names: ['{name}'] }}"), &[], &[]).map(|_| ()).expect(name);
    }
}

#[test]
fn a_missing_file_is_named() {
    let layers = Layers { file: Some(PathBuf::from("/nowhere/at/all.yaml")), ..Layers::default() };
    let error = load(&layers).map(|_| ()).expect_err("the file does not exist");
    assert!(words(&error).contains("/nowhere/at/all.yaml: cannot be read"), "{}", words(&error));
}

#[test]
fn flags_win_over_environment_over_file() {
    let yaml = "listen: 127.0.0.1:1\nstore: { retention: 1d }\ndata_dir: a\n";
    let environment = [("TRACEHOUSE_LISTEN", "127.0.0.1:2"), ("TRACEHOUSE_STORE__RETENTION", "2d"), ("PATH", "/bin")];
    let loaded = load_with(yaml, &environment, &[("listen", "--listen", "127.0.0.1:3")]).expect("all is right");
    assert_eq!(loaded.config.listen.port(), 3);
    assert_eq!(loaded.config.store.retention, Period(Duration::from_secs(2 * 86_400)));
    assert_eq!(loaded.config.data_dir, PathBuf::from("a"));
    let text = show(&loaded);
    assert!(text.contains("listen: 127.0.0.1:3  # from flag --listen\n"), "{text}");
    assert!(text.contains("  retention: 2d  # from environment variable TRACEHOUSE_STORE__RETENTION\n"), "{text}");
    assert!(text.contains("data_dir: a  # from /"), "{text}");
    assert!(text.contains("  grpc: 127.0.0.1:4317\n"), "{text}");
}

#[test]
fn the_environment_is_checked() {
    let ignored = [
        ("TRACEHOUSE_CONFIG", "x"),
        ("TRACEHOUSE_URL", "x"),
        ("TRACEHOUSE_CA_FILE", "x"),
        ("TRACEHOUSE_SERVICE_HOST", "10.0.0.1"),
        ("OTHER", "1"),
    ];
    let loaded = load_with("", &ignored, &[]).expect("none of these sets a key");
    assert_eq!(loaded.config, Config::default());
    assert_eq!(loaded.warnings.len(), 1, "{:?}", loaded.warnings);
    assert!(loaded.warnings[0].contains("TRACEHOUSE_SERVICE_HOST"));

    let cases = [
        ("TRACEHOUSE_STORE__RETENTON", "1d", "did you mean TRACEHOUSE_STORE__RETENTION?"),
        ("TRACEHOUSE_LISTN", "1", "the environment: unknown key TRACEHOUSE_LISTN; did you mean TRACEHOUSE_LISTEN?"),
        (
            "TRACEHOUSE_STORE__RETENTION",
            "x",
            "environment variable TRACEHOUSE_STORE__RETENTION: store.retention: \"x\"",
        ),
    ];
    for (variable, value, expected) in cases {
        let error = load_with("", &[(variable, value)], &[]).map(|_| ()).expect_err(variable);
        assert!(words(&error).contains(expected), "{variable}: {}", words(&error));
    }
    let listed = [("TRACEHOUSE_OTLP__BROWSER_ORIGINS", "[http://a, http://b]")];
    let loaded = load_with("", &listed, &[]).expect("a list is written as in YAML");
    assert_eq!(loaded.config.otlp.browser_origins, ["http://a", "http://b"]);
}

#[test]
fn what_is_shown_can_be_read_back() {
    let yaml =
        "store: { retention: 90s, disk_budget: 1500MB }\notlp: { browser_origins: ['https://[::1]:8443', '*'] }\n";
    let loaded = load_with(yaml, &[], &[]).expect("the file is right");
    let again = load_with(&show(&loaded), &[], &[]).expect("what is shown is right");
    assert_eq!(again.config, loaded.config);
}

#[test]
fn the_schema_describes_every_key() {
    let schema = schema();
    let shown = show(&load_with("", &[], &[]).expect("nothing is right"));
    let keys = |value: &serde_json::Value| value["properties"].as_object().expect("a section").clone();
    for (key, inner) in keys(&schema) {
        assert!(shown.contains(&format!("{key}:")), "{key} is not shown");
        assert!(inner.get("description").is_some() || inner.get("properties").is_some(), "{key} is not described");
    }
    assert_eq!(schema["additionalProperties"], serde_json::json!(false));
}

#[test]
fn sizes_have_units() {
    let cases = [
        ("0B", Some(0), "0B"),
        ("64MiB", Some(64 << 20), "64MiB"),
        ("16 kib", Some(16 << 10), "16KiB"),
        ("1.5GiB", Some(3 << 29), "1536MiB"),
        ("20GB", Some(20_000_000_000), "20GB"),
        ("1_000B", Some(1000), "1kB"),
        ("1234B", Some(1234), "1234B"),
        ("10", None, ""),
        ("MiB", None, ""),
        ("-1MiB", None, ""),
        ("1MiB 2", None, ""),
        ("99999999TiB", None, ""),
        ("", None, ""),
    ];
    for (text, expected, printed) in cases {
        let size = text.parse::<Size>().ok();
        assert_eq!(size, expected.map(Size), "{text}");
        if let Some(size) = size {
            assert_eq!(size.to_string(), printed, "{text}");
            assert_eq!(printed.parse(), Ok(size));
        }
    }
}

#[test]
fn durations_have_units() {
    const SECOND: u64 = 1_000_000_000;
    let cases = [
        ("0s", Some(0), "0s"),
        ("10s", Some(10 * SECOND), "10s"),
        ("12.5ms", Some(12_500_000), "12ms500us"),
        ("1h30m", Some(5400 * SECOND), "1h30m"),
        ("36h", Some(129_600 * SECOND), "1d12h"),
        ("100us", Some(100_000), "100us"),
        ("100µs", Some(100_000), "100us"),
        ("7d", Some(604_800 * SECOND), "7d"),
        ("10", None, ""),
        ("s", None, ""),
        ("1w", None, ""),
        ("-1s", None, ""),
        ("1.2.3s", None, ""),
        ("9999999999d", None, ""),
        ("", None, ""),
    ];
    for (text, expected, printed) in cases {
        let period = text.parse::<Period>().ok();
        assert_eq!(period, expected.map(|nanos| Period(Duration::from_nanos(nanos))), "{text}");
        if let Some(period) = period {
            assert_eq!(period.to_string(), printed, "{text}");
            assert_eq!(printed.parse(), Ok(period));
        }
    }
}
