//! Tests of the demo: what is generated, what is booked, what is sent.

mod books;
mod generation;
mod injections;
mod options;
mod receiver;
mod sending;
mod time;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use std::sync::LazyLock;
use std::time::Duration;
use tracehouse_demo::rhythm::{Arrivals, Timeline};
use tracehouse_demo::simulate::{Generated, World};

/// 2025-11-22 08:26:40 UTC.
pub(crate) const START: u64 = 1_763_800_000_000_000_000;

/// Ten minutes of live traffic of one seed, generated once: long enough for every problem to occur.
pub(crate) fn ten_minutes() -> &'static (World, Vec<Generated>) {
    static TRAFFIC: LazyLock<(World, Vec<Generated>)> = LazyLock::new(|| traffic(42, Duration::from_secs(600)));
    &TRAFFIC
}

/// Live traffic of `seed` at 20 traces per second.
pub(crate) fn traffic(seed: u64, duration: Duration) -> (World, Vec<Generated>) {
    let timeline = Timeline::new(START, Duration::ZERO, Some(duration), 20.0);
    let world = World::new(seed, timeline);
    let requests = Arrivals::new(seed, timeline).map(|arrival| world.request(arrival)).collect();
    (world, requests)
}

pub(crate) fn text_of(attribute: &KeyValue) -> Option<&str> {
    match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}
