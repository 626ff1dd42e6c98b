//! No file below the data folder holds text that no stored span has.

use std::fs;
use std::path::Path;

use tracehouse_model::{AttributeValue, SpanBatch, TenantId};

use crate::spans::{NOON, batch_of, plain_span};
use crate::world::World;

const SECRET: &str = "s3cret-of-nobody";

/// A batch as a receiver leaves it when it refused a span, replaced a value and met a resource without spans.
fn with_leftovers(round: u64) -> SpanBatch {
    let spans: Vec<_> = (1..50).map(|span| plain_span(u128::from(round) + 1, span, 0, NOON)).collect();
    let mut batch = batch_of(&spans);
    let secret = batch.strings.intern_str(&format!("{SECRET} {round}"));
    batch.attributes.push(secret, AttributeValue::String(secret));
    batch.events.attributes.push(secret, AttributeValue::Json(secret));
    batch.finish_event(NOON, secret, 0);
    batch.discard_span();
    batch.resources.attributes.push(secret, AttributeValue::Bytes(secret));
    batch.finish_resource(0, secret);
    batch.scopes.attributes.push(secret, AttributeValue::String(secret));
    batch.finish_scope(secret, secret, 0, secret);
    batch
}

fn holding_secret(folder: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).expect("a folder of the store") {
        let path = entry.expect("an entry of it").path();
        if path.is_dir() {
            holding_secret(&path, found);
        } else {
            let bytes = fs::read(&path).expect("a file of the store");
            if bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_span_keeps_reaches_no_file() {
    let world = World::new();
    let store = world.open().await;
    let check = |when: &str| {
        let mut found = Vec::new();
        holding_secret(world.path(), &mut found);
        assert_eq!(found, Vec::<String>::new(), "{when}");
    };
    for round in 0..3 {
        store.append(TenantId::default(), with_leftovers(round)).await.expect("the store takes it");
    }
    check("in the log");
    let image = world.crash_image();
    let mut found = Vec::new();
    holding_secret(image.path(), &mut found);
    assert_eq!(found, Vec::<String>::new(), "after a crash");
    store.flush().await.expect("the flush succeeds");
    check("in files");
    store.append(TenantId::default(), with_leftovers(3)).await.expect("the store takes it");
    store.flush().await.expect("the flush succeeds");
    store.compact().await.expect("the merge succeeds");
    check("in merged files");
    assert_eq!(store.status(&TenantId::default()).spans_stored, 4 * 49, "what is kept is there");
}
