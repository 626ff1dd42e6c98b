//! What is needed only after other faults: what a start sets aside of a damaged log, and what a stop leaves in it.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tracehouse_disk::Disk;
use tracehouse_model::TenantId;
use tracehouse_store::{Background, Durability, StoreConfig};

use super::chance::Chance;
use super::disk::{SimulatedDisk, Site};
use crate::spans::{NOON, assert_same_spans, batch_of, by_key, plain_span};
use crate::world::{World, all_spans, append};

fn simulated(world: &World, seed: u64, left_out: Option<Site>) -> (Arc<SimulatedDisk>, StoreConfig) {
    let disk = Arc::new(SimulatedDisk::new(world.path().to_owned(), Chance::new(seed), left_out));
    let config = StoreConfig { disk: Disk::with_faults(disk.clone()), ..world.config() };
    (disk, config)
}

/// Whatever of a log can't be read is there, in the log or in a copy, whenever the power fails.
pub(super) async fn damage_is_kept(seed: u64, left_out: Option<Site>) -> BTreeSet<Site> {
    let world = World::new();
    let store = world.open().await;
    append(&store, batch_of(&[plain_span(1, 1, 0, NOON)])).await;
    let image = world.crash_image();
    let segment = &image.segments()[0];
    let noise: Vec<u8> = (0..997u32).map(|at| (at * 31) as u8).collect();
    let mut bytes = fs::read(segment).expect("the segment can be read");
    bytes.extend(&noise);
    fs::write(segment, bytes).expect("the segment can be written");
    let (disk, config) = simulated(&image, seed, left_out);
    let config = StoreConfig { background: Background::Called, ..config };
    disk.fail_power_after(seed % 40);
    let catalogue = image.catalogue().await;
    let opened = image.try_open(config, catalogue, image.clock.clone()).await;
    disk.fail_power_after(0);
    drop(opened);
    disk.restore_power();
    let mut kept: Vec<_> = fs::read_dir(image.log_dir().join("damaged")).into_iter().flatten().collect();
    kept.extend(fs::read_dir(image.log_dir()).expect("the log's folder"));
    let holds_noise = |path: std::path::PathBuf| {
        fs::read(path).is_ok_and(|bytes| bytes.windows(noise.len()).any(|window| window == noise))
    };
    let is_kept = kept.into_iter().any(|entry| holds_noise(entry.expect("an entry of it").path()));
    assert!(is_kept, "seed {seed}: what could not be read is gone");
    disk.sites()
}

/// What a stop could not write to files is in the log for good, though the disk was to be asked later.
pub(super) async fn a_stop_is_durable(seed: u64, left_out: Option<Site>) -> BTreeSet<Site> {
    let world = World::new();
    let (disk, config) = simulated(&world, seed, left_out);
    let config = StoreConfig { durability: Durability::Interval(Duration::from_secs(1 << 30)), ..config };
    let store = world.open_with(config).await;
    let spans = [plain_span(1, 1, 0, NOON)];
    append(&store, batch_of(&spans)).await;
    let in_the_way = world.store_dir().join("tenant=default");
    fs::write(&in_the_way, "no folder").expect("it can be written");
    store.shutdown().await.expect_err("the folder of the tenant can't be made");
    disk.fail_power_after(0);
    drop(store);
    disk.restore_power();
    fs::remove_file(in_the_way).expect("it can be removed");
    let store = world.open().await;
    let found = all_spans(&store.snapshot(&TenantId::default()));
    assert_same_spans(&format!("seed {seed}, after a stop"), &found, &by_key(&spans), 1);
    disk.sites()
}
