//! The allocator counts: in a process of its own, as nextest gives each test one and `cargo test` only one to all.

use std::sync::Mutex;

use tracehouse_memory::{
    CountingAllocator, PENDING_BYTES_MAX, Pool, TALLIES_MAX, Tally, Whose, has_room_for, in_use_bytes, over_limit,
    peak_bytes, restart_peak, set_limit_bytes,
};

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Tests that allocate much or set the limit do so one after the other, where they share a process.
static ALONE: Mutex<()> = Mutex::new(());

const MIB: usize = 1 << 20;
/// What tests beside this one, and the threads' own counts, may make of difference.
const NOISE_BYTES: usize = 4 * MIB;

fn alone() -> std::sync::MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

#[track_caller]
fn assert_about(bytes: usize, expected: usize) {
    assert!(bytes.abs_diff(expected) < NOISE_BYTES, "{bytes} is not about {expected}");
}

#[test]
fn what_is_allocated_is_counted_until_it_is_freed() {
    let _alone = alone();
    let before = in_use_bytes();
    let zeroed = vec![0_u8; 64 * MIB];
    assert_about(in_use_bytes(), before + 64 * MIB);
    let mut grown: Vec<u8> = Vec::with_capacity(32 * MIB);
    assert_about(in_use_bytes(), before + 96 * MIB);
    grown.reserve_exact(64 * MIB);
    assert_about(in_use_bytes(), before + 128 * MIB);
    drop(zeroed);
    grown.shrink_to(MIB);
    assert_about(in_use_bytes(), before + MIB);
    assert!(peak_bytes() >= before + 128 * MIB - NOISE_BYTES);
    restart_peak();
    assert_about(peak_bytes(), before + MIB);
}

#[test]
fn small_pieces_add_up() {
    let _alone = alone();
    let before = in_use_bytes();
    let pieces: Vec<Box<[u8; 48]>> = (0..1_000_000).map(|_| Box::new([0; 48])).collect();
    assert_about(in_use_bytes(), before + 56_000_000);
    drop(pieces);
    assert_about(in_use_bytes(), before);
}

/// Each thread leaves less than it counts for itself: lost with the thread, that would be 60 MiB here.
#[test]
fn threads_that_end_lose_nothing() {
    let _alone = alone();
    let before = in_use_bytes();
    let mut kept = Vec::new();
    let piece = PENDING_BYTES_MAX - 2_000;
    for _ in 0..2_000 {
        let made = std::thread::spawn(move || vec![1_u8; piece]).join();
        kept.push(made.expect("the thread ends well"));
    }
    assert_about(in_use_bytes(), before + 2_000 * piece);
    drop(kept);
    assert_about(in_use_bytes(), before);
}

#[test]
fn a_tally_counts_its_threads() {
    let _alone = alone();
    let tally = Tally::begin().expect("one is free");
    let other = Tally::begin().expect("one is free");
    let outside = vec![0_u8; 8 * MIB];
    let inside = std::thread::scope(|scope| {
        let work = || {
            tally.enter();
            let kept = vec![0_u8; 16 * MIB];
            drop(vec![0_u8; 32 * MIB]);
            Tally::leave();
            drop(vec![0_u8; 32 * MIB]);
            kept
        };
        scope.spawn(work).join().expect("the thread ends well")
    });
    assert_about(tally.bytes(), 16 * MIB);
    assert_about(other.bytes(), 0);
    drop((outside, inside));
    drop(tally);
    let all: Vec<Tally> = std::iter::from_fn(Tally::begin).collect();
    assert_eq!(all.len(), TALLIES_MAX - 1);
    assert!(all.iter().all(|tally| tally.bytes() == 0), "a new one begins at zero");
    drop(other);
    assert!(Tally::begin().is_some());
}

#[test]
fn accounts_do_not_grow_when_the_process_is_over_its_limit() {
    let _alone = alone();
    assert!(!over_limit() && has_room_for(usize::MAX / 2), "there is no limit at first");
    set_limit_bytes((in_use_bytes() + 64 * MIB) as u64);
    let pool = Pool::new(usize::MAX);
    let mut account = pool.account();
    account.try_grow(32 * MIB).expect("the process has room");
    let held = vec![0_u8; 96 * MIB];
    assert!(over_limit());
    let refused = account.try_grow(1).expect_err("the process has no room");
    assert!(matches!(refused.whose, Whose::Process { .. }), "{refused}");
    drop(held);
    assert!(!over_limit());
    account.try_grow(1).expect("there is room again");
    set_limit_bytes(0);
}
