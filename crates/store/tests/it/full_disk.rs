//! A full disk: spans are refused with an answer that says when to come back, what is stored can be queried, and it goes
//! on by itself when there is room. Needs a small file system of its own, so it is skipped where mounting is not
//! permitted.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tracehouse_model::{AnyValue, Span, TenantId};
use tracehouse_store::{AppendError, Store, StoreConfig};

use crate::spans::{NOON, assert_same_spans, batch_of, by_key, plain_span};
use crate::world::{World, all_spans, append, until};

/// A world on a file system of its own of a few megabytes.
struct TinyDisk {
    world: Option<World>,
    path: PathBuf,
}

impl TinyDisk {
    fn mount(megabytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().to_owned();
        let size = format!("size={megabytes}m");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tracehouse-test"]).arg(&path).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self { world: Some(World::in_folder(folder)), path });
        }
        let message = b"skipped: this test mounts a tmpfs, which is not permitted here\n";
        std::io::stderr().write_all(message).expect("stderr can be written");
        None
    }

    fn world(&self) -> &World {
        self.world.as_ref().expect("there until the end")
    }

    /// Takes all the room but so many bytes.
    fn fill_but(&self, left: u64) {
        let filler = self.path.join("filler");
        let mut file = fs::OpenOptions::new().create(true).append(true).open(filler).expect("a file can be made");
        let mut block = vec![1u8; 64 * 1024];
        while free_bytes(&self.path) > left {
            block.truncate((free_bytes(&self.path) - left).max(4096) as usize);
            if file.write_all(&block).is_err() {
                break;
            }
        }
    }

    fn make_room(&self) {
        fs::remove_file(self.path.join("filler")).expect("the filler is there");
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.path).output();
        drop(self.world.take());
    }
}

fn free_bytes(path: &Path) -> u64 {
    let disk = rustix::fs::statvfs(path).expect("the disk can be asked");
    disk.f_bavail * disk.f_frsize
}

/// About 100 KiB that can't be compressed away.
fn some_spans(round: u64) -> Vec<Span> {
    (0..50)
        .map(|number| {
            let mut span = plain_span(u128::from(round) + 1, round * 100 + number + 1, 0, NOON);
            let mut noise = round * 1_000_003 + number;
            let mut text = String::new();
            for _ in 0..128 {
                noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push_str(&format!("{:016x}", noise ^ noise >> 29));
            }
            span.attributes.push(("noise".into(), AnyValue::String(text)));
            span
        })
        .collect()
}

async fn try_append(store: &Store, round: u64) -> Result<(), AppendError> {
    store.append(TenantId::default(), batch_of(&some_spans(round))).await
}

fn check(what: &str, store: &Store, rounds: u64) {
    let expected = by_key(&(0..rounds).flat_map(some_spans).collect::<Vec<_>>());
    assert_same_spans(what, &all_spans(&store.snapshot(&TenantId::default())), &expected, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_goes_on_when_there_is_room() {
    let Some(disk) = TinyDisk::mount(16) else { return };
    let world = disk.world();
    let store = world.open().await;
    for round in 0..10 {
        try_append(&store, round).await.expect("there is room");
    }
    store.flush().await.expect("there is room");
    for round in 10..15 {
        try_append(&store, round).await.expect("there is room");
    }

    disk.fill_but(40 * 1024);
    // The log can't be written.
    for _ in 0..3 {
        let refused = try_append(&store, 15).await;
        assert!(
            matches!(&refused, Err(AppendError::DiskFull { retry_after, .. }) if !retry_after.is_zero()),
            "{refused:?}"
        );
    }
    // Nor can files, again and again, and what is half written does not stay.
    for _ in 0..3 {
        store.flush().await.expect_err("there is no room");
        store.compact().await.expect_err("there is no room");
        assert!(world.files_ending_with(".tmp").is_empty(), "half-written files would keep the disk full");
    }
    check("while the disk is full", &store, 15);
    assert_eq!(store.ready(), Ok(()));
    let says_so = |store: &Store| store.troubles().iter().any(|text| text.contains("no room for the log"));
    assert!(says_so(&store), "{:?}", store.troubles());

    disk.make_room();
    try_append(&store, 15).await.expect("there is room again");
    assert!(!says_so(&store), "{:?}", store.troubles());
    store.flush().await.expect("there is room again");
    store.compact().await.expect("there is room again");
    check("with room again", &store, 16);
    assert_eq!(world.files_ending_with(".parquet").len(), 1);
    let image = world.crash_image();
    check("after a crash", &*image.open().await, 16);
    store.shutdown().await.expect("the store stops");
}

/// Below the room that is to stay free nothing is accepted, so that files can still be written from the log.
#[tokio::test(flavor = "multi_thread")]
async fn a_nearly_full_disk_refuses_before_it_is_full() {
    let Some(disk) = TinyDisk::mount(16) else { return };
    let world = disk.world();
    let config = StoreConfig { disk_free_bytes_min: 4 * 1024 * 1024, ..world.config() };
    let store: Arc<Store> = world.open_with(config).await;
    try_append(&store, 0).await.expect("there is room");
    disk.fill_but(3 * 1024 * 1024);
    world.clock.advance(Duration::from_secs(1));
    let refused = try_append(&store, 1).await;
    assert!(matches!(&refused, Err(AppendError::DiskFull { .. })), "{refused:?}");
    check("nearly full", &store, 1);
    let said = store.troubles();
    assert!(said.len() == 1 && said[0].contains("nearly full") && said[0].contains("make room"), "{said:?}");
    assert_eq!(store.ready(), Ok(()), "what is stored can be queried");
    store.flush().await.expect("the room that was kept is for this");
    disk.make_room();
    world.clock.advance(Duration::from_secs(1));
    try_append(&store, 1).await.expect("there is room again");
    check("with room again", &store, 2);
    assert_eq!(store.troubles(), Vec::<String>::new());
}

/// Before, the segment that was written last stayed until it was full, though all of it was in files: a disk on which it was what took
/// the room kept senders waiting until a restart, and without senders no segment becomes full.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_which_nothing_is_needed_gives_its_room_back() {
    let world = World::new();
    let store = world.open_with(StoreConfig { log_segment_bytes_max: 64 * 1024, ..world.config() }).await;
    let log_bytes = || {
        let bytes = world.segments().into_iter().map(|segment| fs::metadata(segment).map_or(0, |found| found.len()));
        bytes.sum::<u64>()
    };
    let mut sent = Vec::new();
    for round in 0..3 {
        let spans: Vec<Span> =
            (0..50).map(|number| plain_span(u128::from(number / 5 + 1), round * 50 + number + 1, 0, NOON)).collect();
        append(&store, batch_of(&spans)).await;
        sent.extend(spans);
        assert!(log_bytes() > 1024, "they are in the log");
        store.flush().await.expect("the flush succeeds");
        until(&world, "the log is let go", || log_bytes() < 64).await;
        let found = all_spans(&world.crash_image().open().await.snapshot(&TenantId::default()));
        assert_same_spans("after a crash", &found, &by_key(&sent), 1);
    }
    assert_eq!(store.troubles(), Vec::<String>::new());
    store.shutdown().await.expect("the store stops");
    let store = world.open().await;
    assert_same_spans("after a restart", &all_spans(&store.snapshot(&TenantId::default())), &by_key(&sent), 1);
    assert_eq!(store.troubles(), Vec::<String>::new(), "nothing is taken for lost");
}
