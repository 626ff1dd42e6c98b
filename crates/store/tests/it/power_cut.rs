//! A power failure at any step: names that were not synchronised are undone, and so is what was written to files and not
//! synchronised. Nothing that was acknowledged is lost, nothing that was deleted comes back.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tracehouse_disk::{Disk, DiskFaults, DiskStep};
use tracehouse_model::{Span, TenantId};
use tracehouse_store::StoreConfig;

use crate::disk_faults::parent;
use crate::spans::{HOUR, Key, NOON, assert_same_spans, batch_of, by_key, plain_span};
use crate::world::{World, all_spans, append, until, until_in_time};

/// A step whose name may not be on the disk yet, and how to take it back.
enum Undo {
    Remove(PathBuf),
    Restore(PathBuf, Vec<u8>),
    RenameBack { from: PathBuf, to: PathBuf },
    MakeFolder(PathBuf),
}

/// Knows what of the folders a power failure would take back.
#[derive(Default)]
struct Volatile {
    /// By the folder that holds the name.
    names: Vec<(PathBuf, Undo)>,
    /// Files that were written to, and how much of them is on the disk.
    contents: HashMap<PathBuf, u64>,
    /// The step that is being done takes effect when the next one begins.
    doing: Option<Doing>,
    images: Vec<(String, World)>,
}

enum Doing {
    SyncFolder(PathBuf),
    SyncFile(PathBuf),
}

struct PowerCuts {
    world: Arc<World>,
    volatile: Mutex<Volatile>,
}

impl DiskFaults for PowerCuts {
    fn before(&self, step: DiskStep<'_>, _: &'static Location<'static>) -> io::Result<()> {
        let mut volatile = self.volatile.lock();
        volatile.finish();
        let image = volatile.after_a_power_failure(&self.world);
        volatile.images.push((format!("before {step:?}"), image));
        volatile.begin(step);
        Ok(())
    }
}

impl Volatile {
    fn finish(&mut self) {
        match self.doing.take() {
            Some(Doing::SyncFolder(folder)) => self.names.retain(|(holder, _)| *holder != folder),
            Some(Doing::SyncFile(path)) => {
                let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
                self.contents.insert(path, bytes);
            }
            None => {}
        }
    }

    fn begin(&mut self, step: DiskStep<'_>) {
        let held_by = |path: &Path| parent(path).to_owned();
        match step {
            DiskStep::CreateFolder(path) if !path.exists() => {
                self.names.push((held_by(path), Undo::Remove(path.to_owned())));
            }
            DiskStep::RemoveFolder(path) if fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none()) => {
                self.names.push((held_by(path), Undo::MakeFolder(path.to_owned())));
            }
            DiskStep::CreateFile(path) => {
                self.contents.insert(path.to_owned(), 0);
                self.names.push((held_by(path), Undo::Remove(path.to_owned())));
            }
            DiskStep::Rename { from, to } if from.exists() => {
                self.contents.remove(from);
                let undo = Undo::RenameBack { from: from.to_owned(), to: to.to_owned() };
                self.names.push((held_by(to), undo));
            }
            DiskStep::RemoveFile(path) if path.exists() => {
                let bytes = fs::read(path).expect("a file of the world");
                self.names.push((held_by(path), Undo::Restore(path.to_owned(), bytes)));
            }
            DiskStep::SyncFolder(path) => self.doing = Some(Doing::SyncFolder(path.to_owned())),
            DiskStep::SyncFile(path) => self.doing = Some(Doing::SyncFile(path.to_owned())),
            _ => {}
        }
    }

    fn after_a_power_failure(&self, world: &World) -> World {
        let image = world.crash_image();
        let in_image = |path: &Path| image.path().join(path.strip_prefix(world.path()).expect("inside the world"));
        for (path, bytes) in &self.contents {
            if let Ok(file) = fs::OpenOptions::new().write(true).open(in_image(path)) {
                file.set_len(*bytes).expect("a file can be cut off");
            }
        }
        for (_, undo) in self.names.iter().rev() {
            match undo {
                Undo::Remove(path) => {
                    let path = in_image(path);
                    let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
                }
                Undo::Restore(path, bytes) => {
                    let path = in_image(path);
                    fs::create_dir_all(parent(&path)).expect("a folder can be made");
                    fs::write(path, bytes).expect("a file can be written");
                }
                Undo::RenameBack { from, to } => {
                    let _ = fs::rename(in_image(to), in_image(from));
                }
                Undo::MakeFolder(path) => fs::create_dir_all(in_image(path)).expect("a folder can be made"),
            }
        }
        image
    }
}

fn some_spans(round: u64) -> Vec<Span> {
    let hour = |number: u64| (number % 2) as i64 * HOUR;
    (0..20).map(|at| plain_span(u128::from(round + 1), round * 100 + at + 1, 0, NOON + hour(at))).collect()
}

fn all_of(rounds: std::ops::Range<u64>) -> BTreeMap<Key, Span> {
    by_key(&rounds.flat_map(some_spans).collect::<Vec<_>>())
}

async fn check(what: &str, image: &World, expected: &[BTreeMap<Key, Span>]) {
    let store = image.open().await;
    for phase in ["opened", "flushed"] {
        if phase == "flushed" {
            store.flush().await.expect("the flush succeeds");
        }
        let snapshot = store.snapshot(&TenantId::default());
        let found = all_spans(&snapshot);
        // While the step was done a batch was on its way, which may be there.
        let best = expected.iter().find(|expected| expected.len() == found.len()).unwrap_or(&expected[0]);
        assert_same_spans(&format!("{what}, {phase}"), &found, best, 1);
        let mut listed: Vec<_> = snapshot.files.iter().map(|file| image.store_dir().join(&file.record.path)).collect();
        listed.sort();
        assert_eq!(image.files_ending_with(".parquet"), listed, "{what}, {phase}: what a glob finds");
        for suffix in [".tmp", ".unknown"] {
            assert!(image.files_ending_with(suffix).is_empty(), "{what}, {phase}: no files ending with {suffix}");
        }
    }
}

/// Images with what was acknowledged before each, and what may be there beside it.
struct Cuts {
    world: Arc<World>,
    cuts: Arc<PowerCuts>,
}

impl Cuts {
    fn new() -> Self {
        let world = Arc::new(World::new());
        let cuts = Arc::new(PowerCuts { world: world.clone(), volatile: Mutex::default() });
        Self { world, cuts }
    }

    fn config(&self) -> StoreConfig {
        StoreConfig { disk: Disk::with_faults(self.cuts.clone()), ..self.world.config() }
    }

    async fn check_images(&self, what: &str, expected: &[BTreeMap<Key, Span>]) {
        let images = std::mem::take(&mut self.cuts.volatile.lock().images);
        for (number, (step, image)) in images.iter().enumerate() {
            check(&format!("{what}, power cut {number} {step}"), image, expected).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_failure_at_any_step_of_writing_and_merging_loses_and_repeats_nothing() {
    let cuts = Cuts::new();
    let store = cuts.world.open_with(cuts.config()).await;
    cuts.check_images("opening", &[all_of(0..0)]).await;
    for round in 0..2 {
        append(&store, batch_of(&some_spans(round))).await;
        cuts.check_images("appending", &[all_of(0..round), all_of(0..round + 1)]).await;
        store.flush().await.expect("the flush succeeds");
        cuts.check_images("flushing", &[all_of(0..round + 1)]).await;
    }
    store.compact().await.expect("the merge succeeds");
    cuts.check_images("merging", &[all_of(0..2)]).await;
    store.shutdown().await.expect("the store stops");
    cuts.check_images("stopping", &[all_of(0..2)]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_failure_at_any_step_of_deleting_brings_nothing_back() {
    let cuts = Cuts::new();
    let config = StoreConfig { retention: Duration::from_secs(2 * 3600), ..cuts.config() };
    let store = cuts.world.open_with(config).await;
    append(&store, batch_of(&some_spans(0))).await;
    store.flush().await.expect("the flush succeeds");
    cuts.cuts.volatile.lock().images.clear();
    for _ in 0..6 * 6 {
        cuts.world.clock.advance(Duration::from_secs(600));
    }
    until(&cuts.world, "all expire", || store.snapshot(&TenantId::default()).files.is_empty()).await;
    until_in_time(&cuts.world, "all folders go", || !cuts.world.store_dir().join("tenant=default").exists()).await;
    store.shutdown().await.expect("the store stops");
    let images = std::mem::take(&mut cuts.cuts.volatile.lock().images);
    assert!(images.len() > 10, "{} steps", images.len());
    for (number, (step, image)) in images.iter().enumerate() {
        // The file of the second hour may still count: the two expire one after the other.
        let second: Vec<Span> = some_spans(0).into_iter().filter(|span| span.start_unix_nanos >= NOON + HOUR).collect();
        let possible = [by_key(&[]), by_key(&second)];
        check(&format!("deleting, power cut {number} {step}"), image, &possible).await;
    }
}
