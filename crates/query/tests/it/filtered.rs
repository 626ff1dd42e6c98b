//! A file's filter of values rules the file out where a value does not occur, and nowhere else: answers are the reference's.

use tracehouse_model::{AnyValue, Span, SpanBatch, SpanFields, SpanId, TenantId};

use crate::corpus::{Layout, check, shop};
use crate::shop::{put, trace_id};
use crate::wild::RANGE;

const SPANS: u64 = 4_000;
const USERS: u64 = 300;

fn text(text: impl Into<String>) -> AnyValue {
    AnyValue::String(text.into())
}

/// `user` is a text of most spans and of some resources; `mixed` is mostly a text, and now and then a list of texts, a number or
/// what looks like one; `request` differs for each span.
fn batch(numbers: std::ops::Range<u64>) -> SpanBatch {
    let mut batch = SpanBatch::new();
    let owners: Vec<u32> = (0..8u64)
        .map(|number| {
            put(&mut batch.strings, &mut batch.resources.attributes, "service.name", &text(format!("s{number}")));
            if number % 2 == 0 {
                put(&mut batch.strings, &mut batch.resources.attributes, "user", &text(format!("owner-{number}")));
            }
            batch.finish_resource(0, 0)
        })
        .collect();
    let scope = batch.finish_scope(0, 0, 0, 0);
    for number in numbers {
        let user = format!("user-{}", number * 7 % USERS);
        if number % 9 > 0 {
            put(&mut batch.strings, &mut batch.attributes, "user", &text(user));
        }
        let mixed = match number % 50 {
            0 => AnyValue::Array(vec![text("in a list"), text("m-3")]),
            1 => AnyValue::Int(7),
            2 => text("7"),
            3 => text(""),
            other => text(format!("m-{other}")),
        };
        put(&mut batch.strings, &mut batch.attributes, "mixed", &mixed);
        put(&mut batch.strings, &mut batch.attributes, "request", &text(format!("r-{number}")));
        let name = batch.strings.intern_str(["GET /", "SELECT"][number as usize % 2]);
        batch.finish_span(SpanFields {
            trace_id: trace_id(number / 4 + 1),
            span_id: SpanId((number + 1).to_be_bytes()),
            parent_span_id: if number % 4 == 0 { SpanId::NONE } else { SpanId(number.to_be_bytes()) },
            start_unix_nanos: RANGE.start + number as i64,
            duration_nanos: number as i64 % 8,
            name,
            resource: owners[number as usize / 4 % owners.len()],
            scope,
            ..SpanFields::default()
        });
    }
    batch
}

const CONDITIONS: [&str; 18] = [
    "span.user = \"user-3\"",
    ".user = \"user-299\"",
    ".user = \"owner-4\"",
    "resource.user = \"owner-2\"",
    "span.mixed = \"7\"",
    "span.mixed = \"m-3\"",
    "span.mixed = \"in a list\"",
    "span.mixed = \"\"",
    "span.mixed = 7",
    "span.request = \"r-3999\"",
    "span.user != \"nobody\"",
    "!(span.user = \"nobody\")",
    "span.user = \"nobody\" || span.request = \"r-17\"",
    "span.user = \"user-3\" && resource.service.name = \"s0\"",
    "resource.service.name = \"s7\"",
    "span.user =~ \"user-29.\"",
    "parent.user = \"user-7\"",
    "span.user = \"user-3\" && span.mixed = \"m-10\" || span.mixed = 7",
];

#[tokio::test]
async fn what_occurs_is_found_and_what_does_not_costs_no_file() {
    let batches = [batch(0..SPANS / 2), batch(SPANS / 2..SPANS)];
    let spans: Vec<Span> = batches.iter().flat_map(|batch| (0..batch.len()).map(|row| batch.span(row))).collect();
    for layout in [Layout::Memory, Layout::Files] {
        let shop = shop(&batches, layout).await;
        for condition in CONDITIONS {
            for query in [format!("{{ {condition} }}"), format!("{{ {condition} }} | count_over_time()")] {
                let found =
                    check(&shop, &spans, &query).await.unwrap_or_else(|wrong| panic!("{layout:?}: {query}\n{wrong}"));
                assert!(found || condition.contains("in a list"), "{layout:?}: {query} finds something");
            }
        }
        for user in (0..USERS).step_by(4) {
            let query = format!("{{ span.user = \"user-{user}\" }} | count_over_time()");
            assert_eq!(check(&shop, &spans, &query).await, Ok(true), "{layout:?}: {query}");
        }
    }
    let shop = shop(&batches, Layout::Files).await;
    let read = async |condition: &str| {
        let query = format!("{{ {condition} }}");
        shop.engine.explain(&TenantId::default(), &query, 0..i64::MAX).await.expect("a plan").files_to_read
    };
    assert_eq!(read("span.user = \"user-5\"").await, 1);
    let mut in_vain = 0;
    for number in 0..200 {
        in_vain += read(&format!("span.user = \"nobody-{number}\"")).await;
    }
    assert!(in_vain < 20, "{in_vain} of 200 times the file is read in vain");
}
