//! What the types of the keys do not rule out: values with which nothing would work, or that can never have an effect. A start and
//! `tracehouse config check` refuse them, with the key and what to write instead.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tracehouse_listen::{AllowedHeaders, OriginPattern};
use tracehouse_model::TenantId;

use super::{Config, Period, Size};

/// Shorter intervals would keep a thread busy with nothing.
const INTERVAL_MIN: Period = Period(Duration::from_millis(10));
/// More threads than any machine has use for.
const THREADS_MAX: usize = 4096;
/// More at once than any machine could work on.
const AT_ONCE_MAX: usize = 1 << 20;

/// What is wrong with the values of a configuration, if something is.
pub(super) fn check(config: &Config) -> Result<(), String> {
    crate::roles::check(&config.roles)?;
    check_not_zero(config)?;
    check_ranges(config)?;
    check_together(config)?;
    check_listeners(config)?;
    for name in &config.tenants {
        TenantId::new(name).map_err(|error| format!("tenants: {error}"))?;
    }
    check_sites(config)
}

/// Values of 0 with which nothing would be taken, kept or answered.
fn check_not_zero(config: &Config) -> Result<(), String> {
    let Config { limits, store, query, .. } = config;
    let sql = &query.sql;
    let is_zero = |size: Size| size.0 == 0;
    let takes_no_time = |period: Period| period.0.is_zero();
    let senseless = [
        ("memory_bytes_max", config.memory_bytes_max.is_some_and(is_zero), "nothing could be answered"),
        ("limits.request_bytes_max", is_zero(limits.request_bytes_max), "no request would be taken"),
        ("limits.decompressed_bytes_max", is_zero(limits.decompressed_bytes_max), "no request would be taken"),
        ("limits.in_flight_bytes_max", is_zero(limits.in_flight_bytes_max), "no request would be taken"),
        ("limits.attribute_value_bytes_max", is_zero(limits.attribute_value_bytes_max), "all values would be empty"),
        ("limits.name_bytes_max", is_zero(limits.name_bytes_max), "all names would be empty"),
        ("limits.spans_per_trace_max", limits.spans_per_trace_max == 0, "no span would be taken"),
        ("limits.tenants_max", limits.tenants_max == 0, "no span would be taken"),
        ("limits.future_max", takes_no_time(limits.future_max), "clocks always differ a little"),
        ("store.hot_bytes_max", is_zero(store.hot_bytes_max), "no span would be taken"),
        ("store.flush_bytes", is_zero(store.flush_bytes), "each span would get a file of its own"),
        ("store.retention", takes_no_time(store.retention), "no span would be kept"),
        (
            "store.disk_budget",
            store.disk_budget.is_some_and(is_zero),
            "no span would be kept; omit the key for no budget",
        ),
        ("store.delete_grace", takes_no_time(store.delete_grace), "queries would lose the files that they read"),
        ("query.at_once_max", query.at_once_max == 0, "no query would be answered"),
        ("query.time_max", takes_no_time(query.time_max), "no query would be answered"),
        ("query.memory_bytes_max", is_zero(query.memory_bytes_max), "no query would be answered"),
        ("query.scanned_bytes_max", is_zero(query.scanned_bytes_max), "no query would be answered"),
        ("query.sql.at_once_max", sql.at_once_max == 0, "no statement would be answered"),
        ("query.sql.time_max", takes_no_time(sql.time_max), "no statement would be answered"),
        ("query.sql.memory_bytes_max", is_zero(sql.memory_bytes_max), "no statement would be answered"),
        ("query.sql.rows_max", sql.rows_max == 0, "all answers would be empty"),
        ("query.sql.answer_bytes_max", is_zero(sql.answer_bytes_max), "all answers would be empty"),
    ];
    match senseless.into_iter().find(|(_, is_senseless, _)| *is_senseless) {
        Some((key, _, why)) => Err(format!("{key}: 0 is too small: {why}")),
        None if config.data_dir.as_os_str().is_empty() => {
            Err("data_dir: it is empty; write the path of a folder, such as ./data".to_owned())
        }
        None => Ok(()),
    }
}

fn check_ranges(config: &Config) -> Result<(), String> {
    let intervals = [
        ("store.sync_interval", config.store.sync_interval),
        ("store.flush_interval", config.store.flush_interval),
        ("store.compaction_interval", config.store.compaction_interval),
    ];
    if let Some((key, interval)) = intervals.iter().find(|(_, interval)| *interval < INTERVAL_MIN) {
        return Err(format!("{key}: {interval} is too short; the shortest is {INTERVAL_MIN}"));
    }
    let numbers = [
        ("threads.ingest", config.threads.ingest, THREADS_MAX),
        ("threads.query", config.threads.query, THREADS_MAX),
        ("query.at_once_max", config.query.at_once_max, AT_ONCE_MAX),
        ("query.sql.at_once_max", config.query.sql.at_once_max, AT_ONCE_MAX),
    ];
    match numbers.iter().find(|(_, number, max)| number > max) {
        Some((key, number, max)) => Err(format!("{key}: {number} is too many; at most {max}")),
        None => Ok(()),
    }
}

/// Values that make no sense beside others.
fn check_together(config: &Config) -> Result<(), String> {
    let (limits, store) = (&config.limits, &config.store);
    if limits.decompressed_bytes_max > limits.in_flight_bytes_max {
        return Err(format!(
            "limits.decompressed_bytes_max ({}) is above limits.in_flight_bytes_max ({}): such a request could never be \
             taken; raise the second or lower the first",
            limits.decompressed_bytes_max, limits.in_flight_bytes_max
        ));
    }
    if store.flush_bytes > store.hot_bytes_max {
        return Err(format!(
            "store.flush_bytes ({}) is above store.hot_bytes_max ({}): senders would be asked to wait before anything is \
             written to files; raise the second or lower the first",
            store.flush_bytes, store.hot_bytes_max
        ));
    }
    Ok(())
}

/// No two ports can listen at one address; port 0 is a free one each time.
fn check_listeners(config: &Config) -> Result<(), String> {
    let listeners = [("listen", config.listen), ("otlp.grpc", config.otlp.grpc), ("otlp.http", config.otlp.http)];
    for (number, (key, address)) in listeners.iter().enumerate() {
        let is_same = |(_, other): &&(&str, SocketAddr)| address.port() != 0 && address == other;
        if let Some((other, _)) = listeners[..number].iter().find(is_same) {
            return Err(format!("{key}: {other} has the same address {address}; give each its own address or port"));
        }
    }
    Ok(())
}

fn check_sites(config: &Config) -> Result<(), String> {
    let origins = [
        ("http.allowed_origins", &config.http.allowed_origins),
        ("otlp.browser_origins", &config.otlp.browser_origins),
    ];
    for (key, patterns) in origins {
        for pattern in patterns {
            OriginPattern::new(pattern).map_err(|error| format!("{key}: {error}"))?;
        }
    }
    AllowedHeaders::new(&config.http.allowed_headers).map_err(|error| format!("http.allowed_headers: {error}"))?;
    config.http.host_names.iter().try_for_each(|name| check_host_name(name))
}

/// A name as it stands in `Host`, without the port.
fn check_host_name(text: &str) -> Result<(), String> {
    if is_host_name(text) || text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return Ok(());
    }
    let bare = text.trim().trim_end_matches('.');
    let bare = bare.split_once("://").map_or(bare, |(_, rest)| rest);
    let bare = bare.split(['/', ':', '?', '#']).next().unwrap_or_default();
    let advice = match is_host_name(bare) {
        true => format!("write {bare}"),
        false => "write each name in full, without scheme, port or *, such as traces.example".to_owned(),
    };
    Err(format!("http.host_names: {:?} is not a host name: {advice}", text.chars().take(100).collect::<String>()))
}

fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.chars().all(|character| character.is_ascii_alphanumeric() || "-_".contains(character))
    };
    text.split('.').all(is_label)
}
