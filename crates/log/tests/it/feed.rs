//! Who follows the log reads each acknowledged record once, in order, whole.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use tempfile::TempDir;
use tracehouse_disk::{Disk, NeededFolder};
use tracehouse_log::{
    Background, Durability, FeedError, LogEntry, LogSettings, Positions, RecordKind, SegmentedLog, SpanFeed, SpanLog,
    recover,
};
use tracehouse_model::{ManualClock, SystemRandomness, TenantId};

use crate::spans::{NOON, batch_of, plain_span};

struct World {
    folder: TempDir,
    log: SegmentedLog,
}

impl World {
    /// A log that begins a new segment after each record or two.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let log = Self::start(&folder);
        Self { folder, log }
    }

    fn start(folder: &TempDir) -> SegmentedLog {
        let disk = Disk::default();
        let recovered = recover(&disk, folder.path(), &Positions::default(), None, |_, _| {}).expect("recovers");
        let settings = LogSettings {
            folder: NeededFolder::known(folder.path().to_owned()),
            durability: Durability::Fsync,
            segment_bytes_max: 600,
            disk,
            clock: Arc::new(ManualClock::at_unix_nanos(NOON)),
            randomness: Arc::new(SystemRandomness::default()),
            background: Background::Called,
        };
        SegmentedLog::start(settings, &recovered, Box::new(|_| {})).expect("starts")
    }

    fn restart(&mut self) {
        self.log.stop();
        self.log = Self::start(&self.folder);
    }

    /// Queues a batch whose spans are told by its number.
    fn submit(&self, number: u64) {
        let tenant = TenantId::new(&format!("tenant-{}", number % 3)).expect("a name");
        let spans = [plain_span(u128::from(number), 1, 0, NOON), plain_span(u128::from(number), 2, 1, NOON)];
        let (done, _) = tokio::sync::oneshot::channel();
        let kind = if number.is_multiple_of(5) { RecordKind::Carried } else { RecordKind::New };
        self.log.submit(LogEntry::new(tenant, kind, batch_of(&spans), done));
    }

    fn append(&self, numbers: impl IntoIterator<Item = u64>) {
        for number in numbers {
            self.submit(number);
            self.log.write_queued();
        }
    }

    fn segments(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.folder.path()).expect("the folder can be listed");
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
        paths.sort();
        paths
    }
}

/// The numbers of all records that a feed has now. Each must hold what was appended under its number.
fn read(feed: &mut dyn SpanFeed) -> Result<Vec<u64>, FeedError> {
    let mut numbers = Vec::new();
    while let Some(batch) = feed.next_batch()? {
        let number = batch.sequence;
        assert_eq!(feed.position(), number);
        assert_eq!(batch.tenant.as_str(), format!("tenant-{}", number % 3));
        assert_eq!(batch.kind == RecordKind::Carried, number.is_multiple_of(5));
        assert_eq!(batch.spans.len(), 2);
        assert_eq!(batch.spans.trace_id[0].0, u128::from(number).to_be_bytes());
        numbers.push(number);
    }
    Ok(numbers)
}

fn all(numbers: std::ops::RangeInclusive<u64>) -> Vec<u64> {
    numbers.collect()
}

#[test]
fn a_feed_goes_on_while_the_log_is_written() {
    let world = World::new();
    let mut feed = world.log.feed(0);
    assert!(read(&mut *feed).expect("reads").is_empty());
    let mut expected = 1;
    for step in [1, 2, 3, 1, 9, 1, 1] {
        // What is not acknowledged yet is not there, whatever the disk holds.
        (expected..expected + step).for_each(|number| world.submit(number));
        assert!(read(&mut *feed).expect("reads").is_empty());
        world.log.write_queued();
        assert_eq!(read(&mut *feed).expect("reads"), all(expected..=expected + step - 1));
        expected += step;
    }
    assert!(world.segments().len() > 3, "records lie in several segments");
}

#[test]
fn a_feed_begins_anywhere_also_after_a_restart() {
    let mut world = World::new();
    world.append(1..=12);
    for round in 0..2 {
        for position in 0..=12 {
            let mut feed = world.log.feed(position);
            assert_eq!(read(&mut *feed).expect("reads"), all(position + 1..=12), "round {round}");
            assert_eq!(feed.position(), 12);
        }
        world.restart();
    }
    let mut feed = world.log.feed(12);
    world.append(13..=15);
    assert_eq!(read(&mut *feed).expect("reads"), all(13..=15));
    // Whoever is ahead of the log waits for it.
    let mut ahead = world.log.feed(20);
    world.append(16..=21);
    assert_eq!(read(&mut *ahead).expect("reads"), [21]);
}

#[test]
fn what_was_let_go_is_named_and_can_be_passed_over() {
    let world = World::new();
    world.append(1..=12);
    let mut behind = world.log.feed(0);
    let mut reading = world.log.feed(0);
    assert!(reading.next_batch().expect("reads").is_some());
    world.log.release(7);
    let Err(FeedError::Gone { first: 1, last }) = read(&mut *behind) else { panic!("it goes on without a word") };
    assert!(last <= 7, "no record that is needed was let go: {last}");
    assert_eq!(behind.position(), 0, "nothing was passed over without a word");
    behind.pass_over(last);
    assert_eq!(read(&mut *behind).expect("reads"), all(last + 1..=12));
    let Err(FeedError::Gone { .. }) = read(&mut *reading) else { panic!("it goes on without a word") };
}

#[test]
fn damage_is_told_and_nothing_wrong_is_read() {
    let world = World::new();
    world.append(1..=12);
    let path = world.segments().swap_remove(2);
    let whole = fs::read(&path).expect("a segment");
    let sound = read(&mut *world.log.feed(0)).expect("reads");
    for at in 8..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        fs::write(&path, &damaged).expect("is written");
        let mut feed = world.log.feed(0);
        let Err(error) = read(&mut *feed) else { panic!("byte {at} can be anything") };
        assert!(matches!(error, FeedError::Damaged { .. }), "{error}");
        let (stopped, error_again) = (feed.position(), read(&mut *feed).expect_err("still damaged"));
        assert_eq!(error.to_string(), error_again.to_string());
        fs::write(&path, &whole).expect("is written");
        assert_eq!(read(&mut *feed).expect("reads"), sound[stopped as usize..], "it goes on once it can be read");
    }
}

/// Before, a segment's beginning counted when it was let go and not when it was made, so that an empty log took 2^64 - 8 bytes.
#[test]
fn what_the_log_takes_on_the_disk_is_told() {
    let mut world = World::new();
    for round in 0..3u64 {
        for records in [1, 2, 7] {
            world.append((1..=records).map(|number| 10 * round + number));
            world.log.release(u64::MAX);
            let bytes_of = |path: &PathBuf| fs::metadata(path).expect("it is there").len();
            assert_eq!(world.log.disk_bytes(), world.segments().iter().map(bytes_of).sum::<u64>(), "round {round}");
        }
        world.restart();
    }
}

/// Before, a log without records began anew where the catalogue knew no more than that.
#[test]
fn numbers_go_on_behind_an_empty_log() {
    for count in 1..=6 {
        let mut world = World::new();
        world.append(1..=count);
        world.log.release(u64::MAX);
        world.restart();
        world.append([count + 1]);
        assert_eq!(read(&mut *world.log.feed(count)).expect("reads"), [count + 1], "behind {count}");
    }
}
