//! The time by which spans grow old.
//!
//! A wall clock may be wrong: a machine boots with a flat battery, someone types a wrong year, a virtual machine wakes up.
//! What is deleted on its account is gone. So the store has a time of its own, which goes forward only by what was
//! *measured*, and by the wall clock only for little:
//!
//! - While the machine runs, the kernel's time since the boot counts, suspended time and restarts of the process included.
//! - How long a machine was off nobody measured. The wall clock is believed if it is at most [`AHEAD_MAX`] ahead of what is
//!   known; so are its jumps while the machine runs.
//! - A wall clock further ahead is not believed, and the operator is told, until he confirms it or it is right again.
//! - A wall clock that is behind is followed at once, since deleting later does no harm; what was known stays known, so that
//!   a clock which was wrong for a moment is right again afterwards. If it stays behind for [`BEHIND_SETTLES_AFTER`], it was
//!   the known time that was wrong, as after a first start with a clock of next year.
//! - A clock that was never set tells no time: what a store knew from one is forgotten when a clock that was is there.
//! - A new store knows no time. Nothing in it is old before it has lived as long as the retention. So it is with one whose
//!   catalogue lost what it knew of the time.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tracehouse_catalogue::CatalogueContents;
use tracehouse_model::{Bell, BootTime, Clock, is_set_clock};

use crate::notes::CLOCK_META;
use crate::objects::minute_in_words;

/// The wall clock is believed if it is no further ahead of the store's time than this.
pub(crate) const AHEAD_MAX: Duration = Duration::from_secs(15 * 60);
/// A wall clock that was behind for so long of measured time is right, and the store's time was wrong.
pub(crate) const BEHIND_SETTLES_AFTER: Duration = Duration::from_secs(3600);
/// How often the operator is told again of a clock that is not believed.
const TOLD_AGAIN_AFTER: Duration = Duration::from_secs(3600);

/// So long the operator is told that spans were refused as ones of the future, after the last of them.
const FUTURE_TOLD_FOR: Duration = Duration::from_secs(3600);

/// What the operator is told of a clock that no spans can be judged by.
const NEVER_SET: &str = "the machine's clock stands before 2020, so it was never set; no spans are taken until it is, as a date or \
     NTP does it";

/// The time by which spans grow old: see the module.
///
/// As a [`Clock`] it tells that time, so that whoever judges the age of spans can take it for any other clock.
pub struct StoreClock {
    wall: Arc<dyn Clock>,
    retention: Duration,
    reckoning: Mutex<Reckoning>,
}

/// How the wall clock stands to the store's time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "standing", rename_all = "camelCase")]
pub enum ClockStanding {
    Right,
    /// It is ahead by so many nanoseconds of what is believed.
    Ahead {
        nanos: i64,
    },
    /// It is behind by so many nanoseconds of what was known.
    Behind {
        nanos: i64,
    },
}

/// What is known of the time.
struct Reckoning {
    /// The latest time that is known to have come, in nanoseconds since the Unix epoch.
    known: i64,
    /// When that was, on the clock that measures.
    measured_at: Duration,
    /// How long the wall clock has been behind, in measured time.
    behind_for: Duration,
    /// How long the store has lived since its first start, as far as it is known. A store that knew a time from the
    /// beginning counts as old.
    lived: Duration,
    standing: ClockStanding,
    /// On the measuring clock.
    told_at: Option<Duration>,
    /// When spans were refused last as ones of the future, on the measuring clock.
    future_met_at: Option<Duration>,
}

/// What is kept in the catalogue, as JSON.
#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Kept {
    known: i64,
    boot: Option<KeptBoot>,
    behind_for_nanos: u64,
    lived_nanos: u64,
}

/// What a catalogue tells of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remembered<'a> {
    /// It was never told.
    Nothing,
    Lost,
    As(&'a str),
}

/// Whether this is what [`StoreClock::to_remember`] gives.
pub(crate) fn can_be_read(remembered: &str) -> bool {
    serde_json::from_str::<Kept>(remembered).is_ok()
}

#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct KeptBoot {
    /// Hexadecimal.
    id: String,
    nanos: u64,
}

impl KeptBoot {
    fn of(boot: BootTime) -> Self {
        Self { id: format!("{:032x}", boot.boot_id), nanos: nanos(boot.since_boot) }
    }
}

impl StoreClock {
    /// Goes on from what the catalogue remembers; if that is nothing, from the newest file's time of writing.
    fn resume(
        wall: Arc<dyn Clock>,
        retention: Duration,
        remembered: Remembered<'_>,
        newest_file: Option<i64>,
    ) -> Arc<Self> {
        let kept = match remembered {
            Remembered::As(text) => serde_json::from_str::<Kept>(text).ok(),
            Remembered::Nothing | Remembered::Lost => None,
        };
        let (known, behind_for, lived) = match (&kept, newest_file) {
            (Some(kept), _) => {
                let passed = measured_since(kept.boot.as_ref(), wall.boot());
                (
                    kept.known.saturating_add(passed),
                    Duration::from_nanos(kept.behind_for_nanos),
                    Duration::from_nanos(kept.lived_nanos.saturating_add(passed.unsigned_abs())),
                )
            }
            // Files may have been written under a clock that nobody believed.
            (None, Some(newest)) if remembered == Remembered::Lost => (newest, Duration::ZERO, Duration::ZERO),
            (None, Some(newest)) => (newest, Duration::ZERO, Duration::MAX),
            (None, None) => (wall.now_unix_nanos(), Duration::ZERO, Duration::ZERO),
        };
        let reckoning = Reckoning {
            known,
            measured_at: measured(&*wall),
            behind_for,
            lived,
            standing: ClockStanding::Right,
            told_at: None,
            future_met_at: None,
        };
        let clock = Arc::new(Self { wall, retention, reckoning: Mutex::new(reckoning) });
        clock.observe();
        clock
    }

    /// Goes on from what a catalogue remembers.
    pub(crate) fn of_catalogue(wall: Arc<dyn Clock>, retention: Duration, contents: &CatalogueContents) -> Arc<Self> {
        let newest_file = contents.files.iter().map(|file| file.created_at).max();
        let remembered = match contents.meta.get(CLOCK_META) {
            Some(text) if can_be_read(text) => Remembered::As(text),
            Some(_) => Remembered::Lost,
            None if contents.is_lost(CLOCK_META) => Remembered::Lost,
            None => Remembered::Nothing,
        };
        Self::resume(wall, retention, remembered, newest_file)
    }

    /// The store's time in nanoseconds since the Unix epoch.
    pub fn time_unix_nanos(&self) -> i64 {
        self.observe().0
    }

    /// A clock that tells the latest time that it may be: a machine that wakes up in 1970 must not take all spans for ones of
    /// the future.
    pub fn latest(self: &Arc<Self>) -> Arc<dyn Clock> {
        Arc::new(LatestTime(self.clone()))
    }

    /// How the wall clock stands to the store's time.
    pub fn standing(&self) -> ClockStanding {
        self.observe();
        self.reckoning.lock().standing
    }

    /// What is wrong with the wall clock, for the operator; `None` while it is believed.
    pub fn trouble(&self) -> Option<String> {
        let standing = self.standing();
        if !is_set_clock(self.reckoning.lock().known.max(self.wall.now_unix_nanos())) {
            return Some(NEVER_SET.to_owned());
        }
        trouble(standing)
    }

    /// Spans were refused as ones of the future. If their senders are right it is this machine's clock that is behind, as that of a
    /// new store may be: nothing tells it so.
    pub fn met_spans_of_the_future(&self) {
        let (now, _) = self.observe();
        let mut reckoning = self.reckoning.lock();
        let measured_at = reckoning.measured_at;
        let before = reckoning.future_met_at.replace(measured_at);
        drop(reckoning);
        if before.is_none_or(|before| measured_at.saturating_sub(before) >= FUTURE_TOLD_FOR) {
            tracing::warn!("{}", spans_of_the_future(now));
        }
    }

    /// What the operator is told for a while after such spans came.
    pub(crate) fn trouble_of_the_future(&self) -> Option<String> {
        self.observe();
        let reckoning = self.reckoning.lock();
        let since = reckoning.measured_at.saturating_sub(reckoning.future_met_at?);
        drop(reckoning);
        (since < FUTURE_TOLD_FOR).then(|| spans_of_the_future(self.wall.now_unix_nanos()))
    }

    /// Spans that began before this moment are older than the retention. `None` while the store is too new to know.
    pub(crate) fn oldest_kept(&self) -> Option<i64> {
        let (now, is_new) = self.observe();
        let retention = i64::try_from(self.retention.as_nanos()).unwrap_or(i64::MAX);
        (!is_new).then(|| now.saturating_sub(retention))
    }

    /// The operator confirms that the wall clock is right.
    pub(crate) fn trust(&self) {
        let mut reckoning = self.reckoning.lock();
        reckoning.known = self.wall.now_unix_nanos();
        reckoning.behind_for = Duration::ZERO;
        // Confirmed, a new store's time is as good as an old one's.
        reckoning.lived = Duration::MAX;
        drop(reckoning);
        self.observe();
    }

    /// What the catalogue has to remember: see [`CLOCK_META`].
    pub(crate) fn to_remember(&self) -> String {
        self.observe();
        let reckoning = self.reckoning.lock();
        let kept = Kept {
            known: reckoning.known,
            boot: self.wall.boot().map(KeptBoot::of),
            behind_for_nanos: nanos(reckoning.behind_for),
            lived_nanos: nanos(reckoning.lived),
        };
        serde_json::to_string(&kept).expect("numbers and text can be written")
    }

    /// Looks at all clocks; returns the store's time and whether the store is too new for anything in it to be old.
    fn observe(&self) -> (i64, bool) {
        let mut reckoning = self.reckoning.lock();
        let before = reckoning.standing;
        let wall = reckoning.observe(&*self.wall);
        let (now, is_new) = (wall.min(reckoning.known), reckoning.lived < self.retention);
        let measured_at = reckoning.measured_at;
        let changed = std::mem::discriminant(&before) != std::mem::discriminant(&reckoning.standing);
        let is_due = reckoning.told_at.is_none_or(|told| measured_at.saturating_sub(told) >= TOLD_AGAIN_AFTER);
        let to_tell = (changed || (is_due && reckoning.standing != ClockStanding::Right)).then_some(reckoning.standing);
        if to_tell.is_some() {
            reckoning.told_at = Some(measured_at);
        }
        drop(reckoning);
        if let Some(standing) = to_tell {
            tell(standing);
        }
        (now, is_new)
    }

    pub(crate) fn report_gauge(&self) {
        let seconds = match self.standing() {
            ClockStanding::Right => 0.0,
            ClockStanding::Ahead { nanos } => nanos as f64 / 1e9,
            ClockStanding::Behind { nanos } => -(nanos as f64) / 1e9,
        };
        metrics::gauge!("tracehouse_store_clock_offset_seconds").set(seconds);
    }
}

impl Reckoning {
    /// Takes in what the clocks say; returns the wall clock's time.
    fn observe(&mut self, clock: &dyn Clock) -> i64 {
        let measured_now = measured(clock);
        let passed = measured_now.saturating_sub(self.measured_at);
        self.measured_at = measured_now;
        self.known = self.known.saturating_add(signed_nanos(passed));
        self.lived = self.lived.saturating_add(passed);
        let wall = clock.now_unix_nanos();
        if is_set_clock(wall) && !is_set_clock(self.known) {
            // What was known came from a clock that nobody had set. As in a new store, nothing is old on account of this one.
            (self.known, self.lived) = (wall, Duration::ZERO);
        }
        let ahead = wall.saturating_sub(self.known);
        let near = signed_nanos(AHEAD_MAX);
        self.standing = if ahead > near {
            self.behind_for = Duration::ZERO;
            ClockStanding::Ahead { nanos: ahead }
        } else if ahead < -near {
            self.behind_for = self.behind_for.saturating_add(passed);
            if self.behind_for >= BEHIND_SETTLES_AFTER {
                self.known = wall;
                ClockStanding::Right
            } else {
                ClockStanding::Behind { nanos: ahead.saturating_neg() }
            }
        } else {
            ClockStanding::Right
        };
        if self.standing == ClockStanding::Right {
            self.behind_for = Duration::ZERO;
            self.known = self.known.max(wall);
        }
        wall
    }
}

/// Tells the time by which the age of spans is judged: for a new store one so early that nothing is old.
impl Clock for StoreClock {
    fn now_unix_nanos(&self) -> i64 {
        match self.observe() {
            (now, false) => now,
            (now, true) => now.min(0),
        }
    }

    fn monotonic(&self) -> Duration {
        self.wall.monotonic()
    }

    fn boot(&self) -> Option<BootTime> {
        self.wall.boot()
    }

    fn wait(&self, bell: &Bell, until: Duration) {
        self.wall.wait(bell, until);
    }
}

/// The later of the wall clock and what was known.
struct LatestTime(Arc<StoreClock>);

impl Clock for LatestTime {
    fn now_unix_nanos(&self) -> i64 {
        self.0.observe();
        let known = self.0.reckoning.lock().known;
        known.max(self.0.wall.now_unix_nanos())
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    fn boot(&self) -> Option<BootTime> {
        self.0.boot()
    }

    fn wait(&self, bell: &Bell, until: Duration) {
        self.0.wait(bell, until);
    }
}

/// The clock that nobody can set.
fn measured(clock: &dyn Clock) -> Duration {
    clock.boot().map_or_else(|| clock.monotonic(), |boot| boot.since_boot)
}

/// Nanoseconds that passed since a moment of the same boot; 0 if it was another, or if that can't be known.
fn measured_since(then: Option<&KeptBoot>, now: Option<BootTime>) -> i64 {
    let (Some(then), Some(now)) = (then, now.map(KeptBoot::of)) else { return 0 };
    let passed = now.nanos.saturating_sub(then.nanos);
    if then.id == now.id { i64::try_from(passed).unwrap_or(i64::MAX) } else { 0 }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn signed_nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn trouble(standing: ClockStanding) -> Option<String> {
    match standing {
        ClockStanding::Right => None,
        ClockStanding::Ahead { nanos } => Some(format!(
            "the machine's clock is {} ahead of what the store knows; nothing is deleted on its account. If it is right, \
             because the machine was off for so long, confirm it with `tracehouse store trust-clock`",
            in_words(nanos)
        )),
        ClockStanding::Behind { nanos } => Some(format!(
            "the machine's clock is {} behind what the store knows; spans are deleted later. If it stays so for {} minutes, \
             the store takes it for right",
            in_words(nanos),
            BEHIND_SETTLES_AFTER.as_secs() / 60
        )),
    }
}

fn spans_of_the_future(now_unix_nanos: i64) -> String {
    format!(
        "spans are refused that begin later than this machine's clock allows (limits.future_max); it says {}. If that is wrong, \
         set it, as NTP does; if it is right, look after the senders' clocks. \
         tracehouse_pipeline_refused_spans_total{{reason=\"start_in_future\"}} counts them",
        minute_in_words(now_unix_nanos)
    )
}

fn tell(standing: ClockStanding) {
    match trouble(standing) {
        Some(trouble) => tracing::warn!("{trouble}"),
        None => tracing::info!("the machine's clock agrees with the store's time"),
    }
}

/// A span of time for people: its largest unit.
fn in_words(nanos: i64) -> String {
    const UNITS: [(i64, &str); 3] = [(24 * 3600, "days"), (3600, "hours"), (60, "minutes")];
    let seconds = nanos / 1_000_000_000;
    let fitting = UNITS.iter().find(|(unit, _)| seconds >= 2 * unit);
    fitting.map_or_else(|| format!("{seconds} seconds"), |(unit, name)| format!("{} {name}", seconds / unit))
}
