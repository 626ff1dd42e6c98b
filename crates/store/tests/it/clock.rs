//! Nothing is deleted because a clock says so alone, and the operator is told.

use std::sync::Arc;
use std::time::Duration;

use tracehouse_catalogue::Catalogue;
use tracehouse_disk::Disk;
use tracehouse_model::{Clock, Span, SystemRandomness, TenantId};
use tracehouse_store::{ClockStanding, RepairOptions, Store, StoreConfig, repair_store};

use crate::spans::{HOUR, NOON, assert_same_spans, batch_of, by_key, plain_span};
use crate::world::{World, all_spans, append, until};

const MINUTE: i64 = HOUR / 60;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;
const RETENTION_DAYS: i64 = 7;

fn time(nanos: i64) -> Duration {
    Duration::from_nanos(nanos.unsigned_abs())
}

fn spans_at(day: i64) -> Vec<Span> {
    let id = |number: u64| (day + 1000) as u64 * 100 + number + 1;
    (0..20).map(|number| plain_span(u128::from(id(number)), id(number), 0, NOON + day * DAY)).collect()
}

fn config(world: &World) -> StoreConfig {
    StoreConfig { retention: time(RETENTION_DAYS * DAY), ..world.config() }
}

/// A store that has lived for longer than its retention until noon, with spans of five and of two days ago.
async fn old_store() -> (World, Arc<Store>) {
    let world = World::new();
    world.clock.jump_wall_clock(-8 * DAY);
    let store = world.open_with(config(&world)).await;
    world.clock.advance(time(8 * DAY));
    for day in [-5, -2] {
        append(&store, batch_of(&spans_at(day))).await;
        store.flush().await.expect("the flush succeeds");
    }
    (world, store)
}

async fn reopen(world: &World, store: Arc<Store>) -> Arc<Store> {
    store.shutdown().await.expect("the store stops");
    drop(store);
    world.open_with(config(world)).await
}

/// Returns when the keeper has expired what it holds for old: it writes down the time at the beginning of each round, at
/// most once a minute.
async fn a_round_of_the_keeper(world: &World) {
    let catalogue = world.catalogue().await;
    let remembered = async || catalogue.load().await.expect("loads").meta.get("clock").cloned();
    // What was written down second was written after the first round's end.
    for _ in 0..2 {
        let before = remembered().await;
        world.clock.advance(Duration::from_secs(61));
        for _ in 0..600 {
            if remembered().await != before {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert_ne!(remembered().await, before, "the keeper writes down the time");
    }
}

fn check_days(what: &str, store: &Store, days: &[i64]) {
    let expected: Vec<Span> = days.iter().flat_map(|&day| spans_at(day)).collect();
    assert_same_spans(what, &all_spans(&store.snapshot(&TenantId::default())), &by_key(&expected), 1);
}

fn is_ahead(store: &Store) -> bool {
    matches!(store.clock().standing(), ClockStanding::Ahead { .. })
}

/// Before, a boot that was 30 days ahead retired everything, and deleted it two minutes later.
#[tokio::test(flavor = "multi_thread")]
async fn a_boot_with_a_clock_far_ahead_deletes_nothing() {
    for ahead in [HOUR, 30 * DAY, 10 * YEAR] {
        let (world, store) = old_store().await;
        store.shutdown().await.expect("the store stops");
        world.clock.reboot(time(ahead));
        let store = world.open_with(config(&world)).await;
        a_round_of_the_keeper(&world).await;
        check_days("ahead", &store, &[-5, -2]);
        assert!(is_ahead(&store));
        assert!(store.troubles().iter().any(|trouble| trouble.contains("trust-clock")), "{:?}", store.troubles());
        let lag = world.clock.now_unix_nanos() - store.clock().time_unix_nanos();
        assert_eq!(lag, ahead, "the store's time goes on from where it was");
        // Someone sets the clock right; retention goes by it.
        world.clock.jump_wall_clock(-ahead);
        assert_eq!(store.clock().standing(), ClockStanding::Right);
        assert_eq!(store.troubles(), Vec::<String>::new());
        world.clock.advance(time(3 * DAY));
        until(&world, "what is really old goes", || store.snapshot(&TenantId::default()).files.len() == 1).await;
        check_days("right again", &store, &[-2]);
    }
}

/// Before, the newest file's time was taken for the time that had come. It may be a wrong clock's, and everything was deleted.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_deleted_once_the_catalogue_lost_the_time() {
    const DAMAGE: &str = "UPDATE meta SET value = replace(value, '1', '2') WHERE name = 'clock'";
    for (is_repaired, damage) in [(false, DAMAGE), (false, "DELETE FROM meta WHERE name = 'clock'"), (true, DAMAGE)] {
        let (world, store) = old_store().await;
        world.clock.jump_wall_clock(YEAR);
        append(&store, batch_of(&spans_at(-1))).await;
        store.flush().await.expect("the flush succeeds");
        store.shutdown().await.expect("the store stops");
        world.meddle(&[damage]).await;
        if is_repaired {
            let (clock, randomness) = (world.clock.clone(), Arc::new(SystemRandomness::from_seed(1)));
            let options = RepairOptions::default();
            repair_store(&Disk::default(), &world.paths(), options, clock, randomness, &mut |_, _| {})
                .await
                .expect("it can be repaired");
        }
        let store = world.open_with(config(&world)).await;
        let is_told = |store: &Store| {
            store.troubles().iter().any(|trouble| trouble.contains("lost") && trouble.contains("trust-clock"))
        };
        assert_eq!(is_told(&store), !is_repaired, "{:?}", store.troubles());
        a_round_of_the_keeper(&world).await;
        check_days("lost", &store, &[-5, -2, -1]);
        // Someone sets the clock right and says so; retention goes by it again.
        world.clock.jump_wall_clock(-YEAR);
        store.trust_clock().await.expect("it is written down");
        assert_eq!(store.troubles(), Vec::<String>::new());
        world.clock.advance(time(3 * DAY));
        until(&world, "what is really old goes", || store.snapshot(&TenantId::default()).files.len() == 2).await;
        check_days("known again", &store, &[-2, -1]);
        let store = reopen(&world, store).await;
        assert_eq!(store.troubles(), Vec::<String>::new());
        store.shutdown().await.expect("the store stops");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_jumps_while_the_store_runs_deletes_nothing() {
    let (world, store) = old_store().await;
    for jump in [YEAR, -YEAR, -YEAR, YEAR, HOUR, -HOUR] {
        world.clock.jump_wall_clock(jump);
        a_round_of_the_keeper(&world).await;
        check_days("jumped", &store, &[-5, -2]);
    }
    assert_eq!(store.clock().standing(), ClockStanding::Right, "all jumps together are none");
}

/// A new store can't tell that its clock is behind; those whose spans it refuses can.
#[tokio::test(flavor = "multi_thread")]
async fn the_operator_is_told_of_spans_of_the_future_for_a_while() {
    let world = World::new();
    world.clock.jump_wall_clock(-14 * DAY);
    let store = world.open_with(config(&world)).await;
    assert_eq!(store.troubles(), Vec::<String>::new());
    for _ in 0..2 {
        store.clock().met_spans_of_the_future();
        let said = store.troubles();
        assert!(said.len() == 1 && said[0].contains("set it, as NTP does"), "{said:?}");
        assert!(said[0].contains("it says 2025-05-18"), "what the clock says: {said:?}");
        world.clock.advance(time(50 * MINUTE));
    }
    assert_eq!(store.troubles().len(), 1, "told since the last of them");
    world.clock.advance(time(15 * MINUTE));
    assert_eq!(store.troubles(), Vec::<String>::new());
}

/// A machine without a battery wakes up in 1970, until it has asked the network for the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_boot_far_behind_is_right_again_when_the_clock_is() {
    let (world, store) = old_store().await;
    store.shutdown().await.expect("the store stops");
    let off = 5 * MINUTE;
    world.clock.reboot(Duration::ZERO);
    let behind = world.clock.now_unix_nanos();
    world.clock.jump_wall_clock(-behind);
    let store = world.open_with(config(&world)).await;
    assert!(matches!(store.clock().standing(), ClockStanding::Behind { .. }));
    let said = store.troubles().concat();
    assert!(said.contains("behind what the store knows"), "an old store takes spans all the same: {said}");
    let latest = store.clock().latest().now_unix_nanos();
    assert!(latest >= NOON, "spans of today are not taken for ones of the future");
    a_round_of_the_keeper(&world).await;
    check_days("in 1970", &store, &[-5, -2]);
    world.clock.jump_wall_clock(behind + off);
    assert_eq!(store.clock().standing(), ClockStanding::Right);
    assert_eq!(store.clock().time_unix_nanos(), world.clock.now_unix_nanos());
}

/// How long a machine was off nobody measured: a short time is believed, a long one once the operator says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_time_off_is_believed_when_it_is_confirmed() {
    let (world, store) = old_store().await;
    store.shutdown().await.expect("the store stops");
    world.clock.reboot(time(10 * MINUTE));
    let store = world.open_with(config(&world)).await;
    assert_eq!(store.clock().standing(), ClockStanding::Right, "ten minutes are believed");
    store.shutdown().await.expect("the store stops");

    world.clock.reboot(time(3 * DAY));
    let store = world.open_with(config(&world)).await;
    assert!(is_ahead(&store), "three days are not");
    let store = reopen(&world, store).await;
    assert!(is_ahead(&store), "nor at the next start");
    a_round_of_the_keeper(&world).await;
    check_days("off for long", &store, &[-5, -2]);
    store.trust_clock().await.expect("the catalogue is there");
    assert_eq!(store.clock().standing(), ClockStanding::Right);
    let store = reopen(&world, store).await;
    assert_eq!(store.clock().standing(), ClockStanding::Right, "what was confirmed is remembered");
    until(&world, "what is really old goes", || store.snapshot(&TenantId::default()).files.len() == 1).await;
    check_days("confirmed", &store, &[-2]);
}

/// While the machine runs, its time since the boot is known, whether the store runs or not.
#[tokio::test(flavor = "multi_thread")]
async fn time_without_the_store_counts_within_one_boot() {
    let (world, store) = old_store().await;
    store.shutdown().await.expect("the store stops");
    world.clock.advance(time(3 * DAY));
    let store = world.open_with(config(&world)).await;
    assert_eq!(store.clock().standing(), ClockStanding::Right);
    until(&world, "what is old goes", || store.snapshot(&TenantId::default()).files.len() == 1).await;
    check_days("three days later", &store, &[-2]);
}

/// Many boots with a wrong clock do not add up to one that is believed.
#[tokio::test(flavor = "multi_thread")]
async fn many_boots_far_ahead_are_no_better_than_one() {
    let (world, mut store) = old_store().await;
    let known = store.clock().time_unix_nanos();
    for _ in 0..20 {
        store.shutdown().await.expect("the store stops");
        world.clock.reboot(time(10 * DAY));
        store = world.open_with(config(&world)).await;
        world.clock.advance(time(MINUTE));
    }
    assert_eq!(store.clock().time_unix_nanos(), known + 20 * MINUTE, "only what was measured counts");
    a_round_of_the_keeper(&world).await;
    check_days("many boots", &store, &[-5, -2]);
}

/// A new store knows no time, so nothing in it is old before it has lived as long as its retention; its first clock may be
/// wrong, and what it receives meanwhile is not.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_with_a_clock_ten_years_ahead_loses_nothing() {
    let world = World::new();
    world.clock.jump_wall_clock(10 * YEAR);
    let store = world.open_with(config(&world)).await;
    let age = store.clock().now_unix_nanos();
    assert!(NOON - age > -RETENTION_DAYS * DAY, "spans of today are not refused for their age");
    append(&store, batch_of(&spans_at(0))).await;
    store.flush().await.expect("the flush succeeds");
    a_round_of_the_keeper(&world).await;
    check_days("ten years ahead", &store, &[0]);
    store.shutdown().await.expect("the store stops");

    world.clock.reboot(Duration::ZERO);
    world.clock.jump_wall_clock(-10 * YEAR);
    let store = world.open_with(config(&world)).await;
    assert!(matches!(store.clock().standing(), ClockStanding::Behind { .. }), "the operator is told");
    a_round_of_the_keeper(&world).await;
    check_days("set right", &store, &[0]);
    world.clock.advance(time(HOUR));
    assert_eq!(store.clock().standing(), ClockStanding::Right, "after an hour it was the known time that was wrong");
    world.clock.jump_wall_clock(30 * DAY);
    assert!(is_ahead(&store), "and what is ahead of the right time is not believed");
    world.clock.jump_wall_clock(-30 * DAY);
    world.clock.advance(time(6 * DAY));
    a_round_of_the_keeper(&world).await;
    check_days("six days later", &store, &[0]);
    world.clock.advance(time(2 * DAY));
    until(&world, "old at last", || store.snapshot(&TenantId::default()).files.is_empty()).await;
}

/// Before, a new store took the clock's first right time for one far ahead, and waited for someone to confirm it.
#[tokio::test(flavor = "multi_thread")]
async fn a_new_store_under_a_clock_that_was_never_set_goes_by_it_once_it_is() {
    let world = World::new();
    let until_set = NOON - 10 * YEAR;
    world.clock.jump_wall_clock(-NOON);
    let store = world.open_with(config(&world)).await;
    let said = store.troubles();
    assert!(said.len() == 1 && said[0].contains("never set") && said[0].contains("NTP"), "{said:?}");
    world.clock.jump_wall_clock(until_set);
    assert_eq!(store.troubles(), said, "2015 is no better");
    let store = reopen(&world, store).await;
    world.clock.jump_wall_clock(NOON - until_set);
    assert_eq!(store.troubles(), Vec::<String>::new());
    assert_eq!(store.clock().time_unix_nanos(), world.clock.now_unix_nanos());
    append(&store, batch_of(&spans_at(-30))).await;
    store.flush().await.expect("the flush succeeds");
    a_round_of_the_keeper(&world).await;
    check_days("as in a new store nothing is old", &store, &[-30]);
}
