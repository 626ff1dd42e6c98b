//! What may happen.

use std::sync::mpsc;
use std::time::Duration;

use tracehouse_store::{StoreStep, WriteError};

use super::{Run, runtime};
use crate::simulation::disk::{Moment, Mood, Pause};
use crate::simulation::expected::TENANTS;
use crate::spans::{HOUR, SECOND};
use crate::world::tenant;

/// Work that takes long.
#[derive(Debug, Clone, Copy)]
enum Long {
    Flush,
    Merge,
}

type Event = fn(&mut Run);

/// What may happen, and how often among all.
const EVENTS: [(u64, Event); 29] = [
    (28, Run::sends),
    (6, Run::sends_again),
    (4, Run::others_are_sent),
    (2, Run::one_sends_much),
    (18, |run| run.takes_step(StoreStep::Log, "write the log")),
    (5, |run| run.takes_step(StoreStep::Flush, "flush if due")),
    (3, Run::flushes),
    (3, |run| run.amid(Long::Flush)),
    (4, |run| run.takes_step(StoreStep::Merge, "merge if due")),
    (2, Run::merges),
    (2, |run| run.amid(Long::Merge)),
    (5, |run| run.takes_step(StoreStep::Keep, "keep")),
    (4, Run::somebody_begins_to_read),
    (2, Run::file_moves_away),
    (1, Run::files_are_put_back),
    (1, Run::log_is_removed),
    (1, Run::spool_is_removed),
    (8, Run::time_passes),
    (2, Run::wall_clock_jumps),
    (3, Run::process_is_killed),
    (1, Run::folder_cant_be_listed),
    (2, Run::power_fails),
    (1, Run::stops),
    (2, Run::all_is_sound),
    (1, Run::catalogue_fails),
    (1, Run::row_of_file_is_lost),
    (1, Run::something_else_is_lost),
    (1, Run::tenant_is_refused),
    (1, Run::disk_is_moody),
];

impl Run {
    pub(super) fn event(&mut self) {
        if !self.disk.has_power() {
            self.say("the power has failed");
            self.kill();
        }
        let mut at = self.chance.below(EVENTS.iter().map(|(often, _)| often).sum());
        for (often, event) in EVENTS {
            if at < often {
                event(self);
                break;
            }
            at -= often;
        }
        self.look();
    }

    fn sends(&mut self) {
        self.say("send");
        self.send();
        if self.chance.one_in(2) {
            self.step(StoreStep::Log);
        }
    }

    fn sends_again(&mut self) {
        self.say("send again");
        self.send_again();
    }

    fn others_are_sent(&mut self) {
        self.say("others under the same ids are sent");
        self.send_others();
    }

    fn one_sends_much(&mut self) {
        self.say("one sends much");
        self.send_much();
    }

    fn takes_step(&mut self, step: StoreStep, what: &str) {
        self.say(what);
        self.step(step);
    }

    fn flushes(&mut self) {
        self.say("flush");
        // What waits for the log may come into memory while the flush goes on.
        let comes_in = !self.appending.is_empty();
        self.flush();
        if !comes_in {
            self.look_who_is_in_memory();
        }
    }

    fn merges(&mut self) {
        self.say("merge");
        self.merge();
    }

    fn somebody_begins_to_read(&mut self) {
        self.say("somebody begins to read");
        self.begin_to_read();
    }

    fn file_moves_away(&mut self) {
        self.say("a file is moved away");
        self.move_away();
    }

    fn files_are_put_back(&mut self) {
        self.say("files are put back");
        self.put_back();
    }

    fn log_is_removed(&mut self) {
        self.say("the log, or a part of it, is removed");
        self.remove_log();
    }

    fn spool_is_removed(&mut self) {
        self.say("the folder in which files are written is removed");
        self.remove_spool();
    }

    fn time_passes(&mut self) {
        let seconds = self.chance.pick(&[1, 2, 20, 61, 61, 130, 600, 3600, 3 * 3600]);
        self.say(&format!("{seconds} s pass"));
        self.clock.advance(Duration::from_secs(seconds));
    }

    fn wall_clock_jumps(&mut self) {
        let off_by = self.chance.pick(&[0, 0, HOUR, -HOUR, 30 * 24 * HOUR, -30 * 24 * HOUR]);
        self.say(&format!("the wall clock is off by {} s", off_by / SECOND));
        self.set_wall_clock(off_by);
    }

    fn process_is_killed(&mut self) {
        self.say("the process is killed");
        self.kill();
    }

    fn folder_cant_be_listed(&mut self) {
        let of = self.chance.below(TENANTS as u64) as usize;
        self.say(&format!("the process is killed, and the folder of {} can't be listed", tenant(of)));
        self.open_with_one_unlisted(of);
    }

    fn power_fails(&mut self) {
        let steps = self.chance.below(60);
        self.say(&format!("the power fails after {steps} steps"));
        self.disk.fail_power_after(steps);
    }

    fn stops(&mut self) {
        self.say("stop");
        let stopped = runtime().block_on(self.store().shutdown());
        self.check_work(stopped);
        self.kill();
    }

    fn all_is_sound(&mut self) {
        self.say("all is sound");
        self.disk.set_mood(Mood::Sound);
        self.disk.refuse(None);
        self.refused = None;
        self.catalogue.fail_one_in(None);
        // What failed before may still have its effect: the store has to open once more.
    }

    fn catalogue_fails(&mut self) {
        self.say("the catalogue fails");
        let one_in = self.chance.pick(&[2, 5, 12]);
        self.catalogue.fail_one_in(Some(one_in));
        self.now_fails();
    }

    fn row_of_file_is_lost(&mut self) {
        if self.loses_rows {
            self.say("the catalogue loses the row of a file");
            self.lose_row();
        }
    }

    fn something_else_is_lost(&mut self) {
        if self.loses_rows {
            self.say("the process is killed, and the catalogue loses something that it remembers");
            self.lose_note();
        }
    }

    fn tenant_is_refused(&mut self) {
        let of = self.chance.below(TENANTS as u64) as usize;
        self.say(&format!("no file can be made for {}", tenant(of)));
        self.disk.refuse(Some(self.tenant_dir(of)));
        self.refused = Some(of);
        self.has_met_faults = true;
    }

    fn disk_is_moody(&mut self) {
        let one_in = self.chance.pick(&[3, 10, 40]);
        let moods = [Mood::Failing { one_in }, Mood::Full, Mood::NoSegments, Mood::Unreadable { one_in }];
        let mood = self.chance.pick(&moods);
        self.say(&format!("the disk is {mood:?}"));
        self.disk.set_mood(mood);
        self.now_fails();
    }

    pub(super) fn flush(&mut self) {
        let flushed = runtime().block_on(self.store().flush()).map(drop);
        self.check_work(flushed);
    }

    pub(super) fn merge(&mut self) {
        let merged = runtime().block_on(self.store().compact()).map(drop);
        self.check_work(merged);
    }

    /// Work fails only if the disk or the catalogue do.
    fn check_work(&mut self, outcome: Result<(), WriteError>) {
        self.poll();
        if let Err(error) = outcome {
            let may_fail = !self.is_sound || !self.disk.has_power() || self.refused.is_some() || !self.away.is_empty();
            assert!(may_fail, "{}: it fails on a sound disk: {error:?}", self.what());
            self.tell(&format!("it fails: {error:?}"));
        }
    }

    /// Work that takes long stops before one of its steps; what may go on meanwhile does.
    fn amid(&mut self, long: Long) {
        let steps_left = self.chance.below(9);
        self.say(&format!("{long:?}, and other work amid it after {steps_left} steps"));
        let (tell, told) = mpsc::channel();
        let store = self.store().clone();
        let disk = self.disk.clone();
        let outcome = std::thread::scope(|scope| {
            let (goes_on, go_on) = mpsc::channel();
            disk.set_pause(Some(Pause { steps_left, tell: tell.clone(), go_on }));
            let working = scope.spawn(move || {
                let outcome = match long {
                    Long::Flush => runtime().block_on(store.flush()).map(drop),
                    Long::Merge => runtime().block_on(store.compact()).map(drop),
                };
                let _ = tell.send(Moment::Done);
                outcome
            });
            if told.recv() == Ok(Moment::Paused) {
                self.outcome.amid += 1;
                for _ in 0..1 + self.chance.below(4) {
                    self.work_amid(long);
                    self.look();
                }
            }
            drop(goes_on);
            working.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        self.disk.set_pause(None);
        self.check_work(outcome);
    }

    fn work_amid(&mut self, long: Long) {
        match (self.chance.below(8), long) {
            (0..2, _) => self.send(),
            (2, _) if self.chance.one_in(2) => self.send_others(),
            (2, _) => self.send_again(),
            (3..5, _) => self.step(StoreStep::Log),
            (5, _) => self.step(StoreStep::Keep),
            (6, _) => {
                self.clock.advance(Duration::from_secs(61));
                self.step(StoreStep::Keep);
            }
            (_, Long::Flush) => self.merge(),
            (_, Long::Merge) => self.flush(),
        }
    }
}
