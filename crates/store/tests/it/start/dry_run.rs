//! What a dry run of a repair says is what the repair then does, however a store was damaged.

use tracehouse_model::Randomness;

use super::*;
use crate::disk_faults::parent;

const HOURS: u64 = 4;
/// So many stores are damaged, each in a way of its own.
const STORES: u64 = 60;
/// So many things happen to a store at most.
const CHANGES_MAX: u64 = 7;

/// A number below another.
fn below(randomness: &dyn Randomness, end: usize) -> usize {
    (randomness.next_u64() % end as u64) as usize
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    PathBuf::from(format!("{}{ending}", path.display()))
}

/// One thing that a disk, a crash or a person may do to a file; what it was, in words.
fn change_one_file(world: &World, randomness: &dyn Randomness) -> String {
    let files: Vec<PathBuf> = everything_in(&world.store_dir())
        .into_iter()
        .filter(|(_, bytes)| bytes.starts_with(b"PAR1"))
        .map(|(path, _)| path)
        .collect();
    let [one, other] = [0, 1].map(|_| &files[below(randomness, files.len())]);
    let bytes = fs::read(one).expect("it is there");
    let (what, to) = match below(randomness, 11) {
        0 => {
            fs::write(one, &bytes[..200]).expect("it can be written");
            ("cut", one.clone())
        }
        1 => {
            let mut bytes = bytes;
            let at = below(randomness, bytes.len() - 8) + 4;
            bytes[at] ^= 1 << below(randomness, 8);
            fs::write(one, bytes).expect("it can be written");
            ("a bit", one.clone())
        }
        2 => {
            let between = world.path().join("between");
            for (from, to) in [(one, &between), (other, one), (&between, other)] {
                // Of a file with itself nothing comes.
                let _ = fs::rename(from, to);
            }
            ("swapped with", other.clone())
        }
        kind @ 3..=10 => {
            let endings = [".new", ".retired", ".unknown"];
            let to = match below(randomness, 6) {
                0 => one.with_file_name(format!("restored-{}.parquet", below(randomness, 3))),
                1 => PathBuf::from(one.to_string_lossy().replace("tenant=default", "tenant=other")),
                2 => PathBuf::from(one.to_string_lossy().replace("hour=12", "hour=13")),
                3 => world.store_dir().join(one.file_name().expect("a name")),
                4 => other.with_file_name(one.file_name().expect("a name")),
                _ => with_ending(one, endings[below(randomness, endings.len())]),
            };
            fs::create_dir_all(parent(&to)).expect("folders can be made");
            if !to.exists() {
                fs::copy(one, &to).expect("it can be copied");
                if kind > 6 {
                    fs::remove_file(one).expect("it is there");
                }
            }
            (if kind > 6 { "moved to" } else { "copied to" }, to)
        }
        _ => unreachable!("all numbers are there"),
    };
    let name = |path: &Path| path.strip_prefix(world.store_dir()).expect("inside").display().to_string();
    format!("{} {what} {}", name(one), name(&to))
}

/// Before, a dry run took other ways where a ruin stood in the way, or the catalogue was lost, and said something else.
#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_is_done() {
    let whole = world_of_hours(HOURS).await;
    whole.close_catalogues().await;
    for seed in 0..STORES {
        let randomness = SystemRandomness::from_seed(seed);
        let world = whole.crash_image();
        let changes = 1 + below(&randomness, CHANGES_MAX as usize);
        let mut what: Vec<String> = vec![format!("store {seed}")];
        what.extend((0..changes).map(|_| change_one_file(&world, &randomness)));
        if below(&randomness, 3) == 0 {
            what.push("the catalogue is lost".into());
            world.lose_catalogue().await;
            let _ = fs::remove_dir_all(world.log_dir());
        }
        let options = RepairOptions { forget_missing: below(&randomness, 4) == 0, ..RepairOptions::default() };
        what.push(format!("{options:?}"));
        let what = what.join("; ");
        let before = everything_in(&world.store_dir());
        for run in 0..3 {
            let (clock, randomness) = (world.clock.clone(), Arc::new(SystemRandomness::from_seed(1)));
            let paths = world.paths();
            let run_it = async |dry_run: bool| {
                let options = RepairOptions { dry_run, ..options };
                repair_store(&Disk::default(), &paths, options, clock.clone(), randomness.clone(), &mut |_, _| {}).await
            };
            let all = everything_in(&world.store_dir());
            let foreseen = run_it(true).await;
            assert_eq!(everything_in(&world.store_dir()), all, "{what}: a dry run changes nothing");
            let done = run_it(false).await;
            match (foreseen, done) {
                (Ok(foreseen), Ok(done)) => {
                    assert_eq!(foreseen.actions, done.actions, "{what}; run {run}");
                    assert_eq!(foreseen.left, done.left, "{what}; run {run}");
                }
                (Err(foreseen), Err(done)) => assert_eq!(foreseen.to_string(), done.to_string(), "{what}"),
                (foreseen, done) => panic!("{what}; run {run}: {foreseen:?} {done:?}"),
            }
        }
        let after = everything_in(&world.store_dir());
        for (path, bytes) in before {
            assert!(after.iter().any(|(_, kept)| *kept == bytes), "{what}: the content of {} is gone", path.display());
        }
    }
}
