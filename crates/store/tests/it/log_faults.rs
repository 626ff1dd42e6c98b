//! A log on a disk that fails, and one that holds more than memory may.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use tracehouse_model::{AnyValue, Span, TenantId};
use tracehouse_store::{AppendError, OpenError, Store, StoreConfig};

use crate::disk_faults::Faults;
use crate::spans::{Key, NOON, assert_same_spans, batch_of, by_key, plain_span};
use crate::world::{World, all_spans, append, tenant};

fn some_spans(round: u64) -> Vec<Span> {
    (0..50).map(|number| plain_span(u128::from(round) + 1, round * 100 + number + 1, 0, NOON)).collect()
}

fn all_of(rounds: impl IntoIterator<Item = u64>) -> BTreeMap<Key, Span> {
    by_key(&rounds.into_iter().flat_map(some_spans).collect::<Vec<_>>())
}

fn check(what: &str, store: &Store, rounds: impl IntoIterator<Item = u64>) {
    assert_same_spans(what, &all_spans(&store.snapshot(&TenantId::default())), &all_of(rounds), 1);
}

async fn try_append(store: &Store, round: u64) -> Result<(), AppendError> {
    store.append(TenantId::default(), batch_of(&some_spans(round))).await
}

/// The system may have dropped what it could not write; a second call would say that all is well.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_synchronisation_ends_ingest_and_is_not_tried_again() {
    let world = World::new();
    let faults = Faults::new();
    let store = world.open_with(faults.config(&world)).await;
    append(&store, batch_of(&some_spans(0))).await;
    faults.fail("sync file", ".wal", io::ErrorKind::Other);
    faults.take_steps();
    for round in 1..4 {
        let refused = try_append(&store, round).await;
        assert!(matches!(refused, Err(AppendError::Failed { .. })), "{refused:?}");
    }
    let reason = store.ready().expect_err("it can't go on");
    assert!(store.troubles().contains(&reason), "the status says so, too");
    check("what is there can be read", &store, [0]);
    store.flush().await.expect("files can be written");
    store.shutdown().await.expect("the store stops");
    let syncs = faults.take_steps().iter().filter(|step| step.is("sync file", ".wal")).count();
    assert_eq!(syncs, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_what_can_be_sent_again() {
    let world = World::new();
    let faults = Faults::new();
    let store = world.open_with(faults.config(&world)).await;
    append(&store, batch_of(&some_spans(0))).await;
    faults.fail("write", ".wal", io::ErrorKind::StorageFull);
    // Cutting off what was half written is a write too, and must work.
    let mut writes = 0;
    faults.set(move |step| {
        let is_write = step.is("write", ".wal");
        writes += usize::from(is_write);
        if is_write && writes % 2 == 1 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    });
    let refused = try_append(&store, 1).await;
    assert!(matches!(refused, Err(AppendError::DiskFull { .. })), "{refused:?}");
    faults.clear();
    append(&store, batch_of(&some_spans(2))).await;
    check("with room again", &store, [0, 2]);
    check("after a crash", &*world.crash_image().open().await, [0, 2]);
}

/// To go on without a segment that can't be read at the moment would lose it.
#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_the_disk_cannot_read_keeps_the_store_from_starting() {
    let world = World::new();
    let store = world.open().await;
    append(&store, batch_of(&some_spans(0))).await;
    let image = world.crash_image();
    let faults = Faults::new();
    faults.fail("read", ".wal", io::ErrorKind::Other);
    let before = image.segments();
    let refused = image
        .try_open(faults.config(&image), image.catalogue().await, image.clock.clone())
        .await
        .map(|_| ())
        .expect_err("the disk fails");
    assert!(matches!(refused, OpenError::Disk(_)), "{refused:?}");
    assert!(refused.to_string().contains(&*before[0].to_string_lossy()), "names the segment: {refused}");
    assert_eq!(image.segments(), before, "nothing was changed");
    check("when it can be read again", &*image.open().await, [0]);
}

/// A new segment that can't be begun leaves nothing that a start takes for one.
#[tokio::test(flavor = "multi_thread")]
async fn segments_that_could_not_be_begun_cost_nothing() {
    for (kind, part) in [("create file", ".wal"), ("sync file", "00002"), ("sync folder", "log")] {
        let world = World::new();
        let faults = Faults::new();
        let config = StoreConfig { log_segment_bytes_max: 8 * 1024, ..faults.config(&world) };
        let store = world.open_with(config).await;
        faults.set(move |step| {
            let is_first = step.is("sync file", "00000000000000000001-");
            if step.is(kind, part) && !is_first { Err(io::ErrorKind::Other.into()) } else { Ok(()) }
        });
        let mut taken = Vec::new();
        for round in 0..10 {
            if try_append(&store, round).await.is_ok() {
                taken.push(round);
            }
        }
        assert!(taken.len() > 2, "{kind}: the current segment goes on for a while: {taken:?}");
        faults.clear();
        append(&store, batch_of(&some_spans(50))).await;
        taken.push(50);
        check(kind, &*world.crash_image().open().await, taken);
    }
}

/// The log of a store that could not flush for long, or whose catalogue is an old one.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_holds_more_than_memory_may_is_flushed_while_it_is_replayed() {
    const HOT_BYTES_MAX: usize = 256 * 1024;
    let world = World::new();
    let store = world.open().await;
    for round in 0..100 {
        append(&store, batch_of(&some_spans(round))).await;
    }
    let memory = store.status(&TenantId::default()).spans_hot;
    let image = world.crash_image();
    let config = StoreConfig { hot_bytes_max: HOT_BYTES_MAX, flush_bytes: HOT_BYTES_MAX / 2, ..image.config() };
    let reopened = image.open_with(config.clone()).await;
    let status = reopened.status(&TenantId::default());
    assert!(status.spans_hot < memory / 4, "{} of {memory} spans are in memory", status.spans_hot);
    check("replayed", &reopened, 0..100);
    let second = image.crash_image();
    check("a crash after that", &*second.open_with(config).await, 0..100);
    reopened.flush().await.expect("the flush succeeds");
    check("flushed", &reopened, 0..100);
}

/// What a sender writes into its spans is never taken for a record of another tenant, not even after damage.
#[tokio::test(flavor = "multi_thread")]
async fn text_that_looks_like_a_record_is_none() {
    let world = World::new();
    let store = world.open().await;
    store.append(tenant(1), batch_of(&some_spans(5))).await.expect("taken");
    let segment = fs::read(&world.segments()[0]).expect("the segment can be read");
    // A whole record, as bytes of an attribute. The salt is what its sender can't know.
    let mut forged = segment[8..].to_vec();
    let crc = crc32c::crc32c(&forged[..16]);
    forged[16..20].copy_from_slice(&crc.to_le_bytes());
    let mut span = plain_span(9, 9, 0, NOON);
    span.attributes.push(("text".into(), AnyValue::Bytes(forged.clone())));
    append(&store, batch_of(&[span])).await;
    append(&store, batch_of(&some_spans(7))).await;
    let image = world.crash_image();
    let path = image.segments().remove(0);
    let mut bytes = fs::read(&path).expect("the segment can be read");
    let forged_at = find(&bytes, &forged).expect("the forged record is there");
    // The header of the record that it is in, and that of the one it is made of, which would be passed over as wholes.
    bytes[9] ^= 1;
    let second = segment.len();
    bytes[second + 1] ^= 1;
    assert!(second < forged_at);
    fs::write(&path, bytes).expect("the segment can be written");
    let reopened = image.open().await;
    assert!(all_spans(&reopened.snapshot(&tenant(1))).is_empty(), "nothing of the other tenant");
    check("what is intact is there", &reopened, [7]);
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
