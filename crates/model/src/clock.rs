use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where time comes from. Only this file reads the machine's clock, so that a simulation can replace it.
pub trait Clock: Send + Sync {
    /// Wall-clock time in nanoseconds since the Unix epoch; 0 if it stands before that. May jump in either direction.
    fn now_unix_nanos(&self) -> i64;

    /// Time since an arbitrary moment; never goes back.
    fn monotonic(&self) -> Duration;

    /// Time since the machine booted, which no one can set. `None` if the system does not tell.
    fn boot(&self) -> Option<BootTime> {
        None
    }

    /// Waits until a moment on the monotonic clock, or until somebody rings.
    fn wait(&self, bell: &Bell, until: Duration) {
        bell.wait_for(until.saturating_sub(self.monotonic()));
    }
}

/// Wakes one who waits on a [`Clock`] before the time. Who is not waiting yet does not wait the next time.
#[derive(Debug, Clone, Default)]
pub struct Bell {
    inner: Arc<BellState>,
}

#[derive(Debug, Default)]
struct BellState {
    has_rung: Mutex<bool>,
    changed: Condvar,
}

impl BellState {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.has_rung.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Bell {
    pub fn ring(&self) {
        *self.inner.lock() = true;
        self.inner.changed.notify_all();
    }

    /// Waits in the machine's time.
    fn wait_for(&self, at_most: Duration) {
        let has_rung = self.inner.lock();
        let waited = self.inner.changed.wait_timeout_while(has_rung, at_most, |has_rung| !*has_rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

/// A clock that stands before this moment, 2020-01-01T00:00:00Z, was never set: the machine has no battery, and has not asked
/// the network for the time yet.
const SET_CLOCK_UNIX_NANOS_MIN: i64 = 1_577_836_800 * 1_000_000_000;

/// Whether a time, in nanoseconds since the Unix epoch, can be that of a clock which was set.
pub fn is_set_clock(unix_nanos: i64) -> bool {
    unix_nanos >= SET_CLOCK_UNIX_NANOS_MIN
}

/// Time that was measured since the machine booted, suspended time included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BootTime {
    /// Tells one boot from another: times of different boots can't be compared.
    pub boot_id: u128,
    pub since_boot: Duration,
}

/// Where chance comes from.
pub trait Randomness: Send + Sync {
    fn next_u64(&self) -> u64;
}

/// The machine's clock.
pub struct SystemClock {
    origin: Instant,
    boot_id: Option<u128>,
}

impl Default for SystemClock {
    #[allow(clippy::disallowed_methods)]
    fn default() -> Self {
        Self { origin: Instant::now(), boot_id: system_boot_id() }
    }
}

/// The id that Linux gives each boot.
fn system_boot_id() -> Option<u128> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    u128::from_str_radix(&text.trim().replace('-', ""), 16).ok()
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods)]
    fn now_unix_nanos(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
    }

    fn monotonic(&self) -> Duration {
        self.origin.elapsed()
    }

    /// Asks the kernel itself, past the C library and what may have been put before it.
    fn boot(&self) -> Option<BootTime> {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let since_boot = Duration::new(u64::try_from(now.tv_sec).ok()?, u32::try_from(now.tv_nsec).ok()?);
        Some(BootTime { boot_id: self.boot_id?, since_boot })
    }
}

/// A clock that a test moves.
#[derive(Default)]
pub struct ManualClock {
    unix_nanos: AtomicI64,
    monotonic_nanos: AtomicU64,
    boots: AtomicU64,
    /// When the machine booted last, on the monotonic clock.
    booted_at_nanos: AtomicU64,
    /// Of those who wait for this clock.
    waiting: Mutex<Vec<Bell>>,
}

impl ManualClock {
    pub fn at_unix_nanos(unix_nanos: i64) -> Self {
        Self { unix_nanos: AtomicI64::new(unix_nanos), ..Self::default() }
    }

    pub fn advance(&self, by: Duration) {
        let nanos = u64::try_from(by.as_nanos()).unwrap_or(u64::MAX);
        self.monotonic_nanos.fetch_add(nanos, Ordering::SeqCst);
        self.unix_nanos.fetch_add(nanos as i64, Ordering::SeqCst);
        let waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for bell in waiting.iter() {
            // Under its lock: who has just seen that it is not time yet waits already.
            let _has_rung = bell.inner.lock();
            bell.inner.changed.notify_all();
        }
    }

    /// Wakes all who wait, before their time.
    pub fn wake(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).iter().for_each(Bell::ring);
    }

    /// Moves the wall clock alone, as an administrator or NTP may.
    pub fn jump_wall_clock(&self, by_nanos: i64) {
        self.unix_nanos.fetch_add(by_nanos, Ordering::SeqCst);
    }

    /// The machine was off for a time that only the wall clock measured.
    pub fn reboot(&self, off: Duration) {
        self.boots.fetch_add(1, Ordering::SeqCst);
        self.booted_at_nanos.store(self.monotonic_nanos.load(Ordering::SeqCst), Ordering::SeqCst);
        self.jump_wall_clock(i64::try_from(off.as_nanos()).unwrap_or(i64::MAX));
    }
}

impl Clock for ManualClock {
    fn now_unix_nanos(&self) -> i64 {
        self.unix_nanos.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.monotonic_nanos.load(Ordering::SeqCst))
    }

    fn boot(&self) -> Option<BootTime> {
        let booted_at = Duration::from_nanos(self.booted_at_nanos.load(Ordering::SeqCst));
        let since_boot = self.monotonic().saturating_sub(booted_at);
        Some(BootTime { boot_id: u128::from(self.boots.load(Ordering::SeqCst)), since_boot })
    }

    /// Until the test moves the clock so far.
    fn wait(&self, bell: &Bell, until: Duration) {
        let waiting = || self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting().push(bell.clone());
        let mut has_rung = bell.inner.lock();
        while !*has_rung && self.monotonic() < until {
            has_rung = bell.inner.changed.wait(has_rung).unwrap_or_else(PoisonError::into_inner);
        }
        *has_rung = false;
        drop(has_rung);
        let mut waiting = waiting();
        if let Some(at) = waiting.iter().position(|other| Arc::ptr_eq(&other.inner, &bell.inner)) {
            waiting.swap_remove(at);
        }
    }
}

/// Seeded by the operating system once, then SplitMix64: enough for file names, jitter and spreading, not for secrets.
pub struct SystemRandomness {
    state: AtomicU64,
}

impl Default for SystemRandomness {
    fn default() -> Self {
        use std::hash::{BuildHasher, RandomState};
        Self { state: AtomicU64::new(RandomState::new().hash_one(std::process::id())) }
    }
}

impl SystemRandomness {
    pub fn from_seed(seed: u64) -> Self {
        Self { state: AtomicU64::new(seed) }
    }
}

impl Randomness for SystemRandomness {
    fn next_u64(&self) -> u64 {
        let step = 0x9e37_79b9_7f4a_7c15u64;
        let mut mixed = self.state.fetch_add(step, Ordering::Relaxed).wrapping_add(step);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_moved_wakes_who_waits_for_it_and_so_does_a_bell() {
        let (clock, bell) = (ManualClock::default(), Bell::default());
        std::thread::scope(|scope| {
            let waited = scope.spawn(|| {
                clock.wait(&bell, Duration::from_secs(10));
                clock.monotonic()
            });
            while !waited.is_finished() {
                clock.advance(Duration::from_secs(1));
            }
            assert!(waited.join().expect("it waits") >= Duration::from_secs(10));
        });
        bell.ring();
        // Who was rung for before does not wait at all.
        clock.wait(&bell, Duration::MAX);
        SystemClock::default().wait(&bell, Duration::ZERO);
        assert!(clock.waiting.lock().expect("nobody panicked").is_empty());
    }
}
