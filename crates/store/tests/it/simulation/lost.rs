//! What is needed only at other times than those of a run: what a start sets aside of a damaged log, what a stop leaves in it, what a
//! kill tore, the name of a store, what a repair moved, a folder that somebody removed.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tracehouse_disk::Disk;
use tracehouse_model::{SystemRandomness, TenantId};
use tracehouse_store::{Background, Durability, RepairOptions, StoreConfig, check_store, repair_store};

use super::catalogue::SimulatedCatalogue;
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

/// A record that a kill tore is cut off, and the log goes on with its number: a failure of the power that brings the torn one back hides
/// nothing, and nobody is told of damage.
pub(super) async fn a_torn_record_hides_nothing(seed: u64, left_out: Option<Site>) -> BTreeSet<Site> {
    let world = World::of_seed(seed);
    let (disk, config) = simulated(&world, seed, left_out);
    let store = world.open_with(config.clone()).await;
    disk.fail_power_after(0);
    let torn = store.append(TenantId::default(), batch_of(&[plain_span(1, 1, 0, NOON)])).await;
    torn.expect_err("it can't be written");
    drop(store);
    world.close_catalogues().await;
    disk.restart_process();
    // The start that finds it is killed too, or not.
    disk.fail_power_after(seed % 40);
    let catalogue = world.catalogue().await;
    drop(world.try_open(config.clone(), catalogue, world.clock.clone()).await);
    world.close_catalogues().await;
    disk.restart_process();
    let store = world.open_with(config).await;
    let spans = [plain_span(2, 2, 0, NOON)];
    append(&store, batch_of(&spans)).await;
    disk.fail_power_after(0);
    drop(store);
    world.close_catalogues().await;
    disk.restore_power();
    let store = world.open().await;
    let found = all_spans(&store.snapshot(&TenantId::default()));
    // One that was torn behind its end is whole, and was never acknowledged.
    let found: Vec<_> = found.into_iter().filter(|span| span.span_id == spans[0].span_id).collect();
    assert_same_spans(&format!("seed {seed}, behind a torn record"), &found, &by_key(&spans), 1);
    assert!(!world.log_dir().join("damaged").exists(), "seed {seed}: nothing is damaged");
    disk.sites()
}

/// A store of an earlier version is given a name: it opens whenever the power fails afterwards.
pub(super) async fn a_name_is_for_good(seed: u64, left_out: Option<Site>) -> BTreeSet<Site> {
    let world = World::of_seed(seed);
    let (disk, config) = simulated(&world, seed, left_out);
    let config = StoreConfig { background: Background::Called, ..config };
    let catalogue = Arc::new(SimulatedCatalogue::new(Chance::new(seed), disk.clone()));
    let open =
        async |config: &StoreConfig| world.try_open(config.clone(), catalogue.clone(), world.clock.clone()).await;
    let spans = [plain_span(1, 1, 0, NOON)];
    let store = world.try_open(world.config(), catalogue.clone(), world.clock.clone()).await.expect("the store opens");
    append(&store, batch_of(&spans)).await;
    store.shutdown().await.expect("it writes its spans to a file");
    drop(store);
    fs::remove_file(world.store_dir().join("STORE_ID")).expect("it is there");
    catalogue.forget_name_of_store();
    drop(open(&config).await.expect("the store opens"));
    disk.fail_power_after(0);
    assert!(open(&config).await.is_err(), "the power has failed");
    disk.restore_power();
    let opened = open(&config).await.unwrap_or_else(|error| panic!("seed {seed}: it does not open: {error}"));
    let found = all_spans(&opened.snapshot(&TenantId::default()));
    assert_same_spans(&format!("seed {seed}, with a name"), &found, &by_key(&spans), 1);
    disk.sites()
}

/// What a repair did is done, whenever the power fails afterwards.
pub(super) async fn a_repair_is_durable(seed: u64, left_out: Option<Site>) -> BTreeSet<Site> {
    let world = World::of_seed(seed);
    let store = world.open().await;
    let spans = [plain_span(1, 1, 0, NOON)];
    append(&store, batch_of(&spans)).await;
    store.shutdown().await.expect("it writes its spans to a file");
    drop(store);
    world.close_catalogues().await;
    let file = world.files_ending_with(".parquet").remove(0);
    match seed % 3 {
        0 => {
            let elsewhere = world.store_dir().join("tenant=default/spans/date=2025-06-01/hour=20");
            fs::create_dir_all(&elsewhere).expect("folders can be made");
            fs::rename(&file, elsewhere.join(file.file_name().expect("a name"))).expect("it can be moved");
            fs::remove_dir(file.parent().expect("a folder")).expect("it is empty");
        }
        1 => fs::rename(&file, file.with_file_name("000000000001-0000000000000001.parquet")).expect("it can be moved"),
        _ => fs::remove_file(world.store_dir().join("STORE_ID")).expect("it is there"),
    }
    let (disk, _) = simulated(&world, seed, left_out);
    let (paths, randomness) = (world.paths(), Arc::new(SystemRandomness::from_seed(seed)));
    let (options, clock) = (RepairOptions::default(), world.clock.clone());
    let through = Disk::with_faults(disk.clone());
    let repaired = repair_store(&through, &paths, options, clock, randomness, &mut |_, _| {}).await;
    assert_eq!(repaired.expect("the repair can be done").actions.len(), 1, "seed {seed}");
    disk.fail_power_after(0);
    through.sync_folder(&world.store_dir()).expect_err("the power has failed");
    disk.restore_power();
    let check = check_store(&paths, false, &mut |_, _| {}).await.expect("the check can be done");
    assert!(check.is_sound(), "seed {seed}, after a repair: {check:?}");
    let store = world.open().await;
    let found = all_spans(&store.snapshot(&TenantId::default()));
    assert_same_spans(&format!("seed {seed}, after a repair"), &found, &by_key(&spans), 1);
    disk.sites()
}

/// Somebody removes the log's folder while the store runs: what is acknowledged afterwards is there, whenever the power fails.
pub(super) async fn a_folder_made_anew_stays(seed: u64, left_out: Option<Site>) -> BTreeSet<Site> {
    let world = World::of_seed(seed);
    let (disk, config) = simulated(&world, seed, left_out);
    let store = world.open_with(config).await;
    fs::remove_dir_all(world.log_dir()).expect("it can be removed");
    let spans = [plain_span(1, 1, 0, NOON)];
    append(&store, batch_of(&spans)).await;
    disk.fail_power_after(0);
    drop(store);
    world.close_catalogues().await;
    disk.restore_power();
    let store = world.open().await;
    let found = all_spans(&store.snapshot(&TenantId::default()));
    assert_same_spans(&format!("seed {seed}, in a folder made anew"), &found, &by_key(&spans), 1);
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
