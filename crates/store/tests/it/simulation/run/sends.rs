//! What is sent, and what is answered.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tracehouse_model::{AnyValue, Clock, Event, Span, SpanId};
use tracehouse_store::{AppendError, Durability, Snapshots, StoreStep};

use super::{Appending, Run};
use crate::simulation::expected::TENANTS;
use crate::spans::{Attributes, NOON, SECOND, batch_of, plain_span};
use crate::world::tenant;

/// Of which spans have so many that few of them take much room.
const LONG_TEXT: &str = "A span of which somebody tells very much. ";
const LONG_TEXTS: usize = 100;

/// So many others at least are sent under the ids of one span, when it is to be many.
const MANY_OTHERS: u64 = 33;

/// How the store says that the time, and how far the log has come, could not be written down.
const TIME_FAILED: &str = "writing down the time failed";
const TIME_FAILED_ONCE: &str = "writing down the time failed 1 times";
/// So long it waits at most before it tries for the second time.
const FIRST_WAIT_MAX: Duration = Duration::from_secs(7);

/// In how many ways a span can differ from another under the same ids.
const DIFFERENCES: u64 = 12;
/// One that leaves its start as it is.
const DIFFERS_IN_ATTRIBUTE: u64 = 0;

fn put(attributes: &mut Attributes, attribute: (String, AnyValue)) {
    attributes.retain(|(key, _)| *key != attribute.0);
    attributes.push(attribute);
}

/// Another span under the same ids, which says something else in one place. `number`: of this one alone.
fn other(span: &Span, number: u64, difference: u64) -> Span {
    let mut other = span.clone();
    let (text, attribute) = (format!("other {number}"), ("other".to_owned(), AnyValue::Int(number as i64)));
    match difference {
        DIFFERS_IN_ATTRIBUTE => put(&mut other.attributes, attribute),
        1 => other.start_unix_nanos += number as i64,
        2 => other.duration_nanos = 1_000_000 + number as i64,
        3 => other.name = text,
        4 => other.status_message = text,
        5 => other.parent_span_id = SpanId((u64::MAX / 2 + number).to_be_bytes()),
        6 => other.trace_state = format!("other={number}"),
        7 => put(&mut other.resource_attributes, attribute),
        8 => other.scope_version = text,
        9 => other.flags = 1000 + number as u32,
        10 => {
            let (time_unix_nanos, attributes) = (other.start_unix_nanos, Vec::new());
            other.events.push(Event { time_unix_nanos, name: text, attributes, dropped_attributes: 0 });
        }
        _ => other.dropped_events = number as u32,
    }
    other
}

impl Run {
    /// Now, whatever the wall clock says.
    pub(super) fn now(&self) -> i64 {
        NOON + self.clock.monotonic().as_nanos() as i64
    }

    pub(super) fn send(&mut self) {
        let of = self.chance.below(TENANTS as u64) as usize;
        let count = 1 + self.chance.below(if self.chance.clone().one_in(8) { 60 } else { 8 });
        let ago = self.chance.pick(&[0, 0, 0, 1, 90]) * 60 * SECOND;
        let spans = self.new_spans(count, ago);
        self.append(of, spans);
    }

    fn new_spans(&mut self, count: u64, ago: i64) -> Vec<Span> {
        let new_span = |_| {
            self.spans += 1;
            let trace = u128::from(1 + self.spans / 5) << 60;
            let start = self.now() - ago - self.chance.below(30 * SECOND as u64) as i64;
            plain_span(trace, self.spans, self.spans.saturating_sub(1), start)
        };
        (0..count).map(new_span).collect()
    }

    /// One tenant sends more than it may hold, the others little.
    pub(super) fn send_much(&mut self) {
        let of = self.chance.below(TENANTS as u64) as usize;
        for _ in 0..4 + self.chance.below(8) {
            let count = 2 + self.chance.below(4);
            let mut spans = self.new_spans(count, 0);
            for span in &mut spans {
                span.attributes.push(("note".into(), AnyValue::String(LONG_TEXT.repeat(LONG_TEXTS))));
            }
            self.append(of, spans);
            if self.chance.one_in(3) {
                self.step(StoreStep::Log);
            }
            if self.chance.one_in(3) {
                let spans = self.new_spans(1, 0);
                self.append((of + 1) % TENANTS, spans);
            }
        }
    }

    /// A batch once more, or a part of it.
    pub(super) fn send_again(&mut self) {
        if self.expected.batches.is_empty() {
            return;
        }
        let sent = &self.expected.batches[self.chance.below(self.expected.batches.len() as u64) as usize];
        let (of, mut spans) = (sent.tenant, sent.spans.clone());
        if self.chance.one_in(3) {
            spans.truncate(1 + self.chance.below(spans.len() as u64) as usize);
        }
        self.append(of, spans);
    }

    /// Other spans under ids that were sent before, by this tenant or another, with copies of those beside them.
    pub(super) fn send_others(&mut self) {
        if self.expected.batches.is_empty() {
            return;
        }
        let sent = &self.expected.batches[self.chance.below(self.expected.batches.len() as u64) as usize];
        let of = if self.chance.one_in(4) { (sent.tenant + 1) % TENANTS } else { sent.tenant };
        let mut spans: Vec<Span> = sent.spans.clone();
        if self.chance.one_in(4) {
            // More than are compared one by one, under one key.
            spans.truncate(1);
            let number = self.spans;
            self.spans += MANY_OTHERS + self.chance.below(MANY_OTHERS);
            spans = (number..self.spans).map(|number| other(&spans[0], number, DIFFERS_IN_ATTRIBUTE)).collect();
        } else {
            for span in &mut spans {
                self.spans += 1;
                if !self.chance.one_in(3) {
                    *span = other(span, self.spans, self.chance.below(DIFFERENCES));
                }
            }
        }
        self.append(of, spans);
    }

    /// As the catalogue knows it: what was written up to there is missed if it is gone.
    fn log_is_known_up_to(&self) -> u64 {
        let meta = self.catalogue.contents().meta;
        let reached = meta.get("log").and_then(|mark| mark.split(' ').next()?.parse().ok());
        reached.unwrap_or(0)
    }

    fn append(&mut self, of: usize, spans: Vec<Span>) {
        let (store, batch) = (self.store().clone(), batch_of(&spans));
        let (bytes, has_room, takes_share) = (batch.memory_bytes(), self.has_room_for(of), self.has_share(of));
        self.batch_bytes_max = self.batch_bytes_max.max(bytes);
        let number = self.expected.sent(of, spans);
        self.tell(&format!("batch {number}, of {}, {} spans", tenant(of), batch.len()));
        let answer = Box::pin(async move { store.append(tenant(of), batch).await });
        self.appending.push(Appending { batch: number, of, bytes, has_room, takes_share, answer });
        self.poll();
    }

    /// Whether a tenant holds less than its share, and all together less than all may. What they hold is known from the outside, as is
    /// what is still on its way.
    fn has_room_for(&self, of: usize) -> bool {
        let on_the_way =
            |number| self.appending.iter().filter(move |other| other.of == number).map(|other| other.bytes);
        // Those on the way count as they lie in the log's queue too.
        let held_by = |number| 2 * on_the_way(number).sum::<usize>() + self.hot_bytes_at_most(number);
        let failing = format!("writing the spans of tenant {} to files", tenant(of));
        let is_failing = self.store().troubles().iter().any(|trouble| trouble.starts_with(&failing));
        let share = self.config.hot_bytes_max / if is_failing { 8 } else { 2 };
        held_by(of) < share && (0..TENANTS).map(held_by).sum::<usize>() < self.config.hot_bytes_max
    }

    /// Whether a tenant has all that one of several may have in memory.
    fn has_share(&self, of: usize) -> bool {
        let hot = self.store().snapshot_as_sent(&tenant(of)).hot;
        let bytes: usize = hot.iter().map(|batch| batch.spans.memory_bytes()).sum();
        bytes >= self.config.hot_bytes_max / 2 && self.store().tenants().len() > 1
    }

    /// What a tenant's spans in memory take, with what finds them.
    fn hot_bytes_at_most(&self, of: usize) -> usize {
        const INDEX_BYTES_PER_SPAN_MAX: usize = 8;
        let snapshot = self.store().snapshot_as_sent(&tenant(of));
        snapshot.hot.iter().map(|batch| batch.spans.memory_bytes() + INDEX_BYTES_PER_SPAN_MAX * batch.spans.len()).sum()
    }

    /// Who is refused, and why.
    fn look_at_refusal(&self, appending: &Appending, error: &AppendError) {
        let is_sound = self.is_sound && self.disk.has_power();
        let may_be = match error {
            AppendError::Busy { .. } => !appending.has_room,
            AppendError::DiskFull { .. } | AppendError::Failed { .. } => !is_sound,
            AppendError::ShuttingDown => true,
        };
        assert!(may_be, "{}: {} is refused though there is room: {error}", self.what(), tenant(appending.of));
    }

    /// Takes what was answered.
    pub(super) fn poll(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        let now = self.clock.monotonic();
        let is_durable_at_once = self.config.durability == Durability::Fsync;
        let mut waiting = std::mem::take(&mut self.appending);
        waiting.retain_mut(|appending| {
            let Poll::Ready(answer) = appending.answer.as_mut().poll(&mut context) else { return true };
            self.tell(&format!("batch {}: {answer:?}", appending.batch));
            match answer {
                Ok(()) => {
                    assert!(!self.has_log_failed, "{}: acknowledged, though the log has failed", self.what());
                    assert!(
                        !appending.takes_share,
                        "{}: {} takes more than its share",
                        self.what(),
                        tenant(appending.of)
                    );
                    self.expected.acknowledged(appending.batch, now);
                    if std::mem::take(&mut self.is_news_to_come) {
                        self.news = Some(self.log_is_known_up_to());
                    }
                    if is_durable_at_once {
                        self.expected.durable(now);
                    }
                }
                Err(error) => {
                    self.outcome.refused += 1;
                    self.look_at_refusal(appending, &error);
                }
            }
            false
        });
        self.appending = waiting;
        // What was acknowledged just now may have been dropped just then.
        if self.disk.take_dropped() {
            self.expected.doubt();
            self.has_log_failed = true;
        }
    }

    pub(super) fn step(&mut self, step: StoreStep) {
        let must_tell = step == StoreStep::Keep && self.must_tell_news();
        self.store().step(step);
        self.poll();
        let is_sound = self.is_sound && self.disk.has_power();
        match step {
            StoreStep::Keep => self.look_at_news(must_tell && is_sound),
            StoreStep::Flush if is_sound => self.look_at_memory(),
            StoreStep::Log if is_sound => {
                let interval = match self.config.durability {
                    Durability::Fsync => Duration::ZERO,
                    Durability::Interval(interval) => interval,
                };
                if let Some(up_to) = self.clock.monotonic().checked_sub(interval) {
                    self.expected.durable(up_to);
                }
            }
            _ => {}
        }
    }

    /// Whether the store writes down how far the log has come: not so soon after that has failed.
    fn must_tell_news(&self) -> bool {
        let failures = self.store().troubles();
        let failed = failures.iter().find(|trouble| trouble.starts_with(TIME_FAILED));
        failed.is_none_or(|failed| {
            let waited = self.time_failed_at.map(|at| self.clock.monotonic().saturating_sub(at));
            failed.starts_with(TIME_FAILED_ONCE) && waited.is_some_and(|waited| waited > FIRST_WAIT_MAX)
        })
    }

    /// After a round of the keeper.
    fn look_at_news(&mut self, are_told: bool) {
        let troubles = self.store().troubles();
        let has_failed = troubles.iter().any(|trouble| trouble.starts_with(TIME_FAILED));
        let failed_before = self.time_failed_at.take_if(|_| has_failed);
        self.time_failed_at = failed_before.or(has_failed.then(|| self.clock.monotonic()));
        if are_told && let Some(before) = self.news.take() {
            let known = self.log_is_known_up_to();
            assert!(known > before, "{}: nobody wrote down how far the log has come: {before}", self.what());
        }
    }

    /// After a flush if one was due: what comes in has room again.
    fn look_at_memory(&self) {
        let troubles = self.store().troubles();
        let waits = troubles.iter().any(|trouble| trouble.starts_with("writing "));
        // A flush that makes few files leaves the rest to the next.
        if waits || self.refused.is_some() || self.config.flush_files_max == 1 {
            return;
        }
        let hot = (0..TENANTS)
            .flat_map(|number| Vec::from_iter(self.store().snapshot_as_sent(&tenant(number)).hot.iter().cloned()));
        let bytes: usize = hot.map(|batch| batch.spans.memory_bytes()).sum();
        let bytes_max = self.config.flush_bytes.min(self.config.hot_bytes_max / 2);
        assert!(bytes < bytes_max, "{}: {bytes} bytes stay in memory, of {bytes_max}", self.what());
    }
}
