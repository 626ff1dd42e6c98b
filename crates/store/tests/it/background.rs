//! Background work that fails, hangs or panics keeps nothing else from being done.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tracehouse_catalogue::Commit;
use tracehouse_model::{Span, TenantId};
use tracehouse_store::{AppendError, Store, StoreConfig, WriteError};

use crate::disk_faults::Faults;
use crate::spans::{HOUR, Key, NOON, assert_same_spans, batch_of, by_key, plain_span};
use crate::world::{Fault, Moment, WatchedCatalogue, World, all_spans, append, tenant, until, until_deleted};

const FAILING: usize = 1;

fn some_spans(round: u64) -> Vec<Span> {
    (0..50).map(|number| plain_span(u128::from(round + 1), round * 100 + number + 1, 0, NOON)).collect()
}

fn all_of(rounds: impl IntoIterator<Item = u64>) -> BTreeMap<Key, Span> {
    by_key(&rounds.into_iter().flat_map(some_spans).collect::<Vec<_>>())
}

async fn append_to(store: &Store, of: usize, round: u64) -> Result<(), AppendError> {
    store.append(tenant(of), batch_of(&some_spans(round))).await
}

fn check(what: &str, store: &Store, of: usize, rounds: impl IntoIterator<Item = u64>) {
    assert_same_spans(what, &all_spans(&store.snapshot(&tenant(of))), &all_of(rounds), 1);
}

fn hot(store: &Store, of: usize) -> u64 {
    store.status(&tenant(of)).spans_hot
}

/// An error with its causes.
fn chain(error: &WriteError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_whose_folder_cannot_be_made_keeps_nobody_elses_spans_in_memory() {
    let world = World::new();
    let store = world.open().await;
    let in_the_way = world.store_dir().join(format!("tenant={}", tenant(FAILING)));
    fs::write(&in_the_way, "not a folder").expect("can be written");
    for round in 0..3 {
        for of in 0..3 {
            append_to(&store, of, round).await.expect("taken");
        }
        let error = store.flush().await.expect_err("one tenant can't be written");
        let text = chain(&error);
        assert!(text.contains("team-a") && text.contains(&*in_the_way.to_string_lossy()), "names both: {text}");
        assert!(text.contains("move that away"), "says what to do: {text}");
        assert_eq!([hot(&store, 0), hot(&store, 2)], [0, 0], "the others are in files");
        assert_eq!(hot(&store, FAILING), (round + 1) * 50);
        assert_eq!(store.ready(), Ok(()), "the others go on");
        assert!(store.troubles().iter().any(|trouble| trouble.contains("team-a")), "{:?}", store.troubles());
    }
    for of in 0..3 {
        check("while one fails", &store, of, 0..3);
    }
    let image = world.crash_image();
    let reopened = image.open().await;
    for of in 0..3 {
        check("after a crash", &reopened, of, 0..3);
    }
    assert_eq!([hot(&reopened, 0), hot(&reopened, FAILING), hot(&reopened, 2)], [0, 150, 0], "only what is needed");

    fs::remove_file(&in_the_way).expect("it is there");
    store.flush().await.expect("nothing is in the way");
    assert!(store.troubles().is_empty());
    assert_eq!(hot(&store, FAILING), 0);
    for of in 0..3 {
        check("afterwards", &store, of, 0..3);
    }
    store.shutdown().await.expect("the store stops");
    assert_eq!(world.open().await.status(&tenant(FAILING)).spans_hot, 0, "nothing is replayed that stands in files");
}

/// By itself, and again after a while.
#[tokio::test(flavor = "multi_thread")]
async fn the_flusher_goes_on_with_the_others_and_comes_back_to_who_failed() {
    let world = World::new();
    let faults = Faults::new();
    faults.fail("create folder", "tenant=team-a", io::ErrorKind::StorageFull);
    let config = StoreConfig { flush_interval: Duration::from_secs(1), ..faults.config(&world) };
    let store = world.open_with(config).await;
    for round in 0..4 {
        for of in 0..3 {
            append_to(&store, of, round).await.expect("taken");
        }
        world.clock.advance(Duration::from_secs(1));
        until(&world, "the others are flushed", || hot(&store, 0) + hot(&store, 2) == 0).await;
        assert_eq!(hot(&store, FAILING), (round + 1) * 50);
    }
    let steps = faults.take_steps();
    let attempts = steps.iter().filter(|step| step.is("create folder", "tenant=team-a")).count();
    assert!(attempts <= 2, "{attempts} attempts in four seconds");
    faults.clear();
    world.clock.advance(Duration::from_secs(400));
    until(&world, "the tenant is tried again", || hot(&store, FAILING) == 0).await;
    check("afterwards", &store, FAILING, 0..4);
}

/// The second commit that adds files, which waits.
struct SecondCommit {
    reached: mpsc::Receiver<mpsc::Sender<()>>,
}

impl SecondCommit {
    /// `seen`: is given each.
    fn of(catalogue: &WatchedCatalogue, mut seen: impl FnMut(&Commit) + Send + 'static) -> Self {
        let (tell, reached) = mpsc::channel();
        let mut commits = 0;
        catalogue.watch(move |moment, commit| {
            if moment == Moment::BeforeCommit && !commit.add.is_empty() {
                seen(commit);
                commits += 1;
                if commits == 2 {
                    let (go_on, may_go_on) = mpsc::channel();
                    tell.send(go_on).expect("the test waits");
                    may_go_on.recv().expect("the test goes on");
                }
            }
        });
        Self { reached }
    }

    /// Waits for it; it goes on once something is sent.
    async fn reached(self) -> mpsc::Sender<()> {
        let waiting = tokio::task::spawn_blocking(move || self.reached.recv());
        waiting.await.expect("no panic").expect("there is a second commit")
    }
}

/// Tenants whose spans are of very many hours make a file for each: others' spans are written first, and those that come in
/// meanwhile before all of these are.
#[tokio::test(flavor = "multi_thread")]
async fn spans_of_all_hours_of_many_tenants_hold_up_nobody_else() {
    const TENANTS: usize = 5;
    const HOURS: i64 = 200;
    let of_all_hours = |number: usize| TenantId::new(&format!("all-hours-{number}")).expect("a valid name");
    let world = World::new();
    let catalogue = WatchedCatalogue::new(world.catalogue().await);
    let config = StoreConfig { flush_interval: Duration::from_secs(1), ..world.config() };
    let store = world.try_open(config, catalogue.clone(), world.clock.clone()).await.expect("opens");
    for number in 0..TENANTS {
        let id = number as u64 * 1000;
        let spans = (0..HOURS).map(|hour| plain_span(7, id + hour as u64 + 1, 0, NOON - hour * HOUR));
        store.append(of_all_hours(number), batch_of(&spans.collect::<Vec<_>>())).await.expect("taken");
    }
    append_to(&store, 0, 0).await.expect("taken");
    // How many files each commit adds, and how many of them are the usual tenant's. The second waits for more of its spans.
    let commits: Arc<Mutex<Vec<(usize, usize)>>> = Arc::default();
    let seen = commits.clone();
    let second = SecondCommit::of(&catalogue, move |commit| {
        let usual = commit.add.iter().filter(|file| file.tenant == tenant(0)).count();
        seen.lock().push((commit.add.len(), usual));
    });
    world.clock.advance(Duration::from_secs(1));
    let go_on = second.reached().await;
    append_to(&store, 0, 1).await.expect("taken");
    go_on.send(()).expect("the flush waits");
    let all_hot =
        || (0..TENANTS).map(|number| store.status(&of_all_hours(number)).spans_hot).sum::<u64>() + hot(&store, 0);
    until(&world, "all are written", || all_hot() == 0).await;
    let commits = commits.lock().clone();
    let usual: Vec<usize> = (0..commits.len()).filter(|at| commits[*at].1 > 0).collect();
    assert!(commits.iter().all(|(files, _)| *files <= 257), "{commits:?}");
    assert!(usual.len() == 2 && usual[0] == 0 && usual[1] < commits.len() - 1, "{commits:?}");
    check("afterwards", &store, 0, 0..2);
}

/// Spans of more hours than a flush makes files for: those of the first batches are written first, none into the folder of another
/// hour, and none is lost or there twice if the process ends between two flushes.
#[tokio::test(flavor = "multi_thread")]
async fn each_span_is_in_the_folder_of_its_hour() {
    // The third batch alone has more hours than a flush makes files.
    const HOURS: [u64; 4] = [120, 120, 300, 120];
    let world = World::new();
    let catalogue = WatchedCatalogue::new(world.catalogue().await);
    let config = StoreConfig { flush_interval: Duration::from_secs(1), flush_files_max: 256, ..world.config() };
    let store = world.try_open(config.clone(), catalogue.clone(), world.clock.clone()).await.expect("opens");
    let mut sent: Vec<Span> = Vec::new();
    for hours in HOURS {
        let first = sent.len() as u64;
        let spans = (first..first + hours).map(|number| plain_span(7, number + 1, 0, NOON - number as i64 * HOUR));
        let spans: Vec<Span> = spans.collect();
        store.append(tenant(0), batch_of(&spans)).await.expect("taken");
        sent.extend(spans);
    }
    let commits: Arc<Mutex<Vec<usize>>> = Arc::default();
    let seen = commits.clone();
    let second = SecondCommit::of(&catalogue, move |commit| seen.lock().push(commit.add.len()));
    world.clock.advance(Duration::from_secs(1));
    let go_on = second.reached().await;
    let image = world.crash_image();
    go_on.send(()).expect("the flush waits");
    until(&world, "all are written", || hot(&store, 0) == 0).await;
    assert_eq!(*commits.lock(), [240, 300, 120], "files of each flush");
    let reopened = image.open_with(config).await;
    assert_eq!(hot(&reopened, 0), 420, "those of the first flush are in files");
    image.clock.advance(Duration::from_secs(1));
    until(&image, "all are written", || hot(&reopened, 0) == 0).await;
    for (what, store) in [("that went on", &store), ("that was opened again", &reopened)] {
        let snapshot = store.snapshot(&tenant(0));
        assert_same_spans(what, &all_spans(&snapshot), &by_key(&sent), 1);
        for file in snapshot.files.iter() {
            let folder = Timestamp::from_nanosecond(file.record.start_min.into()).expect("a time");
            let folder = folder.strftime("/date=%Y-%m-%d/hour=%H/").to_string();
            let hours = [file.record.start_min, file.record.start_max].map(|start| start.div_euclid(HOUR));
            assert!(hours[0] == hours[1] && file.record.path.contains(&folder), "{what}: {}", file.record.path);
        }
    }
}

/// The memory of a tenant that sends more than can be written ends before that of all.
#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_takes_no_more_than_its_share_of_memory() {
    const HOT_BYTES_MAX: usize = 1024 * 1024;
    let world = World::new();
    let faults = Faults::new();
    let config = StoreConfig { hot_bytes_max: HOT_BYTES_MAX, flush_bytes: HOT_BYTES_MAX / 2, ..faults.config(&world) };
    let store = world.open_with(config).await;
    append_to(&store, 0, 1000).await.expect("taken");
    faults.fail("create folder", "tenant=team-a", io::ErrorKind::StorageFull);
    let fill = async || {
        for round in 0..10_000 {
            if let Err(error) = append_to(&store, FAILING, round).await {
                return (round, error);
            }
        }
        panic!("memory has no end");
    };
    // A large tenant is flushed before it reaches its share, and fails then.
    let (taken, refusal) = fill().await;
    assert!(matches!(&refusal, AppendError::Busy { reason, .. } if reason.contains("team-a")), "{refusal:?}");
    until(&world, "its flush was tried", || !store.troubles().is_empty()).await;
    let (taken_while_failing, refusal) = fill().await;
    assert_eq!(taken_while_failing, 0, "less is kept for one who fails: {refusal:?}");
    for round in 0..200 {
        while let Err(error) = append_to(&store, 0, round).await {
            assert!(matches!(error, AppendError::Busy { .. }), "{error:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    check("who goes on", &store, 0, (0..200).chain([1000]));
    check("who fails", &store, FAILING, 0..taken);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_over_one_tenant_stays_with_it() {
    let world = World::new();
    let faults = Faults::new();
    let store = world.open_with(faults.config(&world)).await;
    faults.set(|step| {
        assert!(!step.is("create folder", "tenant=team-a"), "made to panic by the test");
        Ok(())
    });
    for of in 0..3 {
        append_to(&store, of, 0).await.expect("taken");
    }
    store.flush().await.expect_err("one tenant can't be written");
    assert_eq!([hot(&store, 0), hot(&store, FAILING), hot(&store, 2)], [0, 50, 0]);
    faults.clear();
    store.flush().await.expect("the flush succeeds");
    check("afterwards", &store, FAILING, [0]);
}

/// Writing that fails half-way through a tenant leaves none of its files.
#[tokio::test(flavor = "multi_thread")]
async fn an_error_of_the_disk_in_one_file_leaves_no_part_of_a_flush() {
    for (kind, part) in [("write", ".tmp"), ("sync file", ".tmp"), ("rename", "hour=13"), ("sync folder", "hour=13")] {
        let world = World::new();
        let faults = Faults::new();
        let store = world.open_with(faults.config(&world)).await;
        let spans: Vec<Span> = (0..100u64).map(|at| plain_span(7, at + 1, 0, NOON + (at % 2) as i64 * HOUR)).collect();
        append(&store, batch_of(&spans)).await;
        faults.fail(kind, part, io::ErrorKind::Other);
        store.flush().await.expect_err("the disk fails");
        let what = format!("{kind} fails");
        assert_same_spans(&what, &all_spans(&store.snapshot(&TenantId::default())), &by_key(&spans), 1);
        for end in [".parquet", ".new", ".tmp"] {
            assert!(world.files_ending_with(end).is_empty(), "{what}: no file ending with {end}");
        }
        faults.clear();
        store.flush().await.expect("the disk works");
        assert_same_spans(&what, &all_spans(&store.snapshot(&TenantId::default())), &by_key(&spans), 1);
        assert_eq!(world.files_ending_with(".parquet").len(), 2, "{what}, then works");
    }
}

/// A store with some files for each of the tenants.
async fn with_files(world: &World, faults: &Arc<Faults>, config: StoreConfig) -> Arc<Store> {
    let config = StoreConfig { disk: faults.config(world).disk, ..config };
    let store = world.open_with(config).await;
    for round in 0..4 {
        for of in 0..3 {
            append_to(&store, of, round).await.expect("taken");
        }
        store.flush().await.expect("the flush succeeds");
    }
    store
}

fn files(store: &Store, of: usize) -> usize {
    store.snapshot(&tenant(of)).files.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_that_fails_keeps_none_of_the_others() {
    let world = World::new();
    let faults = Faults::new();
    let store = with_files(&world, &faults, world.config()).await;
    faults.fail("rename", "tenant=team-a", io::ErrorKind::Other);
    store.compact().await.expect_err("one merge fails");
    assert_eq!([files(&store, 0), files(&store, FAILING), files(&store, 2)], [1, 4, 1]);
    assert!(store.troubles()[0].contains("team-a"), "{:?}", store.troubles());
    faults.clear();
    store.compact().await.expect("the merge succeeds");
    assert!(store.troubles().is_empty());
    for of in 0..3 {
        check("merged", &store, of, 0..4);
        assert_eq!(files(&store, of), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_expire_and_are_deleted_while_a_merge_hangs() {
    let world = World::new();
    let faults = Faults::new();
    let config = StoreConfig {
        compaction_interval: Duration::from_secs(10),
        retention: Duration::from_secs(3600),
        ..world.config()
    };
    let store = with_files(&world, &faults, config).await;
    faults.hold("sync file", ".tmp");
    world.clock.advance(Duration::from_secs(10));
    until(&world, "a merge hangs", || faults.is_holding()).await;
    for _ in 0..8 {
        world.clock.advance(Duration::from_secs(600));
    }
    until(&world, "all files expire", || (0..3).all(|of| files(&store, of) == 0)).await;
    until_deleted(&world, 0).await;
    // What the merge was making of them does not bring them back.
    faults.let_go();
    store.compact().await.expect("nothing is left to merge");
    assert!((0..3).all(|of| files(&store, of) == 0));
    assert!(world.files_ending_with(".parquet").is_empty() && world.files_ending_with(".new").is_empty());
}

/// To write the same spans again would double them.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_of_which_nobody_knows_whether_it_was_done_is_not_repeated() {
    let world = World::new();
    let catalogue = WatchedCatalogue::new(world.catalogue().await);
    let store = world.try_open(world.config(), catalogue.clone(), world.clock.clone()).await.expect("opens");
    for round in 0..2 {
        append_to(&store, 0, round).await.expect("taken");
        catalogue.fail(Fault::AfterCommitUnheard);
        store.flush().await.expect_err("nobody answers");
        append_to(&store, 1, round).await.expect("taken");
        store.flush().await.expect_err("nobody answers");
        catalogue.fail(Fault::None);
        store.flush().await.expect("the flush succeeds");
        check("flushed", &store, 0, 0..round + 1);
        check("flushed", &store, 1, 0..round + 1);
        assert_eq!(files(&store, 0), round as usize + 1, "one file for each flush");
    }
    catalogue.fail(Fault::AfterCommitUnheard);
    store.compact().await.expect_err("nobody answers");
    check("a merge of unknown outcome", &store, 0, 0..2);
    catalogue.fail(Fault::None);
    store.compact().await.expect("the merge succeeds");
    check("merged", &store, 0, 0..2);
    assert_eq!(files(&store, 0), 1);
    let image = world.crash_image();
    let reopened = image.open().await;
    check("after a crash", &reopened, 0, 0..2);
    check("after a crash", &reopened, 1, 0..2);
}
